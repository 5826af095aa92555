//! Rows of every format in every kind of file that our own readers take apart: no panic, no hang, no memory beyond the file's.
//! What was read is written in every format that can hold it, and read again.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use temper_data::{Format, ReadOptions, parse_rows};

const NAMES: [&str; 6] = ["rows.jsonl", "rows.json", "rows.csv", "rows.tsv", "rows.txt", "rows"];

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, bytes)) = bytes.split_first() else { return };
    let name = NAMES[choice as usize % NAMES.len()];
    // Half of the inputs name a format.
    let format = Format::ALL.get(choice as usize / NAMES.len()).copied();
    let options = ReadOptions { format, ..ReadOptions::default() };
    // Packed and columnar files are read by libraries, which are not the subject here.
    let others: [&[u8]; 5] = [&[0x1F, 0x8B], &[0x28, 0xB5], b"PAR1", b"ARROW1", &[0xFF; 4]];
    if others.iter().any(|magic| bytes.starts_with(magic)) {
        return;
    }
    let Ok(loaded) = parse_rows(Path::new(name), bytes, &options) else { return };
    for row in &loaded.rows {
        for format in Format::ALL {
            let Ok((written, lost)) = format.write(row) else { continue };
            let options = ReadOptions { format: Some(format), ..ReadOptions::default() };
            let text = serde_json::Value::from(written).to_string();
            let again = parse_rows(Path::new("rows.jsonl"), text.as_bytes(), &options);
            if lost.is_empty() && format == loaded.format && row.content.kind() == loaded.kind {
                let again = again.unwrap_or_else(|error| panic!("{format}: {text}: {error}"));
                assert_eq!(again.rows[0].content, row.content, "{text}");
            }
        }
    }
});
