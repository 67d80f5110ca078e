//! Words as numbers, and the n-grams of a caption.

use std::collections::HashMap;

/// Longest n-gram that the metrics count.
pub const ORDERS: usize = 4;
/// Fills the places behind the words of a short n-gram.
const NO_WORD: u32 = u32::MAX;

/// Up to four words, by their numbers.
pub type NGram = [u32; ORDERS];

/// Words of n (1 to 4) minus one: the place of an n-gram in arrays over the orders.
pub fn order(ngram: &NGram) -> usize {
    ngram[1..].iter().filter(|word| **word != NO_WORD).count()
}

/// Numbers of the words that occur in references.
#[derive(Debug, Clone, Default)]
pub struct Vocabulary {
    words: HashMap<String, u32>,
}

impl Vocabulary {
    /// The numbers of a caption's words; new words get the next numbers.
    pub fn learn(&mut self, tokens: &[String]) -> Vec<u32> {
        words(tokens)
            .map(|word| {
                let next = self.words.len() as u32;
                *self.words.entry(word.to_owned()).or_insert(next)
            })
            .collect()
    }

    /// The numbers of a caption's words. Words that no reference has get numbers that are the
    /// caption's own: all that counts is that they differ from each other and from every reference.
    pub fn look_up(&self, tokens: &[String]) -> Vec<u32> {
        let mut unknown: HashMap<&str, u32> = HashMap::new();
        words(tokens)
            .map(|word| {
                self.words.get(word).copied().unwrap_or_else(|| {
                    let next = (self.words.len() + unknown.len()) as u32;
                    *unknown.entry(word).or_insert(next)
                })
            })
            .collect()
    }
}

/// The words that BLEU and CIDEr-D see: a token such as `1 1/2`, whose blank does not break, is two.
fn words(tokens: &[String]) -> impl Iterator<Item = &str> {
    tokens.iter().flat_map(|token| token.split_whitespace())
}

/// The n-grams of a caption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NGrams {
    /// Words in the caption.
    pub words: usize,
    /// Each n-gram with the number of times it occurs, in the order of the n-grams.
    pub counts: Vec<(NGram, u32)>,
}

impl NGrams {
    /// Counts the n-grams of 1 to 4 words.
    pub fn new(words: &[u32]) -> Self {
        let mut all: Vec<NGram> = Vec::with_capacity(ORDERS * words.len());
        for n in 1..=ORDERS {
            for window in words.windows(n) {
                let mut ngram = [NO_WORD; ORDERS];
                ngram[..n].copy_from_slice(window);
                all.push(ngram);
            }
        }
        all.sort_unstable();
        let counts = all
            .chunk_by(|a, b| a == b)
            .map(|run| (run[0], run.len() as u32))
            .collect();
        Self {
            words: words.len(),
            counts,
        }
    }
}

/// Pairs of what two lists have at the same n-gram; both are in the order of the n-grams.
pub fn common<'a, A, B>(
    left: &'a [(NGram, A)],
    right: &'a [(NGram, B)],
) -> impl Iterator<Item = (&'a NGram, &'a A, &'a B)> {
    let mut at = 0;
    left.iter().filter_map(move |(ngram, a)| {
        while right.get(at).is_some_and(|(other, _)| other < ngram) {
            at += 1;
        }
        match right.get(at) {
            Some((other, b)) if other == ngram => Some((ngram, a, b)),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn counts_each_order() {
        let mut vocabulary = Vocabulary::default();
        let grams = NGrams::new(&vocabulary.learn(&tokens("a dog a dog")));
        let mut per_order = [0; ORDERS];
        for (ngram, count) in &grams.counts {
            per_order[order(ngram)] += count;
        }
        assert_eq!((grams.words, per_order), (4, [4, 3, 2, 1]));
        assert_eq!(grams.counts.iter().map(|(_, n)| n).max(), Some(&2));
        assert_eq!(NGrams::new(&[]).counts, []);
    }

    #[test]
    fn unknown_words_differ() {
        let mut vocabulary = Vocabulary::default();
        vocabulary.learn(&tokens("a dog"));
        assert_eq!(
            vocabulary.look_up(&tokens("x a y x")),
            [2, 0, 3, 2],
            "unknown words are equal to themselves alone"
        );
        assert_eq!(vocabulary.look_up(&["1\u{A0}a".into()]).len(), 2);
    }

    #[test]
    fn common_ngrams() {
        let left = NGrams::new(&[0, 1, 2]);
        let right = NGrams::new(&[1, 2, 3]);
        assert_eq!(common(&left.counts, &right.counts).count(), 3);
    }
}
