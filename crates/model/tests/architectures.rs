//! Every supported family's files, in each layout that they come in, and what of them is refused.
//!
//! The models are those of `tests/golden/architectures/`, written by transformers 5.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

mod images;

use std::fs;
use std::path::{Path, PathBuf};

use images::{GgufImage, text};
use serde_json::{Map, Value, json};
use temper_model::{Checkpoint, LayerKind, LlamaConfig, RopeScaling};

const MODELS: [&str; 10] = [
    "llama-bias",
    "llama-llama3",
    "llama-linear",
    "llama-dynamic",
    "llama-yarn",
    "mistral",
    "qwen2",
    "qwen3",
    "smollm3",
    "gemma3",
];

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/architectures").join(name)
}

fn config_of(name: &str) -> Map<String, Value> {
    serde_json::from_str(&fs::read_to_string(golden(name).join("config.json")).unwrap()).unwrap()
}

/// Opens the model with another `config.json`.
fn open_with(name: &str, config: &Map<String, Value>) -> Result<LlamaConfig, String> {
    let dir = tempfile::tempdir().unwrap();
    for file in fs::read_dir(golden(name)).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
    }
    fs::write(dir.path().join("config.json"), Value::Object(config.clone()).to_string()).unwrap();
    Checkpoint::open(dir.path()).map(|checkpoint| checkpoint.config().clone()).map_err(|e| e.to_string())
}

#[test]
fn configurations_say_what_the_models_are() {
    let of = |name: &str| Checkpoint::open(&golden(name)).unwrap().config().clone();
    let windows = |config: &LlamaConfig| -> Vec<Option<usize>> {
        (0..config.num_hidden_layers).map(|i| config.layer(i).window).collect()
    };
    let bias = of("llama-bias").design;
    assert!(bias.qkv_bias && bias.o_bias && bias.mlp_bias);
    assert_eq!(of("llama-linear").design.rope_scaling, RopeScaling::Linear { factor: 3.0 });
    assert_eq!(of("llama-dynamic").design.rope_scaling, RopeScaling::Dynamic { factor: 2.0 });
    assert_eq!(windows(&of("mistral")), [Some(4), Some(4)]);
    let qwen2 = of("qwen2");
    assert!(qwen2.design.qkv_bias && !qwen2.design.o_bias);
    assert_eq!(windows(&qwen2), [None, Some(5), Some(5)]);
    let qwen3 = of("qwen3");
    assert!(qwen3.design.qk_norm && qwen3.head_dim * qwen3.num_attention_heads != qwen3.hidden_size);
    let smollm3 = of("smollm3");
    let nope = LayerKind { window: Some(5), rope: false };
    assert_eq!(smollm3.design.layers, [LayerKind::FULL, nope, LayerKind::FULL, nope]);
    let gemma = of("gemma3");
    assert_eq!(windows(&gemma), [Some(4), None, Some(4), None]);
    assert_eq!((gemma.rope_theta, gemma.design.rope_local_theta), (1000.0, Some(100.0)));
    assert_eq!(gemma.design.rope_scaling, RopeScaling::Linear { factor: 2.0 });
    assert_eq!(gemma.design.query_pre_attn_scalar, Some(20.0));
}

/// `rope_theta`, `rope_scaling` and `rope_local_base_freq` in place of `rope_parameters`, and no `layer_types` where older
/// fields say the same.
#[test]
fn the_layout_of_transformers_4_is_the_same_model() {
    for name in MODELS {
        let mut config = config_of(name);
        let rope = config.remove("rope_parameters").unwrap();
        let global = rope.get("full_attention").unwrap_or(&rope).as_object().unwrap();
        config.insert("rope_theta".to_owned(), global["rope_theta"].clone());
        if let Some(local) = rope.get("sliding_attention") {
            config.insert("rope_local_base_freq".to_owned(), local["rope_theta"].clone());
        }
        let mut scaling = global.clone();
        scaling.remove("rope_theta");
        // Its older name.
        let kind = scaling.remove("rope_type").unwrap();
        if kind != "default" {
            scaling.insert("type".to_owned(), kind);
            config.insert("rope_scaling".to_owned(), Value::Object(scaling));
        }
        config.remove("layer_types");
        config.remove("no_rope_layers");
        let expected = Checkpoint::open(&golden(name)).unwrap().config().clone();
        assert_eq!(open_with(name, &config).unwrap(), expected, "{name}");
    }
}

#[test]
fn what_would_compute_something_else_is_refused_by_its_name() {
    for (name, field, value, message) in [
        ("llama-bias", "architectures", json!(["Phi3ForCausalLM"]), "got Phi3ForCausalLM, model_type llama"),
        ("llama-bias", "model_type", json!("mixtral"), "expected one of LlamaForCausalLM, MistralForCausalLM"),
        ("llama-bias", "hidden_act", json!("gelu"), "hidden_act: only \"silu\" is supported, got \"gelu\""),
        ("llama-bias", "sliding_window", json!(100), "sliding_window: only nothing is supported, got 100"),
        ("llama-bias", "partial_rotary_factor", json!(0.5), "partial_rotary_factor: only 1 is supported, got 0.5"),
        ("llama-bias", "attention_dropout", json!(0.1), "attention_dropout: only 0 is supported, got 0.1"),
        ("llama-bias", "embedding_multiplier", json!(12.0), "embedding_multiplier: only 1"),
        ("llama-bias", "logits_scaling", json!(8), "logits_scaling: only 1"),
        ("llama-bias", "no_rope_layers", json!([1, 0]), "no_rope_layers: only nothing"),
        ("llama-bias", "query_pre_attn_scalar", json!(8), "query_pre_attn_scalar: only nothing"),
        ("llama-bias", "layer_types", json!(["sliding_attention", "full_attention"]), "layer_types: not supported"),
        ("llama-bias", "num_local_experts", json!(8), "num_local_experts: only 0"),
        ("llama-bias", "quantization_config", json!({"quant_method": "awq"}), "quantization_config: only nothing"),
        (
            "llama-bias",
            "rope_parameters",
            json!({"rope_type": "yarn", "factor": 2.0, "mscale": 0.7}),
            "rope_parameters.mscale: not supported for type yarn, got 0.7",
        ),
        (
            "llama-bias",
            "rope_parameters",
            json!({"rope_type": "linear", "factor": 0.5}),
            "rope_scaling (linear): factor: expected a finite number of at least 1, got 0.5",
        ),
        (
            "llama-bias",
            "rope_parameters",
            json!({"rope_type": "llama3", "factor": 8}),
            "rope_parameters.low_freq_factor: missing for type llama3",
        ),
        (
            "llama-bias",
            "rope_parameters",
            json!({"full_attention": {"rope_theta": 10.0}}),
            "rope_parameters.full_attention: not supported in this architecture",
        ),
        ("mistral", "attention_bias", json!(true), "attention_bias: only false"),
        ("mistral", "mlp_bias", json!(true), "mlp_bias: only false"),
        ("mistral", "sliding_window", json!(0), "sliding_window: expected at least 1, got 0"),
        (
            "qwen2",
            "layer_types",
            json!(["full_attention"]),
            "layer_types: expected full_attention or sliding_attention for each of 3",
        ),
        (
            "qwen2",
            "layer_types",
            json!(["chunked_attention", "full_attention", "full_attention"]),
            "layer_types: expected",
        ),
        (
            "qwen2",
            "use_sliding_window",
            json!(false),
            "layer_types: some layers slide, but there is no sliding_window in use",
        ),
        ("qwen3", "head_dim", json!(512), "head_dim: expected 1 to 256, got 512"),
        ("smollm3", "no_rope_layers", json!([1, 0]), "no_rope_layers: expected 0 or 1 for each of 4 layers, got [1,0]"),
        ("gemma3", "final_logit_softcapping", json!(30.0), "final_logit_softcapping: only nothing"),
        ("gemma3", "attn_logit_softcapping", json!(50.0), "attn_logit_softcapping: only nothing"),
        ("gemma3", "use_bidirectional_attention", json!(true), "use_bidirectional_attention: only false"),
        ("gemma3", "hidden_activation", json!("gelu"), "hidden_activation: only \"gelu_pytorch_tanh\""),
        ("gemma3", "query_pre_attn_scalar", json!(0), "query_pre_attn_scalar: expected a finite number above 0, got 0"),
        (
            "gemma3",
            "rope_parameters",
            json!({"sliding_attention": {"rope_type": "linear", "factor": 2.0}}),
            "rope_parameters.sliding_attention: only type `default`",
        ),
    ] {
        let mut config = config_of(name);
        config.insert(field.to_owned(), value);
        let error = open_with(name, &config).expect_err(message);
        assert!(error.contains(message), "{name}, {field}: expected `{message}` in: {error}");
    }
}

/// Biases that the configuration does not call for change the result, so they are not passed over.
#[test]
fn weights_that_the_configuration_does_not_have_are_refused() {
    let mut config = config_of("llama-bias");
    config.insert("attention_bias".to_owned(), json!(false));
    let dir = tempfile::tempdir().unwrap();
    fs::copy(golden("llama-bias").join("model.safetensors"), dir.path().join("model.safetensors")).unwrap();
    fs::write(dir.path().join("config.json"), Value::Object(config).to_string()).unwrap();
    let error = Checkpoint::open(dir.path()).unwrap().verify().unwrap_err().to_string();
    assert!(error.contains("`model.layers.0.self_attn.q_proj.bias`: expected no (further) tensor"), "{error}");
}

/// The GGUF name of a tensor, by the `gguf` package's table (`constants.py`, `MODEL_TENSORS`).
fn gguf_name(name: &str, gemma: bool) -> String {
    let plain = [("model.embed_tokens", "token_embd"), ("model.norm", "output_norm"), ("lm_head", "output")];
    for (hf, gguf) in plain {
        if let Some(kind) = name.strip_prefix(hf).filter(|rest| rest.starts_with('.')) {
            return format!("{gguf}{kind}");
        }
    }
    let (layer, rest) = name.strip_prefix("model.layers.").unwrap().split_once('.').unwrap();
    let (module, kind) = rest.rsplit_once('.').unwrap();
    let part = match module {
        "input_layernorm" => "attn_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.o_proj" => "attn_output",
        "self_attn.q_norm" => "attn_q_norm",
        "self_attn.k_norm" => "attn_k_norm",
        "post_attention_layernorm" if gemma => "post_attention_norm",
        "post_attention_layernorm" | "pre_feedforward_layernorm" => "ffn_norm",
        "post_feedforward_layernorm" => "post_ffw_norm",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        other => panic!("{other}"),
    };
    format!("blk.{layer}.{part}.{kind}")
}

/// A file as llama.cpp's converter makes it of the model: rows of q and k interleaved in Llama's and SmolLM3's architectures,
/// Gemma's norms with the one added.
fn gguf_of(name: &str, architecture: &str, checkpoint: &Checkpoint) -> GgufImage {
    let config = checkpoint.config();
    let int = |key: &str, n: usize| (format!("{architecture}.{key}"), 4, (n as u32).to_le_bytes().to_vec());
    let float = |key: &str, x: f64| (format!("{architecture}.{key}"), 6, (x as f32).to_le_bytes().to_vec());
    let mut metadata = vec![
        ("general.architecture".to_owned(), 8, text(architecture)),
        int("block_count", config.num_hidden_layers),
        int("embedding_length", config.hidden_size),
        int("feed_forward_length", config.intermediate_size),
        int("attention.head_count", config.num_attention_heads),
        int("attention.head_count_kv", config.num_key_value_heads),
        int("attention.key_length", config.head_dim),
        int("attention.value_length", config.head_dim),
        int("context_length", config.max_position_embeddings),
        float("rope.freq_base", config.rope_theta),
        float("attention.layer_norm_rms_epsilon", config.rms_norm_eps),
    ];
    if architecture == "gemma3" {
        metadata.push(int("attention.sliding_window", 4));
        metadata.push(int("attention.sliding_window_pattern", 2));
        metadata.push(float("rope.freq_base_swa", 100.0));
        metadata.push(("gemma3.rope.scaling.type".to_owned(), 8, text("linear")));
        metadata.push(float("rope.scaling.factor", 2.0));
    }
    let interleaved = ["llama", "smollm3"].contains(&architecture);
    let tensor = |(hf, shape): (String, Vec<usize>)| {
        let mut values = checkpoint.tensor(&hf, &shape).unwrap();
        if interleaved && (hf.contains("q_proj") || hf.contains("k_proj")) {
            let (width, half) = (values.len() / shape[0], config.head_dim / 2);
            let from = values.clone();
            for row in 0..shape[0] {
                let (head, within) = (row / config.head_dim, row % config.head_dim);
                let to = head * config.head_dim + 2 * (within % half) + within / half;
                values[to * width..][..width].copy_from_slice(&from[row * width..][..width]);
            }
        }
        if architecture == "gemma3" && hf.ends_with("norm.weight") {
            values.iter_mut().for_each(|value| *value += 1.0);
        }
        let dims = shape.iter().rev().map(|&d| d as u64).collect();
        (gguf_name(&hf, name == "gemma3"), dims, 0, values.iter().flat_map(|x| x.to_le_bytes()).collect())
    };
    let tensors = config.tensor_shapes().into_iter().map(tensor).collect();
    GgufImage { version: 3, metadata, tensors }
}

#[test]
fn gguf_files_of_every_architecture_are_the_models_they_were_made_of() {
    for (name, architecture) in [
        ("llama-bias", "llama"),
        ("mistral", "llama"),
        ("qwen2", "qwen2"),
        ("qwen3", "qwen3"),
        ("smollm3", "smollm3"),
        ("gemma3", "gemma3"),
    ] {
        let original = Checkpoint::open(&golden(name)).unwrap();
        let mut image = gguf_of(name, architecture, &original);
        if name == "mistral" {
            image = image.set("llama.attention.sliding_window", 4, 4u32.to_le_bytes().to_vec());
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.gguf");
        fs::write(&path, image.bytes()).unwrap();
        let checkpoint = Checkpoint::open(&path).unwrap();
        assert_eq!(checkpoint.verify().unwrap(), Vec::<String>::new(), "{name}");
        for (tensor, shape) in original.config().tensor_shapes() {
            let (got, expected) =
                (checkpoint.tensor(&tensor, &shape).unwrap(), original.tensor(&tensor, &shape).unwrap());
            // A one that is added and taken away again costs a norm's last bits.
            let allowed = if name == "gemma3" && tensor.ends_with("norm.weight") { 1.2e-7 } else { 0.0 };
            let worst = got.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst <= allowed, "{name}: {tensor} differs by {worst:e}");
        }
        let mut expected = original.config().clone();
        match name {
            // What the format has no key for: windows of Qwen2, and other layers of SmolLM3 than every fourth.
            "qwen2" => expected.design.layers = Vec::new(),
            "smollm3" => {
                let turned = |i: usize| LayerKind { window: None, rope: i != 3 };
                expected.design.layers = (0..4).map(turned).collect();
            }
            // llama.cpp scales scores by the width of a head.
            "gemma3" => expected.design.query_pre_attn_scalar = Some(6.0),
            _ => {}
        }
        assert_eq!(checkpoint.config(), &expected, "{name}");
    }
}

#[test]
fn a_gguf_file_of_gemma_without_its_window_is_refused() {
    let mut image = gguf_of("gemma3", "gemma3", &Checkpoint::open(Path::new(&golden("gemma3"))).unwrap());
    image.metadata.retain(|(key, ..)| key != "gemma3.attention.sliding_window");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    fs::write(&path, image.bytes()).unwrap();
    let error = Checkpoint::open(&path).unwrap_err().to_string();
    assert!(error.contains("gemma3.attention.sliding_window: missing"), "{error}");
}
