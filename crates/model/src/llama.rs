//! A decoder: embedding, blocks of attention and a gated layer with RMSNorm before each, a last norm, a head. In what one
//! differs from Llama (biases, norms of heads and behind branches, windows, ...) its configuration says: `Design`.
//!
//! `forward` and `backward` read top to bottom, one line an operation of `temper_kernels::Device`.

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;

use rayon::prelude::*;
use temper_kernels::{Cached, Device, FrozenWeight, Heads, Segment, Tensor};
use temper_run::Random;

use crate::fused::Fused;
use crate::linear::{Adapters, Linear, Noise};
use crate::norm::Norm;
use crate::parameters::Parameter;
use crate::stored::Stored;
use crate::workspace::{Gradients, LayerActivations, Workspace};
use crate::{Activation, AdapterInit, AdapterSpace, Dropout, LlamaConfig, RopeScaling, Tuning};

impl LlamaConfig {
    /// The attention heads of a layer without a window.
    pub fn heads(&self) -> Heads {
        let heads = Heads::new(self.num_attention_heads, self.num_key_value_heads, self.head_dim);
        let scale = self.design.query_pre_attn_scalar.map(|scalar| scalar.powf(-0.5) as f32);
        Heads { scale: scale.unwrap_or(heads.scale), ..heads }
    }
}

/// A decoder on a device.
pub struct Llama<D: Device> {
    device: D,
    config: LlamaConfig,
    embedding: Parameter<D::Buffer>,
    layers: Vec<Layer<D::Buffer>>,
    norm: Norm<D::Buffer>,
    /// None where the head is the embedding.
    head: Option<Parameter<D::Buffer>>,
    rotations: Vec<Rotation<D::Buffer>>,
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

/// Cosines and sines: [positions, dim / 2] each.
struct Rotation<B> {
    cos: Tensor<B>,
    sin: Tensor<B>,
}

struct Layer<B> {
    heads: Heads,
    /// Index into the rotations; none where queries and keys are not turned.
    rotation: Option<usize>,
    norms: Norms<B>,
    qkv: Linear<B>,
    o: Linear<B>,
    gate_up: Linear<B>,
    down: Linear<B>,
}

struct Norms<B> {
    attention: Norm<B>,
    mlp: Norm<B>,
    /// Of the heads of q and of k.
    heads: Option<[Norm<B>; 2]>,
    /// Behind attention and behind the feed-forward layer.
    branches: Option<[Norm<B>; 2]>,
}

impl<B> Norms<B> {
    fn all(&self) -> impl Iterator<Item = &Norm<B>> {
        let more = self.heads.iter().chain(&self.branches).flatten();
        [&self.attention, &self.mlp].into_iter().chain(more)
    }

    /// The norm behind attention (0) or the feed-forward layer (1).
    fn behind(&self, branch: usize) -> Option<&Norm<B>> {
        self.branches.as_ref().map(|norms| &norms[branch])
    }
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

/// The columns of q or of k in a row of `qkv`, and their heads in a row of the norms' factors.
struct HeadPart {
    columns: Range<usize>,
    heads: Range<usize>,
}

impl HeadPart {
    fn both(heads: Heads) -> [Self; 2] {
        let (q, turned) = (heads.query_width(), heads.query_width() + heads.kv_width());
        let query = Self { columns: 0..q, heads: 0..heads.query };
        [query, Self { columns: q..turned, heads: heads.query..heads.query + heads.kv }]
    }
}

/// How a forward attends, and where keys and values go.
enum Attend<'a, B> {
    Packed(&'a [Segment]),
    Cached { cache: &'a KvCache<B>, own: &'a [u32], runs: &'a [Cached] },
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
        let adaptation = Adaptation {
            init: lora.map_or(AdapterInit::Kaiming, |lora| lora.init),
            dora: lora.is_some_and(|lora| lora.dora),
            dropout: lora.and_then(|lora| lora.dropout),
            keeps_base: lora.is_none_or(|lora| lora.keeps_base()),
            measured: Cell::new(false),
        };

        let rotation = |(theta, scaling)| Rotation::new(&device, c, theta, scaling);
        let rotations = c.rotations().into_iter().map(rotation).collect();
        let model = Self { config: c.clone(), embedding, layers, norm: last_norm, head, rotations, adaptation, device };
        model.refresh_norms();
        Ok(model)
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
        self.refresh_norms();
        let embedded = ws.layers[0].x.first_rows(n);
        d.gather_rows(&self.embedding.value, ids, &embedded);
        if let Some(factor) = self.embedding_factor() {
            d.scale(factor, &embedded);
        }
        for i in 0..self.layers.len() {
            self.run_layer(ws, i, positions, attend, adapters);
        }
        let hidden = ws.hidden.first_rows(n);
        let epsilon = self.config.rms_norm_eps as f32;
        d.rms_norm(&ws.last.first_rows(n), self.norm.factor(), epsilon, &hidden, &ws.inv_rms_last.first_rows(n));
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
        let (d, n, layer) = (&self.device, positions.len(), &self.layers[i]);
        let heads = layer.heads;
        let epsilon = self.config.rms_norm_eps as f32;
        let normed = ws.normed.first_rows(n);
        let a = ws.layer(i, n);
        d.rms_norm(&a.x, layer.norms.attention.factor(), epsilon, &normed, &a.inv_rms_attention);
        layer.qkv.forward(d, &normed, None, &a.qkv, (&a.adapters[0], &ws.scratch), adapters, 4 * i);
        if let Some(norms) = &layer.norms.heads {
            d.copy(&a.qkv.col_range(0..heads.query_width() + heads.kv_width()), &a.heads);
            for (norm, part) in norms.iter().zip(HeadPart::both(heads)) {
                let (from, inverse) = (a.heads.col_range(part.columns.clone()), a.inv_rms_heads.col_range(part.heads));
                d.rms_norm_heads(&from, norm.factor(), epsilon, &a.qkv.col_range(part.columns), &inverse);
            }
        }
        self.turn(layer, &a.qkv, positions, false);
        let keys_values = a.qkv.col_range(heads.query_width()..heads.row_width());
        match attend {
            Attend::Packed(segments) => d.attention(&a.qkv, segments, heads, &a.attended, &a.log_sum),
            Attend::Cached { cache, own, runs } => {
                d.scatter_rows(&keys_values, own, &cache.layers[i]);
                let q = a.qkv.col_range(0..heads.query_width());
                d.attention_cached(&q, &cache.layers[i], runs, heads, &a.attended);
            }
        }
        // A linear goes on from the residual stream, unless a norm stands between.
        match layer.norms.behind(0) {
            None => layer.o.forward(
                d,
                &a.attended,
                Some(&a.x),
                &a.middle,
                (&a.adapters[1], &ws.scratch),
                adapters,
                4 * i + 1,
            ),
            Some(norm) => {
                layer.o.forward(
                    d,
                    &a.attended,
                    None,
                    &a.branches[0],
                    (&a.adapters[1], &ws.scratch),
                    adapters,
                    4 * i + 1,
                );
                d.rms_norm(&a.branches[0], norm.factor(), epsilon, &a.middle, &a.inv_rms_branches[0]);
                d.add(&a.x, &a.middle);
            }
        }

        d.rms_norm(&a.middle, layer.norms.mlp.factor(), epsilon, &normed, &a.inv_rms_mlp);
        layer.gate_up.forward(d, &normed, None, &a.gate_up, (&a.adapters[2], &ws.scratch), adapters, 4 * i + 2);
        let activated = ws.activated.first_rows(n);
        self.gate(&a.gate_up, &activated);
        let next = if i + 1 < self.layers.len() { ws.layer(i + 1, n).x } else { ws.last.first_rows(n) };
        match layer.norms.behind(1) {
            None => layer.down.forward(
                d,
                &activated,
                Some(&a.middle),
                &next,
                (&a.adapters[3], &ws.scratch),
                adapters,
                4 * i + 3,
            ),
            Some(norm) => {
                layer.down.forward(
                    d,
                    &activated,
                    None,
                    &a.branches[1],
                    (&a.adapters[3], &ws.scratch),
                    adapters,
                    4 * i + 3,
                );
                d.rms_norm(&a.branches[1], norm.factor(), epsilon, &next, &a.inv_rms_branches[1]);
                d.add(&a.middle, &next);
            }
        }
    }

    /// Embeddings are multiplied by this.
    fn embedding_factor(&self) -> Option<f32> {
        self.config.design.scale_embedding.then(|| (self.config.hidden_size as f64).sqrt() as f32)
    }

    fn refresh_norms(&self) {
        let of_layers = self.layers.iter().flat_map(|layer| layer.norms.all());
        of_layers.chain([&self.norm]).for_each(|norm| norm.refresh(&self.device));
    }

    /// Turns the queries and keys of rows of `qkv` by their positions, where the layer does so; `inverse` turns back.
    fn turn(&self, layer: &Layer<D::Buffer>, qkv: &Tensor<D::Buffer>, positions: &[u32], inverse: bool) {
        if let Some(Rotation { cos, sin }) = layer.rotation.map(|rotation| &self.rotations[rotation]) {
            let turned = qkv.col_range(0..layer.heads.query_width() + layer.heads.kv_width());
            self.device.rope(&turned, layer.heads.dim, positions, cos, sin, inverse);
        }
    }

    /// The gated layer.
    fn gate(&self, gate_up: &Tensor<D::Buffer>, out: &Tensor<D::Buffer>) {
        match self.config.design.activation {
            Activation::Silu => self.device.swiglu(gate_up, out),
            Activation::GeluTanh => self.device.geglu(gate_up, out),
        }
    }

    /// The gradient by what comes out of a branch, from that by what is added to the residual stream.
    fn branch_gradient(
        &self,
        norm: Option<&Norm<D::Buffer>>,
        branch: usize,
        a: &LayerActivations<D::Buffer>,
        g: &Gradients<D::Buffer>,
    ) -> Tensor<D::Buffer> {
        let Some(norm) = norm else { return g.residual.clone() };
        self.device.fill(&g.branch, 0.0);
        let (x, inverse) = (&a.branches[branch], &a.inv_rms_branches[branch]);
        self.device.rms_norm_backward(x, norm.factor(), inverse, &g.residual, &g.branch, norm.gradient());
        g.branch.clone()
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
        let (d, n) = (&self.device, tokens.ids.len());
        let (normed, activated) = (ws.normed.first_rows(n), ws.activated.first_rows(n));
        let g = g.first_rows(n);
        d.fill(&g.residual, 0.0);
        let (last, inv_rms) = (ws.last.first_rows(n), ws.inv_rms_last.first_rows(n));
        let dnorm = self.norm.gradient();
        d.rms_norm_backward(&last, self.norm.factor(), &inv_rms, &dhidden.first_rows(n), &g.residual, dnorm);
        let lowest = self.lowest_trained();
        let scratch = |linear: usize| (&g.inner[linear], &ws.scratch);
        for (i, layer) in self.layers.iter().enumerate().skip(lowest).rev() {
            let (a, heads, norms) = (ws.layer(i, n), layer.heads, &layer.norms);
            if ws.recomputes && i + 1 < self.layers.len() {
                // The last layer's are still there. What goes into the next layer is written again, the same.
                let adapters = Adapters { on: true, noise };
                self.run_layer(ws, i, tokens.positions, Attend::Packed(tokens.segments), adapters);
            }
            // Whether anything is trained below the layer, and at or below each of its parts, from the bottom up.
            let below = i > lowest || self.embedding.gradient.is_some();
            let [attention_norm, mlp_norm] = [&norms.attention, &norms.mlp].map(Norm::gradient);
            let are_trained = |norms: &Option<[Norm<_>; 2]>| norms.iter().flatten().any(|n| n.gradient().is_some());
            let into_qkv = below || attention_norm.is_some();
            let into_attention = into_qkv || layer.qkv.is_trained() || are_trained(&norms.heads);
            let into_mlp = into_attention || layer.o.is_trained() || are_trained(&norms.branches);
            let into_gate_up = into_mlp || mlp_norm.is_some();
            let into_down = into_gate_up || layer.gate_up.is_trained();

            if layer.down.is_trained() {
                self.gate(&a.gate_up, &activated);
            }
            let dactivated = into_down.then_some(&g.activated);
            let dbranch = self.branch_gradient(norms.behind(1), 1, &a, &g);
            layer.down.backward(d, &activated, &a.adapters[3], &dbranch, scratch(3), dactivated, noise, 4 * i + 3);
            if into_down {
                match self.config.design.activation {
                    Activation::Silu => d.swiglu_backward(&a.gate_up, &g.activated, &g.gate_up),
                    Activation::GeluTanh => d.geglu_backward(&a.gate_up, &g.activated, &g.gate_up),
                }
                if layer.gate_up.is_trained() {
                    d.rms_norm_again(&a.middle, norms.mlp.factor(), &a.inv_rms_mlp, &normed);
                }
                let dnormed = into_gate_up.then_some(&g.normed);
                layer.gate_up.backward(d, &normed, &a.adapters[2], &g.gate_up, scratch(2), dnormed, noise, 4 * i + 2);
            }
            if into_gate_up {
                let norm = norms.mlp.factor();
                d.rms_norm_backward(&a.middle, norm, &a.inv_rms_mlp, &g.normed, &g.residual, mlp_norm);
            }

            if into_mlp {
                let dattended = into_attention.then_some(&g.attended);
                let dbranch = self.branch_gradient(norms.behind(0), 0, &a, &g);
                layer.o.backward(d, &a.attended, &a.adapters[1], &dbranch, scratch(1), dattended, noise, 4 * i + 1);
            }
            if into_attention {
                d.attention_backward(&a.qkv, &a.attended, &a.log_sum, &g.attended, tokens.segments, heads, &g.qkv);
                self.turn(layer, &g.qkv, tokens.positions, true);
                if let Some(norms) = &norms.heads {
                    for (norm, part) in norms.iter().zip(HeadPart::both(heads)) {
                        let (x, inverse) =
                            (a.heads.col_range(part.columns.clone()), a.inv_rms_heads.col_range(part.heads));
                        let gradient = g.qkv.col_range(part.columns);
                        d.rms_norm_heads_backward(&x, norm.factor(), &inverse, &gradient, norm.gradient());
                    }
                }
                let norm = norms.attention.factor();
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
            if let Some(factor) = self.embedding_factor() {
                d.scale(factor, &g.residual);
            }
            d.scatter_add_rows(&g.residual, tokens.ids, dembedding);
        }
    }

    /// The lowest layer with anything trained in it, or below it.
    fn lowest_trained(&self) -> usize {
        let trained = |layer: &Layer<D::Buffer>| {
            [&layer.qkv, &layer.o, &layer.gate_up, &layer.down].iter().any(|linear| linear.is_trained())
                || layer.norms.all().any(|norm| norm.gradient().is_some())
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
        let visit = &mut |name, parameter| all.push((name, parameter));
        for layer in &self.layers {
            let norms = &layer.norms;
            norms.attention.visit(visit);
            layer.qkv.visit_weights(visit);
            norms.heads.iter().flatten().for_each(|norm| norm.visit(visit));
            layer.o.visit_weights(visit);
            norms.branches.iter().for_each(|[behind, _]| behind.visit(visit));
            norms.mlp.visit(visit);
            layer.gate_up.visit_weights(visit);
            layer.down.visit_weights(visit);
            norms.branches.iter().for_each(|[_, behind]| behind.visit(visit));
        }
        self.norm.visit(visit);
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
