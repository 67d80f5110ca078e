//! Which rows to keep when a datastore has to shrink.

use ndarray::{Array2, ArrayView2, Axis};

/// Rows that are chosen between two looks at all others.
const BATCH: usize = 64;

/// Chooses `count` rows: first those with the highest use; among rows of equal use, the ones
/// farthest from what is chosen already, so that every region stays covered. `rows` have length one
/// ([`super::filter::centred`]); `used[i]` says how often row i is retrieved (all zeros: coverage
/// alone decides). Returns the rows in the order of the file.
pub fn choose(rows: ArrayView2<f32>, used: &[u32], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rows.nrows().min(used.len())).collect();
    if count >= order.len() {
        return order;
    }
    order.sort_by_key(|&row| (std::cmp::Reverse(used[row]), row));
    // The use at which the room ends: what is above it is kept, what is at it competes.
    let Some(&last) = count.checked_sub(1).and_then(|at| order.get(at)) else {
        return Vec::new();
    };
    let border = used[last];
    let mut chosen: Vec<usize> = order
        .iter()
        .copied()
        .filter(|&r| used[r] > border)
        .collect();
    let tied: Vec<usize> = order
        .iter()
        .copied()
        .filter(|&r| used[r] == border)
        .collect();
    let room = count - chosen.len();
    chosen.extend(farthest(rows, &chosen, &tied, room));
    chosen.sort_unstable();
    chosen
}

/// Greedy farthest-point choice of `count` among `candidates`: always the one whose highest cosine
/// to `chosen` and to those before it is lowest; ties go to the earlier candidate.
///
/// Exact, in batches: as cosines to the chosen only grow, a candidate outside the pool of the
/// lowest can't overtake one inside whose up-to-date cosine is at most that of the pool's edge.
fn farthest(
    rows: ArrayView2<f32>,
    chosen: &[usize],
    candidates: &[usize],
    count: usize,
) -> Vec<usize> {
    let mut open: Vec<Open> = candidates
        .iter()
        .map(|&row| Open {
            row,
            highest: f32::NEG_INFINITY,
        })
        .collect();
    for part in chosen.chunks(4 * BATCH) {
        raise(&mut open, rows, part);
    }
    let mut found = Vec::with_capacity(count);
    while found.len() < count && !open.is_empty() {
        let batch = next_batch(rows, &open, count - found.len());
        open.retain(|candidate| !batch.contains(&candidate.row));
        raise(&mut open, rows, &batch);
        found.extend(batch);
    }
    found
}

/// A candidate with its highest cosine to what is chosen.
#[derive(Debug, Clone, Copy)]
struct Open {
    row: usize,
    highest: f32,
}

/// The next rows to choose, at least one and at most `count`.
fn next_batch(rows: ArrayView2<f32>, open: &[Open], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..open.len()).collect();
    let size = (4 * BATCH).min(order.len());
    if size < order.len() {
        order.select_nth_unstable_by(size, |&a, &b| {
            open[a].highest.total_cmp(&open[b].highest).then(a.cmp(&b))
        });
    }
    let edge = order.get(size).map(|&outside| open[outside].highest);
    order.truncate(size);
    order.sort_unstable();
    let mut pool: Vec<Open> = order.into_iter().map(|at| open[at]).collect();
    let members: Vec<usize> = pool.iter().map(|candidate| candidate.row).collect();
    let vectors = rows.select(Axis(0), &members);
    let mut taken = vec![false; pool.len()];
    let mut batch = Vec::new();
    while batch.len() < BATCH.min(count) {
        let free = (0..pool.len()).filter(|&at| !taken[at]);
        let Some(best) = free.min_by(|&a, &b| pool[a].highest.total_cmp(&pool[b].highest)) else {
            break;
        };
        // Equal to the edge would need a look at who comes first in the file.
        if !batch.is_empty() && edge.is_some_and(|edge| pool[best].highest >= edge) {
            break;
        }
        taken[best] = true;
        batch.push(pool[best].row);
        let cosines = vectors.dot(&vectors.row(best));
        for (candidate, cosine) in pool.iter_mut().zip(&cosines) {
            candidate.highest = candidate.highest.max(*cosine);
        }
    }
    batch
}

/// Raises the open candidates' cosines by those to newly chosen rows.
fn raise(open: &mut [Open], rows: ArrayView2<f32>, chosen: &[usize]) {
    let chosen: Array2<f32> = rows.select(Axis(0), chosen);
    for part in open.chunks_mut(1024) {
        let members: Vec<usize> = part.iter().map(|candidate| candidate.row).collect();
        let cosines = rows.select(Axis(0), &members).dot(&chosen.t());
        for (candidate, cosines) in part.iter_mut().zip(cosines.outer_iter()) {
            let most = cosines.iter().copied().fold(candidate.highest, f32::max);
            candidate.highest = most;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datastore::filter::centred;

    fn circle(degrees: &[f32]) -> Array2<f32> {
        let rows: Vec<[f32; 2]> = degrees
            .iter()
            .map(|a| [a.to_radians().cos(), a.to_radians().sin()])
            .collect();
        centred(&rows, &[0.0, 0.0])
    }

    #[test]
    fn use_comes_first_and_coverage_decides_ties() {
        let rows = circle(&[0.0, 3.0, 90.0, 180.0, 5.0]);
        // Row 1 is used most; of the others, 180 degrees is farthest from it.
        assert_eq!(choose(rows.view(), &[0, 9, 0, 0, 0], 2), [1, 3]);
        assert_eq!(choose(rows.view(), &[0, 9, 0, 0, 0], 3), [1, 2, 3]);
        assert_eq!(choose(rows.view(), &[1, 9, 1, 0, 2], 2), [1, 4]);
        assert_eq!(choose(rows.view(), &[0; 5], 3), [0, 2, 3]);
        assert_eq!(choose(rows.view(), &[0; 5], 9), [0, 1, 2, 3, 4]);
        assert!(choose(rows.view(), &[0; 5], 0).is_empty());
    }

    #[test]
    fn batches_choose_what_one_at_a_time_would() {
        let mut state = 3u64;
        let mut next = || {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        let rows: Vec<[f32; 6]> = (0..900).map(|_| std::array::from_fn(|_| next())).collect();
        let rows = centred(&rows, &[0.0; 6]);
        let mut nearest = vec![f32::NEG_INFINITY; rows.nrows()];
        let mut expected = Vec::new();
        for _ in 0..300 {
            let free = (0..rows.nrows()).filter(|row| !expected.contains(row));
            let best = free
                .min_by(|&a, &b| nearest[a].total_cmp(&nearest[b]))
                .unwrap();
            expected.push(best);
            for (row, nearest) in nearest.iter_mut().enumerate() {
                *nearest = nearest.max(rows.row(row).dot(&rows.row(best)));
            }
        }
        expected.sort_unstable();
        let found = choose(rows.view(), &[0; 900], 300);
        // Sums of products in another order can swap two rows that are equally far.
        let same = found.iter().filter(|row| expected.contains(row)).count();
        assert!(same >= 297, "{same} of 300");
    }
}
