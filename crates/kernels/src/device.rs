//! The trait that names every operation.
//!
//! Shapes: `n` tokens of a packed micro-batch, `d` hidden width, `V` vocabulary. Matrices are row-major [rows, cols];
//! a weight is [out, in] as in PyTorch's `nn.Linear`. "Adds" means `+=`; everything else overwrites.
//! A shape that does not fit, or an output that overlaps an input, is a fault of the caller and panics.

use std::ops::Range;
use std::rc::Rc;

use crate::dropout::Dropout;
use crate::operands::{AdamW, Cached, Encoded, Heads, LogProbGrad, LogProbs, LowRank, Pick, Segment, Write};
use crate::tensor::Tensor;

/// A device that stores tensors and carries out the operations of a decoder.
pub trait Device {
    /// Storage of tensors; opaque to all but the device.
    type Buffer;

    /// What it is, for people: "cpu, 2 threads, avx512".
    fn describe(&self) -> String;

    /// A buffer of zeros.
    fn zeros(&self, elements: usize) -> Rc<Self::Buffer>;

    /// A new tensor with these values, row-major.
    fn upload(&self, rows: usize, cols: usize, values: &[f32]) -> Tensor<Self::Buffer> {
        let tensor = Tensor::new(self.zeros(rows * cols), 0, rows, cols);
        self.write(&tensor, values);
        tensor
    }

    /// Overwrites a tensor.
    fn write(&self, tensor: &Tensor<Self::Buffer>, values: &[f32]);

    /// The values, row-major. Only this and the operations that return numbers ([`Device::linear_logprob`],
    /// [`Device::linear_kl`], [`Device::sum_squares`]) wait for the device.
    fn read(&self, tensor: &Tensor<Self::Buffer>) -> Vec<f32>;

    /// Says that a weight [out, in], alone in its buffer, will not be written again: a device may keep it in the order
    /// and the precision of its products. It is then read by the linear operations as a whole, and by rows through
    /// [`Device::gather_rows`], [`Device::copy`] and [`Device::read`], in that precision. `parts`: the runs of rows
    /// that adapters name in [`LowRank::cols`], one after the other; none for one part.
    fn freeze(&self, weight: &Tensor<Self::Buffer>, parts: &[Range<usize>]) {
        let _ = (weight, parts);
    }

    /// A frozen weight (see [`Device::freeze`]) of rows of `cols` values, from its parts as a file holds them, one after the
    /// other. A device may keep them as they are; the values are those that [`Encoding::decode`](crate::Encoding::decode) gives.
    fn upload_encoded(&self, cols: usize, parts: &[Encoded<'_>]) -> Tensor<Self::Buffer> {
        upload_decoded(self, cols, parts)
    }

    /// Sets every element.
    fn fill(&self, tensor: &Tensor<Self::Buffer>, value: f32);

    /// `target = source`.
    fn copy(&self, source: &Tensor<Self::Buffer>, target: &Tensor<Self::Buffer>);

    /// `x *= factor`.
    fn scale(&self, factor: f32, x: &Tensor<Self::Buffer>);

    /// `y += x`. x: as y, or [1, cols], which is added to every row: a bias.
    fn add(&self, x: &Tensor<Self::Buffer>, y: &Tensor<Self::Buffer>);

    /// `sum += sum_i x[i]`, in order of `i`. sum: [1, cols]. Backward of adding one row to all.
    fn sum_rows(&self, x: &Tensor<Self::Buffer>, sum: &Tensor<Self::Buffer>);

    /// `target[i] = source[rows[i]]`. With an embedding table and token ids this is the embedding.
    fn gather_rows(&self, source: &Tensor<Self::Buffer>, rows: &[u32], target: &Tensor<Self::Buffer>);

    /// `target[rows[i]] = source[i]`; `rows` are distinct.
    fn scatter_rows(&self, source: &Tensor<Self::Buffer>, rows: &[u32], target: &Tensor<Self::Buffer>);

    /// `target[rows[i]] += source[i]`, in order of `i`; rows may repeat. Backward of [`Device::gather_rows`].
    fn scatter_add_rows(&self, source: &Tensor<Self::Buffer>, rows: &[u32], target: &Tensor<Self::Buffer>);

    /// RMSNorm: `inv_rms[i] = 1 / sqrt(mean(x[i]^2) + epsilon)`, `y[i] = x[i] * inv_rms[i] * weight`.
    /// x, y: [n, d]; weight: [1, d]; inv_rms: [n, 1].
    fn rms_norm(
        &self,
        x: &Tensor<Self::Buffer>,
        weight: &Tensor<Self::Buffer>,
        epsilon: f32,
        y: &Tensor<Self::Buffer>,
        inv_rms: &Tensor<Self::Buffer>,
    );

    /// `y[i] = x[i] * inv_rms[i] * weight`: the norm again from what the forward kept, for a backward that recomputes.
    fn rms_norm_again(
        &self,
        x: &Tensor<Self::Buffer>,
        weight: &Tensor<Self::Buffer>,
        inv_rms: &Tensor<Self::Buffer>,
        y: &Tensor<Self::Buffer>,
    );

    /// Backward of RMSNorm. Adds to `dx`, and to `dweight` where the weight is trained:
    /// `dx = inv * (dy*w - x * inv^2 * mean(dy*w*x))`, `dweight = sum_i dy[i] * x[i] * inv[i]`.
    fn rms_norm_backward(
        &self,
        x: &Tensor<Self::Buffer>,
        weight: &Tensor<Self::Buffer>,
        inv_rms: &Tensor<Self::Buffer>,
        dy: &Tensor<Self::Buffer>,
        dx: &Tensor<Self::Buffer>,
        dweight: Option<&Tensor<Self::Buffer>>,
    );

    /// RMSNorm of each head by itself, as [`Device::rms_norm`] has it for rows.
    /// x, y: [n, heads * dim]; weight: [1, dim]; inv_rms: [n, heads].
    fn rms_norm_heads(
        &self,
        x: &Tensor<Self::Buffer>,
        weight: &Tensor<Self::Buffer>,
        epsilon: f32,
        y: &Tensor<Self::Buffer>,
        inv_rms: &Tensor<Self::Buffer>,
    );

    /// Backward of [`Device::rms_norm_heads`]: turns `d` in place from the gradient by y into that by x. Adds to `dweight`
    /// where the weight is trained.
    fn rms_norm_heads_backward(
        &self,
        x: &Tensor<Self::Buffer>,
        weight: &Tensor<Self::Buffer>,
        inv_rms: &Tensor<Self::Buffer>,
        d: &Tensor<Self::Buffer>,
        dweight: Option<&Tensor<Self::Buffer>>,
    );

    /// `y (+)= scale * x weight^T`. x: [n, in], weight: [out, in], y: [n, out].
    fn linear(
        &self,
        x: &Tensor<Self::Buffer>,
        weight: &Tensor<Self::Buffer>,
        scale: f32,
        write: Write,
        y: &Tensor<Self::Buffer>,
    );

    /// `y = from + x weight^T`, plus on the columns of each piece what its adapter adds. `from` none: from zero.
    /// x: [n, in], weight: [out, in], from and y: [n, out], apart from each other; inner: [n, ranks], which with `a`,
    /// [ranks, in], is set to `x a^T` before.
    fn linear_adapted(
        &self,
        x: &Tensor<Self::Buffer>,
        weight: &Tensor<Self::Buffer>,
        from: Option<&Tensor<Self::Buffer>>,
        a: Option<&Tensor<Self::Buffer>>,
        inner: &Tensor<Self::Buffer>,
        pieces: &[LowRank<'_, Self::Buffer>],
        y: &Tensor<Self::Buffer>,
    ) {
        linear_adapted_by_parts(self, x, weight, from, a, inner, pieces, y);
    }

    /// `dx = dy weight + dinner a`. dinner: [n, ranks], its columns of each piece set to `scale * dy b` of the piece's columns
    /// before; a: [ranks, in].
    fn linear_adapted_backward_input(
        &self,
        dy: &Tensor<Self::Buffer>,
        weight: &Tensor<Self::Buffer>,
        pieces: &[LowRank<'_, Self::Buffer>],
        dinner: &Tensor<Self::Buffer>,
        a: &Tensor<Self::Buffer>,
        dx: &Tensor<Self::Buffer>,
    ) {
        for piece in pieces {
            let (dy, dinner) = (dy.col_range(piece.cols.clone()), dinner.col_range(piece.inner.clone()));
            self.linear_backward_input(&dy, piece.b, piece.scale, Write::Set, &dinner);
        }
        self.linear_backward_input(dy, weight, 1.0, Write::Set, dx);
        self.linear_backward_input(dinner, a, 1.0, Write::Add, dx);
    }

    /// `dx (+)= scale * dy weight`.
    fn linear_backward_input(
        &self,
        dy: &Tensor<Self::Buffer>,
        weight: &Tensor<Self::Buffer>,
        scale: f32,
        write: Write,
        dx: &Tensor<Self::Buffer>,
    );

    /// `dweight += scale * dy^T x`. Never called for a frozen weight.
    fn linear_backward_weight(
        &self,
        dy: &Tensor<Self::Buffer>,
        x: &Tensor<Self::Buffer>,
        scale: f32,
        dweight: &Tensor<Self::Buffer>,
    );

    /// Rotary embedding in place (Su et al., 2021; the rotate-half layout of HF): with c, s the table's row at the
    /// token's position and (a, b) the halves of a head, `(a*c - b*s, b*c + a*s)`; `inverse` turns back, which is the
    /// backward. x: [n, heads * dim]; cos, sin: [positions, dim / 2].
    fn rope(
        &self,
        x: &Tensor<Self::Buffer>,
        dim: usize,
        positions: &[u32],
        cos: &Tensor<Self::Buffer>,
        sin: &Tensor<Self::Buffer>,
        inverse: bool,
    );

    /// Causal attention of each segment over its context and itself, `softmax(scale * q k^T) v`; query head `h`
    /// reads key-value head `h / (query / kv)`; with a window, only the last rows of what it would see.
    /// qkv: [n, heads.row_width()]; out: [n, query * dim];
    /// log_sum: [n, query], the logarithm of the softmax's denominator. Rows of no segment are left as they are.
    fn attention(
        &self,
        qkv: &Tensor<Self::Buffer>,
        segments: &[Segment],
        heads: Heads,
        out: &Tensor<Self::Buffer>,
        log_sum: &Tensor<Self::Buffer>,
    );

    /// Backward of attention: overwrites `dqkv`. `out` and `log_sum` are the forward's.
    fn attention_backward(
        &self,
        qkv: &Tensor<Self::Buffer>,
        out: &Tensor<Self::Buffer>,
        log_sum: &Tensor<Self::Buffer>,
        dout: &Tensor<Self::Buffer>,
        segments: &[Segment],
        heads: Heads,
        dqkv: &Tensor<Self::Buffer>,
    );

    /// A buffer of zeros for keys and values. A device may keep them rounded to bf16. It is written by
    /// [`Device::scatter_rows`] and read by [`Device::attention_cached`], and by nothing else.
    fn cache(&self, elements: usize) -> Rc<Self::Buffer> {
        self.zeros(elements)
    }

    /// Attention of queries over cached keys and values, heads as in [`Device::attention`]. q: [n, query * dim];
    /// cache: [rows, 2 * kv * dim], keys then values; out: [n, query * dim]. Rows of no run are left as they are. What a
    /// query gets depends on the rows it sees and their order, not on runs nor on other queries.
    fn attention_cached(
        &self,
        q: &Tensor<Self::Buffer>,
        cache: &Tensor<Self::Buffer>,
        runs: &[Cached],
        heads: Heads,
        out: &Tensor<Self::Buffer>,
    );

    /// SwiGLU (Shazeer, 2020): `out = silu(gate) * up`. gate_up: [n, 2f], gate first; out: [n, f].
    fn swiglu(&self, gate_up: &Tensor<Self::Buffer>, out: &Tensor<Self::Buffer>);

    /// Backward of SwiGLU: overwrites `dgate_up`.
    fn swiglu_backward(
        &self,
        gate_up: &Tensor<Self::Buffer>,
        dout: &Tensor<Self::Buffer>,
        dgate_up: &Tensor<Self::Buffer>,
    );

    /// The gated layer of Gemma (Shazeer, 2020, with the tanh form of GELU, Hendrycks and Gimpel, 2016):
    /// `out = gelu(gate) * up`, `gelu(x) = x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))`. Shapes as for
    /// [`Device::swiglu`].
    fn geglu(&self, gate_up: &Tensor<Self::Buffer>, out: &Tensor<Self::Buffer>);

    /// Backward of [`Device::geglu`]: overwrites `dgate_up`.
    fn geglu_backward(
        &self,
        gate_up: &Tensor<Self::Buffer>,
        dout: &Tensor<Self::Buffer>,
        dgate_up: &Tensor<Self::Buffer>,
    );

    /// The log-probability of each pick under `softmax(hidden head^T)`, with each row's entropy and likeliest token;
    /// where `grad` is given, also the gradients in the same pass, by
    /// `dz = sum_k g_k (onehot(token_k) - p) - e * p (log p + entropy)` with g the gradient by the log-probability and
    /// e by the entropy. Cross-entropy, preference and policy losses and choice scoring are its users.
    ///
    /// hidden: [n, d]; head: [V, d]; picks ascend by row. `logits`: scratch [chunk, V]; only so many rows of logits
    /// exist at a time.
    fn linear_logprob(
        &self,
        hidden: &Tensor<Self::Buffer>,
        head: &Tensor<Self::Buffer>,
        picks: &[Pick],
        logits: &Tensor<Self::Buffer>,
        grad: Option<LogProbGrad<'_, Self::Buffer>>,
    ) -> LogProbs;

    /// The likeliest token of each row under `hidden head^T` (the lowest id among equals). `logits`: scratch [chunk, V].
    fn linear_argmax(
        &self,
        hidden: &Tensor<Self::Buffer>,
        head: &Tensor<Self::Buffer>,
        logits: &Tensor<Self::Buffer>,
    ) -> Vec<u32> {
        self.linear_logprob(hidden, head, &[], logits, None).argmax
    }

    /// KL(p || q) in nats for each row, p = softmax(hidden_p head_p^T), q alike.
    /// `logits_p`, `logits_q`: scratch [chunk, V], of the same number of rows.
    fn linear_kl(
        &self,
        p: (&Tensor<Self::Buffer>, &Tensor<Self::Buffer>),
        q: (&Tensor<Self::Buffer>, &Tensor<Self::Buffer>),
        logits: (&Tensor<Self::Buffer>, &Tensor<Self::Buffer>),
    ) -> Vec<f32>;

    /// Inverted dropout (Srivastava et al., 2014): `y[i][j] (+)= x[i][j] / (1 - rate)` for the elements that are kept, 0 for
    /// the others, which are a function of `keys[i]` and j. With `Write::Add` on gradients it is its own backward.
    /// x, y: [n, d]; keys: n.
    fn dropout(&self, x: &Tensor<Self::Buffer>, keys: &[u64], rate: f32, write: Write, y: &Tensor<Self::Buffer>) {
        let (dropout, cols) = (Dropout::new(rate), x.cols());
        let kept = self.read(x).into_iter().enumerate();
        let kept = kept.map(|(k, x)| x * dropout.factor(keys[k / cols], (k % cols) as u32));
        let before = if write == Write::Add { self.read(y) } else { vec![0.0; y.len()] };
        self.write(y, &kept.zip(before).map(|(x, y)| y + x).collect::<Vec<f32>>());
    }

    /// Norms of the rows of an adapted weight: `norms[j] = |weight[j] + scale * sum_r b[j][r] a[r]|`. weight: [out, in],
    /// frozen or not, whole rows; a: [rank, in]; b: [out, rank]; norms: [out, 1].
    fn adapted_row_norms(
        &self,
        weight: &Tensor<Self::Buffer>,
        a: &Tensor<Self::Buffer>,
        b: &Tensor<Self::Buffer>,
        scale: f32,
        norms: &Tensor<Self::Buffer>,
    ) {
        let (w, a_values, b_values, rank) = (self.read(weight), self.read(a), self.read(b), a.rows());
        let row = |(row, b): (&[f32], &[f32])| {
            let mut row = row.to_vec();
            for (a, b) in a_values.chunks(a.cols()).zip(b) {
                row.iter_mut().zip(a).for_each(|(w, a)| *w += scale * b * a);
            }
            row.iter().map(|w| f64::from(w * w)).sum::<f64>().sqrt() as f32
        };
        let rows = w.chunks(weight.cols()).zip(b_values.chunks(rank.max(1)));
        self.write(norms, &rows.map(row).collect::<Vec<f32>>());
    }

    /// `y[i][j] = from[i][j] + x[i][j] * numerators[j] / denominators[j]`; `from` none: from zero. x, from, y: [n, d];
    /// numerators, denominators: [d, 1].
    fn scale_columns(
        &self,
        x: &Tensor<Self::Buffer>,
        numerators: &Tensor<Self::Buffer>,
        denominators: &Tensor<Self::Buffer>,
        from: Option<&Tensor<Self::Buffer>>,
        y: &Tensor<Self::Buffer>,
    ) {
        let (over, under, cols) = (self.read(numerators), self.read(denominators), x.cols());
        let from = from.map_or_else(|| vec![0.0; x.len()], |from| self.read(from));
        let scaled = self.read(x).into_iter().zip(from).enumerate();
        let scaled = scaled.map(|(k, (x, from))| from + x * (over[k % cols] / under[k % cols]));
        self.write(y, &scaled.collect::<Vec<f32>>());
    }

    /// `dots[j] += sum_i x[i][j] * y[i][j] / denominators[j]`: the gradient of [`Device::scale_columns`] by its numerators,
    /// where y is that by its result. x, y: [n, d]; denominators, dots: [d, 1].
    fn column_dots(
        &self,
        x: &Tensor<Self::Buffer>,
        y: &Tensor<Self::Buffer>,
        denominators: &Tensor<Self::Buffer>,
        dots: &Tensor<Self::Buffer>,
    ) {
        let (under, mut sums, cols) = (self.read(denominators), self.read(dots), x.cols());
        for (k, (x, y)) in self.read(x).into_iter().zip(self.read(y)).enumerate() {
            sums[k % cols] += x * y / under[k % cols];
        }
        self.write(dots, &sums);
    }

    /// The sum of squares, in f64.
    fn sum_squares(&self, tensor: &Tensor<Self::Buffer>) -> f64;

    /// One AdamW step in one pass; all four tensors have one shape.
    fn adamw(
        &self,
        settings: &AdamW,
        weight: &Tensor<Self::Buffer>,
        gradient: &Tensor<Self::Buffer>,
        mean: &Tensor<Self::Buffer>,
        square: &Tensor<Self::Buffer>,
    );
}

/// The runs of rows that encoded parts hold.
pub(crate) fn rows_of_parts(cols: usize, parts: &[Encoded<'_>]) -> Vec<Range<usize>> {
    let mut start = 0;
    let rows = |part: &Encoded<'_>| {
        let rows = part.bytes.len() / part.encoding.row_bytes(cols);
        start += rows;
        start - rows..start
    };
    parts.iter().map(rows).collect()
}

/// [`Device::upload_encoded`] by decoding.
pub(crate) fn upload_decoded<D: Device + ?Sized>(device: &D, cols: usize, parts: &[Encoded<'_>]) -> Tensor<D::Buffer> {
    let runs = rows_of_parts(cols, parts);
    let rows = runs.last().map_or(0, |run| run.end);
    let weight = Tensor::new(device.zeros(rows * cols), 0, rows, cols);
    for (part, run) in parts.iter().zip(&runs) {
        device.write(&weight.row_range(run.clone()), &part.encoding.decode(part.bytes, cols));
    }
    device.freeze(&weight, &runs);
    weight
}

/// [`Device::linear_adapted`] by the simpler operations.
pub(crate) fn linear_adapted_by_parts<D: Device + ?Sized>(
    device: &D,
    x: &Tensor<D::Buffer>,
    weight: &Tensor<D::Buffer>,
    from: Option<&Tensor<D::Buffer>>,
    a: Option<&Tensor<D::Buffer>>,
    inner: &Tensor<D::Buffer>,
    pieces: &[LowRank<'_, D::Buffer>],
    y: &Tensor<D::Buffer>,
) {
    if let Some(a) = a {
        device.linear(x, a, 1.0, Write::Set, inner);
    }
    if let Some(from) = from {
        device.copy(from, y);
    }
    device.linear(x, weight, 1.0, if from.is_some() { Write::Add } else { Write::Set }, y);
    for piece in pieces {
        let (inner, y) = (inner.col_range(piece.inner.clone()), y.col_range(piece.cols.clone()));
        device.linear(&inner, piece.b, piece.scale, Write::Add, &y);
    }
}
