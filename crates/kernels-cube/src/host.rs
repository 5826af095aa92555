//! Operations that have no kernel yet: read, computed by the reference device in f64, written back, counted.

use std::cell::RefCell;

use temper_kernels::{Device, Reference, Tensor, check_disjoint};

use crate::{Cells, Cube};

/// The reference device of the fallback.
type Host = Reference<f64>;
type HostCells = Tensor<RefCell<Vec<f64>>>;

impl Cube {
    /// Runs `work` on copies of the tensors and writes the outputs back. Outputs are read first: some operations add to
    /// them or leave rows as they are.
    pub(crate) fn host<const IN: usize, const OUT: usize, R>(
        &self,
        operation: &'static str,
        inputs: [&Cells; IN],
        outputs: [&Cells; OUT],
        work: impl FnOnce(&Host, [HostCells; IN], [HostCells; OUT]) -> R,
    ) -> R {
        for (i, output) in outputs.iter().enumerate() {
            check_disjoint(output, &inputs);
            check_disjoint(output, &outputs[..i]);
        }
        *self.on_host.borrow_mut().entry(operation).or_default() += 1;
        let host = Host::new();
        let down = |tensor: &Cells| host.upload(tensor.rows(), tensor.cols(), &self.read(tensor));
        let (ins, outs) = (inputs.map(down), outputs.map(down));
        let result = work(&host, ins, outs.clone());
        for (output, computed) in outputs.into_iter().zip(&outs) {
            self.write(output, &host.read(computed));
        }
        result
    }
}
