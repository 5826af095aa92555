//! How many elements of a linear layer's products have the bits that the CPU device gives. Printed, promised by nobody.
#![allow(clippy::print_stdout, reason = "an example that prints")]

use temper_kernels::{Cpu, Device, Write};
use temper_kernels_cube::Cube;

/// Rows, and the shape of the largest linear layer of SmolLM2-135M.
const SHAPE: (usize, usize, usize) = (64, 1536, 576);

/// Numbers in [-1, 1) of all the bits that an f32 has, by a multiplicative generator.
fn numbers(seed: u32, count: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1u32 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn products<D: Device>(d: &D) -> [Vec<f32>; 3] {
    let (rows, outs, ins) = SHAPE;
    let of = |seed, rows, cols| d.upload(rows, cols, &numbers(seed, rows * cols));
    let (x, w, dy) = (of(1, rows, ins), of(2, outs, ins), of(3, rows, outs));
    let (y, dx, dw) = (of(4, rows, outs), of(5, rows, ins), d.upload(outs, ins, &vec![0.0; outs * ins]));
    d.linear(&x, &w, 1.0, Write::Set, &y);
    d.linear_backward_input(&dy, &w, 1.0, Write::Set, &dx);
    d.linear_backward_weight(&dy, &x, 1.0, &dw);
    [y, dx, dw].map(|t| d.read(&t))
}

fn main() {
    let (cube, cpu) = (Cube::new(cubecl::Device::default().client()), Cpu::new(2));
    println!("{} beside {}", cube.describe(), cpu.describe());
    for ((name, a), b) in ["y", "dx", "dw"].into_iter().zip(products(&cube)).zip(products(&cpu)) {
        let same = a.iter().zip(&b).filter(|(a, b)| a.to_bits() == b.to_bits()).count();
        let scale = b.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let apart = a.iter().zip(&b).fold(0.0f32, |m, (a, b)| m.max((a - b).abs())) / scale;
        println!(
            "{name}: {same} of {} elements have the same bits; furthest apart {apart:.1e} of the largest",
            a.len()
        );
    }
}
