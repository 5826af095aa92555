//! The reference device: plain loops, written to be read against the formulas of `device.rs`.
//!
//! Generic over f32 and f64; in f64 its backward passes are checked against central differences.

use std::cell::RefCell;
use std::iter::Sum;
use std::ops::{AddAssign, MulAssign};
use std::rc::Rc;

use num_traits::Float;

use crate::device::Device;
use crate::dropout::Dropout;
use crate::operands::{AdamW, Cached, Heads, LogProbGrad, LogProbs, Pick, Segment, Write};
use crate::tensor::Tensor;

/// A number that the reference device computes with: `f32` or `f64`.
pub trait Real: Float + AddAssign + MulAssign + Sum + Send + Sync + 'static {
    /// From a double; rounds.
    fn of(value: f64) -> Self;
    /// To a double; exact.
    fn double(self) -> f64;
}

impl Real for f32 {
    fn of(value: f64) -> Self {
        value as f32
    }
    fn double(self) -> f64 {
        f64::from(self)
    }
}

impl Real for f64 {
    fn of(value: f64) -> Self {
        value
    }
    fn double(self) -> f64 {
        self
    }
}

/// Plain loops on one thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reference<T>(std::marker::PhantomData<T>);

type Matrix<T> = Tensor<RefCell<Vec<T>>>;

impl<T: Real> Reference<T> {
    /// A reference device.
    pub fn new() -> Self {
        Self(std::marker::PhantomData)
    }

    /// A tensor with these values in full precision, which `upload` would round to f32.
    pub fn upload_exact(&self, rows: usize, cols: usize, values: &[T]) -> Matrix<T> {
        let tensor = Tensor::new(self.zeros(rows * cols), 0, rows, cols);
        store(&tensor, values);
        tensor
    }

    /// The values in full precision.
    pub fn read_exact(&self, tensor: &Matrix<T>) -> Vec<T> {
        load(tensor)
    }
}

fn load<T: Real>(tensor: &Matrix<T>) -> Vec<T> {
    let buffer = tensor.buffer().borrow();
    (0..tensor.rows()).flat_map(|i| buffer[tensor.offset() + i * tensor.stride()..][..tensor.cols()].to_vec()).collect()
}

fn store<T: Real>(tensor: &Matrix<T>, values: &[T]) {
    assert_eq!(values.len(), tensor.len(), "values for a {}x{} tensor", tensor.rows(), tensor.cols());
    let mut buffer = tensor.buffer().borrow_mut();
    for (i, row) in values.chunks(tensor.cols().max(1)).enumerate() {
        buffer[tensor.offset() + i * tensor.stride()..][..tensor.cols()].copy_from_slice(row);
    }
}

fn update<T: Real>(tensor: &Matrix<T>, write: Write, values: &[T]) {
    match write {
        Write::Set => store(tensor, values),
        Write::Add => {
            let sums: Vec<T> = load(tensor).iter().zip(values).map(|(&a, &b)| a + b).collect();
            store(tensor, &sums);
        }
    }
}

fn sigmoid<T: Real>(x: T) -> T {
    T::one() / (T::one() + (-x).exp())
}

/// GELU in its tanh form, and its derivative.
fn gelu<T: Real>(x: T) -> (T, T) {
    let (root, cube) = (T::of((2.0 / std::f64::consts::PI).sqrt()), T::of(0.044715));
    let (half, one) = (T::of(0.5), T::one());
    let t = (root * (x + cube * x * x * x)).tanh();
    let slope = root * (one + T::of(3.0) * cube * x * x);
    (half * x * (one + t), half * (one + t) + half * x * (one - t * t) * slope)
}

/// The rows that a segment's row sees, in order: the last of the context and itself up to that row.
fn seen(segment: &Segment, row: usize, heads: Heads) -> impl Iterator<Item = usize> + '_ {
    let all = segment.context.iter().map(std::ops::Range::len).sum::<usize>() + row + 1 - segment.rows.start;
    segment.context.iter().cloned().flatten().chain(segment.rows.start..=row).skip(heads.beyond_window(all))
}

/// Log-softmax of each row of `hidden head^T`.
fn log_softmax<T: Real>(hidden: &Matrix<T>, head: &Matrix<T>) -> Vec<Vec<T>> {
    let (h, w, d) = (load(hidden), load(head), hidden.cols());
    (0..hidden.rows())
        .map(|i| {
            let logits: Vec<T> =
                w.chunks(d).map(|token| token.iter().zip(&h[i * d..][..d]).map(|(&a, &b)| a * b).sum()).collect();
            let top = logits.iter().copied().fold(T::neg_infinity(), T::max);
            let log_sum = top + logits.iter().map(|&z| (z - top).exp()).sum::<T>().ln();
            logits.iter().map(|&z| z - log_sum).collect()
        })
        .collect()
}

impl<T: Real> Device for Reference<T> {
    type Buffer = RefCell<Vec<T>>;

    fn describe(&self) -> String {
        format!("reference, {} bit", size_of::<T>() * 8)
    }

    fn zeros(&self, elements: usize) -> Rc<Self::Buffer> {
        Rc::new(RefCell::new(vec![T::zero(); elements]))
    }

    fn write(&self, tensor: &Matrix<T>, values: &[f32]) {
        store(tensor, &values.iter().map(|&v| T::of(f64::from(v))).collect::<Vec<T>>());
    }

    fn read(&self, tensor: &Matrix<T>) -> Vec<f32> {
        load(tensor).iter().map(|v| v.double() as f32).collect()
    }

    fn fill(&self, tensor: &Matrix<T>, value: f32) {
        store(tensor, &vec![T::of(f64::from(value)); tensor.len()]);
    }

    fn copy(&self, source: &Matrix<T>, target: &Matrix<T>) {
        store(target, &load(source));
    }

    fn scale(&self, factor: f32, x: &Matrix<T>) {
        store(x, &load(x).iter().map(|&v| T::of(f64::from(factor)) * v).collect::<Vec<T>>());
    }

    fn add(&self, x: &Matrix<T>, y: &Matrix<T>) {
        let rows: Vec<T> = load(x).iter().copied().cycle().take(y.len()).collect();
        update(y, Write::Add, &rows);
    }

    fn sum_rows(&self, x: &Matrix<T>, sum: &Matrix<T>) {
        let mut total = vec![T::zero(); x.cols()];
        for row in load(x).chunks(x.cols()) {
            total.iter_mut().zip(row).for_each(|(total, &v)| *total += v);
        }
        update(sum, Write::Add, &total);
    }

    fn gather_rows(&self, source: &Matrix<T>, rows: &[u32], target: &Matrix<T>) {
        for (i, &row) in rows.iter().enumerate() {
            let row = row as usize;
            store(&target.row_range(i..i + 1), &load(&source.row_range(row..row + 1)));
        }
    }

    fn scatter_rows(&self, source: &Matrix<T>, rows: &[u32], target: &Matrix<T>) {
        for (i, &row) in rows.iter().enumerate() {
            let row = row as usize;
            store(&target.row_range(row..row + 1), &load(&source.row_range(i..i + 1)));
        }
    }

    fn scatter_add_rows(&self, source: &Matrix<T>, rows: &[u32], target: &Matrix<T>) {
        for (i, &row) in rows.iter().enumerate() {
            let row = row as usize;
            update(&target.row_range(row..row + 1), Write::Add, &load(&source.row_range(i..i + 1)));
        }
    }

    fn rms_norm(&self, x: &Matrix<T>, weight: &Matrix<T>, epsilon: f32, y: &Matrix<T>, inv_rms: &Matrix<T>) {
        let width = T::of(x.cols() as f64);
        let inverse: Vec<T> = load(x)
            .chunks(x.cols())
            .map(|row| (row.iter().map(|&v| v * v).sum::<T>() / width + T::of(f64::from(epsilon))).sqrt().recip())
            .collect();
        store(inv_rms, &inverse);
        self.rms_norm_again(x, weight, inv_rms, y);
    }

    fn rms_norm_again(&self, x: &Matrix<T>, weight: &Matrix<T>, inv_rms: &Matrix<T>, y: &Matrix<T>) {
        let (w, inverse) = (load(weight), load(inv_rms));
        let d = x.cols();
        let out: Vec<T> = load(x).iter().enumerate().map(|(k, &v)| v * inverse[k / d] * w[k % d]).collect();
        store(y, &out);
    }

    fn rms_norm_backward(
        &self,
        x: &Matrix<T>,
        weight: &Matrix<T>,
        inv_rms: &Matrix<T>,
        dy: &Matrix<T>,
        dx: &Matrix<T>,
        dweight: Option<&Matrix<T>>,
    ) {
        let (xs, w, inverse, dys, d) = (load(x), load(weight), load(inv_rms), load(dy), x.cols());
        let mut gradient = vec![T::zero(); xs.len()];
        let mut dw = vec![T::zero(); d];
        for i in 0..x.rows() {
            let at = i * d..(i + 1) * d;
            let (x, dy, inv) = (&xs[at.clone()], &dys[at.clone()], inverse[i]);
            let mean = (0..d).map(|k| dy[k] * w[k] * x[k]).sum::<T>() / T::of(d as f64);
            for k in 0..d {
                gradient[i * d + k] = inv * (dy[k] * w[k] - x[k] * inv * inv * mean);
                dw[k] += dy[k] * x[k] * inv;
            }
        }
        update(dx, Write::Add, &gradient);
        if let Some(target) = dweight {
            update(target, Write::Add, &dw);
        }
    }

    fn rms_norm_heads(&self, x: &Matrix<T>, weight: &Matrix<T>, epsilon: f32, y: &Matrix<T>, inv_rms: &Matrix<T>) {
        for head in 0..inv_rms.cols() {
            let columns = head * weight.cols()..(head + 1) * weight.cols();
            let (x, y) = (x.col_range(columns.clone()), y.col_range(columns));
            self.rms_norm(&x, weight, epsilon, &y, &inv_rms.col_range(head..head + 1));
        }
    }

    fn rms_norm_heads_backward(
        &self,
        x: &Matrix<T>,
        weight: &Matrix<T>,
        inv_rms: &Matrix<T>,
        d: &Matrix<T>,
        dweight: Option<&Matrix<T>>,
    ) {
        for head in 0..inv_rms.cols() {
            let columns = head * weight.cols()..(head + 1) * weight.cols();
            let (x, d, inv_rms) =
                (x.col_range(columns.clone()), d.col_range(columns), inv_rms.col_range(head..head + 1));
            let dx = Tensor::new(self.zeros(d.len()), 0, d.rows(), d.cols());
            self.rms_norm_backward(&x, weight, &inv_rms, &d, &dx, dweight);
            self.copy(&dx, &d);
        }
    }

    fn linear(&self, x: &Matrix<T>, weight: &Matrix<T>, scale: f32, write: Write, y: &Matrix<T>) {
        let (xs, w, inner, scale) = (load(x), load(weight), x.cols(), T::of(f64::from(scale)));
        let product: Vec<T> = xs
            .chunks(inner)
            .flat_map(|row| {
                w.chunks(inner).map(move |out| scale * row.iter().zip(out).map(|(&a, &b)| a * b).sum::<T>())
            })
            .collect();
        update(y, write, &product);
    }

    fn linear_backward_input(&self, dy: &Matrix<T>, weight: &Matrix<T>, scale: f32, write: Write, dx: &Matrix<T>) {
        let (dys, w, outs, ins, scale) = (load(dy), load(weight), dy.cols(), weight.cols(), T::of(f64::from(scale)));
        let product: Vec<T> = dys
            .chunks(outs)
            .flat_map(|row| {
                let w = &w;
                (0..ins).map(move |k| scale * (0..outs).map(|o| row[o] * w[o * ins + k]).sum::<T>())
            })
            .collect();
        update(dx, write, &product);
    }

    fn linear_backward_weight(&self, dy: &Matrix<T>, x: &Matrix<T>, scale: f32, dweight: &Matrix<T>) {
        let (dys, xs, outs, ins, scale) = (load(dy), load(x), dy.cols(), x.cols(), T::of(f64::from(scale)));
        let mut product = vec![T::zero(); outs * ins];
        for (dy, x) in dys.chunks(outs).zip(xs.chunks(ins)) {
            for o in 0..outs {
                for k in 0..ins {
                    product[o * ins + k] += scale * dy[o] * x[k];
                }
            }
        }
        update(dweight, Write::Add, &product);
    }

    fn rope(&self, x: &Matrix<T>, dim: usize, positions: &[u32], cos: &Matrix<T>, sin: &Matrix<T>, inverse: bool) {
        let (mut xs, cos, sin, half) = (load(x), load(cos), load(sin), dim / 2);
        let width = x.cols();
        for (i, &position) in positions.iter().enumerate() {
            for head in xs[i * width..][..width].chunks_mut(dim) {
                for k in 0..half {
                    let (c, mut s) = (cos[position as usize * half + k], sin[position as usize * half + k]);
                    if inverse {
                        s = -s;
                    }
                    let (a, b) = (head[k], head[k + half]);
                    head[k] = a * c - b * s;
                    head[k + half] = b * c + a * s;
                }
            }
        }
        store(x, &xs);
    }

    fn attention(&self, qkv: &Matrix<T>, segments: &[Segment], heads: Heads, out: &Matrix<T>, log_sum: &Matrix<T>) {
        let (all, width, dim, scale) = (load(qkv), heads.row_width(), heads.dim, T::of(f64::from(heads.scale)));
        let (mut outs, mut sums) = (load(out), load(log_sum));
        for segment in segments {
            for row in segment.rows.clone() {
                for head in 0..heads.query {
                    let kv = head / (heads.query / heads.kv);
                    let q = &all[row * width + head * dim..][..dim];
                    let key = |j: usize| &all[j * width + heads.query_width() + kv * dim..][..dim];
                    let value = |j: usize| &all[j * width + heads.query_width() + heads.kv_width() + kv * dim..][..dim];
                    let scores: Vec<T> = seen(segment, row, heads)
                        .map(|j| scale * q.iter().zip(key(j)).map(|(&a, &b)| a * b).sum::<T>())
                        .collect();
                    let top = scores.iter().copied().fold(T::neg_infinity(), T::max);
                    let sum = top + scores.iter().map(|&s| (s - top).exp()).sum::<T>().ln();
                    let o = &mut outs[row * out.cols() + head * dim..][..dim];
                    o.fill(T::zero());
                    for (score, j) in scores.iter().zip(seen(segment, row, heads)) {
                        for (o, &v) in o.iter_mut().zip(value(j)) {
                            *o += (*score - sum).exp() * v;
                        }
                    }
                    sums[row * heads.query + head] = sum;
                }
            }
        }
        store(out, &outs);
        store(log_sum, &sums);
    }

    fn attention_backward(
        &self,
        qkv: &Matrix<T>,
        out: &Matrix<T>,
        log_sum: &Matrix<T>,
        dout: &Matrix<T>,
        segments: &[Segment],
        heads: Heads,
        dqkv: &Matrix<T>,
    ) {
        let (all, width, dim, scale) = (load(qkv), heads.row_width(), heads.dim, T::of(f64::from(heads.scale)));
        let (outs, sums, douts) = (load(out), load(log_sum), load(dout));
        let mut grad = vec![T::zero(); all.len()];
        for segment in segments {
            for row in segment.rows.clone() {
                for head in 0..heads.query {
                    let kv = head / (heads.query / heads.kv);
                    let q_at = row * width + head * dim;
                    let at = row * out.cols() + head * dim..row * out.cols() + (head + 1) * dim;
                    let (o, d_o) = (&outs[at.clone()], &douts[at]);
                    let inner = o.iter().zip(d_o).map(|(&a, &b)| a * b).sum::<T>();
                    for j in seen(segment, row, heads) {
                        let k_at = j * width + heads.query_width() + kv * dim;
                        let v_at = k_at + heads.kv_width();
                        let score = scale * (0..dim).map(|c| all[q_at + c] * all[k_at + c]).sum::<T>();
                        let p = (score - sums[row * heads.query + head]).exp();
                        let dp = (0..dim).map(|c| d_o[c] * all[v_at + c]).sum::<T>();
                        let ds = p * (dp - inner) * scale;
                        for c in 0..dim {
                            grad[q_at + c] += ds * all[k_at + c];
                            grad[k_at + c] += ds * all[q_at + c];
                            grad[v_at + c] += p * d_o[c];
                        }
                    }
                }
            }
        }
        store(dqkv, &grad);
    }

    fn attention_cached(&self, q: &Matrix<T>, cache: &Matrix<T>, runs: &[Cached], heads: Heads, out: &Matrix<T>) {
        let (qs, cached, dim, scale) = (load(q), load(cache), heads.dim, T::of(f64::from(heads.scale)));
        let mut outs = load(out);
        for run in runs {
            for (i, row) in run.rows.clone().enumerate() {
                let visible = run.seen.iter().cloned().flatten().take(run.visible(i));
                let seen: Vec<usize> = visible.skip(heads.beyond_window(run.visible(i))).collect();
                for head in 0..heads.query {
                    let kv = head / (heads.query / heads.kv);
                    let at = row * heads.query_width() + head * dim;
                    let q = &qs[at..at + dim];
                    let key = |j: usize| &cached[j * cache.cols() + kv * dim..][..dim];
                    let value = |j: usize| &cached[j * cache.cols() + heads.kv_width() + kv * dim..][..dim];
                    let score = |&j: &usize| scale * q.iter().zip(key(j)).map(|(&a, &b)| a * b).sum::<T>();
                    let scores: Vec<T> = seen.iter().map(score).collect();
                    let top = scores.iter().copied().fold(T::neg_infinity(), T::max);
                    let sum = scores.iter().map(|&s| (s - top).exp()).sum::<T>();
                    outs[at..at + dim].fill(T::zero());
                    for (score, &j) in scores.iter().zip(&seen) {
                        for c in 0..dim {
                            outs[at + c] += (*score - top).exp() / sum * value(j)[c];
                        }
                    }
                }
            }
        }
        store(out, &outs);
    }

    fn swiglu(&self, gate_up: &Matrix<T>, out: &Matrix<T>) {
        let width = out.cols();
        let product: Vec<T> = load(gate_up)
            .chunks(2 * width)
            .flat_map(|row| (0..width).map(|k| row[k] * sigmoid(row[k]) * row[width + k]).collect::<Vec<T>>())
            .collect();
        store(out, &product);
    }

    fn swiglu_backward(&self, gate_up: &Matrix<T>, dout: &Matrix<T>, dgate_up: &Matrix<T>) {
        let (width, douts) = (dout.cols(), load(dout));
        let mut grad = load(gate_up);
        for (row, dout) in grad.chunks_mut(2 * width).zip(douts.chunks(width)) {
            for k in 0..width {
                let (gate, up, s) = (row[k], row[width + k], sigmoid(row[k]));
                row[k] = dout[k] * up * s * (T::one() + gate * (T::one() - s));
                row[width + k] = dout[k] * gate * s;
            }
        }
        store(dgate_up, &grad);
    }

    fn geglu(&self, gate_up: &Matrix<T>, out: &Matrix<T>) {
        let width = out.cols();
        let product: Vec<T> = load(gate_up)
            .chunks(2 * width)
            .flat_map(|row| (0..width).map(|k| gelu(row[k]).0 * row[width + k]).collect::<Vec<T>>())
            .collect();
        store(out, &product);
    }

    fn geglu_backward(&self, gate_up: &Matrix<T>, dout: &Matrix<T>, dgate_up: &Matrix<T>) {
        let (width, douts) = (dout.cols(), load(dout));
        let mut grad = load(gate_up);
        for (row, dout) in grad.chunks_mut(2 * width).zip(douts.chunks(width)) {
            for k in 0..width {
                let ((value, slope), up) = (gelu(row[k]), row[width + k]);
                row[k] = dout[k] * up * slope;
                row[width + k] = dout[k] * value;
            }
        }
        store(dgate_up, &grad);
    }

    fn linear_logprob(
        &self,
        hidden: &Matrix<T>,
        head: &Matrix<T>,
        picks: &[Pick],
        _logits: &Matrix<T>,
        grad: Option<LogProbGrad<'_, Self::Buffer>>,
    ) -> LogProbs {
        let rows = log_softmax(hidden, head);
        let entropies: Vec<T> = rows.iter().map(|row| -row.iter().map(|&l| l.exp() * l).sum::<T>()).collect();
        let found = LogProbs {
            logprob: picks.iter().map(|p| rows[p.row as usize][p.token as usize].double() as f32).collect(),
            entropy: entropies.iter().map(|e| e.double() as f32).collect(),
            argmax: rows
                .iter()
                .map(|row| (0..row.len()).fold(0, |best, k| if row[k] > row[best] { k } else { best }) as u32)
                .collect(),
        };
        if let Some(grad) = grad {
            let (hs, w, d) = (load(hidden), load(head), hidden.cols());
            let mut dhidden = vec![T::zero(); hidden.len()];
            let mut dhead = vec![T::zero(); head.len()];
            for (i, row) in rows.iter().enumerate() {
                let mut dz = vec![T::zero(); row.len()];
                for (pick, &g) in picks.iter().zip(grad.logprob).filter(|(pick, _)| pick.row as usize == i) {
                    let g = T::of(f64::from(g));
                    dz.iter_mut().zip(row).for_each(|(dz, &l)| *dz += -g * l.exp());
                    dz[pick.token as usize] += g;
                }
                if let Some(&e) = grad.entropy.get(i) {
                    let e = T::of(f64::from(e));
                    dz.iter_mut().zip(row).for_each(|(dz, &l)| *dz += -e * l.exp() * (l + entropies[i]));
                }
                for (token, &dz) in dz.iter().enumerate() {
                    for c in 0..d {
                        dhidden[i * d + c] += dz * w[token * d + c];
                        dhead[token * d + c] += dz * hs[i * d + c];
                    }
                }
            }
            store(grad.hidden, &dhidden);
            if let Some(target) = grad.head {
                update(target, Write::Add, &dhead);
            }
        }
        found
    }

    fn linear_kl(
        &self,
        p: (&Matrix<T>, &Matrix<T>),
        q: (&Matrix<T>, &Matrix<T>),
        _logits: (&Matrix<T>, &Matrix<T>),
    ) -> Vec<f32> {
        let kl =
            |(p, q): (&Vec<T>, &Vec<T>)| p.iter().zip(q).map(|(&p, &q)| p.exp() * (p - q)).sum::<T>().double() as f32;
        log_softmax(p.0, p.1).iter().zip(&log_softmax(q.0, q.1)).map(kl).collect()
    }

    fn dropout(&self, x: &Matrix<T>, keys: &[u64], rate: f32, write: Write, y: &Matrix<T>) {
        let (dropout, cols) = (Dropout::new(rate), x.cols());
        let factor = |k: usize| T::of(f64::from(dropout.factor(keys[k / cols], (k % cols) as u32)));
        update(y, write, &load(x).iter().enumerate().map(|(k, &x)| x * factor(k)).collect::<Vec<T>>());
    }

    fn adapted_row_norms(&self, weight: &Matrix<T>, a: &Matrix<T>, b: &Matrix<T>, scale: f32, norms: &Matrix<T>) {
        let (w, a_values, b_values, scale) = (load(weight), load(a), load(b), T::of(f64::from(scale)));
        let (cols, rank) = (weight.cols(), a.rows());
        let at = |j: usize, k: usize| {
            let low = (0..rank).map(|r| b_values[j * rank + r] * a_values[r * cols + k]).sum::<T>();
            w[j * cols + k] + scale * low
        };
        let norm = |j: usize| (0..cols).map(|k| at(j, k) * at(j, k)).sum::<T>().sqrt();
        store(norms, &(0..weight.rows()).map(norm).collect::<Vec<T>>());
    }

    fn scale_columns(
        &self,
        x: &Matrix<T>,
        numerators: &Matrix<T>,
        denominators: &Matrix<T>,
        from: Option<&Matrix<T>>,
        y: &Matrix<T>,
    ) {
        let (over, under, cols) = (load(numerators), load(denominators), x.cols());
        let from = from.map_or_else(|| vec![T::zero(); x.len()], load);
        let scaled = |(k, &x): (usize, &T)| from[k] + x * over[k % cols] / under[k % cols];
        store(y, &load(x).iter().enumerate().map(scaled).collect::<Vec<T>>());
    }

    fn column_dots(&self, x: &Matrix<T>, y: &Matrix<T>, denominators: &Matrix<T>, dots: &Matrix<T>) {
        let (xs, ys, under, cols) = (load(x), load(y), load(denominators), x.cols());
        let dot = |j: usize| (0..x.rows()).map(|i| xs[i * cols + j] * ys[i * cols + j]).sum::<T>() / under[j];
        update(dots, Write::Add, &(0..cols).map(dot).collect::<Vec<T>>());
    }

    fn sum_squares(&self, tensor: &Matrix<T>) -> f64 {
        load(tensor).iter().map(|v| v.double() * v.double()).sum()
    }

    fn adamw(&self, s: &AdamW, weight: &Matrix<T>, gradient: &Matrix<T>, mean: &Matrix<T>, square: &Matrix<T>) {
        let of = |value: f32| T::of(f64::from(value));
        let one = T::one();
        let (beta1, beta2) = (of(s.beta1), of(s.beta2));
        let correction1 = one - beta1.powi(s.step as i32);
        let correction2 = one - beta2.powi(s.step as i32);
        let (mut w, g, mut m, mut v) = (load(weight), load(gradient), load(mean), load(square));
        for k in 0..w.len() {
            let g = g[k] * of(s.gradient_scale);
            w[k] *= one - of(s.learning_rate) * of(s.weight_decay);
            m[k] = beta1 * m[k] + (one - beta1) * g;
            v[k] = beta2 * v[k] + (one - beta2) * g * g;
            let step = of(s.learning_rate) / correction1 * m[k] / ((v[k] / correction2).sqrt() + of(s.epsilon));
            w[k] = w[k] - step;
        }
        store(weight, &w);
        store(mean, &m);
        store(square, &v);
    }
}
