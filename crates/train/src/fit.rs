//! The loop: every step in order, validation at intervals, the best weights kept.

use std::time::Instant;

use serde::Serialize;
use temper_data::MicroBatch;
use temper_kernels::Device;
use temper_model::{Llama, Workspace};

use crate::TrainError;
use crate::optimizer::{AdamWSettings, Optimizer};
use crate::schedule::LearningRate;
use crate::step::{LossSum, evaluate, step};

/// What a run of the loop needs besides its data.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct FitSettings {
    /// The rate of each step; its `steps` is the length of the run.
    pub learning_rate: LearningRate,
    /// The optimiser.
    pub adamw: AdamWSettings,
    /// Validation after every so many steps, and after the last.
    pub eval_steps: usize,
}

/// One line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepReport {
    /// From 1.
    pub step: usize,
    /// The minimised loss, nats per unit of weight.
    pub loss: f64,
    /// Loss of each source, by index; NaN where the step had none of it.
    pub loss_by_source: Vec<f64>,
    /// Rate of this step.
    pub learning_rate: f64,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Tokens that went through the model.
    pub processed_tokens: usize,
    /// Tokens that were targets.
    pub trained_tokens: usize,
    /// Wall time.
    pub seconds: f64,
}

/// What the loop tells as it goes.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Progress {
    /// A step was made.
    Step(StepReport),
    /// Validation was computed; step 0 is before training.
    Validation {
        /// Steps done.
        step: usize,
        /// Nats per trained token of the validation rows.
        loss: f64,
        /// Whether no earlier one was lower.
        best: bool,
    },
}

/// The lowest validation loss and its step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Best {
    /// Steps done; 0 is the start.
    pub step: usize,
    /// Its validation loss.
    pub loss: f64,
}

/// How the loop ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FitOutcome {
    /// Steps made.
    pub steps: usize,
    /// The best validation; none without validation rows.
    pub best: Option<Best>,
    /// The last validation.
    pub last: Option<f64>,
}

/// Trains `model` over `settings.learning_rate.steps` steps. `batches(s)` gives the micro-batches of step s, from 1;
/// `on_progress` hears of every step and validation (a best one before the next step changes the weights: it is the
/// moment to save them) and may stop the run by an error.
///
/// # Errors
/// [`TrainError`] as it comes up, or what `on_progress` returns.
pub fn fit<D: Device, E: From<TrainError>>(
    model: &Llama<D>,
    ws: &Workspace<D::Buffer>,
    settings: &FitSettings,
    batches: impl Fn(usize) -> Vec<MicroBatch>,
    validation: &[MicroBatch],
    mut on_progress: impl FnMut(&Progress) -> Result<(), E>,
) -> Result<FitOutcome, E> {
    let steps = settings.learning_rate.steps;
    let mut optimizer = Optimizer::new(model, settings.adamw);
    let mut best: Option<Best> = None;
    let mut last = None;
    let mut validate = |done: usize, on_progress: &mut dyn FnMut(&Progress) -> Result<(), E>| {
        if validation.is_empty() {
            return Ok(());
        }
        let loss = evaluate(model, ws, true, validation).mean();
        // NaN is never better.
        let better = loss.is_finite() && best.is_none_or(|b| loss < b.loss);
        if better {
            best = Some(Best { step: done, loss });
        }
        last = Some(loss);
        on_progress(&Progress::Validation { step: done, loss, best: better })
    };
    validate(0, &mut on_progress)?;
    for number in 1..=steps {
        let start = Instant::now();
        let learning_rate = settings.learning_rate.at(number);
        let outcome = step(model, ws, &mut optimizer, &batches(number), learning_rate)?;
        let report = StepReport {
            step: number,
            loss: outcome.loss(),
            loss_by_source: outcome.by_source.iter().map(LossSum::mean).collect(),
            learning_rate,
            gradient_norm: outcome.gradient_norm,
            processed_tokens: outcome.processed_tokens,
            trained_tokens: outcome.trained_tokens,
            seconds: start.elapsed().as_secs_f64(),
        };
        on_progress(&Progress::Step(report))?;
        if number == steps || number.is_multiple_of(settings.eval_steps.max(1)) {
            validate(number, &mut on_progress)?;
        }
    }
    Ok(FitOutcome { steps, best, last })
}
