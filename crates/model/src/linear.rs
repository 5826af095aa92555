//! A linear layer whose weight may hold several named projections, each of which may carry a LoRA adapter.

use std::ops::Range;

use temper_kernels::{Device, LowRank, Tensor, Write};
use temper_run::mix;

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
/// `y_p += scale * (x A_p^T) B_p^T` (Hu et al., 2021). With DoRA (Liu et al., 2024) an adapted row of the sum of both
/// weights is brought to the length of its magnitude: `y_j = m_j / |W_j + scale * B_j A| * (x W^T + ...)_j`, the length a
/// constant of the gradient and the bias apart, as in PEFT.
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
    dora: Option<Dora<B>>,
}

/// Magnitudes, and lengths of the adapted rows: [out, 1], both one in projections without an adapter.
struct Dora<B> {
    magnitude: Parameter<B>,
    norms: Tensor<B>,
}

/// What the forward of a linear keeps of its adapters: n rows each.
pub(crate) struct AdapterRows<B> {
    /// `x A^T`, [n, inner width or more].
    pub inner: Tensor<B>,
    /// The output before DoRA scales it, [n, out]; no columns without.
    pub unscaled: Tensor<B>,
}

impl<B> AdapterRows<B> {
    pub fn first_rows(&self, n: usize) -> Self {
        Self { inner: self.inner.first_rows(n), unscaled: self.unscaled.first_rows(n) }
    }
}

/// Scratch of adapters, of n rows or more, as wide as the widest linear or wider; no columns where nothing needs it.
pub(crate) struct AdapterScratch<B> {
    /// An input with elements dropped, or its gradient.
    pub dropped: Tensor<B>,
    /// The gradient by an output before DoRA scaled it.
    pub unscaled: Tensor<B>,
}

/// How adapters take part in a pass.
#[derive(Clone, Copy)]
pub(crate) struct Adapters<'a> {
    /// Whether they do.
    pub on: bool,
    /// What of their inputs is dropped.
    pub noise: Option<&'a Noise>,
}

/// Which elements a micro-batch's adapters drop: a key for each token, its own wherever it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Noise {
    /// Share of elements dropped.
    pub(crate) rate: f32,
    pub(crate) keys: Vec<u64>,
}

impl Noise {
    /// The keys of the linear number `site` of the model.
    fn at(&self, site: usize) -> Vec<u64> {
        let site = mix(site as u64 + 1);
        self.keys.iter().map(|key| mix(key ^ site)).collect()
    }
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
        let (outs, ins) = (weight.rows(), weight.cols());
        let lora = match tuning {
            Tuning::Lora(settings) => {
                let adapted: Vec<usize> = (0..parts.len()).filter(|&p| parts[p].is_adapted(settings)).collect();
                let rank = settings.rank;
                let of_b = |p: &usize| Parameter {
                    rate: settings.b_rate,
                    ..Parameter::zeros(device, parts[*p].rows.len(), rank)
                };
                (!adapted.is_empty()).then(|| Lora {
                    rank,
                    scale: settings.scale(),
                    a: Parameter::zeros(device, rank * adapted.len(), ins),
                    b: adapted.iter().map(of_b).collect(),
                    adapted,
                    dora: settings.dora.then(|| {
                        let ones = || device.upload(outs, 1, &vec![1.0; outs]);
                        let magnitude = Parameter { rate: settings.b_rate, ..Parameter::trained(device, ones()) };
                        Dora { magnitude, norms: ones() }
                    }),
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

    /// `y = from + x W^T + bias` and what the adapters add; `from` none: from zero. `kept` is for the backward; `site` is this
    /// linear's number in the model.
    pub fn forward<D: Device<Buffer = B>>(
        &self,
        d: &D,
        x: &Tensor<B>,
        from: Option<&Tensor<B>>,
        y: &Tensor<B>,
        (kept, scratch): (&AdapterRows<B>, &AdapterScratch<B>),
        adapters: Adapters<'_>,
        site: usize,
    ) {
        match &self.lora {
            Some(lora) if adapters.on => {
                self.adapted(d, lora, x, from, y, kept, adapters.noise.map(|n| (n, site, scratch)))
            }
            _ => d.linear_adapted(x, &self.weight.value, from, None, &kept.inner, &[], y),
        }
        if let Some(bias) = &self.bias {
            d.add(&bias.value, y);
        }
    }

    /// The forward without the bias. `noise`: what is dropped, with the linear's number and scratch.
    fn adapted<D: Device<Buffer = B>>(
        &self,
        d: &D,
        lora: &Lora<B>,
        x: &Tensor<B>,
        from: Option<&Tensor<B>>,
        y: &Tensor<B>,
        kept: &AdapterRows<B>,
        noise: Option<(&Noise, usize, &AdapterScratch<B>)>,
    ) {
        let inner = &kept.inner.col_range(0..self.inner_width());
        if let Some((noise, site, scratch)) = noise {
            let dropped = scratch.dropped.first_rows(x.rows()).col_range(0..x.cols());
            d.dropout(x, &noise.at(site), noise.rate, Write::Set, &dropped);
            d.linear(&dropped, &lora.a.value, 1.0, Write::Set, inner);
        }
        let a = noise.is_none().then_some(&lora.a.value);
        let pieces = self.pieces(lora);
        match &lora.dora {
            None => d.linear_adapted(x, &self.weight.value, from, a, inner, &pieces, y),
            Some(dora) => {
                let unscaled = kept.unscaled.col_range(0..y.cols());
                d.linear_adapted(x, &self.weight.value, None, a, inner, &pieces, &unscaled);
                d.scale_columns(&unscaled, &dora.magnitude.value, &dora.norms, from, y);
            }
        }
    }

    /// What each adapter adds, as products take it.
    fn pieces<'a>(&self, lora: &'a Lora<B>) -> Vec<LowRank<'a, B>> {
        let piece = |(k, (&p, b)): (usize, (&usize, &'a Parameter<B>))| LowRank {
            cols: self.parts[p].rows.clone(),
            inner: k * lora.rank..(k + 1) * lora.rank,
            b: &b.value,
            scale: lora.scale,
        };
        lora.adapted.iter().zip(&lora.b).enumerate().map(piece).collect()
    }

    /// Adds the gradients of what is trained here, and overwrites `dx` where it is wanted. `kept` is the forward's;
    /// `dinner` scratch of its `inner`'s shape. `noise` and `site` as in the forward.
    pub fn backward<D: Device<Buffer = B>>(
        &self,
        d: &D,
        x: &Tensor<B>,
        kept: &AdapterRows<B>,
        dy: &Tensor<B>,
        (dinner, scratch): (&Tensor<B>, &AdapterScratch<B>),
        dx: Option<&Tensor<B>>,
        noise: Option<&Noise>,
        site: usize,
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
        let unscaled = scratch.unscaled.first_rows(x.rows());
        let dy = match &lora.dora {
            None => dy,
            Some(dora) => {
                for part in lora.adapted.iter().map(|&p| &self.parts[p].rows) {
                    let columns = |tensor: &Tensor<B>| tensor.col_range(part.clone());
                    let (norms, dm) = (dora.norms.row_range(part.clone()), dora.magnitude.rows(part.clone()).gradient);
                    if let Some(dm) = dm {
                        d.column_dots(&columns(&kept.unscaled), &columns(dy), &norms, &dm);
                    }
                }
                let unscaled = &unscaled.col_range(0..dy.cols());
                d.scale_columns(dy, &dora.magnitude.value, &dora.norms, None, unscaled);
                &unscaled.clone()
            }
        };
        let [inner, dinner] = &[&kept.inner, dinner].map(|tensor| tensor.col_range(0..self.inner_width()));
        let pieces = self.pieces(lora);
        for (piece, b) in pieces.iter().zip(&lora.b) {
            if let Some(db) = &b.gradient {
                let (dy, inner) = (dy.col_range(piece.cols.clone()), inner.col_range(piece.inner.clone()));
                d.linear_backward_weight(&dy, &inner, piece.scale, db);
            }
        }
        // The gradient by the inner rows comes with that by the input, where nothing was dropped between them.
        match dx {
            Some(dx) if noise.is_none() => {
                d.linear_adapted_backward_input(dy, &self.weight.value, &pieces, dinner, &lora.a.value, dx);
            }
            _ => {
                for piece in &pieces {
                    let (dy, dinner) = (dy.col_range(piece.cols.clone()), dinner.col_range(piece.inner.clone()));
                    d.linear_backward_input(&dy, piece.b, piece.scale, Write::Set, &dinner);
                }
            }
        }
        let Some(noise) = noise else {
            if let Some(da) = &lora.a.gradient {
                d.linear_backward_weight(dinner, x, 1.0, da);
            }
            return;
        };
        let (keys, dropped) = (noise.at(site), scratch.dropped.first_rows(x.rows()).col_range(0..x.cols()));
        if let Some(da) = &lora.a.gradient {
            d.dropout(x, &keys, noise.rate, Write::Set, &dropped);
            d.linear_backward_weight(dinner, &dropped, 1.0, da);
        }
        if let Some(dx) = dx {
            d.linear_backward_input(dy, &self.weight.value, 1.0, Write::Set, dx);
            d.linear_backward_input(dinner, &lora.a.value, 1.0, Write::Set, &dropped);
            d.dropout(&dropped, &keys, noise.rate, Write::Add, dx);
        }
    }

    /// Brings the lengths that DoRA divides by up to what the adapters are now.
    pub fn measure_norms<D: Device<Buffer = B>>(&self, d: &D) {
        let Some((lora, dora)) = self.lora.as_ref().and_then(|lora| Some((lora, lora.dora.as_ref()?))) else { return };
        for (k, (&p, b)) in lora.adapted.iter().zip(&lora.b).enumerate() {
            let rows = self.parts[p].rows.clone();
            let a = lora.a.value.row_range(k * lora.rank..(k + 1) * lora.rank);
            let weight = self.weight.value.row_range(rows.clone());
            d.adapted_row_norms(&weight, &a, &b.value, lora.scale, &dora.norms.row_range(rows));
        }
    }

    /// Sets DoRA's magnitudes to the lengths as they were measured.
    pub fn reset_magnitudes<D: Device<Buffer = B>>(&self, d: &D) {
        if let Some(dora) = self.lora.as_ref().and_then(|lora| lora.dora.as_ref()) {
            d.copy(&dora.norms, &dora.magnitude.value);
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
            let Part { path, rows } = &self.parts[p];
            visit(format!("{path}.lora_A.weight"), lora.a.rows(k * lora.rank..(k + 1) * lora.rank));
            visit(format!("{path}.lora_B.weight"), b.rows(0..b.value.rows()));
            if let Some(dora) = &lora.dora {
                visit(format!("{path}.lora_magnitude_vector"), dora.magnitude.rows(rows.clone()));
            }
        }
    }

    /// Multiplies what the adapters add: 1 leaves them, 0 gives the base.
    ///
    /// # Panics
    /// With DoRA, of which no factor leads back to the base, unless the factor is 1.
    pub fn scale_adapters(&mut self, factor: f32) {
        if let Some(lora) = &mut self.lora {
            assert!(factor == 1.0 || lora.dora.is_none(), "DoRA is not averaged with its start by a factor");
            lora.scale *= factor;
        }
    }
}
