//! Matrix products: the one place that calls the `gemm` crate.

use gemm::Parallelism;

/// An f32 matrix by pointer and strides.
#[derive(Clone, Copy)]
pub(super) struct Matrix {
    start: *mut f32,
    row_stride: isize,
    col_stride: isize,
}

impl Matrix {
    /// Rows one `stride` apart.
    pub fn new(start: *mut f32, stride: usize) -> Self {
        Self { start, row_stride: stride as isize, col_stride: 1 }
    }

    /// The transpose.
    pub fn t(self) -> Self {
        Self { row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }
}

/// `c = scale * a b`, or `c += ...`; a: [m, k], b: [k, n], c: [m, n]. Sums run in f32 in an order that depends on the
/// shapes and the number of threads: results agree between thread counts to rounding, not to the bit.
///
/// # Safety
/// The matrices lie within live buffers, and nothing else touches `c` meanwhile or writes `a` or `b`.
pub(super) unsafe fn product(
    m: usize,
    n: usize,
    k: usize,
    c: Matrix,
    a: Matrix,
    b: Matrix,
    scale: f32,
    add: bool,
    parallel: bool,
) {
    let parallelism = if parallel { Parallelism::Rayon(0) } else { Parallelism::None };
    // SAFETY: the caller's promise.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.start,
            c.col_stride,
            c.row_stride,
            add,
            a.start.cast_const(),
            a.col_stride,
            a.row_stride,
            b.start.cast_const(),
            b.col_stride,
            b.row_stride,
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}
