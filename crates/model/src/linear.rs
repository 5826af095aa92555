//! A linear layer whose weight may hold several named projections, each of which may carry a LoRA adapter.

use std::ops::Range;

use temper_kernels::{Device, LowRank, Tensor, Write};

use crate::parameters::Parameter;
use crate::{LoraSettings, Tuning};

/// One projection of a fused weight, by the module path that HF gives it.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// "model.layers.0.self_attn.q_proj"
    pub path: String,
    /// Its rows of the fused weight.
    pub rows: Range<usize>,
}

impl Part {
    /// Whether it has an adapter: an entry of `target_modules` names it, by PEFT's rule: its whole path, or the end of it after a dot.
    pub fn is_adapted(&self, lora: &LoraSettings) -> bool {
        lora.targets.iter().any(|target| self.is_named(target))
    }

    fn is_named(&self, target: &str) -> bool {
        self.path.strip_suffix(target).is_some_and(|before| before.is_empty() || before.ends_with('.'))
    }
}

/// `y = x W^T + bias`, with `W` the projections one under the other; and on adapted projections
/// `y_p += scale * (x A_p^T) B_p^T` (Hu et al., 2021), `scale = alpha / rank`.
pub(crate) struct Linear<B> {
    weight: Parameter<B>,
    /// [1, out], where there is one.
    bias: Option<Parameter<B>>,
    parts: Vec<Part>,
    lora: Option<Lora<B>>,
}

struct Lora<B> {
    rank: usize,
    scale: f32,
    /// Indices into `parts`.
    adapted: Vec<usize>,
    /// The A of every adapted projection, one under the other: [rank * adapted, in].
    a: Parameter<B>,
    /// Each adapted projection's B: [rows, rank].
    b: Vec<Parameter<B>>,
}

impl<B> Linear<B> {
    /// Over a loaded weight [out, in] and bias [1, out]; adapters as `tuning` says.
    pub fn new<D: Device<Buffer = B>>(
        device: &D,
        parts: Vec<Part>,
        weight: Tensor<B>,
        bias: Option<Tensor<B>>,
        tuning: &Tuning,
    ) -> Self {
        let ins = weight.cols();
        let lora = match tuning {
            Tuning::Lora(settings) => {
                let adapted: Vec<usize> = (0..parts.len()).filter(|&p| parts[p].is_adapted(settings)).collect();
                let rank = settings.rank;
                let scale = settings.alpha / rank as f32;
                (!adapted.is_empty()).then(|| Lora {
                    rank,
                    scale,
                    a: Parameter::zeros(device, rank * adapted.len(), ins),
                    b: adapted.iter().map(|&p| Parameter::zeros(device, parts[p].rows.len(), rank)).collect(),
                    adapted,
                })
            }
            Tuning::Full | Tuning::Frozen => None,
        };
        let bias = bias.map(|bias| match tuning {
            Tuning::Full => Parameter::trained(device, bias),
            Tuning::Lora(_) | Tuning::Frozen => Parameter::constant(bias),
        });
        let weight = match tuning {
            Tuning::Full => Parameter::trained(device, weight),
            Tuning::Lora(_) | Tuning::Frozen => {
                let rows: Vec<Range<usize>> = parts.iter().map(|part| part.rows.clone()).collect();
                Parameter::frozen(device, weight, &rows)
            }
        };
        Self { weight, bias, parts, lora }
    }

    /// Whether anything here is trained.
    pub fn is_trained(&self) -> bool {
        self.weight.gradient.is_some() || self.lora.is_some()
    }

    /// Columns that the adapters' inner activations take; 0 without adapters.
    pub fn inner_width(&self) -> usize {
        self.lora.as_ref().map_or(0, |lora| lora.rank * lora.adapted.len())
    }

    /// `y = from + x W^T + bias` and what the adapters add; `from` none: from zero. `inner`: [n, inner_width or more], kept for
    /// the backward; `adapter` turns the adapters on.
    pub fn forward<D: Device<Buffer = B>>(
        &self,
        d: &D,
        x: &Tensor<B>,
        from: Option<&Tensor<B>>,
        y: &Tensor<B>,
        inner: &Tensor<B>,
        adapter: bool,
    ) {
        self.product(d, x, from, y, inner, adapter);
        if let Some(bias) = &self.bias {
            d.add(&bias.value, y);
        }
    }

    fn product<D: Device<Buffer = B>>(
        &self,
        d: &D,
        x: &Tensor<B>,
        from: Option<&Tensor<B>>,
        y: &Tensor<B>,
        inner: &Tensor<B>,
        adapter: bool,
    ) {
        let Some(lora) = self.lora.as_ref().filter(|_| adapter) else {
            return d.linear_adapted(x, &self.weight.value, from, inner, &[], y);
        };
        let inner = &inner.col_range(0..self.inner_width());
        d.linear(x, &lora.a.value, 1.0, Write::Set, inner);
        let pieces: Vec<_> = lora
            .adapted
            .iter()
            .zip(&lora.b)
            .enumerate()
            .map(|(k, (&p, b))| LowRank {
                cols: self.parts[p].rows.clone(),
                inner: k * lora.rank..(k + 1) * lora.rank,
                b: &b.value,
                scale: lora.scale,
            })
            .collect();
        d.linear_adapted(x, &self.weight.value, from, inner, &pieces, y);
    }

    /// Adds the gradients of what is trained here, and overwrites `dx` where it is wanted. `inner` is the forward's;
    /// `dinner` scratch of its shape.
    pub fn backward<D: Device<Buffer = B>>(
        &self,
        d: &D,
        x: &Tensor<B>,
        inner: &Tensor<B>,
        dy: &Tensor<B>,
        dinner: &Tensor<B>,
        dx: Option<&Tensor<B>>,
    ) {
        if let Some(dweight) = &self.weight.gradient {
            d.linear_backward_weight(dy, x, 1.0, dweight);
        }
        if let Some(dbias) = self.bias.as_ref().and_then(|bias| bias.gradient.as_ref()) {
            d.sum_rows(dy, dbias);
        }
        let Some(lora) = &self.lora else {
            if let Some(dx) = dx {
                d.linear_backward_input(dy, &self.weight.value, 1.0, Write::Set, dx);
            }
            return;
        };
        let [inner, dinner] = &[inner, dinner].map(|tensor| tensor.col_range(0..self.inner_width()));
        for (k, (&p, b)) in lora.adapted.iter().zip(&lora.b).enumerate() {
            let columns = k * lora.rank..(k + 1) * lora.rank;
            let dy = dy.col_range(self.parts[p].rows.clone());
            if let Some(db) = &b.gradient {
                d.linear_backward_weight(&dy, &inner.col_range(columns.clone()), lora.scale, db);
            }
            d.linear_backward_input(&dy, &b.value, lora.scale, Write::Set, &dinner.col_range(columns));
        }
        if let Some(da) = &lora.a.gradient {
            d.linear_backward_weight(dinner, x, 1.0, da);
        }
        if let Some(dx) = dx {
            d.linear_adapted_backward_input(dy, &self.weight.value, dinner, &lora.a.value, dx);
        }
    }

    /// The weight and the bias of each projection under their HF names.
    pub fn visit_weights(&self, visit: &mut dyn FnMut(String, Parameter<B>)) {
        for part in &self.parts {
            visit(format!("{}.weight", part.path), self.weight.rows(part.rows.clone()));
            if let Some(bias) = &self.bias {
                visit(format!("{}.bias", part.path), bias.cols(part.rows.clone()));
            }
        }
    }

    /// The adapters under PEFT's names, without its `base_model.model.` prefix.
    pub fn visit_adapters(&self, visit: &mut dyn FnMut(String, Parameter<B>)) {
        let Some(lora) = &self.lora else { return };
        for (k, (&p, b)) in lora.adapted.iter().zip(&lora.b).enumerate() {
            let path = &self.parts[p].path;
            visit(format!("{path}.lora_A.weight"), lora.a.rows(k * lora.rank..(k + 1) * lora.rank));
            visit(format!("{path}.lora_B.weight"), b.rows(0..b.value.rows()));
        }
    }

    /// Multiplies what the adapters add: 1 leaves them, 0 gives the base.
    pub fn scale_adapters(&mut self, factor: f32) {
        if let Some(lora) = &mut self.lora {
            lora.scale *= factor;
        }
    }
}
