//! Reference captions in the forms that data sets come in.

use std::{collections::HashMap, fs, path::Path};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::fit::pairs;

/// What VizWiz-Captions has in place of a caption when a photograph shows nothing; its challenge
/// leaves these out.
const UNRECOGNISABLE: &str = "Quality issues are too severe to recognize visual content.";

/// An image (or a video) with its reference captions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referenced {
    /// File name, or a video's id.
    pub name: String,
    /// The data set's number of it, where it has one.
    pub id: Option<u64>,
    /// Its captions, as they are in the file.
    pub captions: Vec<String>,
}

/// References, and what was left out of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct References {
    /// In the order of the file.
    pub images: Vec<Referenced>,
    /// Captions left out because they are rejected, canned or say that nothing can be recognised.
    pub excluded: usize,
    /// Images all of whose captions were left out, with those captions: a caption of theirs can't be
    /// scored.
    pub unscored: Vec<Referenced>,
}

impl References {
    fn whole(images: Vec<Referenced>) -> Self {
        Self {
            images,
            excluded: 0,
            unscored: Vec::new(),
        }
    }
}

#[derive(Deserialize)]
struct Annotated {
    images: Vec<AnnotatedImage>,
    annotations: Vec<Annotation>,
}

#[derive(Deserialize)]
struct AnnotatedImage {
    id: u64,
    file_name: String,
}

#[derive(Deserialize)]
struct Annotation {
    image_id: u64,
    caption: String,
    #[serde(default)]
    is_rejected: bool,
    #[serde(default)]
    is_precanned: bool,
}

#[derive(Deserialize)]
struct Karpathy {
    images: Vec<KarpathyImage>,
}

#[derive(Deserialize)]
struct KarpathyImage {
    #[serde(default)]
    filepath: Option<String>,
    filename: String,
    split: String,
    sentences: Vec<Sentence>,
    #[serde(default)]
    cocoid: Option<u64>,
}

#[derive(Deserialize)]
struct Sentence {
    raw: String,
}

#[derive(Deserialize)]
struct Videos {
    videos: Vec<Video>,
    sentences: Vec<VideoSentence>,
}

#[derive(Deserialize)]
struct Video {
    video_id: String,
    #[serde(default)]
    split: Option<String>,
}

#[derive(Deserialize)]
struct VideoSentence {
    video_id: String,
    caption: String,
}

/// Reads references. The form is told from the content: COCO or VizWiz-Captions JSON, Karpathy JSON
/// and MSR-VTT JSON (both of `split`, default "test"; an MSR-VTT file without that split as a whole),
/// TSV `image<TAB>caption`, or the Flickr8k token file.
///
/// # Errors
/// Names the file, the key or line, and what was expected; also when no image has a caption.
pub fn read(path: &Path, split: Option<&str>) -> Result<References> {
    let context = || format!("references {}", path.display());
    let text = fs::read_to_string(path).with_context(context)?;
    let found = if text.trim_start().starts_with('{') {
        read_json(&text, split).with_context(context)?
    } else {
        let images = pairs::read(path, split)?
            .into_iter()
            .map(|pair| Referenced {
                name: pair.image,
                id: None,
                captions: pair.captions,
            })
            .collect();
        References::whole(images)
    };
    if found.images.is_empty() {
        bail!(
            "references {}: no image with a caption in it",
            path.display()
        );
    }
    Ok(found)
}

fn read_json(text: &str, split: Option<&str>) -> Result<References> {
    let value: serde_json::Value = serde_json::from_str(text)?;
    let has = |key: &str| value.get(key).is_some();
    if has("annotations") {
        annotated(serde_json::from_value(value).context("COCO or VizWiz caption JSON")?)
    } else if has("videos") {
        videos(
            serde_json::from_value(value).context("MSR-VTT JSON")?,
            split,
        )
    } else if has("images") {
        karpathy(
            serde_json::from_value(value).context("Karpathy JSON")?,
            split.unwrap_or("test"),
        )
    } else {
        bail!(
            "found JSON without \"annotations\", \"images\" and \"videos\", expected COCO, VizWiz, \
             Karpathy or MSR-VTT JSON"
        )
    }
}

fn annotated(file: Annotated) -> Result<References> {
    let mut images: Vec<Referenced> = file
        .images
        .into_iter()
        .map(|image| Referenced {
            name: image.file_name,
            id: Some(image.id),
            captions: Vec::new(),
        })
        .collect();
    let places: HashMap<u64, usize> = images
        .iter()
        .enumerate()
        .filter_map(|(at, image)| image.id.map(|id| (id, at)))
        .collect();
    let mut left_out: Vec<Vec<String>> = vec![Vec::new(); images.len()];
    for annotation in file.annotations {
        let id = annotation.image_id;
        let at = places
            .get(&id)
            .with_context(|| format!("annotations: image_id {id} is not in images"))?;
        if annotation.is_rejected
            || annotation.is_precanned
            || annotation.caption.trim() == UNRECOGNISABLE
        {
            left_out[*at].push(annotation.caption);
        } else {
            images[*at].captions.push(annotation.caption);
        }
    }
    let excluded = left_out.iter().map(Vec::len).sum();
    let unscored = images
        .iter()
        .zip(left_out)
        .filter(|(image, left_out)| image.captions.is_empty() && !left_out.is_empty())
        .map(|(image, captions)| Referenced {
            captions,
            ..image.clone()
        })
        .collect();
    images.retain(|image| !image.captions.is_empty());
    Ok(References {
        images,
        excluded,
        unscored,
    })
}

fn karpathy(file: Karpathy, wanted: &str) -> Result<References> {
    let mut splits: Vec<String> = Vec::new();
    let mut images = Vec::new();
    for image in file.images {
        if image.split == wanted {
            images.push(Referenced {
                name: match image.filepath {
                    Some(folder) => format!("{folder}/{}", image.filename),
                    None => image.filename,
                },
                id: image.cocoid,
                captions: image.sentences.into_iter().map(|s| s.raw).collect(),
            });
        }
        if !splits.contains(&image.split) {
            splits.push(image.split);
        }
    }
    images.retain(|image| !image.captions.is_empty());
    if images.is_empty() {
        bail!("no image in split {wanted:?}; the file has {splits:?}, choose one with --split");
    }
    Ok(References::whole(images))
}

fn videos(file: Videos, split: Option<&str>) -> Result<References> {
    let has = |name: &str| file.videos.iter().any(|v| v.split.as_deref() == Some(name));
    let wanted = match split {
        Some(name) if !has(name) => {
            bail!("videos: none has split {name:?}; leave --split out to take all")
        }
        Some(name) => Some(name),
        None => Some("test").filter(|name| has(name)),
    };
    let mut images: Vec<Referenced> = file
        .videos
        .iter()
        .filter(|v| wanted.is_none() || v.split.as_deref() == wanted)
        .map(|v| Referenced {
            name: v.video_id.clone(),
            id: None,
            captions: Vec::new(),
        })
        .collect();
    let places: HashMap<String, usize> = images
        .iter()
        .enumerate()
        .map(|(at, image)| (image.name.clone(), at))
        .collect();
    for sentence in file.sentences {
        // Sentences of other splits have no place.
        if let Some(at) = places.get(&sentence.video_id) {
            images[*at].captions.push(sentence.caption);
        }
    }
    images.retain(|image| !image.captions.is_empty());
    Ok(References::whole(images))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str, split: Option<&str>) -> Result<References> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        read(file.path(), split)
    }

    fn names(found: &References) -> Vec<(&str, Option<u64>, usize)> {
        found
            .images
            .iter()
            .map(|i| (i.name.as_str(), i.id, i.captions.len()))
            .collect()
    }

    #[test]
    fn coco_and_vizwiz() {
        let coco = r#"{"images":[{"id":7,"file_name":"b.jpg"},{"id":3,"file_name":"a.jpg"}],
            "annotations":[{"id":1,"image_id":3,"caption":"A door"},{"id":2,"image_id":7,"caption":"A cup"}]}"#;
        let found = read_text(coco, None).unwrap();
        assert_eq!(
            names(&found),
            [("b.jpg", Some(7), 1), ("a.jpg", Some(3), 1)]
        );
        let vizwiz = r#"{"images":[{"id":0,"file_name":"v0.jpg","text_detected":false},{"id":1,"file_name":"v1.jpg"}],
            "annotations":[
            {"id":0,"image_id":0,"caption":"A tin of soup","is_precanned":false,"is_rejected":false,"text_detected":true},
            {"id":1,"image_id":0,"caption":"Rejected words","is_precanned":false,"is_rejected":true},
            {"id":2,"image_id":1,"caption":"Quality issues are too severe to recognize visual content.","is_precanned":true,"is_rejected":false},
            {"id":3,"image_id":1,"caption":"Quality issues are too severe to recognize visual content."}]}"#;
        let found = read_text(vizwiz, None).unwrap();
        assert_eq!(
            (names(&found), found.excluded),
            (vec![("v0.jpg", Some(0), 1)], 3)
        );
        let unscored = References::whole(found.unscored);
        assert_eq!(names(&unscored), [("v1.jpg", Some(1), 2)]);
    }

    #[test]
    fn karpathy_and_msr_vtt_by_split() {
        let karpathy = r#"{"images":[
            {"filename":"x.jpg","split":"train","sentences":[{"raw":"A"}]},
            {"filepath":"val2014","filename":"y.jpg","cocoid":5,"split":"test","sentences":[{"raw":"B"},{"raw":"C"}]}]}"#;
        let found = read_text(karpathy, None).unwrap();
        assert_eq!(names(&found), [("val2014/y.jpg", Some(5), 2)]);
        let error = format!("{:#}", read_text(karpathy, Some("val")).unwrap_err());
        assert!(error.contains("\"train\", \"test\""), "{error}");

        let videos = r#"{"videos":[{"video_id":"video1","split":"train"},{"video_id":"video2","split":"test"}],
            "sentences":[{"caption":"a man talks","video_id":"video1","sen_id":0},{"caption":"a dog barks","video_id":"video2","sen_id":1}]}"#;
        assert_eq!(
            names(&read_text(videos, None).unwrap()),
            [("video2", None, 1)]
        );
        assert_eq!(
            names(&read_text(videos, Some("train")).unwrap()),
            [("video1", None, 1)]
        );
        assert!(read_text(videos, Some("dev")).is_err());
    }

    #[test]
    fn lines_and_what_is_no_reference_file() {
        let found = read_text("a.jpg#0\tA cup\na.jpg#1\tA mug\nb.jpg\tA door\n", None).unwrap();
        assert_eq!(names(&found), [("a.jpg", None, 2), ("b.jpg", None, 1)]);
        for (text, part) in [
            ("{\"x\":1}", "MSR-VTT"),
            ("a.jpg A cup", "line 1"),
            ("", "no image"),
            (
                "{\"images\":[],\"annotations\":[{\"image_id\":1,\"caption\":\"x\"}]}",
                "image_id 1",
            ),
        ] {
            let error = format!("{:#}", read_text(text, None).unwrap_err());
            assert!(error.contains(part), "{error}");
        }
    }
}
