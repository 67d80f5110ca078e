//! Captions with their embeddings, int8 with one scale a row, and the search for the nearest.

mod builder;
pub mod corpus;
pub mod coverage;
mod file_bytes;
pub mod filter;
mod kernel;
mod search;

pub use builder::Builder;
pub use file_bytes::FileBytes;
pub(crate) use search::dot;
pub use search::{CentredRows, Hit};

use std::ops::Range;

use safetensors::Dtype;

use crate::tensor_file::{FieldError, TensorFile, expect_shape};

/// Captions and quantised embeddings: a datastore file (docs/model-packs.md), checked once and then
/// read where it stands, in memory or mapped.
#[derive(Debug)]
pub struct Datastore {
    file: FileBytes,
    rows: usize,
    dimension: usize,
    text_embedding: String,
    /// i8, row-major `[rows, dimension]`.
    codes: Range<usize>,
    /// f32 `[rows]`: embedding i is about `scales[i] * codes[i]`.
    scales: Range<usize>,
    /// u32 `[rows + 1]`: caption i is `text[offsets[i]..offsets[i + 1]]`.
    offsets: Range<usize>,
    /// UTF-8, all captions end to end.
    text: Range<usize>,
}

impl Datastore {
    /// Quantises captions with their embeddings of length one.
    ///
    /// # Errors
    /// As [`Builder::push`].
    pub fn build<'a>(
        rows: impl IntoIterator<Item = (&'a str, &'a [f32])>,
        dimension: usize,
        text_embedding: &str,
    ) -> Result<Self, FieldError> {
        let mut builder = Builder::new(dimension, text_embedding);
        for (caption, embedding) in rows {
            builder.push(caption, embedding)?;
        }
        builder.finish()
    }

    /// Copies a datastore file that is in memory.
    ///
    /// # Errors
    /// As [`Datastore::from_file`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FieldError> {
        Self::from_file(FileBytes::Owned(bytes.to_vec()))
    }

    /// Takes a datastore file as it is; the rows and the text stay where they are.
    ///
    /// # Errors
    /// [`FieldError`] for a damaged file, a missing field, or shapes and offsets that do not fit.
    pub fn from_file(file: FileBytes) -> Result<Self, FieldError> {
        let bytes: &[u8] = &file;
        let tensors = TensorFile::parse(bytes)?;
        let (shape, codes) = tensors.raw("embeddings", Dtype::I8, 2)?;
        let (rows, dimension) = (shape[0], shape[1]);
        if dimension == 0 {
            return Err(FieldError {
                field: "embeddings",
                found: format!("shape {shape:?}"),
                expected: "at least one number in a row".into(),
            });
        }
        let (count, scales) = tensors.raw("scales", Dtype::F32, 1)?;
        expect_shape("scales", &count, &[rows])?;
        if !scales.chunks_exact(4).map(f32_of).all(f32::is_finite) {
            return Err(FieldError {
                field: "scales",
                found: "infinite or not-a-number values".into(),
                expected: "finite numbers".into(),
            });
        }
        let (count, offsets) = tensors.raw("offsets", Dtype::U32, 1)?;
        expect_shape("offsets", &count, &[rows + 1])?;
        let (_, text) = tensors.raw("captions", Dtype::U8, 1)?;
        check_captions(text, offsets)?;
        let text_embedding = tensors.text("text_embedding")?;
        let place = |part: &[u8]| {
            let start = part.as_ptr() as usize - bytes.as_ptr() as usize;
            start..start + part.len()
        };
        let (codes, scales) = (place(codes), place(scales));
        let (offsets, text) = (place(offsets), place(text));
        Ok(Self {
            file,
            rows,
            dimension,
            text_embedding,
            codes,
            scales,
            offsets,
            text,
        })
    }

    /// The bytes of the datastore file.
    pub fn bytes(&self) -> &[u8] {
        &self.file
    }

    /// Bytes that the file takes in memory of our own: 0 when it is mapped.
    pub fn owned_bytes(&self) -> usize {
        match &self.file {
            FileBytes::Owned(bytes) => bytes.len(),
            FileBytes::Mapped(_) => 0,
        }
    }

    /// Number of captions.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there is no caption.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Length of an embedding.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Identity of the text embedding that made the rows.
    pub fn text_embedding(&self) -> &str {
        &self.text_embedding
    }

    /// The caption of a row; empty for a row that does not exist.
    pub fn caption(&self, row: usize) -> &str {
        let offsets = &self.file[self.offsets.clone()];
        let at = |index: usize| offsets.get(4 * index..4 * index + 4).map(u32_of);
        // Checked when it was opened, and again here: see `FileBytes::map`.
        at(row)
            .zip(at(row + 1))
            .and_then(|(from, to)| self.file[self.text.clone()].get(from as usize..to as usize))
            .and_then(|text| std::str::from_utf8(text).ok())
            .unwrap_or_default()
    }

    /// All captions, in the order of the rows.
    pub fn captions(&self) -> impl Iterator<Item = &str> {
        (0..self.rows).map(|row| self.caption(row))
    }

    /// The embedding of a row as floats; empty for a row that does not exist.
    pub fn embedding(&self, row: usize) -> Vec<f32> {
        let scale = self.scale(row);
        let codes = self.codes(row).iter();
        codes.map(|&code| f32::from(code as i8) * scale).collect()
    }

    /// The scale of a row; 0 for a row that does not exist.
    fn scale(&self, row: usize) -> f32 {
        self.scales(row..row + 1).next().unwrap_or_default()
    }

    /// The scales of some rows; none when one of them does not exist.
    fn scales(&self, rows: Range<usize>) -> impl Iterator<Item = f32> {
        let scales = self.file[self.scales.clone()].get(4 * rows.start..4 * rows.end);
        scales.unwrap_or_default().chunks_exact(4).map(f32_of)
    }

    /// The codes of a row, each an i8; empty for a row that does not exist.
    fn codes(&self, row: usize) -> &[u8] {
        self.block(row..row + 1)
    }

    /// The codes of some rows, row-major; empty when one of them does not exist.
    fn block(&self, rows: Range<usize>) -> &[u8] {
        let codes = &self.file[self.codes.clone()];
        codes
            .get(rows.start * self.dimension..rows.end * self.dimension)
            .unwrap_or_default()
    }
}

/// Two datastores are equal when their captions, rows and text embedding are.
impl PartialEq for Datastore {
    fn eq(&self, other: &Self) -> bool {
        let part = |store: &Self, range: &Range<usize>| store.file[range.clone()].to_vec();
        self.text_embedding == other.text_embedding
            && self.dimension == other.dimension
            && part(self, &self.codes) == part(other, &other.codes)
            && part(self, &self.scales) == part(other, &other.scales)
            && part(self, &self.offsets) == part(other, &other.offsets)
            && part(self, &self.text) == part(other, &other.text)
    }
}

/// Little-endian u32 of four bytes.
fn u32_of(bytes: &[u8]) -> u32 {
    bytes.try_into().map(u32::from_le_bytes).unwrap_or_default()
}

/// Little-endian f32 of four bytes.
fn f32_of(bytes: &[u8]) -> f32 {
    bytes.try_into().map(f32::from_le_bytes).unwrap_or_default()
}

fn check_captions(text: &[u8], offsets: &[u8]) -> Result<(), FieldError> {
    let text = std::str::from_utf8(text).map_err(|error| FieldError {
        field: "captions",
        found: error.to_string(),
        expected: "UTF-8".into(),
    })?;
    let mut last = 0;
    let mut fits = offsets.get(..4).map(u32_of) == Some(0);
    for at in offsets.chunks_exact(4).map(|b| u32_of(b) as usize) {
        fits &= at >= last && text.is_char_boundary(at);
        last = at;
    }
    if !fits || last != text.len() {
        return Err(FieldError {
            field: "offsets",
            found: "positions that do not cut the captions' text".into(),
            expected: "ascending character boundaries from 0 to its end".into(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Datastore {
        let rows = [
            ("Ein Hund läuft", [0.6f32, -0.8]),
            ("", [1.0, 0.0]),
            ("🐕", [0.0, 0.0]),
        ];
        Datastore::build(rows.iter().map(|(c, e)| (*c, e.as_slice())), 2, "text").unwrap()
    }

    #[test]
    fn keeps_captions_and_embeddings() {
        let store = Datastore::from_bytes(example().bytes()).unwrap();
        assert_eq!(store, example());
        assert_eq!(
            (store.len(), store.caption(0), store.caption(2)),
            (3, "Ein Hund läuft", "🐕")
        );
        assert_eq!(store.caption(9), "");
        let row = store.embedding(0);
        assert!((row[0] - 0.6).abs() < 0.004 && (row[1] + 0.8).abs() < 1e-6);
    }

    #[test]
    fn damage_is_an_error_or_another_datastore_but_never_a_panic() {
        let bytes = example().bytes().to_vec();
        for cut in 0..bytes.len() {
            assert!(
                Datastore::from_bytes(&bytes[..cut]).is_err(),
                "cut at {cut}"
            );
        }
        for at in 0..bytes.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] ^= flip;
                if let Ok(store) = Datastore::from_bytes(&damaged) {
                    (0..store.len())
                        .for_each(|row| assert!(store.caption(row).len() <= damaged.len()));
                }
            }
        }
    }

    #[test]
    fn a_mapped_file_is_the_same_datastore_and_outlives_its_replacement() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("datastore");
        crate::pack::replace(&path, example().bytes()).unwrap();
        let mapped = Datastore::from_file(FileBytes::map(&path).unwrap()).unwrap();
        assert_eq!((mapped.owned_bytes(), mapped.len()), (0, 3));
        crate::pack::replace(&path, b"something else, shorter").unwrap();
        assert_eq!(mapped, example());
        assert_eq!(
            mapped.captions().collect::<Vec<_>>(),
            ["Ein Hund läuft", "", "🐕"]
        );
    }

    #[test]
    fn a_copied_row_keeps_its_codes() {
        let mut builder = Builder::new(2, "text");
        builder.push("new", &[0.0, 1.0]).unwrap();
        (0..3).for_each(|row| builder.copy(&example(), row).unwrap());
        let joined = builder.finish().unwrap();
        for row in 0..3 {
            assert_eq!(joined.embedding(row + 1), example().embedding(row));
            assert_eq!(joined.caption(row + 1), example().caption(row));
        }
        assert!(Builder::new(3, "text").copy(&example(), 0).is_err());
    }

    #[test]
    fn refuses_rows_of_another_length_and_infinities() {
        let error = Datastore::build([("x", [1.0f32].as_slice())], 2, "t").unwrap_err();
        assert_eq!(
            error.to_string(),
            "embedding: found shape [1], expected shape [2]"
        );
        assert!(Datastore::build([("x", [f32::INFINITY, 0.0].as_slice())], 2, "t").is_err());
        assert!(Datastore::build([("x", [f32::NAN, 0.0].as_slice())], 2, "t").is_err());
        assert!(Datastore::build([], 0, "t").is_err());
    }
}
