//! AdamW over what a model trains, with clipping by the global norm.

use std::path::Path;

use serde::Serialize;
use temper_kernels::{AdamW, Device, Tensor};
use temper_model::{Llama, Parameter, TensorFile, WeightsError, write_tensors};

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

struct Entry<B> {
    name: String,
    parameter: Parameter<B>,
    mean: Tensor<B>,
    square: Tensor<B>,
}

impl<B> Entry<B> {
    /// What a checkpoint holds, under PyTorch's names for the moments.
    fn tensors(&self) -> [(String, &Tensor<B>); 3] {
        let name = &self.name;
        [
            (name.clone(), &self.parameter.value),
            (format!("{name}.exp_avg"), &self.mean),
            (format!("{name}.exp_avg_sq"), &self.square),
        ]
    }
}

/// The optimiser's state: f32 moments of every trained parameter.
pub struct Optimizer<B> {
    settings: AdamWSettings,
    entries: Vec<Entry<B>>,
    steps: u32,
}

impl<B> Optimizer<B> {
    /// Fresh moments for everything that `model` trains.
    pub fn new<D: Device<Buffer = B>>(model: &Llama<D>, settings: AdamWSettings) -> Self {
        let zeros = |like: &Tensor<B>| Tensor::new(model.device().zeros(like.len()), 0, like.rows(), like.cols());
        let entry = |(name, parameter): (String, Parameter<B>)| Entry {
            mean: zeros(&parameter.value),
            square: zeros(&parameter.value),
            name,
            parameter,
        };
        Self { settings, entries: model.trained().into_iter().map(entry).collect(), steps: 0 }
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
        let s = &self.settings;
        let clip = if s.max_grad_norm > 0.0 { (s.max_grad_norm / (norm + 1e-6)).min(1.0) } else { 1.0 };
        let step = AdamW {
            learning_rate: learning_rate as f32,
            beta1: s.beta1 as f32,
            beta2: s.beta2 as f32,
            epsilon: s.epsilon as f32,
            weight_decay: s.weight_decay as f32,
            step: self.steps,
            gradient_scale: clip as f32,
        };
        for e in &self.entries {
            if let Some(gradient) = &e.parameter.gradient {
                let step = AdamW { learning_rate: (learning_rate * f64::from(e.parameter.rate)) as f32, ..step };
                device.adamw(&step, &e.parameter.value, gradient, &e.mean, &e.square);
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
