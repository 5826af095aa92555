//! The page, the card and the lines of a run whose second stage reinforces: rewards in place of losses, alarms, completions.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use serde_json::{Value, json};
use temper_report::RunFolder;

const HOSTILE: &str = "<script>alert(1)</script> & </td></table> {{ 7*7 }}";

/// A run of two steps with answers and of three with rewards, as `temper run` left it, but shorter.
struct Run(tempfile::TempDir);

impl Run {
    fn new() -> Self {
        let run = Self(tempfile::tempdir().unwrap());
        run.write("plan.json", &plan(&["sft", "rft"]).to_string());
        run.write_lines("metrics.jsonl", &[sft(), rft(2)].concat());
        run.write_lines("events.jsonl", &[json!({"event": "stage", "index": 1, "of": 2, "kind": "rft", "steps": 3})]);
        run.write_lines("rollouts-2.jsonl", &rollouts(true));
        run.write("summary.json", r#"{"folder": "runs/x", "stages": [], "comparison": null, "seconds": 25.0}"#);
        run
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, content: &str) {
        std::fs::write(self.path().join(name), content).unwrap();
    }

    fn write_lines(&self, name: &str, lines: &[Value]) {
        self.write(name, &lines.iter().map(|line| format!("{line}\n")).collect::<String>());
    }

    fn read(&self) -> RunFolder {
        RunFolder::read(self.path()).unwrap()
    }

    fn page(&self, texts: bool) -> String {
        self.read().report(texts).unwrap()
    }

    /// The part of the page on stages that reinforce.
    fn section(&self, texts: bool) -> String {
        let page = self.page(texts);
        let start = page.find("<section id=\"rft\"").unwrap();
        page[start..].split("</section>").next().unwrap().to_owned()
    }
}

fn plan(kinds: &[&str]) -> Value {
    let units = json!({"samples": 1.0, "processed_tokens": 1.0, "trained_tokens": 0.0});
    let drawn = json!({"samples": 6, "processed_tokens": 264, "trained_tokens": 0});
    let stage = |kind: &&str| {
        let steps = if *kind == "rft" { 3 } else { 2 };
        json!({"kind": kind, "steps": steps, "trained_parameters": 100, "files": [],
               "shares": {"unit": "trained_tokens", "sources": [{"name": "domain", "planned": units, "actual": units,
                          "drawn": drawn, "epochs": 1.0, "repeated": 0}]},
               "fit": {}, "learning_rates": [], "estimate": {"memory_bytes": 1024, "seconds": 10.0}})
    };
    let at = kinds.iter().position(|kind| *kind == "rft").unwrap();
    let setting = |field: &str, value: Value| json!({"path": format!("stages.{at}.{field}"), "value": value, "source": {"from": "recipe", "line": 4, "column": 9}});
    json!({
        "name": "sums",
        "settings": [
            setting("rewards.0.name", json!("right")), setting("rewards.0.held_out", json!(false)),
            setting("rewards.1.name", json!("short")), setting("rewards.1.held_out", json!(false)),
            setting("rewards.2.name", json!("taste")), setting("rewards.2.held_out", json!(true)),
            setting("rollouts.max_completion_length", json!(12)),
        ],
        "base": {"description": "model", "sha256s": [], "licence": null, "precision": "f32", "parameters": 1000},
        "device": "cpu",
        "provenance": {"temper": "0.1.0", "system": "linux on x86_64", "invocation": null, "no_samples": false},
        "stages": kinds.iter().map(stage).collect::<Vec<_>>(),
    })
}

fn sft() -> Vec<Value> {
    let step = |step: usize, loss: f64| json!({"stage": 1, "event": "step", "step": step, "loss": loss, "loss_by_source": [loss]});
    vec![json!({"stage": 1, "event": "validation", "step": 0, "loss": 4.0, "best": true}), step(1, 3.0), step(2, 2.5)]
}

/// The lines of a stage of three rounds, of the stage of this number.
fn rft(stage: usize) -> Vec<Value> {
    let part = |mean: f64, failed: u64| json!({"mean": mean, "abstained": 1, "failed": failed});
    let parts =
        |right: f64, failed: u64| json!({"right": part(right, failed), "short": part(0.99, 0), "taste": part(0.5, 0)});
    let round = |step: usize, reward: f64, failed: u64| {
        json!({"stage": stage, "event": "round", "step": step, "round": step, "prompts": 2, "completions": 8, "reward": reward,
               "reward_std": 0.25, "unscored": failed, "completion_length": 2.5, "shortest": 2, "longest": 12, "cut": 0.125,
               "rewards": parts(reward, failed), "zero_variance": 0.5, "resampled": 1, "advantage": 0.6,
               "generation_seconds": 1.5, "reward_seconds": 0.5, "reward_ceiling": 0.875})
    };
    let step = |step: usize, entropy: f64| {
        json!({"stage": stage, "event": "step", "step": step, "loss": 0.0478, "loss_by_source": [0.0478], "learning_rate": 2e-4,
               "gradient_norm": 1.5, "processed_tokens": 100, "trained_tokens": 40, "seconds": 1.0, "completions": 8,
               "kl": 0.01, "entropy": entropy, "ratio": 1.0, "clip_low": 0.0, "clip_high": 0.03125})
    };
    let reward = |step: usize, sampled: f64, likeliest: f64| {
        json!({"stage": stage, "event": "reward", "step": step, "prompts": 30, "greedy_reward": likeliest,
               "greedy_solved": likeliest, "completions": 60, "reward": sampled, "reward_std": 0.5, "unscored": 0,
               "completion_length": 2.5, "shortest": 2, "longest": 12, "cut": 0.0, "rewards": parts(sampled, 0),
               "pass_at": {"1": sampled, "2": sampled + 0.1}})
    };
    let validation = |step: usize, reward: f64, best: bool| json!({"stage": stage, "event": "validation", "step": step, "loss": -reward, "best": best});
    vec![
        json!({"stage": stage, "event": "baseline", "step": 0, "prompts": 70, "generations": 8, "reward": 0.524, "positive": 0.998,
               "solved": 0.425, "pass_at": {"1": 0.425, "8": 0.8286}, "mixed": 0.8, "cut": 0.005, "completion_length": 2.64,
               "majority": [null, 0.214], "verdict": "worthwhile"}),
        reward(0, 0.524, 0.633),
        validation(0, 0.524, true),
        round(1, 0.427, 0),
        step(1, 0.8),
        round(2, 0.56, 2),
        step(2, 0.6),
        reward(2, 0.641, 0.567),
        validation(2, 0.641, true),
        round(3, 0.724, 0),
        step(3, 0.4),
        reward(3, 0.6, 0.633),
        validation(3, 0.6, false),
    ]
}

/// Two prompts of four completions in each of three rounds.
fn rollouts(texts: bool) -> Vec<Value> {
    let mut lines = Vec::new();
    for (round, prompt, sample) in (1..=3).flat_map(|r| (0..2).flat_map(move |p| (0..4).map(move |s| (r, p, s)))) {
        let right = f64::from(u8::from(sample % 2 == 1));
        let taste =
            if sample == 2 { json!({"failed": {"kind": "timeout", "message": HOSTILE}}) } else { json!("abstained") };
        let mut line = json!({"stage": 2, "round": round, "step": round, "prompt_id": format!("p{prompt}"), "sample": sample,
            "tokens": 3, "cut": sample == 0, "reward": right + 0.1, "advantage": right - 0.5,
            "rewards": {"right": {"score": right}, "short": {"score": 1.0}, "taste": taste}});
        if texts {
            line["prompt"] = json!(format!("{HOSTILE} asked in round {round}"));
            line["completion"] = json!(if sample == 0 { "long ".repeat(200) } else { format!("{HOSTILE} {right}") });
        }
        lines.push(line);
    }
    lines
}

#[test]
fn rewards_stand_where_other_stages_have_losses() {
    let section = Run::new().section(true);
    for piece in [
        "<h3>Stage 2, rft</h3>",
        "Training reward, 3 rounds: 0.427 in the first round, 0.724 in the last.",
        "Validation reward over 30 prompts: 0.524 before training, 0.641 at step 2 (+0.117), the highest. In the same \
         validations: likeliest completions 0.633 to 0.567, pass@1 52.4 % to 64.1 %, pass@2 62.4 % to 74.1 %.",
        "<span class=\"tag good\">worthwhile</span> Before training, over 70 prompts with 8 completions each: mean reward 0.524; \
         99.8 % of the completions earn something and 42.5 % are solved (pass@1 42.5 %, pass@8 82.9 %); 80.0 % of the groups \
         are mixed",
        "The commonest reference answer, given to every prompt, would earn 0.214.",
        "<strong>Reward</strong> <span class=\"unit\">mean of a round; shaded: one standard deviation",
        "<path class=\"band c0\" d=\"M",
        "<strong>Rewards by name</strong>",
        "<line class=\"c2 dashed\" x1=\"0\" y1=\"5\" x2=\"22\" y2=\"5\"/></svg>taste (held out)</li>",
        "<path class=\"c2 dashed\"",
        "<strong>Validation reward</strong> <span class=\"unit\">mean over 30 prompts</span>",
        "0.524 before training; the highest was 0.641 at step 2 (+0.117).",
        "<title>step 2: 0.641</title>",
        "<strong>pass@k on validation prompts</strong>",
        "<strong>Entropy</strong>",
        "<strong>Reward and its ceiling</strong>",
        "0.875 is left when the entropy is gone.",
        "<strong>Divergence from the reference</strong>",
        "At most 3.1 % of a step&#x27;s tokens on one side.",
        "<strong>Gradient norm</strong>",
        "<strong>Completion length</strong>",
        "2.5 in the first round, 2.5 in the last; cut at 12.",
        "In the last round 50.0 % and 12.5 %.",
        "<strong>Reward errors</strong>",
        "In all rounds: right 2.",
        "Over 24 completions rewards failed 2 times and abstained 9 times; 2 completions were left without a reward",
        "3 groups were sampled to replace some",
        "Sampling took 5 s, the rewards 2 s.",
        "optimiser step of this stage",
    ] {
        assert!(section.contains(piece), "`{piece}` is not in:\n{section}");
    }
    // The best of the validation has the large dot, and one only.
    assert_eq!(section.matches("best\" cx=\"66.67%\"").count(), 1);
    assert_eq!(section.matches(" best\" cx").count(), 1);
}

#[test]
fn no_loss_of_a_reward_is_anywhere() {
    let run = Run::new();
    let page = run.page(true);
    // The losses are those of the stage before.
    assert!(page.contains("The minimised loss went from 3.000 at step 1 to 2.500 at step 2."), "{page}");
    assert!(page.contains("4.000 before training; the lowest was 4.000 at step 0"));
    assert_eq!(page.matches("<strong>Gradient norm</strong>").count(), 1, "none was told in the first stage");
    run.write("plan.json", &plan(&["rft"]).to_string());
    run.write_lines("metrics.jsonl", &rft(1));
    std::fs::rename(run.path().join("rollouts-2.jsonl"), run.path().join("rollouts-1.jsonl")).unwrap();
    let page = run.page(true);
    for absent in [
        "Train loss",
        "Validation loss",
        "\u{2212}0.524",
        "-0.524",
        "\u{2212}0.641",
        "0.048",
        "Stage 1, rft</h3>\n  <p>",
    ] {
        assert!(!page.contains(absent), "`{absent}` in:\n{page}");
    }
    assert!(page.contains("only losses and rewards of the training are known") && page.contains("Learning rate"));
    // A run without such a stage has no such section.
    run.write("plan.json", &plan(&["rft"]).to_string().replace("\"kind\":\"rft\"", "\"kind\":\"sft\""));
    assert!(!run.page(true).contains("id=\"rft\""));
}

#[test]
fn alarms_appear_where_they_fired_and_not_otherwise() {
    let run = Run::new();
    let calm = run.page(true);
    assert!(calm.contains("No alarm was given. That says little of 3 rounds"), "{calm}");
    assert!(!calm.contains("class=\"alarm\"") && !calm.contains("Alarm of stage"));
    assert!(!run.read().reward_lines().iter().any(|line| line.contains("alarm")));
    let alarm = |step: usize| json!({"event": "alarm", "stage": 1, "step": step, "alarm": "cut", "seen": "half are cut", "advice": "raise it, or set overlong_buffer"});
    // A run that was stopped and went on gives it again.
    run.write_lines("events.jsonl", &[alarm(2), json!({"event": "resumed", "stage": 1, "step": 1}), alarm(2)]);
    let page = run.page(true);
    assert!(
        page.contains("Alarm of stage 2 after step 2: half are cut. What to do stands under Reinforcement."),
        "{page}"
    );
    let row = "<tr><td class=\"num\">2</td><th scope=\"row\"><span class=\"tag unsure\">alarm</span> half are cut</th>\
               <td>raise it, or set overlong_buffer</td></tr>";
    assert_eq!(page.matches(row).count(), 1);
    assert!(page.contains("<line class=\"alarm\" x1=\"66.67%\"") && !page.contains("No alarm was given"));
    let lines = run.read().reward_lines();
    assert!(lines.contains(&"  alarm after step 2: half are cut".to_owned()), "{lines:?}");
    assert!(lines.contains(&"  hint: raise it, or set overlong_buffer".to_owned()), "{lines:?}");
}

#[test]
fn completions_are_shown_of_both_ends_best_first_and_escaped() {
    let section = Run::new().section(true);
    for piece in [
        "<h4>Round 1, step 1 <span class=\"count\">prompts: 2</span></h4>",
        "<h4>Round 3, step 3 <span class=\"count\">prompts: 2</span></h4>",
        "p0, 4 completions",
        "&lt;script&gt;alert(1)&lt;&#x2f;script&gt; &amp; &lt;&#x2f;td&gt;&lt;&#x2f;table&gt; {{ 7*7 }} asked in round 3",
        "<tr><td class=\"num\">2 ×</td><td><span class=\"tag good\">best</span></td>",
        "<td class=\"num\">1.1</td><td class=\"muted\">right 1, short 1, taste abstained</td><td class=\"num\">+0.500</td><td class=\"num\">3</td>",
        "right 0, short 1, taste failed (timeout)",
        " characters]",
        "<td class=\"num\">\u{2212}0.500</td><td class=\"num\">3, cut</td>",
    ] {
        assert!(section.contains(piece), "`{piece}` is not in:\n{section}");
    }
    assert!(!section.contains("asked in round 2") && !section.contains("<script"));
    for tag in ["section", "table", "tr", "td", "div", "figure", "svg", "ul", "p", "span", "h4"] {
        let opened = section.matches(&format!("<{tag} ")).count() + section.matches(&format!("<{tag}>")).count();
        // The end of the section was cut off.
        let closed = section.matches(&format!("</{tag}>")).count() + usize::from(tag == "section");
        assert_eq!(opened, closed, "{tag}");
    }
}

#[test]
fn without_texts_there_are_numbers_only() {
    let run = Run::new();
    let all = run.section(true);
    let without = run.section(false);
    for text in ["alert(1)", "asked in", "long long", "completion</th>"] {
        assert!(all.contains(text) && !without.contains(text), "{text}");
    }
    // A run that kept none has none to show, whatever is asked for.
    run.write_lines("rollouts-2.jsonl", &rollouts(false));
    let kept_none = run.section(true);
    for section in [without, kept_none] {
        assert!(
            section.contains("Texts are left out of this report.") && section.contains("p0, 4 completions"),
            "{section}"
        );
        assert!(section.contains("<td class=\"num\">2 ×</td>") && section.contains("taste failed (timeout)"));
    }
}

#[test]
fn what_is_not_there_is_said() {
    let run = Run::new();
    std::fs::remove_file(run.path().join("rollouts-2.jsonl")).unwrap();
    assert!(run.section(true).contains("The run folder has no completions of this stage."));
    // Taken from the cache: alarms and completions lie elsewhere, and no alarm here says nothing.
    run.write_lines("events.jsonl", &[json!({"event": "reused", "stage": 1, "key": "k", "from": "/cache/stages"})]);
    let section = run.section(true);
    assert!(
        section.contains("its completions lie with the run that made it") && !section.contains("No alarm"),
        "{section}"
    );
    // Refused at the gate.
    let mut refused = rft(2)[0].clone();
    refused["verdict"] = json!("sft_first");
    run.write_lines("metrics.jsonl", &[sft(), vec![refused]].concat());
    run.write("events.jsonl", "");
    let section = run.section(true);
    for piece in [
        "No round has been sampled.",
        "<span class=\"tag bad\">supervised training first</span>",
        "train with demonstrations first",
    ] {
        assert!(section.contains(piece), "`{piece}` is not in:\n{section}");
    }
    assert!(!section.contains("<figure") && !section.contains("No alarm"));
    // A start that cannot be scored, and no validation.
    let nothing: Vec<Value> =
        rft(2).into_iter().filter(|line| line["event"] != "reward" && line["event"] != "validation").collect();
    run.write_lines("metrics.jsonl", &nothing);
    let section = run.section(true);
    assert!(!section.contains("Validation reward") && section.contains("<strong>Reward</strong>"), "{section}");
}

#[test]
fn card_and_terminal_speak_of_rewards() {
    let run = Run::new();
    std::fs::create_dir(run.path().join("merged")).unwrap();
    run.read().write_cards().unwrap();
    let card = std::fs::read_to_string(run.path().join("merged/README.md")).unwrap();
    for piece in [
        "trained by sft then rft (5 steps)",
        "| domain | 6 | prompts alone | unknown |",
        "\n\nReinforced in stage 2 by the rewards right, short, (taste). Validation reward over 30 prompts: 0.524 before training, \
         0.641 at step 2 (+0.117), the highest.",
        "- A reward is what its verifier or program gives",
    ] {
        assert!(card.contains(piece), "`{piece}` is not in:\n{card}");
    }
    assert!(!card.contains("\u{2212}0.5"), "{card}");
    let lines = run.read().reward_lines();
    assert!(lines.iter().all(|line| line.is_ascii()), "{lines:?}");
    assert_eq!(lines[0], "stage 2, rft");
    assert!(lines[1].starts_with("  baseline: worthwhile. Before training, over 70 prompts"), "{lines:?}");
    assert_eq!(lines[2], "  Training reward, 3 rounds: 0.427 in the first round, 0.724 in the last.");
    assert!(
        lines[3].starts_with("  Validation reward over 30 prompts: 0.524 before training, 0.641 at step 2"),
        "{lines:?}"
    );
    // Where no validation was above the start, that is said.
    let mut worse = rft(2);
    let last = worse.iter_mut().rev().find(|line| line["event"] == "reward").unwrap();
    last["reward"] = json!(0.5);
    worse.retain(|line| line["event"] != "reward" || line["step"] != 2);
    run.write_lines("metrics.jsonl", &worse);
    let text = run.read().reward_lines().join("\n");
    assert!(text.contains("Validation reward over 30 prompts: 0.524 before training, and never above that."), "{text}");
    worse.retain(|line| line["event"] != "reward" || line["step"] == 0);
    run.write_lines("metrics.jsonl", &worse);
    let text = run.read().reward_lines().join("\n");
    assert!(
        text.contains("Validation reward over 30 prompts: 0.524 before training.") && !text.contains("never"),
        "{text}"
    );
}
