//! The default pack's decoder, run by the real engine: its cache, its rows, and what it refuses.

use std::{fs, path::Path};

use captiond::{
    decoder::{Condition, Decoder, DecoderError, Retrieved, Step},
    engine::tract::TractEngine,
    pack::Pack,
};

fn pack() -> Pack {
    Pack::open(Path::new("models/default")).unwrap()
}

fn decoder() -> Box<dyn Decoder> {
    pack()
        .decoder(&TractEngine)
        .unwrap()
        .expect("the default pack has a decoder")
}

/// A condition from a formula: no picture is needed to test the machinery.
struct Made {
    cells: Vec<f32>,
    realigned: Vec<f32>,
    retrieved: Vec<Retrieved>,
}

fn wave(length: usize, seed: f32) -> Vec<f32> {
    let values: Vec<f32> = (0..length).map(|i| (i as f32 * seed).sin()).collect();
    let norm = values.iter().map(|v| v * v).sum::<f32>().sqrt();
    values.iter().map(|v| v / norm).collect()
}

fn made() -> Made {
    let row = |seed: f32| Retrieved {
        caption: String::new(),
        embedding: wave(384, seed),
        score: 0.5,
    };
    Made {
        cells: (0..9)
            .flat_map(|cell| wave(1280, 0.3 + cell as f32 * 0.1))
            .collect(),
        realigned: wave(384, 0.7),
        retrieved: vec![row(0.11), row(0.23), row(0.37)],
    }
}

impl Made {
    fn condition(&self) -> Condition<'_> {
        Condition {
            cells: &self.cells,
            realigned: &self.realigned,
            retrieved: &self.retrieved,
        }
    }
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(x, y)| (x - y).abs())
        .fold(0.0, f32::max)
}

/// Logits after the tokens, said one after another in a single row.
fn after(decoder: &mut dyn Decoder, made: &Made, tokens: &[u32]) -> Vec<f32> {
    let mut logits = decoder.begin(&made.condition()).unwrap();
    for &token in tokens {
        logits = decoder.step(&[Step { parent: 0, token }]).unwrap();
    }
    assert_eq!(logits.rows().len(), 1);
    let mut rows = logits.rows();
    rows.next().unwrap().to_vec()
}

#[test]
fn rows_that_are_split_swapped_and_dropped_say_what_they_would_have_said_alone() {
    let (mut decoder, made) = (decoder(), made());
    let size = decoder.words().size();
    let [a, b, c] = [40, 50, 60].map(|id| id as u32 % size as u32);
    let alone: Vec<Vec<f32>> = [[a, c], [b, a], [b, b]]
        .iter()
        .map(|tokens| after(decoder.as_mut(), &made, tokens))
        .collect();
    assert!(
        largest_difference(&alone[0], &alone[1]) > 0.1,
        "the rows must differ to tell them apart"
    );
    decoder.begin(&made.condition()).unwrap();
    let step = |parent, token| Step { parent, token };
    decoder.step(&[step(0, c), step(0, b), step(0, a)]).unwrap();
    // Row 0 is dropped, 1 is split, 2 comes first.
    let together = decoder.step(&[step(2, c), step(1, a), step(1, b)]).unwrap();
    for (row, alone) in together.rows().zip(&alone) {
        let difference = largest_difference(row, alone);
        assert!(difference < 1e-3, "{difference}");
    }
}

#[test]
fn every_part_of_the_condition_matters_and_may_be_hidden() {
    let (mut decoder, made) = (decoder(), made());
    let mut first = |condition: Condition<'_>| {
        let logits = decoder.begin(&condition).unwrap();
        let row = logits.rows().next().unwrap().to_vec();
        assert!(row.iter().all(|v| v.is_finite()));
        row
    };
    let whole = first(made.condition());
    let nothing = first(Condition {
        cells: &[],
        realigned: &[],
        retrieved: &[],
    });
    let without = [
        Condition {
            cells: &[],
            ..made.condition()
        },
        Condition {
            realigned: &[],
            ..made.condition()
        },
        Condition {
            retrieved: &[],
            ..made.condition()
        },
    ];
    for condition in without {
        let row = first(condition);
        assert!(largest_difference(&row, &whole) > 1e-3);
        assert!(largest_difference(&row, &nothing) > 1e-3);
    }
    // What was said before a new beginning leaves no trace.
    assert_eq!(first(made.condition()), whole);
}

#[test]
fn refuses_what_does_not_fit() {
    let (mut decoder, made) = (decoder(), made());
    let short = Condition {
        realigned: &made.realigned[1..],
        ..made.condition()
    };
    let error = decoder.begin(&short).unwrap_err().to_string();
    assert_eq!(error, "realigned: found 383 numbers, expected 384");
    let error = decoder
        .step(&[Step {
            parent: 0,
            token: 5,
        }])
        .unwrap_err();
    assert!(
        matches!(error, DecoderError::Parent { parent: 0, rows: 0 }),
        "{error}"
    );
    decoder.begin(&made.condition()).unwrap();
    for _ in 1..decoder.most_tokens() {
        decoder
            .step(&[Step {
                parent: 0,
                token: 5,
            }])
            .unwrap();
    }
    let error = decoder
        .step(&[Step {
            parent: 0,
            token: 5,
        }])
        .unwrap_err();
    assert!(matches!(error, DecoderError::Full(_)), "{error}");
}

#[test]
fn a_pack_whose_decoder_does_not_fit_is_refused_with_its_file() {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir("models/default").unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    let manifest = fs::read_to_string("models/default/pack.toml").unwrap();
    let refused = |from: &str, to: &str| {
        assert!(manifest.contains(from), "{from}");
        fs::write(
            folder.path().join("pack.toml"),
            manifest.replacen(from, to, 1),
        )
        .unwrap();
        let opened = Pack::open(folder.path());
        match opened.and_then(|pack| pack.decoder(&TractEngine).map(|_| ())) {
            Ok(()) => panic!("{to} was taken"),
            Err(error) => error.to_string(),
        }
    };
    let message = refused("grid = [3, 3]", "grid = [2, 2]");
    assert!(
        message.contains("prefix.onnx") && message.contains("cells"),
        "{message}"
    );
    let message = refused("width = 256", "width = 128");
    assert!(
        message.contains("decoder.onnx") && message.contains("prefix"),
        "{message}"
    );
    let message = refused("heads = 4", "heads = 3");
    assert!(
        message.contains("decoder.heads") && message.contains("width"),
        "{message}"
    );
    let message = refused("\"decoder_tokenizer.json\"", "\"tokenizer.json\"");
    assert!(
        message.contains("tokenizer.json: vocabulary: found"),
        "{message}"
    );
    let message = refused("kind = \"prefix\"", "kind = \"postfix\"");
    assert!(message.contains("decoder.kind"), "{message}");
}
