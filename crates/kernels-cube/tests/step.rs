//! A whole training step on the device: model and training above `kernels` are what they are for the CPU.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../train/tests/models/mod.rs"]
mod models;

use temper_kernels_cube::Cube;

#[test]
fn the_gradients_of_a_step_are_those_of_the_reference() {
    models::gradients::gradients_are_those_of_the_reference(|| Cube::new(cubecl::Device::default().client()));
}
