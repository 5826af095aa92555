//! `plan`, `run` and `eval`.

use super::*;

#[test]
fn a_whole_run_on_a_few_rows() {
    let folder = Folder::new();
    let recipe = folder.recipe(&gguf(), &tiny("tiny_train.jsonl"));
    let plan = temper(&["plan", &recipe]);
    assert_eq!(plan.status.code(), Some(0), "{}", String::from_utf8_lossy(&plan.stderr));
    for piece in ["stages.0.learning_rate", "default: ", "recipe, line", "mix, by samples", "trained parameters"] {
        assert!(stdout(&plan).contains(piece), "`{piece}` is not in the plan");
    }
    let run = temper(&["run", &recipe, "--no-cache"]);
    assert!(matches!(run.status.code(), Some(0 | 4)), "{}", String::from_utf8_lossy(&run.stderr));
    for piece in ["heldout", "relative loss", "macro F1", "verdict: ", "run folder"] {
        assert!(stdout(&run).contains(piece), "`{piece}` is not in:\n{}", stdout(&run));
    }
    let at = |name: &str| folder.path("run").join(name);
    let metrics = std::fs::read_to_string(at("metrics.jsonl")).unwrap();
    assert_eq!(metrics.lines().filter(|l| l.contains("\"step\"") && l.contains("gradient_norm")).count(), 4);
    for file in [
        "plan.json",
        "judgement.json",
        "summary.json",
        "adapter/adapter_model.safetensors",
        "adapter/README.md",
        "merged/config.json",
        "merged/README.md",
    ] {
        assert!(at(file).is_file(), "{file}");
    }
    // Every item of every suite, with what both models wrote.
    let items = std::fs::read_to_string(at("judgement_items.jsonl")).unwrap();
    let rows = |name: &str| std::fs::read_to_string(tiny(&format!("{name}.jsonl"))).unwrap().lines().count();
    let suites = ["tiny_test", "tiny_heldout", "tiny_mc", "tiny_chat_prompts", "tiny_instructions"];
    assert_eq!(items.lines().count(), suites.map(rows).iter().sum::<usize>());
    let first: serde_json::Value = serde_json::from_str(items.lines().next().unwrap()).unwrap();
    assert!(first["base"]["written"].is_string() && first["tuned"]["written"].is_string(), "{first}");
    // The report is made again from the folder alone, the same to the byte; without texts it holds none of them.
    let page = std::fs::read_to_string(at("report.html")).unwrap();
    let prompt = first["prompt"].as_str().unwrap().lines().last().unwrap();
    assert!(page.contains(prompt), "{prompt}");
    let run_folder = folder.path("run").display().to_string();
    let again = folder.path("again.html").display().to_string();
    done(&temper(&["report", &run_folder, "--output", &again]));
    assert_eq!(std::fs::read_to_string(&again).unwrap(), page);
    done(&temper(&["report", &run_folder, "--output", &again, "--no-samples"]));
    assert!(!std::fs::read_to_string(&again).unwrap().contains(prompt), "{prompt}");
    refused(&temper(&["report", &folder.path("nowhere").display().to_string()]), 2, &["nowhere", "hint:"]);
    // The adapter over its base and the merged model are one model.
    let answer = |arguments: &[&str]| {
        let mut all = vec!["generate", "--prompt", "The lens of the eye", "--raw", "--max-new-tokens", "12"];
        all.extend(arguments);
        let output = temper(&all);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        stdout(&output)
    };
    let adapter = at("adapter").display().to_string();
    let adapted = answer(&["--base", &gguf(), "--adapter", &adapter]);
    assert_eq!(adapted, answer(&["--base", &at("merged").display().to_string()]));
    // The same adapter judged again gives the same comparison of the same test rows.
    let again = temper(&["eval", &recipe, "--adapter", &adapter, "--test", "--json"]);
    let again: serde_json::Value = serde_json::from_slice(&again.stdout).unwrap();
    let judged: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(at("judgement.json")).unwrap()).unwrap();
    assert_eq!(again["rows"], judged["rows"]);
    // A second run does not overwrite the first.
    refused(&temper(&["run", &recipe]), 1, &["already holds a run", "hint:"]);
}

#[test]
fn a_plan_refuses_items_of_which_no_interval_can_be_made() {
    let folder = Folder::new();
    let recipe = folder.recipe(&gguf(), &tiny("tiny_train.jsonl"));
    let one_source = folder.write(
        "one_source.jsonl",
        "{\"text\": \"Call me Ishmael.\", \"source\": \"a book\"}\n{\"text\": \"It was a cold day.\", \"source\": \"a book\"}\n",
    );
    let set = format!("evaluation.general=[{{name: heldout, kind: text_loss, path: {one_source}}}]");
    refused(
        &temper(&["plan", &recipe, "--set", &set]),
        2,
        &["evaluation.general.0.path", "one_source.jsonl", "2 items of one `source`", "hint: add items of another"],
    );
    let test = std::fs::read_to_string(tiny("tiny_test.jsonl")).unwrap();
    let one_row = folder.write("one_row.jsonl", test.lines().next().unwrap());
    let set = format!("evaluation.domain.test={one_row}");
    refused(
        &temper(&["plan", &recipe, "--set", &set]),
        2,
        &["evaluation.domain.test", "one_row.jsonl: 1 item", "hint:"],
    );
}
