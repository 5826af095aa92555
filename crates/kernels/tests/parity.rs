//! Each operation of the CPU device against the reference device in f64.

mod suite;

use suite::parity_suite;
use temper_kernels::Cpu;

parity_suite!(Cpu::new(2));
