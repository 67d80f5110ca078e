//! What is said around a caption, or in its place: `[phrases]` of `pack.toml`.
//!
//! The captions' language is the pack's, so these are too.

use serde::Deserialize;

/// Where the caption goes in [`Phrases::hedged`].
pub const CAPTION: &str = "{caption}";

/// The longest phrase, in characters: it's spoken, and again for every frame.
const LONGEST: usize = 200;

/// The phrases of a pack. Default: the English ones.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Phrases {
    /// A caption that may well be wrong; holds `{caption}` once. Default: "perhaps {caption}".
    pub hedged: String,
    /// The frame is too dark. Default: "I am not sure: it is too dark".
    pub dark: String,
    /// The frame is blown out. Default: "I am not sure: the picture is too bright".
    pub blown_out: String,
    /// The frame is blurred. Default: "I am not sure: the picture is blurred".
    pub blurred: String,
    /// The frame shows a plain surface.
    /// Default: "I am not sure: there is nothing to see, perhaps the lens is covered".
    pub covered: String,
    /// The frame is good, but the caption is most likely wrong. Default: "I am not sure what this is".
    pub unfamiliar: String,
}

impl Default for Phrases {
    fn default() -> Self {
        Self {
            hedged: "perhaps {caption}".into(),
            dark: "I am not sure: it is too dark".into(),
            blown_out: "I am not sure: the picture is too bright".into(),
            blurred: "I am not sure: the picture is blurred".into(),
            covered: "I am not sure: there is nothing to see, perhaps the lens is covered".into(),
            unfamiliar: "I am not sure what this is".into(),
        }
    }
}

impl Phrases {
    /// Checks every phrase.
    ///
    /// # Errors
    /// The field, what was found and what was expected, of the first that is off.
    pub(super) fn check(&self) -> Result<(), (&'static str, String, &'static str)> {
        let others = [
            ("phrases.dark", &self.dark),
            ("phrases.blown_out", &self.blown_out),
            ("phrases.blurred", &self.blurred),
            ("phrases.covered", &self.covered),
            ("phrases.unfamiliar", &self.unfamiliar),
        ];
        for (field, phrase) in others.into_iter().chain([("phrases.hedged", &self.hedged)]) {
            let plain = !phrase.trim().is_empty() && !phrase.chars().any(char::is_control);
            if !plain || phrase.chars().count() > LONGEST {
                let found = format!("{phrase:?}");
                return Err((field, found, "one line of 1 to 200 characters"));
            }
        }
        if self.hedged.matches(CAPTION).count() != 1 {
            let found = format!("{:?}", self.hedged);
            return Err(("phrases.hedged", found, "{caption} once in it"));
        }
        match others.iter().find(|(_, phrase)| phrase.contains(CAPTION)) {
            Some((field, phrase)) => Err((
                field,
                format!("{phrase:?}"),
                "no {caption}: it is withheld there",
            )),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> (&'static str, String, &'static str) {
        toml::from_str::<Phrases>(text)
            .unwrap()
            .check()
            .expect_err(text)
    }

    #[test]
    fn a_pack_translates_what_it_wants() {
        let phrases: Phrases = toml::from_str("hedged = \"vielleicht: {caption}\"").unwrap();
        phrases.check().unwrap();
        assert_eq!(phrases.dark, Phrases::default().dark);
        Phrases::default().check().unwrap();
        assert!(toml::from_str::<Phrases>("blownout = \"zu hell\"").is_err());
    }

    #[test]
    fn what_cannot_be_said_is_refused() {
        assert_eq!(refused("hedged = \"perhaps\"").0, "phrases.hedged");
        assert_eq!(
            refused("hedged = \"{caption} or {caption}\"").0,
            "phrases.hedged"
        );
        assert_eq!(refused("dark = \" \"").0, "phrases.dark");
        assert_eq!(refused("covered = \"a\\nb\"").0, "phrases.covered");
        assert_eq!(
            refused(&format!("blurred = {:?}", "x".repeat(201))).0,
            "phrases.blurred"
        );
        let (field, found, expected) = refused("unfamiliar = \"{caption}?\"");
        assert_eq!(
            (field, found.as_str()),
            ("phrases.unfamiliar", "\"{caption}?\"")
        );
        assert!(expected.contains("withheld"));
    }
}
