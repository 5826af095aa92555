//! The operations of a decoder, forward and backward, on a device.
//!
//! Read `device.rs` first: one trait, [`Device`], names every operation, with its shapes, its formula and what its
//! backward accumulates. Two devices implement it: [`Reference`] (plain loops over f32 or f64: the oracle of every
//! test) and [`Cpu`] (f32, threads, instructions chosen at run time). Nothing above this crate may assume that a
//! tensor is a slice in memory: data goes in by `upload`/`write` and comes out by `read`.
//!
//! `tests/gradients.rs` checks each backward of `Reference` in f64 against central differences;
//! `tests/suite` holds each operation of a device against `Reference`. A device can also be a crate of its own:
//! `crates/kernels-cube`, no member of the workspace, runs linear layers and RMSNorm on a GPU and passes the same suite.

// The one crate with `unsafe`: raw row pointers shared by the worker threads of an operation, each with its SAFETY note.
#![allow(unsafe_code)]

mod arena;
mod check;
mod cpu;
mod device;
mod dropout;
mod encoding;
mod operands;
mod profile;
mod quantise;
mod reference;
mod tensor;

pub use arena::Arena;
pub use check::{check_disjoint, expect_shape};
pub use cpu::{Cpu, FrozenWeight, PackedError, PackedWeights};
pub use device::Device;
pub use encoding::Encoding;
pub use operands::{AdamW, Cached, Encoded, Heads, LogProbGrad, LogProbs, LowRank, Pick, Precision, Segment, Write};
pub use profile::{Measured, Operation, Profiled};
pub use reference::{Real, Reference};
pub use tensor::Tensor;
