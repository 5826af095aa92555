//! Hugging Face folders and PEFT adapters, in and out, sound and damaged.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

mod images;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use half::{bf16, f16};
use images::{GgufImage, safetensors_image, tiny_config};
use serde_json::{Value, json};
use temper_model::{
    Adapter, AdapterConfig, AdapterInit, AdapterModule, AdapterTable, BaseRecord, Checkpoint, Dropout, Dtype,
    LlamaConfig, LoraSettings, WeightsError, read_adapter, write_adapter, write_model,
};

fn assert_has(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "expected `{part}` in: {message}");
    }
}

/// Name, shape, values.
type Weight = (String, Vec<usize>, Vec<f32>);

fn tiny_model() -> (LlamaConfig, Vec<Weight>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    fs::write(&path, GgufImage::tiny().bytes()).unwrap();
    let config = Checkpoint::open(&path).unwrap().config().clone();
    let tensors = config.tensor_shapes().into_iter().enumerate().map(|(t, (name, shape))| {
        // Signs, small and large magnitudes, subnormals and values that lie between two bf16 numbers.
        let value = |i: usize| match i % 5 {
            0 => f32::from_bits(i as u32 + 1),
            1 => -1.0 - i as f32 / 4096.0,
            2 => 1.0 + (i as f32 + 0.5) / 512.0,
            3 => f32::from_bits(0x3f80_8000 + ((i as u32 & 3) << 15)),
            _ => (t as f32 + 1.0) * 1e-3 / (i as f32 + 1.0),
        };
        let values = (0..shape.iter().product()).map(value).collect();
        (name, shape, values)
    });
    let tensors = tensors.collect();
    (config, tensors)
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

/// A folder with the tiny configuration, changed, and no weights but those of the tiny model.
fn folder_with_config(config: &Value) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (model, tensors) = tiny_model();
    write_model(&dir.path().join("m"), &model, tensors, Dtype::F32, &[]).unwrap();
    fs::write(dir.path().join("m/config.json"), config.to_string()).unwrap();
    dir
}

#[test]
fn written_model_reads_back_equal_and_rounds_to_nearest_even() {
    let (config, tensors) = tiny_model();
    let dir = tempfile::tempdir().unwrap();
    for (dtype, precision) in [(Dtype::F32, "f32"), (Dtype::F16, "f16"), (Dtype::BF16, "bf16")] {
        let path = dir.path().join(precision);
        let reversed = tensors.iter().rev().cloned();
        let card: &[u8] = b"---\nlicense: apache-2.0\n---\nA model\n";
        write_model(&path, &config, reversed, dtype, &[("README.md", card)]).unwrap();

        let checkpoint = Checkpoint::open(&path).unwrap();
        assert!(checkpoint.verify().unwrap().is_empty());
        assert_eq!(checkpoint.config(), &config);
        assert_eq!((checkpoint.precision().as_str(), checkpoint.folder()), (precision, Some(path.as_path())));
        assert_eq!(checkpoint.licence().as_deref(), Some("apache-2.0"));
        assert_eq!(checkpoint.gguf_vocab().unwrap(), None);
        for (name, shape, values) in &tensors {
            let expected: Vec<f32> = match dtype {
                Dtype::F32 => values.clone(),
                Dtype::F16 => values.iter().map(|&x| f16::from_f32(x).to_f32()).collect(),
                Dtype::BF16 => values.iter().map(|&x| nearest_even_bf16(x)).collect(),
            };
            assert_eq!(bits(&checkpoint.tensor(name, shape).unwrap()), bits(&expected), "{name} {precision}");
        }

        // The reference implementation of the format agrees with the file.
        let bytes = fs::read(path.join("model.safetensors")).unwrap();
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(header.metadata().as_ref().unwrap()["format"], "pt");
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(file.len(), tensors.len());
        assert_eq!(file.tensor("model.layers.0.mlp.down_proj.weight").unwrap().shape(), [32, 64]);
        let written: Value = serde_json::from_slice(&fs::read(path.join("config.json")).unwrap()).unwrap();
        assert_eq!(written["architectures"], json!(["LlamaForCausalLM"]));
    }
}

/// Round to nearest, ties to even, on the bits: IEEE 754 section 4.3.1.
fn nearest_even_bf16(x: f32) -> f32 {
    let bits = x.to_bits();
    f32::from_bits((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000)
}

#[test]
fn export_refuses_missing_foreign_misshapen_and_unrepresentable_tensors_and_leaves_nothing() {
    let (config, tensors) = tiny_model();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out");
    let export = |tensors: Vec<_>, dtype| write_model(&path, &config, tensors, dtype, &[]).unwrap_err();

    let error = export(tensors[2..].to_vec(), Dtype::F32).to_string();
    assert_has(&error, &["model.embed_tokens.weight", "input_layernorm.weight", "expected shape [32], got nothing"]);
    let twice = [tensors.clone(), tensors[..1].to_vec()].concat();
    assert!(matches!(export(twice, Dtype::F32), WeightsError::UnexpectedTensor { .. }));
    let mut wrong = tensors.clone();
    wrong[0].1 = vec![32, 3];
    assert_has(&export(wrong, Dtype::F32).to_string(), &["expected shape [3, 32], got [32, 3]"]);
    let mut large = tensors.clone();
    large[0].2[1] = 1e5;
    assert_has(&export(large, Dtype::F16).to_string(), &["embed_tokens", "100000 cannot be stored as F16"]);
    let mut diverged = tensors.clone();
    diverged[0].2[1] = f32::NAN;
    assert_has(&export(diverged, Dtype::F32).to_string(), &["NaN cannot be stored as F32"]);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// Splits the tiny model over two files with an index.
fn sharded(dir: &Path) {
    let (config, tensors) = tiny_model();
    write_model(dir, &config, tensors.clone(), Dtype::F32, &[]).unwrap();
    fs::remove_file(dir.join("model.safetensors")).unwrap();
    let mut map = BTreeMap::new();
    for (i, part) in tensors.chunks(6).enumerate() {
        let file = format!("model-0000{}-of-00002.safetensors", i + 1);
        let views = part.iter().map(|(name, shape, values)| {
            let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
            (name.clone(), shape.clone(), bytes)
        });
        let views: Vec<_> = views.collect();
        let views = views.iter().map(|(name, shape, bytes)| {
            let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).unwrap();
            (name.clone(), view)
        });
        fs::write(dir.join(&file), safetensors::serialize(views, None).unwrap()).unwrap();
        map.extend(part.iter().map(|(name, ..)| (name.clone(), file.clone())));
    }
    let index = json!({"metadata": {}, "weight_map": map});
    fs::write(dir.join("model.safetensors.index.json"), index.to_string()).unwrap();
}

#[test]
fn sharded_folder_reads_as_one_model_and_its_damages_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m");
    sharded(&path);
    let checkpoint = Checkpoint::open(&path).unwrap();
    assert!(checkpoint.verify().unwrap().is_empty());
    for (name, shape, values) in tiny_model().1 {
        assert_eq!(bits(&checkpoint.tensor(&name, &shape).unwrap()), bits(&values), "{name}");
    }

    let index_path = path.join("model.safetensors.index.json");
    let index = fs::read_to_string(&index_path).unwrap();
    let mut wrong: Value = serde_json::from_str(&index).unwrap();
    wrong["weight_map"]["model.norm.weight"] = json!("model-00001-of-00002.safetensors");
    wrong["weight_map"]["lm_head.weight"] = json!("model-00002-of-00002.safetensors");
    fs::write(&index_path, wrong.to_string()).unwrap();
    let message = Checkpoint::open(&path).unwrap_err().to_string();
    assert_has(
        &message,
        &["`model.norm.weight`: expected it in model-00001", "`lm_head.weight`: expected it in model-00002"],
    );

    wrong["weight_map"]["model.norm.weight"] = json!("../model-00001-of-00002.safetensors");
    fs::write(&index_path, wrong.to_string()).unwrap();
    assert_has(&Checkpoint::open(&path).unwrap_err().to_string(), &["expected plain file names, got `../model"]);

    fs::write(&index_path, index).unwrap();
    fs::remove_file(path.join("model-00002-of-00002.safetensors")).unwrap();
    let first = path.join("model-00001-of-00002.safetensors");
    fs::write(&first, &fs::read(&first).unwrap()[..100]).unwrap();
    let message = Checkpoint::open(&path).unwrap_err().to_string();
    assert_has(&message, &["cannot open", "model-00002-of", "model-00001-of-00002.safetensors: header length"]);
}

#[test]
fn damaged_safetensors_are_refused_with_file_tensor_expected_and_got() {
    let dir = folder_with_config(&tiny_config());
    let path = dir.path().join("m");
    let refusal = |bytes: Vec<u8>| {
        fs::write(path.join("model.safetensors"), bytes).unwrap();
        Checkpoint::open(&path).expect_err("it was accepted").to_string()
    };
    let entry = |dtype: &str, shape: &[u64], at: [u64; 2]| json!({"dtype": dtype, "shape": shape, "data_offsets": at});

    assert_has(&refusal(vec![0; 5]), &["model.safetensors", "8 bytes with its length, got 5 bytes"]);
    assert_has(&refusal(safetensors_image(&json!([1]), &[])), &["header", "JSON of names"]);
    let image = json!({"x": entry("F32", &[2], [0, 8]), "y": entry("F32", &[2], [4, 12])});
    assert_has(
        &refusal(safetensors_image(&image, &[0; 12])),
        &["tensor `y`: expected data from byte 8 on", "got byte 4"],
    );
    let image = json!({"x": entry("F32", &[2], [0, 8]), "y": entry("F32", &[2], [12, 20])});
    assert_has(
        &refusal(safetensors_image(&image, &[0; 20])),
        &["tensor `y`: expected data from byte 8 on", "got byte 12"],
    );
    let image = json!({"x": entry("F32", &[3], [0, 8])});
    assert_has(&refusal(safetensors_image(&image, &[0; 8])), &["tensor `x`", "shape [3] of F32", "got 8 bytes"]);
    let image = json!({"x": entry("F8_E4M3", &[8], [0, 8])});
    assert_has(&refusal(safetensors_image(&image, &[0; 8])), &["tensor `x`", "`F8_E4M3` is not supported", "BF16"]);
    let image = json!({"x": entry("F32", &[2], [0, 8])});
    assert_has(&refusal(safetensors_image(&image, &[0; 9])), &["data: expected 8 bytes", "got 9 bytes"]);
    assert_has(&refusal(safetensors_image(&image, &[0; 7])), &["tensor `x`", "inside the 7 bytes"]);
    let twice = br#"{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let image = [&(twice.len() as u64).to_le_bytes()[..], twice, &[0; 4]].concat();
    assert_has(&refusal(image), &["tensor `x`: expected one entry, got a second one"]);
}

#[test]
fn a_safetensors_file_cut_or_changed_at_any_header_byte_never_panics() {
    let dir = folder_with_config(&tiny_config());
    let path = dir.path().join("m");
    let file = path.join("model.safetensors");
    let bytes = fs::read(&file).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    for len in (0..header + 8).chain((header + 8..bytes.len()).step_by(1009)) {
        fs::write(&file, &bytes[..len]).unwrap();
        assert!(Checkpoint::open(&path).is_err(), "{len} of {} bytes were accepted", bytes.len());
    }
    for at in 0..header {
        for flip in [0x01, 0x10, 0x80] {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            fs::write(&file, &damaged).unwrap();
            if let Ok(checkpoint) = Checkpoint::open(&path) {
                for (name, shape) in checkpoint.config().tensor_shapes() {
                    let _ = checkpoint.tensor(&name, &shape);
                }
            }
        }
    }
}

#[test]
fn config_accepts_both_places_of_the_rotary_base_and_detects_the_tied_head() {
    let open = |change: &dyn Fn(&mut Value)| {
        let mut config = tiny_config();
        change(&mut config);
        let dir = folder_with_config(&config);
        Checkpoint::open(&dir.path().join("m")).map(|c| c.config().clone()).map_err(|e| e.to_string())
    };
    assert_eq!(open(&|c| c["rope_theta"] = json!(100_000)).unwrap().rope_theta, 100_000.0);
    let version_5 = open(&|c| {
        c.as_object_mut().unwrap().remove("rope_theta");
        c["rope_parameters"] = json!({"rope_theta": 130_000.0, "rope_type": "default"});
    });
    assert_eq!(version_5.unwrap().rope_theta, 130_000.0);
    assert!(open(&|c| c["rope_scaling"] = Value::Null).is_ok());
    assert!(open(&|c| drop(c.as_object_mut().unwrap().remove("tie_word_embeddings"))).unwrap().tie_word_embeddings);
    assert_eq!(open(&|c| c["eos_token_id"] = json!([1, 2])).unwrap().eos_token_ids, [1, 2]);
    assert_eq!(open(&|c| c["pad_token_id"] = json!(-1)).unwrap().pad_token_id, None);

    // An untied model without its head is incomplete.
    let dir = folder_with_config(&{
        let mut config = tiny_config();
        config["tie_word_embeddings"] = json!(false);
        config
    });
    let error = Checkpoint::open(&dir.path().join("m")).unwrap().verify().unwrap_err();
    assert_has(&error.to_string(), &["`lm_head.weight`: expected shape [3, 32], got nothing"]);
}

#[test]
fn configs_that_would_compute_something_else_are_refused_by_field() {
    let refusal = |change: &dyn Fn(&mut Value)| {
        let mut config = tiny_config();
        change(&mut config);
        let dir = folder_with_config(&config);
        Checkpoint::open(&dir.path().join("m")).expect_err("it was accepted").to_string()
    };
    assert_has(&refusal(&|c| c["architectures"] = json!(["Qwen2ForCausalLM"])), &["config.json", "Qwen2ForCausalLM"]);
    let message = refusal(&|c| {
        c["rope_scaling"] = json!({"rope_type": "longrope", "factor": 8.0});
        c["attention_bias"] = json!("some");
        c["mlp_bias"] = json!(1);
        c["hidden_act"] = json!("gelu");
        c["quantization_config"] = json!({"quant_method": "gptq"});
        c["hidden_size"] = json!("wide");
        c.as_object_mut().unwrap().remove("vocab_size");
    });
    assert_has(
        &message,
        &["rope_scaling: type: expected one of default, linear", "got longrope", "attention_bias", "mlp_bias", "gelu"],
    );
    assert_has(&message, &["quantization_config", "hidden_size: expected a whole number", "vocab_size: missing"]);
    let message = refusal(&|c| {
        c["head_dim"] = json!(5);
        c["num_key_value_heads"] = json!(3);
        c["intermediate_size"] = json!(0);
        c["vocab_size"] = json!(1u64 << 40);
    });
    assert_has(
        &message,
        &["head_dim: expected an even number", "num_key_value_heads", "intermediate_size: expected 1 to"],
    );
    assert_has(&message, &["vocab_size: expected 1 to 4194304, got 1099511627776"]);
}

#[test]
fn folders_that_are_no_model_or_several_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Checkpoint::open(dir.path()).unwrap_err().to_string();
    assert_has(&open(), &["without .safetensors or .gguf", "hint: a model is"]);
    fs::write(dir.path().join("a.safetensors"), "").unwrap();
    assert_has(&open(), &["cannot open", "config.json"]);
    fs::write(dir.path().join("b.gguf"), "").unwrap();
    assert_has(&open(), &["got several: b.gguf, a.safetensors"]);
    let single = Checkpoint::open(&dir.path().join("a.safetensors")).unwrap_err().to_string();
    assert_has(&single, &["expected the folder that holds this file"]);
    assert_has(&Checkpoint::open(&dir.path().join("nowhere")).unwrap_err().to_string(), &["no such file or folder"]);
}

fn adapter() -> Adapter {
    let config = AdapterConfig {
        lora: LoraSettings::new(2, 4.0, vec!["q_proj".into(), "down_proj".into()]),
        base_name: "tiny".into(),
        base: Some(BaseRecord {
            source: "pypi:tiny==1".into(),
            sha256s: vec![("tiny.gguf".into(), "0".repeat(64))],
            precision: "Q4_1".into(),
            licence: None,
        }),
    };
    let module = |name: &str, inputs: usize, outputs: usize| AdapterModule {
        module: format!("model.layers.0.{name}"),
        inputs,
        outputs,
        a: (0..2 * inputs).map(|i| 0.1 + i as f32).collect(),
        b: (0..2 * outputs).map(|i| -0.1 - i as f32).collect(),
        magnitude: None,
    };
    let modules = vec![module("mlp.down_proj", 64, 32), module("self_attn.q_proj", 32, 8)];
    Adapter { config, modules, tables: Vec::new() }
}

#[test]
fn adapter_is_written_as_peft_names_it_and_reads_back_equal() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("adapter");
    write_adapter(&path, &adapter()).unwrap();
    assert_eq!(read_adapter(&path).unwrap(), adapter());

    let written: Value = serde_json::from_slice(&fs::read(path.join("adapter_config.json")).unwrap()).unwrap();
    assert_eq!((&written["peft_type"], &written["r"], &written["lora_alpha"]), (&json!("LORA"), &json!(2), &json!(4)));
    let bytes = fs::read(path.join("adapter_model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let a = file.tensor("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight").unwrap();
    let b = file.tensor("base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight").unwrap();
    assert_eq!((a.shape(), b.shape()), (&[2, 32][..], &[8, 2][..]));
}

/// Every kind that the settings name, and the tables beside them.
#[test]
fn adapters_of_each_kind_read_back_equal() {
    let mut adapter = adapter();
    let lora = &mut adapter.config.lora;
    (lora.rank_stabilised, lora.dora, lora.init) = (true, true, AdapterInit::Gaussian);
    lora.dropout = Some(Dropout { rate: 0.25, seed: 0 });
    lora.modules_to_save = vec!["embed_tokens".into(), "lm_head".into()];
    adapter.modules.iter_mut().for_each(|m| m.magnitude = Some((0..m.outputs).map(|i| 1.5 + i as f32).collect()));
    let table = |name: &str| AdapterTable { name: name.into(), shape: [3, 2], values: vec![0.5; 6] };
    adapter.tables = vec![table("lm_head.weight"), table("model.embed_tokens.weight")];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("adapter");
    write_adapter(&path, &adapter).unwrap();
    let mut read = read_adapter(&path).unwrap();
    read.config.lora.modules_to_save.sort();
    assert_eq!(read, adapter);
    let bytes = fs::read(path.join("adapter_model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let magnitude = file.tensor("base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector").unwrap();
    assert_eq!(magnitude.shape(), [8]);
    assert_eq!(file.tensor("base_model.model.lm_head.weight").unwrap().shape(), [3, 2]);
}

#[test]
fn adapters_of_another_kind_or_incomplete_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("adapter");
    let mut short = adapter();
    short.modules[0].a.pop();
    assert_has(&write_adapter(&path, &short).unwrap_err().to_string(), &["lora_A", "expected shape [2, 64], got"]);
    assert!(!path.exists());

    write_adapter(&path, &adapter()).unwrap();
    let file = path.join("adapter_config.json");
    let sound = fs::read_to_string(&file).unwrap();
    let refused = |changes: Value, pieces: &[&str]| {
        let mut other: Value = serde_json::from_str(&sound).unwrap();
        changes.as_object().unwrap().iter().for_each(|(key, value)| other[key] = value.clone());
        fs::write(&file, other.to_string()).unwrap();
        assert_has(&read_adapter(&path).unwrap_err().to_string(), pieces);
    };
    refused(json!({"use_qalora": true, "rank_pattern": {"q_proj": 4}, "r": 0}), &["use_qalora", "rank_pattern", "r: "]);
    refused(json!({"peft_type": "IA3"}), &["peft_type: only LORA is supported, got \"IA3\""]);
    refused(json!({"init_lora_weights": "pissa_niter_4"}), &["pissa_niter_4", "changes the base's weights"]);
    refused(json!({"modules_to_save": ["score"]}), &["modules_to_save: only embed_tokens and lm_head"]);
    refused(json!({"use_dora": true}), &["module `model.layers.0.mlp.down_proj`", "lora_magnitude_vector"]);
    refused(json!({"modules_to_save": ["lm_head"]}), &["modules_to_save `lm_head`", "a tensor of its weight"]);
    refused(json!({"r": 3}), &["rank 3 as in adapter_config.json, got ranks 2 and 2"]);
    // What nobody knows yet is not passed over.
    refused(json!({"lora_of_tomorrow": "yes"}), &["lora_of_tomorrow: not supported here"]);
    fs::write(&file, sound.clone()).unwrap();

    let lone = json!({
        "base_model.model.x.lora_A.weight": {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]},
        "base_model.model.y.lora_magnitude_vector": {"dtype": "F32", "shape": [1], "data_offsets": [8, 12]},
    });
    fs::write(path.join("adapter_model.safetensors"), safetensors_image(&lone, &[0; 12])).unwrap();
    assert_has(&read_adapter(&path).unwrap_err().to_string(), &["module `x`", "no lora_B", "lora_magnitude_vector"]);
}

/// Names that the model has not and other shapes are listed, all of them.
#[test]
fn an_adapter_of_another_model_is_refused_with_the_list() {
    let config = LlamaConfig { num_hidden_layers: 1, ..LlamaConfig::smollm2_135m() };
    let mut other = adapter();
    other.modules[0].module = "model.layers.7.mlp.down_proj".into();
    other.modules.push(AdapterModule { module: "model.layers.0.mlp.fc1".into(), ..other.modules[1].clone() });
    let error = other.fit(&config, "elsewhere".as_ref()).unwrap_err().to_string();
    assert_has(
        &error,
        &["layers.7.mlp.down_proj", "mlp.fc1", "self_attn.q_proj.weight`: expected shape [576, 576], got [8, 32]"],
    );
    let mut own = adapter();
    own.modules.retain(|m| m.module.ends_with("down_proj"));
    (own.modules[0].inputs, own.modules[0].outputs) = (1536, 576);
    own.config.lora.targets = vec!["all-linear".into()];
    own.fit(&config, "elsewhere".as_ref()).unwrap();
    assert_eq!(own.config.lora.targets, ["down_proj"]);
    let table = |name: &str, value: f32| AdapterTable { name: name.into(), shape: [49_152, 576], values: vec![value] };
    own.tables = vec![table("lm_head.weight", 1.0), table("model.embed_tokens.weight", 2.0)];
    assert_has(&own.fit(&config, "elsewhere".as_ref()).unwrap_err().to_string(), &["the base ties them"]);
}

#[test]
fn bf16_rounding_of_the_library_is_nearest_even() {
    for bits in (0x3f80_0000u32..0x3f82_0000).step_by(0x400) {
        assert_eq!(bf16::from_f32(f32::from_bits(bits)).to_f32(), nearest_even_bf16(f32::from_bits(bits)));
    }
}
