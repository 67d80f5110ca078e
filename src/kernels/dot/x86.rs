//! The tiles for AVX2 and for AVX-512 with VNNI.

use std::{arch::x86_64::*, mem::MaybeUninit};

use super::{GROUP, Lines, Panel, factor_and_scale, tiles};

/// What codes of activations are xored with for AVX-512: `vpdpbusd` takes them as unsigned, 128 too high.
const FLIP: u8 = 0x80;

/// `vpdpbusd`: bytes of activations, 128 too high, by codes of weights; a column's sum of codes times 128
/// is what there is too much. Sums wrap, so it can be taken off first.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub fn avx512(panel: &Panel<'_>, out: &mut [f32]) {
    let (rows, groups) = (panel.rows(), panel.groups());
    let mut group = 0;
    while group < groups {
        let args = (panel, group);
        group += match (groups - group, rows) {
            (8.., 1..=2) => {
                tiles!(tile, rows, (args, out), (8), 2, 1);
                8
            }
            (3.., _) => {
                tiles!(tile, rows, (args, out), (3), 8, 7, 6, 5, 4, 3, 2, 1);
                3
            }
            (2, _) => {
                tiles!(tile, rows, (args, out), (2), 8, 7, 6, 5, 4, 3, 2, 1);
                2
            }
            _ => {
                tiles!(tile, rows, (args, out), (1), 8, 7, 6, 5, 4, 3, 2, 1);
                1
            }
        };
    }
}

/// A vector of the first of sixteen lanes.
#[inline]
fn mask(lanes: usize) -> u16 {
    u16::MAX >> (16 - lanes.clamp(1, 16))
}

/// `MR` rows by `NV` groups. Returns `MR`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn tile<const MR: usize, const NV: usize>(
    row: usize,
    (panel, group): (&Panel<'_>, usize),
    out: &mut [f32],
) -> usize {
    let mut weights = [panel.cells(group); NV];
    for j in 1..NV {
        weights[j] = panel.cells(group + j);
    }
    let mut rows = [panel.row(row); MR];
    for i in 1..MR {
        rows[i] = panel.row(row + i);
    }
    let mut sums = [[_mm512_setzero_si512(); NV]; MR];
    let offsets = panel.offsets[group * GROUP..].as_chunks::<GROUP>().0;
    for j in 0..NV {
        // SAFETY: sixteen i32 are a vector's 64 bytes; no alignment is asked for.
        let offsets = unsafe { _mm512_loadu_si512(offsets[j].as_ptr().cast()) };
        let start = _mm512_sub_epi32(_mm512_setzero_si512(), offsets);
        for i in 0..MR {
            sums[i][j] = start;
        }
    }
    // Written so that the compiler sees k < quads, the length of every slice, and drops its checks.
    let quads = panel.quads;
    for k in 0..quads {
        let mut cells = [_mm512_setzero_si512(); NV];
        for j in 0..NV {
            // SAFETY: a cell is a vector's 64 bytes; no alignment is asked for.
            cells[j] = unsafe { _mm512_loadu_si512(weights[j][k].as_ptr().cast()) };
        }
        for i in 0..MR {
            let codes = _mm512_set1_epi32(i32::from_ne_bytes(rows[i][k]));
            for j in 0..NV {
                sums[i][j] = _mm512_dpbusd_epi32(sums[i][j], codes, cells[j]);
            }
        }
    }
    // Through memory, so that the loops above have no index that the compiler does not know: sums stay in registers.
    let mut kept = [[MaybeUninit::<__m512i>::uninit(); NV]; MR];
    for i in 0..MR {
        for j in 0..NV {
            kept[i][j].write(sums[i][j]);
        }
    }
    let column = group * GROUP;
    let scales = panel.scales[column..].as_chunks::<GROUP>().0;
    let bias = panel.bias[column..].as_chunks::<GROUP>().0;
    let mut columns = [(_mm512_setzero_ps(), _mm512_setzero_ps(), 0); NV];
    for j in 0..NV {
        let mask = mask(panel.place(row, column + j * GROUP, GROUP).len());
        // SAFETY: sixteen f32 are a vector's 64 bytes; no alignment is asked for.
        let (scales, bias) = unsafe {
            (
                _mm512_loadu_ps(scales[j].as_ptr()),
                _mm512_loadu_ps(bias[j].as_ptr()),
            )
        };
        columns[j] = (scales, bias, mask);
    }
    let least = _mm512_set1_ps(panel.limits.0);
    let most = _mm512_set1_ps(panel.limits.1);
    for (i, sums) in kept.iter().enumerate() {
        let range = panel.place(row + i, column, NV * GROUP);
        let scale = _mm512_set1_ps(panel.row_scales[row + i]);
        let residual = panel
            .residual
            .map(|residual| residual[range.clone()].as_ptr());
        let to = out[range].as_mut_ptr();
        for j in 0..NV {
            let (scales, bias, mask) = columns[j];
            // SAFETY: written above.
            let sum = unsafe { sums[j].assume_init() };
            let value = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), scale);
            let mut value = _mm512_add_ps(_mm512_mul_ps(value, scales), bias);
            if let Some(residual) = residual {
                // SAFETY: within the slice; the mask leaves out what is beyond it.
                value = _mm512_add_ps(value, unsafe {
                    _mm512_maskz_loadu_ps(mask, residual.add(j * GROUP))
                });
            }
            value = _mm512_min_ps(_mm512_max_ps(value, least), most);
            // SAFETY: as above.
            unsafe { _mm512_mask_storeu_ps(to.add(j * GROUP), mask, value) };
        }
    }
    MR
}

/// Codes and scales of rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub fn quantise_avx512(lines: Lines<'_>) {
    let flip = _mm_set1_epi8(FLIP.cast_signed());
    for ((row, to), scale) in lines {
        let (whole, rest) = row.as_chunks::<16>();
        let mask = mask(rest.len());
        let mut last = _mm512_setzero_ps();
        if !rest.is_empty() {
            // SAFETY: the mask leaves out what is beyond the slice.
            last = unsafe { _mm512_maskz_loadu_ps(mask, rest.as_ptr()) };
        }
        let mut most = _mm512_abs_ps(last);
        for part in whole {
            // SAFETY: sixteen f32 are a vector's 64 bytes; no alignment is asked for.
            let part = unsafe { _mm512_loadu_ps(part.as_ptr()) };
            most = _mm512_max_ps(_mm512_abs_ps(part), most);
        }
        let (factor, found) = factor_and_scale(_mm512_reduce_max_ps(most));
        *scale = found;
        let factor = _mm512_set1_ps(factor);
        let (codes, rest) = to.as_chunks_mut::<16>();
        for (part, to) in whole.iter().zip(codes) {
            // SAFETY: as above; sixteen codes are a vector's 16 bytes.
            unsafe {
                let part = _mm512_mul_ps(_mm512_loadu_ps(part.as_ptr()), factor);
                let codes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(part));
                _mm_storeu_si128(to.as_mut_ptr().cast(), _mm_xor_si128(codes, flip));
            }
        }
        if !rest.is_empty() {
            // Zeros beyond the row's end are written here too.
            let codes = _mm512_cvtps_epi32(_mm512_mul_ps(last, factor));
            let codes = _mm_xor_si128(_mm512_cvtepi32_epi8(codes), flip);
            let mask = self::mask(rest.len());
            // SAFETY: the mask leaves out what is beyond the slice.
            unsafe { _mm_mask_storeu_epi8(rest.as_mut_ptr().cast(), mask, codes) };
        }
    }
}

#[target_feature(enable = "avx2")]
pub fn avx2(panel: &Panel<'_>, out: &mut [f32]) {
    let rows = panel.rows();
    let halves = (panel.columns.1 - panel.columns.0).div_ceil(8);
    for half in 0..halves {
        tiles!(tile_avx2, rows, ((panel, half), out), (), 6, 5, 4, 3, 2, 1);
    }
}

/// `MR` rows by half a group. Returns `MR`.
///
/// `vpmaddubsw` takes the amounts of the weights, up to 128, and the activations with the weights' signs,
/// up to 127: two products are at most 32,512, so nothing saturates.
#[inline]
#[target_feature(enable = "avx2")]
fn tile_avx2<const MR: usize>(
    row: usize,
    (panel, half): (&Panel<'_>, usize),
    out: &mut [f32],
) -> usize {
    let weights = panel.cells(half / 2);
    let mut rows = [panel.row(row); MR];
    for i in 1..MR {
        rows[i] = panel.row(row + i);
    }
    let mut sums = [_mm256_setzero_si256(); MR];
    let ones = _mm256_set1_epi16(1);
    let quads = panel.quads;
    for k in 0..quads {
        let cell = &weights[k].as_chunks::<32>().0[half % 2];
        // SAFETY: half a cell is a vector's 32 bytes; no alignment is asked for.
        let cell = unsafe { _mm256_loadu_si256(cell.as_ptr().cast()) };
        let amounts = _mm256_abs_epi8(cell);
        for i in 0..MR {
            let codes = _mm256_set1_epi32(i32::from_ne_bytes(rows[i][k]));
            let pairs = _mm256_maddubs_epi16(amounts, _mm256_sign_epi8(codes, cell));
            sums[i] = _mm256_add_epi32(sums[i], _mm256_madd_epi16(pairs, ones));
        }
    }
    let (least, most) = (
        _mm256_set1_ps(panel.limits.0),
        _mm256_set1_ps(panel.limits.1),
    );
    let column = half * 8;
    let scales_of_rows = &panel.row_scales[row..row + MR];
    let scales = &panel.scales[column..][..8];
    let bias = &panel.bias[column..][..8];
    // SAFETY: eight f32 are a vector's 32 bytes; no alignment is asked for.
    let (scales, bias) = unsafe {
        (
            _mm256_loadu_ps(scales.as_ptr()),
            _mm256_loadu_ps(bias.as_ptr()),
        )
    };
    // The rows' results, checked for all of them at once.
    let first = panel.place(row, column, 8);
    let lanes = lanes(first.len());
    let all = first.start..first.end + (MR - 1) * panel.outer;
    let to = out[all.clone()].as_mut_ptr();
    let residual = panel.residual.map(|residual| residual[all].as_ptr());
    for i in 0..MR {
        let scale = _mm256_set1_ps(scales_of_rows[i]);
        let value = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[i]), scale);
        let mut value = _mm256_add_ps(_mm256_mul_ps(value, scales), bias);
        if let Some(residual) = residual {
            // SAFETY: within the slice; lanes beyond the row's columns are left out.
            value = _mm256_add_ps(value, unsafe {
                _mm256_maskload_ps(residual.add(i * panel.outer), lanes)
            });
        }
        value = _mm256_min_ps(_mm256_max_ps(value, least), most);
        // SAFETY: as above.
        unsafe { _mm256_maskstore_ps(to.add(i * panel.outer), lanes, value) };
    }
    MR
}

/// A vector whose first lanes are set, of eight.
#[inline]
#[target_feature(enable = "avx2")]
fn lanes(count: usize) -> __m256i {
    let places = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    _mm256_cmpgt_epi32(_mm256_set1_epi32(count.min(8) as i32), places)
}

/// As [`quantise_avx512`], codes as they are.
#[target_feature(enable = "avx2")]
pub fn quantise_avx2(lines: Lines<'_>) {
    let sign = _mm256_set1_ps(-0.0);
    for ((row, to), scale) in lines {
        let mut greatest = _mm256_setzero_ps();
        for part in row.chunks(8) {
            // SAFETY: lanes beyond the slice are left out.
            let part = unsafe { _mm256_maskload_ps(part.as_ptr(), lanes(part.len())) };
            greatest = _mm256_max_ps(_mm256_andnot_ps(sign, part), greatest);
        }
        let four = _mm_max_ps(
            _mm256_castps256_ps128(greatest),
            _mm256_extractf128_ps::<1>(greatest),
        );
        let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
        let one = _mm_max_ss(two, _mm_movehdup_ps(two));
        let (factor, found) = factor_and_scale(_mm_cvtss_f32(one));
        *scale = found;
        let factor = _mm256_set1_ps(factor);
        // Zeros beyond the row's end are written here too.
        for (part, to) in row.chunks(8).zip(to.chunks_mut(8)) {
            // SAFETY: lanes beyond the slice are left out.
            let part = unsafe { _mm256_maskload_ps(part.as_ptr(), lanes(part.len())) };
            let codes = _mm256_cvtps_epi32(_mm256_mul_ps(part, factor));
            let low = _mm256_castsi256_si128(codes);
            let codes = _mm_packs_epi32(low, _mm256_extracti128_si256::<1>(codes));
            let codes = _mm_cvtsi128_si64(_mm_packs_epi16(codes, codes)).to_ne_bytes();
            match to.as_chunks_mut::<8>() {
                ([whole], _) => *whole = codes,
                (_, part) => part.copy_from_slice(&codes[..part.len()]),
            }
        }
    }
}
