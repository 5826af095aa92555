//! What adapters need beside products: dropout, and the magnitudes of DoRA.

use rayon::prelude::*;

use super::rows::{Rows, deal, sums_of_runs};
use super::{Cells, GRAIN, copy_rows, lanes};
use crate::check::{check_disjoint, expect_shape};
use crate::dropout::Dropout;
use crate::operands::Write;

/// Rows of a weight that are decoded at a time: enough for all threads.
const ROWS_TOGETHER: usize = 16 * GRAIN;

pub(super) fn dropout(x: &Cells, keys: &[u64], rate: f32, write: Write, y: &Cells) {
    expect_shape("dropout's y", y, x.rows(), x.cols());
    assert_eq!(keys.len(), x.rows(), "dropout's keys");
    check_disjoint(y, &[x]);
    let (x, y, dropout) = (Rows::of(x), Rows::of(y), Dropout::new(rate));
    deal(x.rows, GRAIN, |rows| {
        for i in rows {
            // SAFETY: each row of y has one writer; x is only read and does not overlap.
            unsafe { lanes::dropout(dropout, keys[i], x.row(i), write == Write::Add, y.row_mut(i)) };
        }
    });
}

pub(super) fn row_norms(weight: &Cells, a: &Cells, b: &Cells, scale: f32, norms: &Cells) {
    expect_shape("an adapter's A", a, b.cols(), weight.cols());
    expect_shape("an adapter's B", b, weight.rows(), a.rows());
    expect_shape("the norms", norms, weight.rows(), 1);
    check_disjoint(norms, &[weight, a, b]);
    let (count, cols) = (weight.rows(), weight.cols());
    let (a, b, norms) = (Rows::of(a), Rows::of(b), Rows::of(norms));
    for from in (0..count).step_by(ROWS_TOGETHER) {
        let rows = ROWS_TOGETHER.min(count - from);
        let mut values = vec![0.0; rows * cols];
        copy_rows(&weight.row_range(from..from + rows), |i| i, Rows::over(&mut values, rows, cols));
        values.par_chunks_mut(GRAIN * cols).enumerate().for_each(|(chunk, values)| {
            for (i, row) in (from + chunk * GRAIN..).zip(values.chunks_mut(cols)) {
                // SAFETY: a and b are only read and do not overlap; each norm has one writer.
                unsafe {
                    for (r, &factor) in b.row(i).iter().enumerate() {
                        lanes::add_scaled(a.row(r), scale * factor, row);
                    }
                    *norms.at(i, 0) = lanes::sum_squares(row).sqrt() as f32;
                }
            }
        });
    }
}

pub(super) fn scale_columns(x: &Cells, numerators: &Cells, denominators: &Cells, from: Option<&Cells>, y: &Cells) {
    expect_shape("scale_columns' y", y, x.rows(), x.cols());
    expect_shape("scale_columns' numerators", numerators, x.cols(), 1);
    expect_shape("scale_columns' denominators", denominators, x.cols(), 1);
    check_disjoint(y, &[x, numerators, denominators]);
    if let Some(from) = from {
        expect_shape("scale_columns' start", from, y.rows(), y.cols());
        check_disjoint(y, &[from]);
    }
    let (over, under) = (Rows::of(numerators), Rows::of(denominators));
    // SAFETY: both are only read.
    let factors: Vec<f32> = (0..x.cols()).map(|j| unsafe { *over.at(j, 0) / *under.at(j, 0) }).collect();
    let (x, from, y) = (Rows::of(x), from.map(Rows::of), Rows::of(y));
    deal(x.rows, GRAIN, |rows| {
        for i in rows {
            // SAFETY: each row of y has one writer; the others are only read and do not overlap.
            unsafe {
                let from = from.map_or(&[][..], |from| from.row(i));
                lanes::weighted(x.row(i), &factors, from, y.row_mut(i));
            }
        }
    });
}

pub(super) fn column_dots(x: &Cells, y: &Cells, denominators: &Cells, dots: &Cells) {
    expect_shape("column_dots' y", y, x.rows(), x.cols());
    expect_shape("column_dots' denominators", denominators, x.cols(), 1);
    expect_shape("column_dots' dots", dots, x.cols(), 1);
    check_disjoint(dots, &[x, y, denominators]);
    let (x, y) = (Rows::of(x), Rows::of(y));
    // SAFETY: both are only read.
    let sums = sums_of_runs(x.rows, x.cols, |i, sums| unsafe { lanes::add_products(x.row(i), y.row(i), sums) });
    let mut total = vec![0.0; x.cols];
    sums.iter().for_each(|sums| lanes::add(sums, &mut total));
    let (under, dots) = (Rows::of(denominators), Rows::of(dots));
    for (j, sum) in total.into_iter().enumerate() {
        // SAFETY: one thread.
        unsafe { *dots.at(j, 0) += sum / *under.at(j, 0) };
    }
}
