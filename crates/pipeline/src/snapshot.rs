//! Weights to disk and back: an adapter for LoRA, a model folder for full rank.

use std::path::Path;

use temper_kernels::{Device, Tensor};
use temper_model::{
    AdapterConfig, BaseRecord, Checkpoint, Dtype, Llama, LoraSettings, Tuning, WeightsError, write_adapter, write_model,
};

/// Writes what `model` trains: a PEFT adapter, whose alpha is `settings.alpha * scale`, or the whole model in f32. `base` is
/// the base as the recipe names it, and the record of its weights.
pub(crate) fn save<D: Device>(
    model: &Llama<D>,
    tuning: &Tuning,
    scale: f64,
    base: (&str, &BaseRecord),
    dir: &Path,
) -> Result<(), WeightsError> {
    match tuning {
        Tuning::Lora(settings) => write_adapter(dir, &model.adapter(config(settings, scale, base))),
        Tuning::Full | Tuning::Frozen => {
            let d = model.device();
            let tensors = model.weights().into_iter().map(|(name, p)| host(d, name, &p.value));
            write_model(dir, model.config(), tensors, Dtype::F32, &[])
        }
    }
}

fn config(settings: &LoraSettings, scale: f64, (name, record): (&str, &BaseRecord)) -> AdapterConfig {
    AdapterConfig {
        lora: LoraSettings { alpha: (f64::from(settings.alpha) * scale) as f32, ..settings.clone() },
        base_name: name.to_owned(),
        base: Some(record.clone()),
    }
}

/// Reads back what [`save`] wrote.
pub(crate) fn restore<D: Device>(model: &Llama<D>, dir: &Path) -> Result<(), WeightsError> {
    if model.adapters().is_empty() {
        let checkpoint = Checkpoint::open(dir)?;
        for (name, parameter) in model.weights() {
            let value = &parameter.value;
            let shape = shape(&name, value);
            model.device().write(value, &checkpoint.tensor(&name, &shape)?);
        }
        return Ok(());
    }
    model.load_adapter(dir).map(|_| ())
}

fn host<D: Device>(d: &D, name: String, tensor: &Tensor<D::Buffer>) -> (String, Vec<usize>, Vec<f32>) {
    let shape = shape(&name, tensor);
    let values = d.read(tensor);
    (name, shape, values)
}

/// A norm or a bias has one dimension, a matrix two.
fn shape<B>(name: &str, tensor: &Tensor<B>) -> Vec<usize> {
    let is_row = name.ends_with("norm.weight") || name.ends_with(".bias");
    if is_row { vec![tensor.cols()] } else { vec![tensor.rows(), tensor.cols()] }
}
