//! People's votes on captions, with what the device would know of each.

use std::{collections::HashMap, fs, path::Path};

use anyhow::{Context as _, Result, bail};

use crate::{
    caption::confidence::{Evidence, Features, Near},
    datastore::CentredRows,
    engine::tract::TractEngine,
    eval::agreement::{read_captions, read_crowdflower},
    fit::{embed::Embedder, pairs::CaptionedImage},
    pack::Pack,
};

/// A caption of an image, and whether most people accept it.
#[derive(Debug, Clone, PartialEq)]
pub struct Vote {
    /// File name of the image.
    pub image: String,
    /// The caption.
    pub caption: String,
    /// More yes than no.
    pub accepted: bool,
}

/// Votes of Flickr8k-CF: `captions` is its token file, `judged` CrowdFlowerAnnotations.txt.
///
/// # Errors
/// Names the file and what is missing.
pub fn read_crowd(captions: &Path, judged: &Path) -> Result<Vec<Vote>> {
    let texts = read_captions(captions)?;
    read_crowdflower(judged)?
        .into_iter()
        .map(|row| {
            let caption = texts.get(&row.caption).with_context(|| {
                format!(
                    "{}: caption {} is not in {}",
                    judged.display(),
                    row.caption,
                    captions.display()
                )
            })?;
            Ok(Vote {
                image: row.image,
                caption: caption.clone(),
                accepted: row.ratings.first().is_some_and(|share| *share > 0.5),
            })
        })
        .collect()
}

/// Votes of one's own: `image<TAB>caption<TAB>yes`, `no`, or the share of yes from 0 to 1.
///
/// # Errors
/// Names the file and the line.
pub fn read_table(path: &Path) -> Result<Vec<Vote>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let mut votes = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let at = || format!("{}:{}", path.display(), number + 1);
        let fields: Vec<&str> = line.split('\t').map(str::trim).collect();
        let [image, caption, vote] = fields[..] else {
            bail!(
                "{}: found {} columns, expected image<TAB>caption<TAB>yes or no",
                at(),
                fields.len()
            );
        };
        if image.is_empty() || caption.is_empty() {
            bail!("{}: an empty image name or caption", at());
        }
        let accepted = match (vote, vote.parse::<f64>()) {
            ("yes", _) => true,
            ("no", _) => false,
            (_, Ok(share)) if (0.0..=1.0).contains(&share) => share > 0.5,
            _ => bail!(
                "{}: found {vote:?}, expected yes, no, or the share of yes from 0 to 1",
                at()
            ),
        };
        votes.push(Vote {
            image: image.to_owned(),
            caption: caption.to_owned(),
            accepted,
        });
    }
    if votes.is_empty() {
        bail!("{}: no vote in it", path.display());
    }
    Ok(votes)
}

/// A vote with its caption's features.
#[derive(Debug, Clone, PartialEq)]
pub struct VotedFeatures {
    /// Place of the image, in the order of first mention.
    pub image: usize,
    /// What the device would know.
    pub features: Features,
    /// More yes than no.
    pub accepted: bool,
}

/// What the device would know of each caption that was voted on.
///
/// # Errors
/// When the pack lacks a part, or an image is missing or damaged (names it).
pub fn features(
    votes: &[Vote],
    pack: &Pack,
    embedder: &Embedder<'_>,
    folder: &Path,
) -> Result<Vec<VotedFeatures>> {
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut images: Vec<CaptionedImage> = Vec::new();
    let mut accepted: Vec<Vec<bool>> = Vec::new();
    for vote in votes {
        let place = *places.entry(&vote.image).or_insert_with(|| {
            images.push(CaptionedImage {
                image: vote.image.clone(),
                captions: Vec::new(),
            });
            accepted.push(Vec::new());
            images.len() - 1
        });
        images[place].captions.push(vote.caption.clone());
        accepted[place].push(vote.accepted);
    }
    let realignment = pack.realignment()?;
    let judge = pack.judge()?;
    let rows = CentredRows::new(pack.datastore()?, realignment.mean_text());
    let neighbours = pack.manifest.caption.neighbours;
    let mut found = Vec::with_capacity(votes.len());
    embedder.run(&TractEngine, folder, &images, |place, image, captions| {
        let near: Vec<Near<'_>> = rows
            .nearest(&realignment.realign(&image), neighbours)
            .into_iter()
            .map(|hit| Near {
                caption: rows.store().caption(hit.row),
                embedding: rows.centred(hit.row),
            })
            .collect();
        let judged = judge.realign(&image);
        let evidence = Evidence::new(&judged, &near);
        let texts = images[place].captions.iter();
        for ((text, embedding), accepted) in texts.zip(&captions).zip(&accepted[place]) {
            let centred = realignment.centre_text(embedding);
            found.push(VotedFeatures {
                image: place,
                features: evidence.features(text, &centred, None),
                accepted: *accepted,
            });
        }
        Ok(())
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Vote>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        read_table(file.path())
    }

    #[test]
    fn own_votes_in_words_and_in_shares() {
        let votes =
            read("a.jpg\tA cup\tyes\n\nb.jpg\tA hat\tno\nb.jpg\tA cap\t0.5\nb.jpg\tA\t0.75\n");
        let accepted: Vec<bool> = votes.unwrap().iter().map(|vote| vote.accepted).collect();
        assert_eq!(accepted, [true, false, false, true]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, part) in [
            (
                "a.jpg\tA cup\tyes\na.jpg\tA cup\tperhaps\n",
                ":2: found \"perhaps\"",
            ),
            ("a.jpg\tA cup\n", ":1: found 2 columns"),
            ("a.jpg\tA cup\t1.5\n", "found \"1.5\""),
            ("a.jpg\t\tyes\n", "empty"),
            ("\n", "no vote"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn crowd_votes_by_majority() {
        let folder = tempfile::tempdir().unwrap();
        let (captions, judged) = (folder.path().join("c"), folder.path().join("j"));
        fs::write(&captions, "a.jpg#0\tA cup .\nb.jpg#0\tA hat .\n").unwrap();
        fs::write(
            &judged,
            "a.jpg\tb.jpg#0\t0.33\t1\t2\na.jpg\ta.jpg#0\t0.67\t2\t1\n",
        )
        .unwrap();
        let votes = read_crowd(&captions, &judged).unwrap();
        assert_eq!(
            votes
                .iter()
                .map(|v| (v.caption.as_str(), v.accepted))
                .collect::<Vec<_>>(),
            [("A hat .", false), ("A cup .", true)]
        );
        fs::write(&judged, "a.jpg\tz.jpg#0\t0\t0\t3\n").unwrap();
        let error = read_crowd(&captions, &judged).unwrap_err().to_string();
        assert!(error.contains("caption z.jpg#0 is not in"), "{error}");
    }
}
