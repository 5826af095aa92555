//! Files that claim absurd sizes are refused before memory is taken for them. One test: it watches the whole process.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

mod images;

use std::fs;

use images::{GgufImage, safetensors_image, text, tiny_config};
use serde_json::json;
use temper_model::Checkpoint;

/// Peak size of the address space, bytes: it grows with an allocation even where the pages are never touched.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn absurd_sizes_are_refused_before_any_allocation() {
    let dir = tempfile::tempdir().unwrap();
    let gguf = dir.path().join("model.gguf");
    let before = peak();
    let mut cases = 0;
    let mut refuse = |bytes: &[u8], part: &str| {
        fs::write(&gguf, bytes).unwrap();
        let message = Checkpoint::open(&gguf).expect_err(part).to_string();
        assert!(message.contains(part), "expected `{part}` in: {message}");
        cases += 1;
    };

    for huge in [1 << 34, 1 << 44, 1 << 62, u64::MAX / 8 + 1, u64::MAX] {
        for (at, part) in [(8, "tensor count"), (16, "metadata count"), (24, "key of metadata entry 0")] {
            let mut bytes = GgufImage::tiny().bytes();
            bytes[at..at + 8].copy_from_slice(&huge.to_le_bytes());
            refuse(&bytes, part);
        }
        let long_text = GgufImage::tiny().set("some.text", 8, huge.to_le_bytes().to_vec());
        refuse(&long_text.bytes(), "some.text");
        for code in [0u32, 5, 6, 8, 12] {
            let value = [&code.to_le_bytes()[..], &huge.to_le_bytes()].concat();
            refuse(&GgufImage::tiny().set("some.array", 9, value).bytes(), "some.array");
        }
        let nested = [&9u32.to_le_bytes()[..], &huge.to_le_bytes()].concat();
        refuse(&GgufImage::tiny().set("some.array", 9, nested).bytes(), "element type 9");
        for dims in [vec![huge], vec![32, huge], vec![huge, huge], vec![32, 3, huge, huge]] {
            let mut image = GgufImage::tiny();
            image.tensors[0].1 = dims;
            refuse(&image.bytes(), "token_embd.weight");
        }
        let name = [huge.to_le_bytes().to_vec(), text("x")].concat();
        refuse(
            &[&b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"[..], &name, &[0; 64]].concat(),
            "name of tensor 0",
        );
    }
    let mut image = GgufImage::tiny();
    image.tensors[0].1 = vec![0, 3];
    refuse(&image.bytes(), "dimensions above 0");
    image.tensors[0].1 = vec![1; 5];
    refuse(&image.bytes(), "1 to 4 dimensions, got 5");

    let folder = dir.path().join("folder");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("config.json"), tiny_config().to_string()).unwrap();
    let mut refuse = |bytes: &[u8], part: &str| {
        fs::write(folder.join("model.safetensors"), bytes).unwrap();
        let message = Checkpoint::open(&folder).expect_err(part).to_string();
        assert!(message.contains(part), "expected `{part}` in: {message}");
        cases += 1;
    };
    for huge in [100_000_001, 1 << 34, u64::MAX] {
        refuse(&[&huge.to_le_bytes()[..], b"{}"].concat(), "header length");
        for shape in [vec![huge], vec![huge, huge], vec![0, huge]] {
            let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [0, 4]});
            refuse(&safetensors_image(&json!({"x": entry}), &[0; 4]), "tensor `x`");
        }
        let entry = json!({"dtype": "F32", "shape": [huge / 4], "data_offsets": [0, huge]});
        refuse(&safetensors_image(&json!({"x": entry}), &[0; 4]), "data inside the 4 bytes");
    }
    let grown = peak() - before;
    assert!(cases > 90 && grown < 1 << 30, "{cases} cases, the address space grew by {grown} bytes");
}
