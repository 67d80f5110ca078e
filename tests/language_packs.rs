//! Packs with published kinds of language models, exported by models/export from tiny random shapes
//! (tests/tiny_packs/make_language.py): towers, tokenizers and generated captions against PyTorch's originals.

#[path = "support/tiny.rs"]
mod tiny;

use std::{collections::BTreeMap, fs};

use captiond::{
    caption::generate::{Generated, generate},
    decoder::{Condition, Decoder, DecoderError, Logits, Retrieved, Step},
    engine::tract::TractEngine,
    frame::{Limits, decode},
    pack::{GenerationSpec, Method, Pack},
};
use serde::Deserialize;
use tiny::{Captiond, copy, draw_colours, edit, folder, tsv};
use tokenizers::Tokenizer;

#[derive(Deserialize)]
struct Reference {
    images: BTreeMap<String, Vec<f32>>,
    captions: BTreeMap<String, Vec<f32>>,
    /// Of the text tower, cut to its length.
    tokens: BTreeMap<String, Vec<i64>>,
    decoder_tokens: BTreeMap<String, Vec<u32>>,
    generated: Vec<Said>,
}

/// A caption by transformers.generate.
#[derive(Deserialize)]
struct Said {
    retrieved: Vec<String>,
    method: String,
    no_repeat: usize,
    tokens: Vec<u32>,
    log_probability: f32,
    /// Whether it came to its end: captiond drops what did not.
    ended: bool,
}

fn reference(name: &str) -> Reference {
    serde_json::from_slice(&fs::read(folder(name).join("reference.json")).unwrap()).unwrap()
}

fn pack(name: &str) -> Pack {
    Pack::open(&folder(name)).unwrap()
}

fn decoder(name: &str) -> Box<dyn Decoder> {
    pack(name).decoder(&TractEngine).unwrap().unwrap()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(x, y)| (x - y).abs())
        .fold(0.0, f32::max)
}

fn retrieved(captions: &[impl AsRef<str>]) -> Vec<Retrieved> {
    let row = |caption: &str| Retrieved {
        caption: caption.to_owned(),
        embedding: Vec::new(),
        score: 0.0,
    };
    captions.iter().map(|c| row(c.as_ref())).collect()
}

fn condition(retrieved: &[Retrieved]) -> Condition<'_> {
    Condition {
        cells: &[],
        realigned: &[],
        retrieved,
    }
}

#[test]
fn towers_embed_as_in_pytorch() {
    for name in ["t5", "gpt2"] {
        let (pack, reference) = (pack(name), reference(name));
        let mut ears = pack.text_tower(&TractEngine).unwrap();
        assert!(reference.captions.len() >= 8);
        for (caption, expected) in &reference.captions {
            let most = largest_difference(&ears.embed(caption).unwrap(), expected);
            assert!(most < 1e-4, "{name}: {caption:?} differs by {most:e}");
        }
        let mut eyes = pack.image_tower(&TractEngine).unwrap();
        assert_eq!(reference.images.len(), 2);
        for (picture, expected) in &reference.images {
            let bytes = fs::read(folder(name).join(picture)).unwrap();
            let pixels = decode(&bytes, Limits::default()).unwrap();
            let most = largest_difference(&eyes.embed(&pixels).unwrap(), expected);
            assert!(most < 1e-4, "{name}: {picture} differs by {most:e}");
        }
    }
}

#[test]
fn tokenizers_give_the_originals_ids() {
    for name in ["t5", "gpt2"] {
        let (pack, reference) = (pack(name), reference(name));
        let ears = pack.text_tower(&TractEngine).unwrap();
        let longest = pack.manifest.text_tower.max_length;
        assert!(reference.tokens.len() >= 10);
        let mut cut = 0;
        for (text, expected) in &reference.tokens {
            // A text that is too long keeps its end.
            let mut expected = expected.clone();
            if expected.len() > longest {
                let end = expected[expected.len() - 1];
                expected.truncate(longest - 1);
                expected.push(end);
            }
            cut += usize::from(expected.len() == longest);
            assert_eq!(ears.tokens(text).unwrap(), expected, "{name}: {text:?}");
        }
        assert!(cut > 0, "{name}: no text was too long");
        let file = folder(name).join("decoder_tokenizer.json");
        let tokenizer = Tokenizer::from_file(file).unwrap();
        for (text, expected) in &reference.decoder_tokens {
            let encoding = tokenizer.encode(text.as_str(), true).unwrap();
            assert_eq!(encoding.get_ids(), expected, "{name}: {text:?}");
        }
    }
}

fn say(decoder: &mut dyn Decoder, spec: &GenerationSpec, captions: &[String]) -> Vec<Generated> {
    let rows = retrieved(captions);
    generate(decoder, &condition(&rows), spec, &|| false).unwrap()
}

#[test]
fn greedy_and_beam_say_what_transformers_generates() {
    for name in ["t5", "gpt2"] {
        let mut decoder = decoder(name);
        let spec = pack(name).manifest.generation;
        let mut ended = 0;
        for said in reference(name).generated {
            let spec = GenerationSpec {
                method: match said.method.as_str() {
                    "greedy" => Method::Greedy,
                    _ => Method::Beam,
                },
                no_repeat: said.no_repeat,
                ..spec.clone()
            };
            let ours = say(decoder.as_mut(), &spec, &said.retrieved);
            let what = format!("{name}, {} of {:?}", said.method, said.retrieved);
            if !said.ended {
                let same = ours.first().is_some_and(|best| best.tokens == said.tokens);
                assert!(!same, "{what}: half a caption was said");
                continue;
            }
            ended += 1;
            let best = ours.first().unwrap_or_else(|| panic!("{what}: nothing"));
            assert_eq!(best.tokens, said.tokens, "{what}");
            let apart = (best.log_probability - said.log_probability).abs();
            assert!(apart < 1e-2, "{what}: {apart}");
        }
        assert!(ended >= 5, "{name}: only {ended} captions came to an end");
    }
}

/// Logits after the tokens, said one after another in a single row.
fn after(decoder: &mut dyn Decoder, rows: &[Retrieved], tokens: &[u32]) -> Vec<f32> {
    let mut logits = decoder.begin(&condition(rows)).unwrap();
    for &token in tokens {
        logits = decoder.step(&[Step { parent: 0, token }]).unwrap();
    }
    let mut rows = logits.rows();
    rows.next().unwrap().to_vec()
}

#[test]
fn rows_that_are_split_swapped_and_dropped_say_what_they_would_have_said_alone() {
    for name in ["t5", "gpt2"] {
        let mut decoder = decoder(name);
        let given = retrieved(&["a dog on a beach", "snow"]);
        let [a, b, c] = [40, 50, 60];
        let alone: Vec<Vec<f32>> = [[a, c], [b, a], [b, b]]
            .iter()
            .map(|tokens| after(decoder.as_mut(), &given, tokens))
            .collect();
        assert!(largest_difference(&alone[0], &alone[1]) > 0.1, "{name}");
        decoder.begin(&condition(&given)).unwrap();
        let step = |parent, token| Step { parent, token };
        decoder.step(&[step(0, c), step(0, b), step(0, a)]).unwrap();
        // Row 0 is dropped, 1 is split, 2 comes first.
        let together: Logits = decoder.step(&[step(2, c), step(1, a), step(1, b)]).unwrap();
        for (row, alone) in together.rows().zip(&alone) {
            let difference = largest_difference(row, alone);
            assert!(difference < 1e-3, "{name}: {difference}");
        }
        let stray = decoder.step(&[step(3, a)]).unwrap_err();
        assert!(matches!(stray, DecoderError::Parent { .. }), "{stray}");
    }
}

#[test]
fn the_prompt_matters_and_leaves_no_trace() {
    for name in ["t5", "gpt2"] {
        let mut decoder = decoder(name);
        let two = retrieved(&["a dog on a beach", "snow"]);
        let other = retrieved(&["a dog on a beach", "a red bus"]);
        let first = after(decoder.as_mut(), &two, &[]);
        assert!(largest_difference(&first, &after(decoder.as_mut(), &other, &[])) > 1e-3);
        assert!(largest_difference(&first, &after(decoder.as_mut(), &[], &[])) > 1e-3);
        assert_eq!(after(decoder.as_mut(), &two, &[]), first, "{name}");
        // No more captions than the pack says (4).
        let mut five = retrieved(&["a", "dog", "on", "grass"]);
        let four = after(decoder.as_mut(), &five, &[]);
        five.extend(two);
        assert_eq!(after(decoder.as_mut(), &five, &[]), four, "{name}");
        let most = decoder.most_tokens();
        decoder.begin(&condition(&five)).unwrap();
        let step = Step {
            parent: 0,
            token: 40,
        };
        for _ in 1..most {
            decoder.step(&[step]).unwrap();
        }
        let full = decoder.step(&[step]).unwrap_err();
        assert!(matches!(full, DecoderError::Full(_)), "{full}");
    }
}

#[test]
fn sampling_is_the_same_each_time_and_reranked() {
    let mut decoder = decoder("t5");
    let spec = GenerationSpec {
        method: Method::Sample,
        candidates: 8,
        ..pack("t5").manifest.generation
    };
    let captions = ["a dog on a beach".to_owned(), "snow".to_owned()];
    let said = say(decoder.as_mut(), &spec, &captions);
    assert!(!said.is_empty(), "no sample came to its end");
    assert_eq!(say(decoder.as_mut(), &spec, &captions), said);
}

/// From towers and a language model to captions, by the program alone.
#[test]
fn an_exported_pack_becomes_a_captioner() {
    for name in ["t5", "gpt2"] {
        let (work, pack) = (tempfile::tempdir().unwrap(), copy(&folder(name)));
        edit(pack.path(), "candidates = 50", "candidates = 5");
        let pairs = draw_colours(work.path(), 12);
        fs::write(work.path().join("pairs.tsv"), tsv(&pairs)).unwrap();
        let captions: Vec<&str> = pairs
            .iter()
            .flat_map(|(_, captions)| captions.iter().map(String::as_str))
            .collect();
        fs::write(work.path().join("captions.txt"), captions.join("\n")).unwrap();
        Captiond::new(&["datastore", "build"])
            .path("--pack", pack.path())
            .path("--cache", work.path().join("cache"))
            .arg(work.path().join("captions.txt"))
            .succeed();
        Captiond::new(&["fit", "--held-out", "0.3", "--map", "ridge"])
            .path("--pack", pack.path())
            .path("--cache", work.path().join("cache"))
            .path("--pairs", work.path().join("pairs.tsv"))
            .succeed();
        for method in ["greedy", "beam", "sample"] {
            let line = Captiond::new(&["caption", "--json", "--method", method])
                .path("--pack", pack.path())
                .arg(work.path().join("red_0.png"))
                .succeed();
            let said: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert!(!said["caption"].as_str().unwrap().is_empty(), "{line}");
            assert!(said["ms"]["generate"].as_f64().unwrap() > 0.0, "{line}");
        }
    }
}

#[test]
fn a_decoder_that_does_not_fit_is_refused_by_file_and_key() {
    let cases = [
        ("t5", "layers = 2", "layers = 3", ["encoder.onnx", "cross"]),
        (
            "t5",
            "head_dimension = 12",
            "head_dimension = 8",
            ["encoder.onnx", "cross"],
        ),
        (
            "t5",
            "prompt_tokens = 512\n",
            "",
            ["decoder", "prompt_tokens"],
        ),
        (
            "t5",
            "encoder = \"encoder.onnx\"\n",
            "",
            ["decoder", "encoder"],
        ),
        ("t5", "begin_id = 0\n", "", ["decoder", "begin_id"]),
        ("t5", "end_id = 1\n", "", ["decoder", "end_id"]),
        (
            "t5",
            "kind = \"encoder-decoder\"",
            "kind = \"causal\"",
            ["encoder", "causal"],
        ),
        (
            "t5",
            "{captions}",
            "the captions",
            ["prompt.template", "{captions}"],
        ),
        (
            "t5",
            "\"decoder_tokenizer.json\"",
            "\"tokenizer.json\"",
            ["tokenizer.json", "vocabulary"],
        ),
        ("gpt2", "heads = 2", "heads = 4", ["decoder.onnx", "past"]),
        (
            "gpt2",
            "prompt_tokens = 128",
            "prompt_tokens = 2",
            ["decoder.prompt_tokens", "8"],
        ),
        (
            "gpt2",
            "kind = \"causal\"",
            "kind = \"prefix\"",
            ["decoder", "prefix"],
        ),
    ];
    for (name, from, to, parts) in cases {
        let copied = copy(&folder(name));
        edit(copied.path(), from, to);
        let loaded = Pack::open(copied.path()).and_then(|pack| pack.decoder(&TractEngine));
        let message = match loaded {
            Ok(_) => panic!("{name}: {to:?} was taken"),
            Err(error) => error.to_string(),
        };
        for part in parts {
            assert!(message.contains(part), "{part:?} is not in: {message}");
        }
    }
}
