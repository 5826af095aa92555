//! A tensor: a matrix laid over a device's buffer.

use std::ops::Range;
use std::rc::Rc;

/// A row-major matrix of `rows` x `cols` elements over an opaque buffer of a device.
///
/// Cloning and taking parts share the buffer, as handles do on a GPU. Operations write through shared handles; a
/// device checks that what an operation writes does not overlap what it reads. Handles stay on one thread.
pub struct Tensor<B> {
    buffer: Rc<B>,
    offset: usize,
    rows: usize,
    cols: usize,
    stride: usize,
}

impl<B> Clone for Tensor<B> {
    fn clone(&self) -> Self {
        Self { buffer: Rc::clone(&self.buffer), ..*self }
    }
}

impl<B> Tensor<B> {
    /// A matrix that begins `offset` elements into `buffer`, its rows one after the other.
    pub fn new(buffer: Rc<B>, offset: usize, rows: usize, cols: usize) -> Self {
        Self { buffer, offset, rows, cols, stride: cols }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.rows * self.cols
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first `rows` rows.
    pub fn first_rows(&self, rows: usize) -> Self {
        self.row_range(0..rows)
    }

    /// A run of rows.
    ///
    /// # Panics
    /// When the range does not lie within the rows.
    pub fn row_range(&self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.rows, "rows {range:?} of a tensor with {}", self.rows);
        Self { offset: self.offset + range.start * self.stride, rows: range.len(), ..self.clone() }
    }

    /// A run of columns.
    ///
    /// # Panics
    /// When the range does not lie within the columns.
    pub fn col_range(&self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.cols, "columns {range:?} of a tensor with {}", self.cols);
        Self { offset: self.offset + range.start, cols: range.len(), ..self.clone() }
    }

    /// The buffer that the tensor lies in, with whatever else lies there; for the device that made it.
    pub fn buffer(&self) -> &B {
        &self.buffer
    }

    /// Place of the first element in the buffer.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Elements from the start of a row to the start of the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// One past the last element that the tensor reaches in its buffer.
    pub fn end(&self) -> usize {
        if self.is_empty() { self.offset } else { self.offset + (self.rows - 1) * self.stride + self.cols }
    }

    /// Whether some element belongs to both tensors. Tensors of unlike strides count as overlapping when their spans meet.
    pub fn overlaps(&self, other: &Self) -> bool {
        if !Rc::ptr_eq(&self.buffer, &other.buffer) || self.is_empty() || other.is_empty() {
            return false;
        }
        if self.end() <= other.offset || other.end() <= self.offset {
            return false;
        }
        if self.stride != other.stride {
            return true;
        }
        // Same stride: column ranges on the circle of one stride.
        let distance = (other.offset + self.stride - self.offset % self.stride) % self.stride;
        distance < self.cols || distance + other.cols > self.stride
    }
}
