//! Preference training against TRL's DPOTrainer, and against itself: split and laid out otherwise.
//!
//! The goldens and the script that made them: `tests/golden/preference/`. Both sides compute in f32, in other orders. What is
//! allowed is relative to the number or to 1, whichever is larger: the largest difference measured was 1.1e-6 (two threads,
//! AVX-512), and four times that is allowed for other orders of summation on other machines.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod models;

use models::{waves, workspace};
use serde_json::Value;
use temper_data::{ExamplesWriter, Pair, PairBatch, pair_batches};
use temper_kernels::Device;
use temper_model::{Purpose, Tuning};
use temper_train::{
    AdamWSettings, Optimizer, PairLoss, PreferenceSettings, evaluate_pairs, pair_logprobs, preference_step,
};

const ADAMW: AdamWSettings =
    AdamWSettings { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0, max_grad_norm: 1.0 };

fn golden() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/preference/dpo.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// Prompts and answers as pairs; TRL ends each answer with the end of sequence, 0.
fn pairs() -> Vec<Pair> {
    let pair = |row: &Value| {
        let [prompt, chosen, rejected] = [0, 1, 2].map(|part| ids(&row[part]));
        let whole = |answer: &[u32]| [&prompt[..], answer, &[0]].concat();
        let trained = |ids: &[u32]| (0..ids.len()).map(|at| at >= prompt.len()).collect::<Vec<bool>>();
        let (chosen, rejected) = (whole(&chosen), whole(&rejected));
        let mut writer = ExamplesWriter::in_memory();
        writer.add_pair((&chosen, &trained(&chosen)), (&rejected, &trained(&rejected)), 1, None).unwrap();
        writer.finish().unwrap().pair(0, 1.0).unwrap()
    };
    golden()["rows"].as_array().unwrap().iter().map(pair).collect()
}

fn packed(pairs: &[Pair], references: &[[f64; 2]], max_tokens: usize) -> Vec<PairBatch> {
    let rows: Vec<_> =
        pairs.iter().zip(references).enumerate().map(|(i, (pair, r))| ((i % 2) as u16, pair, *r)).collect();
    pair_batches(&rows, max_tokens)
}

fn settings(case: &Value) -> PreferenceSettings {
    let (loss_type, rpo_alpha) = match &case["loss_type"] {
        Value::Array(_) => (PairLoss::Sigmoid, case["loss_weights"][1].as_f64().unwrap()),
        one => match one.as_str().unwrap() {
            "sigmoid" => (PairLoss::Sigmoid, 0.0),
            "ipo" => (PairLoss::Ipo, 0.0),
            "hinge" => (PairLoss::Hinge, 0.0),
            "robust" => (PairLoss::Robust, 0.0),
            other => panic!("{other}"),
        },
    };
    let label_smoothing = case["label_smoothing"].as_f64().unwrap_or(0.0);
    PreferenceSettings { loss_type, beta: case["beta"].as_f64().unwrap(), label_smoothing, rpo_alpha }
}

fn close(what: &str, got: f64, expected: f64, tolerance: f64) {
    let error = (got - expected).abs() / expected.abs().max(1.0);
    assert!(error <= tolerance, "{what}: got {got}, expected {expected}, relative error {error:.1e} > {tolerance:.0e}");
}

#[test]
fn three_steps_of_each_loss_are_those_of_trl() {
    let pairs = pairs();
    let cases = golden();
    let cases = cases["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 6);
    for case in cases {
        let lora = case["lora"].as_bool().unwrap();
        let name = format!("{} lora {lora}", case["loss_type"]);
        let model = waves::model(&if lora { models::lora(3, 6.0) } else { Tuning::Full });
        let ws = workspace(&model, Purpose::Train, 64);
        // Before training the model is its own reference.
        let references = pair_logprobs(&model, &ws, !lora, &packed(&pairs, &[[0.0; 2]; 12], 64));
        let settings = settings(case);
        let mut optimizer = Optimizer::new(&model, ADAMW);
        for (s, expected) in case["steps"].as_array().unwrap().iter().enumerate() {
            let at = 4 * s..4 * s + 4;
            let batches = packed(&pairs[at.clone()], &references[at], 40);
            assert!(batches.len() > 1, "the split into micro-batches is another than TRL's");
            let outcome = preference_step(&model, &ws, &mut optimizer, &settings, &batches, 1e-2).unwrap();
            let m = outcome.preference.unwrap();
            let of = |key: &str| expected[key].as_f64().unwrap();
            let what = |key: &str| format!("{name}, step {}, {key}", s + 1);
            // Measured: see TOLERANCE.
            for (key, got) in [
                ("loss", outcome.loss()),
                ("grad_norm", outcome.gradient_norm),
                ("rewards/chosen", m.rewards_chosen),
                ("rewards/rejected", m.rewards_rejected),
                ("rewards/margins", m.margins),
                ("logps/chosen", m.logps_chosen),
                ("logps/rejected", m.logps_rejected),
            ] {
                close(&what(key), got, of(key), 4e-6);
            }
            assert_eq!((m.pairs, m.accuracies), (4, of("rewards/accuracies")), "{}", what("accuracy"));
        }
        let trained = model.trained();
        for (parameter, norm) in case["norms"].as_object().unwrap() {
            let (_, own) = trained.iter().find(|(n, _)| n == parameter).expect(parameter);
            let got = model.device().sum_squares(&own.value).sqrt();
            close(&format!("{name}: norm of {parameter}"), got, norm.as_f64().unwrap(), 4e-6);
        }
    }
}

/// The pair with its answers laid out whole beside each other, but for their first token.
fn unshared(pair: &Pair) -> Pair {
    let [chosen, rejected] = pair.answers();
    Pair {
        ids: [&chosen.ids[..], &rejected.ids[1..]].concat(),
        weights: [&chosen.weights[..], &rejected.weights[1..]].concat(),
        chosen: chosen.ids.len(),
        common: 1,
        row: pair.row,
    }
}

#[test]
fn what_goes_together_and_what_is_shared_change_nothing_but_rounding() {
    let pairs = pairs();
    let apart: Vec<Pair> = pairs.iter().map(unshared).collect();
    assert!(pairs.iter().map(|p| p.ids.len()).sum::<usize>() < apart.iter().map(|p| p.ids.len()).sum::<usize>());
    for (loss_type, rpo_alpha) in [(PairLoss::Sigmoid, 0.5), (PairLoss::Ipo, 0.0)] {
        let settings = PreferenceSettings { loss_type, beta: 0.1, label_smoothing: 0.0, rpo_alpha };
        let references: Vec<[f64; 2]> = (0..12).map(|i| [-10.0 - f64::from(i), -12.0 + f64::from(i)]).collect();
        let step = |pairs: &[Pair], max_tokens: usize| {
            let model = waves::model(&Tuning::Full);
            let ws = workspace(&model, Purpose::Train, 400);
            let mut batches = packed(pairs, &references, max_tokens);
            // A pair's weight counts as often as it says.
            batches[0].pairs[0].weight = 3.0;
            let (loss, metrics, parts) = evaluate_pairs(&model, &ws, &settings, &batches);
            assert_eq!(parts.len(), pairs.len());
            close("the mean of the pairs' parts", parts.iter().sum::<f64>() / parts.len() as f64, loss, 1e-12);
            let mut optimizer = Optimizer::new(&model, ADAMW);
            let outcome = preference_step(&model, &ws, &mut optimizer, &settings, &batches, 0.0).unwrap();
            assert_eq!((loss, Some(metrics)), (outcome.loss(), outcome.preference), "validation is the step's loss");
            (batches.len(), outcome)
        };
        let (one, together) = step(&pairs, 400);
        assert_eq!(one, 1);
        let first = packed(&pairs, &references, 400)[0].pairs[0].index;
        for (pairs, max_tokens) in [(&pairs, 30), (&apart, 400), (&apart, 30)] {
            let (several, other) = step(pairs, max_tokens);
            assert_eq!(several > 1, max_tokens == 30);
            assert_eq!(packed(pairs, &references, max_tokens)[0].pairs[0].index, first, "the pair that weighs more");
            // Measured: 2.4e-7 at most.
            close("loss", other.loss(), together.loss(), 1e-6);
            close("gradient norm", other.gradient_norm, together.gradient_norm, 1e-6);
            assert_eq!(other.trained_tokens, together.trained_tokens);
            assert_eq!(other.by_source.len(), 2);
        }
    }
}

#[test]
fn adapters_that_add_nothing_give_the_reference_to_the_bit() {
    let (pairs, model) = (pairs(), waves::model(&models::lora(3, 6.0)));
    let ws = workspace(&model, Purpose::Train, 64);
    let batches = packed(&pairs, &[[0.0; 2]; 12], 64);
    let reference = pair_logprobs(&model, &ws, false, &batches);
    assert_eq!(reference, pair_logprobs(&model, &ws, true, &batches));
    assert!(reference.iter().flatten().all(|logprob| *logprob < 0.0));
    // Whatever goes beside it.
    assert_eq!(pair_logprobs(&model, &ws, false, &packed(&pairs[..1], &[[0.0; 2]], 64))[0], reference[0]);
}
