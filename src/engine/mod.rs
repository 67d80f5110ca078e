//! Runs the networks of a pack. Everything else sees two small traits, so the chain can be tested
//! with fakes and the inference library lives in one module ([`tract`]).

mod activations;
mod fused;
mod graph_checks;
pub mod tract;

pub use activations::Activations;

use std::io::Read;

use thiserror::Error;

/// The element type and values of an input.
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    /// 32-bit floats (pixels).
    F32(&'a [f32]),
    /// 64-bit integers (token ids, masks).
    I64(&'a [i64]),
}

/// One input of a run: values in row-major order and their shape.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// Row-major values; their count is the product of `shape`.
    pub values: Values<'a>,
    /// Dimensions, outermost first.
    pub shape: &'a [usize],
}

/// One output of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// Row-major values.
    pub values: Vec<f32>,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
}

/// Element type of a declared input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// 32-bit float.
    F32,
    /// 64-bit integer.
    I64,
}

/// What the pack says of a network's input.
#[derive(Debug, Clone)]
pub struct InputSpec {
    /// The ONNX input's name.
    pub name: String,
    /// Its element type.
    pub element: Element,
    /// Its shape; `None` is a dimension that varies from run to run, as the graph names it: inputs
    /// that share a name there have to agree in a run.
    pub shape: Vec<Option<usize>>,
}

/// What the pack says of a network.
#[derive(Debug, Clone)]
pub struct NetworkSpec {
    /// Inputs in the order in which [`Network::run`] gets them.
    pub inputs: Vec<InputSpec>,
    /// Names of the outputs that are read, in the order in which [`Network::run`] gives them.
    pub outputs: Vec<String>,
    /// What its products are computed in.
    pub activations: Activations,
}

/// A shape in words: "[1, any, 384]".
pub fn shape_text(shape: &[Option<usize>]) -> String {
    let sides: Vec<String> = shape
        .iter()
        .map(|side| side.map_or_else(|| "any".to_owned(), |fixed| fixed.to_string()))
        .collect();
    format!("[{}]", sides.join(", "))
}

/// Why a network can't be loaded or run.
#[derive(Debug, Error)]
pub enum EngineError {
    /// The file is no ONNX graph that can be run.
    #[error("not a network that can be run: {0}")]
    Unreadable(String),
    /// A name of the pack is not in the graph.
    #[error("has no {kind} {name:?}; it has {present}")]
    Absent {
        /// "input" or "output".
        kind: &'static str,
        /// The name that the pack gives.
        name: String,
        /// The names that the graph has.
        present: String,
    },
    /// An input does not fit the graph.
    #[error("input {name:?}: found {found}, expected {expected}")]
    Shape {
        /// The input's name.
        name: String,
        /// What the graph declares.
        found: String,
        /// What the pack declares.
        expected: String,
    },
    /// Weights that are not in the file.
    #[error(
        "the values of {tensor:?} are in another file ({location:?}), which is never read, wherever it lies; \
         expected all weights inside: onnx.save(onnx.load(FILE), FILE) puts them there, up to 2 GiB"
    )]
    External {
        /// The weight's name.
        tensor: String,
        /// Where it says that they are.
        location: String,
    },
    /// The operators are of another age.
    #[error(
        "operator set (opset_import): found {found}, expected {least} to {most}; export with opset_version=17"
    )]
    Opset {
        /// The version, or "none".
        found: String,
        /// The oldest that is taken.
        least: i64,
        /// The newest that is taken.
        most: i64,
    },
    /// The run itself failed.
    #[error("run failed: {0}")]
    Run(String),
}

/// Loads networks.
pub trait Engine: Send + Sync {
    /// Parses, checks and optimises an ONNX graph. It is read here, so that its bytes are in memory once.
    ///
    /// # Errors
    /// [`EngineError`] when the bytes are no graph, or it does not fit `spec`. Never panics on bad bytes.
    fn load(
        &self,
        onnx: &mut dyn Read,
        spec: &NetworkSpec,
    ) -> Result<Box<dyn Network>, EngineError>;
}

/// A loaded network with its working memory.
pub trait Network: Send {
    /// Runs once.
    ///
    /// # Errors
    /// [`EngineError::Run`] when the inputs do not fit or an operator fails.
    fn run(&mut self, inputs: &[Input<'_>]) -> Result<Vec<Output>, EngineError>;

    /// As [`Network::run`], for a network of which one output is read.
    ///
    /// # Errors
    /// As [`Network::run`].
    fn run_single(&mut self, inputs: &[Input<'_>]) -> Result<Output, EngineError> {
        let mut outputs = self.run(inputs)?;
        match outputs.len() {
            0 => Err(EngineError::Run("no output".to_owned())),
            _ => Ok(outputs.swap_remove(0)),
        }
    }

    /// Shape of the output at `index`; `None` is a dimension that varies with the input. Empty for
    /// an output that does not exist.
    fn output_shape(&self, index: usize) -> Vec<Option<usize>>;

    /// Another network over the same weights with working memory of its own, for another thread.
    ///
    /// # Errors
    /// [`EngineError::Run`] when the working memory can't be set up.
    fn fork(&self) -> Result<Box<dyn Network>, EngineError>;
}
