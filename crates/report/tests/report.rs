//! The page and the cards of made-up runs: finished, unfinished, not judged, hostile, without texts, damaged.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use serde_json::{Value, json};
use temper_report::{Advice, Advised, NextStep, ReportError, RunFolder};

/// A text that would run, load or break something if it were not escaped.
const HOSTILE: &str =
    "<script>alert(1)</script><img src=x onerror=alert(2)> \"quoted\" 'single' & </td></table> {{ 7*7 }}";

/// A run of four steps, judged on three suites.
struct Run(tempfile::TempDir);

impl Run {
    fn new() -> Self {
        let run = Self(tempfile::tempdir().unwrap());
        run.write("plan.json", &plan().to_string());
        let step = |step: usize, loss: f64| {
            json!({"event": "step", "step": step, "loss": loss, "loss_by_source": [loss + 1.0, "NaN"], "learning_rate": 1e-3,
                   "gradient_norm": 2.0, "processed_tokens": 100, "trained_tokens": 40, "seconds": 0.5})
        };
        let validation =
            |step: usize, loss: f64| json!({"event": "validation", "step": step, "loss": loss, "best": true});
        let lines = [validation(0, 4.0), step(1, 3.0), step(2, 2.5), step(3, 2.25), step(4, 2.0), validation(4, 1.5)];
        run.write_lines("metrics.jsonl", &lines);
        let warning = json!({"event": "warning", "message": "the last weights are taken"});
        let events = [
            warning.clone(),
            json!({"event": "resumed", "stage": 0, "step": 2, "path": null, "skipped": []}),
            json!({"event": "stopped", "stage": 0, "step": 4, "reason": "validation rose", "advice": "lower the rate"}),
            warning,
        ];
        run.write_lines("events.jsonl", &events);
        run.write("judgement.json", &judgement().to_string());
        run.write_lines("judgement_items.jsonl", &items());
        run.write("summary.json", r#"{"folder": "runs/x", "stages": [], "comparison": null, "seconds": 125.0}"#);
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

    fn remove(&self, name: &str) {
        std::fs::remove_file(self.path().join(name)).unwrap();
    }

    fn page(&self, texts: bool) -> String {
        RunFolder::read(self.path()).unwrap().report(texts).unwrap()
    }
}

fn plan() -> Value {
    let file = |rows: u64, dropped: Value| {
        json!({"kind": "messages", "rows": rows, "kept": rows - 3, "dropped": dropped, "processed_tokens": 4000,
               "trained_tokens": 1234, "lengths": {"min": 5, "p50": 20, "p90": 30, "p99": 40, "max": 50},
               "ignored_fields": {"code": rows}})
    };
    let share = |name: &str| {
        json!({"name": name, "planned": {"samples": 0.75, "processed_tokens": 0.5, "trained_tokens": 0.25},
               "actual": {"samples": 0.74, "processed_tokens": 0.51, "trained_tokens": 0.26},
               "drawn": {"samples": 12, "processed_tokens": 400, "trained_tokens": 160}, "epochs": 0.3, "repeated": 0})
    };
    let hash = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";
    json!({
        "name": "icd10",
        "settings": [
            {"path": "base.source", "value": "hf:owner/model@main", "source": {"from": "recipe", "line": 4, "column": 9}},
            {"path": "stages.0.learning_rate", "value": 0.001, "source": {"from": "set", "argument": "stages.0.learning_rate=1e-3"}},
            {"path": "stages.0.max_length", "value": 256, "source": {"from": "alias", "name": "cutoff_len", "line": 9, "column": 3}},
            {"path": "stages.0.weight_decay", "value": 0.0, "source": {"from": "default", "why": HOSTILE}},
            {"path": "evaluation.bootstrap_samples", "value": 2000, "source": {"from": "default", "why": "decision: enough"}},
        ],
        "notes": [],
        "base": {"description": "hf:owner/model@main", "sha256s": [["model.gguf", hash]], "licence": "Apache-2.0",
                 "precision": "Q4_1 dequantised to f32", "parameters": 134_515_008},
        "device": "cpu, 2 threads, avx512",
        "provenance": {
            "temper": "0.1.0", "system": "linux on x86_64",
            "invocation": {"recipe": "recipes/it's.yaml", "recipe_sha256": hash,
                           "sets": ["stages.0.learning_rate=1e-3", "output=runs/first"]},
            "no_samples": false},
        "inputs": [
                {"setting": "stages.0.train", "path": "data/train.jsonl", "sha256": hash, "licence": "CC0 | public", "trained": true},
                {"setting": "stages.0.mix.general.0.path", "path": "data/prose.jsonl", "sha256": hash, "licence": null, "trained": true},
                {"setting": "evaluation.domain.test", "path": "data/test.jsonl", "sha256": hash, "licence": null, "trained": false},
        ],
        "stages": [{
            "kind": "sft", "steps": 4, "trained_parameters": 4_884_480,
            "files": [["data/train.jsonl", file(3153, json!({"too_long": {"count": 3, "first_lines": [7, 8, 9]}}))]],
            "shares": {"unit": "samples", "sources": [share("domain"), share("prose")]},
            "fit": {}, "learning_rates": [], "estimate": {"memory_bytes": 1_415_075_072u64, "seconds": 233.1, "gflops": 178.5}}],
        "warnings": ["a warning of the plan"]
    })
}

fn judgement() -> Value {
    let row = |suite: &str,
               metric: &str,
               base: Value,
               tuned: f64,
               [estimate, low, high]: [f64; 3],
               higher: bool,
               floor: Value| {
        json!({"suite": suite, "kind": null, "metric": metric, "base": base, "tuned": tuned, "higher_is_better": higher,
               "difference": {"estimate": estimate, "low": low, "high": high, "n": 420, "clusters": 305}, "floor": floor})
    };
    json!({
        "rows": [
            row("domain", "accuracy", json!(0.0643), 0.6429, [0.5786, 0.5203, 0.6381], true, Value::Null),
            row("heldout", "relative_loss", Value::Null, -0.0403, [-0.0403, -0.0449, -0.036], false,
                json!({"margin": 0.02, "decision": {"is": "kept"}})),
            row("wordnet", "accuracy", json!(0.59), 0.49, [-0.1, -0.14, -0.07], true,
                json!({"margin": 0.06, "decision": {"is": "forgot"}})),
            row("chat", "kl", Value::Null, 0.1789, [0.1789, 0.1675, 0.191], false, Value::Null),
        ],
        "judgement": {"verdict": {"is": "forgot"}, "reason": "wordnet accuracy -10.0 points.", "gain": {"is": "gained"},
                      "floors": [{"is": "kept"}, {"is": "forgot"}]}
    })
}

/// 20 domain items of which 15 are lost and 2 won; a text; an instruction.
fn items() -> Vec<Value> {
    let outcome = |right: bool| json!({"right": right, "nats": 1.5, "exact": right, "answer": if right { "Eye" } else { "Skin" }, "written": HOSTILE});
    let mut items: Vec<Value> = (1..=20)
        .map(|line| {
            let (before, now) = match line {
                1..=15 => (true, false),
                16..=17 => (false, true),
                _ => (true, true),
            };
            json!({"suite": "domain", "line": line, "prompt": format!("{HOSTILE} {line} {}", "long ".repeat(200)), "expected": "Eye",
                   "base": outcome(before), "tuned": outcome(now)})
        })
        .collect();
    items.push(json!({"suite": "heldout", "line": 1, "prompt": "Call me Ishmael.", "base": {"nats": 3.5}, "tuned": {"nats": 4.0}}));
    items.push(json!({"suite": "instructions", "line": 3, "prompt": "Say it in one word.",
                      "base": {"right": false, "checks_held": 0.5, "written": "Two words"},
                      "tuned": {"right": true, "checks_held": 1.0, "written": "  "}}));
    items
}

#[test]
fn a_finished_run_says_its_answer_with_both_axes() {
    let page = Run::new().page(true);
    for piece in [
        "<title>icd10: Forgot</title>",
        "Wordnet accuracy \u{2212}10.0 points.",
        "6.4 % \u{2192} 64.3 %",
        "+57.9 [+52.0, +63.8]",
        "floor +2.00: kept",
        "floor \u{2212}6.0: forgot",
        "KL(base || tuned)",
        "A warning of the plan",
        "The last weights are taken",
        "Stage 1 ended early, after step 4: validation rose. Hint: lower the rate.",
        "went on after step 2 of stage 1",
        "The minimised loss went from 3.000 at step 1 to 2.000 at step 4.",
        "4.000 before training; the lowest was 1.500 at step 4 (\u{2212}2.500).",
        "3 too long (first lines 7, 8, 9)",
        "recipe, line 9, as cutoff_len",
        "--set stages.0.learning_rate=1e-3",
        "2 min 05 s",
        "200 tokens a second",
        "1.32 GiB",
        "not drawn",
    ] {
        // A step without a row of a source is not a value that is missing.
        assert_eq!(page.contains(piece), piece != "not drawn", "`{piece}`\n{page}");
    }
}

#[test]
fn licences_are_said_and_so_is_that_one_is_unknown() {
    let page = Run::new().page(true);
    let row = |file: &str| {
        let start = page.rfind(&format!("<th scope=\"row\" class=\"path\">{file}</th>")).unwrap();
        page[start..].split("</tr>").next().unwrap().to_owned()
    };
    assert!(row("model.gguf").contains("Apache-2.0"));
    assert!(row("data&#x2f;train.jsonl").contains("CC0 | public"), "{}", row("data&#x2f;train.jsonl"));
    assert!(row("data&#x2f;prose.jsonl").contains("text unknown\">unknown<"));
    // Nobody trains on the test, so nothing is asked of its licence.
    assert!(!row("data&#x2f;test.jsonl").contains("unknown"));
}

#[test]
fn no_text_of_a_row_becomes_markup_and_nothing_is_loaded() {
    let page = Run::new().page(true);
    assert!(page.contains("&lt;script&gt;alert(1)&lt;&#x2f;script&gt;"));
    assert!(page.contains("{{ 7*7 }}"));
    for forbidden in ["<script", "<img", "<link", "<iframe", "url(", "@import", "http:", "https:"] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    // Outside of quoted values no tag holds a handler or a source.
    for tag in page.split('<').filter_map(|part| part.split_once('>')).map(|(tag, _)| tag) {
        let bare: String = tag.split('"').step_by(2).collect();
        assert!(!bare.contains("src=") && !bare.contains(" on"), "<{tag}>");
    }
    // Every element that holds others is closed as often as it is opened.
    for tag in ["section", "table", "tr", "td", "div", "figure", "svg", "ul", "p", "span"] {
        let opened = page.matches(&format!("<{tag} ")).count() + page.matches(&format!("<{tag}>")).count();
        assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
    }
}

#[test]
fn lists_are_bounded_and_say_what_was_cut() {
    let page = Run::new().page(true);
    assert!(page.contains("12 of 15 shown"), "lost items");
    assert!(page.contains("6 of 20 shown"), "samples");
    assert!(page.contains(" characters]"), "long texts");
    assert!(page.contains("(empty)"), "an empty answer is said");
    assert!(page.contains("The loss rose on 1 of 1 texts"));
}

#[test]
fn without_texts_there_are_lines_and_scores_only() {
    let run = Run::new();
    let page = run.page(false);
    for text in ["long long", "Ishmael", "one word", "Skin", "Two words"] {
        assert!(run.page(true).contains(text) && !page.contains(text), "{text}");
    }
    assert!(page.contains("Lines of the file: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15."));
    assert!(page.contains("Texts are left out of this report."));
    // A run that kept none has none to show, whatever is asked for.
    let bare: Vec<Value> = items()
        .into_iter()
        .map(|item| json!({"suite": item["suite"], "line": item["line"], "base": {"right": true}, "tuned": {"right": false}}))
        .collect();
    run.write_lines("judgement_items.jsonl", &bare);
    assert!(run.page(true).contains("Texts are left out of this report."));
}

#[test]
fn advice_stands_behind_the_answer_by_rank_and_is_escaped() {
    let run = Run::new();
    assert!(!run.page(true).contains("What to do next"), "nobody was asked");
    let finding = |rule: &str, severity: &str, role: &str| Advised {
        rule: rule.into(),
        severity: severity.into(),
        place: "stages.0.mix".into(),
        found: format!("found by {rule}: {HOSTILE}"),
        reason: "narrow data overwrite".into(),
        source: "AWS blog, March 2026".into(),
        action: "add a mix".into(),
        role: role.into(),
        good: false,
    };
    let findings =
        vec![finding("floor-broken", "error", "forgetting"), finding("no-mix", "warning", "likeliest cause")];
    let next = NextStep {
        rule: "no-mix".into(),
        lines: vec!["stages.0.mix.domain: 50".into()],
        command: "temper advise x --start".into(),
    };
    let read = || RunFolder::read(run.path()).unwrap();
    let page = read().advised(Advice { findings, next: Some(next) }).report(true).unwrap().replace("&#x2f;", "/");
    let mut rest = &page[..];
    // In this order.
    for piece in [
        "id=\"answer\"",
        "id=\"advice\"",
        "<span class=\"tag bad\">error</span> <span class=\"tag\">forgetting</span> found by floor-broken: &lt;script",
        "<strong>Do:</strong> add a mix.",
        "Because narrow data overwrite. AWS blog, March 2026. Rule <code>floor-broken</code>.",
        "<span class=\"tag unsure\">warning</span> <span class=\"tag\">likeliest cause</span> found by no-mix",
        "The next experiment, by no-mix",
        "stages.0.mix.domain: 50\n</pre>",
        "<code>temper advise x --start</code> starts it",
        "id=\"curves\"",
    ] {
        let at = rest.find(piece).unwrap_or_else(|| panic!("`{piece}` is not in its place in:\n{page}"));
        rest = &rest[at..];
    }
    assert!(!page.contains("<script"));
    let none = read().advised(Advice::default()).report(true).unwrap();
    assert!(none.contains("No rule of <code>docs/advice.md</code> fits.") && !none.contains("next experiment"));
}

#[test]
fn a_run_that_is_unfinished_or_not_judged_says_so() {
    let run = Run::new();
    for file in ["judgement.json", "judgement_items.jsonl", "summary.json"] {
        run.remove(file);
    }
    assert!(run.page(true).contains("The judgement of this run is not there yet. 4 of 4 steps were trained"));
    let metrics = std::fs::read_to_string(run.path().join("metrics.jsonl")).unwrap();
    run.write("metrics.jsonl", &metrics[..metrics.find("\"step\":3").unwrap()]);
    let page = run.page(true);
    assert!(page.contains("This run has not come to its end. 2 of 4 steps were trained"), "{page}");
    run.write("metrics.jsonl", "");
    assert!(run.page(true).contains("No step has been trained yet."));

    let run = Run::new();
    run.remove("judgement.json");
    run.remove("judgement_items.jsonl");
    let mut plan = plan();
    plan["settings"].as_array_mut().unwrap().retain(|s| !s["path"].as_str().unwrap().starts_with("evaluation."));
    plan.as_object_mut().unwrap().remove("provenance");
    plan.as_object_mut().unwrap().remove("inputs");
    run.write("plan.json", &plan.to_string());
    let page = run.page(true);
    assert!(page.contains("<title>icd10: Not judged</title>") && page.contains("Nothing was judged."), "{page}");
    assert!(page.contains("does not name its recipe"));
}

#[test]
fn findings_of_the_checks_are_a_table_with_places_and_what_was_done() {
    let run = Run::new();
    assert!(run.page(true).contains("The version that planned this run did not check rows."));
    let mut plan = plan();
    plan["stages"][0]["checks"] = json!({"files": [], "rows": 1200, "findings": []});
    run.write("plan.json", &plan.to_string());
    assert!(run.page(true).contains("1,200 rows were checked; nothing was found."));
    plan["stages"][0]["checks"]["findings"] = json!([
        {"check": "held_out_row", "severity": "error", "count": 12, "action": "refused", "hint": HOSTILE, "kinds": [["test", 12]],
         "first": [{"file": "data/train.jsonl", "line": 7, "like": "test:1"}, {"file": "data/train.jsonl", "line": 9}]},
        {"check": "unseen_label", "severity": "warning", "count": 1, "action": "nothing", "hint": "h", "kinds": [[HOSTILE, 0]],
         "first": []},
    ]);
    run.write("plan.json", &plan.to_string());
    // The same with the texts of rows left out: no finding holds one.
    for texts in [true, false] {
        let page = run.page(texts).replace("&#x2f;", "/");
        assert!(page.contains("1,200 rows were checked.</p>"), "{page}");
        for piece in [
            "<span class=\"tag bad\">error</span>",
            "<th scope=\"row\">held out row</th><td class=\"num\">12</td><td class=\"num\">1.0 %</td><td class=\"text\">test 12</td>",
            "<td class=\"path\">train.jsonl:7 (as test:1), train.jsonl:9, ...</td><td>refused</td>",
            "<span class=\"tag unsure\">warning</span>",
        ] {
            assert!(page.contains(piece), "`{piece}` is not in:\n{page}");
        }
        assert!(!page.contains("<script") && page.contains("&lt;script&gt;"));
    }
}

#[test]
fn a_training_that_blew_up_is_drawn_as_far_as_it_can_be() {
    let run = Run::new();
    let step =
        |step: usize, loss: Value| json!({"event": "step", "step": step, "loss": loss, "loss_by_source": [loss, loss]});
    run.write_lines("metrics.jsonl", &[step(1, json!(3.0)), step(2, json!("NaN")), step(3, json!("Infinity"))]);
    let page = run.page(true);
    assert!(page.contains("The minimised loss went from 3.000 at step 1 to inf at step 3."), "{page}");
    assert!(page.contains("values are not finite and not drawn"));
    assert!(!page.contains("NaN%") && !page.contains("MNaN") && !page.contains("inf%"));
}

#[test]
fn commands_to_repeat_a_run_are_quoted_for_a_shell() {
    let run = Run::new();
    std::fs::create_dir(run.path().join("adapter")).unwrap();
    let page = run.page(true);
    let text = page.replace("&#x27;", "'").replace("&#x2f;", "/").replace("&amp;", "&");
    let recipe = r"'recipes/it'\''s.yaml'";
    assert!(text.contains(&format!("temper plan {recipe} --set stages.0.learning_rate=1e-3\n")), "{text}");
    let folder = run.path().display();
    assert!(text.contains(&format!("temper run {recipe} --set stages.0.learning_rate=1e-3 --output {folder}-again\n")));
    assert!(text.contains(&format!("--adapter {folder}/adapter --test\n")));
}

#[test]
fn model_cards_lie_beside_the_weights() {
    let run = Run::new();
    for folder in ["adapter", "merged"] {
        std::fs::create_dir(run.path().join(folder)).unwrap();
    }
    RunFolder::read(run.path()).unwrap().write_cards().unwrap();
    let card = |folder: &str| std::fs::read_to_string(run.path().join(folder).join("README.md")).unwrap();
    let adapter = card("adapter");
    assert!(
        adapter.starts_with(
            "---\nbase_model: \"owner/model\"\nbase_model_relation: adapter\nlibrary_name: peft\nlicense: apache-2.0\n\
             pipeline_tag: text-generation\ntags:\n- temper\n- lora\n- sft\n---\n\n# icd10\n"
        ),
        "{adapter}"
    );
    assert!(
        adapter.contains("| domain | 12 | 26.0 % | CC0 \\| public |\n| prose | 12 | 26.0 % | unknown |\n"),
        "{adapter}"
    );
    assert!(adapter.contains("**Forgot.** Wordnet accuracy \u{2212}10.0 points.\n"));
    assert!(adapter.contains("| wordnet | accuracy | 59.0 % | 49.0 % | \u{2212}10.0 points | \u{2212}14.0 to \u{2212}7.0 | floor \u{2212}6.0: forgot |"));
    assert!(adapter.ends_with("the commands to repeat it.\n"));
    assert!(card("merged").contains("library_name: transformers\n"));

    // A base without a licence, from a disk: nothing is made up.
    let mut plan = plan();
    plan["base"]["licence"] = Value::Null;
    plan["settings"][0]["value"] = json!("/home/someone/model.gguf");
    plan["base"]["description"] = json!("/home/someone/model.gguf");
    run.write("plan.json", &plan.to_string());
    RunFolder::read(run.path()).unwrap().write_cards().unwrap();
    let adapter = card("adapter");
    assert!(adapter.starts_with("---\nlibrary_name: peft\npipeline_tag"), "{adapter}");
    assert!(adapter.contains("Licence of the base, as declared: **unknown**."));
    assert!(adapter.contains("over model.gguf, trained by sft (4 steps)") && !adapter.contains("/home/"), "{adapter}");
    plan["base"]["licence"] = json!("Llama 3.2 \"Community\"");
    run.write("plan.json", &plan.to_string());
    RunFolder::read(run.path()).unwrap().write_cards().unwrap();
    assert!(card("merged").contains("license: other\nlicense_name: \"Llama 3.2 \\\"Community\\\"\"\n"));
}

#[test]
fn damaged_files_are_named_and_a_last_line_that_was_cut_off_is_not_one() {
    let run = Run::new();
    let metrics = std::fs::read_to_string(run.path().join("metrics.jsonl")).unwrap();
    run.write("metrics.jsonl", &metrics[..metrics.len() - 9]);
    assert!(RunFolder::read(run.path()).is_ok());
    run.write("metrics.jsonl", &metrics.replacen("\"step\":2", "\"step\":-2", 1));
    let Err(error) = RunFolder::read(run.path()) else { panic!("a step of -2 was read") };
    assert!(matches!(&error, ReportError::Content { line: Some(3), .. }), "{error}");
    assert!(error.to_string().contains("metrics.jsonl, line 3: "), "{error}");
    let Err(error) = RunFolder::read(&run.path().join("nowhere")) else { panic!("no folder was read") };
    assert!(error.to_string().contains("hint: give the folder of a run"), "{error}");
}
