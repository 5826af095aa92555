//! The memory of a step: every activation and every scratch matrix, planned into one arena before the first step.

use temper_kernels::{Arena, Device, Tensor};

use crate::linear::{AdapterRows, AdapterScratch};
use crate::{AdapterSpace, LlamaConfig};

/// Rows of logits that exist at a time: the whole vocabulary is wide, so losses and scores go through it in chunks.
pub const LOGIT_ROWS: usize = 256;

/// What a workspace is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Activations of every layer are kept for the backward.
    Train,
    /// Of each layer only what goes into it is kept; the backward computes the rest again, to the same bits (Chen et al.,
    /// 2016). About a third more time, a fraction of the memory.
    TrainRecomputing,
    /// One layer's activations, reused; with a second chunk of logits for comparing two models.
    Infer,
}

/// What the forward of one layer keeps.
pub(crate) struct LayerActivations<B> {
    /// Residual stream into the layer, [n, d].
    pub x: Tensor<B>,
    pub inv_rms_attention: Tensor<B>,
    /// q, k and v after rotation, [n, heads.row_width()].
    pub qkv: Tensor<B>,
    /// q and k before their norms, and these norms' factors of each head; no columns where heads have no norms.
    pub heads: Tensor<B>,
    pub inv_rms_heads: Tensor<B>,
    pub attended: Tensor<B>,
    pub log_sum: Tensor<B>,
    /// Residual stream after attention, [n, d].
    pub middle: Tensor<B>,
    pub inv_rms_mlp: Tensor<B>,
    pub gate_up: Tensor<B>,
    /// What attention and feed-forward give before the norms behind them, [n, d], and these norms' factors; no columns where
    /// there are no such norms.
    pub branches: [Tensor<B>; 2],
    pub inv_rms_branches: [Tensor<B>; 2],
    /// What the adapters of qkv, o, gate_up and down keep.
    pub adapters: [AdapterRows<B>; 4],
}

impl<B> LayerActivations<B> {
    fn first_rows(&self, n: usize) -> Self {
        Self {
            x: self.x.first_rows(n),
            inv_rms_attention: self.inv_rms_attention.first_rows(n),
            qkv: self.qkv.first_rows(n),
            heads: self.heads.first_rows(n),
            inv_rms_heads: self.inv_rms_heads.first_rows(n),
            attended: self.attended.first_rows(n),
            log_sum: self.log_sum.first_rows(n),
            middle: self.middle.first_rows(n),
            inv_rms_mlp: self.inv_rms_mlp.first_rows(n),
            gate_up: self.gate_up.first_rows(n),
            branches: self.branches.each_ref().map(|t| t.first_rows(n)),
            inv_rms_branches: self.inv_rms_branches.each_ref().map(|t| t.first_rows(n)),
            adapters: self.adapters.each_ref().map(|rows| rows.first_rows(n)),
        }
    }
}

/// Scratch of the backward.
pub(crate) struct Gradients<B> {
    pub residual: Tensor<B>,
    pub normed: Tensor<B>,
    pub qkv: Tensor<B>,
    pub attended: Tensor<B>,
    pub gate_up: Tensor<B>,
    pub activated: Tensor<B>,
    /// Gradient by a branch before the norm behind it; no columns where there are no such norms.
    pub branch: Tensor<B>,
    pub inner: [Tensor<B>; 4],
}

/// The memory of a step over at most [`Workspace::tokens`] tokens.
pub struct Workspace<B> {
    tokens: usize,
    /// Whether the backward computes a layer's activations again: then all layers share them but for `x`.
    pub(crate) recomputes: bool,
    /// One entry per layer to train; one for all to infer.
    pub(crate) layers: Vec<LayerActivations<B>>,
    pub(crate) normed: Tensor<B>,
    pub(crate) activated: Tensor<B>,
    pub(crate) scratch: AdapterScratch<B>,
    pub(crate) last: Tensor<B>,
    pub(crate) inv_rms_last: Tensor<B>,
    /// Final hidden states, normed: [tokens, d].
    pub(crate) hidden: Tensor<B>,
    pub(crate) gradients: Option<Gradients<B>>,
    /// Gradient by the final hidden states; the caller of `backward` fills it.
    pub hidden_gradient: Option<Tensor<B>>,
    /// Final hidden states of chosen positions, [tokens, d], and their gradient.
    pub picked: Tensor<B>,
    /// Gradient by `picked`.
    pub picked_gradient: Option<Tensor<B>>,
    /// Two chunks of logits, [`LOGIT_ROWS`] x vocabulary; to train only the first holds rows.
    pub logits: [Tensor<B>; 2],
}

impl<B> Workspace<B> {
    /// Allocates for micro-batches of at most `tokens` tokens. `adapters`: what they need (see
    /// [`crate::Llama::adapter_space`]).
    pub fn allocate<D: Device<Buffer = B>>(
        device: &D,
        config: &LlamaConfig,
        adapters: impl Into<AdapterSpace>,
        purpose: Purpose,
        tokens: usize,
    ) -> Self {
        let adapters = adapters.into();
        Arena::allocate(device, |arena| Self::lay_out(arena, config, adapters, purpose, tokens))
    }

    /// Bytes that [`Workspace::allocate`] would take; nothing is allocated.
    pub fn bytes<D: Device<Buffer = B>>(
        device: &D,
        config: &LlamaConfig,
        adapters: impl Into<AdapterSpace>,
        purpose: Purpose,
        tokens: usize,
    ) -> usize {
        let adapters = adapters.into();
        4 * Arena::measure(device, |arena| Self::lay_out(arena, config, adapters, purpose, tokens))
    }

    /// The most tokens of a micro-batch.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// The activations of layer i for n tokens: its own to train, the shared ones to infer.
    pub(crate) fn layer(&self, i: usize, n: usize) -> LayerActivations<B> {
        self.layers[if self.gradients.is_some() { i } else { 0 }].first_rows(n)
    }

    fn lay_out(arena: &mut Arena<B>, c: &LlamaConfig, adapters: AdapterSpace, purpose: Purpose, tokens: usize) -> Self {
        let (d, f, heads) = (c.hidden_size, c.intermediate_size, c.heads());
        let with = |there: bool, width: usize| if there { width } else { 0 };
        let (of_heads, of_branches) = (c.design.qk_norm, c.design.branch_norms);
        // Inputs and outputs of qkv, o, gate_up, down.
        let (ins, outs) = ([d, heads.query_width(), d, f], [heads.row_width(), d, 2 * f, d]);
        let widest = |widths: [usize; 4], needed: bool| if needed { widths.into_iter().max().unwrap_or(0) } else { 0 };
        let (train, recomputes) = (purpose != Purpose::Infer, purpose == Purpose::TrainRecomputing);
        let layer = |arena: &mut Arena<B>| LayerActivations {
            x: arena.take(tokens, d),
            inv_rms_attention: arena.take(tokens, 1),
            qkv: arena.take(tokens, heads.row_width()),
            heads: arena.take(tokens, with(of_heads, heads.query_width() + heads.kv_width())),
            inv_rms_heads: arena.take(tokens, with(of_heads, heads.query + heads.kv)),
            attended: arena.take(tokens, heads.query_width()),
            log_sum: arena.take(tokens, heads.query),
            middle: arena.take(tokens, d),
            inv_rms_mlp: arena.take(tokens, 1),
            gate_up: arena.take(tokens, 2 * f),
            branches: [(); 2].map(|()| arena.take(tokens, with(of_branches, d))),
            inv_rms_branches: [(); 2].map(|()| arena.take(tokens, with(of_branches, 1))),
            adapters: std::array::from_fn(|i| AdapterRows {
                inner: arena.take(tokens, adapters.inner[i]),
                unscaled: arena.take(tokens, if adapters.dora { outs[i] } else { 0 }),
            }),
        };
        let count = if train { c.num_hidden_layers } else { 1 };
        let layers = if recomputes {
            let shared = layer(arena);
            (0..count).map(|_| LayerActivations { x: arena.take(tokens, d), ..shared.first_rows(tokens) }).collect()
        } else {
            (0..count).map(|_| layer(arena)).collect()
        };
        Self {
            tokens,
            recomputes,
            layers,
            normed: arena.take(tokens, d),
            activated: arena.take(tokens, f),
            scratch: AdapterScratch {
                dropped: arena.take(tokens, widest(ins, train && adapters.dropout)),
                unscaled: arena.take(tokens, widest(outs, train && adapters.dora)),
            },
            last: arena.take(tokens, d),
            inv_rms_last: arena.take(tokens, 1),
            hidden: arena.take(tokens, d),
            gradients: train.then(|| Gradients {
                residual: arena.take(tokens, d),
                normed: arena.take(tokens, d),
                qkv: arena.take(tokens, heads.row_width()),
                attended: arena.take(tokens, heads.query_width()),
                gate_up: arena.take(tokens, 2 * f),
                activated: arena.take(tokens, f),
                branch: arena.take(tokens, with(of_branches, d)),
                inner: adapters.inner.map(|width| arena.take(tokens, width)),
            }),
            hidden_gradient: train.then(|| arena.take(tokens, d)),
            picked: arena.take(tokens, d),
            picked_gradient: train.then(|| arena.take(tokens, d)),
            logits: [
                arena.take(LOGIT_ROWS, c.vocab_size),
                arena.take(if train { 0 } else { LOGIT_ROWS }, c.vocab_size),
            ],
        }
    }
}

impl<B> Gradients<B> {
    pub fn first_rows(&self, n: usize) -> Self {
        Self {
            residual: self.residual.first_rows(n),
            normed: self.normed.first_rows(n),
            qkv: self.qkv.first_rows(n),
            attended: self.attended.first_rows(n),
            gate_up: self.gate_up.first_rows(n),
            activated: self.activated.first_rows(n),
            branch: self.branch.first_rows(n),
            inner: self.inner.each_ref().map(|t| t.first_rows(n)),
        }
    }
}
