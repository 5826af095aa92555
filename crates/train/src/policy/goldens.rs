//! The objective against PyTorch in float64: `tests/golden/grpo/toy.json`, whose README says how each number is made.

use serde_json::Value;

use super::advantages::{RewardBaseline, RewardScale, advantages};
use super::objective::tests::PLAIN;
use super::objective::{Aggregation, KlEstimator, PolicySettings, RatioLevel};

fn golden() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/grpo/toy.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn rows(value: &Value) -> Vec<Vec<f64>> {
    value.as_array().unwrap().iter().map(numbers).collect()
}

/// Estimator by its name there, and whether it is weighed.
fn estimator(name: &str) -> Option<(KlEstimator, bool)> {
    let (name, weighed) = name.strip_suffix("_weighted").map_or((name, false), |name| (name, true));
    let estimator = match name {
        "k1" => KlEstimator::K1,
        "k2" => KlEstimator::K2,
        "k3" => KlEstimator::K3,
        _ => return None,
    };
    Some((estimator, weighed))
}

/// The settings of a case; none where it has a switch that is not here.
fn settings(case: &Value, max_length: usize) -> Option<PolicySettings> {
    if !case["delta"].is_null() {
        return None;
    }
    let number = |key: &str| case[key].as_f64().unwrap_or(0.0);
    let (kl_estimator, kl_unbiased) = match case["kl"].as_str() {
        Some(name) => estimator(name)?,
        None => (KlEstimator::K3, false),
    };
    Some(PolicySettings {
        loss_type: match case["aggregation"].as_str().unwrap() {
            "grpo" => Aggregation::Grpo,
            "dapo" => Aggregation::Dapo,
            "dr_grpo" => Aggregation::DrGrpo,
            _ => return None,
        },
        importance_sampling_level: match case["level"].as_str().unwrap() {
            "token" => RatioLevel::Token,
            _ => RatioLevel::Sequence,
        },
        clip_low: number("epsilon_low"),
        clip_high: number("epsilon_high"),
        beta: number("beta"),
        kl_estimator,
        kl_unbiased,
        entropy_coefficient: number("entropy_coef"),
        temperature: number("temperature"),
        max_completion_tokens: max_length,
        ..PLAIN
    })
}

/// Log-probability of each token and entropy, of logits that are divided by a temperature.
fn softmax(logits: &[f64], temperature: f64) -> (Vec<f64>, f64) {
    let scaled: Vec<f64> = logits.iter().map(|z| z / temperature).collect();
    let sum = scaled.iter().map(|z| z.exp()).sum::<f64>().ln();
    let logprobs: Vec<f64> = scaled.iter().map(|z| z - sum).collect();
    let entropy = -logprobs.iter().map(|l| l.exp() * l).sum::<f64>();
    (logprobs, entropy)
}

fn close(got: f64, expected: f64, what: &str) {
    assert!((got - expected).abs() < 1e-12, "{what}: got {got}, expected {expected}");
}

#[test]
fn losses_and_gradients_are_those_of_pytorch() {
    let golden = golden();
    let batch = &golden["batch"];
    let tokens: Vec<Vec<usize>> =
        rows(&batch["tokens"]).iter().map(|row| row.iter().map(|&token| token as usize).collect()).collect();
    // The script takes the logits of the batch as single-precision numbers.
    let single = |row: Vec<f64>| row.into_iter().map(|z| f64::from(z as f32)).collect();
    let of_batch = |key: &str| -> Vec<Vec<Vec<f64>>> {
        let sequences = batch[key].as_array().unwrap().iter();
        sequences.map(|sequence| rows(sequence).into_iter().map(single).collect()).collect()
    };
    let [logits, old_logits, reference_logits] = ["logits", "old_logits", "reference_logits"].map(of_batch);
    let advantages = numbers(&batch["advantages"]);
    let max_length = batch["max_length"].as_u64().unwrap() as usize;
    let mut checked = 0;
    for case in golden["losses"].as_array().unwrap() {
        let Some(of) = settings(case, max_length) else { continue };
        let cut: Vec<usize> = if case["cut"].is_null() {
            Vec::new()
        } else {
            numbers(&case["cut"]).iter().map(|&i| i as usize).collect()
        };
        let kept: Vec<usize> = (0..tokens.len()).filter(|i| !cut.contains(i)).collect();
        let all: usize = kept.iter().map(|&i| tokens[i].len()).sum();
        let (mut loss, mut clipped) = (0.0, [0usize; 2]);
        for i in 0..tokens.len() {
            let drawn = |logits: &[Vec<Vec<f64>>]| -> Vec<f64> {
                tokens[i].iter().zip(&logits[i]).map(|(&token, z)| softmax(z, of.temperature).0[token]).collect()
            };
            let (now, old, reference) = (drawn(&logits), drawn(&old_logits), drawn(&reference_logits));
            let reference = if of.beta > 0.0 { &reference[..] } else { &[] };
            let terms = of.terms(advantages[i], &now, &old, reference);
            let counts = f64::from(u8::from(kept.contains(&i)));
            let weight = counts * of.weight(tokens[i].len(), kept.len(), all);
            let of_entropy = counts * of.entropy_coefficient / all as f64;
            for (at, term) in terms.iter().enumerate() {
                let what = format!("{of:?}, token {at} of sequence {i}");
                let (logprobs, entropy) = softmax(&logits[i][at], of.temperature);
                loss += weight * term.loss - of_entropy * entropy;
                if counts > 0.0 {
                    (0..2).for_each(|side| clipped[side] += usize::from(term.clipped[side]));
                }
                close(weight * term.slope, case["d_logp"][i][at].as_f64().unwrap(), &what);
                // As the kernel turns both gradients into that by the logits.
                for (k, l) in logprobs.iter().enumerate() {
                    let hot = f64::from(u8::from(k == tokens[i][at]));
                    let by_logits = weight * term.slope * (hot - l.exp()) + of_entropy * l.exp() * (l + entropy);
                    close(by_logits / of.temperature, case["d_logits"][i][at][k].as_f64().unwrap(), &what);
                }
            }
        }
        close(loss, case["loss"].as_f64().unwrap(), &format!("{of:?}"));
        if of.importance_sampling_level == RatioLevel::Token {
            for (side, key) in ["clip_low", "clip_high"].into_iter().enumerate() {
                close(clipped[side] as f64 / all as f64, case[key].as_f64().unwrap(), key);
            }
        }
        checked += 1;
    }
    // Not here: `bnpo`, whose loss depends on the split into micro-batches, the upper bound `delta`, and the exact divergence.
    assert_eq!(checked, 28);
}

/// huggingface/trl#4637 and #6503: what each estimator is in value and in gradient, in expectation over what is sampled.
#[test]
fn trl_6503_the_weighed_estimators_have_the_gradient_of_the_divergence() {
    for case in golden()["kl"].as_array().unwrap() {
        let [logits, old, reference] = ["logits", "old_logits", "reference_logits"].map(|key| numbers(&case[key]));
        let [now, old, reference] = [logits, old, reference].map(|logits| softmax(&logits, 1.0).0);
        for (name, expected) in case["estimators"].as_object().unwrap() {
            let Some((kl_estimator, kl_unbiased)) = estimator(name) else { continue };
            let of = PolicySettings { kl_estimator, kl_unbiased, ..PLAIN };
            let (mut value, mut gradient) = (0.0, [0.0; 3]);
            for drawn in 0..3 {
                let (of_token, slope) = of.divergence(now[drawn], old[drawn], reference[drawn]);
                close(of_token, expected["value"][drawn].as_f64().unwrap(), name);
                value += old[drawn].exp() * of_token;
                for k in 0..3 {
                    let by_logit = slope * (f64::from(u8::from(k == drawn)) - now[k].exp());
                    close(by_logit, expected["d_logits"][drawn][k].as_f64().unwrap(), name);
                    gradient[k] += old[drawn].exp() * by_logit;
                }
            }
            close(value, expected["expected_value"].as_f64().unwrap(), name);
            (0..3).for_each(|k| close(gradient[k], expected["expected_d_logits"][k].as_f64().unwrap(), name));
        }
    }
}

#[test]
fn advantages_are_those_of_trl() {
    for case in golden()["groups"].as_array().unwrap() {
        let rewards: Vec<Option<f64>> = case["rewards"].as_array().unwrap().iter().map(Value::as_f64).collect();
        let scale = match case["scale_rewards"].as_str().unwrap() {
            "group" => RewardScale::Group,
            "batch" => RewardScale::Batch,
            _ => RewardScale::None,
        };
        let size = case["group_size"].as_u64().unwrap() as usize;
        let groups: Vec<Vec<Option<f64>>> = rewards.chunks(size).map(<[_]>::to_vec).collect();
        let found = advantages(&groups, RewardBaseline::GroupMean, scale);
        for (i, (got, expected)) in found.iter().flatten().zip(case["advantages"].as_array().unwrap()).enumerate() {
            // There an abstained completion has the advantage 0; here none, so that it is in no denominator either.
            assert_eq!(got.is_none(), rewards[i].is_none());
            // TRL computes in single precision: measured 3.3e-8 at most.
            assert!((got.unwrap_or(0.0) - expected.as_f64().unwrap()).abs() < 1e-7, "{case}: {got:?} {expected}");
        }
    }
}
