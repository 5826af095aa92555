//! Tables: what looks at the claims of a Parquet or Arrow file is ours, what believes them then is not, and runs caught. No panic of
//! ours, no abort, no hang, no memory beyond the caps of `docs/data.md`.
#![no_main]

use std::path::Path;
use std::sync::Once;

use libfuzzer_sys::fuzz_target;
use temper_data::{ReadOptions, parse_rows};

/// A panic of a library becomes an error of the file; one of ours ends the run.
fn ours_alone() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            if panic.location().is_some_and(|place| place.file().contains("crates/data/")) {
                eprintln!("{panic}");
                std::process::abort();
            }
        }));
    });
}

fuzz_target!(|bytes: &[u8]| {
    ours_alone();
    let name = if bytes.starts_with(b"PAR1") { "rows.parquet" } else { "rows.arrow" };
    let _ = parse_rows(Path::new(name), bytes, &ReadOptions::default());
});
