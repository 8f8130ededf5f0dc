//! AdamW (Loshchilov & Hutter 2019, algorithm 2) over named parameters, with its state in the open: tch's optimisers can
//! neither save nor load theirs.

use std::collections::BTreeMap;
use tch::Tensor;

/// The constants of the update.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    pub betas: [f64; 2],
    pub epsilon: f64,
    pub weight_decay: f64,
    /// The gradient's norm over all parameters is cut to this.
    pub clip: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        Self { betas: [0.9, 0.99], epsilon: 1e-8, weight_decay: 0.01, clip: 1.0 }
    }
}

/// First and second moments by parameter name.
#[derive(Default)]
pub struct Moments {
    pub first: BTreeMap<String, Tensor>,
    pub second: BTreeMap<String, Tensor>,
}

impl AdamW {
    /// One update (`step` counts from 1). Parameters without a gradient stay. Returns the gradient's norm before clipping.
    pub fn step(&self, params: &[(String, Tensor)], moments: &mut Moments, step: u64, rate: f64) -> f64 {
        let _guard = tch::no_grad_guard();
        let grads: Vec<(usize, Tensor)> =
            params.iter().enumerate().map(|(i, (_, p))| (i, p.grad())).filter(|(_, g)| g.defined()).collect();
        let norms: Vec<Tensor> = grads.iter().map(|(_, g)| g.norm()).collect();
        if norms.is_empty() {
            return 0.0;
        }
        let norm = Tensor::stack(&norms, 0).norm().double_value(&[]);
        let scale = if norm > self.clip { self.clip / (norm + 1e-6) } else { 1.0 };
        for (i, grad) in grads {
            let (name, param) = &params[i];
            self.update(name, &mut param.shallow_clone(), &(grad * scale), moments, step, rate);
        }
        norm
    }

    fn update(&self, name: &str, p: &mut Tensor, g: &Tensor, moments: &mut Moments, step: u64, rate: f64) {
        let [b1, b2] = self.betas;
        let first = moments.first.entry(name.to_owned()).or_insert_with(|| p.zeros_like());
        let second = moments.second.entry(name.to_owned()).or_insert_with(|| p.zeros_like());
        let _ = first.lerp_(g, 1.0 - b1);
        let _ = second.g_mul_scalar_(b2).addcmul_scaled(g, 1.0 - b2);
        let (c1, c2) = (1.0 - b1.powi(step as i32), 1.0 - b2.powi(step as i32));
        let denominator = (&*second / c2).sqrt_() + self.epsilon;
        if p.dim() > 1 {
            // Norm weights and biases are not decayed.
            let _ = p.g_mul_scalar_(1.0 - rate * self.weight_decay);
        }
        let _ = p.subtract_(&(&*first / denominator * (rate / c1)));
    }
}

trait AddSquared {
    fn addcmul_scaled(&mut self, g: &Tensor, weight: f64) -> Tensor;
}

impl AddSquared for Tensor {
    /// `self += weight g²`, in place.
    fn addcmul_scaled(&mut self, g: &Tensor, weight: f64) -> Tensor {
        self.g_add_(&(g * g * weight))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    /// Expected values computed with `torch.optim.AdamW(lr=0.1, betas=(0.9, 0.99), weight_decay=0.01)` by hand: after the
    /// first step every weight moves by the learning rate against its gradient's sign, after the decay.
    #[test]
    fn first_step_moves_by_the_rate() {
        let p = Tensor::from_slice(&[1.0f32, -2.0]).reshape([1, 2]).set_requires_grad(true);
        (&p * Tensor::from_slice(&[0.3f32, -0.2])).sum(Kind::Float).backward();
        let mut moments = Moments::default();
        let norm = AdamW::default().step(&[("p".into(), p.shallow_clone())], &mut moments, 1, 0.1);
        assert!((norm - 0.130f64.sqrt()).abs() < 1e-6);
        let got: Vec<f32> = Vec::try_from(p.detach().to_device(Device::Cpu).flatten(0, -1)).unwrap();
        let want = [1.0 * (1.0 - 0.001) - 0.1, -2.0 * (1.0 - 0.001) + 0.1];
        assert!(got.iter().zip(want).all(|(g, w)| (f64::from(*g) - w).abs() < 1e-5), "{got:?}");
    }
}
