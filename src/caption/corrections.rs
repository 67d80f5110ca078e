//! What a pack mends in the sentences of its decoder: a small decoder's slips of grammar, in the pack's
//! language, where a rule can tell them.

use regex_automata::meta::Regex;

use crate::pack::Correction;

/// A pattern that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("corrections[{at}].find: {cause}")]
pub struct CorrectionError {
    /// Which of the corrections.
    pub at: usize,
    /// What is wrong with it.
    pub cause: String,
}

/// A pack's corrections, ready to be used.
#[derive(Debug, Clone, Default)]
pub struct Corrections {
    rules: Vec<(Regex, String)>,
}

impl Corrections {
    /// Compiles them.
    ///
    /// # Errors
    /// [`CorrectionError`] for the first pattern that is no regular expression.
    pub fn new(corrections: &[Correction]) -> Result<Self, CorrectionError> {
        let rules = corrections.iter().enumerate().map(|(at, correction)| {
            let regex = Regex::new(&correction.find).map_err(|error| CorrectionError {
                at,
                cause: match error.syntax_error() {
                    Some(syntax) => syntax.to_string(),
                    None => error.to_string(),
                },
            })?;
            Ok((regex, correction.replace.clone()))
        });
        Ok(Self {
            rules: rules.collect::<Result<_, _>>()?,
        })
    }

    /// A sentence with every match of every rule replaced, in the rules' order.
    pub fn apply(&self, sentence: String) -> String {
        self.rules.iter().fold(sentence, |sentence, rule| {
            let (regex, replacement) = rule;
            let (mut mended, mut from) = (String::new(), 0);
            for captures in regex.captures_iter(&sentence) {
                let Some(whole) = captures.get_match() else {
                    continue;
                };
                mended += &sentence[from..whole.start()];
                captures.interpolate_string_into(&sentence, replacement, &mut mended);
                from = whole.end();
            }
            mended + &sentence[from..]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::Pack;

    fn corrections(rules: &[(&str, &str)]) -> Result<Corrections, CorrectionError> {
        let rules: Vec<Correction> = rules
            .iter()
            .map(|(find, replace)| Correction {
                find: (*find).to_owned(),
                replace: (*replace).to_owned(),
            })
            .collect();
        Corrections::new(&rules)
    }

    #[test]
    fn rules_follow_each_other_and_take_groups_along() {
        let rules = corrections(&[(r"\b(\w+) \1?hot\b", "warm $1"), ("warm", "lukewarm")]);
        assert_eq!(rules.unwrap_err().at, 0); // No back references: linear time, whatever the pack says.
        let rules = corrections(&[(r"(\w+) tea", "tea with $1"), ("Tea|tea", "mint tea")]).unwrap();
        assert_eq!(
            rules.apply("A cup of lemon tea and iced tea".into()),
            "A cup of mint tea with lemon and mint tea with iced"
        );
        assert_eq!(rules.apply(String::new()), "");
        assert_eq!(Corrections::default().apply("as it is".into()), "as it is");
    }

    #[test]
    fn the_default_packs_rule_knows_its_limits() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/default");
        let pack = Pack::read_manifest(&folder).unwrap();
        let rules = Corrections::new(&pack.manifest.generation.corrections).unwrap();
        for (said, mended) in [
            (
                "A cat and a dog is lying on a mat",
                "A cat and a dog are lying on a mat",
            ),
            (
                "A little girl and an old man is baking",
                "A little girl and an old man are baking",
            ),
        ] {
            assert_eq!(rules.apply(said.to_owned()), mended);
        }
        for right in [
            "A black and white cat is lying on a mat",
            "A man in a coat and a hat is standing there",
            "A man with a cat and a dog is sitting there",
            "A woman is holding a cup and a plate",
        ] {
            assert_eq!(rules.apply(right.to_owned()), right);
        }
    }
}
