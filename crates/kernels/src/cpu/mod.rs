//! The CPU device: threads of the global rayon pool, instructions chosen at run time, products in f32 or bf16.

mod adapters;
mod attention;
mod gated;
mod lanes;
mod linear;
mod logprob;
mod norms;
mod packed;
mod product;
mod rows;

use std::rc::Rc;
use std::sync::Arc;

use rayon::prelude::*;

use self::lanes::AdamWStep;
use self::linear::{backward_operand, forward_operand, rows_as_lanes};
pub use self::packed::{FrozenWeight, PackedError, PackedWeights};
use self::product::{Frozen, Instructions, Kernels};
use self::rows::{CacheRows, CpuBuffer, Rows, Runs, deal};
use crate::check::{check_disjoint, expect_shape};
use crate::device::{Device, rows_of_parts, upload_decoded};
use crate::operands::{AdamW, Cached, Encoded, Heads, LogProbGrad, LogProbs, LowRank, Pick, Precision, Segment, Write};
use crate::tensor::Tensor;

type Cells = Tensor<CpuBuffer>;

/// Rows that one worker takes at a time in row-wise operations.
const GRAIN: usize = 16;

/// The CPU.
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    threads: usize,
    kernels: Kernels,
    cache: Precision,
}

impl Cpu {
    /// The CPU with this many threads, the calling one among them, products in f32. The pool belongs to the process:
    /// the first call sets it and later calls get what it set.
    pub fn new(threads: usize) -> Self {
        // An error says that the pool stands already, which is the documented case.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads.max(1)).use_current_thread().build_global();
        let kernels = Kernels { instructions: Instructions::best(), bf16: false };
        Self { threads: rayon::current_num_threads(), kernels, cache: Precision::Bf16 }
    }

    /// The same CPU with products in this precision.
    #[must_use]
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { kernels: Kernels { bf16: precision == Precision::Bf16, ..self.kernels }, ..self }
    }

    /// The same CPU with key-value caches in this precision; bf16 unless it is set.
    #[must_use]
    pub fn with_cache(self, cache: Precision) -> Self {
        Self { cache, ..self }
    }

    /// Precision of the products.
    pub fn precision(&self) -> Precision {
        if self.kernels.bf16 { Precision::Bf16 } else { Precision::F32 }
    }

    /// Whether products of bf16 are faster here than those of f32. Where not, they save memory and cost time.
    pub fn gains_by_bf16(&self) -> bool {
        self.kernels.instructions.gains_by_bf16()
    }

    /// Whether the processor has matrix units that products of this precision cannot use.
    pub fn leaves_matrix_units_idle(&self) -> bool {
        self.kernels.instructions == Instructions::Amx && !self.kernels.bf16
    }

    /// GFLOP/s that products of this precision could reach here: the innermost loop on all threads, its operands in the
    /// first-level cache; the best of ten readings, each of some milliseconds.
    pub fn measure_peak(&self) -> f64 {
        (0..10).map(|_| product::peak(self.kernels)).fold(0.0, f64::max)
    }

    /// Whether a trained weight of so many numbers is never packed as a whole for a product of so many rows.
    pub fn packs_by_parts(&self, numbers: usize, rows: usize) -> bool {
        product::packs_by_parts(if self.kernels.bf16 { numbers.div_ceil(2) } else { numbers }, rows)
    }

    /// Whether a product may decode a quantised weight of so many numbers as a whole, rather than by the parts that tasks read.
    pub fn decodes_at_once(&self, numbers: usize) -> bool {
        product::decodes_at_once(numbers)
    }

    /// Threads of the process's pool.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// The instructions that products use.
    pub fn instructions(&self) -> &'static str {
        match self.kernels {
            // AMX multiplies bf16 alone.
            Kernels { instructions: Instructions::Amx, bf16: false } => Instructions::Avx512Bf16.name(),
            Kernels { instructions, .. } => instructions.name(),
        }
    }

    /// Whether these are the least that every processor of this architecture has.
    pub fn has_only_baseline(&self) -> bool {
        self.kernels.instructions == Instructions::Baseline
    }

    /// Makes every device of this process use the instructions of this name rather than the best that the processor has. An error
    /// says which names there are here.
    pub fn choose_instructions(name: &str) -> Result<(), Vec<&'static str>> {
        let here = || Instructions::ALL.into_iter().filter(|set| set.available());
        match here().find(|set| set.name() == name) {
            Some(set) if set.choose() => Ok(()),
            _ => Err(here().map(Instructions::name).collect()),
        }
    }
}

/// Reads rows of a tensor, frozen or not, into slices of their own.
fn copy_rows(source: &Cells, row: impl Fn(usize) -> usize + Sync + Send, target: Rows) {
    if let Some(frozen) = source.buffer().frozen() {
        let width = frozen.shape().1;
        assert!(
            source.stride() == width && source.cols() == width && source.offset().is_multiple_of(width),
            "whole rows are read of a frozen weight"
        );
        let (first, count) = (source.offset() / width, source.rows());
        deal(target.rows, GRAIN, |rows| {
            for i in rows {
                assert!(row(i) < count, "row {} of {count}", row(i));
                // SAFETY: each row of the target has one writer.
                frozen.read_row(first + row(i), unsafe { target.row_mut(i) });
            }
        });
        return;
    }
    let source = Rows::of(source);
    deal(target.rows, GRAIN, |rows| {
        for i in rows {
            // SAFETY: each row of the target has one writer; the source is only read and does not overlap.
            unsafe { target.row_mut(i).copy_from_slice(source.row(row(i))) };
        }
    });
}

impl Device for Cpu {
    type Buffer = CpuBuffer;

    fn describe(&self) -> String {
        let precision = if self.kernels.bf16 { "bf16 products" } else { "f32" };
        format!("cpu, {} threads, {}, {precision}", self.threads, self.instructions())
    }

    fn zeros(&self, elements: usize) -> Rc<CpuBuffer> {
        Rc::new(CpuBuffer::zeros(elements))
    }

    fn write(&self, tensor: &Cells, values: &[f32]) {
        assert_eq!(values.len(), tensor.len(), "values for a [{}, {}] tensor", tensor.rows(), tensor.cols());
        let target = Rows::of(tensor);
        if tensor.is_empty() {
            return;
        }
        deal(target.rows, GRAIN, |rows| {
            for i in rows {
                // SAFETY: each row has one writer.
                unsafe { target.row_mut(i) }.copy_from_slice(&values[i * target.cols..][..target.cols]);
            }
        });
    }

    fn read(&self, tensor: &Cells) -> Vec<f32> {
        let mut values = vec![0.0; tensor.len()];
        let (rows, cols) = (tensor.rows(), tensor.cols());
        copy_rows(tensor, |i| i, Rows::over(&mut values, rows, cols));
        values
    }

    fn freeze(&self, weight: &Cells, parts: &[std::ops::Range<usize>]) {
        assert!(
            weight.offset() == 0 && weight.stride() == weight.cols(),
            "a weight to be frozen has a buffer of its own"
        );
        let ends = if parts.is_empty() { vec![weight.rows()] } else { parts.iter().map(|part| part.end).collect() };
        let pack = |values: &[f32]| Frozen::pack(self.kernels, values, weight.rows(), weight.cols(), ends);
        weight.buffer().freeze(pack);
    }

    fn upload_encoded(&self, cols: usize, parts: &[Encoded<'_>]) -> Cells {
        let ends = rows_of_parts(cols, parts).iter().map(|run| run.end).collect();
        match Frozen::keep(self.kernels, parts, cols, ends) {
            Some(frozen) => {
                let rows = frozen.shape().0;
                Tensor::new(Rc::new(CpuBuffer::of_frozen(Arc::new(frozen))), 0, rows, cols)
            }
            None => upload_decoded(self, cols, parts),
        }
    }

    fn fill(&self, tensor: &Cells, value: f32) {
        let target = Rows::of(tensor);
        let runs = Runs::of([target]);
        // SAFETY: each run has one writer.
        runs.deal(|i| unsafe { runs.run(i, target) }.fill(value));
    }

    fn copy(&self, source: &Cells, target: &Cells) {
        expect_shape("copy's target", target, source.rows(), source.cols());
        check_disjoint(target, &[source]);
        copy_rows(source, |i| i, Rows::of(target));
    }

    fn scale(&self, factor: f32, x: &Cells) {
        let x = Rows::of(x);
        let runs = Runs::of([x]);
        // SAFETY: each run has one writer.
        runs.deal(|i| lanes::scale(factor, unsafe { runs.run(i, x) }));
    }

    fn add(&self, x: &Cells, y: &Cells) {
        let one = x.rows() == 1;
        expect_shape("add's x", x, if one { 1 } else { y.rows() }, y.cols());
        check_disjoint(y, &[x]);
        let (x, y) = (Rows::of(x), Rows::of(y));
        deal(y.rows, GRAIN, |rows| {
            for i in rows {
                // SAFETY: each row of y has one writer; x is only read and does not overlap.
                unsafe { lanes::add(x.row(if one { 0 } else { i }), y.row_mut(i)) };
            }
        });
    }

    fn sum_rows(&self, x: &Cells, sum: &Cells) {
        expect_shape("sum_rows' sum", sum, 1, x.cols());
        check_disjoint(sum, &[x]);
        let (x, sum) = (Rows::of(x), Rows::of(sum));
        // Columns are dealt, so that each is added in the order of the rows, whatever the number of threads.
        deal(x.cols, 64, |cols| {
            // SAFETY: these columns of the sum have one writer; x is only read and does not overlap.
            let sum = unsafe { std::slice::from_raw_parts_mut(sum.at(0, cols.start), cols.len()) };
            for i in 0..x.rows {
                // SAFETY: as above.
                lanes::add(&unsafe { x.row(i) }[cols.clone()], sum);
            }
        });
    }

    fn gather_rows(&self, source: &Cells, rows: &[u32], target: &Cells) {
        expect_shape("gather's target", target, rows.len(), source.cols());
        check_disjoint(target, &[source]);
        copy_rows(source, |i| rows[i] as usize, Rows::of(target));
    }

    fn scatter_rows(&self, source: &Cells, rows: &[u32], target: &Cells) {
        expect_shape("scatter's source", source, rows.len(), target.cols());
        check_disjoint(target, &[source]);
        let (source, target) = (Rows::of(source), CacheRows::of(target));
        for (i, &row) in rows.iter().enumerate() {
            // SAFETY: one thread.
            unsafe { target.write(row as usize, source.row(i)) };
        }
    }

    fn scatter_add_rows(&self, source: &Cells, rows: &[u32], target: &Cells) {
        expect_shape("scatter's source", source, rows.len(), target.cols());
        check_disjoint(target, &[source]);
        let (source, target) = (Rows::of(source), Rows::of(target));
        for (i, &row) in rows.iter().enumerate() {
            // SAFETY: one thread.
            unsafe { lanes::add(source.row(i), target.row_mut(row as usize)) };
        }
    }

    fn rms_norm(&self, x: &Cells, weight: &Cells, epsilon: f32, y: &Cells, inv_rms: &Cells) {
        norms::forward(x, weight, epsilon, y, inv_rms);
    }

    fn rms_norm_again(&self, x: &Cells, weight: &Cells, inv_rms: &Cells, y: &Cells) {
        norms::again(x, weight, inv_rms, y);
    }

    fn rms_norm_backward(
        &self,
        x: &Cells,
        weight: &Cells,
        inv_rms: &Cells,
        dy: &Cells,
        dx: &Cells,
        dweight: Option<&Cells>,
    ) {
        norms::backward(x, weight, inv_rms, dy, dx, dweight);
    }

    fn rms_norm_heads(&self, x: &Cells, weight: &Cells, epsilon: f32, y: &Cells, inv_rms: &Cells) {
        norms::heads(x, weight, epsilon, y, inv_rms);
    }

    fn rms_norm_heads_backward(&self, x: &Cells, weight: &Cells, inv_rms: &Cells, d: &Cells, dweight: Option<&Cells>) {
        norms::heads_backward(x, weight, inv_rms, d, dweight);
    }

    fn linear(&self, x: &Cells, weight: &Cells, scale: f32, write: Write, y: &Cells) {
        expect_shape("linear's weight", weight, y.cols(), x.cols());
        expect_shape("linear's y", y, x.rows(), weight.rows());
        check_disjoint(y, &[x, weight]);
        let left = rows_as_lanes(Rows::of(x));
        self.product((x.rows(), x.cols()), left, forward_operand(weight), scale, write, Rows::of(y));
    }

    fn linear_adapted(
        &self,
        x: &Cells,
        weight: &Cells,
        from: Option<&Cells>,
        a: Option<&Cells>,
        inner: &Cells,
        pieces: &[LowRank<'_, CpuBuffer>],
        y: &Cells,
    ) {
        linear::adapted(self, x, weight, from, a, inner, pieces, y)
    }

    fn linear_adapted_backward_input(
        &self,
        dy: &Cells,
        weight: &Cells,
        pieces: &[LowRank<'_, CpuBuffer>],
        dinner: &Cells,
        a: &Cells,
        dx: &Cells,
    ) {
        linear::adapted_backward_input(self, dy, weight, pieces, dinner, a, dx)
    }

    fn linear_backward_input(&self, dy: &Cells, weight: &Cells, scale: f32, write: Write, dx: &Cells) {
        expect_shape("linear's weight", weight, dy.cols(), dx.cols());
        expect_shape("linear's dx", dx, dy.rows(), weight.cols());
        check_disjoint(dx, &[dy, weight]);
        let left = rows_as_lanes(Rows::of(dy));
        self.product((dy.rows(), dy.cols()), left, backward_operand(weight), scale, write, Rows::of(dx));
    }

    fn linear_backward_weight(&self, dy: &Cells, x: &Cells, scale: f32, dweight: &Cells) {
        expect_shape("linear's dweight", dweight, dy.cols(), x.cols());
        expect_shape("linear's dy", dy, x.rows(), dy.cols());
        check_disjoint(dweight, &[dy, x]);
        linear::backward_weight(self, dy, x, scale, dweight);
    }

    fn rope(&self, x: &Cells, dim: usize, positions: &[u32], cos: &Cells, sin: &Cells, inverse: bool) {
        assert_eq!(positions.len(), x.rows(), "rope's positions");
        assert_eq!(x.cols() % dim, 0, "rope's columns are whole heads");
        assert_eq!((cos.cols(), sin.cols()), (dim / 2, dim / 2), "rope's table");
        check_disjoint(x, &[cos, sin]);
        let (x, cos, sin) = (Rows::of(x), Rows::of(cos), Rows::of(sin));
        let sign = if inverse { -1.0 } else { 1.0 };
        deal(x.rows, GRAIN, |rows| {
            for i in rows {
                let position = positions[i] as usize;
                // SAFETY: each row of x has one writer; the table is only read and does not overlap.
                unsafe { lanes::rope(x.row_mut(i), dim, cos.row(position), sin.row(position), sign) };
            }
        });
    }

    fn attention(&self, qkv: &Cells, segments: &[Segment], heads: Heads, out: &Cells, log_sum: &Cells) {
        check_attention(qkv, segments, heads, out, log_sum);
        check_disjoint(out, &[qkv, log_sum]);
        attention::forward(self.kernels, Rows::of(qkv), segments, heads, Rows::of(out), Rows::of(log_sum));
    }

    fn attention_backward(
        &self,
        qkv: &Cells,
        out: &Cells,
        log_sum: &Cells,
        dout: &Cells,
        segments: &[Segment],
        heads: Heads,
        dqkv: &Cells,
    ) {
        check_attention(qkv, segments, heads, out, log_sum);
        expect_shape("attention's dout", dout, out.rows(), out.cols());
        expect_shape("attention's dqkv", dqkv, qkv.rows(), qkv.cols());
        check_disjoint(dqkv, &[qkv, out, log_sum, dout]);
        self.fill(dqkv, 0.0);
        let [qkv, out, log_sum, dout, dqkv] = [qkv, out, log_sum, dout, dqkv].map(Rows::of);
        let backward = attention::Backward { kernels: self.kernels, heads, qkv, out, log_sum, dout, dqkv };
        attention::backward(backward, segments);
    }

    fn cache(&self, elements: usize) -> Rc<CpuBuffer> {
        match self.cache {
            Precision::F32 => self.zeros(elements),
            Precision::Bf16 => Rc::new(CpuBuffer::cache(elements)),
        }
    }

    fn attention_cached(&self, q: &Cells, cache: &Cells, runs: &[Cached], heads: Heads, out: &Cells) {
        expect_shape("attention's q", q, out.rows(), heads.query_width());
        expect_shape("attention's out", out, q.rows(), heads.query_width());
        assert_eq!(cache.cols(), 2 * heads.kv_width(), "a cache's columns");
        let within = |run: &Cached| {
            !run.rows.is_empty()
                && run.rows.end <= q.rows()
                && run.seen.iter().all(|seen| seen.end <= cache.rows())
                && run.seen.iter().map(std::ops::Range::len).sum::<usize>() >= run.rows.len()
        };
        assert!(runs.iter().all(within), "runs are queries, each of which sees rows of the cache");
        assert!(runs.is_sorted_by(|a, b| a.rows.end <= b.rows.start), "runs come one after the other");
        check_disjoint(out, &[q, cache]);
        attention::cached(Rows::of(q), CacheRows::of(cache), runs, heads, Rows::of(out));
    }

    fn swiglu(&self, gate_up: &Cells, out: &Cells) {
        gated::forward(gate_up, out, lanes::swiglu);
    }

    fn swiglu_backward(&self, gate_up: &Cells, dout: &Cells, dgate_up: &Cells) {
        gated::backward(gate_up, dout, dgate_up, lanes::swiglu_backward);
    }

    fn geglu(&self, gate_up: &Cells, out: &Cells) {
        gated::forward(gate_up, out, lanes::geglu);
    }

    fn geglu_backward(&self, gate_up: &Cells, dout: &Cells, dgate_up: &Cells) {
        gated::backward(gate_up, dout, dgate_up, lanes::geglu_backward);
    }

    fn linear_logprob(
        &self,
        hidden: &Cells,
        head: &Cells,
        picks: &[Pick],
        logits: &Cells,
        grad: Option<LogProbGrad<'_, CpuBuffer>>,
    ) -> LogProbs {
        logprob::logprob(self, hidden, head, picks, logits, grad)
    }

    fn linear_argmax(&self, hidden: &Cells, head: &Cells, logits: &Cells) -> Vec<u32> {
        logprob::argmax(self, hidden, head, logits)
    }

    fn linear_kl(&self, p: (&Cells, &Cells), q: (&Cells, &Cells), logits: (&Cells, &Cells)) -> Vec<f32> {
        logprob::kl(self, p, q, logits)
    }

    fn dropout(&self, x: &Cells, keys: &[u64], rate: f32, write: Write, y: &Cells) {
        adapters::dropout(x, keys, rate, write, y)
    }

    fn adapted_row_norms(&self, weight: &Cells, a: &Cells, b: &Cells, scale: f32, norms: &Cells) {
        adapters::row_norms(weight, a, b, scale, norms)
    }

    fn scale_columns(&self, x: &Cells, numerators: &Cells, denominators: &Cells, from: Option<&Cells>, y: &Cells) {
        adapters::scale_columns(x, numerators, denominators, from, y)
    }

    fn column_dots(&self, x: &Cells, y: &Cells, denominators: &Cells, dots: &Cells) {
        adapters::column_dots(x, y, denominators, dots)
    }

    fn sum_squares(&self, tensor: &Cells) -> f64 {
        let rows = Rows::of(tensor);
        let runs = Runs::of([rows]);
        // SAFETY: only read.
        let of_run = |i| lanes::sum_squares(unsafe { runs.run(i, rows) });
        if runs.count() == 1 {
            return of_run(0);
        }
        // Collected and added in order: the same for any number of threads.
        let sums: Vec<f64> = (0..runs.count()).into_par_iter().map(of_run).collect();
        sums.iter().sum()
    }

    fn adamw(&self, s: &AdamW, weight: &Cells, gradient: &Cells, mean: &Cells, square: &Cells) {
        for (what, tensor) in [("gradient", gradient), ("mean", mean), ("square", square)] {
            expect_shape(&format!("adamw's {what}"), tensor, weight.rows(), weight.cols());
        }
        check_disjoint(weight, &[gradient, mean, square]);
        check_disjoint(mean, &[gradient, square]);
        check_disjoint(square, &[gradient]);
        // Bias corrections in f64: at step 1 they are differences of nearly equal numbers.
        let correction1 = 1.0 - f64::from(s.beta1).powi(s.step as i32);
        let correction2 = 1.0 - f64::from(s.beta2).powi(s.step as i32);
        let step = AdamWStep {
            gradient_scale: s.gradient_scale,
            keep: 1.0 - s.learning_rate * s.weight_decay,
            beta1: s.beta1,
            beta2: s.beta2,
            step_size: (f64::from(s.learning_rate) / correction1) as f32,
            inverse_root_correction2: (1.0 / correction2.sqrt()) as f32,
            epsilon: s.epsilon,
        };
        let tensors = [weight, gradient, mean, square].map(Rows::of);
        let runs = Runs::of(tensors);
        runs.deal(|i| {
            // SAFETY: each run has one writer, and the four tensors do not overlap.
            let [w, g, m, v] = tensors.map(|tensor| unsafe { runs.run(i, tensor) });
            lanes::adamw(step, w, g, m, v);
        });
    }
}

fn check_attention(qkv: &Cells, segments: &[Segment], heads: Heads, out: &Cells, log_sum: &Cells) {
    assert_eq!(qkv.cols(), heads.row_width(), "attention's qkv columns");
    expect_shape("attention's out", out, qkv.rows(), heads.query_width());
    expect_shape("attention's log_sum", log_sum, qkv.rows(), heads.query);
    let within = |rows: &std::ops::Range<usize>| !rows.is_empty() && rows.end <= qkv.rows();
    assert!(
        segments.iter().all(|s| within(&s.rows)
            && s.context.iter().all(|c| within(c) && (c.end <= s.rows.start || c.start >= s.rows.end))),
        "segments and their contexts are runs of rows of qkv, apart from each other"
    );
}
