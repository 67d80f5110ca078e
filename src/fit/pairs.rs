//! Image-caption pairs in the forms that data sets come in.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

/// An image with its captions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptionedImage {
    /// Path as the file gives it, relative to the folder of the images.
    pub image: String,
    /// Its captions, as they are in the file.
    pub captions: Vec<String>,
}

#[derive(Deserialize)]
struct CocoFile {
    images: Vec<CocoImage>,
    annotations: Vec<CocoAnnotation>,
}

#[derive(Deserialize)]
struct CocoImage {
    id: u64,
    file_name: String,
}

#[derive(Deserialize)]
struct CocoAnnotation {
    image_id: u64,
    caption: String,
}

#[derive(Deserialize)]
struct KarpathyFile {
    images: Vec<KarpathyImage>,
}

#[derive(Deserialize)]
struct KarpathyImage {
    #[serde(default)]
    filepath: Option<String>,
    filename: String,
    split: String,
    sentences: Vec<KarpathySentence>,
}

#[derive(Deserialize)]
struct KarpathySentence {
    raw: String,
}

/// Reads pairs, grouped by image in the order of first mention. The form is told from the content:
/// COCO caption JSON, Karpathy JSON (of `split`, default "train"), TSV `image<TAB>caption`, or the
/// Flickr8k token file (`image#number<TAB>caption`).
///
/// # Errors
/// Names the file, the line or key, and what was expected; also when there is no pair at all.
pub fn read(path: &Path, split: Option<&str>) -> Result<Vec<CaptionedImage>> {
    let text = fs::read_to_string(path).with_context(|| format!("pairs {}", path.display()))?;
    let pairs = if text.trim_start().starts_with('{') {
        read_json(&text, split)
    } else {
        read_lines(&text)
    };
    let pairs = pairs.with_context(|| format!("pairs {}", path.display()))?;
    if pairs.is_empty() {
        bail!("pairs {}: no image with a caption in it", path.display());
    }
    Ok(pairs)
}

fn read_lines(text: &str) -> Result<Vec<CaptionedImage>> {
    let mut grouped = Grouped::default();
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let Some((image, caption)) = line.split_once('\t') else {
            bail!(
                "line {}: found no tab, expected image<TAB>caption",
                number + 1
            );
        };
        // "name.jpg#0" numbers the captions of an image in the Flickr8k token file.
        let image = match image.rsplit_once('#') {
            Some((name, digits))
                if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) =>
            {
                name
            }
            _ => image,
        };
        if image.trim().is_empty() || caption.trim().is_empty() {
            bail!("line {}: an empty image name or caption", number + 1);
        }
        grouped.add(image.trim(), caption.trim());
    }
    Ok(grouped.images)
}

fn read_json(text: &str, split: Option<&str>) -> Result<Vec<CaptionedImage>> {
    let value: serde_json::Value = serde_json::from_str(text)?;
    let mut grouped = Grouped::default();
    if value.get("annotations").is_some() {
        let file: CocoFile = serde_json::from_value(value).context("COCO caption JSON")?;
        let names: HashMap<u64, &str> = file
            .images
            .iter()
            .map(|i| (i.id, i.file_name.as_str()))
            .collect();
        for annotation in &file.annotations {
            let id = annotation.image_id;
            let name = names
                .get(&id)
                .with_context(|| format!("annotations: image_id {id} is not in images"))?;
            if !annotation.caption.trim().is_empty() {
                grouped.add(name, annotation.caption.trim());
            }
        }
    } else if value.get("images").is_some() {
        let wanted = split.unwrap_or("train");
        let file: KarpathyFile = serde_json::from_value(value).context("Karpathy JSON")?;
        let mut splits: Vec<&str> = Vec::new();
        for image in &file.images {
            if !splits.contains(&image.split.as_str()) {
                splits.push(&image.split);
            }
            if image.split != wanted {
                continue;
            }
            let name = match &image.filepath {
                Some(folder) => format!("{folder}/{}", image.filename),
                None => image.filename.clone(),
            };
            for sentence in image.sentences.iter().filter(|s| !s.raw.trim().is_empty()) {
                grouped.add(&name, sentence.raw.trim());
            }
        }
        if grouped.images.is_empty() {
            bail!("no image in split {wanted:?}; the file has {splits:?}, choose one with --split");
        }
    } else {
        bail!(
            "found JSON without \"annotations\" and \"images\", expected COCO caption JSON or Karpathy JSON"
        );
    }
    Ok(grouped.images)
}

#[derive(Default)]
struct Grouped {
    images: Vec<CaptionedImage>,
    index: HashMap<String, usize>,
}

impl Grouped {
    fn add(&mut self, image: &str, caption: &str) {
        let at = match self.index.get(image) {
            Some(&at) => at,
            None => {
                self.index.insert(image.to_owned(), self.images.len());
                self.images.push(CaptionedImage {
                    image: image.to_owned(),
                    captions: Vec::new(),
                });
                self.images.len() - 1
            }
        };
        self.images[at].captions.push(caption.to_owned());
    }
}

/// The folder of the images: the one given, else `images` beside the pairs, else the pairs' folder.
pub fn image_folder(given: Option<&Path>, pairs: &Path) -> PathBuf {
    let beside = pairs.parent().unwrap_or(Path::new("."));
    match given {
        Some(folder) => folder.to_owned(),
        None if beside.join("images").is_dir() => beside.join("images"),
        None => beside.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str, split: Option<&str>) -> Result<Vec<CaptionedImage>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        read(file.path(), split)
    }

    fn image(name: &str, captions: &[&str]) -> CaptionedImage {
        CaptionedImage {
            image: name.into(),
            captions: captions.iter().map(|c| (*c).into()).collect(),
        }
    }

    #[test]
    fn reads_the_four_forms() {
        let tsv = "b.jpg\ta cup\na.jpg\ta door\n\nb.jpg\ta mug\n";
        assert_eq!(
            read_text(tsv, None).unwrap(),
            [
                image("b.jpg", &["a cup", "a mug"]),
                image("a.jpg", &["a door"])
            ]
        );
        let token = "b.jpg#0\ta cup\nb.jpg#1\ta mug\n";
        assert_eq!(
            read_text(token, None).unwrap(),
            [image("b.jpg", &["a cup", "a mug"])]
        );
        let coco = r#"{"images": [{"id": 7, "file_name": "c.jpg", "width": 3}],
            "annotations": [{"image_id": 7, "id": 1, "caption": "a lamp\n"}]}"#;
        assert_eq!(
            read_text(coco, None).unwrap(),
            [image("c.jpg", &["a lamp"])]
        );
        let karpathy = r#"{"dataset": "x", "images": [
            {"filepath": "val", "filename": "d.jpg", "split": "val", "sentences": [{"raw": "a bus", "tokens": []}]},
            {"filename": "e.jpg", "split": "train", "sentences": [{"raw": "a tram"}]}]}"#;
        assert_eq!(
            read_text(karpathy, None).unwrap(),
            [image("e.jpg", &["a tram"])]
        );
        assert_eq!(
            read_text(karpathy, Some("val")).unwrap(),
            [image("val/d.jpg", &["a bus"])]
        );
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        let message = |text: &str| format!("{:#}", read_text(text, Some("test")).unwrap_err());
        assert!(message("a.jpg\tx\nno tab here\n").contains("line 2: found no tab"));
        assert!(message("").contains("no image with a caption"));
        assert!(
            message("\t\t\n a.jpg\t \n").contains("no image")
                || message("a\t \n").contains("line 1")
        );
        assert!(message("{\"x\": 1}").contains("expected COCO"));
        assert!(
            message("{\"images\": [], \"annotations\": [{\"image_id\": 1, \"caption\": \"c\"}]}")
                .contains("image_id 1")
        );
        assert!(
            message("{\"images\": [{\"filename\": \"a\", \"split\": \"val\", \"sentences\": []}]}")
                .contains("\"val\"")
        );
        assert!(message("{\"images\": 3}").contains("Karpathy"));
        assert!(message("{").contains("line 1"));
    }
}
