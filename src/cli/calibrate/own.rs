//! The pack's own captions, judged by references: where no person has voted on them.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use indicatif::ProgressBar;

use crate::{
    caption::confidence::Features,
    captioner::Captioner,
    cli::{chain, generation::unhurried, progress},
    datastore::dot,
    engine::tract::TractEngine,
    eval::agreement::{Judgements, OwnReference, read_captions, read_expert},
    fit::{embed::Embedder, pairs::CaptionedImage},
    pack::Pack,
    realignment::Realignment,
};

/// A caption with at least this cosine with one of its references, both centred, is acceptable.
///
/// Against Flickr8k-Expert (a caption is acceptable when two of three experts give it 3 or 4 of 4: "with
/// minor errors" or none) it's where Cohen's kappa is highest: docs/benchmarks.md.
pub const ACCEPTABLE: f32 = 0.46;

/// A caption of the pack, judged.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnCaption {
    /// The image's file.
    pub image: String,
    /// What the pack says.
    pub caption: String,
    /// What it knows of it.
    pub features: Features,
    /// Highest centred cosine with a reference.
    pub likeness: f32,
}

impl OwnCaption {
    /// The picture that the file shows: a plain and a blurred copy have one name in two folders.
    pub fn picture(&self) -> &str {
        let path = Path::new(&self.image);
        path.file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or(&self.image)
    }

    /// The folder that the file is in, empty without one.
    pub fn folder(&self) -> &str {
        let path = Path::new(&self.image);
        path.parent()
            .and_then(|folder| folder.to_str())
            .unwrap_or_default()
    }
}

/// Captions every image and compares with its references. Images that the quality gate refuses are left
/// out, as the daemon says nothing of them.
///
/// # Errors
/// When the pack can't be used, or an image is missing or damaged (names it).
pub fn captions(
    pairs: &[CaptionedImage],
    pack: &Pack,
    embedder: &Embedder<'_>,
    folder: &Path,
) -> Result<Vec<OwnCaption>> {
    let unhurried = unhurried(pack);
    let mut captioners = (0..embedder.threads)
        .map(|_| Captioner::load(&unhurried, &TractEngine))
        .collect::<Result<Vec<_>, _>>()?;
    let files: Vec<String> = pairs.iter().map(|pair| pair.image.clone()).collect();
    let bar: ProgressBar = progress::bar("captions", files.len());
    let seen = chain::features(&mut captioners, folder, &files, &bar)?;
    let said = chain::say(&mut captioners, &seen, &bar)?;
    bar.finish_and_clear();
    let realignment = pack.realignment()?;
    let texts: Vec<String> = said.iter().map(|said| said.caption.clone()).collect();
    let embedded = embedder.captions(&TractEngine, &texts)?;
    let references = grouped(embedder, pairs.iter().map(|pair| &pair.captions))?;
    let mut own = Vec::with_capacity(said.len());
    let mut left_out = 0;
    for (((pair, said), embedding), references) in
        pairs.iter().zip(said).zip(embedded).zip(&references)
    {
        if said.quality.flaw().is_some() {
            left_out += 1;
            continue;
        }
        own.push(OwnCaption {
            likeness: likeness(&realignment, &embedding, references)
                .with_context(|| format!("{}: no reference", pair.image))?,
            features: said
                .features
                .with_context(|| format!("{}: no features", pair.image))?,
            image: pair.image.clone(),
            caption: said.caption,
        });
    }
    if left_out > 0 {
        eprintln!(
            "captiond: {left_out} of {} pictures are left out: too dark, bright, blurred or plain to be captioned",
            pairs.len()
        );
    }
    if own.is_empty() {
        bail!("no picture is left");
    }
    Ok(own)
}

/// Embeds groups of captions in one go: the cache is opened once.
fn grouped<'a>(
    embedder: &Embedder<'_>,
    groups: impl Iterator<Item = &'a Vec<String>> + Clone,
) -> Result<Vec<Vec<Vec<f32>>>> {
    let all: Vec<String> = groups.clone().flatten().cloned().collect();
    let mut embedded = embedder.captions(&TractEngine, &all)?.into_iter();
    Ok(groups
        .map(|group| embedded.by_ref().take(group.len()).collect())
        .collect())
}

/// Highest cosine of a caption with its references, all centred.
fn likeness(realignment: &Realignment, caption: &[f32], references: &[Vec<f32>]) -> Option<f32> {
    let caption = realignment.centre_text(caption);
    references
        .iter()
        .map(|reference| dot(&caption, &realignment.centre_text(reference)))
        .max_by(f32::total_cmp)
}

/// How well the rule of `acceptable` agrees with experts.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct RuleAgreement {
    /// Captions that were compared.
    pub rows: usize,
    /// Share of them that two of three experts accept.
    pub accepted: f64,
    /// Cohen's kappa of the rule with that.
    pub kappa: f64,
    /// Share of those acceptable by the rule that the experts accept.
    pub precision: f64,
    /// Share of those that the experts accept that are acceptable by the rule.
    pub recall: f64,
}

/// Compares the rule with Flickr8k-Expert; a judged caption is not its own reference.
///
/// # Errors
/// Names the file that is wrong.
pub fn check_rule(
    captions: &Path,
    judged: &Path,
    acceptable: f32,
    pack: &Pack,
    embedder: &Embedder<'_>,
) -> Result<RuleAgreement> {
    let realignment = pack.realignment()?;
    let judgements = Judgements::flickr8k(
        "expert",
        &read_expert(judged)?,
        &read_captions(captions)?,
        OwnReference::Taken,
    )?;
    let mut liked = vec![0; judgements.rows.len()];
    for (row, rating) in judgements.scales.iter().flat_map(|scale| &scale.ratings) {
        liked[*row] += usize::from(*rating >= 3.0);
    }
    let images = judgements.images.iter();
    let references = grouped(embedder, images.map(|image| &image.references))?;
    let texts: Vec<String> = judgements.rows.iter().map(|r| r.caption.clone()).collect();
    let embedded = embedder.captions(&TractEngine, &texts)?;
    let mut outcomes = Vec::with_capacity(liked.len());
    for ((row, embedding), liked) in judgements.rows.iter().zip(&embedded).zip(liked) {
        if let Some(likeness) = likeness(&realignment, embedding, &references[row.image]) {
            outcomes.push((likeness >= acceptable, liked >= 2));
        }
    }
    Ok(agreement(&outcomes))
}

/// Of (rule, experts).
fn agreement(outcomes: &[(bool, bool)]) -> RuleAgreement {
    let count = |wanted: &dyn Fn(&(bool, bool)) -> bool| {
        outcomes.iter().filter(|outcome| wanted(outcome)).count() as f64
    };
    let all = outcomes.len() as f64;
    let (rule, experts) = (count(&|o| o.0), count(&|o| o.1));
    let both = count(&|o| o.0 && o.1);
    let same = count(&|o| o.0 == o.1) / all;
    let by_chance = (rule * experts + (all - rule) * (all - experts)) / (all * all);
    RuleAgreement {
        rows: outcomes.len(),
        accepted: experts / all,
        kappa: (same - by_chance) / (1.0 - by_chance),
        precision: both / rule,
        recall: both / experts,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_a_picture_are_known_by_their_name() {
        let own = |image: &str| OwnCaption {
            image: image.into(),
            caption: String::new(),
            features: Features::default(),
            likeness: 0.0,
        };
        let (plain, blurred) = (own("cup.1.jpg"), own("bad/blurred/cup.1.png"));
        assert_eq!(plain.picture(), blurred.picture());
        assert_eq!((plain.folder(), blurred.folder()), ("", "bad/blurred"));
    }

    #[test]
    fn agreement_by_hand() {
        let outcomes = [
            vec![(true, true); 20],
            vec![(true, false); 5],
            vec![(false, true); 10],
            vec![(false, false); 15],
        ]
        .concat();
        let found = agreement(&outcomes);
        // The textbook example of Cohen's kappa: 0.7 agreed, 0.5 by chance.
        assert!((found.kappa - 0.4).abs() < 1e-12, "{found:?}");
        assert_eq!((found.rows, found.accepted), (50, 0.6));
        assert_eq!((found.precision, found.recall), (0.8, 20.0 / 30.0));
    }
}
