//! All parameters of a network in one row of numbers: an update is a handful of operations, whatever the number of layers.

use crate::net::params::Params;
use anyhow::{Result, ensure};
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

/// Parameters start at multiples of so many numbers, so that every one is aligned as a whole allocation is.
const ALIGNMENT: i64 = 64;

/// Where each parameter lies in a row.
pub struct Layout {
    places: Vec<Place>,
    length: i64,
    device: Device,
}

struct Place {
    name: String,
    shape: Vec<i64>,
    start: i64,
}

impl Place {
    fn count(&self) -> i64 {
        self.shape.iter().product()
    }

    fn padded(&self) -> i64 {
        (self.count() + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT
    }
}

impl Layout {
    /// The parameters in the order of their names, and the row that holds them.
    pub fn of(params: &Params) -> (Self, Tensor) {
        let mut layout = Self { places: Vec::new(), length: 0, device: params.device() };
        let all = params.all();
        for (name, tensor) in &all {
            let place = Place { name: name.clone(), shape: tensor.size(), start: layout.length };
            layout.length += place.padded();
            layout.places.push(place);
        }
        let row = layout.zeros();
        for (place, (_, tensor)) in layout.places.iter().zip(&all) {
            layout.part(&row, place).copy_(&tensor.detach());
        }
        (layout, row)
    }

    /// A row of zeros.
    pub fn zeros(&self) -> Tensor {
        Tensor::zeros([self.length], (Kind::Float, self.device))
    }

    /// A row with the values of `tensors`.
    ///
    /// # Errors
    /// If a parameter is missing or has another shape.
    pub fn join(&self, tensors: &BTreeMap<String, Tensor>) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let row = self.zeros();
        for place in &self.places {
            let name = &place.name;
            let Some(tensor) = tensors.get(name) else { anyhow::bail!("no value for the parameter {name}") };
            let (found, wanted) = (tensor.size(), &place.shape);
            ensure!(&found == wanted, "{name}: has shape {found:?}, the network wants {wanted:?}");
            self.part(&row, place).copy_(&tensor.detach());
        }
        Ok(row)
    }

    /// The parameters of a row by name; they share its memory.
    pub fn split(&self, row: &Tensor) -> BTreeMap<String, Tensor> {
        self.places.iter().map(|place| (place.name.clone(), self.part(row, place))).collect()
    }

    /// 1 where a number belongs to a matrix or a kernel, 0 in norms' weights and in biases.
    pub fn matrices(&self) -> Tensor {
        let row = self.zeros();
        for place in self.places.iter().filter(|p| p.shape.len() > 1) {
            let _ = self.part(&row, place).fill_(1.0);
        }
        row
    }

    /// The gradients of `loss` with respect to `leaves` (of [`Layout::split`]), as a row of f32. Where a parameter has no part in the
    /// loss its gradient is 0, and `absent` is called with its part of other rows.
    pub fn gradients(
        &self,
        loss: &Tensor,
        leaves: &BTreeMap<String, Tensor>,
        mut absent: impl FnMut(i64, i64),
    ) -> Tensor {
        let wanted: Vec<&Tensor> = leaves.values().collect();
        let found = Tensor::run_backward(&[loss], &wanted, false, false);
        let _guard = tch::no_grad_guard();
        let kind = wanted.first().map_or(Kind::Float, |leaf| leaf.kind());
        let zeros = Tensor::zeros([ALIGNMENT], (kind, self.device));
        let mut parts = Vec::with_capacity(2 * found.len());
        for (place, gradient) in self.places.iter().zip(found) {
            let (count, padded) = (place.count(), place.padded());
            if !gradient.defined() {
                absent(place.start, count);
                parts.push(Tensor::zeros([padded], (kind, self.device)));
                continue;
            }
            parts.push(gradient.reshape([-1]));
            if padded > count {
                parts.push(zeros.narrow(0, 0, padded - count));
            }
        }
        Tensor::cat(&parts, 0).to_kind(Kind::Float)
    }

    fn part(&self, row: &Tensor, place: &Place) -> Tensor {
        row.narrow(0, place.start, place.count()).view(place.shape.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Init, Layers, torch::Torch};

    fn params() -> Params {
        let params = Params::fresh(3, Device::Cpu);
        let x = Tensor::zeros([1, 5], (Kind::Float, Device::Cpu));
        let _ = Torch(&params).linear("a", &x, 5, 7, Init::FanIn);
        let _ = Torch(&params).linear("b", &x, 5, 2, Init::FanIn);
        params
    }

    #[test]
    fn a_row_holds_what_was_joined_and_shares_its_memory() {
        let _lock = crate::net::params::generator_lock();
        let params = params();
        let (layout, row) = Layout::of(&params);
        assert!(row.equal(&layout.join(&params.map()).unwrap()));
        let parts = layout.split(&row);
        assert!(params.map().iter().all(|(name, t)| t.equal(&parts[name])));
        let _ = row.shallow_clone().fill_(2.0);
        assert_eq!(parts["b.bias"].double_value(&[1]), 2.0);
        assert_eq!(layout.matrices().sum(Kind::Float).double_value(&[]), 5.0 * 7.0 + 5.0 * 2.0);
        let mut short = params.map();
        short.remove("a.bias");
        assert!(layout.join(&short).unwrap_err().to_string().contains("a.bias"));
    }

    #[test]
    fn gradients_lie_where_their_parameters_do_and_absent_ones_are_told() {
        let _lock = crate::net::params::generator_lock();
        let params = params();
        let (layout, _) = Layout::of(&params);
        let x = Tensor::ones([1, 5], (Kind::Float, Device::Cpu));
        let loss = Torch(&params).linear("b", &x, 5, 2, Init::FanIn).sum(Kind::Float) * 3.0;
        let mut told = Vec::new();
        let row = layout.gradients(&loss, &params.map(), |start, count| told.push((start, count)));
        let parts = layout.split(&row);
        assert_eq!(parts["b.weight"].sum(Kind::Float).double_value(&[]), 30.0);
        assert_eq!(parts["b.bias"].double_value(&[0]), 3.0);
        assert_eq!(row.sum(Kind::Float).double_value(&[]), 36.0);
        assert_eq!(told, [(0, 7), (64, 35)], "both parameters of the layer that the loss does not see");
    }
}
