//! A decoder's vocabulary: from tokens to a sentence.

use std::collections::HashSet;

use tokenizers::Tokenizer;

use super::DecoderError;

/// The tokenizer with the ids that have a meaning of their own.
pub struct Words {
    tokenizer: Tokenizer,
    begin: Option<u32>,
    ends: Vec<u32>,
    never: HashSet<u32>,
    capitalise: bool,
}

impl Words {
    /// `never` are the ids that are no words (padding, the beginning); the ends are not among them.
    pub fn new(
        tokenizer: Tokenizer,
        begin: Option<u32>,
        ends: &[u32],
        never: &[u32],
        capitalise: bool,
    ) -> Self {
        Self {
            tokenizer,
            begin,
            ends: ends.to_vec(),
            never: never
                .iter()
                .copied()
                .chain(begin)
                .filter(|id| !ends.contains(id))
                .collect(),
            capitalise,
        }
    }

    /// Number of ids, special ones included.
    pub fn size(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// The id that stands before the first word, where the decoder has one.
    pub fn begin(&self) -> Option<u32> {
        self.begin
    }

    /// Whether an id ends a caption.
    pub fn is_end(&self, id: u32) -> bool {
        self.ends.contains(&id)
    }

    /// Whether an id must not be said.
    pub fn is_never(&self, id: u32) -> bool {
        self.never.contains(&id)
    }

    /// The sentence of a caption's tokens: special ones left out, the first letter a capital if the
    /// pack wants it.
    ///
    /// # Errors
    /// [`DecoderError::Tokenizer`] when an id is not in the vocabulary.
    pub fn sentence(&self, tokens: &[u32]) -> Result<String, DecoderError> {
        let text = self
            .tokenizer
            .decode(tokens, true)
            .map_err(|error| DecoderError::Tokenizer(error.to_string()))?;
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut letters = text.chars();
        Ok(match letters.next() {
            Some(first) if self.capitalise => first.to_uppercase().chain(letters).collect(),
            _ => text,
        })
    }
}
