//! Linear layers as products.

use std::cell::RefCell;

use super::product::{Frozen, Inner, Operand, Piece, Place, Product, View};
use super::rows::{CpuBuffer, Rows};
use super::{Cells, Cpu};
use crate::check::{check_disjoint, expect_shape};
use crate::device::linear_adapted_by_parts;
use crate::operands::{LowRank, Write};

fn place(rows: Rows) -> Place {
    // An empty matrix has no first element to point at; products return at once on an empty shape.
    let empty = rows.rows * rows.cols == 0;
    Place { at: if empty { std::ptr::NonNull::dangling().as_ptr() } else { rows.at(0, 0) }, stride: rows.stride }
}

/// The rows of a tensor as lanes, its columns as k.
pub(super) fn rows_as_lanes(rows: Rows) -> View {
    View::lanes_by_k(place(rows).at, rows.stride)
}

/// The columns of a tensor as lanes, its rows as k.
pub(super) fn cols_as_lanes(rows: Rows) -> View {
    View::k_by_lanes(place(rows).at, rows.stride)
}

/// The frozen weight of a tensor, which must be all of it.
fn frozen(weight: &Cells) -> Option<&Frozen> {
    let frozen = weight.buffer().frozen()?;
    assert_eq!(frozen.shape(), (weight.rows(), weight.cols()), "a product reads a frozen weight as a whole");
    Some(frozen)
}

pub(super) fn forward_operand(weight: &Cells) -> Operand<'_> {
    match frozen(weight) {
        Some(frozen) => Operand::Forward(frozen),
        None => Operand::Plain(rows_as_lanes(Rows::of(weight)), weight.rows()),
    }
}

pub(super) fn backward_operand(weight: &Cells) -> Operand<'_> {
    match frozen(weight) {
        Some(frozen) => Operand::Backward(frozen),
        None => Operand::Plain(cols_as_lanes(Rows::of(weight)), weight.cols()),
    }
}

impl Cpu {
    /// `to = from + scale * left right`, where `from` is the target itself or nothing.
    pub(super) fn product(
        &self,
        (m, k): (usize, usize),
        left: View,
        right: Operand<'_>,
        scale: f32,
        write: Write,
        to: Rows,
    ) {
        let to = place(to);
        let from = (write == Write::Add).then_some(to);
        let product = Product { m, k, left, scale, right, pieces: &[], inners: &[], from, to };
        // SAFETY: the operations have checked bounds (`Rows::of`), shapes and overlap.
        unsafe { self.kernels.run(&product) };
    }
}

/// Columns of a gradient up to which its transpose is computed.
const NARROW: usize = 64;

thread_local! {
    /// The transpose of a narrow gradient.
    static TRANSPOSED: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// `dweight += scale * dy^T x`. The wide operand is the right one, of which tiles read whole lines: of a gradient of few
/// columns, an adapter's B, the transpose is computed, to the same bits where the scale is 1.
pub(super) fn backward_weight(cpu: &Cpu, dy: &Cells, x: &Cells, scale: f32, dweight: &Cells) {
    let (to, k) = (Rows::of(dweight), x.rows());
    let of = |left: &Cells, right: &Cells, to: Rows| {
        let right = Operand::Plain(cols_as_lanes(Rows::of(right)), right.cols());
        cpu.product((to.rows, k), cols_as_lanes(Rows::of(left)), right, scale, Write::Add, to);
    };
    if to.cols > NARROW || to.rows <= to.cols {
        return of(dy, x, to);
    }
    TRANSPOSED.with_borrow_mut(|values| {
        values.resize(to.rows * to.cols, 0.0);
        let flipped = Rows::over(values, to.cols, to.rows);
        transpose(to, flipped);
        of(x, dy, flipped);
        transpose(flipped, to);
    });
}

/// On the calling thread, by squares, of which both sides' rows are read and written as vectors.
fn transpose(from: Rows, to: Rows) {
    const SIDE: usize = 8;
    let starts = (0..to.rows).step_by(SIDE).flat_map(|row| (0..to.cols).step_by(SIDE).map(move |col| (row, col)));
    for (row, col) in starts {
        let (high, wide) = (SIDE.min(to.rows - row), SIDE.min(to.cols - col));
        // SAFETY: one thread, within both, and the two do not overlap.
        unsafe {
            if (high, wide) == (SIDE, SIDE) {
                let line = |j: usize| from.at(col + j, row).cast::<[f32; SIDE]>().read();
                let block: [[f32; SIDE]; SIDE] = std::array::from_fn(line);
                let column = |i: usize| -> [f32; SIDE] { std::array::from_fn(|j| block[j][i]) };
                (0..SIDE).for_each(|i| to.at(row + i, col).cast::<[f32; SIDE]>().write(column(i)));
            } else {
                for (i, j) in (0..high).flat_map(|i| (0..wide).map(move |j| (i, j))) {
                    *to.at(row + i, col + j) = *from.at(col + j, row + i);
                }
            }
        }
    }
}

pub(super) fn adapted(
    cpu: &Cpu,
    x: &Cells,
    weight: &Cells,
    from: Option<&Cells>,
    a: Option<&Cells>,
    inner: &Cells,
    pieces: &[LowRank<'_, CpuBuffer>],
    y: &Cells,
) {
    let right = forward_operand(weight);
    let base = match right {
        Operand::Forward(base) => Some(base),
        _ if pieces.is_empty() => None,
        // A plain weight is packed as one part, so adapters of parts cannot be added to its tiles.
        _ => return linear_adapted_by_parts(cpu, x, weight, from, a, inner, pieces, y),
    };
    expect_shape("linear's weight", weight, y.cols(), x.cols());
    expect_shape("linear's y", y, x.rows(), weight.rows());
    check_disjoint(y, &[x, inner, weight]);
    if let Some(from) = from {
        expect_shape("linear's start", from, y.rows(), y.cols());
        check_disjoint(y, &[from]);
    }
    let inners = a.map(|a| {
        expect_shape("the adapters' A", a, inner.cols(), x.cols());
        expect_shape("the adapters' inner rows", inner, x.rows(), a.rows());
        check_disjoint(inner, &[x, a, y]);
        let (right, to) = (rows_as_lanes(Rows::of(a)), place(Rows::of(inner)));
        Inner { of: 0..x.cols(), lanes: a.rows(), right, scale: 1.0, to }
    });
    let piece = |(base, piece): (&Frozen, &LowRank<'_, CpuBuffer>)| {
        let inner = inner.col_range(piece.inner.clone());
        expect_shape("an adapter's B", piece.b, piece.cols.len(), inner.cols());
        Piece {
            part: base.part(&piece.cols),
            left: rows_as_lanes(Rows::of(&inner)),
            k: inner.cols(),
            scale: piece.scale,
            right: rows_as_lanes(Rows::of(piece.b)),
        }
    };
    let pieces: Vec<Piece> = pieces.iter().filter_map(|piece| base.map(|base| (base, piece))).map(piece).collect();
    let product = Product {
        m: x.rows(),
        k: x.cols(),
        left: rows_as_lanes(Rows::of(x)),
        scale: 1.0,
        right,
        pieces: &pieces,
        inners: inners.as_slice(),
        from: from.map(|from| place(Rows::of(from))),
        to: place(Rows::of(y)),
    };
    // SAFETY: bounds by `Rows::of`, shapes and overlap checked above.
    unsafe { cpu.kernels.run(&product) };
}

pub(super) fn adapted_backward_input(
    cpu: &Cpu,
    dy: &Cells,
    weight: &Cells,
    pieces: &[LowRank<'_, CpuBuffer>],
    dinner: &Cells,
    a: &Cells,
    dx: &Cells,
) {
    expect_shape("linear's weight", weight, dy.cols(), dx.cols());
    expect_shape("linear's dx", dx, dy.rows(), weight.cols());
    expect_shape("the adapters' A", a, dinner.cols(), dx.cols());
    check_disjoint(dx, &[dy, dinner, a]);
    check_disjoint(dinner, &[dy, a]);
    let inner = |piece: &LowRank<'_, CpuBuffer>| {
        expect_shape("an adapter's B", piece.b, piece.cols.len(), piece.inner.len());
        assert!(piece.cols.end <= dy.cols(), "an adapter's columns");
        let to = place(Rows::of(&dinner.col_range(piece.inner.clone())));
        let right = cols_as_lanes(Rows::of(piece.b));
        Inner { of: piece.cols.clone(), lanes: piece.inner.len(), right, scale: piece.scale, to }
    };
    let inners: Vec<Inner> = pieces.iter().map(inner).collect();
    let piece = Piece {
        part: 0,
        left: rows_as_lanes(Rows::of(dinner)),
        k: dinner.cols(),
        scale: 1.0,
        right: cols_as_lanes(Rows::of(a)),
    };
    let product = Product {
        m: dy.rows(),
        k: dy.cols(),
        left: rows_as_lanes(Rows::of(dy)),
        scale: 1.0,
        right: backward_operand(weight),
        pieces: &[piece],
        inners: &inners,
        from: None,
        to: place(Rows::of(dx)),
    };
    // SAFETY: bounds by `Rows::of`, shapes and overlap checked above.
    unsafe { cpu.kernels.run(&product) };
}
