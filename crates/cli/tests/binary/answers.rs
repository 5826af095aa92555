//! `chat`, `generate`, `data show` and `bench step`.

use std::io::Write;

use super::*;
use crate::scripted::Scripted;

/// An answer of characters that take several tokens.
const ANSWER: &str = " naïve 日本 😀";

/// Runs `chat` on what is typed.
fn chat(base: &str, typed: &str) -> Output {
    let mut child = command(&["chat", "--base", base])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn the_real_model_answers() {
    let output = temper(&["generate", "--base", &gguf(), "--prompt", "What is the capital of France?"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(stdout(&output), "The capital of France is Paris.\n");
}

#[test]
fn a_talk() {
    let question = "What is the capital of France?\n";
    let answer = "The capital of France is Paris.\n";
    // Begun anew, the same question gets the same answer; the end of input ends the talk.
    assert_eq!(done(&chat(&gguf(), &format!("{question}\n/reset\n{question}"))), answer.repeat(2));
    // What was said before is seen: the second question means nothing alone.
    let both = done(&chat(&gguf(), &format!("{question}And of Italy?\n/exit\nunheard\n")));
    assert_eq!(both, format!("{answer}The capital of Italy is Rome.\n"));
}

#[test]
fn a_talk_goes_on_after_a_message_that_does_not_fit() {
    let folder = Folder::new();
    let base = Scripted { context: 200, ..Scripted::saying(ANSWER) }.write(&folder);
    let output = chat(&base, &format!("{}\nshort\n", "long ".repeat(200)));
    assert_eq!(done(&output), format!("{ANSWER}\n"));
    refused(&output, 0, &["exceed the model's context of 200", "hint: /reset"]);
}

#[test]
fn rows_come_back_in_order_as_training_rows() {
    let folder = Folder::new();
    let base = Scripted::saying(ANSWER).write(&folder);
    let rows = [
        r#"{"id": 7, "prompt": "first"}"#,
        r#"{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "second"}]}"#,
    ];
    // More rows than are decoded together.
    let file = folder.write("rows.jsonl", rows.join("\n\n") + "\n" + &format!("{}\n", rows[0]).repeat(40));
    let output = temper(&["generate", "--base", &base, "--file", &file]);
    let text = done(&output);
    refused(&output, 0, &["answering 42/42", "tok/s ETA 0 s"]);
    let answers: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let turn = |role: &str, content: &str| serde_json::json!({"role": role, "content": content});
    let first =
        serde_json::json!({"id": 7, "messages": [turn("user", "first"), turn("assistant", ANSWER)], "finish": "stop"});
    let second = serde_json::json!({
        "messages": [turn("system", "s"), turn("user", "second"), turn("assistant", ANSWER)], "finish": "stop"
    });
    assert_eq!(answers.len(), 42);
    assert_eq!((&answers[0], &answers[1], &answers[41]), (&first, &second, &first));
    // They can be trained on as they are.
    let answered = folder.write("answered.jsonl", text);
    let shown = done(&temper(&["data", "show", &answered, "--base", &base, "--rows", "1"]));
    assert!(shown.starts_with(&format!("{answered}: 42 rows of the format messages, 42 kept")), "{shown}");

    // With --raw the answer goes on from the prompt.
    let file = folder.write("raw.jsonl", "{\"prompt\": \"\\n\"}\n");
    let raw = done(&temper(&["generate", "--base", &base, "--file", &file, "--raw", "--max-new-tokens", "1"]));
    let raw: serde_json::Value = serde_json::from_str(&raw).unwrap();
    assert_eq!(raw, serde_json::json!({"prompt": "\n", "completion": " na", "finish": "length"}));
    let one = done(&temper(&["generate", "--base", &base, "--prompt", "first", "--json"]));
    assert_eq!(serde_json::from_str::<serde_json::Value>(&one).unwrap()["messages"][1]["content"], ANSWER);
}

#[test]
fn data_show_brackets_what_is_trained() {
    let output = temper(&["data", "show", &tiny("tiny_train.jsonl"), "--base", &gguf(), "--rows", "1"]);
    let text = stdout(&output);
    let trained: String = text.split('[').skip(1).filter_map(|t| t.split(']').next()).collect();
    let label = ["Neoplasm", "Eye", "Respiratory", "Pregnancy"].iter().any(|l| trained == format!("{l}<|im_end|>"));
    assert!(label, "trained: {trained}\n{text}");
}

/// What the stage of a recipe trains, by its rules; a folder of one file; what is not read or not printed is told.
#[test]
fn data_show_follows_a_recipe_and_tells_what_is_not_trained() {
    let folder = Folder::new();
    let turn = |role: &str, content: &str| serde_json::json!({"role": role, "content": content});
    let mut last = turn("assistant", "last");
    last["reasoning_content"] = "a thought".into();
    let row = serde_json::json!({
        "messages": [turn("user", "a"), turn("assistant", "first"), turn("user", "b"), last], "score": 3});
    std::fs::create_dir(folder.path("rows")).unwrap();
    let train = folder.write("rows/train.jsonl", format!("{row}\n"));
    folder.write("rows/README.md", "# Rows\n");
    let rows = folder.path("rows").display().to_string();
    let show = |more: &[&str]| temper(&[&["data", "show", &rows], more].concat());
    let output = show(&["--base", &gguf()]);
    let shown = done(&output);
    for piece in
        ["1 rows", "[first]", "[last]", "the reasoning of 1 trained turns", "not read, with their rows: `score` (1)"]
    {
        assert!(shown.contains(piece), "`{piece}` is not in:\n{shown}");
    }
    refused(&output, 0, &["passed over, as no rows by their names: README.md"]);
    let recipe = folder.recipe(&gguf(), &train);
    let shown = done(&show(&["--recipe", &recipe, "--set", "stages.0.mask_history=true"]));
    assert!(shown.contains("[last]") && !shown.contains("[first]"), "{shown}");
    refused(&show(&["--recipe", &recipe, "--stage", "3"]), 2, &["there is no such stage: the recipe has 1"]);
    refused(&show(&["--base", &gguf(), "--row", "2"]), 2, &["train.jsonl:2: no row begins there"]);
    folder.write("rows/more.jsonl", format!("{row}\n"));
    refused(&show(&["--base", &gguf()]), 2, &["2 files, expected one", "more.jsonl"]);
    let checked = done(&temper(&["data", "check", &train]));
    assert!(checked.contains("fields that are not read, with their rows: `score` (1)"), "{checked}");
}

/// What the stage does with a row: filters work as they do in training, after the files before it, and never on what judges.
#[test]
fn data_show_tells_why_a_row_is_left_out() {
    let folder = Folder::new();
    let row = |question: &str, answer: &str| {
        let turn = |role: &str, content: &str| serde_json::json!({"role": role, "content": content});
        format!("{}\n", serde_json::json!({"messages": [turn("user", question), turn("assistant", answer)]}))
    };
    let first = folder.write("first.jsonl", row("How do lenses work?", "They bend light."));
    let long = "word ".repeat(300);
    let second = [
        row("How do lenses work?", "They bend light."),
        row("Whom do I ask?", "Ask jane@clinic.org about it."),
        row("Say a word.", &long),
        row("Short?", "Yes."),
    ];
    let second = folder.write("second.jsonl", second.concat());
    let recipe = folder.recipe(&gguf(), &format!("[{first}, {second}]"));
    let filters = "stages.0.filters={exact_duplicates: drop, personal_data: mask, min_chars: 11}";
    let show = |file: &str, more: &[&str]| {
        temper(&[&["data", "show", file, "--recipe", &recipe, "--set", filters], more].concat())
    };
    let shown = done(&show(&second, &["--row", "1", "--row", "2", "--row", "3", "--row", "4"]));
    for piece in [
        "4 rows of the format messages, 1 kept",
        "line 1, left out: a duplicate\n",
        "[email]",
        "line 3, left out: longer than the maximum length, 3",
        "line 4, left out: shorter than min_chars\n",
    ] {
        assert!(shown.to_lowercase().contains(piece), "`{piece}` is not in:\n{shown}");
    }
    assert!(!shown.contains("jane"), "{shown}");
    let page = folder.path("rows.html").display().to_string();
    done(&show(&second, &["--row", "1", "--html", &page]));
    assert!(std::fs::read_to_string(&page).unwrap().contains("<p>Left out: a duplicate.</p>"));
    // The first file has nothing before it; another file is looked at as if it were trained alone; validation is never filtered.
    assert!(done(&show(&first, &[])).contains("1 kept"));
    let third = folder.write("third.jsonl", row("How do lenses work?", "They bend light."));
    assert!(done(&show(&third, &[])).contains("1 kept"));
    let validation = folder.write("validation.jsonl", row("Short?", "Yes."));
    let judges = format!("stages.0.validation={validation}");
    assert!(done(&show(&validation, &["--set", &judges])).contains("1 kept"));
    refused(&show(&validation, &["--row", "1"]), 2, &["none of the 1 rows is left: 1 shorter than min_chars"]);
}

#[test]
fn bench_step_prints_a_json_line_a_step() {
    let text = done(&temper(&["bench", "step", "--mode", "lora", "--steps", "2", "--batch", "2", "--length", "16"]));
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3, "{text}");
    // Rank 16 on all linears of SmolLM2-135M, as PEFT counts them.
    assert_eq!(lines[0]["about"]["trainable"], 4_884_480);
    for (number, line) in (1..).zip(&lines[1..]) {
        assert_eq!(line["step"], number);
        assert!(line["seconds"].as_f64().unwrap() > 0.0);
        // Random weights know nothing: the loss is near ln 49152.
        assert!((line["loss"].as_f64().unwrap() - 49_152f64.ln()).abs() < 0.5, "{line}");
    }
}
