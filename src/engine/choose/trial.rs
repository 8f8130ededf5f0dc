//! [`Trial`]: a device plays the same inputs many times, and is held to the bits of its first run and to the CPU's numbers.

use crate::engine::{Outputs, Precision};
use crate::error::{Error, ErrorKind, Result, fail};
use crate::value::Tensor;
use std::ops::RangeInclusive;
use std::time::Instant;

/// How far outputs may be from the CPU's: max |d| / std, as for latents; values between steps that are halves are 2^-11 of themselves off each.
pub(super) fn tolerance(precision: Precision) -> f64 {
    match precision {
        Precision::F32 => 1e-3,
        Precision::F16 => 5e-2,
    }
}

/// No latent, text state or picture has a number larger than an f16 holds.
const LARGEST: f32 = 65_504.0;

/// After so many runs the fastest of them counts.
const SAMPLES: usize = 3;

pub(super) struct Trial<'a> {
    /// What the CPU made of the inputs.
    pub(super) expected: Vec<(&'a str, &'a Tensor)>,
    /// How far others may be from it.
    pub(super) tolerance: f64,
    pub(super) cpu_ms: f64,
    /// Runs whose bits must be the same: at least, and at most while they take no longer than one of the CPU's in all.
    pub(super) runs: RangeInclusive<usize>,
    /// Whether a device that is slower than the CPU is of no use, and is not played for long.
    pub(super) hurries: bool,
}

/// What a device made of the inputs, every time.
#[derive(Debug, PartialEq)]
pub(super) struct Right {
    pub(super) outputs: Outputs,
    /// The greatest distance of an output from the CPU's.
    pub(super) distance: f64,
    pub(super) runs: usize,
    /// Milliseconds of the fastest run.
    pub(super) ms: f64,
}

impl Trial<'_> {
    /// Runs until the numbers are proved, wrong, or clearly slower than the CPU's; `heard` is told the milliseconds of each run. What is wrong
    /// with the numbers is the inner error.
    ///
    /// # Errors
    /// Those of `run`.
    pub(super) fn play(
        &self,
        mut run: impl FnMut() -> Result<Outputs>,
        mut heard: impl FnMut(f64),
    ) -> Result<Result<Right, String>> {
        let mut timed = || -> Result<(Outputs, f64)> {
            let begun = Instant::now();
            Ok((run()?, begun.elapsed().as_secs_f64() * 1e3))
        };
        let (outputs, ms) = timed()?;
        let distance = match self.agreement(&outputs) {
            Ok(distance) => distance,
            Err(error) => return Ok(Err(error.to_string())),
        };
        heard(ms);
        let (mut runs, mut all, mut best) = (1, ms, ms);
        while !self.is_enough(runs, all, best) {
            let (again, ms) = timed()?;
            (runs, all, best) = (runs + 1, all + ms, ms.min(best));
            if !same_bits(&outputs, &again) {
                return Ok(Err(format!("run {runs} gave other bits than the first")));
            }
            heard(ms);
        }
        Ok(Ok(Right { outputs, distance, runs, ms: best }))
    }

    fn is_enough(&self, runs: usize, all: f64, best: f64) -> bool {
        let proved = runs >= *self.runs.end() || (runs >= *self.runs.start() && all > self.cpu_ms);
        proved || (self.hurries && runs >= SAMPLES && best > self.cpu_ms)
    }

    /// The greatest distance of an output from what is expected of it.
    ///
    /// # Errors
    /// `Engine` that lists the outputs which are too far away.
    fn agreement(&self, outputs: &Outputs) -> Result<f64> {
        let (mut most, mut wrong) = (0.0f64, Vec::new());
        for (name, expected) in &self.expected {
            let distance = outputs.get(name).map_or(f64::INFINITY, |got| distance(got, expected));
            if distance > self.tolerance {
                wrong.push(format!("{name} is {distance:.1e} from the CPU's (max |d| / std)"));
            }
            most = most.max(distance);
        }
        if wrong.is_empty() { Ok(most) } else { Err(Error::new(ErrorKind::Engine, wrong.join(", "))) }
    }
}

fn distance(got: &Tensor, expected: &Tensor) -> f64 {
    match (floats(got), floats(expected)) {
        (Some(ours), Some(theirs)) if got.shape() == expected.shape() => {
            // Where the CPU has no number either, the device may have none.
            let numbers = ours.into_iter().zip(theirs).filter(|(ours, theirs)| !(ours.is_nan() && theirs.is_nan()));
            let (ours, theirs): (Vec<f32>, Vec<f32>) = numbers.unzip();
            crate::engine::compare::error(&ours, &theirs)
        }
        _ if got == expected => 0.0,
        _ => f64::INFINITY,
    }
}

/// Floats as a device computes with them, whatever their type; `None` for whole numbers.
fn floats(tensor: &Tensor) -> Option<Vec<f32>> {
    tensor.dtype().is_float().then(|| tensor.clone().into_f32())
}

/// NaN is the same as itself here.
fn same_bits(a: &Outputs, b: &Outputs) -> bool {
    let bits = |tensor: &Tensor| floats(tensor).map(|values| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>());
    a.iter().zip(b.iter()).all(|((_, a), (_, b))| match (bits(a), bits(b)) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    })
}

/// # Errors
/// `NotFinite` when an output is no number, or larger than any may be.
pub(super) fn sound(outputs: Outputs) -> Result<Outputs> {
    for (name, tensor) in outputs.iter() {
        tensor.check_finite(name)?;
        if let Some(large) = tensor.as_f32().into_iter().flatten().find(|x| x.abs() > LARGEST) {
            return fail!(NotFinite, "{name} reaches {large:e}");
        }
    }
    Ok(outputs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outputs(values: &[f32]) -> Outputs {
        Outputs::new(vec![("y".into(), Tensor::new(&[values.len()], values.to_vec()).unwrap())])
    }

    /// Plays until `run`, given the number of runs before, has given enough; and how often that was.
    fn played(
        cpu_ms: f64,
        hurries: bool,
        run: impl Fn(usize) -> Result<Outputs>,
    ) -> (Result<Result<Right, String>>, usize) {
        let expected = Tensor::new(&[2], vec![1f32, 3.0]).unwrap();
        let trial = Trial { expected: vec![("y", &expected)], tolerance: 1e-3, cpu_ms, runs: 8..=100, hurries };
        let (mut runs, mut heard) = (0, 0);
        let counted = || {
            runs += 1;
            run(runs - 1)
        };
        let found = trial.play(counted, |_| heard += 1);
        (found, heard)
    }

    #[test]
    fn right_numbers_are_played_many_times() {
        let (found, heard) = played(1e6, true, |_| Ok(outputs(&[1.0, 3.0005])));
        let Right { distance, runs, outputs: got, .. } = found.unwrap().unwrap();
        assert!((4e-4..6e-4).contains(&distance) && (runs, heard) == (100, 100), "{distance} {runs}");
        assert_eq!(got, outputs(&[1.0, 3.0005]));
    }

    #[test]
    fn a_slow_device_is_not_played_for_long() {
        let same = |_| Ok(outputs(&[1.0, 3.0]));
        assert_eq!(played(0.0, true, same).1, SAMPLES);
        assert_eq!(played(0.0, false, same).1, 8, "it was named");
    }

    #[test]
    fn wrong_and_changing_numbers_are_told() {
        for wrong in [[1.0, 3.1], [1.0, f32::NAN]] {
            let said = played(1e6, true, |_| Ok(outputs(&wrong))).0.unwrap().unwrap_err();
            assert!(said.contains("y is"), "{said}");
        }
        let (found, heard) = played(1e6, true, |run| Ok(outputs(&[1.0, if run == 6 { 3.0000002 } else { 3.0 }])));
        assert_eq!((found.unwrap().unwrap_err().as_str(), heard), ("run 7 gave other bits than the first", 6));
    }

    #[test]
    fn what_is_no_number_on_the_cpu_need_be_none_on_the_device() {
        let tensor = |values: [f32; 2]| Tensor::new(&[2], values.to_vec()).unwrap();
        assert_eq!(distance(&tensor([1.0, f32::NAN]), &tensor([1.0, f32::NAN])), 0.0);
        assert_eq!(distance(&tensor([1.0, f32::NAN]), &tensor([1.0, 2.0])), f64::INFINITY);
        assert_eq!(distance(&tensor([1.0, 2.0]), &tensor([1.0, f32::NAN])), f64::INFINITY);
    }

    #[test]
    fn floats_of_every_type_are_compared_and_whole_numbers_must_be_the_same() {
        let wide = |x: f64| Tensor::new(&[2], vec![1.0, x]).unwrap();
        assert!((5e-7..2e-6).contains(&distance(&wide(3.000001), &wide(3.0))));
        let whole = |x: i64| Tensor::new(&[2], vec![1, x]).unwrap();
        assert_eq!((distance(&whole(3), &whole(3)), distance(&whole(3), &whole(4))), (0.0, f64::INFINITY));
    }

    #[test]
    fn a_run_that_fails_is_an_error() {
        let lost = |_| fail!(Engine, "the device was lost");
        assert_eq!(played(1e6, true, lost).0.unwrap_err().to_string(), "the device was lost");
    }

    #[test]
    fn what_no_network_gives_is_not_sound() {
        let outputs = |x: f32| Outputs::new(vec![("y".into(), Tensor::scalar(x))]);
        assert!(sound(outputs(-65_000.0)).is_ok());
        for wrong in [f32::NAN, f32::INFINITY, -1e9] {
            assert!(sound(outputs(wrong)).is_err(), "{wrong}");
        }
    }
}
