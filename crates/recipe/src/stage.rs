//! A stage: checkpoint + data + settings -> checkpoint.

use std::path::PathBuf;

use crate::duration::{Decay, Duration, Span, Warmup, duration_of};
use crate::filters::{DataErrors, Filters};
use crate::kind::{above, above_to, adapter_folder, choice, choice_refusing, integer, number, text, truth};
use crate::lora::{AdapterUse, Lora};
use crate::mix::{Mix, MixUnit};
use crate::optimizer::{Optimizer, RateGroup, optimizer_kind};
use crate::preference::{DPO_FULL, Preference};
use crate::reader::section;
use crate::reward::{Reward, check_names};
use crate::rollouts::{Baseline, Policy, Rollouts};
use crate::rows::{RowFiles, row_files, row_sources};
use crate::settings::{Valued, is, said};
use crate::then_full::FullStart;

crate::kind::words! {
    /// What a stage does.
    pub enum StageKind {
        /// Supervised fine-tuning: next-token loss on the answers of conversations.
        Sft = "sft",
        /// Continued pretraining: next-token loss on all of plain text. The domain's rows have `text` only; general ones may be
        /// conversations, of which the answers are trained.
        Cpt = "cpt",
        /// Direct preference optimisation: the better of two answers becomes likelier than the worse one; takes preference
        /// pairs only.
        Dpo = "dpo",
        /// Reinforcement fine-tuning: completions that earn more than others of their prompt become likelier; takes prompts and
        /// rewards.
        Rft = "rft",
    }
}

crate::kind::words! {
    /// Whether the answers of a conversation are trained in one row.
    pub enum Turns {
        /// In one.
        Together = "together",
        /// Each in a row of its own: the conversation up to it.
        Apart = "apart",
    }
}

crate::kind::words! {
    /// The boundary between a prompt and its answer.
    pub enum Boundary {
        /// Encoded apart, as generation does it.
        Apart = "apart",
        /// Refused where it makes a difference.
        Refuse = "refuse",
    }
}

crate::kind::words! {
    /// In which order rows are seen.
    pub enum RowOrder {
        /// At random.
        Shuffled = "shuffled",
        /// By the field `quality`, the best last; rows of equal quality at random.
        BestLast = "best_last",
    }
}

crate::kind::words! {
    /// Which weights are trained.
    pub enum Mode {
        /// Low-rank adapters beside the frozen weights (Hu et al. 2021).
        Lora = "lora",
        /// All weights.
        Full = "full",
        /// Adapters until their gain flattens, then all weights, kept only where they are better.
        LoraThenFull = "lora_then_full",
    }
}

crate::kind::words! {
    /// How the learning rate goes after the warm-up.
    pub enum LrScheduler {
        /// It stays.
        Constant = "constant",
        /// A straight line to `min_lr`.
        Linear = "linear",
        /// Half a cosine to `min_lr`.
        Cosine = "cosine",
        /// Warm-up, stable, decay: it stays, then falls to `min_lr` in the last steps (Hägele et al. 2024).
        Wsd = "wsd",
    }
}

const RATE_RFT: &str = "LoRA wants about 10 times the rate of full fine-tuning, of which TRL's GRPOConfig has 1e-6; Amazon Nova \
                        Forge has 1e-5 in some recipes, 7e-7 to 1e-4 in others";
const RATE_RFT_FULL: &str = "the default of TRL's GRPOConfig";
const RATE_LORA: &str = "LoRA wants about 10 times the rate of full fine-tuning (Thinking Machines, LoRA Without Regret, \
                         2025), and full SFT defaults to 2e-5 in TRL";
const RATE_LORA_CPT: &str = "LoRA wants about 10 times the rate of full fine-tuning (Thinking Machines, LoRA Without \
                             Regret, 2025), and CPT defaults to 1e-5 in Amazon Nova Forge";
const RATE_FULL: &str = "a tenth of learning_rate: LoRA wants about 10 times the rate of full fine-tuning (Thinking Machines, \
                         LoRA Without Regret, 2025)";
const DPO_LORA: &str = "DPO of Amazon Nova Forge";
const HF: &str = "the default of Hugging Face's TrainingArguments";

/// Whether the fields of `mode: lora_then_full` are read.
fn then_full(mode: &Option<Valued<Mode>>) -> bool {
    matches!(is(mode), None | Some(Mode::LoraThenFull))
}

/// A tenth, without the digits that binary division adds: 2e-5 of 2e-4.
fn tenth(rate: f64) -> f64 {
    format!("{:.12e}", rate / 10.0).parse().unwrap_or(rate / 10.0)
}

/// The learning rate of a stage that gives none, and what it rests on; of a kind or mode that is not known, that of SFT and of LoRA.
pub fn usual_rate(kind: Option<StageKind>, mode: Option<Mode>) -> (f64, &'static str) {
    match (mode, kind) {
        (Some(Mode::Full), Some(StageKind::Dpo)) => (1e-6, DPO_FULL),
        (Some(Mode::Full), Some(StageKind::Rft)) => (1e-6, RATE_RFT_FULL),
        (_, Some(StageKind::Rft)) => (1e-5, RATE_RFT),
        (_, Some(StageKind::Dpo)) => (1e-5, DPO_LORA),
        (Some(Mode::Full), Some(StageKind::Cpt)) => (1e-5, "CPT of Amazon Nova Forge"),
        (Some(Mode::Full), _) => (2e-5, "the default of TRL's SFTConfig"),
        (_, Some(StageKind::Cpt)) => (1e-4, RATE_LORA_CPT),
        _ => (2e-4, RATE_LORA),
    }
}

section! {
    /// One stage of training.
    pub struct Stage |f| {
        /// What to train on: `sft` the answers of conversations, `cpt` all of plain text, `dpo` preference pairs, `rft` what the
        /// model answers itself.
        kind: Valued<StageKind> = f.required(choice_refusing(&[("grpo", "called `rft` here"), ("rl", "called `rft` here")]));
        /// Train low-rank adapters, or all weights, or both in turn: adapters until their gain flattens, then all weights, which are
        /// kept only where their validation loss is lower by more than noise.
        mode: Valued<Mode> = f.aliases(&["finetuning_type", "fine_tune_type"]).default(
            choice(),
            Mode::Lora,
            "Amazon Nova Forge: LoRA first, it forgives poor hyperparameters (AWS ML blog, June 2026)",
        );
        /// Adapter that the first stage begins with: a folder that PEFT saved, or `adapter` of an earlier run.
        adapter: Option<Valued<PathBuf>> = f.optional(adapter_folder());
        /// What is done with `adapter`: trained on, which keeps its rank, scale and modules, or merged into the base first.
        adapter_use: Option<Valued<AdapterUse>> = f.only_when(!matches!(adapter, Some(None)), "no `adapter`", |f| {
            match is(&mode) {
                Some(Mode::Full) => f.default(choice(), AdapterUse::Merge, "full rank has no adapters to train on"),
                _ => f.default(choice(), AdapterUse::Continue, "decision: one adapter in the end, as there was one before"),
            }
        });
        /// The adapters; not for `mode: full`.
        lora: Option<Lora> = f.only_when(is(&mode) != Some(Mode::Full), "mode: full", |f| f.group());
        /// What is made of preference pairs; only for `kind: dpo`.
        preference: Option<Preference> = {
            let because = said("kind", &kind);
            f.only_when(matches!(is(&kind), None | Some(StageKind::Dpo)), &because, |f| f.spread("dpo_cfg").group())
        };
        /// What scores a completion: at least one for `kind: rft`, and only for that.
        rewards: Vec<Reward> = {
            let because = said("kind", &kind);
            let active = matches!(is(&kind), None | Some(StageKind::Rft));
            f.aliases(&["reward_funcs"]).only_when(active, &because, |f| f.sections(0)).map(Option::unwrap_or_default)
        };
        /// What is sampled; only for `kind: rft`.
        rollouts: Option<Rollouts> = {
            let because = said("kind", &kind);
            let active = matches!(is(&kind), None | Some(StageKind::Rft));
            f.aliases(&["rollout", "sampling"]).only_when(active, &because, |f| f.section_or_defaults())
        };
        /// What is minimised over what was sampled; only for `kind: rft`.
        policy: Option<Policy> = {
            let because = said("kind", &kind);
            let active = matches!(is(&kind), None | Some(StageKind::Rft));
            f.only_when(active, &because, |f| f.section_or_defaults())
        };
        /// What the start must earn; only for `kind: rft`.
        baseline: Option<Baseline> = {
            let because = said("kind", &kind);
            let active = matches!(is(&kind), None | Some(StageKind::Rft));
            f.only_when(active, &because, |f| f.section_or_defaults())
        };
        /// Domain rows: files, folders, patterns with `*`, `hf:datasets/OWNER/NAME`; each as a path, or as a map of `path`,
        /// `name`, `weight`, `format`, `columns`. Sources with a `weight` are drawn in these proportions, others as they lie.
        train: Valued<Vec<RowFiles>> = f.required(row_sources());
        /// In which order the rows of a domain source are seen.
        row_order: Valued<RowOrder> = f.default(
            choice(),
            RowOrder::Shuffled,
            "decision: another order for each epoch, a function of the seed",
        );
        /// Licence of the rows of `train`, for the plan, the report and the model card; left out, they say unknown.
        data_licence: Option<Valued<String>> = f.aliases(&["data_license", "licence", "license"]).optional(text());
        /// File of rows for the validation loss, by which the best checkpoint is chosen.
        validation: Option<Valued<RowFiles>> = f.optional(row_files());
        /// What is left out of the rows that are trained on.
        filters: Option<Filters> = f.section();
        /// Whether `temper run` refuses data in which the checks found errors, such as test rows among the trained ones.
        data_errors: Valued<DataErrors> =
            f.default(choice(), DataErrors::Refuse, "decision: what was trained on proves nothing");
        /// Factor on the loss of each token of domain data; of each pair, for `dpo`.
        domain_loss_weight: Valued<f64> = f.default(number(above(0.0)), 1.0, "decision: every token counts alike");
        /// General data mixed in against forgetting; left out, the stage trains on domain data only.
        mix: Option<Mix> = f.section();
        /// Train only the last answer of each conversation; the answers before it are context.
        mask_history: Valued<bool> = f.aliases(&["only_last_answer", "last_turn_only"]).default(
            truth(),
            false,
            "what most tools do: every answer is trained",
        );
        /// Whether the answers of a conversation are trained in one row, or each in a row of its own, as templates of reasoning
        /// models need, which render an answer otherwise once it is not the last.
        turns: Valued<Turns> = f.default(
            choice(),
            Turns::Together,
            "decision: each token is computed once; what a template cannot do so is refused",
        );
        /// What to do where prompt and answer, encoded as one text, give other tokens than encoded apart.
        boundary: Valued<Boundary> = f.default(choice(), Boundary::Apart, "decision: as the model generates");
        /// Whether text of the rows that spells a control token, such as `<|im_end|>`, becomes that token.
        allow_control_tokens: Valued<bool> =
            f.default(truth(), false, "decision: what a user wrote stays text, in training as in use");
        /// Longest row in tokens; what happens to longer ones is counted in the plan.
        max_length: Valued<u64> = f
            .aliases(&["max_seq_length", "cutoff_len", "sequence_len", "max_seq_len", "seq_len", "block_size"])
            .default(integer(2..), 1024, "the default of TRL's SFTConfig");
        /// Rows of one optimiser step, all sources together; of `rft`, of one round: prompts, and the general rows of its `mix`.
        global_batch_size: Valued<u64> = {
            let (rows, why) = match is(&kind) {
                Some(StageKind::Rft) => (32, "Amazon Nova Forge, multi-turn RFT: 32 prompts"),
                Some(StageKind::Dpo) => (64, "Amazon Nova Forge's recipe for DPO with LoRA"),
                _ => (32, "Amazon Nova Forge's recipe for SFT of Nova 2"),
            };
            f.default(integer(1..), rows, why)
        };
        /// Tokens of one packed micro-batch, which decides the memory; the last ones of a step are smaller.
        micro_batch_tokens: Valued<u64> = {
            let longest = max_length.as_ref().map_or(2, |length| length.value);
            let (tokens, why) = match is(&kind) {
                Some(StageKind::Dpo) => (2 * longest, "decision: twice max_length, in which the longest pair fits"),
                _ => (longest, "decision: max_length, the least memory in which the longest row fits"),
            };
            f.default(integer(2..), tokens, why)
        };
        /// Keep of each layer only what goes into it, and compute the rest again for the backward: the same gradients to the bit,
        /// less memory, about a third more time.
        activation_checkpointing: Valued<bool> = f
            .aliases(&["gradient_checkpointing", "enable_activation_checkpointing", "grad_checkpoint"])
            .default(truth(), false, HF);
        /// How long to train.
        duration: Valued<Duration> = {
            let default = match (is(&kind), is(&mode)) {
                (Some(StageKind::Dpo), Some(Mode::Full)) => (3.0, "Amazon Nova Forge's recipe for DPO of all weights"),
                (Some(StageKind::Dpo), _) => (2.0, "Amazon Nova Forge's recipe for DPO with LoRA"),
                _ => (1.0, "Amazon Nova Forge: at most one epoch for CPT, one for full SFT (AWS ML blog, June 2026)"),
            };
            f.in_section(|section| duration_of(section, default))
        };
        /// The highest learning rate.
        learning_rate: Valued<f64> = {
            let (rate, why) = usual_rate(is(&kind), is(&mode));
            f.aliases(&["lr"]).default(number(above_to(0.0, 1.0)), rate, why)
        };
        /// The highest learning rate of the full-rank part; only for `mode: lora_then_full`.
        full_learning_rate: Option<Valued<f64>> = {
            let tenth = learning_rate.as_ref().map_or(2e-5, |rate| tenth(rate.value));
            f.only_when(then_full(&mode), &said("mode", &mode), |f| f.default(number(above_to(0.0, 1.0)), tenth, RATE_FULL))
        };
        /// Where the full-rank part begins: at what LoRA made, merged, or where LoRA began; only for `mode: lora_then_full`.
        full_start: Option<Valued<FullStart>> = f.only_when(then_full(&mode), &said("mode", &mode), |f| {
            f.default(choice(), FullStart::Merged, "decision: what LoRA gained need not be gained again")
        });
        /// Rates of their own for parts of the model; what is in none has `learning_rate`. No weight may be in two.
        learning_rates: Vec<RateGroup> = f.aliases(&["lr_groups"]).sections(0);
        /// How the learning rate goes after the warm-up.
        lr_scheduler_type: Valued<LrScheduler> = f.aliases(&["lr_scheduler", "lr_schedule", "scheduler"]).default(
            choice(),
            LrScheduler::Cosine,
            "what most tools use; the default of Axolotl",
        );
        /// Straight rise of the learning rate from 0 at the start.
        warmup: Valued<Span> = f.group::<Warmup>().map(|read| read.0);
        /// Where the learning rate ends; not for `constant`.
        min_lr: Option<Valued<f64>> = f.only_when(
            is(&lr_scheduler_type) != Some(LrScheduler::Constant),
            "lr_scheduler_type: constant",
            |f| f.default(number(0.0..=1.0), 0.0, "Hugging Face's cosine and linear schedules end at 0"),
        );
        /// The last steps, in which the learning rate falls; only for `lr_scheduler_type: wsd`.
        decay: Option<Valued<Span>> = {
            let because = said("lr_scheduler_type", &lr_scheduler_type);
            f.only_when(matches!(is(&lr_scheduler_type), None | Some(LrScheduler::Wsd)), &because, |f| {
                f.group::<Decay>().map(|read| read.0)
            })
        };
        /// What makes a step of the gradient. `muon` takes the linear maps of the blocks, each as a matrix, and leaves embedding,
        /// head, norms and biases to AdamW; only for `mode: full`.
        optimizer: Valued<Optimizer> = f.aliases(&["optim"]).default(optimizer_kind(), Optimizer::AdamW, HF);
        /// Muon: decay of the mean of gradients, from which a step looks ahead by Nesterov's rule.
        muon_momentum: Option<Valued<f64>> = {
            let because = said("optimizer", &optimizer);
            f.only_when(matches!(is(&optimizer), None | Some(Optimizer::Muon)), &because, |f| {
                f.default(number(0.0..1.0), 0.95, "Jordan et al. 2024; the default of torch.optim.Muon")
            })
        };
        /// Decoupled weight decay, of either optimiser.
        weight_decay: Valued<f64> = f.default(number(0.0..=1.0), 0.0, HF);
        /// AdamW: decay of the first moment.
        adam_beta1: Valued<f64> = f.default(number(0.0..1.0), 0.9, HF);
        /// AdamW: decay of the second moment.
        adam_beta2: Valued<f64> = f.default(number(0.0..1.0), 0.999, HF);
        /// AdamW: added to the root of the second moment.
        adam_epsilon: Valued<f64> = f.default(number(above(0.0)), 1e-8, HF);
        /// Longest norm of the whole gradient, longer ones are scaled down to it; 0 for no limit.
        max_grad_norm: Valued<f64> = f.aliases(&["gradient_clip", "clip_grad_norm"]).default(number(0.0..), 1.0, HF);
        /// Optimiser steps between two validation losses; only with `validation`.
        eval_steps: Option<Valued<u64>> = f.aliases(&["steps_per_eval"]).only_when(
            !matches!(validation, Some(None)),
            "no `validation`",
            |f| f.default(integer(1..), 50, "decision: tuning runs are short, Hugging Face's 500 would never come in many"),
        );
        /// Validations in a row without a new lowest loss after which training ends with the best weights; 0 never ends it.
        early_stopping_patience: Option<Valued<u64>> = f.only_when(
            !matches!(validation, Some(None)),
            "no `validation`",
            |f| f.default(integer(0..), 3, "decision: one or two validations may rise by chance"),
        );
        /// Share of its whole fall by which the validation loss must have fallen over the last `early_stopping_patience`
        /// validations; where it has not, LoRA's gain is flat, and full rank begins. Only for `mode: lora_then_full`.
        flat_gain: Option<Valued<f64>> = f.only_when(then_full(&mode), &said("mode", &mode), |f| {
            f.default(number(above_to(0.0, 1.0)), 0.05, "decision: what is left of an exponential fall after three of its times")
        });
        /// How far below the lowest a validation loss must be to count as lower, in nats.
        early_stopping_threshold: Option<Valued<f64>> = f.only_when(
            !matches!(validation, Some(None)),
            "no `validation`",
            |f| f.default(number(0.0..), 0.0, "the default of Hugging Face's EarlyStoppingCallback"),
        );
        /// Optimiser steps between two checkpoints from which `temper resume` goes on exactly.
        save_steps: Valued<u64> = {
            let steps = eval_steps.as_ref().and_then(|steps| steps.as_ref()).map_or(50, |steps| steps.value);
            f.default(integer(1..), steps, "decision: as often as validation, else every 50 steps")
        };
        /// How many of these checkpoints are kept, the newest; the best weights are kept besides.
        keep_checkpoints: Valued<u64> = f.aliases(&["save_total_limit"]).default(
            integer(1..),
            2,
            "decision: the last, and the one before it should the last be damaged",
        );
        /// Weight of the tuned model when it is averaged with the start: w = start + weight_average * (tuned - start).
        weight_average: Valued<f64> = f.aliases(&["model_importance_score"]).default(
            number(0.0..=1.0),
            1.0,
            "Amazon Nova Forge's model_importance_score: 1, the tuned weights as they are",
        );
    }
    check |r| {
        if let (Some(rate), Some(Some(least))) = (&learning_rate, &min_lr)
            && least.value >= rate.value
        {
            let message = format!("`{}` is {}, not below `learning_rate` {}", least.path, least.value, rate.value);
            r.problem(least.place().or(rate.place()), message, "a schedule falls from learning_rate to min_lr");
        }
        if let (Some(duration), Some(warmup), Some(decay)) = (&duration, &warmup, &decay) {
            let spans = [Some(warmup), decay.as_ref()];
            let place = warmup.place().or(decay.as_ref().and_then(Valued::place)).or(duration.place());
            let what = if decay.is_some() { "warm-up and decay take" } else { "the warm-up takes" };
            if let Duration::Steps(total) = duration.value {
                let taken: u64 = spans.iter().flatten().map(|span| span.value.steps(total)).sum();
                if taken > total {
                    let message = format!("`{}`: {what} {taken} steps, but `max_steps` is {total}", warmup.path);
                    r.problem(place, message, "lower it, or train longer");
                }
            } else {
                let ratio = |span: &Valued<Span>| if let Span::Ratio(ratio) = span.value { ratio } else { 0.0 };
                let taken: f64 = spans.iter().flatten().map(|span| ratio(span)).sum();
                if taken > 1.0 {
                    let message = format!("`{}`: {what} {taken} of all steps, more than there are", warmup.path);
                    r.problem(place, message, "lower it: 1 is all of the steps");
                }
            }
        }
        if let (Some(rate), Some(Some(least))) = (&full_learning_rate.as_ref().and_then(Option::as_ref), &min_lr)
            && least.value >= rate.value
        {
            let message = format!("`{}` is {}, not below `full_learning_rate` {}", least.path, least.value, rate.value);
            r.problem(least.place().or(rate.place()), message, "a schedule falls from the highest rate to min_lr");
        }
        if let Some(mode) = mode.as_ref().filter(|mode| mode.value == Mode::LoraThenFull) {
            let mut refuse = |place, message: String, hint: &str| r.problem(place, message, hint);
            if matches!(validation, Some(None)) {
                let message = format!("`{}`: without validation rows nothing says when LoRA is flat, or which part is better", mode.path);
                refuse(mode.place(), message, "give the stage `validation`");
            }
            if let Some(Some(patience)) = early_stopping_patience.as_ref().filter(|p| p.as_ref().is_some_and(|p| p.value == 0)) {
                let message = format!("`{}`: flat_gain looks over so many validations, and 0 are none", patience.path);
                refuse(patience.place(), message, "give it at least 1");
            }
            if is(&kind) == Some(StageKind::Dpo) {
                let message = format!("`{}`: lora_then_full together with kind: dpo is not in this version", mode.path);
                refuse(mode.place(), message, "write two stages");
            }
            if let Some(average) = weight_average.as_ref().filter(|average| average.value != 1.0) {
                let message = format!("`{}`: of two parts there is no one start to average with", average.path);
                refuse(average.place(), message, "set weight_average: 1, and average after the run: `temper average`");
            }
            if let Some(group) = learning_rates.as_ref().and_then(|groups| groups.first()) {
                let message = format!("`{}`: adapters and weights have other names", group.modules.path);
                refuse(group.modules.place(), message, "write two stages, or leave learning_rates out");
            }
            if let (Some(Some(start)), Some(Some(adapter_use))) = (&full_start, &adapter_use)
                && start.value == FullStart::Start
                && adapter_use.value == AdapterUse::Continue
            {
                let message = format!("`{}`: where LoRA began there was an adapter, which full rank does not train", start.path);
                refuse(start.place(), message, "write full_start: merged, or adapter_use: merge");
            }
        }
        if let (Some(Mode::Lora), Some(optimizer)) = (is(&mode), &optimizer)
            && optimizer.value == Optimizer::Muon
        {
            let message = format!("`{}`: muon steps by whole weights, of which mode: lora trains none", optimizer.path);
            r.problem(optimizer.place(), message, "write mode: full, or optimizer: adamw");
        }
        if is(&kind) == Some(StageKind::Rft) {
            let rft = "together with kind: rft is not in this version";
            if let (Some(kind), Some([])) = (&kind, rewards.as_deref()) {
                let message = format!("`{}`: nothing says what a completion earns", kind.path);
                r.problem(kind.place(), message, "give the stage `rewards`: docs/rewards.md");
            }
            check_names(r, rewards.as_deref().unwrap_or_default());
            if let Some(Some(mix)) = &mix
                && mix.unit.value != MixUnit::Samples
            {
                let message = format!("`{}` is {}, but how long completions become nobody knows before", mix.unit.path, mix.unit.value);
                r.problem(mix.unit.place().or(mix.domain.place()), message, "with kind: rft a mix is of rows: write unit: samples");
            }
            let mut refuse = |place, path: &str, instead: &str| r.problem(place, format!("`{path}` {rft}"), instead);
            if let Some(Some(filters)) = &filters {
                refuse(filters.exact_duplicates.place(), &filters.exact_duplicates.path, "filter the file: `temper data check`");
            }
            if let Some(mode) = mode.as_ref().filter(|mode| mode.value == Mode::LoraThenFull) {
                refuse(mode.place(), &mode.path, "write two stages");
            }
            if let Some(weight) = domain_loss_weight.as_ref().filter(|weight| weight.value != 1.0) {
                refuse(weight.place(), &weight.path, "rewards have weights: `rewards[].weight`");
            }
            if let Some(Some(adapter)) = &adapter {
                let merge = "merge it first: `temper export --to merged`, then name that as base.source";
                refuse(adapter.place(), &adapter.path, merge);
            }
            if let Some(Some(lora)) = &lora {
                if lora.lora_dropout.value > 0.0 {
                    refuse(lora.lora_dropout.place(), &lora.lora_dropout.path, "set lora_dropout: 0");
                }
                if !lora.modules_to_save.value.is_empty() {
                    refuse(lora.modules_to_save.place(), &lora.modules_to_save.path, "leave modules_to_save out");
                }
            }
            if let (Some(Some(rollouts)), Some(length)) = (&rollouts, &max_length)
                && rollouts.max_completion_length.value >= length.value
            {
                let longest = &rollouts.max_completion_length;
                let message = format!(
                    "`{}` is {}, which leaves no room for a prompt in `max_length` {}",
                    longest.path, longest.value, length.value
                );
                r.problem(longest.place().or(length.place()), message, "a prompt and its completion have max_length tokens together");
            }
        }
        if is(&kind) == Some(StageKind::Dpo) {
            if let Some(turns) = turns.as_ref().filter(|turns| turns.value == Turns::Apart) {
                let message = format!("`{}` has no effect with kind: dpo, where an answer is one row", turns.path);
                r.problem(turns.place(), message, "remove it");
            }
            // The reference of a pair is the start with its adapters off, and is computed once.
            let mut refuse = |place, path: &str, instead: &str| {
                r.problem(place, format!("`{path}` together with kind: dpo is not in this version"), instead);
            };
            if let Some(Some(adapter)) = &adapter {
                let hint = "merge it first: `temper export --to merged`, then name that as base.source";
                refuse(adapter.place(), &adapter.path, hint);
            }
            if let Some(Some(lora)) = &lora {
                if lora.lora_dropout.value > 0.0 {
                    refuse(lora.lora_dropout.place(), &lora.lora_dropout.path, "set lora_dropout: 0");
                }
                if !lora.modules_to_save.value.is_empty() {
                    refuse(lora.modules_to_save.place(), &lora.modules_to_save.path, "leave modules_to_save out");
                }
            }
        }
        if let (Some(Mode::Full), Some(Some(adapter_use))) = (is(&mode), &adapter_use)
            && adapter_use.value == AdapterUse::Continue
        {
            let message = format!("`{}`: full rank does not train adapters", adapter_use.path);
            r.problem(adapter_use.place(), message, "write adapter_use: merge, or mode: lora");
        }
        if let (Some(Some(adapter_use)), Some(average)) = (&adapter_use, &weight_average)
            && adapter_use.value == AdapterUse::Continue
            && average.value != 1.0
        {
            let what = "the average would be with the base, not with the adapter that is trained on";
            let message = format!("`{}`: {what}", average.path);
            r.problem(average.place(), message, "set weight_average: 1, or adapter_use: merge");
        }
        if let Some(Some(lora)) = &lora {
            let averaged = weight_average.as_ref().is_some_and(|average| average.value != 1.0);
            let (dora, tables) = (&lora.use_dora, &lora.modules_to_save);
            if dora.value && lora.lora_dropout.value > 0.0 {
                let message = format!("`{}`: DoRA together with lora_dropout is not in this version", dora.path);
                r.problem(dora.place(), message, "set lora_dropout: 0, or use_dora: false");
            }
            if dora.value && averaged {
                let message = format!("`{}`: no factor leads from a DoRA adapter back to its start", dora.path);
                r.problem(dora.place(), message, "set weight_average: 1, or use_dora: false");
            }
            if !tables.value.is_empty() && averaged {
                let message = format!("`{}`: tables that are trained whole are not averaged with the start", tables.path);
                r.problem(tables.place(), message, "set weight_average: 1, or leave modules_to_save out");
            }
        }
        if let (Some(tokens), Some(length)) = (&micro_batch_tokens, &max_length)
            && tokens.value < length.value
        {
            let message = format!("`{}` is {}, less than `max_length` {}", tokens.path, tokens.value, length.value);
            r.problem(tokens.place(), message, "the longest row must fit into one micro-batch");
        }
    }
}
