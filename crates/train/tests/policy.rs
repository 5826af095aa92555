//! The step over rollouts against TRL's GRPOTrainer, and against itself: its gradient by differences, laid out otherwise, and with
//! rollouts that do not count.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod models;

use models::{TINY, lora, tiny_of, waves, workspace};
use serde_json::Value;
use temper_data::{Example, MicroBatch, micro_batches};
use temper_kernels::{Cpu, Device, Reference};
use temper_model::{Llama, LlamaConfig, Purpose, Tuning};
use temper_train::{
    AdamWSettings, Aggregation, KlEstimator, Optimizer, PolicySettings, RatioLevel, RewardBaseline, RewardScale,
    Rollout, StepOutcome, Surrogate, advantages, completion_logprobs, policy_step, step,
};

const ADAMW: AdamWSettings =
    AdamWSettings { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0, max_grad_norm: 0.0 };

const SETTINGS: PolicySettings = PolicySettings {
    loss_type: Aggregation::Dapo,
    importance_sampling_level: RatioLevel::Token,
    surrogate: Surrogate::Clip,
    clip_low: 0.2,
    clip_high: 0.28,
    beta: 0.3,
    kl_estimator: KlEstimator::K3,
    kl_unbiased: true,
    entropy_coefficient: 0.05,
    temperature: 0.8,
    max_completion_tokens: 8,
};

fn config() -> LlamaConfig {
    LlamaConfig { max_position_embeddings: 32, ..TINY }
}

/// Two prompts of three completions each, of uneven length; older weights and a reference gave them other probabilities.
fn rollouts<D: Device>(model: &Llama<D>) -> Vec<Rollout> {
    let prompts: [&[u32]; 2] = [&[1, 4, 2, 7, 3, 5], &[1, 6, 6, 2, 9]];
    let completions: [&[u32]; 6] = [&[3, 1, 2], &[8], &[3, 1, 9, 2], &[5, 5], &[2], &[7, 8, 3, 4, 2]];
    let advantages = [0.9, -1.2, 0.3, -0.4, 1.1, -0.7];
    let mut rollouts: Vec<Rollout> = (0..6)
        .map(|i| Rollout {
            ids: [prompts[i / 3], completions[i]].concat(),
            prompt: prompts[i / 3].len(),
            advantage: Some(advantages[i]),
            old: Vec::new(),
            reference: Vec::new(),
        })
        .collect();
    let ws = workspace(model, Purpose::Infer, 24);
    let now = completion_logprobs(model, &ws, true, SETTINGS.temperature, &rollouts);
    for (rollout, now) in rollouts.iter_mut().zip(now) {
        // Some within the clip, some beyond it on either side.
        let moved = |by: f32| now.iter().enumerate().map(|(k, l)| l + by * ((k % 3) as f32 - 1.0)).collect();
        (rollout.old, rollout.reference) = (moved(0.3), moved(-0.5));
    }
    rollouts
}

fn at_rest<D: Device>(model: &Llama<D>, settings: &PolicySettings, rollouts: &[Rollout], tokens: usize) -> StepOutcome {
    beside(model, settings, rollouts, &[], tokens)
}

/// The same with general rows.
fn beside<D: Device>(
    model: &Llama<D>,
    settings: &PolicySettings,
    rollouts: &[Rollout],
    general: &[MicroBatch],
    tokens: usize,
) -> StepOutcome {
    let mut optimizer = Optimizer::new(model, ADAMW);
    let ws = workspace(model, Purpose::Train, tokens);
    policy_step(model, &ws, &mut optimizer, settings, rollouts, general, 0.0).unwrap()
}

/// Rows of two general sources, 1 and 2, whose tokens weigh 0.5 and 3; the first token of each is context.
fn general() -> Vec<MicroBatch> {
    let rows = [(1, 0.5, vec![4, 8, 1, 2, 6]), (2, 3.0, vec![9, 9, 3]), (1, 0.5, vec![7, 2, 5, 5])];
    let row = |(source, weight, ids): (u16, f32, Vec<u32>)| {
        let weights = (0..ids.len()).map(|at| if at == 0 { 0.0 } else { weight }).collect();
        (source, Example { ids, weights, row: 0 })
    };
    let rows = rows.map(row);
    micro_batches(&rows.iter().map(|(source, row)| (*source, row)).collect::<Vec<_>>(), 8)
}

fn gradients<D: Device>(model: &Llama<D>) -> Vec<Vec<f32>> {
    model.trained().iter().map(|(_, p)| model.device().read(p.gradient.as_ref().unwrap())).collect()
}

/// Along its own direction the loss rises by the square of the gradient's norm. Relative: measured at most 5.4e-5, in f64 with
/// log-probabilities in f32; allowed 1e-3.
#[test]
fn the_gradient_is_that_of_the_loss() {
    for tuning in [Tuning::Full, lora(2, 3.0)] {
        let model = tiny_of(Reference::<f64>::new(), &config(), &tuning);
        let rollouts = rollouts(&model);
        for settings in [
            SETTINGS,
            PolicySettings { loss_type: Aggregation::Grpo, kl_unbiased: false, ..SETTINGS },
            PolicySettings { loss_type: Aggregation::DrGrpo, kl_estimator: KlEstimator::K2, ..SETTINGS },
            PolicySettings { importance_sampling_level: RatioLevel::Sequence, ..SETTINGS },
            PolicySettings { surrogate: Surrogate::None, kl_estimator: KlEstimator::K1, ..SETTINGS },
        ] {
            let general = general();
            beside(&model, &settings, &rollouts, &general, 24);
            let gradients = gradients(&model);
            let square: f64 = gradients.iter().flatten().map(|&g| f64::from(g).powi(2)).sum();
            let step = 1e-3 / square.sqrt();
            let before: Vec<Vec<f32>> = model.trained().iter().map(|(_, p)| model.device().read(&p.value)).collect();
            let moved = |by: f64| {
                for (((_, p), values), gradient) in model.trained().iter().zip(&before).zip(&gradients) {
                    let values: Vec<f32> =
                        values.iter().zip(gradient).map(|(&v, &g)| (f64::from(v) + by * f64::from(g)) as f32).collect();
                    model.device().write(&p.value, &values);
                }
                model.adapters_changed();
                beside(&model, &settings, &rollouts, &general, 24).loss()
            };
            let slope = (moved(step) - moved(-step)) / (2.0 * step);
            moved(0.0);
            assert!((slope - square).abs() < 1e-3 * square, "{settings:?}: {slope:e} against {square:e}");
        }
    }
}

/// The loss of general rows and its gradient are those of a supervised step, divided by the number of targets in place of the sum of
/// their weights, and they come on top of the rollouts'. Relative to the largest gradient of a tensor: allowed 1e-5.
#[test]
fn general_rows_add_what_a_supervised_step_over_them_does() {
    let model = tiny_of(Cpu::new(2), &config(), &Tuning::Full);
    let (rollouts, general) = (rollouts(&model), general());
    let policy = at_rest(&model, &SETTINGS, &rollouts, 48);
    let of_policy = gradients(&model);
    let ws = workspace(&model, Purpose::Train, 48);
    let supervised = step(&model, &ws, &mut Optimizer::new(&model, ADAMW), &general, 0.0).unwrap();
    let of_rows = gradients(&model);
    let both = beside(&model, &SETTINGS, &rollouts, &general, 48);
    let targets = 4 + 2 + 3;
    let factor = (0.5 * 7.0 + 3.0 * 2.0) / f64::from(targets);
    assert!(
        (both.loss() - policy.loss() - factor * supervised.loss()).abs() < 1e-6,
        "{} {}",
        both.loss(),
        policy.loss()
    );
    assert_eq!(both.trained_tokens, policy.trained_tokens + targets as usize);
    assert_eq!(both.processed_tokens, policy.processed_tokens + 12);
    assert_eq!(both.policy, policy.policy);
    // Each source by its own name, unweighted.
    assert_eq!(both.loss_by_source()[0], policy.loss());
    assert_eq!(both.loss_by_source()[1..], supervised.loss_by_source()[1..]);
    for ((both, policy), rows) in gradients(&model).iter().zip(&of_policy).zip(&of_rows) {
        let scale = both.iter().fold(0.0f32, |m, g| m.max(g.abs()));
        for ((both, policy), rows) in both.iter().zip(policy).zip(rows) {
            let sum = policy + factor as f32 * rows;
            assert!((both - sum).abs() <= 1e-5 * scale, "{both:e} {sum:e}");
        }
    }
    // Where no completion counts the rows are trained alone.
    let mut uncounted = rollouts;
    uncounted.iter_mut().for_each(|rollout| rollout.advantage = None);
    let alone = beside(&model, &SETTINGS, &uncounted, &general, 48);
    assert!((alone.loss() - factor * supervised.loss()).abs() < 1e-6 && alone.gradient_norm > 0.0);
    assert_eq!(alone.policy.unwrap().kl, None);
}

/// In one pass with the prompts once, and each completion alone: measured 1.3e-6 relative to the largest; allowed 1e-5.
#[test]
fn how_rollouts_are_laid_out_changes_rounding_only() {
    let model = tiny_of(Cpu::new(2), &config(), &Tuning::Full);
    let rollouts = rollouts(&model);
    let together = at_rest(&model, &SETTINGS, &rollouts, 48);
    let whole = gradients(&model);
    let apart = at_rest(&model, &SETTINGS, &rollouts, 11);
    assert!((together.loss() - apart.loss()).abs() < 1e-6, "{} {}", together.loss(), apart.loss());
    assert_eq!(together.policy.unwrap().clip_high, apart.policy.unwrap().clip_high);
    for (a, b) in whole.iter().zip(gradients(&model)) {
        let scale = a.iter().fold(0.0f32, |m, g| m.max(g.abs()));
        a.iter().zip(&b).for_each(|(a, b)| assert!((a - b).abs() <= 1e-5 * scale, "{a:e} {b:e}"));
    }
}

/// huggingface/trl#6369: truncated rows were left out of the numerator and counted in the denominator.
#[test]
fn trl_6369_what_does_not_count_is_in_no_count() {
    let model = tiny_of(Cpu::new(2), &config(), &Tuning::Full);
    let some = rollouts(&model);
    for loss_type in [Aggregation::Grpo, Aggregation::Dapo, Aggregation::DrGrpo] {
        let settings = PolicySettings { loss_type, ..SETTINGS };
        let mut with = some.clone();
        with[1].advantage = None;
        with[5].advantage = None;
        let without: Vec<Rollout> = [0, 2, 3, 4].map(|i| some[i].clone()).to_vec();
        let a = at_rest(&model, &settings, &with, 48);
        let gradient = gradients(&model);
        let b = at_rest(&model, &settings, &without, 48);
        assert_eq!((a.loss(), a.policy, a.trained_tokens), (b.loss(), b.policy, b.trained_tokens));
        assert_eq!(gradient, gradients(&model));
    }
}

#[test]
fn groups_that_teach_nothing_move_nothing() {
    let model = tiny_of(Cpu::new(2), &config(), &lora(2, 3.0));
    let mut rollouts = rollouts(&model);
    rollouts.iter_mut().for_each(|rollout| rollout.advantage = Some(0.0));
    let plain = PolicySettings { beta: 0.0, entropy_coefficient: 0.0, ..SETTINGS };
    let outcome = at_rest(&model, &plain, &rollouts, 48);
    assert_eq!((outcome.loss(), outcome.gradient_norm), (0.0, 0.0));
    // None that counts: not even the moments move.
    rollouts.iter_mut().for_each(|rollout| rollout.advantage = None);
    let before: Vec<Vec<f32>> = model.trained().iter().map(|(_, p)| model.device().read(&p.value)).collect();
    let mut optimizer = Optimizer::new(&model, ADAMW);
    let ws = workspace(&model, Purpose::Train, 48);
    let outcome = policy_step(&model, &ws, &mut optimizer, &SETTINGS, &rollouts, &[], 1.0).unwrap();
    assert_eq!((outcome.loss(), outcome.trained_tokens), (0.0, 0));
    assert_eq!(before, model.trained().iter().map(|(_, p)| model.device().read(&p.value)).collect::<Vec<_>>());
}

/// The stop token is a token like any other: it has a probability, and its gradient.
#[test]
fn the_first_step_of_a_round_has_ratios_of_one() {
    let model = tiny_of(Cpu::new(2), &config(), &lora(2, 3.0));
    let mut rollouts = rollouts(&model);
    rollouts.iter_mut().for_each(|rollout| rollout.old.clear());
    let outcome = at_rest(&model, &SETTINGS, &rollouts, 48);
    let policy = outcome.policy.unwrap();
    assert_eq!((policy.ratio, policy.clip_low, policy.clip_high), (1.0, 0.0, 0.0));
    assert_eq!(outcome.trained_tokens, 3 + 1 + 4 + 2 + 1 + 5);
    assert!(policy.kl.unwrap() > 0.0 && policy.entropy > 0.0);
}

fn golden() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/grpo/step.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// The settings of a case of `step.py`; none for the loss whose value depends on micro-batches.
fn settings_of(case: &Value) -> Option<(PolicySettings, RewardScale)> {
    let number = |key: &str, default: f64| case[key].as_f64().unwrap_or(default);
    let settings = PolicySettings {
        loss_type: match case["loss_type"].as_str().unwrap() {
            "grpo" => Aggregation::Grpo,
            "dapo" => Aggregation::Dapo,
            "dr_grpo" => Aggregation::DrGrpo,
            _ => return None,
        },
        importance_sampling_level: match case["importance_sampling_level"].as_str() {
            Some("sequence") => RatioLevel::Sequence,
            _ => RatioLevel::Token,
        },
        surrogate: Surrogate::Clip,
        clip_low: number("epsilon", 0.2),
        clip_high: number("epsilon_high", 0.2),
        beta: number("beta", 0.0),
        kl_estimator: KlEstimator::K3,
        kl_unbiased: case["use_bias_correction_kl"].as_bool().unwrap_or(true),
        entropy_coefficient: number("entropy_coef", 0.0),
        temperature: number("temperature", 1.0),
        max_completion_tokens: 6,
    };
    let scale = match case["scale_rewards"].as_str() {
        Some("none") => RewardScale::None,
        Some("batch") => RewardScale::Batch,
        _ => RewardScale::Group,
    };
    Some((settings, scale))
}

/// Allowed of the numbers of a step and of the weights after it, relative to the number or to 1, whichever is larger: four times
/// what was measured at most, 3.6e-6.
const TOLERANCE: f64 = 1.5e-5;

fn close(what: &str, got: f64, expected: f64) {
    let error = (got - expected).abs() / expected.abs().max(1.0);
    assert!(error <= TOLERANCE, "{what}: got {got}, expected {expected}, relative error {error:.1e}");
}

#[test]
fn four_steps_of_each_objective_are_those_of_trl() {
    let golden = golden();
    let prompts: Vec<Vec<u32>> = golden["prompts"].as_array().unwrap().iter().map(ids).collect();
    let answers: Vec<Vec<Vec<u32>>> = golden["answers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| group.as_array().unwrap().iter().map(ids).collect())
        .collect();
    let mut checked = 0;
    for case in golden["cases"].as_array().unwrap() {
        let Some((settings, scale)) = settings_of(case) else { continue };
        let adapters = case["lora"].as_bool().unwrap();
        let name = format!("{settings:?}, adapters {adapters}");
        let tuning = if adapters { lora(3, 6.0) } else { Tuning::Full };
        let (model, start) = (waves::model(&tuning), waves::model(&tuning));
        let ws = workspace(&model, Purpose::Train, 40);
        let clipped = AdamWSettings { max_grad_norm: 1.0, ..ADAMW };
        let mut optimizer = Optimizer::new(&model, clipped);
        let mut round: Vec<Rollout> = Vec::new();
        for (s, expected) in case["steps"].as_array().unwrap().iter().enumerate() {
            let of = |key: &str| expected[key].as_f64().unwrap();
            let what = |key: &str| format!("{name}, step {}, {key}", s + 1);
            if s % 2 == 0 {
                let places = ids(&expected["prompts"]);
                let place = |&p: &u32| (0..4).map(move |a| (p as usize, a));
                let rewards: Vec<Vec<Option<f64>>> = places
                    .iter()
                    .map(|&p| golden["rewards"][p as usize].as_array().unwrap().iter().map(Value::as_f64).collect())
                    .collect();
                let own = advantages(&rewards, RewardBaseline::GroupMean, scale);
                round = places
                    .iter()
                    .flat_map(place)
                    .zip(own.into_iter().flatten())
                    .enumerate()
                    .map(|(i, ((p, a), advantage))| {
                        close(
                            &what("advantage"),
                            advantage.unwrap_or(0.0),
                            expected["advantages"][i].as_f64().unwrap(),
                        );
                        Rollout {
                            ids: [&prompts[p][..], &answers[p][a]].concat(),
                            prompt: prompts[p].len(),
                            // What abstained is in TRL's denominators.
                            advantage: Some(advantage.unwrap_or(0.0)).filter(|_| expected["kept"][i] == true),
                            old: Vec::new(),
                            reference: Vec::new(),
                        }
                    })
                    .collect();
                let old = completion_logprobs(&model, &ws, true, settings.temperature, &round);
                let reference = completion_logprobs(&start, &ws, false, settings.temperature, &round);
                for ((rollout, old), reference) in round.iter_mut().zip(old).zip(reference) {
                    rollout.old = old;
                    rollout.reference = if settings.beta > 0.0 { reference } else { Vec::new() };
                }
                for (i, rollout) in round.iter().enumerate().filter(|(_, rollout)| rollout.advantage.is_some()) {
                    for (key, got) in [("old_logps", &rollout.old), ("ref_logps", &rollout.reference)] {
                        let numbers = got.iter().zip(expected[key][i].as_array().into_iter().flatten());
                        numbers.for_each(|(&got, e)| close(&what(key), f64::from(got), e.as_f64().unwrap()));
                    }
                }
            }
            let outcome =
                policy_step(&model, &ws, &mut optimizer, &settings, &round, &[], of("learning_rate")).unwrap();
            let policy = outcome.policy.unwrap();
            close(&what("loss"), outcome.loss(), of("loss"));
            close(&what("grad_norm"), outcome.gradient_norm, of("grad_norm"));
            // With two micro-batches TRL logs the mean of their means.
            if case["micro"] == 8 {
                close(&what("entropy"), policy.entropy, of("entropy"));
                if settings.importance_sampling_level == RatioLevel::Token {
                    close(&what("clip low"), policy.clip_low, of("clip_ratio/low_mean"));
                    close(&what("clip high"), policy.clip_high, of("clip_ratio/high_mean"));
                }
                // There it is logged as it is weighed: the same where the ratio is 1.
                if let Some(kl) = policy.kl.filter(|_| s % 2 == 0 || !settings.kl_unbiased) {
                    close(&what("kl"), kl, of("kl"));
                }
            }
            let trained = model.trained();
            for (parameter, numbers) in expected["weights"].as_object().unwrap() {
                let (_, own) = trained.iter().find(|(n, _)| n == parameter).expect(parameter);
                let values = model.device().read(&own.value);
                let norm = model.device().sum_squares(&own.value).sqrt();
                close(&what(parameter), norm, numbers[0].as_f64().unwrap());
                (1..=3).for_each(|k| close(&what(parameter), f64::from(values[k]), numbers[k].as_f64().unwrap()));
            }
        }
        checked += 1;
    }
    assert_eq!(checked, 8);
}
