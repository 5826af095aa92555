#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::io::Write;

use super::*;

fn report(rows: &[&str], purpose: Purpose, second: bool, bedrock: bool) -> ContractReport {
    let mut file = tempfile::Builder::new().suffix(".jsonl").tempfile().unwrap();
    for row in rows {
        writeln!(file, "{row}").unwrap();
    }
    keeps(file.path(), &Contract { purpose, second, bedrock }).unwrap()
}

fn rules(row: &str, purpose: Purpose, second: bool) -> Vec<&'static str> {
    let mut rules: Vec<_> = report(&[row], purpose, second, false).breaches.iter().map(|b| b.rule).collect();
    rules.retain(|rule| *rule != "rows-of-platform");
    rules.dedup();
    rules
}

/// A conversation of these turns.
fn sft(turns: &str) -> String {
    format!(r#"{{"schemaVersion":"bedrock-conversation-2024","system":[{{"text":"Be brief."}}],"messages":[{turns}]}}"#)
}

const USER: &str = r#"{"role":"user","content":[{"text":"What is 2 and 2?"}]}"#;
const ANSWER: &str = r#"{"role":"assistant","content":[{"text":"4"}]}"#;

#[test]
fn what_the_service_takes_breaks_nothing() {
    assert!(rules(&sft(&format!("{USER},{ANSWER}")), Purpose::Sft, true).is_empty());
    let reasoning =
        r#"{"role":"assistant","content":[{"reasoningContent":{"reasoningText":{"text":"Add."}}},{"text":"4"}]}"#;
    let with = sft(&format!("{USER},{reasoning}"));
    assert!(rules(&with, Purpose::Sft, true).is_empty());
    assert_eq!(report(&[&with], Purpose::Sft, true, false).reasoning_rows, 1);
    let calls = sft(&format!(
        r#"{USER},{{"role":"assistant","content":[{{"toolUse":{{"toolUseId":"a","name":"add","input":{{}}}}}}]}},{{"role":"user","content":[{{"toolResult":{{"toolUseId":"a","content":[{{"text":"4"}}]}}}}]}},{ANSWER}"#
    ));
    assert!(rules(&calls, Purpose::Sft, true).is_empty());
    let pair = sft(&format!(
        r#"{USER},{{"role":"assistant","candidates":[{{"content":[{{"text":"4"}}],"preferenceLabel":"preferred"}},{{"content":[{{"text":"5"}}],"preferenceLabel":"non-preferred"}}]}}"#
    ));
    assert!(rules(&pair, Purpose::Dpo, false).is_empty());
    assert!(rules(r#"{"text":"A document."}"#, Purpose::Cpt, true).is_empty());
    let task = r#"{"id":"r1","messages":[{"role":"user","content":"2+2?"}],"reference_answer":"4","level":1}"#;
    assert!(rules(task, Purpose::Rft, true).is_empty());
    assert!(rules(r#"{"id":"r1","metadata":{"prompt":"Go."}}"#, Purpose::RftMultiTurn, true).is_empty());
    assert!(rules(r#"{"query":"2+2?","response":"4"}"#, Purpose::Questions, true).is_empty());
    assert!(rules(r#"{"prompt":"2+2?","response_A":"4","response_B":"5"}"#, Purpose::Judged, true).is_empty());
}

#[test]
fn what_it_refuses_is_told() {
    let rule = |turns: &str, second| rules(&sft(turns), Purpose::Sft, second);
    assert_eq!(rule(USER, true), ["turn-order"]);
    assert_eq!(rule(&format!("{ANSWER},{USER}"), true), ["turn-order"]);
    let reserved = r#"{"role":"assistant","content":[{"text":"Bot: 4"}]}"#;
    assert_eq!(rule(&format!("{USER},{reserved}"), true), ["row-reserved"]);
    let reasoning =
        r#"{"role":"assistant","content":[{"reasoningContent":{"reasoningText":{"text":"Add."}}},{"text":"4"}]}"#;
    assert_eq!(rule(&format!("{USER},{reasoning}"), false), ["row-reasoning"]);
    let result = r#"{"role":"user","content":[{"toolResult":{"toolUseId":"z","content":[]}}]}"#;
    assert_eq!(rule(&format!("{result},{ANSWER}"), true), ["tool-id"]);
    let picture = r#"{"image":{"format":"png","source":{}}}"#;
    let many = [picture; 11].join(",");
    assert_eq!(rule(&format!(r#"{{"role":"user","content":[{many}]}},{ANSWER}"#), true), ["row-media"]);
    let both = format!(r#"{{"role":"user","content":[{picture},{{"video":{{}}}}]}},{ANSWER}"#);
    assert_eq!(rule(&both, true), ["row-media"]);
    assert_eq!(rules(r#"{"messages":[]}"#, Purpose::Sft, true), ["row-schema"]);
    let same = sft(&format!(
        r#"{USER},{{"role":"assistant","candidates":[{{"content":[{{"text":"4"}}],"preferenceLabel":"preferred"}},{{"content":[{{"text":"4"}}],"preferenceLabel":"non-preferred"}}]}}"#
    ));
    assert_eq!(rules(&same, Purpose::Dpo, false), ["row-pair"]);
    assert_eq!(rules(&sft(&format!("{USER},{ANSWER}")), Purpose::Dpo, false), ["row-schema"]);
    assert_eq!(rules(r#"{"text":"x","id":"1"}"#, Purpose::Cpt, true), ["row-schema"]);
    assert_eq!(
        rules(r#"{"id":"1","messages":[{"role":"user","content":"?"}]}"#, Purpose::Rft, true),
        ["row-reference"]
    );
    assert_eq!(rules(r#"{"metadata":{}}"#, Purpose::RftMultiTurn, true), ["row-schema"]);
    assert_eq!(rules("no JSON", Purpose::Cpt, true), ["row-schema"]);
}

#[test]
fn rows_are_counted_by_platform_and_each_breach_has_its_lines() {
    let row = sft(&format!("{USER},{ANSWER}"));
    let rows = vec![row.as_str(); 199];
    let short = report(&rows, Purpose::Sft, true, true);
    assert_eq!((short.rows, short.breaches.len(), short.breaches[0].rule), (199, 1, "rows-of-platform"));
    assert!(report(&vec![row.as_str(); 200], Purpose::Sft, true, true).breaches.is_empty());
    assert!(report(&rows, Purpose::Sft, false, true).breaches.is_empty());
    let bad = sft(USER);
    let mixed = report(&[&row, &bad, &row, &bad], Purpose::Sft, true, false);
    assert_eq!((mixed.breaches[0].rows, &mixed.breaches[0].first_lines[..]), (2, &[2, 4][..]));
}
