//! Raw rows of a tensor, shared by the worker threads of one operation, and how work is dealt to them.

use std::cell::UnsafeCell;
use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::product::{Frozen, round_bf16};
use crate::tensor::Tensor;

/// Storage of a CPU tensor. Only operations look inside, one at a time: a tensor's handle never leaves its thread.
pub struct CpuBuffer(UnsafeCell<Storage>);

enum Storage {
    Plain(Floats),
    /// A weight that products read in their own order; it is a buffer of its own. Models may share it.
    Frozen(Arc<Frozen>),
    /// Keys and values in bf16.
    Cache(Vec<u16>),
}

/// Elements of a cache line.
const LINE: usize = 16;

/// Numbers that begin at a cache line, as rows of whole lines then do: no vector of theirs lies across two.
struct Floats {
    /// A line more than there are numbers; the system hands out zeros, which nobody has to write.
    cells: Vec<f32>,
    first: usize,
    length: usize,
}

impl Floats {
    fn zeros(length: usize) -> Self {
        let cells = vec![0.0f32; length + LINE];
        // A pointer to f32 lies a whole number of them before the next line.
        let first = cells.as_ptr().align_offset(LINE * size_of::<f32>());
        Self { cells, first, length }
    }

    fn values(&mut self) -> &mut [f32] {
        &mut self.cells[self.first..][..self.length]
    }
}

impl CpuBuffer {
    pub(super) fn zeros(elements: usize) -> Self {
        Self(UnsafeCell::new(Storage::Plain(Floats::zeros(elements))))
    }

    /// Keys and values in bf16, zeros.
    pub(super) fn cache(elements: usize) -> Self {
        Self(UnsafeCell::new(Storage::Cache(vec![0; elements])))
    }

    /// A frozen weight.
    pub(super) fn of_frozen(frozen: Arc<Frozen>) -> Self {
        Self(UnsafeCell::new(Storage::Frozen(frozen)))
    }

    /// Replaces the values by a frozen weight made of them. A buffer that is frozen already stays as it is.
    pub(super) fn freeze(&self, pack: impl FnOnce(&[f32]) -> Frozen) {
        // SAFETY: one thread has the buffer, and no operation is under way.
        let storage = unsafe { &mut *self.0.get() };
        if let Storage::Plain(values) = storage {
            *storage = Storage::Frozen(Arc::new(pack(values.values())));
        }
    }

    /// The frozen weight, where it is one.
    pub(super) fn frozen(&self) -> Option<&Frozen> {
        // SAFETY: a frozen weight is never written again.
        match unsafe { &*self.0.get() } {
            Storage::Plain(_) | Storage::Cache(_) => None,
            Storage::Frozen(frozen) => Some(frozen),
        }
    }
}

/// Rows in cells of one kind, for the length of one operation.
#[derive(Clone, Copy)]
pub(super) struct CellRows<T> {
    start: *mut T,
    rows: usize,
    cols: usize,
    pub stride: usize,
}

// SAFETY: as for `Rows`.
unsafe impl<T> Send for CellRows<T> {}
// SAFETY: as for `Rows`.
unsafe impl<T> Sync for CellRows<T> {}

impl<T> CellRows<T> {
    /// Columns `first..first + width` of rows, one row every `stride` cells; the last ends with its columns.
    pub fn part<'a>(self, rows: Range<usize>, first: usize, width: usize) -> &'a [T] {
        assert!(!rows.is_empty() && rows.end <= self.rows && first + width <= self.cols, "rows {rows:?} of a cache");
        let length = (rows.len() - 1) * self.stride + width;
        // SAFETY: within the rows, which `CacheRows::of` found in the buffer; attention only reads the cache.
        unsafe { std::slice::from_raw_parts(self.start.add(rows.start * self.stride + first), length) }
    }

    /// One row, to write.
    ///
    /// # Safety
    /// Nothing else touches the row while the slice lives.
    #[allow(clippy::mut_from_ref)]
    unsafe fn row_mut<'a>(self, row: usize) -> &'a mut [T] {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        // SAFETY: within the rows, as above; exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(row * self.stride), self.cols) }
    }
}

/// The rows of a cache, or of any tensor that rows are written to, for the length of one operation.
#[derive(Clone, Copy)]
pub(super) enum CacheRows {
    F32(CellRows<f32>),
    Bf16(CellRows<u16>),
}

impl CacheRows {
    pub fn of(tensor: &Tensor<CpuBuffer>) -> Self {
        // SAFETY: the buffer's length is read and a pointer into it taken; no reference is kept.
        match unsafe { &mut *tensor.buffer().0.get() } {
            Storage::Cache(cells) => {
                assert!(tensor.end() <= cells.len(), "a cache of {} cells", cells.len());
                let start = cells[tensor.offset()..].as_mut_ptr();
                Self::Bf16(CellRows { start, rows: tensor.rows(), cols: tensor.cols(), stride: tensor.stride() })
            }
            _ => {
                let Rows { start, rows, cols, stride } = Rows::of(tensor);
                Self::F32(CellRows { start, rows, cols, stride })
            }
        }
    }

    /// Writes a row, rounded where the cache is in bf16.
    ///
    /// # Safety
    /// Nothing else touches the row.
    pub unsafe fn write(self, row: usize, values: &[f32]) {
        match self {
            // SAFETY: the caller's promise.
            Self::F32(cells) => unsafe { cells.row_mut(row) }.copy_from_slice(values),
            Self::Bf16(cells) => {
                // SAFETY: the caller's promise.
                let to = unsafe { cells.row_mut(row) };
                assert_eq!(to.len(), values.len(), "values of a row");
                to.iter_mut().zip(values).for_each(|(to, &value)| *to = round_bf16(value) as u16);
            }
        }
    }
}

/// The rows of one tensor for the length of one operation.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    start: *mut f32,
    pub rows: usize,
    pub cols: usize,
    pub stride: usize,
}

// SAFETY: an operation hands `Rows` to its own workers only, waits for them, and deals rows (or columns) that are
// written to one worker each; `check_disjoint` has refused outputs that overlap inputs.
unsafe impl Send for Rows {}
// SAFETY: as above.
unsafe impl Sync for Rows {}

impl Rows {
    pub fn of(tensor: &Tensor<CpuBuffer>) -> Self {
        // SAFETY: the buffer's length is read and a pointer into it taken; no reference is kept.
        let (start, length) = unsafe {
            match &mut *tensor.buffer().0.get() {
                Storage::Plain(floats) => (floats.values().as_mut_ptr(), floats.length),
                Storage::Frozen(_) => panic!("a frozen weight is read by products, gathers, copies and reads only"),
                Storage::Cache(_) => panic!("a cache is written by scatters and read by attention only"),
            }
        };
        assert!(tensor.end() <= length, "a tensor reaches {} elements into a buffer of {length}", tensor.end());
        // SAFETY: the offset lies within the buffer, or the tensor is empty and the pointer is never read.
        let start = unsafe { start.add(tensor.offset().min(length)) };
        Self { start, rows: tensor.rows(), cols: tensor.cols(), stride: tensor.stride() }
    }

    /// The rows of a slice.
    pub fn over(values: &mut [f32], rows: usize, cols: usize) -> Self {
        assert_eq!(values.len(), rows * cols, "values of {rows} rows of {cols}");
        Self { start: values.as_mut_ptr(), rows, cols, stride: cols }
    }

    /// Pointer to an element.
    pub fn at(self, row: usize, col: usize) -> *mut f32 {
        debug_assert!(row < self.rows && col < self.cols);
        // SAFETY: `of` checked that the last element lies within the buffer.
        unsafe { self.start.add(row * self.stride + col) }
    }

    /// One row, to read.
    ///
    /// # Safety
    /// No worker writes this row while the slice lives.
    pub unsafe fn row<'a>(self, row: usize) -> &'a [f32] {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        // SAFETY: in bounds by `of`; not written by the caller's promise.
        unsafe { std::slice::from_raw_parts(self.start.add(row * self.stride), self.cols) }
    }

    /// One row, to write.
    ///
    /// # Safety
    /// No other worker reads or writes these columns of the row while the slice lives.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn row_mut<'a>(self, row: usize) -> &'a mut [f32] {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        // SAFETY: in bounds by `of`; exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(row * self.stride), self.cols) }
    }
}

/// Elements of one run in flat operations; fewer than two runs are one worker's.
const RUN: usize = 32_768;

/// The elements of tensors of one shape in runs: of [`RUN`] of them where nothing lies between rows, else row by row.
#[derive(Clone, Copy)]
pub(super) struct Runs {
    rows: usize,
    elements: usize,
    flat: bool,
}

impl Runs {
    pub fn of<const N: usize>(tensors: [Rows; N]) -> Self {
        let first = tensors[0];
        debug_assert!(tensors.iter().all(|t| (t.rows, t.cols) == (first.rows, first.cols)));
        let flat = tensors.iter().all(|tensor| tensor.stride == tensor.cols);
        Self { rows: first.rows, elements: first.rows * first.cols, flat }
    }

    pub fn count(self) -> usize {
        if self.flat { self.elements.div_ceil(RUN) } else { self.rows }
    }

    /// One run of one of the tensors.
    ///
    /// # Safety
    /// As for [`Rows::row_mut`]; `tensor` is one of those that these runs are of.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn run<'a>(self, run: usize, tensor: Rows) -> &'a mut [f32] {
        if !self.flat {
            // SAFETY: the caller's promise.
            return unsafe { tensor.row_mut(run) };
        }
        let first = run * RUN;
        assert!(first < self.elements, "run {run} of {} elements", self.elements);
        // SAFETY: within all rows together, which lie one after the other; exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(tensor.start.add(first), RUN.min(self.elements - first)) }
    }

    /// Deals the runs to the workers.
    pub fn deal(self, work: impl Fn(usize) + Sync + Send) {
        let grain = if self.flat { 1 } else { RUN.div_ceil((self.elements / self.rows.max(1)).max(1)) };
        deal(self.count(), grain, |runs| runs.for_each(&work));
    }
}

/// Deals `count` items to the workers in runs of `grain`. Runs do not depend on the number of threads.
pub(super) fn deal(count: usize, grain: usize, work: impl Fn(Range<usize>) + Sync + Send) {
    let runs = count.div_ceil(grain);
    if runs <= 1 {
        if count > 0 {
            work(0..count);
        }
        return;
    }
    (0..runs).into_par_iter().with_max_len(1).for_each(|run| work(run * grain..((run + 1) * grain).min(count)));
}

/// What `row(i, sums)` adds to `width` numbers over `count` rows: a sum for each run of 64 rows, in order. Who adds them in that
/// order gets the same for any number of threads.
pub(super) fn sums_of_runs(count: usize, width: usize, row: impl Fn(usize, &mut [f32]) + Sync + Send) -> Vec<Vec<f32>> {
    const RUN: usize = 64;
    let of_run = |run: usize| {
        let mut sums = vec![0.0; width];
        (run * RUN..((run + 1) * RUN).min(count)).for_each(|i| row(i, &mut sums));
        sums
    };
    (0..count.div_ceil(RUN)).into_par_iter().map(of_run).collect()
}
