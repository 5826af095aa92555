//! Recipes of other tools: any text, taken for each tool's, ends in findings, and in a recipe of Temper's or what stands in
//! the way; never in a panic. A recipe that is made is one that Temper's own reader reads.
#![no_main]

use std::io::Write;

use libfuzzer_sys::fuzz_target;
use temper_recipe::Recipe;
use temper_recipe::foreign::{self, Document, Given, Known, Tool};

/// The first byte says whose recipe it is; 0 and other numbers: as its keys tell.
const TOOLS: [Tool; 6] = [Tool::Nova, Tool::Axolotl, Tool::LlamaFactory, Tool::Trl, Tool::Unsloth, Tool::MlxLm];

fuzz_target!(|bytes: &[u8]| {
    let Some((first, text)) = bytes.split_first() else { return };
    let Ok(mut file) = tempfile::Builder::new().suffix(".yaml").tempfile() else { return };
    if file.write_all(text).is_err() {
        return;
    }
    let tool = TOOLS.get(usize::from(first.wrapping_sub(b'1'))).copied();
    let Ok(document) = Document::read(file.path(), tool) else { return };
    let rows = Known { rows: Some(1000), ..Known::default() };
    for known in [Known::default(), rows] {
        let _ = foreign::check(&document, &known);
    }
    let given = Given { base: Some("model.gguf".into()), train: vec!["rows.jsonl".into()], ..Given::default() };
    if let Ok(carried) = foreign::import(&document, &given) {
        let Ok(mut own) = tempfile::Builder::new().suffix(".yaml").tempfile() else { return };
        if own.write_all(carried.text.as_bytes()).is_ok() {
            let _ = Recipe::load(own.path(), &[]);
        }
    }
});
