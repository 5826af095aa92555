//! Every rule, both ways: a comment `# expect: RULE` stands on each line where a rule must speak, and no rule may speak elsewhere. A
//! line `known: rows=N reasoning=N` says what is known beside the recipe. JSON has no comments: its expectations lie beside it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use temper_recipe::Place;
use temper_recipe::foreign::{Document, Finding, Known, RULES, Severity, check};

fn folder(name: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign").join(name);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|end| end != "expect"));
    files.sort();
    files
}

/// The number after `key=` in a text.
fn number(text: &str, key: &str) -> Option<u64> {
    let rest = text.split(&format!("{key}=")).nth(1)?;
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
}

/// What a file expects: lines with rules, and what is known beside it.
fn expected(file: &Path) -> (BTreeSet<(usize, String)>, Known) {
    let text = std::fs::read_to_string(file).unwrap();
    let beside = PathBuf::from(format!("{}.expect", file.display()));
    let mut rules = BTreeSet::new();
    let mut add = |line: usize, said: &str| {
        rules.extend(said.split_whitespace().map(|rule| (line, rule.trim_matches(',').to_owned())));
    };
    for (index, line) in text.lines().enumerate() {
        if let Some((_, said)) = line.split_once("# expect: ") {
            add(index + 1, said);
        }
    }
    let told = std::fs::read_to_string(beside).unwrap_or_default();
    for line in told.lines() {
        if let Some((line, said)) = line.split_once(": ")
            && let Ok(line) = line.parse()
        {
            add(line, said);
        }
    }
    let known = text.lines().chain(told.lines()).find(|line| line.contains("known: ")).unwrap_or_default();
    let conversations = known.contains("conversations").then_some(true);
    (rules, Known { rows: number(known, "rows"), reasoning_rows: number(known, "reasoning"), conversations })
}

/// Of a finding, its line (0 for the whole file) and its rule.
fn brief(finding: &Finding) -> (usize, String) {
    let line = match finding.place {
        Place::File { line, .. } => line,
        _ => 0,
    };
    (line, finding.rule.to_owned())
}

fn findings(file: &Path) -> (Vec<Finding>, BTreeSet<(usize, String)>) {
    let document = Document::read(file, None).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let (expected, known) = expected(file);
    (check(&document, &known), expected)
}

#[test]
fn each_line_has_the_findings_that_it_expects_and_no_other() {
    let mut wrong = Vec::new();
    for file in folder("good").into_iter().chain(folder("bad")) {
        let (found, expected) = findings(&file);
        let briefs: BTreeSet<_> = found.iter().map(brief).collect();
        for missing in expected.difference(&briefs) {
            wrong.push(format!("{}: expected {missing:?}", file.display()));
        }
        for finding in found.iter().filter(|finding| !expected.contains(&brief(finding))) {
            wrong.push(format!("{}: not expected {:?}: {}", file.display(), brief(finding), finding.found));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_good_recipe_has_neither_errors_nor_warnings() {
    for file in folder("good") {
        let (found, _) = findings(&file);
        let grave: Vec<_> = found.iter().filter(|finding| finding.severity != Severity::Note).collect();
        assert!(grave.is_empty(), "{}: {grave:?}", file.display());
    }
}

#[test]
fn every_finding_says_why_and_who_says_so() {
    for file in folder("bad") {
        for finding in findings(&file).0 {
            assert!(!finding.reason.is_empty() && finding.source.contains(", "), "{finding:?}");
        }
    }
}

#[test]
fn every_shared_rule_fires_somewhere() {
    let fired: BTreeSet<String> = folder("bad")
        .iter()
        .chain(&folder("good"))
        .flat_map(|file| findings(file).0)
        .map(|f| f.rule.to_owned())
        .collect();
    let silent: Vec<&str> = RULES.iter().map(|rule| rule.id).filter(|id| !fired.contains(*id)).collect();
    assert!(silent.is_empty(), "no recipe of the corpus breaks {silent:?}");
}

#[test]
fn every_rule_is_in_the_documentation() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/other-tools.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let fired = folder("bad").into_iter().flat_map(|file| findings(&file).0).map(|finding| finding.rule);
    let missing: BTreeSet<&str> =
        fired.chain(RULES.iter().map(|rule| rule.id)).filter(|rule| !docs.contains(&format!("`{rule}`"))).collect();
    assert!(missing.is_empty(), "docs/other-tools.md does not say {missing:?}");
}

/// A corrected line, put in the place of the wrong one, mends it: the finding is gone.
#[test]
fn a_corrected_line_mends_what_it_corrects() {
    let mut tried = 0;
    for file in folder("bad").into_iter().filter(|file| file.extension().is_some_and(|end| end == "yaml")) {
        let text = std::fs::read_to_string(&file).unwrap();
        let (_, known) = expected(&file);
        for finding in findings(&file).0 {
            let (Some(corrected), (line, rule)) = (&finding.corrected, brief(&finding)) else { continue };
            let Some(wrong) = line.checked_sub(1).and_then(|line| text.lines().nth(line)) else { continue };
            let key = |line: &str| line.trim().trim_start_matches("- ").split(':').next().unwrap_or("").to_owned();
            // Only a value of the same key on a line of its own can be put in its place.
            if key(wrong) != key(corrected) || wrong.contains('{') {
                continue;
            }
            let indent: String = wrong.chars().take_while(|c| matches!(c, ' ' | '-')).collect();
            let lines: Vec<String> = text
                .lines()
                .enumerate()
                .map(|(at, old)| if at + 1 == line { format!("{indent}{corrected}") } else { old.to_owned() })
                .collect();
            let folder = tempfile::tempdir().unwrap();
            let mended = folder.path().join("mended.yaml");
            std::fs::write(&mended, lines.join("\n")).unwrap();
            let document = Document::read(&mended, None).unwrap();
            let still = check(&document, &known).iter().any(|finding| brief(finding) == (line, rule.clone()));
            assert!(!still, "{}: {line}: `{corrected}` does not mend {rule}", file.display());
            tried += 1;
        }
    }
    assert!(tried > 20, "only {tried} corrected lines were tried");
}
