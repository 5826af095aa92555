//! AdamW over what a model trains, or Muon over the matrices of its blocks and AdamW over the rest, with clipping by the
//! global norm.

use std::path::Path;
use std::rc::Rc;

use serde::Serialize;
use temper_kernels::{AdamW, Device, Tensor};
use temper_model::{Llama, LlamaConfig, Parameter, TensorFile, Tuning, WeightsError, write_tensors};

use crate::groups::RateGroup;
use crate::muon::{self, Muon, MuonSettings, MuonStep};

/// Settings of AdamW that hold for a whole run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct AdamWSettings {
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of squares.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// The gradient is scaled down to this norm where it is longer; 0 turns clipping off.
    pub max_grad_norm: f64,
}

impl Default for AdamWSettings {
    /// The defaults of Hugging Face's `TrainingArguments`.
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0, max_grad_norm: 1.0 }
    }
}

/// How a model is optimised.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct OptimizerSettings {
    /// Of all that Muon does not train; its weight decay and the limit of the norm hold for both.
    pub adamw: AdamWSettings,
    /// Of the whole linear maps of the blocks; none: they are AdamW's too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub muon: Option<MuonSettings>,
    /// Rates of their own; what is in none has the run's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rates: Vec<RateGroup>,
}

impl From<AdamWSettings> for OptimizerSettings {
    fn from(adamw: AdamWSettings) -> Self {
        Self { adamw, muon: None, rates: Vec::new() }
    }
}

impl OptimizerSettings {
    /// Numbers of the moments of what is trained of a model of this shape, which a checkpoint holds beside the weights.
    pub fn moments(&self, config: &LlamaConfig, tuning: &Tuning) -> usize {
        let moments = |name: &str| if self.by_muon(name) { 1 } else { 2 };
        tuning.trained(config).iter().map(|(name, [rows, cols])| moments(name) * rows * cols).sum()
    }

    /// Numbers that a step needs beside the moments.
    pub fn scratch(&self, config: &LlamaConfig, tuning: &Tuning) -> usize {
        muon::scratch(self.matrices(config, tuning))
    }

    /// Operations of a step's products, of which AdamW has none.
    pub fn operations(&self, config: &LlamaConfig, tuning: &Tuning) -> f64 {
        self.matrices(config, tuning).map(muon::operations).sum()
    }

    /// Shapes of the matrices that Muon trains.
    fn matrices(&self, config: &LlamaConfig, tuning: &Tuning) -> impl Iterator<Item = [usize; 2]> {
        let trained = tuning.trained(config).into_iter();
        trained.filter(|(name, _)| self.by_muon(name)).map(|(_, shape)| shape)
    }

    fn by_muon(&self, name: &str) -> bool {
        self.muon.is_some() && muon::takes(name)
    }
}

/// What an optimiser remembers of a parameter.
enum Moments<B> {
    AdamW { mean: Tensor<B>, square: Tensor<B> },
    Muon { momentum: Tensor<B>, muon: Rc<Muon<B>> },
}

struct Entry<B> {
    name: String,
    parameter: Parameter<B>,
    moments: Moments<B>,
    /// Its rate as a multiple of the run's.
    rate: f64,
}

impl<B> Entry<B> {
    /// What a checkpoint holds, under PyTorch's names for the moments.
    fn tensors(&self) -> Vec<(String, &Tensor<B>)> {
        let name = &self.name;
        let mut tensors = vec![(name.clone(), &self.parameter.value)];
        match &self.moments {
            Moments::AdamW { mean, square } => {
                tensors.extend([(format!("{name}.exp_avg"), mean), (format!("{name}.exp_avg_sq"), square)]);
            }
            Moments::Muon { momentum, .. } => tensors.push((format!("{name}.momentum_buffer"), momentum)),
        }
        tensors
    }
}

/// The optimiser's state: f32 moments of every trained parameter.
pub struct Optimizer<B> {
    adamw: AdamWSettings,
    entries: Vec<Entry<B>>,
    steps: u32,
}

impl<B> Optimizer<B> {
    /// Fresh moments for everything that `model` trains.
    pub fn new<D: Device<Buffer = B>>(model: &Llama<D>, settings: impl Into<OptimizerSettings>) -> Self {
        let (settings, device, tied) = (settings.into(), model.device(), model.config().tie_word_embeddings);
        let zeros = |like: &Tensor<B>| Tensor::new(device.zeros(like.len()), 0, like.rows(), like.cols());
        let trained = model.trained();
        let muon = settings.muon.map(|muon| {
            let values = trained.iter().filter(|(name, _)| muon::takes(name)).map(|(_, p)| &p.value);
            Rc::new(Muon::new(device, muon, values.map(|value| [value.rows(), value.cols()])))
        });
        let entry = |(name, parameter): (String, Parameter<B>)| {
            let moments = match muon.as_ref().filter(|_| muon::takes(&name)) {
                Some(muon) => Moments::Muon { momentum: zeros(&parameter.value), muon: Rc::clone(muon) },
                None => Moments::AdamW { mean: zeros(&parameter.value), square: zeros(&parameter.value) },
            };
            let group = settings.rates.iter().find(|group| group.holds(&name, tied));
            let rate = f64::from(parameter.rate) * group.map_or(1.0, |group| group.factor);
            Entry { name, parameter, moments, rate }
        };
        Self { adamw: settings.adamw, entries: trained.into_iter().map(entry).collect(), steps: 0 }
    }

    /// Numbers that are trained.
    pub fn trained_parameters(&self) -> usize {
        self.entries.iter().map(|e| e.parameter.value.len()).sum()
    }

    /// Steps made.
    pub fn steps(&self) -> usize {
        self.steps as usize
    }

    /// Sets every gradient to zero.
    pub fn clear_gradients<D: Device<Buffer = B>>(&self, device: &D) {
        self.entries.iter().filter_map(|e| e.parameter.gradient.as_ref()).for_each(|g| device.fill(g, 0.0));
    }

    /// The global norm of the gradient, and the name of the first parameter whose gradient is not finite.
    pub fn gradient_norm<D: Device<Buffer = B>>(&self, device: &D) -> Result<f64, String> {
        let mut total = 0.0;
        for entry in &self.entries {
            let squares = entry.parameter.gradient.as_ref().map_or(0.0, |g| device.sum_squares(g));
            if !squares.is_finite() {
                return Err(entry.name.clone());
            }
            total += squares;
        }
        Ok(total.sqrt())
    }

    /// One step at this rate, or its multiple where a parameter has one. `norm` is the gradient's, for clipping: PyTorch's
    /// `clip_grad_norm_`, which scales by `max_norm / (norm + 1e-6)` where that is below 1.
    pub fn step<D: Device<Buffer = B>>(&mut self, device: &D, learning_rate: f64, norm: f64) {
        self.steps += 1;
        let s = &self.adamw;
        let clip = if s.max_grad_norm > 0.0 { (s.max_grad_norm / (norm + 1e-6)).min(1.0) } else { 1.0 };
        for e in &self.entries {
            let (Some(gradient), learning_rate) = (&e.parameter.gradient, learning_rate * e.rate) else { continue };
            match &e.moments {
                Moments::Muon { momentum, muon } => {
                    let step = MuonStep { learning_rate, weight_decay: s.weight_decay, gradient_scale: clip };
                    muon.step(device, &step, &e.parameter.value, gradient, momentum);
                }
                Moments::AdamW { mean, square } => {
                    let step = AdamW {
                        learning_rate: learning_rate as f32,
                        beta1: s.beta1 as f32,
                        beta2: s.beta2 as f32,
                        epsilon: s.epsilon as f32,
                        weight_decay: s.weight_decay as f32,
                        step: self.steps,
                        gradient_scale: clip as f32,
                    };
                    device.adamw(&step, &e.parameter.value, gradient, mean, square);
                }
            }
        }
    }

    /// Writes weights and moments, in f32, one tensor at a time.
    pub(crate) fn save<D: Device<Buffer = B>>(&self, device: &D, path: &Path) -> Result<(), WeightsError> {
        let all = || self.entries.iter().flat_map(Entry::tensors);
        let shapes = all().map(|(name, tensor)| (name, vec![tensor.rows(), tensor.cols()])).collect();
        write_tensors(path, shapes, all().map(|(name, tensor)| (name, device.read(tensor))))
    }

    /// Reads back what [`Self::save`] wrote after `steps` steps.
    pub(crate) fn restore<D: Device<Buffer = B>>(
        &mut self,
        device: &D,
        path: &Path,
        steps: u32,
    ) -> Result<(), WeightsError> {
        let file = TensorFile::open(path)?;
        for (name, tensor) in self.entries.iter().flat_map(Entry::tensors) {
            device.write(tensor, &file.tensor(&name, &[tensor.rows(), tensor.cols()])?);
        }
        self.steps = steps;
        Ok(())
    }
}
