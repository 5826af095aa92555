//! What the reader tells of each field that it asks for: the reference and the schema are made of it.

use serde_json::Value;

/// A field as the reference shows it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FieldDoc {
    /// The path of its section without numbers, such as `stages[]`.
    pub section: String,
    pub name: &'static str,
    pub doc: &'static str,
    /// What is expected.
    pub kind: String,
    pub shape: Shape,
    pub default: DefaultDoc,
    pub aliases: &'static [&'static str],
}

/// What is expected, as the schema says it. Sections are named by their path in the reference.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shape {
    Value(Value),
    /// A map.
    Section(String),
    /// A map, or a value for its field of that name.
    SectionOr(String, &'static str),
    /// A list of maps, so many at least.
    Sections(String, usize),
    /// A list of maps, or the word that stands for one.
    SectionsOr(String, &'static str),
    /// A list of maps, or a map of maps by one of their fields.
    Keyed(String),
    /// A map of maps under names of the user's.
    Named(String),
}

/// What holds when a field is not given.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum DefaultDoc {
    Required,
    /// Required where other fields give it an effect.
    Needed,
    Absent,
    Value {
        value: Value,
        why: &'static str,
    },
}

/// A doc comment as one line.
pub(crate) fn sentence(doc: &str) -> String {
    doc.split_whitespace().collect::<Vec<_>>().join(" ")
}
