//! What a pack may ask of the engine's arithmetic.

use serde::Deserialize;

/// The numbers that the large products of a network are computed in. It changes results a little, so the pack says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activations {
    /// As the graph has them.
    #[default]
    F32,
    /// Where weights are int8 and it pays, activations are brought to int8 as well, each row with a scale of its own.
    Int8,
}
