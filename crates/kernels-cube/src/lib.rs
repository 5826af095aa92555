//! A device of `temper-kernels` on CubeCL: the proof that a GPU can stand behind [`Device`], as far as linear layers
//! and RMSNorm go.
//!
//! On the device: storage (zeros, write, read, fill, copy, rows gathered and scattered), RMSNorm and linear layers, forward
//! and backward. The other operations are computed by [`Reference`] in f64 on the host, between a read and a write; each such
//! call is counted under its name ([`Cube::on_host`]), so that nobody takes them for the device's. Decision
//! `docs/decisions/0010-gpu-seam.md` says what a whole device needs.

mod host;
mod kernels;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use cubecl::calculate_cube_count_elemwise;
use cubecl::prelude::*;
use cubecl::server::Handle;
use temper_kernels::{
    AdamW, Cached, Device, Heads, LogProbGrad, LogProbs, Pick, Segment, Tensor, Write, check_disjoint, expect_shape,
};

use crate::kernels::{TILE, UNITS, ViewLaunch};

type Cells = Tensor<CubeBuffer>;

/// Storage on the device.
pub struct CubeBuffer {
    handle: Handle,
    elements: usize,
}

/// A device of a CubeCL runtime. Work is queued and runs in the order in which it was asked for; only [`Device::read`] and
/// the operations that return numbers wait for it.
pub struct Cube {
    client: Client,
    on_host: RefCell<BTreeMap<&'static str, u64>>,
}

/// A tensor as an argument of a kernel.
fn view(tensor: &Cells) -> ViewLaunch {
    strided(tensor, tensor.stride(), 1)
}

/// The same, rows and columns exchanged.
fn transposed(tensor: &Cells) -> ViewLaunch {
    strided(tensor, 1, tensor.stride())
}

fn strided(tensor: &Cells, row: usize, col: usize) -> ViewLaunch {
    let buffer = tensor.buffer();
    assert!(tensor.end() <= buffer.elements, "a tensor reaches {} into a buffer of {}", tensor.end(), buffer.elements);
    ViewLaunch::new(argument(&buffer.handle, buffer.elements), tensor.offset(), row, col)
}

#[allow(unsafe_code)]
fn argument(handle: &Handle, elements: usize) -> BufferArg {
    // SAFETY: the handle's allocation holds that many elements of four bytes.
    unsafe { BufferArg::from_raw_parts(handle.clone(), elements) }
}

impl Cube {
    /// The device that this CubeCL client stands for.
    pub fn new(client: Client) -> Self {
        Self { client, on_host: RefCell::default() }
    }

    /// How often operations without a kernel were computed on the host, by name.
    pub fn on_host(&self) -> BTreeMap<&'static str, u64> {
        self.on_host.borrow().clone()
    }

    fn buffer(&self, elements: usize) -> Rc<CubeBuffer> {
        // An allocation has at least one element: not every runtime binds an empty one.
        let elements = elements.max(1);
        Rc::new(CubeBuffer { handle: self.client.empty(elements * size_of::<f32>()), elements })
    }

    /// Cubes for one unit an element.
    fn elements(&self, count: usize) -> (CubeCount, CubeDim) {
        let dim = CubeDim::new_1d(UNITS as u32);
        (calculate_cube_count_elemwise(&self.client, count, dim), dim)
    }

    /// One cube a row.
    fn rows(&self, rows: usize) -> (CubeCount, CubeDim) {
        let (count, _) = self.elements(rows * UNITS);
        (count, CubeDim::new_1d(UNITS as u32))
    }

    /// Row numbers as a kernel's argument.
    fn indices(&self, rows: &[u32], below: usize) -> BufferArg {
        assert!(rows.iter().all(|&row| (row as usize) < below), "a row of {below}");
        argument(&self.client.create_from_slice(u32::as_bytes(rows)), rows.len())
    }

    /// Moves rows by one of the kernels for that: `units` elements of work, `count` as the kernel takes it; the row numbers
    /// with what they are below.
    fn move_rows(
        &self,
        launch: impl FnOnce(&Client, CubeCount, CubeDim, ViewLaunch, BufferArg, ViewLaunch, usize, usize),
        source: &Cells,
        (rows, below): (&[u32], usize),
        target: &Cells,
        units: usize,
        count: usize,
    ) {
        check_disjoint(target, &[source]);
        if rows.is_empty() || source.cols() == 0 {
            return;
        }
        let ((cubes, dim), rows) = (self.elements(units), self.indices(rows, below));
        launch(&self.client, cubes, dim, view(source), rows, view(target), source.cols(), count);
    }

    /// `to (+)= scale * left right^T` for [m, k] and [n, k].
    fn product(
        &self,
        (m, n, k): (usize, usize, usize),
        left: ViewLaunch,
        right: ViewLaunch,
        scale: f32,
        write: Write,
        to: &Cells,
    ) {
        if m * n == 0 {
            return;
        }
        let count = CubeCount::Static(n.div_ceil(TILE) as u32, m.div_ceil(TILE) as u32, 1);
        let dim = CubeDim::new_2d(TILE as u32, TILE as u32);
        kernels::product::launch(&self.client, count, dim, left, right, view(to), m, n, k, scale, write == Write::Add);
    }
}

impl Device for Cube {
    type Buffer = CubeBuffer;

    fn describe(&self) -> String {
        format!("cubecl {}, {}", self.client.name(), self.client.properties().identity.name)
    }

    fn zeros(&self, elements: usize) -> Rc<CubeBuffer> {
        let buffer = self.buffer(elements);
        self.fill(&Tensor::new(Rc::clone(&buffer), 0, 1, buffer.elements), 0.0);
        buffer
    }

    fn write(&self, tensor: &Cells, values: &[f32]) {
        assert_eq!(values.len(), tensor.len(), "values for a [{}, {}] tensor", tensor.rows(), tensor.cols());
        if tensor.is_empty() {
            return;
        }
        let handle = self.client.create_from_slice(f32::as_bytes(values));
        let packed = Rc::new(CubeBuffer { handle, elements: values.len() });
        self.copy(&Tensor::new(packed, 0, tensor.rows(), tensor.cols()), tensor);
    }

    fn read(&self, tensor: &Cells) -> Vec<f32> {
        if tensor.is_empty() {
            return Vec::new();
        }
        let packed = Tensor::new(self.buffer(tensor.len()), 0, tensor.rows(), tensor.cols());
        self.copy(tensor, &packed);
        match self.client.read_one(packed.buffer().handle.clone()) {
            Ok(bytes) => f32::from_bytes(&bytes).to_vec(),
            Err(error) => panic!("{} cannot be read: {error}", self.describe()),
        }
    }

    fn fill(&self, tensor: &Cells, value: f32) {
        let (count, dim) = self.elements(tensor.len());
        kernels::fill::launch(&self.client, count, dim, view(tensor), tensor.cols(), tensor.len(), value);
    }

    fn copy(&self, source: &Cells, target: &Cells) {
        expect_shape("copy's target", target, source.rows(), source.cols());
        check_disjoint(target, &[source]);
        let (count, dim) = self.elements(target.len());
        kernels::copy::launch(&self.client, count, dim, view(source), view(target), target.cols(), target.len());
    }

    fn scale(&self, factor: f32, x: &Cells) {
        self.host("scale", [], [x], |d, [], [x]| d.scale(factor, &x));
    }

    fn add(&self, x: &Cells, y: &Cells) {
        self.host("add", [x], [y], |d, [x], [y]| d.add(&x, &y));
    }

    fn sum_rows(&self, x: &Cells, sum: &Cells) {
        self.host("sum_rows", [x], [sum], |d, [x], [sum]| d.sum_rows(&x, &sum));
    }

    fn gather_rows(&self, source: &Cells, rows: &[u32], target: &Cells) {
        expect_shape("gather's target", target, rows.len(), source.cols());
        let rows = (rows, source.rows());
        self.move_rows(kernels::gather_rows::launch, source, rows, target, target.len(), target.len());
    }

    fn scatter_rows(&self, source: &Cells, rows: &[u32], target: &Cells) {
        expect_shape("scatter's source", source, rows.len(), target.cols());
        let rows = (rows, target.rows());
        self.move_rows(kernels::scatter_rows::launch, source, rows, target, source.len(), source.len());
    }

    fn scatter_add_rows(&self, source: &Cells, rows: &[u32], target: &Cells) {
        expect_shape("scatter's source", source, rows.len(), target.cols());
        let (rows, count) = ((rows, target.rows()), source.rows());
        self.move_rows(kernels::scatter_add_rows::launch, source, rows, target, source.cols(), count);
    }

    fn rms_norm(&self, x: &Cells, weight: &Cells, epsilon: f32, y: &Cells, inv_rms: &Cells) {
        expect_shape("rms_norm's inv_rms", inv_rms, x.rows(), 1);
        check_disjoint(inv_rms, &[x, weight, y]);
        let (count, dim) = self.rows(x.rows());
        kernels::inverse_rms::launch(&self.client, count, dim, view(x), view(inv_rms), x.rows(), x.cols(), epsilon);
        self.rms_norm_again(x, weight, inv_rms, y);
    }

    fn rms_norm_again(&self, x: &Cells, weight: &Cells, inv_rms: &Cells, y: &Cells) {
        expect_shape("rms_norm's weight", weight, 1, x.cols());
        expect_shape("rms_norm's y", y, x.rows(), x.cols());
        check_disjoint(y, &[x, weight, inv_rms]);
        let (count, dim) = self.elements(x.len());
        let [x, weight, inv_rms, to] = [x, weight, inv_rms, y].map(view);
        kernels::normalised::launch(&self.client, count, dim, x, weight, inv_rms, to, y.cols(), y.len());
    }

    fn rms_norm_backward(
        &self,
        x: &Cells,
        weight: &Cells,
        inv_rms: &Cells,
        dy: &Cells,
        dx: &Cells,
        dweight: Option<&Cells>,
    ) {
        expect_shape("rms_norm_backward's weight", weight, 1, x.cols());
        expect_shape("rms_norm_backward's inv_rms", inv_rms, x.rows(), 1);
        expect_shape("rms_norm_backward's dx", dx, x.rows(), x.cols());
        expect_shape("rms_norm_backward's dy", dy, x.rows(), x.cols());
        check_disjoint(dx, &[x, weight, inv_rms, dy]);
        let ((count, dim), (rows, cols)) = (self.rows(x.rows()), (x.rows(), x.cols()));
        let [xs, ws, inverse, dys, to] = [x, weight, inv_rms, dy, dx].map(view);
        kernels::rms_norm_backward::launch(&self.client, count, dim, xs, ws, inverse, dys, to, rows, cols);
        if let Some(dweight) = dweight {
            expect_shape("rms_norm_backward's dweight", dweight, 1, x.cols());
            check_disjoint(dweight, &[x, weight, inv_rms, dy, dx]);
            let (count, dim) = self.elements(cols);
            let [xs, inverse, dys, to] = [x, inv_rms, dy, dweight].map(view);
            kernels::rms_norm_backward_weight::launch(&self.client, count, dim, xs, inverse, dys, to, rows, cols);
        }
    }

    fn rms_norm_heads(&self, x: &Cells, weight: &Cells, epsilon: f32, y: &Cells, inv_rms: &Cells) {
        self.host("rms_norm_heads", [x, weight], [y, inv_rms], |d, [x, weight], [y, inv_rms]| {
            d.rms_norm_heads(&x, &weight, epsilon, &y, &inv_rms);
        });
    }

    fn rms_norm_heads_backward(
        &self,
        x: &Cells,
        weight: &Cells,
        inv_rms: &Cells,
        gradient: &Cells,
        dweight: Option<&Cells>,
    ) {
        let operation = "rms_norm_heads_backward";
        match dweight {
            None => self.host(operation, [x, weight, inv_rms], [gradient], |d, [x, weight, inv_rms], [gradient]| {
                d.rms_norm_heads_backward(&x, &weight, &inv_rms, &gradient, None);
            }),
            Some(dweight) => {
                let outputs = [gradient, dweight];
                self.host(operation, [x, weight, inv_rms], outputs, |d, [x, weight, inv_rms], [gradient, dweight]| {
                    d.rms_norm_heads_backward(&x, &weight, &inv_rms, &gradient, Some(&dweight));
                });
            }
        }
    }

    fn linear(&self, x: &Cells, weight: &Cells, scale: f32, write: Write, y: &Cells) {
        expect_shape("linear's weight", weight, y.cols(), x.cols());
        expect_shape("linear's y", y, x.rows(), weight.rows());
        check_disjoint(y, &[x, weight]);
        self.product((y.rows(), y.cols(), x.cols()), view(x), view(weight), scale, write, y);
    }

    fn linear_backward_input(&self, dy: &Cells, weight: &Cells, scale: f32, write: Write, dx: &Cells) {
        expect_shape("linear's weight", weight, dy.cols(), dx.cols());
        expect_shape("linear's dx", dx, dy.rows(), weight.cols());
        check_disjoint(dx, &[dy, weight]);
        self.product((dx.rows(), dx.cols(), dy.cols()), view(dy), transposed(weight), scale, write, dx);
    }

    fn linear_backward_weight(&self, dy: &Cells, x: &Cells, scale: f32, dweight: &Cells) {
        expect_shape("linear's dweight", dweight, dy.cols(), x.cols());
        expect_shape("linear's dy", dy, x.rows(), dy.cols());
        check_disjoint(dweight, &[dy, x]);
        let shape = (dweight.rows(), dweight.cols(), x.rows());
        self.product(shape, transposed(dy), transposed(x), scale, Write::Add, dweight);
    }

    fn rope(&self, x: &Cells, dim: usize, positions: &[u32], cos: &Cells, sin: &Cells, inverse: bool) {
        self.host("rope", [cos, sin], [x], |d, [cos, sin], [x]| d.rope(&x, dim, positions, &cos, &sin, inverse));
    }

    fn attention(&self, qkv: &Cells, segments: &[Segment], heads: Heads, out: &Cells, log_sum: &Cells) {
        self.host("attention", [qkv], [out, log_sum], |d, [qkv], [out, log_sum]| {
            d.attention(&qkv, segments, heads, &out, &log_sum);
        });
    }

    fn attention_backward(
        &self,
        qkv: &Cells,
        out: &Cells,
        log_sum: &Cells,
        dout: &Cells,
        segments: &[Segment],
        heads: Heads,
        dqkv: &Cells,
    ) {
        let inputs = [qkv, out, log_sum, dout];
        self.host("attention_backward", inputs, [dqkv], |d, [qkv, out, log_sum, dout], [dqkv]| {
            d.attention_backward(&qkv, &out, &log_sum, &dout, segments, heads, &dqkv);
        });
    }

    fn attention_cached(&self, q: &Cells, cache: &Cells, runs: &[Cached], heads: Heads, out: &Cells) {
        self.host("attention_cached", [q, cache], [out], |d, [q, cache], [out]| {
            d.attention_cached(&q, &cache, runs, heads, &out);
        });
    }

    fn swiglu(&self, gate_up: &Cells, out: &Cells) {
        self.host("swiglu", [gate_up], [out], |d, [gate_up], [out]| d.swiglu(&gate_up, &out));
    }

    fn swiglu_backward(&self, gate_up: &Cells, dout: &Cells, dgate_up: &Cells) {
        self.host("swiglu_backward", [gate_up, dout], [dgate_up], |d, [gate_up, dout], [dgate_up]| {
            d.swiglu_backward(&gate_up, &dout, &dgate_up);
        });
    }

    fn geglu(&self, gate_up: &Cells, out: &Cells) {
        self.host("geglu", [gate_up], [out], |d, [gate_up], [out]| d.geglu(&gate_up, &out));
    }

    fn geglu_backward(&self, gate_up: &Cells, dout: &Cells, dgate_up: &Cells) {
        self.host("geglu_backward", [gate_up, dout], [dgate_up], |d, [gate_up, dout], [dgate_up]| {
            d.geglu_backward(&gate_up, &dout, &dgate_up);
        });
    }

    fn linear_logprob(
        &self,
        hidden: &Cells,
        head: &Cells,
        picks: &[Pick],
        logits: &Cells,
        grad: Option<LogProbGrad<'_, CubeBuffer>>,
    ) -> LogProbs {
        let name = "linear_logprob";
        let (inputs, Some(LogProbGrad { logprob, entropy, hidden: dhidden, head: dhead })) =
            ([hidden, head, logits], grad)
        else {
            return self.host(name, [hidden, head, logits], [], |d, [hidden, head, logits], []| {
                d.linear_logprob(&hidden, &head, picks, &logits, None)
            });
        };
        match dhead {
            Some(dhead) => self.host(name, inputs, [dhidden, dhead], |d, [hidden, head, logits], [dhidden, dhead]| {
                let grad = LogProbGrad { logprob, entropy, hidden: &dhidden, head: Some(&dhead) };
                d.linear_logprob(&hidden, &head, picks, &logits, Some(grad))
            }),
            None => self.host(name, inputs, [dhidden], |d, [hidden, head, logits], [dhidden]| {
                let grad = LogProbGrad { logprob, entropy, hidden: &dhidden, head: None };
                d.linear_logprob(&hidden, &head, picks, &logits, Some(grad))
            }),
        }
    }

    fn linear_argmax(&self, hidden: &Cells, head: &Cells, logits: &Cells) -> Vec<u32> {
        self.host("linear_argmax", [hidden, head, logits], [], |d, [hidden, head, logits], []| {
            d.linear_argmax(&hidden, &head, &logits)
        })
    }

    fn linear_kl(&self, p: (&Cells, &Cells), q: (&Cells, &Cells), logits: (&Cells, &Cells)) -> Vec<f32> {
        let inputs = [p.0, p.1, q.0, q.1, logits.0, logits.1];
        self.host("linear_kl", inputs, [], |d, [p, head_p, q, head_q, zp, zq], []| {
            d.linear_kl((&p, &head_p), (&q, &head_q), (&zp, &zq))
        })
    }

    fn sum_squares(&self, tensor: &Cells) -> f64 {
        self.host("sum_squares", [tensor], [], |d, [tensor], []| d.sum_squares(&tensor))
    }

    fn adamw(&self, settings: &AdamW, weight: &Cells, gradient: &Cells, mean: &Cells, square: &Cells) {
        self.host("adamw", [gradient], [weight, mean, square], |d, [gradient], [weight, mean, square]| {
            d.adamw(settings, &weight, &gradient, &mean, &square);
        });
    }
}
