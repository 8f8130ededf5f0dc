//! The exported graphs, run by the runtime, against the trained nets on libtorch: what rounding the weights to f16 costs.

use super::Parts;
use crate::net::onnx::Weights;
use crate::net::params::Params;
use crate::net::reader::Reader;
use crate::net::torch::Torch;
use crate::train::run::no_grad;
use crate::words::LENGTH;
use anyhow::{Context, Result, ensure};
use std::path::Path;
use tch::{Device, Kind, Tensor};
use undiffuse::engine::{Backend, Threads, load};
use undiffuse::model::Graph;
use undiffuse::value::Tensor as Array;

/// The most that rounding weights to f16 may move an output, in units of its deviation.
const TOLERANCE: f64 = 2e-2;

/// Prints how far each stage in `out` is from its trained net, and gives it: the largest difference over the deviation.
///
/// # Errors
/// If a stage is further away than rounding its weights explains, or cannot be run.
pub fn report(parts: &Parts, out: &Path) -> Result<Vec<(&'static str, f64)>> {
    let found = distances(parts, out)?;
    for (stage, apart) in &found {
        println!("{stage}: max |d| / std {apart:.1e} from the trained net");
        ensure!(*apart <= TOLERANCE, "{stage} is not the trained net: {apart:.1e} is more than {TOLERANCE:.0e}");
    }
    Ok(found)
}

/// Largest difference over the deviation of the trained net's output, on seeded inputs, a stage each.
fn distances(parts: &Parts, out: &Path) -> Result<Vec<(&'static str, f64)>> {
    tch::manual_seed(0);
    let [net, side, batch] = [parts.denoiser.latent, parts.denoiser.size, 2];
    let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
    let (latents, pictures) = (random(&[batch, net, side, side]), random(&[batch, 3, 4 * side, 4 * side]).tanh());
    let states = random(&[batch, LENGTH as i64, parts.denoiser.text]);
    let (times, ids) = (Tensor::from_slice(&[900.0f32, 20.0]), ids(batch, parts.bert.vocabulary));
    let file = |stage: &str| out.join(stage).join("model.onnx");
    let (text, unet, coder) = (frozen(&parts.text), frozen(&parts.unet), frozen(&parts.coder));
    let mut found = Vec::new();
    let mut add = |stage: &'static str, inputs: &[(&str, Array)], want: Tensor| -> Result<()> {
        found.push((stage, between(&played(&file(stage), inputs)?, &want)));
        Ok(())
    };
    let reader = Reader::of(|name| Some(parts.text.get(name)?.0.clone()));
    let want = no_grad(|| {
        let read = reader.map(|reader| reader.forward(&Torch(&text), &ids));
        parts.bert.forward(&Torch(&text), read.as_ref().unwrap_or(&ids), LENGTH as i64)
    });
    add("text_encoder", &[("input_ids", integers(&ids)?)], want)?;
    let want = no_grad(|| parts.denoiser.forward(&Torch(&unet), &latents, &times, &states));
    let inputs =
        [("sample", array(&latents)?), ("timestep", array(&times)?), ("encoder_hidden_states", array(&states)?)];
    add("unet", &inputs, want)?;
    let want = no_grad(|| parts.autoencoder.latents(&Torch(&coder), &pictures, &parts.scale));
    add("vae_encoder", &[("sample", array(&pictures)?)], want)?;
    let want = no_grad(|| parts.autoencoder.decode(&Torch(&coder), &latents));
    add("vae_decoder", &[("latent_sample", array(&latents)?)], want)?;
    Ok(found)
}

/// A net's parameters that are not trained.
pub fn frozen(weights: &Weights) -> Params {
    let tensor = |(name, (shape, values)): (&String, &(Vec<i64>, Vec<f32>))| {
        (name.clone(), Tensor::from_slice(values).reshape(shape))
    };
    Params::frozen(weights.iter().map(tensor).collect(), Device::Cpu)
}

/// Rows of ids, each with padding behind.
fn ids(batch: i64, vocabulary: i64) -> Tensor {
    let row = |b: i64| (0..LENGTH as i64).map(move |i| if i < 12 { (2 + 5 * i + 7 * b) % vocabulary } else { 0 });
    Tensor::from_slice(&(0..batch).flat_map(row).collect::<Vec<_>>()).reshape([batch, LENGTH as i64])
}

/// The only output of the graph in `file`.
pub fn played(file: &Path, inputs: &[(&str, Array)]) -> Result<Tensor> {
    played_on(Backend::Auto, file, inputs)
}

/// The same on `backend`.
pub fn played_on(backend: Backend, file: &Path, inputs: &[(&str, Array)]) -> Result<Tensor> {
    let mut engine = load(Graph::open(file)?, backend, &Threads::new(None)?)?;
    let inputs: Vec<(&str, &Array)> = inputs.iter().map(|(n, a)| (*n, a)).collect();
    let name = engine.outputs().first().context("the graph has no output")?.name.clone();
    let got = engine.run(&inputs)?.take(&name)?;
    let shape: Vec<i64> = got.shape().iter().map(|d| *d as i64).collect();
    Ok(Tensor::from_slice(&got.into_f32()).reshape(shape))
}

/// Largest difference over the deviation of `want`.
pub fn between(got: &Tensor, want: &Tensor) -> f64 {
    assert_eq!(got.size(), want.size(), "the shapes of a graph and its net differ");
    let worst = (got - want).abs().max().double_value(&[]);
    // A denoiser that was never trained answers zero.
    if worst == 0.0 { 0.0 } else { worst / want.std(false).double_value(&[]) }
}

/// Floats for the runtime.
pub fn array(tensor: &Tensor) -> Result<Array> {
    Ok(Array::new(&shape(tensor), Vec::<f32>::try_from(tensor.flatten(0, -1))?)?)
}

fn integers(tensor: &Tensor) -> Result<Array> {
    Ok(Array::new(&shape(tensor), Vec::<i64>::try_from(tensor.flatten(0, -1))?)?)
}

fn shape(tensor: &Tensor) -> Vec<usize> {
    tensor.size().iter().map(|d| *d as usize).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::autoencoder::{Autoencoder, LatentScale};
    use crate::net::bert::Bert;
    use crate::net::denoiser::Denoiser;
    use crate::net::params::generator_lock;

    /// Weights of a net, none of them zero; `play` asks for all.
    fn drawn(play: impl Fn(&Params) -> Tensor) -> Weights {
        let params = Params::fresh(8, Device::Cpu);
        let _ = no_grad(|| play(&params));
        let value = |t: &Tensor| Vec::<f32>::try_from((t.detach() + t.randn_like() * 0.05).flatten(0, -1)).unwrap();
        params.all().iter().map(|(name, t)| (name.clone(), (t.size(), no_grad(|| value(t))))).collect()
    }

    fn parts() -> Parts {
        let denoiser = Denoiser { latent: 4, size: 8, channels: [8, 16, 24], heads: [2, 3], text: 12, condition: 16 };
        let bert = Bert { width: 24, heads: 3, feed_forward: 32, output: Some(12), ..Bert::student(50, LENGTH as i64) };
        let autoencoder = Autoencoder { latent: 4, encoder: [8, 8], decoder: [16, 8] };
        let scale = LatentScale { mean: vec![0.4, -1.5, 0.0, 2.0], deviation: vec![0.25, 3.0, 1.0, 0.5] };
        let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
        let text = drawn(|p| bert.forward(&Torch(p), &ids(1, 50), LENGTH as i64));
        let unet = drawn(|p| {
            denoiser.forward(&Torch(p), &zeros(&[1, 4, 8, 8]), &zeros(&[1]), &zeros(&[1, LENGTH as i64, 12]))
        });
        let coder = drawn(|p| autoencoder.decode(&Torch(p), &autoencoder.encode(&Torch(p), &zeros(&[1, 3, 32, 32]))));
        Parts { denoiser, bert, autoencoder, scale, text, unet, coder }
    }

    #[test]
    fn rounding_passes_and_other_weights_do_not() {
        let _lock = generator_lock();
        let (mut parts, folder) = (parts(), tempfile::tempdir().unwrap());
        parts.write(folder.path()).unwrap();
        report(&parts, folder.path()).unwrap();
        let found = distances(&parts, folder.path()).unwrap();
        assert_eq!(
            found.iter().map(|f| f.0).collect::<Vec<_>>(),
            ["text_encoder", "unet", "vae_encoder", "vae_decoder"]
        );
        assert!(found.iter().all(|f| f.1 > 1e-6), "weights that f16 does not hold leave a trace: {found:?}");
        parts.scale.mean[1] += 1.0;
        let error = report(&parts, folder.path()).unwrap_err().to_string();
        assert!(error.starts_with("vae_encoder is not the trained net"), "{error}");
    }
}
