//! Judged captions with the references that they may be compared with.
//!
//! A judged caption must not be its own reference. The conventions are those of CLIPScore's published
//! evaluation (github.com/jmhessel/clipscore, `flickr8k_example`; arXiv 2104.08718, appendix A), which
//! follows SPICE's:
//!
//! - Flickr8k-Expert: references are the image's own captions. A row whose caption is, word for word,
//!   one of them is left out. Each of a row's three ratings is a pair of its own.
//! - Flickr8k-CF: no row is left out. Instead a judged caption that is one of the image's references is
//!   taken from them, for all rows of the image. (Expert can be read so too, [`OwnReference::Taken`].)
//! - THumB: the caption of the system "Human" is one of the image's references, up to case and
//!   punctuation, and is taken from them. No row is left out.
//! - CIDEr-D's documents are the ratings: an image counts once for each of its ratings.

use std::collections::HashMap;

use anyhow::{Context as _, Result, bail};

use super::{
    files::Judged,
    thumb::{ASPECTS, ThumbRow},
};
use crate::eval::captions::{
    matching::Matcher, predictions::ImageName, references::Referenced, tokenizer::tokenize,
};

/// THumB's name for captions by people.
const HUMAN: &str = "Human";

/// What becomes of a judged caption that is one of its image's references.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnReference {
    /// The row is left out: the published reading of Flickr8k-Expert.
    Dropped,
    /// The caption is taken from the references and its row stays: that of Flickr8k-CF.
    Taken,
}

/// A judged image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// File name.
    pub name: String,
    /// Captions to compare with.
    pub references: Vec<String>,
}

/// A judged caption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Place of its image.
    pub image: usize,
    /// The caption.
    pub caption: String,
}

/// Ratings of one kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Scale {
    /// What was rated.
    pub name: &'static str,
    /// Row and rating; a row may have several.
    pub ratings: Vec<(usize, f64)>,
}

/// A data set of human judgements.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgements {
    /// Images, each once.
    pub images: Vec<Image>,
    /// Captions that are kept, in the order of the file.
    pub rows: Vec<Row>,
    /// One or more kinds of ratings.
    pub scales: Vec<Scale>,
    /// Rows that were left out, because their caption is one of the image's references.
    pub dropped: usize,
}

impl Judgements {
    /// Flickr8k-Expert or Flickr8k-CF, with captions by their id.
    ///
    /// # Errors
    /// When a judged caption or an image's own captions are not among them, or nothing is left.
    pub fn flickr8k(
        name: &'static str,
        judged: &[Judged],
        captions: &HashMap<String, String>,
        own: OwnReference,
    ) -> Result<Self> {
        let mut references = own_captions(captions);
        let mut places: HashMap<&str, usize> = HashMap::new();
        let mut found = Self {
            images: Vec::new(),
            rows: Vec::new(),
            scales: Vec::new(),
            dropped: 0,
        };
        let mut ratings = Vec::new();
        for judgement in judged {
            let image = match places.get(judgement.image.as_str()) {
                Some(image) => *image,
                None => {
                    let name = judgement.image.as_str();
                    let references = references.remove(name).with_context(|| {
                        format!("image {name} is judged but has no caption in --captions")
                    })?;
                    found.images.push(Image {
                        name: name.to_owned(),
                        references,
                    });
                    places.insert(name, found.images.len() - 1);
                    found.images.len() - 1
                }
            };
            let id = judgement.caption.as_str();
            let caption = captions
                .get(id)
                .with_context(|| format!("caption {id} is judged but not in --captions"))?;
            if own == OwnReference::Dropped && found.images[image].references.contains(caption) {
                found.dropped += 1;
                continue;
            }
            let row = found.rows.len();
            found.rows.push(Row {
                image,
                caption: caption.clone(),
            });
            ratings.extend(judgement.ratings.iter().map(|rating| (row, *rating)));
        }
        if found.rows.is_empty() {
            bail!(
                "every judged caption is one of its image's references: nothing is left to judge"
            );
        }
        for row in &found.rows {
            let references = &mut found.images[row.image].references;
            if let Some(at) = references.iter().position(|r| *r == row.caption) {
                references.remove(at);
            }
        }
        found.scales.push(Scale { name, ratings });
        Ok(found)
    }

    /// THumB, with the references of MS-COCO (any; those of other images don't matter).
    pub fn thumb(judged: &[ThumbRow], references: &[Referenced]) -> Self {
        let matcher = Matcher::new(references);
        let mut places: HashMap<&str, usize> = HashMap::new();
        let mut images: Vec<Image> = Vec::new();
        let mut rows = Vec::new();
        for judgement in judged {
            let image = *places.entry(judgement.image.as_str()).or_insert_with(|| {
                let name = ImageName::Text(judgement.image.clone());
                let number = || matcher.place(&ImageName::Number(judgement.number?));
                let own = matcher.place(&name).or_else(number);
                images.push(Image {
                    name: judgement.image.clone(),
                    references: own.map_or_else(Vec::new, |at| references[at].captions.clone()),
                });
                images.len() - 1
            });
            rows.push(Row {
                image,
                caption: judgement.caption.clone(),
            });
        }
        for (row, judgement) in rows.iter().zip(judged) {
            let references = &mut images[row.image].references;
            if judgement.system == HUMAN && !references.is_empty() {
                let words = tokenize(&row.caption);
                if let Some(at) = references.iter().position(|r| tokenize(r) == words) {
                    references.remove(at);
                }
            }
        }
        let scale = |(at, name): (usize, &&'static str)| Scale {
            name,
            ratings: judged.iter().map(|j| j.ratings[at]).enumerate().collect(),
        };
        Self {
            images,
            rows,
            scales: ASPECTS.iter().enumerate().map(scale).collect(),
            dropped: 0,
        }
    }

    /// Images that have no reference.
    pub fn without_references(&self) -> impl Iterator<Item = &Image> {
        let images = self.images.iter();
        images.filter(|image| image.references.is_empty())
    }

    /// Ratings of the first scale for each image.
    pub fn ratings_per_image(&self) -> Vec<u32> {
        let mut counts = vec![0; self.images.len()];
        for (row, _) in self.scales.first().iter().flat_map(|scale| &scale.ratings) {
            counts[self.rows[*row].image] += 1;
        }
        counts
    }
}

/// Each image's captions, in the order of their numbers.
fn own_captions(captions: &HashMap<String, String>) -> HashMap<&str, Vec<String>> {
    let mut numbered: HashMap<&str, Vec<(u32, &String)>> = HashMap::new();
    for (id, caption) in captions {
        if let Some((image, number)) = id.rsplit_once('#')
            && let Ok(number) = number.parse()
        {
            numbered.entry(image).or_default().push((number, caption));
        }
    }
    numbered
        .into_iter()
        .map(|(image, mut captions)| {
            captions.sort_unstable();
            let texts = captions.into_iter().map(|(_, caption)| caption.clone());
            (image, texts.collect())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captions() -> HashMap<String, String> {
        [
            ("a.jpg#0", "A kettle boils ."),
            ("a.jpg#1", "A kettle on a stove ."),
            ("b.jpg#0", "Two chairs ."),
            ("b.jpg#1", "A kettle boils ."),
        ]
        .map(|(id, text)| (id.to_owned(), text.to_owned()))
        .into()
    }

    fn judged(rows: &[(&str, &str, &[f64])]) -> Vec<Judged> {
        rows.iter()
            .map(|(image, caption, ratings)| Judged {
                image: (*image).into(),
                caption: (*caption).into(),
                ratings: ratings.to_vec(),
            })
            .collect()
    }

    fn read(rows: &[Judged], own: OwnReference) -> Result<Judgements> {
        Judgements::flickr8k("expert", rows, &captions(), own)
    }

    #[test]
    fn expert_leaves_out_what_is_its_own_reference() {
        // The second row's caption is another image's, but says what a reference says.
        let rows = judged(&[
            ("a.jpg", "b.jpg#0", &[1.0, 1.0, 2.0]),
            ("a.jpg", "b.jpg#1", &[4.0, 4.0, 4.0]),
            ("a.jpg", "a.jpg#1", &[4.0, 4.0, 4.0]),
        ]);
        let found = read(&rows, OwnReference::Dropped).unwrap();
        assert_eq!((found.rows.len(), found.dropped), (1, 2));
        assert_eq!(found.scales[0].ratings, [(0, 1.0), (0, 1.0), (0, 2.0)]);
        assert_eq!(found.ratings_per_image(), [3]);
        assert_eq!(found.images[0].references.len(), 2);
        let error = read(&rows[1..], OwnReference::Dropped).unwrap_err();
        assert!(error.to_string().contains("nothing is left"), "{error}");
    }

    #[test]
    fn crowdflower_takes_the_judged_from_the_references() {
        let rows = judged(&[
            ("a.jpg", "b.jpg#0", &[0.0]),
            ("a.jpg", "b.jpg#1", &[1.0]),
            ("b.jpg", "a.jpg#1", &[0.0]),
        ]);
        let found = read(&rows, OwnReference::Taken).unwrap();
        assert_eq!((found.rows.len(), found.dropped), (3, 0));
        assert_eq!(found.images[0].references, ["A kettle on a stove ."]);
        assert_eq!(found.images[1].references.len(), 2);
        for (image, caption, part) in [
            ("c.jpg", "a.jpg#0", "image c.jpg"),
            ("a.jpg", "z.jpg#0", "caption z.jpg#0"),
        ] {
            let rows = judged(&[(image, caption, &[0.0])]);
            let error = read(&rows, OwnReference::Taken).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn thumb_takes_the_persons_caption_from_the_references() {
        let row = |image: &str, number, system: &str, caption: &str| ThumbRow {
            image: image.into(),
            number,
            system: system.into(),
            caption: caption.into(),
            ratings: [4.5, 4.0, 5.0, 0.0, 0.0, 0.0],
        };
        let references = [Referenced {
            name: "000000000012.jpg".into(),
            id: Some(12),
            captions: vec!["a kettle boils".into(), "Two kettles".into()],
        }];
        let rows = [
            row(
                "COCO_val2014_000000000012.jpg",
                Some(12),
                "Up-Down",
                "Two kettles.",
            ),
            row(
                "COCO_val2014_000000000012.jpg",
                Some(12),
                "Human",
                "A kettle boils.",
            ),
            row(
                "COCO_val2014_000000000013.jpg",
                Some(13),
                "Human",
                "A chair.",
            ),
        ];
        let found = Judgements::thumb(&rows, &references);
        assert_eq!(found.images[0].references, ["Two kettles"]);
        let without: Vec<&str> = found
            .without_references()
            .map(|i| i.name.as_str())
            .collect();
        assert_eq!(without, ["COCO_val2014_000000000013.jpg"]);
        assert_eq!(found.scales.len(), 6);
        assert_eq!(found.scales[2].ratings, [(0, 5.0), (1, 5.0), (2, 5.0)]);
        assert_eq!(found.ratings_per_image(), [2, 1]);
    }
}
