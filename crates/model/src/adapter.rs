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
use crate::{AdapterInit, Dropout, LINEAR_MODULES, Llama, LlamaConfig, LoraSettings, Parameter, TABLES};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
const BASE: &str = "temper_base.json";
/// What PEFT puts before a module's name in the base model.
const PREFIX: &str = "base_model.model.";

/// The part of PEFT's `LoraConfig` that an adapter of this program needs.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterConfig {
    /// Rank, scale, modules. The ratio of rates is not in the file; the seed of dropout is 0.
    pub lora: LoraSettings,
    /// The base model, as the user named it.
    pub base_name: String,
    /// The very weights it was trained over; PEFT has no place for it, so it stands in a file of its own.
    pub base: Option<BaseRecord>,
}

/// An adapter folder's content.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    /// What kind it is, and of what base.
    pub config: AdapterConfig,
    /// By module name.
    pub modules: Vec<AdapterModule>,
    /// Tables that were trained whole, by their HF names (`model.embed_tokens.weight`): what stands in place of the base's.
    pub tables: Vec<AdapterTable>,
}

/// A table that was trained beside adapters.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterTable {
    /// `model.embed_tokens.weight` or `lm_head.weight`.
    pub name: String,
    /// Rows and columns.
    pub shape: [usize; 2],
    /// Row-major.
    pub values: Vec<f32>,
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

/// The adapter of one linear layer: it adds `scale * B A x` to the layer's output.
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
    /// DoRA's magnitudes, `[outputs]`.
    pub magnitude: Option<Vec<f32>>,
}

impl AdapterModule {
    /// `weight + scale * B A`, as the device multiplies: one with bf16 products rounds A and B; with DoRA each row brought to
    /// the length of its magnitude. The weight is row-major `[outputs, inputs]`.
    pub fn merge<D: Device>(&self, device: &D, rank: usize, scale: f32, weight: &[f32]) -> Vec<f32> {
        let merged = device.upload(self.outputs, self.inputs, weight);
        let [a, b] =
            [(rank, self.inputs, &self.a), (self.outputs, rank, &self.b)].map(|(r, c, v)| device.upload(r, c, v));
        let magnitude = self.magnitude.as_ref().map(|magnitude| {
            let norms = device.upload(self.outputs, 1, &vec![0.0; self.outputs]);
            device.adapted_row_norms(&merged, &a, &b, scale, &norms);
            magnitude.iter().zip(device.read(&norms)).map(|(magnitude, norm)| magnitude / norm).collect::<Vec<f32>>()
        });
        device.linear_backward_input(&b, &a, scale, Write::Add, &merged);
        let mut merged = device.read(&merged);
        for (row, factor) in merged.chunks_mut(self.inputs).zip(magnitude.into_iter().flatten()) {
            row.iter_mut().for_each(|weight| *weight *= factor);
        }
        merged
    }

    fn tensors(&self, rank: usize) -> impl Iterator<Item = (String, Vec<usize>, &[f32])> {
        let name = |part: &str| format!("{PREFIX}{}.{part}", self.module);
        let [a, b, magnitude] = ["lora_A.weight", "lora_B.weight", "lora_magnitude_vector"].map(name);
        let matrices =
            [(a, vec![rank, self.inputs], &self.a[..]), (b, vec![self.outputs, rank], &self.b[..])].into_iter();
        matrices.chain(self.magnitude.iter().map(move |values| (magnitude.clone(), vec![self.outputs], &values[..])))
    }
}

/// Writes an adapter folder that `peft.PeftModel.from_pretrained` loads, in `f32`. It appears whole or not at all; an older
/// one of that name is replaced. Its parent must exist.
///
/// # Errors
/// When a matrix is not of the size that its module says, or not finite; when the folder cannot be written.
pub fn write_adapter(dir: &Path, adapter: &Adapter) -> Result<(), WeightsError> {
    let Adapter { config, modules, tables } = adapter;
    let lora = &config.lora;
    write_dir_atomic(dir, |aside| {
        let alpha = if lora.alpha.fract() == 0.0 { json!(lora.alpha as i64) } else { json!(lora.alpha) };
        // As the tables are, not as they were asked for: a tied head is a table of its own to PEFT.
        let saved: Vec<&str> = tables.iter().filter_map(|table| module_of(&table.name)).collect();
        let content = json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": config.base_name,
            "r": lora.rank,
            "lora_alpha": alpha,
            "target_modules": lora.targets,
            "lora_dropout": lora.dropout.map_or(0.0, |dropout| f64::from(dropout.rate)),
            "bias": "none",
            "fan_in_fan_out": false,
            "use_rslora": lora.rank_stabilised,
            "use_dora": lora.dora,
            "init_lora_weights": match lora.init {
                AdapterInit::Kaiming => json!(true),
                AdapterInit::Gaussian => json!("gaussian"),
            },
            "modules_to_save": if saved.is_empty() { Value::Null } else { json!(saved) },
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

        let of_table = |table: &'_ AdapterTable| (format!("{PREFIX}{}", table.name), table.shape.to_vec());
        let tensors = || {
            let matrices = modules.iter().flat_map(|m| m.tensors(lora.rank));
            matrices.chain(tables.iter().map(|table| {
                let (name, shape) = of_table(table);
                (name, shape, &table.values[..])
            }))
        };
        let shapes = tensors().map(|(name, shape, _)| (name, shape)).collect();
        let mut file = SafetensorsWriter::create(&aside.join(WEIGHTS), shapes, Dtype::F32)?;
        for (name, shape, values) in tensors() {
            file.write(&name, &shape, values)?;
        }
        file.finish()
    })
}

/// The name of a table's module, as `modules_to_save` has it.
fn module_of(table: &str) -> Option<&'static str> {
    TABLES.into_iter().find(|module| table.strip_suffix(".weight").is_some_and(|path| path.ends_with(module)))
}

/// Keys of PEFT's `LoraConfig` that change nothing of what a finished adapter adds, or that are read.
const HARMLESS: [&str; 26] = [
    "task_type",
    "auto_mapping",
    "peft_version",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "r",
    "lora_alpha",
    "lora_dropout",
    "target_modules",
    "exclude_modules",
    "use_rslora",
    "use_dora",
    "modules_to_save",
    "init_lora_weights",
    "layers_to_transform",
    "layers_pattern",
    "megatron_core",
    "loftq_config",
    "eva_config",
    "lora_ga_config",
    "qalora_group_size",
    "ensure_weight_tying",
    "runtime_config",
    "peft_type",
    "bias",
];

/// Reads an adapter folder, modules sorted by name, wherever it was made.
///
/// # Errors
/// When it is not a LoRA that this program computes: another PEFT type (IA3, AdaLoRA, VeRA, ...), biases, per-module ranks,
/// other modules saved beside it than the embedding and the head, an initialisation that changed the base's weights, or
/// settings that are not known; when a matrix is missing, left over or not of the adapter's rank, or a file is damaged.
pub fn read_adapter(dir: &Path) -> Result<Adapter, WeightsError> {
    let mut config = read_config(&dir.join(CONFIG))?;
    let path = dir.join(BASE);
    if path.is_file() {
        let base = serde_json::from_str(&read_text(&path)?);
        config.base = Some(base.map_err(|e| WeightsError::Config { file: path, problems: vec![e.to_string()] })?);
    }
    let lora = &config.lora;
    let path = dir.join(WEIGHTS);
    let file = SafetensorsFile::open(&path)?;
    // A, B and magnitudes of each module.
    let mut modules: BTreeMap<&str, [Option<&str>; 3]> = BTreeMap::new();
    let (mut problems, mut tables) = (Vec::new(), Vec::new());
    for (name, info) in &file.tensors {
        let inner = name.strip_prefix(PREFIX).unwrap_or_default();
        let part = |(k, suffix): (usize, &str)| Some((k, inner.strip_suffix(suffix)?));
        let parts = [".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector"];
        let table = module_of(inner).filter(|module| lora.modules_to_save.iter().any(|saved| saved == module));
        match (parts.into_iter().enumerate().find_map(part), table, info.shape.as_slice()) {
            (Some((2, _)), ..) if !lora.dora => problems.push(unexpected(&path, name)),
            (Some((k, module)), ..) => modules.entry(module).or_default()[k] = Some(name),
            (None, Some(_), &[rows, cols]) => {
                let values = file.finite_tensor(name)?;
                tables.push(AdapterTable { name: inner.to_owned(), shape: [rows, cols], values });
            }
            _ => problems.push(unexpected(&path, name)),
        }
    }
    for saved in &lora.modules_to_save {
        if !tables.iter().any(|table| module_of(&table.name) == Some(saved)) {
            let place = format!("modules_to_save `{saved}`");
            problems.push(WeightsError::corrupt(&path, place, "a tensor of its weight", "none"));
        }
    }
    let mut adapter = Vec::new();
    for (module, names) in modules {
        match read_module(&file, &path, lora, module, names) {
            Ok(module) => adapter.push(module),
            Err(problem) => problems.push(problem),
        }
    }
    if adapter.is_empty() && problems.is_empty() {
        problems.push(WeightsError::corrupt(&path, "file", "at least one adapter", "none"));
    }
    if !problems.is_empty() {
        return Err(WeightsError::Several(problems));
    }
    Ok(Adapter { config, modules: adapter, tables })
}

fn unexpected(path: &Path, tensor: &str) -> WeightsError {
    WeightsError::UnexpectedTensor { file: path.to_owned(), tensor: tensor.to_owned() }
}

fn read_module(
    file: &SafetensorsFile,
    path: &Path,
    lora: &LoraSettings,
    module: &str,
    [a, b, magnitude]: [Option<&str>; 3],
) -> Result<AdapterModule, WeightsError> {
    let corrupt =
        |expected: String, got: String| Err(WeightsError::corrupt(path, format!("module `{module}`"), expected, got));
    let (Some(a), Some(b)) = (a, b) else {
        let lacking = if a.is_none() { "lora_A" } else { "lora_B" };
        return corrupt("lora_A and lora_B".to_owned(), format!("no {lacking}"));
    };
    let (a_shape, b_shape) = (&file.tensors[a].shape, &file.tensors[b].shape);
    let (&[a_rank, inputs], &[outputs, b_rank]) = (a_shape.as_slice(), b_shape.as_slice()) else {
        return corrupt("two matrices".to_owned(), format!("shapes {a_shape:?} and {b_shape:?}"));
    };
    if (a_rank, b_rank) != (lora.rank, lora.rank) {
        return corrupt(format!("rank {} as in {CONFIG}", lora.rank), format!("ranks {a_rank} and {b_rank}"));
    }
    let magnitude = match magnitude {
        None if lora.dora => return corrupt("lora_magnitude_vector".to_owned(), "none".to_owned()),
        None => None,
        Some(name) if file.tensors[name].shape != [outputs] => {
            return corrupt(format!("magnitudes of shape [{outputs}]"), format!("{:?}", file.tensors[name].shape));
        }
        Some(name) => Some(file.finite_tensor(name)?),
    };
    let (a, b) = (file.finite_tensor(a)?, file.finite_tensor(b)?);
    Ok(AdapterModule { module: module.to_owned(), inputs, outputs, a, b, magnitude })
}

/// Reads `adapter_config.json`; all problems at once.
fn read_config(path: &Path) -> Result<AdapterConfig, WeightsError> {
    let mut problems = Vec::new();
    let refuse = |problems| WeightsError::Config { file: path.to_owned(), problems };
    let fields: Map<String, Value> =
        serde_json::from_str(&read_text(path)?).map_err(|e| refuse(vec![e.to_string()]))?;
    let get = |name: &str| fields.get(name).unwrap_or(&Value::Null);
    if *get("peft_type") != json!("LORA") {
        // Its other keys mean other things.
        return Err(refuse(vec![format!("peft_type: only LORA is supported, got {}", get("peft_type"))]));
    }
    if !matches!(get("bias"), Value::Null) && get("bias") != "none" {
        problems.push(format!("bias: only \"none\" is supported, got {}", get("bias")));
    }
    for (name, value) in fields.iter().filter(|(name, _)| !HARMLESS.contains(&name.as_str())) {
        let off = match value {
            Value::Null | Value::Bool(false) => true,
            Value::Object(map) => map.is_empty(),
            Value::Array(list) => list.is_empty(),
            _ => false,
        };
        if !off {
            problems.push(format!("{name}: not supported here, got {value}"));
        }
    }
    let mut truth = |name: &str| match get(name) {
        Value::Null => false,
        Value::Bool(value) => *value,
        other => {
            problems.push(format!("{name}: expected true or false, got {other}"));
            false
        }
    };
    let (rank_stabilised, dora) = (truth("use_rslora"), truth("use_dora"));
    let rank = get("r").as_u64().filter(|r| (1..=1 << 16).contains(r)).unwrap_or_else(|| {
        problems.push("r: expected a whole number from 1 to 65536".to_owned());
        1
    }) as usize;
    let alpha = get("lora_alpha").as_f64().filter(|a| a.is_finite()).unwrap_or_else(|| {
        problems.push("lora_alpha: expected a number".to_owned());
        0.0
    }) as f32;
    let dropout = match get("lora_dropout") {
        Value::Null => 0.0,
        value => value.as_f64().filter(|rate| (0.0..1.0).contains(rate)).unwrap_or_else(|| {
            problems.push(format!("lora_dropout: expected a number from 0 to below 1, got {value}"));
            0.0
        }),
    };
    let init = match get("init_lora_weights") {
        Value::Null | Value::Bool(_) => AdapterInit::Kaiming,
        Value::String(name) if name == "gaussian" => AdapterInit::Gaussian,
        Value::String(name) if ["eva", "orthogonal", "lora_ga"].contains(&name.as_str()) => AdapterInit::Kaiming,
        other => {
            problems.push(format!(
                "init_lora_weights: {other} changes the base's weights, so its adapter does not belong to the base as it is; \
                 PEFT's `path_initial_model_for_weight_conversion` saves it as plain LoRA"
            ));
            AdapterInit::Kaiming
        }
    };
    // A list of names; a text is a pattern, or `all-linear`. Which modules it meant the tensors say.
    let targets: Vec<String> = match get("target_modules") {
        Value::Array(names) => names.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Value::String(pattern) => vec![pattern.clone()],
        _ => Vec::new(),
    };
    if targets.is_empty() {
        problems.push("target_modules: expected a list of module names".to_owned());
    }
    let mut modules_to_save = Vec::new();
    match get("modules_to_save") {
        Value::Null => {}
        Value::Array(names) if names.iter().all(|name| TABLES.iter().any(|table| name == table)) => {
            modules_to_save.extend(names.iter().filter_map(Value::as_str).map(str::to_owned));
        }
        other => problems.push(format!("modules_to_save: only {} are supported, got {other}", TABLES.join(" and "))),
    }
    if !problems.is_empty() {
        return Err(refuse(problems));
    }
    let lora = LoraSettings {
        rank_stabilised,
        dora,
        dropout: (dropout > 0.0).then_some(Dropout { rate: dropout as f32, seed: 0 }),
        modules_to_save,
        init,
        ..LoraSettings::new(rank, alpha, targets)
    };
    let base_name = get("base_model_name_or_path").as_str().unwrap_or_default().to_owned();
    Ok(AdapterConfig { lora, base_name, base: None })
}

impl Adapter {
    /// Holds modules and tables against the linears and tables of a model of this shape, all problems at once, and names
    /// in `lora.targets` the modules that there are, whatever pattern stood for them. `dir`: for messages.
    ///
    /// # Errors
    /// Modules that the model does not have, matrices of other shapes, and tables of a tied head that differ.
    pub fn fit(&mut self, config: &LlamaConfig, dir: &Path) -> Result<(), WeightsError> {
        let shapes: BTreeMap<String, Vec<usize>> = config.tensor_shapes().into_iter().collect();
        let linear = |module: &str| LINEAR_MODULES.iter().any(|name| module.ends_with(&format!(".{name}")));
        let mut problems = Vec::new();
        for m in &self.modules {
            let (file, tensor, got) = (dir.to_owned(), format!("{}.weight", m.module), vec![m.outputs, m.inputs]);
            match shapes.get(&tensor).filter(|_| linear(&m.module)) {
                None => problems.push(WeightsError::UnexpectedTensor { file, tensor }),
                Some(expected) if *expected != got => {
                    problems.push(WeightsError::WrongShape { file, tensor, expected: expected.clone(), got });
                }
                Some(_) => {}
            }
        }
        let table = vec![config.vocab_size, config.hidden_size];
        for own in &self.tables {
            if own.shape[..] != table {
                let (file, tensor, got) = (dir.to_owned(), own.name.clone(), own.shape.to_vec());
                problems.push(WeightsError::WrongShape { file, tensor, expected: table.clone(), got });
            }
        }
        if config.tie_word_embeddings && !self.tables.is_empty() {
            let [first, rest @ ..] = &self.tables[..] else { return Ok(()) };
            if rest.len() != 1 || rest[0].values != first.values {
                let (got, expected) =
                    ("tables that part them", "embed_tokens and lm_head saved, equal: the base ties them");
                problems.push(WeightsError::corrupt(dir, "modules_to_save", expected, got));
            }
        }
        if !problems.is_empty() {
            return Err(WeightsError::Several(problems));
        }
        self.config.lora.targets = self.targets(config);
        Ok(())
    }

    /// The shortest names of the modules: `q_proj` where every layer has one, otherwise paths.
    fn targets(&self, config: &LlamaConfig) -> Vec<String> {
        let mut targets = Vec::new();
        for name in LINEAR_MODULES {
            let own: Vec<&str> = self.modules.iter().map(|m| m.module.as_str()).collect();
            let own: Vec<&str> = own.into_iter().filter(|module| module.ends_with(&format!(".{name}"))).collect();
            if own.len() == config.num_hidden_layers {
                targets.push(name.to_owned());
            } else {
                targets.extend(own.iter().map(|module| module.trim_start_matches("model.").to_owned()));
            }
        }
        targets
    }
}

impl<D: Device> Llama<D> {
    /// The adapters on the host, module by module.
    pub fn adapter_modules(&self) -> Vec<AdapterModule> {
        let d = self.device();
        let mut modules: Vec<AdapterModule> = Vec::new();
        for (name, parameter) in self.adapters() {
            let (value, tensor) = (&parameter.value, d.read(&parameter.value));
            // Each module's A comes first.
            match (name.strip_suffix(".lora_A.weight"), modules.last_mut()) {
                (Some(module), _) => modules.push(AdapterModule {
                    module: module.to_owned(),
                    inputs: value.cols(),
                    outputs: 0,
                    a: tensor,
                    b: Vec::new(),
                    magnitude: None,
                }),
                (None, Some(module)) if name.ends_with(".lora_B.weight") => {
                    (module.outputs, module.b) = (value.rows(), tensor);
                }
                (None, Some(module)) => module.magnitude = Some(tensor),
                (None, None) => {}
            }
        }
        modules
    }

    /// The adapters and the tables trained beside them, on the host.
    pub fn adapter(&self, config: AdapterConfig) -> Adapter {
        let (d, modules) = (self.device(), self.adapter_modules());
        let trained = self.weights().into_iter().filter(|(_, p)| p.gradient.is_some() && !modules.is_empty());
        let table = |(name, p): (String, Parameter<D::Buffer>)| AdapterTable {
            name,
            shape: [p.value.rows(), p.value.cols()],
            values: d.read(&p.value),
        };
        let mut tables: Vec<AdapterTable> = trained.map(table).collect();
        if self.config().tie_word_embeddings
            && let Some(table) = tables.first()
        {
            tables.push(AdapterTable { name: "lm_head.weight".to_owned(), ..table.clone() });
        }
        Adapter { config, modules, tables }
    }

    /// Reads an adapter into this model's adapters, which must be of its rank and on its modules, and returns its
    /// settings.
    ///
    /// # Errors
    /// When the folder cannot be read, one of this model's adapters or tables is missing there or of another shape, or the
    /// adapter has one that this model has not; the model's adapters may then have changed in part.
    pub fn load_adapter(&self, dir: &Path) -> Result<AdapterConfig, WeightsError> {
        let Adapter { config, modules, tables } = read_adapter(dir)?;
        let rank = config.lora.rank;
        let mut tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)> = BTreeMap::new();
        for m in modules {
            tensors.insert(format!("{}.lora_A.weight", m.module), (vec![rank, m.inputs], m.a));
            tensors.insert(format!("{}.lora_B.weight", m.module), (vec![m.outputs, rank], m.b));
            if let Some(magnitude) = m.magnitude {
                tensors.insert(format!("{}.lora_magnitude_vector", m.module), (vec![m.outputs, 1], magnitude));
            }
        }
        for table in tables {
            tensors.insert(table.name, (table.shape.to_vec(), table.values));
        }
        if self.config().tie_word_embeddings {
            tensors.remove("lm_head.weight");
        }
        for (tensor, adapter) in self.trained() {
            let (file, expected) = (dir.join(WEIGHTS), vec![adapter.value.rows(), adapter.value.cols()]);
            match tensors.remove(&tensor) {
                None => return Err(WeightsError::MissingTensor { file, tensor, expected }),
                Some((got, _)) if got != expected => {
                    return Err(WeightsError::WrongShape { file, tensor, expected, got });
                }
                Some((_, values)) => self.device().write(&adapter.value, &values),
            }
        }
        self.adapters_changed();
        let left = tensors.into_keys().map(|tensor| WeightsError::UnexpectedTensor { file: dir.join(WEIGHTS), tensor });
        let left: Vec<_> = left.collect();
        if left.is_empty() { Ok(config) } else { Err(WeightsError::Several(left)) }
    }
}
