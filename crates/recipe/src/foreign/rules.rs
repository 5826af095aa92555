//! The rules that hold for every tool: each looks at a [`View`] and says at most one thing.

use crate::problem::Place;

use super::finding::{Cited, Finding, Severity};
use super::script::number;
use super::view::{Known, Said, Technique, View};

/// A rule as data: what is looked for, how bad it is, why, and who says so.
pub struct Rule {
    /// Its name.
    pub id: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// Why it is bad.
    pub reason: &'static str,
    /// Who says so.
    pub source: Cited,
    /// Finds it.
    find: fn(&View, &Known) -> Option<Hit>,
}

/// What a rule found.
struct Hit {
    place: Place,
    found: String,
    /// The key of the line as it should be, and its value.
    corrected: Option<(String, String)>,
}

/// All the findings of the rules; `line` writes a corrected line.
pub(crate) fn findings(view: &View, known: &Known, line: impl Fn(&str, &str) -> String) -> Vec<Finding> {
    let found = RULES.iter().filter_map(|rule| Some((rule, (rule.find)(view, known)?)));
    let finding = |(rule, hit): (&Rule, Hit)| Finding {
        rule: rule.id,
        severity: rule.severity,
        place: hit.place,
        found: hit.found,
        reason: rule.reason.to_owned(),
        source: rule.source.to_string(),
        corrected: hit.corrected.map(|(key, value)| line(&key, &value)),
    };
    found.map(finding).collect()
}

const HF: Cited = Cited { what: "transformers, Trainer", when: "5.24.0" };
const NOVA_LINT: Cited =
    Cited { what: "read off the recipes of aws/sagemaker-hyperpod-recipes @ 2631995", when: "2026-06-23" };
const ARTICLE: Cited = Cited { what: "AWS ML blog, hyperparameters of Nova Forge", when: "June 2026" };
const NO_REGRET: Cited = Cited { what: "LoRA Without Regret, Thinking Machines", when: "2025" };
const RSLORA: Cited = Cited { what: "rsLoRA, Kalajdzievski, arXiv 2312.03732", when: "2023" };
const PAD: Cited = Cited { what: "huggingface/trl#6357, trl#3091", when: "2026" };
const PACK: Cited = Cited { what: "huggingface/trl#3067, trl#1230, trl#3526", when: "2025" };
const MASK: Cited = Cited { what: "NVIDIA-NeMo/Megatron-Bridge#3359", when: "2026" };
const MERGE: Cited =
    Cited { what: "LLaMA-Factory, export_model: \"Cannot merge adapters to a quantized model\"", when: "0.9.5" };
const GRPO: Cited = Cited {
    what: "Shao et al., DeepSeekMath, arXiv 2402.03300: the advantage is the difference within a group",
    when: "2024",
};
const FORGET: Cited = Cited {
    what: "AWS ML blog on data mixing, VOC task: MMLU 0.75 -> 0.47 on customer data alone",
    when: "March 2026",
};
const PEFT: Cited =
    Cited { what: "PEFT's habit, alpha = rank to 2 rank; Axolotl's and LLaMA-Factory's examples", when: "2026" };
const EPOCHS: Cited = Cited { what: "AWS user guide, Nova 2 SFT: 1 epoch full, 2 LoRA; DPO 2 to 3", when: "2026" };

/// The rules.
pub const RULES: &[Rule] = &[
    Rule {
        id: "validation-never-fires",
        severity: Severity::Warning,
        reason: "no validation loss is ever measured, so nothing says when the model overfits",
        source: HF,
        find: |view, known| {
            let (every, total) = (view.eval_every.as_ref()?, view.total(known)?);
            let asked = view.eval_on.as_ref().is_none_or(|on| on.value);
            (asked && every.value > total).then(|| {
                let found =
                    format!("`{}` is {}, and the run has {} steps", every.key, number(every.value), number(total));
                hit(view, every, found, Some(number((total / 5.0).ceil().max(1.0))))
            })
        },
    },
    Rule {
        id: "validation-without-rows",
        severity: Severity::Warning,
        reason: "there are no rows to validate on, so it never happens",
        source: HF,
        find: |view, _| {
            let (every, rows) = (view.eval_every.as_ref()?, view.validates.as_ref()?);
            (every.place.is_some() && !rows.value)
                .then(|| hit(view, every, format!("`{}` is given, `{}` is not", every.key, rows.key), None))
        },
    },
    Rule {
        id: "validation-off",
        severity: Severity::Warning,
        reason: "the interval is read only where validation is switched on",
        source: HF,
        find: |view, _| {
            let (every, on) = (view.eval_every.as_ref()?, view.eval_on.as_ref()?);
            (every.place.is_some() && !on.value).then(|| {
                let corrected = Some((on.key.clone(), "steps".to_owned()));
                Hit {
                    corrected,
                    ..hit(view, every, format!("`{}` is given, and `{}` is off", every.key, on.key), None)
                }
            })
        },
    },
    Rule {
        id: "save-beyond-end",
        severity: Severity::Warning,
        reason: "no checkpoint is written on the way: a run that is stopped loses everything, and there is none to choose",
        source: NOVA_LINT,
        find: |view, known| {
            let (every, total) = (view.save_every.as_ref()?, view.total(known)?);
            (every.value > total).then(|| {
                let found =
                    format!("`{}` is {}, and the run has {} steps", every.key, number(every.value), number(total));
                hit(view, every, found, Some(number(total.max(1.0))))
            })
        },
    },
    Rule {
        id: "warmup-longer-than-run",
        severity: Severity::Error,
        reason: "the learning rate never comes to its height",
        source: HF,
        find: |view, known| {
            let (warmup, total) = (view.warmup_steps.as_ref()?, view.total(known)?);
            (warmup.value >= 1.0 && warmup.value >= total).then(|| {
                let found =
                    format!("`{}` is {}, and the run has {} steps", warmup.key, number(warmup.value), number(total));
                hit(view, warmup, found, Some(number((total / 10.0).floor())))
            })
        },
    },
    Rule {
        id: "least-rate",
        severity: Severity::Error,
        reason: "a schedule falls from the learning rate to its least",
        source: NOVA_LINT,
        find: |view, _| {
            let (least, rate) = (view.least_rate.as_ref()?, view.rate.as_ref()?);
            (least.value >= rate.value && least.value > 0.0).then(|| {
                let found =
                    format!("`{}` is {}, `{}` is {}", least.key, number(least.value), rate.key, number(rate.value));
                hit(view, least, found, Some(number(rate.value / 10.0)))
            })
        },
    },
    Rule {
        id: "rate-of-lora-for-all-weights",
        severity: Severity::Warning,
        reason: "LoRA wants about ten times the rate of full fine-tuning; at LoRA's rate all weights forget or diverge",
        source: NO_REGRET,
        find: |view, _| {
            let (rate, adapters) = (view.rate.as_ref()?, view.adapters.as_ref()?);
            (!adapters.value && rate.value >= 1e-4 && view.technique != Some(Technique::Evaluation)).then(|| {
                let found = format!("all weights are trained, and `{}` is {}", rate.key, number(rate.value));
                hit(view, rate, found, Some(number(rate.value / 10.0)))
            })
        },
    },
    Rule {
        id: "adapter-keys-unused",
        severity: Severity::Error,
        reason: "keys of an adapter are given, but none is trained: all weights are, at an adapter's learning rate",
        source: Cited { what: "TRL ModelConfig.use_peft, Axolotl `adapter`", when: "1.16.0, 0.19.0" },
        find: |view, _| {
            let (adapters, given) = (view.adapters.as_ref()?, view.adapter_key.as_ref()?);
            (!adapters.value).then(|| {
                let found = format!("`{}` is given, and `{}` asks for no adapter", given.key, adapters.key);
                let value = if adapters.key.ends_with("use_peft") { "true" } else { "lora" };
                Hit { corrected: Some((adapters.key.clone(), value.to_owned())), ..hit(view, given, found, None) }
            })
        },
    },
    Rule {
        id: "more-than-one-epoch-of-cpt",
        severity: Severity::Warning,
        reason: "continued pretraining takes at most one pass; more of it memorises",
        source: ARTICLE,
        find: |view, known| {
            let passes = view.passes(known).filter(|passes| *passes > 1.0 + 1e-9)?;
            let at = view.steps.as_ref().or(view.epochs.as_ref())?;
            (view.technique == Some(Technique::Cpt)).then(|| {
                let one = at.value / passes;
                let found =
                    format!("`{}` is {}, which is {} passes over the rows", at.key, number(at.value), rounded(passes));
                hit(view, at, found, Some(number(if at.key.contains("step") { one.floor().max(1.0) } else { one })))
            })
        },
    },
    Rule {
        id: "steps-against-rows",
        severity: Severity::Warning,
        reason: "so many passes over the same rows memorise them",
        source: EPOCHS,
        find: |view, known| {
            let passes = view.passes(known).filter(|passes| *passes > 5.0)?;
            let at = view.steps.as_ref().or(view.epochs.as_ref())?;
            matches!(view.technique, Some(Technique::Sft | Technique::Dpo)).then(|| {
                let found =
                    format!("`{}` is {}, which is {} passes over the rows", at.key, number(at.value), rounded(passes));
                let two = at.value / passes * 2.0;
                hit(view, at, found, Some(number(if at.key.contains("step") { two.ceil() } else { two })))
            })
        },
    },
    Rule {
        id: "rows-never-seen",
        severity: Severity::Note,
        reason: "the run ends before it has seen half of its rows",
        source: Cited {
            what: "AWS blog, Nova Forge SDK part 2: rows / global_batch_size steps are one epoch",
            when: "April 2026",
        },
        find: |view, known| {
            let (steps, passes) = (view.steps.as_ref()?, view.passes(known)?);
            (passes < 0.5 && view.technique != Some(Technique::Evaluation)).then(|| {
                let found = format!(
                    "`{}` is {}, which is {} of a pass over the rows",
                    steps.key,
                    number(steps.value),
                    rounded(passes)
                );
                hit(view, steps, found, Some(number((steps.value / passes).ceil())))
            })
        },
    },
    Rule {
        id: "batch-larger-than-data",
        severity: Severity::Error,
        reason: "there are fewer rows than one step takes",
        source: Cited {
            what: "Nova Forge SDK: SFT rows >= global_batch_size; mlx-lm refuses it too",
            when: "1.4.x, May 2026",
        },
        find: |view, known| {
            let (batch, rows) = (view.batch.as_ref()?, known.rows?);
            (batch.value > rows as f64).then(|| {
                hit(view, batch, format!("`{}` is {}, and there are {rows} rows", batch.key, number(batch.value)), None)
            })
        },
    },
    Rule {
        id: "sampling-cannot-vary",
        severity: Severity::Error,
        reason: "sampling is greedy, so all answers to a prompt are the same: every advantage is zero and nothing is learnt",
        source: GRPO,
        find: |view, _| {
            if view.technique != Some(Technique::Rft) || view.group.as_ref().is_some_and(|group| group.value < 2.0) {
                return None;
            }
            let one = view.top_k.as_ref().filter(|k| k.value == 1.0);
            let cold = view.temperature.as_ref().filter(|t| t.value == 0.0);
            let at = one.or(cold)?;
            let value = if one.is_some() { "0" } else { "1" };
            Some(hit(view, at, format!("`{}` is {}", at.key, number(at.value)), Some(value.to_owned())))
        },
    },
    Rule {
        id: "group-of-one",
        severity: Severity::Error,
        reason: "the advantage is the difference within a group of answers to one prompt, and one answer has none",
        source: GRPO,
        find: |view, _| {
            let group = view.group.as_ref()?;
            (view.technique == Some(Technique::Rft) && group.value < 2.0)
                .then(|| hit(view, group, format!("`{}` is {}", group.key, number(group.value)), Some("8".to_owned())))
        },
    },
    Rule {
        id: "length-budget",
        severity: Severity::Error,
        reason: "prompt and answer do not fit into the longest row, so answers are cut off and their reward is lost",
        source: Cited { what: "huggingface/trl#5697: 97 to 99 % of answers truncated", when: "2026" },
        find: |view, _| {
            let (longest, answer) = (view.longest.as_ref()?, view.answer.as_ref()?);
            let prompt = view.prompt.as_ref().map_or(0.0, |prompt| prompt.value);
            (prompt + answer.value > longest.value || answer.value >= longest.value).then(|| {
                let asked = if prompt > 0.0 { format!("{} of prompt and ", number(prompt)) } else { String::new() };
                let found = format!(
                    "{asked}`{}` {} tokens, `{}` is {}",
                    answer.key,
                    number(answer.value),
                    longest.key,
                    number(longest.value)
                );
                let room = longest.value - prompt;
                hit(view, answer, found, (room > 1.0).then(|| number((room / 2.0).floor())))
            })
        },
    },
    Rule {
        id: "packing-leaks",
        severity: Severity::Error,
        reason: "rows that are packed together see each other: an answer is learnt from another row's words",
        source: PACK,
        find: |view, _| {
            let packs = view.packs.as_ref().filter(|packs| packs.value)?;
            // Documents of continued pretraining are often joined on purpose.
            let severe = view.isolates == Some(false) && view.technique != Some(Technique::Cpt);
            let corrected = match packs.key.as_str() {
                "packing" => Some("false".to_owned()),
                _ => None,
            };
            severe.then(|| {
                hit(view, packs, format!("`{}` is on, and nothing keeps the rows apart", packs.key), corrected)
            })
        },
    },
    Rule {
        id: "trains-on-the-prompt",
        severity: Severity::Warning,
        reason: "the model learns to write prompts, and long prompts outweigh short answers in the loss",
        source: MASK,
        find: |view, _| {
            let trains = view.trains_prompt.as_ref().filter(|trains| trains.value)?;
            let supervised = matches!(view.technique, Some(Technique::Sft));
            let said = if trains.place.is_some() { "says so" } else { "is left out, which means so" };
            let key = trains.key.as_str();
            // Keys that switch the loss on the prompt on, and those that switch it off.
            let value =
                if key.starts_with("train_on_inputs") || key.starts_with("train_on_prompt") { "false" } else { "true" };
            supervised.then(|| {
                let found = format!("prompts carry loss: `{key}` {said}");
                hit(view, trains, found, Some(value.to_owned()))
            })
        },
    },
    Rule {
        id: "rslora-scale",
        severity: Severity::Warning,
        reason: "rsLoRA divides alpha by the root of the rank, so an alpha meant for alpha / rank is that root too strong",
        source: RSLORA,
        find: |view, _| {
            let (rank, alpha) = (view.rank.as_ref()?, view.alpha.as_ref()?);
            let on = view.rslora.as_ref().is_some_and(|on| on.value);
            let scale = alpha.value / rank.value.sqrt();
            (on && scale > 8.0).then(|| {
                let found = format!(
                    "`{}` is {} at rank {}: a scale of {}",
                    alpha.key,
                    number(alpha.value),
                    number(rank.value),
                    rounded(scale)
                );
                hit(view, alpha, found, Some(number((2.0 * rank.value.sqrt()).round())))
            })
        },
    },
    Rule {
        id: "scale-against-alpha",
        severity: Severity::Note,
        reason: "alpha / rank is the strength of the adapter; far from 1 to 2 it is another learning rate in disguise",
        source: PEFT,
        find: |view, _| {
            let (rank, alpha) = (view.rank.as_ref()?, view.alpha.as_ref()?);
            let on = view.rslora.as_ref().is_some_and(|on| on.value);
            let scale = alpha.value / rank.value;
            let given = rank.place.is_some() || alpha.place.is_some();
            (given && !on && !(0.25..=8.0).contains(&scale)).then(|| {
                let at = if alpha.place.is_some() { alpha } else { rank };
                let found = format!(
                    "`{}` is {} at rank {}: a scale of {}",
                    alpha.key,
                    number(alpha.value),
                    number(rank.value),
                    rounded(scale)
                );
                let corrected = Some((alpha.key.clone(), number(2.0 * rank.value)));
                Hit { corrected, ..hit(view, at, found, None) }
            })
        },
    },
    Rule {
        id: "merge-into-quantised",
        severity: Severity::Error,
        reason: "the adapter was trained beside the quantised weights; merged into them it is rounded away in part",
        source: MERGE,
        find: |view, _| {
            let (bits, merges) = (view.bits.as_ref()?, view.merges.as_ref()?);
            (merges.value && bits.value < 16.0).then(|| {
                let found = format!("`{}`, with weights of {} bits by `{}`", merges.key, number(bits.value), bits.key);
                hit(view, merges, found, None)
            })
        },
    },
    Rule {
        id: "pad-is-eos",
        severity: Severity::Error,
        reason: "where padding is masked by its id, the end of every answer is masked too, and the model never stops",
        source: PAD,
        find: |view, _| {
            let (pad, eos) = (view.pad.as_ref()?, view.eos.as_ref()?);
            (pad.value == eos.value)
                .then(|| hit(view, pad, format!("`{}` and `{}` are both `{}`", pad.key, eos.key, pad.value), None))
        },
    },
    Rule {
        id: "no-general-data",
        severity: Severity::Note,
        reason: "trained on its own rows alone a model forgets; at full rank most of all",
        source: FORGET,
        find: |view, _| {
            let adapters = view.adapters.as_ref()?;
            let trained = matches!(view.technique, Some(Technique::Sft | Technique::Cpt));
            let alone = !view.mixes || view.domain.as_ref().is_some_and(|domain| domain.value >= 100.0);
            (trained && alone && !adapters.value).then(|| {
                hit(view, adapters, "all weights are trained, and no general data is mixed in".to_owned(), None)
            })
        },
    },
];

/// A hit at a value; the corrected line is its own key with another value.
fn hit<T>(view: &View, at: &Said<T>, found: String, corrected: Option<String>) -> Hit {
    // A default stands nowhere: the line that names the model is the nearest to it.
    let place = at.place.clone().or_else(|| view.model.as_ref().and_then(|model| model.place.clone()));
    Hit { place: place.unwrap_or(Place::Whole), found, corrected: corrected.map(|value| (at.key.clone(), value)) }
}

/// Two significant places are enough for people.
fn rounded(value: f64) -> String {
    let digits = if value < 1.0 { 2 } else { 1 };
    let shown = format!("{value:.digits$}");
    shown.trim_end_matches('0').trim_end_matches('.').to_owned()
}
