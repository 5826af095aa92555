//! Symmetric positive matrices of some hundred rows: all that a Gaussian process needs of linear algebra.

/// A lower triangle, or a whole matrix, by rows of `size` each.
#[derive(Clone, Debug)]
pub(super) struct Square {
    pub size: usize,
    pub values: Vec<f64>,
}

impl Square {
    pub(super) fn zeros(size: usize) -> Self {
        Self { size, values: vec![0.0; size * size] }
    }

    pub(super) fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.size..(row + 1) * self.size]
    }

    pub(super) fn at(&mut self, row: usize, column: usize) -> &mut f64 {
        &mut self.values[row * self.size + column]
    }

    /// Makes the lower triangle of a symmetric matrix its Cholesky factor, row by row; the rest is not read. Whether it is positive.
    #[must_use]
    pub(super) fn factor(&mut self) -> bool {
        let size = self.size;
        for i in 0..size {
            let (above, rest) = self.values.split_at_mut(i * size);
            let row = &mut rest[..size];
            for j in 0..i {
                let other = &above[j * size..j * size + j + 1];
                row[j] = (row[j] - dot(&row[..j], &other[..j])) / other[j];
            }
            let square = row[i] - dot(&row[..i], &row[..i]);
            if square.is_nan() || square <= 0.0 {
                return false;
            }
            row[i] = square.sqrt();
        }
        true
    }

    /// The inverse of a lower triangle, transposed: row `j` holds column `j` of the inverse, from place `j` on.
    pub(super) fn inverse_transposed(&self) -> Self {
        let size = self.size;
        let mut inverse = Self::zeros(size);
        for j in 0..size {
            let column = &mut inverse.values[j * size..(j + 1) * size];
            column[j] = 1.0 / self.values[j * size + j];
            for i in j + 1..size {
                let row = &self.values[i * size..i * size + i + 1];
                column[i] = -dot(&row[j..i], &column[j..i]) / row[i];
            }
        }
        inverse
    }

    /// The logarithm of the determinant of what this is the factor of.
    pub(super) fn ln_determinant(&self) -> f64 {
        2.0 * (0..self.size).map(|i| self.values[i * self.size + i].ln()).sum::<f64>()
    }
}

/// A product of vectors, in four sums, so that the processor need not wait for each.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (a_parts, b_parts) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = a_parts.remainder().iter().zip(b_parts.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a_parts.zip(b_parts) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    rest + sums.iter().sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factor_and_inverse_give_the_matrix_back() {
        let size = 23;
        let random = temper_run::Random::new(1, "test");
        let mut matrix = Square::zeros(size);
        for i in 0..size {
            for j in 0..size {
                let place = |i: usize, j: usize| random.unit((i * size + j) as u64) - 0.5;
                // A product with itself, and something on the diagonal.
                *matrix.at(i, j) = (0..size).map(|k| place(i, k) * place(j, k)).sum::<f64>() + f64::from(i == j);
            }
        }
        let mut factor = matrix.clone();
        assert!(factor.factor());
        let inverse = factor.inverse_transposed();
        for i in 0..size {
            for j in 0..size {
                // (L L')^-1 = L'^-1 L^-1: rows of the transposed inverse against each other.
                let inverted = |k: usize| dot(inverse.row(i), inverse.row(k));
                let product: f64 = (0..size).map(|k| inverted(k) * matrix.row(k)[j]).sum();
                assert!((product - f64::from(i == j)).abs() < 1e-10, "{i} {j}: {product}");
            }
        }
        let mut negative = Square::zeros(1);
        *negative.at(0, 0) = -1.0;
        assert!(!negative.factor());
    }
}
