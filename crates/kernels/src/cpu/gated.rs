//! Gated layers, whatever the gate: rows dealt to the workers.

use super::rows::{Rows, deal};
use super::{Cells, GRAIN};
use crate::check::{check_disjoint, expect_shape};

/// A gated layer row by row: `row(gate, up, out)`.
pub(super) fn forward(gate_up: &Cells, out: &Cells, row: impl Fn(&[f32], &[f32], &mut [f32]) + Sync + Send) {
    expect_shape("a gated layer's gate_up", gate_up, out.rows(), 2 * out.cols());
    check_disjoint(out, &[gate_up]);
    let (gate_up, out) = (Rows::of(gate_up), Rows::of(out));
    deal(out.rows, GRAIN, |rows| {
        for i in rows {
            // SAFETY: each row of the output has one writer; the input is only read and does not overlap.
            unsafe {
                let (gate, up) = gate_up.row(i).split_at(out.cols);
                row(gate, up, out.row_mut(i));
            }
        }
    });
}

/// Its backward row by row: `row(gate, up, dout, dgate, dup)`.
pub(super) fn backward(
    gate_up: &Cells,
    dout: &Cells,
    dgate_up: &Cells,
    row: impl Fn(&[f32], &[f32], &[f32], &mut [f32], &mut [f32]) + Sync + Send,
) {
    expect_shape("a gated layer's gate_up", gate_up, dout.rows(), 2 * dout.cols());
    expect_shape("a gated layer's dgate_up", dgate_up, dout.rows(), 2 * dout.cols());
    check_disjoint(dgate_up, &[gate_up, dout]);
    let (gate_up, dout, target) = (Rows::of(gate_up), Rows::of(dout), Rows::of(dgate_up));
    deal(dout.rows, GRAIN, |rows| {
        for i in rows {
            // SAFETY: each row of the output has one writer; the inputs are only read and do not overlap.
            unsafe {
                let (gate, up) = gate_up.row(i).split_at(dout.cols);
                let (dgate, dup) = target.row_mut(i).split_at_mut(dout.cols);
                row(gate, up, dout.row(i), dgate, dup);
            }
        }
    });
}
