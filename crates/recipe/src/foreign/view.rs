//! The few values that recipes of all tools have, under whatever names: what the rules look at.

use crate::duration::{Duration, Span};
use crate::mix::MixUnit;
use crate::problem::Place;
use crate::recipe::Recipe;
use crate::settings::Valued;
use crate::stage::{LrScheduler, Mode, StageKind};

use super::document::{Document, text, truth};

/// A value with the key that says it.
#[derive(Debug, Clone, PartialEq)]
pub struct Said<T> {
    /// The value.
    pub value: T,
    /// Its key.
    pub key: String,
    /// Where it stands; none where it is the tool's default.
    pub place: Option<Place>,
}

/// What a recipe trains by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Technique {
    /// Continued pretraining.
    Cpt,
    /// Supervised fine-tuning.
    Sft,
    /// Preferences.
    Dpo,
    /// Reinforcement.
    Rft,
    /// Nothing: it evaluates.
    Evaluation,
}

/// What is known beside a recipe.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Rows of its training data.
    pub rows: Option<u64>,
    /// Of them, those in which the assistant reasons before it answers.
    pub reasoning_rows: Option<u64>,
    /// Whether they are conversations, not prompts with completions.
    pub conversations: Option<bool>,
}

/// A recipe as rules see it. What a recipe does not say, and its tool has no default for, is none.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// By what it trains.
    pub technique: Option<Technique>,
    /// Whether adapters are trained, not all weights.
    pub adapters: Option<Said<bool>>,
    /// A key of the adapter's that is given.
    pub adapter_key: Option<Said<f64>>,
    /// Rank of the adapters.
    pub rank: Option<Said<f64>>,
    /// Their alpha.
    pub alpha: Option<Said<f64>>,
    /// Whether their scale is alpha / sqrt(rank).
    pub rslora: Option<Said<bool>>,
    /// Highest learning rate.
    pub rate: Option<Said<f64>>,
    /// Lowest one at the end of the schedule.
    pub least_rate: Option<Said<f64>>,
    /// Optimiser steps.
    pub steps: Option<Said<f64>>,
    /// Passes over the rows.
    pub epochs: Option<Said<f64>>,
    /// Rows of an optimiser step, on one device where a recipe does not say on how many.
    pub batch: Option<Said<f64>>,
    /// Steps of the warm-up.
    pub warmup_steps: Option<Said<f64>>,
    /// Share of the steps that are warm-up.
    pub warmup_ratio: Option<Said<f64>>,
    /// Whether there are validation rows.
    pub validates: Option<Said<bool>>,
    /// Steps between validations.
    pub eval_every: Option<Said<f64>>,
    /// Whether validation is asked for at all.
    pub eval_on: Option<Said<bool>>,
    /// Steps between checkpoints.
    pub save_every: Option<Said<f64>>,
    /// Longest row in tokens.
    pub longest: Option<Said<f64>>,
    /// Longest prompt.
    pub prompt: Option<Said<f64>>,
    /// Longest answer that is sampled.
    pub answer: Option<Said<f64>>,
    /// Sampling: only of so many tokens.
    pub top_k: Option<Said<f64>>,
    /// Sampling: temperature.
    pub temperature: Option<Said<f64>>,
    /// Answers to one prompt.
    pub group: Option<Said<f64>>,
    /// Whether rows are packed together.
    pub packs: Option<Said<bool>>,
    /// Whether packed rows are kept from seeing each other.
    pub isolates: Option<bool>,
    /// Whether the prompt carries loss too.
    pub trains_prompt: Option<Said<bool>>,
    /// Bits of a quantised base.
    pub bits: Option<Said<f64>>,
    /// Whether the adapter is merged into that.
    pub merges: Option<Said<bool>>,
    /// The token that fills up.
    pub pad: Option<Said<String>>,
    /// The token that ends a turn or a text.
    pub eos: Option<Said<String>>,
    /// Percent of the training that is the user's own rows.
    pub domain: Option<Said<f64>>,
    /// Whether it is mixed with general data.
    pub mixes: bool,
    /// The model, by its name.
    pub model: Option<Said<String>>,
}

impl View {
    /// Steps of the whole run, as far as they can be told.
    pub fn total(&self, known: &Known) -> Option<f64> {
        match (&self.steps, &self.epochs, &self.batch, known.rows) {
            (Some(steps), ..) => Some(steps.value),
            (None, Some(epochs), Some(batch), Some(rows)) if batch.value > 0.0 => {
                Some((rows as f64 / batch.value).ceil() * epochs.value)
            }
            _ => None,
        }
    }

    /// Passes over the rows, as far as they can be told.
    pub fn passes(&self, known: &Known) -> Option<f64> {
        match (&self.steps, &self.epochs, &self.batch, known.rows) {
            (Some(steps), _, Some(batch), Some(rows)) if rows > 0 => Some(steps.value * batch.value / rows as f64),
            (None, Some(epochs), ..) => Some(epochs.value),
            _ => None,
        }
    }

    /// One stage of a recipe of Temper's.
    pub fn of_recipe(recipe: &Recipe, stage: usize) -> Self {
        let Some(stage) = recipe.stages.get(stage) else { return Self::default() };
        fn said<T, U>(valued: &Valued<T>, value: U) -> Option<Said<U>> {
            Some(Said { value, key: valued.path.clone(), place: valued.place() })
        }
        let number = |valued: &Valued<u64>| said(valued, valued.value as f64);
        let mut view = Self {
            technique: Some(match stage.kind.value {
                StageKind::Cpt => Technique::Cpt,
                StageKind::Dpo => Technique::Dpo,
                StageKind::Sft => Technique::Sft,
                StageKind::Rft => Technique::Rft,
            }),
            adapters: said(&stage.mode, stage.mode.value != Mode::Full),
            rate: said(&stage.learning_rate, stage.learning_rate.value),
            batch: said(&stage.global_batch_size, stage.global_batch_size.value as f64).filter(|_| stage.mix.is_none()),
            longest: number(&stage.max_length),
            eval_every: stage.eval_steps.as_ref().and_then(number),
            save_every: number(&stage.save_steps),
            packs: said(&stage.max_length, true),
            isolates: Some(true),
            domain: stage.mix.as_ref().and_then(|mix| said(&mix.domain, mix.domain.value)),
            mixes: stage.mix.is_some(),
            ..Self::default()
        };
        // Of a mix by rows the domain's part of a step is known; in tokens it is the schedule that knows.
        if let Some(mix) = stage.mix.as_ref().filter(|mix| mix.unit.value == MixUnit::Samples) {
            let rows = stage.global_batch_size.value as f64 * mix.domain.value / 100.0;
            view.batch = said(&stage.global_batch_size, rows);
        }
        match stage.duration.value {
            Duration::Steps(steps) => view.steps = said(&stage.duration, steps as f64),
            Duration::Epochs(epochs) => view.epochs = said(&stage.duration, epochs),
        }
        match stage.warmup.value {
            Span::Steps(steps) => view.warmup_steps = said(&stage.warmup, steps as f64),
            Span::Ratio(ratio) => view.warmup_ratio = said(&stage.warmup, ratio),
        }
        if stage.lr_scheduler_type.value != LrScheduler::Constant {
            view.least_rate = stage.min_lr.as_ref().and_then(|least| said(least, least.value));
        }
        if let Some(rollouts) = &stage.rollouts {
            view.answer = number(&rollouts.max_completion_length);
            view.group = number(&rollouts.num_generations);
            view.top_k = number(&rollouts.top_k);
            view.temperature = said(&rollouts.temperature, rollouts.temperature.value);
        }
        if let Some(lora) = &stage.lora {
            view.rank = number(&lora.lora_rank);
            view.alpha = said(&lora.lora_alpha, lora.lora_alpha.value);
            view.rslora = said(&lora.use_rslora, lora.use_rslora.value);
        }
        if let Some(validation) = &stage.validation {
            view.validates = said(validation, true);
            view.eval_on = said(validation, true);
        }
        view
    }
}

/// Values of a document as a view takes them.
impl Document {
    /// The number at a path.
    pub(crate) fn said(&self, path: &str) -> Option<Said<f64>> {
        let leaf = self.at(path)?;
        let value = self.number_of(leaf.node)?;
        Some(Said { value, key: leaf.path, place: Some(leaf.node.place.clone()) })
    }

    /// The number at a path, or the tool's default.
    pub(crate) fn said_or(&self, path: &str, default: f64) -> Option<Said<f64>> {
        match self.at(path) {
            Some(_) => self.said(path),
            None => Some(Said { value: default, key: path.to_owned(), place: None }),
        }
    }

    /// The number at a path that ends so.
    pub(crate) fn said_ending(&self, end: &str) -> Option<Said<f64>> {
        let leaf = self.ending(end)?;
        let value = self.number_of(leaf.node)?;
        Some(Said { value, key: leaf.path, place: Some(leaf.node.place.clone()) })
    }

    /// The truth value at a path, or the tool's default.
    pub(crate) fn switched(&self, path: &str, default: bool) -> Option<Said<bool>> {
        match self.at(path) {
            Some(leaf) => {
                let value = truth(leaf.node)?;
                Some(Said { value, key: leaf.path, place: Some(leaf.node.place.clone()) })
            }
            None => Some(Said { value: default, key: path.to_owned(), place: None }),
        }
    }

    /// The text at a path.
    pub(crate) fn word(&self, path: &str) -> Option<Said<String>> {
        let leaf = self.at(path)?;
        let value = text(leaf.node)?.to_owned();
        Some(Said { value, key: leaf.path, place: Some(leaf.node.place.clone()) })
    }
}

impl<T> Said<T> {
    /// The same place, with another value.
    pub(crate) fn map<U>(self, f: impl FnOnce(T) -> U) -> Said<U> {
        Said { value: f(self.value), key: self.key, place: self.place }
    }
}
