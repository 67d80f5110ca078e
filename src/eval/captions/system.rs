//! Every metric of one system's captions, image by image and over any choice of images.

use super::{ImageScore, NAMES, corpus};
use crate::eval::clip_score;

/// A system's scores on a set of images.
#[derive(Debug, Clone, Default)]
pub struct SystemScores {
    /// By words.
    pub words: Vec<ImageScore>,
    /// By embeddings, as many as `words`; empty when nothing was embedded.
    pub embedded: Vec<clip_score::Scores>,
}

impl SystemScores {
    /// Names of the metrics, in the order of the values.
    pub fn names(&self) -> Vec<&'static str> {
        let more: &[&str] = if self.embedded.is_empty() {
            &[]
        } else {
            &clip_score::NAMES
        };
        NAMES.iter().chain(more).copied().collect()
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The metrics of one image; `None` for those that are undefined.
    pub fn image(&self, at: usize) -> Vec<Option<f64>> {
        let words = self.words[at].values().array().map(Some);
        let embedded = self.embedded.get(at).map(clip_score::Scores::array);
        words
            .into_iter()
            .chain(embedded.into_iter().flatten())
            .collect()
    }

    /// The metrics of all images together.
    pub fn corpus(&self) -> Vec<Option<f64>> {
        self.of(&Vec::from_iter(0..self.len()))
    }

    /// The metrics of the chosen images (places, which may come more than once): those by words as
    /// [`corpus`] has them, those by embeddings as means.
    pub fn of(&self, chosen: &[usize]) -> Vec<Option<f64>> {
        let words = corpus(chosen.iter().map(|at| &self.words[*at]));
        let mut values: Vec<Option<f64>> = words.array().into_iter().map(Some).collect();
        if !self.embedded.is_empty() {
            let mut sums = [Some(0.0); clip_score::NAMES.len()];
            for at in chosen {
                for (sum, value) in sums.iter_mut().zip(self.embedded[*at].array()) {
                    *sum = sum.zip(value).map(|(sum, value)| sum + value);
                }
            }
            let count = chosen.len().max(1) as f64;
            values.extend(sums.map(|sum| sum.map(|sum| sum / count)));
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::{
        bootstrap::{Draws, compare, intervals},
        captions::Scorer,
    };

    fn system(captions: [&str; 3], aclip_s: [f64; 3]) -> SystemScores {
        let references = [
            vec!["A grey cat sleeps on a chair."],
            vec!["Two boats lie in the harbour."],
            vec!["A child draws with chalk."],
        ];
        SystemScores {
            words: Scorer::new(&references).score(&captions),
            embedded: aclip_s
                .iter()
                .map(|value| clip_score::Scores {
                    aclip_s: Some(*value),
                    ..clip_score::Scores::default()
                })
                .collect(),
        }
    }

    #[test]
    fn means_and_what_is_undefined() {
        let found = system(["A cat", "Boats", "A child"], [0.5, 0.25, 0.75]);
        assert_eq!(found.names().len(), 10);
        assert_eq!(found.corpus()[6..], [None, None, Some(0.5), None]);
        assert_eq!(found.of(&[0, 0])[8], Some(0.5));
        assert_eq!(found.image(1)[8], Some(0.25));
        let words = SystemScores {
            embedded: Vec::new(),
            ..found
        };
        assert_eq!((words.names().len(), words.corpus().len()), (6, 6));
    }

    #[test]
    fn the_bootstrap_covers_every_metric() {
        let draws = Draws {
            count: 199,
            seed: 1,
        };
        let good = system(
            [
                "A grey cat sleeps on a chair",
                "Two boats lie in the harbour",
                "A child draws with chalk",
            ],
            [0.9, 0.8, 0.7],
        );
        let bad = system(["A bus"; 3], [0.1, 0.2, 0.1]);
        let found = intervals(3, draws, &|chosen| good.of(chosen));
        for (interval, value) in found.iter().zip(good.corpus()) {
            let holds =
                |[low, high]: [f64; 2]| value.is_some_and(|v| low <= v + 1e-9 && v <= high + 1e-9);
            assert!(interval.map_or(value.is_none(), holds));
        }
        let compared = compare(3, draws, &|c| good.of(c), &|c| bad.of(c));
        assert_eq!(compared.iter().flatten().count(), 7);
        for worse in compared.iter().flatten() {
            assert!(worse.difference > 0.0 && worse.p <= 0.02, "{worse:?}");
        }
    }
}
