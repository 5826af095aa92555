//! `memory_limit`: what a stage may take, and the micro-batch that it gets by it.

use temper_kernels::Cpu;
use temper_model::{Checkpoint, Purpose, Tuning};
use temper_recipe::{Source, Stage, Valued};

use super::PreparedStage;
use crate::PipelineError;
use crate::estimate::memory_over;

/// What the parts of a stage are held against.
pub(super) struct Fit<'p> {
    pub device: &'p Cpu,
    pub checkpoint: &'p Checkpoint,
    /// Whether weights of the base that are not trained stay as they are stored.
    pub as_stored: bool,
    pub watch_tokens: usize,
    pub limit: &'p Valued<u64>,
}

impl Fit<'_> {
    /// Bytes of the part that takes most, at micro-batches of so many tokens.
    fn takes(&self, parts: &[&mut PreparedStage], tokens: usize) -> u64 {
        let tokens = tokens.max(self.watch_tokens);
        let takes = |part: &&mut PreparedStage| {
            memory_over(self.device, (self.checkpoint, self.as_stored), part, tokens) as u64
        };
        parts.iter().map(takes).max().unwrap_or(0)
    }

    /// Holds the parts of a stage against `memory_limit`, and gives them the most tokens a micro-batch with which all of them
    /// fit, where the recipe gives none.
    pub fn choose(&self, parts: &mut [&mut PreparedStage], own: &mut Stage) -> Result<(), PipelineError> {
        let limit = self.limit;
        let least = parts.iter().map(|part| part.workspace_tokens()).max().unwrap_or(0);
        if self.takes(parts, least) > limit.value {
            let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
            let recomputes = parts.iter().all(|part| part.purpose == Purpose::TrainRecomputing);
            return Err(PipelineError::Unfit {
                path: limit.path.clone(),
                problem: format!(
                    "training at {least} tokens a micro-batch takes {:.2} GiB, more than {:.2} GiB",
                    gib(self.takes(parts, least)),
                    gib(limit.value)
                ),
                hint: format!(
                    "lower max_length or micro_batch_tokens{}{}",
                    if recomputes { "" } else { ", or set activation_checkpointing: true" },
                    if parts.iter().any(|part| part.tuning == Tuning::Full) { ", or mode: lora" } else { "" }
                ),
            });
        }
        if matches!(own.micro_batch_tokens.source, Source::Default { .. }) {
            // More than all rows of a step at their longest is never filled. In runs of 64 tokens.
            let most = (own.global_batch_size.value.saturating_mul(own.max_length.value) as usize / 64)
                .max(least.div_ceil(64));
            let (mut fits, mut over) = (least.div_ceil(64), most + 1);
            while fits + 1 < over {
                let middle = fits.midpoint(over);
                *(if self.takes(parts, 64 * middle) <= limit.value { &mut fits } else { &mut over }) = middle;
            }
            let tokens = (64 * fits).max(least);
            if self.takes(parts, tokens) <= limit.value {
                parts.iter_mut().for_each(|part| part.micro_batch_tokens = tokens);
                own.micro_batch_tokens.value = tokens as u64;
                own.micro_batch_tokens.source = Source::Default { why: "the most that fit into memory_limit" };
            }
        }
        Ok(())
    }
}
