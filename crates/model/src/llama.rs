//! A decoder: embedding, blocks of attention and a gated layer with RMSNorm before each, a last norm, a head. In what one
//! differs from Llama (biases, norms of heads and behind branches, windows, ...) its configuration says: `Design`.
//!
//! `forward` and `backward` read top to bottom, one line an operation of `temper_kernels::Device`. How a decoder is built stands
//! in `llama/load.rs`, its parameters by name in `named.rs`, what concerns adapters in `adaptation.rs`.

mod adaptation;
mod load;
mod named;

use std::ops::Range;

use temper_kernels::{Cached, Device, Heads, Segment, Tensor};

use self::adaptation::Adaptation;
use crate::linear::{Adapters, Linear, Noise};
use crate::norm::Norm;
use crate::parameters::Parameter;
use crate::workspace::{Gradients, LayerActivations, Workspace};
use crate::{Activation, LlamaConfig};

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

// By hand, since a derived copy would ask one of the buffer.
impl<B> Clone for Attend<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B> Copy for Attend<'_, B> {}

impl<D: Device> Llama<D> {
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
        assert!(adapters.on || self.holds_base(), "without its adapters this model is not its base");
        if adapters.on {
            self.settle_adapters();
        }
        let (d, n) = (&self.device, ids.len());
        assert!(n <= ws.tokens(), "{n} tokens in a workspace for {}", ws.tokens());
        if self.norm.gradient().is_some() {
            // Trained weights may have changed; others are as they were loaded.
            self.refresh_norms();
        }
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
        let linear = |which: usize, linear: &Linear<_>, x: &_, from: Option<&_>, y: &_| {
            linear.forward(d, x, from, y, (&a.adapters[which], &ws.scratch), adapters, 4 * i + which);
        };
        // A linear goes on from the residual stream, unless a norm stands between.
        let branch = |which: usize, of: &Linear<_>, x: &_, stream: &_, to: &_| match layer.norms.behind(which / 2) {
            None => linear(which, of, x, Some(stream), to),
            Some(norm) => {
                let (out, inverse) = (&a.branches[which / 2], &a.inv_rms_branches[which / 2]);
                linear(which, of, x, None, out);
                d.rms_norm(out, norm.factor(), epsilon, to, inverse);
                d.add(stream, to);
            }
        };
        d.rms_norm(&a.x, layer.norms.attention.factor(), epsilon, &normed, &a.inv_rms_attention);
        linear(0, &layer.qkv, &normed, None, &a.qkv);
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
        branch(1, &layer.o, &a.attended, &a.x, &a.middle);

        d.rms_norm(&a.middle, layer.norms.mlp.factor(), epsilon, &normed, &a.inv_rms_mlp);
        linear(2, &layer.gate_up, &normed, None, &a.gate_up);
        let activated = ws.activated.first_rows(n);
        self.gate(&a.gate_up, &activated);
        let next = if i + 1 < self.layers.len() { ws.layer(i + 1, n).x } else { ws.last.first_rows(n) };
        branch(3, &layer.down, &activated, &a.middle, &next);
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
        for (i, layer) in self.layers.iter().enumerate().skip(lowest).rev() {
            let (a, heads, norms) = (ws.layer(i, n), layer.heads, &layer.norms);
            if ws.recomputes && i + 1 < self.layers.len() {
                // The last layer's are still there. What goes into the next layer is written again, the same.
                let adapters = Adapters { on: true, noise };
                self.run_layer(ws, i, tokens.positions, Attend::Packed(tokens.segments), adapters);
            }
            let linear = |which: usize, linear: &Linear<_>, x: &_, dy: &_, dx: Option<&_>| {
                let scratch = (&g.inner[which], &ws.scratch);
                linear.backward(d, x, &a.adapters[which], dy, scratch, dx, noise, 4 * i + which);
            };
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
            linear(3, &layer.down, &activated, &dbranch, dactivated);
            if into_down {
                match self.config.design.activation {
                    Activation::Silu => d.swiglu_backward(&a.gate_up, &g.activated, &g.gate_up),
                    Activation::GeluTanh => d.geglu_backward(&a.gate_up, &g.activated, &g.gate_up),
                }
                if layer.gate_up.is_trained() {
                    d.rms_norm_again(&a.middle, norms.mlp.factor(), &a.inv_rms_mlp, &normed);
                }
                let dnormed = into_gate_up.then_some(&g.normed);
                linear(2, &layer.gate_up, &normed, &g.gate_up, dnormed);
            }
            if into_gate_up {
                let norm = norms.mlp.factor();
                d.rms_norm_backward(&a.middle, norm, &a.inv_rms_mlp, &g.normed, &g.residual, mlp_norm);
            }

            if into_mlp {
                let dattended = into_attention.then_some(&g.attended);
                let dbranch = self.branch_gradient(norms.behind(0), 0, &a, &g);
                linear(1, &layer.o, &a.attended, &dbranch, dattended);
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
                linear(0, &layer.qkv, &normed, &g.qkv, dnormed);
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
}
