//! Rows of one format as rows of another, a piece at a time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::check::Severity;
use crate::contract::{Breach, Breaches, Contract, Found, Purpose};
use crate::error::{DataError, RowProblem};
use crate::format::Format;
use crate::read::{ReadOptions, read_rows};
use crate::report::Dropped;
use crate::row::{Row, RowKind};
use crate::write::Shape;

/// How rows are to be written.
#[derive(Debug, Clone, Copy)]
pub struct Writing {
    /// In which format.
    pub format: Format,
    /// In what kind of file.
    pub shape: Shape,
    /// Whether rows that cannot be written so are left out and counted.
    pub skip: bool,
    /// Which of Amazon Nova's contracts they must keep; none where that was not asked. Rows of [`Format::Converse`] are Nova's and
    /// must always keep one.
    pub nova: Option<Nova>,
}

/// Which Nova rows are for.
#[derive(Debug, Clone, Copy)]
pub struct Nova {
    /// Whether it is Nova 2; where that is not said, Nova 2, and of pairs Nova 1, which alone takes them.
    pub second: Option<bool>,
    /// Whether Bedrock reads them.
    pub bedrock: bool,
}

impl Writing {
    /// What rows of this kind must keep.
    fn contract(&self, kind: RowKind) -> Option<Contract> {
        let purpose = match self.format {
            Format::Converse if kind == RowKind::Preference => Purpose::Dpo,
            Format::Converse => Purpose::Sft,
            Format::Rft => Purpose::Rft,
            Format::Text => Purpose::Cpt,
            _ => return None,
        };
        let nova = match self.nova {
            Some(nova) => nova,
            None if self.format == Format::Converse => Nova { second: None, bedrock: false },
            None => return None,
        };
        Some(Contract { purpose, second: nova.second.unwrap_or(purpose != Purpose::Dpo), bedrock: nova.bedrock })
    }
}

/// What became of the rows of some files.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Conversion {
    /// Each file, with the format that it was read as and its rows.
    pub files: Vec<(PathBuf, Format, usize)>,
    /// Rows that were written.
    pub written: usize,
    /// What the new format has no place for, with the rows that had it.
    pub lost: BTreeMap<String, Dropped>,
    /// Rows that were left out, by reason.
    pub left_out: BTreeMap<String, Dropped>,
    /// Rows that were given an `id` of their file's name and their number there: Nova's rewards answer by it.
    pub named: Dropped,
    /// What Nova may mind in the rows that were written.
    pub breaches: Vec<Breach>,
}

/// A row as it is to be written.
struct Written {
    line: usize,
    row: Map<String, Value>,
    lost: Vec<String>,
    /// Whether it was given an id.
    named: bool,
    /// What Nova may mind in it.
    found: Vec<Found>,
}

/// Writes every row of `files` as `to` says: `write` is handed each row as the fields of an object, in order. Rows of Nova's
/// formats must keep its contract ([`keeps`](crate::keeps)).
///
/// # Errors
/// As [`read_rows`], and what `write` returns; without `skip` also [`DataError::BadRows`] where a row cannot be written so, or
/// breaks the contract; [`DataError::Unreadable`] where Bedrock takes another number of rows.
pub fn convert<E: From<DataError>>(
    files: &[PathBuf],
    options: &ReadOptions,
    to: &Writing,
    mut write: impl FnMut(&Map<String, Value>) -> Result<(), E>,
) -> Result<Conversion, E> {
    let mut done = Conversion::default();
    let mut breaches: Option<Breaches> = None;
    for path in files {
        let mut problems = Vec::new();
        let stem = stem(path);
        let file = read_rows(path, options, &mut |rows: Vec<Row>| {
            if breaches.is_none() {
                breaches = rows.first().and_then(|row| to.contract(row.content.kind())).map(Breaches::of);
            }
            let held: Vec<_> = rows.par_iter().map(|row| (row.line, hold(row, to, breaches.as_ref(), &stem))).collect();
            for (line, row) in held {
                match row {
                    Ok(Written { line, row, mut lost, named, found }) => {
                        // A row that lost the same thing twice is one row.
                        lost.sort_unstable();
                        lost.dedup();
                        lost.into_iter().for_each(|what| done.lost.entry(what).or_default().add(line, 0));
                        if named {
                            done.named.add(line, 0);
                        }
                        if let Some(breaches) = &mut breaches {
                            breaches.count(line, &row, found);
                        }
                        done.written += 1;
                        write(&row)?;
                    }
                    Err(why) if to.skip => done.left_out.entry(why).or_default().add(line, 0),
                    Err(message) => problems.push(RowProblem { line, message }),
                }
            }
            Ok::<_, E>(())
        })?;
        if !problems.is_empty() {
            return Err(DataError::bad_rows(path, problems).into());
        }
        for (field, count) in file.ignored_fields {
            let lost = done.lost.entry(format!("field `{field}`")).or_default();
            lost.count += count;
        }
        done.files.push((path.clone(), file.format, file.rows));
    }
    done.breaches = breaches.map_or_else(Vec::new, |breaches| breaches.finish(done.written));
    if let (Some(breach), Some(path)) =
        (done.breaches.iter().find(|one| one.severity == Severity::Error), files.first())
    {
        // Of single rows none was written that breaks it: what is left is their number.
        let problem = format!("{} ({})", breach.found, breach.reason);
        return Err(DataError::Unreadable { path: path.clone(), problem, hint: breach.source.to_owned() }.into());
    }
    Ok(done)
}

/// A row in the new format, or why it cannot be written.
fn hold(row: &Row, to: &Writing, breaches: Option<&Breaches>, stem: &str) -> Result<Written, String> {
    let Writing { format, shape, .. } = *to;
    let (mut fields, lost) = format.write(row)?;
    let mut named = false;
    let mut found = Vec::new();
    if let Some(breaches) = breaches {
        if format == Format::Rft && !fields.contains_key("id") {
            fields.insert("id".to_owned(), format!("{stem}-{}", row.line).into());
            named = true;
        }
        found = breaches.of_row(&fields).0;
        if let Some(worst) = found.iter().find(|found| found.severity == Severity::Error) {
            return Err(format!("{}: {}: {} ({})", worst.rule, worst.found, worst.reason, worst.source));
        }
    }
    Ok(Written { line: row.line, row: shape.hold(format, fields)?, lost, named, found })
}

/// A file's name without its endings.
fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split('.').next().filter(|stem| !stem.is_empty() && *stem != "-").unwrap_or("row").to_owned()
}
