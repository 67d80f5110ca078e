//! Recall at K of cross-modal retrieval.

use ndarray::{Array2, ArrayView2};

/// The K of the reports.
pub const AT: [usize; 3] = [1, 5, 10];

/// Share of queries whose own counterpart is among the first K, for each K of [`AT`].
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Recall {
    /// An image finds one of its own captions among all captions.
    pub image_to_text: [f64; 3],
    /// A caption finds its own image among all images.
    pub text_to_image: [f64; 3],
}

/// Measures both ways. All vectors have length one and the same dimension; `owner[j]` is the image
/// of caption j.
pub fn recall(images: &[Vec<f32>], captions: &[Vec<f32>], owner: &[usize]) -> Recall {
    let scores = matrix(images).dot(&matrix(captions).t());
    let mut image_hits = [0usize; 3];
    for (image, row) in scores.outer_iter().enumerate() {
        let best_own = row
            .iter()
            .zip(owner)
            .filter(|(_, o)| **o == image)
            .fold(f32::NEG_INFINITY, |best, (score, _)| best.max(*score));
        // A tie counts against us, so that a constant map does not score.
        let ahead = row
            .iter()
            .zip(owner)
            .filter(|(score, o)| **score >= best_own && **o != image)
            .count();
        count(&mut image_hits, ahead);
    }
    let mut caption_hits = [0usize; 3];
    for (caption, column) in scores.columns().into_iter().enumerate() {
        let own = column[owner[caption]];
        let ahead = column
            .iter()
            .enumerate()
            .filter(|(i, s)| **s >= own && *i != owner[caption])
            .count();
        count(&mut caption_hits, ahead);
    }
    let share = |hits: [usize; 3], of: usize| hits.map(|h| h as f64 / of.max(1) as f64);
    Recall {
        image_to_text: share(image_hits, images.len()),
        text_to_image: share(caption_hits, captions.len()),
    }
}

fn count(hits: &mut [usize; 3], ahead: usize) {
    for (hit, at) in hits.iter_mut().zip(AT) {
        *hit += usize::from(ahead < at);
    }
}

fn matrix(rows: &[Vec<f32>]) -> Array2<f32> {
    let width = rows.first().map_or(0, Vec::len);
    let flat: Vec<f32> = rows.iter().flatten().copied().collect();
    ArrayView2::from_shape((rows.len(), width), &flat)
        .map(|view| view.to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_hand() {
        let images = vec![vec![1.0, 0.0], vec![0.0, 1.0]];
        // Caption 0 and 1 belong to image 0; caption 1 points at image 1, caption 2 at image 0.
        let captions = vec![vec![1.0, 0.0], vec![0.0, 1.0], vec![0.9, 0.1]];
        let found = recall(&images, &captions, &[0, 0, 1]);
        assert_eq!(found.image_to_text, [0.5, 1.0, 1.0]);
        assert_eq!(found.text_to_image, [1.0 / 3.0, 1.0, 1.0]);
    }

    #[test]
    fn a_constant_map_scores_nothing_at_one() {
        let same = vec![vec![1.0f32, 0.0]; 20];
        let found = recall(&same, &same, &(0..20).collect::<Vec<_>>());
        assert_eq!(found.image_to_text, [0.0; 3]);
        assert_eq!(found.text_to_image, [0.0; 3]);
    }
}
