//! `undiffuse devices`: what Vulkan offers, and what was measured of it.

use crate::engine::{self, DeviceInfo, Measured, Verdicts};
use std::fmt::Write;

/// Options of `devices`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    cache: super::cache::Args,
}

/// Runs `devices`.
///
/// # Errors
/// Where there is no Vulkan.
pub fn run(args: Args) -> anyhow::Result<()> {
    let cache = args.cache.cache();
    let told = |device: DeviceInfo| {
        let verdicts = cache.as_ref().map_or(Verdicts::default(), |cache| engine::verdicts(&device, cache));
        Told { device, verdicts }
    };
    let devices: Vec<Told> = engine::devices()?.into_iter().map(told).collect();
    if args.json {
        return super::print(&format!("{}\n", serde_json::to_string_pretty(&devices)?));
    }
    super::print(&listing(&devices))
}

/// A device, and what was measured of it.
#[derive(serde::Serialize)]
struct Told {
    #[serde(flatten)]
    device: DeviceInfo,
    #[serde(flatten)]
    verdicts: Verdicts,
}

fn listing(devices: &[Told]) -> String {
    if devices.is_empty() {
        return "Vulkan is there, and has no device that computes\n".into();
    }
    let mut text = String::new();
    for (index, Told { device, verdicts }) in devices.iter().enumerate() {
        let DeviceInfo { name, kind, driver, limits, .. } = device;
        let (shared, invocations) = (limits.shared >> 10, limits.invocations);
        let _ = writeln!(
            text,
            "{index}  {name}  {kind}  {driver}  shared {shared} KiB, {invocations} invocations, bindings of {} MiB",
            limits.range >> 20
        );
        if verdicts.deaths > 0 {
            let _ = writeln!(text, "   {} probes died on it", verdicts.deaths);
        }
        for Measured { graph, shapes, threads, precision, engine, why } in &verdicts.verdicts {
            let threads = threads.map_or_else(|| "its numbers".into(), |threads| format!("{threads} threads"));
            let _ = writeln!(text, "   {engine}  {} {shapes:?}, {precision}, {threads}: {why}", graph.display());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Identity, Limits};

    #[test]
    fn devices_are_numbered() {
        let device = |name: &str| DeviceInfo {
            name: name.into(),
            kind: "IntegratedGpu".into(),
            driver: "v3dv 23.2".into(),
            limits: Limits::LEAST,
            identity: Identity::default(),
        };
        let measured = Measured {
            graph: "m.onnx".into(),
            shapes: vec![vec![1, 4]],
            threads: Some(2),
            precision: "f16",
            engine: "cpu",
            why: "measured".into(),
        };
        let told =
            |name| Told { device: device(name), verdicts: Verdicts { deaths: 1, verdicts: vec![measured.clone()] } };
        let text = listing(&[told("V3D 7.1.7"), told("other")]);
        assert!(text.starts_with("0  V3D 7.1.7  IntegratedGpu  v3dv 23.2  shared 16 KiB, 256 invocations"), "{text}");
        assert!(text.contains("\n1  other"), "{text}");
        assert!(
            text.contains("1 probes died") && text.contains("cpu  m.onnx [[1, 4]], f16, 2 threads: measured"),
            "{text}"
        );
        assert!(listing(&[]).contains("no device"));
    }
}
