//! `config.json`: every field that is known to change what a model computes is taken or refused. Keys that no model of these
//! families has are passed over, as transformers does.
//!
//! Layouts of transformers 4 (`rope_theta`, `rope_scaling`) and 5 (`rope_parameters`) are read; defaults of absent fields are
//! those of the family's configuration class there.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Activation, Design, LayerKind, LlamaConfig};
use crate::checkpoint::WeightsError;
use crate::family::{ARCHITECTURES, Family};
use crate::rope::RopeScaling;

impl LlamaConfig {
    /// Reads `config.json`. `has_head` says whether the weights hold `lm_head.weight`: it decides about tied embeddings where
    /// the file does not.
    ///
    /// # Errors
    /// All problems of the file at once: what would change the computation and is not built is one of them.
    pub(crate) fn from_hf(file: &Path, text: &str, has_head: bool) -> Result<Self, WeightsError> {
        let refuse = |problems| WeightsError::Config { file: file.to_owned(), problems };
        let config: Map<String, Value> = serde_json::from_str(text).map_err(|e| refuse(vec![e.to_string()]))?;
        let mut fields = Fields { config: &config, problems: Vec::new() };
        let Some(family) = fields.family() else { return Err(refuse(fields.problems)) };
        fields.refuse_other_computations();

        let heads = fields.size("num_attention_heads", None);
        let hidden_size = fields.size("hidden_size", None);
        let num_hidden_layers = fields.size("num_hidden_layers", None);
        let head_dim = family.head_dim().or(hidden_size.checked_div(heads));
        let max_position_embeddings = fields.size("max_position_embeddings", Some(2048));
        let mut design = family.design();
        let rope_theta = fields.rope(family, max_position_embeddings, &mut design);
        fields.design(family, num_hidden_layers, &mut design);
        let config = Self {
            vocab_size: fields.size("vocab_size", None),
            hidden_size,
            intermediate_size: fields.size("intermediate_size", None),
            num_hidden_layers,
            num_attention_heads: heads,
            num_key_value_heads: fields.size("num_key_value_heads", Some(heads)),
            head_dim: fields.size("head_dim", head_dim),
            rope_theta,
            rms_norm_eps: fields.number("rms_norm_eps", 1e-6),
            tie_word_embeddings: fields.flag("tie_word_embeddings", !has_head),
            max_position_embeddings,
            bos_token_id: fields.tokens("bos_token_id").first().copied(),
            eos_token_ids: fields.tokens("eos_token_id"),
            pad_token_id: fields.tokens("pad_token_id").first().copied(),
            design,
        };
        if fields.problems.is_empty() {
            fields.problems = config.problems();
        }
        if fields.problems.is_empty() { Ok(config) } else { Err(refuse(fields.problems)) }
    }

    /// The content of a `config.json` that transformers (4 and 5) loads. `dtype` is its name for the stored type, such as
    /// `bfloat16`.
    pub(crate) fn to_hf(&self, dtype: &str) -> Value {
        let eos = match self.eos_token_ids.as_slice() {
            [] => Value::Null,
            [one] => json!(one),
            several => json!(several),
        };
        let family = self.design.family;
        let mut config = json!({
            "architectures": [family.architecture()],
            "model_type": family.model_type(),
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "rope_theta": self.rope_theta,
            "rms_norm_eps": self.rms_norm_eps,
            "tie_word_embeddings": self.tie_word_embeddings,
            "max_position_embeddings": self.max_position_embeddings,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": eos,
            "pad_token_id": self.pad_token_id,
            "torch_dtype": dtype,
        });
        for (name, value) in self.design_to_hf() {
            config[name] = value;
        }
        config
    }

    /// The fields by which the family says in what it differs.
    fn design_to_hf(&self) -> Vec<(&'static str, Value)> {
        let (design, family) = (&self.design, self.design.family);
        let layers: Vec<LayerKind> = (0..self.num_hidden_layers).map(|i| self.layer(i)).collect();
        let window = layers.iter().find_map(|layer| layer.window);
        let kind = |layer: &LayerKind| layer.window.map_or("full_attention", |_| "sliding_attention");
        let kinds = json!(layers.iter().map(kind).collect::<Vec<_>>());
        let mut fields = Vec::new();
        match design.activation {
            Activation::Silu => fields.push(("hidden_act", json!("silu"))),
            Activation::GeluTanh => fields.push(("hidden_activation", json!("gelu_pytorch_tanh"))),
        }
        if design.rope_scaling != RopeScaling::Default {
            fields.push(("rope_scaling", scaling_to_hf(design.rope_scaling)));
        }
        match family {
            Family::Llama | Family::SmolLm3 => {
                fields.extend([("attention_bias", json!(design.o_bias)), ("mlp_bias", json!(design.mlp_bias))]);
            }
            Family::Qwen3 | Family::Gemma3 => fields.push(("attention_bias", json!(design.o_bias))),
            Family::Mistral | Family::Qwen2 => {}
        }
        match family {
            Family::Llama => {}
            Family::Mistral => fields.push(("sliding_window", json!(window))),
            Family::Qwen2 | Family::Qwen3 => {
                let full = layers.iter().position(|layer| layer.window.is_some()).unwrap_or(layers.len());
                fields.push(("max_window_layers", json!(full)));
            }
            Family::SmolLm3 => {
                let turned: Vec<u8> = layers.iter().map(|layer| u8::from(layer.rope)).collect();
                fields.push(("no_rope_layers", json!(turned)));
            }
            Family::Gemma3 => {
                let scalar = design.query_pre_attn_scalar.unwrap_or(self.head_dim as f64);
                fields.push(("query_pre_attn_scalar", whole(scalar)));
                fields.push(("rope_local_base_freq", json!(design.rope_local_theta)));
                fields.extend([("sliding_window", json!(window)), ("layer_types", kinds.clone())]);
            }
        }
        if matches!(family, Family::Qwen2 | Family::Qwen3 | Family::SmolLm3) {
            fields.extend([("use_sliding_window", json!(window.is_some())), ("sliding_window", json!(window))]);
            fields.push(("layer_types", kinds));
        }
        fields
    }
}

/// A number as an integer where it is one: some fields of transformers take nothing else.
fn whole(x: f64) -> Value {
    if x.fract() == 0.0 && x.abs() < 1e15 { json!(x as i64) } else { json!(x) }
}

fn scaling_to_hf(scaling: RopeScaling) -> Value {
    let mut value = json!(scaling);
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    value
}

/// Reads fields and collects what is wrong with them.
struct Fields<'a> {
    config: &'a Map<String, Value>,
    problems: Vec<String>,
}

impl<'a> Fields<'a> {
    /// The value, or `None` where it is absent or null.
    fn get(&self, name: &str) -> Option<&'a Value> {
        self.config.get(name).filter(|v| !v.is_null())
    }

    fn size(&mut self, name: &str, default: Option<usize>) -> usize {
        match (self.get(name), default) {
            (None, Some(default)) => return default,
            (None, None) => self.problems.push(format!("{name}: missing")),
            (Some(value), _) => match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
                Some(n) => return n,
                None => self.problems.push(format!("{name}: expected a whole number, got {value}")),
            },
        }
        0
    }

    fn number(&mut self, name: &str, default: f64) -> f64 {
        let Some(value) = self.get(name) else { return default };
        value.as_f64().unwrap_or_else(|| {
            self.problems.push(format!("{name}: expected a number, got {value}"));
            default
        })
    }

    fn flag(&mut self, name: &str, default: bool) -> bool {
        let Some(value) = self.get(name) else { return default };
        value.as_bool().unwrap_or_else(|| {
            self.problems.push(format!("{name}: expected true or false, got {value}"));
            default
        })
    }

    /// Token ids: absent, one, or a list. Old Llama files say -1 for "none".
    fn tokens(&mut self, name: &str) -> Vec<u32> {
        let values = match self.get(name) {
            None => return Vec::new(),
            Some(value) if *value == -1 => return Vec::new(),
            Some(Value::Array(list)) => list.clone(),
            Some(one) => vec![one.clone()],
        };
        let ids: Vec<u32> = values.iter().filter_map(|v| v.as_u64()?.try_into().ok()).collect();
        if ids.len() < values.len() {
            self.problems.push(format!("{name}: expected token ids, got {}", Value::from(values)));
        }
        ids
    }

    /// Refuses a field that is there with a value other than these.
    fn only(&mut self, name: &str, allowed: &[Value]) {
        if let Some(value) = self.get(name).filter(|v| !allowed.contains(v)) {
            let expected = allowed.first().map_or("nothing".to_owned(), Value::to_string);
            self.problems.push(format!("{name}: only {expected} is supported, got {value}"));
        }
    }

    /// The family, by `architectures` and `model_type`, which must agree where both are given.
    fn family(&mut self) -> Option<Family> {
        let first = |list: &'a Vec<Value>| list.first().and_then(Value::as_str);
        let architecture = match self.get("architectures") {
            Some(Value::Array(list)) => first(list),
            _ => None,
        };
        let model_type = self.get("model_type").and_then(Value::as_str);
        let family = Family::of(architecture, model_type);
        if family.is_none() {
            let [architecture, model_type] = [architecture, model_type].map(|name| name.unwrap_or("nothing"));
            self.problems.push(format!(
                "architectures: expected one of {ARCHITECTURES}, with its model_type; got {architecture}, model_type {model_type}"
            ));
        }
        family
    }

    /// Fields of these and of related architectures that change what is computed and are not built, unless they have the value
    /// that changes nothing.
    fn refuse_other_computations(&mut self) {
        for name in [
            "attn_logit_softcapping",
            "final_logit_softcapping",
            "quantization_config",
            "attention_multiplier",
            "original_max_position_embeddings",
            "clip_qkv",
            "attention_chunk_size",
            "attn_temperature_tuning",
            "scale_depth",
            "dim_model_base",
            "moe_intermediate_size",
        ] {
            self.only(name, &[]);
        }
        for name in [
            "partial_rotary_factor",
            "embedding_multiplier",
            "residual_multiplier",
            "logits_scaling",
            "logit_scale",
            "scale_emb",
        ] {
            self.only(name, &[json!(1), json!(1.0)]);
        }
        // Rates of dropout in training, and numbers of experts.
        for name in
            ["attention_dropout", "hidden_dropout", "resid_pdrop", "embd_pdrop", "num_experts", "num_local_experts"]
        {
            self.only(name, &[json!(0), json!(0.0)]);
        }
        for name in ["use_bidirectional_attention", "use_qk_norm", "qk_layernorm", "rope_interleaved", "use_mrope"] {
            self.only(name, &[json!(false)]);
        }
    }

    /// The base of the rotary frequencies; their scaling and the base of layers with a window go into `design`.
    fn rope(&mut self, family: Family, positions: usize, design: &mut Design) -> f64 {
        let mut theta = self.number("rope_theta", family.rope_theta());
        let gemma = family == Family::Gemma3;
        let mut local = self.number("rope_local_base_freq", 10_000.0);
        for name in ["rope_parameters", "rope_scaling"] {
            let Some(value) = self.get(name) else { continue };
            let Some(fields) = value.as_object() else {
                self.problems.push(format!("{name}: expected an object, got {value}"));
                continue;
            };
            // Gemma 3 has one object for each kind of layer (transformers 5).
            if let Some(kinds) = fields.keys().find(|key| key.ends_with("_attention")).map(|_| fields) {
                for (kind, value) in kinds.iter().filter(|(_, value)| !value.is_null()) {
                    let place = format!("{name}.{kind}");
                    match (kind.as_str(), value.as_object()) {
                        ("full_attention", Some(fields)) if gemma => {
                            (theta, design.rope_scaling) = self.scaling(&place, fields, theta, positions);
                        }
                        ("sliding_attention", Some(fields)) if gemma => {
                            let (own, scaling) = self.scaling(&place, fields, local, positions);
                            local = own;
                            if scaling != RopeScaling::Default {
                                self.problems.push(format!("{place}: only type `default` is supported, got {value}"));
                            }
                        }
                        _ => self.problems.push(format!("{place}: not supported in this architecture, got {value}")),
                    }
                }
            } else {
                (theta, design.rope_scaling) = self.scaling(name, fields, theta, positions);
            }
        }
        design.rope_local_theta = gemma.then_some(local);
        theta
    }

    /// The base and the scaling that an object of rotary settings gives.
    fn scaling(
        &mut self,
        place: &str,
        object: &Map<String, Value>,
        theta: f64,
        positions: usize,
    ) -> (f64, RopeScaling) {
        let kind = object.get("rope_type").or(object.get("type")).filter(|kind| !kind.is_null());
        let kind = kind.map_or("default".to_owned(), |kind| kind.as_str().map_or(kind.to_string(), str::to_owned));
        let own: &[&str] = match kind.as_str() {
            "default" => &[],
            "linear" | "dynamic" => &["factor"],
            "llama3" => &["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"],
            "yarn" => &[
                "factor",
                "original_max_position_embeddings",
                "beta_fast",
                "beta_slow",
                "attention_factor",
                "truncate",
            ],
            _ => {
                let known = "default, linear, dynamic, llama3 and yarn";
                self.problems.push(format!("{place}: type: expected one of {known}, got {kind}"));
                return (theta, RopeScaling::Default);
            }
        };
        let mut inner = Fields { config: object, problems: Vec::new() };
        inner.only("partial_rotary_factor", &[json!(1), json!(1.0)]);
        let common = ["rope_type", "type", "rope_theta", "partial_rotary_factor"];
        for (name, value) in object.iter().filter(|(_, value)| !value.is_null()) {
            if !common.contains(&name.as_str()) && !own.contains(&name.as_str()) {
                inner.problems.push(format!("{name}: not supported for type {kind}, got {value}"));
            }
        }
        for name in own.iter().filter(|&&name| matches!(name, "factor" | "low_freq_factor" | "high_freq_factor")) {
            if inner.get(name).is_none() {
                inner.problems.push(format!("{name}: missing for type {kind}"));
            }
        }
        let theta = inner.number("rope_theta", theta);
        let factor = inner.number("factor", 1.0);
        let original = inner.size("original_max_position_embeddings", Some(positions));
        let scaling = match kind.as_str() {
            "linear" => RopeScaling::Linear { factor },
            "dynamic" => RopeScaling::Dynamic { factor },
            "llama3" => RopeScaling::Llama3 {
                factor,
                low_freq_factor: inner.number("low_freq_factor", 1.0),
                high_freq_factor: inner.number("high_freq_factor", 4.0),
                original_max_position_embeddings: original,
            },
            "yarn" => RopeScaling::Yarn {
                factor,
                original_max_position_embeddings: original,
                beta_fast: inner.number("beta_fast", 32.0),
                beta_slow: inner.number("beta_slow", 1.0),
                attention_factor: inner.get("attention_factor").map(|_| inner.number("attention_factor", 1.0)),
                truncate: inner.flag("truncate", true),
            },
            _ => RopeScaling::Default,
        };
        self.problems.extend(inner.problems.into_iter().map(|problem| format!("{place}.{problem}")));
        (theta, scaling)
    }

    /// Activation, biases, scales and the kinds of layers.
    fn design(&mut self, family: Family, layers: usize, design: &mut Design) {
        let activation = match design.activation {
            Activation::Silu => "silu",
            Activation::GeluTanh => "gelu_pytorch_tanh",
        };
        // Old files of Gemma have `hidden_act` beside the field that counts.
        if family != Family::Gemma3 {
            self.only("hidden_act", &[json!(activation)]);
        }
        self.only("hidden_activation", &[json!(activation)]);
        match family {
            // Its classes have no such field.
            Family::Qwen2 => {}
            Family::Mistral => self.only("attention_bias", &[json!(false)]),
            Family::Llama | Family::Qwen3 | Family::SmolLm3 | Family::Gemma3 => {
                design.o_bias = self.flag("attention_bias", false);
                design.qkv_bias = design.o_bias;
            }
        }
        match family {
            Family::Llama | Family::SmolLm3 => design.mlp_bias = self.flag("mlp_bias", false),
            _ => self.only("mlp_bias", &[json!(false)]),
        }
        if family == Family::Gemma3 {
            design.query_pre_attn_scalar = Some(self.number("query_pre_attn_scalar", 256.0));
        } else {
            self.only("query_pre_attn_scalar", &[]);
        }
        // A damaged file must not ask for absurd memory here; the number of layers is refused later.
        design.layers = self.layers(family, layers.min(1 << 12));
        if design.layers.iter().all(|layer| *layer == LayerKind::FULL) {
            design.layers = Vec::new();
        }
    }

    /// Each layer's kind.
    fn layers(&mut self, family: Family, count: usize) -> Vec<LayerKind> {
        let window = |fields: &mut Self, default: Option<usize>| match fields.config.get("sliding_window") {
            None => default,
            Some(Value::Null) => None,
            Some(_) => Some(fields.size("sliding_window", None)),
        };
        let used = self.flag("use_sliding_window", matches!(family, Family::Mistral | Family::Gemma3));
        let window = match family {
            Family::Llama => {
                self.only("sliding_window", &[]);
                self.only("use_sliding_window", &[json!(false)]);
                None
            }
            Family::Mistral | Family::Gemma3 => window(self, Some(4096)),
            Family::Qwen2 | Family::Qwen3 => window(self, Some(4096)).filter(|_| used),
            Family::SmolLm3 => window(self, None).filter(|_| used),
        };
        let turned = self.turned(family, count);
        let slides: Vec<bool> = match (family, self.get("layer_types")) {
            (Family::Llama | Family::Mistral, types) => {
                let plain = types.and_then(Value::as_array).into_iter().flatten().all(|kind| kind == "full_attention");
                if !plain || family == Family::Mistral && types.is_some() {
                    let got = types.map_or("nothing".to_owned(), Value::to_string);
                    self.problems.push(format!("layer_types: not supported in this architecture, got {got}"));
                }
                vec![window.is_some(); count]
            }
            (_, Some(types)) => self.slides(types, window, count),
            (Family::Qwen2 | Family::Qwen3, None) => {
                let first = self.size("max_window_layers", Some(28));
                (0..count).map(|i| window.is_some() && i >= first).collect()
            }
            (Family::SmolLm3, None) => turned.iter().map(|turned| window.is_some() && !turned).collect(),
            (Family::Gemma3, None) => {
                let pattern = self.size("sliding_window_pattern", Some(6)).max(1);
                (0..count).map(|i| window.is_some() && !(i + 1).is_multiple_of(pattern)).collect()
            }
        };
        let kind = |(rope, slides)| LayerKind { window: window.filter(|_| slides), rope };
        turned.into_iter().zip(slides).map(kind).collect()
    }

    /// Which layers turn queries and keys.
    fn turned(&mut self, family: Family, count: usize) -> Vec<bool> {
        if family != Family::SmolLm3 {
            self.only("no_rope_layers", &[]);
            return vec![true; count];
        }
        let interval = self.size("no_rope_layer_interval", Some(4)).max(1);
        let Some(value) = self.get("no_rope_layers") else {
            return (0..count).map(|i| !(i + 1).is_multiple_of(interval)).collect();
        };
        let turned: Option<Vec<bool>> = value.as_array().and_then(|list| {
            let flag = |value: &Value| match value.as_u64() {
                Some(flag @ 0..=1) => Some(flag == 1),
                _ => None,
            };
            list.iter().map(flag).collect()
        });
        match turned {
            Some(mut turned) if turned.len() >= count => {
                turned.truncate(count);
                turned
            }
            _ => {
                self.problems.push(format!("no_rope_layers: expected 0 or 1 for each of {count} layers, got {value}"));
                vec![true; count]
            }
        }
    }

    /// Which layers slide, by `layer_types`.
    fn slides(&mut self, types: &Value, window: Option<usize>, count: usize) -> Vec<bool> {
        let slide = |kind: &Value| match kind.as_str() {
            Some("full_attention") => Some(false),
            Some("sliding_attention") => Some(true),
            _ => None,
        };
        let slides: Option<Vec<bool>> = types.as_array().and_then(|list| list.iter().map(slide).collect());
        let Some(slides) = slides.filter(|slides| slides.len() == count) else {
            let expected = format!("full_attention or sliding_attention for each of {count} layers");
            self.problems.push(format!("layer_types: expected {expected}, got {types}"));
            return vec![false; count];
        };
        if window.is_none() && slides.contains(&true) {
            self.problems.push("layer_types: some layers slide, but there is no sliding_window in use".to_owned());
        }
        slides
    }
}
