//! Bad input, each with its own message.

use super::*;
use crate::scripted::Scripted;

#[test]
fn wrong_arguments_and_recipes() {
    refused(&temper(&["trian"]), 2, &["trian"]);
    let folder = Folder::new();
    let recipe = folder.recipe(&gguf(), &tiny("tiny_train.jsonl"));
    refused(&temper(&["plan", &recipe, "--set", "stages.0.lerning_rate=1"]), 2, &["lerning_rate", "learning_rate"]);
    refused(&temper(&["plan", &recipe, "--set", "stages.0.max_steps=many"]), 2, &["max_steps", "whole number"]);
    refused(&temper(&["plan", "nowhere.yaml"]), 2, &["nowhere.yaml"]);
}

#[test]
fn faulty_rows() {
    let folder = Folder::new();
    let cases: [(&str, &[u8], &[&str]); 4] = [
        ("empty.jsonl", b"", &["empty.jsonl"]),
        ("silent.jsonl", br#"{"messages":[{"role":"user","content":"hello"}]}"#, &["silent.jsonl:1", "assistant"]),
        ("broken.jsonl", b"{\"messages\": [", &["broken.jsonl:1"]),
        ("text.jsonl", br#"{"txt":"hello"}"#, &["text.jsonl:1"]),
    ];
    for (name, content, pieces) in cases {
        let train = folder.write(name, content);
        refused(&temper(&["plan", &folder.recipe(&gguf(), &train)]), 2, pieces);
    }
    let missing = folder.path("missing.jsonl").display().to_string();
    refused(&temper(&["plan", &folder.recipe(&gguf(), &missing)]), 2, &["recipe.yaml:6", "missing.jsonl"]);
    let recipe = folder.recipe(&gguf(), &tiny("tiny_train.jsonl"));
    refused(&temper(&["plan", &recipe, "--set", "stages.0.max_length=8"]), 2, &["maximum length (8)", "hint:"]);
    let outside = temper(&["plan", &recipe, "--set", "evaluation.domain.labels=[Neoplasm, Eye, Pregnancy]"]);
    refused(&outside, 2, &["Respiratory", "label"]);
}

#[test]
fn evaluation_files_that_could_not_be_judged_are_refused_all_at_once_before_any_training() {
    let folder = Folder::new();
    let recipe = folder.recipe(&gguf(), &tiny("tiny_train.jsonl"));
    // Longer than a batch of the judgement, though not than the base's positions.
    let row = |words: usize| format!("{{\"text\": \"{}\"}}\n", "word ".repeat(words));
    let long = folder.write("long.jsonl", [row(1500), row(20), row(1200)].concat());
    let alone = folder.write("alone.jsonl", "{\"text\": \"a b\", \"source\": \"s\"}\n".repeat(3));
    let one = folder.write("one.jsonl", row(20));
    let questions = folder.write(
        "turns.jsonl",
        format!("{{\"messages\": [{{\"role\": \"user\", \"content\": \"{}\"}}]}}\n", "word ".repeat(1020)).repeat(2),
    );
    let suites = format!(
        "evaluation.general=[{{name: long, kind: text_loss, path: {long}}}, {{name: alone, kind: text_loss, path: {alone}}}, \
         {{name: one, kind: text_loss, path: {one}}}, {{name: turns, kind: chat_kl, path: {questions}}}]"
    );
    let output = temper(&["plan", &recipe, "--set", &suites, "--set", "evaluation.floors={}"]);
    refused(
        &output,
        2,
        &[
            "evaluation.general.0.path: ",
            "long.jsonl: 2 items are too long",
            "  line 1: 1503 tokens, at most 1024",
            "  line 3: 1203 tokens, at most 1024",
            "alone.jsonl: 3 items of one `source` are a single unit",
            "one.jsonl: 1 item is a single unit",
            "turns.jsonl: 2 items are too long",
        ],
    );
}

#[test]
fn damaged_weights() {
    let folder = Folder::new();
    let good = std::fs::read(gguf()).unwrap();
    let generate = |base: &str| temper(&["generate", "--base", base, "--prompt", "x"]);
    refused(&generate(&folder.write("cut.gguf", &good[..50_000_000])), 2, &["cut.gguf", "hint:"]);
    let mut absurd = good[..1_000_000].to_vec();
    absurd[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    refused(&generate(&folder.write("absurd.gguf", absurd)), 2, &["absurd.gguf"]);
    refused(&generate(&folder.write("other.gguf", b"not a model")), 2, &["other.gguf"]);
    refused(&generate(&folder.path("none.gguf").display().to_string()), 2, &["none.gguf", "hint:"]);
    let recipe = folder.recipe(&gguf(), &tiny("tiny_train.jsonl"));
    let text = std::fs::read_to_string(&recipe).unwrap();
    let wrong = text
        .replace(&format!("base: {}", gguf()), &format!("base: {{source: {}, sha256: {}}}", gguf(), "0".repeat(64)));
    refused(
        &temper(&["plan", &folder.write("wrong.yaml", wrong)]),
        2,
        &["sha256", &"0".repeat(64), "b179c9523d0e6a0f"],
    );
}

#[test]
fn a_model_folder_with_damaged_weights() {
    let folder = Folder::new();
    let merged = folder.path("model");
    std::fs::create_dir(&merged).unwrap();
    std::fs::write(merged.join("config.json"), "{}").unwrap();
    std::fs::write(merged.join("model.safetensors"), [255u8; 64]).unwrap();
    let output = temper(&["generate", "--base", &merged.display().to_string(), "--prompt", "x"]);
    refused(&output, 2, &["model"]);
}

#[test]
fn a_chat_template_that_fails_is_refused_with_what_it_says() {
    let folder = Folder::new();
    let base = Scripted::saying("unheard").write(&folder);
    let template = "{% for message in messages %}\n{{ raise_exception('no system turns here') }}\n{% endfor %}";
    std::fs::write(folder.path("model/chat_template.jinja"), template).unwrap();
    let said = ["chat template, line 2: no system turns here"];
    refused(&temper(&["chat", "--base", &base]), 2, &said);
    refused(&temper(&["generate", "--base", &base, "--prompt", "x"]), 2, &said);
    refused(&temper(&["data", "show", &tiny("tiny_train.jsonl"), "--base", &base]), 2, &said);
    let recipe = folder.recipe(&base, &tiny("tiny_train.jsonl"));
    refused(&temper(&["plan", &recipe]), 2, &["tiny_validation.jsonl: line 1", said[0]]);

    std::fs::write(folder.path("model/chat_template.jinja"), "{% for message in messages %}").unwrap();
    refused(&temper(&["chat", "--base", &base]), 2, &["chat template, line 1: syntax error"]);
}

#[test]
fn an_adapter_that_is_none() {
    let folder = Folder::new();
    let nowhere = folder.path("nowhere").display().to_string();
    let generate = |adapter: &str| temper(&["generate", "--base", &gguf(), "--prompt", "x", "--adapter", adapter]);
    refused(&generate(&nowhere), 2, &["nowhere: there is no such folder", "hint:", "runs/NAME/adapter"]);
    let run = folder.path("").display().to_string();
    refused(&generate(&run), 2, &["no adapter_config.json in it", "hint:"]);
    let recipe = folder.recipe(&gguf(), &tiny("tiny_train.jsonl"));
    refused(&temper(&["eval", &recipe, "--adapter", &nowhere]), 2, &["nowhere: there is no such folder", "hint:"]);
}

#[test]
fn sampling_out_of_range() {
    let with = |options: &[&str]| temper(&[&["generate", "--base", "nowhere", "--prompt", "x"], options].concat());
    refused(
        &with(&["--temperature", "-1", "--top-k", "0", "--top-p", "1.5", "--max-new-tokens", "0"]),
        2,
        &["--temperature -1", "--top-k 0", "--top-p 1.5", "--max-new-tokens 0", "hint:"],
    );
    refused(&with(&["--temperature", "nan"]), 2, &["--temperature NaN", "hint:"]);
    refused(&with(&["--temperature", "1", "--top-p", "0"]), 2, &["--top-p 0", "above 0 and at most 1"]);
    refused(&with(&["--top-k", "40"]), 2, &["--temperature 0 draws nothing", "hint: add --temperature 1"]);
}

#[test]
fn rows_that_cannot_be_answered_are_named_all_at_once() {
    let folder = Folder::new();
    let generate = |file: &str| temper(&["generate", "--base", &gguf(), "--file", file]);
    refused(&generate(&folder.path("none.jsonl").display().to_string()), 2, &["none.jsonl: cannot be read", "hint:"]);
    refused(&generate(&folder.write("empty.jsonl", "\n\n")), 2, &["empty.jsonl: no rows", "hint:"]);
    let file = folder.write(
        "rows.jsonl",
        [
            r#"{"prompt": "a good row"}"#,
            r#"{"prompt": 7}"#,
            "",
            r#"{"prompt": "x""#,
            r#"{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}"#,
            r#"{"messages": [{"role": "user", "content": "x"}], "prompt": "x"}"#,
            r#"{"text": "x"}"#,
            r#"{"prompt": "x", "completion": "y"}"#,
            r#"{"messages": "x"}"#,
        ]
        .join("\n"),
    );
    refused(
        &generate(&file),
        2,
        &[
            "rows.jsonl:2: `prompt`: expected text, got 7",
            "rows.jsonl:4: column 14: ",
            "rows.jsonl:5: message 2: a prompt cannot end with an assistant turn",
            "rows.jsonl:6: both `messages` and `prompt`",
            "rows.jsonl:7: neither `messages` nor `prompt`",
            "rows.jsonl:8: field `completion` is there already",
            "rows.jsonl:9: `messages`: invalid type",
            "hint: a row is",
        ],
    );
    let raw = temper(&["generate", "--base", &gguf(), "--file", &file, "--raw"]);
    refused(&raw, 2, &["rows.jsonl:5: --raw goes on from `prompt`"]);
    let long = folder.write("long.jsonl", format!("{{\"prompt\": \"{}\"}}", "word ".repeat(9000)));
    refused(&generate(&long), 2, &["long.jsonl:1: a prompt of 9", "leaves room for 8064"]);
}

#[test]
fn a_bench_of_no_step_or_beyond_the_models_positions_is_refused() {
    refused(&temper(&["bench", "--batch", "0"]), 2, &["--batch 0", "expected 1 or more"]);
    for length in ["1", "8193"] {
        let both = [vec!["bench"], vec!["bench", "step", "--mode", "lora", "--steps", "1"]];
        for command in both {
            let arguments = [command, vec!["--length", length]].concat();
            refused(&temper(&arguments), 2, &[&format!("--length {length}"), "expected 2 to 8192", "hint:"]);
        }
    }
}
