//! The retrieved captions as a text that a language model reads.

use tokenizers::Tokenizer;

use super::{DecoderError, Retrieved};
use crate::pack::{DecoderSpec, PLACEHOLDER, Pack, PackError, PromptSpec};

/// A pack's template with the tokenizer of its decoder.
pub(super) struct Prompt {
    before: String,
    after: String,
    separator: String,
    tokenizer: Tokenizer,
    most_tokens: usize,
}

impl Prompt {
    pub fn load(pack: &Pack, spec: &DecoderSpec, most_tokens: usize) -> Result<Self, PackError> {
        let mut tokenizer = pack.tokenizer(&spec.tokenizer)?;
        // Length belongs to the pack: a tokenizer that cuts would take the end of the template.
        tokenizer.with_padding(None);
        if let Err(error) = tokenizer.with_truncation(None) {
            let expected = "a tokenizer that need not cut".to_owned();
            let remedy = "export the tokenizer again (models/README.md)";
            let found = error.to_string();
            return Err(pack.mismatch(&spec.tokenizer, "truncation", found, expected, remedy));
        }
        let own = pack.manifest.prompt.as_ref();
        Ok(Self::new(own, tokenizer, most_tokens))
    }

    fn new(spec: Option<&PromptSpec>, tokenizer: Tokenizer, most_tokens: usize) -> Self {
        let (template, separator) =
            spec.map_or(("", ""), |p| (p.template.as_str(), p.separator.as_str()));
        // The manifest was checked: it's there once.
        let (before, after) = template.split_once(PLACEHOLDER).unwrap_or((template, ""));
        Self {
            before: before.to_owned(),
            after: after.to_owned(),
            separator: separator.to_owned(),
            tokenizer,
            most_tokens,
        }
    }

    /// The prompt's tokens with what the tokenizer puts around a text. Where there are too many, captions
    /// are left out from the last on: half a caption would be worse than none.
    ///
    /// # Errors
    /// [`DecoderError::Tokenizer`] when not even the template fits.
    pub fn tokens(&self, retrieved: &[Retrieved]) -> Result<Vec<i64>, DecoderError> {
        let captions: Vec<&str> = retrieved
            .iter()
            .map(|row| row.caption.trim().trim_end_matches('.').trim_end())
            .collect();
        for count in (0..=captions.len()).rev() {
            let listed = captions[..count].join(&self.separator);
            let text = format!("{}{listed}{}", self.before, self.after);
            let encoding = self
                .tokenizer
                .encode_fast(text, true)
                .map_err(|error| DecoderError::Tokenizer(error.to_string()))?;
            if encoding.get_ids().len() <= self.most_tokens {
                return Ok(encoding.get_ids().iter().map(|&id| i64::from(id)).collect());
            }
        }
        Err(DecoderError::Tokenizer(format!(
            "the prompt's template alone has more than {} tokens (decoder.prompt_tokens)",
            self.most_tokens
        )))
    }
}

#[cfg(test)]
mod tests {
    use tokenizers::{models::wordlevel::WordLevel, pre_tokenizers::whitespace::WhitespaceSplit};

    use super::*;

    /// Words are tokens; each that is not known is number 0.
    fn prompt(most_tokens: usize) -> Prompt {
        let words = [
            "?", "Seen:", "a", "dog,", "dog", "cat", "cat,", "Now:", "bird",
        ];
        let vocabulary = words.iter().zip(0..).map(|(w, id)| ((*w).to_owned(), id));
        let model = WordLevel::builder()
            .vocab(vocabulary.collect())
            .unk_token("?".to_owned())
            .build()
            .unwrap();
        let mut tokenizer = Tokenizer::new(model);
        tokenizer.with_pre_tokenizer(Some(WhitespaceSplit));
        let spec = PromptSpec {
            template: "Seen: {captions} Now:".to_owned(),
            separator: ", ".to_owned(),
        };
        Prompt::new(Some(&spec), tokenizer, most_tokens)
    }

    fn retrieved(captions: &[&str]) -> Vec<Retrieved> {
        let row = |caption: &&str| Retrieved {
            caption: (*caption).to_owned(),
            embedding: Vec::new(),
            score: 0.0,
        };
        captions.iter().map(row).collect()
    }

    #[test]
    fn captions_stand_in_the_template_without_their_full_stops() {
        let tokens = prompt(20).tokens(&retrieved(&["a dog.", " a cat . ", "bird"]));
        assert_eq!(tokens.unwrap(), [1, 2, 3, 2, 6, 8, 7]);
        assert_eq!(prompt(20).tokens(&[]).unwrap(), [1, 7]);
    }

    #[test]
    fn what_does_not_fit_is_left_out_whole_from_the_last_on() {
        let rows = retrieved(&["a dog", "a cat", "bird"]);
        assert_eq!(prompt(6).tokens(&rows).unwrap(), [1, 2, 3, 2, 5, 7]);
        assert_eq!(prompt(5).tokens(&rows).unwrap(), [1, 2, 4, 7]);
        let error = prompt(1).tokens(&rows).unwrap_err().to_string();
        assert!(error.contains("decoder.prompt_tokens"), "{error}");
    }
}
