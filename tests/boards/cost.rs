//! The cost of a step on paper, board by board, as Markdown.

use std::fmt::Write;
use undiffuse::board::Board;
use undiffuse::engine::{Limits, Precision, plan_vulkan};
use undiffuse::model::Graph;

const HEAD: &str = "\
# Cost on paper

Written by `UNDIFFUSE_BLESS=1 cargo test --release --test boards the_cost_table`; the test fails when this file is not what it gives.

One step of a denoiser, one picture. Operations are additions and multiplications of products; bytes are intermediate values in f32, written
and read as if nothing were cached, and every weight once as it is stored (`undiffuse inspect --plan --backend vulkan --board generic --json`). A
processor needs at least the longer of operations over its published peak in f32 and bytes over the board's bandwidth; peaks and their
sources stand in the boards' files. Nobody reaches a peak, and how far a driver stays from it is not on paper; so the last column says what
ncnn measured there (resnet50, `boards/*.toml` has the milliseconds), and where paper and measurement differ, the measurement is to be believed.
Neither replaces a run of this engine on the board, of which there is none yet.
";

/// What a processor needs at least, in milliseconds, and of what.
struct Least {
    ms: f64,
    bound: &'static str,
}

impl Least {
    fn of(flops: u64, bytes: u64, gflops: Option<f64>, bandwidth: Option<f64>) -> Option<Least> {
        let compute = flops as f64 / gflops? / 1e6;
        let memory = bytes as f64 / bandwidth? / 1e6;
        let bound = if compute >= memory { "operations" } else { "bytes" };
        Some(Least { ms: compute.max(memory), bound })
    }
}

/// The table of all boards for models and their graphs.
pub fn table(models: &[(&str, Graph)]) -> String {
    let mut text = HEAD.to_owned();
    for (name, graph) in models {
        let shapes: Vec<Vec<usize>> = graph
            .inputs()
            .iter()
            .map(|port| (0..port.rank().unwrap_or(0)).map(|axis| port.fixed(axis).unwrap_or(1)).collect())
            .collect();
        let named: Vec<_> = graph.inputs().iter().zip(&shapes).map(|(port, shape)| (&*port.name, &**shape)).collect();
        let plan = plan_vulkan(graph, &named, &Limits::LEAST, Precision::F32).expect("a plan");
        let (gigaflops, megabytes) = (plan.flops as f64 / 1e9, plan.bytes as f64 / 1e6);
        let _ = writeln!(text, "\n## {name}\n\n{gigaflops:.2} · 10⁹ operations, {megabytes:.0} MB\n");
        text.push_str(
            "| board | CPU, at least | GPU, at least | should win, on paper | won with ncnn |\n|---|---|---|---|---|\n",
        );
        for board in Board::names().filter(|board| *board != "generic") {
            row(&mut text, &Board::open(board).expect("a board"), plan.flops, plan.bytes);
        }
    }
    text
}

fn row(text: &mut String, board: &Board, flops: u64, bytes: u64) {
    let cpu = board.cpu.as_ref().and_then(|cpu| Least::of(flops, bytes, cpu.gflops, cpu.gigabytes_per_second));
    let gpu = board.gpu.as_ref().and_then(|gpu| Least::of(flops, bytes, gpu.gflops, gpu.gigabytes_per_second));
    let told = |least: &Option<Least>| match least {
        Some(Least { ms, bound }) => format!("{ms:.1} ms ({bound})"),
        None => "no published peak".into(),
    };
    let paper = winner(cpu.as_ref().map(|cpu| cpu.ms), gpu.as_ref().map(|gpu| gpu.ms));
    let measured = board.measured.as_ref();
    let measured = winner(measured.map(|measured| measured.cpu_ms), measured.map(|measured| measured.gpu_ms));
    let _ = writeln!(text, "| {} | {} | {} | {paper} | {measured} |", board.name, told(&cpu), told(&gpu));
}

/// Of two times, with how often it is faster.
fn winner(cpu: Option<f64>, gpu: Option<f64>) -> String {
    match (cpu, gpu) {
        (Some(cpu), Some(gpu)) if gpu < cpu => format!("GPU, {:.1} times", cpu / gpu),
        (Some(cpu), Some(gpu)) => format!("CPU, {:.1} times", gpu / cpu),
        _ => "not known".into(),
    }
}
