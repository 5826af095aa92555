//! Evaluation data: one JSON object a line, strictly read.
//!
//! | file | row |
//! |---|---|
//! | held-out text | `{"text": "...", "source"?: "..."}` |
//! | multiple choice | `{"prompt": "...", "choices": ["...", ...], "answer": 0, "kind"?: "...", "source"?: "..."}` |
//! | chat prompts | `{"messages": [{"role": "user", "content": "..."}], "source"?: "..."}`, a user turn last |
//! | instructions | `{"prompt": "...", "checks": [{"kind": "contains", "text": "..."}, ...], "source"?: "..."}` |
//! | classification | `{"messages": [..., {"role": "assistant", "content": LABEL}], "label": LABEL, "group"?: "..."}` |
//!
//! `source` (`group` in a classification) names what items share that makes them depend on each other: a document, a
//! category. Intervals resample whole sources ([`clusters`]); an item without one stands alone. A name that all rows
//! share (the name of a corpus) leaves a single unit, of which no interval can be made.
//!
//! A file is read whole or refused with every bad line; nothing is skipped but blank lines. Unknown fields are refused.
//! Classification rows may carry more fields, since they are training rows too; one that is almost a known name is
//! refused.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use temper_text::Message;

use crate::instructions::Check;

/// Held-out text, for its loss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextItem {
    /// Line of the file, from 1.
    pub line: usize,
    /// The text, not blank.
    pub text: String,
    /// What it shares with other items.
    pub source: Option<String>,
}

/// A question with one right choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MultipleChoiceItem {
    /// Line of the file, from 1.
    pub line: usize,
    /// What each choice continues, not blank.
    pub prompt: String,
    /// At least two, no two alike, none blank.
    pub choices: Vec<String>,
    /// Index of the right choice.
    pub answer: usize,
    /// Kind of question: kinds are reported apart.
    pub kind: Option<String>,
    /// What it shares with other items.
    pub source: Option<String>,
}

/// A conversation that waits for an answer, for the divergence of base and tuned model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatPrompt {
    /// Line of the file, from 1.
    pub line: usize,
    /// A user turn last.
    pub messages: Vec<Message>,
    /// What it shares with other items.
    pub source: Option<String>,
}

/// A task whose answer a program can check.
#[derive(Clone, Debug, PartialEq)]
pub struct InstructionItem {
    /// Line of the file, from 1.
    pub line: usize,
    /// The user's turn, not blank.
    pub prompt: String,
    /// At least one.
    pub checks: Vec<Check>,
    /// What it shares with other items.
    pub source: Option<String>,
}

/// A conversation whose answer is one of the recipe's labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassificationItem {
    /// Line of the file, from 1.
    pub line: usize,
    /// The conversation without its answer, a user turn last.
    pub prompt: Vec<Message>,
    /// Index of the right label in the recipe's list.
    pub label: u32,
    /// What it shares with other items.
    pub group: Option<String>,
}

/// Something wrong with one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Line of the file, from 1.
    pub line: usize,
    /// What is wrong, what was expected and what was found.
    pub problem: String,
}

/// Why a file of items was refused.
#[derive(Debug, thiserror::Error)]
pub enum ItemsError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {error}\nhint: paths in a recipe are relative to the recipe's folder", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file has no rows.
    #[error("{}: no rows\nhint: expected one a line: {row}", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// What a row looks like.
        row: &'static str,
    },
    /// Some rows are wrong.
    #[error("{}: {}hint: expected {row}", path.display(), BadLines { rows: *rows, bad })]
    BadRows {
        /// The file.
        path: PathBuf,
        /// Rows in the file.
        rows: usize,
        /// Every problem, by line. The text shows the first [`SHOWN`].
        bad: Vec<BadLine>,
        /// What a row looks like.
        row: &'static str,
    },
}

/// Problems that an error's text spells out; the rest are counted.
pub const SHOWN: usize = 20;

struct BadLines<'a> {
    rows: usize,
    bad: &'a [BadLine],
}

impl fmt::Display for BadLines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: HashSet<usize> = self.bad.iter().map(|bad| bad.line).collect();
        writeln!(f, "{} of {} rows cannot be used", lines.len(), self.rows)?;
        for BadLine { line, problem } in self.bad.iter().take(SHOWN) {
            writeln!(f, "  line {line}: {problem}")?;
        }
        match self.bad.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => writeln!(f, "  and {more} more"),
        }
    }
}

/// Reads held-out text.
pub fn read_text(path: &Path) -> Result<Vec<TextItem>, ItemsError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Row {
        text: String,
        source: Option<String>,
    }
    read(path, r#"{"text": "...", "source"?: "..."}"#, |line, row: Row, problems| {
        not_blank("text", &row.text, problems);
        TextItem { line, text: row.text, source: row.source }
    })
}

/// Reads multiple choice.
pub fn read_multiple_choice(path: &Path) -> Result<Vec<MultipleChoiceItem>, ItemsError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Row {
        prompt: String,
        choices: Vec<String>,
        answer: usize,
        kind: Option<String>,
        source: Option<String>,
    }
    let row =
        r#"{"prompt": "...", "choices": ["...", "..."], "answer": index from 0, "kind"?: "...", "source"?: "..."}"#;
    read(path, row, |line, row: Row, problems| {
        not_blank("prompt", &row.prompt, problems);
        if row.choices.len() < 2 {
            problems.push(format!("`choices` has {} entries, expected at least 2", row.choices.len()));
        }
        let mut seen = HashSet::new();
        for choice in &row.choices {
            not_blank("choices", choice, problems);
            if !seen.insert(choice.trim()) {
                problems.push(format!("`choices` has {choice:?} twice, so the right answer is not one of them alone"));
            }
        }
        if row.answer >= row.choices.len() {
            problems.push(format!("`answer` is {}, expected an index below {}", row.answer, row.choices.len()));
        }
        let Row { prompt, choices, answer, kind, source } = row;
        MultipleChoiceItem { line, prompt, choices, answer, kind, source }
    })
}

/// Reads chat prompts.
pub fn read_chat_prompts(path: &Path) -> Result<Vec<ChatPrompt>, ItemsError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Row {
        messages: Vec<Message>,
        source: Option<String>,
    }
    let row = r#"{"messages": [{"role": "user", "content": "..."}], "source"?: "..."}, a user turn last"#;
    read(path, row, |line, row: Row, problems| {
        conversation(&row.messages, "user", problems);
        ChatPrompt { line, messages: row.messages, source: row.source }
    })
}

/// Reads instructions with their checks.
pub fn read_instructions(path: &Path) -> Result<Vec<InstructionItem>, ItemsError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Row {
        prompt: String,
        checks: Vec<Check>,
        source: Option<String>,
    }
    let row = r#"{"prompt": "...", "checks": [{"kind": "contains", "text": "..."}], "source"?: "..."}"#;
    read(path, row, |line, row: Row, problems| {
        not_blank("prompt", &row.prompt, problems);
        if row.checks.is_empty() {
            problems.push("`checks` is empty, expected at least one".to_owned());
        }
        for (index, check) in row.checks.iter().enumerate() {
            if let Some(problem) = check.problem() {
                problems.push(format!("`checks[{index}]`: {problem}"));
            }
        }
        InstructionItem { line, prompt: row.prompt, checks: row.checks, source: row.source }
    })
}

/// Reads classification rows and looks their labels up in the recipe's `labels`.
pub fn read_classification(path: &Path, labels: &[String]) -> Result<Vec<ClassificationItem>, ItemsError> {
    #[derive(Deserialize)]
    struct Row {
        messages: Vec<Message>,
        label: String,
        group: Option<String>,
        #[serde(flatten)]
        others: BTreeMap<String, IgnoredAny>,
    }
    let index: HashMap<&str, u32> = labels.iter().map(String::as_str).zip(0..).collect();
    let row = r#"{"messages": [..., {"role": "assistant", "content": LABEL}], "label": LABEL, "group"?: "..."}"#;
    read(path, row, |line, row: Row, problems| {
        for field in row.others.keys() {
            if let Some(known) = nearest(field, ["messages", "label", "group"].into_iter())
                && strsim::damerau_levenshtein(field, known) <= 2
            {
                problems.push(format!("unknown field `{field}`, did you mean `{known}`?"));
            }
        }
        let mut prompt = row.messages;
        conversation(&prompt, "assistant", problems);
        let answer = prompt.pop();
        if prompt.last().is_none_or(|message| message.role != "user") {
            problems.push("the assistant's turn does not follow a user turn".to_owned());
        }
        if let Some(answer) = answer.filter(|answer| answer.content != row.label) {
            problems.push(format!("the assistant answers {:?}, but `label` is {:?}", answer.content, row.label));
        }
        let label = index.get(row.label.as_str()).copied();
        if label.is_none() {
            let suggestion = nearest(&row.label, labels.iter().map(String::as_str))
                .map_or(String::new(), |near| format!("; the nearest is {near:?}"));
            problems.push(format!("label {:?} is none of the recipe's {} labels{suggestion}", row.label, labels.len()));
        }
        ClassificationItem { line, prompt, label: label.unwrap_or_default(), group: row.group }
    })
}

/// Numbers the sources of items in order of appearance, for the intervals of [`crate::stats`]; an item without a source
/// gets a number of its own. `None` if no item has one: then every item stands alone.
pub fn clusters<'a>(sources: impl Iterator<Item = Option<&'a str>>) -> Option<Vec<u32>> {
    let mut numbers: HashMap<&str, u32> = HashMap::new();
    let mut next = 0;
    let mut fresh = || {
        next += 1;
        next - 1
    };
    let clusters = sources
        .map(|source| match source {
            Some(source) => *numbers.entry(source).or_insert_with(&mut fresh),
            None => fresh(),
        })
        .collect();
    (!numbers.is_empty()).then_some(clusters)
}

/// Reads a file line by line. `check` turns a row into an item and adds what is wrong with it; an item of a row with
/// problems is never handed out.
fn read<Row: DeserializeOwned, Item>(
    path: &Path,
    row_format: &'static str,
    check: impl Fn(usize, Row, &mut Vec<String>) -> Item,
) -> Result<Vec<Item>, ItemsError> {
    let bytes = std::fs::read(path).map_err(|error| ItemsError::Read { path: path.to_owned(), error })?;
    let (mut items, mut bad) = (Vec::new(), Vec::new());
    let mut rows = 0;
    for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        rows += 1;
        let mut problems = Vec::new();
        match serde_json::from_slice::<Row>(line) {
            Ok(row) => items.push(check(index + 1, row, &mut problems)),
            Err(error) => {
                // The parser saw one line, so its own line number would mislead.
                let text = error.to_string();
                let (what, _) = text.split_once(" at line ").unwrap_or((&text, ""));
                problems.push(format!("column {}: {what}", error.column()));
            }
        }
        bad.extend(problems.into_iter().map(|problem| BadLine { line: index + 1, problem }));
    }
    if !bad.is_empty() {
        return Err(ItemsError::BadRows { path: path.to_owned(), rows, bad, row: row_format });
    }
    if rows == 0 {
        return Err(ItemsError::Empty { path: path.to_owned(), row: row_format });
    }
    Ok(items)
}

fn not_blank(field: &str, text: &str, problems: &mut Vec<String>) {
    if text.trim().is_empty() {
        problems.push(format!("`{field}` is blank"));
    }
}

/// Roles that are known, turns that say something, `last` at the end.
fn conversation(messages: &[Message], last: &str, problems: &mut Vec<String>) {
    for (index, message) in messages.iter().enumerate() {
        if !["system", "user", "assistant"].contains(&message.role.as_str()) {
            problems
                .push(format!("`messages[{index}].role` is {:?}, expected system, user or assistant", message.role));
        }
        if message.content.trim().is_empty() {
            problems.push(format!("`messages[{index}].content` is blank"));
        }
    }
    match messages.last() {
        None => problems.push("`messages` is empty".to_owned()),
        Some(message) if message.role != last => {
            problems.push(format!("the last turn is of role {:?}, expected {last}", message.role));
        }
        Some(_) => {}
    }
}

/// The known name nearest to `given`.
fn nearest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known.min_by_key(|name| strsim::damerau_levenshtein(&given.to_lowercase(), &name.to_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(content: impl AsRef<[u8]>) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content.as_ref()).unwrap();
        file
    }

    fn problems<T: fmt::Debug>(result: Result<Vec<T>, ItemsError>) -> Vec<(usize, String)> {
        match result.unwrap_err() {
            ItemsError::BadRows { bad, .. } => bad.into_iter().map(|bad| (bad.line, bad.problem)).collect(),
            error => panic!("{error}"),
        }
    }

    fn labels() -> Vec<String> {
        ["Eye", "Skin", "Neoplasm"].map(String::from).to_vec()
    }

    #[test]
    fn text_with_and_without_a_source() {
        let file = file("{\"text\": \"One.\", \"source\": \"a\"}\n\n{\"text\": \"Two.\"}\r\n");
        assert_eq!(
            read_text(file.path()).unwrap(),
            [
                TextItem { line: 1, text: "One.".to_owned(), source: Some("a".to_owned()) },
                TextItem { line: 3, text: "Two.".to_owned(), source: None },
            ]
        );
    }

    #[test]
    fn every_bad_line_is_reported_with_its_place() {
        let mut content =
            b"{\"text\": \"fine\"}\n{\"text\": \" \"}\n{\"txt\": \"x\"}\n{\"text\": 3}\n{\"text\": \"cut\n".to_vec();
        content.extend_from_slice(b"{\"text\": \"\xff\"}\n");
        let file = file(content);
        let error = read_text(file.path()).unwrap_err();
        let lines = error.to_string();
        let expected = [
            "5 of 6 rows cannot be used",
            "  line 2: `text` is blank",
            "  line 3: column 6: unknown field `txt`, expected `text` or `source`",
            "  line 4: column 10: invalid type: integer `3`, expected a string",
            "  line 5: column 13: EOF while parsing a string",
            "  line 6: column 11: invalid unicode code point",
            r#"hint: expected {"text": "...", "source"?: "..."}"#,
        ];
        for (line, expected) in lines.lines().zip(expected) {
            assert!(line.ends_with(expected), "{line:?} should end with {expected:?}");
        }
        assert_eq!(lines.lines().count(), expected.len());
        assert!(lines.starts_with(&file.path().display().to_string()));
    }

    #[test]
    fn many_bad_lines_are_counted() {
        let file = file("{}\n".repeat(50));
        let text = read_text(file.path()).unwrap_err().to_string();
        assert!(text.contains("50 of 50 rows") && text.contains("  line 20: ") && text.contains("  and 30 more\n"));
        assert!(!text.contains("  line 21: "));
    }

    #[test]
    fn a_missing_and_an_empty_file_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let missing = read_text(&folder.path().join("none.jsonl")).unwrap_err();
        assert!(
            matches!(missing, ItemsError::Read { .. }) && missing.to_string().contains("none.jsonl: cannot be read")
        );
        let empty = file("\n  \n");
        assert!(matches!(read_text(empty.path()), Err(ItemsError::Empty { .. })));
    }

    #[test]
    fn multiple_choice() {
        let row =
            r#"{"prompt": "A cat is a", "choices": ["pet", "car"], "answer": 0, "kind": "hypernym", "source": "cat"}"#;
        let item = &read_multiple_choice(file(row).path()).unwrap()[0];
        assert_eq!((item.choices.len(), item.answer, item.kind.as_deref()), (2, 0, Some("hypernym")));

        let bad = file(
            r#"{"prompt": "p", "choices": ["a"], "answer": 0}
{"prompt": "p", "choices": ["a", " a"], "answer": 0}
{"prompt": "", "choices": ["a", "b"], "answer": 2}
{"prompt": "p", "choices": ["a", ""], "answer": 1}
{"prompt": "p", "choices": ["a", "b"], "answer": -1}"#,
        );
        let problems = problems(read_multiple_choice(bad.path()));
        let expected = [
            (1, "`choices` has 1 entries, expected at least 2"),
            (2, "`choices` has \" a\" twice, so the right answer is not one of them alone"),
            (3, "`prompt` is blank"),
            (3, "`answer` is 2, expected an index below 2"),
            (4, "`choices` is blank"),
        ];
        for (got, (line, problem)) in problems.iter().zip(expected) {
            assert_eq!((got.0, got.1.as_str()), (line, problem));
        }
        assert_eq!((problems.len(), problems[5].0), (6, 5));
    }

    #[test]
    fn chat_prompts_end_in_a_user_turn() {
        let good =
            file(r#"{"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]}"#);
        assert_eq!(read_chat_prompts(good.path()).unwrap()[0].messages[1], Message::new("user", "Hi"));
        let bad = file(
            r#"{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
{"messages": []}
{"messages": [{"role": "human", "content": ""}]}"#,
        );
        assert_eq!(
            problems(read_chat_prompts(bad.path())),
            [
                (1, "the last turn is of role \"assistant\", expected user".to_owned()),
                (2, "`messages` is empty".to_owned()),
                (3, "`messages[0].role` is \"human\", expected system, user or assistant".to_owned()),
                (3, "`messages[0].content` is blank".to_owned()),
                (3, "the last turn is of role \"human\", expected user".to_owned()),
            ]
        );
    }

    #[test]
    fn instructions_with_their_checks() {
        let good = file(
            r#"{"prompt": "Say yes.", "checks": [{"kind": "one_of", "options": ["yes"]}, {"kind": "no_commas"}]}"#,
        );
        let items = read_instructions(good.path()).unwrap();
        assert_eq!(items[0].checks, [Check::OneOf { options: vec!["yes".to_owned()] }, Check::NoCommas {}]);
        let bad = file(
            r#"{"prompt": "p", "checks": []}
{"prompt": "p", "checks": [{"kind": "no_commas"}, {"kind": "max_words", "n": 0}]}
{"prompt": "p", "checks": [{"kind": "max_word", "n": 3}]}"#,
        );
        let problems = problems(read_instructions(bad.path()));
        assert_eq!(problems[0], (1, "`checks` is empty, expected at least one".to_owned()));
        assert_eq!(problems[1], (2, "`checks[1]`: `n` is 0: expected 1 or more".to_owned()));
        assert!(problems[2].1.contains("unknown variant `max_word`, expected one of `contains`"), "{problems:?}");
    }

    #[test]
    fn classification_rows_are_training_rows() {
        let good = file(
            r#"{"messages": [{"role": "user", "content": "Cataract"}, {"role": "assistant", "content": "Eye"}], "#
                .to_owned()
                + r#""label": "Eye", "code": "H25.9", "group": "H25"}"#,
        );
        assert_eq!(
            read_classification(good.path(), &labels()).unwrap(),
            [ClassificationItem {
                line: 1,
                prompt: vec![Message::new("user", "Cataract")],
                label: 0,
                group: Some("H25".to_owned())
            }]
        );
    }

    #[test]
    fn a_label_outside_the_set_names_line_label_and_the_nearest() {
        let bad = file(
            r#"{"label": "neoplasms", "messages": [{"role": "user", "content": "c"}, {"role": "assistant", "content": "neoplasms"}]}
{"messages": [{"role": "user", "content": "c"}, {"role": "assistant", "content": "Eye"}], "label": "Skin"}
{"messages": [{"role": "assistant", "content": "Eye"}], "label": "Eye", "gruop": "H25"}"#,
        );
        assert_eq!(
            problems(read_classification(bad.path(), &labels())),
            [
                (1, "label \"neoplasms\" is none of the recipe's 3 labels; the nearest is \"Neoplasm\"".to_owned()),
                (2, "the assistant answers \"Eye\", but `label` is \"Skin\"".to_owned()),
                (3, "unknown field `gruop`, did you mean `group`?".to_owned()),
                (3, "the assistant's turn does not follow a user turn".to_owned()),
            ]
        );
        assert!(problems(read_classification(bad.path(), &[]))[0].1.ends_with("none of the recipe's 0 labels"));
    }

    #[test]
    fn sources_are_numbered_and_items_without_one_stand_alone() {
        let sources = [Some("b"), None, Some("a"), Some("b"), None];
        assert_eq!(clusters(sources.into_iter()), Some(vec![0, 1, 2, 0, 3]));
        assert_eq!(clusters([None, None].into_iter()), None);
    }

    /// The project's own files are read by these readers, and the intervals get the sources that they name.
    #[test]
    fn the_projects_own_files() {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data");
        assert_eq!(read_text(&data.join("general/heldout.jsonl")).unwrap().len(), 100);
        assert_eq!(read_multiple_choice(&data.join("general/wordnet.jsonl")).unwrap().len(), 800);
        assert_eq!(read_chat_prompts(&data.join("general/chat_prompts.jsonl")).unwrap().len(), 100);
        assert_eq!(read_instructions(&data.join("general/instructions.jsonl")).unwrap().len(), 60);
        // 420 test rows of 21 labels, from 305 three-character categories.
        let labels: Vec<String> =
            "Blood Circulatory Congenital Digestive Ear Endocrine External Eye Factor Genitourinary \
             Infectious Injury Mental Musculoskeletal Neoplasm Nervous Perinatal Pregnancy Respiratory Skin Symptom"
                .split_whitespace()
                .map(String::from)
                .collect();
        let items = read_classification(&data.join("icd10/test.jsonl"), &labels).unwrap();
        assert_eq!(items.len(), 420);
        let clusters = clusters(items.iter().map(|item| item.group.as_deref())).unwrap();
        assert_eq!(clusters.iter().max(), Some(&304));
    }
}
