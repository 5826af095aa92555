//! The loop: every step in order, validation at intervals. It can be saved between any two events and gone on with.

use std::fmt::Display;
use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use temper_data::{MicroBatch, PairBatch};
use temper_kernels::Device;
use temper_model::{Llama, WeightsError, Workspace};

use crate::TrainError;
use crate::optimizer::{Optimizer, OptimizerSettings};
use crate::policy::{PolicyMetrics, PolicySettings, Rollout, policy_step};
use crate::preference::{PreferenceMetrics, PreferenceSettings, evaluate_pairs, preference_step};
use crate::schedule::LearningRate;
use crate::step::{evaluate_with_rows, step};
use crate::stops::{Stop, StopSettings, Watch};

/// What a run of the loop needs besides its data.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FitSettings {
    /// The rate of each step; its `steps` is the length of the run.
    pub learning_rate: LearningRate,
    /// The optimiser.
    pub optimizer: OptimizerSettings,
    /// Validation after every so many steps, and after the last.
    pub eval_steps: usize,
    /// Validation after these steps, in place of every `eval_steps`; empty: by `eval_steps`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub eval_at: Vec<usize>,
    /// When to end early.
    pub stops: StopSettings,
    /// What is minimised over preference pairs; none to predict tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preference: Option<PreferenceSettings>,
    /// What is minimised over rollouts; none without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicySettings>,
}

impl FitSettings {
    /// Whether the validation loss is computed after that step, the last one aside.
    pub fn is_validated(&self, step: usize) -> bool {
        if self.eval_at.is_empty() { step.is_multiple_of(self.eval_steps.max(1)) } else { self.eval_at.contains(&step) }
    }

    /// The last step up to `step` after which the validation loss is computed; 0 where there is none.
    pub fn last_validated(&self, step: usize) -> usize {
        (1..=step).rev().find(|&step| step == self.learning_rate.steps || self.is_validated(step)).unwrap_or(0)
    }

    /// How often the validation loss is computed after the start.
    pub fn validations(&self) -> usize {
        let steps = self.learning_rate.steps;
        (1..=steps).filter(|&step| step == steps || self.is_validated(step)).count()
    }
}

/// The micro-batches of a step or a validation.
#[derive(Clone, Debug, PartialEq)]
pub enum Batches {
    /// To predict tokens.
    Tokens(Vec<MicroBatch>),
    /// To prefer answers, with [`FitSettings::preference`].
    Pairs(Vec<PairBatch>),
    /// To reinforce, with [`FitSettings::policy`]; and general rows that are trained beside the rollouts.
    Rollouts(Vec<Rollout>, Vec<MicroBatch>),
    /// No rows: a validation that the caller makes, and tells by [`Fit::know`].
    Told,
}

impl Batches {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Tokens(batches) => batches.is_empty(),
            Self::Pairs(batches) => batches.is_empty(),
            Self::Rollouts(rollouts, general) => rollouts.is_empty() && general.is_empty(),
            Self::Told => false,
        }
    }
}

impl From<Vec<MicroBatch>> for Batches {
    fn from(batches: Vec<MicroBatch>) -> Self {
        Self::Tokens(batches)
    }
}

/// One line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepReport {
    /// From 1.
    pub step: usize,
    /// The minimised loss, nats per unit of weight; of preference pairs, the mean loss of a pair.
    pub loss: f64,
    /// Loss of each source, by index; NaN where the step had none of it.
    pub loss_by_source: Vec<f64>,
    /// Rate of this step.
    pub learning_rate: f64,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Tokens of the rows; what they begin with in common went through the model once.
    pub processed_tokens: usize,
    /// Tokens that were targets.
    pub trained_tokens: usize,
    /// Wall time.
    pub seconds: f64,
    /// Of preference pairs, before the step.
    #[serde(flatten)]
    pub preference: Option<PreferenceMetrics>,
    /// Of rollouts, before the step.
    #[serde(flatten)]
    pub policy: Option<PolicyMetrics>,
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
        /// Nats per trained token of the validation rows; of preference pairs, the mean loss of a pair.
        loss: f64,
        /// Whether no earlier one was lower.
        best: bool,
        /// Of preference pairs.
        #[serde(flatten)]
        preference: Option<PreferenceMetrics>,
        /// What each row or pair adds to the loss, times their number: `loss` is their mean. In the order in which they were packed,
        /// and not written to the log; empty where the loss was known before.
        #[serde(skip)]
        items: Vec<f64>,
    },
}

/// The lowest validation loss and its step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Steps done; 0 is the start.
    pub step: usize,
    /// Its validation loss.
    pub loss: f64,
}

/// Where the loop stands: all that decides what comes next, besides the weights and the optimiser's moments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FitState {
    /// Optimiser steps done.
    pub step: usize,
    /// Whether the validation of this step is still to come.
    pub validation_due: bool,
    /// The lowest validation; NaN is never the lowest.
    pub best: Option<Best>,
    /// The last validation; none where it was not a number.
    pub last: Option<f64>,
    /// What the stop rules remember.
    pub watch: Watch,
    /// Set when training is over before its last step.
    pub stopped: Option<Stop>,
}

/// How the loop ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FitOutcome {
    /// Steps made.
    pub steps: usize,
    /// The best validation; none without validation rows.
    pub best: Option<Best>,
    /// The last validation.
    pub last: Option<f64>,
    /// Why it ended before its last step.
    pub stopped: Option<Stop>,
}

/// The loop over one stage's data. [`Fit::advance`] makes one step, or one validation, at a time; whoever drives it logs,
/// saves and stops between two of them.
pub struct Fit<'m, D: Device> {
    model: &'m Llama<D>,
    workspace: &'m Workspace<D::Buffer>,
    optimizer: Optimizer<D::Buffer>,
    settings: FitSettings,
    validation: Batches,
    state: FitState,
}

impl<'m, D: Device> Fit<'m, D> {
    /// At step 0, with fresh moments. Without validation rows nothing is validated.
    pub fn new(
        model: &'m Llama<D>,
        workspace: &'m Workspace<D::Buffer>,
        settings: FitSettings,
        validation: impl Into<Batches>,
    ) -> Self {
        let validation = validation.into();
        let state = FitState {
            step: 0,
            validation_due: !validation.is_empty(),
            best: None,
            last: None,
            watch: Watch::default(),
            stopped: None,
        };
        let optimizer = Optimizer::new(model, settings.optimizer.clone());
        Self { model, workspace, optimizer, settings, validation, state }
    }

    /// Where it stands.
    pub fn state(&self) -> &FitState {
        &self.state
    }

    /// The model that is trained.
    pub fn model(&self) -> &'m Llama<D> {
        self.model
    }

    /// The next step or validation; none when the last was made. `batches(s)` gives the micro-batches of step s, from 1.
    /// A loss or gradient that is not finite ends the loop with the weights as before that step
    /// ([`Stop::NotFinite`]).
    ///
    /// # Errors
    /// [`TrainError::NothingToTrain`], and what `batches` returns.
    /// # Panics
    /// When the batches are of pairs or rollouts and the settings say nothing of those; when a validation comes next that the
    /// caller makes.
    pub fn advance<B: Into<Batches>, E: Display>(
        &mut self,
        batches: impl FnOnce(usize) -> Result<B, E>,
    ) -> Result<Option<Progress>, TrainError> {
        if self.state.validation_due {
            return Ok(Some(self.validate()));
        }
        let steps = self.settings.learning_rate.steps;
        if self.state.stopped.is_some() || self.state.step >= steps {
            return Ok(None);
        }
        let (start, number) = (Instant::now(), self.state.step + 1);
        let learning_rate = self.settings.learning_rate.at(number);
        let batches = batches(number).map_err(|error| TrainError::Rows(error.to_string()))?;
        let (model, workspace, optimizer) = (self.model, self.workspace, &mut self.optimizer);
        let FitSettings { preference, policy, .. } = &self.settings;
        let made = match (batches.into(), preference, policy) {
            (Batches::Tokens(batches), _, _) => step(model, workspace, optimizer, &batches, learning_rate),
            (Batches::Pairs(batches), Some(settings), _) => {
                preference_step(model, workspace, optimizer, settings, &batches, learning_rate)
            }
            (Batches::Rollouts(rollouts, general), _, Some(settings)) => {
                policy_step(model, workspace, optimizer, settings, &rollouts, &general, learning_rate)
            }
            (Batches::Pairs(_) | Batches::Rollouts(..) | Batches::Told, ..) => panic!("no settings of that objective"),
        };
        let outcome = match made {
            Ok(outcome) => outcome,
            Err(TrainError::NothingToTrain) => return Err(TrainError::NothingToTrain),
            Err(error) => {
                let what = error.to_string().lines().next().unwrap_or_default().to_owned();
                self.state.stopped = Some(Stop::NotFinite { what });
                return Ok(None);
            }
        };
        self.state.step = number;
        // The loss of rollouts is about 0 whatever they are worth.
        let says_something = self.settings.policy.is_none();
        self.state.stopped = says_something.then(|| self.state.watch.hear_step(outcome.loss())).flatten();
        let due = number == steps || self.settings.is_validated(number);
        self.state.validation_due = due && !self.validation.is_empty() && self.state.stopped.is_none();
        Ok(Some(Progress::Step(StepReport {
            step: number,
            loss: outcome.loss(),
            loss_by_source: outcome.loss_by_source(),
            learning_rate,
            gradient_norm: outcome.gradient_norm,
            processed_tokens: outcome.processed_tokens,
            trained_tokens: outcome.trained_tokens,
            seconds: start.elapsed().as_secs_f64(),
            preference: outcome.preference,
            policy: outcome.policy,
        })))
    }

    fn validate(&mut self) -> Progress {
        match (&self.validation, &self.settings.preference) {
            (Batches::Tokens(batches), _) => {
                let (loss, items) = evaluate_with_rows(self.model, self.workspace, true, batches);
                self.validated(loss, None, items)
            }
            (Batches::Pairs(batches), Some(settings)) => {
                let (loss, metrics, items) = evaluate_pairs(self.model, self.workspace, settings, batches);
                self.validated(loss, Some(metrics), items)
            }
            (Batches::Pairs(_) | Batches::Rollouts(..) | Batches::Told, _) => panic!("a validation that is told"),
        }
    }

    /// The validation that comes next, in place of [`Fit::advance`], where its loss is known already or the caller's to find.
    /// `items`: the loss of each row, in order; empty where that is not known.
    ///
    /// # Panics
    /// When no validation comes next.
    pub fn know(&mut self, loss: f64, items: Vec<f64>) -> Progress {
        assert!(self.state.validation_due, "a validation comes next");
        self.validated(loss, None, items)
    }

    fn validated(&mut self, loss: f64, preference: Option<PreferenceMetrics>, items: Vec<f64>) -> Progress {
        let state = &mut self.state;
        state.validation_due = false;
        state.last = Some(loss).filter(|loss| loss.is_finite());
        let stop = state.watch.hear_validation(loss, state.best, &self.settings.stops);
        // A reason that the caller gave stands; and after the last step there is nothing left to stop.
        if state.stopped.is_none() && state.step < self.settings.learning_rate.steps {
            state.stopped = stop;
        }
        let best = loss.is_finite() && state.best.is_none_or(|b| loss < b.loss);
        if best {
            state.best = Some(Best { step: state.step, loss });
        }
        Progress::Validation { step: state.step, loss, best, preference, items }
    }

    /// Ends the loop for a reason of the caller's.
    pub fn stop(&mut self, stop: Stop) {
        self.state.stopped = Some(stop);
    }

    /// How it ended, or how it stands.
    pub fn outcome(&self) -> FitOutcome {
        let FitState { step, best, last, stopped, .. } = self.state.clone();
        FitOutcome { steps: step, best, last, stopped }
    }

    /// Writes the trained weights and the optimiser's moments, in f32, to a `.safetensors` file. With [`Fit::state`] it is
    /// all that [`Fit::restore`] needs.
    ///
    /// # Errors
    /// When the file cannot be written, or a number in it is not finite.
    pub fn save(&self, path: &Path) -> Result<(), WeightsError> {
        self.optimizer.save(self.model.device(), path)
    }

    /// Goes on from what [`Fit::save`] wrote: the next events are to the bit those that would have come then.
    ///
    /// # Errors
    /// When the file is damaged, or holds other parameters than this model trains. The model's weights may then be
    /// partly overwritten.
    pub fn restore(&mut self, path: &Path, state: FitState) -> Result<(), WeightsError> {
        self.optimizer.restore(self.model.device(), path, state.step as u32)?;
        self.model.adapters_changed();
        self.state = state;
        Ok(())
    }
}
