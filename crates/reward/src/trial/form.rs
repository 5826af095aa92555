//! What a right completion looks like, told by the rewards themselves: a reference alone would fail where an answer
//! needs a form.

use temper_recipe::{Extract, Reward, VerifierKind};

/// What stands in tags that are not the answer's.
const FILLER: &str = "as asked";

/// A completion with a row's field in the place of its answer, as the first verifier with a reference finds it, within
/// the tags that `format` asks for. None where the rewards ask for no form, or for one that cannot be told.
pub(crate) fn form(rewards: &[Reward]) -> Option<String> {
    let counted = || rewards.iter().filter(|reward| !reward.held_out.value);
    let compares = |kind: VerifierKind| {
        use VerifierKind::*;
        matches!(kind, Exact | Normalised | Numeric | Choice | F1 | RougeL)
    };
    let compared = counted().find(|reward| reward.by.value.verifier().is_some_and(compares))?;
    let field = compared.field.as_ref().map_or("reference_answer", |field| field.value.as_str());
    let answer = format!("{{{field}}}");
    let text = |field: &Option<temper_recipe::Valued<String>>| field.as_ref().map(|field| field.value.clone());
    let found = match compared.extract.as_ref().map_or(Extract::Whole, |extract| extract.value) {
        Extract::After => format!("{} {answer}", text(&compared.after)?),
        Extract::Boxed => format!("\\boxed{{{answer}}}"),
        Extract::Pattern => around(&text(&compared.extract_pattern)?, &answer)?,
        _ => answer,
    };
    let tags = counted().find_map(|reward| Some(&reward.tags.as_ref()?.value));
    let Some(tags) = tags else { return Some(found) };
    let own = |tag: &str| found.contains(&format!("<{tag}>"));
    let has_own = tags.iter().any(|tag| own(tag));
    let last = tags.last()?;
    let parts = tags.iter().map(|tag| match tag {
        tag if own(tag) => found.clone(),
        tag if !has_own && tag == last => format!("<{tag}>{found}</{tag}>"),
        tag => format!("<{tag}>{FILLER}</{tag}>"),
    });
    Some(parts.collect())
}

/// A text that a pattern with plain text around its one group matches, with `answer` in the group.
fn around(pattern: &str, answer: &str) -> Option<String> {
    let pattern = pattern.strip_prefix("(?s)").or_else(|| pattern.strip_prefix("(?i)")).unwrap_or(pattern);
    let (before, rest) = pattern.split_once('(')?;
    let (group, after) = rest.rsplit_once(')')?;
    let one_group = !group.contains('(') && !group.starts_with('?');
    one_group.then(|| Some(format!("{}{answer}{}", plain(before)?, plain(after)?)))?
}

/// The text that a part of a pattern matches, if that is plain: white space that may be there is left out.
fn plain(part: &str) -> Option<String> {
    let mut text = String::new();
    let mut rest = part.trim_start_matches('^').trim_end_matches('$').replace(r"\s*", "").replace(r"\s+", " ");
    while !rest.is_empty() {
        let mut chars = rest.chars();
        match chars.next()? {
            '\\' => text.push(chars.next().filter(char::is_ascii_punctuation)?),
            c if ".*+?[]{}()|^$".contains(c) => return None,
            c => text.push(c),
        }
        rest = chars.as_str().to_owned();
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(entries: &[&str]) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rewards.yaml");
        let entries: String = entries.iter().map(|entry| format!("  - {{{entry}}}\n")).collect();
        std::fs::write(&file, format!("rewards:\n{entries}")).unwrap();
        let (read, _) = temper_recipe::RewardFile::load(&file, &[]).unwrap();
        form(&read.rewards)
    }

    #[test]
    fn forms_are_told_by_extraction_and_tags() {
        for (entries, expected) in [
            (&["name: a, verifier: exact"][..], Some("{reference_answer}")),
            (&["name: a, verifier: exact, field: reference_answer.code"], Some("{reference_answer.code}")),
            (&["name: a, verifier: numeric, extract: after, after: \"####\""], Some("#### {reference_answer}")),
            (&["name: a, verifier: numeric, extract: boxed"], Some(r"\boxed{{reference_answer}}")),
            (
                &["name: a, verifier: exact, extract: pattern, extract_pattern: '(?s)<answer>\\s*(.*?)\\s*</answer>'"],
                Some("<answer>{reference_answer}</answer>"),
            ),
            (
                &[
                    "name: f, verifier: format, tags: [think, answer]",
                    "name: a, verifier: exact, extract: pattern, extract_pattern: '<answer>(.*)</answer>'",
                ],
                Some("<think>as asked</think><answer>{reference_answer}</answer>"),
            ),
            (
                &["name: f, verifier: format, tags: [think, answer]", "name: a, verifier: numeric, extract: boxed"],
                Some(r"<think>as asked</think><answer>\boxed{{reference_answer}}</answer>"),
            ),
            (&["name: a, verifier: exact, extract: pattern, extract_pattern: 'x(.)(.)'"], None),
            (&["name: a, verifier: exact, extract: pattern, extract_pattern: 'x.y(.)'"], None),
            (&["name: a, verifier: regex, pattern: x"], None),
        ] {
            assert_eq!(of(entries).as_deref(), expected, "{entries:?}");
        }
    }
}
