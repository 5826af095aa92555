//! Fields that are one value, and what of a map stands beside them: switches, groups, keys that exclude each other.

use serde::Serialize;
use serde_json::Value;

use super::{Field, Read, Section, is_set};
use crate::field_doc::{DefaultDoc, Shape};
use crate::kind::Kind;
use crate::problem::Note;
use crate::settings::{Source, Valued};
use crate::tree::{Content, Entry, Scalar};

/// One of several keys of which at most one may be given.
pub(crate) struct Alternative<T> {
    pub name: &'static str,
    pub doc: &'static str,
    pub aliases: &'static [&'static str],
    pub kind: Kind<T>,
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
