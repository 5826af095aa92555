//! The real model against transformers and PEFT: losses, logits, gradients, AdamW steps, LoRA steps, greedy answers.
//!
//! The goldens and the scripts that made them: `tests/golden/smollm2/`. Both sides compute in f32, in other orders: every
//! difference is relative, stands beside its check as it was measured (two threads, AVX-512), and three to four times as
//! much is allowed for other orders of summation on other machines.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod models;

use std::ops::ControlFlow;
use std::path::PathBuf;

use models::{checkpoint, lora, real, workspace};
use serde_json::Value;
use temper_data::{Example, MicroBatch, micro_batches};
use temper_kernels::{Cpu, Device, LogProbGrad, Pick, Segment, Tensor, Write};
use temper_model::{LINEAR_MODULES, Llama, Purpose, Sampling, Tokens, Tuning, generate};
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

fn words(name: &str) -> Vec<[u8; 4]> {
    let bytes = std::fs::read(golden("smollm2_ref.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    file.tensor(name).unwrap().data().chunks_exact(4).map(|b| b.try_into().unwrap()).collect()
}

fn tensor(name: &str) -> Vec<f32> {
    words(name).into_iter().map(f32::from_le_bytes).collect()
}

fn ints(name: &str) -> Vec<u32> {
    words(name).into_iter().map(u32::from_le_bytes).collect()
}

/// One row of which every token but the first is trained.
fn batch(ids: &[u32]) -> MicroBatch {
    let weights = (0..ids.len()).map(|i| if i == 0 { 0.0 } else { 1.0 }).collect();
    let row = Example { ids: ids.to_vec(), weights, row: 0 };
    micro_batches(&[(0, &row)], ids.len()).remove(0)
}

/// Token ids of a golden "top5": pairs or triples that begin with the id and end with the logit.
fn top5(value: &Value) -> (Vec<usize>, Vec<f32>) {
    let entry = |e: &Value| {
        let e = e.as_array().unwrap();
        (e[0].as_u64().unwrap() as usize, e[e.len() - 1].as_f64().unwrap() as f32)
    };
    value.as_array().unwrap().iter().map(entry).unzip()
}

/// The five largest logits and their tokens, the largest first.
fn largest5(logits: &[f32]) -> (Vec<usize>, Vec<f32>) {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    order[..5].iter().map(|&t| (t, logits[t])).unzip()
}

/// Logits of the last of `ids`.
fn last_logits(model: &Llama<Cpu>, ids: &[u32]) -> Vec<f32> {
    let ws = workspace(model, Purpose::Infer, ids.len());
    let b = batch(ids);
    let segments = [Segment::alone(0..ids.len())];
    let hidden = model.forward(&ws, Tokens { ids, positions: &b.positions, segments: &segments }, true);
    let logits = ws.logits[0].first_rows(1);
    let last = hidden.row_range(ids.len() - 1..ids.len());
    model.device().linear(&last, &model.head().value, 1.0, Write::Set, &logits);
    model.device().read(&logits)
}

fn zeros(d: Cpu, rows: usize, cols: usize) -> Tensor<<Cpu as Device>::Buffer> {
    Tensor::new(d.zeros(rows * cols), 0, rows, cols)
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

/// What goes into the first layer and what comes out of it. The layer is run alone, as a model of one layer whose last
/// norm has weight one, so it is the direction of the golden that is held: `h / rms(h)`.
#[test]
fn embedding_and_first_layer() {
    let checkpoint = checkpoint();
    let mut config = checkpoint.config().clone();
    config.num_hidden_layers = 1;
    let weight = |name: &str, shape: &[usize]| match name {
        "model.norm.weight" => Ok(vec![1.0; shape[0]]),
        _ => checkpoint.tensor(name, shape),
    };
    let model = Llama::load(Cpu::new(2), &config, &Tuning::Frozen, weight).unwrap();
    let ws = workspace(&model, Purpose::Infer, 64);
    for prompt in ["plain", "chat"] {
        let ids = ids(&json("smollm2_ref.json")[prompt]["input_ids"]);
        assert_eq!(ids, ints(&format!("{prompt}.input_ids")));
        let n = ids.len();
        let embedding = &model.weights()[0].1.value;
        let last = ids[n - 1] as usize;
        let embedded = model.device().read(&embedding.row_range(last..last + 1));
        assert_eq!(embedded, tensor(&format!("{prompt}.hidden_embed_last")), "to the bit");

        let (b, segments) = (batch(&ids), [Segment::alone(0..n)]);
        let hidden = model.forward(&ws, Tokens { ids: &ids, positions: &b.positions, segments: &segments }, true);
        let got = model.device().read(&hidden.row_range(n - 1..n));
        let expected = tensor(&format!("{prompt}.hidden_layer1_last"));
        let mean = expected.iter().map(|h| f64::from(*h).powi(2)).sum::<f64>() / expected.len() as f64;
        let rms = (mean + config.rms_norm_eps).sqrt();
        let expected: Vec<f32> = expected.iter().map(|h| (f64::from(*h) / rms) as f32).collect();
        // Measured: 2.3e-7.
        close_all("hidden state after the first layer", &got, &expected, 1e-6);
    }
}

#[test]
fn losses_logits_and_hidden_states() {
    let model = real(&Tuning::Frozen);
    let (d, reference) = (*model.device(), json("smollm2_ref.json"));
    let ws = workspace(&model, Purpose::Infer, 64);
    for prompt in ["plain", "chat"] {
        let ids = ids(&reference[prompt]["input_ids"]);
        let b = batch(&ids);
        let loss = evaluate(&model, &ws, true, std::slice::from_ref(&b)).mean();
        close(prompt, loss, reference[prompt]["loss"].as_f64().unwrap(), 1e-5); // 3.1e-6

        let segments = [Segment::alone(0..ids.len())];
        let tokens = Tokens { ids: &ids, positions: &b.positions, segments: &segments };
        let hidden = model.forward(&ws, tokens, true);
        let last = d.read(&hidden.row_range(ids.len() - 1..ids.len()));
        close_all("final hidden state", &last, &tensor(&format!("{prompt}.hidden_final_normed_last")), 3e-6); // 8.1e-7
        let logits = ws.logits[0].first_rows(ids.len());
        d.linear(&hidden, &model.head().value, 1.0, Write::Set, &logits);
        let last = d.read(&logits.row_range(ids.len() - 1..ids.len()));
        close_all("last logits", &last, &tensor(&format!("{prompt}.logits_last")), 1e-5); // 1.8e-6
        let ((tokens, top), (expected_tokens, expected)) = (largest5(&last), top5(&reference[prompt]["top5"]));
        assert_eq!(tokens, expected_tokens);
        close_all("five largest logits", &top, &expected, 4e-6); // 6.0e-7
        let first = d.read(&logits.col_range(0..256));
        close_all("first 256 logits", &first, &tensor(&format!("{prompt}.logits_first256")), 1e-5); // 2.3e-6

        let picks: Vec<Pick> = (1..ids.len()).map(|i| Pick { row: i as u32 - 1, token: ids[i] }).collect();
        let found = d.linear_logprob(&hidden, &model.head().value, &picks, &ws.logits[1], None);
        close_all("token log-probabilities", &found.logprob, &tensor(&format!("{prompt}.token_logprobs")), 8e-6); // 1.5e-6
    }
}

#[test]
fn full_rank_gradients_and_four_adamw_steps() {
    let model = real(&Tuning::Full);
    let (d, reference) = (*model.device(), json("smollm2_ref.json"));
    let ws = workspace(&model, Purpose::Train, 64);
    let trained = model.trained();
    let gradient = |name: &str| trained.iter().find(|(n, _)| n == name).unwrap().1.gradient.as_ref().unwrap();
    for prompt in ["chat", "plain"] {
        let reference = &reference[prompt];
        let ids = ids(&reference["input_ids"]);
        let mut optimizer = Optimizer::new(&model, PLAIN_ADAMW);
        let outcome = step(&model, &ws, &mut optimizer, &[batch(&ids)], 0.0).unwrap();
        // The reference leaves the look-ups of the pad token out of the embedding's gradient (`padding_idx` of
        // torch.nn.Embedding). This model's pad token is its end of turn, a word like any other, and is trained here.
        // The chat has it twice: for the comparison its row gets the gradient of the head alone.
        let pad = model.config().pad_token_id.unwrap();
        let lookups = ids.iter().filter(|&&id| id == pad).count();
        assert_eq!(lookups, if prompt == "chat" { 2 } else { 0 });
        let n = ids.len() - 1;
        let segments = [Segment::alone(0..ids.len())];
        let positions: Vec<u32> = (0..ids.len() as u32).collect();
        let hidden = model.forward(&ws, Tokens { ids: &ids, positions: &positions, segments: &segments }, true);
        let picks: Vec<Pick> = (0..n).map(|i| Pick { row: i as u32, token: ids[i + 1] }).collect();
        let head = &model.head().value;
        let (dhidden, dhead) = (zeros(d, n, head.cols()), zeros(d, head.rows(), head.cols()));
        let by_logprob = vec![-1.0 / n as f32; n];
        let grad = LogProbGrad { logprob: &by_logprob, entropy: &[], hidden: &dhidden, head: Some(&dhead) };
        d.linear_logprob(&hidden.first_rows(n), head, &picks, &ws.logits[0], Some(grad));
        let row = pad as usize..pad as usize + 1;
        d.copy(&dhead.row_range(row.clone()), &gradient("model.embed_tokens.weight").row_range(row));

        let norm = optimizer.gradient_norm(&d).unwrap();
        // Measured: 6.9e-6; of single tensors 7.1e-5, because the reference sums their squares in f32.
        close("gradient norm", norm, reference["grad_norm_global"].as_f64().unwrap(), 2e-5); // 6.9e-6
        if lookups == 0 {
            close("gradient norm of the step", outcome.gradient_norm, norm, 1e-6); // 0
        }
        for (name, norm) in reference["grad_norms"].as_object().unwrap() {
            close(name, d.sum_squares(gradient(name)).sqrt(), norm.as_f64().unwrap(), 2e-4);
        }
    }
    let b = batch(&ids(&reference["plain"]["input_ids"]));
    let mut optimizer = Optimizer::new(&model, PLAIN_ADAMW);
    for expected in numbers(&reference["adamw_full_lr1e-5_plain_losses"]) {
        let outcome = step(&model, &ws, &mut optimizer, std::slice::from_ref(&b), 1e-5).unwrap();
        // Measured: 5.0e-6 at most.
        close("AdamW loss", outcome.loss(), expected, 2e-5);
    }
}

#[test]
fn six_lora_steps_and_the_merged_model() {
    let reference = json("smollm2_lora_ref.json");
    let model = real(&lora(8, 16.0));
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
    let b = batch(&ids);
    let ws = workspace(&model, Purpose::Train, 64);
    let mut optimizer = Optimizer::new(&model, PLAIN_ADAMW);
    assert_eq!(optimizer.trained_parameters() as u64, reference["trainable"].as_u64().unwrap());
    let norms = |of: &dyn Fn(&temper_model::Parameter<_>) -> f64, expected: &Value, tolerance: f64| {
        let adapters = model.adapters();
        for (name, norm) in expected.as_object().unwrap() {
            let (_, adapter) = adapters.iter().find(|(n, _)| n == name).unwrap();
            close(name, of(adapter), norm.as_f64().unwrap(), tolerance);
        }
    };
    let (losses, gradients) = (numbers(&reference["loss"]), numbers(&reference["grad_norm"]));
    for s in 0..5 {
        let outcome = step(&model, &ws, &mut optimizer, std::slice::from_ref(&b), 1e-3).unwrap();
        // Measured: 9.7e-6 at most.
        close("LoRA loss", outcome.loss(), losses[s], 4e-5);
        close("LoRA gradient norm", outcome.gradient_norm, gradients[s], 8e-5);
        if s == 0 {
            norms(
                &|p| d.sum_squares(p.gradient.as_ref().unwrap()).sqrt(),
                &reference["first_step_B_grad_norm"],
                1.2e-4,
            ); // 3.7e-5
        }
    }
    norms(&|p| d.sum_squares(&p.value).sqrt(), &reference["B_norm_after_5"], 1.2e-4); // 3.7e-5
    let adapted = evaluate(&model, &ws, true, std::slice::from_ref(&b)).mean();
    close("LoRA loss after five steps", adapted, losses[5], 4e-5); // 1.1e-5

    // Merged equals adapters on (alpha is not the rank), and adapters off equal the base to the bit.
    let config = model.config().clone();
    let mut merged: std::collections::HashMap<String, Vec<f32>> =
        model.weights().into_iter().map(|(name, weight)| (name, d.read(&weight.value))).collect();
    for module in model.adapter_modules() {
        let weight = merged.get_mut(&format!("{}.weight", module.module)).unwrap();
        *weight = module.merge(&d, 8, 16.0 / 8.0, weight);
    }
    let merged =
        Llama::load(d, &config, &Tuning::Frozen, |name: &str, _: &[usize]| merged.remove(name).ok_or(())).unwrap();
    let infer = workspace(&merged, Purpose::Infer, 64);
    close("merged loss", evaluate(&merged, &infer, true, std::slice::from_ref(&b)).mean(), adapted, 2e-6); // 8.1e-7
    let (tokens, top) = largest5(&last_logits(&merged, &ids));
    let (expected_tokens, expected) = top5(&reference["merged_last_top5"]);
    assert_eq!(tokens, expected_tokens);
    // Measured: 3.2e-5.
    close_all("five largest merged logits", &top, &expected, 1e-4);
    let base = real(&Tuning::Frozen);
    let off = evaluate(&model, &ws, false, std::slice::from_ref(&b));
    assert_eq!(off, evaluate(&base, &infer, true, &[b]), "adapters off are the base, to the bit");
}

#[test]
fn greedy_answers_alone_and_in_one_batch() {
    let reference = json("smollm2_ref.json");
    let vocab = checkpoint().gguf_vocab().unwrap().unwrap();
    let tokenizer = temper_text::Tokenizer::from_gguf(&vocab).unwrap();
    let model = real(&Tuning::Frozen);
    let cases: Vec<(Vec<u32>, Vec<u32>)> = ["greedy_chat", "greedy_plain"]
        .map(|case| {
            let prompt = reference[case]["prompt"].as_str().unwrap();
            (tokenizer.encode(prompt, temper_text::Specials::Parse), ids(&reference[case]["new_ids"]))
        })
        .to_vec();
    let prompts: Vec<Vec<u32>> = cases.iter().map(|(prompt, _)| prompt.clone()).collect();
    let run = |prompts: &[Vec<u32>]| {
        generate(&model, true, prompts, 32, &[2], &Sampling::GREEDY, &mut |_, _, _| ControlFlow::Continue(())).unwrap()
    };
    for (together, (prompt, expected)) in run(&prompts).iter().zip(&cases) {
        assert_eq!(&together.ids, expected);
        assert_eq!(&run(std::slice::from_ref(prompt))[0].ids, expected);
    }
}
