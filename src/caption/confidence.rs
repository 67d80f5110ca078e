//! How sure the chain is of its caption.
//!
//! The confidence is aCLIP-S, the realigned CLIP-S: w max(cos(W (f - mean_f), e - mean_e), 0), cut
//! at 1. It orders captions well (Flickr8k-Expert tau-c in docs/benchmarks.md) but it is NOT
//! CALIBRATED: 0.8 does not mean that eight in ten such captions are right. Whoever shows it to a
//! person has to say so until the pack has a calibration.

/// Confidence in [0, 1] from the cosine of the realigned frame and the centred caption.
///
/// `weight` is the w of the formula (2.5 in CLIP-S, arXiv 2104.08718).
pub fn confidence(cosine: f32, weight: f32) -> f32 {
    // A NaN must not pass for certainty.
    if cosine.is_nan() {
        0.0
    } else {
        (weight * cosine).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_between_nought_and_one() {
        assert_eq!(confidence(-0.3, 2.5), 0.0);
        assert_eq!(confidence(0.2, 2.5), 0.5);
        assert_eq!(confidence(0.9, 2.5), 1.0);
        assert_eq!(confidence(f32::NAN, 2.5), 0.0);
    }
}
