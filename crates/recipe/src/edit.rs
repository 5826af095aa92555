//! Changing values in a recipe's own text, so that its comments and its order stay.

use saphyr_parser::{Event, Parser};

/// A change that cannot be written into a text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` cannot be changed in the recipe's text: {why}")]
pub struct EditError {
    /// The field.
    pub path: String,
    /// Why.
    pub why: String,
}

/// A part of the text; places count characters from 0.
#[derive(Debug)]
enum Part {
    Scalar {
        from: usize,
        to: usize,
    },
    List(Vec<Part>),
    Map(Vec<Entry>),
    /// It is written elsewhere, under an anchor.
    Alias,
}

/// A key with its place, and its value.
#[derive(Debug)]
struct Entry {
    key: String,
    from: usize,
    value: Part,
}

/// An event with its place.
struct Token<'t>(Event<'t>, usize, usize);

/// The text with each value at its path; none takes the key away. A key that is not there is added to the map that it belongs in.
///
/// # Errors
/// [`EditError`] where the text is no YAML, or a value does not lie where its path says.
pub fn edit(text: &str, changes: &[(String, Option<String>)]) -> Result<String, EditError> {
    let mut text = text.to_owned();
    for (path, value) in changes {
        let tokens: Result<Vec<Token<'_>>, _> = Parser::new_from_str(&text)
            .map(|event| event.map(|(event, span)| Token(event, span.start.index(), span.end.index())))
            .collect();
        let root = tokens.ok().and_then(|tokens| {
            let content = |token: &Token<'_>| matches!(token.0, Event::MappingStart(..));
            let mut tokens = tokens.into_iter().skip_while(|token| !content(token));
            part(tokens.next()?, &mut tokens)
        });
        let changed = match &root {
            Some(root) => change(&text, root, path, value.as_deref()),
            None => Err("the recipe is no map in YAML".to_owned()),
        };
        text = changed.map_err(|why| EditError { path: path.clone(), why })?;
    }
    Ok(text)
}

/// The part that begins with a token.
fn part<'t>(first: Token<'t>, tokens: &mut dyn Iterator<Item = Token<'t>>) -> Option<Part> {
    match first.0 {
        Event::Scalar(..) => Some(Part::Scalar { from: first.1, to: first.2 }),
        Event::Alias(_) => Some(Part::Alias),
        Event::SequenceStart(..) => {
            let mut items = Vec::new();
            loop {
                match tokens.next()? {
                    Token(Event::SequenceEnd, ..) => return Some(Part::List(items)),
                    token => items.push(part(token, tokens)?),
                }
            }
        }
        Event::MappingStart(..) => {
            let mut entries = Vec::new();
            loop {
                match tokens.next()? {
                    Token(Event::MappingEnd, ..) => return Some(Part::Map(entries)),
                    Token(Event::Scalar(key, ..), from, _) => {
                        let value = tokens.next()?;
                        entries.push(Entry { key: key.into_owned(), from, value: part(value, tokens)? });
                    }
                    _ => return None,
                }
            }
        }
        _ => None,
    }
}

/// One change.
fn change(text: &str, root: &Part, path: &str, value: Option<&str>) -> Result<String, String> {
    let segments: Vec<&str> = path.split('.').collect();
    let mut here = root;
    for (depth, segment) in segments.iter().enumerate() {
        let last = depth + 1 == segments.len();
        here = match here {
            Part::List(items) => {
                let item = segment.parse::<usize>().ok().and_then(|index| items.get(index));
                item.ok_or_else(|| format!("there is no entry {segment}"))?
            }
            Part::Map(entries) => match (entries.iter().position(|entry| entry.key == *segment), value) {
                (Some(index), None) if last => return Ok(without(text, entries, index)),
                (Some(index), _) => &entries[index].value,
                (None, None) => return Ok(text.to_owned()),
                (None, Some(value)) => {
                    let first = entries.first().ok_or("the map that it belongs in is empty")?;
                    // What is left of the path becomes a map in braces.
                    let below = segments[depth + 1..].iter().rev();
                    let value = below.fold(value.to_owned(), |value, key| format!("{{{key}: {value}}}"));
                    return Ok(with(text, first.from, &format!("{segment}: {value}")));
                }
            },
            Part::Alias => return Err("it stands under an anchor, which others share".to_owned()),
            Part::Scalar { .. } => return Err("what it belongs in is a single value".to_owned()),
        };
    }
    match (here, value) {
        (Part::Scalar { from, to }, Some(value)) => {
            let written: String = text.chars().skip(*from).take(to - from).collect();
            // A plain scalar may be told with what follows it on its line.
            let length = written.trim_end().chars().count();
            Ok(replaced(text, *from, from + length, value))
        }
        _ => Err("it is no single value there".to_owned()),
    }
}

/// Characters `from..to` replaced.
fn replaced(text: &str, from: usize, to: usize, with: &str) -> String {
    text.chars().take(from).chain(with.chars()).chain(text.chars().skip(to)).collect()
}

/// Whether a map whose first key stands at `from` is written in braces: its key does not begin its line, nor follow a dash.
fn in_braces(text: &str, from: usize) -> bool {
    let before: Vec<char> = text.chars().take(from).collect();
    let line = before.iter().rposition(|&c| c == '\n').map_or(0, |at| at + 1);
    before[line..].iter().any(|c| !matches!(c, ' ' | '-'))
}

/// The text with `entry` before the key at `from`.
fn with(text: &str, from: usize, entry: &str) -> String {
    if in_braces(text, from) {
        return replaced(text, from, from, &format!("{entry}, "));
    }
    let before: Vec<char> = text.chars().take(from).collect();
    let line = before.iter().rposition(|&c| c == '\n').map_or(0, |at| at + 1);
    // After a dash the new entry takes the first one's place, which moves to a line of its own.
    replaced(text, from, from, &format!("{entry}\n{}", " ".repeat(from - line)))
}

/// The text without one entry of a map.
fn without(text: &str, entries: &[Entry], index: usize) -> String {
    let (from, next) = (entries[index].from, entries.get(index + 1).map(|entry| entry.from));
    let end = end_of(&entries[index].value).unwrap_or(from);
    if let Some(next) = next {
        // The next key takes its place, in braces as on lines.
        return replaced(text, from, next, "");
    }
    let all: Vec<char> = text.chars().collect();
    if in_braces(text, from) {
        let before = all[..from].iter().rposition(|c| !c.is_whitespace()).unwrap_or(from);
        let start = if all.get(before) == Some(&',') { before } else { from };
        return replaced(text, start, end, "");
    }
    let line = all[..from].iter().rposition(|&c| c == '\n').map_or(0, |at| at + 1);
    let rest = all[end..].iter().position(|&c| c == '\n').map_or(all.len(), |at| end + at + 1);
    replaced(text, line, rest, "")
}

/// Where a value ends, as far as its last scalar tells.
fn end_of(part: &Part) -> Option<usize> {
    match part {
        Part::Scalar { to, .. } => Some(*to),
        Part::List(items) => items.last().and_then(end_of),
        Part::Map(entries) => entries.last().and_then(|entry| end_of(&entry.value)),
        Part::Alias => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail")]

    use super::*;

    const TEXT: &str = "\
# A recipe – with a comment.
name: x
stages:
  - kind: sft   # what
    lora_rank: 4
    mix: {domain: 50, general: [{name: a, share: 100}]}
    # the rate
    learning_rate: 1e-4  # low
";

    fn edited(path: &str, value: Option<&str>) -> String {
        edit(TEXT, &[(path.to_owned(), value.map(str::to_owned))]).unwrap()
    }

    #[test]
    fn a_value_is_changed_where_it_stands_and_comments_stay() {
        assert_eq!(edited("stages.0.learning_rate", Some("0.002")), TEXT.replace("1e-4  #", "0.002  #"));
        assert_eq!(edited("stages.0.mix.domain", Some("80")), TEXT.replace("domain: 50", "domain: 80"));
        assert_eq!(edited("stages.0.mix.general.0.share", Some("60")), TEXT.replace("share: 100", "share: 60"));
        assert_eq!(edited("stages.0.kind", Some("cpt")), TEXT.replace("kind: sft ", "kind: cpt "));
    }

    #[test]
    fn a_key_that_is_not_there_is_added_to_its_map() {
        let expected = TEXT.replace("- kind: sft", "- max_steps: 3\n    kind: sft");
        assert_eq!(edited("stages.0.max_steps", Some("3")), expected);
        assert_eq!(edited("stages.0.mix.unit", Some("samples")), TEXT.replace("{domain", "{unit: samples, domain"));
        assert_eq!(edited("seed", Some("7")), TEXT.replace("name: x", "seed: 7\nname: x"));
        assert_eq!(
            edited("evaluation.watch_items", Some("9")),
            TEXT.replace("name: x", "evaluation: {watch_items: 9}\nname: x")
        );
    }

    #[test]
    fn a_key_is_taken_away() {
        assert_eq!(edited("stages.0.lora_rank", None), TEXT.replace("lora_rank: 4\n    ", ""));
        assert_eq!(edited("stages.0.learning_rate", None), TEXT.replace("    learning_rate: 1e-4  # low\n", ""));
        assert_eq!(edited("stages.0.mix.domain", None), TEXT.replace("domain: 50, ", ""));
        assert_eq!(edited("stages.0.mix.general.0.share", None), TEXT.replace(", share: 100", ""));
        assert_eq!(edited("stages.0.seed", None), TEXT);
    }

    #[test]
    fn what_lies_elsewhere_is_refused() {
        let shared = "a: &x {rate: 1}\nb: *x\n";
        let error = edit(shared, &[("b.rate".to_owned(), Some("2".to_owned()))]).unwrap_err();
        assert!(error.to_string().contains("under an anchor"), "{error}");
        assert!(edit("- 1", &[("a".to_owned(), Some("2".to_owned()))]).is_err());
    }
}
