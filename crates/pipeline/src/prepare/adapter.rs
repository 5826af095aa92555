//! The adapters of a stage, held against the base.

use std::path::PathBuf;

use temper_model::{AdapterInit, Dropout, LlamaConfig, LoraSettings, TABLES, Tuning, read_adapter};
use temper_recipe::{AdapterUse, InitLora, Lora, Stage};

use crate::{Base, PipelineError};

/// An adapter that a stage begins with.
#[derive(Clone)]
pub(crate) struct StartAdapter {
    pub path: PathBuf,
    /// Merged into the base, or trained on.
    pub merge: bool,
    /// What is to be known of how it fits the base.
    pub warning: Option<String>,
}

/// The adapter that a stage begins with, held against the base and, where it is trained on, against the recipe.
pub(super) fn start_adapter(
    stage: &Stage,
    index: usize,
    tuning: &Tuning,
    base: &Base,
) -> Result<Option<StartAdapter>, PipelineError> {
    let (Some(folder), Some(adapter_use)) = (&stage.adapter, &stage.adapter_use) else { return Ok(None) };
    let unfit = |problem: String, hint: String| PipelineError::Unfit { path: folder.path.clone(), problem, hint };
    if index > 0 {
        return Err(unfit(
            "only the first stage begins with an adapter: each later one begins where the one before ended".to_owned(),
            "move it to the first stage".to_owned(),
        ));
    }
    let (path, config) = (folder.value.clone(), base.checkpoint.config());
    let mut adapter = read_adapter(&path)?;
    adapter.fit(config, &path)?;
    let warning = base.suits(&adapter.config, &path, false)?;
    let merge = adapter_use.value == AdapterUse::Merge;
    if let (false, Tuning::Lora(own)) = (merge, tuning) {
        let given = &adapter.config.lora;
        let tables = |lora: &LoraSettings| TABLES.map(|table| lora.trains_table(config, table));
        let mut different = Vec::new();
        let mut differs = |differs: bool, field: String| different.extend(differs.then_some(field));
        differs(own.rank != given.rank, format!("lora_rank: {}", given.rank));
        differs(own.alpha != given.alpha, format!("lora_alpha: {}", given.alpha));
        let targets = format!("target_modules: [{}]", given.targets.join(", "));
        differs(own.modules(config) != given.modules(config), targets);
        differs(own.rank_stabilised != given.rank_stabilised, format!("use_rslora: {}", given.rank_stabilised));
        differs(own.dora != given.dora, format!("use_dora: {}", given.dora));
        let saved = format!("modules_to_save: [{}]", given.modules_to_save.join(", "));
        differs(tables(own) != tables(given), saved);
        if !different.is_empty() {
            return Err(unfit(
                format!("{} is trained on as it is, but the recipe asks for another", path.display()),
                format!("write {}; or adapter_use: merge", different.join(", ")),
            ));
        }
    }
    Ok(Some(StartAdapter { path, merge, warning }))
}

/// The adapters of a stage; every entry of `target_modules` must name a linear that there is.
pub(super) fn lora_settings(lora: &Lora, seed: u64, config: &LlamaConfig) -> Result<LoraSettings, PipelineError> {
    let rate = lora.lora_dropout.value as f32;
    let settings = LoraSettings {
        rank_stabilised: lora.use_rslora.value,
        dora: lora.use_dora.value,
        dropout: (rate > 0.0).then_some(Dropout { rate, seed }),
        modules_to_save: lora.modules_to_save.value.iter().map(ToString::to_string).collect(),
        init: match lora.init_lora_weights.value {
            InitLora::Kaiming => AdapterInit::Kaiming,
            InitLora::Gaussian => AdapterInit::Gaussian,
        },
        b_rate: lora.loraplus_lr_ratio.value as f32,
        ..LoraSettings::new(
            lora.lora_rank.value as usize,
            lora.lora_alpha.value as f32,
            lora.target_modules.value.clone(),
        )
    };
    let alone = |target: &&String| LoraSettings::new(1, 1.0, vec![(*target).clone()]).modules(config).is_empty();
    if let Some(target) = settings.targets.iter().find(alone) {
        return Err(PipelineError::Unfit {
            path: lora.target_modules.path.clone(),
            problem: format!("`{target}` names no linear of the base, which has {} layers", config.num_hidden_layers),
            hint: "a path ends as in `layers.0.self_attn.q_proj` or `layers.0.mlp.down_proj`".to_owned(),
        });
    }
    Ok(settings)
}
