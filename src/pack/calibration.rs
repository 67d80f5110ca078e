//! The pack's calibration: `calibration.toml`, and whether it still fits the pack.

use serde::{Deserialize, Serialize};

use super::{Method, Pack, PackError, load::identity};
use crate::caption::confidence::{Calibration, Logistic};

/// The only format that this version reads.
const FORMAT: u32 = 1;

/// A whole `calibration.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalibrationFile {
    /// Version of this format.
    pub format: u32,
    /// What it was fitted for.
    pub chain: Chain,
    /// Fitted on people's votes.
    pub votes: Logistic,
    /// Fitted on the chain's own captions.
    pub own: Option<Logistic>,
}

/// The parts of a pack that its confidences depend on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chain {
    /// Identity of what scores a caption: towers, maps, number of neighbours.
    pub scores: String,
    /// Identity of what makes captions: datastore, decoder, and how one is chosen.
    pub captions: String,
}

/// Whether a calibration fits a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It was made for all of it.
    Current,
    /// Captions are made differently now: its probabilities are a guess.
    OtherCaptions,
    /// Captions are scored differently now: it means nothing any more.
    OtherScores,
}

impl Standing {
    /// What to tell the owner; nothing when it fits.
    pub fn warning(self) -> Option<&'static str> {
        match self {
            Self::Current => None,
            Self::OtherCaptions => Some(
                "the calibration was made with another datastore, decoder or [generation]: confidences are marked as not calibrated; run `captiond calibrate`",
            ),
            Self::OtherScores => Some(
                "the calibration was made with other towers, another realignment or judge, or other caption.neighbours: it is not used; run `captiond calibrate`",
            ),
        }
    }
}

impl CalibrationFile {
    /// A calibration for a pack as it is now.
    pub fn new(calibration: Calibration, pack: &Pack) -> Self {
        Self {
            format: FORMAT,
            chain: pack.chain(),
            votes: calibration.votes,
            own: calibration.own,
        }
    }
}

impl Pack {
    /// The calibration, and whether it fits; none when the pack has none.
    ///
    /// # Errors
    /// When the file is no calibration, or a number of it makes no sense.
    pub fn calibration(&self) -> Result<Option<(Calibration, Standing)>, PackError> {
        let Some(part) = &self.manifest.calibration else {
            return Ok(None);
        };
        let name = &part.file;
        let fail = |field: &str, found: String, expected: String| {
            let remedy = "make it again with `captiond calibrate`, or copy the pack again";
            self.mismatch(name, field, found, expected, remedy)
        };
        let text = String::from_utf8_lossy(&self.bytes(name)?).into_owned();
        let file: CalibrationFile = toml::from_str(&text).map_err(|error| {
            let line = error
                .span()
                .map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            fail(
                &format!("line {line}"),
                error.message().to_owned(),
                "a calibration (docs/model-packs.md)".to_owned(),
            )
        })?;
        if file.format != FORMAT {
            return Err(fail("format", file.format.to_string(), FORMAT.to_string()));
        }
        let calibration = Calibration {
            votes: file.votes,
            own: file.own,
        };
        let parts: [(&str, Option<&Logistic>); 2] = [
            ("votes", Some(&calibration.votes)),
            ("own", calibration.own.as_ref()),
        ];
        for (section, logistic) in parts {
            if let Some((field, found)) = logistic.and_then(Logistic::flaw) {
                let expected = "a finite number; a deviation above 0".to_owned();
                return Err(fail(
                    &format!("{section}.{field}"),
                    found.to_string(),
                    expected,
                ));
            }
        }
        let chain = self.chain();
        let standing = if file.chain.scores != chain.scores {
            Standing::OtherScores
        } else if file.chain.captions != chain.captions {
            Standing::OtherCaptions
        } else {
            Standing::Current
        };
        Ok(Some((calibration, standing)))
    }

    /// What its confidences depend on.
    pub fn chain(&self) -> Chain {
        let m = &self.manifest;
        let hash = |file: Option<&String>| file.map_or("", |file| self.sha256(file)).to_owned();
        let part = |part: &Option<super::PartFile>| hash(part.as_ref().map(|part| &part.file));
        let scores = identity(&format!(
            "{} {} {} {} {}",
            self.image_embedding_identity(),
            self.text_embedding_identity(),
            part(&m.realignment),
            part(&m.judge),
            m.caption.neighbours
        ));
        let g = &m.generation;
        // The deadline is left out: a caption that came in time is the same with any. A decoder that is
        // never asked changes nothing.
        let decoder = m.decoder.as_ref().filter(|_| g.method != Method::Retrieve);
        let prompt = decoder.filter(|d| d.reads_prompt()).and(m.prompt.as_ref());
        let prompt = prompt.map_or_else(String::new, |p| {
            format!(" {:?}", (&p.template, &p.separator))
        });
        let captions = identity(&format!(
            "{} {} {} {:?} {} {} {:?} {} {} {} {} {} {} {} {} {} {} {:?}{prompt}",
            part(&m.datastore),
            hash(decoder.map(|d| &d.file)),
            hash(decoder.and_then(|d| d.second_graph())),
            decoder.map(|d| d.retrieved),
            m.caption.candidates,
            m.caption.score_weight,
            g.method,
            g.candidates,
            g.temperature,
            g.top_p,
            g.length_power,
            g.min_tokens,
            g.no_repeat,
            g.score_weight,
            g.agreement_weight,
            g.retrieval_margin,
            hash(decoder.map(|d| &d.tokenizer)),
            g.corrections,
        ));
        Chain { scores, captions }
    }
}
