//! The inner loops of the networks: matrix products with int8 weights, on activations in f32 or brought to int8 as
//! well, depthwise convolutions, attention, norms, and activation functions. They work on activations that are stored
//! channels last (row-major `[positions, channels]`).
//!
//! The loops in f32 are written once, on [`pulp`], for AVX2, AVX-512 and NEON; the integer tiles once for each
//! ([`Dot`]). Which one is chosen at run time. Each has a reference in plain Rust beside it ([`Linear::reference`],
//! [`Depthwise::reference`]) that tests compare with.

// Several arrays share an index in these loops; one of them as an iterator reads no better.
#![allow(clippy::needless_range_loop)]

mod activation;
mod attention;
mod convnet;
mod depthwise;
mod dot;
mod exp;
mod integer;
mod linear;
mod norm;
mod tiles;

pub use activation::Activation;
pub use attention::{Attention, Heads, Mask, Positions};
pub use convnet::{Convnet, Layer, Memory, Operation, Shape};
pub use depthwise::{Depthwise, Geometry};
pub use dot::Dot;
pub use linear::{Linear, Weights};
pub use norm::Norm;
pub use pulp::Arch;
use pulp::Simd;

/// Working memory of products and attention, to be used again.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Some columns of weights in f32.
    panel: Vec<f32>,
    /// Rows of activations in int8, and a scale for each.
    codes: Vec<u8>,
    scales: Vec<f32>,
    /// A head's queries, and what they give to each position.
    queries: Vec<f32>,
    scores: Vec<f32>,
}

/// Whether this machine has vector instructions that the loops are written for. Where it has none, tract's
/// own kernels are the better choice.
pub fn is_vectorised() -> bool {
    !matches!(Arch::new(), Arch::Scalar)
}

/// The instruction sets that this machine has, the best first: what [`Linear::on`] and
/// [`Depthwise::on`] can be given.
pub fn instruction_sets() -> Vec<Arch> {
    let best = Arch::new();
    // A machine with AVX-512 has AVX2 as well.
    #[cfg(target_arch = "x86_64")]
    let second = match best {
        Arch::V4(_) => pulp::x86::V3::try_new().map(Arch::V3),
        _ => None,
    };
    #[cfg(not(target_arch = "x86_64"))]
    let second = None;
    let plain = is_vectorised().then_some(Arch::Scalar);
    [Some(best), second, plain].into_iter().flatten().collect()
}

/// Channels that weights are padded to: the widest vector there is (AVX-512), so that packed weights do not
/// depend on the machine.
pub(crate) const GROUP: usize = 16;

/// What is done with a sum of products before it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Clamp {
    /// Least value; none for no limit.
    pub least: Option<f32>,
    /// Greatest value.
    pub most: Option<f32>,
}

impl Clamp {
    /// The limits as numbers.
    #[inline(always)]
    pub(crate) fn limits(self) -> (f32, f32) {
        (
            self.least.unwrap_or(f32::NEG_INFINITY),
            self.most.unwrap_or(f32::INFINITY),
        )
    }

    /// A value within the limits.
    pub(crate) fn apply(self, value: f32) -> f32 {
        let (least, most) = self.limits();
        value.max(least).min(most)
    }
}

/// Loads a whole vector, or the beginning of one.
#[inline(always)]
fn load<S: Simd>(simd: S, from: &[f32]) -> S::f32s {
    match S::as_simd_f32s(from) {
        ([whole], []) => *whole,
        _ => simd.partial_load_f32s(from),
    }
}

/// Stores a whole vector, or the beginning of one.
#[inline(always)]
fn store<S: Simd>(simd: S, to: &mut [f32], value: S::f32s) {
    if to.len() == S::F32_LANES {
        S::as_mut_simd_f32s(to).0[0] = value;
    } else {
        simd.partial_store_f32s(to, value);
    }
}

/// Sum of a row.
#[inline(always)]
fn sum<S: Simd>(simd: S, row: &[f32]) -> f32 {
    let (vectors, rest) = S::as_simd_f32s(row);
    let mut sum = simd.splat_f32s(0.0);
    for &vector in vectors {
        sum = simd.add_f32s(sum, vector);
    }
    simd.reduce_sum_f32s(sum) + rest.iter().sum::<f32>()
}
