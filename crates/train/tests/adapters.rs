//! Every kind of LoRA against PEFT: logits, losses, gradients, three AdamW steps, and adapters that PEFT saved.
//!
//! The goldens and the script that made them: `tests/golden/adapters/`. Both sides compute in f32, in other orders; three to
//! four times the measured difference is allowed.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod models;

use std::collections::BTreeMap;
use std::path::PathBuf;

use models::workspace;
use serde_json::Value;
use temper_data::{Example, MicroBatch, micro_batches};
use temper_kernels::{Cpu, Device, Reference, Segment, Write};
use temper_model::{
    Dropout, LINEAR_MODULES, Llama, LlamaConfig, LoraSettings, Purpose, Tokens, Tuning, Workspace, read_adapter,
};
use temper_run::Random;
use temper_train::{AdamWSettings, Optimizer, step};

/// Largest differences that are allowed, relative; as measured over all kinds, on two threads with AVX-512, beside each.
const ALLOWED: [(&str, f64); 8] = [
    ("logits", 5e-6),                   // 1.3e-6
    ("losses", 2e-6),                   // 3.6e-7
    ("gradient norms", 4e-6),           // 9.3e-7
    ("first gradients", 3e-5),          // 6.9e-6
    ("weights", 2e-5),                  // 5.6e-6
    ("logits after three steps", 8e-6), // 1.9e-6
    ("loaded", 2e-6),                   // 5.5e-7
    ("merged", 3e-6),                   // 7.2e-7
];

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/adapters").join(name)
}

fn golden() -> Value {
    serde_json::from_str(&std::fs::read_to_string(folder("adapters.json")).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// The numbers of `make.py`.
fn formula(name: &str, rows: usize, cols: usize, amplitude: f64) -> Vec<f32> {
    let stream = Random::new(0, name);
    let unit = |k: u64| (stream.bits(k) >> 40) as f64 / f64::from(1 << 24);
    (0..(rows * cols) as u64).map(|k| (amplitude * (2.0 * unit(k) - 1.0)) as f32).collect()
}

fn weight(name: &str, shape: &[usize]) -> Result<Vec<f32>, std::convert::Infallible> {
    Ok(match shape {
        [width] => (0..*width).map(|k| 1.0 + formula(name, 1, *width, 0.3)[k]).collect(),
        _ => formula(name, shape[0], shape[1], 0.4),
    })
}

fn config(tied: bool) -> LlamaConfig {
    LlamaConfig {
        vocab_size: 40,
        hidden_size: 32,
        intermediate_size: 48,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 8,
        rope_theta: 10_000.0,
        rms_norm_eps: 1e-5,
        tie_word_embeddings: tied,
        max_position_embeddings: 64,
        ..models::TINY
    }
}

fn settings(golden: &Value, of: &Value) -> LoraSettings {
    let truth = |name: &str| of[name] == true;
    let names = |name: &str| -> Vec<String> {
        of[name].as_array().into_iter().flatten().map(|n| n.as_str().unwrap().to_owned()).collect()
    };
    let dropout = of["lora_dropout"]
        .as_f64()
        .map(|rate| Dropout { rate: rate as f32, seed: golden["dropout"]["seed"].as_u64().unwrap() });
    let rank = of["r"].as_u64().unwrap() as usize;
    LoraSettings {
        rank_stabilised: truth("use_rslora"),
        dora: truth("use_dora"),
        dropout,
        modules_to_save: names("modules_to_save"),
        b_rate: of["ratio"].as_f64().unwrap_or(1.0) as f32,
        ..LoraSettings::new(rank, of["lora_alpha"].as_f64().unwrap() as f32, names("target_modules"))
    }
}

/// The model with its adapters as `make.py` sets them.
fn model<D: Device>(device: D, lora: &LoraSettings, tied: bool) -> Llama<D> {
    let Ok(model) = Llama::load(device, &config(tied), &Tuning::Lora(lora.clone()), weight);
    // Lengths are those of the base, as PEFT makes them before A and B are set.
    model.init_adapters(0);
    for (name, adapter) in model.adapters().iter().filter(|(name, _)| !name.ends_with("lora_magnitude_vector")) {
        let (rows, cols) = (adapter.value.rows(), adapter.value.cols());
        model.device().write(&adapter.value, &formula(name, rows, cols, 0.2));
    }
    model
}

fn batch(ids: &[u32]) -> MicroBatch {
    let weights = (0..ids.len()).map(|i| if i == 0 { 0.0 } else { 1.0 }).collect();
    micro_batches(&[(0, &Example { ids: ids.to_vec(), weights, row: 0 })], ids.len()).remove(0)
}

/// Logits of the last token, with what a first step drops or without.
fn logits<D: Device>(model: &Llama<D>, ws: &Workspace<D::Buffer>, batch: &MicroBatch, training: bool) -> Vec<f32> {
    let (d, n) = (model.device(), batch.ids.len());
    let segments = [Segment::alone(0..n)];
    let tokens = Tokens { ids: &batch.ids, positions: &batch.positions, segments: &segments };
    let noise = if training { model.noise(0, batch.places()) } else { None };
    let hidden = model.forward_noised(ws, tokens, noise.as_ref());
    let logits = ws.logits[0].first_rows(1);
    d.linear(&hidden.row_range(n - 1..n), &model.head().value, 1.0, Write::Set, &logits);
    d.read(&logits)
}

/// The largest difference of each sort, and where it was.
#[derive(Default)]
struct Worst(BTreeMap<&'static str, (f64, String)>);

impl Worst {
    /// Relative to `scale`.
    fn near(&mut self, sort: &'static str, what: &str, got: f64, expected: f64, scale: f64) {
        let error = (got - expected).abs() / scale.max(1e-12);
        let worst = self.0.entry(sort).or_default();
        if error > worst.0 || error.is_nan() {
            *worst = (error, format!("{what}: got {got}, expected {expected}"));
        }
    }

    /// Relative to the largest number expected.
    fn all(&mut self, sort: &'static str, what: &str, got: &[f32], expected: &[f64]) {
        assert_eq!(got.len(), expected.len(), "{what}");
        let scale = expected.iter().fold(0.0f64, |a, b| a.max(b.abs()));
        got.iter().zip(expected).for_each(|(&got, &expected)| self.near(sort, what, got.into(), expected, scale));
    }

    /// Norm, first numbers and last, relative to the root of their mean square.
    fn summary(&mut self, sort: &'static str, what: &str, got: &[f32], expected: &Value) {
        let norm = expected["norm"].as_f64().unwrap();
        self.near(sort, what, got.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt(), norm, norm);
        let typical = norm / (got.len() as f64).sqrt();
        for (&got, expected) in got.iter().zip(numbers(&expected["first"])) {
            self.near(sort, what, got.into(), expected, typical);
        }
        self.near(sort, what, (*got.last().unwrap()).into(), expected["last"].as_f64().unwrap(), typical);
    }

    fn within(&self, allowed: &[(&str, f64)]) {
        for (sort, (error, what)) in &self.0 {
            let allowed = allowed.iter().find(|(name, _)| name == sort).map_or(0.0, |(_, allowed)| *allowed);
            assert!(*error <= allowed, "{sort}: {error:.1e} > {allowed:.0e}: {what}");
        }
    }
}

#[test]
fn every_kind_trains_as_in_peft() {
    let golden = golden();
    let ids: Vec<u32> = numbers(&golden["ids"]).iter().map(|&id| id as u32).collect();
    let batch = batch(&ids);
    let mut worst = Worst::default();
    for (name, expected) in golden["variants"].as_object().unwrap() {
        let lora = settings(&golden, &expected["settings"]);
        let model = model(Cpu::new(2), &lora, expected["settings"]["tied"] == true);
        let d = *model.device();
        let ws = workspace(&model, Purpose::Train, ids.len());
        worst.all("logits", name, &logits(&model, &ws, &batch, true), &numbers(&expected["logits"]));

        let adamw = AdamWSettings { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01, max_grad_norm: 0.0 };
        let mut optimizer = Optimizer::new(&model, adamw);
        let numbers_trained = optimizer.trained_parameters();
        assert_eq!(numbers_trained as u64, expected["parameters"].as_u64().unwrap(), "{name}");
        let counted = Tuning::Lora(lora.clone()).trained(model.config());
        let trained = model.trained().into_iter().map(|(name, p)| (name, [p.value.rows(), p.value.cols()]));
        assert_eq!(BTreeMap::from_iter(counted), trained.collect(), "{name}: known before it is loaded");
        for (s, (loss, norm)) in
            numbers(&expected["losses"]).into_iter().zip(numbers(&expected["gradient_norms"])).enumerate()
        {
            let outcome = step(&model, &ws, &mut optimizer, std::slice::from_ref(&batch), 1e-2).unwrap();
            worst.near("losses", &format!("{name}, {s}"), outcome.loss(), loss, loss);
            worst.near("gradient norms", &format!("{name}, {s}"), outcome.gradient_norm, norm, norm);
            if s == 0 {
                for (tensor, parameter) in model.trained() {
                    let gradient = d.read(parameter.gradient.as_ref().unwrap());
                    let what = format!("{name}: {tensor}");
                    worst.summary("first gradients", &what, &gradient, &expected["gradients"][&tensor]);
                }
            }
        }
        for (tensor, parameter) in model.trained() {
            let what = format!("{name}: {tensor}");
            worst.summary("weights", &what, &d.read(&parameter.value), &expected["weights"][&tensor]);
        }
        let trained = logits(&model, &ws, &batch, false);
        worst.all("logits after three steps", name, &trained, &numbers(&expected["trained_logits"]));
    }
    worst.within(&ALLOWED);
}

/// Logits of the merged weights are those with the adapter on, and those of PEFT.
#[test]
fn adapters_that_peft_saved_load_and_merge() {
    let golden = golden();
    let ids: Vec<u32> = numbers(&golden["ids"]).iter().map(|&id| id as u32).collect();
    let batch = batch(&ids);
    let mut worst = Worst::default();
    for (variant, name) in [("dora", "peft-dora"), ("rslora", "peft-rslora"), ("embedding and head", "peft-tables")] {
        let expected = numbers(&golden["variants"][variant]["trained_logits"]);
        let mut adapter = read_adapter(&folder(name)).unwrap();
        adapter.fit(&config(false), &folder(name)).unwrap();
        // As PEFT's set, in the order of the layer.
        assert_eq!(adapter.config.lora.targets, LINEAR_MODULES, "{name}");
        let Ok(model) = Llama::load(Cpu::new(2), &config(false), &Tuning::Lora(adapter.config.lora.clone()), weight);
        model.load_adapter(&folder(name)).unwrap();
        let ws = workspace(&model, Purpose::Infer, ids.len());
        worst.all("loaded", name, &logits(&model, &ws, &batch, false), &expected);

        let lora = &adapter.config.lora;
        let merged = |name: &str, shape: &[usize]| {
            if let Some(table) = adapter.tables.iter().find(|table| table.name == name) {
                return Ok(table.values.clone());
            }
            let Ok(own) = weight(name, shape);
            let module = adapter.modules.iter().find(|m| name.strip_suffix(".weight") == Some(&m.module));
            Ok::<_, std::convert::Infallible>(
                module.map_or(own.clone(), |m| m.merge(&Cpu::new(2), lora.rank, lora.scale(), &own)),
            )
        };
        let Ok(model) = Llama::load(Cpu::new(2), &config(false), &Tuning::Frozen, merged);
        let ws = workspace(&model, Purpose::Infer, ids.len());
        worst.all("merged", name, &logits(&model, &ws, &batch, false), &expected);
    }
    worst.within(&ALLOWED);
}

/// The row drops the same elements in whatever micro-batch it comes, and other ones at another step: its own gradient is the
/// same to the bit beside other rows and alone.
#[test]
fn what_is_dropped_goes_by_step_row_and_position() {
    let golden = golden();
    let lora = settings(&golden, &golden["variants"]["dropout"]["settings"]);
    let model = model(Reference::<f64>::new(), &lora, false);
    let row = |ids: &[u32]| Example { ids: ids.to_vec(), weights: vec![1.0; ids.len()], row: 0 };
    let rows = [row(&[3, 17, 29, 5, 11, 38]), row(&[2, 23, 31]), row(&[8, 14, 26, 3])];
    let rows: Vec<(u16, &Example)> = rows.iter().map(|row| (0, row)).collect();
    let adamw = AdamWSettings { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0, max_grad_norm: 0.0 };
    let gradients = |tokens: usize, step_before: bool| {
        let batches = micro_batches(&rows, tokens);
        let ws = workspace(&model, Purpose::Train, tokens);
        let mut optimizer = Optimizer::new(&model, adamw);
        if step_before {
            step(&model, &ws, &mut optimizer, &batches, 0.0).unwrap();
        }
        let outcome = step(&model, &ws, &mut optimizer, &batches, 0.0).unwrap();
        let gradient = |p: &temper_model::Parameter<_>| model.device().read_exact(p.gradient.as_ref().unwrap());
        (outcome.loss(), model.trained().iter().flat_map(|(_, p)| gradient(p)).collect::<Vec<f64>>())
    };
    let ((loss, together), (apart_loss, apart)) = (gradients(13, false), gradients(6, false));
    assert!((loss - apart_loss).abs() < 1e-6 * loss, "{loss} {apart_loss}");
    let largest = together.iter().fold(0.0f64, |a, g| a.max(g.abs()));
    for (a, b) in together.iter().zip(&apart) {
        // Sums over micro-batches in f64, weights of targets in f32.
        assert!((a - b).abs() < 1e-6 * largest, "{a} {b}");
    }
    let (later, _) = gradients(13, true);
    assert!((later - loss).abs() > 1e-3, "another step drops others: {later} {loss}");
}

/// Gradients of every kind, in every trained tensor, are the same to the bit where the backward computes activations again.
#[test]
fn recomputing_gives_the_same_gradients_to_the_bit() {
    let golden = golden();
    let ids: Vec<u32> = numbers(&golden["ids"]).iter().map(|&id| id as u32).collect();
    let batch = batch(&ids);
    let adamw = AdamWSettings { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0, max_grad_norm: 0.0 };
    let lora = |name: &str| Tuning::Lora(settings(&golden, &golden["variants"][name]["settings"]));
    for tuning in [lora("dora"), lora("dropout"), lora("embedding and head"), lora("some modules"), Tuning::Full] {
        let gradients = |purpose: Purpose| {
            let model = match &tuning {
                Tuning::Lora(lora) => model(Cpu::new(2), lora, false),
                _ => Llama::load(Cpu::new(2), &config(false), &tuning, weight).unwrap_or_else(|never| match never {}),
            };
            let ws = workspace(&model, purpose, ids.len());
            let mut optimizer = Optimizer::new(&model, adamw);
            step(&model, &ws, &mut optimizer, std::slice::from_ref(&batch), 0.0).unwrap();
            let read = |p: &temper_model::Parameter<_>| model.device().read(p.gradient.as_ref().unwrap());
            model.trained().iter().map(|(name, p)| (name.clone(), read(p))).collect::<Vec<_>>()
        };
        let bytes = |purpose| {
            let space = match &tuning {
                Tuning::Lora(lora) => lora.space(&config(false)),
                _ => Default::default(),
            };
            Workspace::bytes(&Cpu::new(2), &config(false), space, purpose, ids.len())
        };
        assert_eq!(gradients(Purpose::TrainRecomputing), gradients(Purpose::Train), "{tuning:?}");
        assert!(bytes(Purpose::TrainRecomputing) < bytes(Purpose::Train), "{tuning:?}");
    }
}
