//! How a map is fitted beside its kind and its penalty: the switches of `captiond fit`.

use std::fmt;

use super::solve::MapChoice;
use crate::{
    datastore::dot,
    embedding::{EmbeddingError, normalise},
    pack::Views,
    realignment::MapKind,
};

/// Which rows an image and its captions become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum CaptionRows {
    /// One for each caption.
    #[default]
    All,
    /// One with the captions' mean, scaled to length one: images count alike, however many captions
    /// they have.
    Mean,
    /// One with the caption that agrees best with the others: an odd one is left out.
    Central,
}

impl CaptionRows {
    /// The rows of one image's captions, each of length one.
    ///
    /// # Errors
    /// When the captions cancel each other out.
    pub fn of(self, mut captions: Vec<Vec<f32>>) -> Result<Vec<Vec<f32>>, EmbeddingError> {
        if captions.len() < 2 || self == Self::All {
            return Ok(captions);
        }
        let mut sum = vec![0f32; captions[0].len()];
        for caption in &captions {
            sum.iter_mut().zip(caption).for_each(|(s, v)| *s += v);
        }
        if self == Self::Mean {
            normalise(&mut sum)?;
            return Ok(vec![sum]);
        }
        // All have length one, so the cosine with the sum orders as the mean cosine with the others.
        captions.sort_by(|a, b| dot(b, &sum).total_cmp(&dot(a, &sum)));
        captions.truncate(1);
        Ok(captions)
    }
}

/// The switches of a fit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recipe {
    /// Share of ridge in a blend.
    pub ridge_share: f64,
    /// How far the images are whitened before Procrustes ([`super::solve::solve`]).
    pub whitening: f64,
    /// Whether the training means are taken off first.
    pub centred: bool,
    /// Which rows an image and its captions become.
    pub rows: CaptionRows,
    /// How much of its hardest negatives is taken off a caption ([`super::negatives`]).
    pub hard_negatives: f64,
    /// What of a frame the image tower was shown.
    pub views: Views,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            ridge_share: 0.3,
            whitening: 0.0,
            centred: true,
            rows: CaptionRows::All,
            hard_negatives: 0.0,
            views: Views::One,
        }
    }
}

impl Recipe {
    /// A map of a kind by this recipe.
    pub fn choice(&self, kind: MapKind, lambda: f64) -> MapChoice {
        MapChoice {
            centred: self.centred,
            ..MapChoice::new(kind, lambda, self.ridge_share).whitened(self.whitening)
        }
    }
}

impl fmt::Display for Recipe {
    /// What differs from the default, for the provenance in a file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = match self.rows {
            CaptionRows::All => None,
            CaptionRows::Mean => Some("mean"),
            CaptionRows::Central => Some("central"),
        };
        let parts = [
            (self.whitening != 0.0).then(|| format!("whitening {}", self.whitening)),
            (!self.centred).then(|| "not centred".to_owned()),
            rows.map(|rows| format!("rows {rows}")),
            (self.hard_negatives != 0.0).then(|| format!("hard negatives {}", self.hard_negatives)),
            (self.views != Views::One).then(|| format!("views {}", self.views.name())),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        f.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_three_captions() {
        let captions = || vec![vec![1.0, 0.0], vec![0.8, 0.6], vec![0.0, 1.0]];
        assert_eq!(CaptionRows::All.of(captions()).unwrap(), captions());
        assert_eq!(CaptionRows::Central.of(captions()).unwrap(), [[0.8, 0.6]]);
        let mean = CaptionRows::Mean.of(captions()).unwrap();
        // (1.8, 1.6) scaled to length one.
        assert!((mean[0][0] - 0.7474).abs() < 1e-4 && (mean[0][1] - 0.6644).abs() < 1e-4);
        let opposite = vec![vec![1.0, 0.0], vec![-1.0, 0.0]];
        assert!(CaptionRows::Mean.of(opposite).is_err());
    }

    #[test]
    fn only_what_differs_is_named() {
        assert_eq!(Recipe::default().to_string(), "");
        let recipe = Recipe {
            whitening: 0.5,
            rows: CaptionRows::Mean,
            views: Views::Crops,
            ..Recipe::default()
        };
        assert_eq!(recipe.to_string(), "whitening 0.5, rows mean, views crops");
        assert_eq!(recipe.choice(MapKind::Ridge, 1.0).whitening, 0.0);
        assert_eq!(recipe.choice(MapKind::Blend, 1.0).whitening, 0.5);
    }
}
