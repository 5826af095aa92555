//! Each backward of the reference device in f64 against central differences.

mod operands;

use operands::{HEADS, numbers, segments, sliding};
use std::cell::RefCell;
use temper_kernels::{Device, Heads, LogProbGrad, Pick, Reference, Tensor, Write};

type T = Tensor<RefCell<Vec<f64>>>;
const DEVICE: fn() -> Reference<f64> = Reference::<f64>::new;

fn tensor(seed: u64, rows: usize, cols: usize) -> T {
    DEVICE().upload(rows, cols, &numbers(seed, rows * cols))
}

fn zeros(rows: usize, cols: usize) -> T {
    DEVICE().upload(rows, cols, &vec![0.0; rows * cols])
}

fn weighted(output: &T, by: &T) -> f64 {
    DEVICE().read_exact(output).iter().zip(DEVICE().read_exact(by)).map(|(a, b)| a * b).sum()
}

/// Holds `gradient` against (f(x + h) - f(x - h)) / 2h for every element of `x`.
fn check(what: &str, x: &T, gradient: &T, loss: impl Fn() -> f64) {
    let device = DEVICE();
    let start = device.read_exact(x);
    let analytic = device.read_exact(gradient);
    let set = |values: &[f64]| device.copy(&device.upload_exact(x.rows(), x.cols(), values), x);
    for k in 0..start.len() {
        let h = 1e-5;
        let mut moved = start.clone();
        moved[k] = start[k] + h;
        set(&moved);
        let above = loss();
        moved[k] = start[k] - h;
        set(&moved);
        let below = loss();
        let numeric = (above - below) / (2.0 * h);
        let error = (numeric - analytic[k]).abs() / (1.0 + numeric.abs());
        assert!(error < 1e-8, "{what}[{k}]: analytic {}, central difference {numeric}", analytic[k]);
    }
    set(&start);
}

#[test]
fn rms_norm() {
    let d = DEVICE();
    let (x, w, dy) = (tensor(1, 3, 6), tensor(2, 1, 6), tensor(3, 3, 6));
    let (y, inv, dx, dw) = (zeros(3, 6), zeros(3, 1), zeros(3, 6), zeros(1, 6));
    d.rms_norm(&x, &w, 1e-5, &y, &inv);
    d.rms_norm_backward(&x, &w, &inv, &dy, &dx, Some(&dw));
    let loss = || {
        d.rms_norm(&x, &w, 1e-5, &y, &inv);
        weighted(&y, &dy)
    };
    check("x", &x, &dx, loss);
    check("weight", &w, &dw, loss);
}

#[test]
fn linear() {
    let d = DEVICE();
    let (x, w, dy) = (tensor(1, 3, 5), tensor(2, 4, 5), tensor(3, 3, 4));
    let (y, dx, dw) = (zeros(3, 4), zeros(3, 5), zeros(4, 5));
    d.linear_backward_input(&dy, &w, 0.7, Write::Set, &dx);
    d.linear_backward_weight(&dy, &x, 0.7, &dw);
    let loss = || {
        d.linear(&x, &w, 0.7, Write::Set, &y);
        weighted(&y, &dy)
    };
    // `scale` is an f32: compare in the number it is.
    check("x", &x, &dx, loss);
    check("weight", &w, &dw, loss);
}

#[test]
fn embedding() {
    let d = DEVICE();
    let (table, dy, y, dtable) = (tensor(1, 6, 3), tensor(2, 4, 3), zeros(4, 3), zeros(6, 3));
    let ids = [2, 0, 2, 5];
    d.scatter_add_rows(&dy, &ids, &dtable);
    check("table", &table, &dtable, || {
        d.gather_rows(&table, &ids, &y);
        weighted(&y, &dy)
    });
}

#[test]
fn rope() {
    let d = DEVICE();
    let (x, dy) = (tensor(1, 3, 16), tensor(2, 3, 16));
    let positions = [0, 3, 1];
    let angles = numbers(3, 4 * 4);
    let (cos, sin) = (
        d.upload(4, 4, &angles.iter().map(|a| a.cos()).collect::<Vec<_>>()),
        d.upload(4, 4, &angles.iter().map(|a| a.sin()).collect::<Vec<_>>()),
    );
    let (dx, y) = (zeros(3, 16), zeros(3, 16));
    d.copy(&dy, &dx);
    d.rope(&dx, 8, &positions, &cos, &sin, true);
    check("x", &x, &dx, || {
        d.copy(&x, &y);
        d.rope(&y, 8, &positions, &cos, &sin, false);
        weighted(&y, &dy)
    });
}

#[test]
fn attention_with_shared_context() {
    attention_of(HEADS);
}

#[test]
fn attention_with_a_sliding_window() {
    // Of the longest path, eleven rows: a window within it, and one wider than any.
    attention_of(sliding(4));
    attention_of(sliding(50));
}

fn attention_of(heads: Heads) {
    let d = DEVICE();
    let segments = segments(3);
    let n = 18;
    let (qkv, dout) = (tensor(1, n, heads.row_width()), tensor(2, n, heads.query_width()));
    let (out, sums, dqkv) = (zeros(n, heads.query_width()), zeros(n, heads.query), zeros(n, heads.row_width()));
    d.attention(&qkv, &segments, heads, &out, &sums);
    d.attention_backward(&qkv, &out, &sums, &dout, &segments, heads, &dqkv);
    check("qkv", &qkv, &dqkv, || {
        d.attention(&qkv, &segments, heads, &out, &sums);
        weighted(&out, &dout)
    });
}

#[test]
fn rms_norm_of_heads() {
    let d = DEVICE();
    let (x, w, dy) = (tensor(1, 3, 12), tensor(2, 1, 4), tensor(3, 3, 12));
    let (y, inv, dx, dw) = (zeros(3, 12), zeros(3, 3), zeros(3, 12), zeros(1, 4));
    d.rms_norm_heads(&x, &w, 1e-5, &y, &inv);
    d.copy(&dy, &dx);
    d.rms_norm_heads_backward(&x, &w, &inv, &dx, Some(&dw));
    let loss = || {
        d.rms_norm_heads(&x, &w, 1e-5, &y, &inv);
        weighted(&y, &dy)
    };
    check("x", &x, &dx, loss);
    check("weight", &w, &dw, loss);
}

#[test]
fn bias_and_scale() {
    let d = DEVICE();
    let (x, bias, dy, y, dbias, dx) =
        (tensor(1, 3, 5), tensor(2, 1, 5), tensor(3, 3, 5), zeros(3, 5), zeros(1, 5), zeros(3, 5));
    d.sum_rows(&dy, &dbias);
    d.scale(0.7, &dbias);
    d.copy(&dy, &dx);
    d.scale(0.7, &dx);
    let loss = || {
        d.copy(&x, &y);
        d.add(&bias, &y);
        d.scale(0.7, &y);
        weighted(&y, &dy)
    };
    check("x", &x, &dx, loss);
    check("bias", &bias, &dbias, loss);
}

#[test]
fn geglu() {
    let d = DEVICE();
    let (x, dout, out, dx) = (tensor(1, 3, 8), tensor(2, 3, 4), zeros(3, 4), zeros(3, 8));
    d.geglu_backward(&x, &dout, &dx);
    check("gate_up", &x, &dx, || {
        d.geglu(&x, &out);
        weighted(&out, &dout)
    });
}

#[test]
fn swiglu() {
    let d = DEVICE();
    let (x, dout, out, dx) = (tensor(1, 3, 8), tensor(2, 3, 4), zeros(3, 4), zeros(3, 8));
    d.swiglu_backward(&x, &dout, &dx);
    check("gate_up", &x, &dx, || {
        d.swiglu(&x, &out);
        weighted(&out, &dout)
    });
}

/// The gradient by hidden and head of `sum_k g_k logprob_k + sum_i e_i entropy_i`, computed from scratch in f64.
#[test]
fn linear_logprob_with_repeated_picks_and_entropy() {
    let d = DEVICE();
    let (hidden, head, logits) = (tensor(1, 4, 5), tensor(2, 7, 5), zeros(2, 7));
    let picks = [(0, 3), (0, 6), (2, 1), (3, 1)].map(|(row, token)| Pick { row, token });
    let (g, e) = (numbers(3, picks.len()), numbers(4, 4));
    let (dhidden, dhead) = (zeros(4, 5), zeros(7, 5));
    let grad = LogProbGrad { logprob: &g, entropy: &e, hidden: &dhidden, head: Some(&dhead) };
    d.linear_logprob(&hidden, &head, &picks, &logits, Some(grad));
    let loss = || {
        let (h, w) = (d.read_exact(&hidden), d.read_exact(&head));
        let mut total = 0.0;
        for (i, h) in h.chunks(5).enumerate() {
            let z: Vec<f64> = w.chunks(5).map(|w| w.iter().zip(h).map(|(a, b)| a * b).sum()).collect();
            let log_sum = z.iter().map(|z| z.exp()).sum::<f64>().ln();
            for (pick, g) in picks.iter().zip(&g).filter(|(p, _)| p.row as usize == i) {
                total += f64::from(*g) * (z[pick.token as usize] - log_sum);
            }
            total -= f64::from(e[i]) * z.iter().map(|z| (z - log_sum).exp() * (z - log_sum)).sum::<f64>();
        }
        total
    };
    check("hidden", &hidden, &dhidden, loss);
    check("head", &head, &dhead, loss);
}

#[test]
fn dropout_is_its_own_backward() {
    let d = DEVICE();
    let (x, dy, y, dx) = (tensor(1, 3, 6), tensor(2, 3, 6), zeros(3, 6), zeros(3, 6));
    let keys = [7, 1 << 40, 9];
    d.dropout(&dy, &keys, 0.4, Write::Add, &dx);
    check("x", &x, &dx, || {
        d.dropout(&x, &keys, 0.4, Write::Set, &y);
        weighted(&y, &dy)
    });
}

/// DoRA's magnitudes; its norms are constants of the gradient, so only they are held.
#[test]
fn scaled_columns() {
    let d = DEVICE();
    let (x, m, from, dy) = (tensor(1, 3, 5), tensor(2, 5, 1), tensor(3, 3, 5), tensor(4, 3, 5));
    let (w, a, b, norms) = (tensor(5, 5, 7), tensor(6, 2, 7), tensor(7, 5, 2), zeros(5, 1));
    d.adapted_row_norms(&w, &a, &b, 0.7, &norms);
    let (y, dx, dm) = (zeros(3, 5), zeros(3, 5), zeros(5, 1));
    d.scale_columns(&dy, &m, &norms, None, &dx);
    d.column_dots(&x, &dy, &norms, &dm);
    let loss = || {
        d.scale_columns(&x, &m, &norms, Some(&from), &y);
        weighted(&y, &dy)
    };
    check("x", &x, &dx, loss);
    check("magnitudes", &m, &dm, loss);
}
