//! The recipe's reader: any text ends in a recipe or in problems, never in a panic.
#![no_main]

use std::io::Write;

use libfuzzer_sys::fuzz_target;
use temper_recipe::Recipe;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut file) = tempfile::NamedTempFile::new() else { return };
    if file.write_all(bytes).is_ok() {
        let _ = Recipe::load(file.path(), &[]);
    }
});
