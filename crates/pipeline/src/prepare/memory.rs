//! `memory_limit`: what a stage may take, and the micro-batch that it gets by it.

use temper_kernels::Cpu;
use temper_model::{LlamaConfig, Purpose, Tuning};
use temper_recipe::{Source, Stage, Valued};

use super::PreparedStage;
use crate::PipelineError;
use crate::estimate::training_memory;

/// Holds the parts of a stage against `memory_limit`, and gives them the most tokens a micro-batch with which all of them fit, where
/// the recipe gives none.
pub(super) fn fit_memory(
    device: &Cpu,
    config: &LlamaConfig,
    parts: &mut [&mut PreparedStage],
    own: &mut Stage,
    watch_tokens: usize,
    limit: &Valued<u64>,
) -> Result<(), PipelineError> {
    let takes = |tokens: usize| {
        let tokens = tokens.max(watch_tokens);
        let takes = |part: &&mut PreparedStage| {
            training_memory(device, config, (&part.tuning, part.purpose), &part.settings.optimizer, tokens) as u64
        };
        parts.iter().map(takes).max().unwrap_or(0)
    };
    let least = parts.iter().map(|part| part.workspace_tokens()).max().unwrap_or(0);
    if takes(least) > limit.value {
        let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        let recomputes = parts.iter().all(|part| part.purpose == Purpose::TrainRecomputing);
        return Err(PipelineError::Unfit {
            path: limit.path.clone(),
            problem: format!(
                "training at {least} tokens a micro-batch takes {:.2} GiB, more than {:.2} GiB",
                gib(takes(least)),
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
        let most =
            (own.global_batch_size.value.saturating_mul(own.max_length.value) as usize / 64).max(least.div_ceil(64));
        let (mut fits, mut over) = (least.div_ceil(64), most + 1);
        while fits + 1 < over {
            let middle = fits.midpoint(over);
            *(if takes(64 * middle) <= limit.value { &mut fits } else { &mut over }) = middle;
        }
        let tokens = (64 * fits).max(least);
        if takes(tokens) <= limit.value {
            parts.iter_mut().for_each(|part| part.micro_batch_tokens = tokens);
            own.micro_batch_tokens.value = tokens as u64;
            own.micro_batch_tokens.source = Source::Default { why: "the most that fit into memory_limit" };
        }
    }
    Ok(())
}
