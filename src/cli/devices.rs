//! `undiffuse devices`: what Vulkan offers.

use crate::engine::{self, DeviceInfo};
use std::fmt::Write;

/// Options of `devices`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

/// Runs `devices`.
///
/// # Errors
/// Where there is no Vulkan.
pub fn run(args: Args) -> anyhow::Result<()> {
    let devices = engine::devices()?;
    if args.json {
        return super::print(&format!("{}\n", serde_json::to_string_pretty(&devices)?));
    }
    super::print(&listing(&devices))
}

fn listing(devices: &[DeviceInfo]) -> String {
    if devices.is_empty() {
        return "Vulkan is there, and has no device that computes\n".into();
    }
    let mut text = String::new();
    for (index, DeviceInfo { name, kind, driver, limits }) in devices.iter().enumerate() {
        let (shared, invocations) = (limits.shared >> 10, limits.invocations);
        let _ = writeln!(
            text,
            "{index}  {name}  {kind}  {driver}  shared {shared} KiB, {invocations} invocations, bindings of {} MiB",
            limits.range >> 20
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Limits;

    #[test]
    fn devices_are_numbered() {
        let device = |name: &str| DeviceInfo {
            name: name.into(),
            kind: "IntegratedGpu".into(),
            driver: "v3dv 23.2".into(),
            limits: Limits::LEAST,
        };
        let text = listing(&[device("V3D 7.1.7"), device("other")]);
        assert!(text.starts_with("0  V3D 7.1.7  IntegratedGpu  v3dv 23.2  shared 16 KiB, 256 invocations"), "{text}");
        assert!(text.lines().nth(1).is_some_and(|line| line.starts_with("1  other")), "{text}");
        assert!(listing(&[]).contains("no device"));
    }
}
