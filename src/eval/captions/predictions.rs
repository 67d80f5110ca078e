//! Captions that a system made, in the forms that they come in.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

/// Which image a caption is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageName {
    /// The data set's number.
    Number(u64),
    /// A path, a file name or an id.
    Text(String),
}

impl std::fmt::Display for ImageName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => write!(f, "{text}"),
        }
    }
}

/// A system's caption of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prediction {
    /// The image.
    pub image: ImageName,
    /// The caption.
    pub caption: String,
}

/// The first line of a file that `eval captions --save` writes: whose captions these are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Name and version of the pack.
    pub pack: String,
    /// SHA-256 of its `pack.toml`, which lists the SHA-256 of every other file.
    pub pack_sha256: String,
    /// Generation options that replaced the pack's.
    #[serde(default)]
    pub generation: String,
    /// Frames that were taken of each clip; none when there are images alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frames: Option<usize>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum JsonName {
    Number(u64),
    Text(String),
}

#[derive(Deserialize)]
struct Entry {
    #[serde(alias = "file", alias = "image", alias = "video_id")]
    image_id: JsonName,
    caption: String,
}

impl From<Entry> for Prediction {
    fn from(entry: Entry) -> Self {
        Self {
            image: match entry.image_id {
                JsonName::Number(number) => ImageName::Number(number),
                JsonName::Text(text) => ImageName::Text(text),
            },
            caption: entry.caption,
        }
    }
}

/// Reads predictions. The form is told from the content: a COCO results array
/// (`[{"image_id", "caption"}]`), JSON lines with `caption` and one of `file`, `image`, `image_id`,
/// `video_id`, or TSV `image<TAB>caption`. Lines of `captiond caption --json` that report an error
/// are no predictions.
///
/// # Errors
/// Names the file and the line, and what was expected; also when there is no caption at all.
pub fn read(path: &Path) -> Result<Vec<Prediction>> {
    let context = || format!("predictions {}", path.display());
    let text = fs::read_to_string(path).with_context(context)?;
    let start = text.trim_start();
    let found = if start.starts_with('[') {
        serde_json::from_str::<Vec<Entry>>(&text)
            .map(|entries| entries.into_iter().map(Prediction::from).collect())
            .context("COCO results: expected [{\"image_id\": ..., \"caption\": ...}, ...]")
    } else if start.starts_with('{') {
        lines(&text, json_line)
    } else {
        lines(&text, |line| {
            let (image, caption) = line
                .split_once('\t')
                .context("found no tab, expected image<TAB>caption")?;
            Ok(Some(Prediction {
                image: ImageName::Text(image.trim().to_owned()),
                caption: caption.trim().to_owned(),
            }))
        })
    }
    .with_context(context)?;
    if found.is_empty() {
        bail!("predictions {}: no caption in it", path.display());
    }
    Ok(found)
}

fn lines(
    text: &str,
    parse: impl Fn(&str) -> Result<Option<Prediction>>,
) -> Result<Vec<Prediction>> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        found.extend(parse(line).with_context(|| format!("line {}", number + 1))?);
    }
    Ok(found)
}

fn json_line(line: &str) -> Result<Option<Prediction>> {
    let value: serde_json::Value = serde_json::from_str(line)?;
    let has = |key: &str| value.get(key).is_some();
    if !has("caption") && (has("error") || has("pack_sha256")) {
        return Ok(None);
    }
    let entry: Entry = serde_json::from_value(value)
        .context("expected an object with caption and file, image, image_id or video_id")?;
    Ok(Some(entry.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Vec<Prediction>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        read(file.path())
    }

    #[test]
    fn the_three_forms() {
        let text = |image: &str, caption: &str| Prediction {
            image: ImageName::Text(image.into()),
            caption: caption.into(),
        };
        let number = Prediction {
            image: ImageName::Number(42),
            caption: "a cup".into(),
        };
        assert_eq!(
            read_text(r#" [{"image_id": 42, "caption": "a cup"}]"#).unwrap(),
            std::slice::from_ref(&number)
        );
        let lines = concat!(
            "{\"pack\":\"p 1\",\"pack_sha256\":\"00\"}\n",
            "{\"file\":\"x/a.jpg\",\"caption\":\"a cup\",\"confidence\":0.4}\n\n",
            "{\"file\":\"b.jpg\",\"error\":\"b.jpg: no such file\"}\n",
            "{\"image\":\"c.jpg\",\"caption\":\"a door\"}\n",
            "{\"image_id\":42,\"caption\":\"a cup\"}\n",
        );
        assert_eq!(
            read_text(lines).unwrap(),
            [text("x/a.jpg", "a cup"), text("c.jpg", "a door"), number]
        );
        assert_eq!(
            read_text("a.jpg\ta cup\n").unwrap(),
            [text("a.jpg", "a cup")]
        );
    }

    #[test]
    fn errors_name_the_line() {
        for (text, part) in [
            (
                "{\"file\":\"a\",\"caption\":\"b\"}\n{\"file\":\"c\"}",
                "line 2",
            ),
            ("a.jpg\ta\nb.jpg b", "line 2: found no tab"),
            ("[{\"image_id\":1}]", "COCO results"),
            ("\n", "no caption"),
        ] {
            let error = format!("{:#}", read_text(text).unwrap_err());
            assert!(error.contains(part), "{error}");
        }
    }
}
