//! One allocation for all that a step writes, planned before the first step.

use std::rc::Rc;

use crate::{Device, Tensor};

/// Lays tensors one after the other into one buffer.
///
/// The layout is described once, as a function that takes tensors; it runs twice: to measure, then over the buffer.
/// The same function therefore answers "how much memory" without allocating ([`Arena::measure`]).
pub struct Arena<B> {
    buffer: Rc<B>,
    taken: usize,
}

/// Tensors begin at multiples of this many elements (one cache line of f32).
const ALIGNMENT: usize = 16;

impl<B> Arena<B> {
    /// Lays out, allocates and lays over the allocation.
    pub fn allocate<D: Device<Buffer = B>, W>(device: &D, layout: impl Fn(&mut Self) -> W) -> W {
        let elements = Self::measure(device, &layout);
        layout(&mut Self { buffer: device.zeros(elements), taken: 0 })
    }

    /// The number of elements that a layout takes; nothing of that size is allocated.
    pub fn measure<D: Device<Buffer = B>, W>(device: &D, layout: impl Fn(&mut Self) -> W) -> usize {
        let mut counting = Self { buffer: device.zeros(0), taken: 0 };
        layout(&mut counting);
        counting.taken
    }

    /// The next tensor of the layout.
    pub fn take(&mut self, rows: usize, cols: usize) -> Tensor<B> {
        let tensor = Tensor::new(Rc::clone(&self.buffer), self.taken, rows, cols);
        self.taken += (rows * cols).next_multiple_of(ALIGNMENT);
        tensor
    }
}
