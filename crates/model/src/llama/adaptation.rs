//! The adapters of a decoder as a whole: how they begin, what they drop, what is derived from them.

use std::cell::Cell;

use temper_kernels::Device;
use temper_run::Random;

use super::Llama;
use crate::linear::{Linear, Noise};
use crate::{AdapterInit, AdapterSpace, Dropout, LoraSettings, Tuning};

/// What of its settings a model with adapters keeps.
pub(super) struct Adaptation {
    init: AdapterInit,
    dora: bool,
    dropout: Option<Dropout>,
    /// Whether tables are trained beside the adapters: with these off it is not the base.
    keeps_base: bool,
    /// Whether DoRA's lengths are those of the adapters as they are.
    measured: Cell<bool>,
}

impl Adaptation {
    /// Of a model that is tuned so.
    pub fn of(tuning: &Tuning) -> Self {
        let lora = match tuning {
            Tuning::Lora(lora) => Some(lora),
            Tuning::Full | Tuning::Frozen => None,
        };
        Self {
            init: lora.map_or(AdapterInit::Kaiming, |lora| lora.init),
            dora: lora.is_some_and(|lora| lora.dora),
            dropout: lora.and_then(|lora| lora.dropout),
            keeps_base: lora.is_none_or(LoraSettings::keeps_base),
            measured: Cell::new(false),
        }
    }
}

impl<D: Device> Llama<D> {
    /// What the adapters need of a [`Workspace`](crate::Workspace).
    pub fn adapter_space(&self) -> AdapterSpace {
        let inner = self.layers.iter().fold([0; 4], |widest, l| {
            let own = [&l.qkv, &l.o, &l.gate_up, &l.down].map(Linear::inner_width);
            std::array::from_fn(|i| widest[i].max(own[i]))
        });
        AdapterSpace { inner, dora: self.adaptation.dora, dropout: self.adaptation.dropout.is_some() }
    }

    /// What the adapters drop in a training step, where they do. `tokens`: of each token the place of its row among the step's
    /// rows, and its own place in the row. A token drops the same in whatever micro-batch it stands.
    pub fn noise(&self, step: usize, tokens: impl Iterator<Item = (usize, u32)>) -> Option<Noise> {
        let Dropout { rate, seed } = self.adaptation.dropout?;
        let stream = Random::new(seed, "lora_dropout").within(step as u64);
        let keys = tokens.map(|(row, position)| stream.within(row as u64).bits(position.into())).collect();
        Some(Noise { rate, keys })
    }

    /// Whether the model with its adapters off is the one they were trained over: no table is trained beside them.
    pub fn holds_base(&self) -> bool {
        self.adaptation.keeps_base
    }

    /// Says that adapters were written: what is derived from them is then derived anew before it is next read.
    pub fn adapters_changed(&self) {
        self.adaptation.measured.set(false);
    }

    pub(super) fn linears(&self) -> impl Iterator<Item = &Linear<D::Buffer>> {
        self.layers.iter().flat_map(|layer| [&layer.qkv, &layer.o, &layer.gate_up, &layer.down])
    }

    /// Brings what is derived from the adapters up to what they are, where they were written since.
    pub(super) fn settle_adapters(&self) {
        if self.adaptation.dora && !self.adaptation.measured.get() {
            self.linears().for_each(|linear| linear.measure_norms(&self.device));
            self.adaptation.measured.set(true);
        }
    }

    /// Starts the adapters as PEFT does: A by [`AdapterInit`], B zero, magnitudes the lengths of the base's rows, so that
    /// the model begins as the base. The numbers are a function of seed and name.
    pub fn init_adapters(&self, seed: u64) {
        for (name, adapter) in self.adapters() {
            let tensor = &adapter.value;
            if name.ends_with("lora_A.weight") {
                let stream = Random::new(seed, &name);
                let number = |i: u64| match self.adaptation.init {
                    AdapterInit::Kaiming => (2.0 * stream.unit(i) - 1.0) / (tensor.cols() as f64).sqrt(),
                    AdapterInit::Gaussian => normal(stream, i) / tensor.rows() as f64,
                };
                let values: Vec<f32> = (0..tensor.len() as u64).map(|i| number(i) as f32).collect();
                self.device.write(tensor, &values);
            } else if name.ends_with("lora_B.weight") {
                self.device.fill(tensor, 0.0);
            }
        }
        self.adapters_changed();
        self.settle_adapters();
        self.linears().for_each(|linear| linear.reset_magnitudes(&self.device));
    }

    /// Multiplies what the adapters add: averaging a LoRA run with its start, `start + factor * (tuned - start)`.
    pub fn scale_adapters(&mut self, factor: f32) {
        for layer in &mut self.layers {
            for linear in [&mut layer.qkv, &mut layer.o, &mut layer.gate_up, &mut layer.down] {
                linear.scale_adapters(factor);
            }
        }
    }
}

/// The index-th number of a standard normal distribution (Box and Muller, 1958).
fn normal(stream: Random, index: u64) -> f64 {
    // In (0, 1], so that its logarithm is finite.
    let (radius, angle) = (1.0 - stream.unit(2 * index), stream.unit(2 * index + 1));
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}
