//! The form of `pack.toml`. Unknown keys are refused: a misspelt key must not be ignored.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, de::Error as _};

use crate::engine::Activations;

use super::{DecoderSpec, GenerationSpec, Phrases};

/// The only manifest format that this version reads.
pub const FORMAT: u32 = 1;

/// A whole `pack.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this format; see [`FORMAT`].
    pub format: u32,
    /// The pack's name.
    pub name: String,
    /// The pack's own version.
    pub version: String,
    /// One line for people. Default: empty.
    #[serde(default)]
    pub description: String,
    /// From pixels to an embedding.
    pub image_tower: ImageTowerSpec,
    /// From a caption to an embedding.
    pub text_tower: TextTowerSpec,
    /// Whether the towers were trained into one space (CLIP), so that an image and a caption can be
    /// compared without a realignment. Default: whether their dimensions are equal.
    pub common_space: Option<bool>,
    /// The linear map between the two. Default: none (`captiond fit` makes it).
    pub realignment: Option<PartFile>,
    /// Another map, which scores captions where the realignment retrieves them. Default: none, the
    /// realignment scores too (`captiond fit --judge` makes one).
    pub judge: Option<PartFile>,
    /// Captions and their embeddings. Default: none (`captiond datastore build` makes it).
    pub datastore: Option<PartFile>,
    /// How a caption is chosen. Default: see [`CaptionSpec`].
    #[serde(default)]
    pub caption: CaptionSpec,
    /// What is put before the decoder. Default: none.
    pub prompt: Option<PromptSpec>,
    /// The small language model. Default: none, captions come from the datastore.
    pub decoder: Option<DecoderSpec>,
    /// How the decoder is let speak. Default: see [`GenerationSpec`].
    #[serde(default)]
    pub generation: GenerationSpec,
    /// What is said around a caption, or in its place. Default: English.
    #[serde(default)]
    pub phrases: Phrases,
    /// From scores to a probability. Default: none, confidences are not calibrated (`captiond calibrate`
    /// makes one).
    pub calibration: Option<PartFile>,
    /// Every file of the pack, by its path within the folder.
    pub files: BTreeMap<String, FileEntry>,
}

impl Manifest {
    /// Whether an image and a caption can be compared without a realignment.
    pub fn has_common_space(&self) -> bool {
        self.common_space
            .unwrap_or(self.image_tower.dimension == self.text_tower.dimension)
    }
}

/// A part that is one file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartFile {
    /// Path within the pack.
    pub file: String,
}

/// What stands of each file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// SHA-256, 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// Bytes. Default: not known; then a download has no end to be checked against but the hash.
    pub size: Option<u64>,
    /// SPDX licence expression of the content.
    pub licence: String,
    /// Where the content comes from.
    pub provenance: String,
}

/// The image tower and its preprocessing.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageTowerSpec {
    /// ONNX file within the pack, weights included.
    pub file: String,
    /// Name of the pixel input, f32 `[1, 3, height, width]`. Default: "pixels".
    #[serde(default = "default_pixels")]
    pub input: String,
    /// Name of the output that is read.
    pub output: String,
    /// How the output becomes one vector.
    pub pooling: ImagePooling,
    /// Length of the embedding.
    pub dimension: usize,
    /// Input size in pixels: `[height, width]`.
    #[serde(deserialize_with = "exactly")]
    pub size: [usize; 2],
    /// How a frame is brought to that size.
    pub resize: Resize,
    /// Length of the shortest edge before the centre crop, in pixels. Only with
    /// `resize = "shortest-edge"`. Default: the smaller side of `size`.
    pub shortest_edge: Option<usize>,
    /// The resampling filter.
    pub interpolation: Interpolation,
    /// Subtracted from each channel, on pixel values in [0, 1].
    #[serde(deserialize_with = "exactly")]
    pub mean: [f32; 3],
    /// Divides each channel after the mean.
    #[serde(deserialize_with = "exactly")]
    pub std: [f32; 3],
    /// Order of the channels. Default: "rgb".
    #[serde(default)]
    pub channels: Channels,
    /// What of a frame the tower is shown. Default: "one".
    #[serde(default)]
    pub views: Views,
    /// What its products are computed in. Default: "f32".
    #[serde(default)]
    pub activations: Activations,
}

fn default_pixels() -> String {
    "pixels".to_owned()
}

/// A list of N values; left to itself the TOML reader drops what is too many.
pub(super) fn exactly<'de, D: Deserializer<'de>, T: Deserialize<'de>, const N: usize>(
    deserializer: D,
) -> Result<[T; N], D::Error> {
    let values = Vec::<T>::deserialize(deserializer)?;
    let found = values.len();
    <[T; N]>::try_from(values)
        .map_err(|_| D::Error::custom(format!("found {found} values, expected {N}")))
}

/// How a frame is brought to the input size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resize {
    /// Both sides to the input size, whatever the aspect ratio.
    Stretch,
    /// The shortest edge to `shortest_edge`, then a crop from the centre (CLIP).
    ShortestEdge,
}

/// The resampling filter, with Pillow's definition (antialiased when shrinking).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Interpolation {
    /// Triangle filter.
    Bilinear,
    /// Catmull-Rom, a = -0.5.
    Bicubic,
    /// Lanczos with three lobes.
    Lanczos,
}

/// Channel order of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Channels {
    /// Red first.
    #[default]
    Rgb,
    /// Blue first.
    Bgr,
}

/// What of a frame the tower is shown. The embedding is the mean of the views' embeddings, each of length
/// one, scaled to length one; the tower runs once for each view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Views {
    /// The frame.
    #[default]
    One,
    /// The frame and its mirror image.
    Mirrored,
    /// The frame and a crop from each of its corners, three quarters of its width and of its height.
    Crops,
}

impl Views {
    /// The name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Mirrored => "mirrored",
            Self::Crops => "crops",
        }
    }

    /// The choice of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::One, Self::Mirrored, Self::Crops]
            .into_iter()
            .find(|views| views.name() == name)
    }
}

/// How an image tower's output becomes one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImagePooling {
    /// The output is the embedding already: `[1, d]` (CLIP and SigLIP with their projection).
    None,
    /// The first token of `[1, tokens, d]`.
    Cls,
    /// The mean over the tokens of `[1, tokens, d]`, or over the positions of `[1, d, h, w]`.
    Average,
}

/// The text tower and its tokenizer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextTowerSpec {
    /// ONNX file within the pack, weights included.
    pub file: String,
    /// `tokenizer.json` within the pack.
    pub tokenizer: String,
    /// Name of the token ids' input, i64 `[1, length]`. Default: "input_ids".
    #[serde(default = "default_input_ids")]
    pub input: String,
    /// Name of the attention mask's input, i64 `[1, length]`. Default: none.
    pub attention_mask: Option<String>,
    /// Name of the output that is read.
    pub output: String,
    /// How the output becomes one vector.
    pub pooling: TextPooling,
    /// Length of the embedding.
    pub dimension: usize,
    /// Longer captions are cut to this many tokens, special tokens included and kept.
    pub max_length: usize,
    /// Pads every caption to `max_length` with this id. Default: no padding, the length varies.
    pub pad_id: Option<u32>,
    /// Id of the end-of-text token; needed with `pooling = "end-of-text"`.
    pub end_of_text_id: Option<u32>,
    /// Put before every caption ("a photo of "). Default: empty.
    #[serde(default)]
    pub prefix: String,
    /// What its products are computed in. Default: "f32".
    #[serde(default)]
    pub activations: Activations,
}

fn default_input_ids() -> String {
    "input_ids".to_owned()
}

/// How a text tower's output becomes one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TextPooling {
    /// The output is the embedding already: `[1, d]`.
    None,
    /// The first token of `[1, length, d]`.
    Cls,
    /// The mean over the caption's tokens, padding left out.
    Mean,
    /// The first end-of-text token of `[1, length, d]`.
    EndOfText,
}

/// How a caption is chosen from the nearest, and scored.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CaptionSpec {
    /// How many nearest captions vote for the most central. Default: 50.
    pub candidates: usize,
    /// Weight of a caption's own score against its centrality, in [0, 1]. Default: 0.
    pub score_weight: f32,
    /// How many neighbours are reported. Default: 13.
    pub neighbours: usize,
    /// w of aCLIP-S = w max(cos, 0). Default: 2.5, as in CLIP-S.
    pub clip_s_weight: f32,
}

impl Default for CaptionSpec {
    fn default() -> Self {
        Self {
            candidates: 50,
            score_weight: 0.0,
            neighbours: 13,
            clip_s_weight: 2.5,
        }
    }
}

/// What a decoder that reads text is told.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptSpec {
    /// The text, with `{captions}` once, where the retrieved captions go.
    pub template: String,
    /// Stands between two captions. Default: ", ".
    #[serde(default = "default_separator")]
    pub separator: String,
}

fn default_separator() -> String {
    ", ".to_owned()
}
