//! How sure the chain is of its caption.
//!
//! What is known of a caption before it's said ([`Features`]) becomes the probability that a person
//! accepts it ([`Calibration`]): two logistic regressions, fitted offline by `captiond calibrate`. The
//! first learns from people's votes on captions of any origin what a caption looks like that they accept.
//! The second learns what becomes of that once the chain has CHOSEN a caption because it looks so: a
//! search for the best score finds luck as well as fit, so the first alone is off on the chain's own
//! captions (ECE 0.100 and not 0.052: docs/benchmarks.md).
//!
//! Without a calibration the confidence is aCLIP-S (arXiv 2307.05591): w max(cos(W (f - mean_f),
//! e - mean_e), 0), cut at 1. It orders captions, but 0.8 does not mean that eight in ten are right.

use serde::{Deserialize, Serialize};

use crate::{datastore::dot, frame::FrameQuality};

/// Something that a caption's confidence is reckoned from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Feature {
    /// [`Features::score`].
    Score,
    /// [`Features::margin`].
    Margin,
    /// [`Features::agreement`].
    Agreement,
    /// [`Features::support`].
    Support,
    /// [`Features::log_probability`].
    LogProbability,
    /// Natural logarithm of the frame's sharpness.
    Sharpness,
    /// The frame's contrast.
    Contrast,
    /// Log-odds that the first regression gives.
    VoteLogOdds,
}

impl Feature {
    /// What the regression on people's votes reads.
    pub const OF_VOTES: [Self; 4] = [Self::Score, Self::Margin, Self::Agreement, Self::Support];
    /// What the regression on the chain's own captions reads.
    pub const OF_OWN: [Self; 4] = [
        Self::VoteLogOdds,
        Self::LogProbability,
        Self::Sharpness,
        Self::Contrast,
    ];
}

/// What is known of a caption before it's said.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Features {
    /// Cosine of the frame, realigned by the judge, and the centred caption: aCLIP-S before weight and
    /// cut.
    pub score: f32,
    /// The score less the mean score of the nearest captions.
    pub margin: f32,
    /// Mean cosine of the nearest captions with each other: low where the datastore knows nothing of the
    /// kind and what is nearest is nearest by chance.
    pub agreement: f32,
    /// Mean cosine of the caption with the nearest captions.
    pub support: f32,
    /// Mean log-probability of the caption's tokens; none when the decoder didn't make it.
    pub log_probability: Option<f32>,
    /// The frame's sharpness, as in [`FrameQuality`]; none when no frame was measured.
    pub sharpness: Option<f32>,
    /// The frame's contrast, as in [`FrameQuality`]; none when no frame was measured.
    pub contrast: Option<f32>,
}

impl Features {
    /// Adds what the frame itself looks like.
    #[must_use]
    pub fn with_quality(self, quality: &FrameQuality) -> Self {
        Self {
            sharpness: Some(quality.sharpness),
            contrast: Some(quality.contrast),
            ..self
        }
    }

    /// One of them by its name; [`Feature::VoteLogOdds`] is not among them.
    pub fn value(&self, feature: Feature) -> Option<f64> {
        let value = match feature {
            Feature::Score => self.score,
            Feature::Margin => self.margin,
            Feature::Agreement => self.agreement,
            Feature::Support => self.support,
            Feature::LogProbability => self.log_probability?,
            // Of a plain surface it is 0.
            Feature::Sharpness => self.sharpness?.max(1e-3).ln(),
            Feature::Contrast => self.contrast?,
            Feature::VoteLogOdds => return None,
        };
        Some(f64::from(value))
    }
}

/// A caption near the frame, with its centred embedding of length one.
#[derive(Debug, Clone, PartialEq)]
pub struct Near<'a> {
    /// The caption.
    pub caption: &'a str,
    /// Its centred embedding.
    pub embedding: Vec<f32>,
}

/// What a frame says of any caption: its realigned embedding and the captions near it.
#[derive(Debug, Clone)]
pub struct Evidence<'a> {
    judged: &'a [f32],
    near: &'a [Near<'a>],
    /// Cosine of the frame with each of `near`.
    scores: Vec<f32>,
}

impl<'a> Evidence<'a> {
    /// `judged`: the frame, realigned by the judge, of length one.
    pub fn new(judged: &'a [f32], near: &'a [Near<'a>]) -> Self {
        let scores = near.iter().map(|n| dot(judged, &n.embedding)).collect();
        Self {
            judged,
            near,
            scores,
        }
    }

    /// Features of a caption with this centred embedding of length one. Where the caption itself is
    /// among the nearest it's left out of them: it would bear witness for itself.
    pub fn features(
        &self,
        caption: &str,
        embedding: &[f32],
        log_probability: Option<f32>,
    ) -> Features {
        let score = dot(self.judged, embedding);
        let others: Vec<(&[f32], f32)> = self
            .near
            .iter()
            .zip(&self.scores)
            .filter(|(near, _)| near.caption != caption)
            .map(|(near, score)| (near.embedding.as_slice(), *score))
            .collect();
        let mean = |values: &mut dyn Iterator<Item = f32>| {
            let (sum, count) = values.fold((0.0, 0u32), |(sum, n), v| (sum + v, n + 1));
            (count > 0).then(|| sum / count as f32)
        };
        let pairs = || (0..others.len()).flat_map(|i| (0..i).map(move |j| (i, j)));
        let familiar = mean(&mut others.iter().map(|(_, score)| *score));
        Features {
            score,
            margin: familiar.map_or(0.0, |familiar| score - familiar),
            agreement: mean(&mut pairs().map(|(i, j)| dot(others[i].0, others[j].0)))
                .unwrap_or_default(),
            support: mean(&mut others.iter().map(|(other, _)| dot(other, embedding)))
                .unwrap_or_default(),
            log_probability,
            sharpness: None,
            contrast: None,
        }
    }
}

/// One feature's part in the log-odds: weight (value - mean) / deviation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Term {
    /// Which feature.
    pub feature: Feature,
    /// Its mean where the regression was fitted; stands for a value that is not known.
    pub mean: f64,
    /// Its standard deviation there, above 0.
    pub deviation: f64,
    /// Log-odds for one deviation.
    pub weight: f64,
}

/// A logistic regression: log-odds = bias + the terms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Logistic {
    /// Log-odds where every feature is at its mean.
    pub bias: f64,
    /// The features' parts.
    pub terms: Vec<Term>,
}

impl Logistic {
    /// Log-odds of acceptance. `value` gives a feature, or nothing where it isn't known.
    pub fn log_odds(&self, value: impl Fn(Feature) -> Option<f64>) -> f64 {
        let part = |term: &Term| {
            let value = value(term.feature).unwrap_or(term.mean);
            term.weight * (value - term.mean) / term.deviation
        };
        self.bias + self.terms.iter().map(part).sum::<f64>()
    }

    /// The first number that makes no sense: its name and what was found.
    pub fn flaw(&self) -> Option<(String, f64)> {
        if !self.bias.is_finite() {
            return Some(("bias".into(), self.bias));
        }
        self.terms.iter().enumerate().find_map(|(at, term)| {
            let bad = |name: &str, value| Some((format!("terms[{at}].{name}"), value));
            if !term.mean.is_finite() {
                bad("mean", term.mean)
            } else if !(term.deviation.is_finite() && term.deviation > 0.0) {
                bad("deviation", term.deviation)
            } else if !term.weight.is_finite() {
                bad("weight", term.weight)
            } else {
                None
            }
        })
    }
}

/// From features to the probability that a person accepts the caption.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    /// Fitted on people's votes.
    pub votes: Logistic,
    /// Fitted on the chain's own captions; none when there were no references to judge them by.
    pub own: Option<Logistic>,
}

impl Calibration {
    /// Log-odds that a person accepts a caption, wherever it came from.
    pub fn vote_log_odds(&self, features: &Features) -> f64 {
        self.votes.log_odds(|feature| features.value(feature))
    }

    /// Probability in [0, 1] that a person accepts a caption that the chain has chosen.
    pub fn probability(&self, features: &Features) -> f64 {
        let votes = self.vote_log_odds(features);
        sigmoid(match &self.own {
            Some(own) => own.log_odds(|feature| own_value(features, votes, feature)),
            None => votes,
        })
    }

    /// The probability as a confidence. A NaN must not pass for certainty.
    pub fn confidence(&self, features: &Features) -> f32 {
        let probability = self.probability(features) as f32;
        if probability.is_nan() {
            0.0
        } else {
            probability
        }
    }
}

/// What the second regression reads: the features, and the first one's log-odds.
pub fn own_value(features: &Features, vote_log_odds: f64, feature: Feature) -> Option<f64> {
    match feature {
        Feature::VoteLogOdds => Some(vote_log_odds),
        other => features.value(other),
    }
}

/// Probability of log-odds.
pub fn sigmoid(log_odds: f64) -> f64 {
    1.0 / (1.0 + (-log_odds).exp())
}

/// aCLIP-S, which is no probability, from the cosine of the realigned frame and the centred caption.
///
/// `weight` is the w of the formula (2.5 in CLIP-S, arXiv 2104.08718).
pub fn uncalibrated(cosine: f32, weight: f32) -> f32 {
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
    fn aclip_s_stays_between_nought_and_one() {
        assert_eq!(uncalibrated(-0.3, 2.5), 0.0);
        assert_eq!(uncalibrated(0.2, 2.5), 0.5);
        assert_eq!(uncalibrated(0.9, 2.5), 1.0);
        assert_eq!(uncalibrated(f32::NAN, 2.5), 0.0);
    }

    fn near(caption: &str, embedding: [f32; 2]) -> Near<'_> {
        Near {
            caption,
            embedding: embedding.to_vec(),
        }
    }

    #[test]
    fn features_by_hand() {
        let all = [
            near("a", [1.0, 0.0]),
            near("b", [0.6, 0.8]),
            near("c", [0.0, 1.0]),
        ];
        let evidence = Evidence::new(&[1.0, 0.0], &all);
        let found = evidence.features("new", &[0.8, 0.6], Some(-1.5));
        // Scores of the three are 1, 0.6 and 0; their cosines 0.6, 0 and 0.8; with the caption 0.8,
        // 0.96 and 0.6.
        let expected = [0.8, 0.8 - 1.6 / 3.0, 1.4 / 3.0, 2.36 / 3.0];
        let values = [found.score, found.margin, found.agreement, found.support];
        for (value, expected) in values.into_iter().zip(expected) {
            assert!((value - expected).abs() < 1e-6, "{found:?}");
        }
        assert_eq!(found.value(Feature::LogProbability), Some(-1.5));
        assert_eq!(found.value(Feature::Contrast), None);
        // One of the nearest is no witness for itself.
        let itself = evidence.features("a", &[1.0, 0.0], None);
        assert!((itself.margin - 0.7).abs() < 1e-6 && (itself.support - 0.3).abs() < 1e-6);
        assert!((itself.agreement - 0.8).abs() < 1e-6);
        // Alone there is nothing to compare with.
        let lonely = Evidence::new(&[1.0, 0.0], &all[..1]).features("a", &[1.0, 0.0], None);
        assert_eq!(
            (
                lonely.score,
                lonely.margin,
                lonely.agreement,
                lonely.support
            ),
            (1.0, 0.0, 0.0, 0.0)
        );
    }

    fn term(feature: Feature, weight: f64) -> Term {
        Term {
            feature,
            mean: 0.5,
            deviation: 0.25,
            weight,
        }
    }

    #[test]
    fn probability_by_hand() {
        let votes = Logistic {
            bias: -1.0,
            terms: vec![term(Feature::Score, 2.0)],
        };
        let mut calibration = Calibration { votes, own: None };
        let features = Features {
            score: 0.75,
            ..Features::default()
        };
        // -1 + 2 (0.75 - 0.5) / 0.25 = 1
        let expected = 1.0 / (1.0 + (-1f64).exp());
        assert!((calibration.probability(&features) - expected).abs() < 1e-12);
        // Log-odds of 1 are two deviations above that mean; an unknown log-probability says nothing.
        calibration.own = Some(Logistic {
            bias: 0.0,
            terms: vec![
                term(Feature::VoteLogOdds, 0.5),
                term(Feature::LogProbability, 3.0),
            ],
        });
        assert!((calibration.probability(&features) - expected).abs() < 1e-12);
        let unlikely = Features {
            log_probability: Some(-1.0),
            ..features
        };
        assert!(calibration.probability(&unlikely) < 1e-6);
        let broken = Features {
            score: f32::NAN,
            ..features
        };
        assert_eq!(calibration.confidence(&broken), 0.0);
    }

    #[test]
    fn numbers_that_make_no_sense_are_named() {
        let whole = Logistic {
            bias: 0.0,
            terms: vec![term(Feature::Score, 1.0), term(Feature::Margin, 1.0)],
        };
        assert_eq!(whole.flaw(), None);
        let mut bad = whole.clone();
        bad.terms[1].deviation = 0.0;
        assert_eq!(bad.flaw(), Some(("terms[1].deviation".into(), 0.0)));
        let bias = Logistic {
            bias: f64::INFINITY,
            ..whole
        };
        assert_eq!(bias.flaw(), Some(("bias".into(), f64::INFINITY)));
    }
}
