//! RMSNorm of rows and of heads.

use super::rows::{Rows, deal, sums_of_runs};
use super::{Cells, GRAIN, lanes};
use crate::check::{check_disjoint, expect_shape};

pub(super) fn forward(x: &Cells, weight: &Cells, epsilon: f32, y: &Cells, inv_rms: &Cells) {
    expect_shape("rms_norm's inv_rms", inv_rms, x.rows(), 1);
    check_disjoint(inv_rms, &[x, weight, y]);
    let (xs, inverse) = (Rows::of(x), Rows::of(inv_rms));
    deal(xs.rows, GRAIN, |rows| {
        for i in rows {
            // SAFETY: each row of the output has one writer; x is only read and does not overlap.
            unsafe {
                let x = xs.row(i);
                *inverse.at(i, 0) = 1.0 / (lanes::dot(x, x) / xs.cols as f32 + epsilon).sqrt();
            }
        }
    });
    again(x, weight, inv_rms, y);
}

pub(super) fn again(x: &Cells, weight: &Cells, inv_rms: &Cells, y: &Cells) {
    expect_shape("rms_norm's weight", weight, 1, x.cols());
    expect_shape("rms_norm's y", y, x.rows(), x.cols());
    check_disjoint(y, &[x, weight, inv_rms]);
    let (x, weight, inverse, y) = (Rows::of(x), Rows::of(weight), Rows::of(inv_rms), Rows::of(y));
    deal(x.rows, GRAIN, |rows| {
        for i in rows {
            // SAFETY: each row of y has one writer; the others are only read and do not overlap.
            unsafe { lanes::scaled_product(x.row(i), *inverse.at(i, 0), weight.row(0), y.row_mut(i)) };
        }
    });
}

pub(super) fn backward(x: &Cells, weight: &Cells, inv_rms: &Cells, dy: &Cells, dx: &Cells, dweight: Option<&Cells>) {
    expect_shape("rms_norm_backward's dx", dx, x.rows(), x.cols());
    expect_shape("rms_norm_backward's dy", dy, x.rows(), x.cols());
    check_disjoint(dx, &[x, weight, inv_rms, dy]);
    let (x, w, inverse, dy, dx) = (Rows::of(x), Rows::of(weight), Rows::of(inv_rms), Rows::of(dy), Rows::of(dx));
    let Some(dweight) = dweight else {
        deal(x.rows, GRAIN, |rows| {
            for i in rows {
                // SAFETY: each row of dx has one writer; the others are only read and do not overlap.
                unsafe {
                    let (inv, dx) = (*inverse.at(i, 0), dx.row_mut(i));
                    lanes::rms_norm_backward(x.row(i), w.row(0), inv, dy.row(i), dx, &mut []);
                }
            }
        });
        return;
    };
    let sums = sums_of_runs(x.rows, x.cols, |i, dw| {
        // SAFETY: each row of dx has one writer; the others are only read and do not overlap.
        unsafe {
            let (inv, dx) = (*inverse.at(i, 0), dx.row_mut(i));
            lanes::rms_norm_backward(x.row(i), w.row(0), inv, dy.row(i), dx, dw);
        }
    });
    add_to_first_row(&sums, dweight);
}

pub(super) fn heads(x: &Cells, weight: &Cells, epsilon: f32, y: &Cells, inv_rms: &Cells) {
    expect_shape("rms_norm_heads' y", y, x.rows(), x.cols());
    expect_shape("rms_norm_heads' weight", weight, 1, weight.cols());
    expect_shape("rms_norm_heads' inv_rms", inv_rms, x.rows(), x.cols() / weight.cols());
    assert_eq!(x.cols() % weight.cols(), 0, "rms_norm_heads' columns are whole heads");
    check_disjoint(y, &[x, weight, inv_rms]);
    check_disjoint(inv_rms, &[x, weight]);
    let (x, weight, y, inverse) = (Rows::of(x), Rows::of(weight), Rows::of(y), Rows::of(inv_rms));
    deal(x.rows, GRAIN, |rows| {
        for i in rows {
            // SAFETY: each row of the outputs has one writer; the others are only read and do not overlap.
            unsafe { lanes::rms_norm_heads(x.row(i), weight.row(0), epsilon, y.row_mut(i), inverse.row_mut(i)) };
        }
    });
}

pub(super) fn heads_backward(x: &Cells, weight: &Cells, inv_rms: &Cells, d: &Cells, dweight: Option<&Cells>) {
    expect_shape("rms_norm_heads' d", d, x.rows(), x.cols());
    expect_shape("rms_norm_heads' inv_rms", inv_rms, x.rows(), x.cols() / weight.cols());
    check_disjoint(d, &[x, weight, inv_rms]);
    let (x, w, inverse, d) = (Rows::of(x), Rows::of(weight), Rows::of(inv_rms), Rows::of(d));
    let sums = sums_of_runs(x.rows, if dweight.is_some() { w.cols } else { 0 }, |i, dw| {
        // SAFETY: each row of d has one writer; the others are only read and do not overlap.
        unsafe { lanes::rms_norm_heads_backward(x.row(i), w.row(0), inverse.row(i), d.row_mut(i), dw) };
    });
    if let Some(dweight) = dweight {
        add_to_first_row(&sums, dweight);
    }
}

fn add_to_first_row(sums: &[Vec<f32>], target: &Cells) {
    let target = Rows::of(target);
    for sums in sums {
        // SAFETY: one thread.
        lanes::add(sums, unsafe { target.row_mut(0) });
    }
}
