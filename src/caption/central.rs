//! The most central of the nearest captions.
//!
//! The nearest caption alone repeats one caption's accidents (a colour, a count); the caption that
//! agrees best with the other candidates says what they have in common. Measured on Flickr8k dev:
//! docs/benchmarks.md.

use crate::{
    datastore::{CentredRows, Hit},
    pack::CaptionSpec,
};

/// A chosen candidate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Chosen {
    /// Row in the datastore.
    pub row: usize,
    /// Cosine between the realigned frame and the centred caption.
    pub score: f32,
    /// Mean cosine to the other candidates, in [-1, 1]; 1 when it is the only one.
    pub centrality: f32,
}

/// Chooses among `hits` (best first): the candidate with the highest
/// (1 - `score_weight`) centrality + `score_weight` score. Ties go to the nearer one.
///
/// Returns `None` when there is no candidate.
pub fn choose(rows: &CentredRows, hits: &[Hit], spec: &CaptionSpec) -> Option<Chosen> {
    let hits = &hits[..hits.len().min(spec.candidates)];
    let vectors: Vec<Vec<f32>> = hits.iter().map(|hit| rows.centred(hit.row)).collect();
    // The mean cosine to the others needs only the sum of all: (v.sum - v.v) / (n - 1).
    let mut sum = vec![0f32; rows.store().dimension()];
    for vector in &vectors {
        sum.iter_mut().zip(vector).for_each(|(s, v)| *s += v);
    }
    let others = hits.len().saturating_sub(1) as f32;
    let mut best: Option<(f32, Chosen)> = None;
    for (hit, vector) in hits.iter().zip(&vectors) {
        let with_all: f32 = vector.iter().zip(&sum).map(|(v, s)| v * s).sum();
        let with_itself: f32 = vector.iter().map(|v| v * v).sum();
        let centrality = if others > 0.0 {
            (with_all - with_itself) / others
        } else {
            1.0
        };
        let merit = (1.0 - spec.score_weight) * centrality + spec.score_weight * hit.score;
        if best.as_ref().is_none_or(|(most, _)| merit > *most) {
            best = Some((
                merit,
                Chosen {
                    row: hit.row,
                    score: hit.score,
                    centrality,
                },
            ));
        }
    }
    best.map(|(_, chosen)| chosen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datastore::Datastore;

    fn rows() -> CentredRows {
        let vectors: [[f32; 2]; 4] = [[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [-1.0, 0.0]];
        let names = ["a", "b", "c", "d"];
        let store = Datastore::build(
            names.into_iter().zip(vectors.iter().map(|v| v.as_slice())),
            2,
            "t",
        );
        CentredRows::new(store.unwrap(), &[0.0, 0.0])
    }

    #[test]
    fn the_middle_of_three_beats_the_nearest() {
        let rows = rows();
        let hits = rows.nearest(&[1.0, 0.0], 3);
        assert_eq!(hits[0].row, 0);
        let spec = CaptionSpec {
            candidates: 3,
            score_weight: 0.0,
            ..CaptionSpec::default()
        };
        let chosen = choose(&rows, &hits, &spec).unwrap();
        assert_eq!(chosen.row, 1);
        // cos(b, a) = 0.8, cos(b, c) = 0.96
        assert!((chosen.centrality - 0.88).abs() < 0.01 && (chosen.score - 0.8).abs() < 0.01);
        let nearest = CaptionSpec {
            score_weight: 1.0,
            ..spec
        };
        assert_eq!(choose(&rows, &hits, &nearest).unwrap().row, 0);
    }

    #[test]
    fn one_candidate_and_none() {
        let rows = rows();
        let hits = rows.nearest(&[1.0, 0.0], 4);
        let alone = CaptionSpec {
            candidates: 1,
            ..CaptionSpec::default()
        };
        assert_eq!(choose(&rows, &hits, &alone).unwrap().centrality, 1.0);
        assert_eq!(choose(&rows, &[], &alone), None);
    }
}
