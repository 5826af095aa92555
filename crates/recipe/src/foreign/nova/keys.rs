//! The keys of Nova's recipes: what each takes, its default, and who says so.
//!
//! Read off AWS's public recipes, their template of override parameters, the guide and the SDK in 2026; where these disagree, both
//! are said. A path is the end of a key's full path.

use super::super::finding::Cited;
use super::super::keys::{Key, Takes};
use super::super::view::Technique;
use super::Platform;

pub(super) const YAML: Cited = Cited { what: "aws/sagemaker-hyperpod-recipes @ 2631995", when: "2026-06-23" };
pub(super) const TEMPLATE: Cited = Cited {
    what: "nova_recipe_template_parameters.json, aws/sagemaker-hyperpod-recipes @ 2631995",
    when: "2026-06-23",
};
pub(super) const GUIDE: Cited =
    Cited { what: "Amazon Nova user guide on docs.aws.amazon.com", when: "read in November 2026" };
pub(super) const SDK: Cited = Cited { what: "aws/nova-forge-sdk @ a4d5b3d", when: "2026-05-14" };
pub(super) const SDK_BEDROCK: Cited =
    Cited { what: "Bedrock templates of aws/nova-forge-sdk @ a4d5b3d", when: "2026-05-14" };

const fn key(path: &'static str, takes: Takes, default: Option<&'static str>, source: Cited) -> Key {
    Key { path, takes, default, source, but: None }
}

const fn but(key: Key, but: &'static str) -> Key {
    Key { but: Some(but), ..key }
}

use Takes::{Any, Multiple, Number, Truth, Whole, WholeOf, Words};

const MANY: u64 = 100_000;

/// `run.*`, of every technique.
pub(super) const RUN: &[Key] = &[
    key("run.name", Any, None, YAML),
    key("run.model_type", Any, None, YAML),
    key("run.model_name_or_path", Any, None, YAML),
    key("run.replicas", Whole(1, 64), None, YAML),
    key("run.data_s3_path", Any, None, YAML),
    key("run.validation_data_s3_path", Any, None, YAML),
    key("run.validation_data_s3_path_list", Any, None, YAML),
    key("run.output_s3_path", Any, None, YAML),
    key("run.mlflow_tracking_uri", Any, None, YAML),
    key("run.mlflow_experiment_name", Any, None, YAML),
    key("run.mlflow_run_name", Any, None, YAML),
    key("run.reward_lambda_arn", Any, None, YAML),
    key("run.generation_replicas", Whole(1, 64), None, YAML),
    key("run.rollout_worker_replicas", Whole(1, 64), None, YAML),
    key("data_mixing.dataset_catalog", Any, None, GUIDE),
    key("data_mixing.sources.customer_data.percent", Number(0.0, 100.0), Some("50"), GUIDE),
];

const CPT: &[Key] = &[
    key("run.replicas", WholeOf(&[2, 4, 8, 16, 32]), Some("8"), TEMPLATE),
    key("task_type", Words(&["cpt"]), Some("cpt"), YAML),
    key("max_length", Whole(1, 8192), Some("8192"), TEMPLATE),
    key("global_batch_size", WholeOf(&[32, 64, 128, 256]), Some("256"), TEMPLATE),
    key("max_steps", Whole(10, MANY), Some("10"), TEMPLATE),
    key("max_epochs", Whole(1, 10), Some("1"), YAML),
    key("val_check_interval", Whole(1, MANY), Some("10"), YAML),
    key("limit_val_batches", Whole(1, MANY), Some("2"), YAML),
    key("hidden_dropout", Number(0.0, 1.0), Some("0.0"), YAML),
    key("attention_dropout", Number(0.0, 1.0), Some("0.0"), YAML),
    key("optim.optimizer", Words(&["adam"]), Some("adam"), YAML),
    key("optim.name", Words(&["distributed_fused_adam"]), Some("distributed_fused_adam"), YAML),
    key("adam_w_mode", Truth, Some("true"), YAML),
    but(key("optim.lr", Number(0.0, 1.0), Some("1e-5"), TEMPLATE), "the guide advises 1e-6 to 1e-4"),
    key("eps", Number(0.0, 1.0), Some("1e-6"), YAML),
    key("weight_decay", Number(0.0, 1.0), Some("0.0"), YAML),
    key("adam_beta1", Number(0.0, 1.0), Some("0.9"), YAML),
    key("adam_beta2", Number(0.0, 1.0), Some("0.95"), YAML),
    key("betas", Any, Some("[0.9, 0.999]"), YAML),
    key("sched.warmup_steps", Whole(0, 100), Some("10"), TEMPLATE),
    key("sched.constant_steps", Whole(0, MANY), Some("0"), YAML),
    key("sched.min_lr", Number(0.0, 1.0), Some("1e-6"), YAML),
    key("sched.name", Any, None, YAML),
];

const ALPHA: Takes = WholeOf(&[32, 64, 96, 128, 160, 192]);

const SFT_2: &[Key] = &[
    key("run.replicas", WholeOf(&[1, 4, 8, 16, 32]), Some("1"), TEMPLATE),
    key("max_steps", Whole(4, MANY), Some("100"), TEMPLATE),
    key("save_steps", Whole(1, MANY), None, YAML),
    key("save_top_k", Whole(1, 1000), Some("5"), YAML),
    key("max_length", WholeOf(&[8192, 16384, 32768, 65536]), Some("32768"), TEMPLATE),
    but(
        key("global_batch_size", WholeOf(&[32, 64, 128]), Some("32"), YAML),
        "the template adds 256, and the guide on serverless goes to 1024",
    ),
    key("reasoning_enabled", Truth, Some("true"), YAML),
    key("val_check_interval", Whole(1, MANY), Some("2500"), YAML),
    key("limit_val_batches", Whole(1, MANY), Some("2"), YAML),
    key("lr_scheduler.warmup_steps", Whole(0, 100), Some("15"), TEMPLATE),
    key("lr_scheduler.min_lr", Number(1e-7, 1.0), Some("1e-6"), TEMPLATE),
    key("optim_config.lr", Number(0.0, 1.0), Some("1e-5"), TEMPLATE),
    key("optim_config.weight_decay", Number(0.0, 1.0), Some("0.0"), TEMPLATE),
    key("optim_config.adam_beta1", Number(0.0, 1.0), Some("0.9"), TEMPLATE),
    key("optim_config.adam_beta2", Number(0.0, 1.0), Some("0.95"), TEMPLATE),
    key("peft.peft_scheme", Words(&["lora", "null"]), Some("lora"), YAML),
    key("lora_tuning.alpha", ALPHA, Some("64"), TEMPLATE),
    but(key("lora_tuning.lora_plus_lr_ratio", Number(1.0, 70.0), Some("64.0"), TEMPLATE), "the guide says 0 to 100"),
    key("model_importance_score.fine_tuned_model", Number(0.0, 1.0), Some("1.0"), YAML),
    key("task_type", Any, None, YAML),
];

const SFT_1: &[Key] = &[
    key("max_epochs", Whole(1, 10), Some("2"), YAML),
    key("global_batch_size", WholeOf(&[16, 32, 64]), Some("64"), YAML),
    key("max_length", Whole(1024, 65536), None, YAML),
    key("val_check_interval", Whole(1, MANY), None, YAML),
    key("limit_val_batches", Whole(0, MANY), None, YAML),
    key("hidden_dropout", Number(0.0, 1.0), Some("0.0"), YAML),
    key("attention_dropout", Number(0.0, 1.0), Some("0.0"), YAML),
    key("ffn_dropout", Number(0.0, 1.0), Some("0.0"), YAML),
    key("optim.lr", Number(0.0, 1.0), Some("1e-5"), TEMPLATE),
    key("optim.name", Words(&["distributed_fused_adam"]), Some("distributed_fused_adam"), YAML),
    key("adam_w_mode", Truth, Some("true"), YAML),
    key("eps", Number(0.0, 1.0), Some("1e-6"), YAML),
    key("weight_decay", Number(0.0, 1.0), Some("0.0"), YAML),
    key("betas", Any, Some("[0.9, 0.999]"), YAML),
    key("sched.warmup_steps", Whole(0, 100), Some("10"), TEMPLATE),
    key("sched.constant_steps", Whole(0, MANY), Some("0"), YAML),
    key("sched.min_lr", Number(0.0, 1.0), Some("1e-6"), YAML),
    key("peft.peft_scheme", Words(&["lora", "null"]), Some("lora"), YAML),
    key("lora_tuning.alpha", ALPHA, Some("128"), YAML),
    key("lora_tuning.loraplus_lr_ratio", Number(0.0, 100.0), Some("16.0"), YAML),
    key("lora_tuning.adapter_dropout", Number(0.0, 1.0), Some("0.01"), YAML),
    key("task_type", Any, None, YAML),
];

const DPO: &[Key] = &[
    key("max_length", Multiple(1024, 32768, 1024), Some("16384"), TEMPLATE),
    key("global_batch_size", Whole(16, 256), Some("64"), TEMPLATE),
    key("max_epochs", Whole(1, 10), Some("2"), YAML),
    key("val_check_interval", Whole(1, MANY), None, YAML),
    key("limit_val_batches", Whole(0, MANY), None, YAML),
    key("hidden_dropout", Number(0.0, 1.0), Some("0.0"), YAML),
    key("attention_dropout", Number(0.0, 1.0), Some("0.0"), YAML),
    key("ffn_dropout", Number(0.0, 1.0), Some("0.0"), YAML),
    key("optim.lr", Number(0.0, 1.0), Some("1e-5"), TEMPLATE),
    key("optim.name", Words(&["distributed_fused_adam"]), Some("distributed_fused_adam"), YAML),
    key("adam_w_mode", Truth, Some("true"), YAML),
    key("eps", Number(0.0, 1.0), Some("1e-8"), YAML),
    key("weight_decay", Number(0.0, 1.0), Some("0.01"), YAML),
    key("betas", Any, Some("[0.9, 0.999]"), YAML),
    key("sched.warmup_steps", Whole(0, 100), Some("10"), TEMPLATE),
    key("sched.constant_steps", Whole(0, MANY), Some("0"), YAML),
    key("sched.min_lr", Number(0.0, 1.0), Some("1e-6"), YAML),
    but(key("dpo_cfg.beta", Number(0.001, 0.5), Some("0.1"), YAML), "the template says 0.001 to 0.1"),
    key("peft.peft_scheme", Words(&["lora", "null"]), Some("lora"), YAML),
    key("lora_tuning.alpha", ALPHA, Some("64"), TEMPLATE),
    key("lora_tuning.loraplus_lr_ratio", Number(0.0, 100.0), Some("20.0"), YAML),
    key("lora_tuning.adapter_dropout", Number(0.0, 1.0), Some("0.01"), YAML),
    key("task_type", Any, None, YAML),
];

const RFT: &[Key] = &[
    key("run.replicas", WholeOf(&[2, 4, 8, 16]), Some("2"), TEMPLATE),
    key("max_length", Whole(4096, 32768), Some("8192"), TEMPLATE),
    but(key("global_batch_size", Whole(16, 256), Some("64"), TEMPLATE), "SageMaker jobs with LoRA take at most 128"),
    key("reasoning_effort", Words(&["high", "low", "null"]), Some("high"), TEMPLATE),
    key("data.shuffle", Truth, Some("false"), YAML),
    key("rollout_strategy.type", Any, Some("off_policy_async"), YAML),
    key("rollout_strategy.age_tolerance", Whole(0, 100), Some("2"), YAML),
    but(
        key("advantage_strategy.number_generation", Whole(2, 16), Some("8"), TEMPLATE),
        "the recipes' own defaults are 8 (HyperPod), 2 (SageMaker) and 4 (the guide)",
    ),
    key("generator.max_new_tokens", Whole(1, 32768), Some("8192"), YAML),
    key("generator.temperature", Number(0.0, 2.0), Some("1"), YAML),
    key("generator.top_k", Whole(0, 1000), Some("0"), YAML),
    key("generator.set_random_seed", Truth, Some("true"), YAML),
    key("api_endpoint.lambda_arn", Any, None, YAML),
    key("api_endpoint.lambda_concurrency_limit", Whole(1, MANY), Some("100"), YAML),
    key("api_endpoint.lambda_batch_size", Whole(1, MANY), Some("128"), GUIDE),
    key("rewards.preset_reward_function", Words(&["null", "exact_match"]), None, GUIDE),
    key("trainer.max_steps", Whole(5, MANY), Some("100"), TEMPLATE),
    key("trainer.save_steps", Whole(1, MANY), None, YAML),
    key("trainer.save_top_k", Whole(1, 1000), Some("5"), YAML),
    key("trainer.test_steps", Whole(1, MANY), None, GUIDE),
    key("trainer.refit_freq", Whole(1, 1000), Some("4"), YAML),
    key("trainer.clip_ratio_high", Number(0.0, 1.0), Some("0.2"), YAML),
    key("trainer.loss_scale", Number(0.0, 100.0), Some("1"), YAML),
    key("trainer.ent_coeff", Number(0.0, 1.0), Some("0.0"), YAML),
    but(
        key("trainer.kl_loss_coef", Number(0.0, 1.0), Some("0.001"), YAML),
        "recipes of open-weight models keep it at 0 to 0.1",
    ),
    but(
        key("optim_config.lr", Number(1e-8, 1e-3), Some("1e-6"), TEMPLATE),
        "SageMaker jobs and Bedrock begin at 1e-7; the defaults are 7e-7 (HyperPod), 1e-4 (SageMaker) and 1e-6 (the guide's sample), and the guide advises 1e-7",
    ),
    key("optim_config.weight_decay", Number(0.0, 1.0), Some("0.0"), TEMPLATE),
    key("optim_config.adam_beta1", Number(0.0, 1.0), Some("0.9"), TEMPLATE),
    key("optim_config.adam_beta2", Number(0.0, 1.0), Some("0.95"), TEMPLATE),
    key("peft.peft_scheme", Words(&["lora", "null"]), Some("lora"), YAML),
    but(
        key("lora_tuning.alpha", WholeOf(&[16, 32, 64, 96, 128, 160, 192]), Some("32"), TEMPLATE),
        "the template says 16, 32 or 64, the recipe's comment 32 to 192",
    ),
    key("lora_tuning.loraplus_lr_ratio", Number(0.0, 100.0), None, YAML),
    key("lora_tuning.lora_plus_lr_ratio", Number(0.0, 100.0), None, YAML),
    key("task_type", Any, None, YAML),
];

/// RFT over several turns.
const RFT_TURNS: &[Key] = &[
    key("training_batch_size", Whole(1, 4096), Some("32"), YAML),
    key("group_size", Whole(2, 64), Some("4"), YAML),
    key("val_batch_size", Any, None, YAML),
    key("val_group_size", Whole(1, 64), Some("1"), YAML),
    key("advantage_method", Words(&["group_based", "monte_carlo"]), Some("group_based"), YAML),
    key("advantage_normalization", Truth, Some("true"), YAML),
    key("gamma", Number(0.0, 1.0), Some("1.0"), YAML),
    key("loss_fn", Words(&["ppo", "importance_sampling", "cispo"]), Some("ppo"), YAML),
    key("clip_low_threshold", Number(0.0, 1.0), Some("0.8"), YAML),
    key("clip_high_threshold", Number(1.0, 10.0), Some("1.2"), YAML),
    key("temperature", Number(0.0, 2.0), Some("1.0"), YAML),
    key("top_p", Number(0.0, 1.0), Some("1.0"), YAML),
    key("max_tokens", Whole(1, 32768), Some("4096"), YAML),
    key("success_threshold", Number(0.0, 1.0), Some("1.0"), YAML),
    key("epochs", Whole(1, 100), Some("1"), YAML),
    key("max_steps", Whole(1, MANY), Some("100"), YAML),
    key("save_every", Whole(1, MANY), Some("5"), YAML),
    key("val_every", Whole(1, MANY), Some("10"), YAML),
    key("val_at_start", Truth, Some("true"), YAML),
    key("max_sequence_length", Whole(1, 65536), Some("32768"), YAML),
    key("lora_rank", Whole(1, 256), Some("32"), YAML),
    key("alpha", Whole(1, 512), Some("64"), YAML),
    key("lora_alpha", Whole(1, 512), Some("64"), YAML),
    key("lr", Number(1e-8, 1e-3), Some("1e-5"), YAML),
    key("learning_rate", Number(1e-8, 1e-3), Some("1e-5"), YAML),
    key("betas", Any, Some("[0.9, 0.95]"), YAML),
    key("weight_decay", Number(0.0, 1.0), Some("0.01"), YAML),
    key("grad_clip_norm", Number(0.0, 100.0), Some("1.0"), YAML),
    key("lora_plus_lr_ratio", Number(0.0, 100.0), Some("32"), YAML),
    key("max_concurrency", Whole(1, 10_000), Some("96"), YAML),
    key("timeout", Number(1.0, 36_000.0), Some("600"), YAML),
    key("max_retries", Whole(0, 100), Some("3"), YAML),
    key("max_steps_off_policy", Whole(0, 100), Some("3"), YAML),
    key("max_filter_rate", Number(0.0, 1.0), Some("0.5"), YAML),
    key("max_repeated_tokens", Whole(1, 10_000), Some("30"), YAML),
    key("max_ngram_size", Whole(1, 10_000), Some("30"), YAML),
];

const EVALUATION: &[Key] = &[
    key("evaluation.task", Any, None, GUIDE),
    key("evaluation.strategy", Any, None, GUIDE),
    key("evaluation.metric", Any, None, GUIDE),
    key("evaluation.subtask", Any, None, GUIDE),
    key("inference.max_new_tokens", Whole(1, 65536), Some("32768"), YAML),
    key("inference.top_k", Number(-1.0, 1000.0), Some("-1"), YAML),
    key("inference.top_p", Number(0.0, 1.0), Some("1.0"), YAML),
    key("inference.temperature", Number(0.0, 2.0), Some("0"), YAML),
    key("inference.top_logprobs", Whole(0, 20), None, YAML),
    key("inference.reasoning_effort", Words(&["null", "low", "high"]), None, YAML),
    key("processor.lambda_arn", Any, None, YAML),
    key("processor.lambda_type", Words(&["rft", "custom_metrics"]), None, YAML),
    key("processor.preset_reward_function", Words(&["null", "prime_math", "prime_code"]), None, YAML),
    key("processor.preprocessing.enabled", Truth, Some("false"), YAML),
    key("processor.postprocessing.enabled", Truth, Some("true"), YAML),
    key("processor.aggregation", Words(&["average", "min", "max", "sum"]), Some("average"), YAML),
    key("rl_env.reward_lambda_arn", Any, None, YAML),
];

const BEDROCK_SFT: &[Key] = &[
    key("epochCount", Whole(1, 5), Some("2"), SDK_BEDROCK),
    key("batchSize", Whole(1, 64), Some("1"), SDK_BEDROCK),
    key("learningRate", Number(1e-6, 1e-4), Some("1e-5"), SDK_BEDROCK),
    key("learningRateWarmupSteps", Whole(0, 100), Some("10"), SDK_BEDROCK),
];

const BEDROCK_RFT: &[Key] = &[
    key("epochCount", Whole(1, 50), Some("1"), SDK_BEDROCK),
    key("batchSize", Whole(16, 512), Some("128"), SDK_BEDROCK),
    key("learningRate", Number(1e-7, 1e-3), Some("1e-5"), SDK_BEDROCK),
    key("maxPromptLength", Whole(1, 65536), Some("8192"), SDK_BEDROCK),
    key("trainingSamplePerPrompt", Whole(2, 16), Some("8"), SDK_BEDROCK),
    key("inferenceMaxTokens", Whole(1, 65536), Some("2048"), SDK_BEDROCK),
    key("reasoningEffort", Words(&["low", "medium", "high"]), Some("medium"), SDK_BEDROCK),
    key("evalInterval", Whole(1, 100), Some("10"), SDK_BEDROCK),
];

/// What a job request of Bedrock says beside its hyperparameters.
const BEDROCK: &[&str] = &[
    "jobName",
    "customModelName",
    "roleArn",
    "baseModelIdentifier",
    "customizationType",
    "clientRequestToken",
    "customModelKmsKeyId",
    "jobTags",
    "customModelTags",
    "trainingDataConfig.s3Uri",
    "validationDataConfig.validators.s3Uri",
    "outputDataConfig.s3Uri",
    "vpcConfig.subnetIds",
    "vpcConfig.securityGroupIds",
    "jobTags.key",
    "jobTags.value",
    "customModelTags.key",
    "customModelTags.value",
    "customizationConfig.rftConfig.graderConfig.lambdaGrader.lambdaArn",
];

/// The keys of a technique, `run.*` included.
pub(super) fn keys(technique: Technique, second: bool, turns: bool, platform: Platform) -> Vec<Key> {
    let own = match (platform, technique) {
        (Platform::Bedrock, Technique::Rft) => return BEDROCK_RFT.to_vec(),
        (Platform::Bedrock, _) => return BEDROCK_SFT.to_vec(),
        (_, Technique::Cpt) => CPT,
        (_, Technique::Sft) if second => SFT_2,
        (_, Technique::Sft) => SFT_1,
        (_, Technique::Dpo) => DPO,
        (_, Technique::Rft) if turns => RFT_TURNS,
        (_, Technique::Rft) => RFT,
        (_, Technique::Evaluation) => EVALUATION,
    };
    // What the technique says of a key of `run` comes first.
    let shared = RUN.iter().filter(|shared| own.iter().all(|key| key.path != shared.path));
    own.iter().chain(shared).copied().collect()
}

/// Whether a path is a key of a job request.
pub(super) fn of_request(path: &str) -> bool {
    let parts: Vec<&str> = path.split('.').filter(|part| part.parse::<usize>().is_err()).collect();
    BEDROCK.contains(&parts.join(".").as_str())
}
