//! `temper data check`.

use serde_json::Value;

use super::*;

const TRAIN: &str = "\
{\"messages\": [{\"role\": \"user\", \"content\": \"Malignant neoplasm of the middle ear\"}, {\"role\": \"assistant\", \"content\": \"Neoplasm\"}], \"label\": \"Neoplasm\"}
{\"messages\": [{\"role\": \"user\", \"content\": \"Malignant neoplasm of the middle ear\"}, {\"role\": \"assistant\", \"content\": \"Neoplasm\"}], \"label\": \"Neoplasm\"}
{\"messages\": [{\"role\": \"user\", \"content\": \"Pannus of the eye, ask jane@clinic.org\"}, {\"role\": \"assistant\", \"content\": \"Eye\"}], \"label\": \"Eye\"}
";

#[test]
fn a_check_tells_what_it_found_and_refuses_errors() {
    let folder = Folder::new();
    let train = folder.write("train.jsonl", TRAIN);
    let shown = done(&temper(&["data", "check", &train]));
    for piece in [
        "3 rows",
        "exact_duplicate",
        "personal_data",
        "e-mail address 1",
        "train.jsonl:2 (as",
        "length in characters",
        "█",
    ] {
        assert!(shown.contains(piece), "`{piece}` is not in:\n{shown}");
    }
    assert!(!shown.contains("jane"), "{shown}");
    // Under other names, from standard input, as one set.
    let other = folder.write("other.csv", "body\nThe lens of the eye is clear and lies behind the iris\n");
    let report: Value =
        serde_json::from_str(&done(&temper(&["data", "check", &other, "--column", "text=body", "--json"]))).unwrap();
    assert_eq!((&report["rows"], &report["findings"]), (&1.into(), &Value::Array(Vec::new())));
    // The first row is held out, and so is the one that repeats it.
    let test = folder.write("test.jsonl", TRAIN.lines().next().unwrap());
    let output = temper(&["data", "check", &train, "--against", &test]);
    assert_eq!(output.status.code(), Some(4));
    for piece in ["error", "held_out_row", "refused"] {
        assert!(stdout(&output).contains(piece), "{}", stdout(&output));
    }
    assert_eq!(temper(&["data", "check", &train, "--validation", &test]).status.code(), Some(4));
    // Items of a suite are no rows; a file that is neither is refused.
    done(&temper(&["data", "check", &train, "--against", &tiny("tiny_mc.jsonl"), &tiny("tiny_instructions.jsonl")]));
    let broken = folder.write("broken.jsonl", "{\"no\": ");
    refused(&temper(&["data", "check", &train, "--against", &broken]), 2, &["broken.jsonl:1"]);
    refused(&temper(&["data", "check", "nowhere.jsonl"]), 2, &["nowhere.jsonl", "no such file"]);
    refused(&temper(&["data", "check", &train, "--max-length", "8"]), 2, &["--base"]);
}

/// The stage's own rules: its length, its history, its filters, what judges it.
#[test]
fn with_a_recipe_the_rules_are_those_of_its_stage() {
    let folder = Folder::new();
    let rows: Vec<String> = (0..3)
        .map(|n| {
            format!(
                "{{\"messages\": [{{\"role\": \"user\", \"content\": \"question {n}\"}}, {{\"role\": \"assistant\", \"content\": \"first {n}\"}}, \
                 {{\"role\": \"user\", \"content\": \"and {n}\"}}, {{\"role\": \"assistant\", \"content\": \"second {n}\"}}]}}\n"
            )
        })
        .collect();
    let train = folder.write("train.jsonl", rows.concat());
    let validation = folder.write("validation.jsonl", &rows[0]);
    let recipe = folder.write(
        "recipe.yaml",
        format!(
            "name: r\nbase: {}\nstages:\n  - kind: sft\n    train: {train}\n    validation: {validation}\n    max_steps: 2\n    \
             learning_rate: 1e-3\n    max_length: 512\n",
            gguf()
        ),
    );
    let report = |more: &[&str], code: i32| -> Value {
        let output = temper(&[&["data", "check", "--recipe", &recipe, "--json"], more].concat());
        assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_str(&stdout(&output)).unwrap()
    };
    let found = |report: &Value, check: &str| {
        let findings = report["findings"].as_array().unwrap();
        findings.iter().find(|finding| finding["check"] == check).map(|finding| finding["action"].clone())
    };
    // A row of the stage's validation is trained on.
    let all = report(&[], 4);
    assert_eq!((&all["rows"], found(&all, "held_out_row")), (&3.into(), Some("refused".into())));
    assert_eq!(all["lengths"]["unit"], "tokens");
    let filtered = report(&["--set", "stages.0.filters.overlap=drop"], 0);
    assert_eq!(found(&filtered, "held_out_row"), Some("dropped".into()));
    assert_eq!(found(&report(&["--set", "stages.0.data_errors=allow"], 0), "held_out_row"), Some("nothing".into()));
    // Half of the answers are history.
    let trained = |report: &Value| report["trained_tokens"][0].as_u64().unwrap();
    let last = report(&["--set", "stages.0.mask_history=true"], 4);
    assert!(trained(&last) < trained(&all) && trained(&last) > 0, "{last}");
    let long = report(&["--set", "stages.0.max_length=8"], 4);
    assert_eq!((found(&all, "too_long"), found(&long, "too_long")), (None, Some("dropped".into())));
    // Other files by the same rules; what contradicts the recipe is refused.
    let other = folder.write("other.jsonl", &rows[1]);
    assert_eq!(report(&[&other], 0)["rows"], 1);
    let base = gguf();
    refused(&temper(&["data", "check", "--recipe", &recipe, "--base", &base]), 2, &["--recipe", "--base"]);
    refused(
        &temper(&["data", "check", "--recipe", &recipe, "--stage", "1"]),
        2,
        &["stages.1", "there is no such stage"],
    );
    refused(&temper(&["data", "check"]), 2, &["FILES"]);
}

#[test]
fn with_a_base_lengths_are_tokens() {
    let folder = Folder::new();
    let train = folder.write("train.jsonl", TRAIN);
    let base = gguf();
    let output = temper(&["data", "check", &train, "--base", &base, "--max-length", "4", "--json"]);
    let report: Value = serde_json::from_str(&done(&output)).unwrap();
    assert_eq!(report["lengths"]["unit"], "tokens");
    let (trained, all) = (report["trained_tokens"][0].as_u64().unwrap(), report["trained_tokens"][1].as_u64().unwrap());
    assert!(0 < trained && trained < all, "{report}");
    let too_long =
        report["findings"].as_array().unwrap().iter().find(|finding| finding["check"] == "too_long").unwrap();
    assert_eq!((&too_long["count"], &too_long["action"]), (&3.into(), &"dropped".into()));
}
