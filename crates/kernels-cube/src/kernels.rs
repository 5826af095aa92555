//! The kernels, in CubeCL's language. Each element of a result is computed by one unit in one order, so that a result
//! does not depend on how the runtime schedules cubes; no atomics.

#![allow(clippy::needless_range_loop, reason = "a kernel counts rows, it has no iterators")]

use cubecl::prelude::*;

/// Side of the square of outputs that one cube of [`product`] computes, and length of the pieces of k it stages.
pub const TILE: usize = 16;
/// Units of a cube where a cube is a run of elements or a row.
pub const UNITS: usize = 64;

/// A tensor as a kernel sees it: element (i, j) lies at `offset + i * row + j * col`. Transposed is `row` and `col`
/// exchanged. The whole buffer is bound, and the offset is a number: bound parts of a buffer must begin at multiples of 256
/// bytes on some devices, and tensors begin anywhere.
#[derive(CubeType, CubeLaunch)]
pub struct View {
    data: Box<[f32]>,
    offset: usize,
    row: usize,
    col: usize,
}

#[cube]
impl View {
    fn at(&self, i: usize, j: usize) -> usize {
        self.offset + i * self.row + j * self.col
    }
}

/// The sum of the cube's values, known to all of its units: pairs, then pairs of pairs, always the same ones.
#[cube]
fn sum_over_cube(value: f32) -> f32 {
    let unit = UNIT_POS as usize;
    let mut sums = Shared::new_slice(UNITS);
    sums[unit] = value;
    sync_cube();
    let mut half = comptime!(UNITS / 2).runtime();
    while half > 0 {
        if unit < half {
            let other = sums[unit + half];
            sums[unit] += other;
        }
        sync_cube();
        half /= 2;
    }
    sums[0]
}

/// `target[i, j] = value`; one unit an element, `count` elements.
#[cube(launch)]
pub fn fill(mut target: View, cols: usize, count: usize, value: f32) {
    if ABSOLUTE_POS < count {
        let to = target.at(ABSOLUTE_POS / cols, ABSOLUTE_POS % cols);
        target.data[to] = value;
    }
}

/// `target[i, j] = source[i, j]`.
#[cube(launch)]
pub fn copy(source: View, mut target: View, cols: usize, count: usize) {
    if ABSOLUTE_POS < count {
        let (i, j) = (ABSOLUTE_POS / cols, ABSOLUTE_POS % cols);
        let to = target.at(i, j);
        target.data[to] = source.data[source.at(i, j)];
    }
}

/// `target[i, j] = source[rows[i], j]`.
#[cube(launch)]
pub fn gather_rows(source: View, rows: &[u32], mut target: View, cols: usize, count: usize) {
    if ABSOLUTE_POS < count {
        let (i, j) = (ABSOLUTE_POS / cols, ABSOLUTE_POS % cols);
        let to = target.at(i, j);
        target.data[to] = source.data[source.at(rows[i] as usize, j)];
    }
}

/// `target[rows[i], j] = source[i, j]`; the rows are distinct.
#[cube(launch)]
pub fn scatter_rows(source: View, rows: &[u32], mut target: View, cols: usize, count: usize) {
    if ABSOLUTE_POS < count {
        let (i, j) = (ABSOLUTE_POS / cols, ABSOLUTE_POS % cols);
        let to = target.at(rows[i] as usize, j);
        target.data[to] = source.data[source.at(i, j)];
    }
}

/// `target[rows[i], j] += source[i, j]` in order of i; one unit a column, since rows may repeat.
#[cube(launch)]
pub fn scatter_add_rows(source: View, rows: &[u32], mut target: View, cols: usize, count: usize) {
    if ABSOLUTE_POS < cols {
        for i in 0..count {
            let to = target.at(rows[i] as usize, ABSOLUTE_POS);
            target.data[to] += source.data[source.at(i, ABSOLUTE_POS)];
        }
    }
}

/// `inv_rms[i] = 1 / sqrt(mean(x[i]^2) + epsilon)`; one cube a row.
#[cube(launch)]
pub fn inverse_rms(x: View, mut inv_rms: View, rows: usize, cols: usize, epsilon: f32) {
    let i = CUBE_POS;
    if i < rows {
        let mut sum = 0.0f32;
        let mut j = UNIT_POS as usize;
        while j < cols {
            let value = x.data[x.at(i, j)];
            sum += value * value;
            j += UNITS;
        }
        let sum = sum_over_cube(sum);
        if UNIT_POS == 0 {
            let to = inv_rms.at(i, 0);
            inv_rms.data[to] = 1.0 / (sum / f32::cast_from(cols) + epsilon).sqrt();
        }
    }
}

/// `y[i] = x[i] * inv_rms[i] * weight`; one unit an element.
#[cube(launch)]
pub fn normalised(x: View, weight: View, inv_rms: View, mut y: View, cols: usize, count: usize) {
    if ABSOLUTE_POS < count {
        let (i, j) = (ABSOLUTE_POS / cols, ABSOLUTE_POS % cols);
        let to = y.at(i, j);
        y.data[to] = x.data[x.at(i, j)] * inv_rms.data[inv_rms.at(i, 0)] * weight.data[weight.at(0, j)];
    }
}

/// `dx += inv * (dy*w - x * inv^2 * mean(dy*w*x))`; one cube a row.
#[cube(launch)]
pub fn rms_norm_backward(x: View, weight: View, inv_rms: View, dy: View, mut dx: View, rows: usize, cols: usize) {
    let i = CUBE_POS;
    if i < rows {
        let mut sum = 0.0f32;
        let mut j = UNIT_POS as usize;
        while j < cols {
            sum += dy.data[dy.at(i, j)] * weight.data[weight.at(0, j)] * x.data[x.at(i, j)];
            j += UNITS;
        }
        let mean = sum_over_cube(sum) / f32::cast_from(cols);
        let inv = inv_rms.data[inv_rms.at(i, 0)];
        let mut j = UNIT_POS as usize;
        while j < cols {
            let to = dx.at(i, j);
            let through = dy.data[dy.at(i, j)] * weight.data[weight.at(0, j)];
            dx.data[to] += inv * (through - x.data[x.at(i, j)] * inv * inv * mean);
            j += UNITS;
        }
    }
}

/// `dweight += sum_i dy[i] * x[i] * inv[i]` in order of i; one unit a column.
#[cube(launch)]
pub fn rms_norm_backward_weight(x: View, inv_rms: View, dy: View, mut dweight: View, rows: usize, cols: usize) {
    let j = ABSOLUTE_POS;
    if j < cols {
        let mut sum = 0.0f32;
        for i in 0..rows {
            sum += dy.data[dy.at(i, j)] * x.data[x.at(i, j)] * inv_rms.data[inv_rms.at(i, 0)];
        }
        let to = dweight.at(0, j);
        dweight.data[to] += sum;
    }
}

/// `to[i, j] (+)= scale * sum_k left[i, k] * right[j, k]`, the sum one chain over k in order. left: [m, k], right: [n, k],
/// either of them transposed by its strides; one cube a square of [`TILE`] outputs.
#[cube(launch)]
pub fn product(left: View, right: View, mut to: View, m: usize, n: usize, k: usize, scale: f32, #[comptime] add: bool) {
    let (a, b) = (UNIT_POS_Y as usize, UNIT_POS_X as usize);
    let (first_i, first_j) = (CUBE_POS_Y as usize * TILE, CUBE_POS_X as usize * TILE);
    let (i, j) = (first_i + a, first_j + b);
    let mut lefts = Shared::new_slice(TILE * TILE);
    let mut rights = Shared::new_slice(TILE * TILE);
    let mut sum = 0.0f32;
    let mut from = 0usize;
    while from < k {
        // Zeros beyond the edges: adding 0 * 0 at the end of a chain changes nothing.
        let at = from + b;
        lefts[a * TILE + b] = 0.0f32;
        rights[a * TILE + b] = 0.0f32;
        if i < m && at < k {
            lefts[a * TILE + b] = left.data[left.at(i, at)];
        }
        if first_j + a < n && at < k {
            rights[a * TILE + b] = right.data[right.at(first_j + a, at)];
        }
        sync_cube();
        for t in 0..TILE {
            sum = fma(lefts[a * TILE + t], rights[b * TILE + t], sum);
        }
        sync_cube();
        from += TILE;
    }
    if i < m && j < n {
        let place = to.at(i, j);
        if add {
            to.data[place] += scale * sum;
        } else {
            to.data[place] = scale * sum;
        }
    }
}
