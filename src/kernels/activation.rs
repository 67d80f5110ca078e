//! Activation functions that are a number times a gate of itself.

use pulp::{Arch, Simd, WithSimd};

use super::exp::exp;

/// Which function.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// `x / 2 (1 + erf(x / sqrt 2))`: GELU (Hendrycks and Gimpel, arXiv 1606.08415).
    Gelu,
    /// GELU by the hyperbolic tangent, section 2 there.
    TanhGelu,
    /// `x / (1 + e^-ax)`, with a = 1.702 as GELU there, with 1 SiLU.
    Sigmoid(f32),
}

impl Activation {
    /// Puts the function of each number in its place.
    pub fn run(self, arch: Arch, values: &mut [f32]) {
        arch.dispatch(Run {
            activation: self,
            values,
        });
    }

    /// The same of one number, in f64.
    pub fn reference(self, x: f64) -> f64 {
        match self {
            Self::Gelu => x / 2.0 * (1.0 + series_erf(x / 2f64.sqrt())),
            Self::TanhGelu => x / 2.0 * (1.0 + tanh_inner(x).tanh()),
            Self::Sigmoid(a) => x / (1.0 + (-f64::from(a) * x).exp()),
        }
    }
}

fn tanh_inner(x: f64) -> f64 {
    (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))
}

/// erf by a series without differences (Abramowitz and Stegun, 7.1.6), beyond 6 its limit: for comparisons.
fn series_erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..300 {
        term *= 2.0 * x * x / f64::from(2 * n + 1);
        sum += term;
    }
    sum * (-x * x).exp() * std::f64::consts::FRAC_2_SQRT_PI
}

struct Run<'a> {
    activation: Activation,
    values: &'a mut [f32],
}

impl WithSimd for Run<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Run { activation, values } = self;
        match activation {
            Activation::Gelu => values.iter_mut().for_each(|x| *x = gelu(*x)),
            Activation::TanhGelu => {
                // 1 + tanh u = 2 / (1 + e^-2u)
                const A: f32 = 1.595_769; // 2 sqrt(2 / pi)
                for x in values {
                    let inner = A * (*x + 0.044715 * *x * *x * *x);
                    *x /= 1.0 + exp(at_most(-inner, 88.0));
                }
            }
            Activation::Sigmoid(a) => {
                for x in values {
                    *x /= 1.0 + exp(at_most(-a * *x, 88.0));
                }
            }
        }
    }
}

/// Not `min`: what is no number must stay so.
#[inline(always)]
fn at_most(x: f32, most: f32) -> f32 {
    if x > most { most } else { x }
}

/// With erf by Abramowitz and Stegun, 7.1.26, whose error is at most 1.5e-7.
#[inline(always)]
fn gelu(x: f32) -> f32 {
    const P: f32 = 0.327_591_1;
    const A: [f32; 5] = [
        1.061_405_4,
        -1.453_152,
        1.421_413_7,
        -0.284_496_74,
        0.254_829_6,
    ];
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + P * z);
    let mut sum = 0.0;
    for a in A {
        sum = (sum + a) * t;
    }
    let erf = 1.0 - sum * exp(-z * z);
    0.5 * x * (1.0 + erf.copysign(x))
}
