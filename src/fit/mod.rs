//! Makes a realignment from image-caption pairs, on a workstation.
//!
//! pairs -> embeddings (cached) -> Gram sums -> W, with a report on a held-out share.

pub mod cache;
pub mod embed;
pub mod gram;
pub mod landmarks;
pub mod logistic;
pub mod negatives;
pub mod pairs;
pub mod recall;
pub mod recipe;
pub mod shard;
pub mod solve;

use std::fmt;

use anyhow::{Context as _, Result, bail};

use self::{embed::EmbeddedPairs, gram::GramSums, recall::Recall, solve::MapChoice};
use crate::{
    pack::Pack,
    realignment::{Landmarks, MapKind, Provenance, Realignment},
};

pub use recipe::{CaptionRows, Recipe};

/// Penalties that are tried when none is given.
pub const LAMBDA_GRID: [f64; 9] = [1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0];

/// The ridge penalty.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Lambda {
    /// Given by the user.
    Given(f64),
    /// The value of [`LAMBDA_GRID`] with the best image-to-text R@10 on the held-out share.
    Chosen,
}

/// One row of the report.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ReportRow {
    /// "before", or a map kind with its lambda.
    pub map: String,
    /// `None` where the towers have no common space, so that nothing can be compared unrealigned.
    pub recall: Option<Recall>,
}

/// Recall before and after realignment for each map kind.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Report {
    /// Pairs that were fitted on.
    pub fitted_pairs: u64,
    /// Images of the held-out share.
    pub images: usize,
    /// Captions of the held-out share.
    pub captions: usize,
    /// Before, then each kind.
    pub rows: Vec<ReportRow>,
    /// Lambda of the ridge row.
    pub lambda: f64,
}

/// Fits every kind on `fitted` and measures it on `held_out`; beside them the recall without a map, where
/// the towers have a common space.
///
/// # Errors
/// When there is nothing to fit or to measure on, or the arithmetic fails.
pub fn report(
    fitted: &GramSums,
    held_out: &EmbeddedPairs,
    lambda: Lambda,
    recipe: &Recipe,
    common_space: bool,
) -> Result<Report> {
    if held_out.images.is_empty() {
        bail!(
            "nothing to measure on: the held-out share has no image; give more pairs or a larger --held-out"
        );
    }
    let measure = |kind, lambda| -> Result<Recall> {
        let map = realignment(fitted, recipe.choice(kind, lambda), recipe)?;
        Ok(held_out.recall(&map))
    };
    let before = common_space.then(|| {
        let images: Vec<Vec<f32>> = held_out.images.iter().map(|(e, _)| e.clone()).collect();
        recall::recall(&images, &held_out.captions, &held_out.owners())
    });
    let mut rows = vec![ReportRow {
        map: "before".into(),
        recall: before,
    }];
    rows.push(ReportRow {
        map: "ols".into(),
        recall: Some(measure(MapKind::Ols, 0.0)?),
    });
    let mut best: Option<(f64, Recall)> = None;
    let grid = match lambda {
        Lambda::Given(value) => vec![value],
        Lambda::Chosen => LAMBDA_GRID.to_vec(),
    };
    for value in grid {
        let found = measure(MapKind::Ridge, value)?;
        if best
            .as_ref()
            .is_none_or(|(_, b)| found.image_to_text[2] > b.image_to_text[2])
        {
            best = Some((value, found));
        }
    }
    let (lambda, ridge) = best.context("no lambda to try")?;
    rows.push(ReportRow {
        map: format!("ridge, lambda {lambda}"),
        recall: Some(ridge),
    });
    rows.push(ReportRow {
        map: "procrustes".into(),
        recall: Some(measure(MapKind::Procrustes, 0.0)?),
    });
    let blend = measure(MapKind::Blend, lambda)?;
    rows.push(ReportRow {
        map: format!("blend, {} ridge", recipe.ridge_share),
        recall: Some(blend),
    });
    Ok(Report {
        fitted_pairs: fitted.pairs,
        images: held_out.images.len(),
        captions: held_out.captions.len(),
        rows,
        lambda,
    })
}

/// Solves for a map and joins it with the sums' means.
///
/// # Errors
/// As [`solve::solve`].
pub fn realignment(sums: &GramSums, choice: MapChoice, recipe: &Recipe) -> Result<Realignment> {
    let w = solve::solve(sums, choice)?;
    join(w, sums, choice, recipe)
}

/// Solves for the second stage on sums of other targets ([`negatives`]); the means stay those of `fitted`,
/// which captions are centred with.
///
/// # Errors
/// As [`solve::solve`].
pub fn second_stage(
    fitted: &GramSums,
    targets: &GramSums,
    choice: MapChoice,
    recipe: &Recipe,
) -> Result<Realignment> {
    join(solve::solve(targets, choice)?, fitted, choice, recipe)
}

/// Solves for a kernel map on sums of similarities to `landmarks`.
///
/// # Errors
/// As [`solve::solve_kernel`].
pub fn kernel_realignment(
    sums: &GramSums,
    landmarks: &Landmarks,
    lambda: f64,
    recipe: &Recipe,
) -> Result<Realignment> {
    let w = solve::solve_kernel(sums, landmarks, lambda)?;
    let choice = MapChoice {
        lambda,
        ..MapChoice::new(MapKind::Kernel, 0.0, 0.0)
    };
    Ok(join(w, sums, choice, recipe)?.with_landmarks(landmarks.clone())?)
}

fn join(w: Vec<f64>, sums: &GramSums, choice: MapChoice, recipe: &Recipe) -> Result<Realignment> {
    let provenance = Provenance {
        kind: choice.kind,
        lambda: choice.lambda,
        ridge_share: choice.ridge_share,
        pairs: sums.pairs,
        recipe: recipe.to_string(),
        views: recipe.views,
        image_embedding: sums.image_embedding.clone(),
        text_embedding: sums.text_embedding.clone(),
    };
    let narrow = |values: Vec<f64>| values.into_iter().map(|v| v as f32).collect();
    let mean = |mean: Vec<f64>| {
        if choice.centred {
            narrow(mean)
        } else {
            vec![0.0; mean.len()]
        }
    };
    Ok(Realignment::new(
        narrow(w),
        mean(sums.mean_image()),
        mean(sums.mean_text()),
        provenance,
    )?)
}

/// Refuses sums of other embeddings than the pack's.
///
/// # Errors
/// When the identities differ; names both.
pub fn check_identity(sums: &GramSums, pack: &Pack, name: &str) -> Result<()> {
    let expected = (
        pack.image_embedding_identity(),
        pack.text_embedding_identity(),
    );
    if (&sums.image_embedding, &sums.text_embedding) != (&expected.0, &expected.1) {
        bail!(
            "{name}: sums of other embeddings: found image {} and text {}, but pack {} has {} and {}; \
             make the partial sums with this pack and with the same --views",
            sums.image_embedding,
            sums.text_embedding,
            pack.folder.display(),
            expected.0,
            expected.1
        );
    }
    Ok(())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "fitted on {} pairs, measured on {} images with {} captions",
            self.fitted_pairs, self.images, self.captions
        )?;
        writeln!(
            f,
            "{:<22}{:^25}{:^25}",
            "", "image -> text", "text -> image"
        )?;
        let head = format!("{:>7} {:>7} {:>7}  ", "R@1", "R@5", "R@10");
        writeln!(f, "{:<22}{head}{head}", "map")?;
        for row in &self.rows {
            write!(f, "{:<22}", row.map)?;
            match &row.recall {
                Some(recall) => {
                    for side in [recall.image_to_text, recall.text_to_image] {
                        write!(f, "{:>7.3} {:>7.3} {:>7.3}  ", side[0], side[1], side[2])?;
                    }
                    writeln!(f)?;
                }
                None => writeln!(f, "  not comparable: the towers have no common space")?,
            }
        }
        Ok(())
    }
}
