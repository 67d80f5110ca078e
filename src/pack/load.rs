//! Opens a pack: reads the manifest, checks every file's SHA-256, and hands out the parts.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use tokenizers::Tokenizer;

use super::{
    DecoderKind, DecoderSpec, FORMAT, Manifest, Mismatch, PackError, PartFile, check_speech, digest,
};
use crate::{
    caption::CorrectionError,
    datastore::{Datastore, FileBytes},
    decoder::{Decoder, PrefixDecoder, Words},
    embedding::{ImageTower, TextTower},
    engine::Engine,
    realignment::Realignment,
};

/// The one key that every format has.
#[derive(serde::Deserialize)]
struct FormatOnly {
    format: u32,
}

/// A pack whose manifest and hashes were checked.
#[derive(Debug, Clone)]
pub struct Pack {
    /// The folder.
    pub folder: PathBuf,
    /// What `pack.toml` says.
    pub manifest: Manifest,
}

impl Pack {
    /// Reads `pack.toml` and checks all that can be checked without running a network: keys,
    /// types, ranges, that every named file is listed and no path leaves the folder, every SHA-256.
    ///
    /// # Errors
    /// [`PackError`], which names the pack, the file and the field.
    pub fn open(folder: &Path) -> Result<Self, PackError> {
        let pack = Self::read_manifest(folder)?;
        for (name, entry) in &pack.manifest.files {
            let found = digest::of_file(&folder.join(name))
                .map_err(|source| pack.read_error(name, source))?;
            if found != entry.sha256 {
                return Err(pack.mismatch(
                    name,
                    "sha256",
                    found,
                    entry.sha256.clone(),
                    "the file was damaged or changed: copy the pack again",
                ));
            }
        }
        Ok(pack)
    }

    /// As [`Pack::open`], without reading the files.
    ///
    /// # Errors
    /// As [`Pack::open`], but for hashes.
    pub fn read_manifest(folder: &Path) -> Result<Self, PackError> {
        let text =
            fs::read_to_string(folder.join("pack.toml")).map_err(|cause| PackError::Missing {
                pack: folder.to_owned(),
                cause,
            })?;
        let refused = |key: String, error: &toml::de::Error| PackError::Manifest {
            pack: folder.to_owned(),
            line: error
                .span()
                .map(|span| text[..span.start].matches('\n').count() + 1),
            message: format!("{key}{}", error.message()),
        };
        // A newer format has keys that this version does not know: its number is what matters.
        if let Ok(FormatOnly { format }) = toml::from_str(&text)
            && format != FORMAT
        {
            return Err(PackError::Mismatch(Box::new(Mismatch {
                pack: folder.to_owned(),
                file: "pack.toml".to_owned(),
                field: "format".to_owned(),
                found: format.to_string(),
                expected: FORMAT.to_string(),
                remedy: "use the captiond version that made the pack, or make the pack again"
                    .to_owned(),
            })));
        }
        let document =
            toml::Deserializer::parse(&text).map_err(|error| refused(String::new(), &error))?;
        let manifest: Manifest = serde_path_to_error::deserialize(document)
            .map_err(|error| refused(format!("{}: ", error.path()), error.inner()))?;
        let pack = Self {
            folder: folder.to_owned(),
            manifest,
        };
        pack.check_manifest()?;
        Ok(pack)
    }

    /// "name version", for messages.
    pub fn label(&self) -> String {
        format!("{} {}", self.manifest.name, self.manifest.version)
    }

    /// Checks types, ranges and names; also after settings were replaced from the command line.
    ///
    /// # Errors
    /// [`PackError::Mismatch`] for the first that is off.
    pub(crate) fn check_manifest(&self) -> Result<(), PackError> {
        let m = &self.manifest;
        let wrong = |field: &str, found: String, expected: &str| {
            self.mismatch(
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
        if text.pooling == super::TextPooling::EndOfText && text.end_of_text_id.is_none() {
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
            ("decoder.file", decoder.map(|d| &d.file)),
            ("decoder.prefix", decoder.map(|d| &d.prefix)),
            ("decoder.tokenizer", decoder.map(|d| &d.tokenizer)),
        ]
        .into_iter()
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

    /// The image tower, ready to run.
    ///
    /// # Errors
    /// When the network can't be loaded or its output does not give `image_tower.dimension` numbers.
    pub fn image_tower(&self, engine: &dyn Engine) -> Result<ImageTower, PackError> {
        ImageTower::load(self, engine)
    }

    /// The text tower, ready to run.
    ///
    /// # Errors
    /// When the network or the tokenizer can't be loaded, or the output does not give
    /// `text_tower.dimension` numbers.
    pub fn text_tower(&self, engine: &dyn Engine) -> Result<TextTower, PackError> {
        TextTower::load(self, engine)
    }

    /// The decoder, ready to run; none when the pack has none.
    ///
    /// # Errors
    /// When a network or the tokenizer can't be loaded, or they do not fit each other.
    pub fn decoder(&self, engine: &dyn Engine) -> Result<Option<Box<dyn Decoder>>, PackError> {
        let Some(spec) = &self.manifest.decoder else {
            return Ok(None);
        };
        Ok(Some(match spec.kind {
            DecoderKind::Prefix => Box::new(PrefixDecoder::load(self, spec, engine)?),
        }))
    }

    /// The vocabulary of a decoder.
    ///
    /// # Errors
    /// When its tokenizer can't be read.
    pub(crate) fn words(&self, spec: &DecoderSpec) -> Result<Words, PackError> {
        let tokenizer = Tokenizer::from_bytes(self.bytes(&spec.tokenizer)?).map_err(|error| {
            self.mismatch(
                &spec.tokenizer,
                "content",
                error.to_string(),
                "a tokenizer.json of the tokenizers library".to_owned(),
                "export the tokenizer again (models/README.md)",
            )
        })?;
        let (begin, end) = (spec.begin_id, spec.end_id);
        Ok(Words::new(
            tokenizer,
            begin,
            end,
            &spec.never_ids,
            spec.capitalise,
        ))
    }

    /// The realignment.
    ///
    /// # Errors
    /// When the pack has none, it does not fit the towers' dimensions, or it was fitted between
    /// other embeddings.
    pub fn realignment(&self) -> Result<Realignment, PackError> {
        let part = self.part(
            &self.manifest.realignment,
            "realignment",
            "fit one with `captiond fit`",
        )?;
        self.map(part)
    }

    /// The map that scores captions (aCLIP-S): the judge, else the realignment.
    ///
    /// # Errors
    /// As [`Pack::realignment`].
    pub fn judge(&self) -> Result<Realignment, PackError> {
        match &self.manifest.judge {
            Some(part) => self.map(part),
            None => self.realignment(),
        }
    }

    /// The judge, where the pack has one, for captions that are centred with the mean of `realignment`.
    ///
    /// # Errors
    /// As [`Pack::realignment`]; also when the judge was fitted on other captions, so that its mean is
    /// another.
    pub fn judge_beside(
        &self,
        realignment: &Realignment,
    ) -> Result<Option<Realignment>, PackError> {
        let Some(part) = &self.manifest.judge else {
            return Ok(None);
        };
        let judge = self.map(part)?;
        let pairs = judge.mean_text().iter().zip(realignment.mean_text());
        let apart = pairs.map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        if apart > SAME_MEAN {
            return Err(self.mismatch(
                &part.file,
                "mean_text",
                format!("values up to {apart} away from the realignment's"),
                "the realignment's".to_owned(),
                "fit both on the same pairs (captiond fit, captiond fit --judge)",
            ));
        }
        Ok(Some(judge))
    }

    fn map(&self, part: &PartFile) -> Result<Realignment, PackError> {
        let bytes = self.bytes(&part.file)?;
        let fail = |field: &str, found: String, expected: String| {
            let remedy = "fit it again with `captiond fit`, or copy the pack again";
            self.mismatch(&part.file, field, found, expected, remedy)
        };
        let map =
            Realignment::from_bytes(&bytes).map_err(|e| fail(e.field, e.found, e.expected))?;
        let checks = [
            (
                "image dimension",
                map.image_dimension().to_string(),
                self.manifest.image_tower.dimension.to_string(),
            ),
            (
                "text dimension",
                map.text_dimension().to_string(),
                self.manifest.text_tower.dimension.to_string(),
            ),
            (
                "image_embedding",
                map.provenance.image_embedding.clone(),
                self.image_embedding_identity(),
            ),
            (
                "text_embedding",
                map.provenance.text_embedding.clone(),
                self.text_embedding_identity(),
            ),
        ];
        for (field, found, expected) in checks {
            if found != expected {
                return Err(fail(field, found, expected));
            }
        }
        Ok(map)
    }

    /// The datastore, mapped into memory.
    ///
    /// # Errors
    /// When the pack has none, or it was made with another text tower.
    pub fn datastore(&self) -> Result<Datastore, PackError> {
        let remedy = "make one with `captiond datastore build`";
        let part = self.part(&self.manifest.datastore, "datastore", remedy)?;
        let file = FileBytes::map(&self.folder.join(&part.file))
            .map_err(|cause| self.read_error(&part.file, cause))?;
        let fail = |field: &str, found: String, expected: String| {
            let remedy = "build it again with `captiond datastore build`, or copy the pack again";
            self.mismatch(&part.file, field, found, expected, remedy)
        };
        let store = Datastore::from_file(file).map_err(|e| fail(e.field, e.found, e.expected))?;
        if store.is_empty() {
            return Err(fail("captions", "no caption".into(), "at least one".into()));
        }
        let checks = [
            (
                "dimension",
                store.dimension().to_string(),
                self.manifest.text_tower.dimension.to_string(),
            ),
            (
                "text_embedding",
                store.text_embedding().to_owned(),
                self.text_embedding_identity(),
            ),
        ];
        for (field, found, expected) in checks {
            if found != expected {
                return Err(fail(field, found, expected));
            }
        }
        Ok(store)
    }

    /// What makes two image embeddings comparable: the network and its preprocessing.
    pub fn image_embedding_identity(&self) -> String {
        let t = &self.manifest.image_tower;
        identity(&format!(
            "{} {} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
            self.sha256(&t.file),
            t.output,
            t.pooling,
            t.size,
            t.resize,
            t.shortest_edge,
            t.interpolation,
            t.mean,
            t.std,
            t.channels
        ))
    }

    /// What makes two text embeddings comparable: the network, the tokenizer and their settings.
    pub fn text_embedding_identity(&self) -> String {
        let t = &self.manifest.text_tower;
        identity(&format!(
            "{} {} {} {:?} {} {:?} {:?} {:?}",
            self.sha256(&t.file),
            self.sha256(&t.tokenizer),
            t.output,
            t.pooling,
            t.max_length,
            t.pad_id,
            t.end_of_text_id,
            t.prefix
        ))
    }

    pub(super) fn sha256(&self, file: &str) -> &str {
        self.manifest
            .files
            .get(file)
            .map_or("", |entry| &entry.sha256)
    }

    fn part<'a>(
        &self,
        part: &'a Option<PartFile>,
        section: &'static str,
        remedy: &'static str,
    ) -> Result<&'a PartFile, PackError> {
        part.as_ref().ok_or_else(|| PackError::NoPart {
            pack: self.folder.clone(),
            section,
            remedy,
        })
    }

    /// The bytes of one file of the pack.
    pub(crate) fn bytes(&self, file: &str) -> Result<Vec<u8>, PackError> {
        fs::read(self.folder.join(file)).map_err(|source| self.read_error(file, source))
    }

    /// One file of the pack, to be read.
    pub(crate) fn reader(&self, file: &str) -> Result<fs::File, PackError> {
        fs::File::open(self.folder.join(file)).map_err(|source| self.read_error(file, source))
    }

    fn read_error(&self, file: &str, cause: std::io::Error) -> PackError {
        PackError::Read {
            pack: self.folder.clone(),
            file: file.to_owned(),
            cause,
        }
    }

    pub(crate) fn mismatch(
        &self,
        file: &str,
        field: &str,
        found: String,
        expected: String,
        remedy: &str,
    ) -> PackError {
        PackError::Mismatch(Box::new(Mismatch {
            pack: self.folder.clone(),
            file: file.to_owned(),
            field: field.to_owned(),
            found,
            expected,
            remedy: remedy.to_owned(),
        }))
    }

    pub(crate) fn bad_correction(&self, error: &CorrectionError) -> PackError {
        self.mismatch(
            "pack.toml",
            &format!("generation.corrections[{}].find", error.at),
            error.cause.clone(),
            "a regular expression".to_owned(),
            "see docs/model-packs.md",
        )
    }

    pub(crate) fn network_error(&self, file: &str, cause: crate::engine::EngineError) -> PackError {
        PackError::Network {
            pack: self.folder.clone(),
            file: file.to_owned(),
            cause: Box::new(cause),
        }
    }
}

/// Two means that are no further apart are of the same captions: sums in another order.
const SAME_MEAN: f32 = 1e-4;

/// Short enough to read in a message, long enough never to collide by chance.
pub(super) fn identity(description: &str) -> String {
    digest::of_bytes(description.as_bytes())[..32].to_owned()
}
