//! Files of human judgements of image-caption pairs, as Flickr8k has them.

use std::{collections::HashMap, fs, path::Path};

use anyhow::{Context as _, Result, bail};

/// A judged pair.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// Image file name.
    pub image: String,
    /// Caption id, `image#number`.
    pub caption: String,
    /// What people said: three ratings of 1 to 4 (Expert), or one share of yes (CrowdFlower).
    pub ratings: Vec<f64>,
}

/// ExpertAnnotations.txt: image, caption id, three ratings, tab separated.
///
/// # Errors
/// Names the file, the line and what was expected.
pub fn read_expert(path: &Path) -> Result<Vec<Judged>> {
    read(path, 5, |numbers| numbers.to_vec())
}

/// CrowdFlowerAnnotations.txt: image, caption id, share of yes, yes votes, no votes.
///
/// # Errors
/// Names the file, the line and what was expected.
pub fn read_crowdflower(path: &Path) -> Result<Vec<Judged>> {
    read(path, 5, |numbers| vec![numbers[0]])
}

fn read(path: &Path, columns: usize, ratings: impl Fn(&[f64]) -> Vec<f64>) -> Result<Vec<Judged>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let mut judged = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if fields.is_empty() {
            continue;
        }
        let at = || format!("{}:{}", path.display(), number + 1);
        if fields.len() != columns {
            bail!(
                "{}: found {} columns, expected {columns}: image, caption id and numbers",
                at(),
                fields.len()
            );
        }
        let numbers = fields[2..]
            .iter()
            .map(|f| {
                f.parse()
                    .with_context(|| format!("{}: found {f:?}, expected a number", at()))
            })
            .collect::<Result<Vec<f64>>>()?;
        judged.push(Judged {
            image: fields[0].into(),
            caption: fields[1].into(),
            ratings: ratings(&numbers),
        });
    }
    if judged.is_empty() {
        bail!("{}: no judgement in it", path.display());
    }
    Ok(judged)
}

/// Captions by their id, from a token file (`image#number<TAB>caption`).
///
/// # Errors
/// Names the file and the line that has no tab.
pub fn read_captions(path: &Path) -> Result<HashMap<String, String>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(number, line)| {
            let (id, caption) = line.split_once('\t').with_context(|| {
                format!(
                    "{}:{}: found no tab, expected id<TAB>caption",
                    path.display(),
                    number + 1
                )
            })?;
            Ok((id.trim().to_owned(), caption.trim().to_owned()))
        })
        .collect()
}
