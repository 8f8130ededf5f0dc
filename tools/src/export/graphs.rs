//! The graph of each stage, with diffusers' names for inputs and outputs.

use crate::net::autoencoder::{Autoencoder, LatentScale};
use crate::net::bert::Bert;
use crate::net::denoiser::Denoiser;
use crate::net::onnx::proto::{FLOAT, INT64};
use crate::net::onnx::{Dim, Recorder, Weights};
use crate::net::reader::Reader;
use crate::words::LENGTH;
use anyhow::Result;
use std::path::Path;

pub fn write_text_encoder(net: &Bert, weights: &Weights, path: &Path) -> Result<()> {
    let recorder = Recorder::new("text_encoder", weights);
    let (batch, length) = (Dim::Named("batch"), Dim::Fixed(LENGTH as i64));
    let ids = recorder.input("input_ids", INT64, &[batch, length]);
    let read = Reader::of(|name| Some(weights.get(name)?.0.clone())).map(|reader| reader.forward(&recorder, &ids));
    let states = net.forward(&recorder, read.as_ref().unwrap_or(&ids), LENGTH as i64);
    recorder.output(&states, "last_hidden_state", &[batch, length, Dim::Fixed(net.output.unwrap_or(net.width))]);
    recorder.write(path)
}

pub fn write_denoiser(net: &Denoiser, weights: &Weights, path: &Path) -> Result<()> {
    let recorder = Recorder::new("unet", weights);
    let batch = Dim::Named("batch");
    let side = Dim::Fixed(net.size);
    let shape = [batch, Dim::Fixed(net.latent), side, side];
    let sample = recorder.input("sample", FLOAT, &shape);
    let timestep = recorder.input("timestep", FLOAT, &[batch]);
    let text = [batch, Dim::Fixed(LENGTH as i64), Dim::Fixed(net.text)];
    let states = recorder.input("encoder_hidden_states", FLOAT, &text);
    let out = net.forward(&recorder, &sample, &timestep, &states);
    recorder.output(&out, "out_sample", &shape);
    recorder.write(path)
}

/// The latents that the denoiser makes, `side` wide, to pictures.
pub fn write_decoder(net: &Autoencoder, weights: &Weights, side: i64, path: &Path) -> Result<()> {
    let recorder = Recorder::new("vae_decoder", weights);
    let batch = Dim::Named("batch");
    let (small, large) = (Dim::Fixed(side), Dim::Fixed(4 * side));
    let latent = recorder.input("latent_sample", FLOAT, &[batch, Dim::Fixed(net.latent), small, small]);
    let picture = net.decode(&recorder, &latent);
    recorder.output(&picture, "sample", &[batch, Dim::Fixed(3), large, large]);
    recorder.write(path)
}

/// Pictures to the latents that the denoiser was trained on: the scale is in the graph, so that `scaling_factor` is 1 both ways.
pub fn write_encoder(net: &Autoencoder, weights: &Weights, scale: &LatentScale, side: i64, path: &Path) -> Result<()> {
    let recorder = Recorder::new("vae_encoder", weights);
    let batch = Dim::Named("batch");
    let (small, large) = (Dim::Fixed(side), Dim::Fixed(4 * side));
    let picture = recorder.input("sample", FLOAT, &[batch, Dim::Fixed(3), large, large]);
    let latent = net.latents(&recorder, &picture, scale);
    recorder.output(&latent, "latent_sample", &[batch, Dim::Fixed(net.latent), small, small]);
    recorder.write(path)
}

#[cfg(all(test, feature = "train"))]
mod tests {
    use super::super::compare::{self, between, frozen, played, played_on};
    use super::*;
    use crate::net::onnx::{in_eight_bits, read_model, read_weights as read_back, write_model};
    use crate::net::params::{Params, generator_lock};
    use crate::net::torch::Torch;
    use crate::train::run::no_grad;
    use tch::{Device, Kind, Tensor};
    use undiffuse::engine::Backend;
    use undiffuse::value::Tensor as Array;

    /// Draws every parameter of a network anew, the zeroed ones too, and rounds it as the file will.
    fn randomise(params: &Params) {
        let _guard = tch::no_grad_guard();
        for (name, mut tensor) in params.all() {
            let offset = if name.ends_with("norm1.weight") || name.contains("Norm.weight") { 1.0 } else { 0.0 };
            let drawn = tensor.randn_like() * 0.1 + offset;
            tensor.copy_(&drawn.to_kind(Kind::Half).to_kind(Kind::Float));
        }
    }

    fn weights(params: &Params) -> Weights {
        let values = |t: &Tensor| Vec::<f32>::try_from(t.detach().flatten(0, -1)).unwrap();
        params.all().iter().map(|(k, t)| (k.clone(), (t.size(), values(t)))).collect()
    }

    fn distance(path: &Path, inputs: &[(&str, Array)], want: &Tensor) -> f64 {
        between(&played(path, inputs).unwrap(), want)
    }

    fn array(tensor: &Tensor) -> Array {
        compare::array(tensor).unwrap()
    }

    fn random(shape: &[i64]) -> Tensor {
        Tensor::randn(shape, (Kind::Float, Device::Cpu))
    }

    #[test]
    fn exported_denoiser_is_the_trained_one_and_reads_back() {
        let _lock = generator_lock();
        let net = Denoiser { latent: 4, size: 8, channels: [8, 16, 24], heads: [2, 3], text: 12, condition: 16 };
        let params = Params::fresh(1, Device::Cpu);
        let (x, t, states) =
            (random(&[2, 4, 8, 8]), Tensor::from_slice(&[900.0f32, 20.0]), random(&[2, LENGTH as i64, 12]));
        let run = || no_grad(|| net.forward(&Torch(&params), &x, &t, &states));
        let _ = run();
        randomise(&params);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        write_denoiser(&net, &weights(&params), &path).unwrap();
        let inputs = [("sample", array(&x)), ("timestep", array(&t)), ("encoder_hidden_states", array(&states))];
        let apart = distance(&path, &inputs, &run());
        assert!(apart < 1e-4, "{apart}");
        assert_eq!(read_back(&path).unwrap(), weights(&params));
    }

    #[test]
    fn a_graph_in_eight_bits_is_the_net_with_the_weights_that_read_back() {
        let _lock = generator_lock();
        let net = Denoiser { latent: 4, size: 8, channels: [16, 32, 64], heads: [2, 4], text: 96, condition: 64 };
        let params = Params::fresh(5, Device::Cpu);
        let (x, t, states) =
            (random(&[2, 4, 8, 8]), Tensor::from_slice(&[900.0f32, 20.0]), random(&[2, LENGTH as i64, 96]));
        let run = |params: &Params| no_grad(|| net.forward(&Torch(params), &x, &t, &states));
        let _ = run(&params);
        randomise(&params);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        write_denoiser(&net, &weights(&params), &path).unwrap();
        let mut model = read_model(&path).unwrap();
        let rounded = in_eight_bits(&mut model).unwrap();
        assert!(rounded.tensors >= 10 && rounded.share() > 1e-3 && rounded.share() < 1e-2, "{rounded:?}");
        write_model(&model, &path).unwrap();
        let (before, after) = (weights(&params), read_back(&path).unwrap());
        assert!(before.keys().eq(after.keys()) && before != after);
        let inputs = [("sample", array(&x)), ("timestep", array(&t)), ("encoder_hidden_states", array(&states))];
        let want = run(&frozen(&after));
        for backend in [Backend::Cpu, Backend::Tract] {
            let apart = between(&played_on(backend, &path, &inputs).unwrap(), &want);
            assert!(apart < 1e-4, "{backend}: {apart}");
        }
        assert!(between(&want, &run(&params)) > 1e-3, "rounding leaves a trace");
        assert_eq!(in_eight_bits(&mut model).unwrap().tensors, 0, "nothing is rounded twice");
    }

    #[test]
    fn exported_decoder_is_the_trained_one() {
        let _lock = generator_lock();
        let net = Autoencoder { latent: 4, encoder: [8, 8], decoder: [16, 8] };
        let params = Params::fresh(2, Device::Cpu);
        let latent = random(&[1, 4, 8, 8]);
        let run = || no_grad(|| net.decode(&Torch(&params), &latent));
        let _ = run();
        randomise(&params);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        write_decoder(&net, &weights(&params), 8, &path).unwrap();
        let apart = distance(&path, &[("latent_sample", array(&latent))], &run());
        assert!(apart < 1e-4, "{apart}");
    }

    #[test]
    fn exported_text_encoder_is_the_trained_one() {
        let _lock = generator_lock();
        let net = Bert {
            vocabulary: 50,
            width: 24,
            heads: 3,
            feed_forward: 32,
            output: Some(10),
            ..Bert::student(50, LENGTH as i64)
        };
        let params = Params::fresh(3, Device::Cpu);
        let ids: Vec<i64> = (0..LENGTH as i64).map(|i| if i < 9 { 2 + 5 * i } else { 0 }).collect();
        let tensor = Tensor::from_slice(&ids).reshape([1, -1]);
        let run = || no_grad(|| net.forward(&Torch(&params), &tensor, LENGTH as i64));
        let _ = run();
        randomise(&params);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        write_text_encoder(&net, &weights(&params), &path).unwrap();
        let inputs = [("input_ids", Array::new(&[1, LENGTH], ids.clone()).unwrap())];
        let apart = distance(&path, &inputs, &run());
        assert!(apart < 1e-4, "{apart}");
        assert_eq!(read_back(&path).unwrap(), weights(&params));
    }

    #[test]
    fn exported_encoder_and_decoder_are_the_trained_reconstruction() {
        let _lock = generator_lock();
        let net = Autoencoder { latent: 4, encoder: [8, 8], decoder: [16, 8] };
        let scale = LatentScale { mean: vec![0.4, -1.5, 0.0, 7.0], deviation: vec![0.25, 3.0, 1.0, 0.5] };
        let params = Params::fresh(4, Device::Cpu);
        let picture = random(&[2, 3, 32, 32]);
        let player = Torch(&params);
        let encode = || no_grad(|| net.latents(&player, &picture, &scale));
        let decode = |latent: &Tensor| no_grad(|| net.decode(&player, latent));
        let _ = decode(&encode());
        randomise(&params);
        let folder = tempfile::tempdir().unwrap();
        let (encoder, decoder) = (folder.path().join("encoder.onnx"), folder.path().join("decoder.onnx"));
        write_encoder(&net, &weights(&params), &scale, 8, &encoder).unwrap();
        write_decoder(&net, &weights(&params), 8, &decoder).unwrap();

        let raw = no_grad(|| net.encode(&player, &picture));
        let by_hand = Tensor::cat(
            &(0..4i64)
                .map(|c| {
                    (raw.narrow(1, c, 1) - f64::from(scale.mean[c as usize])) / f64::from(scale.deviation[c as usize])
                })
                .collect::<Vec<_>>(),
            1,
        );
        let latents = played(&encoder, &[("sample", array(&picture))]).unwrap();
        let apart = between(&latents, &by_hand);
        assert!(apart < 1e-4, "latents: {apart}");
        let pictures = played(&decoder, &[("latent_sample", array(&latents))]).unwrap();
        let apart = between(&pictures, &decode(&by_hand));
        assert!(apart < 1e-4, "pictures: {apart}");
        let mut both = read_back(&encoder).unwrap();
        both.extend(read_back(&decoder).unwrap());
        assert_eq!(both, weights(&params), "the two graphs hold the whole autoencoder");
    }

    #[test]
    fn weights_that_do_not_fit_are_all_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = write_denoiser(&Denoiser::default(), &Weights::new(), &folder.path().join("m.onnx")).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("in.weight: missing") && text.contains("up1.1.conv2.bias: missing"), "{text}");
    }
}
