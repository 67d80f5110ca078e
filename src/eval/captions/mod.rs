//! BLEU, ROUGE-L and CIDEr-D of captions against references, equal to pycocoevalcap 1.2 (its Python
//! and its Java tokenizer) without needing either.
//!
//! METEOR and SPICE are not here: both are Java programs with large word lists, to be had with
//! pycocoevalcap itself (`models/README.md` says how).

pub mod bleu;
pub mod cider;
pub mod matching;
pub mod ngrams;
pub mod predictions;
pub mod references;
pub mod rouge;
pub mod system;
pub mod tokenizer;

use bleu::BleuCounts;
use cider::CiderD;
use ngrams::{NGrams, Vocabulary};
use serde::Serialize;
use tokenizer::tokenize_all;

/// The metrics of one caption or of a corpus. CIDEr-D lies in [0, 10], the others in [0, 1].
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Values {
    /// BLEU with words.
    #[serde(rename = "BLEU-1")]
    pub bleu_1: f64,
    /// BLEU with up to two words.
    #[serde(rename = "BLEU-2")]
    pub bleu_2: f64,
    /// BLEU with up to three words.
    #[serde(rename = "BLEU-3")]
    pub bleu_3: f64,
    /// BLEU with up to four words.
    #[serde(rename = "BLEU-4")]
    pub bleu_4: f64,
    /// F of the longest common subsequence.
    #[serde(rename = "ROUGE-L")]
    pub rouge_l: f64,
    /// Consensus with the references, by tf-idf.
    #[serde(rename = "CIDEr-D")]
    pub cider_d: f64,
}

/// Names of the metrics, in the order of [`Values::array`].
pub const NAMES: [&str; 6] = ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr-D"];

impl Values {
    /// The values in the order of [`NAMES`].
    pub fn array(&self) -> [f64; NAMES.len()] {
        [
            self.bleu_1,
            self.bleu_2,
            self.bleu_3,
            self.bleu_4,
            self.rouge_l,
            self.cider_d,
        ]
    }

    fn new([bleu_1, bleu_2, bleu_3, bleu_4]: [f64; 4], rouge_l: f64, cider_d: f64) -> Self {
        Self {
            bleu_1,
            bleu_2,
            bleu_3,
            bleu_4,
            rouge_l,
            cider_d,
        }
    }
}

/// What one caption adds to the corpus's values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ImageScore {
    /// What BLEU sums up before it divides.
    pub bleu: BleuCounts,
    /// ROUGE-L of this caption.
    pub rouge_l: f64,
    /// CIDEr-D of this caption.
    pub cider_d: f64,
}

impl ImageScore {
    /// The metrics of this caption alone.
    pub fn values(&self) -> Values {
        Values::new(self.bleu.bleu(), self.rouge_l, self.cider_d)
    }
}

/// References of some images, ready to score any number of systems.
#[derive(Debug, Clone)]
pub struct Scorer {
    tokens: Vec<Vec<Vec<String>>>,
    vocabulary: Vocabulary,
    grams: Vec<Vec<NGrams>>,
    cider: CiderD,
}

impl Scorer {
    /// From the captions of each image. Document frequencies are those of all these images. An image
    /// without a caption scores nought.
    pub fn new<S: AsRef<str>>(references: &[Vec<S>]) -> Self {
        Self::counted(references, |_| 1)
    }

    /// The same with image i standing for `documents(i)` documents in CIDEr-D's document frequencies.
    pub fn counted<S: AsRef<str>>(references: &[Vec<S>], documents: impl Fn(usize) -> u32) -> Self {
        let flat: Vec<&str> = references.iter().flatten().map(AsRef::as_ref).collect();
        let mut all = tokenize_all(&flat).into_iter();
        let tokens: Vec<Vec<Vec<String>>> = references
            .iter()
            .map(|image| all.by_ref().take(image.len()).collect())
            .collect();
        let mut vocabulary = Vocabulary::default();
        let grams = tokens
            .iter()
            .map(|image| {
                image
                    .iter()
                    .map(|t| NGrams::new(&vocabulary.learn(t)))
                    .collect()
            })
            .collect();
        let cider = CiderD::counted(&tokens, documents);
        Self {
            tokens,
            vocabulary,
            grams,
            cider,
        }
    }

    /// Scores one caption for each image, in the order of the references.
    pub fn score<S: AsRef<str>>(&self, captions: &[S]) -> Vec<ImageScore> {
        let rows: Vec<(usize, &str)> = captions
            .iter()
            .map(AsRef::as_ref)
            .enumerate()
            .take(self.tokens.len())
            .collect();
        self.score_rows(&rows)
    }

    /// Scores any captions, each with its image's place among the references. An image that is not
    /// there scores nought.
    pub fn score_rows(&self, rows: &[(usize, &str)]) -> Vec<ImageScore> {
        let captions: Vec<&str> = rows.iter().map(|(_, caption)| *caption).collect();
        let score = |tokens: &[String], image: usize| {
            let grams = NGrams::new(&self.vocabulary.look_up(tokens));
            let references = self.grams.get(image).map_or(&[][..], Vec::as_slice);
            let words = self.tokens.get(image).map_or(&[][..], Vec::as_slice);
            ImageScore {
                bleu: BleuCounts::new(&grams, references),
                rouge_l: rouge::rouge_l(tokens, words),
                cider_d: self.cider.score(image, tokens).unwrap_or(0.0),
            }
        };
        tokenize_all(&captions)
            .iter()
            .zip(rows)
            .map(|(tokens, (image, _))| score(tokens, *image))
            .collect()
    }
}

/// The corpus's values: BLEU of the summed counts, means of ROUGE-L and CIDEr-D. An iterator may
/// give an image more than once, as the bootstrap does.
pub fn corpus<'a>(scores: impl IntoIterator<Item = &'a ImageScore>) -> Values {
    let mut bleu = BleuCounts::default();
    let (mut rouge_l, mut cider_d, mut images) = (0.0, 0.0, 0usize);
    for score in scores {
        bleu += score.bleu;
        rouge_l += score.rouge_l;
        cider_d += score.cider_d;
        images += 1;
    }
    let images = images.max(1) as f64;
    Values::new(bleu.bleu(), rouge_l / images, cider_d / images)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFERENCES: [[&str; 3]; 3] = [
        [
            "A grey cat sleeps on a wooden chair.",
            "The cat is asleep on a chair, isn't it?",
            "A cat on a chair (indoors)",
        ],
        [
            "Two boats lie in the harbour at 1 1/2 metres.",
            "Boats in a harbour.",
            "A pair of blue boats moored side by side",
        ],
        [
            "A child draws with chalk on the pavement.",
            "Chalk drawings on a pavement",
            "A girl's chalk drawing of a boat",
        ],
    ];
    const CAPTIONS: [&str; 3] = [
        "A cat sleeps on a chair.",
        "Two blue boats in the harbour, side by side.",
        "a dog",
    ];

    fn close(found: Values, expected: [f64; 6]) {
        for ((name, a), b) in NAMES.iter().zip(found.array()).zip(expected) {
            assert!((a - b).abs() < 1e-12, "{name}: found {a}, expected {b}");
        }
    }

    /// The expected values are pycocoevalcap 1.2's.
    #[test]
    fn equals_pycocoevalcap() {
        let scores = Scorer::new(&REFERENCES.map(|r| r.to_vec())).score(&CAPTIONS);
        #[rustfmt::skip]
        let images = [
            [0.7165313103349458, 0.7165313103230035, 0.6510118996839961, 0.5066641484344341, 0.8356164383561644, 2.905307502998193],
            [0.9999999997777782, 0.8660254035859749, 0.5984084804464933, 7.730551755025992e-05, 0.6559139784946236, 2.1346267863959003],
            [0.1115650799626501, 4.9893420529863676e-09, 1.770985252956271e-08, 3.3365741273970057e-08, 0.26521739130434785, 0.0],
        ];
        for (score, expected) in scores.iter().zip(images) {
            close(score.values(), expected);
        }
        #[rustfmt::skip]
        close(
            corpus(&scores),
            [0.7013541806360577, 0.6408172356554471, 0.518128329603887, 0.3275925064712672, 0.5855826027183787, 1.6799780964646978],
        );
    }

    #[test]
    fn one_caption_at_a_time() {
        let references = REFERENCES.map(|r| r.to_vec());
        let cider = CiderD::from_captions(&references);
        let all = Scorer::new(&references).score(&CAPTIONS);
        assert_eq!((cider.len(), cider.is_empty()), (3, false));
        for (image, caption) in CAPTIONS.iter().enumerate() {
            assert_eq!(
                cider.score_caption(image, caption),
                Some(all[image].cider_d)
            );
        }
        assert_eq!(cider.score_caption(3, "a dog"), None);
    }

    /// Document frequencies of an image that counts twice are those of one that stands there twice.
    #[test]
    fn an_image_may_count_for_several_documents() {
        let references = REFERENCES.map(|r| r.to_vec());
        let rows = [(0, CAPTIONS[0]), (0, CAPTIONS[2]), (2, CAPTIONS[2])];
        let counted = Scorer::counted(&references, |at| [2, 0, 1][at]).score_rows(&rows);
        let repeated = [0, 0, 2].map(|at| references[at].clone());
        let expected = Scorer::new(&repeated).score(&rows.map(|(_, caption)| caption));
        assert_eq!(counted, expected);
        assert_ne!(counted, Scorer::new(&references).score_rows(&rows));
    }

    #[test]
    fn empty_captions_have_defined_values() {
        let scores = Scorer::new(&[vec!["A dog"], vec![""]]).score(&["", ""]);
        for score in scores {
            assert!(score.values().array().iter().all(|v| v.is_finite()));
        }
    }
}
