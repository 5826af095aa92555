//! Of every rule over recipes and runs: one that it is for, and the nearest one that it is not for.

use serde_json::{Value, json};

use super::made::{Made, baseline, share};

pub struct Case {
    pub rule: &'static str,
    /// Whether the rule looks at what a run wrote.
    pub in_a_run: bool,
    pub fires: fn() -> Made,
    pub silent: fn() -> Made,
}

const fn recipe(rule: &'static str, fires: fn() -> Made, silent: fn() -> Made) -> Case {
    Case { rule, in_a_run: false, fires, silent }
}

const fn run(rule: &'static str, fires: fn() -> Made, silent: fn() -> Made) -> Case {
    Case { rule, in_a_run: true, fires, silent }
}

pub fn all() -> impl Iterator<Item = &'static Case> {
    RECIPES.iter().chain(RUNS)
}

fn general(name: &str, path: &str) -> Made {
    let made = Made::sft().set("stages.0.mix.general.0.name", json!(name));
    let made = made.set("stages.0.mix.general.0.path", json!(path));
    made.stage("/shares/sources/1", share(name, 1600.0, 1.0))
}

fn rows(made: Made, rows: f64, epochs: f64) -> Made {
    made.stage("/shares/sources/0", share("domain", rows, epochs))
}

fn start(verdict: &str, cut: f64, majority: Value) -> Made {
    Made::rft().stage("/rounds", json!({"baseline": baseline(verdict, cut, majority)}))
}

/// A stage of rft whose start is known only once it begins.
fn begun(verdict: &str) -> Made {
    let mut line = baseline(verdict, 0.0, Value::Null);
    line["event"] = json!("baseline");
    line["step"] = json!(0);
    Made::rft().stage("/rounds", json!({"baseline": null})).line(line)
}

fn warmup(steps: usize) -> Made {
    Made::sft().stage("/fit/learning_rate/warmup_steps", json!(steps))
}

const RECIPES: &[Case] = &[
    recipe("no-general-data", || Made::sft().alone(), Made::sft),
    recipe("no-general-data", || Made::cpt().alone(), Made::dpo),
    recipe(
        "little-general-data",
        || Made::sft().set("stages.0.mix.domain", json!(76)),
        || Made::sft().set("stages.0.mix.domain", json!(75)),
    ),
    recipe("no-instructions-in-mix", || general("prose", "prose.jsonl"), || general("Reasoning-math", "r.jsonl")),
    recipe(
        "no-instructions-in-mix",
        || Made::sft().set("stages.0.mix.general.0.share", json!(0)),
        || general("prose", "self"),
    ),
    recipe("no-instructions-in-mix", || general("prose", "prose.jsonl"), Made::cpt),
    recipe(
        "rate-moved-while-mixing",
        || Made::sft().set("stages.0.learning_rate", json!(5e-4)),
        || Made::sft().set("stages.0.learning_rate", json!(4e-4)),
    ),
    recipe(
        "rate-moved-while-mixing",
        || Made::sft().set("stages.0.learning_rate", json!(5e-5)),
        || Made::sft().alone().set("stages.0.learning_rate", json!(5e-4)),
    ),
    recipe(
        "rate-above-default",
        || Made::sft().alone().set("stages.0.learning_rate", json!(1e-3)),
        || Made::sft().alone().set("stages.0.learning_rate", json!(7e-4)),
    ),
    recipe(
        "rate-below-default",
        || Made::sft().alone().set("stages.0.learning_rate", json!(4e-5)),
        || Made::sft().alone().left("stages.0.learning_rate", json!(4e-5)),
    ),
    recipe("no-general-evaluation", || Made::sft().unset("evaluation.floors.heldout.max_increase_percent"), Made::sft),
    recipe("no-validation", || Made::sft().unset("stages.0.validation"), Made::sft),
    recipe(
        "rft-without-sft",
        || Made::rft().set("base.kind", json!("mid_trained")),
        || Made::rft().set("base.kind", json!("post_trained")),
    ),
    recipe(
        "rft-without-sft",
        || Made::rft().set("base.kind", json!("pre_trained")),
        || Made::rft().set("base.kind", json!("pre_trained")).after("sft"),
    ),
    recipe(
        "early-checkpoint-without-sft",
        || Made::cpt().set("base.kind", json!("pre_trained")),
        || Made::cpt().set("base.kind", json!("pre_trained")).then("sft"),
    ),
    recipe(
        "early-checkpoint-without-sft",
        || Made::cpt().set("base.kind", json!("mid_trained")),
        || Made::cpt().set("base.kind", json!("post_trained")),
    ),
    recipe(
        "checkpoint-kind",
        || Made::sft().set("base.kind", json!("pre_trained")).advised(&["post_trained"]),
        || Made::sft().set("base.kind", json!("post_trained")).advised(&["post_trained"]),
    ),
    recipe(
        "checkpoint-kind",
        || Made::sft().set("base.kind", json!("post_trained")).advised(&["pre_trained", "mid_trained"]),
        || Made::sft().advised(&["post_trained"]),
    ),
    recipe(
        "full-rank-first",
        || Made::sft().mode("full"),
        || Made::sft().mode("full").after("sft").stage("/mode", json!("lora")),
    ),
    recipe("full-rank-first", || Made::rft().mode("full"), || Made::sft().mode("lora_then_full")),
    recipe("cpt-of-all-weights-on-few-tokens", || Made::cpt().mode("full"), Made::cpt),
    recipe(
        "cpt-of-all-weights-on-few-tokens",
        || Made::cpt().mode("full"),
        || rows(Made::cpt().mode("full"), 1e8, 1.0),
    ),
    recipe("few-demonstrations", || rows(Made::sft(), 999.0, 1.0), || rows(Made::sft(), 1000.0, 1.0)),
    recipe("few-demonstrations", || rows(Made::sft(), 500.0, 2.0), || rows(Made::dpo(), 999.0, 1.0)),
    recipe("few-pairs", || rows(Made::dpo(), 999.0, 1.0), || rows(Made::dpo(), 1000.0, 1.0)),
    recipe("few-prompts", || rows(Made::rft(), 99.0, 4.0), || rows(Made::rft(), 100.0, 4.0)),
    recipe(
        "rows-dropped-as-too-long",
        || Made::sft().stage("/files/0/1/dropped/too_long/count", json!(161)),
        || Made::sft().stage("/files/0/1/dropped/too_long/count", json!(160)),
    ),
    recipe("batch-too-large", || rows(Made::sft(), 127.0, 1.0), || rows(Made::sft(), 128.0, 1.0)),
    recipe("batch-too-large", || rows(Made::dpo(), 20.0, 1.0), || rows(Made::rft(), 20.0, 1.0)),
    recipe("tokens-of-a-step", || Made::cpt().parameters(1e9), || Made::cpt().parameters(0.9e9)),
    recipe("warmup-takes-the-run", || warmup(50), || warmup(49)),
    recipe("more-than-one-epoch-of-cpt", || rows(Made::cpt(), 1600.0, 1.2), || rows(Made::cpt(), 1600.0, 1.01)),
    recipe("many-epochs", || rows(Made::sft(), 1600.0, 4.5), || rows(Made::sft(), 1600.0, 4.0)),
    recipe("many-epochs", || rows(Made::sft().mode("full"), 1600.0, 2.5), || rows(Made::dpo(), 1600.0, 6.0)),
    recipe(
        "validation-never-fires",
        || Made::sft().set("stages.0.eval_steps", json!(100)),
        || Made::sft().set("stages.0.eval_steps", json!(99)),
    ),
    recipe(
        "save-beyond-the-end",
        || Made::sft().set("stages.0.save_steps", json!(101)),
        || Made::sft().set("stages.0.save_steps", json!(100)),
    ),
    recipe("rows-never-seen", || rows(Made::sft(), 1600.0, 0.4), || rows(Made::sft(), 1600.0, 0.5)),
    recipe(
        "sampling-cannot-vary",
        || Made::rft().set("stages.0.rollouts.top_k", json!(1)),
        || Made::rft().set("stages.0.rollouts.top_k", json!(20)),
    ),
    recipe(
        "sampling-cannot-vary",
        || Made::rft().set("stages.0.rollouts.temperature", json!(0.1)),
        || Made::rft().set("stages.0.rollouts.temperature", json!(0.2)),
    ),
    recipe(
        "sampling-cannot-vary",
        || Made::rft().set("stages.0.rollouts.top_p", json!(0.05)),
        || Made::rft().set("stages.0.rollouts.top_p", json!(0.1)),
    ),
    recipe("baseline-too-low", || start("sft_first", 0.0, Value::Null), || start("worthwhile", 0.0, Value::Null)),
    recipe("baseline-too-high", || start("not_needed", 0.0, Value::Null), || start("sft_first", 0.0, Value::Null)),
    recipe(
        "majority-earns-as-much",
        || start("worthwhile", 0.0, json!(["the", 0.6])),
        || start("worthwhile", 0.0, json!(["the", 0.45])),
    ),
    recipe(
        "completions-cut-at-the-start",
        || start("worthwhile", 0.51, Value::Null),
        || start("worthwhile", 0.5, Value::Null),
    ),
    recipe("nothing-holds-the-reward", || Made::rft().set("stages.0.rewards.1.held_out", json!(false)), Made::rft),
];

const FALLING: [f64; 5] = [3.0, 2.5, 2.0, 1.5, 1.0];

/// Validations at every tenth step.
fn validated(made: Made, losses: &[f64]) -> Made {
    let all: Vec<(usize, f64)> = losses.iter().enumerate().map(|(index, loss)| (10 * index, *loss)).collect();
    made.validations(&all)
}

fn general_text(low: f64) -> Made {
    Made::sft()
        .line(json!({"event": "general", "step": 50, "suite": "heldout", "relative": low, "low": low, "high": low}))
}

const RUNS: &[Case] = &[
    run("diverged", || Made::sft().losses(&[2.0, 1.0, 3.0]), || Made::sft().losses(&[2.0, 1.0, 2.1])),
    run(
        "diverged",
        || Made::sft().losses(&FALLING).stopped("diverged: the loss is NaN"),
        || Made::sft().losses(&FALLING).stopped("overfitting: it rose"),
    ),
    run(
        "overfit",
        || validated(Made::sft().losses(&FALLING), &[3.0, 2.5, 2.0, 2.0, 2.1]),
        || validated(Made::sft().losses(&FALLING), &[3.0, 2.5, 2.0, 2.0, 2.01]),
    ),
    run(
        "overfit",
        || validated(Made::sft().losses(&FALLING), &[3.0, 2.0, 2.5]).validations(&[(100, 2.6)]),
        || validated(Made::sft().losses(&[1.0, 2.0]), &[3.0, 2.0, 2.5]).validations(&[(100, 2.6)]),
    ),
    run(
        "overfit",
        || validated(Made::rft().rounds(30, |round| (round as f64 / 30.0, 0.3, 0)), &[-0.1, -0.6, -0.3]),
        || validated(Made::rft().rounds(30, |round| (round as f64 / 30.0, 0.3, 0)), &[-0.1, -0.3, -0.6]),
    ),
    run("start-never-bettered", || validated(Made::sft(), &[2.0, 2.1]), || validated(Made::sft(), &[2.0, 1.9])),
    run("start-never-bettered", || validated(Made::sft(), &[2.0, 2.1]), || validated(Made::sft(), &[2.0])),
    run("still-falling", || validated(Made::sft(), &[3.0, 2.5, 2.4]), || validated(Made::sft(), &[3.0, 2.5, 2.49])),
    run(
        "lora-is-flat",
        || validated(Made::sft(), &[3.0, 2.5, 2.0, 2.0, 1.99, 1.99]),
        || validated(Made::sft(), &[3.0, 2.5, 2.0, 1.9, 1.8, 1.7]),
    ),
    run(
        "lora-is-flat",
        || validated(Made::sft(), &[3.0, 2.5, 2.0, 2.0, 1.99, 1.99]),
        || validated(Made::sft().mode("full"), &[3.0, 2.5, 2.0, 2.0, 1.99, 1.99]),
    ),
    run("general-text-lost", || general_text(0.06), || general_text(0.04)),
    run("start-earns-too-little", || begun("sft_first"), || begun("worthwhile")),
    run("start-earns-nearly-all", || begun("not_needed"), || begun("worthwhile")),
    run(
        "reward-fails",
        || Made::rft().rounds(10, |round| (0.5, 0.3, usize::from(round % 2 == 0))),
        || Made::rft().rounds(10, |round| (0.5, 0.3, usize::from(round == 1))),
    ),
    run("completions-cut", || Made::rft().alarm("cut"), || Made::rft().alarm("stuck")),
    run("groups-without-a-difference", || Made::rft().alarm("stuck"), || Made::rft().alarm("cut")),
    run("reward-exploited", || Made::rft().alarm("hacking"), || Made::rft().alarm("collapse")),
    run("entropy-collapsed", || Made::rft().alarm("collapse"), || Made::rft().alarm("hacking")),
    run("policy-blew-up", || Made::rft().alarm("blow_up"), || Made::rft().alarm("collapse")),
    run(
        "reward-spread-grows",
        || Made::rft().rounds(20, |round| (round as f64, if round > 10 { 0.5 } else { 0.2 }, 0)),
        || Made::rft().rounds(20, |round| (round as f64, if round > 10 { 0.4 } else { 0.2 }, 0)),
    ),
    run("reward-plateau", || Made::rft().alarm("low_plateau"), || Made::rft().alarm("cut")),
    run(
        "reward-flat",
        || Made::rft().rounds(20, |_| (0.4, 0.3, 0)),
        || Made::rft().rounds(20, |round| (0.4 + 0.01 * round as f64, 0.3, 0)),
    ),
    run("reward-flat", || Made::rft().rounds(20, |_| (0.4, 0.3, 0)), || Made::rft().rounds(19, |_| (0.4, 0.3, 0))),
    run(
        "ended-early",
        || Made::sft().losses(&FALLING).stopped("no improvement: none was lower"),
        || Made::sft().losses(&FALLING).stopped("diverged: NaN"),
    ),
    run("unfinished", || Made::sft().unfinished(), Made::sft),
    run("floor-broken", || Made::sft().judged("not_shown", "forgot"), || Made::sft().judged("not_shown", "kept")),
    run("floor-broken", || Made::sft().judged("lost", "forgot"), || Made::sft().judged("gained", "forgot")),
    run("domain-up-general-down", || Made::sft().forgot(), || Made::sft().judged("gained", "kept")),
    run(
        "domain-up-general-down",
        || Made::sft().judged("gained", "kept").suite("facts", "multiple_choice", [-0.1, -0.2, -0.03]),
        || Made::sft().judged("gained", "kept").suite("facts", "multiple_choice", [-0.1, -0.2, -0.01]),
    ),
    run(
        "domain-up-general-down",
        || Made::sft().judged("gained", "kept").suite("facts", "multiple_choice", [-0.1, -0.2, -0.03]),
        || Made::sft().judged("not_shown", "kept").suite("facts", "multiple_choice", [-0.1, -0.2, -0.03]),
    ),
    run(
        "instructions-lost",
        || Made::sft().judged("gained", "kept").suite("asked", "instruction_following", [-0.1, -0.2, -0.01]),
        || Made::sft().judged("gained", "kept").suite("asked", "instruction_following", [-0.1, -0.2, 0.01]),
    ),
    run(
        "instructions-lost",
        || Made::sft().judged("gained", "kept").suite("asked", "instruction_following", [-0.1, -0.2, -0.01]),
        || Made::sft().judged("gained", "kept").suite("facts", "multiple_choice", [-0.1, -0.2, -0.01]),
    ),
    run("domain-lost", || Made::sft().judged("lost", "kept"), || Made::sft().judged("not_shown", "kept")),
    run("nothing-gained", || Made::sft().judged("not_shown", "kept"), || Made::sft().judged("gained", "kept")),
    run("cannot-tell", || Made::sft().judged("gained", "cannot_tell"), || Made::sft().judged("gained", "kept")),
    run(
        "full-rank-not-taken",
        || Made::sft().mode("lora_then_full").event(json!({"event": "chosen", "choice": {"taken": false}})),
        || Made::sft().mode("lora_then_full").event(json!({"event": "chosen", "choice": {"taken": true}})),
    ),
    run("all-good", || Made::sft().judged("gained", "kept"), || Made::sft().judged("gained", "cannot_tell")),
];
