//! Every supported family against transformers, on tiny random models: logits, loss, gradients, one AdamW step; and what is
//! read, written and decoded.
//!
//! The goldens and the script that made them: `tests/golden/architectures/`. Both sides compute in f32, in other orders:
//! every difference is relative to the largest number of its kind, stands beside its check as it was measured (two threads,
//! AVX-512), and three to four times as much is allowed for other orders of summation on other machines.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod models;

use std::path::{Path, PathBuf};

use models::{lora, workspace};
use serde_json::Value;
use temper_data::{Example, MicroBatch, micro_batches};
use temper_kernels::{Cached, Cpu, Device, Precision, Segment, Write};
use temper_model::{Checkpoint, Dtype, KvCache, LINEAR_MODULES, Llama, Purpose, Tokens, Tuning, write_model};
use temper_train::{AdamWSettings, Optimizer, evaluate, step};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/architectures")
}

struct Golden {
    name: String,
    checkpoint: Checkpoint,
    /// Two rows of token ids.
    rows: Vec<Vec<u32>>,
    json: Value,
    tensors: Vec<u8>,
}

impl Golden {
    fn all() -> Vec<Self> {
        let text = std::fs::read_to_string(folder().join("golden.json")).unwrap();
        let json: Value = serde_json::from_str(&text).unwrap();
        let models = json["models"].as_object().unwrap();
        let golden = |(name, json): (&String, &Value)| Self {
            name: name.clone(),
            checkpoint: Checkpoint::open(&folder().join(name)).unwrap(),
            rows: serde_json::from_value(json["rows"].clone()).unwrap(),
            json: json.clone(),
            tensors: std::fs::read(folder().join(format!("{name}.safetensors"))).unwrap(),
        };
        let all: Vec<Self> = models.iter().map(golden).collect();
        assert_eq!(all.len(), 10);
        all
    }

    fn tensor(&self, name: &str) -> Vec<f32> {
        let file = safetensors::SafeTensors::deserialize(&self.tensors).unwrap();
        file.tensor(name).unwrap().data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    fn model(&self, tuning: &Tuning) -> Llama<Cpu> {
        load(&self.checkpoint, Cpu::new(2).with_cache(Precision::F32), tuning)
    }

    /// Both rows in one packed micro-batch, every token but the first of each a target.
    fn batch(&self) -> MicroBatch {
        let example = |(row, ids): (usize, &Vec<u32>)| {
            let weights = (0..ids.len()).map(|i| if i == 0 { 0.0 } else { 1.0 }).collect();
            Example { ids: ids.clone(), weights, row }
        };
        let rows: Vec<Example> = self.rows.iter().enumerate().map(example).collect();
        let rows: Vec<(u16, &Example)> = rows.iter().map(|row| (0, row)).collect();
        micro_batches(&rows, 64).remove(0)
    }

    /// Logits of each row of the packed micro-batch.
    fn logits(&self, model: &Llama<Cpu>) -> Vec<Vec<f32>> {
        let batch = self.batch();
        let ws = workspace(model, Purpose::Infer, 64);
        let segments: Vec<Segment> = batch.segments.iter().cloned().map(Segment::alone).collect();
        let tokens = Tokens { ids: &batch.ids, positions: &batch.positions, segments: &segments };
        let hidden = model.forward(&ws, tokens, true);
        let logits = |rows: &std::ops::Range<usize>| {
            let to = ws.logits[0].first_rows(rows.len());
            model.device().linear(&hidden.row_range(rows.clone()), &model.head().value, 1.0, Write::Set, &to);
            model.device().read(&to)
        };
        batch.segments.iter().map(logits).collect()
    }
}

fn load(checkpoint: &Checkpoint, device: Cpu, tuning: &Tuning) -> Llama<Cpu> {
    Llama::load(device, checkpoint.config(), tuning, |name, shape| checkpoint.stored(name, shape)).unwrap()
}

/// The largest difference against the largest expected number.
fn error(got: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(got.len(), expected.len(), "length");
    let scale = expected.iter().fold(0.0f32, |a, b| a.max(b.abs()));
    got.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / scale
}

fn close(what: &str, error: f32, tolerance: f32) {
    assert!(error <= tolerance, "{what}: relative error {error:.1e} > {tolerance:.0e}");
}

#[test]
fn logits_and_loss_are_those_of_transformers() {
    for golden in Golden::all() {
        assert_eq!(golden.checkpoint.verify().unwrap(), Vec::<String>::new(), "{}", golden.name);
        let model = golden.model(&Tuning::Frozen);
        for (i, got) in golden.logits(&model).iter().enumerate() {
            let worst = error(got, &golden.tensor(&format!("logits.{i}")));
            close(&format!("{}: logits of row {i}", golden.name), worst, 5e-6); // 1.4e-6
        }
        let ws = workspace(&model, Purpose::Infer, 64);
        let loss = evaluate(&model, &ws, true, &[golden.batch()]).mean();
        close(&golden.name, (loss / golden.json["loss"].as_f64().unwrap() - 1.0).abs() as f32, 3e-7); // 5.8e-8
    }
}

#[test]
fn gradients_and_one_adamw_step_at_full_rank_are_those_of_torch() {
    for golden in Golden::all() {
        let model = golden.model(&Tuning::Full);
        let (d, ws) = (*model.device(), workspace(&model, Purpose::Train, 64));
        // Those of make.py; no clipping there.
        let settings = AdamWSettings { beta1: 0.9, beta2: 0.999, epsilon: 1e-4, weight_decay: 0.1, max_grad_norm: 0.0 };
        let mut optimizer = Optimizer::new(&model, settings);
        let batch = [golden.batch()];
        let loss = step(&model, &ws, &mut optimizer, &batch, 1e-2).unwrap().loss();
        let expected = golden.json["loss"].as_f64().unwrap();
        close(&golden.name, (loss / expected - 1.0).abs() as f32, 3e-7); // 5.8e-8

        let trained = model.trained();
        let norms = golden.json["gradient_norms"].as_object().unwrap();
        assert_eq!(trained.len(), norms.len(), "{}", golden.name);
        for (name, parameter) in trained {
            let what = format!("{}: {name}", golden.name);
            let norm = d.sum_squares(parameter.gradient.as_ref().unwrap()).sqrt();
            let expected = norms[&name].as_f64().unwrap();
            close(&what, (norm / expected - 1.0).abs() as f32, 1e-5); // 3.2e-6
            // Against the largest weight. A step moves a weight by up to 0.01, in a direction that a gradient near AdamW's
            // epsilon hardly knows.
            let stepped = golden.tensor(&format!("stepped.{name}"));
            close(&what, error(&d.read(&parameter.value), &stepped), 1e-4); // 3.5e-5
        }
        let after = evaluate(&model, &ws_of(&model), true, &batch).mean();
        let expected = golden.json["loss_after"].as_f64().unwrap();
        close(&golden.name, (after / expected - 1.0).abs() as f32, 2e-6); // 4.8e-7
    }
}

fn ws_of(model: &Llama<Cpu>) -> temper_model::Workspace<<Cpu as Device>::Buffer> {
    workspace(model, Purpose::Infer, 64)
}

/// A prompt in pieces and then token by token, beside a stranger, over a cache of rows in disorder.
#[test]
fn decoding_over_a_cache_gives_the_hidden_states_of_the_whole_row() {
    for golden in Golden::all() {
        let model = golden.model(&Tuning::Frozen);
        let d = *model.device();
        let ws = workspace(&model, Purpose::Infer, 64);
        let ids = &golden.rows[0];
        let n = ids.len();
        let positions: Vec<u32> = (0..n as u32).collect();
        let segments = [Segment::alone(0..n)];
        let whole = d.read(&model.forward(&ws, Tokens { ids, positions: &positions, segments: &segments }, true));

        let cache = KvCache::allocate(&d, model.config(), 40);
        let mut pieces = Vec::new();
        for (first, count) in [(0, 6), (6, 3)].into_iter().chain((9..n).map(|i| (i, 1))) {
            let now = first..first + count;
            let own: Vec<u32> = now.clone().map(|i| 20 + i as u32).chain([0]).collect();
            let all: Vec<u32> = ids[now.clone()].iter().copied().chain([7]).collect();
            let positions: Vec<u32> = now.clone().map(|i| i as u32).chain([0]).collect();
            let runs = [
                Cached { rows: 0..count, seen: vec![20..20 + now.end] },
                Cached { rows: count..count + 1, seen: vec![0..1] },
            ];
            let hidden = model.extend(&ws, &all, &positions, &cache, &own, &runs, false);
            pieces.extend(d.read(&hidden.first_rows(count)));
        }
        close(&golden.name, error(&pieces, &whole), 3e-6); // 9.0e-7
    }
}

/// Evaluation computes a common beginning once, as context of what follows: windows reach back into it.
#[test]
fn rows_that_share_a_beginning_are_judged_as_if_alone() {
    for golden in Golden::all() {
        let model = golden.model(&Tuning::Frozen);
        let ws = workspace(&model, Purpose::Infer, 64);
        let beginning = &golden.rows[0][..8];
        let rows = [&golden.rows[0][8..], &golden.rows[1], &[3, 1], &golden.rows[1][4..]];
        let example = |(row, rest): (usize, &&[u32])| {
            let ids = [beginning, *rest].concat();
            Example { weights: (0..ids.len()).map(|i| if i < 8 { 0.0 } else { 1.0 }).collect(), ids, row }
        };
        let rows: Vec<Example> = rows.iter().enumerate().map(example).collect();
        let rows: Vec<(u16, &Example)> = rows.iter().map(|row| (0, row)).collect();
        let together = evaluate(&model, &ws, true, &micro_batches(&rows, 64)).nll;
        let alone: f64 = rows.iter().map(|row| evaluate(&model, &ws, true, &micro_batches(&[*row], 64)).nll).sum();
        close(&golden.name, (together / alone - 1.0).abs() as f32, 1e-6);
    }
}

/// A fresh adapter on every linear changes nothing; a trained one has gradients at every place, and merging it gives its logits.
#[test]
fn lora_trains_every_architecture_and_merges() {
    for golden in Golden::all() {
        let model = golden.model(&lora(2, 4.0));
        model.init_adapters(1);
        let base = golden.logits(&golden.model(&Tuning::Frozen));
        for (got, expected) in golden.logits(&model).iter().zip(&base) {
            close(&golden.name, error(got, expected), 1e-6);
        }
        let ws = workspace(&model, Purpose::Train, 64);
        let settings = AdamWSettings { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0, max_grad_norm: 1.0 };
        let mut optimizer = Optimizer::new(&model, settings);
        let mut losses = Vec::new();
        for _ in 0..30 {
            losses.push(step(&model, &ws, &mut optimizer, &[golden.batch()], 2e-2).unwrap().loss());
        }
        assert!(losses[29] < 0.7 * losses[0], "{}: {losses:?}", golden.name);
        assert_eq!(model.adapters().len(), 2 * LINEAR_MODULES.len() * model.config().num_hidden_layers);

        let modules = model.adapter_modules();
        let merged = |name: &str, shape: &[usize]| {
            let weight = golden.checkpoint.tensor(name, shape)?;
            let of = |module: &&temper_model::AdapterModule| name.strip_suffix(".weight") == Some(&module.module);
            Ok::<_, temper_model::WeightsError>(match modules.iter().find(of) {
                Some(module) => module.merge(model.device(), 2, 2.0, &weight),
                None => weight,
            })
        };
        let merged = Llama::load(*model.device(), model.config(), &Tuning::Frozen, merged).unwrap();
        for (got, expected) in golden.logits(&merged).iter().zip(golden.logits(&model)) {
            close(&golden.name, error(got, &expected), 5e-6); // 1.3e-6
        }
    }
}

/// Written as this program writes a model and read again: the same configuration and the same bits.
#[test]
fn a_written_model_reads_back_as_it_was() {
    // `cargo xtask e2e architectures` keeps what is written here and gives it to transformers.
    let kept = std::env::var_os("TEMPER_KEEP_ARCHITECTURES").map(PathBuf::from);
    let scratch = tempfile::tempdir().unwrap();
    let out: &Path = kept.as_deref().unwrap_or(scratch.path());
    for golden in Golden::all() {
        let model = golden.model(&Tuning::Full);
        let shapes = model.config().tensor_shapes();
        let tensor = |(name, parameter): (String, temper_model::Parameter<_>)| {
            let shape = shapes.iter().find(|(n, _)| *n == name).unwrap().1.clone();
            let values = model.device().read(&parameter.value);
            (name, shape, values)
        };
        let path = out.join(&golden.name);
        write_model(&path, model.config(), model.weights().into_iter().map(tensor), Dtype::F32, &[]).unwrap();
        let again = Checkpoint::open(&path).unwrap();
        assert_eq!(again.config(), golden.checkpoint.config(), "{}", golden.name);
        assert_eq!(again.verify().unwrap(), Vec::<String>::new());
        let got = golden.logits(&load(&again, *model.device(), &Tuning::Frozen));
        assert_eq!(got, golden.logits(&golden.model(&Tuning::Frozen)), "{}", golden.name);
    }
}
