//! A device that measures: how often each operation ran, how long it took, how much arithmetic it was.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use std::time::Instant;

use crate::device::Device;
use crate::operands::{AdamW, Cached, Encoded, Heads, LogProbGrad, LogProbs, LowRank, Pick, Segment, Write};
use crate::tensor::Tensor;

/// What was measured of one operation on one shape.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measured {
    /// Calls.
    pub calls: usize,
    /// Seconds in all.
    pub seconds: f64,
    /// Multiplications and additions of its matrix products in all; 0 for an operation without products.
    pub flops: f64,
    /// Bytes that its operands and results take, each counted once a call.
    pub bytes: f64,
}

/// An operation and the shape of its weight, where it has one: ("linear", "3072 x 576").
pub type Operation = (&'static str, String);

/// Measures the operations of another device. They run one after the other, so the seconds add up to the whole.
pub struct Profiled<D> {
    inner: D,
    log: RefCell<BTreeMap<Operation, Measured>>,
}

impl<D: Device> Profiled<D> {
    /// Measures `inner`.
    pub fn new(inner: D) -> Self {
        Self { inner, log: RefCell::new(BTreeMap::new()) }
    }

    /// What was measured since the last call.
    pub fn take(&self) -> BTreeMap<Operation, Measured> {
        self.log.take()
    }

    fn measure<R>(
        &self,
        operation: &'static str,
        shape: String,
        flops: f64,
        tensors: &[&Tensor<D::Buffer>],
        work: impl FnOnce(&D) -> R,
    ) -> R {
        let begun = Instant::now();
        let result = work(&self.inner);
        let seconds = begun.elapsed().as_secs_f64();
        let mut log = self.log.borrow_mut();
        let entry = log.entry((operation, shape)).or_default();
        entry.calls += 1;
        entry.seconds += seconds;
        entry.flops += flops;
        entry.bytes += 4.0 * tensors.iter().map(|tensor| tensor.len() as f64).sum::<f64>();
        result
    }
}

fn shape_of<B>(weight: &Tensor<B>) -> String {
    format!("{} x {}", weight.rows(), weight.cols())
}

fn product_flops(m: usize, n: usize, k: usize) -> f64 {
    2.0 * m as f64 * n as f64 * k as f64
}

/// One product of so many rows with each adapter's B, or its transpose.
fn low_rank_flops<B>(m: usize, pieces: &[LowRank<'_, B>]) -> f64 {
    pieces.iter().map(|piece| product_flops(m, piece.cols.len(), piece.inner.len())).sum()
}

/// Pairs of a query and a key that it sees.
fn seen_pairs(segments: &[Segment], heads: Heads) -> f64 {
    let most = heads.window.unwrap_or(usize::MAX);
    let pairs = |s: &Segment| {
        let context: usize = s.context.iter().map(Range::len).sum();
        (1..=s.rows.len()).map(|own| (context + own).min(most)).sum::<usize>()
    };
    segments.iter().map(pairs).sum::<usize>() as f64
}

impl<D: Device> Device for Profiled<D> {
    type Buffer = D::Buffer;

    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn zeros(&self, elements: usize) -> Rc<Self::Buffer> {
        self.inner.zeros(elements)
    }

    fn write(&self, tensor: &Tensor<Self::Buffer>, values: &[f32]) {
        self.measure("write", String::new(), 0.0, &[tensor], |d| d.write(tensor, values));
    }

    fn read(&self, tensor: &Tensor<Self::Buffer>) -> Vec<f32> {
        self.measure("read", String::new(), 0.0, &[tensor], |d| d.read(tensor))
    }

    fn freeze(&self, weight: &Tensor<Self::Buffer>, parts: &[Range<usize>]) {
        self.inner.freeze(weight, parts);
    }

    fn upload_encoded(&self, cols: usize, parts: &[Encoded<'_>]) -> Tensor<Self::Buffer> {
        self.inner.upload_encoded(cols, parts)
    }

    fn fill(&self, tensor: &Tensor<Self::Buffer>, value: f32) {
        self.measure("fill", String::new(), 0.0, &[tensor], |d| d.fill(tensor, value));
    }

    fn copy(&self, source: &Tensor<Self::Buffer>, target: &Tensor<Self::Buffer>) {
        self.measure("copy", String::new(), 0.0, &[source, target], |d| d.copy(source, target));
    }

    fn scale(&self, factor: f32, x: &Tensor<Self::Buffer>) {
        self.measure("scale", String::new(), 0.0, &[x, x], |d| d.scale(factor, x));
    }

    fn add(&self, x: &Tensor<Self::Buffer>, y: &Tensor<Self::Buffer>) {
        self.measure("add", String::new(), 0.0, &[x, y, y], |d| d.add(x, y));
    }

    fn sum_rows(&self, x: &Tensor<Self::Buffer>, sum: &Tensor<Self::Buffer>) {
        self.measure("sum_rows", String::new(), 0.0, &[x, sum], |d| d.sum_rows(x, sum));
    }

    fn gather_rows(&self, source: &Tensor<Self::Buffer>, rows: &[u32], target: &Tensor<Self::Buffer>) {
        self.measure("gather_rows", String::new(), 0.0, &[target, target], |d| d.gather_rows(source, rows, target));
    }

    fn scatter_rows(&self, source: &Tensor<Self::Buffer>, rows: &[u32], target: &Tensor<Self::Buffer>) {
        self.measure("scatter_rows", String::new(), 0.0, &[source, source], |d| d.scatter_rows(source, rows, target));
    }

    fn scatter_add_rows(&self, source: &Tensor<Self::Buffer>, rows: &[u32], target: &Tensor<Self::Buffer>) {
        let tensors = [source, source, source];
        self.measure("scatter_add_rows", String::new(), 0.0, &tensors, |d| d.scatter_add_rows(source, rows, target));
    }

    fn rms_norm(
        &self,
        x: &Tensor<Self::Buffer>,
        weight: &Tensor<Self::Buffer>,
        epsilon: f32,
        y: &Tensor<Self::Buffer>,
        inv_rms: &Tensor<Self::Buffer>,
    ) {
        self.measure("rms_norm", String::new(), 0.0, &[x, y], |d| d.rms_norm(x, weight, epsilon, y, inv_rms));
    }

    fn rms_norm_again(
        &self,
        x: &Tensor<Self::Buffer>,
        weight: &Tensor<Self::Buffer>,
        inv_rms: &Tensor<Self::Buffer>,
        y: &Tensor<Self::Buffer>,
    ) {
        self.measure("rms_norm", String::new(), 0.0, &[x, y], |d| d.rms_norm_again(x, weight, inv_rms, y));
    }

    fn rms_norm_backward(
        &self,
        x: &Tensor<Self::Buffer>,
        weight: &Tensor<Self::Buffer>,
        inv_rms: &Tensor<Self::Buffer>,
        dy: &Tensor<Self::Buffer>,
        dx: &Tensor<Self::Buffer>,
        dweight: Option<&Tensor<Self::Buffer>>,
    ) {
        self.measure("rms_norm backward", String::new(), 0.0, &[x, dy, dx, dx], |d| {
            d.rms_norm_backward(x, weight, inv_rms, dy, dx, dweight);
        });
    }

    fn rms_norm_heads(
        &self,
        x: &Tensor<Self::Buffer>,
        weight: &Tensor<Self::Buffer>,
        epsilon: f32,
        y: &Tensor<Self::Buffer>,
        inv_rms: &Tensor<Self::Buffer>,
    ) {
        let work = |d: &D| d.rms_norm_heads(x, weight, epsilon, y, inv_rms);
        self.measure("rms_norm of heads", String::new(), 0.0, &[x, y], work);
    }

    fn rms_norm_heads_backward(
        &self,
        x: &Tensor<Self::Buffer>,
        weight: &Tensor<Self::Buffer>,
        inv_rms: &Tensor<Self::Buffer>,
        d: &Tensor<Self::Buffer>,
        dweight: Option<&Tensor<Self::Buffer>>,
    ) {
        self.measure("rms_norm of heads backward", String::new(), 0.0, &[x, d, d], |inner| {
            inner.rms_norm_heads_backward(x, weight, inv_rms, d, dweight);
        });
    }

    fn linear(
        &self,
        x: &Tensor<Self::Buffer>,
        weight: &Tensor<Self::Buffer>,
        scale: f32,
        write: Write,
        y: &Tensor<Self::Buffer>,
    ) {
        let flops = product_flops(x.rows(), weight.rows(), weight.cols());
        let name = shape_of(weight);
        self.measure("linear", name, flops, &[x, weight, y], |d| d.linear(x, weight, scale, write, y));
    }

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
        let low = low_rank_flops(x.rows(), pieces) + a.map_or(0.0, |a| product_flops(x.rows(), a.rows(), a.cols()));
        let flops = product_flops(x.rows(), weight.rows(), weight.cols()) + low;
        self.measure("linear", shape_of(weight), flops, &[x, weight, y], |d| {
            d.linear_adapted(x, weight, from, a, inner, pieces, y);
        });
    }

    fn linear_adapted_backward_input(
        &self,
        dy: &Tensor<Self::Buffer>,
        weight: &Tensor<Self::Buffer>,
        pieces: &[LowRank<'_, Self::Buffer>],
        dinner: &Tensor<Self::Buffer>,
        a: &Tensor<Self::Buffer>,
        dx: &Tensor<Self::Buffer>,
    ) {
        let low = low_rank_flops(dy.rows(), pieces) + product_flops(dy.rows(), a.rows(), a.cols());
        let flops = product_flops(dy.rows(), weight.rows(), weight.cols()) + low;
        self.measure("linear backward input", shape_of(weight), flops, &[dy, weight, dx], |d| {
            d.linear_adapted_backward_input(dy, weight, pieces, dinner, a, dx);
        });
    }

    fn linear_backward_input(
        &self,
        dy: &Tensor<Self::Buffer>,
        weight: &Tensor<Self::Buffer>,
        scale: f32,
        write: Write,
        dx: &Tensor<Self::Buffer>,
    ) {
        let flops = product_flops(dy.rows(), weight.rows(), weight.cols());
        self.measure("linear backward input", shape_of(weight), flops, &[dy, weight, dx], |d| {
            d.linear_backward_input(dy, weight, scale, write, dx);
        });
    }

    fn linear_backward_weight(
        &self,
        dy: &Tensor<Self::Buffer>,
        x: &Tensor<Self::Buffer>,
        scale: f32,
        dweight: &Tensor<Self::Buffer>,
    ) {
        let flops = product_flops(dy.rows(), dweight.rows(), dweight.cols());
        self.measure("linear backward weight", shape_of(dweight), flops, &[dy, x, dweight], |d| {
            d.linear_backward_weight(dy, x, scale, dweight);
        });
    }

    fn rope(
        &self,
        x: &Tensor<Self::Buffer>,
        dim: usize,
        positions: &[u32],
        cos: &Tensor<Self::Buffer>,
        sin: &Tensor<Self::Buffer>,
        inverse: bool,
    ) {
        self.measure("rope", String::new(), 0.0, &[x, x], |d| d.rope(x, dim, positions, cos, sin, inverse));
    }

    fn attention(
        &self,
        qkv: &Tensor<Self::Buffer>,
        segments: &[Segment],
        heads: Heads,
        out: &Tensor<Self::Buffer>,
        log_sum: &Tensor<Self::Buffer>,
    ) {
        let flops = 4.0 * seen_pairs(segments, heads) * heads.query_width() as f64;
        self.measure("attention", String::new(), flops, &[qkv, out], |d| {
            d.attention(qkv, segments, heads, out, log_sum);
        });
    }

    fn attention_backward(
        &self,
        qkv: &Tensor<Self::Buffer>,
        out: &Tensor<Self::Buffer>,
        log_sum: &Tensor<Self::Buffer>,
        dout: &Tensor<Self::Buffer>,
        segments: &[Segment],
        heads: Heads,
        dqkv: &Tensor<Self::Buffer>,
    ) {
        let flops = 10.0 * seen_pairs(segments, heads) * heads.query_width() as f64;
        self.measure("attention backward", String::new(), flops, &[qkv, out, dout, dqkv], |d| {
            d.attention_backward(qkv, out, log_sum, dout, segments, heads, dqkv);
        });
    }

    fn cache(&self, elements: usize) -> Rc<Self::Buffer> {
        self.inner.cache(elements)
    }

    fn attention_cached(
        &self,
        q: &Tensor<Self::Buffer>,
        cache: &Tensor<Self::Buffer>,
        runs: &[Cached],
        heads: Heads,
        out: &Tensor<Self::Buffer>,
    ) {
        let seen: usize = runs
            .iter()
            .flat_map(|run| (0..run.rows.len()).map(|i| run.visible(i)))
            .map(|visible| visible - heads.beyond_window(visible))
            .sum();
        let flops = 4.0 * seen as f64 * heads.query_width() as f64;
        self.measure("attention cached", String::new(), flops, &[q, out], |d| {
            d.attention_cached(q, cache, runs, heads, out);
        });
    }

    fn swiglu(&self, gate_up: &Tensor<Self::Buffer>, out: &Tensor<Self::Buffer>) {
        self.measure("swiglu", String::new(), 0.0, &[gate_up, out], |d| d.swiglu(gate_up, out));
    }

    fn swiglu_backward(
        &self,
        gate_up: &Tensor<Self::Buffer>,
        dout: &Tensor<Self::Buffer>,
        dgate_up: &Tensor<Self::Buffer>,
    ) {
        let tensors = [gate_up, dout, dgate_up];
        self.measure("swiglu backward", String::new(), 0.0, &tensors, |d| d.swiglu_backward(gate_up, dout, dgate_up));
    }

    fn geglu(&self, gate_up: &Tensor<Self::Buffer>, out: &Tensor<Self::Buffer>) {
        self.measure("geglu", String::new(), 0.0, &[gate_up, out], |d| d.geglu(gate_up, out));
    }

    fn geglu_backward(
        &self,
        gate_up: &Tensor<Self::Buffer>,
        dout: &Tensor<Self::Buffer>,
        dgate_up: &Tensor<Self::Buffer>,
    ) {
        let tensors = [gate_up, dout, dgate_up];
        self.measure("geglu backward", String::new(), 0.0, &tensors, |d| d.geglu_backward(gate_up, dout, dgate_up));
    }

    fn linear_logprob(
        &self,
        hidden: &Tensor<Self::Buffer>,
        head: &Tensor<Self::Buffer>,
        picks: &[Pick],
        logits: &Tensor<Self::Buffer>,
        grad: Option<LogProbGrad<'_, Self::Buffer>>,
    ) -> LogProbs {
        let products = 1 + grad.as_ref().map_or(0, |g| 1 + usize::from(g.head.is_some()));
        let flops = products as f64 * product_flops(hidden.rows(), head.rows(), head.cols());
        self.measure("linear_logprob", shape_of(head), flops, &[hidden, head], |d| {
            d.linear_logprob(hidden, head, picks, logits, grad)
        })
    }

    fn linear_argmax(
        &self,
        hidden: &Tensor<Self::Buffer>,
        head: &Tensor<Self::Buffer>,
        logits: &Tensor<Self::Buffer>,
    ) -> Vec<u32> {
        let flops = product_flops(hidden.rows(), head.rows(), head.cols());
        self.measure("linear_argmax", shape_of(head), flops, &[hidden, head], |d| d.linear_argmax(hidden, head, logits))
    }

    fn linear_kl(
        &self,
        p: (&Tensor<Self::Buffer>, &Tensor<Self::Buffer>),
        q: (&Tensor<Self::Buffer>, &Tensor<Self::Buffer>),
        logits: (&Tensor<Self::Buffer>, &Tensor<Self::Buffer>),
    ) -> Vec<f32> {
        let flops = 2.0 * product_flops(p.0.rows(), p.1.rows(), p.1.cols());
        self.measure("linear_kl", shape_of(p.1), flops, &[p.0, p.1, q.0, q.1], |d| d.linear_kl(p, q, logits))
    }

    fn dropout(&self, x: &Tensor<Self::Buffer>, keys: &[u64], rate: f32, write: Write, y: &Tensor<Self::Buffer>) {
        self.measure("dropout", String::new(), 0.0, &[x, y], |d| d.dropout(x, keys, rate, write, y));
    }

    fn adapted_row_norms(
        &self,
        weight: &Tensor<Self::Buffer>,
        a: &Tensor<Self::Buffer>,
        b: &Tensor<Self::Buffer>,
        scale: f32,
        norms: &Tensor<Self::Buffer>,
    ) {
        let flops = product_flops(weight.rows(), weight.cols(), a.rows());
        self.measure("adapted_row_norms", shape_of(weight), flops, &[weight, a, b], |d| {
            d.adapted_row_norms(weight, a, b, scale, norms);
        });
    }

    fn scale_columns(
        &self,
        x: &Tensor<Self::Buffer>,
        numerators: &Tensor<Self::Buffer>,
        denominators: &Tensor<Self::Buffer>,
        from: Option<&Tensor<Self::Buffer>>,
        y: &Tensor<Self::Buffer>,
    ) {
        self.measure("scale_columns", String::new(), 0.0, &[x, y], |d| {
            d.scale_columns(x, numerators, denominators, from, y);
        });
    }

    fn column_dots(
        &self,
        x: &Tensor<Self::Buffer>,
        y: &Tensor<Self::Buffer>,
        denominators: &Tensor<Self::Buffer>,
        dots: &Tensor<Self::Buffer>,
    ) {
        self.measure("column_dots", String::new(), 0.0, &[x, y], |d| d.column_dots(x, y, denominators, dots));
    }

    fn sum_squares(&self, tensor: &Tensor<Self::Buffer>) -> f64 {
        self.measure("sum_squares", String::new(), 0.0, &[tensor], |d| d.sum_squares(tensor))
    }

    fn adamw(
        &self,
        settings: &AdamW,
        weight: &Tensor<Self::Buffer>,
        gradient: &Tensor<Self::Buffer>,
        mean: &Tensor<Self::Buffer>,
        square: &Tensor<Self::Buffer>,
    ) {
        let tensors = [weight, weight, gradient, mean, mean, square, square];
        self.measure("adamw", String::new(), 0.0, &tensors, |d| d.adamw(settings, weight, gradient, mean, square));
    }
}
