//! What to train, in which mode, and from which checkpoint.

use super::{ARTICLE, Cited, Find, GUIDE, Rule, Severity, Symptom, hit, percent};

/// Demonstrations from which SFT is known to work well.
const DEMONSTRATIONS: f64 = 1000.0;
/// Preference pairs that Amazon's guide to DPO of Nova advises at least.
const PAIRS: f64 = 1000.0;
/// Prompts that Amazon's guide to RFT asks for at least.
const PROMPTS: f64 = 100.0;
/// Tokens from which the guide has continued pretraining of all weights.
const TOKENS: f64 = 1e9;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "rft-without-sft",
        severity: Severity::Error,
        when: "rft follows no sft or dpo, and base.kind is not post_trained",
        reason: "reinforcement sharpens what a model can do at times: one that follows no instructions earns too little to \
                 learn from",
        source: ARTICLE,
        action: "put a stage of sft on demonstrations before it, or start from a post-trained checkpoint",
        shows: None,
        explains: &[Symptom::RewardLost, Symptom::NoGain],
        find: Find::Stage(|view| {
            let kind = view.plan.text("base.kind").filter(|kind| *kind != "post_trained")?;
            (view.is(&["rft"]) && !view.follows(&["sft", "dpo"]))
                .then(|| hit(view.path("kind"), format!("stage {} is rft, and the base is {kind}", view.of + 1)))
        }),
    },
    Rule {
        id: "early-checkpoint-without-sft",
        severity: Severity::Error,
        when: "cpt starts from a pre_trained or mid_trained base, and no stage after it is sft, dpo or rft",
        reason: "an early checkpoint follows no instructions: sft must follow",
        source: ARTICLE,
        action: "add a stage of sft after it, or start from a post-trained checkpoint",
        shows: None,
        explains: &[Symptom::NoGain, Symptom::Forgetting],
        find: Find::Stage(|view| {
            let kind = view.plan.text("base.kind").filter(|kind| *kind != "post_trained")?;
            let taught = view.plan.stages.iter().any(|stage| stage.kind != "cpt");
            (view.index == 0 && view.is(&["cpt"]) && !taught)
                .then(|| hit("base.kind", format!("the base is {kind}, and every stage is cpt")))
        }),
    },
    Rule {
        id: "checkpoint-kind",
        severity: Severity::Warning,
        when: "base.kind is none of the kinds that are advised for the technique, mode and amount of data of the first stage",
        reason: "for continued pretraining the checkpoint outweighs every hyperparameter: early ones are plastic, late ones \
                 keep what \
                 follows instructions",
        source: ARTICLE,
        action: "start from a checkpoint of the advised kind; `temper probe` measures it where the recipe has `checkpoints`",
        shows: None,
        explains: &[Symptom::Forgetting, Symptom::NoGain],
        find: Find::Stage(|view| {
            let kind = view.plan.text("base.kind")?;
            let advised = &view.plan.advice;
            let fits = advised.iter().any(|advice| advice.kinds.iter().any(|advised| advised == kind));
            let first = advised.first().filter(|_| view.index == 0 && !fits)?;
            let found = format!("the base is {kind}; advised is {}: {}", first.kinds.join(" or "), first.because);
            Some(hit("base.kind", found))
        }),
    },
    Rule {
        id: "full-rank-first",
        severity: Severity::Warning,
        when: "a stage of sft or rft has mode: full, and no stage before it trains adapters",
        reason: "LoRA forgives poor hyperparameters and proves data, prompts and reward cheaply; going to full rank before it \
                 has is a \
                 listed mistake",
        source: ARTICLE,
        action: "begin with mode: lora; with validation rows lora_then_full goes on to full rank once LoRA's gain is flat",
        shows: None,
        explains: &[Symptom::Forgetting, Symptom::Instability, Symptom::Overfitting],
        find: Find::Stage(|view| {
            if !view.is(&["sft", "rft"]) || view.mode() != "full" || view.follows_lora() {
                return None;
            }
            let found =
                hit(view.path("mode"), format!("stage {} trains all weights, and nothing came before", view.of + 1));
            // Muon and rates by name belong to whole weights, and a rate that was chosen for them is not one for adapters.
            let whole =
                view.text("optimizer") != Some("adamw") || view.number("learning_rates.0.learning_rate").is_some();
            if whole {
                return Some(found);
            }
            let changed = found.set(view.path("mode"), "lora");
            let given = view.is_given("learning_rate");
            Some(if given { changed.remove(view.path("learning_rate")) } else { changed })
        }),
    },
    Rule {
        id: "cpt-of-all-weights-on-few-tokens",
        severity: Severity::Warning,
        when: "a stage of cpt has mode: full, and its domain has less than 10^9 tokens",
        reason: "for less raw text than that the guide has no pretraining of all weights: a small CPT takes the post-trained \
                 checkpoint \
                 and LoRA",
        source: GUIDE,
        action: "set mode: lora; where the behaviour can be shown as questions and answers, use sft",
        shows: None,
        explains: &[Symptom::Forgetting, Symptom::Overfitting],
        find: Find::Stage(|view| {
            (view.is(&["cpt"]) && view.mode() == "full" && view.domain_tokens() < TOKENS).then(|| {
                let found = format!("the domain has {} tokens", view.domain_tokens().round());
                hit(view.path("mode"), found)
            })
        }),
    },
    Rule {
        id: "few-demonstrations",
        severity: Severity::Note,
        when: "a stage of sft has fewer than 1,000 domain rows",
        reason: "SFT works from 1,000 to 10,000 good demonstrations on; fewer must be consistent and diverse to teach anything",
        source: ARTICLE,
        action: "add rows, quality before number; where answers can be scored but not written down, use rft",
        shows: None,
        explains: &[Symptom::NoGain, Symptom::Overfitting],
        find: Find::Stage(|view| {
            let rows = view.domain_rows();
            (view.is(&["sft"]) && rows < DEMONSTRATIONS)
                .then(|| hit(view.path("train"), format!("the domain has {rows} rows")))
        }),
    },
    Rule {
        id: "few-pairs",
        severity: Severity::Note,
        when: "a stage of dpo has fewer than 1,000 pairs",
        reason: "the guide to DPO advises 1,000 pairs or more",
        source: GUIDE,
        action: "add pairs, or use sft on the better answers",
        shows: None,
        explains: &[Symptom::NoGain, Symptom::Overfitting],
        find: Find::Stage(|view| {
            let rows = view.domain_rows();
            (view.is(&["dpo"]) && rows < PAIRS).then(|| hit(view.path("train"), format!("there are {rows} pairs")))
        }),
    },
    Rule {
        id: "few-prompts",
        severity: Severity::Note,
        when: "a stage of rft has fewer than 100 prompts",
        reason: "the guide starts with 100 to 200 prompts, and at least 100 to train on",
        source: GUIDE,
        action: "add prompts that cover the task",
        shows: None,
        explains: &[Symptom::RewardLost, Symptom::NoGain],
        find: Find::Stage(|view| {
            let rows = view.domain_rows();
            (view.is(&["rft"]) && rows < PROMPTS).then(|| hit(view.path("train"), format!("there are {rows} prompts")))
        }),
    },
    Rule {
        id: "rows-dropped-as-too-long",
        severity: Severity::Warning,
        when: "more than 5 % of the rows of a file are dropped because they are longer than max_length",
        reason: "the longest rows are seldom like the others: what they teach is lost",
        source: Cited {
            what: "huggingface/trl#6668 and #6320, truncation that removes what is trained; the share is ours",
            when: "2026",
        },
        action: "raise max_length, or cut the rows by hand where they may be cut",
        shows: None,
        explains: &[Symptom::NoGain],
        find: Find::Stage(|view| {
            let (name, share) = view.stage.files.iter().find_map(|(name, file)| {
                let dropped = file.dropped.get("too_long").map_or(0, |dropped| dropped.count);
                (dropped * 20 > file.rows).then(|| (name, dropped as f64 / file.rows as f64))
            })?;
            let length = view.number("max_length")?;
            let path = view.path("max_length");
            let found = format!("{} of {name} are longer than {} tokens", percent(share), length);
            Some(hit(path.clone(), found).set(path, 2.0 * length))
        }),
    },
    Rule {
        id: "batch-too-large",
        severity: Severity::Warning,
        when: "a stage of sft or dpo takes more than a quarter of its domain rows in one step",
        reason: "there must be as many rows as a step takes at least; with fewer than four steps an epoch nothing can be \
                 warmed up, \
                 validated or stopped",
        source: Cited {
            what: "Nova Forge SDK 1.4: SFT rows >= global_batch_size; four steps an epoch is ours",
            when: "May 2026",
        },
        action: "lower global_batch_size, or add rows",
        shows: None,
        explains: &[Symptom::NoGain],
        find: Find::Stage(|view| {
            let (batch, rows) = (view.number("global_batch_size")?, view.domain_rows());
            (view.is(&["sft", "dpo"]) && 4.0 * batch > rows && batch > 1.0).then(|| {
                let path = view.path("global_batch_size");
                let found = format!("a step takes {} rows, and the domain has {rows}", batch);
                // A power of two, of which an epoch has at least eight.
                let better = 2f64.powf((rows / 8.0).max(1.0).log2().floor());
                hit(path.clone(), found).set(path, better)
            })
        }),
    },
    Rule {
        id: "tokens-of-a-step",
        severity: Severity::Note,
        when: "a stage of cpt on a base of 10^9 weights or more takes fewer than 2 or more than 20 million tokens a step",
        reason: "the guide's target for CPT of its own models, none of which is smaller",
        source: ARTICLE,
        action: "change global_batch_size or max_length",
        shows: None,
        explains: &[Symptom::Instability],
        find: Find::Stage(|view| {
            let tokens = view.tokens_of_a_step();
            let large = view.plan.base.parameters >= 1e9;
            (view.is(&["cpt"]) && large && !(2e6..=2e7).contains(&tokens))
                .then(|| hit(view.path("global_batch_size"), format!("a step takes {} tokens", tokens.round())))
        }),
    },
];
