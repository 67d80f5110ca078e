//! Embeds pairs on all cores, through the cache, and hands them on one image at a time.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
};

use anyhow::{Context as _, Result, anyhow, bail};
use indicatif::{ProgressBar, ProgressStyle};

use super::{
    cache::{EmbeddingCache, Key, key},
    pairs::CaptionedImage,
    recall::{Recall, recall},
};
use crate::{
    embedding::{ImageTower, TextTower},
    engine::Engine,
    frame::{self, Limits},
    pack::{Pack, Views},
    realignment::Realignment,
};

/// Work that may wait between the reader and a thread.
const QUEUE: usize = 16;

/// Embeddings of some images and of all their captions.
#[derive(Debug, Clone, Default)]
pub struct EmbeddedPairs {
    /// Embedding of each image and the number of its captions.
    pub images: Vec<(Vec<f32>, usize)>,
    /// Embeddings of the captions, image after image.
    pub captions: Vec<Vec<f32>>,
}

impl EmbeddedPairs {
    /// The image of each caption.
    pub fn owners(&self) -> Vec<usize> {
        self.images
            .iter()
            .enumerate()
            .flat_map(|(i, (_, n))| std::iter::repeat_n(i, *n))
            .collect()
    }

    /// Recall of the captions from the images, and of the images from the captions, with a map.
    pub fn recall(&self, map: &Realignment) -> Recall {
        let images: Vec<Vec<f32>> = self.images.iter().map(|(e, _)| map.realign(e)).collect();
        let captions: Vec<Vec<f32>> = self.captions.iter().map(|e| map.centre_text(e)).collect();
        recall(&images, &captions, &self.owners())
    }

    /// Adds an image with its captions.
    pub fn push(&mut self, image: Vec<f32>, captions: Vec<Vec<f32>>) {
        self.images.push((image, captions.len()));
        self.captions.extend(captions);
    }
}

/// A thread's tower and, where a frame has several views, the cache of the frames' own embeddings.
type Looking = (ImageTower, Option<EmbeddingCache>);

/// How pairs are embedded.
#[derive(Debug, Clone)]
pub struct Embedder<'a> {
    /// The pack whose towers embed.
    pub pack: &'a Pack,
    /// Folder of the cache.
    pub cache: PathBuf,
    /// Threads that embed.
    pub threads: usize,
    /// Images that are missing or damaged are left out and counted; otherwise they end the run.
    pub skip_bad: bool,
    /// Whether to draw a progress bar on the terminal.
    pub progress: bool,
}

impl Embedder<'_> {
    /// Embeds every image of `pairs` (paths relative to `folder`) with its captions, and hands each
    /// to `each` in order. Returns the images that were left out, with the reason.
    ///
    /// # Errors
    /// When a tower can't be loaded, the cache can't be written, or, unless `skip_bad`, an image is
    /// missing or damaged (names it).
    pub fn run(
        &self,
        engine: &dyn Engine,
        folder: &Path,
        pairs: &[CaptionedImage],
        mut each: impl FnMut(usize, Vec<f32>, Vec<Vec<f32>>) -> Result<()>,
    ) -> Result<Vec<String>> {
        let (image_identity, text_identity) = (
            self.pack.image_embedding_identity(),
            self.pack.text_embedding_identity(),
        );
        let spec = &self.pack.manifest;
        let mut images =
            EmbeddingCache::open(&self.cache, &image_identity, spec.image_tower.dimension)?;
        let mut texts =
            EmbeddingCache::open(&self.cache, &text_identity, spec.text_tower.dimension)?;
        let skipped = self.fill_images(engine, folder, pairs, &mut images)?;
        self.fill_captions(engine, pairs.iter().flat_map(|p| &p.captions), &mut texts)?;
        for (index, pair) in pairs.iter().enumerate() {
            if skipped.iter().any(|(at, _)| *at == index) {
                continue;
            }
            let bytes = fs::read(folder.join(&pair.image)).with_context(|| pair.image.clone())?;
            let image = images
                .get(&key(&bytes))?
                .with_context(|| format!("{} changed while it was embedded", pair.image))?;
            let captions = pair
                .captions
                .iter()
                .map(|c| {
                    texts
                        .get(&key(c.as_bytes()))?
                        .context("a caption is missing from the cache")
                })
                .collect::<Result<Vec<_>>>()?;
            each(index, image, captions)?;
        }
        Ok(skipped.into_iter().map(|(_, reason)| reason).collect())
    }

    /// Embeds captions through the cache, in order.
    ///
    /// # Errors
    /// As [`Embedder::run`].
    pub fn captions(&self, engine: &dyn Engine, captions: &[String]) -> Result<Vec<Vec<f32>>> {
        let dimension = self.pack.manifest.text_tower.dimension;
        let mut cache =
            EmbeddingCache::open(&self.cache, &self.pack.text_embedding_identity(), dimension)?;
        self.fill_captions(engine, captions.iter(), &mut cache)?;
        captions
            .iter()
            .map(|c| {
                cache
                    .get(&key(c.as_bytes()))?
                    .context("a caption is missing from the cache")
            })
            .collect()
    }

    fn fill_images(
        &self,
        engine: &dyn Engine,
        folder: &Path,
        pairs: &[CaptionedImage],
        cache: &mut EmbeddingCache,
    ) -> Result<Vec<(usize, String)>> {
        let mut tower: Option<ImageTower> = None;
        let mut skipped = Vec::new();
        let mut missing = Vec::new();
        for (index, pair) in pairs.iter().enumerate() {
            match fs::read(folder.join(&pair.image)) {
                Ok(bytes) if cache.contains(&key(&bytes)) => {}
                Ok(_) => missing.push(index),
                Err(error) => skipped.push((
                    index,
                    format!("{}: {error}", folder.join(&pair.image).display()),
                )),
            }
        }
        if !missing.is_empty() {
            tower = Some(self.pack.image_tower(engine)?);
        }
        if let Some(tower) = tower {
            // Of several views the frame itself is one: its embedding is shared with packs and fits of
            // one view. Each thread has its own handle on that cache.
            let several = self.pack.manifest.image_tower.views != Views::One;
            let one = self.pack.image_embedding_identity_with(Views::One);
            let state = || -> Result<Looking> {
                let of_one = several
                    .then(|| EmbeddingCache::open(&self.cache, &one, tower.dimension()))
                    .transpose()?;
                Ok((tower.fork()?, of_one))
            };
            let work = |(tower, of_one): &mut Looking, index: usize| -> Result<(Key, Vec<f32>)> {
                let path = folder.join(&pairs[index].image);
                let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
                let picture = frame::decode(&bytes, Limits::default())
                    .with_context(|| path.display().to_string())?;
                let key = key(&bytes);
                let Some(of_one) = of_one else {
                    return Ok((key, tower.embed(&picture)?));
                };
                let known = of_one.get(&key)?;
                let is_new = known.is_none();
                let (own, mean) = tower.embed_beside(&picture, known)?;
                if is_new {
                    of_one.put(key, &own)?;
                }
                Ok((key, mean))
            };
            self.spread(
                "images",
                &missing,
                state,
                work,
                |index, result| match result {
                    Ok((key, embedding)) => cache.put(key, &embedding),
                    Err(error) => {
                        skipped.push((index, format!("{error:#}")));
                        Ok(())
                    }
                },
            )?;
        }
        if let Some((_, first)) = skipped.first()
            && !self.skip_bad
        {
            bail!(
                "{} of {} images can't be used, the first: {first}; mend them or leave them out with --skip-bad",
                skipped.len(),
                pairs.len()
            );
        }
        Ok(skipped)
    }

    fn fill_captions<'c>(
        &self,
        engine: &dyn Engine,
        captions: impl Iterator<Item = &'c String>,
        cache: &mut EmbeddingCache,
    ) -> Result<()> {
        let mut missing: Vec<&str> = captions
            .map(String::as_str)
            .filter(|c| !cache.contains(&key(c.as_bytes())))
            .collect();
        missing.sort_unstable();
        missing.dedup();
        if missing.is_empty() {
            return Ok(());
        }
        let tower = self.pack.text_tower(engine)?;
        let work = |tower: &mut TextTower, caption: &str| -> Result<Vec<f32>> {
            tower
                .embed(caption)
                .with_context(|| format!("caption {caption:?}"))
        };
        self.spread(
            "captions",
            &missing,
            || Ok(tower.fork()?),
            work,
            |caption, result| cache.put(key(caption.as_bytes()), &result?),
        )
    }

    /// Runs `work` on each item in `threads` threads with a state of their own, and `keep` on this
    /// thread with each result.
    fn spread<T: Copy + Send + Sync, S: Send, R: Send>(
        &self,
        label: &'static str,
        items: &[T],
        state: impl Fn() -> Result<S>,
        work: impl Fn(&mut S, T) -> Result<R> + Sync,
        mut keep: impl FnMut(T, Result<R>) -> Result<()>,
    ) -> Result<()> {
        let bar = self.bar(label, items.len());
        let states = (0..self.threads.max(1))
            .map(|_| state())
            .collect::<Result<Vec<S>>>()?;
        let step = states.len();
        thread::scope(|scope| {
            let (sender, receiver) = mpsc::sync_channel(QUEUE);
            for (first, mut state) in states.into_iter().enumerate() {
                let (sender, work) = (sender.clone(), &work);
                scope.spawn(move || {
                    for &item in items.iter().skip(first).step_by(step) {
                        // The receiver is gone only when the run has failed already.
                        if sender.send((item, work(&mut state, item))).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(sender);
            for (item, result) in receiver {
                keep(item, result)?;
                bar.inc(1);
            }
            Ok::<(), anyhow::Error>(())
        })?;
        if bar.position() != items.len() as u64 {
            return Err(anyhow!(
                "embedding stopped after {} of {} {label}",
                bar.position(),
                items.len()
            ));
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn bar(&self, label: &'static str, count: usize) -> ProgressBar {
        if !self.progress {
            let hidden = ProgressBar::hidden();
            hidden.set_length(count as u64);
            return hidden;
        }
        let style =
            ProgressStyle::with_template("{msg:>10} {bar:40} {pos}/{len} {per_sec} {eta} left")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
        ProgressBar::new(count as u64)
            .with_message(label)
            .with_style(style)
    }
}
