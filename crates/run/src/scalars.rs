//! Reading the scalars of TensorBoard event files while a program writes them. Their form is told in `tensorboard.rs`.
//!
//! A scalar is a `simple_value` (field 2 of a value, what older writers and PyTorch's write) or a `tensor` of one number
//! (field 8, what TensorFlow 2 writes: `TensorProto { int32 dtype = 1; bytes tensor_content = 4; repeated float float_val = 5;
//! repeated double double_val = 6 }`, of `core/framework/tensor.proto`, with the types DT_FLOAT = 1 and DT_DOUBLE = 2). All else
//! is passed over.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::tensorboard::{PREFIX, crc32c, masked};

/// A record longer than this is no scalar: a picture, or a length that is wrong.
const MOST: u64 = 1 << 26;
/// Folders below the one that is looked at.
const DEPTH: usize = 4;

/// One number of an event file.
#[derive(Clone, Debug, PartialEq)]
pub struct Scalar {
    /// What it is called.
    pub tag: String,
    /// Its step.
    pub step: u64,
    /// Its value.
    pub value: f64,
}

/// The event files in a folder and the folders below it, as far as they have been read.
#[derive(Debug)]
pub struct ScalarFiles {
    folder: PathBuf,
    /// How far each file has been read; none: it is broken from there on.
    read: BTreeMap<PathBuf, Option<u64>>,
}

impl ScalarFiles {
    /// The files in `folder`. With `from_now` what they hold already is passed over.
    pub fn new(folder: &Path, from_now: bool) -> Self {
        let mut files = Self { folder: folder.to_owned(), read: BTreeMap::new() };
        if from_now {
            files.read();
        }
        files
    }

    /// What has been written since the last time, file by file in the order of their names. A record that is not whole yet is left
    /// for the next time; a file that cannot be read, or whose checksums are wrong, gives nothing from there on.
    pub fn read(&mut self) -> Vec<Scalar> {
        let mut found = Vec::new();
        find(&self.folder, DEPTH, &mut found);
        found.sort();
        let mut scalars = Vec::new();
        for path in found {
            let at = self.read.entry(path.clone()).or_insert(Some(0));
            let Some(from) = *at else { continue };
            let Ok(bytes) = rest(&path, from) else { continue };
            *at = records(&bytes, &mut scalars).map(|read| from + read);
        }
        scalars
    }
}

fn find(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            if depth > 0 {
                find(&path, depth - 1, found);
            }
        } else if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            found.push(path);
        }
    }
}

fn rest(path: &Path, from: u64) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The whole records of `bytes`, and how many bytes they take; none where one is broken.
fn records(bytes: &[u8], scalars: &mut Vec<Scalar>) -> Option<u64> {
    let mut at = 0;
    loop {
        let Some(head) = bytes.get(at..at + 12) else { return Some(at as u64) };
        let length = u64::from_le_bytes(head[..8].try_into().ok()?);
        if masked(crc32c(&head[..8])) != u32::from_le_bytes(head[8..].try_into().ok()?) || length > MOST {
            return None;
        }
        let (from, to) = (at + 12, at + 12 + length as usize);
        let Some(sum) = bytes.get(to..to + 4) else { return Some(at as u64) };
        if masked(crc32c(&bytes[from..to])) != u32::from_le_bytes(sum.try_into().ok()?) {
            return None;
        }
        event(&bytes[from..to], scalars);
        at = to + 4;
    }
}

/// A field of a protobuf message.
enum Field<'b> {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(&'b [u8]),
    Fixed32([u8; 4]),
}

/// The fields of a message, until one that cannot be read.
fn fields(mut bytes: &[u8]) -> impl Iterator<Item = (u64, Field<'_>)> {
    std::iter::from_fn(move || {
        let key = varint(&mut bytes)?;
        let field = match key & 7 {
            0 => Field::Varint(varint(&mut bytes)?),
            1 => Field::Fixed64(take(&mut bytes, 8)?.try_into().ok()?),
            2 => {
                let length = varint(&mut bytes)?;
                Field::Bytes(take(&mut bytes, usize::try_from(length).ok()?)?)
            }
            5 => Field::Fixed32(take(&mut bytes, 4)?.try_into().ok()?),
            _ => return None,
        };
        Some((key >> 3, field))
    })
}

fn take<'b>(bytes: &mut &'b [u8], count: usize) -> Option<&'b [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn event(bytes: &[u8], scalars: &mut Vec<Scalar>) {
    let mut step = 0;
    let mut summary = None;
    for field in fields(bytes) {
        match field {
            (2, Field::Varint(value)) => step = value,
            (5, Field::Bytes(bytes)) => summary = Some(bytes),
            _ => {}
        }
    }
    for field in summary.into_iter().flat_map(fields) {
        let (1, Field::Bytes(entry)) = field else { continue };
        let (mut tag, mut value) = (None, None);
        for field in fields(entry) {
            match field {
                (1, Field::Bytes(bytes)) => tag = std::str::from_utf8(bytes).ok(),
                (2, Field::Fixed32(bytes)) => value = Some(f64::from(f32::from_le_bytes(bytes))),
                (8, Field::Bytes(bytes)) => value = tensor(bytes),
                _ => {}
            }
        }
        scalars.extend(tag.zip(value).map(|(tag, value)| Scalar { tag: tag.to_owned(), step, value }));
    }
}

/// The number of a tensor of one.
fn tensor(bytes: &[u8]) -> Option<f64> {
    let (mut double, mut value) = (false, None);
    let of = |bytes: &[u8], double: bool| match double {
        true => bytes.try_into().ok().map(f64::from_le_bytes),
        false => bytes.try_into().ok().map(|bytes| f64::from(f32::from_le_bytes(bytes))),
    };
    for field in fields(bytes) {
        match field {
            (1, Field::Varint(2)) => double = true,
            // Packed, as proto3 writes repeated numbers, or content as it lies in memory.
            (4, Field::Bytes(bytes)) => value = of(bytes, double),
            (5, Field::Bytes(bytes)) => value = of(bytes, false),
            (6, Field::Bytes(bytes)) => value = of(bytes, true),
            (5, Field::Fixed32(bytes)) => value = of(&bytes, false),
            (6, Field::Fixed64(bytes)) => value = of(&bytes, true),
            _ => {}
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ScalarLog;

    #[test]
    fn what_is_written_is_read_once_and_a_record_that_is_cut_off_waits() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("a/b");
        let mut log = ScalarLog::start(&below, 0).unwrap();
        let mut files = ScalarFiles::new(dir.path(), false);
        log.append(3, &[("eval/loss", 0.5), ("lr", f64::NAN)]).unwrap();
        let read = files.read();
        assert_eq!(read[0], Scalar { tag: "eval/loss".into(), step: 3, value: 0.5 });
        assert!(read[1].tag == "lr" && read[1].value.is_nan() && read.len() == 2);
        assert_eq!(files.read(), []);
        log.append(4, &[("eval/loss", 0.25)]).unwrap();
        let path = fs::read_dir(&below).unwrap().next().unwrap().unwrap().path();
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert_eq!(files.read(), []);
        fs::write(&path, &whole).unwrap();
        assert_eq!(files.read(), [Scalar { tag: "eval/loss".into(), step: 4, value: 0.25 }]);
        // What another process has read already is not told again.
        assert_eq!(ScalarFiles::new(dir.path(), true).read(), []);
    }

    /// As TensorFlow 2's `tf.summary.scalar` writes it: the bytes of `TensorProto(dtype=DT_FLOAT, float_val=[0.75])` and of
    /// `TensorProto(dtype=DT_DOUBLE, tensor_content=struct.pack("<d", 0.75))`, by the documents of protobuf.
    #[test]
    fn a_tensor_of_one_number_is_a_scalar() {
        assert_eq!(tensor(&[0x08, 1, 0x2a, 4, 0, 0, 0x40, 0x3f]), Some(0.75));
        assert_eq!(tensor(&[0x08, 2, 0x22, 8, 0, 0, 0, 0, 0, 0, 0xe8, 0x3f]), Some(0.75));
    }

    #[test]
    fn bytes_that_are_no_records_give_nothing() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(format!("{PREFIX}1")), [0xff; 100]).unwrap();
        assert_eq!(ScalarFiles::new(dir.path(), false).read(), []);
    }
}
