//! Parameters: a value, and a gradient where it is trained. No gradient is ever formed for a frozen weight.

use std::ops::Range;

use temper_kernels::{Device, Tensor};

use crate::LlamaConfig;
use crate::fused::Fused;

/// What of a model is trained.
#[derive(Clone, Debug, PartialEq)]
pub enum Tuning {
    /// Nothing: evaluation and generation.
    Frozen,
    /// Adapters on chosen linear layers; the base stays as it is.
    Lora(LoraSettings),
    /// Every weight.
    Full,
}

/// The adapters of a LoRA run.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraSettings {
    /// Inner width r.
    pub rank: usize,
    /// What the adapter adds is scaled by `alpha / rank`.
    pub alpha: f32,
    /// Which linears, by PEFT's rule: any of [`LINEAR_MODULES`] for all of that name, or the end of a path, such as
    /// `layers.29.mlp.down_proj`, for those of some layers.
    pub targets: Vec<String>,
}

impl LoraSettings {
    /// Inner widths of the adapters of a layer's four fused linears, of each the widest of all layers, and the numbers of all
    /// adapters together, in a model of this shape.
    pub fn sizes(&self, config: &LlamaConfig) -> ([usize; 4], usize) {
        let (mut widths, mut numbers) = ([0; 4], 0);
        for layer in 0..config.num_hidden_layers {
            for (width, fused) in widths.iter_mut().zip(Fused::of_layer(config, layer)) {
                let parts = fused.parts();
                let adapted = parts.iter().filter(|part| part.is_adapted(self));
                let inner = self.rank * adapted.clone().count();
                numbers += inner * fused.weight.cols + self.rank * adapted.map(|part| part.rows.len()).sum::<usize>();
                *width = inner.max(*width);
            }
        }
        (widths, numbers)
    }
}

/// The linear layers of a Llama block: what `target_modules: all-linear` means.
pub const LINEAR_MODULES: [&str; 7] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

/// A tensor of the model.
pub struct Parameter<B> {
    /// The weight.
    pub value: Tensor<B>,
    /// Where its gradient is summed; none for a frozen weight.
    pub gradient: Option<Tensor<B>>,
}

impl<B> Parameter<B> {
    /// A weight that will not change, alone in its buffer; `parts`: its rows by projection.
    pub(crate) fn frozen<D: Device<Buffer = B>>(device: &D, value: Tensor<B>, parts: &[Range<usize>]) -> Self {
        device.freeze(&value, parts);
        Self { value, gradient: None }
    }

    /// Values that will not change and that no product reads: a norm's.
    pub(crate) fn constant(value: Tensor<B>) -> Self {
        Self { value, gradient: None }
    }

    /// A trained parameter that begins at `value`.
    pub(crate) fn trained<D: Device<Buffer = B>>(device: &D, value: Tensor<B>) -> Self {
        let gradient = Tensor::new(device.zeros(value.len()), 0, value.rows(), value.cols());
        Self { value, gradient: Some(gradient) }
    }

    /// A trained parameter of zeros.
    pub(crate) fn zeros<D: Device<Buffer = B>>(device: &D, rows: usize, cols: usize) -> Self {
        Self::trained(device, Tensor::new(device.zeros(rows * cols), 0, rows, cols))
    }

    /// A run of columns of value and gradient.
    pub(crate) fn cols(&self, cols: Range<usize>) -> Self {
        Self { value: self.value.col_range(cols.clone()), gradient: self.gradient.as_ref().map(|g| g.col_range(cols)) }
    }

    /// A run of rows of value and gradient.
    pub(crate) fn rows(&self, rows: Range<usize>) -> Self {
        Self { value: self.value.row_range(rows.clone()), gradient: self.gradient.as_ref().map(|g| g.row_range(rows)) }
    }
}
