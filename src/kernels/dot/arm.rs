//! The tiles for NEON, with and without its dot products.

use std::arch::{aarch64::*, asm};

use super::{Cell, GROUP, Lines, Panel, factor_and_scale, tiles};

/// Four columns of a cell.
#[inline]
#[target_feature(enable = "neon")]
fn columns(cell: &Cell, four: usize) -> int8x16_t {
    let part = &cell.as_chunks::<16>().0[four];
    // SAFETY: sixteen codes are a vector's 16 bytes; no alignment is asked for.
    unsafe { vld1q_s8(part.as_ptr()) }
}

/// Four codes of activations, four times.
#[inline]
#[target_feature(enable = "neon")]
fn four_times(codes: [u8; 4]) -> int8x16_t {
    vreinterpretq_s8_s32(vdupq_n_s32(i32::from_ne_bytes(codes)))
}

/// Up to four numbers, zeros behind them.
#[inline]
#[target_feature(enable = "neon")]
fn load(from: &[f32]) -> float32x4_t {
    let mut four = [0.0; 4];
    match from.as_chunks::<4>() {
        ([whole, ..], _) => four = *whole,
        (_, part) => four[..part.len()].copy_from_slice(part),
    }
    // SAFETY: four f32 are a vector's 16 bytes; no alignment is asked for.
    unsafe { vld1q_f32(four.as_ptr()) }
}

/// Stores results of a row, of four columns from the panel's `column` on.
#[inline]
#[target_feature(enable = "neon")]
fn finish(panel: &Panel<'_>, row: usize, column: usize, sums: int32x4_t, out: &mut [f32]) {
    let range = panel.place(row, column, 4);
    let scales = load(&panel.scales[column..][..4]);
    let bias = load(&panel.bias[column..][..4]);
    let value = vmulq_n_f32(vcvtq_f32_s32(sums), panel.row_scales[row]);
    let mut value = vaddq_f32(vmulq_f32(value, scales), bias);
    if let Some(residual) = panel.residual {
        value = vaddq_f32(value, load(&residual[range.clone()]));
    }
    value = vmaxq_f32(value, vdupq_n_f32(panel.limits.0));
    value = vminq_f32(value, vdupq_n_f32(panel.limits.1));
    let mut four = [0.0; 4];
    // SAFETY: four f32 are a vector's 16 bytes; no alignment is asked for.
    unsafe { vst1q_f32(four.as_mut_ptr(), value) };
    match out[range].as_chunks_mut::<4>() {
        ([whole], _) => *whole = four,
        (_, part) => part.copy_from_slice(&four[..part.len()]),
    }
}

/// Codes and scales of rows.
#[target_feature(enable = "neon")]
pub fn quantise(lines: Lines<'_>) {
    for ((row, to), scale) in lines {
        let mut most = vdupq_n_f32(0.0);
        for part in row.chunks(4) {
            most = vmaxq_f32(vabsq_f32(load(part)), most);
        }
        let (factor, found) = factor_and_scale(vmaxvq_f32(most));
        *scale = found;
        // Zeros beyond the row's end are written here too.
        for (part, to) in row.chunks(8).zip(to.chunks_mut(8)) {
            let (low, high) = part.split_at(part.len().min(4));
            let low = vmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(load(low), factor)));
            let high = vmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(load(high), factor)));
            let mut eight = [0; 8];
            let codes = vreinterpret_u8_s8(vmovn_s16(vcombine_s16(low, high)));
            // SAFETY: eight codes are half a vector's 8 bytes; no alignment is asked for.
            unsafe { vst1_u8(eight.as_mut_ptr(), codes) };
            match to.as_chunks_mut::<8>() {
                ([whole], _) => *whole = eight,
                (_, part) => part.copy_from_slice(&eight[..part.len()]),
            }
        }
    }
}

#[target_feature(enable = "neon,dotprod")]
pub fn neon_dot(panel: &Panel<'_>, out: &mut [f32]) {
    let rows = panel.rows();
    for group in 0..panel.groups() {
        tiles!(tile_dot, rows, ((panel, group), out), (), 6, 5, 4, 3, 2, 1);
    }
}

/// Adds four products to each sum. `vdotq_s32` is not stable yet.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sdot(mut sums: int32x4_t, weights: int8x16_t, codes: int8x16_t) -> int32x4_t {
    // SAFETY: the instruction works on registers alone, and the function asks for it.
    unsafe {
        asm!("sdot {0:v}.4s, {1:v}.16b, {2:v}.16b",
            inout(vreg) sums, in(vreg) weights, in(vreg) codes,
            options(pure, nomem, nostack, preserves_flags));
    }
    sums
}

/// `MR` rows by a group. Returns `MR`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn tile_dot<const MR: usize>(
    row: usize,
    (panel, group): (&Panel<'_>, usize),
    out: &mut [f32],
) -> usize {
    let weights = panel.cells(group);
    let mut rows = [panel.row(row); MR];
    for i in 1..MR {
        rows[i] = panel.row(row + i);
    }
    let mut sums = [[vdupq_n_s32(0); 4]; MR];
    let quads = panel.quads;
    for k in 0..quads {
        let mut cell = [vdupq_n_s8(0); 4];
        for j in 0..4 {
            cell[j] = columns(&weights[k], j);
        }
        for i in 0..MR {
            let codes = four_times(rows[i][k]);
            for j in 0..4 {
                sums[i][j] = sdot(sums[i][j], cell[j], codes);
            }
        }
    }
    for i in 0..MR {
        for j in 0..4 {
            finish(panel, row + i, group * GROUP + 4 * j, sums[i][j], out);
        }
    }
    MR
}

#[target_feature(enable = "neon")]
pub fn neon(panel: &Panel<'_>, out: &mut [f32]) {
    let rows = panel.rows();
    for group in 0..panel.groups() {
        tiles!(tile, rows, ((panel, group), out), (), 2, 1);
    }
}

/// `MR` rows by a group. Returns `MR`.
///
/// Two products are at most 2 * 128 * 127 = 32,512, so they are added in 16 bits before they go to 32.
#[inline]
#[target_feature(enable = "neon")]
fn tile<const MR: usize>(
    row: usize,
    (panel, group): (&Panel<'_>, usize),
    out: &mut [f32],
) -> usize {
    let (pairs, last) = panel.cells(group).as_chunks::<2>();
    let mut rows = [panel.row(row); MR];
    for i in 1..MR {
        rows[i] = panel.row(row + i);
    }
    // Two columns each, two sums to a column.
    let mut sums = [[vdupq_n_s32(0); 8]; MR];
    for (k, cells) in pairs.iter().enumerate() {
        let mut codes = [[vdupq_n_s8(0); 2]; MR];
        for i in 0..MR {
            codes[i] = [four_times(rows[i][2 * k]), four_times(rows[i][2 * k + 1])];
        }
        for j in 0..4 {
            let [a, b] = [columns(&cells[0], j), columns(&cells[1], j)];
            for i in 0..MR {
                let [x, y] = codes[i];
                let low = vmull_s8(vget_low_s8(a), vget_low_s8(x));
                let low = vmlal_s8(low, vget_low_s8(b), vget_low_s8(y));
                let high = vmlal_high_s8(vmull_high_s8(a, x), b, y);
                sums[i][2 * j] = vpadalq_s16(sums[i][2 * j], low);
                sums[i][2 * j + 1] = vpadalq_s16(sums[i][2 * j + 1], high);
            }
        }
    }
    for cell in last {
        for i in 0..MR {
            let codes = four_times(rows[i][2 * pairs.len()]);
            for j in 0..4 {
                let a = columns(cell, j);
                let low = vmull_s8(vget_low_s8(a), vget_low_s8(codes));
                sums[i][2 * j] = vpadalq_s16(sums[i][2 * j], low);
                sums[i][2 * j + 1] = vpadalq_s16(sums[i][2 * j + 1], vmull_high_s8(a, codes));
            }
        }
    }
    for i in 0..MR {
        for j in 0..4 {
            let four = vpaddq_s32(sums[i][2 * j], sums[i][2 * j + 1]);
            finish(panel, row + i, group * GROUP + 4 * j, four, out);
        }
    }
    MR
}
