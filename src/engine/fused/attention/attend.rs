//! The ops that run in the place of attentions, and of the cache's growth.

use std::cell::RefCell;

use tract_onnx::tract_hir::internal::*;

use super::{Work, filled, values};
use crate::kernels::{Arch, Attention, Heads, Mask, Positions, Scratch};

thread_local! {
    /// Working memory of the loops.
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::default());
}

/// Which of the op's inputs has some heads, and which part of its rows: `[sequences, rows, parts * heads * depth]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Place {
    pub input: usize,
    pub part: usize,
    pub parts: usize,
}

/// How rows are split into heads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Split {
    pub heads: usize,
    pub depth: usize,
    /// Whatever rows there are, they are one sequence.
    pub one_sequence: bool,
}

/// Entries of a cache.
#[derive(Debug, Clone, Copy)]
pub(super) struct Past {
    pub input: usize,
    pub keys: usize,
    pub values: usize,
}

/// `softmax(q k' scale + mask) v` of all heads; `[sequences, rows, heads * depth]`.
#[derive(Debug)]
pub(super) struct Attend {
    pub split: Split,
    pub scale: f32,
    pub queries: Place,
    pub keys: Place,
    pub values: Place,
    pub past: Option<Past>,
    pub mask: Option<usize>,
    pub inputs: usize,
}

impl Split {
    fn width(self) -> usize {
        self.heads * self.depth
    }

    /// Sequences and rows of an input.
    fn rows(self, place: Place, shape: &[usize]) -> TractResult<[usize; 2]> {
        let &[sequences, rows, width] = shape else {
            bail!("expected rows of sequences, found {shape:?}");
        };
        ensure!(
            width == place.parts * self.width(),
            "expected rows of {}, found {shape:?}",
            place.parts * self.width()
        );
        Ok(match self.one_sequence {
            true => [1, sequences * rows],
            false => [sequences, rows],
        })
    }

    fn heads<'a>(self, place: Place, values: &'a [f32], rows: usize) -> Heads<'a> {
        let width = place.parts * self.width();
        Heads {
            values,
            first: place.part * self.width(),
            sequence: rows * width,
            head: self.depth,
            row: width,
        }
    }
}

/// Positions that a cache `[sequences, entries, heads, positions, depth]` has.
fn kept(split: Split, sequences: usize, shape: &[usize], entries: usize) -> TractResult<usize> {
    match *shape {
        [s, e, heads, count, depth]
            if s == sequences && e >= entries && heads == split.heads && depth == split.depth =>
        {
            Ok(count)
        }
        _ => {
            bail!("a cache of {sequences} sequences and {split:?} has another shape than {shape:?}")
        }
    }
}

impl Work for Attend {
    const NAME: &'static str = "captiond.Attention";

    fn inputs(&self) -> usize {
        self.inputs
    }

    fn output_shape(&self, inputs: &[&[TDim]]) -> TractResult<TVec<TDim>> {
        let [sequences, rows, _] = inputs[self.queries.input] else {
            bail!(
                "expected rows of sequences, found {:?}",
                inputs[self.queries.input]
            );
        };
        let width = self.split.width().to_dim();
        Ok(match self.split.one_sequence {
            true => tvec!(1.to_dim(), sequences.clone() * rows, width),
            false => tvec!(sequences.clone(), rows.clone(), width),
        })
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let split = self.split;
        let [sequences, rows] = split.rows(self.queries, inputs[self.queries.input].shape())?;
        let part = |place: Place| -> TractResult<(Heads<'_>, [usize; 2])> {
            let input = &inputs[place.input];
            let [sequences, rows] = split.rows(place, input.shape())?;
            let heads = split.heads(place, values::<f32>(input)?, rows);
            Ok((heads, [sequences, rows]))
        };
        let (keys, of_keys) = part(self.keys)?;
        let (new_values, of_values) = part(self.values)?;
        ensure!(
            of_keys == of_values && of_keys[0] == sequences,
            "keys of {of_keys:?} sequences and rows, values of {of_values:?}"
        );
        let new = Positions {
            keys,
            values: new_values,
            count: of_keys[1],
        };
        let past = match self.past {
            None => Positions { count: 0, ..new },
            Some(past) => {
                let input = &inputs[past.input];
                let shape = input.shape();
                let count = kept(split, sequences, shape, past.keys.max(past.values) + 1)?;
                let block = split.width() * count;
                let numbers = values::<f32>(input)?;
                let entry = |entry: usize| Heads {
                    values: numbers,
                    first: entry * block,
                    sequence: shape[1] * block,
                    head: count * split.depth,
                    row: split.depth,
                };
                Positions {
                    keys: entry(past.keys),
                    values: entry(past.values),
                    count,
                }
            }
        };
        let count = past.count + new.count;
        ensure!(count > 0, "nothing to attend to");
        let mask = match self.mask {
            None => None,
            Some(mask) => mask_of(&inputs[mask], [sequences, split.heads, rows], count)?,
        };
        filled(&[sequences, rows, split.width()], |out| {
            let attention = Attention {
                arch: Arch::new(),
                sequences,
                heads: split.heads,
                depth: split.depth,
                scale: self.scale,
                queries: part(self.queries)?.0,
                rows,
                positions: [past, new],
                mask,
            };
            SCRATCH.with_borrow_mut(|scratch| attention.run(out, scratch));
            Ok(())
        })
    }
}

/// A mask that may have ones for sequences, heads and rows, and fewer axes; none if it has one number for all positions,
/// which changes no softmax.
fn mask_of(mask: &Tensor, whole: [usize; 3], count: usize) -> TractResult<Option<Mask<'_>>> {
    let shape = mask.shape();
    let mut sizes = [1; 4];
    let Some(missing) = sizes.len().checked_sub(shape.len()) else {
        bail!("a mask of shape {shape:?}");
    };
    sizes[missing..].copy_from_slice(shape);
    if sizes[3] == 1 && count != 1 {
        return Ok(None);
    }
    let fits = sizes[..3]
        .iter()
        .zip(whole)
        .all(|(&size, whole)| size == 1 || size == whole);
    ensure!(
        fits && sizes[3] == count,
        "a mask of shape {shape:?} for {whole:?} sequences, heads and rows and {count} positions"
    );
    let mut steps = [0; 3];
    let mut step = count;
    for axis in (0..3).rev() {
        if sizes[axis] > 1 {
            steps[axis] = step;
        }
        step *= sizes[axis];
    }
    Ok(Some(Mask {
        values: values::<f32>(mask)?,
        steps,
    }))
}

/// The cache of the next call: each entry's positions, and the new ones behind them.
#[derive(Debug)]
pub(super) struct Keep {
    pub split: Split,
    /// Of the new positions; the cache is input 0.
    pub entries: Vec<Place>,
    pub inputs: usize,
}

impl Work for Keep {
    const NAME: &'static str = "captiond.Cache";

    fn inputs(&self) -> usize {
        self.inputs
    }

    fn output_shape(&self, inputs: &[&[TDim]]) -> TractResult<TVec<TDim>> {
        let (mut shape, new): (TVec<TDim>, _) = (inputs[0].into(), inputs[self.entries[0].input]);
        let (Some(count), [sequences, rows, _]) = (shape.get_mut(3), new) else {
            bail!("a cache of shape {:?} for rows {new:?}", inputs[0]);
        };
        *count += match self.split.one_sequence {
            true => sequences.clone() * rows,
            false => rows.clone(),
        };
        Ok(shape)
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let split = self.split;
        let first = self.entries[0];
        let [sequences, new] = split.rows(first, inputs[first.input].shape())?;
        let shape = inputs[0].shape();
        let before = kept(split, sequences, shape, self.entries.len())?;
        ensure!(
            shape[1] == self.entries.len(),
            "a cache of {} entries, found {shape:?}",
            self.entries.len()
        );
        let past = values::<f32>(&inputs[0])?;
        let mut sources = Vec::with_capacity(self.entries.len());
        for &place in &self.entries {
            let input = &inputs[place.input];
            ensure!(
                split.rows(place, input.shape())? == [sequences, new],
                "new positions of shape {:?}",
                input.shape()
            );
            sources.push((place, values::<f32>(input)?));
        }
        let count = before + new;
        let mut grown: TVec<usize> = shape.into();
        grown[3] = count;
        let (old, whole) = (before * split.depth, count * split.depth);
        filled(&grown, |out| {
            // One head of one entry of one sequence after the other.
            for (at, out) in out.chunks_exact_mut(whole.max(1)).enumerate() {
                let (line, head) = (at / split.heads, at % split.heads);
                let (sequence, entry) = (line / sources.len(), line % sources.len());
                let (kept, added) = out.split_at_mut(old);
                kept.copy_from_slice(&past[at * old..][..old]);
                let (place, source) = sources[entry];
                let heads = split.heads(place, source, new);
                for (row, out) in added.chunks_exact_mut(split.depth).enumerate() {
                    out.copy_from_slice(heads.row([sequence, head, row], split.depth));
                }
            }
            Ok(())
        })
    }
}
