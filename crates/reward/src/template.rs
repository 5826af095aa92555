//! Texts with names in braces.

use serde_json::Value;

/// Replaces each `{name}` by what `value` gives for it, in one pass: braces within a value stay. A name is letters,
/// digits, `_` and dots; other braces stay as they are. The error is a name for which there is nothing.
pub(crate) fn fill(template: &str, value: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let is_name = |name: &&str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.'));
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, from)) = rest.split_once('{') {
        filled.push_str(before);
        match from.split_once('}').filter(|(name, _)| is_name(name)) {
            Some((name, after)) => {
                filled.push_str(&value(name).ok_or_else(|| name.to_owned())?);
                rest = after;
            }
            None => {
                filled.push('{');
                rest = from;
            }
        }
    }
    Ok(filled + rest)
}

/// A value of a row as it stands in a text.
pub(crate) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pass_and_other_braces_stay() {
        let value = |name: &str| match name {
            "a" => Some("{b}".to_owned()),
            "b.c" => Some("B".to_owned()),
            _ => None,
        };
        assert_eq!(fill(r"{a}|{b.c}|{}|{ a }|\boxed{{a}}|{", value).unwrap(), r"{b}|B|{}|{ a }|\boxed{{b}}|{");
        assert_eq!(fill("{d}", value), Err("d".to_owned()));
    }
}
