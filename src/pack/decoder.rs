//! `[decoder]` of `pack.toml`: which language model a pack has, and its shape.

use serde::Deserialize;

use super::{PromptSpec, manifest::exactly};
use crate::engine::Activations;

/// The small language model and its tokenizer.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Table")]
pub struct DecoderSpec {
    /// How the condition reaches it, with what only that kind has.
    pub kind: DecoderKind,
    /// ONNX file within the pack: the transformer with its cache.
    pub file: String,
    /// `tokenizer.json` within the pack.
    pub tokenizer: String,
    /// How many of the nearest captions it's given.
    pub retrieved: usize,
    /// Number of layers.
    pub layers: usize,
    /// Attention heads in each layer.
    pub heads: usize,
    /// Numbers in a head's keys and values; 0 where `heads` does not divide the width.
    pub head_dimension: usize,
    /// Id before the first word; of a causal one: before the prompt.
    pub begin_id: Option<u32>,
    /// Ids that end a caption.
    pub end_ids: Vec<u32>,
    /// Ids that are no words.
    pub never_ids: Vec<u32>,
    /// The most tokens of a caption, its end included.
    pub max_tokens: usize,
    /// Whether a caption's first letter is made a capital.
    pub capitalise: bool,
    /// What its products are computed in, those of its prefix or its encoder as well. Default: "f32".
    pub activations: Activations,
}

/// How the condition reaches a decoder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DecoderKind {
    /// As positions before its words ([`crate::decoder::PrefixDecoder`]).
    Prefix(PrefixParts),
    /// As a text before its words ([`crate::decoder::CausalDecoder`]).
    Causal {
        /// The longest prompt in tokens.
        prompt_tokens: usize,
    },
    /// As a text that an encoder reads ([`crate::decoder::EncoderDecoder`]).
    EncoderDecoder {
        /// ONNX file within the pack: from the prompt to keys and values for every layer.
        encoder: String,
        /// The longest prompt in tokens, its end included.
        prompt_tokens: usize,
    },
}

/// What a decoder with a prefix has besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrefixParts {
    /// ONNX file within the pack: from the condition to prefix positions.
    pub file: String,
    /// Rows and columns of the grid over the image tower's map.
    pub grid: [usize; 2],
    /// Numbers in a position.
    pub width: usize,
}

/// The section as it's written. Which keys it needs depends on `kind`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    kind: Kind,
    file: String,
    prefix: Option<String>,
    encoder: Option<String>,
    tokenizer: String,
    #[serde(default, deserialize_with = "grid")]
    grid: Option<[usize; 2]>,
    retrieved: usize,
    prompt_tokens: Option<usize>,
    width: Option<usize>,
    layers: usize,
    heads: usize,
    head_dimension: Option<usize>,
    begin_id: Option<u32>,
    end_id: Option<u32>,
    #[serde(default)]
    end_ids: Vec<u32>,
    #[serde(default)]
    never_ids: Vec<u32>,
    max_tokens: usize,
    #[serde(default)]
    capitalise: bool,
    #[serde(default)]
    activations: Activations,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Prefix,
    Causal,
    EncoderDecoder,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Prefix => "prefix",
            Self::Causal => "causal",
            Self::EncoderDecoder => "encoder-decoder",
        }
    }
}

fn grid<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<[usize; 2]>, D::Error> {
    exactly(deserializer).map(Some)
}

impl TryFrom<Table> for DecoderSpec {
    type Error = String;

    fn try_from(table: Table) -> Result<Self, String> {
        let kind = table.kind;
        let foreign = [
            ("prefix", table.prefix.is_some(), kind == Kind::Prefix),
            ("grid", table.grid.is_some(), kind == Kind::Prefix),
            ("width", table.width.is_some(), kind == Kind::Prefix),
            (
                "head_dimension",
                table.head_dimension.is_some(),
                kind != Kind::Prefix,
            ),
            (
                "prompt_tokens",
                table.prompt_tokens.is_some(),
                kind != Kind::Prefix,
            ),
            (
                "encoder",
                table.encoder.is_some(),
                kind == Kind::EncoderDecoder,
            ),
        ];
        if let Some((key, ..)) = foreign
            .iter()
            .find(|(_, given, belongs)| *given && !belongs)
        {
            return Err(format!(
                "`{key}` is no key of kind = \"{}\" (docs/model-packs.md)",
                kind.name()
            ));
        }
        let need = |key: &str| format!("missing `{key}`, which kind = \"{}\" needs", kind.name());
        if table.end_id.is_none() && table.end_ids.is_empty() {
            return Err(need("end_id"));
        }
        if table.begin_id.is_none() && kind != Kind::Causal {
            return Err(need("begin_id"));
        }
        let head_dimension = match (kind, table.width) {
            (Kind::Prefix, Some(width)) if table.heads > 0 && width % table.heads == 0 => {
                width / table.heads
            }
            (Kind::Prefix, _) => 0,
            _ => table.head_dimension.ok_or_else(|| need("head_dimension"))?,
        };
        let prompt_tokens = table.prompt_tokens.ok_or_else(|| need("prompt_tokens"));
        let kind = match kind {
            Kind::Prefix => DecoderKind::Prefix(PrefixParts {
                file: table.prefix.ok_or_else(|| need("prefix"))?,
                grid: table.grid.ok_or_else(|| need("grid"))?,
                width: table.width.ok_or_else(|| need("width"))?,
            }),
            Kind::Causal => DecoderKind::Causal {
                prompt_tokens: prompt_tokens?,
            },
            Kind::EncoderDecoder => DecoderKind::EncoderDecoder {
                encoder: table.encoder.ok_or_else(|| need("encoder"))?,
                prompt_tokens: prompt_tokens?,
            },
        };
        Ok(Self {
            kind,
            file: table.file,
            tokenizer: table.tokenizer,
            retrieved: table.retrieved,
            layers: table.layers,
            heads: table.heads,
            head_dimension,
            begin_id: table.begin_id,
            end_ids: table.end_id.into_iter().chain(table.end_ids).collect(),
            never_ids: table.never_ids,
            max_tokens: table.max_tokens,
            capitalise: table.capitalise,
            activations: table.activations,
        })
    }
}

/// A key's name, whether its value fits, the value, and what would fit.
pub(super) type Check = (&'static str, bool, String, &'static str);

impl DecoderSpec {
    /// Its files with the keys that name them.
    pub(super) fn files(&self) -> Vec<(&'static str, Option<&String>)> {
        let second = match &self.kind {
            DecoderKind::Prefix(_) => "decoder.prefix",
            _ => "decoder.encoder",
        };
        vec![
            ("decoder.file", Some(&self.file)),
            (second, self.second_graph()),
            ("decoder.tokenizer", Some(&self.tokenizer)),
        ]
    }

    /// The graph that brings the condition to the transformer, where it is one of its own.
    pub(super) fn second_graph(&self) -> Option<&String> {
        match &self.kind {
            DecoderKind::Prefix(parts) => Some(&parts.file),
            DecoderKind::Causal { .. } => None,
            DecoderKind::EncoderDecoder { encoder, .. } => Some(encoder),
        }
    }

    /// Whether it reads the pack's prompt.
    pub(super) fn reads_prompt(&self) -> bool {
        !matches!(self.kind, DecoderKind::Prefix(_))
    }

    /// Ranges of the section and of the prompt that it needs.
    pub(super) fn checks(&self, prompt: Option<&PromptSpec>) -> Vec<Check> {
        let mut checks = vec![
            (
                "decoder.retrieved",
                self.retrieved <= 256,
                self.retrieved.to_string(),
                "0 to 256",
            ),
            (
                "decoder.layers",
                (1..=256).contains(&self.layers),
                self.layers.to_string(),
                "1 to 256",
            ),
            (
                "decoder.max_tokens",
                (2..=4096).contains(&self.max_tokens),
                self.max_tokens.to_string(),
                "2 to 4096",
            ),
        ];
        match &self.kind {
            DecoderKind::Prefix(parts) => checks.extend([
                (
                    "decoder.grid",
                    parts.grid.iter().all(|side| (1..=64).contains(side)),
                    format!("{:?}", parts.grid),
                    "1 to 64 rows and columns",
                ),
                (
                    "decoder.heads",
                    self.head_dimension > 0,
                    format!("{} with width {}", self.heads, parts.width),
                    "a divisor of decoder.width",
                ),
            ]),
            DecoderKind::Causal { prompt_tokens }
            | DecoderKind::EncoderDecoder { prompt_tokens, .. } => {
                let template = prompt.map_or("", |prompt| &prompt.template);
                checks.extend([
                    (
                        "decoder.heads",
                        (1..=256).contains(&self.heads),
                        self.heads.to_string(),
                        "1 to 256",
                    ),
                    (
                        "decoder.head_dimension",
                        (1..=4096).contains(&self.head_dimension),
                        self.head_dimension.to_string(),
                        "1 to 4096",
                    ),
                    (
                        "decoder.prompt_tokens",
                        (8..=8192).contains(prompt_tokens),
                        prompt_tokens.to_string(),
                        "8 to 8192 tokens",
                    ),
                    (
                        "prompt.template",
                        template.matches(PLACEHOLDER).count() == 1,
                        format!("{template:?}"),
                        "a text with {captions} once, which this kind of decoder reads",
                    ),
                ]);
            }
        }
        checks
    }
}

/// Where the retrieved captions go in a prompt's template.
pub(crate) const PLACEHOLDER: &str = "{captions}";
