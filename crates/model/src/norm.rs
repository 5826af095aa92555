//! The weight of an RMSNorm, of rows or of heads.

use temper_kernels::{Device, Tensor};

use crate::parameters::Parameter;

/// What an RMSNorm multiplies by: its weight, or in some models one plus it.
pub(crate) struct Norm<B> {
    name: String,
    weight: Parameter<B>,
    /// A one in each column, and one plus the weight.
    offset: Option<[Tensor<B>; 2]>,
}

impl<B> Norm<B> {
    /// Over a loaded weight [1, width] of this HF name.
    pub fn new<D: Device<Buffer = B>>(
        device: &D,
        name: String,
        weight: Tensor<B>,
        offset: bool,
        trained: bool,
    ) -> Self {
        let width = weight.cols();
        let offset = offset.then(|| [(); 2].map(|()| device.upload(1, width, &vec![1.0; width])));
        let weight = if trained { Parameter::trained(device, weight) } else { Parameter::constant(weight) };
        Self { name, weight, offset }
    }

    /// Makes [`Norm::factor`] that of the weight as it now is.
    pub fn refresh<D: Device<Buffer = B>>(&self, device: &D) {
        if let Some([ones, sum]) = &self.offset {
            device.copy(&self.weight.value, sum);
            device.add(ones, sum);
        }
    }

    /// [1, width], as of the last [`Norm::refresh`].
    pub fn factor(&self) -> &Tensor<B> {
        self.offset.as_ref().map_or(&self.weight.value, |[_, sum]| sum)
    }

    /// Where the gradient by the weight is summed, which is that by the factor.
    pub fn gradient(&self) -> Option<&Tensor<B>> {
        self.weight.gradient.as_ref()
    }

    /// The weight under its HF name.
    pub fn visit(&self, visit: &mut dyn FnMut(String, Parameter<B>)) {
        visit(self.name.clone(), self.weight.rows(0..1));
    }
}
