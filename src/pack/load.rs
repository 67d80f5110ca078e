//! Opens a pack: reads the manifest, checks every file's SHA-256, and hands out the parts.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use tokenizers::Tokenizer;

use super::{DecoderKind, DecoderSpec, Manifest, PackError, PartFile, Views, digest};
use crate::{
    caption::CorrectionError,
    datastore::{Datastore, FileBytes},
    decoder::{CausalDecoder, Decoder, EncoderDecoder, PrefixDecoder, Words},
    embedding::{ImageTower, TextTower},
    engine::{Activations, Engine},
    realignment::Realignment,
};

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
        let manifest = Manifest::parse(&text, folder)?;
        Ok(Self {
            folder: folder.to_owned(),
            manifest,
        })
    }

    /// "name version", for messages.
    pub fn label(&self) -> String {
        format!("{} {}", self.manifest.name, self.manifest.version)
    }

    /// Checks the manifest again, after settings were replaced from the command line.
    ///
    /// # Errors
    /// [`PackError::Mismatch`] for the first that is off.
    pub(crate) fn check_manifest(&self) -> Result<(), PackError> {
        self.manifest.check(&self.folder)
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
        Ok(Some(match &spec.kind {
            DecoderKind::Prefix(parts) => Box::new(PrefixDecoder::load(self, spec, parts, engine)?),
            DecoderKind::Causal { prompt_tokens } => {
                Box::new(CausalDecoder::load(self, spec, *prompt_tokens, engine)?)
            }
            DecoderKind::EncoderDecoder {
                encoder,
                prompt_tokens,
            } => Box::new(EncoderDecoder::load(
                self,
                spec,
                encoder,
                *prompt_tokens,
                engine,
            )?),
        }))
    }

    /// The vocabulary of a decoder.
    ///
    /// # Errors
    /// When its tokenizer can't be read.
    pub(crate) fn words(&self, spec: &DecoderSpec) -> Result<Words, PackError> {
        Ok(Words::new(
            self.tokenizer(&spec.tokenizer)?,
            spec.begin_id,
            &spec.end_ids,
            &spec.never_ids,
            spec.capitalise,
        ))
    }

    /// A tokenizer as it is in its file.
    ///
    /// # Errors
    /// When it can't be read.
    pub(crate) fn tokenizer(&self, file: &str) -> Result<Tokenizer, PackError> {
        Tokenizer::from_bytes(self.bytes(file)?).map_err(|error| {
            self.mismatch(
                file,
                "content",
                error.to_string(),
                "a tokenizer.json of the tokenizers library".to_owned(),
                "export the tokenizer again (models/README.md)",
            )
        })
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
        let map = Realignment::from_bytes(&bytes)
            .map_err(|e| self.bad_map(&part.file, e.field, e.found, e.expected))?;
        self.check_map(&part.file, &map)?;
        Ok(map)
    }

    fn bad_map(&self, file: &str, field: &str, found: String, expected: String) -> PackError {
        let remedy = "fit it again with `captiond fit`, or copy the pack again";
        self.mismatch(file, field, found, expected, remedy)
    }

    /// Checks that a map was fitted between this pack's embeddings; `file` is where it is from.
    ///
    /// # Errors
    /// [`PackError::Mismatch`] for what differs: a dimension, the views, a tower.
    pub fn check_map(&self, file: &str, map: &Realignment) -> Result<(), PackError> {
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
            // Before the identity, of which it is a part: its message says more.
            (
                "views",
                map.provenance.views.name().to_owned(),
                self.manifest.image_tower.views.name().to_owned(),
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
                return Err(self.bad_map(file, field, found, expected));
            }
        }
        Ok(())
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
        self.image_embedding_identity_with(self.manifest.image_tower.views)
    }

    /// As [`Pack::image_embedding_identity`], with other views of a frame.
    pub fn image_embedding_identity_with(&self, views: Views) -> String {
        let t = &self.manifest.image_tower;
        // Embeddings of one view are those of before there were views, and are named as they were.
        let views = match views {
            Views::One => String::new(),
            Views::Mirrored | Views::Crops => format!(" {}", views.name()),
        };
        let activations = activations_suffix(t.activations);
        identity(&format!(
            "{} {} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?}{views}{activations}",
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
        let activations = activations_suffix(t.activations);
        identity(&format!(
            "{} {} {} {:?} {} {:?} {:?} {:?}{activations}",
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
    ///
    /// # Errors
    /// As [`Pack::reader`].
    pub(crate) fn bytes(&self, file: &str) -> Result<Vec<u8>, PackError> {
        let mut bytes = Vec::new();
        self.reader(file)?
            .read_to_end(&mut bytes)
            .map_err(|cause| self.read_error(file, cause))?;
        Ok(bytes)
    }

    /// One file of the pack, to be read.
    ///
    /// # Errors
    /// When it can't be opened, or is longer than an ONNX file can be.
    pub(crate) fn reader(&self, file: &str) -> Result<fs::File, PackError> {
        let open = || -> std::io::Result<(fs::File, u64)> {
            let opened = fs::File::open(self.folder.join(file))?;
            let length = opened.metadata()?.len();
            Ok((opened, length))
        };
        let (opened, length) = open().map_err(|cause| self.read_error(file, cause))?;
        if length > MOST_BYTES {
            return Err(self.mismatch(
                file,
                "size",
                format!("{length} bytes"),
                format!("at most {MOST_BYTES}"),
                "an ONNX file can't be longer and is read whole: take int8 weights, or a smaller model",
            ));
        }
        Ok(opened)
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
        PackError::mismatch(&self.folder, file, field, found, expected, remedy)
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

/// The longest message that protobuf allows, 2 GiB.
const MOST_BYTES: u64 = i32::MAX as u64;

/// Two means that are no further apart are of the same captions: sums in another order.
const SAME_MEAN: f32 = 1e-4;

/// Embeddings of f32 activations are named as before there were others.
fn activations_suffix(activations: Activations) -> &'static str {
    match activations {
        Activations::F32 => "",
        Activations::Int8 => " int8",
    }
}

/// Short enough to read in a message, long enough never to collide by chance.
pub(super) fn identity(description: &str) -> String {
    digest::of_bytes(description.as_bytes())[..32].to_owned()
}
