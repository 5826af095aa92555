//! YAML text -> a tree in which every node knows its place.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use crate::problem::{Place, Problem};

/// More nodes than any recipe has; stops a file whose anchors unfold without end ("billion laughs").
const MAX_NODES: usize = 100_000;
/// Deeper than any recipe is.
const MAX_DEPTH: usize = 64;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub place: Place,
    pub content: Content,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Content {
    /// `plain`: written without quotes, so that it may mean a number, a truth value or null.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub key: String,
    pub key_place: Place,
    pub value: Node,
}

/// What a plain scalar means by the core schema of YAML 1.2 (chapter 10.3.2).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Scalar<'a> {
    Null,
    Bool,
    Integer(i128),
    Number(f64),
    Text(&'a str),
}

impl Node {
    /// A map of plain scalars, all at one place: what a word stands for.
    pub fn of_scalars(place: &Place, map: &[(&str, &str)]) -> Self {
        let node = |content| Self { place: place.clone(), content };
        let entries = map.iter().map(|(key, value)| Entry {
            key: (*key).to_owned(),
            key_place: place.clone(),
            value: node(Content::Scalar { text: (*value).to_owned(), plain: true }),
        });
        node(Content::Map(entries.collect()))
    }

    pub fn scalar(&self) -> Option<Scalar<'_>> {
        let Content::Scalar { text, plain } = &self.content else { return None };
        Some(if *plain { resolve(text) } else { Scalar::Text(text) })
    }

    pub fn is_null(&self) -> bool {
        self.scalar() == Some(Scalar::Null)
    }

    /// What it is, for "expected .., got ..".
    pub fn describe(&self) -> String {
        match &self.content {
            Content::List(_) => "a list".into(),
            Content::Map(_) => "a map".into(),
            Content::Scalar { text, plain: true } => format!("`{text}`"),
            Content::Scalar { text, plain: false } => format!("the text `{text}`"),
        }
    }

    fn size_and_depth(&self) -> (usize, usize) {
        let (mut size, mut depth) = (1, 0);
        let mut add = |node: &Node| {
            let (s, d) = node.size_and_depth();
            size += s;
            depth = depth.max(d);
        };
        match &self.content {
            Content::Scalar { .. } => {}
            Content::List(items) => items.iter().for_each(&mut add),
            Content::Map(entries) => entries.iter().for_each(|entry| add(&entry.value)),
        }
        (size, depth + 1)
    }
}

fn resolve(text: &str) -> Scalar<'_> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => return Scalar::Bool,
        ".nan" | ".NaN" | ".NAN" => return Scalar::Number(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Scalar::Number(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Scalar::Number(f64::NEG_INFINITY),
        _ => {}
    }
    let radix =
        |digits: &str, radix| i128::from_str_radix(digits, radix).ok().filter(|_| !digits.starts_with(['+', '-']));
    let integer = match (text.strip_prefix("0x"), text.strip_prefix("0o")) {
        (Some(hex), _) => radix(hex, 16),
        (_, Some(octal)) => radix(octal, 8),
        _ => text.parse().ok(),
    };
    if let Some(integer) = integer {
        return Scalar::Integer(integer);
    }
    // Rust's grammar of floats is that of the core schema, once words such as `infinity` and `nan` are left out.
    let numeric = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E'));
    match text.parse() {
        Ok(number) if numeric => Scalar::Number(number),
        _ => Scalar::Text(text),
    }
}

enum Frame {
    List { place: Place, anchor: usize, items: Vec<Node> },
    Map { place: Place, anchor: usize, entries: Vec<Entry>, key: Option<(String, Place)> },
}

/// Reads one YAML document. Problems that do not hide the rest (a key given twice, a tag) are recorded and reading goes
/// on; `None` means that there is no tree to go on with. With `set`, every node's place is that `--set` argument.
pub(crate) fn parse(text: &str, set: Option<&str>, problems: &mut Vec<Problem>) -> Option<Node> {
    let place_of = |span: Span| match set {
        Some(argument) => Place::Set { argument: argument.to_owned() },
        None => Place::File { line: span.start.line(), column: span.start.col() + 1 },
    };
    let mut anchors: HashMap<usize, Node> = HashMap::new();
    let mut stack: Vec<Frame> = Vec::new();
    let mut root = None;
    let mut count = 0;
    let mut documents = 0;
    for event in Parser::new_from_str(text) {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) => {
                let mark = error.marker();
                problems.push(Problem {
                    place: place_of(Span::new(*mark, *mark)),
                    message: format!("not valid YAML: {}", error.info()),
                    hint: "check the indentation (spaces, never tabs), the `:` after each key, and quotes and brackets"
                        .into(),
                });
                return None;
            }
        };
        let place = place_of(span);
        let mut stop = |message: &str, hint: &str| {
            problems.push(Problem { place: place.clone(), message: message.into(), hint: hint.into() });
        };
        if let Event::Scalar(_, _, _, Some(tag))
        | Event::SequenceStart(_, Some(tag))
        | Event::MappingStart(_, Some(tag)) = &event
        {
            stop(
                &format!("the tag `{tag}` is not understood"),
                "remove the tag; write text in quotes and numbers without",
            );
        }
        let (node, anchor) = match event {
            Event::DocumentStart(_) => {
                documents += 1;
                if documents == 2 {
                    stop("a second document begins here", "keep one recipe in one file: remove the `---`");
                    return None;
                }
                continue;
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => continue,
            Event::SequenceStart(anchor, _) => {
                stack.push(Frame::List { place, anchor, items: Vec::new() });
                if stack.len() > MAX_DEPTH {
                    problems.push(too_large(place_of(span)));
                    return None;
                }
                continue;
            }
            Event::MappingStart(anchor, _) => {
                stack.push(Frame::Map { place, anchor, entries: Vec::new(), key: None });
                if stack.len() > MAX_DEPTH {
                    problems.push(too_large(place_of(span)));
                    return None;
                }
                continue;
            }
            Event::Scalar(text, style, anchor, _) => {
                let content = Content::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain };
                (Node { place, content }, anchor)
            }
            Event::Alias(id) => {
                let Some(node) = anchors.get(&id) else {
                    stop("an anchor is used inside itself", "write the values out");
                    return None;
                };
                let (size, depth) = node.size_and_depth();
                count += size;
                if count > MAX_NODES || stack.len() + depth > MAX_DEPTH {
                    problems.push(too_large(place));
                    return None;
                }
                (Node { place, content: node.content.clone() }, 0)
            }
            Event::SequenceEnd | Event::MappingEnd => match stack.pop() {
                Some(Frame::List { place, anchor, items }) => (Node { place, content: Content::List(items) }, anchor),
                Some(Frame::Map { place, anchor, entries, .. }) => {
                    (Node { place, content: Content::Map(entries) }, anchor)
                }
                None => continue,
            },
        };
        count += 1;
        if count > MAX_NODES {
            problems.push(too_large(node.place));
            return None;
        }
        if anchor > 0 {
            anchors.insert(anchor, node.clone());
        }
        match stack.last_mut() {
            None => root = Some(node),
            Some(Frame::List { items, .. }) => items.push(node),
            Some(Frame::Map { entries, key, .. }) => match key.take() {
                None => match node.content {
                    Content::Scalar { text, .. } => *key = Some((text, node.place)),
                    _ => {
                        problems.push(Problem {
                            place: node.place,
                            message: "a key must be a word".into(),
                            hint: "write `key: value`; quote text that begins with a bracket or a brace".into(),
                        });
                        return None;
                    }
                },
                Some((key, key_place)) => match entries.iter().find(|entry| entry.key == key) {
                    None => entries.push(Entry { key, key_place, value: node }),
                    Some(first) => {
                        let first = match &first.key_place {
                            Place::File { line, .. } => format!(", first in line {line}"),
                            _ => String::new(),
                        };
                        problems.push(Problem {
                            place: key_place,
                            message: format!("`{key}` is given twice{first}"),
                            hint: "keep one of them".into(),
                        });
                    }
                },
            },
        }
    }
    root
}

fn too_large(place: Place) -> Problem {
    Problem {
        place,
        message: format!("more than {MAX_NODES} values, or more than {MAX_DEPTH} levels"),
        hint: "a recipe is small; look for an anchor that is repeated inside others".into(),
    }
}
