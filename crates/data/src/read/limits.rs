//! What a file may ask for. Every size that a file claims, or unpacks to, is held against these before memory is taken for it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Bytes of the longest row: of its text as it lies in the file, or of its cells.
pub(super) const LONGEST: usize = 64 << 20;
/// Bytes after which a line that does not end is given up, and the file with it.
pub(super) const ENDLESS: usize = 1 << 30;
/// Bytes of the first line of a table, which names the columns.
pub(super) const HEADER: usize = 1 << 20;
/// Bytes of a page of Parquet, packed and unpacked: a page holds a cell of the longest row, and what stands before it.
pub(super) const PAGE: usize = 128 << 20;
/// Bytes of the pages that are read for one batch of rows of Parquet.
pub(super) const BATCH: usize = 384 << 20;
/// Bytes of what stands at the end of a file of Parquet or Arrow and describes it.
pub(super) const FOOTER: usize = 8 << 20;
/// Bytes of a message of Arrow, packed and unpacked; of all its dictionaries together as well.
pub(super) const MESSAGE: usize = 512 << 20;
/// Columns of a table, those inside of lists and structs counted one by one, and how deep they lie.
pub(super) const COLUMNS: usize = 10_000;
pub(super) const DEPTH: usize = 64;

pub(super) fn mib(bytes: usize) -> String {
    format!("{} MiB", bytes >> 20)
}

pub(super) fn too_long() -> String {
    format!("longer than {}, expected a row of a conversation or a document", mib(LONGEST))
}

/// What a reader that others wrote returns; a panic in it becomes its message.
pub(super) fn caught<T>(read: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(read)).map_err(|panic| format!("the reader failed: {}", said(&*panic)))
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no reason given")
}
