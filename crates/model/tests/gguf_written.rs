//! GGUF files as we write them, read back by our own reader; quantisers against the package `gguf`, byte for byte.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use serde_json::Value;
use temper_model::{
    Checkpoint, Design, Encoding, Family, GgufAbout, GgufVocab, LayerKind, LlamaConfig, RopeScaling, WeightsError,
    write_gguf, write_model_in_shards,
};
use temper_run::{Random, sha256_bytes};
use temper_text::{Specials, Tokenizer};

/// The values of `tests/golden/gguf-written/make.py`.
fn values() -> (Vec<f32>, usize) {
    let (rows, cols) = (64, 96);
    let scales = [1e-3f32, 1e-2, 0.1, 1.0, 10.0, 100.0, 1000.0];
    let mut x: Vec<f32> = (0..(rows * cols) as u64)
        .map(|k| {
            let drawn = (k * 2_654_435_769 % (1 << 32)) as u32 as i32 as f32;
            drawn * 2f32.powi(-31) * scales[k as usize / cols % 7]
        })
        .collect();
    for k in 0..cols {
        x[k] = 0.0;
        x[cols + k] = if k % 32 == 0 { 127.0 } else { ((k % 32) as f32 - 16.0) * 0.5 };
        x[2 * cols + k] = if k % 2 == 0 { -0.75 } else { 0.75 };
        x[3 * cols + k] = if k % 32 == 5 { 1e-30 } else { 0.0 };
    }
    (x, cols)
}

#[test]
fn quantised_bytes_are_those_of_llama_cpp() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/gguf-written/quantised.json");
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let (values, cols) = values();
    let sum: f64 = values.iter().map(|&x| f64::from(x)).sum();
    assert!((sum - golden["numpy_f32_sum"].as_f64().unwrap()).abs() < 1e-6, "the same values");
    for encoding in [Encoding::Q8_0, Encoding::Q4_0, Encoding::F16, Encoding::BF16] {
        let bytes = encoding.encode(&values, cols).unwrap();
        let expected = &golden["types"][encoding.to_string()];
        for (row, expected) in bytes.chunks(encoding.row_bytes(cols)).zip(expected["rows_0_to_4"].as_array().unwrap()) {
            let hex: String = row.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, expected.as_str().unwrap(), "{encoding}");
        }
        assert_eq!(bytes.len() as u64, expected["bytes"].as_u64().unwrap());
        assert_eq!(sha256_bytes(&bytes), expected["sha256"].as_str().unwrap(), "{encoding}");
    }
}

fn vocab() -> GgufVocab {
    let path: PathBuf = std::env::var_os("TEMPER_TEST_GGUF").expect("run these tests with `cargo xtask test`").into();
    Checkpoint::open(&path).unwrap().gguf_vocab().unwrap().unwrap()
}

fn config(tied: bool) -> LlamaConfig {
    LlamaConfig {
        hidden_size: 64,
        // Rows of 48 are no whole number of blocks: down_proj is stored in F16.
        intermediate_size: 48,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 16,
        tie_word_embeddings: tied,
        max_position_embeddings: 128,
        ..LlamaConfig::smollm2_135m()
    }
}

fn weight(name: &str, shape: &[usize]) -> Vec<f32> {
    let stream = Random::new(3, name);
    (0..shape.iter().product::<usize>() as u64).map(|i| (stream.unit(i) - 0.5) as f32).collect()
}

fn tensors(config: &LlamaConfig) -> impl Iterator<Item = (String, Vec<usize>, Vec<f32>)> {
    config.tensor_shapes().into_iter().map(|(name, shape)| {
        let values = weight(&name, &shape);
        (name, shape, values)
    })
}

#[test]
fn what_is_written_reads_back() {
    let (vocab, folder) = (vocab(), tempfile::tempdir().unwrap());
    let about =
        GgufAbout { name: "tiny".into(), licence: Some("apache-2.0".into()), description: Some("fine-tuned".into()) };
    for tied in [true, false] {
        let config = config(tied);
        for encoding in [Encoding::F32, Encoding::F16, Encoding::BF16, Encoding::Q8_0, Encoding::Q4_0] {
            let dir = folder.path().join("gguf");
            write_gguf(&dir, "tiny.gguf", &config, tensors(&config), encoding, &vocab, &about).unwrap();
            // A folder with one GGUF file is a model.
            let read = Checkpoint::open(&dir).unwrap();
            assert!(read.verify().unwrap().is_empty());
            assert_eq!(*read.config(), config, "{encoding}, tied {tied}");
            assert_eq!(read.gguf_vocab().unwrap().unwrap(), vocab);
            assert_eq!(read.licence().as_deref(), Some("apache-2.0"));
            for (name, shape) in config.tensor_shapes() {
                let head = name == if tied { "model.embed_tokens.weight" } else { "lm_head.weight" };
                let stored = match (&shape[..], encoding) {
                    ([_], _) => Encoding::F32,
                    (_, Encoding::Q4_0) if head => Encoding::Q8_0,
                    ([_, 48], Encoding::Q8_0 | Encoding::Q4_0) => Encoding::F16,
                    _ => encoding,
                };
                let row = *shape.last().unwrap();
                let expected = stored.decode(&stored.encode(&weight(&name, &shape), row).unwrap(), row);
                assert_eq!(read.tensor(&name, &shape).unwrap(), expected, "{name} as {stored}, to the bit");
            }
        }
    }
}

#[test]
fn what_cannot_be_written_is_refused() {
    let (vocab, folder) = (vocab(), tempfile::tempdir().unwrap());
    let (dir, about) = (folder.path().join("gguf"), GgufAbout::default());
    let write = |config: &LlamaConfig, encoding, vocab: &GgufVocab, spoil: f32| {
        let spoilt = tensors(config).map(|(name, shape, mut values)| {
            values[0] += if name.ends_with("q_proj.weight") { spoil } else { 0.0 };
            (name, shape, values)
        });
        write_gguf(&dir, "tiny.gguf", config, spoilt, encoding, vocab, &about).unwrap_err()
    };
    let has =
        |error: WeightsError, piece: &str| assert!(error.to_string().contains(piece), "`{piece}` not in: {error}");
    has(write(&config(true), Encoding::Q4_1, &vocab, 0.0), "writing the type");
    has(write(&config(true), Encoding::Q8_0, &vocab, f32::NAN), "q_proj.weight`: NaN cannot be stored as Q8_0");
    has(write(&config(true), Encoding::F16, &vocab, 1e6), "cannot be stored as F16");
    has(
        write(&LlamaConfig { vocab_size: 100, eos_token_ids: vec![2], ..config(true) }, Encoding::F16, &vocab, 0.0),
        "vocabulary",
    );
    // A file of them would be read as another model.
    let scaled = Design { rope_scaling: RopeScaling::Linear { factor: 2.0 }, ..Design::LLAMA };
    has(
        write(&LlamaConfig { design: scaled, ..config(true) }, Encoding::F16, &vocab, 0.0),
        "scaled rotary frequencies",
    );
    let still = LayerKind { window: None, rope: false };
    let without = Design { family: Family::SmolLm3, layers: vec![still], ..Design::LLAMA };
    has(
        write(&LlamaConfig { design: without, ..config(true) }, Encoding::F16, &vocab, 0.0),
        "SmolLm3 with layers without rotary embedding",
    );
    assert_eq!(
        LlamaConfig { design: Design { family: Family::Mistral, ..Design::LLAMA }, ..config(true) }.not_in_gguf(),
        None
    );
    assert!(!dir.exists());
}

/// The tokenizer.json that we make of a GGUF vocabulary becomes that vocabulary again.
#[test]
fn a_vocabulary_there_and_back() {
    let (vocab, folder) = (vocab(), tempfile::tempdir().unwrap());
    Tokenizer::from_gguf(&vocab).unwrap().save(folder.path()).unwrap();
    let tokenizer = Tokenizer::from_file(folder.path().join("tokenizer.json")).unwrap();
    let back = tokenizer.to_gguf().unwrap();
    assert_eq!((&back.model, &back.pre), (&vocab.model, &vocab.pre));
    assert_eq!(back.tokens, vocab.tokens);
    assert_eq!(back.merges, vocab.merges);
    assert_eq!(back.token_types, vocab.token_types);
    assert_eq!(
        (back.bos_id, back.eos_id, back.unk_id, back.pad_id),
        (vocab.bos_id, vocab.eos_id, vocab.unk_id, vocab.pad_id)
    );
    assert_eq!(back.chat_template, vocab.chat_template);
}

/// The tokenizers that others published: a GGUF vocabulary that gives the same ids, or a refusal that says so.
#[test]
fn published_tokenizers_become_gguf_vocabularies() {
    let Some(folder) = std::env::var_os("TEMPER_TEST_TOKENIZERS").map(PathBuf::from).filter(|path| path.is_dir())
    else {
        return;
    };
    let text = "The lens of 3 naïve eyes' WIDTH is 1,024.5 mm\n\n\tfoo(bar) 日本語 😀 don't";
    let mut files: Vec<PathBuf> = Vec::new();
    let mut folders = vec![folder];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.file_name().is_some_and(|name| name == "tokenizer.json") => files.push(path),
                false => {}
            }
        }
    }
    for file in files {
        let Ok(tokenizer) = Tokenizer::from_file(&file) else { continue };
        match tokenizer.to_gguf() {
            Ok(vocab) => {
                let other = Tokenizer::from_gguf(&vocab).unwrap();
                let ids = tokenizer.encode(text, Specials::AsText);
                assert_eq!(other.encode(text, Specials::AsText), ids, "{} as {}", file.display(), vocab.pre);
            }
            Err(error) => assert!(error.to_string().contains("no GGUF vocabulary"), "{}: {error}", file.display()),
        }
    }
}

/// Above a size the weights come in several files with an index, which reads as one model.
#[test]
fn a_model_in_shards_reads_as_one() {
    let (config, folder) = (config(false), tempfile::tempdir().unwrap());
    let dir = folder.path().join("model");
    write_model_in_shards(&dir, &config, tensors(&config), temper_model::Dtype::F32, &[], 1 << 16).unwrap();
    let index: Value =
        serde_json::from_str(&std::fs::read_to_string(dir.join("model.safetensors.index.json")).unwrap()).unwrap();
    let total: usize = config.tensor_shapes().iter().map(|(_, shape)| 4 * shape.iter().product::<usize>()).sum();
    assert_eq!(index["metadata"]["total_size"], total);
    let head = index["weight_map"]["lm_head.weight"].as_str().unwrap();
    assert!(head.starts_with("model-0000") && dir.join(head).is_file(), "{head}");
    let read = Checkpoint::open(&dir).unwrap();
    assert!(read.verify().unwrap().is_empty());
    for (name, shape) in config.tensor_shapes() {
        assert_eq!(read.tensor(&name, &shape).unwrap(), weight(&name, &shape), "{name}");
    }
}
