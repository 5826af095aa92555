//! `mode: lora_then_full`: one stage of a recipe that is two trainings.

use crate::settings::{Setting, Settings, Valued};
use crate::stage::{Mode, Stage};

crate::kind::words! {
    /// Where the full-rank part of `mode: lora_then_full` begins.
    pub enum FullStart {
        /// At what LoRA made, its adapters merged.
        Merged = "merged",
        /// Where LoRA began.
        Start = "start",
    }
}

impl Stage {
    /// The trainings that the stage is, in order, each with the settings that have an effect on it. `mode: lora_then_full` is
    /// LoRA, which has `flat_gain`, and then full rank, which has `full_start`; any other mode is the stage itself.
    pub fn parts(&self) -> Vec<Self> {
        let Some(rate) = &self.full_learning_rate else { return vec![self.clone()] };
        let mode = |value| Valued { value, ..self.mode.clone() };
        let lora = Self {
            mode: mode(Mode::Lora),
            full_learning_rate: None,
            full_start: None,
            optimizer: Valued { value: crate::Optimizer::AdamW, ..self.optimizer.clone() },
            muon_momentum: None,
            ..self.clone()
        };
        let full = Self {
            mode: mode(Mode::Full),
            adapter: None,
            adapter_use: None,
            lora: None,
            learning_rate: rate.clone(),
            full_learning_rate: None,
            flat_gain: None,
            ..self.clone()
        };
        vec![lora, full]
    }

    /// Every value of the stage with its path and where it came from.
    pub fn settings(&self) -> Vec<Setting> {
        let mut settings = Vec::new();
        Settings::settings(self, &mut settings);
        settings
    }
}
