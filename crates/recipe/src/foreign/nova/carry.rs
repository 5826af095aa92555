//! Nova's recipes here and back.
//!
//! Nova's model and rows are AWS's: here they are what the user gives by `--base` and `--data`. Nova takes some values from lists only;
//! the nearest is written, and listed.

mod confirm;
mod export;
mod import;

use super::super::carry::{Pair, When};

pub(crate) use confirm::search;
pub(crate) use export::export;
pub(crate) use import::import;

/// SFT of Nova 2.
const SFT: &[Pair] = &[
    Pair::new("max_length", "max_length", Some("32768")),
    Pair::new("global_batch_size", "global_batch_size", Some("32")),
    Pair::new("optim_config.lr", "learning_rate", Some("1e-5")),
    Pair::new("optim_config.weight_decay", "weight_decay", Some("0.0")),
    Pair::new("optim_config.adam_beta1", "adam_beta1", Some("0.9")),
    Pair::new("optim_config.adam_beta2", "adam_beta2", Some("0.95")),
    Pair::new("lr_scheduler.min_lr", "min_lr", Some("1e-6")),
    Pair::new("lora_tuning.alpha", "lora_alpha", Some("64")).when(When::Lora),
    Pair::new("lora_tuning.lora_plus_lr_ratio", "loraplus_lr_ratio", Some("64")).when(When::Lora),
    Pair::new("save_top_k", "keep_checkpoints", Some("5")),
    Pair::new("save_steps", "save_steps", None),
    Pair::new("val_check_interval", "eval_steps", None).when(When::Validation),
    Pair::new("model_importance_score.fine_tuned_model", "weight_average", Some("1.0")),
];

/// CPT, and what of Nova 1 is written so.
const CPT: &[Pair] = &[
    Pair::new("max_length", "max_length", Some("8192")),
    Pair::new("global_batch_size", "global_batch_size", Some("256")),
    Pair::new("optim.lr", "learning_rate", Some("1e-5")),
    Pair::new("optim.eps", "adam_epsilon", Some("1e-6")),
    Pair::new("optim.weight_decay", "weight_decay", Some("0.0")),
    Pair::new("optim.adam_beta1", "adam_beta1", Some("0.9")),
    Pair::new("optim.adam_beta2", "adam_beta2", Some("0.95")),
    Pair::new("sched.min_lr", "min_lr", Some("1e-6")),
    Pair::new("val_check_interval", "eval_steps", Some("10")).when(When::Validation),
];

/// SFT of Nova 1.
const SFT_1: &[Pair] = &[
    Pair::new("max_length", "max_length", None),
    Pair::new("global_batch_size", "global_batch_size", Some("64")),
    Pair::new("optim.lr", "learning_rate", Some("1e-5")),
    Pair::new("optim.eps", "adam_epsilon", Some("1e-6")),
    Pair::new("optim.weight_decay", "weight_decay", Some("0.0")),
    Pair::new("sched.min_lr", "min_lr", Some("1e-6")),
    Pair::new("lora_tuning.alpha", "lora_alpha", Some("128")).when(When::Lora),
    Pair::new("lora_tuning.loraplus_lr_ratio", "loraplus_lr_ratio", Some("16")).when(When::Lora),
    Pair::new("lora_tuning.adapter_dropout", "lora_dropout", Some("0.01")).when(When::Lora),
    Pair::new("val_check_interval", "eval_steps", None).when(When::Validation),
];

const DPO: &[Pair] = &[
    Pair::new("max_length", "max_length", Some("16384")),
    Pair::new("global_batch_size", "global_batch_size", Some("64")),
    Pair::new("optim.lr", "learning_rate", Some("1e-5")),
    Pair::new("optim.eps", "adam_epsilon", Some("1e-8")),
    Pair::new("optim.weight_decay", "weight_decay", Some("0.01")),
    Pair::new("sched.min_lr", "min_lr", Some("1e-6")),
    Pair::new("dpo_cfg.beta", "beta", Some("0.1")).when(When::Dpo),
    Pair::new("lora_tuning.alpha", "lora_alpha", Some("64")).when(When::Lora),
    Pair::new("lora_tuning.loraplus_lr_ratio", "loraplus_lr_ratio", Some("20")).when(When::Lora),
    Pair::new("val_check_interval", "eval_steps", None).when(When::Validation),
];

/// RFT of single turns.
const RFT: &[Pair] = &[
    Pair::new("max_length", "max_length", Some("8192")),
    Pair::new("global_batch_size", "global_batch_size", Some("64")),
    Pair::new("optim_config.lr", "learning_rate", Some("1e-6")),
    Pair::new("optim_config.weight_decay", "weight_decay", Some("0.0")),
    Pair::new("optim_config.adam_beta1", "adam_beta1", Some("0.9")),
    Pair::new("optim_config.adam_beta2", "adam_beta2", Some("0.95")),
    Pair::new("advantage_strategy.number_generation", "rollouts.num_generations", Some("8")),
    Pair::new("generator.max_new_tokens", "rollouts.max_completion_length", Some("6000")),
    Pair::new("generator.temperature", "rollouts.temperature", Some("1")),
    Pair::new("generator.top_k", "rollouts.top_k", Some("0")),
    Pair::new("trainer.clip_ratio_high", "policy.epsilon_high", Some("0.2")),
    Pair::new("trainer.ent_coeff", "policy.entropy_coefficient", Some("0.0")),
    Pair::new("trainer.kl_loss_coef", "policy.beta", None),
    Pair::new("trainer.save_top_k", "keep_checkpoints", Some("5")),
    Pair::new("trainer.save_steps", "save_steps", None),
    Pair::new("trainer.test_steps", "eval_steps", None).when(When::Validation),
    Pair::new("lora_tuning.alpha", "lora_alpha", Some("32")).when(When::Lora),
    Pair::new("lora_tuning.loraplus_lr_ratio", "loraplus_lr_ratio", None).when(When::Lora),
];

/// RFT of Bedrock.
const BEDROCK_RFT: &[Pair] = &[
    Pair::new("batchSize", "global_batch_size", Some("128")),
    Pair::new("learningRate", "learning_rate", Some("1e-5")),
    Pair::new("trainingSamplePerPrompt", "rollouts.num_generations", Some("8")),
    Pair::new("inferenceMaxTokens", "rollouts.max_completion_length", Some("2048")),
    Pair::new("evalInterval", "eval_steps", Some("10")).when(When::Validation),
];

const BEDROCK: &[Pair] =
    &[Pair::new("batchSize", "global_batch_size", Some("1")), Pair::new("learningRate", "learning_rate", Some("1e-5"))];
