//! Landmarks for a kernel realignment: centres of the training images' embeddings (k-means, Lloyd 1982).

use anyhow::{Result, bail};
use ndarray::{Array2, ArrayView2, Axis};

use crate::realignment::Landmarks;

/// Rounds of k-means: later ones hardly move a centre, and landmarks need no optimum.
const ROUNDS: usize = 5;
/// Pairs of images that the median distance is taken over.
const PAIRS: usize = 20_000;
/// So that a fit can be repeated.
const SEED: u64 = 13;

/// `count` landmarks among `images` (each of length one). The kernel's gamma is `width` / the median
/// squared distance of two images.
///
/// # Errors
/// When there are fewer images than landmarks, or all are the same.
pub fn choose(images: &[Vec<f32>], count: usize, width: f64) -> Result<Landmarks> {
    if count == 0 || images.len() < count {
        bail!(
            "--landmarks: found {count}, expected 1 to {}, the number of images",
            images.len()
        );
    }
    let dimension = images[0].len();
    let flat: Vec<f32> = images.iter().flatten().copied().collect();
    let rows = ArrayView2::from_shape((images.len(), dimension), &flat)?;
    let mut random = fastrand::Rng::with_seed(SEED);
    let median = median_distance(images, &mut random);
    if !(median > 0.0 && median.is_finite()) {
        bail!("the images' embeddings do not differ: there is nothing to tell apart");
    }
    let mut order: Vec<usize> = (0..images.len()).collect();
    random.shuffle(&mut order);
    let mut centres = rows.select(Axis(0), &order[..count]);
    for _ in 0..ROUNDS {
        centres = moved(&rows, &centres);
    }
    let (values, _) = centres.into_raw_vec_and_offset();
    Ok(Landmarks::new(&values, dimension, width / median)?)
}

/// The centres moved to the mean of the rows that are nearest to them; one without a row stays.
fn moved(rows: &ArrayView2<'_, f32>, centres: &Array2<f32>) -> Array2<f32> {
    let squares = centres.map_axis(Axis(1), |row| row.dot(&row));
    let products = rows.dot(&centres.t());
    let mut sums = Array2::<f32>::zeros(centres.raw_dim());
    let mut counts = vec![0usize; centres.nrows()];
    for (row, products) in rows.outer_iter().zip(products.outer_iter()) {
        let distances = products.iter().zip(&squares).map(|(p, s)| s - 2.0 * p);
        let nearest = distances
            .enumerate()
            .min_by(|a, b| a.1.total_cmp(&b.1))
            .map_or(0, |(at, _)| at);
        let mut sum = sums.row_mut(nearest);
        sum += &row;
        counts[nearest] += 1;
    }
    for ((mut sum, count), old) in sums.outer_iter_mut().zip(&counts).zip(centres.outer_iter()) {
        if *count == 0 {
            sum.assign(&old);
        } else {
            sum /= *count as f32;
        }
    }
    sums
}

fn median_distance(images: &[Vec<f32>], random: &mut fastrand::Rng) -> f64 {
    let mut distances: Vec<f64> = (0..PAIRS)
        .map(|_| {
            let (a, b) = (
                &images[random.usize(..images.len())],
                &images[random.usize(..images.len())],
            );
            a.iter().zip(b).map(|(x, y)| f64::from(x - y).powi(2)).sum()
        })
        .collect();
    distances.sort_unstable_by(f64::total_cmp);
    distances[PAIRS / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_middle_of_each_heap() {
        let mut random = fastrand::Rng::with_seed(1);
        let heaps = [[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]];
        let images: Vec<Vec<f32>> = (0..90)
            .map(|i| {
                heaps[i % 3]
                    .iter()
                    .map(|v| v + random.f32() - 0.5)
                    .collect()
            })
            .collect();
        // More landmarks than heaps: every heap has one near its middle, whatever the beginning was.
        let landmarks = choose(&images, 9, 2.0).unwrap();
        for heap in heaps {
            let most = landmarks
                .similarities(&heap)
                .into_iter()
                .fold(0.0, f32::max);
            assert!(most > 0.99, "{heap:?} {most}");
        }
        // Half of the pairs lie within a heap or between two: gamma is width / median.
        assert!(landmarks.gamma() > 0.0);
        assert_eq!(choose(&images, 9, 2.0).unwrap(), landmarks, "seeded");
    }

    #[test]
    fn too_few_images_and_equal_images_are_refused() {
        let same = vec![vec![1.0, 0.0]; 5];
        assert!(
            choose(&same, 6, 1.0)
                .unwrap_err()
                .to_string()
                .contains("1 to 5")
        );
        assert!(
            choose(&same, 2, 1.0)
                .unwrap_err()
                .to_string()
                .contains("do not differ")
        );
        assert!(choose(&same, 0, 1.0).is_err());
    }
}
