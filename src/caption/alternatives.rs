//! Captions that say something else of the same frame.
//!
//! A listener can't see that a caption is wrong, but hears when two of them contradict each other:
//! shown such disagreement, people find unreliable claims several times as often (arXiv 2507.15692).

use crate::{captioner::Neighbour, datastore::dot};

/// The most alternatives: more can't be listened to.
pub const MOST: usize = 3;

/// Captions whose centred embeddings have at least this cosine say the same. Chosen on dev
/// photographs: docs/benchmarks.md.
pub const AGREE: f32 = 0.4;

/// A proposal whose score is lower than the chosen caption's by more than this is no alternative:
/// the frame itself speaks against it.
pub const BEHIND: f32 = 0.1;

/// A caption that could have been said.
#[derive(Debug, Clone, Copy)]
pub struct Proposal<'a> {
    /// The sentence.
    pub caption: &'a str,
    /// Cosine of the frame, realigned by the judge, and its centred embedding.
    pub score: f32,
    /// The centred embedding, of length one.
    pub embedding: &'a [f32],
    /// Mean log-probability of its tokens; none when the decoder didn't make it.
    pub log_probability: Option<f32>,
}

/// Up to [`MOST`] proposals, best score first, that agree neither with the chosen caption nor with
/// each other ([`AGREE`]) and fit the frame about as well ([`BEHIND`]); none when all agree.
pub fn alternatives(chosen: Proposal<'_>, mut proposals: Vec<Proposal<'_>>) -> Vec<Neighbour> {
    // The caption itself is among them; an embedding on the mean would agree with nothing.
    proposals.retain(|proposal| {
        proposal.score >= chosen.score - BEHIND && proposal.caption != chosen.caption
    });
    // Stable: of equal scores the one that came first.
    proposals.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut said = vec![chosen.embedding];
    let mut found = Vec::new();
    for proposal in proposals {
        if found.len() == MOST {
            break;
        }
        if said.iter().all(|one| dot(one, proposal.embedding) < AGREE) {
            said.push(proposal.embedding);
            found.push(Neighbour {
                caption: proposal.caption.to_owned(),
                score: proposal.score,
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(degrees: f32) -> [f32; 2] {
        let (sine, cosine) = degrees.to_radians().sin_cos();
        [cosine, sine]
    }

    fn captions(angles: &[(&'static str, f32, f32)]) -> Vec<String> {
        let vectors: Vec<[f32; 2]> = angles.iter().map(|(_, angle, _)| at(*angle)).collect();
        let proposals = angles
            .iter()
            .zip(&vectors)
            .map(|((caption, _, score), vector)| Proposal {
                caption,
                score: *score,
                embedding: vector,
                log_probability: None,
            });
        let chosen = Proposal {
            caption: "chosen",
            score: 0.5,
            embedding: &at(0.0),
            log_probability: None,
        };
        let found = alternatives(chosen, proposals.collect());
        found.into_iter().map(|found| found.caption).collect()
    }

    #[test]
    fn captions_that_agree_have_no_alternatives() {
        assert!(
            captions(&[
                ("same", 0.0, 0.9),
                ("near", 40.0, 0.8),
                ("also", -50.0, 0.7)
            ])
            .is_empty()
        );
        assert!(captions(&[]).is_empty());
    }

    #[test]
    fn the_best_of_each_kind_is_named_and_no_more_than_three() {
        let found = captions(&[
            ("far", 90.0, 0.5),
            ("near", 10.0, 0.9),
            ("beside far", 100.0, 0.6),
            ("opposite", 180.0, 0.45),
            ("beside opposite", 170.0, 0.43),
            ("below", 265.0, 0.41),
            ("too far behind", 265.0, 0.39),
        ]);
        assert_eq!(found, ["beside far", "opposite", "below"]);
        assert!(captions(&[("too far behind", 90.0, 0.39)]).is_empty());
        // Four that all differ.
        let many: Vec<_> = (1..5).map(|i| ("x", 70.0 * i as f32, 0.5)).collect();
        assert_eq!(captions(&many).len(), MOST);
    }
}
