//! From the text of a `pack.toml` to a manifest whose keys, types, ranges and names were checked.

use std::path::{Component, Path, PathBuf};

use super::{
    DecoderSpec, FORMAT, Manifest, PackError, PartFile, TextPooling, speech::check_speech,
};

/// The one key that every format has.
#[derive(serde::Deserialize)]
struct FormatOnly {
    format: u32,
}

impl Manifest {
    /// Reads the text of a `pack.toml` and checks all that can be checked without its files: keys, types,
    /// ranges, that every named file is listed and no path leaves the folder. `folder` is for messages.
    ///
    /// # Errors
    /// [`PackError`], which names the pack, the line and the field.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, PackError> {
        let refused = |key: String, error: &toml::de::Error| PackError::Manifest {
            pack: folder.to_owned(),
            line: error
                .span()
                .map(|span| text[..span.start].matches('\n').count() + 1),
            message: format!("{key}{}", error.message()),
        };
        // A newer format has keys that this version does not know: its number is what matters.
        if let Ok(FormatOnly { format }) = toml::from_str(text)
            && format != FORMAT
        {
            return Err(PackError::mismatch(
                folder,
                "pack.toml",
                "format",
                format.to_string(),
                FORMAT.to_string(),
                "use the captiond version that made the pack, or make the pack again",
            ));
        }
        let document =
            toml::Deserializer::parse(text).map_err(|error| refused(String::new(), &error))?;
        let manifest: Self = serde_path_to_error::deserialize(document)
            .map_err(|error| refused(format!("{}: ", error.path()), error.inner()))?;
        manifest.check(folder)?;
        Ok(manifest)
    }

    /// Checks types, ranges and names; also after settings were replaced from the command line.
    ///
    /// # Errors
    /// [`PackError::Mismatch`] for the first that is off.
    pub(crate) fn check(&self, folder: &Path) -> Result<(), PackError> {
        let m = self;
        let wrong = |field: &str, found: String, expected: &str| {
            PackError::mismatch(
                folder,
                "pack.toml",
                field,
                found,
                expected.to_owned(),
                "see docs/model-packs.md",
            )
        };
        let image = &m.image_tower;
        if image.dimension == 0 || image.dimension > 1 << 16 {
            return Err(wrong(
                "image_tower.dimension",
                image.dimension.to_string(),
                "1 to 65536",
            ));
        }
        if image.size.iter().any(|&side| side == 0 || side > 4096) {
            return Err(wrong(
                "image_tower.size",
                format!("{:?}", image.size),
                "sides of 1 to 4096 pixels",
            ));
        }
        if image.std.iter().any(|s| !(s.is_finite() && *s > 0.0))
            || image.mean.iter().any(|v| !v.is_finite())
        {
            let found = format!("mean {:?}, std {:?}", image.mean, image.std);
            return Err(wrong(
                "image_tower.std",
                found,
                "finite means and positive deviations",
            ));
        }
        if let Some(edge) = image.shortest_edge
            && (edge < image.size[0].min(image.size[1]) || edge > 8192)
        {
            let expected = "the smaller side of image_tower.size to 8192 pixels";
            return Err(wrong(
                "image_tower.shortest_edge",
                edge.to_string(),
                expected,
            ));
        }
        let text = &m.text_tower;
        if text.dimension == 0 || text.dimension > 1 << 16 {
            return Err(wrong(
                "text_tower.dimension",
                text.dimension.to_string(),
                "1 to 65536",
            ));
        }
        if text.max_length < 3 || text.max_length > 8192 {
            return Err(wrong(
                "text_tower.max_length",
                text.max_length.to_string(),
                "3 to 8192 tokens",
            ));
        }
        if text.pooling == TextPooling::EndOfText && text.end_of_text_id.is_none() {
            return Err(wrong(
                "text_tower.end_of_text_id",
                "nothing".into(),
                "a token id, for pooling = \"end-of-text\"",
            ));
        }
        if m.common_space == Some(true) && image.dimension != text.dimension {
            return Err(wrong(
                "common_space",
                format!(
                    "true, with dimensions {} and {}",
                    image.dimension, text.dimension
                ),
                "towers of one dimension, or false",
            ));
        }
        let caption = &m.caption;
        if caption.candidates == 0 || caption.neighbours == 0 {
            let found = format!(
                "candidates {}, neighbours {}",
                caption.candidates, caption.neighbours
            );
            return Err(wrong("caption", found, "at least 1 of each"));
        }
        if !(0.0..=1.0).contains(&caption.score_weight) {
            return Err(wrong(
                "caption.score_weight",
                caption.score_weight.to_string(),
                "0 to 1",
            ));
        }
        if !(caption.clip_s_weight.is_finite() && caption.clip_s_weight > 0.0) {
            return Err(wrong(
                "caption.clip_s_weight",
                caption.clip_s_weight.to_string(),
                "a positive number",
            ));
        }
        check_speech(m).map_err(|(field, found, expected)| wrong(&field, found, expected))?;
        let phrases = m.phrases.check();
        phrases.map_err(|(field, found, expected)| wrong(field, found, expected))?;
        let parts = [
            ("realignment", &m.realignment),
            ("judge", &m.judge),
            ("datastore", &m.datastore),
            ("calibration", &m.calibration),
        ];
        let decoder = m.decoder.as_ref();
        let named = [
            ("image_tower.file", Some(&image.file)),
            ("text_tower.file", Some(&text.file)),
            ("text_tower.tokenizer", Some(&text.tokenizer)),
        ]
        .into_iter()
        .chain(decoder.into_iter().flat_map(DecoderSpec::files))
        .chain(
            parts
                .iter()
                .map(|(section, part)| (*section, part.as_ref().map(|p: &PartFile| &p.file))),
        );
        for (field, file) in named {
            if let Some(file) = file
                && !m.files.contains_key(file)
            {
                let expected = format!("a [files.{file:?}] table with its sha256");
                return Err(wrong(field, file.clone(), &expected));
            }
        }
        for (name, entry) in &m.files {
            let inside = Path::new(name)
                .components()
                .all(|c| matches!(c, Component::Normal(_)));
            if !inside || name.is_empty() {
                return Err(wrong(
                    "files",
                    name.clone(),
                    "a path inside the pack's folder",
                ));
            }
            // "a//b" and "a/b" are one file: each has one name, so that none is listed twice.
            let plain: PathBuf = Path::new(name).components().collect();
            if plain.as_os_str() != name.as_str() || name == "pack.toml" {
                return Err(wrong(
                    "files",
                    format!("{name:?}"),
                    "the plain path of another file than pack.toml",
                ));
            }
            let hash = &entry.sha256;
            if hash.len() != 64 || !hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
                let field = format!("files.{name:?}.sha256");
                return Err(wrong(
                    &field,
                    format!("{hash:?}"),
                    "64 lower-case hexadecimal digits",
                ));
            }
        }
        Ok(())
    }
}
