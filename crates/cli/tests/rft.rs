//! Reinforcement fine-tuning through the binary: what it learns and tells, what it refuses, and that a run that was stopped ends
//! with the bytes of one that was left alone, rollouts included.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod tiny;

use serde_json::{Value, json};
use tiny::{Folder, ends, finished, lines, same, stdout};

/// Prompts that ask for a word.
fn prompts(folder: &Folder, name: &str, numbers: std::ops::Range<usize>) {
    let row = |i: usize| {
        let asked = format!("Say something about thing {i}.");
        json!({"id": format!("thing-{i}"), "messages": [{"role": "user", "content": asked}], "reference_answer": "the"})
    };
    let rows: Vec<String> = numbers.map(|i| row(i).to_string()).collect();
    std::fs::write(folder.path(name), rows.join("\n")).unwrap();
}

/// The random model earns where a letter occurs, which it does at times.
const REWARDS: &str = "rewards:
      - {name: letter, verifier: regex, pattern: '[vV]'}
      - {name: short, verifier: length, at_most: 4, slack: 4, weight: 0.1}
      - {name: digit, verifier: regex, pattern: '[0-9]', held_out: true}";

/// An adapter, then all weights against the base with two passes of two steps over each round.
fn folder() -> Folder {
    let folder = Folder::new();
    prompts(&folder, "train.jsonl", 0..20);
    prompts(&folder, "validation.jsonl", 20..26);
    let stage = |more: &str| {
        format!(
            "  - kind: rft
    train: train.jsonl
    validation: validation.jsonl
    {REWARDS}
    baseline: {{prompts: 10}}
    max_length: 96
    micro_batch_tokens: 300
    global_batch_size: 6
    eval_steps: 4
    save_steps: 1
    {more}
"
        )
    };
    let lora = stage(
        "mode: lora
    max_steps: 12
    learning_rate: 2e-2
    lora_rank: 4
    rollouts: {num_generations: 6, max_completion_length: 8, validation_generations: 2, resample_rounds: 1}",
    );
    let full = stage(
        "mode: full
    max_steps: 7
    learning_rate: 1e-3
    early_stopping_patience: 0
    policy: {loss_type: dr_grpo, beta: 0.1, kl_estimator: k1, reference: base, scale_rewards: none}
    rollouts: {num_generations: 4, max_completion_length: 8, num_iterations: 2, steps_per_pass: 2}",
    );
    folder.write_recipe(&folder.around("base", &(lora + &full)));
    folder
}

/// What a run leaves, wall times aside.
fn result(folder: &Folder, run: &str) -> Vec<(String, Vec<u8>)> {
    let mut result = folder.result_of(
        run,
        &[
            "rollouts-1.jsonl",
            "rollouts-2.jsonl",
            "checkpoints/stage-1/result/weights/adapter_model.safetensors",
            "checkpoints/stage-2/result/weights/model.safetensors",
            "judgement.json",
        ],
    );
    let metrics = result.pop().unwrap();
    let mut text = String::new();
    for line in String::from_utf8(metrics.1).unwrap().lines() {
        let mut line: Value = serde_json::from_str(line).unwrap();
        let fields = line.as_object_mut().unwrap();
        fields.retain(|name, _| !name.ends_with("_seconds"));
        text += &format!("{line}\n");
    }
    result.push((metrics.0, text.into_bytes()));
    result
}

#[test]
fn a_run_earns_more_and_tells_it() {
    let folder = folder();
    let plan = folder.temper(&["plan", &folder.recipe()]);
    ends(&plan, 0, &[]);
    for piece in [
        "stage 1 of kind rft, lora: 12 steps",
        "12 rounds of 36 completions, at most 8 tokens each, at temperature 1; 1 optimiser steps a round; at most 3,456 tokens \
         sampled, and 4 validations of 18 completions",
        "rewards: letter, short, (digit)",
        "baseline over 10 prompts with 6 completions each: mean reward",
        "the commonest answer, \"the\", given to every prompt earns 0.100",
        "worthwhile:",
        "2 rounds of 24 completions",
        "4 optimiser steps a round",
        "baseline: measured when the stage begins",
    ] {
        assert!(stdout(&plan).contains(piece), "`{piece}` is not in:\n{}", stdout(&plan));
    }
    let output = folder.temper(&["run", &folder.recipe()]);
    finished(&output);
    let metrics = lines(&folder.path("run/metrics.jsonl"));
    let of = |stage: u64, event: &str| -> Vec<&Value> {
        metrics.iter().filter(|line| line["stage"] == stage && line["event"] == event).collect()
    };
    let number = |line: &Value, key: &str| line[key].as_f64().unwrap_or_else(|| panic!("no {key} in {line}"));
    let (rounds, steps, rewards) = (of(1, "round"), of(1, "step"), of(1, "reward"));
    assert_eq!((rounds.len(), steps.len(), rewards.len()), (12, 12, 4));
    assert!(number(rewards[3], "reward") > number(rewards[0], "reward") + 0.2, "{} {}", rewards[0], rewards[3]);
    // What a validation is chosen by is the reward, and each component is told.
    assert_eq!(of(1, "validation")[0]["loss"], -number(rewards[0], "reward"));
    for name in ["letter", "short", "digit"] {
        assert!(rounds[0]["rewards"][name]["mean"].is_number(), "{}", rounds[0]);
    }
    assert_eq!(number(steps[0], "ratio"), 1.0);
    assert_eq!(number(steps[0], "kl"), 0.0, "before the first step the model is its own reference");
    assert!(number(steps[11], "kl") > 0.0);
    assert_eq!(of(1, "baseline").len(), 1);

    // Stage 2: four steps a round, of which the last three are of older samples; a round begun is not ended.
    let (rounds, steps) = (of(2, "round"), of(2, "step"));
    assert_eq!((rounds.len(), steps.len()), (2, 7));
    assert_eq!(rounds.iter().map(|round| round["step"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 5]);
    // Scored in other passes than trained in, so but for rounding.
    [0, 4].into_iter().for_each(|at| assert!((number(steps[at], "ratio") - 1.0).abs() < 1e-6, "{}", steps[at]));
    assert!((number(steps[2], "ratio") - 1.0).abs() > 1e-4, "{}", steps[2]);
    assert!(number(steps[0], "kl") > 0.0, "its reference is the base, not its start");

    // What the plan counted is what the run did: rounds, completions, tokens, validations.
    let plan = tiny::json(&folder.path("run/plan.json"));
    for stage in 1..=2 {
        let planned = &plan["stages"][stage - 1]["rounds"];
        let (rounds, validations) = (of(stage as u64, "round"), of(stage as u64, "reward"));
        assert_eq!((&planned["rounds"], &planned["validations"]), (&json!(rounds.len()), &json!(validations.len())));
        assert!(rounds.iter().all(|round| round["completions"] == planned["completions"]));
        let rollouts = lines(&folder.path(&format!("run/rollouts-{stage}.jsonl")));
        let tokens: u64 = rollouts.iter().map(|line| line["tokens"].as_u64().unwrap()).sum();
        let most = planned["sampled_tokens"].as_u64().unwrap();
        assert!(tokens <= most && most == 8 * rollouts.len() as u64, "{tokens} {most}");
        for validation in validations {
            // The likeliest of each prompt is not among the completions of a line.
            let all = validation["completions"].as_u64().unwrap() + validation["prompts"].as_u64().unwrap();
            assert_eq!(planned["validation_completions"], all);
        }
    }

    // Every completion can be read.
    let rollouts = lines(&folder.path("run/rollouts-1.jsonl"));
    assert_eq!(rollouts.len(), 12 * 36);
    // Its rewards are told of the completions that are trained on, those that replaced others among them.
    for (at, round) in of(1, "round").iter().enumerate() {
        let own = &rollouts[36 * at..36 * (at + 1)];
        let short: f64 = own.iter().map(|line| number(&line["rewards"]["short"], "score")).sum::<f64>() / 36.0;
        assert!((short - number(&round["rewards"]["short"], "mean")).abs() < 1e-9, "round {at}");
    }
    let earned: f64 = rollouts[..36].iter().map(|line| number(line, "reward")).sum::<f64>() / 36.0;
    assert!((earned - number(of(1, "round")[0], "reward")).abs() < 1e-9);
    for line in &rollouts {
        let letter = line["completion"].as_str().unwrap().contains(['v', 'V']);
        assert_eq!(number(&line["rewards"]["letter"], "score"), f64::from(u8::from(letter)), "{line}");
    }
    // Within a group the advantages sum to nothing.
    let group: f64 = rollouts[..6].iter().map(|line| number(line, "advantage")).sum();
    assert!(group.abs() < 1e-9, "{group}");
}

#[test]
fn a_run_that_is_killed_goes_on_to_the_same_bytes_rollouts_included() {
    let folder = folder();
    let alone = folder.path("alone").display().to_string();
    finished(&folder.temper(&["run", &folder.recipe(), "--output", &alone, "--no-cache"]));
    let expected = result(&folder, "alone");
    let run = folder.path("run").display().to_string();
    let recipe = folder.recipe();
    // Between two rounds, and within one: after the second of four steps with it, and after the third.
    for (arguments, stage, awaited) in [
        (["run", &recipe], 1, "step-000003"),
        (["resume", &run], 2, "step-000002"),
        (["resume", &run], 2, "step-000003"),
    ] {
        folder.kill_at(&[&arguments[..], &["--no-cache"]].concat(), stage, awaited);
    }
    finished(&folder.temper(&["resume", &run, "--no-cache"]));
    same(&expected, &result(&folder, "run"));
}

#[test]
fn a_start_that_cannot_learn_or_need_not_is_refused_unless_the_recipe_says_otherwise() {
    let folder = folder();
    let text = std::fs::read_to_string(folder.path("recipe.yaml")).unwrap();
    for (pattern, verdict, hint) in [
        ("zzqqzz", "0.0 % of the completions earn something: too few to learn from", "`kind: sft` before it"),
        (".", "% of the completions are solved already", "take harder prompts"),
    ] {
        let never =
            text.replace("'[vV]'", &format!("'{pattern}'")).replace(", weight: 0.1", ", weight: 0, gate: false");
        folder.write_recipe(&never);
        let output = folder.temper(&["run", &folder.recipe(), "--overwrite"]);
        ends(&output, 4, &["stages.0: reinforcement is not worth it from here", verdict, hint, "gate: warn"]);
    }
    let output = folder.temper(&[
        "run",
        &folder.recipe(),
        "--overwrite",
        "--set",
        "stages.0.baseline.gate=warn",
        "--set",
        "stages.1.baseline.gate=warn",
    ]);
    finished(&output);
}

#[test]
fn what_cannot_be_trained_on_or_has_no_effect_is_refused() {
    let folder = folder();
    let text = std::fs::read_to_string(folder.path("recipe.yaml")).unwrap();
    let refused = |text: &str, pieces: &[&str]| {
        folder.write_recipe(text);
        ends(&folder.temper(&["plan", &folder.recipe()]), 2, pieces);
    };
    let answers = tiny::root().join("data/tests/tiny_train.jsonl").display().to_string();
    refused(
        &text.replace("train: train.jsonl", &format!("train: {answers}")),
        &["it holds messages, not prompts", "`reference_answer`"],
    );
    refused(
        &text.replacen("max_completion_length: 8", "max_completion_length: 96", 1),
        &["leaves no room for a prompt"],
    );
    refused(&text.replacen("num_generations: 6", "num_generations: 1", 1), &["num_generations", "from 2 to 1024"]);
    refused(&text.replacen("num_generations: 6", "num_generations: 6, top_k: 1", 1), &["nothing is learnt"]);
    refused(&text.replacen("lora_rank: 4", "lora_rank: 4\n    lora_dropout: 0.1", 1), &["lora_dropout", "kind: rft"]);
    refused(&text.replacen(REWARDS, "", 1), &["nothing says what a completion earns"]);
    let first = text.replacen("kind: rft", "kind: sft", 1);
    refused(
        &first,
        &["`stages.0.rewards` has no effect with kind: sft", "`stages.0.rollouts` has no effect with kind: sft"],
    );
    let rows = std::fs::read_to_string(folder.path("train.jsonl")).unwrap();
    std::fs::write(folder.path("train.jsonl"), rows.replace("\"user\"", "\"assistant\"")).unwrap();
    refused(&text, &["train.jsonl", "the prompt ends with an assistant turn"]);
}

/// Answers first, then the adapter alone, and a domain that the same rewards judge.
fn after_answers() -> Folder {
    let folder = folder();
    prompts(&folder, "test.jsonl", 26..40);
    let text = std::fs::read_to_string(folder.path("recipe.yaml")).unwrap();
    let sft = format!(
        "stages:\n  - kind: sft\n    train: {}/data/tests/tiny_train.jsonl\n    max_length: 256\n    max_steps: 2\n    learning_rate: 1e-3\n",
        tiny::root().display()
    );
    let text = text.replacen("stages:\n", &sft, 1).replacen(
        "evaluation:\n",
        &format!(
            "evaluation:\n  domain:\n    task: reward\n    validation: validation.jsonl\n    test: test.jsonl\n    max_new_tokens: 8\n    {REWARDS}\n"
        ),
        1,
    );
    let (first, second) = text.rsplit_once("  - kind: rft").unwrap();
    let (_, evaluation) = second.split_once("evaluation:").unwrap();
    folder.write_recipe(&format!("{first}evaluation:{evaluation}"));
    folder
}

/// The recipe with some of its stages left out: the rewards of the evaluation are its own, so that every arm is judged.
#[test]
fn arms_show_what_each_stage_brings() {
    let folder = after_answers();
    // A folder that is set takes the place of the recipe's, as in a run.
    let text = std::fs::read_to_string(folder.path("recipe.yaml")).unwrap();
    let run = folder.path("run").display().to_string();
    folder.write_recipe(&text.replacen(&format!("output: {run}"), "output: elsewhere", 1));
    let output = folder.temper(&["arms", &folder.recipe(), "--set", &format!("output={run}")]);
    ends(&output, 0, &[]);
    let table = stdout(&output);
    for piece in
        ["each arm beside the base", "domain reward", "sft+rft beside sft: domain accuracy", "sft+rft beside rft:"]
    {
        assert!(table.contains(piece), "`{piece}` is not in:\n{table}");
    }
    let arms = tiny::json(&folder.path("run-arms/arms.json"));
    let of = |arm: usize| arms["arms"][arm]["name"].as_str().unwrap();
    assert_eq!([of(0), of(1), of(2)], ["sft", "rft", "sft+rft"]);
    // Twelve rounds of 36 completions, each counted by its tokens.
    let rollouts = lines(&folder.path("run-arms/rft/rollouts-1.jsonl"));
    let sampled: u64 = rollouts.iter().map(|line| line["tokens"].as_u64().unwrap()).sum();
    assert_eq!(arms["arms"][1]["sampled_tokens"], sampled);
    assert_eq!(arms["arms"][0]["sampled_tokens"], 0);
    // Each pair once, and which stage it adds.
    let pairs = arms["differences"].as_array().unwrap();
    let pair = |pair: &Value| (pair["of"].clone(), pair["beside"].clone(), pair["adds"].clone());
    let expected = [("rft", "sft", Value::Null), ("sft+rft", "sft", json!(1)), ("sft+rft", "rft", json!(0))];
    let expected = expected.map(|(of, beside, adds)| (json!(of), json!(beside), adds));
    assert_eq!(pairs.iter().map(pair).collect::<Vec<_>>(), expected);
    let page = std::fs::read_to_string(folder.path("run-arms/arms.html")).unwrap().replace("&#x2f;", "/");
    for arm in ["sft", "rft", "sft+rft"] {
        assert!(page.contains(&format!("<a href=\"{arm}/report.html\">report</a>")), "{arm}");
        assert!(folder.path(&format!("run-arms/{arm}/report.html")).is_file(), "{arm}");
    }
    assert!(page.contains("domain accuracy against heldout relative loss"), "{page}");
    // What is judged is what each answer earned.
    let items = lines(&folder.path("run-arms/sft+rft/judgement_items.jsonl"));
    let domain: Vec<&Value> = items.iter().filter(|item| item["suite"] == "domain").collect();
    assert_eq!(domain.len(), 14);
    for item in domain {
        let letter = item["tuned"]["written"].as_str().unwrap().contains(['v', 'V']);
        assert_eq!(item["tuned"]["reward"].as_f64().unwrap() >= 1.0, letter, "{item}");
    }
    let refused = folder.temper(&["arms", &folder.recipe(), "--arms", "dpo+sft"]);
    ends(&refused, 2, &["--arms dpo+sft: there is no stage `dpo`", "the recipe's stages are sft, rft"]);
    let refused = folder.temper(&["arms", &folder.recipe(), "--arms", "rft+sft"]);
    ends(&refused, 2, &["stages stay in the recipe's order"]);
}

/// A trial of rewards asks the model that the stage starts from, where it is at hand, and says whom it asked.
#[test]
fn rewards_are_tried_on_what_the_stage_starts_from() {
    let folder = after_answers();
    let recipe = folder.recipe();
    let strong = ["--set", "stages.0.learning_rate=2e-2", "--set", "stages.0.max_steps=6"];
    let tried = |more: &[&str]| -> Value {
        let output =
            folder.temper(&[&["reward", "test", &recipe, "--json", "--sample", "6"], &strong[..], more].concat());
        assert!(matches!(output.status.code(), Some(0 | 4)), "{}", tiny::stderr(&output));
        serde_json::from_str(&stdout(&output)).unwrap()
    };
    let scores = |found: &Value| -> Vec<Value> {
        found["table"].as_array().unwrap().iter().map(|line| line["completions"].clone()).collect()
    };
    let base = tried(&[]);
    assert_eq!(base["completions_by"], "the base");
    let warning = base["warning"].as_str().unwrap();
    for piece in ["the completions are the base's", "stage 1 of this recipe is finished neither in", "(--run)"] {
        assert!(warning.contains(piece), "`{piece}` is not in {warning}");
    }
    // The first stage alone, in another folder: the cache keeps it.
    let sft = folder.path("sft").display().to_string();
    finished(&folder.temper(&[&["run", &recipe, "--output", &sft, "--set", "stages.1="], &strong[..]].concat()));
    let cached = tried(&[]);
    assert_eq!(
        (&cached["completions_by"], &cached["warning"]),
        (&json!("the start of stage 2, from the cache"), &Value::Null)
    );
    assert_ne!(scores(&cached), scores(&base), "answers are trained in between");
    let of_run = tried(&["--run", &sft]);
    assert_eq!(of_run["completions_by"], format!("the start of stage 2 in {sft}"));
    assert_eq!(scores(&of_run), scores(&cached));
    let adapter = folder.path("sft/adapter").display().to_string();
    let of_adapter = tried(&["--adapter", &adapter]);
    assert_eq!(of_adapter["completions_by"], format!("the base with the adapter {adapter}"));
    assert_ne!(scores(&of_adapter), scores(&base));
    // The recipe's own run comes before the cache.
    finished(&folder.temper(&[&["run", &recipe], &strong[..]].concat()));
    let own = tried(&[]);
    assert_eq!(own["completions_by"], format!("the start of stage 2 in {}", folder.path("run").display()));
    assert_eq!(scores(&own), scores(&cached));
    let refused = |more: &[&str], pieces: &[&str]| {
        ends(&folder.temper(&[&["reward", "test", &recipe], more].concat()), 2, pieces);
    };
    refused(&["--run", &sft], &["its stage 1 is not this recipe's", "--adapter takes any"]);
    refused(&["--run", &folder.path("base").display().to_string()], &["it holds no run", "`temper run` wrote"]);
    refused(&["--run", &sft, "--set", "stages.0="], &["starts from the base in every run", "leave --run out"]);
    refused(&["--run", &sft, "--adapter", &adapter], &["cannot be used with"]);
    let program = tiny::root().join("recipes/rewards/equation.py").display().to_string();
    ends(&folder.temper(&["reward", "test", &program, "--run", &sft]), 2, &["names no base", "give a recipe"]);
}

/// General rows beside the rounds: they are drawn and counted as in any stage, their loss falls, and a run that was killed within a
/// round goes on to the same bytes.
#[test]
fn general_rows_are_trained_beside_the_rounds() {
    let folder = folder();
    let text = std::fs::read_to_string(folder.path("recipe.yaml")).unwrap();
    let (first, second) = text.split_once("  - kind: rft").unwrap();
    let (_, second) = second.split_once("  - kind: rft").unwrap();
    // The second stage alone: two passes of two steps over each round.
    let tiny = tiny::root().join("data/tests").display().to_string();
    let mix = format!(
        "mix: {{unit: samples, domain: 60, general: [{{name: prose, path: {tiny}/tiny_prose.jsonl, share: 100, loss_weight: 0.5}}]}}\n    "
    );
    let mixed = |mix: &str| {
        let stage = second.replacen("baseline:", &format!("{mix}baseline:"), 1).replacen(
            "global_batch_size: 6",
            "global_batch_size: 10",
            1,
        );
        format!("{first}  - kind: rft{stage}").replacen("max_length: 96", "max_length: 256", 1)
    };
    folder.write_recipe(&mixed(&mix));
    let alone = folder.path("alone").display().to_string();
    finished(&folder.temper(&["run", &folder.recipe(), "--output", &alone, "--no-cache"]));
    let plan = tiny::json(&folder.path("alone/plan.json"));
    let stage = &plan["stages"][0];
    // Of 10 rows of a round 6 are prompts.
    assert_eq!((&stage["rounds"]["rounds"], &stage["rounds"]["completions"]), (&json!(2), &json!(24)));
    let drawn = stage["shares"]["sources"].as_array().unwrap();
    assert_eq!(drawn.iter().map(|s| s["drawn"]["samples"].as_u64().unwrap()).collect::<Vec<_>>(), [12, 8]);
    let metrics = lines(&folder.path("alone/metrics.jsonl"));
    let of = |event: &str| metrics.iter().filter(|line| line["event"] == event).collect::<Vec<_>>();
    assert!(of("round").iter().all(|round| round["completions"] == 24 && round["prompts"] == 6));
    for step in of("step") {
        let losses = step["loss_by_source"].as_array().unwrap();
        let (policy, prose) = (losses[0].as_f64().unwrap(), losses[1].as_f64().unwrap());
        let whole = step["loss"].as_f64().unwrap();
        assert!(prose > 1.0 && (whole - policy - 0.5 * prose).abs() < 1e-6, "{step}");
    }
    // The same round is trained a second time: its rows are known by then.
    let prose = |step: usize| of("step")[step]["loss_by_source"][1].as_f64().unwrap();
    assert!(prose(2) < prose(0) && prose(3) < prose(1), "{} {}", prose(2), prose(0));
    let rows: Vec<u64> = of("step").iter().map(|step| step["trained_tokens"].as_u64().unwrap()).collect();
    assert_eq!((rows[0], rows[1]), (rows[2], rows[3]));

    let files = ["rollouts-1.jsonl", "checkpoints/stage-1/result/weights/model.safetensors", "judgement.json"];
    let run = folder.path("run").display().to_string();
    folder.kill_at(&["run", &folder.recipe(), "--no-cache"], 1, "step-000002");
    finished(&folder.temper(&["resume", &run, "--no-cache"]));
    let weights = |run: &str| folder.result_of(run, &files)[..files.len()].to_vec();
    same(&weights("alone"), &weights("run"));

    // A share of tokens cannot be kept to: nobody knows before how long completions become.
    folder.write_recipe(&mixed(&mix.replace("samples", "trained_tokens")));
    ends(
        &folder.temper(&["plan", &folder.recipe()]),
        2,
        &["`stages.0.mix.unit` is trained_tokens", "write unit: samples"],
    );
}

/// A search over fields of rollouts and policy, by the reward; and rewards whose test finds errors are refused before it begins.
#[test]
fn a_search_goes_by_the_reward_and_refuses_one_that_is_wrong() {
    let folder = folder();
    let text = std::fs::read_to_string(folder.path("recipe.yaml")).unwrap();
    let (first, second) = text.rsplit_once("  - kind: rft").unwrap();
    let (_, evaluation) = second.split_once("evaluation:").unwrap();
    let one = format!("{first}evaluation:{evaluation}")
        .replace("max_steps: 12", "max_steps: 4")
        .replace("eval_steps: 4", "eval_steps: 2");
    // A reference that the rewards think right.
    for file in ["train.jsonl", "validation.jsonl"] {
        let rows = std::fs::read_to_string(folder.path(file)).unwrap();
        std::fs::write(folder.path(file), rows.replace("\"the\"", "\"v\"")).unwrap();
    }
    let tune = "tune:
  space:
    stages.0.learning_rate: {low: 1e-3, high: 5e-2, log: true}
    stages.0.rollouts.temperature: {low: 0.7, high: 1.3}
    stages.0.policy.beta: [0, 0.01]
  objectives: {reward: maximize, kl: minimize}
  trials: 3
  early_stopping: off
";
    folder.write_recipe(&format!("{one}{tune}"));
    let output = folder.temper(&["tune", &folder.recipe(), "--json"]);
    ends(&output, 0, &[]);
    let answer: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let text = answer.to_string();
    for piece in ["stages.0.rollouts.temperature", "stages.0.policy.beta", "\"reward\"", "\"kl\""] {
        assert!(text.contains(piece), "`{piece}` is not in {text}");
    }
    // Left out, the objective is what the validation prompts earn; a loss of rows is not measured there.
    let objectives = "  objectives: {reward: maximize, kl: minimize}\n";
    folder.write_recipe(&format!("{one}{tune}").replace(objectives, ""));
    let study = folder.path("default.sqlite").display().to_string();
    let planned = folder.temper(&["tune", &folder.recipe(), "--plan", "--study", &study]);
    ends(&planned, 0, &[]);
    assert!(stdout(&planned).contains("reward (maximize)"), "{}", stdout(&planned));
    folder.write_recipe(&format!("{one}{tune}").replace(objectives, "  objectives: {validation_loss: minimize}\n"));
    ends(
        &folder.temper(&["tune", &folder.recipe(), "--plan"]),
        2,
        &["`validation_loss` is not measured", "measured here: reward, greedy_reward"],
    );
    // A reward that gives everything 1 tells right from wrong nowhere.
    let blind =
        format!("{one}{tune}").replace("pattern: '[vV]'", "pattern: '(?s).*'").replace("weight: 0.1", "weight: 0");
    folder.write_recipe(&blind);
    let output =
        folder.temper(&["tune", &folder.recipe(), "--study", &folder.path("other.sqlite").display().to_string()]);
    ends(&output, 2, &["stages.0.rewards: the test of the rewards finds errors", "`temper reward test`"]);
}
