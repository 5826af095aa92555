//! The real model against transformers and PEFT: losses, logits, gradients, AdamW steps, LoRA steps, greedy answers.
//!
//! The goldens and the scripts that made them: `tests/golden/smollm2/`. Tolerances are relative and stated beside each
//! check; both sides compute in f32, in other orders.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;

use serde_json::Value;
use temper_data::{MicroBatch, Target};
use temper_kernels::{Cpu, Device, Pick, Segment, Write};
use temper_model::{
    Checkpoint, LINEAR_MODULES, Llama, LoraSettings, Purpose, Sampling, Tokens, Tuning, Workspace, generate,
};
use temper_train::{AdamWSettings, Optimizer, evaluate, step};

const PLAIN_ADAMW: AdamWSettings =
    AdamWSettings { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0, max_grad_norm: 0.0 };

fn golden(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/smollm2").join(file)
}

fn json(file: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(golden(file)).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect()
}

fn tensor(name: &str) -> Vec<f32> {
    let bytes = std::fs::read(golden("smollm2_ref.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    file.tensor(name).unwrap().data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

fn checkpoint() -> Checkpoint {
    let path = std::env::var("TEMPER_TEST_GGUF")
        .expect("TEMPER_TEST_GGUF names the test model: run `cargo xtask test`, which fetches it");
    Checkpoint::open(path.as_ref()).unwrap()
}

fn load(tuning: &Tuning) -> Llama<Cpu> {
    let checkpoint = checkpoint();
    Llama::load(Cpu::new(2), checkpoint.config(), tuning, |name, shape| checkpoint.tensor(name, shape)).unwrap()
}

fn lora(rank: usize, alpha: f32) -> Tuning {
    Tuning::Lora(LoraSettings { rank, alpha, targets: LINEAR_MODULES.map(str::to_owned).to_vec() })
}

fn workspace<D: Device>(model: &Llama<D>, purpose: Purpose, tokens: usize) -> Workspace<D::Buffer> {
    Workspace::allocate(model.device(), model.config(), model.adapter_widths(), purpose, tokens)
}

/// Rows of ids as one micro-batch in which every token but each row's first is trained.
fn batch(rows: &[&[u32]]) -> MicroBatch {
    let mut b = MicroBatch { ids: vec![], positions: vec![], segments: vec![], targets: vec![] };
    for row in rows {
        let start = b.ids.len();
        b.ids.extend_from_slice(row);
        b.positions.extend(0..row.len() as u32);
        b.segments.push(start..b.ids.len());
        let target = |i: usize| Target { row: (start + i) as u32 - 1, token: row[i], weight: 1.0, source: 0 };
        b.targets.extend((1..row.len()).map(target));
    }
    b
}

fn close(what: &str, got: f64, expected: f64, tolerance: f64) {
    let error = (got - expected).abs() / expected.abs().max(1e-12);
    assert!(error <= tolerance, "{what}: got {got}, expected {expected}, relative error {error:.1e} > {tolerance:.0e}");
}

/// Largest difference against the largest expected number.
fn close_all(what: &str, got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len(), "{what}: length");
    let scale = expected.iter().fold(0.0f32, |a, b| a.max(b.abs()));
    let worst = got.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= tolerance * scale, "{what}: largest difference {worst:.1e} of {scale:.1e}");
}

#[test]
fn losses_logits_and_hidden_states() {
    let model = load(&Tuning::Frozen);
    let (d, reference) = (*model.device(), json("smollm2_ref.json"));
    let ws = workspace(&model, Purpose::Infer, 64);
    for prompt in ["plain", "chat"] {
        let ids = ids(&reference[prompt]["input_ids"]);
        let b = batch(&[&ids]);
        close(
            prompt,
            evaluate(&model, &ws, true, std::slice::from_ref(&b)).mean(),
            reference[prompt]["loss"].as_f64().unwrap(),
            1e-5,
        );

        let segments = [Segment::alone(0..ids.len())];
        let tokens = Tokens { ids: &ids, positions: &b.positions, segments: &segments };
        let hidden = model.forward(&ws, tokens, true);
        let last = d.read(&hidden.row_range(ids.len() - 1..ids.len()));
        close_all("final hidden state", &last, &tensor(&format!("{prompt}.hidden_final_normed_last")), 1e-4);
        let logits = ws.logits[0].first_rows(ids.len());
        d.linear(&hidden, &model.head().value, 1.0, Write::Set, &logits);
        let last = d.read(&logits.row_range(ids.len() - 1..ids.len()));
        close_all("last logits", &last, &tensor(&format!("{prompt}.logits_last")), 1e-4);
        let first = d.read(&logits.col_range(0..256));
        close_all("first 256 logits", &first, &tensor(&format!("{prompt}.logits_first256")), 1e-4);
        let mut order: Vec<usize> = (0..last.len()).collect();
        order.sort_by(|&a, &b| last[b].total_cmp(&last[a]));
        let top: Vec<usize> =
            reference[prompt]["top5"].as_array().unwrap().iter().map(|t| t[0].as_u64().unwrap() as usize).collect();
        assert_eq!(order[..5], top[..]);

        let picks: Vec<Pick> = (1..ids.len()).map(|i| Pick { row: i as u32 - 1, token: ids[i] }).collect();
        let found = d.linear_logprob(&hidden, &model.head().value, &picks, &ws.logits[1], None);
        close_all("token log-probabilities", &found.logprob, &tensor(&format!("{prompt}.token_logprobs")), 1e-4);
    }
}

#[test]
fn full_rank_gradients_and_four_adamw_steps() {
    let model = load(&Tuning::Full);
    let (d, reference) = (*model.device(), json("smollm2_ref.json"));
    let ws = workspace(&model, Purpose::Train, 64);
    for prompt in ["chat", "plain"] {
        let reference = &reference[prompt];
        let mut optimizer = Optimizer::new(&model, PLAIN_ADAMW);
        let outcome = step(&model, &ws, &mut optimizer, &[batch(&[&ids(&reference["input_ids"])])], 0.0).unwrap();
        close("gradient norm", outcome.gradient_norm, reference["grad_norm_global"].as_f64().unwrap(), 5e-4);
        let trained = model.trained();
        for (name, norm) in reference["grad_norms"].as_object().unwrap() {
            let (_, parameter) = trained.iter().find(|(n, _)| n == name).unwrap();
            let got = d.sum_squares(parameter.gradient.as_ref().unwrap()).sqrt();
            close(name, got, norm.as_f64().unwrap(), 5e-4);
        }
    }
    let b = batch(&[&ids(&reference["plain"]["input_ids"])]);
    let mut optimizer = Optimizer::new(&model, PLAIN_ADAMW);
    for expected in numbers(&reference["adamw_full_lr1e-5_plain_losses"]) {
        let outcome = step(&model, &ws, &mut optimizer, std::slice::from_ref(&b), 1e-5).unwrap();
        close("AdamW loss", outcome.loss(), expected, 1e-4);
    }
}

#[test]
fn six_lora_steps_and_the_merged_model() {
    let reference = json("smollm2_lora_ref.json");
    let model = load(&lora(8, 16.0));
    let d = *model.device();
    // A by the formula of ref_lora.py, B zero.
    for (name, adapter) in model.adapters() {
        let (rows, cols) = (adapter.value.rows(), adapter.value.cols());
        let layer: f64 = name.split('.').nth(2).unwrap().parse().unwrap();
        let module = LINEAR_MODULES.iter().position(|m| name.contains(m)).unwrap() as f64;
        let value = |k: usize| {
            let (i, j) = ((k / cols) as f64, (k % cols) as f64);
            (0.02 * (0.37 * i + 0.011 * j + 0.5 * layer + 0.9 * module).sin()) as f32
        };
        let is_a = name.ends_with("lora_A.weight");
        d.write(&adapter.value, &(0..rows * cols).map(|k| if is_a { value(k) } else { 0.0 }).collect::<Vec<_>>());
    }
    let ids = ids(&json("smollm2_ref.json")["plain"]["input_ids"]);
    let b = batch(&[&ids]);
    let ws = workspace(&model, Purpose::Train, 64);
    let mut optimizer = Optimizer::new(&model, PLAIN_ADAMW);
    assert_eq!(optimizer.trained_parameters() as u64, reference["trainable"].as_u64().unwrap());
    let norms = |of: &dyn Fn(&temper_model::Parameter<_>) -> f64, expected: &Value| {
        let adapters = model.adapters();
        for (name, norm) in expected.as_object().unwrap() {
            let (_, adapter) = adapters.iter().find(|(n, _)| n == name).unwrap();
            close(name, of(adapter), norm.as_f64().unwrap(), 1e-3);
        }
    };
    let (losses, gradients) = (numbers(&reference["loss"]), numbers(&reference["grad_norm"]));
    for s in 0..5 {
        let outcome = step(&model, &ws, &mut optimizer, std::slice::from_ref(&b), 1e-3).unwrap();
        close("LoRA loss", outcome.loss(), losses[s], 5e-4);
        close("LoRA gradient norm", outcome.gradient_norm, gradients[s], 1e-3);
        if s == 0 {
            norms(&|p| d.sum_squares(p.gradient.as_ref().unwrap()).sqrt(), &reference["first_step_B_grad_norm"]);
        }
    }
    norms(&|p| d.sum_squares(&p.value).sqrt(), &reference["B_norm_after_5"]);
    let adapted = evaluate(&model, &ws, true, std::slice::from_ref(&b)).mean();
    close("LoRA loss after five steps", adapted, losses[5], 5e-4);

    // Merged equals adapters on (alpha is not the rank), and adapters off equal the base to the bit.
    let mut merged = std::collections::HashMap::new();
    model.visit_merged(&mut |name, tensor| {
        merged.insert(name, d.read(&tensor));
    });
    let config = model.config().clone();
    let merged =
        Llama::load(d, &config, &Tuning::Frozen, |name: &str, _: &[usize]| merged.remove(name).ok_or(())).unwrap();
    let infer = workspace(&merged, Purpose::Infer, 64);
    close("merged loss", evaluate(&merged, &infer, true, std::slice::from_ref(&b)).mean(), adapted, 1e-5);
    let segments = [Segment::alone(0..ids.len())];
    let hidden = merged.forward(&infer, Tokens { ids: &ids, positions: &b.positions, segments: &segments }, true);
    let logits = infer.logits[0].first_rows(1);
    d.linear(&hidden.row_range(ids.len() - 1..ids.len()), &merged.head().value, 1.0, Write::Set, &logits);
    let logits = d.read(&logits);
    for top in reference["merged_last_top5"].as_array().unwrap() {
        let (token, logit) = (top[0].as_u64().unwrap() as usize, top[1].as_f64().unwrap());
        close("merged logit", f64::from(logits[token]), logit, 5e-4);
    }
    let base = load(&Tuning::Frozen);
    let off = evaluate(&model, &ws, false, std::slice::from_ref(&b));
    assert_eq!(off, evaluate(&base, &infer, true, &[b]), "adapters off are the base, to the bit");
}

#[test]
fn greedy_answers_alone_and_in_one_batch() {
    let reference = json("smollm2_ref.json");
    let vocab = checkpoint().gguf_vocab().unwrap().unwrap();
    let tokenizer = temper_text::Tokenizer::from_gguf(&vocab).unwrap();
    let model = load(&Tuning::Frozen);
    let cases: Vec<(Vec<u32>, Vec<u32>)> = ["greedy_chat", "greedy_plain"]
        .map(|case| {
            let prompt = reference[case]["prompt"].as_str().unwrap();
            (tokenizer.encode(prompt, temper_text::Specials::Parse), ids(&reference[case]["new_ids"]))
        })
        .to_vec();
    let prompts: Vec<Vec<u32>> = cases.iter().map(|(prompt, _)| prompt.clone()).collect();
    let run =
        |prompts: &[Vec<u32>]| generate(&model, true, prompts, 32, &[2], &Sampling::GREEDY, &mut |_, _| {}).unwrap();
    for (together, (prompt, expected)) in run(&prompts).iter().zip(&cases) {
        assert_eq!(&together.ids, expected);
        assert_eq!(&run(std::slice::from_ref(prompt))[0].ids, expected);
    }
}

/// transformers#35203: the loss of an accumulated step is divided once, by all trained tokens.
#[test]
fn accumulation_equals_one_batch_transformers_35203() {
    let all = ids(&json("smollm2_ref.json")["plain"]["input_ids"]);
    let (short, long) = (&all[..3], &all[3..]);
    let run = |batches: &[MicroBatch]| {
        let model = load(&lora(4, 8.0));
        model.init_adapters(1);
        let ws = workspace(&model, Purpose::Train, 64);
        let mut optimizer = Optimizer::new(&model, PLAIN_ADAMW);
        let outcome = step(&model, &ws, &mut optimizer, batches, 1e-3).unwrap();
        (outcome.loss(), outcome.gradient_norm)
    };
    let packed = run(&[batch(&[short, long])]);
    let accumulated = run(&[batch(&[short]), batch(&[long])]);
    close("loss", accumulated.0, packed.0, 1e-5);
    close("gradient norm", accumulated.1, packed.1, 1e-5);
}
