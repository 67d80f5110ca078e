//! From a decoder's logits to captions: greedy, beam search, sampling.
//!
//! All three follow the same rules: no token that is no word, no end before `min_tokens`, no run of
//! `no_repeat` tokens twice, and only captions that reached their end are returned, since half a
//! sentence must not be spoken. When the deadline passes, what is finished is what there is.

use std::collections::HashSet;

use crate::{
    decoder::{Condition, Decoder, DecoderError, Step},
    pack::{GenerationSpec, Method},
};

/// The seed of sampling: fixed, so that the same frame gets the same caption.
const SEED: u64 = 0x5EED;

/// A caption that the decoder has finished.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// Its tokens, without the end.
    pub tokens: Vec<u32>,
    /// Sum of the tokens' log-probabilities (natural logarithm), the end's included.
    pub log_probability: f32,
}

impl Generated {
    /// Log-probability / n^power over the n tokens with the end: longer captions have more factors
    /// below one and would always lose (Wu et al., arXiv 1609.08144, equation 14, in its plain form).
    pub fn normalised(&self, power: f32) -> f32 {
        per_length(self.log_probability, self.tokens.len() + 1, power)
    }

    /// Mean log-probability of a token.
    pub fn mean_log_probability(&self) -> f32 {
        self.normalised(1.0)
    }
}

fn per_length(log_probability: f32, tokens: usize, power: f32) -> f32 {
    log_probability / (tokens.max(1) as f32).powf(power)
}

/// A caption in the making: one row of the decoder.
#[derive(Debug, Clone)]
struct Row {
    tokens: Vec<u32>,
    log_probability: f32,
}

/// Generates captions for a condition, best first by [`Generated::normalised`]; different from each
/// other. Empty when none came to its end in time or in length.
///
/// `expired` is asked before each step; once it says so, what is finished is returned.
///
/// # Errors
/// [`DecoderError`] when the decoder fails.
pub fn generate(
    decoder: &mut dyn Decoder,
    condition: &Condition<'_>,
    spec: &GenerationSpec,
    expired: &dyn Fn() -> bool,
) -> Result<Vec<Generated>, DecoderError> {
    let mut finished = match spec.method {
        Method::Retrieve => Vec::new(),
        Method::Greedy => greedy(decoder, condition, spec, expired)?,
        Method::Beam => beam(decoder, condition, spec, spec.candidates.max(1), expired)?,
        Method::Sample => sample(decoder, condition, spec, expired)?,
    };
    finished.sort_by(|a, b| {
        b.normalised(spec.length_power)
            .total_cmp(&a.normalised(spec.length_power))
    });
    let mut seen = HashSet::new();
    finished.retain(|caption| seen.insert(caption.tokens.clone()));
    Ok(finished)
}

/// The likeliest token each time, up to the first end. (A beam of one would go on behind an end as long
/// as something longer could still be worth more.)
fn greedy(
    decoder: &mut dyn Decoder,
    condition: &Condition<'_>,
    spec: &GenerationSpec,
    expired: &dyn Fn() -> bool,
) -> Result<Vec<Generated>, DecoderError> {
    let mut row = Row {
        tokens: Vec::new(),
        log_probability: 0.0,
    };
    let mut logits = decoder.begin(condition)?;
    for _ in 1..decoder.most_tokens() {
        let best = logits.rows().next().and_then(|values| {
            let values = log_probabilities(decoder, &row, values, spec);
            let token = largest(&values, 1).into_iter().next()?;
            Some((token, values[token as usize]))
        });
        let Some((token, log_probability)) = best.filter(|(_, value)| value.is_finite()) else {
            break;
        };
        row.log_probability += log_probability;
        if decoder.words().is_end(token) {
            return Ok(vec![Generated {
                tokens: row.tokens,
                log_probability: row.log_probability,
            }]);
        }
        row.tokens.push(token);
        if expired() {
            break;
        }
        logits = decoder.step(&[Step { parent: 0, token }])?;
    }
    Ok(Vec::new())
}

/// Beam search. It ends when `width` captions are finished and the likeliest unfinished one is, at
/// its present length, already worse than the worst of them.
fn beam(
    decoder: &mut dyn Decoder,
    condition: &Condition<'_>,
    spec: &GenerationSpec,
    width: usize,
    expired: &dyn Fn() -> bool,
) -> Result<Vec<Generated>, DecoderError> {
    let mut finished: Vec<Generated> = Vec::new();
    let mut rows = vec![Row {
        tokens: Vec::new(),
        log_probability: 0.0,
    }];
    let mut logits = decoder.begin(condition)?;
    for _ in 1..decoder.most_tokens() {
        // Twice as many as are followed: half of them may be ends.
        let mut next: Vec<(usize, u32, f32)> = Vec::with_capacity(2 * width * rows.len());
        for (at, (row, values)) in rows.iter().zip(logits.rows()).enumerate() {
            let values = log_probabilities(decoder, row, values, spec);
            next.extend(
                largest(&values, 2 * width)
                    .into_iter()
                    .map(|token| (at, token, row.log_probability + values[token as usize])),
            );
        }
        next.retain(|(_, _, log_probability)| log_probability.is_finite());
        next.sort_by(|a, b| b.2.total_cmp(&a.2).then((a.0, a.1).cmp(&(b.0, b.1))));
        let (mut steps, mut longer) = (Vec::new(), Vec::new());
        for (rank, (parent, token, log_probability)) in next.into_iter().enumerate() {
            if decoder.words().is_end(token) {
                // An end counts only among the best: otherwise every poor stop would fill the list. Of
                // two ends of one caption the likelier comes first.
                let said = |caption: &Generated| caption.tokens == rows[parent].tokens;
                if rank < width && !finished.iter().any(said) {
                    finished.push(Generated {
                        tokens: rows[parent].tokens.clone(),
                        log_probability,
                    });
                }
            } else if steps.len() < width {
                let mut tokens = rows[parent].tokens.clone();
                tokens.push(token);
                steps.push(Step { parent, token });
                longer.push(Row {
                    tokens,
                    log_probability,
                });
            }
        }
        finished.sort_by(|a, b| {
            b.normalised(spec.length_power)
                .total_cmp(&a.normalised(spec.length_power))
        });
        finished.truncate(width);
        let hope = longer
            .iter()
            .map(|row| per_length(row.log_probability, row.tokens.len(), spec.length_power));
        let hope = hope.fold(f32::NEG_INFINITY, f32::max);
        let settled = finished.len() == width
            && finished
                .last()
                .is_some_and(|worst| worst.normalised(spec.length_power) >= hope);
        if settled || steps.is_empty() || expired() {
            break;
        }
        logits = decoder.step(&steps)?;
        rows = longer;
    }
    Ok(finished)
}

/// `spec.candidates` captions drawn side by side from the likeliest tokens (nucleus sampling, Holtzman
/// et al., arXiv 1904.09751). Their log-probabilities are those of the decoder, not of the cut and
/// tempered distribution that they were drawn from.
fn sample(
    decoder: &mut dyn Decoder,
    condition: &Condition<'_>,
    spec: &GenerationSpec,
    expired: &dyn Fn() -> bool,
) -> Result<Vec<Generated>, DecoderError> {
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut finished = Vec::new();
    let first = decoder.begin(condition)?;
    // All samples begin from the one row that the condition gave.
    let mut rows = vec![
        Row {
            tokens: Vec::new(),
            log_probability: 0.0
        };
        spec.candidates.max(1)
    ];
    let mut parents = vec![0usize; rows.len()];
    let mut logits = first;
    for _ in 1..decoder.most_tokens() {
        let values: Vec<&[f32]> = logits.rows().collect();
        let (mut steps, mut longer) = (Vec::new(), Vec::new());
        for (mut row, &parent) in rows.into_iter().zip(&parents) {
            let Some(values) = values.get(parent) else {
                continue;
            };
            let values = log_probabilities(decoder, &row, values, spec);
            let Some(token) = draw(&values, spec, &mut random) else {
                continue;
            };
            row.log_probability += values[token as usize];
            if decoder.words().is_end(token) {
                finished.push(Generated {
                    tokens: row.tokens,
                    log_probability: row.log_probability,
                });
            } else {
                row.tokens.push(token);
                steps.push(Step { parent, token });
                longer.push(row);
            }
        }
        if steps.is_empty() || expired() {
            break;
        }
        logits = decoder.step(&steps)?;
        parents = (0..longer.len()).collect();
        rows = longer;
    }
    Ok(finished)
}

/// Log-softmax of a row's logits, with what the rules forbid at minus infinity.
fn log_probabilities(
    decoder: &dyn Decoder,
    row: &Row,
    logits: &[f32],
    spec: &GenerationSpec,
) -> Vec<f32> {
    let words = decoder.words();
    let mut values = logits.to_vec();
    for (id, value) in values.iter_mut().enumerate() {
        let id = id as u32;
        let too_soon = words.is_end(id) && row.tokens.len() < spec.min_tokens;
        if too_soon || words.is_never(id) || !value.is_finite() {
            *value = f32::NEG_INFINITY;
        }
    }
    for token in repeating(&row.tokens, spec.no_repeat) {
        if let Some(value) = values.get_mut(token as usize) {
            *value = f32::NEG_INFINITY;
        }
    }
    let peak = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = values.iter().map(|v| (v - peak).exp()).sum();
    let log_sum = peak + sum.ln();
    values.iter_mut().for_each(|v| *v -= log_sum);
    values
}

/// The tokens that would say a run of `length` tokens a second time.
fn repeating(tokens: &[u32], length: usize) -> Vec<u32> {
    if length == 0 || tokens.len() < length {
        return Vec::new();
    }
    let tail = &tokens[tokens.len() - (length - 1)..];
    tokens
        .windows(length)
        .filter(|run| run[..length - 1] == *tail)
        .map(|run| run[length - 1])
        .collect()
}

/// Ids of the `count` largest values, in no order.
fn largest(values: &[f32], count: usize) -> Vec<u32> {
    let mut ids: Vec<u32> = (0..values.len() as u32).collect();
    let order = |a: &u32, b: &u32| {
        values[*b as usize]
            .total_cmp(&values[*a as usize])
            .then(a.cmp(b))
    };
    if count > 0 && count < ids.len() {
        ids.select_nth_unstable_by(count - 1, order);
    }
    ids.truncate(count);
    ids
}

/// Draws a token; none when everything is forbidden.
fn draw(
    log_probabilities: &[f32],
    spec: &GenerationSpec,
    random: &mut fastrand::Rng,
) -> Option<u32> {
    let temperature = spec.temperature.max(1e-3);
    let mut shares: Vec<(u32, f32)> = log_probabilities
        .iter()
        .enumerate()
        .filter(|(_, v)| v.is_finite())
        .map(|(id, v)| (id as u32, (v / temperature).exp()))
        .collect();
    shares.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let total: f32 = shares.iter().map(|(_, share)| share).sum();
    let mut kept = 0.0;
    let mut count = 0;
    for (_, share) in &shares {
        kept += share;
        count += 1;
        if kept >= spec.top_p * total {
            break;
        }
    }
    let mut left = random.f32() * kept;
    for (id, share) in &shares[..count] {
        left -= share;
        if left <= 0.0 {
            return Some(*id);
        }
    }
    shares.get(count.saturating_sub(1)).map(|(id, _)| *id)
}

#[cfg(test)]
#[path = "generate_tests.rs"]
mod tests;
