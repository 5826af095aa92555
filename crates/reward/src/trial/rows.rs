//! The rows and completions that rewards are tried on: JSON lines.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::Error;

/// A row with completions of its prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct TrialRow {
    /// The row's `id`, or its line.
    pub id: String,
    /// Its messages up to the answer.
    pub prompt: Value,
    /// All of its fields but the completions.
    pub row: Map<String, Value>,
    /// What a model wrote, or anybody.
    pub completions: Vec<Completion>,
}

/// One completion of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// Its text.
    pub text: String,
    /// Its tokens; left out, its words between white space.
    pub tokens: Option<usize>,
    /// Whether it was cut by the limit of tokens.
    pub cut: bool,
    /// Whether somebody said that it is good.
    pub good: Option<bool>,
}

impl TrialRow {
    /// Reads rows, one JSON object a line: `messages` or `prompt`, `reference_answer`, and completions if it has any,
    /// as a text `completion` or a list `completions` of texts or maps (`completion`, `tokens`, `cut`, `good`).
    ///
    /// # Errors
    /// The first line that is not so.
    pub fn read(file: &Path) -> Result<Vec<Self>, Error> {
        let mut rows: Vec<Self> = Vec::new();
        let mut seen = std::collections::HashMap::new();
        for (line, mut row) in lines(file)? {
            let mut completions = take(&mut row, file, line)?;
            let id = match row.get("id") {
                None | Some(Value::Null) => line.to_string(),
                Some(Value::String(id)) => id.clone(),
                Some(id) => id.to_string(),
            };
            let prompt =
                prompt(&mut row).ok_or_else(|| unfit(file, line, "there is neither `messages` nor `prompt`"))?;
            // The same row again, with a further completion.
            if let Some(&at) = seen.get(&id) {
                let earlier: &mut Self = &mut rows[at];
                if earlier.prompt != prompt || completions.is_empty() {
                    return Err(unfit(file, line, &format!("`{id}` is the id of an earlier row")));
                }
                earlier.completions.append(&mut completions);
                continue;
            }
            seen.insert(id.clone(), rows.len());
            rows.push(Self { id, prompt, row, completions });
        }
        match rows.is_empty() {
            true => Err(unfit(file, 1, "the file has no rows")),
            false => Ok(rows),
        }
    }

    /// Adds completions from a file of their own: a line has the row's `id`, and completions as rows have them.
    ///
    /// # Errors
    /// The first line that is not so, or names a row that is not there.
    pub fn add_completions(rows: &mut [Self], file: &Path) -> Result<(), Error> {
        for (line, mut map) in lines(file)? {
            let id = match map.get("id") {
                Some(Value::String(id)) => id.clone(),
                Some(id @ Value::Number(_)) => id.to_string(),
                _ => return Err(unfit(file, line, "there is no `id` of a row")),
            };
            let Some(row) = rows.iter_mut().find(|row| row.id == id) else {
                return Err(unfit(file, line, &format!("no row has the id `{id}`")));
            };
            let mut completions = take(&mut map, file, line)?;
            if completions.is_empty() {
                return Err(unfit(file, line, "there is neither `completion` nor `completions`"));
            }
            row.completions.append(&mut completions);
        }
        Ok(())
    }
}

fn unfit(file: &Path, line: usize, problem: &str) -> Error {
    Error::Unfit {
        path: format!("{}:{line}", file.display()),
        problem: problem.to_owned(),
        hint: "docs/rewards.md shows rows and completions for `temper reward test`".to_owned(),
    }
}

/// A line's number, and its object.
type Numbered = (usize, Map<String, Value>);

/// The objects of a file with their lines, blank ones left aside.
fn lines(file: &Path) -> Result<Vec<Numbered>, Error> {
    let text =
        std::fs::read_to_string(file).map_err(|source| Error::Io { action: "read", path: file.to_owned(), source })?;
    let lines = text.trim_start_matches('\u{feff}').lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let read = |(index, line): (usize, &str)| match serde_json::from_str(line) {
        Ok(Value::Object(map)) => Ok((index + 1, map)),
        Ok(_) => Err(unfit(file, index + 1, "expected a JSON object")),
        Err(error) => Err(unfit(file, index + 1, &format!("not JSON: {error}"))),
    };
    lines.map(read).collect()
}

/// Takes the completions out of a row.
fn take(row: &mut Map<String, Value>, file: &Path, line: usize) -> Result<Vec<Completion>, Error> {
    let (one, many) = (row.remove("completion"), row.remove("completions"));
    let all = match (one, many) {
        (Some(_), Some(_)) => return Err(unfit(file, line, "`completion` and `completions` exclude each other")),
        (None, None) => return Ok(Vec::new()),
        (None, Some(Value::Array(all))) => all,
        (None, Some(_)) => return Err(unfit(file, line, "`completions` is no list")),
        (Some(text), None) => {
            // What is told of the one completion stands beside it.
            let mut map = Map::from_iter([("completion".to_owned(), text)]);
            for key in ["tokens", "cut", "good"] {
                map.extend(row.remove(key).map(|value| (key.to_owned(), value)));
            }
            vec![map.into()]
        }
    };
    let read = |value: &Value| {
        let text = value.as_str().or_else(|| value["completion"].as_str())?;
        Some(Completion {
            text: text.to_owned(),
            tokens: value["tokens"].as_u64().map(|tokens| tokens as usize),
            cut: value["cut"].as_bool().unwrap_or(false),
            good: value["good"].as_bool(),
        })
    };
    let read = |value: &Value| {
        read(value).ok_or_else(|| unfit(file, line, "a completion is neither a text nor a map with one"))
    };
    all.iter().map(read).collect()
}

/// The messages up to the answer; an answer that the row ends with becomes its `reference_completion`.
fn prompt(row: &mut Map<String, Value>) -> Option<Value> {
    if let Some(Value::Array(messages)) = row.get("messages") {
        let mut messages = messages.clone();
        if messages.last().is_some_and(|last| last["role"] == "assistant")
            && let Some(Value::String(answer)) = messages.pop().map(|mut last| last["content"].take())
        {
            row.entry("reference_completion").or_insert(answer.into());
        }
        return Some(messages.into());
    }
    match row.get("prompt") {
        Some(Value::String(text)) => Some(serde_json::json!([{"role": "user", "content": text}])),
        Some(messages @ Value::Array(_)) => Some(messages.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<TrialRow>, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rows.jsonl");
        std::fs::write(&file, text).unwrap();
        TrialRow::read(&file).map_err(|error| error.to_string().replace(&format!("{}", file.display()), "FILE"))
    }

    #[test]
    fn rows_hold_their_completions_in_each_form() {
        let rows = read(
            "\u{feff}{\"prompt\": \"a\", \"reference_answer\": 1, \"completion\": \"x\", \"good\": true, \"tokens\": 3}\n\n\
             {\"id\": \"r\", \"messages\": [{\"role\": \"user\", \"content\": \"b\"}, {\"role\": \"assistant\", \"content\": \"c\"}], \
              \"completions\": [\"y\", {\"completion\": \"z\", \"cut\": true}]}\n\
             {\"id\": \"1\", \"prompt\": \"a\", \"completion\": \"w\"}\n",
        )
        .unwrap();
        assert_eq!(rows.len(), 2);
        let texts = |row: &TrialRow| row.completions.iter().map(|one| one.text.clone()).collect::<Vec<_>>();
        assert_eq!((rows[0].id.as_str(), texts(&rows[0])), ("1", vec!["x".to_owned(), "w".to_owned()]));
        assert_eq!((rows[0].completions[0].good, rows[0].completions[0].tokens), (Some(true), Some(3)));
        assert!(!rows[0].row.contains_key("good"));
        assert_eq!(rows[1].row["reference_completion"], "c");
        assert_eq!(rows[1].prompt.as_array().unwrap().len(), 1);
        assert!(rows[1].completions[1].cut);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, why) in [
            ("{}", "FILE:1`: there is neither `messages` nor `prompt`"),
            ("[]", "expected a JSON object"),
            ("{\"prompt\": \"a\"}\n{", "FILE:2`: not JSON"),
            ("", "no rows"),
            ("{\"prompt\": \"a\", \"completions\": \"x\"}", "no list"),
            ("{\"prompt\": \"a\", \"completions\": [1]}", "neither a text"),
            ("{\"id\": 1, \"prompt\": \"a\"}\n{\"id\": 1, \"prompt\": \"a\"}", "earlier row"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
