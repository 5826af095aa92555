//! What every device refuses: shapes that do not fit and outputs that overlap other operands.

use crate::tensor::Tensor;

/// Refuses a tensor of another shape.
///
/// # Panics
/// When the shape is another.
pub fn expect_shape<B>(what: &str, tensor: &Tensor<B>, rows: usize, cols: usize) {
    assert!(
        tensor.rows() == rows && tensor.cols() == cols,
        "{what}: expected [{rows}, {cols}], got [{}, {}]",
        tensor.rows(),
        tensor.cols()
    );
}

/// Refuses an output that overlaps another operand.
///
/// # Panics
/// When some element belongs to both.
pub fn check_disjoint<B>(output: &Tensor<B>, others: &[&Tensor<B>]) {
    for other in others {
        assert!(!output.overlaps(other), "an operation's output overlaps another of its operands");
    }
}
