//! Small GGUF files, sound and damaged, through the public interface.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

mod images;

use std::fs;
use std::path::PathBuf;

use half::f16;
use images::{GgufImage, text};
use temper_model::{Checkpoint, RopeScaling, WeightsError};

fn write(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    fs::write(&path, bytes).unwrap();
    (dir, path)
}

/// The message with which an image is refused, at opening or by `verify`.
fn refusal(bytes: &[u8]) -> String {
    let (_dir, path) = write(bytes);
    match Checkpoint::open(&path) {
        Err(error) => error.to_string(),
        Ok(checkpoint) => checkpoint.verify().expect_err("it was accepted").to_string(),
    }
}

fn assert_has(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "expected `{part}` in: {message}");
    }
}

#[test]
fn tiny_model_is_read_with_query_rows_in_hugging_face_order() {
    for version in [2, 3] {
        let (_dir, path) = write(&GgufImage { version, ..GgufImage::tiny() }.bytes());
        let checkpoint = Checkpoint::open(&path).unwrap();
        assert!(checkpoint.verify().unwrap().is_empty());
        let config = checkpoint.config();
        assert_eq!((config.vocab_size, config.head_dim, config.tie_word_embeddings), (3, 4, true));
        assert_eq!(checkpoint.precision(), "f32");

        // Row 2i + b of a head in the file is row b * 2 + i of the original: 0, 2, 1, 3, then the second head.
        let q = checkpoint.tensor("model.layers.0.self_attn.q_proj.weight", &[8, 32]).unwrap();
        let rows: Vec<f32> = q.chunks(32).map(|row| (row[0] - 2.0) * 1024.0 / 32.0).collect();
        assert_eq!(rows, [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
        let v = checkpoint.tensor("model.layers.0.self_attn.v_proj.weight", &[4, 32]).unwrap();
        assert_eq!((v[0], v[33]), (4.0, 4.0 + 33.0 / 1024.0));
        assert_eq!(checkpoint.gguf_vocab().unwrap().unwrap().tokens, ["a", "b", "ab"]);
    }
}

#[test]
fn every_block_format_decodes_to_the_values_of_its_definition() {
    let h = |x: f32| f16::from_f32(x).to_le_bytes().to_vec();
    let nibbles: Vec<u8> = (0..16).map(|i| i | (15 - i) << 4).collect();
    let low = (0..16).map(|i| i as f32);
    let high = (0..16).map(|i| 15.0 - i as f32);
    let q4: Vec<f32> = low.chain(high).collect();
    let cases: [(u32, Vec<u8>, Vec<f32>, &str); 5] = [
        (1, [h(1.5), vec![0; 62]].concat(), [vec![1.5], vec![0.0; 31]].concat(), "f16"),
        (30, [vec![0xc0, 0xbf], vec![0; 62]].concat(), [vec![-1.5], vec![0.0; 31]].concat(), "bf16"),
        (
            8,
            [h(0.5), (0..32).map(|i: i32| (i - 16) as u8).collect()].concat(),
            (0..32).map(|i| (i - 16) as f32 * 0.5).collect(),
            "Q8_0 dequantised to f32",
        ),
        (
            2,
            [h(-0.25), nibbles.clone()].concat(),
            q4.iter().map(|q| (q - 8.0) * -0.25).collect(),
            "Q4_0 dequantised to f32",
        ),
        (
            3,
            [h(0.25), h(-3.0), nibbles].concat(),
            q4.iter().map(|q| q * 0.25 - 3.0).collect(),
            "Q4_1 dequantised to f32",
        ),
    ];
    for (code, block, expected, precision) in cases {
        let mut image = GgufImage::tiny();
        let rows = image.tensors[7].1[1] as usize;
        for t in [7, 8] {
            image.tensors[t].2 = code;
            image.tensors[t].3 = block.repeat(rows);
        }
        let (_dir, path) = write(&image.bytes());
        let checkpoint = Checkpoint::open(&path).unwrap();
        let gate = checkpoint.tensor("model.layers.0.mlp.gate_proj.weight", &[64, 32]).unwrap();
        assert_eq!(&gate[..32], expected, "type {code}");
        assert_eq!(&gate[63 * 32..], expected, "type {code}");
        assert_eq!(checkpoint.precision(), precision);
    }
}

#[test]
fn other_architectures_types_and_versions_are_refused_by_name() {
    let tiny = GgufImage::tiny;
    assert_has(&refusal(b"GGML\x03\0\0\0"), &["model.gguf", "first four bytes", "`GGUF`"]);
    assert_has(&refusal(&GgufImage { version: 1, ..tiny() }.bytes()), &["GGUF version: `1` is not supported"]);
    let big_endian = GgufImage { version: 3u32.swap_bytes(), ..tiny() };
    assert_has(&refusal(&big_endian.bytes()), &["big-endian"]);
    assert_has(
        &refusal(&tiny().set("general.architecture", 8, text("mamba")).bytes()),
        &["`mamba`", "supported: llama, qwen2, qwen3, smollm3 and gemma3"],
    );
    let mut q2_k = tiny();
    q2_k.tensors[2].2 = 10;
    assert_has(&refusal(&q2_k.bytes()), &["tensor `blk.0.attn_q.weight`", "`Q2_K`", "Q4_1"]);
    let scaled = tiny().set("llama.rope.scaling.type", 8, text("yarn"));
    assert_has(&refusal(&scaled.bytes()), &["llama.rope.scaling.type: expected none or linear, got yarn"]);
    let capped = tiny().set("llama.final_logit_softcapping", 6, 30f32.to_le_bytes().to_vec());
    assert_has(&refusal(&capped.bytes()), &["llama.final_logit_softcapping: not supported, got 30.0"]);
    let mut factors = tiny();
    factors.tensors.push(("rope_freqs.weight".into(), vec![2], 0, vec![0; 8]));
    assert_has(&refusal(&factors.bytes()), &["rope_freqs.weight"]);
    let rope = tiny().set("llama.rope.dimension_count", 4, 2u32.to_le_bytes().to_vec());
    assert_has(&refusal(&rope.bytes()), &["llama.rope.dimension_count: expected the head width 4, got 2"]);
}

/// The factors that llama.cpp's converter writes for Llama 3.1, for frequencies of base 500 000 and heads of 128.
#[test]
fn factors_of_llama_3_1_are_taken_as_its_scaling() {
    let (dim, base, factor) = (64, 500_000.0f64, 8.0f64);
    let scale = |k: i32| {
        let wavelength = 2.0 * std::f64::consts::PI * base.powf(f64::from(2 * k) / f64::from(dim));
        if wavelength < 8192.0 / 4.0 {
            1.0
        } else if wavelength > 8192.0 {
            factor
        } else {
            let smooth = (8192.0 / wavelength - 1.0) / 3.0;
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    };
    let factors: Vec<f32> = (0..dim / 2).map(|k| scale(k) as f32).collect();
    assert!(factors.contains(&1.0) && factors.contains(&8.0) && factors.iter().any(|&f| f > 1.5 && f < 7.5));
    let int = |n: u32| n.to_le_bytes().to_vec();
    let image = |factors: &[f32]| {
        let mut image = GgufImage::tiny()
            .set("llama.rope.freq_base", 6, (base as f32).to_le_bytes().to_vec())
            .set("llama.attention.key_length", 4, int(64))
            .set("llama.attention.value_length", 4, int(64));
        image.tensors[2].1[1] = 128;
        image.tensors[2].3 = vec![0; 4 * 32 * 128];
        for i in [3, 4] {
            image.tensors[i].1[1] = 64;
            image.tensors[i].3 = vec![0; 4 * 32 * 64];
        }
        image.tensors[5].1[0] = 128;
        image.tensors[5].3 = vec![0; 4 * 32 * 128];
        let bytes = factors.iter().flat_map(|f| f.to_le_bytes()).collect();
        image.tensors.push(("rope_freqs.weight".into(), vec![factors.len() as u64], 0, bytes));
        image
    };
    let (_dir, path) = write(&image(&factors).bytes());
    let checkpoint = Checkpoint::open(&path).unwrap();
    assert_eq!(checkpoint.verify().unwrap(), Vec::<String>::new());
    let expected = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192,
    };
    assert_eq!(checkpoint.config().design.rope_scaling, expected);
    let mut other = factors;
    other[20] *= 1.01;
    assert_has(&refusal(&image(&other).bytes()), &["tensor `rope_freqs.weight`: expected the factors of Llama 3.1"]);
}

/// Random blocks as gguf 0.19 (Python) decodes them, to the bit: `tests/golden/gguf/make.py`.
#[test]
fn blocks_decode_to_the_bits_of_the_reference() {
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/gguf/blocks.json");
    let golden: serde_json::Value = serde_json::from_str(&fs::read_to_string(golden).unwrap()).unwrap();
    for (name, code) in [("Q8_0", 8), ("Q4_0", 2), ("Q4_1", 3), ("Q5_0", 6), ("Q4_K", 12), ("Q6_K", 14)] {
        let bytes: Vec<u8> = serde_json::from_value(golden[name]["bytes"].clone()).unwrap();
        let expected: Vec<u32> = serde_json::from_value(golden[name]["bits"].clone()).unwrap();
        // Down projections of width 512, whose rows are whole blocks of either size.
        let mut image = GgufImage::tiny().set("llama.feed_forward_length", 4, 512u32.to_le_bytes().to_vec());
        let row = bytes.len() * 512 / expected.len();
        for i in [7, 8] {
            image.tensors[i].1[1] = 512;
            image.tensors[i].3 = vec![0; 4 * 32 * 512];
        }
        image.tensors[9].1[0] = 512;
        image.tensors[9].2 = code;
        image.tensors[9].3 = bytes.iter().copied().cycle().take(32 * row).collect();
        let (_dir, path) = write(&image.bytes());
        let down = Checkpoint::open(&path).unwrap().tensor("model.layers.0.mlp.down_proj.weight", &[32, 512]).unwrap();
        let got: Vec<u32> = down[..expected.len()].iter().map(|x| x.to_bits()).collect();
        assert_eq!(got, expected, "{name}");
    }
}

#[test]
fn all_metadata_problems_are_told_at_once() {
    let mut image = GgufImage::tiny().set("llama.block_count", 8, text("one"));
    image.metadata.retain(|(key, ..)| key != "llama.embedding_length" && key != "llama.context_length");
    let message = refusal(&image.bytes());
    assert_has(&message, &["llama.block_count: expected a whole number, got string \"one\""]);
    assert_has(&message, &["llama.embedding_length: missing", "llama.context_length: missing"]);

    let image = GgufImage::tiny().set("llama.attention.head_count_kv", 4, 3u32.to_le_bytes().to_vec());
    assert_has(&refusal(&image.bytes()), &["expected a divisor of num_attention_heads 2, got 3"]);
    let image = GgufImage::tiny().set("llama.block_count", 4, u32::MAX.to_le_bytes().to_vec());
    assert_has(&refusal(&image.bytes()), &["num_hidden_layers: expected 1 to 1024, got 4294967295"]);
}

#[test]
fn verify_lists_all_missing_misshapen_and_foreign_tensors() {
    let mut image = GgufImage::tiny();
    image.tensors[4].1 = vec![64, 2];
    image.tensors.remove(3);
    image.tensors.push(("blk.0.attn_q.bias".into(), vec![8], 0, vec![0; 32]));
    image.tensors.push(("clip.something".into(), vec![8], 0, vec![0; 32]));
    let (_dir, path) = write(&image.bytes());
    let error = Checkpoint::open(&path).unwrap().verify().unwrap_err();
    let WeightsError::Several(problems) = &error else { panic!("{error}") };
    assert_eq!(problems.len(), 3);
    assert_has(&error.to_string(), &["k_proj.weight`: expected shape [4, 32], got nothing"]);
    assert_has(&error.to_string(), &["v_proj.weight`: expected shape [4, 32], got [2, 64]", "q_proj.bias"]);

    let mut image = GgufImage::tiny();
    image.tensors.push(("clip.something".into(), vec![8], 0, vec![0; 32]));
    let (_dir, path) = write(&image.bytes());
    assert_eq!(Checkpoint::open(&path).unwrap().verify().unwrap(), ["clip.something"]);
}

#[test]
fn numbers_that_are_not_finite_are_refused_with_their_count() {
    let mut image = GgufImage::tiny();
    image.tensors[6].3[4..8].copy_from_slice(&f32::NAN.to_le_bytes());
    image.tensors[6].3[8..12].copy_from_slice(&f32::INFINITY.to_le_bytes());
    let (_dir, path) = write(&image.bytes());
    let error = Checkpoint::open(&path).unwrap().tensor("model.layers.0.post_attention_layernorm.weight", &[32]);
    assert_has(&error.unwrap_err().to_string(), &["post_attention_layernorm", "2 of its numbers are not finite"]);
}

#[test]
fn overlapping_unaligned_and_doubled_entries_are_refused() {
    let patch = |image: &GgufImage, tensor: &str, offset: u64| {
        let mut bytes = image.bytes();
        let at = bytes.windows(tensor.len()).position(|w| w == tensor.as_bytes()).unwrap() + tensor.len();
        let n_dims = bytes[at] as usize;
        let at = at + 4 + 8 * n_dims + 4;
        bytes[at..at + 8].copy_from_slice(&offset.to_le_bytes());
        bytes
    };
    let image = GgufImage::tiny();
    assert_has(&refusal(&patch(&image, "blk.0.attn_q.weight", 32)), &["data of its own", "before `"]);
    assert_has(&refusal(&patch(&image, "blk.0.attn_q.weight", 33)), &["an offset divisible by 32, got 33"]);
    assert_has(
        &refusal(&patch(&image, "blk.0.attn_q.weight", 1 << 40)),
        &["tensor `blk.0.attn_q.weight`", "data inside"],
    );
    assert_has(&refusal(&patch(&image, "blk.0.attn_q.weight", u64::MAX - 31)), &["data inside"]);

    let mut image = GgufImage::tiny();
    image.tensors[1].0 = image.tensors[0].0.clone();
    assert_has(&refusal(&image.bytes()), &["token_embd.weight", "a second one"]);
    let mut image = GgufImage::tiny();
    image.metadata.push(image.metadata[0].clone());
    assert_has(&refusal(&image.bytes()), &["general.architecture", "a second one"]);
}

#[test]
fn a_file_cut_at_any_byte_is_refused() {
    let image = GgufImage::tiny();
    let bytes = image.bytes();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let header = image.header().len();
    for len in (0..header + 64).chain((header + 64..bytes.len()).step_by(997)) {
        fs::write(&path, &bytes[..len]).unwrap();
        assert!(Checkpoint::open(&path).is_err(), "{len} bytes of {} were accepted", bytes.len());
    }
}

#[test]
fn a_header_with_any_byte_changed_is_read_or_refused_without_panic() {
    let image = GgufImage::tiny();
    let bytes = image.bytes();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let mut refused = 0;
    for at in 0..image.header().len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            fs::write(&path, &damaged).unwrap();
            match Checkpoint::open(&path).and_then(|c| c.verify().map(|_| c)) {
                Err(_) => refused += 1,
                Ok(checkpoint) => {
                    for (name, shape) in checkpoint.config().tensor_shapes() {
                        let _ = checkpoint.tensor(&name, &shape);
                    }
                    let _ = checkpoint.gguf_vocab();
                }
            }
        }
    }
    assert!(refused > image.header().len(), "only {refused} refused");
}
