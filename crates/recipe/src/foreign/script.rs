//! Writing YAML: values at their paths, each with a comment.

use serde_json::Value;

use crate::problem::Place;
use crate::tree::{Content, Node, Scalar};

/// A YAML text in the making.
#[derive(Debug, Default)]
pub(crate) struct Script {
    root: Vec<(String, Part)>,
}

#[derive(Debug)]
enum Part {
    Value(String, String),
    Below(Vec<(String, Part)>),
}

impl Script {
    /// Puts a value at a path, whose numbers are places in a list; what stands there already is replaced.
    pub fn put(&mut self, path: &str, value: &Value, comment: &str) {
        self.put_text(path, scalar(value), comment);
    }

    /// As [`put`](Self::put), of a value that is YAML already.
    pub fn put_text(&mut self, path: &str, value: String, comment: &str) {
        let mut parts: Vec<&str> = path.split('.').collect();
        let last = parts.pop().unwrap_or(path);
        let mut level = &mut self.root;
        for part in parts {
            let at = match level.iter().position(|(key, _)| key == part) {
                Some(at) => at,
                None => {
                    level.push((part.to_owned(), Part::Below(Vec::new())));
                    level.len() - 1
                }
            };
            if matches!(level[at].1, Part::Value(..)) {
                level[at].1 = Part::Below(Vec::new());
            }
            let Part::Below(below) = &mut level[at].1 else { return };
            level = below;
        }
        let value = Part::Value(value, comment.to_owned());
        match level.iter_mut().find(|(key, _)| key == last) {
            Some((_, part)) => *part = value,
            None => level.push((last.to_owned(), value)),
        }
    }

    /// Whether something stands at a path.
    pub fn has(&self, path: &str) -> bool {
        let mut level = &self.root;
        let mut parts = path.split('.').peekable();
        while let Some(part) = parts.next() {
            match level.iter().find(|(key, _)| key == part) {
                Some((_, Part::Below(below))) => level = below,
                Some(_) => return parts.peek().is_none(),
                None => return false,
            }
        }
        true
    }

    /// The text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        write(&self.root, 0, &mut out);
        out
    }
}

fn write(level: &[(String, Part)], indent: usize, out: &mut String) {
    let pad = " ".repeat(indent);
    for (key, part) in level {
        // An item of a list begins with its dash; what is below it is written beside it.
        let item = key.parse::<usize>().is_ok();
        match part {
            Part::Value(value, comment) => {
                let key = if item { "-".to_owned() } else { format!("{key}:") };
                out.push_str(&format!("{pad}{key} {value}"));
                if !comment.is_empty() {
                    out.push_str(&format!("  # {comment}"));
                }
                out.push('\n');
            }
            Part::Below(below) if item => {
                let mut inner = String::new();
                write(below, indent + 2, &mut inner);
                out.push_str(&format!("{pad}- {}", inner.trim_start()));
            }
            Part::Below(below) => {
                out.push_str(&format!("{pad}{key}:\n"));
                write(below, indent + 2, out);
            }
        }
    }
}

/// A value as YAML that YAML 1.1 and 1.2 read alike.
pub(crate) fn scalar(value: &Value) -> String {
    match value {
        Value::Number(given) => match given.as_f64() {
            Some(float) if !given.is_i64() && !given.is_u64() => number(float),
            _ => given.to_string(),
        },
        Value::String(text) if is_plain(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(scalar).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let each = map.iter().map(|(key, value)| format!("{key}: {}", scalar(value)));
            format!("{{{}}}", each.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// A number without digits that say nothing; with a point before its exponent, without which YAML 1.1 reads text.
pub(crate) fn number(value: f64) -> String {
    let plain = format!("{value}");
    if value == 0.0 || (1e-3..1e7).contains(&value.abs()) {
        return plain;
    }
    let short = format!("{value:e}");
    let (mantissa, exponent) = short.split_once('e').unwrap_or((&short, "0"));
    let mantissa = if mantissa.contains('.') { mantissa.to_owned() } else { format!("{mantissa}.0") };
    let sign = if exponent.starts_with('-') { "" } else { "+" };
    format!("{mantissa}e{sign}{exponent}")
}

/// Whether a text may be written without quotes.
fn is_plain(text: &str) -> bool {
    let node = Node { place: Place::Whole, content: Content::Scalar { text: text.to_owned(), plain: true } };
    let first = text.starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_'));
    let rest = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+=:@#~".contains(c));
    let words = ["yes", "no", "on", "off", "y", "n"];
    first
        && rest
        && !text.ends_with(':')
        && matches!(node.scalar(), Some(Scalar::Text(_)))
        && !words.contains(&text.to_ascii_lowercase().as_str())
}
