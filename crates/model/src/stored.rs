//! A tensor on its way from a file into a model.

use temper_kernels::{Encoded, Encoding};

/// A tensor as [`Llama::load`](crate::Llama::load) takes it: row-major values, or the rows as their file has them.
#[derive(Clone, Debug, PartialEq)]
pub enum Stored {
    /// In f32.
    Values(Vec<f32>),
    /// Quantised: a frozen weight may stay so.
    Encoded {
        /// How.
        encoding: Encoding,
        /// Whole rows.
        bytes: Vec<u8>,
    },
}

impl From<Vec<f32>> for Stored {
    fn from(values: Vec<f32>) -> Self {
        Self::Values(values)
    }
}

impl Stored {
    /// In f32; rows hold `row_len` values.
    pub fn into_values(self, row_len: usize) -> Vec<f32> {
        match self {
            Self::Values(values) => values,
            Self::Encoded { encoding, bytes } => encoding.decode(&bytes, row_len),
        }
    }

    /// The rows as their file has them, where they are quantised.
    pub(crate) fn encoded(&self) -> Option<Encoded<'_>> {
        match self {
            Self::Values(_) => None,
            Self::Encoded { encoding, bytes } => Some(Encoded { encoding: *encoding, bytes }),
        }
    }
}
