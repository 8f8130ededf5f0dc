//! The denoiser: a UNet over 16x16x4 latents, conditioned on a timestep and on token states.
//!
//! `encoder_hidden_states` is `(B, T, text)`: token 0 carries the pooled sentence, token 1 the drawing style, the rest
//! the words (see [`super::bert`]). The condition enters through the scale and shift of every residual block, as a spatial
//! map at 4x4 and 8x8, and through cross-attention, where each state is told its position: the states of a sentence hardly say which of
//! two nouns came first.

use super::{Conv, Init, Layers};
use crate::words::LENGTH;
use serde::{Deserialize, Serialize};
use undiffuse::sampler::{SamplerKind, ScheduleConfig};

/// The sizes of a denoiser.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Denoiser {
    /// Channels of the latent.
    pub latent: i64,
    /// Height and width of the latent, a multiple of 4.
    pub size: i64,
    /// Channels at full, half and quarter size.
    pub channels: [i64; 3],
    /// Heads at half and quarter size.
    pub heads: [i64; 2],
    /// Width of a token state.
    pub text: i64,
    /// Width of the condition.
    pub condition: i64,
}

impl Default for Denoiser {
    fn default() -> Self {
        Self { latent: 4, size: 16, channels: [48, 128, 320], heads: [4, 8], text: 384, condition: 384 }
    }
}

/// Time shift of the sampler's grid, which contact sheets use and export writes down (`FlowMatchEulerDiscreteScheduler`'s
/// `shift`).
pub const SHIFT: f64 = 1.82;

/// The schedule of a run of the sampler, as the runtime reads it from what export writes.
pub fn schedule() -> ScheduleConfig {
    ScheduleConfig { shift: SHIFT, ..ScheduleConfig::of_class(SamplerKind::FlowEuler) }
}

/// Where the last step of a student begins that takes more than one.
pub const LAST: f64 = 0.4;

/// The schedule of a few-step student, whose every step ends at a clean sample: fresh noise takes it to the next, as in multistep
/// consistency sampling (Song et al. 2023, algorithm 1).
pub fn few_steps() -> ScheduleConfig {
    ScheduleConfig {
        shift_terminal: Some(LAST),
        stochastic_sampling: true,
        ..ScheduleConfig::of_class(SamplerKind::FlowEuler)
    }
}

const GROUPS: i64 = 8;
const TIME: i64 = 128;
/// Channels of the spatial map at half size, before its 1x1 convolution.
const MAP: i64 = 32;

impl Denoiser {
    /// `sample` `(B, latent, size, size)`, `timestep` `(B)` in 0..1000, `states` `(B, LENGTH, text)` -> as `sample`.
    pub fn forward<L: Layers>(&self, l: &L, sample: &L::T, timestep: &L::T, states: &L::T) -> L::T {
        let [c1, c2, c3] = self.channels;
        let [half, quarter] = [self.size / 2, self.size / 4];
        let cond = self.condition(l, timestep, states);
        let length = LENGTH as i64;
        let states = &l.add(states, &l.table("positions", length, length, self.text));

        let x = l.conv("in", sample, Conv::three(self.latent, c1));
        let skip1 = self.block(l, "down1.0", &x, &cond, c1, c1);

        let x = l.conv("halve1", &skip1, Conv::halve(c1, c2));
        let x = l.add(&x, &self.half_map(l, &cond));
        let skip2a = self.block(l, "down2.0", &x, &cond, c2, c2);
        let x = self.block(l, "down2.1", &skip2a, &cond, c2, c2);
        let skip2b = self.attend(l, "down2.attention", &x, states, c2, half, self.heads[0]);

        let x = l.conv("halve2", &skip2b, Conv::halve(c2, c3));
        let x = l.add(&x, &self.quarter_map(l, &cond));
        let x = self.block(l, "down3.0", &x, &cond, c3, c3);
        let x = self.attend(l, "down3.attention0", &x, states, c3, quarter, self.heads[1]);
        let x = self.block(l, "down3.1", &x, &cond, c3, c3);
        let x = self.attend(l, "down3.attention1", &x, states, c3, quarter, self.heads[1]);
        let x = self.block(l, "middle", &x, &cond, c3, c3);

        let x = l.pixel_shuffle(&l.conv("double2", &x, Conv::one(c3, 4 * c2)), 2);
        let x = self.block(l, "up2.0", &l.concat(&[&x, &skip2b], 1), &cond, 2 * c2, c2);
        let x = self.block(l, "up2.1", &l.concat(&[&x, &skip2a], 1), &cond, 2 * c2, c2);
        let x = self.attend(l, "up2.attention", &x, states, c2, half, self.heads[0]);

        let x = l.pixel_shuffle(&l.conv("double1", &x, Conv::one(c2, 4 * c1)), 2);
        let x = self.block(l, "up1.0", &l.concat(&[&x, &skip1], 1), &cond, 2 * c1, c1);
        let x = self.block(l, "up1.1", &x, &cond, c1, c1);
        let x = l.silu(&l.group_norm("out.norm", &x, GROUPS, c1, true));
        l.conv("out", &x, Conv::three(c1, self.latent).zeroed())
    }

    /// `(B, condition)`, after its SiLU.
    fn condition<L: Layers>(&self, l: &L, timestep: &L::T, states: &L::T) -> L::T {
        let c = self.condition;
        let mlp = |name: &str, x: &L::T, from: i64, hidden: i64| {
            let x = l.silu(&l.linear(&format!("{name}.0"), x, from, hidden, Init::FanIn));
            l.linear(&format!("{name}.1"), &x, hidden, c, Init::FanIn)
        };
        let time = mlp("time", &l.sinusoid(timestep, TIME), TIME, c);
        let pooled = mlp("pooled", &l.token(states, 0), self.text, 512);
        let style = l.linear("style", &l.token(states, 1), self.text, c, Init::FanIn);
        l.silu(&l.add(&l.add(&time, &pooled), &style))
    }

    fn quarter_map<L: Layers>(&self, l: &L, cond: &L::T) -> L::T {
        let (side, c3) = (self.size / 4, self.channels[2]);
        let map = l.linear("map4", cond, self.condition, c3 * side * side, Init::Normal(0.01));
        l.reshape(&map, &[c3, side, side])
    }

    fn half_map<L: Layers>(&self, l: &L, cond: &L::T) -> L::T {
        let side = self.size / 2;
        let map = l.linear("map8", cond, self.condition, MAP * side * side, Init::Normal(0.01));
        l.conv("map8.mix", &l.reshape(&map, &[MAP, side, side]), Conv::one(MAP, self.channels[1]))
    }

    /// Residual block: norm, SiLU, 3x3, norm modulated by the condition, SiLU, 3x3 that starts at zero.
    fn block<L: Layers>(&self, l: &L, name: &str, x: &L::T, cond: &L::T, from: i64, to: i64) -> L::T {
        let h = l.silu(&l.group_norm(&format!("{name}.norm1"), x, GROUPS, from, true));
        let h = l.conv(&format!("{name}.conv1"), &h, Conv::three(from, to));
        let h = l.group_norm(&format!("{name}.norm2"), &h, GROUPS, to, false);
        let modulation = l.linear(&format!("{name}.modulate"), cond, self.condition, 2 * to, Init::FanIn);
        let (scale, shift) = l.halves(&l.reshape(&modulation, &[2 * to, 1, 1]));
        let h = l.add(&l.mul(&h, &l.add_scalar(&scale, 1.0)), &shift);
        let h = l.conv(&format!("{name}.conv2"), &l.silu(&h), Conv::three(to, to).zeroed());
        if from == to {
            return l.add(x, &h);
        }
        l.add(&l.conv(&format!("{name}.skip"), x, Conv::one(from, to)), &h)
    }

    /// Self-attention, then cross-attention to the token states, both residual with a projection that starts at zero.
    #[allow(clippy::too_many_arguments)]
    fn attend<L: Layers>(&self, l: &L, name: &str, x: &L::T, states: &L::T, c: i64, side: i64, heads: i64) -> L::T {
        let tokens = l.to_tokens(x);
        let project = |part: &str, x: &L::T, from: i64| l.linear(&format!("{name}.{part}"), x, from, c, Init::FanIn);
        let close = |part: &str, x: &L::T| l.linear(&format!("{name}.{part}"), x, c, c, Init::Zero);

        let h = l.layer_norm(&format!("{name}.norm1"), &tokens, c, 1e-5);
        let (q, k, v) = (project("self.q", &h, c), project("self.k", &h, c), project("self.v", &h, c));
        let tokens = l.add(&tokens, &close("self.out", &l.attention(&q, &k, &v, heads, None)));

        let h = l.layer_norm(&format!("{name}.norm2"), &tokens, c, 1e-5);
        let q = project("cross.q", &h, c);
        let (k, v) = (project("cross.k", states, self.text), project("cross.v", states, self.text));
        let tokens = l.add(&tokens, &close("cross.out", &l.attention(&q, &k, &v, heads, None)));
        l.to_map(&tokens, side, side)
    }
}
