//! What an answer looks like: made of tags, so long, of this schema.

use serde_json::Value;

/// Whether a completion is these tags, each opened and closed once, in this order, each with something in it, and
/// nothing beside them.
pub(crate) fn tagged(completion: &str, tags: &[String]) -> bool {
    let mut rest = completion.trim();
    for tag in tags {
        let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
        if completion.matches(&open).count() != 1 || completion.matches(&close).count() != 1 {
            return false;
        }
        let Some((inside, after)) = rest.strip_prefix(&open).and_then(|rest| rest.split_once(&close)) else {
            return false;
        };
        if inside.trim().is_empty() {
            return false;
        }
        rest = after.trim_start();
    }
    rest.is_empty()
}

/// 1 within the bounds, 0 from `slack` outside of them on, a straight line in between.
pub(crate) fn length(count: u64, at_least: u64, at_most: u64, slack: u64) -> f64 {
    let outside = at_least.saturating_sub(count).max(count.saturating_sub(at_most));
    match outside {
        0 => 1.0,
        _ if outside >= slack => 0.0,
        _ => 1.0 - outside as f64 / slack as f64,
    }
}

/// Makes a validator of a JSON Schema; drafts are told by `$schema`. Nothing is fetched: a reference to another
/// document is an error.
pub(crate) fn schema(schema: &Value) -> Result<jsonschema::Validator, String> {
    jsonschema::options().build(schema).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tags_are_all_there_once_in_order_and_nothing_else() {
        let tags = ["think".to_owned(), "answer".to_owned()];
        for (completion, fits) in [
            ("<think>a</think>\n<answer>b</answer>", true),
            (" <think>a\nb</think><answer>b</answer>\n", true),
            ("<answer>b</answer><think>a</think>", false),
            ("<think>a</think>so<answer>b</answer>", false),
            ("<think>a</think><answer>b</answer>!", false),
            ("<think>a</think><answer> </answer>", false),
            ("<think>a<think>b</think><answer>b</answer>", false),
            ("<think>a</think><answer>b</answer><answer>c</answer>", false),
            ("<think>a</think><answer>b", false),
            ("", false),
        ] {
            assert_eq!(tagged(completion, &tags), fits, "{completion}");
        }
    }

    #[test]
    fn lengths_fall_over_the_slack() {
        let of = |count| length(count, 10, 20, 4);
        assert_eq!([5, 6, 8, 10, 20, 21, 24, 25].map(of), [0.0, 0.0, 0.5, 1.0, 1.0, 0.75, 0.0, 0.0]);
        assert_eq!(length(21, 0, 20, 0), 0.0);
    }

    #[test]
    fn schemas_fetch_nothing() {
        let validator = schema(&json!({"type": "object", "required": ["x"]})).unwrap();
        assert!(validator.is_valid(&json!({"x": 1})));
        assert!(!validator.is_valid(&json!({})));
        assert!(schema(&json!({"$ref": "http://127.0.0.1:1/schema.json"})).is_err());
        assert!(schema(&json!({"type": "objekt"})).is_err());
    }
}
