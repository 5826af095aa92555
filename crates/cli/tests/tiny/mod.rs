//! A random model with two narrow blocks behind the real tokenizer, and recipes over it: a run takes a second.
#![allow(dead_code, reason = "each file of tests uses a part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use temper_model::{Checkpoint, Dtype, LlamaConfig, write_model};
use temper_run::Random;
use temper_text::Tokenizer;

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The real model that the tests read.
pub fn gguf() -> String {
    std::env::var("TEMPER_TEST_GGUF")
        .expect("TEMPER_TEST_GGUF names the test model: run `cargo xtask test`, which fetches it")
}

/// A stage over tiny rows of answers, with these fields, one a line.
pub fn answers(fields: &str) -> String {
    let tiny = root().join("data/tests").display().to_string();
    let fields = fields.trim().lines().map(|field| format!("    {}\n", field.trim())).collect::<String>();
    format!(
        "  - kind: sft
    train: {tiny}/tiny_train.jsonl
    validation: {tiny}/tiny_validation.jsonl
    max_length: 256
    global_batch_size: 4
{fields}"
    )
}

/// A folder with a base, a recipe and a cache of its own.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let real = Checkpoint::open(Path::new(&gguf())).unwrap();
        let config = LlamaConfig {
            hidden_size: 32,
            intermediate_size: 48,
            num_hidden_layers: 2,
            num_attention_heads: 2,
            num_key_value_heads: 1,
            head_dim: 16,
            max_position_embeddings: 512,
            ..real.config().clone()
        };
        let tensors = config.tensor_shapes().into_iter().map(|(name, shape)| {
            let stream = Random::new(1, &name);
            let length = shape.iter().product::<usize>();
            let around = if name.ends_with("norm.weight") { 1.0 } else { 0.0 };
            let values = (0..length as u64).map(|i| (around + 0.2 * (stream.unit(i) - 0.5)) as f32).collect();
            (name, shape, values)
        });
        let base = folder.path("base");
        write_model(&base, &config, tensors, Dtype::F32, &[]).unwrap();
        Tokenizer::from_gguf(&real.gguf_vocab().unwrap().unwrap()).unwrap().save(&base).unwrap();
        folder.write_recipe(&folder.text());
        folder
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn recipe(&self) -> String {
        self.path("recipe.yaml").display().to_string()
    }

    pub fn write_recipe(&self, text: &str) {
        std::fs::write(self.path("recipe.yaml"), text).unwrap();
    }

    /// Leaves the first stage alone: its adapter is the run's.
    pub fn keep_first_stage(&self) {
        let text = self.text();
        let (before, rest) = text.split_once("  - kind: sft").unwrap();
        let (first, rest) = rest.split_once("  - kind: sft").unwrap();
        let (_, evaluation) = rest.split_once("evaluation:").unwrap();
        self.write_recipe(&format!("{before}  - kind: sft{first}evaluation:{evaluation}"));
    }

    /// Two stages, an adapter and then all weights, saved after every step.
    pub fn text(&self) -> String {
        let tiny = root().join("data/tests").display().to_string();
        let stage = |more: &str| {
            format!(
                "  - kind: sft
    train: {tiny}/tiny_train.jsonl
    validation: {tiny}/tiny_validation.jsonl
    mix: {{unit: samples, domain: 75, general: [{{name: prose, path: {tiny}/tiny_prose.jsonl, share: 100}}]}}
    max_length: 256
    global_batch_size: 4
    eval_steps: 2
    save_steps: 1
    {more}
"
            )
        };
        let lora = stage("mode: lora\n    max_steps: 12\n    learning_rate: 1e-2\n    lora_rank: 4");
        let full = stage("mode: full\n    max_steps: 6\n    learning_rate: 1e-3\n    weight_average: 0.7");
        self.around("base", &(lora + &full))
    }

    /// A recipe of these stages over the base of this name, with held-out text and its floor.
    pub fn around(&self, base: &str, stages: &str) -> String {
        format!(
            "name: tiny
base: {base}
output: {run}
stages:
{stages}evaluation:
  general:
    - {{name: heldout, kind: text_loss, path: {tiny}/tiny_heldout.jsonl}}
  floors:
    heldout: {{max_increase_percent: 50}}
",
            base = self.path(base).display(),
            run = self.path("run").display(),
            tiny = root().join("data/tests").display(),
        )
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_temper"));
        command.args(arguments).env("NO_COLOR", "1").env("TEMPER_CACHE", self.path("cache"));
        command
    }

    pub fn temper(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Begins the run and ends it once the checkpoint of step `step` of a stage, counted from 1, is there, by an exit that nothing
    /// prepares for.
    pub fn kill_after(&self, stage: usize, step: usize, more: &[&str]) {
        let recipe = self.recipe();
        self.kill_at(&[&["run", "--no-cache", &recipe], more].concat(), stage, &format!("step-{step:06}"));
    }

    /// The same of a run that is begun or gone on with by these arguments, once a folder of the stage's checkpoints is there.
    pub fn kill_at(&self, arguments: &[&str], stage: usize, awaited: &str) {
        let mut child = self.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let checkpoint = self.path(&format!("run/checkpoints/stage-{stage}/{awaited}"));
        while !checkpoint.is_dir() {
            assert!(child.try_wait().unwrap().is_none(), "the run ended before {awaited}");
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// What a run gave, to compare runs by: the result of each stage, the merged model, both axes, and the metrics without
    /// wall times.
    pub fn result(&self, run: &str) -> Vec<(String, Vec<u8>)> {
        self.result_of(
            run,
            &[
                "checkpoints/stage-1/result/weights/adapter_model.safetensors",
                "checkpoints/stage-2/result/weights/model.safetensors",
                "merged/model.safetensors",
                "judgement.json",
            ],
        )
    }

    /// These files of a run, and its metrics without wall times.
    pub fn result_of(&self, run: &str, files: &[&str]) -> Vec<(String, Vec<u8>)> {
        let at = |name: &str| self.path(run).join(name);
        let mut all: Vec<(String, Vec<u8>)> =
            files.iter().map(|name| ((*name).to_owned(), std::fs::read(at(name)).unwrap())).collect();
        let mut timeless = String::new();
        for mut line in lines(&at("metrics.jsonl")) {
            line.as_object_mut().unwrap().remove("seconds");
            timeless.push_str(&format!("{line}\n"));
        }
        all.push(("metrics.jsonl".to_owned(), timeless.into_bytes()));
        all
    }

    /// The losses of the steps or the validations of a run.
    pub fn losses(&self, run: &str, event: &str) -> Vec<f64> {
        let lines = lines(&self.path(run).join("metrics.jsonl"));
        let of = lines.iter().filter(|line| line["event"] == event);
        of.map(|line| line["loss"].as_f64().unwrap()).collect()
    }
}

/// Expects two results of runs to be the same bytes.
pub fn same(a: &[(String, Vec<u8>)], b: &[(String, Vec<u8>)]) {
    assert_eq!(a.len(), b.len());
    for ((name, a), (_, b)) in a.iter().zip(b) {
        assert!(a == b, "{name} differs: {} bytes against {}", a.len(), b.len());
    }
}

/// A file of JSON.
pub fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A file of a JSON value a line.
pub fn lines(path: &Path) -> Vec<Value> {
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Expects the exit code and that standard error holds every piece.
pub fn ends(output: &Output, code: i32, pieces: &[&str]) {
    assert_eq!(output.status.code(), Some(code), "{}", stderr(output));
    for piece in pieces {
        assert!(stderr(output).contains(piece), "`{piece}` is not in:\n{}", stderr(output));
    }
}

/// Expects a run to have come to its end, whatever its gate says.
pub fn finished(output: &Output) {
    assert!(matches!(output.status.code(), Some(0 | 4)), "{}", stderr(output));
}
