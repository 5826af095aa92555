//! Building a decoder from tensors by name.

use std::rc::Rc;

use rayon::prelude::*;
use temper_kernels::{Device, FrozenWeight, Heads, Tensor};

use super::adaptation::Adaptation;
use super::{Layer, Llama, Norms, Rotation};
use crate::fused::Fused;
use crate::linear::Linear;
use crate::norm::Norm;
use crate::parameters::Parameter;
use crate::stored::Stored;
use crate::{LlamaConfig, RopeScaling, Tuning};

/// A weight [rows, ins] of parts one under the other. One that is not trained stays as it is stored where all parts are
/// quantised and the device takes them so; it is then frozen.
fn weight_of<D: Device>(device: &D, parts: Vec<Stored>, rows: usize, ins: usize, trained: bool) -> Tensor<D::Buffer> {
    if let (false, Some(parts)) = (trained, parts.iter().map(Stored::encoded).collect::<Option<Vec<_>>>()) {
        return device.upload_encoded(ins, &parts);
    }
    let weight = Tensor::new(device.zeros(rows * ins), 0, rows, ins);
    let mut start = 0;
    for part in parts {
        let values = part.into_values(ins);
        let end = start + values.len() / ins;
        device.write(&weight.row_range(start..end), &values);
        start = end;
    }
    weight
}

impl<B> Rotation<B> {
    /// Angles in f64: position times frequency.
    fn new<D: Device<Buffer = B>>(device: &D, c: &LlamaConfig, theta: f64, scaling: RopeScaling) -> Self {
        let (half, positions) = (c.head_dim / 2, c.max_position_embeddings);
        let (frequencies, factor) = scaling.frequencies(theta, c.head_dim);
        let angle = |i: usize| (i / half) as f64 * frequencies[i % half];
        let table = |of: fn(f64) -> f64| {
            let values: Vec<f32> =
                (0..positions * half).into_par_iter().map(|i| (factor * of(angle(i))) as f32).collect();
            device.upload(positions, half, &values)
        };
        Self { cos: table(f64::cos), sin: table(f64::sin) }
    }
}

impl<D: Device> Llama<D> {
    /// Builds the model from tensors by HF name and shape (`[out, in]`, or `[width]` for a norm). Frozen weights that come
    /// quantised stay so where the device can multiply by them.
    ///
    /// # Errors
    /// Whatever `tensor` fails with.
    pub fn load<E, T: Into<Stored>>(
        device: D,
        config: &LlamaConfig,
        tuning: &Tuning,
        tensor: impl FnMut(&str, &[usize]) -> Result<T, E>,
    ) -> Result<Self, E> {
        Self::load_over(device, config, tuning, |_| None, tensor)
    }

    /// [`Llama::load`], with the frozen weights that `packed` has (see [`LlamaConfig::frozen_weights`]) as it has them;
    /// their tensors are not asked for. Models over one set of packed weights share its memory.
    ///
    /// # Errors
    /// Whatever `tensor` fails with.
    pub fn load_over<E, T: Into<Stored>>(
        device: D,
        config: &LlamaConfig,
        tuning: &Tuning,
        packed: impl Fn(&FrozenWeight) -> Option<Rc<D::Buffer>>,
        mut tensor: impl FnMut(&str, &[usize]) -> Result<T, E>,
    ) -> Result<Self, E> {
        let mut tensor = |name: &str, shape: &[usize]| tensor(name, shape).map(Into::<Stored>::into);
        let c = config;
        let d = c.hidden_size;
        let trained = matches!(tuning, Tuning::Full);
        let packed = |weight: &FrozenWeight| {
            let buffer = if trained { None } else { packed(weight) };
            buffer.map(|buffer| Tensor::new(buffer, 0, weight.rows, weight.cols))
        };
        let mut norm = |name: String, width: usize| {
            let name = format!("{name}.weight");
            let value = device.upload(1, width, &tensor(&name, &[width])?.into_values(width));
            Ok(Norm::new(&device, name, value, c.design.norm_offset, trained))
        };
        let (before, behind) = c.norm_names();
        let mut norms = Vec::new();
        for i in 0..c.num_hidden_layers {
            let mut own = |name: &str, width: usize| norm(format!("model.layers.{i}.{name}"), width);
            let [attention, mlp] = before;
            let (attention, mlp) = (own(attention, d)?, own(mlp, d)?);
            let dim = c.head_dim;
            let of_heads = c.design.qk_norm.then(|| Ok([own("self_attn.q_norm", dim)?, own("self_attn.k_norm", dim)?]));
            let heads = of_heads.transpose()?;
            let branches = behind.map(|[first, second]| Ok([own(first, d)?, own(second, d)?])).transpose()?;
            norms.push(Norms { attention, mlp, heads, branches });
        }
        let last_norm = norm("model.norm".to_owned(), d)?;
        let mut layers = Vec::new();
        for (i, norms) in norms.into_iter().enumerate() {
            let mut linear = |fused: &Fused| {
                let weight = match packed(&fused.weight) {
                    Some(weight) => weight,
                    None => {
                        weight_of(&device, fused.stored(&mut tensor)?, fused.weight.rows, fused.weight.cols, trained)
                    }
                };
                let bias = fused.bias(&mut tensor)?.map(|bias| device.upload(1, bias.len(), &bias));
                Ok(Linear::new(&device, fused.parts(), weight, bias, tuning))
            };
            let [qkv, o, gate_up, down] = &Fused::of_layer(c, i);
            let (qkv, o) = (linear(qkv)?, linear(o)?);
            let (gate_up, down) = (linear(gate_up)?, linear(down)?);
            let kind = c.layer(i);
            let local = usize::from(kind.window.is_some() && c.design.rope_local_theta.is_some());
            let rotation = kind.rope.then_some(local);
            let heads = Heads { window: kind.window, ..c.heads() };
            layers.push(Layer { heads, rotation, norms, qkv, o, gate_up, down });
        }
        let lora = match tuning {
            Tuning::Lora(lora) => Some(lora),
            Tuning::Full | Tuning::Frozen => None,
        };
        let mut table = |fused: &Fused, name: &str| {
            let trained = trained || lora.is_some_and(|lora| lora.trains_table(c, name));
            let FrozenWeight { rows, cols, .. } = fused.weight;
            Ok(match packed(&fused.weight).filter(|_| !trained) {
                Some(value) => Parameter::constant(value),
                None => {
                    let value = weight_of(&device, fused.stored(&mut tensor)?, rows, cols, trained);
                    if trained { Parameter::trained(&device, value) } else { Parameter::frozen(&device, value, &[]) }
                }
            })
        };
        let embedding = table(&Fused::embedding(c), "embed_tokens")?;
        let head = Fused::head(c).map(|fused| table(&fused, "lm_head")).transpose()?;
        let adaptation = Adaptation::of(tuning);
        let rotation = |(theta, scaling)| Rotation::new(&device, c, theta, scaling);
        let rotations = c.rotations().into_iter().map(rotation).collect();
        let model = Self { config: c.clone(), embedding, layers, norm: last_norm, head, rotations, adaptation, device };
        model.refresh_norms();
        Ok(model)
    }
}
