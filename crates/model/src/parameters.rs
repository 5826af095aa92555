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

impl Tuning {
    /// Names and shapes of what is trained of a model of this shape, as [`Llama::trained`](crate::Llama::trained) has them,
    /// in another order.
    pub fn trained(&self, config: &LlamaConfig) -> Vec<(String, [usize; 2])> {
        let matrix = |(name, shape): (String, Vec<usize>)| match shape[..] {
            [rows, cols] => (name, [rows, cols]),
            _ => (name, [1, shape.iter().product()]),
        };
        match self {
            Self::Frozen => Vec::new(),
            Self::Lora(lora) => lora.trained(config),
            Self::Full => config.tensor_shapes().into_iter().map(matrix).collect(),
        }
    }

    /// Numbers that are trained of a model of this shape.
    pub fn numbers(&self, config: &LlamaConfig) -> usize {
        self.trained(config).iter().map(|(_, [rows, cols])| rows * cols).sum()
    }
}

/// The adapters of a LoRA run. Names and defaults are PEFT's.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraSettings {
    /// Inner width r.
    pub rank: usize,
    /// What the adapter adds is scaled by [`LoraSettings::scale`].
    pub alpha: f32,
    /// Which linears, by PEFT's rule: any of [`LINEAR_MODULES`] for all of that name, or the end of a path, such as
    /// `layers.29.mlp.down_proj`, for those of some layers.
    pub targets: Vec<String>,
    /// `alpha / sqrt(rank)` in place of `alpha / rank` (rsLoRA, Kalajdzievski 2023).
    pub rank_stabilised: bool,
    /// Direction and magnitude of each weight row apart (DoRA, Liu et al. 2024).
    pub dora: bool,
    /// Elements of an adapter's input that a training step drops.
    pub dropout: Option<Dropout>,
    /// Tables that are trained whole beside the adapters: any of [`TABLES`]. Where they are one, naming either names it.
    pub modules_to_save: Vec<String>,
    /// How A begins.
    pub init: AdapterInit,
    /// Rate of B, and of DoRA's magnitudes, as a multiple of the run's (LoRA+, Hayou et al. 2024).
    pub b_rate: f32,
}

/// Dropout in front of the adapters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Share of elements dropped, from 0 to below 1.
    pub rate: f32,
    /// Of which elements.
    pub seed: u64,
}

/// How A begins; B begins at zero, so that the model begins as its base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdapterInit {
    /// Uniform in +-1/sqrt(in): PEFT's `init_lora_weights: true`, `kaiming_uniform_(a=sqrt(5))`.
    Kaiming,
    /// Normal with deviation 1/rank: PEFT's `gaussian`.
    Gaussian,
}

impl LoraSettings {
    /// Plain LoRA.
    pub fn new(rank: usize, alpha: f32, targets: Vec<String>) -> Self {
        Self {
            rank,
            alpha,
            targets,
            rank_stabilised: false,
            dora: false,
            dropout: None,
            modules_to_save: Vec::new(),
            init: AdapterInit::Kaiming,
            b_rate: 1.0,
        }
    }

    /// The factor on what an adapter adds.
    pub fn scale(&self) -> f32 {
        let rank = self.rank as f32;
        self.alpha / if self.rank_stabilised { rank.sqrt() } else { rank }
    }

    /// Paths of the linears that have an adapter in a model of this shape.
    pub fn modules(&self, config: &LlamaConfig) -> Vec<String> {
        let linears = (0..config.num_hidden_layers).flat_map(|layer| Fused::of_layer(config, layer));
        let parts = linears.flat_map(|fused| fused.parts());
        parts.filter(|part| part.is_adapted(self)).map(|part| part.path).collect()
    }

    /// Whether the table of this name is trained in a model of this shape.
    pub fn trains_table(&self, config: &LlamaConfig, table: &str) -> bool {
        let named = |table: &str| self.modules_to_save.iter().any(|name| name == table);
        named(table) || config.tie_word_embeddings && TABLES.iter().any(|table| named(table))
    }

    /// Whether the adapters, turned off, leave the model they were trained over: no table is trained beside them.
    pub fn keeps_base(&self) -> bool {
        self.modules_to_save.is_empty()
    }

    /// What a workspace holds for them in a model of this shape.
    pub fn space(&self, config: &LlamaConfig) -> AdapterSpace {
        AdapterSpace { inner: self.widths(config), dora: self.dora, dropout: self.dropout.is_some() }
    }

    /// Inner widths of the adapters of a layer's four fused linears, of each the widest of all layers, in a model of this
    /// shape.
    pub fn widths(&self, config: &LlamaConfig) -> [usize; 4] {
        let mut widths = [0; 4];
        for layer in 0..config.num_hidden_layers {
            for (width, fused) in widths.iter_mut().zip(Fused::of_layer(config, layer)) {
                let adapted = fused.parts().iter().filter(|part| part.is_adapted(self)).count();
                *width = (self.rank * adapted).max(*width);
            }
        }
        widths
    }

    /// Names and shapes of all adapters and tables in a model of this shape.
    fn trained(&self, config: &LlamaConfig) -> Vec<(String, [usize; 2])> {
        let mut all = Vec::new();
        for fused in (0..config.num_hidden_layers).flat_map(|layer| Fused::of_layer(config, layer)) {
            for part in fused.parts().iter().filter(|part| part.is_adapted(self)) {
                let (path, outs) = (&part.path, part.rows.len());
                all.push((format!("{path}.lora_A.weight"), [self.rank, fused.weight.cols]));
                all.push((format!("{path}.lora_B.weight"), [outs, self.rank]));
                all.extend(self.dora.then(|| (format!("{path}.lora_magnitude_vector"), [outs, 1])));
            }
        }
        // A tied head is the embedding.
        let tables = TABLES.into_iter().zip([Some(Fused::embedding(config)), Fused::head(config)]);
        let tables = tables.filter(|(name, _)| self.trains_table(config, name)).filter_map(|(_, table)| table);
        all.extend(tables.map(|Fused { weight, .. }| (format!("{}.weight", weight.name), [weight.rows, weight.cols])));
        all
    }
}

/// The linear layers of a Llama block: what `target_modules: all-linear` means.
pub const LINEAR_MODULES: [&str; 7] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

/// The tables that `modules_to_save` can name.
pub const TABLES: [&str; 2] = ["embed_tokens", "lm_head"];

/// What a workspace holds for adapters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdapterSpace {
    /// Inner widths of a layer's four fused linears, of each the widest of all layers.
    pub inner: [usize; 4],
    /// Outputs before DoRA scales them.
    pub dora: bool,
    /// Inputs of which elements are dropped.
    pub dropout: bool,
}

impl From<[usize; 4]> for AdapterSpace {
    fn from(inner: [usize; 4]) -> Self {
        Self { inner, ..Self::default() }
    }
}

/// A tensor of the model.
pub struct Parameter<B> {
    /// The weight.
    pub value: Tensor<B>,
    /// Where its gradient is summed; none for a frozen weight.
    pub gradient: Option<Tensor<B>>,
    /// Its learning rate as a multiple of the run's.
    pub rate: f32,
}

impl<B> Parameter<B> {
    /// A weight that will not change, alone in its buffer; `parts`: its rows by projection.
    pub(crate) fn frozen<D: Device<Buffer = B>>(device: &D, value: Tensor<B>, parts: &[Range<usize>]) -> Self {
        device.freeze(&value, parts);
        Self { value, gradient: None, rate: 1.0 }
    }

    /// Values that will not change and that no product reads: a norm's.
    pub(crate) fn constant(value: Tensor<B>) -> Self {
        Self { value, gradient: None, rate: 1.0 }
    }

    /// A trained parameter that begins at `value`.
    pub(crate) fn trained<D: Device<Buffer = B>>(device: &D, value: Tensor<B>) -> Self {
        let gradient = Tensor::new(device.zeros(value.len()), 0, value.rows(), value.cols());
        Self { value, gradient: Some(gradient), rate: 1.0 }
    }

    /// A trained parameter of zeros.
    pub(crate) fn zeros<D: Device<Buffer = B>>(device: &D, rows: usize, cols: usize) -> Self {
        Self::trained(device, Tensor::new(device.zeros(rows * cols), 0, rows, cols))
    }

    /// A run of columns of value and gradient.
    pub(crate) fn cols(&self, cols: Range<usize>) -> Self {
        let gradient = self.gradient.as_ref().map(|g| g.col_range(cols.clone()));
        Self { value: self.value.col_range(cols), gradient, rate: self.rate }
    }

    /// A run of rows of value and gradient.
    pub(crate) fn rows(&self, rows: Range<usize>) -> Self {
        let gradient = self.gradient.as_ref().map(|g| g.row_range(rows.clone()));
        Self { value: self.value.row_range(rows), gradient, rate: self.rate }
    }
}
