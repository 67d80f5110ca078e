//! How a pack's decoder is let speak: `[generation]` of `pack.toml`, and the ranges of it and of `[decoder]`.

use serde::Deserialize;

use super::Manifest;
use crate::caption::Corrections;

/// How a decoder is let speak, and how one of its captions is chosen.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GenerationSpec {
    /// How tokens are chosen. Default: "beam".
    pub method: Method,
    /// Captions that are followed at once ("beam") or drawn ("sample"). Default: 3.
    pub candidates: usize,
    /// Divides the logits before sampling. Default: 1.
    pub temperature: f32,
    /// Samples come from the likeliest tokens that together have this probability. Default: 0.9.
    pub top_p: f32,
    /// A caption of n tokens is judged by its log-probability / n^this. Default: 0.7.
    pub length_power: f32,
    /// Fewest tokens before the end. Default: 3.
    pub min_tokens: usize,
    /// No run of so many tokens is said twice; 0 allows it. Default: 3.
    pub no_repeat: usize,
    /// Weight of aCLIP-S beside the log-probability when one of the candidates is chosen; 0 leaves
    /// the choice to the decoder. Default: 0.
    pub score_weight: f32,
    /// Weight of the mean cosine with the other candidates in that choice. Default: 0.
    pub agreement_weight: f32,
    /// The datastore's caption is said instead of the decoder's when its aCLIP-S cosine is higher by
    /// more than this: a decoder speaks of what it was trained on, also where there is nothing of
    /// the kind. Default: 2, which is never.
    pub retrieval_margin: f32,
    /// Milliseconds after which the best caption so far is taken. Default: 1000.
    pub deadline_ms: u64,
    /// What is mended in the decoder's sentences, one rule after another. Default: nothing.
    pub corrections: Vec<Correction>,
}

/// A slip of the decoder and what stands in its place.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Correction {
    /// Regular expression (the syntax of Rust's regex crate: no look-around, no back references).
    pub find: String,
    /// Replacement; `$1` is the first group.
    pub replace: String,
}

impl Default for GenerationSpec {
    fn default() -> Self {
        Self {
            method: Method::Beam,
            candidates: 3,
            temperature: 1.0,
            top_p: 0.9,
            length_power: 0.7,
            min_tokens: 3,
            no_repeat: 3,
            score_weight: 0.0,
            agreement_weight: 0.0,
            retrieval_margin: 2.0,
            deadline_ms: 1000,
            corrections: Vec::new(),
        }
    }
}

/// How tokens are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Nothing is generated: the caption comes from the datastore.
    Retrieve,
    /// The likeliest token each time.
    Greedy,
    /// Several captions at once, the likeliest kept.
    Beam,
    /// Drawn at random from the likely tokens (seeded: the same frame gets the same caption).
    Sample,
}

/// Ranges of `[decoder]` and `[generation]`: (field, found, expected) of the first that is off.
pub(super) fn check_speech(m: &Manifest) -> Result<(), (String, String, &'static str)> {
    let g = &m.generation;
    let positive = |v: f32| v.is_finite() && v > 0.0;
    let weight = |v: f32| v.is_finite() && v >= 0.0;
    let mut checks = vec![
        (
            "generation.candidates",
            (1..=64).contains(&g.candidates),
            g.candidates.to_string(),
            "1 to 64",
        ),
        (
            "generation.temperature",
            positive(g.temperature),
            g.temperature.to_string(),
            "a positive number",
        ),
        (
            "generation.top_p",
            positive(g.top_p) && g.top_p <= 1.0,
            g.top_p.to_string(),
            "above 0, at most 1",
        ),
        (
            "generation.length_power",
            weight(g.length_power),
            g.length_power.to_string(),
            "0 or more",
        ),
        (
            "generation.score_weight",
            weight(g.score_weight),
            g.score_weight.to_string(),
            "0 or more",
        ),
        (
            "generation.agreement_weight",
            weight(g.agreement_weight),
            g.agreement_weight.to_string(),
            "0 or more",
        ),
        (
            "generation.retrieval_margin",
            weight(g.retrieval_margin),
            g.retrieval_margin.to_string(),
            "0 or more",
        ),
        (
            "generation.deadline_ms",
            g.deadline_ms > 0,
            g.deadline_ms.to_string(),
            "1 or more",
        ),
    ];
    if let Some(decoder) = &m.decoder {
        checks.extend(decoder.checks(m.prompt.as_ref()));
    }
    if let Err(error) = Corrections::new(&g.corrections) {
        let found = format!("{:?}: {}", g.corrections[error.at].find, error.cause);
        let field = format!("generation.corrections[{}].find", error.at);
        return Err((field, found, "a regular expression"));
    }
    match checks.into_iter().find(|(_, fits, ..)| !fits) {
        Some((field, _, found, expected)) => Err((field.to_owned(), found, expected)),
        None => Ok(()),
    }
}
