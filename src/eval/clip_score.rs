//! CLIP-S and its kin: how well a caption fits its image, and its references, by embeddings.
//!
//! CLIP-S(f, c) = w max(cos(f, e(c)), 0), and RefCLIP-S is its harmonic mean with
//! max(0, max over references r of cos(e(c), e(r))) (arXiv 2104.08718, w = 2.5). Both need an image
//! tower and a text tower that were trained into one space; where their dimensions differ they can't be
//! and the metrics are undefined. aCLIP-S and RefaCLIP-S (arXiv 2307.05591) put the realigned
//! W (f - mean) in f's place; captions are then centred as well, so RefaCLIP-S compares the centred
//! captions.

/// Names of the metrics, in the order of [`Scores::array`].
pub const NAMES: [&str; 4] = ["CLIP-S", "RefCLIP-S", "aCLIP-S", "RefaCLIP-S"];

/// Those of them that need no reference.
pub const REFERENCE_FREE: [&str; 2] = ["CLIP-S", "aCLIP-S"];

/// Cosines of a caption in one space.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cosines {
    /// With its image.
    pub image: f64,
    /// With the nearest of its references; none without references.
    pub reference: Option<f64>,
}

impl Cosines {
    /// Of vectors of length one.
    pub fn new<'a>(
        image: &[f32],
        caption: &[f32],
        references: impl Iterator<Item = &'a [f32]>,
    ) -> Self {
        Self {
            image: cosine(image, caption),
            reference: references
                .map(|reference| cosine(caption, reference))
                .max_by(f64::total_cmp),
        }
    }

    /// w max(cos, 0).
    pub fn score(&self, weight: f64) -> f64 {
        weight * self.image.max(0.0)
    }

    /// Harmonic mean of [`Cosines::score`] and the nearest reference's cosine, which is not weighted;
    /// 0 where one of them is.
    pub fn with_references(&self, weight: f64) -> Option<f64> {
        let (image, reference) = (self.score(weight), self.reference?.max(0.0));
        Some(match image + reference {
            0.0 => 0.0,
            sum => 2.0 * image * reference / sum,
        })
    }
}

/// The four metrics of a caption.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Scores {
    /// CLIP-S.
    pub clip_s: Option<f64>,
    /// RefCLIP-S.
    pub ref_clip_s: Option<f64>,
    /// aCLIP-S.
    pub aclip_s: Option<f64>,
    /// RefaCLIP-S.
    pub ref_aclip_s: Option<f64>,
}

impl Scores {
    /// From the cosines in the towers' common space and in the realigned one, as far as there are
    /// these spaces.
    pub fn new(plain: Option<Cosines>, realigned: Option<Cosines>, weight: f64) -> Self {
        Self {
            clip_s: plain.map(|cosines| cosines.score(weight)),
            ref_clip_s: plain.and_then(|cosines| cosines.with_references(weight)),
            aclip_s: realigned.map(|cosines| cosines.score(weight)),
            ref_aclip_s: realigned.and_then(|cosines| cosines.with_references(weight)),
        }
    }

    /// The values in the order of [`NAMES`].
    pub fn array(&self) -> [Option<f64>; NAMES.len()] {
        [self.clip_s, self.ref_clip_s, self.aclip_s, self.ref_aclip_s]
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let products = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
    products.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cosines(image: f64, reference: Option<f64>) -> Cosines {
        Cosines { image, reference }
    }

    #[test]
    fn by_hand() {
        let references: [&[f32]; 2] = [&[0.0, 1.0], &[0.8, 0.6]];
        let found = Cosines::new(&[0.6, 0.8], &[1.0, 0.0], references.into_iter());
        assert!((found.image - 0.6).abs() < 1e-6);
        assert!((found.reference.unwrap() - 0.8).abs() < 1e-6);
        // w 0.6 = 1.5, and 2 (1.5 x 0.8) / 2.3.
        let scores = Scores::new(None, Some(found), 2.5);
        assert!((scores.aclip_s.unwrap() - 1.5).abs() < 1e-6);
        assert!((scores.ref_aclip_s.unwrap() - 2.4 / 2.3).abs() < 1e-6);
        assert_eq!((scores.clip_s, scores.ref_clip_s), (None, None));
    }

    #[test]
    fn below_nought_and_without_references() {
        assert_eq!(cosines(-0.2, Some(0.5)).score(2.5), 0.0);
        for (image, reference) in [(-0.2, 0.5), (0.2, -0.5), (-0.2, -0.5)] {
            let found = cosines(image, Some(reference)).with_references(2.5);
            assert_eq!(found, Some(0.0));
        }
        let scores = Scores::new(Some(cosines(0.2, None)), None, 2.5);
        assert_eq!(scores.array(), [Some(0.5), None, None, None]);
        let none = Cosines::new(&[1.0], &[1.0], std::iter::empty());
        assert_eq!(none.reference, None);
    }
}
