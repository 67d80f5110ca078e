//! Options that replace the pack's settings of how its decoder speaks.

use clap::{Args, ValueEnum};

use crate::{
    caption::Hidden,
    captioner::Captioner,
    engine::Engine,
    pack::{Method, Pack, PackError},
};

/// How captions are made, where it differs from the pack's own settings.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Generation (default: what the pack says)")]
pub struct GenerationArgs {
    /// How tokens are chosen.
    #[arg(long, value_name = "METHOD")]
    method: Option<Method>,
    /// Captions that are followed at once, or drawn.
    #[arg(long, value_name = "NUMBER")]
    candidates: Option<usize>,
    /// How many retrieved captions the decoder is given.
    #[arg(long, value_name = "NUMBER")]
    retrieved: Option<usize>,
    /// Weight of aCLIP-S in the choice among the candidates.
    #[arg(long, value_name = "WEIGHT")]
    score_weight: Option<f32>,
    /// Weight of the candidates' agreement in that choice.
    #[arg(long, value_name = "WEIGHT")]
    agreement_weight: Option<f32>,
    /// The datastore's caption is said when its cosine is higher by more than this.
    #[arg(long, value_name = "COSINE")]
    retrieval_margin: Option<f32>,
    /// Divides the logits before sampling.
    #[arg(long, value_name = "NUMBER")]
    temperature: Option<f32>,
    /// Captions are judged by log-probability / tokens^this.
    #[arg(long, value_name = "NUMBER")]
    length_power: Option<f32>,
    /// Milliseconds after which the best caption so far is taken.
    #[arg(long, value_name = "MS")]
    deadline_ms: Option<u64>,
    /// Keeps a part of the condition from the decoder, to measure its worth (may be repeated).
    #[arg(long, value_name = "PART")]
    hide: Vec<Part>,
}

/// A part of the decoder's condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The grid of image features.
    Cells,
    /// The realigned embedding.
    Realigned,
    /// The retrieved captions.
    Retrieved,
}

impl GenerationArgs {
    /// The options that were given, in a fixed order: two runs with the same text generate alike.
    pub fn differences(&self) -> String {
        fn option(name: &str, value: Option<impl std::fmt::Debug>) -> Option<String> {
            value.map(|value| format!("{name} {value:?}"))
        }
        let hide = (!self.hide.is_empty()).then_some(&self.hide);
        let given = [
            option("method", self.method),
            option("candidates", self.candidates),
            option("retrieved", self.retrieved),
            option("score_weight", self.score_weight),
            option("agreement_weight", self.agreement_weight),
            option("retrieval_margin", self.retrieval_margin),
            option("temperature", self.temperature),
            option("length_power", self.length_power),
            option("deadline_ms", self.deadline_ms),
            option("hide", hide),
        ];
        given.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    /// Puts the options into the pack's manifest and loads its chain.
    ///
    /// # Errors
    /// When a value is out of range, or as [`Captioner::load`].
    pub fn load(&self, pack: &mut Pack, engine: &dyn Engine) -> Result<Captioner, PackError> {
        fn set<T: Copy>(setting: &mut T, option: Option<T>) {
            if let Some(value) = option {
                *setting = value;
            }
        }
        let spec = &mut pack.manifest.generation;
        set(&mut spec.method, self.method);
        set(&mut spec.candidates, self.candidates);
        set(&mut spec.score_weight, self.score_weight);
        set(&mut spec.agreement_weight, self.agreement_weight);
        set(&mut spec.retrieval_margin, self.retrieval_margin);
        set(&mut spec.temperature, self.temperature);
        set(&mut spec.length_power, self.length_power);
        set(&mut spec.deadline_ms, self.deadline_ms);
        if let Some(decoder) = &mut pack.manifest.decoder {
            set(&mut decoder.retrieved, self.retrieved);
        }
        pack.check_manifest()?;
        let mut captioner = Captioner::load(pack, engine)?;
        captioner.hide(Hidden {
            cells: self.hide.contains(&Part::Cells),
            realigned: self.hide.contains(&Part::Realigned),
            retrieved: self.hide.contains(&Part::Retrieved),
        });
        Ok(captioner)
    }
}

/// The pack with all the time that its captions take: what is measured or learnt from them must not depend on
/// how busy the machine is.
pub fn unhurried(pack: &Pack) -> Pack {
    let mut pack = pack.clone();
    pack.manifest.generation.deadline_ms = u64::MAX;
    pack
}
