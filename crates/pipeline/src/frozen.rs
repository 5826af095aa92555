//! `frozen_weights: as_stored`: which weights of the base stay in the blocks of their file, and what that takes.
//!
//! They stay so in every model over the base itself. What a later stage starts from has an adapter merged into it, which is
//! f32 and lies decoded in memory.

use temper_kernels::{Cpu, FrozenWeight};
use temper_model::{Checkpoint, KeptAsStored, TABLES, Tuning};
use temper_recipe::{FrozenWeights, Precision, Recipe};

use crate::PipelineError;

/// Refuses `as_stored` where nothing would stay as it is stored.
pub(crate) fn check(recipe: &Recipe, checkpoint: &Checkpoint) -> Result<(), PipelineError> {
    let setting = &recipe.frozen_weights;
    if setting.value == FrozenWeights::Decoded {
        return Ok(());
    }
    let unfit = |problem: String, hint: &str| {
        Err(PipelineError::Unfit { path: setting.path.clone(), problem, hint: hint.to_owned() })
    };
    if recipe.precision.value == Precision::Bf16 {
        return unfit(
            "`as_stored` multiplies decoded f32, but `precision` is bf16".to_owned(),
            "remove one of the two: with bf16, frozen weights are decoded and rounded",
        );
    }
    if kept(checkpoint, &Tuning::Frozen).stay.is_empty() {
        return unfit(
            format!("products read blocks of Q8_0, Q4_0 or Q4_1 as they are, the base has {}", checkpoint.precision()),
            "start from a GGUF of these, or remove the setting",
        );
    }
    Ok(())
}

/// What stays as it is stored of the weights that this freezes, and what does not.
pub(crate) fn kept(checkpoint: &Checkpoint, tuning: &Tuning) -> KeptAsStored {
    let config = checkpoint.config();
    let table = |weight: &FrozenWeight| TABLES.into_iter().find(|table| weight.name.ends_with(table));
    KeptAsStored::of(checkpoint, |weight| match tuning {
        Tuning::Full => false,
        Tuning::Frozen => true,
        Tuning::Lora(lora) => !table(weight).is_some_and(|table| lora.trains_table(config, table)),
    })
}

/// Bytes of frozen weights that stay as they are stored where they can, the others decoded in both orders; and of what a
/// product decodes at once.
pub(crate) fn bytes(device: &Cpu, checkpoint: &Checkpoint, tuning: &Tuning) -> usize {
    let kept = kept(checkpoint, tuning);
    let weights = checkpoint.config().frozen_weights();
    let at_once = weights.iter().map(|weight| weight.rows * weight.cols).filter(|&n| device.decodes_at_once(n)).max();
    kept.bytes + 4 * (2 * kept.numbers + at_once.unwrap_or(0))
}
