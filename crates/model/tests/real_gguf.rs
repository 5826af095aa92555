//! The real SmolLM2-135M-Instruct GGUF, read through the public interface.
//!
//! The hashes are of little-endian `f32` bytes as `gguf` 0.19 (Python) dequantises them, query and key rows put back in
//! Hugging Face order with `w.reshape(heads, head_dim / 2, 2, in).swapaxes(1, 2).reshape(out, in)`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

use std::path::PathBuf;

use sha2::{Digest, Sha256};
use temper_model::{Checkpoint, LlamaConfig};

fn real_gguf() -> PathBuf {
    std::env::var_os("TEMPER_TEST_GGUF")
        .expect("TEMPER_TEST_GGUF is not set: run these tests with `cargo xtask test`, which fetches the model")
        .into()
}

fn hex(digest: impl AsRef<[u8]>) -> String {
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn the_file_is_the_published_one() {
    let bytes = std::fs::read(real_gguf()).unwrap();
    assert_eq!(hex(Sha256::digest(bytes)), "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53");
}

#[test]
fn config_comes_from_the_metadata() {
    let checkpoint = Checkpoint::open(&real_gguf()).unwrap();
    assert_eq!(checkpoint.config(), &LlamaConfig::smollm2_135m());
    assert_eq!(checkpoint.verify().unwrap(), Vec::<String>::new());
    assert_eq!(checkpoint.names().len(), 272);
    assert!(checkpoint.has("model.layers.29.mlp.up_proj.weight"));
    assert!(!checkpoint.has("lm_head.weight"));
    assert_eq!(checkpoint.precision(), "Q4_1 dequantised to f32");
    assert_eq!(checkpoint.licence().as_deref(), Some("apache-2.0"));
}

#[test]
fn tensors_equal_the_reference_dequantisation_bit_for_bit() {
    let checkpoint = Checkpoint::open(&real_gguf()).unwrap();
    for (name, shape, first, sha256) in [
        (
            "model.embed_tokens.weight",
            &[49152, 576][..],
            -0.106_544_495,
            "3fd491c8066dd9dc1a2bf6796701526c82817d95c0ecabacdef3013c2b8bbbaa",
        ),
        (
            "model.layers.3.self_attn.q_proj.weight",
            &[576, 576],
            0.077_911_38,
            "104838da8b4afb8d4d2032db69cd49cd12b9558520cbca07b47095a03dec7691",
        ),
        (
            "model.layers.3.self_attn.k_proj.weight",
            &[192, 576],
            0.162_963_87,
            "64d260baa4d5478cd91053172dc60f6cb429f1860d6882920f4f8c18b846464a",
        ),
        (
            "model.layers.7.mlp.down_proj.weight",
            &[576, 1536],
            -0.127_594,
            "9d3af8b67d13c727ae5ffe470464163b9cac42eb494525392bd3e79c8db73880",
        ),
        (
            "model.layers.29.input_layernorm.weight",
            &[576],
            0.400_390_63,
            "d69a95bf8d18f609f39019c30ec1d1a0eb8d900b5eb0d6022e5605925d39e0dd",
        ),
    ] {
        let values = checkpoint.tensor(name, shape).unwrap();
        assert_eq!(values[0], first, "{name}");
        let mut hash = Sha256::new();
        values.iter().for_each(|x| hash.update(x.to_le_bytes()));
        assert_eq!(hex(hash.finalize()), sha256, "{name}");
    }
}

#[test]
fn the_tokenizer_metadata_is_handed_over() {
    let vocab = Checkpoint::open(&real_gguf()).unwrap().gguf_vocab().unwrap().unwrap();
    assert_eq!((vocab.model.as_str(), vocab.pre.as_str()), ("gpt2", "smollm"));
    assert_eq!((vocab.tokens.len(), vocab.token_types.len(), vocab.merges.len()), (49152, 49152, 48900));
    assert_eq!((vocab.bos_id, vocab.eos_id, vocab.unk_id, vocab.pad_id), (Some(1), Some(2), Some(0), Some(2)));
    assert_eq!((vocab.tokens[2].as_str(), vocab.token_types[2], vocab.add_bos), ("<|im_end|>", 3, false));
    assert!(vocab.chat_template.unwrap().contains("<|im_start|>"));
}
