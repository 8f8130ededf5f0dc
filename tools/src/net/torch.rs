//! Plays a network on libtorch.

use super::params::Params;
use super::{Conv, Init, Layers};
use tch::{Kind, Tensor};

/// A player over a set of parameters. It computes in their precision: what comes in is cast to it.
pub struct Torch<'a>(pub &'a Params);

impl Torch<'_> {
    fn bias(&self, name: &str, size: i64, init: Init) -> Tensor {
        // A zeroed layer has a zero bias; the others are drawn like PyTorch's, within the weight's bound, from zero here:
        // a bias of zero trains as well and keeps the start free of offsets.
        let init = if init == Init::One { Init::One } else { Init::Zero };
        self.0.get(&format!("{name}.bias"), &[size], init)
    }

    fn weight(&self, name: &str, shape: &[i64], init: Init) -> Tensor {
        self.0.get(&format!("{name}.weight"), shape, init)
    }
}

impl Layers for Torch<'_> {
    type T = Tensor;

    fn conv(&self, name: &str, x: &Tensor, conv: Conv) -> Tensor {
        let weight = self.weight(name, &[conv.to, conv.from, conv.kernel, conv.kernel], conv.init);
        let bias = self.bias(name, conv.to, conv.init);
        let (stride, padding) = ([conv.stride; 2], [conv.padding; 2]);
        x.to_kind(weight.kind()).conv2d(&weight, Some(&bias), stride, padding, [1, 1], 1)
    }

    fn linear(&self, name: &str, x: &Tensor, from: i64, to: i64, init: Init) -> Tensor {
        let weight = self.weight(name, &[to, from], init);
        x.to_kind(weight.kind()).linear(&weight, Some(&self.bias(name, to, init)))
    }

    fn group_norm(&self, name: &str, x: &Tensor, groups: i64, channels: i64, affine: bool) -> Tensor {
        if !affine {
            return x.group_norm(groups, None::<&Tensor>, None::<&Tensor>, 1e-5, true);
        }
        let weight = self.weight(name, &[channels], Init::One);
        let bias = self.bias(name, channels, Init::Zero);
        x.to_kind(weight.kind()).group_norm(groups, Some(&weight), Some(&bias), 1e-5, true)
    }

    fn layer_norm(&self, name: &str, x: &Tensor, width: i64, eps: f64) -> Tensor {
        let weight = self.weight(name, &[width], Init::One);
        let bias = self.bias(name, width, Init::Zero);
        x.to_kind(weight.kind()).layer_norm([width], Some(&weight), Some(&bias), eps, true)
    }

    fn embedding(&self, name: &str, ids: &Tensor, rows: i64, width: i64) -> Tensor {
        Tensor::embedding(&self.weight(name, &[rows, width], Init::Normal(0.05)), ids, -1, false, false)
    }

    fn table(&self, name: &str, rows: i64, used: i64, width: i64) -> Tensor {
        self.weight(name, &[rows, width], Init::Normal(0.02)).narrow(0, 0, used).unsqueeze(0)
    }

    fn silu(&self, x: &Tensor) -> Tensor {
        x.silu()
    }

    fn gelu(&self, x: &Tensor) -> Tensor {
        x.gelu("none")
    }

    fn add(&self, a: &Tensor, b: &Tensor) -> Tensor {
        a + b
    }

    fn mul(&self, a: &Tensor, b: &Tensor) -> Tensor {
        a * b
    }

    fn add_scalar(&self, x: &Tensor, value: f64) -> Tensor {
        x + value
    }

    fn normalise(&self, x: &Tensor, mean: &[f32], deviation: &[f32]) -> Tensor {
        let wide = |values: &[f32]| Tensor::from_slice(values).reshape([1, -1, 1, 1]).to_device(x.device());
        (x - wide(mean)) / wide(deviation)
    }

    fn concat(&self, parts: &[&Tensor], axis: i64) -> Tensor {
        Tensor::cat(parts, axis)
    }

    fn halves(&self, x: &Tensor) -> (Tensor, Tensor) {
        let half = x.size()[1] / 2;
        (x.narrow(1, 0, half), x.narrow(1, half, half))
    }

    fn token(&self, x: &Tensor, index: i64) -> Tensor {
        x.select(1, index)
    }

    fn sum_tokens(&self, x: &Tensor) -> Tensor {
        x.sum_dim_intlist([1i64].as_slice(), false, x.kind())
    }

    fn greatest(&self, x: &Tensor) -> Tensor {
        x.argmax(1, false)
    }

    fn lookup(&self, name: &str, at: &Tensor, rows: i64, width: i64) -> Tensor {
        self.0.get(name, &[rows, width], Init::Zero).index_select(0, at).to_kind(Kind::Int64)
    }

    fn numbers(&self, name: &str, at: &Tensor, count: i64) -> Tensor {
        let found = self.0.get(name, &[count], Init::Zero).index_select(0, &at.flatten(0, -1));
        found.reshape(at.size()).to_kind(Kind::Int64)
    }

    fn reshape(&self, x: &Tensor, rest: &[i64]) -> Tensor {
        x.reshape([&[x.size()[0]], rest].concat())
    }

    fn to_tokens(&self, x: &Tensor) -> Tensor {
        x.flatten(2, 3).transpose(1, 2)
    }

    fn to_map(&self, x: &Tensor, height: i64, width: i64) -> Tensor {
        let size = x.size();
        x.transpose(1, 2).reshape([size[0], size[2], height, width])
    }

    fn pixel_shuffle(&self, x: &Tensor, r: i64) -> Tensor {
        x.pixel_shuffle(r)
    }

    fn pixel_unshuffle(&self, x: &Tensor, r: i64) -> Tensor {
        x.pixel_unshuffle(r)
    }

    fn attention(&self, q: &Tensor, k: &Tensor, v: &Tensor, heads: i64, mask: Option<&Tensor>) -> Tensor {
        let split = |x: &Tensor| {
            let size = x.size();
            x.reshape([size[0], size[1], heads, size[2] / heads]).transpose(1, 2)
        };
        let bias = mask.map(|m| ((m - 1.0) * 1e4).unsqueeze(1).unsqueeze(1).to_kind(q.kind()));
        let (q, k, v) = (split(q), split(k), split(v));
        let out = Tensor::scaled_dot_product_attention(&q, &k, &v, bias.as_ref(), 0.0, false, None, false);
        let size = out.size();
        out.transpose(1, 2).reshape([size[0], size[2], size[1] * size[3]])
    }

    fn not_equal(&self, ids: &Tensor, pad: i64) -> Tensor {
        ids.ne(pad).to_kind(Kind::Float)
    }

    fn unsqueeze_last(&self, x: &Tensor) -> Tensor {
        x.unsqueeze(-1)
    }

    fn sinusoid(&self, t: &Tensor, dim: i64) -> Tensor {
        let half = dim / 2;
        let steps = Tensor::arange(half, (Kind::Float, t.device()));
        let angles = t.unsqueeze(1) * (steps * (-(10_000f64.ln()) / half as f64)).exp().unsqueeze(0);
        Tensor::cat(&[angles.cos(), angles.sin()], 1)
    }
}
