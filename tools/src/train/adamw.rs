//! AdamW (Loshchilov & Hutter 2019, algorithm 2) over a row of parameters, with its state in the open: tch's optimisers can
//! neither save nor load theirs.

use tch::{Kind, Tensor};

/// The constants of the update.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    pub betas: [f64; 2],
    pub epsilon: f64,
    pub weight_decay: f64,
    /// The gradient's norm is cut to this.
    pub clip: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        Self { betas: [0.9, 0.99], epsilon: 1e-8, weight_decay: 0.01, clip: 1.0 }
    }
}

/// What an update changes: the numbers and their moments, rows of one length.
pub struct Moving<'a> {
    pub weights: &'a mut Tensor,
    pub first: &'a mut Tensor,
    pub second: &'a mut Tensor,
}

impl AdamW {
    /// One update (`step` counts from 1) by `gradient`, in place. `decayed` is 1 where the weight decay works and 0 elsewhere. Returns
    /// the gradient's norm before clipping, as a tensor: nothing waits for the device.
    pub fn step(&self, moving: Moving, gradient: Tensor, decayed: &Tensor, step: u64, rate: f64) -> Tensor {
        let _guard = tch::no_grad_guard();
        let norm = gradient.norm();
        let mut gradient = gradient;
        let _ = gradient.multiply_(&(self.clip / (&norm + 1e-6)).clamp_max(1.0));
        let [b1, b2] = self.betas;
        let _ = moving.first.lerp_(&gradient, 1.0 - b1);
        let _ = moving.second.lerp_(&gradient.square(), 1.0 - b2);
        let (c1, c2) = (1.0 - b1.powi(step as i32), 1.0 - b2.powi(step as i32));
        let mut denominator = &*moving.second / c2;
        let _ = denominator.sqrt_().g_add_scalar_(self.epsilon);
        // Norms' weights and biases are not decayed.
        let _ = moving.weights.multiply_(&(1.0 - decayed * (rate * self.weight_decay)));
        let _ = moving.weights.subtract_(&(&*moving.first / denominator * (rate / c1)));
        norm.to_kind(Kind::Float)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[f32]) -> Tensor {
        Tensor::from_slice(values)
    }

    /// As `torch.optim.AdamW(lr=0.1, betas=(0.9, 0.99), weight_decay=0.01)`: after the first step every weight moves by the learning
    /// rate against its gradient's sign, after the decay. The third is not decayed.
    #[test]
    fn first_step_moves_by_the_rate() {
        let (mut weights, mut first, mut second) = (row(&[1.0, -2.0, 3.0]), row(&[0.0; 3]), row(&[0.0; 3]));
        let moving = Moving { weights: &mut weights, first: &mut first, second: &mut second };
        let norm = AdamW::default().step(moving, row(&[0.3, -0.2, 0.1]), &row(&[1.0, 1.0, 0.0]), 1, 0.1);
        assert!((norm.double_value(&[]) - 0.14f64.sqrt()).abs() < 1e-6);
        let got: Vec<f32> = Vec::try_from(&weights).unwrap();
        let want = [1.0 * (1.0 - 0.001) - 0.1, -2.0 * (1.0 - 0.001) + 0.1, 3.0 - 0.1];
        assert!(got.iter().zip(want).all(|(g, w)| (f64::from(*g) - w).abs() < 1e-5), "{got:?}");
    }

    /// By hand: the gradient 3, 4 of norm 5 is cut to 0.6, 0.8.
    #[test]
    fn a_long_gradient_is_cut() {
        let (mut weights, mut first, mut second) = (row(&[0.0; 2]), row(&[0.0; 2]), row(&[0.0; 2]));
        let moving = Moving { weights: &mut weights, first: &mut first, second: &mut second };
        let norm = AdamW::default().step(moving, row(&[3.0, 4.0]), &row(&[0.0; 2]), 1, 0.1);
        assert!((norm.double_value(&[]) - 5.0).abs() < 1e-6);
        assert!((first.double_value(&[0]) - 0.06).abs() < 1e-6 && (second.double_value(&[1]) - 0.0064).abs() < 1e-6);
    }
}
