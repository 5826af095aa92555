//! The reader of GGUF files: any bytes end in a checkpoint or an error, without memory beyond the file's.
#![no_main]

use std::io::Write;

use libfuzzer_sys::fuzz_target;
use temper_model::Checkpoint;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut file) = tempfile::Builder::new().suffix(".gguf").tempfile() else { return };
    // Half of the inputs would end at the magic.
    let header = if bytes.starts_with(b"GGUF") { &b""[..] } else { &b"GGUF\x03\x00\x00\x00"[..] };
    if file.write_all(header).and_then(|()| file.write_all(bytes)).is_ok() {
        if let Ok(checkpoint) = Checkpoint::open(file.path()) {
            let _ = checkpoint.verify();
            let _ = checkpoint.gguf_vocab();
            let config = checkpoint.config();
            // Shapes are bounded by the file, so reading what it holds is too.
            for (name, shape) in config.tensor_shapes().into_iter().take(4) {
                let _ = checkpoint.tensor(&name, &shape);
            }
        }
    }
});
