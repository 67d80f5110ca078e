//! Images, clips and captions of a data set as a pack's towers see them.

use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
};

use anyhow::{Context as _, Result};

use super::{
    clip_score::{Cosines, Scores},
    samples::Sample,
};
use crate::{
    embedding::ImageFeatures,
    engine::Engine,
    fit::{embed::Embedder, pairs::CaptionedImage},
    pack::Pack,
    realignment::Realignment,
};

/// The spaces in which a pack's images and captions can be compared.
#[derive(Debug, Clone, Copy)]
pub struct Spaces<'a> {
    /// Whether the towers have one space.
    pub plain: bool,
    /// The map into the captions' space.
    pub map: Option<&'a Realignment>,
}

impl<'a> Spaces<'a> {
    /// Of a pack, with this realignment.
    pub fn new(pack: &Pack, map: Option<&'a Realignment>) -> Self {
        Self {
            plain: pack.manifest.has_common_space(),
            map,
        }
    }

    /// Why metrics are undefined, one line for each reason.
    pub fn undefined(&self, pack: &Pack) -> Vec<String> {
        let spec = &pack.manifest;
        let mut reasons = Vec::new();
        if !self.plain {
            reasons.push(format!(
                "CLIP-S and RefCLIP-S are undefined with pack {}: its towers have no common space \
                 (image dimension {}, text dimension {}; common_space in pack.toml)",
                pack.label(),
                spec.image_tower.dimension,
                spec.text_tower.dimension
            ));
        }
        if self.map.is_none() {
            reasons.push(format!(
                "aCLIP-S and RefaCLIP-S are undefined: pack {} has no realignment (captiond fit makes one)",
                pack.label()
            ));
        }
        reasons
    }
}

/// An embedding of length one in each of the spaces that there are.
#[derive(Debug, Clone)]
struct View {
    plain: Option<Vec<f32>>,
    /// Realigned (an image) or centred (a caption).
    realigned: Option<Vec<f32>>,
}

/// Embedded images and captions.
#[derive(Debug, Clone)]
pub struct Embedded {
    images: HashMap<String, View>,
    captions: HashMap<String, View>,
}

impl Embedded {
    /// Embeds samples (their files are within `folder`) and captions, through the cache. A clip's
    /// embedding is the mean of its frames', scaled to length one before it is realigned.
    ///
    /// # Errors
    /// As [`Embedder::run`].
    pub fn new<'c>(
        embedder: &Embedder<'_>,
        engine: &dyn Engine,
        spaces: Spaces<'_>,
        folder: &Path,
        samples: &[Sample],
        captions: impl IntoIterator<Item = &'c str>,
    ) -> Result<Self> {
        let mut found = Self {
            images: HashMap::new(),
            captions: HashMap::new(),
        };
        if !spaces.plain && spaces.map.is_none() {
            return Ok(found);
        }
        let frames: Vec<CaptionedImage> = samples
            .iter()
            .flat_map(|sample| &sample.files)
            .map(|file| CaptionedImage {
                image: file.clone(),
                captions: Vec::new(),
            })
            .collect();
        let mut waiting = samples.iter();
        let mut seen: Vec<ImageFeatures> = Vec::new();
        let mut current = waiting.next();
        embedder.run(engine, folder, &frames, |_, embedding, _| {
            seen.push(ImageFeatures {
                embedding,
                cells: Vec::new(),
            });
            let Some(sample) = current.filter(|sample| sample.files.len() == seen.len()) else {
                return Ok(());
            };
            let mean = ImageFeatures::mean(&seen).with_context(|| sample.name.clone())?;
            let view = View {
                realigned: spaces.map.map(|map| map.realign(&mean.embedding)),
                plain: spaces.plain.then_some(mean.embedding),
            };
            found.images.insert(sample.name.clone(), view);
            seen.clear();
            current = waiting.next();
            Ok(())
        })?;
        let distinct: BTreeSet<&str> = captions.into_iter().collect();
        let texts: Vec<String> = distinct.into_iter().map(str::to_owned).collect();
        let embeddings = embedder.captions(engine, &texts)?;
        for (text, embedding) in texts.into_iter().zip(embeddings) {
            let view = View {
                realigned: spaces.map.map(|map| map.centre_text(&embedding)),
                plain: spaces.plain.then_some(embedding),
            };
            found.captions.insert(text, view);
        }
        Ok(found)
    }

    /// The CLIP-S family of a caption of an image, with the image's references.
    ///
    /// # Errors
    /// When the image or a caption was not embedded (names it).
    pub fn scores<S: AsRef<str>>(
        &self,
        image: &str,
        caption: &str,
        references: &[S],
        weight: f64,
    ) -> Result<Scores> {
        if self.images.is_empty() {
            return Ok(Scores::default());
        }
        let missing = |what: &str| format!("{what} has no embedding");
        let caption_view = |text: &str| {
            let view = self.captions.get(text);
            view.with_context(|| missing(&format!("caption {text:?}")))
        };
        let image = self.images.get(image).with_context(|| missing(image))?;
        let caption = caption_view(caption)?;
        let references: Vec<&View> = references
            .iter()
            .map(|reference| caption_view(reference.as_ref()))
            .collect::<Result<_>>()?;
        let cosines = |space: fn(&View) -> Option<&[f32]>| {
            let others = references.iter().filter_map(|view| space(view));
            Some(Cosines::new(space(image)?, space(caption)?, others))
        };
        Ok(Scores::new(
            cosines(|view| view.plain.as_deref()),
            cosines(|view| view.realigned.as_deref()),
            weight,
        ))
    }
}
