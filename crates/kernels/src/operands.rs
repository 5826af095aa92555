//! What operations are given and give back beside tensors: heads, segments, picks, settings of a step.

use std::ops::Range;

use crate::encoding::Encoding;
use crate::tensor::Tensor;

/// Whether an operation overwrites its output or adds to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// `y = ...`
    Set,
    /// `y += ...`
    Add,
}

/// The heads of an attention layer. A row of `qkv` holds `query * dim` columns of q, then `kv * dim` of k and of v.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heads {
    /// Query heads; a multiple of `kv`.
    pub query: usize,
    /// Key and value heads.
    pub kv: usize,
    /// Width of one head; even.
    pub dim: usize,
    /// Factor on the scores; see [`Heads::new`].
    pub scale: f32,
    /// With a sliding window, how many rows a row sees at most, itself among them: the last of those that it would see
    /// without. At least 1.
    pub window: Option<usize>,
}

impl Heads {
    /// Heads that see everything, with scores scaled by `1 / sqrt(dim)`.
    pub fn new(query: usize, kv: usize, dim: usize) -> Self {
        Self { query, kv, dim, scale: (dim as f64).powf(-0.5) as f32, window: None }
    }

    /// How many of `visible` rows, the first ones, lie before the window.
    pub fn beyond_window(&self, visible: usize) -> usize {
        self.window.map_or(0, |window| visible.saturating_sub(window))
    }

    /// Columns of the queries, `query * dim`.
    pub fn query_width(&self) -> usize {
        self.query * self.dim
    }

    /// Columns of the keys (and of the values), `kv * dim`.
    pub fn kv_width(&self) -> usize {
        self.kv * self.dim
    }

    /// Columns of a row of `qkv`.
    pub fn row_width(&self) -> usize {
        self.query_width() + 2 * self.kv_width()
    }
}

/// One run of rows of a packed batch that attends causally within itself, and wholly to `context`.
///
/// A plain sequence has no context. The choices of one question are segments whose context is the question's rows; a
/// node of a label tree has the prompt and its ancestors as context. Rows that are in neither are not seen at all, so
/// rows packed together cannot leak into one another. Context and own rows, in this order, are one run of positions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The segment's own rows.
    pub rows: Range<usize>,
    /// Rows of other segments that every row of this one sees; disjoint, and not of this segment.
    pub context: Vec<Range<usize>>,
}

impl Segment {
    /// A sequence on its own.
    pub fn alone(rows: Range<usize>) -> Self {
        Self { rows, context: Vec::new() }
    }
}

/// Rows of a weight as a file holds them.
#[derive(Clone, Copy, Debug)]
pub struct Encoded<'a> {
    /// How.
    pub encoding: Encoding,
    /// Whole rows of whole blocks.
    pub bytes: &'a [u8],
}

/// How numbers are rounded before they are multiplied; sums are f32 in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// As they are.
    F32,
    /// To bf16, as PyTorch's autocast does for linear layers.
    Bf16,
}

/// One run of queries that attends to a key-value cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cached {
    /// The queries, one position after the other.
    pub rows: Range<usize>,
    /// The cache's rows that the last query sees, by position: in runs, since a prefix may be shared. Each query before it
    /// sees one row less, from the end; the first sees at least one.
    pub seen: Vec<Range<usize>>,
}

impl Cached {
    /// Rows of the cache that query `i` of the run sees.
    pub fn visible(&self, i: usize) -> usize {
        self.seen.iter().map(Range::len).sum::<usize>() + i + 1 - self.rows.len()
    }
}

/// A token whose log-probability is wanted at a row of the hidden states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pick {
    /// Row of `hidden`.
    pub row: u32,
    /// Token id, a row of the head.
    pub token: u32,
}

/// What [`Device::linear_logprob`](crate::Device::linear_logprob) found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogProbs {
    /// Natural logarithm of the probability of each pick.
    pub logprob: Vec<f32>,
    /// Entropy in nats of each row's distribution.
    pub entropy: Vec<f32>,
    /// The likeliest token of each row (the lowest id among equals).
    pub argmax: Vec<u32>,
}

/// The gradients that [`Device::linear_logprob`](crate::Device::linear_logprob) sends back.
pub struct LogProbGrad<'a, B> {
    /// Gradient of the objective by each pick's log-probability.
    pub logprob: &'a [f32],
    /// Gradient by each row's entropy; empty for none.
    pub entropy: &'a [f32],
    /// Overwritten with the gradient by the hidden states, [n, d].
    pub hidden: &'a Tensor<B>,
    /// Adds the gradient by the head, [V, d]; none for a frozen head.
    pub head: Option<&'a Tensor<B>>,
}

/// What an adapter adds to the columns `cols` of a linear layer: `scale * inner[:, inner] b^T`.
#[derive(Clone)]
pub struct LowRank<'a, B> {
    /// Columns of y.
    pub cols: Range<usize>,
    /// Columns of `inner`, as many as the rank.
    pub inner: Range<usize>,
    /// [cols, rank].
    pub b: &'a Tensor<B>,
    /// `alpha / rank`.
    pub scale: f32,
}

/// Settings of one AdamW step (Loshchilov and Hutter, 2019; the update of `torch.optim.AdamW`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate of this step.
    pub learning_rate: f32,
    /// Decay of the mean of gradients.
    pub beta1: f32,
    /// Decay of the mean of squared gradients.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Decoupled weight decay: the weight is first scaled by `1 - learning_rate * weight_decay`.
    pub weight_decay: f32,
    /// Steps done including this one, from 1.
    pub step: u32,
    /// Factor on the gradient (norm clipping).
    pub gradient_scale: f32,
}
