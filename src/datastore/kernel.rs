//! Dot products of int8 rows with queries in 16-bit integers.
//!
//! Why 16 bits for the query: x86 multiplies pairs of 16-bit numbers and adds them in one
//! instruction (`pmaddwd`), so an 8-bit query would be widened first and gain nothing, while 16 bits
//! lose almost nothing against floats (docs/benchmarks.md, "Search"). The loops are plain Rust; pulp
//! compiles them again for AVX2 and AVX-512 and chooses at run time. On ARM, NEON is the baseline.

use pulp::Arch;

/// A query in integers: query i is about `scale * codes[i]`.
#[derive(Debug, Clone, PartialEq)]
pub struct IntegerQuery {
    codes: Vec<i16>,
    /// Factor back to the query's own size.
    pub scale: f32,
}

impl IntegerQuery {
    /// Rounds a query to as many of 16 bits as keep every sum within 32 bits: with rows of -128 to
    /// 127, no partial sum exceeds 128 times the sum of |codes|.
    ///
    /// The result has `dimension` numbers; a query of another length is cut or filled with zeros.
    pub fn new(query: &[f32], dimension: usize) -> Self {
        let (mut peak, mut sum) = (0f32, 0f32);
        for value in query.iter().take(dimension).map(|v| v.abs()) {
            peak = peak.max(value);
            sum += value;
        }
        // Rounding adds up to a half for each number.
        let most = (i32::MAX / 128) as f32 - dimension as f32;
        let scale = (peak / f32::from(i16::MAX)).max(sum / most);
        let mut codes = vec![0; dimension];
        if scale.is_finite() && scale > 0.0 {
            for (code, value) in codes.iter_mut().zip(query) {
                // The cast saturates.
                *code = (value / scale).round() as i16;
            }
        }
        Self { codes, scale }
    }
}

/// Dot product of each row of a block with one query. `block` is row-major, each byte an i8;
/// `out` gets one sum for each row.
pub fn products(arch: Arch, block: &[u8], query: &IntegerQuery, out: &mut [i32]) {
    let query = query.codes.as_slice();
    arch.dispatch(
        #[inline(always)]
        || {
            for (row, out) in block.chunks_exact(query.len()).zip(out) {
                *out = row
                    .iter()
                    .zip(query)
                    .fold(0, |sum, (&code, &value)| add_product(sum, code, value));
            }
        },
    );
}

/// Wrapping, because the check for an overflow that can't happen ([`IntegerQuery::new`]) would keep
/// the compiler from vectorising.
#[inline(always)]
fn add_product(sum: i32, code: u8, value: i16) -> i32 {
    sum.wrapping_add(i32::from(code as i8).wrapping_mul(i32::from(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(row: &[u8], query: &IntegerQuery) -> i64 {
        let pairs = row.iter().zip(&query.codes);
        pairs
            .map(|(&r, &q)| i64::from(r as i8) * i64::from(q))
            .sum()
    }

    #[test]
    fn sums_are_exact_and_never_overflow() {
        for dimension in [1, 3, 16, 37, 384, 4096, 65536] {
            // The worst there is: every number at its limit.
            let rows: Vec<u8> = [0x80u8, 0x7f, 0x01]
                .iter()
                .flat_map(|&byte| vec![byte; dimension])
                .collect();
            let waves = |step: f32| -> Vec<f32> {
                (0..dimension).map(|i| (i as f32 * step).sin()).collect()
            };
            let queries = [
                vec![1.0; dimension],
                waves(0.7),
                waves(0.1),
                vec![-3e-9; dimension],
            ]
            .map(|query| IntegerQuery::new(&query, dimension));
            for query in &queries {
                let mut sums = [0; 3];
                products(Arch::new(), &rows, query, &mut sums);
                for (row, sum) in rows.chunks_exact(dimension).zip(sums) {
                    assert_eq!(i64::from(sum), exact(row, query), "{dimension}");
                }
            }
        }
    }

    #[test]
    fn a_query_keeps_fifteen_bits_where_they_fit() {
        let query = IntegerQuery::new(&[0.6, -0.8, 0.0], 3);
        assert_eq!(query.codes, [24575, -32767, 0]);
        assert!((query.scale * 24575.0 - 0.6).abs() < 2e-5);
        assert_eq!(IntegerQuery::new(&[1.0], 2).codes, [32767, 0]);
        assert_eq!(IntegerQuery::new(&[1.0, 2.0], 1).codes, [32767]);
        for hopeless in [0.0, f32::NAN, f32::INFINITY] {
            assert_eq!(IntegerQuery::new(&[hopeless; 2], 2).codes, [0, 0]);
        }
    }
}
