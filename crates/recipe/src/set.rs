//! `--set path=value`: a change to the tree, before it is read.

use crate::problem::{Place, Problem};
use crate::tree::{Content, Entry, Node, parse};

/// Puts `value` at `path` in the tree. Only the shape of the path is checked here; whether the key exists is seen by the
/// reader, which meets it as it meets a key of the file. The value `null` takes a key away, so that the default holds, and an
/// entry of a list out of it ([`leave_out`]).
pub(crate) fn apply(root: &mut Node, argument: &str, problems: &mut Vec<Problem>) {
    let place = Place::Set { argument: argument.to_owned() };
    let mut refuse = |message: String, hint: String| problems.push(Problem { place: place.clone(), message, hint });
    let Some((path, text)) = argument.split_once('=') else {
        return refuse("expected `path=value`".into(), "for example --set stages.0.learning_rate=2e-4".into());
    };
    let dotted = path.replace('[', ".").replace(']', "");
    let segments: Vec<&str> = dotted.split('.').map(str::trim).collect();
    if segments.iter().any(|segment| segment.is_empty()) {
        return refuse(
            format!("`{path}` is not a path"),
            "join keys with dots and count list entries from 0: stages.0.learning_rate or stages[0].learning_rate"
                .into(),
        );
    }
    let mut node = root;
    for (depth, segment) in segments.iter().enumerate() {
        let here = if depth == 0 { "the recipe".to_owned() } else { format!("`{}`", segments[..depth].join(".")) };
        let found = node.describe();
        node = match &mut node.content {
            Content::List(items) => {
                let len = items.len();
                match segment.parse::<usize>().ok().and_then(|index| items.get_mut(index)) {
                    Some(item) => item,
                    None => {
                        return refuse(
                            format!("there is no entry `{segment}` in {here}, which has {len}"),
                            "entries count from 0; to change their number, set the whole list".into(),
                        );
                    }
                }
            }
            Content::Map(entries) => {
                let index = entries.iter().position(|entry| entry.key == *segment).unwrap_or_else(|| {
                    let value = Node { place: place.clone(), content: Content::Map(Vec::new()) };
                    entries.push(Entry { key: (*segment).to_owned(), key_place: place.clone(), value });
                    entries.len() - 1
                });
                if depth + 1 == segments.len() {
                    entries[index].key_place = place.clone();
                }
                &mut entries[index].value
            }
            Content::Scalar { .. } => {
                return refuse(
                    format!("{here} is {found}, it has no `{segment}` to set"),
                    format!("set the whole of it, as in --set {}={{{segment}: ..}}", segments[..depth].join(".")),
                );
            }
        };
    }
    if let Place::Set { argument: earlier } = &node.place
        && *earlier != argument
    {
        return refuse(format!("`{path}` is also set by --set {earlier}"), "give one of them".into());
    }
    // An empty value is null, as after `key:` in a file.
    let null = Node { place: place.clone(), content: Content::Scalar { text: String::new(), plain: true } };
    if text.trim().is_empty() {
        *node = null;
    } else if let Some(value) = parse(text, Some(argument), problems) {
        *node = value;
    }
}

/// Takes those entries out of lists that were set to `null`: after all of the changes, which count entries as the file has them.
pub(crate) fn leave_out(node: &mut Node) {
    match &mut node.content {
        Content::List(items) => {
            // A list that was set as a whole is what it was set to.
            let of_file = !matches!(node.place, Place::Set { .. });
            items.retain(|item| !(of_file && item.is_null() && matches!(item.place, Place::Set { .. })));
            items.iter_mut().for_each(leave_out);
        }
        Content::Map(entries) => entries.iter_mut().for_each(|entry| leave_out(&mut entry.value)),
        Content::Scalar { .. } => {}
    }
}
