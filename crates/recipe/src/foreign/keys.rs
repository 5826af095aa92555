//! What keys a tool has, what each takes, and who says so; and the findings that follow from that alone.

use crate::kind::closest;

use super::document::{Document, Leaf, ends, shown, text, truth};
use super::finding::{Cited, Finding, Severity};

/// What a key takes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Takes {
    /// A number from the first to the second.
    Number(f64, f64),
    /// A whole number from the first to the second.
    Whole(u64, u64),
    /// One of these whole numbers.
    WholeOf(&'static [u64]),
    /// A whole number in a range, a multiple of the third.
    Multiple(u64, u64, u64),
    /// One of these words.
    Words(&'static [&'static str]),
    /// `true` or `false`.
    Truth,
    /// Anything.
    Any,
}

/// A key. Its path is the end of its full path: sections move between releases, the ends stay.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    pub path: &'static str,
    pub takes: Takes,
    /// What holds where it is left out, as the source says.
    pub default: Option<&'static str>,
    pub source: Cited,
    /// Where another page of the same vendor says otherwise.
    pub but: Option<&'static str>,
}

impl Takes {
    fn expected(self) -> String {
        match self {
            Self::Number(low, high) => format!("a number from {low} to {high}"),
            Self::Whole(low, high) if high == u64::MAX => format!("a whole number of at least {low}"),
            Self::Whole(low, high) => format!("a whole number from {low} to {high}"),
            Self::WholeOf(of) => format!("one of {}", of.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")),
            Self::Multiple(low, high, of) => format!("a multiple of {of} from {low} to {high}"),
            Self::Words(of) => format!("one of {}", of.join(", ")),
            Self::Truth => "true or false".to_owned(),
            Self::Any => "anything".to_owned(),
        }
    }

    /// Nothing where the value is taken; else a value near it that is, where there is one.
    fn refuses(self, document: &Document, leaf: &Leaf<'_>) -> Option<Option<String>> {
        let number = document.number_of(leaf.node);
        let whole = number.filter(|number| number.fract() == 0.0 && *number >= 0.0).map(|number| number as u64);
        let near = |of: &[u64]| {
            let given = number?;
            of.iter()
                .min_by(|a, b| (**a as f64 - given).abs().total_cmp(&(**b as f64 - given).abs()))
                .map(u64::to_string)
        };
        let plain = |number: f64| crate::foreign::script::number(number);
        match self {
            Self::Any => None,
            Self::Number(low, high) => match number {
                Some(number) if (low..=high).contains(&number) => None,
                Some(number) => Some(Some(plain(number.clamp(low, high)))),
                None => Some(None),
            },
            Self::Whole(low, high) => match whole {
                Some(whole) if (low..=high).contains(&whole) => None,
                _ => Some(number.map(|number| (number.max(0.0).round() as u64).clamp(low, high).to_string())),
            },
            Self::WholeOf(of) => match whole {
                Some(whole) if of.contains(&whole) => None,
                _ => Some(near(of)),
            },
            Self::Multiple(low, high, of) => match whole {
                Some(whole) if (low..=high).contains(&whole) && whole.is_multiple_of(of) => None,
                _ => Some(number.map(|number| {
                    let steps = (number.max(0.0) / of as f64).round() as u64;
                    (steps * of).clamp(low, high).to_string()
                })),
            },
            Self::Words(of) => match text(leaf.node) {
                Some(word) if of.contains(&word) => None,
                Some(word) => Some(closest(word, of.iter().copied()).map(str::to_owned)),
                None => Some(None),
            },
            Self::Truth => truth(leaf.node).is_none().then_some(None),
        }
    }
}

/// The key that a path means.
pub(crate) fn find<'k>(keys: &'k [Key], path: &str) -> Option<&'k Key> {
    keys.iter().filter(|key| ends(path, key.path)).max_by_key(|key| key.path.len())
}

/// Values outside of what their keys take.
pub(crate) fn outside(document: &Document, keys: &[Key]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for leaf in document.leaves() {
        let Some(key) = find(keys, &leaf.path) else { continue };
        let shown = shown(leaf.node);
        // What is filled in later, and what is left open, cannot be judged.
        let open = leaf.node.is_null() || shown.contains("${") || shown.contains("{{");
        if open && document.number_of(leaf.node).is_none() {
            continue;
        }
        let Some(near) = key.takes.refuses(document, &leaf) else { continue };
        let but = key.but.map(|but| format!("; but {but}")).unwrap_or_default();
        findings.push(Finding {
            rule: "out-of-range",
            severity: Severity::Error,
            place: leaf.node.place.clone(),
            found: format!("`{}` is {shown}", leaf.path),
            reason: format!("it takes {}{but}", key.takes.expected()),
            source: key.source.to_string(),
            corrected: near.or(key.default.map(str::to_owned)).map(|value| document.line(&leaf.path, &value)),
        });
    }
    findings
}

/// What becomes of a key that a tool does not know.
#[derive(Clone, Copy)]
pub(crate) struct Unknown {
    pub severity: Severity,
    pub reason: &'static str,
    pub source: Cited,
}

/// Keys that the tool does not know. `renamed` are those that it once had, or that another tool has, with the key that is meant.
pub(crate) fn unknown(
    document: &Document,
    known: &[&str],
    renamed: &[(&str, &str)],
    open: &[&str],
    what: Unknown,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for leaf in document.leaves() {
        // Maps that the tool hands on as they are.
        if open
            .iter()
            .any(|open| leaf.path == *open || leaf.path.strip_prefix(open).is_some_and(|rest| rest.starts_with('.')))
        {
            continue;
        }
        // A place in a list is no key.
        let parts = leaf.path.split('.').filter(|part| part.parse::<usize>().is_err());
        let path = parts.collect::<Vec<_>>().join(".");
        if known.contains(&path.as_str()) {
            continue;
        }
        let section = path.rsplit_once('.').map(|(section, _)| section);
        let beside = known.iter().filter(|key| key.rsplit_once('.').map(|(section, _)| section) == section);
        let meant = renamed
            .iter()
            .find(|(old, _)| *old == path || ends(&path, old))
            .map(|(_, new)| *new)
            .or_else(|| closest(&path, beside.copied()))
            .or_else(|| {
                let last = path.rsplit('.').next().unwrap_or(&path);
                known.iter().find(|key| ends(key, last)).copied()
            });
        let hint = meant.map(|meant| format!(": did you mean `{meant}`?")).unwrap_or_default();
        findings.push(Finding {
            rule: "unknown-key",
            severity: what.severity,
            place: leaf.place.clone(),
            found: format!("`{}` is no key of {}{hint}", leaf.path, document.tool.name()),
            reason: what.reason.to_owned(),
            source: what.source.to_string(),
            corrected: meant.map(|meant| document.line(meant, &shown(leaf.node))),
        });
    }
    findings
}
