//! Loops over slices, compiled for AVX-512, AVX2 and the baseline, chosen at run time.
//!
//! Sums run over sixteen lanes that are added at the end, whatever the instructions: one result on every machine.

use multiversion::multiversion;

use crate::dropout::Dropout;

const LANES: usize = 16;

/// e^x for x <= 88, within 3e-7 relative of the true value; 0 below -87.3. Cephes' reduction and polynomial (Moshier).
#[inline(always)]
fn exp(x: f32) -> f32 {
    let clamped = x.clamp(-87.336_54, 88.0);
    // Adding and taking away 1.5 * 2^23 rounds to the nearest integer.
    let shifted = clamped.mul_add(std::f32::consts::LOG2_E, 12_582_912.0);
    let n = shifted - 12_582_912.0;
    let r = n.mul_add(2.121_944_4e-4, n.mul_add(-0.693_359_4, clamped));
    let p = 1.987_569_1e-4f32;
    let p = p.mul_add(r, 1.398_199_9e-3);
    let p = p.mul_add(r, 8.333_452e-3);
    let p = p.mul_add(r, 4.166_579_6e-2);
    let p = p.mul_add(r, 1.666_666_5e-1);
    let p = p.mul_add(r, 0.5);
    let e = p.mul_add(r * r, r + 1.0);
    let power = f32::from_bits(((shifted.to_bits() as i32 - 0x4B40_0000 + 127) << 23) as u32);
    if x < -87.336_54 { 0.0 } else { e * power }
}

#[inline(always)]
fn sum(lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    let mut lanes = lanes;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

#[inline(always)]
fn fold3(a: &[f32], b: &[f32], c: &[f32], term: impl Fn(f32, f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let (a16, b16, c16) = (a.chunks_exact(LANES), b.chunks_exact(LANES), c.chunks_exact(LANES));
    for (i, ((&a, &b), &c)) in a16.remainder().iter().zip(b16.remainder()).zip(c16.remainder()).enumerate() {
        lanes[i] = term(a, b, c);
    }
    for ((a, b), c) in a16.zip(b16).zip(c16) {
        for i in 0..LANES {
            lanes[i] += term(a[i], b[i], c[i]);
        }
    }
    sum(lanes)
}

/// Sum of products.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    fold3(a, b, a, |a, b, _| a * b)
}

/// Sum of squares, each run of 4096 in f32 lanes, the runs in f64.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
pub(super) fn sum_squares(a: &[f32]) -> f64 {
    a.chunks(4096).map(|run| f64::from(fold3(run, run, run, |a, _, _| a * a))).sum()
}

/// y = x * scale * w.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
pub(super) fn scaled_product(x: &[f32], scale: f32, w: &[f32], y: &mut [f32]) {
    for ((y, &x), &w) in y.iter_mut().zip(x).zip(w) {
        *y = x * scale * w;
    }
}

/// y += x.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
pub(super) fn add(x: &[f32], y: &mut [f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y += x;
    }
}

/// A number as a cache holds it.
pub(super) trait Cell: Copy {
    fn value(self) -> f32;
}

impl Cell for f32 {
    #[inline(always)]
    fn value(self) -> f32 {
        self
    }
}

/// bf16, by its bits.
impl Cell for u16 {
    #[inline(always)]
    fn value(self) -> f32 {
        f32::from_bits(u32::from(self) << 16)
    }
}

/// The widest head whose keys and values are held on the stack.
pub(super) const WIDEST_HEAD: usize = 256;

/// Scores of keys, rows of `stride` numbers, for each query: `scores[h * apart + j] = scale * query_h . key_j`.
#[inline(always)]
fn scores<T: Cell>(
    queries: &[f32],
    dim: usize,
    keys: &[T],
    stride: usize,
    scale: f32,
    scores: &mut [f32],
    apart: usize,
) {
    let mut own = [0.0; WIDEST_HEAD];
    let own = &mut own[..dim];
    for (j, key) in keys.chunks(stride).enumerate() {
        own.iter_mut().zip(key).for_each(|(own, key)| *own = key.value());
        for (h, query) in queries.chunks_exact(dim).enumerate() {
            scores[h * apart + j] = scale * fold3(query, own, own, |q, k, _| q * k);
        }
    }
}

/// Adds weighted values, rows of `stride` numbers, one after the other: `out_h += weights[h * apart + j] * value_j`.
#[inline(always)]
fn weigh<T: Cell>(weights: &[f32], apart: usize, values: &[T], stride: usize, dim: usize, out: &mut [f32]) {
    let mut own = [[0.0; WIDEST_HEAD]; 4];
    let mut rows = values.chunks(stride).enumerate();
    loop {
        let mut first = None;
        let mut count = 0;
        for (own, (j, row)) in own.iter_mut().zip(rows.by_ref()) {
            own[..dim].iter_mut().zip(row).for_each(|(own, value)| *own = value.value());
            first.get_or_insert(j);
            count += 1;
        }
        let Some(first) = first else { return };
        for (h, out) in out.chunks_exact_mut(dim).enumerate() {
            let weights = &weights[h * apart + first..][..count];
            if let &[a, b, c, d] = weights {
                let [va, vb, vc, vd] = &own;
                for (i, out) in out.iter_mut().enumerate() {
                    *out = *out + a * va[i] + b * vb[i] + c * vc[i] + d * vd[i];
                }
            } else {
                for (&weight, own) in weights.iter().zip(&own) {
                    out.iter_mut().zip(own).for_each(|(out, value)| *out += weight * value);
                }
            }
        }
        if count < own.len() {
            return;
        }
    }
}

macro_rules! over_cells {
    ($cell:ty, $scores:ident, $weigh:ident) => {
        /// [`scores`] of this cell.
        #[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
        pub(super) fn $scores(
            q: &[f32],
            dim: usize,
            keys: &[$cell],
            stride: usize,
            scale: f32,
            to: &mut [f32],
            apart: usize,
        ) {
            scores(q, dim, keys, stride, scale, to, apart);
        }

        /// [`weigh`] of this cell.
        #[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
        pub(super) fn $weigh(w: &[f32], apart: usize, values: &[$cell], stride: usize, dim: usize, out: &mut [f32]) {
            weigh(w, apart, values, stride, dim, out);
        }
    };
}

over_cells!(f32, scores_f32, weigh_f32);
over_cells!(u16, scores_bf16, weigh_bf16);

/// One row of RMSNorm's backward: adds to dx, and to dw where it is not empty.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
pub(super) fn rms_norm_backward(x: &[f32], w: &[f32], inv: f32, dy: &[f32], dx: &mut [f32], dw: &mut [f32]) {
    let mean = fold3(dy, w, x, |dy, w, x| dy * w * x) / x.len() as f32;
    let back = inv * inv * inv * mean;
    for (((dx, &x), &w), &dy) in dx.iter_mut().zip(x).zip(w).zip(dy) {
        *dx += dy * w * inv - x * back;
    }
    for ((dw, &x), &dy) in dw.iter_mut().zip(x).zip(dy) {
        *dw += dy * x * inv;
    }
}

/// RMSNorm of each head of a row: `weight` is one head's, `inv_rms` has a number a head.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
pub(super) fn rms_norm_heads(x: &[f32], weight: &[f32], epsilon: f32, y: &mut [f32], inv_rms: &mut [f32]) {
    let dim = weight.len();
    for ((x, y), inv) in x.chunks_exact(dim).zip(y.chunks_exact_mut(dim)).zip(inv_rms) {
        *inv = 1.0 / (fold3(x, x, x, |a, b, _| a * b) / dim as f32 + epsilon).sqrt();
        for ((y, &x), &w) in y.iter_mut().zip(x).zip(weight) {
            *y = x * *inv * w;
        }
    }
}

/// Its backward, from the gradient by y to that by x in place; adds to dw where it is not empty.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
pub(super) fn rms_norm_heads_backward(x: &[f32], weight: &[f32], inv_rms: &[f32], d: &mut [f32], dw: &mut [f32]) {
    let dim = weight.len();
    for ((x, d), &inv) in x.chunks_exact(dim).zip(d.chunks_exact_mut(dim)).zip(inv_rms) {
        let back = inv * inv * inv * (fold3(d, weight, x, |dy, w, x| dy * w * x) / dim as f32);
        for ((dw, &x), &dy) in dw.iter_mut().zip(x).zip(&*d) {
            *dw += dy * x * inv;
        }
        for ((d, &x), &w) in d.iter_mut().zip(x).zip(weight) {
            *d = *d * w * inv - x * back;
        }
    }
}

/// Turns each head of a row by the angles of its position; `sign` -1 turns back.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
pub(super) fn rope(row: &mut [f32], dim: usize, cos: &[f32], sin: &[f32], sign: f32) {
    for head in row.chunks_exact_mut(dim) {
        let (first, second) = head.split_at_mut(dim / 2);
        for (((a, b), &c), &s) in first.iter_mut().zip(second).zip(cos).zip(sin) {
            let (x, y) = (*a, *b);
            *a = x * c - y * s * sign;
            *b = y * c + x * s * sign;
        }
    }
}

/// out = silu(gate) * up.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
pub(super) fn swiglu(gate: &[f32], up: &[f32], out: &mut [f32]) {
    for ((out, &gate), &up) in out.iter_mut().zip(gate).zip(up) {
        *out = gate / (1.0 + exp(-gate)) * up;
    }
}

/// Backward of `swiglu`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
pub(super) fn swiglu_backward(gate: &[f32], up: &[f32], dout: &[f32], dgate: &mut [f32], dup: &mut [f32]) {
    for ((((dgate, dup), &gate), &up), &dout) in dgate.iter_mut().zip(dup.iter_mut()).zip(gate).zip(up).zip(dout) {
        let s = 1.0 / (1.0 + exp(-gate));
        *dup = dout * gate * s;
        *dgate = dout * up * s * (1.0 + gate * (1.0 - s));
    }
}

/// `gelu(x) = x s` with `s = 1 / (1 + e^-2u)`, since `(1 + tanh u) / 2` is that; s and the slope of 2u come back.
#[inline(always)]
fn gelu_gate(x: f32) -> (f32, f32) {
    const TWICE_ROOT: f32 = 1.595_769_2; // 2 sqrt(2 / pi)
    const CUBE: f32 = 0.044_715;
    let square = CUBE * x * x;
    (1.0 / (1.0 + exp(-TWICE_ROOT * x * (1.0 + square))), TWICE_ROOT * (1.0 + 3.0 * square))
}

/// out = gelu(gate) * up, gelu in its tanh form.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
pub(super) fn geglu(gate: &[f32], up: &[f32], out: &mut [f32]) {
    for ((out, &gate), &up) in out.iter_mut().zip(gate).zip(up) {
        *out = gate * gelu_gate(gate).0 * up;
    }
}

/// Backward of `geglu`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
pub(super) fn geglu_backward(gate: &[f32], up: &[f32], dout: &[f32], dgate: &mut [f32], dup: &mut [f32]) {
    for ((((dgate, dup), &gate), &up), &dout) in dgate.iter_mut().zip(dup.iter_mut()).zip(gate).zip(up).zip(dout) {
        let (s, slope) = gelu_gate(gate);
        *dup = dout * gate * s;
        *dgate = dout * up * s * (1.0 + gate * (1.0 - s) * slope);
    }
}

/// y = x with elements dropped, or y += that.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
pub(super) fn dropout(dropout: Dropout, key: u64, x: &[f32], add: bool, y: &mut [f32]) {
    for (j, (y, &x)) in (0u32..).zip(y.iter_mut().zip(x)) {
        let before = if add { *y } else { 0.0 };
        *y = before + x * dropout.factor(key, j);
    }
}

/// y += scale * x.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
pub(super) fn add_scaled(x: &[f32], scale: f32, y: &mut [f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y += scale * x;
    }
}

/// y = from + x * w; `from` empty: y = x * w.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
pub(super) fn weighted(x: &[f32], w: &[f32], from: &[f32], y: &mut [f32]) {
    if from.is_empty() {
        y.iter_mut().zip(x).zip(w).for_each(|((y, &x), &w)| *y = x * w);
    } else {
        y.iter_mut().zip(x).zip(w).zip(from).for_each(|(((y, &x), &w), &from)| *y = from + x * w);
    }
}

/// sums += x * y.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
pub(super) fn add_products(x: &[f32], y: &[f32], sums: &mut [f32]) {
    for ((sum, &x), &y) in sums.iter_mut().zip(x).zip(y) {
        *sum += x * y;
    }
}

/// The largest value.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
pub(super) fn top(x: &[f32]) -> f32 {
    top_of(x)
}

#[inline(always)]
fn top_of(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = x.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] = if chunk[i] > lanes[i] { chunk[i] } else { lanes[i] };
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a })
}

/// Where a value first lies; 0 where it does not.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
pub(super) fn place_of(value: f32, x: &[f32]) -> usize {
    // A search that may end at every element is not made of vectors; whether a block holds the value is.
    const BLOCK: usize = 512;
    let holds = |block: &&[f32]| block.iter().fold(false, |found, &v| found | (v == value));
    let Some((index, block)) = x.chunks(BLOCK).enumerate().find(|(_, block)| holds(block)) else { return 0 };
    index * BLOCK + block.iter().position(|&v| v == value).unwrap_or(0)
}

/// In place `exp(x - top)`, where `top` is the largest of x and `least`; it comes back with the sum.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
pub(super) fn exponentials(x: &mut [f32], least: f32) -> (f32, f32) {
    let top = top_of(x).max(least);
    let mut sums = [0.0; LANES];
    let mut chunks = x.chunks_exact_mut(LANES);
    for chunk in &mut chunks {
        for i in 0..LANES {
            chunk[i] = exp(chunk[i] - top);
            sums[i] += chunk[i];
        }
    }
    for (x, sum) in chunks.into_remainder().iter_mut().zip(&mut sums) {
        *x = exp(*x - top);
        *sum += *x;
    }
    (top, sum(sums))
}

/// y = factor * x.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
pub(super) fn scaled(factor: f32, x: &[f32], y: &mut [f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = factor * x;
    }
}

/// x *= factor.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
pub(super) fn scale(factor: f32, x: &mut [f32]) {
    for x in x {
        *x *= factor;
    }
}

/// Softmax in place; the logarithm of the denominator comes back.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
pub(super) fn softmax(x: &mut [f32]) -> f32 {
    let top = top_of(x);
    for x in x.iter_mut() {
        *x = exp(*x - top);
    }
    let total = fold3(x, x, x, |e, _, _| e);
    let inverse = 1.0 / total;
    for x in x.iter_mut() {
        *x *= inverse;
    }
    top + total.ln()
}

/// The logarithm of the sum of exponentials, the entropy of the softmax in nats, and the largest value.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
pub(super) fn log_sum_entropy(x: &[f32]) -> (f32, f32, f32) {
    let top = top_of(x);
    let (mut total, mut weighted) = (0.0f64, 0.0f64);
    for run in x.chunks(4096) {
        let (mut sums, mut products) = ([0.0; LANES], [0.0; LANES]);
        let chunks = run.chunks_exact(LANES);
        for (i, &x) in chunks.remainder().iter().enumerate() {
            let e = exp(x - top);
            sums[i] = e;
            products[i] = e * (x - top);
        }
        for chunk in chunks {
            for i in 0..LANES {
                let e = exp(chunk[i] - top);
                sums[i] += e;
                products[i] += e * (chunk[i] - top);
            }
        }
        total += f64::from(sum(sums));
        weighted += f64::from(sum(products));
    }
    ((f64::from(top) + total.ln()) as f32, (total.ln() - weighted / total) as f32, top)
}

/// In place from logits to the gradient by them: `p * (-g - e * (log p + entropy))`; the picked tokens' `+g` is the
/// caller's to add.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
pub(super) fn logit_gradient(x: &mut [f32], log_sum: f32, g: f32, e: f32, entropy: f32) {
    if e == 0.0 {
        for x in x.iter_mut() {
            *x = -g * exp(*x - log_sum);
        }
    } else {
        for x in x.iter_mut() {
            let log_p = *x - log_sum;
            *x = exp(log_p) * (-g - e * (log_p + entropy));
        }
    }
}

/// Sum of p * (log p - log q), p and q from logits and their log-sums; f64 sums of runs.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
pub(super) fn kl(p: &[f32], p_log_sum: f32, q: &[f32], q_log_sum: f32) -> f32 {
    let shift = p_log_sum - q_log_sum;
    let run = |(p, q): (&[f32], &[f32])| f64::from(fold3(p, q, p, |p, q, _| exp(p - p_log_sum) * (p - q - shift)));
    p.chunks(4096).zip(q.chunks(4096)).map(run).sum::<f64>() as f32
}

/// In place from scores to attention probabilities, and from dP to dS:
/// `p = exp(s - log_sum)`, `ds = p * (dp - inner) * scale`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
pub(super) fn attention_gradient(scores: &mut [f32], dp: &mut [f32], log_sum: f32, inner: f32, scale: f32) {
    for (s, d) in scores.iter_mut().zip(dp) {
        let p = exp(*s - log_sum);
        *s = p;
        *d = p * (*d - inner) * scale;
    }
}

/// AdamW's constants for one step, worked out once.
#[derive(Clone, Copy)]
pub(super) struct AdamWStep {
    pub gradient_scale: f32,
    pub keep: f32,
    pub beta1: f32,
    pub beta2: f32,
    pub step_size: f32,
    pub inverse_root_correction2: f32,
    pub epsilon: f32,
}

/// One AdamW step over a run of weights.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
pub(super) fn adamw(s: AdamWStep, w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
    for (((w, &g), m), v) in w.iter_mut().zip(g).zip(m).zip(v) {
        let g = g * s.gradient_scale;
        *m = s.beta1 * *m + (1.0 - s.beta1) * g;
        *v = s.beta2 * *v + (1.0 - s.beta2) * g * g;
        *w = *w * s.keep - s.step_size * *m / (v.sqrt() * s.inverse_root_correction2 + s.epsilon);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_3e_7_of_the_true_value() {
        for i in -87_000..88_000 {
            let x = i as f32 * 1e-3;
            let (got, truth) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((got / truth - 1.0).abs() < 3e-7, "exp({x}) = {got}, true {truth}");
        }
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-1000.0), 0.0);
        assert_eq!(exp(0.0), 1.0);
    }
}
