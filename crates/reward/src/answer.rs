//! Which part of a completion is the answer, and what of a row it is held against.

use regex_automata::meta::Regex;
use serde_json::{Map, Value};
use temper_recipe::{Extract, Reward, Valued};

use crate::error::Error;
use crate::scored::{Failure, FailureKind};
use crate::verify::number;

/// Finds the answer in a completion.
#[derive(Debug)]
pub(crate) enum Finder {
    Whole,
    FirstLine,
    LastLine,
    LastNumber,
    Boxed,
    After(String),
    Pattern(Regex),
    Code,
}

impl Finder {
    /// The finder that a reward names; all of the completion where it names none.
    pub fn open(reward: &Reward) -> Result<Self, Error> {
        let text = |field: &Option<Valued<String>>| field.as_ref().map(|field| field.value.clone()).unwrap_or_default();
        Ok(match reward.extract.as_ref().map_or(Extract::Whole, |extract| extract.value) {
            Extract::Whole => Self::Whole,
            Extract::FirstLine => Self::FirstLine,
            Extract::LastLine => Self::LastLine,
            Extract::LastNumber => Self::LastNumber,
            Extract::Boxed => Self::Boxed,
            Extract::After => Self::After(text(&reward.after)),
            Extract::Pattern => Self::Pattern(regex(reward.extract_pattern.as_ref())?),
            Extract::Code => Self::Code,
        })
    }

    /// The answer without white space at its ends. None: there is none, or it is blank.
    pub fn find<'t>(&self, text: &'t str) -> Option<&'t str> {
        let found = match self {
            Self::Whole => Some(text),
            Self::FirstLine => text.lines().find(|line| !line.trim().is_empty()),
            Self::LastLine => text.lines().rev().find(|line| !line.trim().is_empty()),
            Self::LastNumber => number::last(text),
            Self::Boxed => boxed(text),
            Self::After(mark) => text.rfind(mark.as_str()).and_then(|at| text[at + mark.len()..].lines().next()),
            Self::Pattern(pattern) => last_match(pattern, text),
            Self::Code => Some(code(text)),
        };
        found.map(str::trim).filter(|found| !found.is_empty())
    }

    /// The reference as it is compared: without the reasoning before its mark, where it has one as completions do.
    pub fn in_reference<'t>(&self, reference: &'t str) -> &'t str {
        let marked = matches!(self, Self::LastNumber | Self::Boxed | Self::After(_) | Self::Pattern(_));
        marked.then(|| self.find(reference)).flatten().unwrap_or(reference.trim())
    }
}

/// A pattern of the recipe.
pub(crate) fn regex(pattern: Option<&Valued<String>>) -> Result<Regex, Error> {
    let (path, pattern) = pattern.map_or(("pattern", ""), |pattern| (pattern.path.as_str(), pattern.value.as_str()));
    Regex::new(pattern).map_err(|error| {
        let problem = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        Error::Unfit {
            path: path.to_owned(),
            problem: format!("`{pattern}` is no pattern: {problem}"),
            hint: "the syntax is that of Rust's regex crate: linear in time, without look-around and back-references"
                .to_owned(),
        }
    })
}

/// The first group of the last match, or all of it.
fn last_match<'t>(pattern: &Regex, text: &'t str) -> Option<&'t str> {
    let found = pattern.captures_iter(text).last()?;
    let span = match found.group_len() {
        0 | 1 => found.get_match()?.span(),
        // A group that took no part in the match is no answer.
        _ => found.get_group(1)?,
    };
    text.get(span.range())
}

/// What is in the last `\boxed{..}` whose braces close.
fn boxed(text: &str) -> Option<&str> {
    const MARK: &str = "\\boxed{";
    let inside = &text[text.rfind(MARK)? + MARK.len()..];
    let mut depth = 1;
    for (at, c) in inside.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(&inside[..at]);
        }
    }
    None
}

/// The last fenced block of Markdown, or all of the text. A block that was cut before its closing fence counts.
fn code(text: &str) -> &str {
    let (mut last, mut open) = (None, None::<(usize, usize)>);
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let bare = line.trim();
        let ticks = bare.chars().take_while(|&c| c == '`').count();
        match open {
            None if ticks >= 3 => open = Some((ticks, at + line.len())),
            Some((fence, begin)) if ticks >= fence && bare.len() == ticks => {
                last = Some((begin, at));
                open = None;
            }
            _ => {}
        }
        at += line.len();
    }
    if let Some((_, begin)) = open {
        last = Some((begin, text.len()));
    }
    last.map_or(text, |(begin, end)| &text[begin..end])
}

/// A field of a row, dots leading into maps. A key that is spelled with the dots comes first.
pub(crate) fn field<'r>(row: &'r Map<String, Value>, path: &str) -> Option<&'r Value> {
    let found = row.get(path).or_else(|| {
        let (first, rest) = path.split_once('.')?;
        field(row.get(first)?.as_object()?, rest)
    });
    found.filter(|value| !value.is_null())
}

/// The texts of a row that are right: one, or each of a list.
pub(crate) fn references(row: &Map<String, Value>, path: &str) -> Result<Vec<String>, Failure> {
    let fail = |message: String| Failure { kind: FailureKind::Error, message };
    let value = field(row, path).ok_or_else(|| fail(format!("the row has no `{path}`")))?;
    let one = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        Value::Object(map) => {
            let key = map.keys().next().map_or("KEY", String::as_str);
            Err(fail(format!("`{path}` is a map: name a field in it, as in `field: {path}.{key}`")))
        }
        Value::Array(_) | Value::Null => Err(fail(format!("`{path}` holds a list within a list, or nothing"))),
    };
    let all = match value {
        Value::Array(items) => items.iter().map(one).collect::<Result<Vec<_>, _>>()?,
        one_value => vec![one(one_value)?],
    };
    match all.is_empty() {
        true => Err(fail(format!("`{path}` is an empty list"))),
        false => Ok(all),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn boxes_are_balanced_and_the_last_one_counts() {
        assert_eq!(boxed(r"so \boxed{1} or rather \boxed{\frac{3}{4}}."), Some(r"\frac{3}{4}"));
        assert_eq!(boxed(r"\boxed{\frac{3}{4"), None);
        assert_eq!(boxed("boxed{3}"), None);
    }

    #[test]
    fn code_is_the_last_block_and_a_cut_one_counts() {
        assert_eq!(code("a\n```python\nx = 1\n```\nb\n```\ny = 2\n```\n"), "y = 2\n");
        assert_eq!(code("```py\nx = 1"), "x = 1");
        assert_eq!(code("x = 1"), "x = 1");
        // A longer fence holds shorter ones.
        assert_eq!(code("````\n```\nx\n```\n````"), "```\nx\n```\n");
    }

    #[test]
    fn lines_marks_and_patterns() {
        assert_eq!(Finder::FirstLine.find("\n\n a \nb"), Some("a"));
        assert_eq!(Finder::LastLine.find("a\n b \n\n"), Some("b"));
        assert_eq!(Finder::After("####".into()).find("1 #### 2\n#### 3 \nx"), Some("3"));
        assert_eq!(Finder::After("####".into()).find("no mark"), None);
        assert_eq!(Finder::After("####".into()).find("####"), None);
        let pattern = Finder::Pattern(Regex::new("(?s)<answer>(.*?)</answer>").unwrap());
        assert_eq!(pattern.find("<answer>1</answer><answer> 2\n</answer>"), Some("2"));
        assert_eq!(pattern.find("<answer>1"), None);
        let either = Finder::Pattern(Regex::new("a(b)?").unwrap());
        assert_eq!(either.find("a"), None);
        assert_eq!(Finder::Whole.find(" \n "), None);
    }

    #[test]
    fn a_reference_with_its_reasoning_is_cut_as_completions_are() {
        let finder = Finder::After("####".into());
        assert_eq!(finder.in_reference("2 + 2 = 4\n#### 4"), "4");
        assert_eq!(finder.in_reference("4"), "4");
        assert_eq!(Finder::LastLine.in_reference("a\nb"), "a\nb");
    }

    #[test]
    fn fields_lead_into_maps_and_lists_are_several() {
        let row = json!({"a.b": 1, "a": {"b": 2, "c": [true, "x"]}, "n": null, "e": []});
        let row = row.as_object().unwrap();
        assert_eq!(references(row, "a.b").unwrap(), ["1"]);
        assert_eq!(references(row, "a.c").unwrap(), ["true", "x"]);
        for (path, why) in [("n", "has no `n`"), ("z.y", "has no"), ("a", "field: a.b"), ("e", "empty list")] {
            let error = references(row, path).unwrap_err();
            assert!(error.message.contains(why), "{}", error.message);
        }
    }
}
