//! Every metric's scores of judged captions, and how they agree with the ratings.

use super::judgements::{Image, Judgements, Scale};
use crate::eval::{
    bootstrap::{self, Draws},
    captions::{self, Scorer},
    clip_score,
    kendall::Ranked,
    pearson::pearson,
};

/// A metric's scores, one for each row; none when it's undefined.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricScores {
    /// The metric's name.
    pub name: &'static str,
    /// Scores in the order of the rows.
    pub scores: Option<Vec<f64>>,
}

impl MetricScores {
    /// BLEU, ROUGE-L and CIDEr-D; undefined unless every image has a reference.
    pub fn by_words(judgements: &Judgements) -> Vec<Self> {
        let scores = judgements.without_references().next().is_none().then(|| {
            let references: Vec<Vec<&str>> = judgements
                .images
                .iter()
                .map(|image| image.references.iter().map(String::as_str).collect())
                .collect();
            let counts = judgements.ratings_per_image();
            let rows: Vec<(usize, &str)> = judgements
                .rows
                .iter()
                .map(|row| (row.image, row.caption.as_str()))
                .collect();
            Scorer::counted(&references, |image| counts[image]).score_rows(&rows)
        });
        let metrics = captions::NAMES.iter().enumerate();
        metrics
            .map(|(at, name)| Self {
                name,
                scores: scores
                    .as_ref()
                    .map(|rows| rows.iter().map(|row| row.values().array()[at]).collect()),
            })
            .collect()
    }

    /// CLIP-S and its kin, from a function that scores a caption of an image.
    ///
    /// # Errors
    /// Those of the function.
    pub fn by_embeddings<E>(
        judgements: &Judgements,
        mut score: impl FnMut(&Image, &str) -> Result<clip_score::Scores, E>,
    ) -> Result<Vec<Self>, E> {
        let rows = judgements
            .rows
            .iter()
            .map(|row| Ok(score(&judgements.images[row.image], &row.caption)?.array()))
            .collect::<Result<Vec<_>, E>>()?;
        let metrics = clip_score::NAMES.iter().enumerate();
        Ok(metrics
            .map(|(at, name)| Self {
                name,
                scores: rows.iter().map(|row| row[at]).collect(),
            })
            .collect())
    }
}

/// How agreement is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coefficient {
    /// Kendall's tau-b.
    TauB,
    /// Kendall's tau-c.
    TauC,
    /// Pearson's r.
    Pearson,
}

/// Agreement of a metric with one kind of ratings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Agreement {
    /// The metric's name.
    pub metric: &'static str,
    /// What was rated.
    pub scale: &'static str,
    /// How it's measured.
    pub coefficient: Coefficient,
    /// In [-1, 1]. `None` where it's undefined: no scores, or scores or ratings that don't vary.
    pub value: Option<f64>,
    /// 95 % interval over draws of images.
    pub interval: Option<[f64; 2]>,
}

/// A metric's scores beside the ratings of one scale.
struct Pairs {
    /// For the two taus.
    ranked: Ranked,
    /// For Pearson's r.
    scores: Vec<f64>,
    ratings: Vec<f64>,
}

impl Pairs {
    fn new(metric: &MetricScores, scale: &Scale) -> Option<Self> {
        let of_rows = metric.scores.as_ref()?;
        let pairs = scale.ratings.iter();
        let (scores, ratings): (Vec<f64>, Vec<f64>) =
            pairs.map(|(row, rating)| (of_rows[*row], *rating)).unzip();
        Some(Self {
            ranked: Ranked::new(&scores, &ratings)?,
            scores,
            ratings,
        })
    }

    fn measure(&self, coefficient: Coefficient, weights: &[u32]) -> Option<f64> {
        match coefficient {
            Coefficient::TauB => Some(self.ranked.weighted(weights)?.b),
            Coefficient::TauC => Some(self.ranked.weighted(weights)?.c),
            Coefficient::Pearson => pearson(&self.scores, &self.ratings, |row| weights[row]),
        }
    }
}

/// Agreement of each metric with each scale by each coefficient, in this order; with intervals when
/// there are `draws`.
pub fn agreement(
    judgements: &Judgements,
    metrics: &[MetricScores],
    coefficients: &[Coefficient],
    draws: Draws,
) -> Vec<Agreement> {
    let scales = &judgements.scales;
    let all: Vec<Vec<Option<Pairs>>> = metrics
        .iter()
        .map(|metric| scales.iter().map(|s| Pairs::new(metric, s)).collect())
        .collect();
    let images = judgements.images.len();
    let statistics = |chosen: &[usize]| -> Vec<Option<f64>> {
        let mut times = vec![0u32; images];
        chosen.iter().for_each(|image| times[*image] += 1);
        let of_row = |row: usize| times[judgements.rows[row].image];
        let weights: Vec<Vec<u32>> = scales
            .iter()
            .map(|scale| scale.ratings.iter().map(|(row, _)| of_row(*row)).collect())
            .collect();
        let mut values = Vec::with_capacity(all.len() * scales.len() * coefficients.len());
        for pairs in &all {
            for (pairs, weights) in pairs.iter().zip(&weights) {
                values.extend(coefficients.iter().map(|coefficient| {
                    pairs
                        .as_ref()
                        .and_then(|p| p.measure(*coefficient, weights))
                }));
            }
        }
        values
    };
    let whole = statistics(&Vec::from_iter(0..images));
    let intervals = match draws.count {
        0 => vec![None; whole.len()],
        _ => bootstrap::intervals(images, draws, &statistics),
    };
    let named = metrics.iter().flat_map(|metric| {
        scales.iter().flat_map(move |scale| {
            coefficients
                .iter()
                .map(move |c| (metric.name, scale.name, *c))
        })
    });
    named
        .zip(whole.into_iter().zip(intervals))
        .map(
            |((metric, scale, coefficient), (value, interval))| Agreement {
                metric,
                scale,
                coefficient,
                value,
                interval,
            },
        )
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::{agreement::Row, kendall::kendall};

    fn judgements() -> Judgements {
        let image = |name: &str, reference: &str| Image {
            name: name.into(),
            references: vec![reference.into()],
        };
        let row = |image, caption: &str| Row {
            image,
            caption: caption.into(),
        };
        Judgements {
            images: vec![
                image("a", "A kettle boils on a stove"),
                image("b", "Two chairs beside a table"),
            ],
            rows: vec![
                row(0, "A kettle on a stove"),
                row(0, "Two chairs"),
                row(1, "Two chairs beside a desk"),
                row(1, "A kettle"),
            ],
            scales: vec![
                Scale {
                    name: "expert",
                    ratings: vec![(0, 4.0), (0, 3.0), (1, 1.0), (2, 3.0), (3, 1.0), (3, 2.0)],
                },
                Scale {
                    name: "constant",
                    ratings: vec![(0, 1.0), (1, 1.0), (2, 1.0), (3, 1.0)],
                },
            ],
            dropped: 0,
        }
    }

    #[test]
    fn each_rating_is_a_pair_of_its_own() {
        use Coefficient::{Pearson, TauC};
        let metric = MetricScores {
            name: "x",
            scores: Some(vec![0.9, 0.2, 0.7, 0.3]),
        };
        let undefined = MetricScores {
            name: "y",
            scores: None,
        };
        let metrics = [metric, undefined];
        let draws = Draws { count: 50, seed: 1 };
        let found = agreement(&judgements(), &metrics, &[TauC, Pearson], draws);
        let order: Vec<_> = found.iter().map(|a| (a.metric, a.scale)).collect();
        assert_eq!(
            order[..4],
            [
                ("x", "expert"),
                ("x", "expert"),
                ("x", "constant"),
                ("x", "constant")
            ]
        );
        let x = [0.9, 0.9, 0.2, 0.7, 0.3, 0.3];
        let y = [4.0, 3.0, 1.0, 3.0, 1.0, 2.0];
        let c = kendall(&x, &y).unwrap().c;
        assert_eq!((found[0].coefficient, found[0].value), (TauC, Some(c)));
        assert_eq!(found[1].value, pearson(&x, &y, |_| 1));
        let [low, high] = found[0].interval.unwrap();
        assert!(low <= c && c <= high);
        // Ratings that don't vary, and a metric without scores.
        assert!(
            found[2..]
                .iter()
                .all(|a| a.value.is_none() && a.interval.is_none())
        );
        let none = agreement(
            &judgements(),
            &metrics,
            &[TauC],
            Draws { count: 0, seed: 1 },
        );
        assert_eq!((none[0].value, none[0].interval), (Some(c), None));
    }

    #[test]
    fn metrics_by_words_and_by_embeddings() {
        let mut judgements = judgements();
        let words = MetricScores::by_words(&judgements);
        assert_eq!(words.len(), 6);
        for metric in &words {
            let scores = metric.scores.as_ref().unwrap();
            assert!(scores[0] > scores[1] && scores[2] > scores[3], "{metric:?}");
        }
        let embedded = MetricScores::by_embeddings(&judgements, |image, caption| {
            Ok::<_, std::convert::Infallible>(clip_score::Scores {
                aclip_s: Some((image.name.len() + caption.len()) as f64),
                ..clip_score::Scores::default()
            })
        })
        .unwrap();
        let defined: Vec<&str> = embedded
            .iter()
            .filter(|metric| metric.scores.is_some())
            .map(|metric| metric.name)
            .collect();
        assert_eq!(defined, ["aCLIP-S"]);
        judgements.images[1].references.clear();
        let words = MetricScores::by_words(&judgements);
        assert!(words.iter().all(|metric| metric.scores.is_none()));
    }
}
