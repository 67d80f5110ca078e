//! A part of the pairs, so that several processes or machines can share a fit.

use std::str::FromStr;

use super::pairs::CaptionedImage;

/// Shard `number` of `of`: every `of`-th image, from the `number`-th on.
///
/// Pairs are told apart by their place among the images, so all shards of one pairs file are disjoint and
/// together the whole, whatever machine reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// From 1 to `of`.
    number: usize,
    /// How many there are.
    of: usize,
}

impl Shard {
    /// The images of this shard, in their order.
    pub fn of(self, pairs: Vec<CaptionedImage>) -> Vec<CaptionedImage> {
        let images = pairs.into_iter().skip(self.number - 1);
        images.step_by(self.of).collect()
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/');
        let numbers = parts.and_then(|(n, of)| Some((n.parse().ok()?, of.parse().ok()?)));
        match numbers {
            Some((number, of)) if (1..=of).contains(&number) => Ok(Self { number, of }),
            _ => Err("expected NUMBER/COUNT, such as 1/8 to 8/8".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_disjoint_and_together_the_whole() {
        let pairs: Vec<CaptionedImage> = (0..7)
            .map(|n| CaptionedImage {
                image: n.to_string(),
                captions: vec!["a cup".into()],
            })
            .collect();
        let mut all: Vec<CaptionedImage> = (1..=3)
            .flat_map(|n| format!("{n}/3").parse::<Shard>().unwrap().of(pairs.clone()))
            .collect();
        all.sort_by(|a, b| a.image.cmp(&b.image));
        assert_eq!(all, pairs);
        assert!("9/9".parse::<Shard>().unwrap().of(pairs).is_empty());
    }

    #[test]
    fn what_is_no_shard_is_refused() {
        for text in ["", "1", "0/3", "4/3", "-1/3", "1/0", "1/2/3", "a/b"] {
            let error = text.parse::<Shard>().unwrap_err();
            assert!(error.contains("1/8"), "{error}");
        }
    }
}
