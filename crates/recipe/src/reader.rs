//! The strict reader: takes fields out of a map one by one, records every problem, and goes on.
//!
//! A field that cannot be read yields `None` and a recorded problem; reading goes on with the next one, so that all
//! problems come at once. Checks between fields look only at those that could be read.
//!
//! Here is what reads a map, and the macro that declares one; `value` and `map` are the kinds of fields that it may have.

mod map;
mod value;

use std::path::PathBuf;

use crate::field_doc::{DefaultDoc, FieldDoc, Shape, sentence};
use crate::kind::{Kind, closest};
use crate::problem::{Note, Place, Problem};
use crate::reference;
use crate::refused;
use crate::settings::{Source, Valued};
use crate::tree::{Content, Entry, Node};

pub(crate) use value::Alternative;

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
