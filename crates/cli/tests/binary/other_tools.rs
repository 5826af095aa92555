//! `temper check`, `temper import` and `temper export --to` a tool.

use serde_json::Value;

use super::*;

const NOVA: &str = "\
run:
  name: support
  model_type: amazon.nova-2-lite-v1:0:256k
  model_name_or_path: nova-lite-2/prod
  replicas: 1
  data_s3_path: s3://bucket/train.jsonl
  output_s3_path: s3://bucket/output/
training_config:
  max_steps: 100
  save_steps: 100
  max_length: 32768
  global_batch_size: 32
  reasoning_enabled: false
  lr_scheduler: {warmup_steps: 15, min_lr: 1e-6}
  optim_config: {lr: 1e-5}
  peft:
    peft_scheme: lora
    lora_tuning: {alpha: 64, lora_plus_lr_ratio: 64.0}
";

/// A row of SFT as Nova takes it.
const ROW: &str = r#"{"schemaVersion":"bedrock-conversation-2024","messages":[{"role":"user","content":[{"text":"2+2?"}]},{"role":"assistant","content":[{"text":"4"}]}]}"#;

fn json(output: &Output) -> Value {
    serde_json::from_str(&stdout(output)).unwrap()
}

/// Rules of the findings, in order.
fn rules(report: &Value) -> Vec<String> {
    let findings = report["findings"].as_array().unwrap();
    findings.iter().map(|finding| finding["rule"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_good_recipe_of_nova_ends_with_0_and_a_bad_one_with_4_and_the_corrected_line() {
    let folder = Folder::new();
    let good = folder.write("good.yaml", NOVA);
    let shown = done(&temper(&["check", &good]));
    assert!(shown.contains("a recipe of Nova Forge: 0 errors, 0 warnings, 0 notes"), "{shown}");
    let bad = folder.write(
        "bad.yaml",
        NOVA.replace("max_length: 32768", "max_length: 30000").replace("replicas: 1", "replicas: 3"),
    );
    let output = temper(&["check", &bad]);
    assert_eq!(output.status.code(), Some(4));
    let shown = stdout(&output);
    for piece in [
        "bad.yaml:5:13: error: `run.replicas` is 3 [out-of-range]",
        "bad.yaml:11:15: error: `training_config.max_length` is 30000 [out-of-range]",
        "it takes one of 8192, 16384, 32768, 65536",
        "source: nova_recipe_template_parameters.json",
        "2026-06-23",
        "corrected: max_length: 32768",
        "2 errors",
    ] {
        assert!(shown.contains(piece), "`{piece}` is not in:\n{shown}");
    }
    let report = json(&temper(&["check", &bad, "--json"]));
    assert_eq!(rules(&report), ["out-of-range", "out-of-range"]);
    assert_eq!(report["findings"][1]["place"]["line"], 11);
    refused(&temper(&["check", "missing.yaml"]), 2, &["missing.yaml", "cannot read it"]);
    let none = folder.write("none.yaml", "a: 1\n");
    refused(&temper(&["check", &none]), 2, &["its keys tell no tool that is known", "hint: say which by --from"]);
    refused(&temper(&["check", &none, "--from", "keras"]), 2, &["expected one of nova"]);
}

#[test]
fn rows_are_counted_and_held_against_the_recipe() {
    let folder = Folder::new();
    let recipe = folder.write("nova.yaml", NOVA);
    let rows = folder.write("rows.jsonl", format!("{ROW}\n").repeat(3200));
    assert!(rules(&json(&temper(&["check", &recipe, "--data", &rows, "--json"]))).is_empty());
    let few = folder.write("few.jsonl", format!("{ROW}\n").repeat(20));
    let found = rules(&json(&temper(&["check", &recipe, "--data", &few, "--json"])));
    assert_eq!(found, ["steps-against-rows", "batch-larger-than-data"]);
    let broken = ROW.replace("2+2?", "User: 2+2?");
    let broken = folder.write("broken.jsonl", format!("{ROW}\n{broken}\n").repeat(1600));
    let output = temper(&["check", &recipe, "--data", &broken]);
    assert_eq!(output.status.code(), Some(4));
    let shown = stdout(&output);
    assert!(
        shown.contains(
            "broken.jsonl:2:1: error: the reserved word `User:` (1,600 rows, first [2, 4, 6, 8, 10]) [row-reserved]"
        ),
        "{shown}"
    );
    // Rows of another technique, for a tool of another kind.
    let axolotl = folder.write(
        "axolotl.yaml",
        "base_model: Qwen/Qwen3-4B\nadapter: lora\nrl: dpo\ndatasets:\n  - path: x\n    type: chat_template.default\nlearning_rate: 1e-5\n",
    );
    let text = folder.write("text.jsonl", "{\"text\": \"<s>A document.\"}\n".repeat(50));
    let found = rules(&json(&temper(&["check", &axolotl, "--data", &text, "--json"])));
    assert!(
        found.contains(&"rows-against-technique".to_owned()) && found.contains(&"double-bos".to_owned()),
        "{found:?}"
    );
}

/// A conversation of this user's text and this answer.
fn asked(user: &str, answer: &str) -> String {
    let turns = serde_json::json!([{"role": "user", "content": user}, {"role": "assistant", "content": answer}]);
    format!("{}\n", serde_json::json!({"messages": turns}))
}

#[test]
fn rows_that_nova_refuses_are_not_written() {
    let folder = Folder::new();
    let out = folder.path("out.jsonl").display().to_string();
    let convert = |rows: &str, more: &[&str]| temper(&[&["data", "convert", rows, "-o", &out, "--to"], more].concat());
    let unwritten = |output: &Output, pieces: &[&str]| {
        refused(output, 2, pieces);
        assert!(!folder.path("out.jsonl").exists(), "nothing is written");
    };
    // A reserved word, and a turn out of order.
    let reserved = folder.write("reserved.jsonl", asked("2+2?", "4") + &asked("User: 2+2?", "4") + &asked("1+1?", "2"));
    unwritten(
        &convert(&reserved, &["converse"]),
        &["reserved.jsonl:2: row-reserved: the reserved word `User:`", "aws/nova-forge-sdk @ a4d5b3d"],
    );
    let skipped = convert(&reserved, &["converse", "--skip"]);
    refused(&skipped, 0, &["2 rows written as `converse`", "left out: 1 rows, first rows [2]: row-reserved"]);
    // What was written keeps the contract.
    let recipe = folder.write("nova.yaml", NOVA);
    let found = rules(&json(&temper(&["check", &recipe, "--data", &out, "--json"])));
    assert!(!found.iter().any(|rule| rule.starts_with("row-") || rule == "turn-order"), "{found:?}");
    std::fs::remove_file(&out).unwrap();
    let asks = r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]}"#;
    let asks = folder.write("asks.jsonl", asks);
    unwritten(&convert(&asks, &["converse"]), &["asks.jsonl:1: turn-order: the last turn is not the assistant's"]);
    let calls = r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "", "tool_calls": [{"id": "t", "type": "function", "function": {"name": "f", "arguments": {}}}]}, {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]}"#;
    let calls = folder.write("calls.jsonl", calls);
    unwritten(&convert(&calls, &["converse"]), &["calls.jsonl:1: tool-id: a tool's call `t` without its result"]);
    // Reasoning is Nova 2's; how many rows there are is Bedrock's.
    let thinks = r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "reasoning_content": "c"}]}"#;
    let thinks = folder.write("thinks.jsonl", thinks);
    done(&convert(&thinks, &["converse"]));
    std::fs::remove_file(&out).unwrap();
    unwritten(&convert(&thinks, &["converse", "--nova", "1"]), &["row-reasoning: reasoning: only Nova 2 reasons"]);
    unwritten(
        &convert(&thinks, &["converse", "--bedrock"]),
        &["1 rows, expected 200 to 20,000 (Bedrock refuses the job)"],
    );
    let enough = folder.write("enough.jsonl", asked("2+2?", "4").repeat(200));
    done(&convert(&enough, &["converse", "--bedrock"]));
    std::fs::remove_file(&out).unwrap();
    // Rows for RFT are the rewards' of Temper too: that they are Nova's is said, and their ids are given.
    let tasks = folder.write("tasks.jsonl", asked("2+2?", "4").repeat(3));
    refused(&convert(&tasks, &["rft"]), 0, &["whether Amazon Nova takes these rows was not looked at"]);
    assert!(!std::fs::read_to_string(&out).unwrap().contains("\"id\""));
    let named = convert(&tasks, &["rft", "--nova", "2"]);
    refused(
        &named,
        0,
        &[
            "given an `id`, FILE-ROW: 3 rows, first rows [1, 2, 3]",
            "warning: 3 rows [rows-of-platform]: start with 100 to 200",
        ],
    );
    let ids: Vec<Value> =
        std::fs::read_to_string(&out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        ids.iter().map(|row| row["id"].as_str().unwrap()).collect::<Vec<_>>(),
        ["tasks-1", "tasks-2", "tasks-3"]
    );
    refused(
        &convert(&tasks, &["messages", "--nova", "2"]),
        2,
        &["takes no rows of the format `messages`", "hint: --to converse"],
    );
}

#[test]
fn a_reward_file_is_looked_at_and_never_run() {
    let folder = Folder::new();
    let recipe = folder.write("nova.yaml", NOVA);
    let mark = folder.path("ran");
    let reward =
        folder.write("reward.py", format!("open({:?}, 'w')\ndef lambda_handler(event):\n    return {{}}\n", mark));
    let output = temper(&["check", &recipe, "--reward", &reward]);
    assert_eq!(output.status.code(), Some(4));
    assert!(
        stdout(&output).contains("reward.py:2:1: error: `lambda_handler` takes 1 arguments [reward-handler]"),
        "{}",
        stdout(&output)
    );
    assert!(!mark.exists());
}

#[test]
fn a_recipe_of_tempers_own_is_checked_too() {
    let folder = Folder::new();
    let recipe = folder.recipe(&gguf(), &tiny("tiny_train.jsonl"));
    let report = json(&temper(&["check", &recipe, "--json"]));
    assert_eq!(report["tool"], "temper");
    assert!(report["rows"].as_u64().unwrap() > 0, "{report}");
    // Its warm-up of 3 % is one step of four; nothing in it costs a run, but for what the plan says of tiny data.
    let errors =
        |report: &Value| report["findings"].as_array().unwrap().iter().filter(|f| f["severity"] == "error").count();
    assert_eq!(errors(&report), 0, "{report}");
    let late = json(&temper(&["check", &recipe, "--json", "--set", "stages.0.eval_steps=50"]));
    assert!(rules(&late).contains(&"validation-never-fires".to_owned()), "{late}");
    let bad = temper(&["check", &recipe, "--set", "stages.0.learning_rate=-1"]);
    assert_eq!(bad.status.code(), Some(4));
    assert!(stdout(&bad).contains("--set stages.0.learning_rate=-1: error: "), "{}", stdout(&bad));
}

#[test]
fn a_recipe_of_nova_is_imported_planned_and_exported_again() {
    let folder = Folder::new();
    let theirs = folder.write("nova.yaml", NOVA.replace("max_length: 32768", "max_length: 8192"));
    let ours = folder.path("ours.yaml").display().to_string();
    refused(
        &temper(&["import", &theirs]),
        2,
        &["Nova's weights cannot be had", "hint: name the model to train here by --base"],
    );
    let arguments = ["import", &theirs, "--base", &gguf(), "--data", &tiny("tiny_train.jsonl"), "-o", &ours];
    let output = temper(&arguments);
    done(&output);
    refused(
        &output,
        0,
        &["not carried: ", "nova.yaml:2:3", "run.replicas: 1: machines: here one trains"]
            .map(|s| if s.contains("2:3") { "nova.yaml:" } else { s }),
    );
    let text = std::fs::read_to_string(&ours).unwrap();
    assert!(
        text.contains("learning_rate: 1.0e-5") && text.contains("# line 15, training_config.optim_config.lr"),
        "{text}"
    );
    // What was written is a recipe: it can be planned.
    done(&temper(&[
        "plan",
        &ours,
        "--offline",
        "--set",
        "stages.0.max_length=256",
        "--set",
        "stages.0.micro_batch_tokens=256",
    ]));
    let back = folder.path("back.yaml").display().to_string();
    done(&temper(&["export", &ours, "--to", "nova", "-o", &back]));
    assert_eq!(temper(&["check", &back]).status.code(), Some(0), "{}", std::fs::read_to_string(&back).unwrap());
    let marked = stdout(&temper(&["export", &ours, "--to", "nova", "--as-hypothesis", &ours]));
    assert!(
        marked.contains("HYPOTHESIS, not a result: values tuned on") && marked.contains("lr: 5.0e-6  # hypothesis"),
        "{marked}"
    );
    // The short search around it is written once, and each of its recipes can be checked.
    let search = folder.path("search").display().to_string();
    let arguments = ["export", &ours, "--to", "nova", "--as-hypothesis", &ours, "--search", &search];
    refused(&temper(&arguments), 0, &["1-control.yaml: Nova's default rate", "README.md: in which order"]);
    let order = std::fs::read_to_string(folder.path("search/README.md")).unwrap();
    for name in ["1-control.yaml", "2-hypothesis.yaml", "3-rate-between.yaml"] {
        assert!(order.contains(&format!("| `{name}` |")), "{order}");
        let one = folder.path(&format!("search/{name}")).display().to_string();
        assert_eq!(temper(&["check", &one]).status.code(), Some(0), "{}", std::fs::read_to_string(&one).unwrap());
    }
    refused(&temper(&arguments), 2, &["there is a README.md already", "hint: name another folder"]);
}

#[test]
fn a_recipe_is_exported_for_every_tool_and_options_of_a_model_are_refused() {
    let folder = Folder::new();
    let recipe = folder.recipe("hf:Qwen/Qwen3-4B", &tiny("tiny_train.jsonl"));
    for (tool, key) in [
        ("axolotl", "base_model: Qwen/Qwen3-4B"),
        ("llamafactory", "stage: sft"),
        ("trl", "use_peft: true"),
        ("nova", "peft_scheme: lora"),
    ] {
        let output = temper(&["export", &recipe, "--to", tool]);
        let shown = done(&output);
        assert!(shown.contains(key), "{shown}");
        refused(&output, 0, &["not carried: ", "stages.0.mix"]);
    }
    refused(&temper(&["export", &recipe, "--to", "trl", "--type", "f16"]), 2, &["belong to a model"]);
    refused(&temper(&["export", &recipe, "--to", "trl", "--as-hypothesis", &recipe]), 2, &["carries values to Nova"]);
    refused(
        &temper(&["export", &recipe, "--to", "nova", "--as-hypothesis", "nowhere"]),
        2,
        &["no study with a tune.json"],
    );
    refused(&temper(&["export", "runs/x", "--to", "gguf", "--as-hypothesis", &recipe]), 2, &["belong to a recipe"]);
}
