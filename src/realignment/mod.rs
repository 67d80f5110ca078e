//! The fixed linear map from image embeddings to caption embeddings.
//!
//! realigned = W (f - mean_image), where f is an image embedding of length one and the mean is that
//! of the TRAINING images (arXiv 2307.05591): statistics of the frames at hand are never used.

mod landmarks;

pub use landmarks::Landmarks;

use crate::{
    pack::Views,
    tensor_file::{FieldError, NamedTensor, TensorFile, expect_shape, serialise},
};

/// How W was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MapKind {
    /// Ordinary least squares.
    Ols,
    /// Least squares with a penalty on the size of W.
    Ridge,
    /// Orthogonal Procrustes: a (semi-)orthogonal W.
    Procrustes,
    /// (1 - share) Procrustes + share ridge, each scaled to Frobenius norm one before they are
    /// mixed: Procrustes retrieves better, ridge agrees better with people, and a mix keeps most of
    /// both (docs/benchmarks.md).
    Blend,
    /// Kernel ridge over landmarks: a linear map of the similarities to them ([`Landmarks`]). It agrees
    /// best with people and retrieves worst, so it judges captions and does not look them up.
    Kernel,
}

impl MapKind {
    /// The kinds that map the embedding itself, in the order of the reports.
    pub const LINEAR: [Self; 4] = [Self::Ols, Self::Ridge, Self::Procrustes, Self::Blend];

    /// The name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ols => "ols",
            Self::Ridge => "ridge",
            Self::Procrustes => "procrustes",
            Self::Blend => "blend",
            Self::Kernel => "kernel",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::LINEAR
            .into_iter()
            .chain([Self::Kernel])
            .find(|kind| kind.name() == name)
    }
}

/// What a realignment was fitted from.
#[derive(Debug, Clone, PartialEq)]
pub struct Provenance {
    /// How W was found.
    pub kind: MapKind,
    /// The ridge penalty lambda of (X'X + lambda tr(X'X)/d I)^-1 X'Y, or of a kernel's
    /// (K'K/n + lambda C)^-1 K'Y/n, C the landmarks' own similarities; 0 where no ridge is in it.
    pub lambda: f64,
    /// Share of ridge in a blend; 0 for the other kinds.
    pub ridge_share: f64,
    /// Image-caption pairs.
    pub pairs: u64,
    /// Switches of the fit that differ from the defaults, in words; empty when none does.
    pub recipe: String,
    /// What of a frame the image tower was shown.
    pub views: Views,
    /// Identity of the image embedding ([`crate::pack::Pack::image_embedding_identity`]).
    pub image_embedding: String,
    /// Identity of the text embedding ([`crate::pack::Pack::text_embedding_identity`]).
    pub text_embedding: String,
}

/// W and the two training means.
#[derive(Debug, Clone, PartialEq)]
pub struct Realignment {
    /// Row-major `[image dimension or landmarks, text dimension]`.
    w: Vec<f32>,
    /// Of the embeddings, or of the similarities.
    mean_image: Vec<f32>,
    mean_text: Vec<f32>,
    landmarks: Option<Landmarks>,
    /// What it was fitted from.
    pub provenance: Provenance,
}

impl Realignment {
    /// Joins the parts. `w` is row-major `[image dimension, text dimension]`.
    ///
    /// # Errors
    /// [`FieldError`] when the lengths do not fit.
    pub fn new(
        w: Vec<f32>,
        mean_image: Vec<f32>,
        mean_text: Vec<f32>,
        provenance: Provenance,
    ) -> Result<Self, FieldError> {
        expect_shape("w", &[w.len()], &[mean_image.len() * mean_text.len()])?;
        Ok(Self {
            w,
            mean_image,
            mean_text,
            landmarks: None,
            provenance,
        })
    }

    /// The same with landmarks before W, one for each of its rows.
    ///
    /// # Errors
    /// [`FieldError`] when their number does not fit.
    pub fn with_landmarks(self, landmarks: Landmarks) -> Result<Self, FieldError> {
        expect_shape("landmarks", &[landmarks.len()], &[self.mean_image.len()])?;
        Ok(Self {
            landmarks: Some(landmarks),
            ..self
        })
    }

    /// Reads a realignment file (docs/model-packs.md).
    ///
    /// # Errors
    /// [`FieldError`] for a damaged file, a missing field or shapes that do not fit together.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FieldError> {
        let file = TensorFile::parse(bytes)?;
        let (shape, w) = file.f32("w", 2)?;
        let (image, mean_image) = file.f32("mean_image", 1)?;
        let (text, mean_text) = file.f32("mean_text", 1)?;
        expect_shape("w", &shape, &[image[0], text[0]])?;
        let kind = file.text("kind")?;
        let provenance = Provenance {
            kind: MapKind::from_name(&kind).ok_or_else(|| FieldError {
                field: "kind",
                found: kind,
                expected: "ols, ridge, procrustes, blend or kernel".into(),
            })?,
            lambda: file.number("lambda")?,
            ridge_share: file.number("ridge_share")?,
            pairs: file.number("pairs")?,
            // Files of before there were switches have no such key.
            recipe: file.text("recipe").unwrap_or_default(),
            views: match file.text("views") {
                Ok(name) => Views::from_name(&name).ok_or_else(|| FieldError {
                    field: "views",
                    found: name,
                    expected: "one, mirrored or crops".into(),
                })?,
                // Files of one view have no such key.
                Err(_) => Views::One,
            },
            image_embedding: file.text("image_embedding")?,
            text_embedding: file.text("text_embedding")?,
        };
        let map = Self::new(w, mean_image, mean_text, provenance)?;
        match map.provenance.kind {
            MapKind::Kernel => map.with_landmarks(Landmarks::from_file(&file)?),
            _ => Ok(map),
        }
    }

    /// The bytes of a realignment file.
    ///
    /// # Errors
    /// Never for a realignment that was made by [`Realignment::new`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, FieldError> {
        let (d1, d2) = (self.mean_image.len(), self.text_dimension());
        let p = &self.provenance;
        let mut tensors = vec![
            NamedTensor::f32("w", &[d1, d2], &self.w),
            NamedTensor::f32("mean_image", &[d1], &self.mean_image),
            NamedTensor::f32("mean_text", &[d2], &self.mean_text),
        ];
        let mut metadata = vec![
            ("kind", p.kind.name().to_owned()),
            ("lambda", p.lambda.to_string()),
            ("ridge_share", p.ridge_share.to_string()),
            ("pairs", p.pairs.to_string()),
            ("image_embedding", p.image_embedding.clone()),
            ("text_embedding", p.text_embedding.clone()),
        ];
        if !p.recipe.is_empty() {
            metadata.push(("recipe", p.recipe.clone()));
        }
        if p.views != Views::One {
            metadata.push(("views", p.views.name().to_owned()));
        }
        if let Some(landmarks) = &self.landmarks {
            tensors.extend(landmarks.tensors());
            metadata.push(("gamma", landmarks.gamma().to_string()));
        }
        serialise(&tensors, &metadata)
    }

    /// Realigns an image embedding of length one and scales the result to length one (all zeros
    /// when the frame sits on the training mean exactly).
    pub fn realign(&self, embedding: &[f32]) -> Vec<f32> {
        match &self.landmarks {
            Some(landmarks) => self.map(&landmarks.similarities(embedding)),
            None => self.map(embedding),
        }
    }

    fn map(&self, embedding: &[f32]) -> Vec<f32> {
        let width = self.text_dimension();
        let mut sum = vec![0f32; width];
        let rows = self.w.chunks_exact(width.max(1));
        for ((value, mean), row) in embedding.iter().zip(&self.mean_image).zip(rows) {
            let centred = value - mean;
            sum.iter_mut().zip(row).for_each(|(s, w)| *s += centred * w);
        }
        scale_to_one(&mut sum);
        sum
    }

    /// Centres a caption embedding of length one and scales the result to length one.
    pub fn centre_text(&self, embedding: &[f32]) -> Vec<f32> {
        let mut centred: Vec<f32> = embedding
            .iter()
            .zip(&self.mean_text)
            .map(|(e, m)| e - m)
            .collect();
        scale_to_one(&mut centred);
        centred
    }

    /// Mean of the training captions' embeddings.
    pub fn mean_text(&self) -> &[f32] {
        &self.mean_text
    }

    /// W, row-major `[image dimension or landmarks, text dimension]`.
    pub fn w(&self) -> &[f32] {
        &self.w
    }

    /// Length of an image embedding.
    pub fn image_dimension(&self) -> usize {
        match &self.landmarks {
            Some(landmarks) => landmarks.dimension(),
            None => self.mean_image.len(),
        }
    }

    /// Length of a caption embedding.
    pub fn text_dimension(&self) -> usize {
        self.mean_text.len()
    }
}

fn scale_to_one(vector: &mut [f32]) {
    let length = vector.iter().map(|v| v * v).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|v| *v /= length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Realignment {
        let provenance = Provenance {
            kind: MapKind::Ridge,
            lambda: 0.1,
            ridge_share: 0.0,
            pairs: 3,
            recipe: String::new(),
            views: Views::One,
            image_embedding: "image".into(),
            text_embedding: "text".into(),
        };
        // W = [[1, 0], [0, 2], [0, 0]]
        Realignment::new(
            vec![1., 0., 0., 2., 0., 0.],
            vec![0.5, 0.0, 0.0],
            vec![0.0, 1.0],
            provenance,
        )
        .unwrap()
    }

    #[test]
    fn realigns_by_hand() {
        // (0.5, 1, 9) W = (0.5, 2), then scaled to length one.
        let realigned = example().realign(&[1.0, 1.0, 9.0]);
        let length = (0.25f32 + 4.0).sqrt();
        assert!(
            (realigned[0] - 0.5 / length).abs() < 1e-6
                && (realigned[1] - 2.0 / length).abs() < 1e-6
        );
        assert_eq!(example().realign(&[0.5, 0.0, 0.0]), [0.0, 0.0]);
        assert_eq!(example().centre_text(&[3.0, 1.0]), [1.0, 0.0]);
    }

    #[test]
    fn views_are_written_where_there_are_several_and_unknown_ones_are_refused() {
        let mut map = example();
        let one = map.to_bytes().unwrap();
        assert!(!String::from_utf8_lossy(&one).contains("views"));
        map.provenance.views = Views::Mirrored;
        let bytes = map.to_bytes().unwrap();
        assert_eq!(Realignment::from_bytes(&bytes).unwrap(), map);
        let at = bytes.windows(8).position(|w| w == b"mirrored").unwrap();
        let mut other = bytes.clone();
        other[at..at + 8].copy_from_slice(b"reversed");
        let error = Realignment::from_bytes(&other).unwrap_err();
        assert_eq!((error.field, error.found.as_str()), ("views", "reversed"));
    }

    #[test]
    fn a_map_from_nothing_or_to_nothing_gives_nothing() {
        // A pack refuses it by its dimensions, but not before it's read.
        for (image, text) in [(2, 0), (0, 2)] {
            let (mean_image, mean_text) = (vec![0.0; image], vec![0.0; text]);
            let map = Realignment::new(vec![], mean_image, mean_text, example().provenance);
            assert_eq!(map.unwrap().realign(&vec![0.5; image]), vec![0.0; text]);
        }
    }

    #[test]
    fn a_kernel_map_reads_similarities_and_comes_back_from_its_file() {
        let landmarks = Landmarks::new(&[1.0, 0.0, 0.0, 0.0, 1.0, 0.0], 3, 0.5).unwrap();
        let provenance = Provenance {
            kind: MapKind::Kernel,
            ..example().provenance
        };
        let map = Realignment::new(vec![1., 0., 0., 1.], vec![0.0; 2], vec![0.0; 2], provenance)
            .unwrap()
            .with_landmarks(landmarks)
            .unwrap();
        assert_eq!((map.image_dimension(), map.text_dimension()), (3, 2));
        // Similarities 1 and 1/e, scaled to length one.
        let found = map.realign(&[1.0, 0.0, 0.0]);
        let expected = (-1f32).exp() / (1.0 + (-2f32).exp()).sqrt();
        assert!((found[1] - expected).abs() < 1e-3, "{found:?}");
        let bytes = map.to_bytes().unwrap();
        assert_eq!(Realignment::from_bytes(&bytes).unwrap(), map);
        for cut in (0..bytes.len()).step_by(5) {
            assert!(Realignment::from_bytes(&bytes[..cut]).is_err());
        }
    }

    #[test]
    fn a_file_comes_back_as_it_was_and_damage_is_an_error() {
        let bytes = example().to_bytes().unwrap();
        assert_eq!(Realignment::from_bytes(&bytes).unwrap(), example());
        for cut in 0..bytes.len() {
            assert!(
                Realignment::from_bytes(&bytes[..cut]).is_err(),
                "cut at {cut}"
            );
        }
        // Flipped bits give another realignment or an error, never a panic.
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x41;
            let _ = Realignment::from_bytes(&damaged);
        }
    }
}
