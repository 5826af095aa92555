//! Muon: a momentum whose step is brought to an orthogonal matrix, for the matrices of the blocks (Keller Jordan et al., "Muon:
//! an optimizer for hidden layers in neural networks", 2024), with the scale of Liu et al., "Muon is scalable for LLM
//! training" (Moonlight), 2025. It is `torch.optim.Muon` with `adjust_lr_fn="match_rms_adamw"`.

use std::rc::Rc;

use serde::Serialize;
use temper_kernels::{Device, Tensor, Write};
use temper_model::LINEAR_MODULES;

/// Of the quintic `a x + b x^3 + c x^5` that takes singular values from 0 to 1 close to 1 in few steps (Jordan; PyTorch's
/// `ns_coefficients`).
const QUINTIC: [f32; 3] = [3.4445, -4.7750, 2.0315];
/// Steps of it (Jordan; PyTorch's `ns_steps`).
const STEPS: usize = 5;
/// The least length that a momentum is divided by (PyTorch's `eps`).
const EPSILON: f64 = 1e-7;
/// The root mean square of an AdamW step, which a step of Muon is brought to (Moonlight, section 2.2), so that rates and weight
/// decay of AdamW carry over.
const RMS_OF_ADAMW: f64 = 0.2;

/// Settings of Muon that hold for a whole run; rate, weight decay and clipping are AdamW's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MuonSettings {
    /// Decay of the mean of gradients, from which the step looks ahead by Nesterov's rule.
    pub momentum: f64,
}

/// Whether Muon trains the weight of this name: a whole linear map of a block. Embedding, head, norms, biases and adapters are
/// AdamW's.
pub(crate) fn takes(name: &str) -> bool {
    name.strip_suffix(".weight").is_some_and(|path| LINEAR_MODULES.iter().any(|linear| path.ends_with(linear)))
}

/// Numbers of the scratch for matrices of these shapes.
pub(crate) fn scratch(shapes: impl Iterator<Item = [usize; 2]>) -> usize {
    let (matrix, square) = largest(shapes);
    2 * (matrix + square)
}

/// Operations of the products by which a step of a matrix of this shape is made orthogonal.
pub(crate) fn operations([rows, cols]: [usize; 2]) -> f64 {
    let (side, length) = (rows.min(cols) as f64, rows.max(cols) as f64);
    STEPS as f64 * 2.0 * side * side * (2.0 * length + side)
}

/// Numbers of the largest matrix, and of the largest product of one with itself.
fn largest(shapes: impl Iterator<Item = [usize; 2]>) -> (usize, usize) {
    let sizes = |[rows, cols]: [usize; 2]| (rows * cols, rows.min(cols).pow(2));
    shapes.map(sizes).fold((0, 0), |(m, s), (matrix, square)| (m.max(matrix), s.max(square)))
}

/// Muon, with room for the step of one matrix.
pub(crate) struct Muon<B> {
    settings: MuonSettings,
    matrices: [Rc<B>; 2],
    squares: [Rc<B>; 2],
}

/// What a step of Muon is made with.
#[derive(Clone, Copy)]
pub(crate) struct MuonStep {
    pub learning_rate: f64,
    pub weight_decay: f64,
    /// Factor on the gradient (norm clipping).
    pub gradient_scale: f64,
}

impl<B> Muon<B> {
    /// For matrices of these shapes.
    pub fn new<D: Device<Buffer = B>>(
        device: &D,
        settings: MuonSettings,
        shapes: impl Iterator<Item = [usize; 2]>,
    ) -> Self {
        let (matrix, square) = largest(shapes);
        Self {
            settings,
            matrices: [matrix, matrix].map(|numbers| device.zeros(numbers)),
            squares: [square, square].map(|numbers| device.zeros(numbers)),
        }
    }

    /// One step in place: `weight` and `momentum` change, `gradient` does not.
    pub fn step<D: Device<Buffer = B>>(
        &self,
        device: &D,
        s: &MuonStep,
        weight: &Tensor<B>,
        gradient: &Tensor<B>,
        momentum: &Tensor<B>,
    ) {
        let [update, other] =
            self.matrices.each_ref().map(|m| Tensor::new(Rc::clone(m), 0, weight.rows(), weight.cols()));
        // momentum = mu * momentum + (1 - mu) * gradient; update = mu * momentum + (1 - mu) * gradient.
        let mu = self.settings.momentum as f32;
        device.copy(gradient, &update);
        device.scale((s.gradient_scale * (1.0 - self.settings.momentum)) as f32, &update);
        device.scale(mu, momentum);
        device.add(&update, momentum);
        device.copy(momentum, &other);
        device.scale(mu, &other);
        device.add(&other, &update);

        let step = self.orthogonal(device, update, other);
        let rate = s.learning_rate * RMS_OF_ADAMW * (weight.rows().max(weight.cols()) as f64).sqrt();
        device.scale((1.0 - s.learning_rate * s.weight_decay) as f32, weight);
        device.scale(-rate as f32, &step);
        device.add(&step, weight);
    }

    /// `x` with its singular values close to 1, by Newton and Schulz: `x = a x + (b g + c g^2) x` with `g = x x^T`, from `x`
    /// divided by its length. A tall matrix has the smaller product, `x^T x`, on its right. `other`: a second place for `x`.
    fn orthogonal<D: Device<Buffer = B>>(&self, device: &D, mut x: Tensor<B>, mut other: Tensor<B>) -> Tensor<B> {
        let [a, b, c] = QUINTIC;
        let (tall, side) = (x.rows() > x.cols(), x.rows().min(x.cols()));
        let [gram, square] = self.squares.each_ref().map(|m| Tensor::new(Rc::clone(m), 0, side, side));
        device.scale((1.0 / device.sum_squares(&x).sqrt().max(EPSILON)) as f32, &x);
        for _ in 0..STEPS {
            if tall {
                device.fill(&gram, 0.0);
                device.linear_backward_weight(&x, &x, 1.0, &gram);
            } else {
                device.linear(&x, &x, 1.0, Write::Set, &gram);
            }
            // The product is symmetric, so its square is itself with itself transposed.
            device.linear(&gram, &gram, c, Write::Set, &square);
            device.scale(b, &gram);
            device.add(&gram, &square);
            device.copy(&x, &other);
            device.scale(a, &other);
            if tall {
                device.linear(&x, &square, 1.0, Write::Add, &other);
            } else {
                device.linear_backward_input(&square, &x, 1.0, Write::Add, &other);
            }
            std::mem::swap(&mut x, &mut other);
        }
        x
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use temper_kernels::{Cpu, Precision};

    use super::*;

    /// The numbers of `tests/golden/muon/make.py`.
    fn wave([rows, cols]: [usize; 2], t: usize, a: f64) -> Vec<f32> {
        let of = |k: f64| (a * (0.37 * k + 0.0031 * k * k + 1.7 * t as f64).sin()) as f32;
        (0..rows * cols).map(|k| of(k as f64)).collect()
    }

    fn numbers(value: &Value) -> Vec<f32> {
        value.as_array().map_or_else(Vec::new, |v| v.iter().filter_map(Value::as_f64).map(|v| v as f32).collect())
    }

    /// Weight and momentum of shape number `t` after three steps.
    fn three_steps(device: Cpu, t: usize, shape: [usize; 2]) -> [Vec<f32>; 2] {
        let upload = |values: &[f32]| device.upload(shape[0], shape[1], values);
        let muon = Muon::new(&device, MuonSettings { momentum: 0.95 }, [[70, 40], shape].into_iter());
        let (weight, momentum) = (upload(&wave(shape, t, 0.3)), upload(&vec![0.0; shape[0] * shape[1]]));
        for s in 1..=3 {
            // Twice the gradient, halved by clipping.
            let gradient = upload(&wave(shape, t + 10 * s, 0.02));
            let step = MuonStep { learning_rate: 1e-2, weight_decay: 0.1, gradient_scale: 0.5 };
            muon.step(&device, &step, &weight, &gradient, &momentum);
        }
        [&weight, &momentum].map(|tensor| device.read(tensor))
    }

    fn farthest(a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    }

    /// Against `torch.optim.Muon`, whose iteration is once in f32 and once, as it is published, in bf16: wide, tall and square
    /// matrices. Weights of up to 0.3, of which the three steps change about 0.02.
    #[test]
    fn three_steps_are_those_of_torch() -> Result<(), Box<dyn std::error::Error>> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/muon/muon.json");
        let golden: Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
        let cases = golden["cases"].as_array().ok_or("no cases")?;
        assert_eq!(cases.len(), 6);
        let (mut exact, mut rounded, mut of_momentum) = (0.0f32, 0.0f32, 0.0f32);
        for (t, case) in cases.iter().enumerate() {
            let shape = [0, 1].map(|side| case["shape"][side].as_u64().unwrap_or(0) as usize);
            let [weight, momentum] = three_steps(Cpu::new(2), t, shape);
            exact = exact.max(farthest(&weight, &numbers(&case["weight"])));
            of_momentum = of_momentum.max(farthest(&momentum, &numbers(&case["momentum"])));
            let [weight, _] = three_steps(Cpu::new(2).with_precision(Precision::Bf16), t, shape);
            rounded = rounded.max(farthest(&weight, &numbers(&case["weight_by_bf16"])));
        }
        println!("weights {exact:e}, momentum {of_momentum:e}, weights by bf16 {rounded:e}");
        // Measured 6e-8, 1.2e-10 and 1.3e-3, by which PyTorch's own bf16 and f32 differ: both round, but at other places.
        assert!(exact < 3e-7 && of_momentum < 6e-10 && rounded < 4e-3);
        Ok(())
    }

    /// The point of it: singular values that differ by a factor of 50 come to lie close to 1.
    #[test]
    fn a_step_has_singular_values_close_to_1() {
        let device = Cpu::new(2);
        let muon = Muon::new(&device, MuonSettings { momentum: 0.95 }, [[3, 3]].into_iter());
        let place = || device.upload(3, 3, &[0.0; 9]);
        let x = device.upload(3, 3, &[5.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.1]);
        let made = device.read(&muon.orthogonal(&device, x, place()));
        for (k, value) in made.iter().enumerate() {
            let (off, near) = (value.abs() < 1e-6, (0.6..1.3).contains(&value.abs()));
            assert!(if k % 4 == 0 { near } else { off }, "{made:?}");
        }
        assert!(made[4] < 0.0);
        // Nothing stays nothing.
        assert_eq!(device.read(&muon.orthogonal(&device, place(), place())), [0.0; 9]);
    }
}
