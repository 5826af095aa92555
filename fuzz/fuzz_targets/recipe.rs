//! The recipe's reader: any text ends in a recipe or in problems, never in a panic; what was read is checked, and written for other tools.
#![no_main]

use std::io::Write;

use libfuzzer_sys::fuzz_target;
use temper_recipe::Recipe;
use temper_recipe::foreign::{self, Known, Tool};

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut file) = tempfile::NamedTempFile::new() else { return };
    if file.write_all(bytes).is_ok() {
        let Ok((recipe, _)) = Recipe::load(file.path(), &[]) else { return };
        let _ = foreign::check_recipe(&recipe, &Known::default());
        for to in [Tool::Nova, Tool::Axolotl, Tool::LlamaFactory, Tool::Trl] {
            let _ = foreign::export(&recipe, file.path(), to, Some(1000), None);
        }
    }
});
