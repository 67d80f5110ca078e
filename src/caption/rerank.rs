//! One of several generated captions, by what the decoder, the frame and the others say of it.

use super::Proposal;
use crate::datastore::dot;

/// A candidate with what is known of it.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Candidate {
    /// The sentence.
    pub caption: String,
    /// Mean log-probability of its tokens (natural logarithm).
    pub log_probability: f32,
    /// Cosine of the frame, realigned by the judge, and its centred embedding: aCLIP-S before weight
    /// and cut.
    pub score: f32,
    /// Mean cosine of its centred embedding with the other candidates'; 1 when it is alone.
    pub agreement: f32,
    /// Its centred embedding, of length one.
    #[serde(skip)]
    pub embedding: Vec<f32>,
}

impl Candidate {
    /// It as a caption that could be said.
    pub fn proposal(&self) -> Proposal<'_> {
        Proposal {
            caption: &self.caption,
            score: self.score,
            embedding: &self.embedding,
            log_probability: Some(self.log_probability),
        }
    }
}

/// Weights of the choice; the log-probability has weight one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weights {
    /// Of the score.
    pub score: f32,
    /// Of the agreement.
    pub agreement: f32,
}

/// Puts candidates together with their embeddings (centred, of length one, one for each) and brings
/// the best to the front: the highest log-probability + `weights.score` score + `weights.agreement`
/// agreement. `judged` is the frame, realigned by the judge, of length one. Ties go to the earlier.
pub fn rerank(
    captions: Vec<(String, f32)>,
    embeddings: &[Vec<f32>],
    judged: &[f32],
    weights: Weights,
) -> Vec<Candidate> {
    let mut candidates: Vec<Candidate> = captions
        .into_iter()
        .zip(embeddings)
        .enumerate()
        .map(|(at, ((caption, log_probability), embedding))| {
            let others: Vec<f32> = embeddings
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != at)
                .map(|(_, other)| dot(embedding, other))
                .collect();
            Candidate {
                caption,
                log_probability,
                score: dot(embedding, judged),
                agreement: match others.len() {
                    0 => 1.0,
                    n => others.iter().sum::<f32>() / n as f32,
                },
                embedding: embedding.clone(),
            }
        })
        .collect();
    let merit = |c: &Candidate| {
        c.log_probability + weights.score * c.score + weights.agreement * c.agreement
    };
    candidates.sort_by(|a, b| merit(b).total_cmp(&merit(a)));
    candidates
}

/// Whether a sentence says something twice that a person would say once: a word around one other
/// ("white and white"), a pair of words ("a bike on a bike", "jumping into a jumping into"), or at
/// its end a word that it has said before ("a man in a red hat is wearing a hat").
///
/// Words of one or two letters may come again ("in a", "on a"), as may others where none of this
/// applies ("a little boy and a little girl" is refused for its pair, which costs one candidate).
pub fn repeats(sentence: &str) -> bool {
    let lower = sentence.to_lowercase();
    let words: Vec<&str> = lower.split_whitespace().collect();
    let long = |word: &str| word.chars().count() > 2;
    let around = words.windows(3).any(|w| w[0] == w[2] && long(w[0]));
    let pairs: Vec<&[&str]> = words.windows(2).filter(|pair| long(pair[1])).collect();
    let pair = (0..pairs.len()).any(|i| pairs[i + 1..].contains(&pairs[i]));
    let end = words
        .split_last()
        .is_some_and(|(last, before)| long(last) && before.contains(last));
    around || pair || end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_is_said_once() {
        let bad = [
            "A man is riding a bike on a bike",
            "A white and white dog is running on the grass",
            "A young boy is jumping into a jumping into the air",
            "A man in a red hat is wearing a hat",
            "A crowd of people are standing in front of a crowd",
            "A black and brown dog is playing on the brown dog",
        ];
        bad.iter()
            .for_each(|sentence| assert!(repeats(sentence), "{sentence}"));
        let good = [
            "A man in a blue shirt is sitting in a chair",
            "A brown dog runs behind a black dog in the snow",
            "Two girls in white sit on a white wall beside a road",
            "",
            "Snow",
        ];
        good.iter()
            .for_each(|sentence| assert!(!repeats(sentence), "{sentence}"));
    }

    #[test]
    fn each_weight_has_its_say() {
        let captions = || {
            vec![
                ("likely".to_owned(), -0.5),
                ("seen".to_owned(), -0.9),
                ("agreed".to_owned(), -0.8),
            ]
        };
        // The frame points along the first axis, where "seen" is; the other two lie together.
        let embeddings = [vec![0.0, 1.0], vec![1.0, 0.0], vec![0.6, 0.8]];
        let first = |score, agreement| {
            let best = rerank(
                captions(),
                &embeddings,
                &[1.0, 0.0],
                Weights { score, agreement },
            );
            best[0].caption.clone()
        };
        assert_eq!(first(0.0, 0.0), "likely");
        assert_eq!(first(2.0, 0.0), "seen");
        assert_eq!(first(0.0, 2.0), "agreed");
    }

    #[test]
    fn one_alone_agrees_with_itself() {
        let alone = rerank(
            vec![("a".to_owned(), -1.0)],
            &[vec![0.6, 0.8]],
            &[1.0, 0.0],
            Weights {
                score: 1.0,
                agreement: 1.0,
            },
        );
        assert_eq!(alone.len(), 1);
        assert_eq!((alone[0].agreement, alone[0].score), (1.0, 0.6));
    }
}
