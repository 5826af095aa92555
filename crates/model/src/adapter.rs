//! LoRA adapters in the layout of PEFT: `adapter_config.json` and `adapter_model.safetensors`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use temper_kernels::{Device, Write};
use temper_run::write_dir_atomic;

use crate::checkpoint::WeightsError;
use crate::export::{Dtype, SafetensorsWriter};
use crate::safetensors::{SafetensorsFile, read_text};
use crate::{Llama, Parameter};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
const BASE: &str = "temper_base.json";
/// What PEFT puts before a module's name in the base model.
const PREFIX: &str = "base_model.model.";

/// The part of PEFT's `LoraConfig` that an adapter of this program needs.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterConfig {
    /// Inner width r.
    pub rank: usize,
    /// What the adapter adds is scaled by `alpha / rank`.
    pub alpha: f32,
    /// Module names, such as `q_proj`.
    pub target_modules: Vec<String>,
    /// The base model, as the user named it.
    pub base_name: String,
    /// The very weights it was trained over; PEFT has no place for it, so it stands in a file of its own.
    pub base: Option<BaseRecord>,
}

/// The weights that an adapter was trained over. An adapter over dequantised Q4_1 weights is not one over the bf16 weights
/// that these were made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseRecord {
    /// As resolved: package and version, repository and commit, or a path.
    pub source: String,
    /// Name and sha256 of each weight file.
    pub sha256s: Vec<(String, String)>,
    /// How the weights are stored, such as `Q4_1`.
    pub precision: String,
    /// The licence as declared.
    pub licence: Option<String>,
}

impl BaseRecord {
    /// Whether `other` is the same weights, wherever they came from.
    pub fn same_weights(&self, other: &Self) -> bool {
        let hashes = |record: &Self| record.sha256s.iter().map(|(_, hash)| hash.clone()).collect::<Vec<_>>();
        hashes(self) == hashes(other)
    }
}

impl std::fmt::Display for BaseRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hash = self.sha256s.first().map_or("unknown", |(_, hash)| hash.get(..12).unwrap_or(hash));
        write!(f, "{} ({}, sha256 {hash}..)", self.source, self.precision)
    }
}

/// The adapter of one linear layer: it adds `alpha / rank * B A x` to the layer's output.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterModule {
    /// The layer in the base model, such as `model.layers.0.self_attn.q_proj`.
    pub module: String,
    /// Width of the layer's input.
    pub inputs: usize,
    /// Width of the layer's output.
    pub outputs: usize,
    /// A, row-major `[rank, inputs]`.
    pub a: Vec<f32>,
    /// B, row-major `[outputs, rank]`.
    pub b: Vec<f32>,
}

impl AdapterModule {
    /// `weight + scale * B A`, as the device multiplies: one with bf16 products rounds A and B. The weight is row-major
    /// `[outputs, inputs]`.
    pub fn merge<D: Device>(&self, device: &D, rank: usize, scale: f32, weight: &[f32]) -> Vec<f32> {
        let merged = device.upload(self.outputs, self.inputs, weight);
        let [a, b] =
            [(rank, self.inputs, &self.a), (self.outputs, rank, &self.b)].map(|(r, c, v)| device.upload(r, c, v));
        device.linear_backward_input(&b, &a, scale, Write::Add, &merged);
        device.read(&merged)
    }

    fn tensors(&self, rank: usize) -> [(String, Vec<usize>, &[f32]); 2] {
        [
            (format!("{PREFIX}{}.lora_A.weight", self.module), vec![rank, self.inputs], &self.a),
            (format!("{PREFIX}{}.lora_B.weight", self.module), vec![self.outputs, rank], &self.b),
        ]
    }
}

/// Writes an adapter folder that `peft.PeftModel.from_pretrained` loads, in `f32`. It appears whole or not at all; an older
/// one of that name is replaced. Its parent must exist.
///
/// # Errors
/// When a matrix is not of the size that its module says, or not finite; when the folder cannot be written.
pub fn write_adapter(dir: &Path, config: &AdapterConfig, modules: &[AdapterModule]) -> Result<(), WeightsError> {
    write_dir_atomic(dir, |aside| {
        let alpha = if config.alpha.fract() == 0.0 { json!(config.alpha as i64) } else { json!(config.alpha) };
        let content = json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": config.base_name,
            "r": config.rank,
            "lora_alpha": alpha,
            "target_modules": config.target_modules,
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": false,
            "use_rslora": false,
            "use_dora": false,
            "modules_to_save": null,
            "rank_pattern": {},
            "alpha_pattern": {},
            "inference_mode": true,
        });
        let path = aside.join(CONFIG);
        fs::write(&path, format!("{content:#}\n")).map_err(|e| WeightsError::io(&path, "write", e))?;

        if let Some(base) = &config.base {
            let path = aside.join(BASE);
            let content = json!(base);
            fs::write(&path, format!("{content:#}\n")).map_err(|e| WeightsError::io(&path, "write", e))?;
        }

        let tensors = || modules.iter().flat_map(|m| m.tensors(config.rank));
        let shapes = tensors().map(|(name, shape, _)| (name, shape)).collect();
        let mut file = SafetensorsWriter::create(&aside.join(WEIGHTS), shapes, Dtype::F32)?;
        for (name, shape, values) in tensors() {
            file.write(&name, &shape, values)?;
        }
        file.finish()
    })
}

/// Reads an adapter folder, modules sorted by name.
///
/// # Errors
/// When it is not a plain LoRA (another PEFT type, DoRA, rank-stabilised scaling, biases, per-module ranks, whole modules
/// saved beside it), when a matrix is missing, left over or not of the adapter's rank, or when a file is damaged.
pub fn read_adapter(dir: &Path) -> Result<(AdapterConfig, Vec<AdapterModule>), WeightsError> {
    let path = dir.join(CONFIG);
    let mut problems = Vec::new();
    let refuse = |problems| WeightsError::Config { file: path.clone(), problems };
    let fields: Map<String, Value> =
        serde_json::from_str(&read_text(&path)?).map_err(|e| refuse(vec![e.to_string()]))?;
    for (name, allowed) in [
        ("peft_type", json!("LORA")),
        ("bias", json!("none")),
        ("fan_in_fan_out", json!(false)),
        ("use_rslora", json!(false)),
        ("use_dora", json!(false)),
        ("modules_to_save", Value::Null),
        ("rank_pattern", json!({})),
        ("alpha_pattern", json!({})),
    ] {
        let got = fields.get(name).unwrap_or(&Value::Null);
        if *got != allowed && !(got.is_null() && name != "peft_type") {
            problems.push(format!("{name}: only {allowed} is supported, got {got}"));
        }
    }
    let rank = fields.get("r").and_then(Value::as_u64).filter(|r| (1..=1 << 16).contains(r)).unwrap_or_else(|| {
        problems.push("r: expected a whole number from 1 to 65536".to_owned());
        0
    }) as usize;
    let alpha = fields.get("lora_alpha").and_then(Value::as_f64).filter(|a| a.is_finite()).unwrap_or_else(|| {
        problems.push("lora_alpha: expected a number".to_owned());
        0.0
    }) as f32;
    let targets = fields.get("target_modules").and_then(Value::as_array).into_iter().flatten();
    let target_modules: Vec<String> = targets.filter_map(Value::as_str).map(str::to_owned).collect();
    if target_modules.is_empty() {
        problems.push("target_modules: expected a list of module names".to_owned());
    }
    if !problems.is_empty() {
        return Err(refuse(problems));
    }
    let base_name = fields.get("base_model_name_or_path").and_then(Value::as_str).unwrap_or_default().to_owned();

    let path = dir.join(BASE);
    let base = if path.is_file() {
        let base = serde_json::from_str(&read_text(&path)?);
        Some(base.map_err(|e| WeightsError::Config { file: path, problems: vec![e.to_string()] })?)
    } else {
        None
    };

    let path = dir.join(WEIGHTS);
    let file = SafetensorsFile::open(&path)?;
    let mut modules: BTreeMap<&str, [Option<&str>; 2]> = BTreeMap::new();
    let mut problems = Vec::new();
    for name in file.tensors.keys() {
        let inner = name.strip_prefix(PREFIX).unwrap_or_default();
        if let Some(module) = inner.strip_suffix(".lora_A.weight") {
            modules.entry(module).or_default()[0] = Some(name);
        } else if let Some(module) = inner.strip_suffix(".lora_B.weight") {
            modules.entry(module).or_default()[1] = Some(name);
        } else {
            problems.push(WeightsError::UnexpectedTensor { file: path.clone(), tensor: name.clone() });
        }
    }
    let mut adapter = Vec::new();
    for (module, names) in modules {
        let [Some(a_name), Some(b_name)] = names else {
            let lacking = if names[0].is_none() { "lora_A" } else { "lora_B" };
            let place = format!("module `{module}`");
            problems.push(WeightsError::corrupt(&path, place, "lora_A and lora_B", format!("no {lacking}")));
            continue;
        };
        let (a_shape, b_shape) = (&file.tensors[a_name].shape, &file.tensors[b_name].shape);
        let (&[a_rank, inputs], &[outputs, b_rank]) = (a_shape.as_slice(), b_shape.as_slice()) else {
            let got = format!("shapes {a_shape:?} and {b_shape:?}");
            problems.push(WeightsError::corrupt(&path, format!("module `{module}`"), "two matrices", got));
            continue;
        };
        if (a_rank, b_rank) != (rank, rank) {
            let (expected, got) = (format!("rank {rank} as in {CONFIG}"), format!("ranks {a_rank} and {b_rank}"));
            problems.push(WeightsError::corrupt(&path, format!("module `{module}`"), expected, got));
            continue;
        }
        let (a, b) = (file.finite_tensor(a_name)?, file.finite_tensor(b_name)?);
        adapter.push(AdapterModule { module: module.to_owned(), inputs, outputs, a, b });
    }
    if adapter.is_empty() && problems.is_empty() {
        problems.push(WeightsError::corrupt(&path, "file", "at least one adapter", "none"));
    }
    if !problems.is_empty() {
        return Err(WeightsError::Several(problems));
    }
    Ok((AdapterConfig { rank, alpha, target_modules, base_name, base }, adapter))
}

impl<D: Device> Llama<D> {
    /// The adapters on the host, module by module.
    pub fn adapter_modules(&self) -> Vec<AdapterModule> {
        let d = self.device();
        let module = |pair: &[(String, Parameter<D::Buffer>)]| AdapterModule {
            module: pair[0].0.trim_end_matches(".lora_A.weight").to_owned(),
            inputs: pair[0].1.value.cols(),
            outputs: pair[1].1.value.rows(),
            a: d.read(&pair[0].1.value),
            b: d.read(&pair[1].1.value),
        };
        self.adapters().chunks_exact(2).map(module).collect()
    }

    /// Reads an adapter into this model's adapters, which must be of its rank and on its modules, and returns its
    /// settings.
    ///
    /// # Errors
    /// When the folder cannot be read, or one of this model's adapters is missing there or of another shape; the model's
    /// adapters may then have changed in part.
    pub fn load_adapter(&self, dir: &Path) -> Result<AdapterConfig, WeightsError> {
        let (config, modules) = read_adapter(dir)?;
        let mut tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)> = BTreeMap::new();
        for m in modules {
            tensors.insert(format!("{}.lora_A.weight", m.module), (vec![config.rank, m.inputs], m.a));
            tensors.insert(format!("{}.lora_B.weight", m.module), (vec![m.outputs, config.rank], m.b));
        }
        for (tensor, adapter) in self.adapters() {
            let (file, expected) = (dir.join(WEIGHTS), vec![adapter.value.rows(), adapter.value.cols()]);
            match tensors.get(&tensor) {
                None => return Err(WeightsError::MissingTensor { file, tensor, expected }),
                Some((got, _)) if *got != expected => {
                    return Err(WeightsError::WrongShape { file, tensor, expected, got: got.clone() });
                }
                Some((_, values)) => self.device().write(&adapter.value, values),
            }
        }
        Ok(config)
    }
}
