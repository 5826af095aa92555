//! TensorBoard event files: scalars by step, as `tensorboard --logdir` reads them.
//!
//! A file is a sequence of TFRecords, each a protobuf `Event`:
//!
//! ```text
//! u64 length | u32 masked crc32c(length) | bytes | u32 masked crc32c(bytes)         (little-endian)
//! Event   { double wall_time = 1; int64 step = 2; string file_version = 3; Summary summary = 5; SessionLog session_log = 7 }
//! Summary { repeated Value { string tag = 1; float simple_value = 2 } value = 1 }
//! SessionLog { enum status = 1 }                                                    (START = 1)
//! ```
//!
//! Formats: `tensorflow/core/lib/io/record_writer.h`, `core/util/event.proto`, `core/framework/summary.proto`; CRC-32C of
//! RFC 3720, appendix B.4. A run that is resumed gets a file of its own, which begins with `SessionLog START` at the first
//! step that it writes: TensorBoard then forgets what older files hold from that step on
//! (`tensorboard/backend/event_processing/event_accumulator.py`, `_CheckForRestartAndMaybePurge`).

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{RunError, io_error};

/// An event file that grows by one record a step. A record is handed to the operating system in one write, so a reader
/// sees whole records; TensorBoard waits for the rest of a last one that is cut off.
#[derive(Debug)]
pub struct ScalarLog {
    path: PathBuf,
    file: File,
}

impl ScalarLog {
    /// Starts the next event file of `folder`, which is made if need be. `first_step` is the lowest step that this file
    /// will hold: 0 for a new run, the step after the checkpoint for one that is resumed.
    ///
    /// TensorBoard reads the files of a folder in the order of their names, which begin with the time in seconds; this one's
    /// is later than every other's, even where a clock went back.
    ///
    /// # Errors
    /// [`RunError::Io`].
    pub fn start(folder: &Path, first_step: u64) -> Result<Self, RunError> {
        fs::create_dir_all(folder).map_err(io_error("create", folder))?;
        let mut seconds = wall_time() as u64;
        for entry in fs::read_dir(folder).map_err(io_error("list", folder))? {
            let name = entry.map_err(io_error("list", folder))?.file_name();
            let older =
                name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('.').next()?.parse::<u64>().ok());
            seconds = seconds.max(older.map_or(0, |older| older.saturating_add(1)));
        }
        let path = folder.join(format!("{PREFIX}{seconds:010}.temper"));
        let mut file =
            OpenOptions::new().append(true).create_new(true).open(&path).map_err(io_error("create", &path))?;
        let now = wall_time();
        let mut head = record(&file_version(now));
        head.extend(record(&session_start(now, first_step)));
        file.write_all(&head).map_err(io_error("append to", &path))?;
        Ok(Self { path, file })
    }

    /// Appends the values of one step, each under its tag (`train/loss`). They are stored as f32; NaN and the infinities
    /// are values as well.
    ///
    /// # Errors
    /// [`RunError::Io`].
    pub fn append(&mut self, step: u64, scalars: &[(&str, f64)]) -> Result<(), RunError> {
        let bytes = record(&summary(wall_time(), step, scalars));
        self.file.write_all(&bytes).map_err(io_error("append to", &self.path))
    }
}

pub(crate) const PREFIX: &str = "events.out.tfevents.";

fn wall_time() -> f64 {
    // A clock before 1970 gives 0: TensorBoard orders by step.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

fn file_version(wall_time: f64) -> Vec<u8> {
    let mut event = event(wall_time, 0);
    bytes_field(&mut event, 3, b"brain.Event:2");
    event
}

fn session_start(wall_time: f64, step: u64) -> Vec<u8> {
    const START: u64 = 1;
    let mut log = Vec::new();
    varint_field(&mut log, 1, START);
    let mut event = event(wall_time, step);
    bytes_field(&mut event, 7, &log);
    event
}

fn summary(wall_time: f64, step: u64, scalars: &[(&str, f64)]) -> Vec<u8> {
    let mut values = Vec::new();
    for (tag, value) in scalars {
        let mut entry = Vec::new();
        bytes_field(&mut entry, 1, tag.as_bytes());
        key(&mut entry, 2, FIXED_32);
        entry.extend((*value as f32).to_le_bytes());
        bytes_field(&mut values, 1, &entry);
    }
    let mut event = event(wall_time, step);
    bytes_field(&mut event, 5, &values);
    event
}

fn event(wall_time: f64, step: u64) -> Vec<u8> {
    let mut event = Vec::new();
    key(&mut event, 1, FIXED_64);
    event.extend(wall_time.to_le_bytes());
    // A default value is left out, as protobuf's own writers do.
    if step > 0 {
        varint_field(&mut event, 2, step);
    }
    event
}

// Protobuf wire types.
const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const LENGTH: u64 = 2;
const FIXED_32: u64 = 5;

fn key(out: &mut Vec<u8>, field: u64, wire_type: u64) {
    varint(out, field << 3 | wire_type);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_field(out: &mut Vec<u8>, field: u64, value: u64) {
    key(out, field, VARINT);
    varint(out, value);
}

fn bytes_field(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    key(out, field, LENGTH);
    varint(out, bytes.len() as u64);
    out.extend(bytes);
}

fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut out = Vec::with_capacity(data.len() + 16);
    out.extend(length);
    out.extend(masked(crc32c(&length)).to_le_bytes());
    out.extend(data);
    out.extend(masked(crc32c(data)).to_le_bytes());
    out
}

/// A CRC of data that holds CRCs is weak, so the stored one is rotated and shifted.
pub(crate) fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = crc_table();
    !bytes.iter().fold(!0, |crc, &byte| crc >> 8 ^ TABLE[usize::from(crc as u8 ^ byte)])
}

/// Remainders of all bytes by the Castagnoli polynomial, bits reversed.
const fn crc_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of RFC 3720, appendix B.4, and the check value of the Castagnoli CRC.
    #[test]
    fn published_checksums() {
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(&(0..32).collect::<Vec<u8>>()), 0x46dd_794e);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What TensorBoard 2.21 writes for the same events (`RecordWriter(file).write(event.SerializeToString())`).
    #[test]
    fn the_bytes_are_those_of_tensorboards_own_writer() {
        assert_eq!(
            hex(&record(&file_version(1.5))),
            "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c"
        );
        assert_eq!(
            hex(&record(&session_start(1.5, 300))),
            "100000000000000095fbfe1809000000000000f83f10ac023a020801713b788a"
        );
        assert_eq!(
            hex(&record(&summary(1.5, 300, &[("train/loss", 2.5), ("train/learning_rate", 1e-3)]))),
            "3d000000000000006049f1ec09000000000000f83f10ac022a2f0a110a0a747261696e2f6c6f737315000020400a1a0a13747261696e\
             2f6c6561726e696e675f72617465156f12833a8bd35e12"
        );
    }

    #[test]
    fn a_resumed_run_writes_a_later_file_that_begins_with_its_first_step() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("tensorboard");
        let names = || {
            let mut names: Vec<_> =
                fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        let mut log = ScalarLog::start(&folder, 0).unwrap();
        log.append(1, &[("train/loss", 2.5)]).unwrap();
        let first = names();
        // A clock that went back: the older file's name lies ahead.
        fs::rename(folder.join(&first[0]), folder.join("events.out.tfevents.4000000000.temper")).unwrap();
        ScalarLog::start(&folder, 41).unwrap();
        assert_eq!(names()[1], "events.out.tfevents.4000000001.temper");
    }
}
