//! Reading and writing of safetensors files: the one binary form of realignments, datastores and
//! partial sums. Python and other tools open them with the library of that name.

use std::collections::HashMap;

use safetensors::{Dtype, SafeTensors, tensor::TensorView};

/// What is wrong with a file: which field, what it holds, what it should hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: found {found}, expected {expected}")]
pub struct FieldError {
    /// Tensor or metadata key.
    pub field: &'static str,
    /// What is there.
    pub found: String,
    /// What should be there.
    pub expected: String,
}

/// An open file with its metadata.
pub struct TensorFile<'a> {
    tensors: SafeTensors<'a>,
    metadata: HashMap<String, String>,
}

impl<'a> TensorFile<'a> {
    /// Parses and checks the header: sizes and offsets of every tensor lie within the bytes.
    ///
    /// # Errors
    /// [`FieldError`] for anything that is no complete safetensors file.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, FieldError> {
        let bad = |error: safetensors::SafeTensorError| FieldError {
            field: "content",
            found: format!("{} bytes ({error})", bytes.len()),
            expected: "a whole safetensors file".to_owned(),
        };
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(bad)?;
        let tensors = SafeTensors::deserialize(bytes).map_err(bad)?;
        Ok(Self {
            tensors,
            metadata: header.metadata().clone().unwrap_or_default(),
        })
    }

    /// A metadata value.
    ///
    /// # Errors
    /// [`FieldError`] when it is not there.
    pub fn text(&self, key: &'static str) -> Result<String, FieldError> {
        self.metadata.get(key).cloned().ok_or_else(|| FieldError {
            field: key,
            found: "nothing".to_owned(),
            expected: "a metadata value".to_owned(),
        })
    }

    /// A metadata value that is a number.
    ///
    /// # Errors
    /// [`FieldError`] when it is not there or no number.
    pub fn number<T: std::str::FromStr>(&self, key: &'static str) -> Result<T, FieldError> {
        let text = self.text(key)?;
        text.parse().map_err(|_| FieldError {
            field: key,
            found: format!("{text:?}"),
            expected: "a number".into(),
        })
    }

    /// The shape of a tensor with `rank` axes and elements of type `dtype`, and its bytes.
    ///
    /// # Errors
    /// [`FieldError`] when it is not there or of another type or rank.
    pub fn raw(
        &self,
        name: &'static str,
        dtype: Dtype,
        rank: usize,
    ) -> Result<(Vec<usize>, &'a [u8]), FieldError> {
        let expected = || format!("{dtype:?} tensor with {rank} axes");
        let view = self.tensors.tensor(name).map_err(|_| FieldError {
            field: name,
            found: format!("only {}", self.tensors.names().join(", ")),
            expected: expected(),
        })?;
        if view.dtype() != dtype || view.shape().len() != rank {
            let found = format!("{:?} {:?}", view.dtype(), view.shape());
            return Err(FieldError {
                field: name,
                found,
                expected: expected(),
            });
        }
        Ok((view.shape().to_vec(), view.data()))
    }

    /// A tensor of finite f32.
    ///
    /// # Errors
    /// [`FieldError`], also when a value is not finite.
    pub fn f32(
        &self,
        name: &'static str,
        rank: usize,
    ) -> Result<(Vec<usize>, Vec<f32>), FieldError> {
        let (shape, bytes) = self.raw(name, Dtype::F32, rank)?;
        let values: Vec<f32> = bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        match values.iter().all(|v| v.is_finite()) {
            true => Ok((shape, values)),
            false => Err(not_finite(name)),
        }
    }

    /// A tensor of finite f64.
    ///
    /// # Errors
    /// [`FieldError`], also when a value is not finite.
    pub fn f64(
        &self,
        name: &'static str,
        rank: usize,
    ) -> Result<(Vec<usize>, Vec<f64>), FieldError> {
        let (shape, bytes) = self.raw(name, Dtype::F64, rank)?;
        let values: Vec<f64> = bytes
            .chunks_exact(8)
            .map(|b| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]))
            .collect();
        match values.iter().all(|v| v.is_finite()) {
            true => Ok((shape, values)),
            false => Err(not_finite(name)),
        }
    }
}

fn not_finite(field: &'static str) -> FieldError {
    FieldError {
        field,
        found: "infinite or not-a-number values".into(),
        expected: "finite numbers".into(),
    }
}

/// Checks that a dimension is what another part asks for.
///
/// # Errors
/// [`FieldError`] when it is not.
pub fn expect_shape(
    field: &'static str,
    found: &[usize],
    expected: &[usize],
) -> Result<(), FieldError> {
    if found == expected {
        return Ok(());
    }
    Err(FieldError {
        field,
        found: format!("shape {found:?}"),
        expected: format!("shape {expected:?}"),
    })
}

/// A tensor to be written.
pub struct NamedTensor {
    name: &'static str,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl NamedTensor {
    /// Bytes as they are, for [`Dtype::I8`] and [`Dtype::U8`].
    pub fn raw(name: &'static str, dtype: Dtype, shape: &[usize], bytes: Vec<u8>) -> Self {
        Self {
            name,
            dtype,
            shape: shape.to_vec(),
            bytes,
        }
    }

    /// f32 values in row-major order.
    pub fn f32(name: &'static str, shape: &[usize], values: &[f32]) -> Self {
        Self::raw(
            name,
            Dtype::F32,
            shape,
            values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        )
    }

    /// f64 values in row-major order.
    pub fn f64(name: &'static str, shape: &[usize], values: &[f64]) -> Self {
        Self::raw(
            name,
            Dtype::F64,
            shape,
            values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        )
    }

    /// u32 values.
    pub fn u32(name: &'static str, shape: &[usize], values: &[u32]) -> Self {
        Self::raw(
            name,
            Dtype::U32,
            shape,
            values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        )
    }
}

/// The bytes of a file with these tensors and metadata.
///
/// # Errors
/// [`FieldError`] when a tensor's bytes do not fit its shape.
pub fn serialise(
    tensors: &[NamedTensor],
    metadata: &[(&str, String)],
) -> Result<Vec<u8>, FieldError> {
    let bad = |error: safetensors::SafeTensorError| FieldError {
        field: "content",
        found: error.to_string(),
        expected: "tensors that fit their shapes".into(),
    };
    let views = tensors
        .iter()
        .map(|t| {
            Ok((
                t.name,
                TensorView::new(t.dtype, t.shape.clone(), &t.bytes).map_err(bad)?,
            ))
        })
        .collect::<Result<Vec<_>, FieldError>>()?;
    let metadata = metadata
        .iter()
        .map(|(k, v)| ((*k).to_owned(), v.clone()))
        .collect();
    safetensors::serialize(views, Some(metadata)).map_err(bad)
}
