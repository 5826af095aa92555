//! The optimiser of a stage, its groups of rates held against what is trained.

use temper_model::{LlamaConfig, Tuning};
use temper_recipe::Stage;
use temper_train::{AdamWSettings, MuonSettings, OptimizerSettings, RateGroup};

use crate::PipelineError;

/// The optimiser in the words of the trainer. Every entry of `modules` must name something that is trained, and no weight may be
/// in two groups.
pub(super) fn optimizer_settings(
    stage: &Stage,
    tuning: &Tuning,
    config: &LlamaConfig,
) -> Result<OptimizerSettings, PipelineError> {
    let group = |modules: Vec<String>, rate: f64| RateGroup { modules, factor: rate / stage.learning_rate.value };
    let trained: Vec<String> = tuning.trained(config).into_iter().map(|(name, _)| name).collect();
    let held = |group: &RateGroup, name: &str| group.holds(name, config.tie_word_embeddings);
    let mut rates: Vec<RateGroup> = Vec::new();
    for asked in &stage.learning_rates {
        let unfit = |problem: String, hint: &str| {
            Err(PipelineError::Unfit { path: asked.modules.path.clone(), problem, hint: hint.to_owned() })
        };
        for module in &asked.modules.value {
            let one = group(vec![module.clone()], asked.learning_rate.value);
            if !trained.iter().any(|name| held(&one, name)) {
                let first = trained.first().map_or("", String::as_str);
                return unfit(
                    format!("`{module}` names nothing of the {} weights that the stage trains", trained.len()),
                    &format!("their names are as in `{first}`; `temper plan` counts what each group holds"),
                );
            }
        }
        let new = group(asked.modules.value.clone(), asked.learning_rate.value);
        let twice = trained.iter().find(|name| held(&new, name) && rates.iter().any(|before| held(before, name)));
        if let Some(name) = twice {
            return unfit(
                format!("`{name}` is in a group before this one too"),
                "say each group by parts that it alone has",
            );
        }
        rates.push(new);
    }
    Ok(OptimizerSettings {
        adamw: AdamWSettings {
            beta1: stage.adam_beta1.value,
            beta2: stage.adam_beta2.value,
            epsilon: stage.adam_epsilon.value,
            weight_decay: stage.weight_decay.value,
            max_grad_norm: stage.max_grad_norm.value,
        },
        muon: stage.muon_momentum.as_ref().map(|momentum| MuonSettings { momentum: momentum.value }),
        rates,
    })
}
