//! A new sentence for a frame: condition, generation, and the choice among the candidates.

use std::time::{Duration, Instant};

use super::{
    Corrections,
    generate::generate,
    recent::Recent,
    rerank::{Candidate, Weights, repeats, rerank},
};
use crate::{
    datastore::{CentredRows, Hit},
    decoder::{Condition, Decoder, DecoderError, Retrieved, Wants},
    embedding::{EmbeddingError, ImageFeatures, TextTower, normalise},
    engine::Engine,
    pack::{GenerationSpec, Method, Pack, PackError},
};

/// Parts of the condition that are kept from the decoder, to measure what each is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hidden {
    /// The grid of image features.
    pub cells: bool,
    /// The realigned embedding.
    pub realigned: bool,
    /// The retrieved captions.
    pub retrieved: bool,
}

/// Why no sentence could be made.
#[derive(Debug, thiserror::Error)]
pub enum SpeakError {
    /// The decoder failed.
    #[error(transparent)]
    Decoder(#[from] DecoderError),
    /// A sentence could not be embedded.
    #[error(transparent)]
    Embedding(#[from] EmbeddingError),
}

/// A frame in the captions' space.
#[derive(Debug, Clone, Copy)]
pub struct Realigned<'a> {
    /// By the realignment: what retrieves, and what the decoder was trained on.
    pub retrieving: &'a [f32],
    /// By the judge, where there is one: what scores.
    pub judging: &'a [f32],
}

/// A pack's decoder with the text tower that judges what it says.
pub struct Speaker {
    decoder: Box<dyn Decoder>,
    text_tower: TextTower,
    mean_text: Vec<f32>,
    spec: GenerationSpec,
    corrections: Corrections,
    recent: Recent,
    /// What the decoder does not get to see.
    pub hidden: Hidden,
}

impl Speaker {
    /// Loads decoder and text tower; none when the pack has no decoder or lets it say nothing.
    /// `mean_text` is the realignment's.
    ///
    /// # Errors
    /// [`PackError`] when a part does not fit.
    pub fn load(
        pack: &Pack,
        engine: &dyn Engine,
        mean_text: &[f32],
    ) -> Result<Option<Self>, PackError> {
        let spec = pack.manifest.generation.clone();
        if spec.method == Method::Retrieve || pack.manifest.decoder.is_none() {
            return Ok(None);
        }
        // Before the decoder, since it is the larger: see `Captioner::load`.
        let text_tower = pack.text_tower(engine)?;
        let Some(decoder) = pack.decoder(engine)? else {
            return Ok(None);
        };
        Ok(Some(Self {
            decoder,
            text_tower,
            mean_text: mean_text.to_vec(),
            corrections: Corrections::new(&spec.corrections)
                .map_err(|error| pack.bad_correction(&error))?,
            spec,
            recent: Recent::default(),
            hidden: Hidden::default(),
        }))
    }

    /// What the decoder wants to know of a frame.
    pub fn wants(&self) -> Wants {
        self.decoder.wants()
    }

    /// Sentences for a frame, the best first, and the time that choosing took of it; empty when none
    /// was finished before the deadline, or each says something twice ([`repeats`]).
    ///
    /// # Errors
    /// [`SpeakError`] when a network fails.
    pub fn speak(
        &mut self,
        features: &ImageFeatures,
        realigned: Realigned<'_>,
        rows: &CentredRows,
        hits: &[Hit],
    ) -> Result<(Vec<Candidate>, Duration), SpeakError> {
        let begun = Instant::now();
        let wanted = if self.hidden.retrieved {
            0
        } else {
            self.decoder.wants().retrieved
        };
        let retrieved: Vec<Retrieved> = hits
            .iter()
            .take(wanted)
            .map(|hit| Retrieved {
                caption: rows.store().caption(hit.row).to_owned(),
                embedding: rows.centred(hit.row),
                score: hit.score,
            })
            .collect();
        let condition = Condition {
            cells: shown(self.hidden.cells, &features.cells),
            realigned: shown(self.hidden.realigned, realigned.retrieving),
            retrieved: &retrieved,
        };
        let deadline = Duration::from_millis(self.spec.deadline_ms);
        let expired = || begun.elapsed() >= deadline;
        let generated = generate(self.decoder.as_mut(), &condition, &self.spec, &expired)?;
        let choosing = Instant::now();
        let mut captions = Vec::with_capacity(generated.len());
        let mut embeddings = Vec::with_capacity(generated.len());
        for caption in generated {
            let sentence = self.decoder.words().sentence(&caption.tokens)?;
            let sentence = self.corrections.apply(sentence);
            if sentence.is_empty() || repeats(&sentence) {
                continue;
            }
            embeddings.push(self.centred(&sentence)?);
            captions.push((sentence, caption.mean_log_probability()));
            // Without weights the first is taken: the others' embeddings would be thrown away.
            if self.spec.score_weight == 0.0 && self.spec.agreement_weight == 0.0 {
                break;
            }
        }
        let weights = Weights {
            score: self.spec.score_weight,
            agreement: self.spec.agreement_weight,
        };
        let candidates = rerank(captions, &embeddings, realigned.judging, weights);
        Ok((candidates, choosing.elapsed()))
    }

    /// A sentence's embedding, centred and of length one.
    fn centred(&mut self, sentence: &str) -> Result<Vec<f32>, EmbeddingError> {
        let (tower, mean) = (&mut self.text_tower, &self.mean_text);
        self.recent.get(sentence, |sentence| {
            let mut embedding = tower.embed(sentence)?;
            embedding.iter_mut().zip(mean).for_each(|(e, m)| *e -= m);
            normalise(&mut embedding)?;
            Ok(embedding)
        })
    }
}

/// The values, or none of them.
fn shown(hidden: bool, values: &[f32]) -> &[f32] {
    if hidden { &[] } else { values }
}
