//! The inner loops of the networks: matrix products with int8 weights and depthwise convolutions, on
//! activations that are stored channels last (row-major `[positions, channels]`).
//!
//! The loops are written once, on [`pulp`], for AVX2, AVX-512
//! and NEON; which one is chosen at run time. Each has a reference in plain Rust beside it ([`Linear::reference`],
//! [`Depthwise::reference`]) that tests compare with.

// Several arrays share an index in these loops; one of them as an iterator reads no better.
#![allow(clippy::needless_range_loop)]

mod convnet;
mod depthwise;
mod linear;

pub use convnet::{Convnet, Layer, Memory, Operation, Shape};
pub use depthwise::{Depthwise, Geometry};
pub use linear::{Linear, Weights};

/// Whether this machine has vector instructions that the loops are written for. Where it has none, tract's
/// own kernels are the better choice.
pub fn is_vectorised() -> bool {
    !matches!(pulp::Arch::new(), pulp::Arch::Scalar)
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
