//! THumB 1.0 (Kasai et al. 2022, arXiv 2111.08940): captions of MS-COCO images by four systems and by
//! people, judged for precision, recall, fluency, conciseness and inclusive language.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

/// Names of the ratings, in the order of [`ThumbRow::ratings`].
pub const ASPECTS: [&str; 6] = ["human_score", "P", "R", "Flu", "Con", "Inc"];

/// A judged caption.
#[derive(Debug, Clone, PartialEq)]
pub struct ThumbRow {
    /// File name of the image.
    pub image: String,
    /// MS-COCO's number of the image, if the file has it.
    pub number: Option<u64>,
    /// Who made the caption.
    pub system: String,
    /// The caption.
    pub caption: String,
    /// What people said, in the order of [`ASPECTS`]. Fluency, conciseness and inclusive language are
    /// penalties, 0 or below.
    pub ratings: [f64; ASPECTS.len()],
}

/// A line of the file. The published one says `Fl`, its description `Flu`.
#[derive(Deserialize)]
struct Line {
    #[serde(rename = "SYS")]
    system: String,
    #[serde(default)]
    seg_id: Option<Number>,
    hyp: String,
    image: String,
    #[serde(rename = "P")]
    precision: f64,
    #[serde(rename = "R")]
    recall: f64,
    #[serde(rename = "Flu", alias = "Fl")]
    fluency: f64,
    #[serde(rename = "Con")]
    conciseness: f64,
    #[serde(rename = "Inc")]
    inclusive: f64,
    #[serde(default)]
    human_score: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Number(u64),
    Text(String),
}

impl From<Line> for ThumbRow {
    fn from(line: Line) -> Self {
        let penalties = line.fluency + line.conciseness + line.inclusive;
        let whole = (line.precision + line.recall) / 2.0 + penalties;
        Self {
            image: line.image,
            number: line.seg_id.and_then(|number| match number {
                Number::Number(number) => Some(number),
                Number::Text(text) => text.parse().ok(),
            }),
            system: line.system,
            caption: line.hyp.trim().to_owned(),
            ratings: [
                line.human_score.unwrap_or(whole),
                line.precision,
                line.recall,
                line.fluency,
                line.conciseness,
                line.inclusive,
            ],
        }
    }
}

/// Reads `mscoco_THumB-1.0.jsonl` or the same objects in a JSON array: `SYS`, `hyp`, `image`, `P`, `R`,
/// `Fl` (or `Flu`), `Con`, `Inc`, and if they are there `seg_id` and `human_score`, which else is
/// (P + R) / 2 + Flu + Con + Inc.
///
/// # Errors
/// Names the file, the line and what was expected.
pub fn read_thumb(path: &Path) -> Result<Vec<ThumbRow>> {
    let context = || format!("THumB {}", path.display());
    let text = fs::read_to_string(path).with_context(context)?;
    let lines: Vec<Line> = if text.trim_start().starts_with('[') {
        serde_json::from_str(&text).with_context(context)?
    } else {
        let lines = text.lines().enumerate();
        lines
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(number, line)| {
                serde_json::from_str(line)
                    .with_context(|| format!("{}: line {}", context(), number + 1))
            })
            .collect::<Result<_>>()?
    };
    if lines.is_empty() {
        bail!("{}: no judgement in it", context());
    }
    Ok(lines.into_iter().map(ThumbRow::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Vec<ThumbRow>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        read_thumb(file.path())
    }

    const LINE: &str = r#"{"SYS": "Up-Down", "seg_id": "12", "set_id": 5, "hyp": "A kettle on a stove.", "image": "COCO_val2014_000000000012.jpg", "P": 4.0, "R": 3.0, "Fl": -0.5, "Inc": -0.0, "Con": -0.1, "human_score": 2.9}"#;

    #[test]
    fn lines_and_an_array() {
        let found = read_text(&format!("{LINE}\n\n")).unwrap();
        assert_eq!(found[0].ratings, [2.9, 4.0, 3.0, -0.5, -0.1, 0.0]);
        assert_eq!(
            (found[0].number, found[0].system.as_str()),
            (Some(12), "Up-Down")
        );
        assert_eq!(found[0].caption, "A kettle on a stove.");
        // As the description has it, and without the sum.
        let other = LINE
            .replace("\"Fl\"", "\"Flu\"")
            .replace(", \"human_score\": 2.9", "")
            .replace("\"12\"", "12");
        let again = read_text(&format!("[{other}, {LINE}]")).unwrap();
        assert!((again[0].ratings[0] - 2.9).abs() < 1e-12);
        assert_eq!(again[1], found[0]);
    }

    #[test]
    fn errors_name_the_line() {
        let broken = LINE.replace("\"P\": 4.0, ", "");
        for (text, part) in [
            (format!("{LINE}\n{broken}"), "line 2"),
            (broken, "`P`"),
            (String::new(), "no judgement"),
            ("[]".into(), "no judgement"),
        ] {
            let error = format!("{:#}", read_text(&text).unwrap_err());
            assert!(error.contains(part), "{error}");
        }
    }
}
