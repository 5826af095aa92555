//! The Llama family: embedding, blocks of attention and SwiGLU with RMSNorm before each, a last norm, a head.
//!
//! `forward` and `backward` read top to bottom, one line an operation of `temper_kernels::Device`.

use std::cell::Cell;
use std::rc::Rc;

use temper_kernels::{Cached, Device, FrozenWeight, Heads, Segment, Tensor};
use temper_run::Random;

use crate::fused::Fused;
use crate::linear::{Adapters, Linear, Noise};
use crate::parameters::Parameter;
use crate::stored::Stored;
use crate::workspace::Workspace;
use crate::{AdapterInit, AdapterSpace, Dropout, LlamaConfig, Tuning};

impl LlamaConfig {
    /// The attention heads.
    pub fn heads(&self) -> Heads {
        Heads { query: self.num_attention_heads, kv: self.num_key_value_heads, dim: self.head_dim }
    }
}

/// A Llama-family model on a device.
pub struct Llama<D: Device> {
    device: D,
    config: LlamaConfig,
    embedding: Parameter<D::Buffer>,
    layers: Vec<Layer<D::Buffer>>,
    norm: Parameter<D::Buffer>,
    /// None where the head is the embedding.
    head: Option<Parameter<D::Buffer>>,
    cos: Tensor<D::Buffer>,
    sin: Tensor<D::Buffer>,
    adaptation: Adaptation,
}

/// What of its settings a model with adapters keeps.
struct Adaptation {
    init: AdapterInit,
    dora: bool,
    dropout: Option<Dropout>,
    /// Whether tables are trained beside the adapters: with these off it is not the base.
    keeps_base: bool,
    /// Whether DoRA's lengths are those of the adapters as they are.
    measured: Cell<bool>,
}

struct Layer<B> {
    attention_norm: Parameter<B>,
    qkv: Linear<B>,
    o: Linear<B>,
    mlp_norm: Parameter<B>,
    gate_up: Linear<B>,
    down: Linear<B>,
}

/// A packed micro-batch.
#[derive(Clone, Copy, Debug)]
pub struct Tokens<'a> {
    /// Token ids.
    pub ids: &'a [u32],
    /// Position of each token in its own sequence.
    pub positions: &'a [u32],
    /// Which rows see which.
    pub segments: &'a [Segment],
}

/// Keys and values of every layer: [rows, 2 * kv width] each. Who owns which rows is the caller's business.
pub struct KvCache<B> {
    layers: Vec<Tensor<B>>,
}

impl<B> KvCache<B> {
    /// A cache of `rows` tokens.
    pub fn allocate<D: Device<Buffer = B>>(device: &D, config: &LlamaConfig, rows: usize) -> Self {
        let width = 2 * config.heads().kv_width();
        let layer = |_| Tensor::new(device.cache(rows * width), 0, rows, width);
        Self { layers: (0..config.num_hidden_layers).map(layer).collect() }
    }
}

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

/// How a forward attends, and where keys and values go.
enum Attend<'a, B> {
    Packed(&'a [Segment]),
    Cached { cache: &'a KvCache<B>, own: &'a [u32], runs: &'a [Cached] },
}

// By hand, since a derived copy would ask one of the buffer.
impl<B> Clone for Attend<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B> Copy for Attend<'_, B> {}

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
        let (d, heads) = (c.hidden_size, c.heads());
        let trained = matches!(tuning, Tuning::Full);
        let packed = |weight: &FrozenWeight| {
            let buffer = if trained { None } else { packed(weight) };
            buffer.map(|buffer| Tensor::new(buffer, 0, weight.rows, weight.cols))
        };
        let mut norm = |name: &str| {
            let value = device.upload(1, d, &tensor(name, &[d])?.into_values(d));
            Ok(if trained { Parameter::trained(&device, value) } else { Parameter::constant(value) })
        };
        let mut norms = Vec::new();
        for i in 0..c.num_hidden_layers {
            let attention = norm(&format!("model.layers.{i}.input_layernorm.weight"))?;
            norms.push((attention, norm(&format!("model.layers.{i}.post_attention_layernorm.weight"))?));
        }
        let last_norm = norm("model.norm.weight")?;
        let mut layers = Vec::new();
        for (i, (attention_norm, mlp_norm)) in norms.into_iter().enumerate() {
            let mut linear = |fused: &Fused| {
                let weight = match packed(&fused.weight) {
                    Some(weight) => weight,
                    None => {
                        weight_of(&device, fused.stored(&mut tensor)?, fused.weight.rows, fused.weight.cols, trained)
                    }
                };
                Ok(Linear::new(&device, fused.parts(), weight, tuning))
            };
            let [qkv, o, gate_up, down] = &Fused::of_layer(c, i);
            let (qkv, o) = (linear(qkv)?, linear(o)?);
            let (gate_up, down) = (linear(gate_up)?, linear(down)?);
            layers.push(Layer { attention_norm, qkv, o, mlp_norm, gate_up, down });
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
        let adaptation = Adaptation {
            init: lora.map_or(AdapterInit::Kaiming, |lora| lora.init),
            dora: lora.is_some_and(|lora| lora.dora),
            dropout: lora.and_then(|lora| lora.dropout),
            keeps_base: lora.is_none_or(|lora| lora.keeps_base()),
            measured: Cell::new(false),
        };

        // Angles in f64: position * theta^(-2k/dim).
        let half = heads.dim / 2;
        let angle = |i: usize| (i / half) as f64 * c.rope_theta.powf(-((i % half) as f64) / half as f64);
        let count = c.max_position_embeddings * half;
        let turn = |of: fn(f64) -> f64| {
            let values: Vec<f32> = (0..count).map(|i| of(angle(i)) as f32).collect();
            device.upload(c.max_position_embeddings, half, &values)
        };
        let (cos, sin) = (turn(f64::cos), turn(f64::sin));
        Ok(Self { config: c.clone(), embedding, layers, norm: last_norm, head, cos, sin, adaptation, device })
    }

    /// The device.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// The configuration.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// The head, [vocabulary, d]: the embedding where they are tied.
    pub fn head(&self) -> &Parameter<D::Buffer> {
        self.head.as_ref().unwrap_or(&self.embedding)
    }

    /// What the adapters need of a [`Workspace`].
    pub fn adapter_widths(&self) -> AdapterSpace {
        let inner = self.layers.iter().fold([0; 4], |widest, l| {
            let own = [&l.qkv, &l.o, &l.gate_up, &l.down].map(Linear::inner_width);
            std::array::from_fn(|i| widest[i].max(own[i]))
        });
        AdapterSpace { inner, dora: self.adaptation.dora, dropout: self.adaptation.dropout.is_some() }
    }

    /// What the adapters drop in a training step, where they do: for each token, by `of(row, position)`, the place of its row
    /// among the step's rows and its own place in the row. A token drops the same in whatever micro-batch it stands.
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

    fn linears(&self) -> impl Iterator<Item = &Linear<D::Buffer>> {
        self.layers.iter().flat_map(|layer| [&layer.qkv, &layer.o, &layer.gate_up, &layer.down])
    }

    fn measure_norms(&self) {
        if self.adaptation.dora {
            self.linears().for_each(|linear| linear.measure_norms(&self.device));
            self.adaptation.measured.set(true);
        }
    }

    /// Final hidden states, normed, of a packed micro-batch: [n, d], in the workspace. `adapter` turns the LoRA
    /// adapters on; off gives the base model. A workspace for training keeps what `backward` needs.
    pub fn forward(&self, ws: &Workspace<D::Buffer>, tokens: Tokens<'_>, adapter: bool) -> Tensor<D::Buffer> {
        // Whoever changed the adapters may not have said so; beside a whole pass, their lengths cost little.
        self.adapters_changed();
        let adapters = Adapters { on: adapter, noise: None };
        self.run(ws, tokens.ids, tokens.positions, Attend::Packed(tokens.segments), adapters)
    }

    /// [`Llama::forward`] of a training step: with adapters, and with what they drop.
    pub fn forward_noised(
        &self,
        ws: &Workspace<D::Buffer>,
        tokens: Tokens<'_>,
        noise: Option<&Noise>,
    ) -> Tensor<D::Buffer> {
        self.adapters_changed();
        let adapters = Adapters { on: true, noise };
        self.run(ws, tokens.ids, tokens.positions, Attend::Packed(tokens.segments), adapters)
    }

    /// Final hidden states, normed, of tokens that see a cache: keys and values of token i first go to row `own[i]` of it, and
    /// it then sees what its run says, its own row last. Prompts and single new tokens may stand beside each other.
    pub fn extend(
        &self,
        ws: &Workspace<D::Buffer>,
        ids: &[u32],
        positions: &[u32],
        cache: &KvCache<D::Buffer>,
        own: &[u32],
        runs: &[Cached],
        adapter: bool,
    ) -> Tensor<D::Buffer> {
        let adapters = Adapters { on: adapter, noise: None };
        self.run(ws, ids, positions, Attend::Cached { cache, own, runs }, adapters)
    }

    fn run(
        &self,
        ws: &Workspace<D::Buffer>,
        ids: &[u32],
        positions: &[u32],
        attend: Attend<'_, D::Buffer>,
        adapters: Adapters<'_>,
    ) -> Tensor<D::Buffer> {
        assert!(adapters.on || self.adaptation.keeps_base, "without its adapters this model is not its base");
        if adapters.on && !self.adaptation.measured.get() {
            self.measure_norms();
        }
        let (d, n) = (&self.device, ids.len());
        assert!(n <= ws.tokens(), "{n} tokens in a workspace for {}", ws.tokens());
        d.gather_rows(&self.embedding.value, ids, &ws.layers[0].x.first_rows(n));
        for i in 0..self.layers.len() {
            self.run_layer(ws, i, positions, attend, adapters);
        }
        let hidden = ws.hidden.first_rows(n);
        let epsilon = self.config.rms_norm_eps as f32;
        d.rms_norm(&ws.last.first_rows(n), &self.norm.value, epsilon, &hidden, &ws.inv_rms_last.first_rows(n));
        hidden
    }

    /// Layer i over what the workspace holds as its input; its output becomes the input of the next one.
    fn run_layer(
        &self,
        ws: &Workspace<D::Buffer>,
        i: usize,
        positions: &[u32],
        attend: Attend<'_, D::Buffer>,
        adapters: Adapters<'_>,
    ) {
        let (d, n, heads, layer) = (&self.device, positions.len(), self.config.heads(), &self.layers[i]);
        let epsilon = self.config.rms_norm_eps as f32;
        let rotated = heads.query_width() + heads.kv_width();
        let normed = ws.normed.first_rows(n);
        let a = ws.layer(i, n);
        d.rms_norm(&a.x, &layer.attention_norm.value, epsilon, &normed, &a.inv_rms_attention);
        layer.qkv.forward(d, &normed, None, &a.qkv, (&a.adapters[0], &ws.scratch), adapters, 4 * i);
        d.rope(&a.qkv.col_range(0..rotated), heads.dim, positions, &self.cos, &self.sin, false);
        let keys_values = a.qkv.col_range(heads.query_width()..heads.row_width());
        match attend {
            Attend::Packed(segments) => d.attention(&a.qkv, segments, heads, &a.attended, &a.log_sum),
            Attend::Cached { cache, own, runs } => {
                d.scatter_rows(&keys_values, own, &cache.layers[i]);
                let q = a.qkv.col_range(0..heads.query_width());
                d.attention_cached(&q, &cache.layers[i], runs, heads, &a.attended);
            }
        }
        layer.o.forward(d, &a.attended, Some(&a.x), &a.middle, (&a.adapters[1], &ws.scratch), adapters, 4 * i + 1);

        d.rms_norm(&a.middle, &layer.mlp_norm.value, epsilon, &normed, &a.inv_rms_mlp);
        layer.gate_up.forward(d, &normed, None, &a.gate_up, (&a.adapters[2], &ws.scratch), adapters, 4 * i + 2);
        let activated = ws.activated.first_rows(n);
        d.swiglu(&a.gate_up, &activated);
        let next = if i + 1 < self.layers.len() { ws.layer(i + 1, n).x } else { ws.last.first_rows(n) };
        layer.down.forward(d, &activated, Some(&a.middle), &next, (&a.adapters[3], &ws.scratch), adapters, 4 * i + 3);
    }

    /// Adds the gradients of everything trained, from `ws.hidden_gradient`, the gradient by the final hidden states of
    /// the forward that the workspace still holds. Norms and SwiGLU are computed again rather than kept. Nothing is computed
    /// below the lowest part that is trained.
    ///
    /// # Panics
    /// When the workspace is not for training.
    pub fn backward(&self, ws: &Workspace<D::Buffer>, tokens: Tokens<'_>) {
        self.backward_noised(ws, tokens, None);
    }

    /// [`Llama::backward`] of [`Llama::forward_noised`] with the same noise.
    ///
    /// # Panics
    /// When the workspace is not for training.
    pub fn backward_noised(&self, ws: &Workspace<D::Buffer>, tokens: Tokens<'_>, noise: Option<&Noise>) {
        let (Some(g), Some(dhidden)) = (&ws.gradients, &ws.hidden_gradient) else {
            panic!("backward needs a workspace for training");
        };
        let (d, n, heads) = (&self.device, tokens.ids.len(), self.config.heads());
        let rotated = heads.query_width() + heads.kv_width();
        let (normed, activated) = (ws.normed.first_rows(n), ws.activated.first_rows(n));
        let g = g.first_rows(n);
        d.fill(&g.residual, 0.0);
        let (last, inv_rms) = (ws.last.first_rows(n), ws.inv_rms_last.first_rows(n));
        let dnorm = self.norm.gradient.as_ref();
        d.rms_norm_backward(&last, &self.norm.value, &inv_rms, &dhidden.first_rows(n), &g.residual, dnorm);
        let lowest = self.lowest_trained();
        let scratch = |linear: usize| (&g.inner[linear], &ws.scratch);
        for (i, layer) in self.layers.iter().enumerate().skip(lowest).rev() {
            let a = ws.layer(i, n);
            if ws.recomputes && i + 1 < self.layers.len() {
                // The last layer's are still there. What goes into the next layer is written again, the same.
                let adapters = Adapters { on: true, noise };
                self.run_layer(ws, i, tokens.positions, Attend::Packed(tokens.segments), adapters);
            }
            // Whether anything is trained below the layer, and at or below each of its parts, from the bottom up.
            let below = i > lowest || self.embedding.gradient.is_some();
            let [attention_norm, mlp_norm] =
                [&layer.attention_norm, &layer.mlp_norm].map(|norm| norm.gradient.as_ref());
            let into_qkv = below || attention_norm.is_some();
            let into_attention = into_qkv || layer.qkv.is_trained();
            let into_mlp = into_attention || layer.o.is_trained();
            let into_gate_up = into_mlp || mlp_norm.is_some();
            let into_down = into_gate_up || layer.gate_up.is_trained();

            if layer.down.is_trained() {
                d.swiglu(&a.gate_up, &activated);
            }
            let dactivated = into_down.then_some(&g.activated);
            layer.down.backward(d, &activated, &a.adapters[3], &g.residual, scratch(3), dactivated, noise, 4 * i + 3);
            if into_down {
                d.swiglu_backward(&a.gate_up, &g.activated, &g.gate_up);
                if layer.gate_up.is_trained() {
                    d.rms_norm_again(&a.middle, &layer.mlp_norm.value, &a.inv_rms_mlp, &normed);
                }
                let dnormed = into_gate_up.then_some(&g.normed);
                layer.gate_up.backward(d, &normed, &a.adapters[2], &g.gate_up, scratch(2), dnormed, noise, 4 * i + 2);
            }
            if into_gate_up {
                let norm = &layer.mlp_norm.value;
                d.rms_norm_backward(&a.middle, norm, &a.inv_rms_mlp, &g.normed, &g.residual, mlp_norm);
            }

            if into_mlp {
                let dattended = into_attention.then_some(&g.attended);
                layer.o.backward(d, &a.attended, &a.adapters[1], &g.residual, scratch(1), dattended, noise, 4 * i + 1);
            }
            if into_attention {
                d.attention_backward(&a.qkv, &a.attended, &a.log_sum, &g.attended, tokens.segments, heads, &g.qkv);
                d.rope(&g.qkv.col_range(0..rotated), heads.dim, tokens.positions, &self.cos, &self.sin, true);
                let norm = &layer.attention_norm.value;
                if layer.qkv.is_trained() {
                    d.rms_norm_again(&a.x, norm, &a.inv_rms_attention, &normed);
                }
                let dnormed = into_qkv.then_some(&g.normed);
                layer.qkv.backward(d, &normed, &a.adapters[0], &g.qkv, scratch(0), dnormed, noise, 4 * i);
                if into_qkv {
                    d.rms_norm_backward(&a.x, norm, &a.inv_rms_attention, &g.normed, &g.residual, attention_norm);
                }
            }
        }
        if let Some(dembedding) = &self.embedding.gradient {
            d.scatter_add_rows(&g.residual, tokens.ids, dembedding);
        }
    }

    /// The lowest layer with anything trained in it, or below it.
    fn lowest_trained(&self) -> usize {
        let trained = |layer: &Layer<D::Buffer>| {
            [&layer.qkv, &layer.o, &layer.gate_up, &layer.down].iter().any(|linear| linear.is_trained())
                || [&layer.attention_norm, &layer.mlp_norm].iter().any(|norm| norm.gradient.is_some())
        };
        if self.embedding.gradient.is_some() {
            return 0;
        }
        self.layers.iter().position(trained).unwrap_or(self.layers.len())
    }

    /// Every weight under its HF name, in the order of the checkpoint's tree.
    pub fn weights(&self) -> Vec<(String, Parameter<D::Buffer>)> {
        let mut all = Vec::new();
        let whole = |p: &Parameter<D::Buffer>| p.rows(0..p.value.rows());
        all.push(("model.embed_tokens.weight".to_owned(), whole(&self.embedding)));
        for (i, layer) in self.layers.iter().enumerate() {
            let visit = &mut |name, parameter| all.push((name, parameter));
            visit(format!("model.layers.{i}.input_layernorm.weight"), whole(&layer.attention_norm));
            layer.qkv.visit_weights(visit);
            layer.o.visit_weights(visit);
            visit(format!("model.layers.{i}.post_attention_layernorm.weight"), whole(&layer.mlp_norm));
            layer.gate_up.visit_weights(visit);
            layer.down.visit_weights(visit);
        }
        all.push(("model.norm.weight".to_owned(), whole(&self.norm)));
        if let Some(head) = &self.head {
            all.push(("lm_head.weight".to_owned(), whole(head)));
        }
        all
    }

    /// Every adapter matrix under PEFT's name without its prefix: `....q_proj.lora_A.weight` [rank, in],
    /// `....lora_B.weight` [out, rank] and, with DoRA, `....lora_magnitude_vector` [out, 1].
    pub fn adapters(&self) -> Vec<(String, Parameter<D::Buffer>)> {
        let mut all = Vec::new();
        for linear in self.linears() {
            linear.visit_adapters(&mut |name, parameter| all.push((name, parameter)));
        }
        all
    }

    /// What is trained, by name, each with a gradient: the adapters of a LoRA model, all weights of a full one.
    pub fn trained(&self) -> Vec<(String, Parameter<D::Buffer>)> {
        let mut all = self.adapters();
        all.extend(self.weights());
        all.retain(|(_, parameter)| parameter.gradient.is_some());
        all
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
        self.measure_norms();
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
