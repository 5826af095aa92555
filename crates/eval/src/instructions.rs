//! Checks of instruction following that a program can decide.
//!
//! The idea is that of IFEval (Zhou et al. 2023, "Instruction-Following Evaluation for Large Language Models"): ask for
//! something visible in the answer's form, and look. No check depends on the language of the answer. A blank answer
//! passes no check: silence follows no instruction, though it contains no comma.

use serde::{Deserialize, Serialize};

/// One check of an answer. White space at either end of the answer is ignored throughout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Check {
    /// `text` occurs as whole words, in any case: `cat` is in "The Cat sat." and not in "concatenate".
    Contains {
        /// A word or several.
        text: String,
    },
    /// `text` does not occur as whole words, in any case.
    NotContains {
        /// A word or several.
        text: String,
    },
    /// The answer begins with `text`, case included.
    StartsWith {
        /// The beginning.
        text: String,
    },
    /// The answer ends with `text`, case included.
    EndsWith {
        /// The end.
        text: String,
    },
    /// The answer is `text` and nothing else, case included.
    Exact {
        /// The whole answer.
        text: String,
    },
    /// At least one letter, and none in upper case.
    AllLowercase {},
    /// At least one letter, and none in lower case.
    AllUppercase {},
    /// At most `n` words (parts between white space).
    MaxWords {
        /// The limit.
        n: usize,
    },
    /// At least `n` words (parts between white space).
    MinWords {
        /// The limit.
        n: usize,
    },
    /// Exactly `n` lines that are not blank.
    NLines {
        /// How many.
        n: usize,
    },
    /// Exactly `n` lines that begin with `-`, `*` or `•` and white space. Other lines do not matter.
    NBullets {
        /// How many.
        n: usize,
    },
    /// The answer is one of `options` and nothing else, in any case, with or without a full stop.
    OneOf {
        /// The permitted answers.
        options: Vec<String>,
    },
    /// The answer is one JSON object, bare or in one Markdown code fence, that has all of `keys`.
    IsJson {
        /// Keys that must be there; others may be.
        #[serde(default)]
        keys: Vec<String>,
    },
    /// The last number in the answer is `value`. `1,200`, `-3` and `2.50` are numbers; a comma groups thousands.
    NumberEquals {
        /// The number.
        value: f64,
    },
    /// No comma of any script.
    NoCommas {},
}

/// How an answer fared.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Every check holds: the item's score.
    pub all: bool,
    /// Share of the checks that hold, 0 to 1.
    pub share: f64,
}

/// Scores an answer against its checks. An item without checks asks for nothing, so nothing was followed.
pub fn score(answer: &str, checks: &[Check]) -> Score {
    let held = checks.iter().filter(|check| self::check(answer, check)).count();
    Score {
        all: held == checks.len() && held > 0,
        share: if checks.is_empty() { 0.0 } else { held as f64 / checks.len() as f64 },
    }
}

/// Whether `answer` passes `check`.
pub fn check(answer: &str, check: &Check) -> bool {
    let answer = answer.trim();
    if answer.is_empty() {
        return false;
    }
    match check {
        Check::Contains { text } => contains_words(answer, text),
        Check::NotContains { text } => !contains_words(answer, text),
        Check::StartsWith { text } => answer.starts_with(text.trim_start()),
        Check::EndsWith { text } => answer.ends_with(text.trim_end()),
        Check::Exact { text } => answer == text.trim(),
        Check::AllLowercase {} => answer.chars().any(char::is_alphabetic) && !answer.chars().any(char::is_uppercase),
        Check::AllUppercase {} => answer.chars().any(char::is_alphabetic) && !answer.chars().any(char::is_lowercase),
        Check::MaxWords { n } => answer.split_whitespace().count() <= *n,
        Check::MinWords { n } => answer.split_whitespace().count() >= *n,
        Check::NLines { n } => answer.lines().filter(|line| !line.trim().is_empty()).count() == *n,
        Check::NBullets { n } => answer.lines().filter(|line| is_bullet(line)).count() == *n,
        Check::OneOf { options } => {
            let bare = |text: &str| text.trim().trim_end_matches('.').trim_end().to_lowercase();
            options.iter().any(|option| bare(option) == bare(answer))
        }
        Check::IsJson { keys } => {
            let value = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(without_fence(answer));
            value.is_ok_and(|object| keys.iter().all(|key| object.contains_key(key)))
        }
        Check::NumberEquals { value } => {
            last_number(answer).is_some_and(|number| (number - value).abs() <= 1e-9 * value.abs().max(1.0))
        }
        Check::NoCommas {} => !answer.contains([',', '，', '、', '،', '﹐', '､']),
    }
}

impl Check {
    /// What is wrong with the check itself, if anything: one that every answer or none would pass.
    pub fn problem(&self) -> Option<String> {
        let blank = |text: &str| text.trim().is_empty();
        match self {
            Check::Contains { text } | Check::NotContains { text } if !text.chars().any(char::is_alphanumeric) => {
                Some(format!("`text` {text:?} has no word in it"))
            }
            Check::StartsWith { text } | Check::EndsWith { text } | Check::Exact { text } if blank(text) => {
                Some("`text` is blank".to_owned())
            }
            Check::MaxWords { n: 0 } | Check::MinWords { n: 0 } | Check::NLines { n: 0 } => {
                Some("`n` is 0: expected 1 or more".to_owned())
            }
            Check::OneOf { options } if options.is_empty() || options.iter().any(|option| blank(option)) => {
                Some("`options` is empty or has a blank option".to_owned())
            }
            Check::NumberEquals { value } if !value.is_finite() => Some(format!("`value` is {value}")),
            _ => None,
        }
    }
}

/// Whether `words` occurs in `text`, in any case, with no letter or digit beside it.
fn contains_words(text: &str, words: &str) -> bool {
    let (text, words) = (text.to_lowercase(), words.trim().to_lowercase());
    text.match_indices(&words).any(|(start, found)| {
        let before = text[..start].chars().next_back();
        let after = text[start + found.len()..].chars().next();
        ![before, after].into_iter().flatten().any(char::is_alphanumeric)
    })
}

fn is_bullet(line: &str) -> bool {
    let line = line.trim_start();
    line.strip_prefix(['-', '*', '•']).is_some_and(|rest| rest.starts_with(char::is_whitespace))
}

/// The inside of an answer that is one Markdown code fence (with or without `json`), else the answer.
fn without_fence(answer: &str) -> &str {
    let inside = answer.strip_prefix("```").and_then(|rest| rest.strip_suffix("```"));
    inside.map_or(answer, |inside| inside.strip_prefix("json").unwrap_or(inside).trim())
}

/// The last number of a text: digits with an optional minus, groups of three after commas, and a fraction.
fn last_number(text: &str) -> Option<f64> {
    let bytes = text.as_bytes();
    let digits_from = |start: usize| bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut last = None;
    let mut at = 0;
    while at < bytes.len() {
        if !bytes[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        // A hyphen between words or digits ("2-3", "type-2") is not a minus.
        let minus = at > 0 && bytes[at - 1] == b'-' && (at < 2 || !bytes[at - 2].is_ascii_alphanumeric());
        let mut end = at + digits_from(at);
        if end - at <= 3 {
            while end < bytes.len() && bytes[end] == b',' && digits_from(end + 1) == 3 {
                end += 4;
            }
        }
        if end < bytes.len() && bytes[end] == b'.' && digits_from(end + 1) > 0 {
            end += 1 + digits_from(end + 1);
        }
        let number = text[at..end].replace(',', "").parse::<f64>().ok();
        last = number.map(|number| if minus { -number } else { number });
        at = end;
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asserts that a check written as in a data file passes some answers and fails others.
    fn decides(json: &str, passes: &[&str], fails: &[&str]) {
        let parsed: Check = serde_json::from_str(json).unwrap();
        assert_eq!(parsed.problem(), None, "{json}");
        for answer in passes {
            assert!(check(answer, &parsed), "{json} should pass {answer:?}");
        }
        for answer in fails.iter().chain(&["", "  \n"]) {
            assert!(!check(answer, &parsed), "{json} should fail {answer:?}");
        }
    }

    #[test]
    fn contains() {
        let json = r#"{"kind": "contains", "text": "cat"}"#;
        decides(json, &["The Cat sat.", "cat", "a dog,cat"], &["concatenate", "cats", "dog"]);
        decides(r#"{"kind": "contains", "text": "née Žižek"}"#, &["(NÉE ŽIŽEK)"], &["née Žižeks"]);
    }

    #[test]
    fn not_contains() {
        decides(r#"{"kind": "not_contains", "text": "good"}"#, &["goods are fine"], &["A good day", "GOOD"]);
    }

    #[test]
    fn starts_with() {
        decides(r#"{"kind": "starts_with", "text": "Yes"}"#, &["Yes, sir", " Yes"], &["yes", "Oh Yes"]);
    }

    #[test]
    fn ends_with() {
        decides(r#"{"kind": "ends_with", "text": "The end."}"#, &["So: The end.\n"], &["The end", "the end."]);
    }

    #[test]
    fn exact() {
        decides(r#"{"kind": "exact", "text": "Paris"}"#, &["Paris", " Paris\n"], &["Paris.", "paris", "In Paris"]);
    }

    #[test]
    fn all_lowercase() {
        decides(r#"{"kind": "all_lowercase"}"#, &["all small, 3 words", "дом"], &["One", "123", "Дом"]);
    }

    #[test]
    fn all_uppercase() {
        decides(r#"{"kind": "all_uppercase"}"#, &["ALL BIG, 3!", "ДОМ"], &["ONE tWO", "123"]);
    }

    #[test]
    fn max_and_min_words() {
        decides(r#"{"kind": "max_words", "n": 3}"#, &["one", "one two three"], &["one two three four"]);
        decides(r#"{"kind": "min_words", "n": 3}"#, &["one two three", "a b\nc d"], &["one two"]);
    }

    #[test]
    fn n_lines() {
        decides(r#"{"kind": "n_lines", "n": 2}"#, &["one\ntwo", "one\r\n\r\ntwo\n"], &["one", "1\n2\n3"]);
    }

    #[test]
    fn n_bullets() {
        let json = r#"{"kind": "n_bullets", "n": 2}"#;
        decides(json, &["Here:\n- one\n  * two\nDone", "• one\n• two"], &["- one", "-one\n-two", "1. one\n2. two"]);
    }

    #[test]
    fn one_of() {
        let json = r#"{"kind": "one_of", "options": ["yes", "no"]}"#;
        decides(json, &["Yes", "no.", " NO "], &["yes or no", "maybe", "yes, sir"]);
    }

    #[test]
    fn is_json() {
        let json = r#"{"kind": "is_json", "keys": ["name", "age"]}"#;
        decides(
            json,
            &[
                r#"{"name": "Ada", "age": 36, "x": null}"#,
                "```json\n{\"age\": 1, \"name\": 2}\n```",
                "```{\"age\":1,\"name\":2}```",
            ],
            &[r#"{"name": "Ada"}"#, r#"Here: {"name": 1, "age": 2}"#, "[1]", r#"{"name": 1, "age": 2"#, "```"],
        );
        decides(r#"{"kind": "is_json"}"#, &["{}"], &["[]", "null"]);
    }

    #[test]
    fn number_equals() {
        let json = r#"{"kind": "number_equals", "value": 1200}"#;
        decides(
            json,
            &["1200", "It is 1,200.", "3 * 400 = 1200.0 apples"],
            &["1200 or 1300", "12,00", "none", "-1200"],
        );
        decides(r#"{"kind": "number_equals", "value": -2.5}"#, &["-2.5", "(-2.50)"], &["2.5", "5-2.5", "type-2.5"]);
        decides(r#"{"kind": "number_equals", "value": 4}"#, &["2, 4", "1,2,3,4", "x=4"], &["1,004", "2.4", "44"]);
    }

    #[test]
    fn no_commas() {
        decides(r#"{"kind": "no_commas"}"#, &["one; two"], &["one, two", "一、二", "one，two", "واحد، اثنان"]);
    }

    #[test]
    fn an_item_is_followed_if_every_check_holds() {
        let checks = [Check::AllLowercase {}, Check::MaxWords { n: 2 }, Check::NoCommas {}];
        assert_eq!(score("two words", &checks), Score { all: true, share: 1.0 });
        assert_eq!(score("not two words", &checks), Score { all: false, share: 2.0 / 3.0 });
        assert_eq!(score("", &checks), Score { all: false, share: 0.0 });
        assert_eq!(score("anything", &[]), Score { all: false, share: 0.0 });
    }

    #[test]
    fn a_check_that_decides_nothing_has_a_problem() {
        let problems = [
            Check::Contains { text: "...".to_owned() },
            Check::NotContains { text: String::new() },
            Check::StartsWith { text: " ".to_owned() },
            Check::EndsWith { text: String::new() },
            Check::Exact { text: "\n".to_owned() },
            Check::MaxWords { n: 0 },
            Check::MinWords { n: 0 },
            Check::NLines { n: 0 },
            Check::OneOf { options: vec![] },
            Check::OneOf { options: vec!["yes".to_owned(), " ".to_owned()] },
            Check::NumberEquals { value: f64::INFINITY },
        ];
        for check in problems {
            assert!(check.problem().is_some(), "{check:?}");
        }
    }

    #[test]
    fn a_misspelt_kind_or_field_is_refused() {
        for json in
            [r#"{"kind": "contain", "text": "x"}"#, r#"{"kind": "no_commas", "text": "x"}"#, r#"{"kind": "max_words"}"#]
        {
            assert!(serde_json::from_str::<Check>(json).is_err(), "{json}");
        }
    }
}
