//! `precision: bf16` rounds what products read, and nothing that is saved.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod tiny;

use serde_json::Value;
use temper_model::{Adapter, Checkpoint, read_adapter};
use tiny::{Folder, ends, json, stderr};

fn is_bf16(values: &[f32]) -> bool {
    values.iter().all(|value| value.to_bits() & 0xffff == 0)
}

#[test]
fn a_merged_bf16_run_is_the_f32_base_with_its_adapter() {
    let folder = Folder::new();
    folder.keep_first_stage();
    ends(&folder.temper(&["run", &folder.recipe(), "--no-cache", "--set", "precision=bf16"]), 0, &[]);

    let (base, run) = (Checkpoint::open(&folder.path("base")).unwrap(), folder.path("run"));
    let merged = Checkpoint::open(&run.join("merged")).unwrap();
    let Adapter { config, modules, .. } = read_adapter(&run.join("adapter")).unwrap();
    let config = config.lora;
    let (scale, mut adapted) = (f64::from(config.alpha) / config.rank as f64, 0);
    for (name, shape) in base.config().tensor_shapes() {
        let (was, is) = (base.tensor(&name, &shape).unwrap(), merged.tensor(&name, &shape).unwrap());
        let module = name.strip_suffix(".weight").and_then(|name| modules.iter().find(|m| m.module == name));
        let Some(m) = module else {
            assert!(was == is, "{name} has no adapter, but was changed");
            continue;
        };
        adapted += 1;
        for (i, (was, is)) in was.iter().zip(&is).enumerate() {
            let (row, col) = (i / m.inputs, i % m.inputs);
            let product = |r: usize| f64::from(m.b[row * config.rank + r]) * f64::from(m.a[r * m.inputs + col]);
            let expected = f64::from(*was) + scale * (0..config.rank).map(product).sum::<f64>();
            // Six roundings of numbers below 1. A weight rounded to bf16 would be up to 4e-4 off.
            assert!((f64::from(*is) - expected).abs() < 4e-7, "{name} {row},{col}: {is} against {expected}");
        }
        assert!(!is_bf16(&m.b) && !is_bf16(&m.a), "{name}: trained weights are f32");
    }
    assert_eq!(adapted, 7 * base.config().num_hidden_layers);

    let plan = json(&run.join("plan.json"));
    assert!(plan["device"].as_str().unwrap().ends_with("bf16 products"), "{}", plan["device"]);
    let said = "bf16 operands in products; sums, trained weights and their moments in f32";
    for file in ["report.html", "adapter/README.md", "merged/README.md"] {
        assert!(std::fs::read_to_string(run.join(file)).unwrap().contains(said), "{file}");
    }
    let at = |name: &str| folder.path(name).display().to_string();
    let (base, adapter) = (at("base"), at("run/adapter"));
    let words =
        ["generate", "--base", &base, "--adapter", &adapter, "--precision", "bf16", "--raw", "--prompt", "The lens"];
    ends(&folder.temper(&[&words[..], &["--max-new-tokens", "4"]].concat()), 0, &[]);
}

#[test]
fn full_rank_keeps_its_weights_in_f32_and_stages_hand_them_on() {
    let folder = Folder::new();
    ends(&folder.temper(&["run", &folder.recipe(), "--no-cache", "--set", "precision=bf16"]), 0, &[]);
    let open = |name: &str| Checkpoint::open(&folder.path("run").join(name)).unwrap();
    let (result, merged) = (open("checkpoints/stage-2/result/weights"), open("merged"));
    for (name, shape) in result.config().tensor_shapes() {
        let (result, merged) = (result.tensor(&name, &shape).unwrap(), merged.tensor(&name, &shape).unwrap());
        assert!(result == merged && !is_bf16(&merged), "{name}");
    }
}

#[test]
fn precisions_are_different_runs_with_nearly_the_same_losses() {
    let folder = Folder::new();
    let other = folder.path("other").display().to_string();
    ends(&folder.temper(&["run", &folder.recipe()]), 0, &[]);
    let second = folder.temper(&["run", &folder.recipe(), "--output", &other, "--set", "precision=bf16"]);
    ends(&second, 0, &[]);
    assert!(!stderr(&second).contains("is finished already"), "{}", stderr(&second));
    for event in ["step", "validation"] {
        let (f32, bf16) = (folder.losses("run", event), folder.losses("other", event));
        assert_eq!(f32.len(), bf16.len());
        assert_ne!(f32, bf16);
        for (a, b) in f32.iter().zip(&bf16) {
            // bf16 has 8 bits: 2e-3 an operand, of which a sum sees the mean.
            assert!((a / b - 1.0).abs() < 1e-2, "{event}: {a} in f32, {b} in bf16");
        }
    }
}

#[test]
fn a_plan_counts_the_memory_of_bf16_and_says_what_it_costs_here() {
    let folder = Folder::new();
    let plan = |precision: &str| -> Value {
        let output = folder.temper(&["plan", &folder.recipe(), "--json", "--set", &format!("precision={precision}")]);
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let (f32, bf16) = (plan("f32"), plan("bf16"));
    let memory = |plan: &Value, stage: usize| plan["stages"][stage]["estimate"]["memory_bytes"].as_u64().unwrap();
    let config = Checkpoint::open(&folder.path("base")).unwrap().config().clone();
    let (all, head) = (temper_pipeline::parameters(&config) as u64, (config.vocab_size * config.hidden_size) as u64);
    // A frozen base is held twice, two bytes a weight less each time; a trained head is packed for its product.
    assert_eq!(memory(&f32, 0) - memory(&bf16, 0), 2 * 2 * all);
    assert_eq!(memory(&f32, 1) - memory(&bf16, 1), 2 * head);
    let warned = |plan: &Value| plan["warnings"].to_string().contains("no faster than f32");
    // Not asked of a device here: the first one makes the pool of the process, and with it the pace of the other tests.
    let computes_by = |instructions: &str| bf16["device"].as_str().unwrap().contains(instructions);
    let intel = std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|about| about.contains("GenuineIntel"));
    let gains = computes_by("amx_bf16") || computes_by("avx512_bf16") && !intel;
    assert_eq!((warned(&f32), warned(&bf16)), (false, !gains));
    let idle = |plan: &Value| plan["warnings"].to_string().contains("matrix units");
    assert_eq!((idle(&f32), idle(&bf16)), (computes_by("amx_bf16"), false));
}
