//! Trials side by side give what each gives alone, to the bit.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod models;

use models::{TINY, borrowed, lora, lora_on, tiny_rows, tiny_weight};
use temper_data::{MicroBatch, micro_batches};
use temper_kernels::{Cpu, Device, PackedWeights};
use temper_model::{Llama, LlamaConfig, LoraSettings, Purpose, Tuning, WeightsError, Workspace};
use temper_train::{AdamWSettings, Fit, FitSettings, Lanes, LearningRate, Shape, StopSettings, Trial, TrialBase};

const STEPS: usize = 3;

fn settings(peak: f64) -> FitSettings {
    FitSettings {
        learning_rate: LearningRate { peak, min_lr: 0.0, warmup_steps: 1, steps: STEPS, shape: Shape::Cosine },
        optimizer: AdamWSettings { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.1, max_grad_norm: 1.0 }
            .into(),
        eval_steps: 2,
        eval_at: Vec::new(),
        stops: StopSettings { early_stopping_patience: 0, early_stopping_threshold: 0.0, flat_gain: 0.0 },
        preference: None,
        policy: None,
    }
}

fn values(name: &str, shape: &[usize]) -> Result<Vec<f32>, WeightsError> {
    Ok(tiny_weight(name, shape))
}

#[test]
fn trials_side_by_side_give_the_bits_of_each_alone() {
    let (device, config): (Cpu, LlamaConfig) = (Cpu::new(2), LlamaConfig { tie_word_embeddings: true, ..TINY });
    let weights = config.frozen_weights();
    let packed = PackedWeights::pack(&device, &weights, |i| config.frozen_values(i, values)).unwrap();
    let base = TrialBase { device, config: &config, packed: &packed, tensor: &values };

    let rows = tiny_rows();
    let all = || micro_batches(&borrowed(&rows), 12);
    let batches =
        |step: usize| -> Vec<MicroBatch> { all().into_iter().cycle().skip(step).take(1 + step % 2).collect() };
    let validation = all();
    let loras: Vec<LoraSettings> = [lora(2, 3.0), lora(3, 6.0), lora_on(&["layers.1.mlp.down_proj"]), lora(1, 1.0)]
        .into_iter()
        .map(|tuning| match tuning {
            Tuning::Lora(lora) => lora,
            _ => unreachable!(),
        })
        .collect();
    let trials: Vec<Trial<'_>> = (loras.iter().zip([1e-2, 3e-2, 1e-1, 3e-1]).enumerate())
        .map(|(i, (lora, peak))| Trial {
            lora,
            seed: i as u64,
            settings: settings(peak),
            batches: &batches,
            validation: &validation,
            tokens: 12,
        })
        .collect();

    // Alone, over weights of its own that are frozen as they are loaded.
    let alone: Vec<_> = trials
        .iter()
        .map(|trial| {
            let tuning = Tuning::Lora(trial.lora.clone());
            let model = Llama::load(device, &config, &tuning, values).unwrap();
            model.init_adapters(trial.seed);
            let space = model.adapter_space();
            let workspace = Workspace::allocate(&device, &config, space, Purpose::Train, 12);
            let mut fit = Fit::new(&model, &workspace, trial.settings.clone(), validation.clone());
            while fit.advance(|step| Ok::<_, std::convert::Infallible>(batches(step))).unwrap().is_some() {}
            let adapters = model.adapters().into_iter().map(|(name, a)| (name, device.read(&a.value)));
            (fit.outcome(), adapters.collect::<Vec<_>>())
        })
        .collect();
    assert!(alone.iter().all(|(outcome, _)| outcome.steps == STEPS && outcome.best.is_some()));

    let heard = std::sync::Mutex::new(vec![0; trials.len()]);
    let hear = |index: usize, _| heard.lock().unwrap()[index] += 1;
    let together = base.train_all(&trials, 3, usize::MAX, &hear);
    // Three steps and the validations at 0, 2 and 3 of each.
    assert_eq!(*heard.lock().unwrap(), [6; 4]);
    for (trained, (outcome, adapters)) in together.into_iter().zip(alone) {
        let trained = trained.unwrap();
        assert_eq!(trained.outcome, outcome);
        assert_eq!(trained.adapters, adapters);
    }
}

#[test]
fn what_a_trial_takes_is_what_it_allocates() {
    let (device, config) = (Cpu::new(2), TINY);
    for tuning in [lora(2, 3.0), lora_on(&["layers.1.mlp.down_proj", "layers.0.self_attn.q_proj"])] {
        let Ok(model) = Llama::load(device, &config, &tuning, |name, shape| {
            Ok::<_, std::convert::Infallible>(tiny_weight(name, shape))
        });
        let Tuning::Lora(lora) = &tuning else { unreachable!() };
        assert_eq!(lora.widths(&config), model.adapter_space().inner);
        assert_eq!(tuning.numbers(&config), model.adapters().iter().map(|(_, a)| a.value.len()).sum::<usize>());
    }
}

#[test]
fn as_many_lanes_as_fit() {
    let lanes = |count, threads| Lanes { count, threads };
    assert_eq!(Lanes::fit(8, 4, 1000, 100), lanes(4, 1));
    assert_eq!(Lanes::fit(2, 5, 1000, 100), lanes(2, 2));
    assert_eq!(Lanes::fit(8, 4, 250, 100), lanes(2, 2));
    assert_eq!(Lanes::fit(8, 4, 10, 100), lanes(1, 4), "one is always tried");
    assert_eq!(Lanes::fit(0, 4, 0, 0), lanes(1, 4));
    let squares = lanes(3, 1).run((0..20).collect(), |i: usize| i * i);
    assert_eq!(squares, (0..20).map(|i| i * i).collect::<Vec<_>>());
}
