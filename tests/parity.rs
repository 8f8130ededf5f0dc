//! Whole pipelines against diffusers and onnxruntime, from prompt to picture, on the directories of `tests/golden/pipelines`.

#![cfg(feature = "std")]

use serde_json::Value;
use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use undiffuse::engine::Backend;
use undiffuse::npy;
use undiffuse::pipeline::{Context, Generated, Options, Pipeline, Prompt, Request, Size, Tokenizer};
use undiffuse::sampler::{Noise, TorchNoise};
use undiffuse::value::Tensor;

/// max |d| / std of the final latents: what the design asks of the CPU.
const LATENTS: f64 = 1e-3;
/// Half of the latents of a graph with f16 edges are at least this near: where nothing crosses an edge on the other side of a rounding
/// boundary, only f32 rounding is left. A graph run in f16 arithmetic is above 2e-4.
const F16_MEDIAN: f64 = 1e-5;
/// The most that a golden may allow for the last bit of its f16 edges.
const F16_LAST_BIT: f64 = 5e-3;
/// Of the picture, in decibels.
const PSNR: f64 = 40.0;
/// A picture flatter than this would pass whatever it shows.
const CONTRAST: f64 = 20.0;

struct Golden {
    model: PathBuf,
    case: &'static str,
    facts: Value,
}

impl Golden {
    fn open(model: &str, case: &'static str) -> Golden {
        let model = fixtures().join(model);
        let text = std::fs::read_to_string(model.join("goldens").join(format!("{case}.json"))).unwrap();
        Golden { model, case, facts: serde_json::from_str(&text).unwrap() }
    }

    fn file(&self, extension: &str) -> PathBuf {
        self.model.join("goldens").join(self.case).with_extension(extension)
    }

    fn text(&self, field: &str) -> &str {
        self.facts[field].as_str().unwrap()
    }

    fn count(&self, field: &str) -> usize {
        self.facts[field].as_u64().unwrap().try_into().unwrap()
    }

    fn request(&self) -> Request {
        let mut request = Request::new(Prompt::new(self.text("prompt")).unwrap());
        request.negative = Some(Prompt::negative(self.text("negative")).unwrap());
        request.seed = self.facts["seed"].as_u64().unwrap();
        request.steps = Some(self.count("steps"));
        request.guidance = self.facts["guidance"].as_f64();
        request.size = Some(Size::new(self.count("width"), self.count("height")).unwrap());
        if let Some(strength) = self.facts["strength"].as_f64() {
            request.strength = strength;
            request.init_latents = Some(self.clean_latents());
        }
        request
    }

    /// What an image-to-image case starts from, drawn as the golden's maker draws it.
    fn clean_latents(&self) -> Tensor {
        let shape = npy::read(self.file("npy")).unwrap().shape().to_vec();
        let mut values = vec![0.0; shape.iter().product()];
        TorchNoise::new(self.facts["init_seed"].as_u64().unwrap()).fill(&mut values);
        values.iter_mut().for_each(|value| *value *= 0.8);
        Tensor::new(&shape, values).unwrap()
    }

    fn generate(&self, backend: Backend, threads: usize) -> Generated {
        let options = Options { backend, threads: NonZeroUsize::new(threads), ..Options::default() };
        let mut pipeline = Pipeline::open(&self.model, options).unwrap_or_else(|error| panic!("{error}"));
        let made = pipeline.generate(&self.request(), |_| ControlFlow::Continue(()));
        made.unwrap_or_else(|error| panic!("{error}"))
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pipelines")
}

fn check(model: &str, case: &'static str) {
    let golden = Golden::open(model, case);
    for (backend, engine) in [(Backend::Cpu, "cpu"), (Backend::Tract, "tract")] {
        check_on(&golden, backend, engine);
    }
}

fn check_on(golden: &Golden, backend: Backend, engine: &str) {
    let made = golden.generate(backend, 1);
    for stage in &made.report.stages {
        assert_eq!(stage.account.engine, engine, "{} ran elsewhere", stage.stage);
    }
    check_timesteps(golden, &made);
    check_latents(golden, &made);
    check_picture(golden, &made);
    let again = golden.generate(backend, 2);
    assert!(made.latents.as_f32() == again.latents.as_f32(), "two threads made other latents than one");
    assert!(made.to_png().unwrap() == again.to_png().unwrap(), "two threads made another picture than one");
}

fn check_timesteps(golden: &Golden, made: &Generated) {
    let wanted: Vec<f64> = serde_json::from_value(golden.facts["timesteps"].clone()).unwrap();
    assert_eq!(made.report.timesteps.len(), wanted.len());
    for (&got, want) in made.report.timesteps.iter().zip(wanted) {
        assert!((f64::from(got) - want).abs() <= 1e-5 * want.abs().max(1.0), "timestep {got}, diffusers {want}");
    }
}

fn check_latents(golden: &Golden, made: &Generated) {
    let wanted = npy::read(golden.file("npy")).unwrap();
    assert_eq!(made.latents.shape(), wanted.shape());
    let (got, wanted) = (wide(made.latents.as_f32().unwrap()), wide(wanted.as_f32().unwrap()));
    let deviation = std(&wanted);
    let mut distances: Vec<f64> = got.iter().zip(&wanted).map(|(a, b)| (a - b).abs() / deviation).collect();
    distances.sort_by(f64::total_cmp);
    let (median, worst) = (distances[distances.len() / 2], distances[distances.len() - 1]);
    println!("latents: |d| / std at most {worst:.2e}, median {median:.2e}");
    let allowed = LATENTS + last_bit(golden).unwrap_or(0.0);
    assert!(worst <= allowed, "latents are {worst:.2e} of their std away, allowed {allowed:.1e}");
    if last_bit(golden).is_some() {
        assert!(
            median <= F16_MEDIAN,
            "half of the latents are {median:.2e} of their std away, allowed {F16_MEDIAN:.0e}"
        );
    }
}

/// What f16 edges cost: two right runtimes may round an answer to neighbouring f16 numbers, and the sampler multiplies the difference.
/// The golden knows how far that moves the latents.
fn last_bit(golden: &Golden) -> Option<f64> {
    let moved = golden.facts["f16_last_bit"].as_f64()?;
    assert!(moved <= F16_LAST_BIT, "the golden allows {moved:.1e} for the last f16 bit: then it shows nothing");
    Some(moved)
}

fn check_picture(golden: &Golden, made: &Generated) {
    let wanted = image::open(golden.file("png")).unwrap().into_rgb8();
    assert_eq!((made.picture.width(), made.picture.height()), wanted.dimensions());
    let (got, wanted): (Vec<f64>, Vec<f64>) = (bytes(made.picture.rgb()), bytes(wanted.as_raw()));
    let contrast = std(&wanted);
    assert!(contrast >= CONTRAST, "the golden picture is too flat to compare: std {contrast:.1}");
    let mse = got.iter().zip(&wanted).map(|(a, b)| (a - b).powi(2)).sum::<f64>() / wanted.len() as f64;
    let psnr = 10.0 * (255.0_f64.powi(2) / mse.max(1e-12)).log10();
    println!("picture: {psnr:.1} dB");
    assert!(psnr >= PSNR, "the picture is {psnr:.1} dB away, allowed {PSNR} dB");
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

fn bytes(values: &[u8]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

fn std(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
}

/// One test a golden, and the list of them.
macro_rules! goldens {
    ($($test:ident: $model:literal / $case:literal;)*) => {
        const COVERED: &[(&str, &str)] = &[$(($model, $case)),*];
        $(#[test] fn $test() { check($model, $case) })*
    };
}

goldens! {
    sd1_with_guidance: "sd1-a" / "guided";
    sd1_wide_with_a_prompt_too_long: "sd1-a" / "wide";
    sd1_image_to_image: "sd1-a" / "edited";
    sd2_v_prediction_with_negative: "sd2-b" / "guided";
    sd2_v_prediction_tall: "sd2-b" / "tall";
    lcm_with_embedded_guidance: "lcm-b" / "four";
    lcm_wide: "lcm-b" / "wide";
    turbo_f16_in_one_step: "turbo-f16" / "one";
    turbo_f16_tall: "turbo-f16" / "tall";
    turbo_f16_image_to_image: "turbo-f16" / "edited";
    tiny_decoder_in_one_step: "tiny-vae" / "one";
    tiny_decoder_wide_with_guidance: "tiny-vae" / "wide";
    flow_matching_with_guidance: "flow" / "guided";
    flow_matching_wide: "flow" / "wide";
    flow_matching_image_to_image: "flow" / "edited";
    fixed_shapes_with_guidance: "static" / "guided";
    fixed_shapes_in_two_steps: "static" / "two";
    fixed_shapes_image_to_image: "static" / "edited";
}

#[test]
fn every_golden_on_disk_is_compared() {
    let mut found = BTreeSet::new();
    for model in
        std::fs::read_dir(fixtures()).unwrap().map(|entry| entry.unwrap()).filter(|entry| entry.path().is_dir())
    {
        for file in std::fs::read_dir(model.path().join("goldens")).unwrap().map(|entry| entry.unwrap().path()) {
            let case = file.file_stem().unwrap().to_str().unwrap().to_owned();
            found.insert((model.file_name().into_string().unwrap(), case));
        }
    }
    let covered: BTreeSet<_> = COVERED.iter().map(|(model, case)| (model.to_string(), case.to_string())).collect();
    assert_eq!(found, covered);
}

#[test]
fn prompts_become_the_token_ids_of_transformers() {
    for (model, case) in COVERED {
        let golden = Golden::open(model, case);
        let tokenizer = Tokenizer::open(&golden.model.join("tokenizer"), Context::default()).unwrap();
        for (text, ids) in [("prompt", "tokens"), ("negative", "negative_tokens")] {
            let Ok(wanted) = serde_json::from_value::<Vec<u32>>(golden.facts[ids].clone()) else { continue };
            assert_eq!(tokenizer.encode(golden.text(text)).unwrap().ids, wanted, "{model}/{case}: {text}");
        }
    }
}

#[test]
fn a_prompt_that_was_cut_is_said_to_be() {
    let golden = Golden::open("sd1-a", "wide");
    let made = golden.generate(Backend::Auto, 1);
    assert!(made.report.warnings.iter().any(|warning| warning.contains("too much")), "{:?}", made.report.warnings);
    assert!(golden.text("prompt").ends_with("every word after this one is too much"));
}
