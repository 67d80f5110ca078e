//! Finds each caption's image among the references.

use std::{collections::HashMap, path::Path};

use super::{
    predictions::{ImageName, Prediction},
    references::Referenced,
};

/// Why captions and references do not fit together.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum MatchError {
    /// A caption's image has no reference.
    #[error(
        "image {image} has a prediction but no reference ({count} of {all} predictions have none); is this the right split?"
    )]
    NoReference {
        /// The first such image.
        image: String,
        /// How many there are.
        count: usize,
        /// Of how many.
        all: usize,
    },
    /// An image has no caption.
    #[error(
        "image {image} has references but no prediction ({count} of {all} images have none); score the others alone with --subset"
    )]
    NoPrediction {
        /// The first such image.
        image: String,
        /// How many there are.
        count: usize,
        /// Of how many.
        all: usize,
    },
    /// An image has more than one caption.
    #[error("image {image} has more than one prediction; leave one")]
    Twice {
        /// The image.
        image: String,
    },
    /// A name fits more than one image of the references.
    #[error("image {image} is the name of more than one image of the references; use whole paths")]
    Ambiguous {
        /// The name.
        image: String,
    },
}

/// A name's place, or that several have it.
#[derive(Clone, Copy)]
enum Place {
    One(usize),
    Several,
}

/// Names of the images of a set of references.
pub struct Matcher {
    names: HashMap<String, Place>,
    numbers: HashMap<u64, Place>,
}

impl Matcher {
    /// An image is known by its path, its file name, that without extension, and its number: the data
    /// set's, else the one at the end of its name (`COCO_val2014_000000000042.jpg`).
    pub fn new(images: &[Referenced]) -> Self {
        let mut matcher = Self {
            names: HashMap::new(),
            numbers: HashMap::new(),
        };
        for (at, image) in images.iter().enumerate() {
            for name in forms(&image.name) {
                add(&mut matcher.names, name.to_owned(), at);
            }
            if let Some(number) = image.id.or_else(|| trailing_number(&image.name)) {
                add(&mut matcher.numbers, number, at);
            }
        }
        matcher
    }

    /// The place of the one image that has this name.
    pub fn place(&self, image: &ImageName) -> Option<usize> {
        match self.find(image) {
            Some(Place::One(at)) => Some(at),
            _ => None,
        }
    }

    fn find(&self, image: &ImageName) -> Option<Place> {
        match image {
            ImageName::Number(number) => self
                .numbers
                .get(number)
                .or_else(|| self.names.get(&number.to_string()))
                .copied(),
            ImageName::Text(text) => forms(text)
                .iter()
                .find_map(|form| self.names.get(*form))
                .or_else(|| self.numbers.get(&text.parse().ok()?))
                .copied(),
        }
    }

    /// The caption of each of `images`, in their order; `None` for those without one.
    ///
    /// # Errors
    /// When a caption's image is unknown, ambiguous or has two captions, and, unless `subset`, when an
    /// image has no caption.
    pub fn captions<'p>(
        &self,
        images: &[Referenced],
        predictions: &'p [Prediction],
        subset: bool,
    ) -> Result<Vec<Option<&'p str>>, MatchError> {
        let mut found = vec![None; images.len()];
        let mut unknown = Vec::new();
        for prediction in predictions {
            let name = || prediction.image.to_string();
            match self.find(&prediction.image) {
                None => unknown.push(&prediction.image),
                Some(Place::Several) => return Err(MatchError::Ambiguous { image: name() }),
                Some(Place::One(at)) if found[at].is_some() => {
                    return Err(MatchError::Twice { image: name() });
                }
                Some(Place::One(at)) => found[at] = Some(prediction.caption.as_str()),
            }
        }
        if let Some(first) = unknown.first() {
            return Err(MatchError::NoReference {
                image: first.to_string(),
                count: unknown.len(),
                all: predictions.len(),
            });
        }
        let mut missing = images.iter().zip(&found).filter(|(_, c)| c.is_none());
        if let Some((first, _)) = missing.next()
            && !subset
        {
            return Err(MatchError::NoPrediction {
                image: first.name.clone(),
                count: 1 + missing.count(),
                all: images.len(),
            });
        }
        Ok(found)
    }
}

fn add<K: std::hash::Hash + Eq>(map: &mut HashMap<K, Place>, key: K, at: usize) {
    map.entry(key)
        .and_modify(|place| {
            if !matches!(place, Place::One(other) if *other == at) {
                *place = Place::Several;
            }
        })
        .or_insert(Place::One(at));
}

/// Path, file name, file name without extension.
fn forms(name: &str) -> [&str; 3] {
    let path = Path::new(name);
    let file = path.file_name().and_then(|f| f.to_str()).unwrap_or(name);
    let stem = path.file_stem().and_then(|f| f.to_str()).unwrap_or(name);
    [name, file, stem]
}

fn trailing_number(name: &str) -> Option<u64> {
    let stem = forms(name)[2];
    let digits = stem.len() - stem.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    stem[stem.len() - digits..].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(name: &str, id: Option<u64>) -> Referenced {
        Referenced {
            name: name.into(),
            id,
            captions: vec!["a cup".into()],
        }
    }

    fn text(name: &str) -> Prediction {
        Prediction {
            image: ImageName::Text(name.into()),
            caption: name.into(),
        }
    }

    #[test]
    fn by_name_and_by_number() {
        let images = [
            image("COCO_val2014_000000000042.jpg", None),
            image("video7", None),
            image("b.png", Some(9)),
        ];
        let number = Prediction {
            image: ImageName::Number(42),
            caption: "n".into(),
        };
        let predictions = [text("9"), text("video7"), number];
        let found = Matcher::new(&images)
            .captions(&images, &predictions, false)
            .unwrap();
        assert_eq!(found, [Some("n"), Some("video7"), Some("9")]);
        let predictions = [text("../x/b.jpg")];
        let found = Matcher::new(&images)
            .captions(&images, &predictions, true)
            .unwrap();
        assert_eq!(found, [None, None, Some("../x/b.jpg")]);
    }

    #[test]
    fn what_has_no_counterpart_is_named() {
        let images = [
            image("a.jpg", None),
            image("x/b.jpg", None),
            image("y/b.jpg", None),
        ];
        let error = |predictions: &[Prediction], subset| {
            Matcher::new(&images)
                .captions(&images, predictions, subset)
                .unwrap_err()
        };
        assert_eq!(
            error(&[text("a.jpg"), text("q.jpg"), text("r.jpg")], true),
            MatchError::NoReference {
                image: "q.jpg".into(),
                count: 2,
                all: 3
            }
        );
        assert_eq!(
            error(&[text("a.jpg")], false),
            MatchError::NoPrediction {
                image: "x/b.jpg".into(),
                count: 2,
                all: 3
            }
        );
        assert!(matches!(
            error(&[text("b.jpg")], true),
            MatchError::Ambiguous { .. }
        ));
        assert!(matches!(
            error(&[text("a.jpg"), text("a.png")], true),
            MatchError::Twice { .. }
        ));
    }
}
