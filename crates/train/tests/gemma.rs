//! Gemma 3 270M, the real weights, against transformers: token ids, losses, next tokens, greedy text, and that it trains.
//!
//! The goldens and the script that made them: `tests/golden/gemma3-270m/`. The weights (253 MB) are under Gemma's terms, so the
//! tests run where they are wanted only: `cargo xtask e2e gemma` fetches them and names the file in `TEMPER_TEST_GEMMA`.
//! Measured with two threads, AVX-512.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "tests panic, and say what was left out"
)]

mod models;

use std::ops::ControlFlow;
use std::path::PathBuf;

use models::{lora, workspace};
use serde_json::Value;
use temper_data::{Example, MicroBatch, micro_batches};
use temper_kernels::{Cpu, Device, Segment, Write};
use temper_model::{Checkpoint, Llama, Purpose, Sampling, Tokens, Tuning, generate};
use temper_text::{Specials, Tokenizer};
use temper_train::{AdamWSettings, Optimizer, evaluate, step};

/// The model, where it is wanted; a test without it says so and ends.
fn checkpoint() -> Option<Checkpoint> {
    let Ok(path) = std::env::var("TEMPER_TEST_GEMMA") else {
        println!("left out: TEMPER_TEST_GEMMA names no file (`cargo xtask e2e gemma` does)");
        return None;
    };
    Some(Checkpoint::open(path.as_ref()).unwrap())
}

fn model(checkpoint: &Checkpoint, tuning: &Tuning) -> Llama<Cpu> {
    Llama::load(Cpu::new(2), checkpoint.config(), tuning, |name, shape| checkpoint.stored(name, shape)).unwrap()
}

fn golden() -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/gemma3-270m/golden.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// A row of which the tokens from `first` on are trained.
fn batch(ids: &[u32], first: usize) -> MicroBatch {
    let weights = (0..ids.len()).map(|i| if i < first { 0.0 } else { 1.0 }).collect();
    micro_batches(&[(0, &Example { ids: ids.to_vec(), weights, row: 0 })], ids.len()).remove(0)
}

#[test]
fn token_ids_are_the_reference_s() {
    let Some(checkpoint) = checkpoint() else { return };
    let golden = golden();
    let tokenizer = Tokenizer::from_gguf(&checkpoint.gguf_vocab().unwrap().unwrap()).unwrap();
    assert!(tokenizer.add_bos());
    let text = std::fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../LICENSE-APACHE")).unwrap();
    let cases = golden["awkward"].as_array().unwrap().iter().map(|case| (case["text"].as_str().unwrap(), &case["ids"]));
    let prompts =
        golden["greedy"].as_array().unwrap().iter().map(|case| (case["prompt"].as_str().unwrap(), &case["ids"]));
    for (text, expected) in cases.chain(prompts).chain([(text[..4000].trim(), &golden["ids"])]) {
        let got: Vec<u32> = tokenizer.bos().into_iter().chain(tokenizer.encode(text, Specials::Parse)).collect();
        assert_eq!(got, ids(expected), "{text:?}");
    }
}

#[test]
fn losses_and_next_tokens_are_the_reference_s() {
    let Some(checkpoint) = checkpoint() else { return };
    let (golden, model) = (golden(), model(&checkpoint, &Tuning::Frozen));
    assert_eq!(checkpoint.verify().unwrap(), Vec::<String>::new());
    let ids = ids(&golden["ids"]);
    let ws = workspace(&model, Purpose::Infer, ids.len());
    // The text is longer than the window of 512.
    for (name, first) in [("loss", 1), ("loss_beyond_window", 513)] {
        let loss = evaluate(&model, &ws, true, &[batch(&ids, first)]).mean();
        let expected = golden[name].as_f64().unwrap();
        println!("{name}: {loss:.6}, reference {expected:.6}");
        assert!((loss / expected - 1.0).abs() < 2e-5, "{name}: got {loss}, expected {expected}"); // 6.7e-6
    }
    let n = ids.len();
    let positions: Vec<u32> = (0..n as u32).collect();
    let segments = [Segment::alone(0..n)];
    let hidden = model.forward(&ws, Tokens { ids: &ids, positions: &positions, segments: &segments }, true);
    let (d, to) = (model.device(), ws.logits[0].first_rows(1));
    d.linear(&hidden.row_range(n - 1..n), &model.head().value, 1.0, Write::Set, &to);
    let logits = d.read(&to);
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    for (&got, expected) in order.iter().zip(golden["top5"].as_array().unwrap()) {
        let (token, logit) = (expected[0].as_u64().unwrap() as usize, expected[1].as_f64().unwrap() as f32);
        assert_eq!(got, token);
        assert!((logits[got] / logit - 1.0).abs() < 2e-5, "token {token}: got {}, expected {logit}", logits[got]);
    }
}

#[test]
fn greedy_text_is_the_reference_s() {
    let Some(checkpoint) = checkpoint() else { return };
    let (golden, model) = (golden(), model(&checkpoint, &Tuning::Frozen));
    let cases = golden["greedy"].as_array().unwrap();
    let prompts: Vec<Vec<u32>> = cases.iter().map(|case| ids(&case["ids"])).collect();
    let go_on = &mut |_: usize, _: u32, _| ControlFlow::Continue(());
    let answers = generate(&model, true, &prompts, 32, &[1], &Sampling::GREEDY, go_on).unwrap();
    for (answer, case) in answers.iter().zip(cases) {
        println!("{} |{}", case["prompt"].as_str().unwrap(), case["text"].as_str().unwrap());
        assert_eq!(answer.ids, ids(&case["new"]));
    }
}

#[test]
fn a_lora_learns_the_text() {
    let Some(checkpoint) = checkpoint() else { return };
    let (golden, model) = (golden(), model(&checkpoint, &lora(8, 16.0)));
    model.init_adapters(0);
    let batch = batch(&ids(&golden["ids"])[..256], 1);
    let ws = workspace(&model, Purpose::Train, 256);
    let settings = AdamWSettings { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0, max_grad_norm: 1.0 };
    let mut optimizer = Optimizer::new(&model, settings);
    let losses: Vec<f64> =
        (0..8).map(|_| step(&model, &ws, &mut optimizer, std::slice::from_ref(&batch), 1e-3).unwrap().loss()).collect();
    println!("losses of eight steps: {losses:.4?}");
    assert!(losses[7] < 0.8 * losses[0], "{losses:?}");
}
