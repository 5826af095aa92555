//! The strict reader: takes fields out of a map one by one, records every problem, and goes on.
//!
//! A field that cannot be read yields `None` and a recorded problem; reading goes on with the next one, so that all
//! problems come at once. Checks between fields look only at those that could be read.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use crate::field_doc::{DefaultDoc, FieldDoc, Shape, sentence};
use crate::kind::{Kind, closest};
use crate::problem::{Note, Place, Problem};
use crate::reference;
use crate::refused;
use crate::settings::{Source, Valued};
use crate::tree::{Content, Entry, Node, Scalar};

/// What the whole reading shares.
pub(crate) struct Context {
    pub problems: Vec<Problem>,
    pub notes: Vec<Note>,
    /// Relative paths start here.
    pub folder: PathBuf,
    /// False for the reference, whose example names no real files.
    pub check_files: bool,
    /// Every field met so far, for the reference and for suggestions.
    pub fields: Vec<FieldDoc>,
    /// Every section met so far: its path without numbers, and what it is.
    pub sections: Vec<(String, &'static str)>,
    /// Keys of one section of which at most one may be given; with `true` exactly one.
    pub exclusive: Vec<(String, Vec<&'static str>, bool)>,
}

impl Context {
    pub fn new(folder: PathBuf, check_files: bool) -> Self {
        Self {
            problems: Vec::new(),
            notes: Vec::new(),
            folder,
            check_files,
            fields: Vec::new(),
            sections: Vec::new(),
            exclusive: Vec::new(),
        }
    }

    pub fn problem(&mut self, place: Place, message: impl Into<String>, hint: impl Into<String>) {
        self.problems.push(Problem { place, message: message.into(), hint: hint.into() });
    }

    /// Records "expected .., got .."; always `None`, so that a reader can end with it.
    pub fn expected<T>(&mut self, node: &Node, path: &str, expected: &str, hint: &str) -> Option<T> {
        self.problem(node.place.clone(), format!("`{path}`: expected {expected}, got {}", node.describe()), hint);
        None
    }
}

/// Something that is read from the fields of a map. Implemented by the macro `section!`.
pub(crate) trait Read: Sized {
    const DOC: &'static str;
    fn read(r: &mut Section<'_>) -> Option<Self>;
}

/// A map that is being read.
pub(crate) struct Section<'c> {
    pub cx: &'c mut Context,
    /// Where it begins.
    pub place: Place,
    /// Its path, empty for the recipe itself.
    pub path: String,
    /// Its path in the reference, where a number is `[]` and a name of the user's is `<name>`.
    pub doc_path: String,
    entries: Vec<Entry>,
    known: Vec<&'static str>,
    /// Why the fields that are read now must not be given, e.g. "mode: full".
    inactive: Option<String>,
    /// Whether the fields that are read now have an effect because of others only.
    conditional: bool,
}

/// One field of a [`Section`], not read yet.
pub(crate) struct Field<'s, 'c> {
    section: &'s mut Section<'c>,
    name: &'static str,
    doc: &'static str,
    aliases: &'static [&'static str],
}

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

/// One of several keys of which at most one may be given.
pub(crate) struct Alternative<T> {
    pub name: &'static str,
    pub doc: &'static str,
    pub aliases: &'static [&'static str],
    pub kind: Kind<T>,
}

impl<'c> Section<'c> {
    pub fn root(cx: &'c mut Context, node: &Node) -> Option<Self> {
        let Content::Map(entries) = &node.content else {
            cx.problem(
                node.place.clone(),
                format!("expected a recipe, a map of `key: value` lines; got {}", node.describe()),
                "begin with `name:`, `base:` and `stages:`",
            );
            return None;
        };
        Some(Self {
            cx,
            place: node.place.clone(),
            path: String::new(),
            doc_path: String::new(),
            entries: entries.clone(),
            known: Vec::new(),
            inactive: None,
            conditional: false,
        })
    }

    pub fn field(&mut self, name: &'static str, doc: &'static str) -> Field<'_, 'c> {
        Field { section: self, name, doc, aliases: &[] }
    }

    pub fn problem(&mut self, place: Option<Place>, message: impl Into<String>, hint: impl Into<String>) {
        let place = place.unwrap_or_else(|| self.place.clone());
        self.cx.problem(place, message, hint);
    }

    /// `key` with the path of this section.
    pub fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn doc_path_of(&self, key: &str) -> String {
        if self.doc_path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.doc_path) }
    }

    /// Takes the entry that gives the field `name`: under this name or under an alias, from the file or from a `--set`,
    /// which wins over the file. The flag says that something was there but is refused.
    fn take(&mut self, name: &'static str, aliases: &'static [&'static str]) -> (Option<Entry>, bool) {
        self.known.push(name);
        self.known.extend(aliases);
        let mut found = Vec::new();
        self.entries.retain(|entry| {
            let ours = entry.key == name || aliases.contains(&entry.key.as_str());
            if ours {
                found.push(entry.clone());
            }
            !ours
        });
        if found.iter().any(is_set) {
            found.retain(is_set);
        }
        let mut found = found.into_iter();
        let Some(entry) = found.next() else { return (None, false) };
        if let Some(second) = found.next() {
            let message = format!("`{}` and `{}` are two names of one value", entry.key, second.key);
            self.cx.problem(second.key_place, message, format!("keep `{name}`"));
            return (None, true);
        }
        if entry.value.is_null() {
            if is_set(&entry) {
                return (None, false);
            }
            let message = format!("`{}` has no value", self.path_of(&entry.key));
            self.cx.problem(entry.key_place, message, "give a value, or remove the key");
            return (None, true);
        }
        if let Some(because) = &self.inactive {
            let message = format!("`{}` has no effect with {because}", self.path_of(&entry.key));
            self.cx.problem(entry.key_place, message, "remove it");
            return (None, true);
        }
        if entry.key != name {
            let message = format!("`{}` is read as `{}`", self.path_of(&entry.key), self.path_of(name));
            self.cx.notes.push(Note { place: entry.key_place.clone(), message });
        }
        (Some(entry), false)
    }

    /// Reads the value of an entry and notes where it came from.
    fn value<T>(&mut self, name: &'static str, entry: &Entry, kind: &Kind<T>) -> Option<Valued<T>> {
        let path = self.path_of(name);
        let value = (kind.read)(&entry.value, &path, self.cx)?;
        let source = match &entry.value.place {
            Place::Set { argument } => Source::Set { argument: argument.clone() },
            Place::File { line, column } if entry.key == name => Source::Recipe { line: *line, column: *column },
            Place::File { line, column } => Source::Alias { name: entry.key.clone(), line: *line, column: *column },
            Place::Whole => Source::Recipe { line: 1, column: 1 },
        };
        Some(Valued { value, path, source })
    }

    fn record(
        &mut self,
        name: &'static str,
        doc: &'static str,
        kind: &str,
        shape: Shape,
        default: DefaultDoc,
        aliases: &'static [&'static str],
    ) {
        if self.inactive.is_none() {
            let section = self.doc_path.clone();
            self.cx.fields.push(FieldDoc { section, name, doc, kind: kind.to_owned(), shape, default, aliases });
        }
    }

    fn missing<T>(&mut self, name: &str, doc: &str, kind: &str) -> Option<T> {
        if self.inactive.is_some() {
            return None;
        }
        let message = format!("`{}` is missing", self.path_of(name));
        self.problem(None, message, format!("add `{name}:` with {kind}: {}", sentence(doc)));
        None
    }

    /// Reads a map below this one.
    fn below<T: Read>(&mut self, entries: Vec<Entry>, place: Place, path: String, doc_path: String) -> Option<T> {
        self.cx.sections.push((doc_path.clone(), T::DOC));
        let known = Vec::new();
        let mut section =
            Section { cx: self.cx, place, path, doc_path, entries, known, inactive: None, conditional: false };
        let value = T::read(&mut section);
        section.finish();
        value
    }

    /// Refuses every key that was not asked for.
    pub fn finish(self) {
        for entry in &self.entries {
            let path = self.path_of(&entry.key);
            if let Some(reason) = refused::reason(&entry.key) {
                self.cx.problem(entry.key_place.clone(), format!("`{path}` is not accepted"), reason);
                continue;
            }
            let hint = match reference::section_of(&entry.key) {
                Some(section) if section != self.doc_path => match section.as_str() {
                    "" => format!("`{}` stands at the top of the recipe, not in `{}`", entry.key, self.doc_path),
                    section => format!("`{}` belongs in `{section}`", entry.key),
                },
                _ => match closest(&entry.key, self.known.iter().copied()) {
                    Some(word) => format!("did you mean `{word}`?"),
                    None => format!("known here: {}", self.known.join(", ")),
                },
            };
            self.cx.problem(entry.key_place.clone(), format!("unknown key `{path}`"), hint);
        }
    }
}

impl<'c> Field<'_, 'c> {
    /// The names other tools have for this field.
    pub fn aliases(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    /// Another tool's key that is switched off or on, and the words that this field has for the two. Also an alias.
    pub fn switch(self, key: &str, [off, on]: [&str; 2]) -> Self {
        let entries = self.section.entries.iter_mut().filter(|entry| entry.key == key);
        for Entry { value, .. } in entries {
            if let (Some(Scalar::Bool), Content::Scalar { text, .. }) = (value.scalar(), &value.content) {
                let text = if text.eq_ignore_ascii_case("true") { on } else { off }.to_owned();
                value.content = Content::Scalar { text, plain: true };
            }
        }
        self
    }

    /// A field that must be given.
    pub fn required<T>(self, kind: Kind<T>) -> Option<Valued<T>> {
        let Self { section, name, doc, aliases } = self;
        let needed = if section.conditional { DefaultDoc::Needed } else { DefaultDoc::Required };
        section.record(name, doc, &kind.text, Shape::Value(kind.schema.clone()), needed, aliases);
        match section.take(name, aliases) {
            (Some(entry), _) => section.value(name, &entry, &kind),
            (None, true) => None,
            (None, false) => section.missing(name, doc, &kind.text),
        }
    }

    /// A field with a default; `why` says what it rests on.
    pub fn default<T: Serialize>(self, kind: Kind<T>, value: T, why: &'static str) -> Option<Valued<T>> {
        let Self { section, name, doc, aliases } = self;
        let shown = serde_json::to_value(&value).unwrap_or(Value::Null);
        section.record(
            name,
            doc,
            &kind.text,
            Shape::Value(kind.schema.clone()),
            DefaultDoc::Value { value: shown, why },
            aliases,
        );
        match section.take(name, aliases) {
            (Some(entry), _) => section.value(name, &entry, &kind),
            (None, true) => None,
            (None, false) => Some(Valued { value, path: section.path_of(name), source: Source::Default { why } }),
        }
    }

    /// A field that may be left out.
    pub fn optional<T>(self, kind: Kind<T>) -> Option<Option<Valued<T>>> {
        let Self { section, name, doc, aliases } = self;
        section.record(name, doc, &kind.text, Shape::Value(kind.schema.clone()), DefaultDoc::Absent, aliases);
        match section.take(name, aliases) {
            (Some(entry), _) => section.value(name, &entry, &kind).map(Some),
            (None, refused) => (!refused).then_some(None),
        }
    }

    /// Another tool's map below this one, whose keys are read as if they stood here.
    pub fn spread(self, key: &str) -> Self {
        let section = &mut *self.section;
        if section.inactive.is_some() {
            return self;
        }
        let Some(at) = section.entries.iter().position(|entry| entry.key == key) else { return self };
        let Content::Map(below) = &section.entries[at].value.content else { return self };
        let (below, place) = (below.clone(), section.entries[at].key_place.clone());
        section.entries.remove(at);
        section.entries.extend(below);
        let message = format!("the keys of `{}` are read as keys of `{}`", section.path_of(key), section.path);
        section.cx.notes.push(Note { place, message });
        self
    }

    /// Reads fields of this same map in a way of the caller's.
    pub fn in_section<T>(self, read: impl FnOnce(&mut Section<'c>) -> Option<T>) -> Option<T> {
        read(self.section)
    }

    /// Fields of this same map that belong together, as one value.
    pub fn group<T: Read>(self) -> Option<T> {
        T::read(self.section)
    }

    /// Reads with `read` when `active`; otherwise refuses what `read` would read, because it has no effect.
    pub fn only_when<T>(
        self,
        active: bool,
        because: &str,
        read: impl for<'a> FnOnce(Field<'a, 'c>) -> Option<T>,
    ) -> Option<Option<T>> {
        let Self { section, name, doc, aliases } = self;
        if active {
            let outer = std::mem::replace(&mut section.conditional, true);
            let value = read(Field { section: &mut *section, name, doc, aliases });
            section.conditional = outer;
            return value.map(Some);
        }
        section.inactive = Some(because.to_owned());
        // What cannot be given has no value; the problems of what was given are what counts.
        read(Field { section: &mut *section, name, doc, aliases });
        section.inactive = None;
        Some(None)
    }

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

    /// At most one of several keys of this same map; a `--set` of one wins over the file's choice of another. Without a
    /// default (its index, value and reason), exactly one must be given.
    pub fn one_of<T: Serialize>(
        self,
        alternatives: Vec<Alternative<T>>,
        default: Option<(usize, T, &'static str)>,
    ) -> Option<Valued<T>> {
        let section = self.section;
        if section.inactive.is_none() {
            let names = alternatives.iter().map(|alternative| alternative.name).collect();
            section.cx.exclusive.push((section.doc_path.clone(), names, default.is_none()));
        }
        let mut given = Vec::new();
        let mut refused = false;
        for (index, Alternative { name, doc, aliases, kind }) in alternatives.iter().enumerate() {
            let shown = match &default {
                Some((of, value, why)) if *of == index => {
                    DefaultDoc::Value { value: serde_json::to_value(value).unwrap_or(Value::Null), why }
                }
                _ => DefaultDoc::Absent,
            };
            section.record(name, doc, &kind.text, Shape::Value(kind.schema.clone()), shown, aliases);
            let (entry, bad) = section.take(name, aliases);
            refused |= bad;
            given.extend(entry.map(|entry| (name, kind, entry)));
        }
        if given.iter().any(|(_, _, entry)| is_set(entry)) {
            given.retain(|(_, _, entry)| is_set(entry));
        }
        if let [(first, ..), (second, _, entry), ..] = given.as_slice() {
            let message = format!("`{}` and `{first}` exclude each other", section.path_of(second));
            section.cx.problem(entry.key_place.clone(), message, "keep one of them");
            return None;
        }
        if let Some((name, kind, entry)) = given.into_iter().next() {
            return section.value(name, &entry, kind).filter(|_| !refused);
        }
        match default {
            _ if refused || section.inactive.is_some() => None,
            Some((index, value, why)) => {
                Some(Valued { value, path: section.path_of(alternatives[index].name), source: Source::Default { why } })
            }
            None => {
                let names: Vec<String> = alternatives.iter().map(|a| format!("`{}`", a.name)).collect();
                let message = format!("`{}`: one of {} is missing", section.path, names.join(", "));
                section.problem(None, message, "add the one that fits");
                None
            }
        }
    }
}

fn is_set(entry: &Entry) -> bool {
    matches!(entry.value.place, Place::Set { .. })
}

/// Declares the fields of a map once: makes the type, its reader and its settings. `|field|` names the field being read;
/// the fields above it can be used as `Option`s, `None` when they could not be read. `check |section|` runs at the end.
macro_rules! section {
    (
        $(#[doc = $section_doc:literal])*
        pub struct $Name:ident |$f:ident| {
            $( $(#[doc = $doc:literal])* $field:ident: $Type:ty = $read:expr; )*
        }
        $(check |$r:ident| $check:block)?
    ) => {
        $(#[doc = $section_doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $Name { $( $(#[doc = $doc])* pub $field: $Type, )* }

        impl $crate::reader::Read for $Name {
            const DOC: &'static str = concat!($($section_doc),*);

            fn read(section: &mut $crate::reader::Section<'_>) -> Option<Self> {
                $(
                    let $field: Option<$Type> = {
                        let $f = section.field(stringify!($field), concat!($($doc),*));
                        $read
                    };
                )*
                $( let $r = &mut *section; $check )?
                Some(Self { $( $field: $field?, )* })
            }
        }

        impl $crate::settings::Settings for $Name {
            fn settings(&self, into: &mut Vec<$crate::settings::Setting>) {
                $( $crate::settings::Settings::settings(&self.$field, into); )*
            }
        }
    };
}
pub(crate) use section;
