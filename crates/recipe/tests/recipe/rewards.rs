//! The section `rewards`: what it reads, its defaults by kind, what it refuses.

use temper_recipe::{Extract, OnFailure, Reward, RewardFile, SandboxMode, ScoredBy, VerifierKind};

fn load(entries: &[&str]) -> Result<Vec<Reward>, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rewards.yaml");
    for name in ["mine.py", "schema.json", "prompt.txt"] {
        std::fs::write(folder.path().join(name), "{}").unwrap();
    }
    let entries: String = entries.iter().map(|entry| format!("  - {{{entry}}}\n")).collect();
    std::fs::write(&file, format!("rewards:\n{entries}")).unwrap();
    let read = RewardFile::load(&file, &[]).map(|(file, _)| file.rewards);
    read.map_err(|errors| errors.to_string().replace(file.to_str().unwrap(), "FILE"))
}

fn one(entry: &str) -> Reward {
    load(&[&format!("name: a, {entry}")]).unwrap().remove(0)
}

#[test]
fn defaults_fit_the_kind() {
    let numeric = one("verifier: numeric");
    assert_eq!(numeric.by.value.verifier(), Some(VerifierKind::Numeric));
    assert_eq!((*numeric.weight, *numeric.gate, *numeric.held_out), (1.0, false, false));
    assert_eq!(numeric.extract.unwrap().value, Extract::LastNumber);
    assert_eq!(numeric.field.unwrap().value, "reference_answer");
    assert_eq!(*numeric.on_failure, OnFailure::Exclude);
    assert!(numeric.timeout_seconds.is_none() && numeric.threshold.is_none());

    let tests = one("verifier: unit_tests");
    assert_eq!((tests.sandbox.unwrap().value, tests.field.unwrap().value.as_str()), (SandboxMode::Required, "tests"));
    assert_eq!(tests.timeout_seconds.unwrap().value, 10.0);

    let program = one("program: mine.py, gate: true");
    assert!(matches!(&program.by.value, ScoredBy::Program(path) if path.ends_with("mine.py")));
    assert_eq!((program.sandbox.unwrap().value, program.concurrency.unwrap().value), (SandboxMode::Off, 1));
    assert_eq!((program.threshold.unwrap().value, program.gate_value.unwrap().value), (0.0, 0.0));
    assert!(program.extract.is_none() && program.field.is_none());

    let judge = one("judge: \"http://localhost:8000/v1\", model: m, prompt: prompt.txt");
    assert_eq!((judge.concurrency.unwrap().value, judge.scale.unwrap().value), (12, 10.0));
    assert!(one("verifier: json_schema, schema: schema.json").field.is_none());
}

#[test]
fn files_are_found_for_whoever_moves_the_recipe() {
    let files = |entry: &str| one(entry).files_mut().count();
    assert_eq!(files("program: mine.py"), 1);
    assert_eq!(files("verifier: json_schema, schema: schema.json"), 1);
    assert_eq!(files("judge: \"http://h/v1\", model: m, prompt: prompt.txt"), 1);
    assert_eq!(files("verifier: exact"), 0);
}

#[test]
fn what_has_no_effect_or_no_sense_is_refused() {
    for (entries, message) in [
        (&["name: a"][..], "one of `verifier`, `program`, `url`, `judge` is missing"),
        (&["name: a, verifier: exact, program: mine.py"], "exclude each other"),
        (&["name: a, verifier: exactly"], "did you mean `exact`?"),
        (&["name: a, verifier: exact, tolerance: 0.1"], "`rewards.0.tolerance` has no effect with verifier: exact"),
        (
            &["name: a, verifier: exact, timeout_seconds: 1"],
            "`rewards.0.timeout_seconds` has no effect with verifier: exact",
        ),
        (&["name: a, program: mine.py, extract: whole"], "`rewards.0.extract` has no effect with program"),
        (&["name: a, program: other.py"], "there is no file"),
        (&["name: a, verifier: regex"], "`rewards.0.pattern` is missing"),
        (&["name: a, verifier: exact, extract: after"], "`rewards.0.after` is missing"),
        (&["name: a, verifier: exact, after: x"], "`rewards.0.after` has no effect with another `extract`"),
        (&["name: a, verifier: exact, threshold: 1"], "`rewards.0.threshold` has no effect with gate: false"),
        (&["name: a, verifier: exact, gate: true, held_out: true"], "never part of the total cannot close it"),
        (&["name: a, verifier: length, at_least: 5, at_most: 3"], "above `at_most` 3"),
        (
            &["name: a, verifier: json_schema, schema: schema.json, field: x"],
            "`rewards.0.field` has no effect with `schema`",
        ),
        (&["name: a, verifier: unit_tests, sandbox: off"], "does not run without a sandbox"),
        (&["name: a, url: localhost"], "an address that begins with `http://` or `https://`"),
        (&["name: a, judge: \"http://h/v1\""], "`rewards.0.model` is missing"),
        (&["name: a, verifier: exact", "name: a, verifier: f1"], "a second reward named `a`"),
        (&["name: a, verifier: exact, held_out: true"], "no reward counts"),
        (&["name: a, verifier: exact, weight: 0"], "no reward counts"),
        (&["name: a, verifier: exact, max_error_rate: 2"], "a number from 0 to 1"),
    ] {
        let complaint = load(entries).unwrap_err();
        assert!(complaint.contains(message), "`{message}` is not in:\n{complaint}");
    }
}
