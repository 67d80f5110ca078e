//! What a pack's tokenizers and decoder do with text, as JSON: models/export_parity.py holds it against
//! the originals.
//!
//! ```text
//! say tokens PACK < TEXTS              a JSON string a line -> the text tower's ids
//! say decoder-tokens PACK < TEXTS      the same of the decoder's tokenizer
//! say captions PACK METHOD < LISTS     a JSON list of retrieved captions a line -> the best caption's tokens
//! ```

use std::io::{BufRead as _, Write as _, stdin, stdout};

use anyhow::{Context as _, Result, bail};
use captiond::{
    caption::generate::generate,
    decoder::{Condition, Retrieved},
    engine::tract::TractEngine,
    pack::{Method, Pack},
};
use clap::ValueEnum as _;
use tokenizers::Tokenizer;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (what, pack) = match words.as_slice() {
        [what, pack, ..] => (what.as_str(), Pack::open(pack.as_ref())?),
        _ => bail!("say tokens|decoder-tokens|captions PACK [METHOD]"),
    };
    match what {
        "tokens" => {
            let tower = pack.text_tower(&TractEngine)?;
            each_line(|text: String| Ok(serde_json::json!(tower.tokens(&text)?)))
        }
        "decoder-tokens" => {
            let spec = pack.manifest.decoder.as_ref().context("no [decoder]")?;
            let tokenizer = Tokenizer::from_file(pack.folder.join(&spec.tokenizer));
            let tokenizer = tokenizer.map_err(anyhow::Error::msg)?;
            each_line(|text: String| {
                let encoding = tokenizer.encode(text, true).map_err(anyhow::Error::msg)?;
                Ok(serde_json::json!(encoding.get_ids()))
            })
        }
        "captions" => {
            let mut decoder = pack.decoder(&TractEngine)?.context("no [decoder]")?;
            let mut spec = pack.manifest.generation.clone();
            let method = words.get(2).context("which METHOD?")?;
            spec.method = Method::from_str(method, false).map_err(anyhow::Error::msg)?;
            each_line(|captions: Vec<String>| {
                let row = |caption| Retrieved {
                    caption,
                    embedding: Vec::new(),
                    score: 0.0,
                };
                let retrieved: Vec<Retrieved> = captions.into_iter().map(row).collect();
                let condition = Condition {
                    cells: &[],
                    realigned: &[],
                    retrieved: &retrieved,
                };
                let said = generate(decoder.as_mut(), &condition, &spec, &|| false)?;
                Ok(match said.first() {
                    Some(best) => serde_json::json!({
                        "tokens": best.tokens,
                        "log_probability": best.log_probability,
                    }),
                    None => serde_json::Value::Null,
                })
            })
        }
        other => bail!("{other:?}: expected tokens, decoder-tokens or captions"),
    }
}

/// A line of output for each line of input.
fn each_line<T: serde::de::DeserializeOwned>(
    mut answer: impl FnMut(T) -> Result<serde_json::Value>,
) -> Result<()> {
    let mut out = stdout().lock();
    for line in stdin().lock().lines() {
        writeln!(out, "{}", answer(serde_json::from_str(&line?)?)?)?;
    }
    Ok(())
}
