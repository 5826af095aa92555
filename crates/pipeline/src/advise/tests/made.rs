//! Plans and runs that were never made.

use serde_json::{Value, json};

use super::super::signals::{self, Planned};
use super::super::{Advised, of_planned, of_ran};

/// A plan, and what a run of it wrote.
pub struct Made {
    pub plan: Value,
    metrics: Vec<Value>,
    events: Vec<Value>,
    judgement: Option<Value>,
    finished: bool,
}

/// A source of which so many rows are there, each seen so often, ten tokens each.
pub fn share(name: &str, rows: f64, epochs: f64) -> Value {
    let samples = rows * epochs;
    json!({"name": name, "drawn": {"samples": samples, "processed_tokens": 10.0 * samples}, "epochs": epochs})
}

/// A start by its verdict.
pub fn baseline(verdict: &str, cut: f64, majority: Value) -> Value {
    json!({"prompts": 100, "generations": 8, "reward": 0.4, "positive": 0.5, "solved": 0.3, "pass_at": {}, "mixed": 0.5,
           "cut": cut, "completion_length": 20.0, "majority": majority, "verdict": verdict})
}

impl Made {
    fn new(kind: &str, settings: &[(&str, Value)], shares: Value) -> Self {
        let given =
            |path: &str, value: &Value, from: &str| json!({"path": path, "value": value, "source": {"from": from}});
        let mut all = vec![
            given("name", &json!("made"), "recipe"),
            given("output", &json!("runs/made"), "default"),
            given("evaluation.floors.heldout.max_increase_percent", &json!(5), "recipe"),
            given("stages.0.kind", &json!(kind), "recipe"),
            given("stages.0.mode", &json!("lora"), "default"),
            given("stages.0.train", &json!("train.jsonl"), "recipe"),
            given("stages.0.validation", &json!("validation.jsonl"), "recipe"),
            given("stages.0.optimizer", &json!("adamw"), "default"),
            given("stages.0.learning_rate", &json!(2e-4), "default"),
            given("stages.0.max_length", &json!(1024), "default"),
            given("stages.0.global_batch_size", &json!(32), "default"),
            given("stages.0.num_train_epochs", &json!(1.0), "default"),
            given("stages.0.warmup_ratio", &json!(0.03), "default"),
            given("stages.0.eval_steps", &json!(10), "recipe"),
            given("stages.0.save_steps", &json!(10), "default"),
        ];
        all.extend(settings.iter().map(|(path, value)| given(path, value, "recipe")));
        let plan = json!({
            "name": "made", "settings": all, "base": {"parameters": 135_000_000},
            "stages": [{
                "of": 0, "kind": kind, "mode": "lora", "steps": 100,
                "files": [["train.jsonl", {"rows": 3200, "dropped": {"too_long": {"count": 3}}}]],
                "shares": {"sources": shares}, "fit": {"learning_rate": {"warmup_steps": 3}}
            }]
        });
        Self { plan, metrics: Vec::new(), events: Vec::new(), judgement: None, finished: true }
    }

    /// Half domain data, half instructions.
    pub fn sft() -> Self {
        let mix = [
            ("stages.0.mix.domain", json!(50)),
            ("stages.0.mix.general.0.name", json!("instructions")),
            ("stages.0.mix.general.0.path", json!("general.jsonl")),
            ("stages.0.mix.general.0.share", json!(100)),
        ];
        Self::new("sft", &mix, json!([share("domain", 1600.0, 1.0), share("instructions", 1600.0, 1.0)]))
    }

    /// Text, half of it general.
    pub fn cpt() -> Self {
        let mix = [("stages.0.mix.domain", json!(50)), ("stages.0.mix.general.0.name", json!("prose"))];
        Self::new("cpt", &mix, json!([share("domain", 1600.0, 1.0), share("prose", 1600.0, 1.0)]))
    }

    pub fn dpo() -> Self {
        Self::new("dpo", &[], json!([share("domain", 1600.0, 2.0)]))
    }

    /// Prompts, a reward and one that is held out, from a start that is worth it.
    pub fn rft() -> Self {
        let settings = [
            ("stages.0.rewards.0.held_out", json!(false)),
            ("stages.0.rewards.1.held_out", json!(true)),
            ("stages.0.rollouts.temperature", json!(1.0)),
            ("stages.0.rollouts.top_k", json!(0)),
            ("stages.0.rollouts.top_p", json!(1.0)),
            ("stages.0.rollouts.max_completion_length", json!(512)),
            ("stages.0.policy.beta", json!(0.001)),
        ];
        let made = Self::new("rft", &settings, json!([share("domain", 1600.0, 2.0)]));
        made.stage("/rounds", json!({"baseline": baseline("worthwhile", 0.0, Value::Null)}))
    }

    /// A setting as the recipe gives it.
    pub fn set(self, path: &str, value: Value) -> Self {
        self.with(path, json!({"path": path, "value": value, "source": {"from": "recipe", "line": 1, "column": 1}}))
    }

    /// A setting that the recipe gives under another name.
    pub fn aliased(self, path: &str, name: &str, value: Value) -> Self {
        self.with(path, json!({"path": path, "value": value, "source": {"from": "alias", "name": name}}))
    }

    /// A setting that is a default.
    pub fn left(self, path: &str, value: Value) -> Self {
        self.with(path, json!({"path": path, "value": value, "source": {"from": "default", "why": "so"}}))
    }

    fn with(self, path: &str, setting: Value) -> Self {
        let mut made = self.unset(path);
        made.plan["settings"].as_array_mut().unwrap().push(setting);
        made
    }

    pub fn unset(mut self, path: &str) -> Self {
        self.plan["settings"].as_array_mut().unwrap().retain(|setting| setting["path"] != path);
        self
    }

    /// Without its mix.
    pub fn alone(mut self) -> Self {
        let settings = self.plan["settings"].as_array_mut().unwrap();
        settings.retain(|setting| !setting["path"].as_str().unwrap().contains(".mix."));
        self.plan["stages"][0]["shares"]["sources"] = json!([share("domain", 1600.0, 1.0)]);
        self
    }

    /// Something of the first stage's plan, by its pointer.
    pub fn stage(mut self, pointer: &str, value: Value) -> Self {
        if let Some(there) = self.plan["stages"][0].pointer_mut(pointer) {
            *there = value;
        } else {
            self.plan["stages"][0][pointer.trim_start_matches('/')] = value;
        }
        self
    }

    /// The same of the second stage.
    pub fn second(mut self, pointer: &str, value: Value) -> Self {
        *self.plan["stages"][1].pointer_mut(pointer).unwrap() = value;
        self
    }

    /// Another mode, in the recipe and the plan.
    pub fn mode(self, mode: &str) -> Self {
        let made = self.set("stages.0.mode", json!(mode));
        made.stage("/mode", json!(mode))
    }

    /// Another stage behind.
    pub fn then(mut self, kind: &str) -> Self {
        let mut next = self.plan["stages"][0].clone();
        next["of"] = json!(1);
        next["kind"] = json!(kind);
        self.plan["stages"].as_array_mut().unwrap().push(next);
        self.set("stages.1.validation", json!("validation.jsonl"))
    }

    /// Another stage before, its settings those of a stage 1.
    pub fn after(self, kind: &str) -> Self {
        let own = self.plan["stages"][0].clone();
        let mut made = self.then(kind);
        made.plan["stages"].as_array_mut().unwrap().swap(0, 1);
        made.plan["stages"][0]["of"] = json!(1);
        made.plan["stages"][1] = own;
        made
    }

    /// Over a base of so many weights.
    pub fn parameters(mut self, parameters: f64) -> Self {
        self.plan["base"]["parameters"] = json!(parameters);
        self
    }

    /// Advice about kinds of checkpoints, as a plan has it.
    pub fn advised(mut self, kinds: &[&str]) -> Self {
        self.plan["advice"] = json!([{"kinds": kinds, "because": "of its rows"}]);
        self
    }

    pub fn line(mut self, line: Value) -> Self {
        let mut line = line;
        line["stage"] = json!(1);
        self.metrics.push(line);
        self
    }

    pub fn event(mut self, event: Value) -> Self {
        let mut event = event;
        event["stage"] = json!(0);
        self.events.push(event);
        self
    }

    /// Validations by step.
    pub fn validations(self, all: &[(usize, f64)]) -> Self {
        let line =
            |(step, loss): &(usize, f64)| json!({"event": "validation", "step": step, "loss": loss, "best": false});
        all.iter().map(line).fold(self, Self::line)
    }

    /// A hundred steps whose losses go through these, each held for its part of them.
    pub fn losses(self, levels: &[f64]) -> Self {
        let line = |step: usize| json!({"event": "step", "step": step, "loss": levels[(step - 1) * levels.len() / 100], "gradient_norm": 1.0});
        (1..=100).map(line).fold(self, Self::line)
    }

    /// Rounds of eight completions with this mean reward, spread and number of failures.
    pub fn rounds(self, count: usize, of: impl Fn(usize) -> (f64, f64, usize)) -> Self {
        let line = |round: usize| {
            let (reward, spread, failed) = of(round);
            json!({"event": "round", "step": round, "round": round, "completions": 8, "reward": reward, "reward_std": spread,
                   "rewards": {"own": {"mean": reward, "abstained": 0, "failed": failed}}})
        };
        (1..=count).map(line).fold(self, Self::line)
    }

    pub fn alarm(self, alarm: &str) -> Self {
        self.event(json!({"event": "alarm", "step": 30, "alarm": alarm, "seen": "", "advice": ""}))
    }

    pub fn stopped(self, reason: &str) -> Self {
        self.event(json!({"event": "stopped", "step": 30, "reason": reason, "advice": ""}))
    }

    pub fn unfinished(mut self) -> Self {
        self.finished = false;
        self
    }

    /// A judgement: `gained`, `lost` or `not_shown` in the domain; `kept`, `forgot` or `cannot_tell` of the floor.
    pub fn judged(mut self, gain: &str, floor: &str) -> Self {
        let row = |suite: &str,
                   metric: &str,
                   base: Value,
                   [estimate, low, high]: [f64; 3],
                   higher: bool,
                   floor: Value| {
            json!({"suite": suite, "kind": null, "metric": metric, "base": base, "tuned": 0.5, "higher_is_better": higher,
                   "difference": {"estimate": estimate, "low": low, "high": high, "n": 100, "clusters": 100}, "floor": floor})
        };
        let decision = match floor {
            "cannot_tell" => json!({"is": "cannot_tell", "about_n": 900}),
            known => json!({"is": known}),
        };
        let verdict = match (gain, floor) {
            (_, "forgot") => json!({"is": "forgot"}),
            ("lost", _) => json!({"is": "lost"}),
            (_, "cannot_tell") => json!({"is": "cannot_tell", "about_n": 900}),
            ("not_shown", _) => json!({"is": "kept_without_gain", "about_n": 900}),
            _ => json!({"is": "gained_and_kept"}),
        };
        let (moved, gain) = match gain {
            "gained" => ([0.2, 0.1, 0.3], json!({"is": "gained"})),
            "lost" => ([-0.2, -0.3, -0.1], json!({"is": "lost"})),
            _ => ([0.0, -0.1, 0.1], json!({"is": "not_shown", "about_n": 900})),
        };
        let general = if floor == "forgot" { [0.2, 0.1, 0.3] } else { [0.01, 0.0, 0.02] };
        let floor = json!({"margin": 0.05, "decision": decision});
        self.judgement = Some(json!({
            "rows": [
                row("domain", "accuracy", json!(0.3), moved, true, Value::Null),
                row("heldout", "relative_loss", Value::Null, general, false, floor),
            ],
            "judgement": {"verdict": verdict, "reason": "as the items say", "gain": gain, "floors": [decision]},
        }));
        self
    }

    /// Gained in the domain, and forgot.
    pub fn forgot(self) -> Self {
        self.judged("gained", "forgot")
    }

    /// A further suite without a floor, by its change.
    pub fn suite(mut self, name: &str, kind: &str, [estimate, low, high]: [f64; 3]) -> Self {
        let row = json!({"suite": name, "kind": null, "metric": "accuracy", "base": 0.5, "tuned": 0.4, "higher_is_better": true,
                         "difference": {"estimate": estimate, "low": low, "high": high, "n": 100, "clusters": 100}, "floor": null});
        self.judgement.as_mut().unwrap()["rows"].as_array_mut().unwrap().push(row);
        self.set("evaluation.general.1.name", json!(name)).set("evaluation.general.1.kind", json!(kind))
    }

    fn planned(&self) -> Planned {
        serde_json::from_value(self.plan.clone()).unwrap()
    }

    /// As advice to the recipe.
    pub fn recipe(&self) -> Advised {
        of_planned(&self.planned())
    }

    /// As advice to the run.
    pub fn run(&self) -> Advised {
        let plan = self.planned();
        let ran = signals::ran(plan.stages.len(), &self.metrics, &self.events);
        let comparison = self.judgement.clone().map(|judgement| serde_json::from_value(judgement).unwrap());
        of_ran(&plan, &signals::Ran { comparison, finished: self.finished, ..ran })
    }
}
