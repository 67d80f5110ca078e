//! A second stage in closed form: targets that lie away from what an image is mistaken for.
//!
//! A map fitted on pairs alone never sees a wrong caption. The first stage's map finds for each image the
//! captions of other images that it scores highest; their mean, times a share, is taken off the image's
//! own captions, and the second stage is fitted on these targets. Everything stays a least-squares fit.

use anyhow::Result;

use super::{embed::EmbeddedPairs, gram::GramSums};
use crate::{datastore::dot, realignment::Realignment};

/// Hardest negatives whose mean is taken off: enough that one mislabelled caption doesn't matter.
pub const NEGATIVES: usize = 300;

/// Captions that are searched for negatives; more only cost time.
const MOST_SEARCHED: usize = 20_000;

/// Sums of the pairs with `share` of the mean of each image's hardest negatives taken off its captions.
/// `first` is the first stage's map. Threads share the images.
///
/// # Errors
/// When the pairs do not fit the map.
pub fn sums(
    pairs: &EmbeddedPairs,
    first: &Realignment,
    share: f64,
    threads: usize,
) -> Result<GramSums> {
    let owners = pairs.owners();
    let step = owners.len().div_ceil(MOST_SEARCHED).max(1);
    let searched: Vec<(usize, Vec<f32>)> = (0..owners.len())
        .step_by(step)
        .map(|at| (owners[at], first.centre_text(&pairs.captions[at])))
        .collect();
    let chunk = pairs.images.len().div_ceil(threads.max(1)).max(1);
    let mut found: Vec<Vec<f32>> = Vec::with_capacity(pairs.images.len());
    std::thread::scope(|scope| {
        let threads: Vec<_> = pairs
            .images
            .chunks(chunk)
            .enumerate()
            .map(|(number, images)| {
                let (searched, captions) = (&searched, &pairs.captions);
                scope.spawn(move || {
                    let mean = |(at, (image, _)): (usize, &(Vec<f32>, usize))| {
                        let hardest = hardest(&first.realign(image), number * chunk + at, searched);
                        mean(
                            hardest
                                .into_iter()
                                .map(|row| captions[row * step].as_slice()),
                        )
                    };
                    images.iter().enumerate().map(mean).collect::<Vec<_>>()
                })
            })
            .collect();
        for thread in threads {
            found.extend(thread.join().unwrap_or_default());
        }
    });
    anyhow::ensure!(found.len() == pairs.images.len(), "a thread has panicked");
    let provenance = &first.provenance;
    let mut sums = GramSums::new(
        first.image_dimension(),
        first.text_dimension(),
        &provenance.image_embedding,
        &provenance.text_embedding,
    );
    let mut captions = pairs.captions.iter();
    for ((image, count), negative) in pairs.images.iter().zip(&found) {
        let targets: Vec<Vec<f32>> = captions
            .by_ref()
            .take(*count)
            .map(|caption| {
                let pairs = caption.iter().zip(negative);
                pairs.map(|(c, n)| c - share as f32 * n).collect()
            })
            .collect();
        let targets: Vec<&[f32]> = targets.iter().map(Vec::as_slice).collect();
        sums.add(image, &targets)?;
    }
    Ok(sums)
}

/// Places among `searched` of the captions of other images with the highest scores.
fn hardest(realigned: &[f32], own: usize, searched: &[(usize, Vec<f32>)]) -> Vec<usize> {
    let mut scores: Vec<(f32, usize)> = searched
        .iter()
        .enumerate()
        .filter(|(_, (owner, _))| *owner != own)
        .map(|(row, (_, caption))| (dot(realigned, caption), row))
        .collect();
    let wanted = NEGATIVES.min(scores.len());
    if wanted > 0 && wanted < scores.len() {
        scores.select_nth_unstable_by(wanted - 1, |a, b| b.0.total_cmp(&a.0));
    }
    scores.truncate(wanted);
    scores.into_iter().map(|(_, row)| row).collect()
}

fn mean<'a>(rows: impl Iterator<Item = &'a [f32]>) -> Vec<f32> {
    let mut sum: Vec<f32> = Vec::new();
    let mut count = 0;
    for row in rows {
        sum.resize(row.len(), 0.0);
        sum.iter_mut().zip(row).for_each(|(s, v)| *s += v);
        count += 1;
    }
    sum.iter_mut().for_each(|s| *s /= count.max(1) as f32);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fit::{Recipe, realignment},
        realignment::MapKind,
    };

    /// Images of three kinds; the first two are close, and so are their captions.
    fn pairs() -> EmbeddedPairs {
        let kinds: [([f32; 3], [f32; 3]); 3] = [
            ([1.0, 0.0, 0.0], [0.8, 0.6, 0.0]),
            ([0.9, 0.436, 0.0], [0.6, 0.8, 0.0]),
            ([0.0, 0.0, 1.0], [0.0, 0.0, 1.0]),
        ];
        let mut pairs = EmbeddedPairs::default();
        for number in 0..30 {
            let (image, caption) = kinds[number % 3];
            let shift = 0.01 * number as f32;
            pairs.push(
                image.map(|v| v + shift).to_vec(),
                vec![caption.to_vec(), caption.map(|v| v - shift).to_vec()],
            );
        }
        pairs
    }

    fn first(pairs: &EmbeddedPairs) -> Realignment {
        let mut sums = GramSums::new(3, 3, "i", "t");
        for (at, (image, _)) in pairs.images.iter().enumerate() {
            let own = [&pairs.captions[2 * at], &pairs.captions[2 * at + 1]];
            sums.add(image, &own.map(Vec::as_slice)).unwrap();
        }
        let recipe = Recipe::default();
        realignment(&sums, recipe.choice(MapKind::Ridge, 0.1), &recipe).unwrap()
    }

    #[test]
    fn an_images_own_captions_are_no_negatives_and_the_nearest_are() {
        let searched = [
            (0, vec![1.0, 0.0]),
            (1, vec![0.9, 0.1]),
            (2, vec![-1.0, 0.0]),
        ];
        let mut found = hardest(&[1.0, 0.0], 0, &searched);
        found.sort_unstable();
        assert_eq!(found, [1, 2]);
        let many: Vec<(usize, Vec<f32>)> = (0..1000).map(|i| (i + 1, vec![i as f32])).collect();
        let found = hardest(&[1.0], 0, &many);
        assert_eq!(found.len(), NEGATIVES);
        assert!(found.iter().all(|row| *row >= 700));
    }

    #[test]
    fn nothing_taken_off_changes_nothing_and_threads_do_not_matter() {
        let pairs = pairs();
        let map = first(&pairs);
        let again = |share, threads| {
            let sums = sums(&pairs, &map, share, threads).unwrap();
            let recipe = Recipe::default();
            realignment(&sums, recipe.choice(MapKind::Ridge, 0.1), &recipe).unwrap()
        };
        assert_eq!(again(0.0, 1).w(), map.w());
        assert_eq!(again(0.5, 1).w(), again(0.5, 3).w());
        assert_ne!(again(0.5, 1).w(), map.w());
    }
}
