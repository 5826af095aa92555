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
