//! Latents from noise through the runtime's own step table.

use crate::net::denoiser::schedule;
use anyhow::{Result, anyhow};
use undiffuse::sampler::{SamplerError, SamplerKind, SamplerOptions, StepTable, guide};

/// Latents of any number of pictures from unit normal `x`. `flow` gives, for latents and a timestep, the flows without a
/// prompt and then, in as many numbers, those with it.
pub fn sampled(
    mut x: Vec<f32>,
    steps: usize,
    guidance: f32,
    mut flow: impl FnMut(&[f32], f32) -> Result<Vec<f32>>,
) -> Result<Vec<f32>> {
    let table: Box<StepTable> = table(steps)?;
    table.scale_initial_noise(&mut x);
    let (mut input, mut clean) = (x.clone(), x.clone());
    for (i, timestep) in table.timesteps().enumerate() {
        table.scale_input(i, &x, &mut input).map_err(refused)?;
        let mut both = flow(&input, timestep)?;
        let (without, with) = both.split_at_mut(x.len());
        guide(without, with, guidance).map_err(refused)?;
        table.advance(i, &mut x, with, None, &mut clean).map_err(refused)?;
    }
    Ok(x)
}

fn table(steps: usize) -> Result<Box<StepTable>> {
    let options = SamplerOptions::new(SamplerKind::FlowEuler, steps);
    Ok(Box::new(StepTable::new(&schedule(), &options).map_err(refused)?))
}

fn refused(error: SamplerError) -> anyhow::Error {
    anyhow!("{error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::denoiser::SHIFT;

    #[test]
    fn steps_are_those_of_euler_on_the_shifted_grid() {
        // With one x0 per row of latents the flow (x - x0) / t is a straight line, and Euler is exact.
        let wanted = [0.5f32, -2.0, 1.25, 3.0];
        let mut seen = vec![];
        let flow = |x: &[f32], t: f32| {
            seen.push(t);
            let towards = |x0: f32, x: f32| (x - x0) / (t / 1000.0);
            let without: Vec<f32> = x.iter().map(|x| towards(0.0, *x)).collect();
            // Guided by 2 from 0 through half of what is wanted, it ends where it is wanted.
            let with = x.iter().zip(wanted).map(|(x, x0)| towards(x0 / 2.0, *x));
            Ok(without.iter().copied().chain(with).collect())
        };
        let made = sampled(vec![1.0, -1.0, 0.3, 2.0], 5, 2.0, flow).unwrap();
        assert!(made.iter().zip(wanted).all(|(m, w)| (m - w).abs() < 1e-5), "{made:?}");
        assert_eq!(seen.len(), 5);
        let shift = |t: f64| SHIFT * t / (1.0 + (SHIFT - 1.0) * t);
        let lowest = shift(0.001);
        for (i, t) in seen.into_iter().enumerate() {
            let want = 1000.0 * shift(1.0 - (1.0 - lowest) * i as f64 / 4.0);
            assert!((f64::from(t) - want).abs() < 1e-3, "step {i}: timestep {t}, wanted {want}");
        }
    }

    #[test]
    fn the_grid_is_the_exported_schedulers() {
        let folder = tempfile::tempdir().unwrap();
        let exported = crate::export::configs::scheduler();
        std::fs::write(folder.path().join("scheduler_config.json"), exported.to_string()).unwrap();
        let read = undiffuse::model::SchedulerConfig::read(folder.path()).unwrap();
        assert_eq!(read.sampler(), SamplerKind::FlowEuler);
        assert_eq!(read.schedule(SamplerKind::FlowEuler).unwrap(), schedule());
    }
}
