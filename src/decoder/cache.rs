//! Keys and values of what was said, row by row.

use super::{DecoderError, Step};
use crate::engine::Output;

/// `[rows, 2 layers, heads, length, head_dimension]`: layer after layer, keys before values.
#[derive(Default)]
pub(super) struct Cache {
    pub values: Vec<f32>,
    pub rows: usize,
    /// Positions, those of a prefix or a prompt included.
    pub length: usize,
    /// Words said, the beginning included.
    pub said: usize,
}

impl Cache {
    /// Puts the rows that the steps continue in the order of the steps.
    pub fn take(&mut self, steps: &[Step]) -> Result<(), DecoderError> {
        let rows = self.rows;
        if let Some(stray) = steps.iter().find(|step| step.parent >= rows) {
            return Err(DecoderError::Parent {
                parent: stray.parent,
                rows,
            });
        }
        // Most steps continue every row where it stands.
        let in_place = steps.len() == rows && steps.iter().enumerate().all(|(i, s)| s.parent == i);
        if !in_place {
            let block = self.values.len().checked_div(rows).unwrap_or(0);
            let mut taken = Vec::with_capacity(block * steps.len());
            for step in steps {
                taken.extend_from_slice(&self.values[step.parent * block..][..block]);
            }
            self.values = taken;
            self.rows = steps.len();
        }
        Ok(())
    }

    /// Takes in what a run has left: one word more in each of `rows` rows, `length` positions in all.
    pub fn put(&mut self, present: Output, rows: usize, length: usize) {
        self.values = present.values;
        self.rows = rows;
        self.length = length;
        self.said += 1;
    }
}
