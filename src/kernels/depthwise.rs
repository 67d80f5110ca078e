//! Depthwise convolutions: every channel by itself.
//!
//! Channels last, so a vector holds neighbouring channels of one position and nothing has to be shuffled. A few
//! outputs of a row are computed at once: a position that was loaded serves all of them.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::{Clamp, load, store};

/// Sizes of a convolution over a map of rows and columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Rows and columns of the input.
    pub size: [usize; 2],
    /// Rows and columns of the kernel.
    pub kernel: [usize; 2],
    /// Steps down and across.
    pub strides: [usize; 2],
    /// Zeros above and to the left.
    pub before: [usize; 2],
    /// Zeros below and to the right.
    pub after: [usize; 2],
}

impl Geometry {
    /// Rows and columns of the output; none when the kernel does not fit.
    pub fn output(&self) -> Option<[usize; 2]> {
        let side = |axis: usize| {
            let padded = self.size[axis] + self.before[axis] + self.after[axis];
            let room = padded.checked_sub(self.kernel[axis])?;
            Some(room / self.strides[axis].max(1) + 1)
        };
        Some([side(0)?, side(1)?])
    }
}

/// A depthwise convolution with bias and limits, ready to run.
#[derive(Debug, Clone)]
pub struct Depthwise {
    arch: Arch,
    geometry: Geometry,
    output: [usize; 2],
    channels: usize,
    /// `[kernel rows * kernel columns][channels]`.
    weights: Vec<f32>,
    bias: Vec<f32>,
    clamp: Clamp,
}

impl Depthwise {
    /// `weights` are row-major `[kernel rows, kernel columns, channels]`; `bias` has a number for each
    /// channel, or none. Returns `None` when lengths do not fit.
    pub fn new(
        geometry: Geometry,
        channels: usize,
        weights: Vec<f32>,
        bias: &[f32],
        clamp: Clamp,
    ) -> Option<Self> {
        let output = geometry.output()?;
        let taps = geometry.kernel[0] * geometry.kernel[1];
        if channels == 0
            || taps == 0
            || weights.len() != taps * channels
            || !(bias.is_empty() || bias.len() == channels)
        {
            return None;
        }
        let mut bias = bias.to_vec();
        bias.resize(channels, 0.0);
        Some(Self {
            arch: Arch::new(),
            geometry,
            output,
            channels,
            weights,
            bias,
            clamp,
        })
    }

    /// The same on other instructions than this machine's best.
    pub fn on(self, arch: Arch) -> Self {
        Self { arch, ..self }
    }

    /// Rows and columns of the output.
    pub fn output(&self) -> [usize; 2] {
        self.output
    }

    /// Channels of input and output.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Its sizes.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Bytes that the weights take.
    pub fn bytes(&self) -> usize {
        4 * (self.weights.len() + self.bias.len())
    }

    /// Rows `rows` of the output, into `out`. `input` holds rows of the input (`[rows, columns, channels]`)
    /// from `first` on, as many as are needed.
    ///
    /// # Panics
    /// When a row that is needed is not there, or `out` does not have the length that `rows` asks for.
    pub fn run(&self, input: &[f32], first: usize, rows: Range<usize>, out: &mut [f32]) {
        assert_eq!(out.len(), rows.len() * self.output[1] * self.channels);
        assert!(rows.end <= self.output[0]);
        self.arch.dispatch(Run {
            convolution: self,
            input,
            first,
            start: rows.start,
            out,
        });
    }

    /// The same in plain Rust.
    pub fn reference(&self, input: &[f32], out: &mut [f32]) {
        let g = &self.geometry;
        for y in 0..self.output[0] {
            for x in 0..self.output[1] {
                for channel in 0..self.channels {
                    let mut sum = f64::from(self.bias[channel]);
                    for ky in 0..g.kernel[0] {
                        for kx in 0..g.kernel[1] {
                            let (Some(row), Some(column)) = (
                                (y * g.strides[0] + ky).checked_sub(g.before[0]),
                                (x * g.strides[1] + kx).checked_sub(g.before[1]),
                            ) else {
                                continue;
                            };
                            if row < g.size[0] && column < g.size[1] {
                                let value =
                                    input[(row * g.size[1] + column) * self.channels + channel];
                                let tap = (ky * g.kernel[1] + kx) * self.channels + channel;
                                sum += f64::from(value) * f64::from(self.weights[tap]);
                            }
                        }
                    }
                    out[(y * self.output[1] + x) * self.channels + channel] =
                        self.clamp.apply(sum as f32);
                }
            }
        }
    }
}

struct Run<'a> {
    convolution: &'a Depthwise,
    input: &'a [f32],
    first: usize,
    start: usize,
    out: &'a mut [f32],
}

impl WithSimd for Run<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Run {
            convolution,
            input,
            first,
            start,
            out,
        } = self;
        let g = &convolution.geometry;
        let width = convolution.output[1] * convolution.channels;
        for (y, out) in out.chunks_exact_mut(width).enumerate() {
            let row = Row::new(simd, convolution, input, first, start + y);
            match (g.kernel[1], g.strides[1]) {
                (3, 1) => row.run::<3, 1>(out),
                (3, 2) => row.run::<3, 2>(out),
                (5, 1) => row.run::<5, 1>(out),
                (5, 2) => row.run::<5, 2>(out),
                _ => row.run_any(out),
            }
        }
    }
}

/// One row of outputs.
struct Row<'a, S: Simd> {
    simd: S,
    convolution: &'a Depthwise,
    input: &'a [f32],
    /// Row of the input under the kernel's first row, counted from the padding's beginning.
    top: usize,
    /// Row of the padded input that `input` begins with.
    first: usize,
    /// Rows of the kernel that lie within the input.
    taps: Range<usize>,
    /// Outputs whose kernels lie within the row.
    inside: Range<usize>,
    limits: (S::f32s, S::f32s),
}

impl<'a, S: Simd> Row<'a, S> {
    #[inline(always)]
    fn new(simd: S, convolution: &'a Depthwise, input: &'a [f32], first: usize, y: usize) -> Self {
        let g = &convolution.geometry;
        let top = y * g.strides[0];
        let above = g.before[0].saturating_sub(top).min(g.kernel[0]);
        let end = (g.size[0] + g.before[0])
            .saturating_sub(top)
            .min(g.kernel[0]);
        let width = convolution.output[1];
        let from = g.before[1].div_ceil(g.strides[1]).min(width);
        let to = match (g.size[1] + g.before[1]).checked_sub(g.kernel[1]) {
            Some(room) => (room / g.strides[1] + 1).clamp(from, width),
            None => from,
        };
        let (least, most) = convolution.clamp.limits();
        Self {
            simd,
            convolution,
            input,
            top,
            first: first + g.before[0],
            taps: above..end.max(above),
            inside: from..to,
            limits: (simd.splat_f32s(least), simd.splat_f32s(most)),
        }
    }

    /// All outputs; `K` and `STRIDE` are the kernel's width and step.
    #[inline(always)]
    fn run<const K: usize, const STRIDE: usize>(&self, out: &mut [f32]) {
        let width = self.convolution.output[1];
        let channels = self.convolution.channels;
        let whole = channels / S::F32_LANES * S::F32_LANES;
        for start in (0..whole).step_by(S::F32_LANES) {
            for x in 0..self.inside.start {
                self.edge(x, start, S::F32_LANES, out);
            }
            let mut x = self.inside.start;
            while x < self.inside.end {
                x += match self.inside.end - x {
                    8.. => self.tile::<K, STRIDE, 8>(x, start, out),
                    4.. => self.tile::<K, STRIDE, 4>(x, start, out),
                    2.. => self.tile::<K, STRIDE, 2>(x, start, out),
                    _ => self.tile::<K, STRIDE, 1>(x, start, out),
                };
            }
            for x in x..width {
                self.edge(x, start, S::F32_LANES, out);
            }
        }
        if whole < channels {
            for x in 0..width {
                self.edge(x, whole, channels - whole, out);
            }
        }
    }

    /// All outputs, for kernels that [`Row::run`] is not made for.
    #[inline(always)]
    fn run_any(&self, out: &mut [f32]) {
        let channels = self.convolution.channels;
        for start in (0..channels).step_by(S::F32_LANES) {
            for x in 0..self.convolution.output[1] {
                self.edge(x, start, S::F32_LANES.min(channels - start), out);
            }
        }
    }

    /// `R` outputs from `x` on, a vector of channels from `start` on. Returns `R`.
    #[inline(always)]
    fn tile<const K: usize, const STRIDE: usize, const R: usize>(
        &self,
        x: usize,
        start: usize,
        out: &mut [f32],
    ) -> usize {
        let simd = self.simd;
        let g = &self.convolution.geometry;
        let channels = self.convolution.channels;
        let mut sums = [whole::<S>(&self.convolution.bias, start); R];
        for ky in self.taps.clone() {
            let above = (self.top + ky - self.first) * g.size[1];
            let positions = &self.input[(above + x * STRIDE - g.before[1]) * channels + start..];
            let weights = &self.convolution.weights[ky * K * channels + start..];
            let weights: [S::f32s; K] =
                std::array::from_fn(|kx| whole::<S>(weights, kx * channels));
            for p in 0..(R - 1) * STRIDE + K {
                let value = whole::<S>(positions, p * channels);
                for kx in 0..K {
                    if p >= kx && (p - kx) % STRIDE == 0 && (p - kx) / STRIDE < R {
                        let r = (p - kx) / STRIDE;
                        sums[r] = simd.mul_add_e_f32s(value, weights[kx], sums[r]);
                    }
                }
            }
        }
        for (r, sum) in sums.into_iter().enumerate() {
            self.write(x + r, start, S::F32_LANES, sum, out);
        }
        R
    }

    /// One output, of which part of the kernel may lie outside.
    #[inline(always)]
    fn edge(&self, x: usize, start: usize, count: usize, out: &mut [f32]) {
        let simd = self.simd;
        let g = &self.convolution.geometry;
        let channels = self.convolution.channels;
        let left = x * g.strides[1];
        let first = g.before[1].saturating_sub(left).min(g.kernel[1]);
        let end = (g.size[1] + g.before[1])
            .saturating_sub(left)
            .min(g.kernel[1]);
        let mut sum = load(simd, &self.convolution.bias[start..start + count]);
        for ky in self.taps.clone() {
            let above = (self.top + ky - self.first) * g.size[1];
            for kx in first..end {
                let at = (above + left + kx - g.before[1]) * channels + start;
                let tap = (ky * g.kernel[1] + kx) * channels + start;
                let value = load(simd, &self.input[at..at + count]);
                let weight = load(simd, &self.convolution.weights[tap..tap + count]);
                sum = simd.mul_add_e_f32s(value, weight, sum);
            }
        }
        self.write(x, start, count, sum, out);
    }

    #[inline(always)]
    fn write(&self, x: usize, start: usize, count: usize, value: S::f32s, out: &mut [f32]) {
        let (least, most) = self.limits;
        let value = self.simd.min_f32s(self.simd.max_f32s(value, least), most);
        let at = x * self.convolution.channels + start;
        store(self.simd, &mut out[at..at + count], value);
    }
}

/// The vector at a place.
#[inline(always)]
fn whole<S: Simd>(values: &[f32], at: usize) -> S::f32s {
    S::as_simd_f32s(&values[at..at + S::F32_LANES]).0[0]
}
