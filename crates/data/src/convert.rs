//! Rows of one format as rows of another, a piece at a time.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rayon::prelude::*;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::{DataError, RowProblem};
use crate::format::Format;
use crate::read::{ReadOptions, read_rows};
use crate::report::Dropped;
use crate::row::Row;
use crate::write::Shape;

/// What became of the rows of some files.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Conversion {
    /// Each file, with the format that it was read as and its rows.
    pub files: Vec<(PathBuf, Format, usize)>,
    /// Rows that were written.
    pub written: usize,
    /// What the new format has no place for, with the rows that had it.
    pub lost: BTreeMap<String, Dropped>,
    /// Rows that were left out, by reason.
    pub left_out: BTreeMap<String, Dropped>,
}

/// Writes every row of `files` in the format `target`, as it lies in a file of this `shape`: `write` is handed each row as the
/// fields of an object, in order.
///
/// # Errors
/// As [`read_rows`], and what `write` returns; with `skip` false also [`DataError::BadRows`] where a row cannot be written so.
pub fn convert<E: From<DataError>>(
    files: &[PathBuf],
    options: &ReadOptions,
    target: Format,
    shape: Shape,
    skip: bool,
    mut write: impl FnMut(&Map<String, Value>) -> Result<(), E>,
) -> Result<Conversion, E> {
    let mut done = Conversion::default();
    for path in files {
        let mut problems = Vec::new();
        let file = read_rows(path, options, &mut |rows| {
            let held = |row: &Row| target.write(row).and_then(|(row, lost)| Ok((shape.hold(target, row)?, lost)));
            let written: Vec<_> = rows.par_iter().map(|row| (row.line, held(row))).collect();
            for (line, row) in written {
                match row {
                    Ok((row, mut lost)) => {
                        // A row that lost the same thing twice is one row.
                        lost.sort_unstable();
                        lost.dedup();
                        lost.into_iter().for_each(|what| done.lost.entry(what).or_default().add(line, 0));
                        done.written += 1;
                        write(&row)?;
                    }
                    Err(why) if skip => done.left_out.entry(why).or_default().add(line, 0),
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
    Ok(done)
}
