//! Captions from text files, TSV and caption JSON.

use std::{fs, io, path::Path};

use serde::Deserialize;

/// Why a file gives no captions. Every message names the file and the way out.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    /// It can't be read, or it is not UTF-8.
    #[error("{file}: {cause}; give a readable UTF-8 text file, TSV or caption JSON")]
    Read {
        /// The file.
        file: String,
        /// What the system said.
        cause: io::Error,
    },
    /// A line or a key does not hold what it has to.
    #[error("{file}: {place}: found {found}, expected {expected}")]
    Content {
        /// The file.
        file: String,
        /// Line or key.
        place: String,
        /// What is there.
        found: String,
        /// What should be there.
        expected: &'static str,
    },
}

#[derive(Deserialize)]
struct Annotation {
    caption: String,
}

#[derive(Deserialize)]
struct Image {
    sentences: Vec<Sentence>,
}

#[derive(Deserialize)]
struct Sentence {
    raw: String,
}

#[derive(Deserialize)]
struct CaptionJson {
    annotations: Option<Vec<Annotation>>,
    images: Option<Vec<serde_json::Value>>,
}

/// Reads the captions of a file, trimmed, without empty ones, in order.
///
/// The form is told from the content. JSON (starts with `{`): the captions of a COCO caption file,
/// or all sentences of a Karpathy file. TSV, when there is a tab in the first line that is not
/// empty: the last column, so that image-caption pairs and Flickr8k's token file fit as they are.
/// Else: one caption a line.
///
/// # Errors
/// [`CorpusError`] when the file can't be read or has another form. A file without a caption is no
/// error here.
pub fn read(path: &Path) -> Result<Vec<String>, CorpusError> {
    let file = path.display().to_string();
    match fs::read_to_string(path) {
        Ok(text) => parse(&text, &file),
        Err(cause) => Err(CorpusError::Read { file, cause }),
    }
}

fn parse(text: &str, file: &str) -> Result<Vec<String>, CorpusError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim_start().starts_with('{') {
        return parse_json(text, file);
    }
    let mut lines = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .peekable();
    let tsv = lines.peek().is_some_and(|line| line.contains('\t'));
    let mut captions = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let caption = match (tsv, line.rsplit_once('\t')) {
            (false, _) => line,
            (true, Some((_, caption))) => caption,
            (true, None) => {
                return Err(CorpusError::Content {
                    file: file.to_owned(),
                    place: format!("line {}", number + 1),
                    found: "no tab".into(),
                    expected: "columns divided by tabs, as in the first line (TSV), or no tab at all",
                });
            }
        };
        if !caption.trim().is_empty() {
            captions.push(caption.trim().to_owned());
        }
    }
    Ok(captions)
}

fn parse_json(text: &str, file: &str) -> Result<Vec<String>, CorpusError> {
    let expected =
        "COCO caption JSON (annotations[].caption) or Karpathy JSON (images[].sentences[].raw)";
    let wrong = |place: &str, found: String| CorpusError::Content {
        file: file.to_owned(),
        place: place.to_owned(),
        found,
        expected,
    };
    let json: CaptionJson =
        serde_json::from_str(text).map_err(|error| wrong("JSON", error.to_string()))?;
    let captions: Vec<String> = match (json.annotations, json.images) {
        (Some(annotations), _) => annotations.into_iter().map(|a| a.caption).collect(),
        (None, Some(images)) => {
            let mut captions = Vec::new();
            for image in images {
                let image: Image = serde_json::from_value(image)
                    .map_err(|error| wrong("images", error.to_string()))?;
                captions.extend(image.sentences.into_iter().map(|s| s.raw));
            }
            captions
        }
        (None, None) => return Err(wrong("JSON", "neither annotations nor images".into())),
    };
    Ok(captions
        .iter()
        .map(|caption| caption.trim())
        .filter(|caption| !caption.is_empty())
        .map(str::to_owned)
        .collect())
}

/// The form in which captions are compared: lower case, punctuation and white space folded to one
/// space. "A man 's hat ." and "a man's hat" are the same caption.
pub fn normalise(caption: &str) -> String {
    let mut folded = String::with_capacity(caption.len());
    let lower = caption.chars().flat_map(char::to_lowercase);
    for letter in lower.map(|c| if is_between_words(c) { ' ' } else { c }) {
        if letter != ' ' || !(folded.is_empty() || folded.ends_with(' ')) {
            folded.push(letter);
        }
    }
    folded.truncate(folded.trim_end().len());
    folded
}

/// White space, ASCII punctuation, and the punctuation of other scripts that captions meet:
/// typographic quotes, dashes and dots, Spanish and French marks, ideographic stops.
fn is_between_words(letter: char) -> bool {
    letter.is_whitespace()
        || letter.is_ascii_punctuation()
        || letter.is_control()
        || matches!(letter, '\u{2010}'..='\u{205e}' | '\u{3001}'..='\u{3003}' | '¡' | '¿' | '«' | '»' | '·')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captions(text: &str) -> Vec<String> {
        parse(text, "file").unwrap()
    }

    #[test]
    fn reads_every_form() {
        assert_eq!(
            captions("\u{feff}a dog\n\n  a cat \r\n"),
            ["a dog", "a cat"]
        );
        assert_eq!(
            captions("\n1.jpg#0\ta dog\n2.jpg\tx\ta cat\n3.jpg\t \n"),
            ["a dog", "a cat"]
        );
        // The first line decides: a later tab is white space within a caption.
        assert_eq!(captions("a dog\na\tcat\n"), ["a dog", "a\tcat"]);
        let coco =
            r#" {"images": [{"id": 1}], "annotations": [{"image_id": 1, "caption": "a dog\n"}]}"#;
        assert_eq!(captions(coco), ["a dog"]);
        let karpathy =
            r#"{"images": [{"split": "val", "sentences": [{"raw": "a dog"}, {"raw": ""}]}]}"#;
        assert_eq!(captions(karpathy), ["a dog"]);
        assert!(captions("").is_empty());
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        let message = |text| parse(text, "words.tsv").unwrap_err().to_string();
        assert!(message("a\tb\n\nc\n").starts_with("words.tsv: line 3: found no tab"));
        assert!(message("{\"x\": 1}").contains("neither annotations nor images"));
        assert!(message("{\"images\": [{\"id\": 1}]}").contains("sentences"));
        assert!(message("{\"annotations\": [3]}").contains("COCO"));
        assert!(message("{").contains("line 1"));
        let folder = tempfile::tempdir().unwrap();
        let latin1 = folder.path().join("latin1.txt");
        fs::write(&latin1, b"caf\xe9").unwrap();
        assert!(
            read(&latin1)
                .unwrap_err()
                .to_string()
                .contains("latin1.txt")
        );
        assert!(read(&folder.path().join("absent")).is_err());
    }

    #[test]
    fn folds_case_punctuation_and_white_space() {
        for (one, other) in [
            ("A man 's hat .", "a man's hat"),
            ("  Two   dogs,\trunning! ", "two dogs running"),
            (
                "\u{201c}Stop\u{201d} \u{2013} a sign\u{2026}",
                "stop a sign",
            ),
            ("ÉCOLE", "école"),
        ] {
            assert_eq!(normalise(one), normalise(other));
        }
        assert_eq!(normalise("two dogs"), "two dogs");
        assert_eq!(normalise(" .,! "), "");
        assert_ne!(normalise("a dog"), normalise("a dog 🐕"));
        assert_ne!(normalise("two dogs"), normalise("twodogs"));
    }
}
