//! [`super::generate`] on a decoder whose probabilities are written out.

use std::{cell::Cell, collections::HashMap};

use tokenizers::{Tokenizer, models::wordlevel::WordLevel};

use super::*;
use crate::decoder::{Logits, Wants, Words};

const END: u32 = 1;

/// Knows the probabilities of the next token after some beginnings; anything else ends the caption.
struct Table {
    next: HashMap<Vec<u32>, Vec<(u32, f32)>>,
    rows: Vec<Vec<u32>>,
    steps: usize,
    most: usize,
    words: Words,
}

const VOCABULARY: usize = 8;

fn words() -> Words {
    let vocabulary = (0..VOCABULARY as u32)
        .map(|id| (format!("w{id}"), id))
        .collect();
    let model = WordLevel::builder()
        .vocab(vocabulary)
        .unk_token("w0".into())
        .build()
        .unwrap();
    Words::new(Tokenizer::new(model), Some(0), &[END], &[2], true)
}

/// Tokens with their probabilities, after some beginning.
type After<'a> = (&'a [u32], &'a [(u32, f32)]);

impl Table {
    fn new(next: &[After<'_>]) -> Self {
        Self {
            next: next
                .iter()
                .map(|(said, shares)| (said.to_vec(), shares.to_vec()))
                .collect(),
            rows: Vec::new(),
            steps: 0,
            most: 10,
            words: words(),
        }
    }

    fn logits(&self) -> Logits {
        let values = self.rows.iter().flat_map(|said| {
            let mut row = vec![-20.0; VOCABULARY];
            match self.next.get(said) {
                Some(shares) => shares
                    .iter()
                    .for_each(|(id, share)| row[*id as usize] = share.ln()),
                None => row[END as usize] = 0.0,
            }
            row
        });
        Logits::new(values.collect(), VOCABULARY)
    }
}

impl Decoder for Table {
    fn begin(&mut self, _: &Condition<'_>) -> Result<Logits, DecoderError> {
        self.rows = vec![Vec::new()];
        Ok(self.logits())
    }

    fn step(&mut self, steps: &[Step]) -> Result<Logits, DecoderError> {
        self.steps += 1;
        let longer = |step: &Step| {
            self.rows[step.parent]
                .iter()
                .copied()
                .chain([step.token])
                .collect()
        };
        self.rows = steps.iter().map(longer).collect();
        Ok(self.logits())
    }

    fn words(&self) -> &Words {
        &self.words
    }

    fn most_tokens(&self) -> usize {
        self.most
    }

    fn wants(&self) -> Wants {
        Wants {
            grid: None,
            retrieved: 0,
        }
    }
}

const NOTHING: Condition<'_> = Condition {
    cells: &[],
    realigned: &[],
    retrieved: &[],
};

fn spec(method: Method, candidates: usize) -> GenerationSpec {
    GenerationSpec {
        method,
        candidates,
        min_tokens: 0,
        ..GenerationSpec::default()
    }
}

fn run(table: &mut Table, spec: &GenerationSpec) -> Vec<Generated> {
    generate(table, &NOTHING, spec, &|| false).unwrap()
}

/// Greedy takes 3 (0.6) and ends with 0.6 x 0.4 = 0.24; 4 then 5 has 0.4 x 1 = 0.4.
fn garden_path() -> Table {
    Table::new(&[
        (&[], &[(3, 0.6), (4, 0.4)]),
        (&[3], &[(5, 0.4), (6, 0.3), (7, 0.3)]),
        (&[4], &[(5, 1.0)]),
    ])
}

#[test]
fn a_beam_finds_what_greedy_walks_past() {
    let greedy = run(&mut garden_path(), &spec(Method::Greedy, 1));
    assert_eq!(greedy[0].tokens, [3, 5]);
    assert!((greedy[0].log_probability - 0.24f32.ln()).abs() < 1e-3);
    let beams = run(&mut garden_path(), &spec(Method::Beam, 2));
    assert_eq!(beams[0].tokens, [4, 5]);
    assert!((beams[0].log_probability - 0.4f32.ln()).abs() < 1e-3);
    assert_eq!(beams[1].tokens, [3, 5]);
}

#[test]
fn samples_are_repeatable_different_and_likely() {
    let many = spec(Method::Sample, 30);
    let drawn = run(&mut garden_path(), &many);
    assert_eq!(drawn, run(&mut garden_path(), &many));
    assert!(drawn.len() > 1 && drawn.len() <= 4, "{drawn:?}");
    // Only the likeliest half: at every step that is the first token alone.
    let narrow = GenerationSpec { top_p: 0.4, ..many };
    let drawn = run(&mut garden_path(), &narrow);
    assert_eq!(
        drawn
            .iter()
            .map(|d| d.tokens.as_slice())
            .collect::<Vec<_>>(),
        [[3, 5]]
    );
}

#[test]
fn says_no_phrase_twice_and_nothing_that_is_no_word() {
    // Left alone it would say 3 4 3 4 3 4 ... for ever; 2 is no word though it's the likeliest.
    let shares: &[(u32, f32)] = &[(2, 0.9), (3, 0.06), (5, 0.04)];
    let mut table = Table::new(&[
        (&[], shares),
        (&[3], &[(4, 1.0)]),
        (&[3, 4], &[(3, 0.9), (5, 0.1)]),
        (&[3, 4, 3], &[(4, 0.9), (6, 0.1)]),
    ]);
    let rule = GenerationSpec {
        no_repeat: 2,
        ..spec(Method::Greedy, 1)
    };
    assert_eq!(run(&mut table, &rule)[0].tokens, [3, 4, 3, 6]);
    assert_eq!(repeating(&[1, 2, 3, 1, 2], 3), [3]);
    assert_eq!(repeating(&[7, 7], 1), [7, 7]);
    assert!(repeating(&[1, 2], 3).is_empty() && repeating(&[1, 1, 1], 0).is_empty());
}

#[test]
fn a_caption_that_does_not_end_is_not_returned() {
    let mut endless = Table::new(&[
        (&[], &[(3, 1.0)]),
        (&[3], &[(4, 1.0)]),
        (&[3, 4], &[(5, 1.0)]),
    ]);
    endless.most = 3;
    assert!(run(&mut endless, &spec(Method::Beam, 1)).is_empty());
    endless.most = 4;
    assert_eq!(run(&mut endless, &spec(Method::Beam, 1)).len(), 0);
    endless.most = 5;
    assert_eq!(
        run(&mut endless, &spec(Method::Beam, 1))[0].tokens,
        [3, 4, 5]
    );
    let longer = GenerationSpec {
        min_tokens: 4,
        ..spec(Method::Greedy, 1)
    };
    let found = run(&mut endless, &longer);
    assert!(
        found.iter().all(|caption| caption.tokens.len() >= 4),
        "{found:?}"
    );
}

#[test]
fn the_deadline_leaves_what_is_finished() {
    let mut table = Table::new(&[
        (&[], &[(3, 0.5), (END, 0.5)]),
        (&[3], &[(4, 1.0)]),
        (&[3, 4], &[(5, 1.0)]),
    ]);
    let asked = Cell::new(0);
    let expired = || {
        asked.set(asked.get() + 1);
        asked.get() >= 2
    };
    let found = generate(&mut table, &NOTHING, &spec(Method::Beam, 2), &expired).unwrap();
    assert_eq!(table.steps, 1);
    // What had ended comes first; 3 4 5 was still on its way.
    assert!(found[0].tokens.is_empty());
    assert!(
        found.iter().all(|caption| caption.tokens.len() < 3),
        "{found:?}"
    );
}
