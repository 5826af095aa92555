//! TensorBoard event files of any program: as they are, and as a record whose checksums are right, which no fuzzer finds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use temper_run::ScalarFiles;

/// CRC-32C (RFC 3720, appendix B.4), masked as TFRecords have it.
fn checksum(bytes: &[u8]) -> [u8; 4] {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    (!crc).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(folder) = tempfile::tempdir() else { return };
    let length = (bytes.len() as u64).to_le_bytes();
    let record = [&length[..], &checksum(&length), bytes, &checksum(bytes)].concat();
    for (name, content) in [("1.plain", bytes), ("2.record", &record)] {
        let _ = std::fs::write(folder.path().join(format!("events.out.tfevents.{name}")), content);
    }
    let mut files = ScalarFiles::new(folder.path(), false);
    let found = files.read();
    assert!(found.len() <= 2 * bytes.len());
    assert!(files.read().is_empty(), "what was read is read again");
});
