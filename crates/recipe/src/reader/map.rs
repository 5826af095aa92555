//! Fields that are maps, or lists of maps, each read by its own type.

use super::{Context, Field, Read};
use crate::field_doc::{DefaultDoc, Shape};
use crate::problem::Place;
use crate::tree::{Content, Entry, Node};

/// How a list of maps may be written.
#[derive(Clone, Copy)]
enum Many<'m> {
    /// As a list.
    Plain,
    /// Or as the word that stands for a list of one map with these scalars.
    Or(&'static str, &'m [(&'m str, &'m str)]),
    /// Or as a map by this field.
    Keyed(&'static str),
}

impl Field<'_, '_> {
    /// A map below this one, which may be left out.
    pub fn section<T: Read>(self) -> Option<Option<T>> {
        let Self { section, name, doc, aliases } = self;
        let below = section.doc_path_of(name);
        section.record(
            name,
            doc,
            &format!("a map, see `{below}`"),
            Shape::Section(below.clone()),
            DefaultDoc::Absent,
            aliases,
        );
        let entry = match section.take(name, aliases) {
            (Some(entry), _) => entry,
            (None, refused) => return (!refused).then_some(None),
        };
        let (path, doc_path) = (section.path_of(name), section.doc_path_of(name));
        match entry.value.content {
            Content::Map(entries) => section.below(entries, entry.value.place, path, doc_path).map(Some),
            _ => section.cx.expected(&entry.value, &path, "a map", "indent its keys below it"),
        }
    }

    /// A map below this one; left out, all of its fields have their defaults. Where it has no effect, it is refused.
    pub fn section_or_defaults<T: Read>(self) -> Option<T> {
        let inactive = self.section.inactive.clone();
        let (name, below) = (self.name, (self.section.path_of(self.name), self.section.doc_path_of(self.name)));
        let Self { section, doc, aliases, .. } = self;
        match (Field { section: &mut *section, name, doc, aliases }).section::<T>()? {
            Some(read) => Some(read),
            None if inactive.is_some() => None,
            None => {
                let place = section.place.clone();
                section.below(Vec::new(), place, below.0, below.1)
            }
        }
    }

    /// A map below this one, or a single value, which then stands for its field `single`.
    pub fn section_or<T: Read>(self, single: &'static str) -> Option<T> {
        let Self { section, name, doc, aliases } = self;
        let kind = format!("a `{single}`, or a map, see `{}`", section.doc_path_of(name));
        let shape = Shape::SectionOr(section.doc_path_of(name), single);
        section.record(name, doc, &kind, shape, DefaultDoc::Required, aliases);
        let entry = match section.take(name, aliases) {
            (Some(entry), _) => entry,
            (None, true) => return None,
            (None, false) => return section.missing(name, doc, &format!("a `{single}`")),
        };
        let (path, doc_path) = (section.path_of(name), section.doc_path_of(name));
        let place = entry.value.place.clone();
        let entries = match entry.value.content {
            Content::Map(entries) => entries,
            _ => vec![Entry { key: single.to_owned(), key_place: entry.key_place, value: entry.value }],
        };
        section.below(entries, place, path, doc_path)
    }

    /// A list of maps with at least `least` entries; left out, it is empty.
    pub fn sections<T: Read>(self, least: usize) -> Option<Vec<T>> {
        self.maps(least, Many::Plain)
    }

    /// As [`sections`](Self::sections) of any number, or a word, which stands for a list of one map with these scalars.
    pub fn sections_or<T: Read>(self, word: &'static str, map: &[(&str, &str)]) -> Option<Vec<T>> {
        self.maps(0, Many::Or(word, map))
    }

    fn maps<T: Read>(self, least: usize, many: Many<'_>) -> Option<Vec<T>> {
        let Self { section, name, doc, aliases } = self;
        let doc_path = format!("{}[]", section.doc_path_of(name));
        let short = match many {
            Many::Or(word, map) => Some((word, map)),
            Many::Plain | Many::Keyed(_) => None,
        };
        let (kind, shape) = match many {
            Many::Plain => (format!("a list of maps, see `{doc_path}`"), Shape::Sections(doc_path.clone(), least)),
            Many::Keyed(key) => {
                let kind = format!("a map of maps by `{key}`, or a list of maps, see `{doc_path}`");
                (kind, Shape::Keyed(doc_path.clone()))
            }
            Many::Or(word, map) => {
                let map: Vec<String> = map.iter().map(|(key, value)| format!("{key}: {value}")).collect();
                let kind = format!(
                    "a list of maps, see `{doc_path}`; or the word `{word}`, short for `[{{{}}}]`",
                    map.join(", ")
                );
                (kind, Shape::SectionsOr(doc_path.clone(), word))
            }
        };
        let default = if least > 0 { DefaultDoc::Required } else { DefaultDoc::Absent };
        section.record(name, doc, &kind, shape, default, aliases);
        let entry = match section.take(name, aliases) {
            (Some(entry), _) => entry,
            (None, true) => return None,
            (None, false) if least == 0 => return Some(Vec::new()),
            (None, false) => return section.missing(name, doc, &kind),
        };
        let path = section.path_of(name);
        let items = match entry.value.content {
            Content::Scalar { ref text, .. } if short.is_some_and(|(word, _)| word == text) => {
                let map = short.map_or(&[][..], |(_, map)| map);
                vec![Node::of_scalars(&entry.value.place, map)]
            }
            Content::List(items) if items.len() >= least => items,
            Content::List(items) => {
                let message = format!("`{path}`: expected {least} or more entries, got {}", items.len());
                section.cx.problem(entry.value.place, message, "add one after `- `");
                return None;
            }
            _ => {
                let (or, hint) = match short {
                    Some((word, _)) => (format!(" or the word `{word}`"), format!("; the one word here is `{word}`")),
                    None => (String::new(), String::new()),
                };
                let hint = format!("begin each entry with `- `{hint}");
                return section.cx.expected(&entry.value, &path, &format!("a list{or}"), &hint);
            }
        };
        let mut whole = true;
        let mut values = Vec::new();
        for (index, node) in items.into_iter().enumerate() {
            let path = format!("{path}.{index}");
            let value = match node.content {
                Content::Map(entries) => section.below(entries, node.place, path, doc_path.clone()),
                _ => section.cx.expected(&node, &path, "a map", "write `- key: value`, further keys below the first"),
            };
            match value {
                Some(value) => values.push(value),
                None => whole = false,
            }
        }
        whole.then_some(values)
    }

    /// A list of maps, or one map in which each entry's key is what its map would have as `key`. In it a list stands for the map's
    /// field `list`, a single value for its field `single`. Left out, it is empty.
    pub fn keyed_sections<T: Read>(
        self,
        key: &'static str,
        list: &'static str,
        single: &'static str,
    ) -> Option<Vec<T>> {
        let section = &mut *self.section;
        let ours = |entry: &&mut Entry| entry.key == self.name || self.aliases.contains(&entry.key.as_str());
        for entry in section.entries.iter_mut().filter(ours) {
            let place = entry.value.place.clone();
            let Content::Map(below) = &entry.value.content else { continue };
            let items = below.iter().map(|Entry { key: name, key_place, value }| {
                let field =
                    |name: &str, value: Node| Entry { key: name.to_owned(), key_place: key_place.clone(), value };
                let content = Content::Scalar { text: name.clone(), plain: false };
                let mut fields = vec![field(key, Node { place: key_place.clone(), content })];
                match &value.content {
                    Content::Map(entries) => fields.extend(entries.iter().cloned()),
                    Content::List(_) => fields.push(field(list, value.clone())),
                    Content::Scalar { .. } => fields.push(field(single, value.clone())),
                }
                Node { place: key_place.clone(), content: Content::Map(fields) }
            });
            entry.value = Node { place, content: Content::List(items.collect()) };
        }
        self.maps(0, Many::Keyed(key))
    }

    /// A map of maps whose keys are names of the user's; `check` looks at each. Left out, it is empty.
    pub fn named_sections<T: Read>(
        self,
        placeholder: &str,
        check: impl Fn(&mut Context, &str, &Place),
    ) -> Option<Vec<(String, T)>> {
        let Self { section, name, doc, aliases } = self;
        let doc_path = format!("{}.<{placeholder}>", section.doc_path_of(name));
        let kind = format!("a map, see `{doc_path}`");
        section.record(name, doc, &kind, Shape::Named(doc_path.clone()), DefaultDoc::Absent, aliases);
        let entry = match section.take(name, aliases) {
            (Some(entry), _) => entry,
            (None, refused) => return (!refused).then(Vec::new),
        };
        let path = section.path_of(name);
        let Content::Map(entries) = entry.value.content else {
            return section.cx.expected(&entry.value, &path, "a map", "write one `NAME: {..}` a line below it");
        };
        let mut whole = true;
        let mut values = Vec::new();
        for Entry { key, key_place, value } in entries {
            check(section.cx, &key, &key_place);
            let path = format!("{path}.{key}");
            let read = match value.content {
                Content::Map(entries) => section.below(entries, value.place, path, doc_path.clone()),
                _ => section.cx.expected(&value, &path, "a map", "write it as {key: value}"),
            };
            match read {
                Some(read) => values.push((key, read)),
                None => whole = false,
            }
        }
        whole.then_some(values)
    }
}
