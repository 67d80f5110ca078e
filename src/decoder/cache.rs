//! Keys and values of what was said, row by row.

use super::{DecoderError, Logits, Step};
use crate::engine::{EngineError, Output};

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

    /// Takes in the outputs `logits` and `present` of a run that said one word in each of `rows` rows, with `length`
    /// positions now. `block` is what a position has over all layers, keys and values together.
    ///
    /// # Errors
    /// When the outputs are not of that size.
    pub fn put(
        &mut self,
        outputs: Vec<Output>,
        (rows, length, block): (usize, usize, usize),
        vocabulary: usize,
    ) -> Result<Logits, DecoderError> {
        let [logits, present] = <[Output; 2]>::try_from(outputs)
            .map_err(|found| EngineError::Run(format!("{} outputs instead of 2", found.len())))?;
        if present.values.len() != rows * length * block || logits.values.len() != rows * vocabulary
        {
            let found = format!("outputs {:?} and {:?}", logits.shape, present.shape);
            return Err(EngineError::Run(found).into());
        }
        self.values = present.values;
        self.rows = rows;
        self.length = length;
        self.said += 1;
        Ok(Logits::new(logits.values, vocabulary))
    }
}
