//! Latents from noise through the runtime's own step table.

use super::examples::Examples;
use super::run::{no_grad, tensor};
use crate::net::denoiser::Denoiser;
use crate::net::params::Params;
use crate::net::torch::Torch;
use anyhow::{Result, anyhow};
use tch::{Device, Kind, Tensor};
use undiffuse::sampler::{
    Noise, SamplerError, SamplerKind, SamplerOptions, ScheduleConfig, StepTable, TorchNoise, guide,
};

/// How latents are made.
pub struct Sampling {
    pub schedule: ScheduleConfig,
    pub steps: usize,
    /// 1: none.
    pub guidance: f32,
}

/// Latents for prompts, one each, as the runtime makes them, on the device.
pub fn sampled(
    how: &Sampling,
    net: &Denoiser,
    params: &Params,
    examples: &Examples,
    prompts: &[&str],
) -> Result<Tensor> {
    let count = prompts.len() as i64;
    let device = params.device();
    let shape = [count, net.latent, net.size, net.size];
    let guided = how.guidance > 1.0;
    let asked: Vec<&str> = prompts.iter().filter(|_| guided).map(|_| "").chain(prompts.iter().copied()).collect();
    let states = examples.text.states(&asked)?;
    let mut noise = TorchNoise::new(0);
    let flow = |x: &[f32], timestep: f32| -> Result<Vec<f32>> {
        let x = tensor(x, &shape, device);
        let x = if guided { Tensor::cat(&[&x, &x], 0) } else { x };
        let t = Tensor::full([x.size()[0]], f64::from(timestep), (Kind::Float, device));
        let flow = no_grad(|| net.forward(&Torch(params), &x, &t, &states)).to_kind(Kind::Float);
        Ok(Vec::try_from(flow.to_device(Device::Cpu).flatten(0, -1))?)
    };
    let made = from_noise(how, shape.iter().product::<i64>() as usize, &mut noise, flow)?;
    Ok(tensor(&made, &shape, device))
}

/// `count` numbers of latents. `flow` gives, for latents and a timestep, the flows with a prompt; guided, those without one come before.
fn from_noise(
    how: &Sampling,
    count: usize,
    noise: &mut impl Noise,
    mut flow: impl FnMut(&[f32], f32) -> Result<Vec<f32>>,
) -> Result<Vec<f32>> {
    let options = SamplerOptions::new(SamplerKind::FlowEuler, how.steps);
    let table: Box<StepTable> = Box::new(StepTable::new(&how.schedule, &options).map_err(refused)?);
    let mut x = vec![0.0; count];
    noise.fill(&mut x);
    table.scale_initial_noise(&mut x);
    let (mut input, mut clean, mut fresh) = (x.clone(), x.clone(), x.clone());
    for (i, timestep) in table.timesteps().enumerate() {
        table.scale_input(i, &x, &mut input).map_err(refused)?;
        let mut flows = flow(&input, timestep)?;
        let with = if flows.len() > count {
            let (without, with) = flows.split_at_mut(count);
            guide(without, with, how.guidance).map_err(refused)?;
            with
        } else {
            &mut flows[..]
        };
        if table.needs_noise(i) {
            noise.fill(&mut fresh);
        }
        table.advance(i, &mut x, with, Some(&fresh), &mut clean).map_err(refused)?;
    }
    Ok(x)
}

fn refused(error: SamplerError) -> anyhow::Error {
    anyhow!("{error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::denoiser::{SHIFT, schedule};

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
        let how = Sampling { schedule: schedule(), steps: 5, guidance: 2.0 };
        let made = from_noise(&how, 4, &mut TorchNoise::new(1), flow).unwrap();
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
    fn a_students_steps_draw_fresh_noise_and_end_at_its_clean_sample() {
        use crate::net::denoiser::few_steps;
        for steps in [1, 2, 4] {
            let mut seen = vec![];
            let flow = |x: &[f32], t: f32| {
                seen.push((t, x.to_vec()));
                Ok(x.iter().map(|x| (x - 0.7) / (t / 1000.0)).collect())
            };
            let how = Sampling { schedule: few_steps(), steps, guidance: 1.0 };
            let made = from_noise(&how, 3, &mut TorchNoise::new(2), flow).unwrap();
            assert!(made.iter().all(|m| (m - 0.7).abs() < 1e-5), "{made:?}");
            assert_eq!((seen.len(), seen[0].0), (steps, 1000.0));
            if let Some((t, x)) = seen.get(1) {
                let noise = |x: f32, t: f32| (x - (1.0 - t / 1000.0) * 0.7) / (t / 1000.0);
                assert!((noise(x[0], *t) - seen[0].1[0]).abs() > 1e-3, "the noise of the second step is the first's");
            }
        }
    }

    #[test]
    fn the_grids_are_the_exported_schedulers() {
        use crate::net::denoiser::few_steps;
        for (few, wanted) in [(false, schedule()), (true, few_steps())] {
            let folder = tempfile::tempdir().unwrap();
            let exported = crate::export::configs::scheduler(few);
            std::fs::write(folder.path().join("scheduler_config.json"), exported.to_string()).unwrap();
            let read = undiffuse::model::SchedulerConfig::read(folder.path()).unwrap();
            assert_eq!(read.sampler(), SamplerKind::FlowEuler);
            assert_eq!(read.schedule(SamplerKind::FlowEuler).unwrap(), wanted);
        }
    }
}
