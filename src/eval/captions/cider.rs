//! CIDEr-D (Vedantam et al. 2015) as pycocoevalcap 1.2 computes it: n-grams of 1 to 4 words, weighted
//! by tf-idf with the document frequencies of the references, clipped cosine, a Gaussian penalty
//! (sigma 6) on the difference of the numbers of bigrams, mean over the orders and the references,
//! times 10.

use std::collections::HashMap;

use super::{
    ngrams::{NGram, NGrams, ORDERS, Vocabulary, common, order},
    tokenizer::{tokenize, tokenize_all},
};

/// Width of the penalty on a difference in length, in bigrams.
const SIGMA: f64 = 6.0;

/// References with their document frequencies, ready to score any number of captions. A document is
/// an image: an n-gram counts once for each image that has it in a reference.
#[derive(Debug, Clone)]
pub struct CiderD {
    vocabulary: Vocabulary,
    /// ln(documents) - ln(documents with the n-gram).
    weights: HashMap<NGram, f64>,
    /// ln(documents): the weight of an n-gram that no reference has.
    unseen: f64,
    references: Vec<Vec<Weighted>>,
}

/// A caption as a vector of tf-idf.
#[derive(Debug, Clone)]
struct Weighted {
    values: Vec<(NGram, f64)>,
    /// Euclidean norm for each order.
    norms: [f64; ORDERS],
    /// Number of bigrams.
    bigrams: f64,
}

impl CiderD {
    /// From the tokens of the references of each image.
    pub fn new(references: &[Vec<Vec<String>>]) -> Self {
        Self::counted(references, |_| 1)
    }

    /// The same with image i standing for `documents(i)` documents, as if its references came so
    /// many times.
    pub fn counted(references: &[Vec<Vec<String>>], documents: impl Fn(usize) -> u32) -> Self {
        let mut vocabulary = Vocabulary::default();
        let grams: Vec<Vec<NGrams>> = references
            .iter()
            .map(|image| {
                image
                    .iter()
                    .map(|tokens| NGrams::new(&vocabulary.learn(tokens)))
                    .collect()
            })
            .collect();
        let mut all = 0;
        let mut documents_with: HashMap<NGram, u32> = HashMap::new();
        for (at, image) in grams.iter().enumerate() {
            let count = documents(at);
            all += count;
            let mut here: Vec<&NGram> = image
                .iter()
                .flat_map(|g| g.counts.iter().map(|(ngram, _)| ngram))
                .collect();
            here.sort_unstable();
            here.dedup();
            for ngram in here {
                *documents_with.entry(*ngram).or_default() += count;
            }
        }
        let unseen = f64::from(all.max(1)).ln();
        let mut cider = Self {
            vocabulary,
            weights: documents_with
                .into_iter()
                .map(|(ngram, n)| (ngram, unseen - f64::from(n.max(1)).ln()))
                .collect(),
            unseen,
            references: Vec::new(),
        };
        cider.references = grams
            .iter()
            .map(|image| image.iter().map(|g| cider.weigh(g)).collect())
            .collect();
        cider
    }

    /// From the captions of each image, as they are written.
    pub fn from_captions<S: AsRef<str>>(references: &[Vec<S>]) -> Self {
        let flat: Vec<&str> = references.iter().flatten().map(AsRef::as_ref).collect();
        let mut tokens = tokenize_all(&flat).into_iter();
        let images: Vec<Vec<Vec<String>>> = references
            .iter()
            .map(|image| tokens.by_ref().take(image.len()).collect())
            .collect();
        Self::new(&images)
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.references.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.references.is_empty()
    }

    /// CIDEr-D of a caption of an image, both by its place in the references, in [0, 10]. `None` when
    /// there is no such image or it has no reference.
    pub fn score(&self, image: usize, tokens: &[String]) -> Option<f64> {
        let references = self.references.get(image).filter(|r| !r.is_empty())?;
        let caption = self.weigh(&NGrams::new(&self.vocabulary.look_up(tokens)));
        let sum: f64 = references.iter().map(|r| similarity(&caption, r)).sum();
        Some(10.0 * sum / references.len() as f64)
    }

    /// The same for a caption as it is written. It is tokenized by itself, so the words of the next
    /// caption have no say (see [`tokenize_all`]).
    pub fn score_caption(&self, image: usize, caption: &str) -> Option<f64> {
        self.score(image, &tokenize(caption))
    }

    fn weigh(&self, grams: &NGrams) -> Weighted {
        let mut norms = [0.0; ORDERS];
        let values = grams
            .counts
            .iter()
            .map(|(ngram, count)| {
                let weight = self.weights.get(ngram).copied().unwrap_or(self.unseen);
                let value = f64::from(*count) * weight;
                norms[order(ngram)] += value * value;
                (*ngram, value)
            })
            .collect();
        Weighted {
            values,
            norms: norms.map(f64::sqrt),
            bigrams: grams.words.saturating_sub(1) as f64,
        }
    }
}

/// Mean over the orders of the clipped cosine, with the penalty for the difference in length.
fn similarity(caption: &Weighted, reference: &Weighted) -> f64 {
    let mut products = [0.0; ORDERS];
    for (ngram, found, expected) in common(&caption.values, &reference.values) {
        products[order(ngram)] += found.min(*expected) * expected;
    }
    let difference = caption.bigrams - reference.bigrams;
    let penalty = (-difference * difference / (2.0 * SIGMA * SIGMA)).exp();
    let mut sum = 0.0;
    for (n, product) in products.iter().enumerate() {
        let norm = caption.norms[n] * reference.norms[n];
        // Without a norm the product is nought as well.
        sum += if norm > 0.0 { product / norm } else { *product };
    }
    penalty * sum / ORDERS as f64
}
