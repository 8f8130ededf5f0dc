//! Text-to-image in a program of your own: `cargo run --release --example embed -- MODEL_DIR "a red apple" apple.png`

use std::ops::ControlFlow;
use std::path::Path;

use undiffuse::pipeline::{Event, Options, OutputFile, Pipeline, Prompt, Request};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, prompt, output] = arguments.as_slice() else {
        return Err("usage: embed MODEL_DIR PROMPT OUT.png".into());
    };
    let output = OutputFile::at(Path::new(output))?;
    let mut pipeline = Pipeline::open(model, Options::default())?;
    let mut request = Request::new(Prompt::new(prompt)?);
    request.seed = 7;
    let made = pipeline.generate(&request, |event| {
        if let Event::Step(step) = event {
            println!("step {} of {}: {:?}", step.index + 1, step.of, step.time);
        }
        ControlFlow::Continue(())
    })?;
    output.write(&made.to_png()?)?;
    println!("{} ms", made.report.total_ms);
    Ok(())
}
