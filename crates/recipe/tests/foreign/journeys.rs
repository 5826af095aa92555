//! There and back: a recipe that was written for another tool and read again means the same, as far as both have the field.

use std::path::Path;

use serde_json::Value;
use temper_recipe::Recipe;
use temper_recipe::foreign::{Document, Given, Hypothesis, Known, Severity, Tool, check, export, import, search};

/// A folder with rows to name.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["train.jsonl", "more.jsonl", "validation.jsonl", "general.jsonl"] {
        std::fs::write(folder.path().join(name), "{\"messages\": []}\n").unwrap();
    }
    folder
}

fn load(folder: &Path, name: &str, text: &str) -> Recipe {
    let file = folder.join(name);
    std::fs::write(&file, text).unwrap();
    Recipe::load(&file, &[]).unwrap_or_else(|error| panic!("{error}\n{text}")).0
}

/// The value of a field, as the resolved recipe has it; paths without their folder.
fn value(recipe: &Recipe, path: &str) -> Option<Value> {
    let value = recipe.settings().into_iter().find(|setting| setting.path == path)?.value;
    Some(match value {
        // `2` and `2.0` are one number.
        Value::Number(number) => Value::from(number.as_f64()),
        other => other,
    })
}

const COMMON: &[&str] = &[
    "stages.0.kind",
    "stages.0.mode",
    "stages.0.global_batch_size",
    "stages.0.max_length",
    "stages.0.learning_rate",
    "stages.0.lr_scheduler_type",
    "stages.0.min_lr",
    "stages.0.weight_decay",
    "stages.0.max_steps",
    "stages.0.num_train_epochs",
    "stages.0.warmup_steps",
    "stages.0.warmup_ratio",
    "stages.0.lora_alpha",
];

/// What the tools built on the same trainer have besides.
const FAMILY: &[&str] = &[
    "base.source",
    "seed",
    "precision",
    "output",
    "stages.0.lora_rank",
    "stages.0.lora_dropout",
    "stages.0.use_rslora",
    "stages.0.use_dora",
    "stages.0.target_modules",
    "stages.0.modules_to_save",
    "stages.0.adam_beta1",
    "stages.0.adam_beta2",
    "stages.0.adam_epsilon",
    "stages.0.max_grad_norm",
    "stages.0.activation_checkpointing",
    "stages.0.save_steps",
    "stages.0.keep_checkpoints",
    "stages.0.beta",
    "stages.0.loss_type",
];

fn back(folder: &Path, recipe: &Recipe, tool: Tool, rows: Option<u64>, given: &Given) -> (Recipe, String) {
    let there = export(recipe, &folder.join("recipe.yaml"), tool, rows, None).unwrap();
    let file = folder.join("theirs.yaml");
    std::fs::write(&file, &there.text).unwrap();
    // LLaMA-Factory explains its data sets in a file of their own, which the exported recipe carries as comments.
    if let Some((_, info)) = there.text.split_once("# data/dataset_info.json:\n") {
        let info: Vec<&str> = info.lines().filter_map(|line| line.strip_prefix('#')).collect();
        std::fs::create_dir_all(folder.join("data")).unwrap();
        std::fs::write(folder.join("data/dataset_info.json"), info.join("\n")).unwrap();
    }
    let document = Document::read(&file, None).unwrap_or_else(|error| panic!("{error}\n{}", there.text));
    assert_eq!(document.tool, tool, "{}", there.text);
    let here = import(&document, given).unwrap_or_else(|error| panic!("{error}\n{}", there.text));
    (load(folder, "back.yaml", &here.text), there.text)
}

fn same(recipe: &Recipe, back: &Recipe, fields: &[&[&str]], text: &str) {
    for path in fields.concat() {
        assert_eq!(value(back, path), value(recipe, path), "{path}\n{text}");
    }
}

const RECIPE: &str = "
name: trip
base: hf:Qwen/Qwen3-4B
seed: 7
precision: bf16
output: out/trip
stages:
  - kind: sft
    lora_rank: 32
    lora_alpha: 64
    lora_dropout: 0.05
    train: train.jsonl
    max_length: 8192
    global_batch_size: 32
    learning_rate: 1.5e-4
    lr_scheduler_type: cosine
    min_lr: 1e-6
    max_steps: 120
    warmup_steps: 12
    weight_decay: 0.01
    adam_beta2: 0.95
    save_steps: 40
    keep_checkpoints: 3
    activation_checkpointing: true
";

/// The recipe with some of its lines changed.
fn varied(changes: &[(&str, &str)]) -> String {
    changes.iter().fold(RECIPE.to_owned(), |text, (old, new)| {
        assert!(text.contains(old), "{old}");
        text.replace(old, new)
    })
}

fn variants() -> Vec<String> {
    let full = ("    lora_rank: 32\n    lora_alpha: 64\n    lora_dropout: 0.05\n", "    mode: full\n");
    vec![
        RECIPE.to_owned(),
        varied(&[("max_steps: 120", "num_train_epochs: 2"), ("warmup_steps: 12", "warmup_ratio: 0.05")]),
        varied(&[full, ("1.5e-4", "1.5e-5"), ("precision: bf16", "precision: f32")]),
        varied(&[("cosine\n    min_lr: 1e-6", "linear"), ("lora_dropout: 0.05", "use_rslora: true")]),
        varied(&[("cosine\n    min_lr: 1e-6", "constant"), ("32\n    learning", "20\n    learning")]),
        varied(&[("lora_dropout: 0.05", "target_modules: [q_proj, v_proj]"), ("seed: 7\n", "")]),
        varied(&[("kind: sft", "kind: cpt"), ("weight_decay: 0.01", "weight_decay: 0")]),
        varied(&[("kind: sft", "kind: dpo"), ("    lora_dropout: 0.05\n", "    beta: 0.05\n    loss_type: ipo\n")]),
    ]
}

#[test]
fn axolotl_llamafactory_and_trl_give_back_what_they_got() {
    for tool in [Tool::Axolotl, Tool::LlamaFactory, Tool::Trl] {
        for text in variants() {
            let folder = folder();
            let recipe = load(folder.path(), "recipe.yaml", &text);
            // TRL has no technique of its own for plain text: it is SFT of rows of text.
            let cpt = tool == Tool::Trl && text.contains("kind: cpt");
            let (back, there) = back(folder.path(), &recipe, tool, None, &Given::default());
            let fields: Vec<&str> =
                COMMON.iter().chain(FAMILY).copied().filter(|field| !cpt || *field != "stages.0.kind").collect();
            same(&recipe, &back, &[&fields], &there);
        }
    }
}

#[test]
fn validation_goes_there_and_back_where_the_tool_has_it() {
    let text =
        varied(&[("train: train.jsonl", "train: train.jsonl\n    validation: validation.jsonl\n    eval_steps: 20")]);
    for tool in [Tool::Axolotl, Tool::LlamaFactory] {
        let folder = folder();
        let recipe = load(folder.path(), "recipe.yaml", &text);
        let (back, there) = back(folder.path(), &recipe, tool, None, &Given::default());
        same(&recipe, &back, &[&["stages.0.eval_steps", "stages.0.early_stopping_patience"]], &there);
        let name = |recipe: &Recipe| {
            let path = &recipe.stages[0].validation.as_ref().unwrap().value.path;
            path.file_name().unwrap().to_owned()
        };
        assert_eq!(name(&back), name(&recipe));
    }
    let folder = folder();
    let recipe = load(folder.path(), "recipe.yaml", &text);
    let there = export(&recipe, Path::new("recipe.yaml"), Tool::Trl, None, None).unwrap();
    assert!(there.listed.iter().any(|listed| listed.key == "stages.0.validation"), "{:?}", there.listed);
}

#[test]
fn the_rows_go_there_and_back() {
    let text = varied(&[("train: train.jsonl", "train: [train.jsonl, more.jsonl]")]);
    for tool in [Tool::Axolotl, Tool::LlamaFactory, Tool::Trl] {
        let folder = folder();
        let recipe = load(folder.path(), "recipe.yaml", &text);
        let (back, _) = back(folder.path(), &recipe, tool, None, &Given::default());
        let names = |recipe: &Recipe| -> Vec<_> {
            recipe.stages[0].train.value.iter().map(|files| files.path.file_name().unwrap().to_owned()).collect()
        };
        assert_eq!(names(&back), names(&recipe), "{tool:?}");
    }
}

/// What Nova takes of the variants: its own lengths, batches and scales.
#[test]
fn nova_gives_back_what_it_can_take() {
    let folder = folder();
    let given = Given {
        base: Some("hf:Qwen/Qwen3-4B".into()),
        train: vec![folder.path().join("train.jsonl")],
        ..Given::default()
    };
    let adam = &[
        "stages.0.adam_beta1",
        "stages.0.adam_beta2",
        "stages.0.keep_checkpoints",
        "stages.0.save_steps",
        "stages.0.weight_average",
    ];
    for text in [
        RECIPE.to_owned(),
        varied(&[(
            "    lora_rank: 32\n    lora_alpha: 64\n    lora_dropout: 0.05\n",
            "    mode: full\n    weight_average: 0.8\n",
        )]),
    ] {
        let recipe = load(folder.path(), "recipe.yaml", &text);
        let (back, there) = back(folder.path(), &recipe, Tool::Nova, Some(3200), &given);
        same(&recipe, &back, &[COMMON, adam], &there);
    }
    let cpt = varied(&[
        ("kind: sft", "kind: cpt"),
        ("    lora_rank: 32\n    lora_alpha: 64\n    lora_dropout: 0.05\n", "    mode: full\n    adam_epsilon: 1e-6\n"),
    ]);
    let recipe = load(folder.path(), "recipe.yaml", &cpt);
    let (round, there) = back(folder.path(), &recipe, Tool::Nova, Some(3200), &given);
    same(&recipe, &round, &[COMMON, &["stages.0.adam_epsilon"]], &there);
    let dpo = varied(&[
        ("kind: sft", "kind: dpo"),
        ("    lora_dropout: 0.05\n", "    beta: 0.05\n    loraplus_lr_ratio: 20\n"),
        ("max_steps: 120", "num_train_epochs: 2"),
        ("    adam_beta2: 0.95\n", ""),
    ]);
    let recipe = load(folder.path(), "recipe.yaml", &dpo);
    let (round, there) = back(folder.path(), &recipe, Tool::Nova, Some(3200), &given);
    same(&recipe, &round, &[COMMON, &["stages.0.beta", "stages.0.loraplus_lr_ratio"]], &there);
}

#[test]
fn a_mix_of_a_catalog_goes_to_nova_and_back() {
    let folder = folder();
    let mix = "    mix: {unit: samples, catalog: sft_1p5_text_chat, domain: 75, general: self}\n    train:";
    let recipe = load(folder.path(), "recipe.yaml", &varied(&[("    train:", mix)]));
    let given = Given {
        base: Some("hf:Qwen/Qwen3-4B".into()),
        train: vec![folder.path().join("train.jsonl")],
        ..Given::default()
    };
    let (back, there) = back(folder.path(), &recipe, Tool::Nova, Some(3200), &given);
    same(&recipe, &back, &[&["stages.0.mix.domain", "stages.0.mix.catalog", "stages.0.mix.unit"]], &there);
    assert!(there.contains("reasoning-instruction-following: 45"), "{there}");
}

/// What a tool refuses by its own rules is not what `temper export` writes.
#[test]
fn what_is_exported_passes_the_tools_own_check() {
    for tool in [Tool::Axolotl, Tool::LlamaFactory, Tool::Trl, Tool::Nova] {
        for text in variants() {
            let folder = folder();
            let recipe = load(folder.path(), "recipe.yaml", &text);
            let there = export(&recipe, Path::new("recipe.yaml"), tool, Some(100_000), None).unwrap();
            let file = folder.path().join("theirs.yaml");
            std::fs::write(&file, &there.text).unwrap();
            let document = Document::read(&file, Some(tool)).unwrap();
            let found = check(&document, &Known::default());
            let errors: Vec<_> = found.iter().filter(|finding| finding.severity == Severity::Error).collect();
            assert!(errors.is_empty(), "{errors:?}\n{}", there.text);
        }
    }
}

#[test]
fn nothing_is_dropped_without_being_listed() {
    let folder = folder();
    let text = varied(&[(
        "    weight_decay: 0.01\n",
        "    weight_decay: 0.01\n    domain_loss_weight: 3\n    mask_history: true\n",
    )]);
    let recipe = load(folder.path(), "recipe.yaml", &text);
    for tool in [Tool::Axolotl, Tool::Nova, Tool::Trl] {
        let there = export(&recipe, Path::new("recipe.yaml"), tool, Some(3200), None).unwrap();
        for key in ["stages.0.domain_loss_weight", "stages.0.mask_history"] {
            assert!(there.listed.iter().any(|listed| listed.key == key), "{tool:?}: {key}: {:?}", there.listed);
            assert!(there.text.contains(key), "{}", there.text);
        }
    }
    let theirs = "base_model: Qwen/Qwen3-4B\nadapter: lora\nlora_r: 8\nlora_alpha: 16\ndatasets:\n  - path: train.jsonl\n    type: chat_template\n\
                  learning_rate: 1e-4\nneftune_noise_alpha: 5\nwandb_project: x\n";
    let file = folder.path().join("axolotl.yaml");
    std::fs::write(&file, theirs).unwrap();
    let here = import(&Document::read(&file, None).unwrap(), &Given::default()).unwrap();
    let line = |key: &str| here.listed.iter().find(|listed| listed.key == key).map(|listed| listed.place.clone());
    use temper_recipe::Place::File;
    assert_eq!(line("neftune_noise_alpha"), Some(File { line: 9, column: 1 }));
    assert_eq!(line("wandb_project"), Some(File { line: 10, column: 1 }));
    assert!(here.text.contains("line 9, neftune_noise_alpha: 5"), "{}", here.text);
    let recipe = load(folder.path(), "here.yaml", &here.text);
    // What Axolotl takes where a key is left out is written, since Temper takes something else.
    assert_eq!(value(&recipe, "stages.0.max_length"), Some(512.0.into()));
}

#[test]
fn every_good_recipe_of_the_corpus_is_imported_or_refused_with_a_reason() {
    let folder = folder();
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign/good");
    let given = Given {
        base: Some("hf:Qwen/Qwen3-4B".into()),
        train: vec![folder.path().join("train.jsonl")],
        validation: Some(folder.path().join("validation.jsonl")),
        reward: Some(folder.path().join("reward.py")),
        folder: None,
    };
    std::fs::write(folder.path().join("reward.py"), "def reward(completion): return 1.0\n").unwrap();
    for entry in std::fs::read_dir(corpus).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_some_and(|end| end == "expect") {
            continue;
        }
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let document = Document::read(&file, None).unwrap();
        match import(&document, &given) {
            Ok(carried) => drop(load(folder.path(), "imported.yaml", &carried.text)),
            Err(error) => {
                assert!(name.contains("turns") || name.contains("eval"), "{name}: {error}");
                assert!(error.to_string().contains("hint: "), "{error}");
            }
        }
    }
}

#[test]
fn several_turns_are_refused_by_name_with_what_would_be_lost_and_what_would_be_the_same() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign/good/nova2_rft_turns.yaml");
    let error = import(&Document::read(&file, None).unwrap(), &Given::default()).unwrap_err().to_string();
    for piece in [
        "reinforcement over several turns: the environment",
        "rl.gamma (line 11)",
        "rollout.max_concurrency (line 19)",
        "hint: `temper check` reads it",
        "batch.group_size 4 is rollouts.num_generations",
        "model.lr 1e-5 is learning_rate",
    ] {
        assert!(error.contains(piece), "`{piece}` is not in: {error}");
    }
}

#[test]
fn a_hypothesis_is_marked_and_bounded() {
    let folder = folder();
    let recipe = load(
        folder.path(),
        "recipe.yaml",
        &varied(&[
            ("1.5e-4", "4e-3"),
            ("max_length: 8192\n    global_batch_size: 32", "max_length: 8192\n    global_batch_size: 16"),
        ]),
    );
    let hypothesis = Hypothesis::of(&recipe, "the study x").unwrap();
    assert_eq!(hypothesis.rate_times(), Some(20.0));
    let there = export(&recipe, Path::new("recipe.yaml"), Tool::Nova, Some(3200), Some(&hypothesis)).unwrap();
    // Twice Nova's default, not twenty times; Nova's batch; as many rows seen.
    for said in [
        "lr: 2.0e-5  # hypothesis",
        "global_batch_size: 32  # Nova's default",
        "max_steps: 60",
        "warmup_steps: 6",
        "HYPOTHESIS, not a result",
        "arXiv 2606.29158",
        "half or twice the default",
    ] {
        assert!(there.text.contains(said), "{said}\n{}", there.text);
    }
}

/// Fields of a recipe of Nova's that passes its check, as a recipe here has them.
fn said(folder: &Path, text: &str, fields: &[&str]) -> Vec<f64> {
    let file = folder.join("tried.yaml");
    std::fs::write(&file, text).unwrap();
    let document = Document::read(&file, Some(Tool::Nova)).unwrap();
    let found = check(&document, &Known::default());
    let errors: Vec<_> = found.iter().filter(|finding| finding.severity == Severity::Error).collect();
    assert!(errors.is_empty(), "{errors:?}\n{text}");
    let given =
        Given { base: Some("hf:Qwen/Qwen3-4B".into()), train: vec![folder.join("train.jsonl")], ..Given::default() };
    let recipe = load(folder, "tried-here.yaml", &import(&document, &given).unwrap().text);
    fields.iter().map(|path| value(&recipe, path).and_then(|value| value.as_f64()).unwrap()).collect()
}

#[test]
fn a_hypothesis_has_a_short_search_with_an_order_and_an_end() {
    let folder = folder();
    let mix = "    mix: {unit: samples, catalog: sft_1p5_text_chat, domain: 60, general: self}\n    train:";
    let fields = [
        "stages.0.learning_rate",
        "stages.0.mix.domain",
        "stages.0.max_steps",
        "stages.0.save_steps",
        "stages.0.warmup_steps",
    ];
    let tried = |rate: &str, changes: &[(&str, &str)], fields: &[&str]| {
        let text = varied(&[&[("1.5e-4", rate)], changes].concat());
        let recipe = load(folder.path(), "recipe.yaml", &text);
        let hypothesis = Hypothesis::of(&recipe, "the study x").unwrap();
        let search = search(&recipe, Path::new("recipe.yaml"), Some(3200), &hypothesis).unwrap();
        for one in &search.recipes {
            assert!(search.order.contains(&format!("`{}.yaml`", one.name)), "{}", search.order);
            assert!(one.text.contains("# HYPOTHESIS") && one.text.contains(&one.why), "{}", one.text);
        }
        let each: Vec<(String, Vec<f64>)> =
            search.recipes.iter().map(|one| (one.name.clone(), said(folder.path(), &one.text, fields))).collect();
        (each, search.order)
    };
    // Tuned 1.5 times Temper's default; 120 steps become 12.
    let (each, order) = tried("3e-4", &[("    train:", mix)], &fields);
    let expected = [
        ("1-control", [1e-5, 60.0, 12.0, 12.0, 2.0]),
        ("2-hypothesis", [1.5e-5, 60.0, 12.0, 12.0, 2.0]),
        ("3-rate-higher", [2e-5, 60.0, 12.0, 12.0, 2.0]),
        ("4-mix-less-customer", [1.5e-5, 50.0, 12.0, 12.0, 2.0]),
        ("5-mix-more-customer", [1.5e-5, 75.0, 12.0, 12.0, 2.0]),
    ];
    assert_eq!(each, expected.map(|(name, values)| (name.to_owned(), values.to_vec())));
    for piece in ["with 12 of its 120 steps", "not better than the control", "MMLU", "no better, or when the money"] {
        assert!(order.contains(piece), "`{piece}` is not in:\n{order}");
    }
    // A hypothesis that is the default is its own control; without a mix there are three.
    let rate = ["stages.0.learning_rate"];
    let named =
        |each: Vec<(String, Vec<f64>)>| each.into_iter().map(|(name, values)| (name, values[0])).collect::<Vec<_>>();
    let (each, order) = tried("2e-4", &[], &rate);
    assert_eq!(
        named(each),
        [("1-hypothesis", 1e-5), ("2-rate-lower", 5e-6), ("3-rate-higher", 2e-5)].map(|(n, r)| (n.to_owned(), r))
    );
    assert!(order.contains("Try the two others") && !order.contains("customer data"), "{order}");
    let (each, _) = tried("4e-3", &[], &rate);
    assert_eq!(
        named(each),
        [("1-control", 1e-5), ("2-hypothesis", 2e-5), ("3-rate-between", 1.4e-5)].map(|(n, r)| (n.to_owned(), r))
    );
}

const RFT: &str = "
name: trip
base: hf:Qwen/Qwen3-4B
stages:
  - kind: rft
    train: train.jsonl
    rewards:
      - {name: reward, program: reward.py}
    rollouts: {num_generations: 4, max_completion_length: 3000, temperature: 0.9}
    policy: {epsilon_high: 0.28, beta: 0.01, entropy_coefficient: 0.001}
    lora_alpha: 64
    max_length: 4096
    global_batch_size: 16
    learning_rate: 2e-6
    lr_scheduler_type: constant
    warmup_steps: 0
    max_steps: 50
    save_steps: 25
";

#[test]
fn reinforcement_goes_to_nova_axolotl_and_trl_and_back() {
    let folder = folder();
    std::fs::write(folder.path().join("reward.py"), "def reward(completion): return 1.0\n").unwrap();
    let recipe = load(folder.path(), "recipe.yaml", RFT);
    let given = Given {
        base: Some("hf:Qwen/Qwen3-4B".into()),
        train: vec![folder.path().join("train.jsonl")],
        reward: Some(folder.path().join("reward.py")),
        ..Given::default()
    };
    let shared = [
        "stages.0.kind",
        "stages.0.mode",
        "stages.0.rollouts.num_generations",
        "stages.0.rollouts.max_completion_length",
        "stages.0.rollouts.temperature",
        "stages.0.policy.epsilon_high",
        "stages.0.policy.beta",
        "stages.0.policy.entropy_coefficient",
        "stages.0.lora_alpha",
        "stages.0.global_batch_size",
        "stages.0.learning_rate",
        "stages.0.lr_scheduler_type",
        "stages.0.max_steps",
        "stages.0.save_steps",
    ];
    for (tool, more) in [
        (Tool::Nova, &["stages.0.max_length", "stages.0.rollouts.top_k"][..]),
        (
            Tool::Trl,
            &[
                "stages.0.policy.loss_type",
                "stages.0.policy.scale_rewards",
                "stages.0.lora_rank",
                "stages.0.rollouts.top_p",
            ],
        ),
        (
            Tool::Axolotl,
            &[
                "stages.0.policy.loss_type",
                "stages.0.policy.scale_rewards",
                "stages.0.policy.epsilon",
                "stages.0.lora_rank",
                "stages.0.rollouts.top_p",
                "stages.0.rollouts.top_k",
                "stages.0.max_length",
                "stages.0.warmup_steps",
            ],
        ),
    ] {
        let (back, there) = back(folder.path(), &recipe, tool, Some(320), &given);
        same(&recipe, &back, &[&shared, more], &there);
        // What was written, the tool takes.
        let document = Document::read(&folder.path().join("theirs.yaml"), Some(tool)).unwrap();
        let found = check(&document, &Known::default());
        let errors: Vec<_> = found.iter().filter(|finding| finding.severity == Severity::Error).collect();
        assert!(errors.is_empty(), "{errors:?}\n{there}");
    }
    let refused = export(&recipe, Path::new("recipe.yaml"), Tool::LlamaFactory, None, None).unwrap_err();
    assert!(refused.to_string().contains("LLaMA-Factory has no GRPO"), "{refused}");
}

#[test]
fn what_axolotl_says_of_grpo_is_carried_or_listed() {
    let folder = folder();
    std::fs::write(folder.path().join("reward.py"), "def reward(completion): return 1.0\n").unwrap();
    let here = |text: &str, given: &Given| {
        let file = folder.path().join("grpo.yaml");
        std::fs::write(&file, text).unwrap();
        import(&Document::read(&file, None).unwrap(), given)
    };
    let theirs = "base_model: Qwen/Qwen3-4B\nrl: grpo\nlearning_rate: 1e-6\nsequence_len: 512\nmicro_batch_size: 8\n\
                  gradient_accumulation_steps: 4\nmax_steps: 100\nrl_beta: 0.04\ndatasets:\n  - path: train.jsonl\n    type: rewards.make\n\
                  trl:\n  reward_funcs: [rewards.right]\n  reward_weights: [2]\n  num_generations: 4\n  max_completion_length: 800\n\
                  \x20 generation_batch_size: 64\n  use_vllm: true\n  min_p: 0.1\n";
    let refused = here(theirs, &Given::default()).unwrap_err().to_string();
    assert!(refused.contains("its reward is not at hand") && refused.contains("--reward"), "{refused}");
    let given = Given { reward: Some(folder.path().join("reward.py")), ..Given::default() };
    let carried = here(theirs, &given).unwrap();
    let recipe = load(folder.path(), "here.yaml", &carried.text);
    for (path, expected) in [
        ("stages.0.kind", Value::from("rft")),
        ("stages.0.mode", Value::from("full")),
        // 8 x 4 answers of 4 to a prompt.
        ("stages.0.global_batch_size", 8.0.into()),
        ("stages.0.rollouts.num_generations", 4.0.into()),
        ("stages.0.rollouts.max_completion_length", 800.0.into()),
        // 512 tokens hold no such answer, and bound none there.
        ("stages.0.max_length", 1824.0.into()),
        ("stages.0.policy.beta", 0.04.into()),
        // What TRL takes where the section says nothing.
        ("stages.0.policy.loss_type", Value::from("dapo")),
        ("stages.0.rollouts.temperature", 1.0.into()),
    ] {
        assert_eq!(value(&recipe, path), Some(expected), "{path}\n{}", carried.text);
    }
    for key in [
        "trl.reward_funcs",
        "trl.reward_weights",
        "trl.generation_batch_size",
        "trl.use_vllm",
        "trl.min_p",
        "sequence_len",
        "datasets.0.type",
    ] {
        assert!(carried.listed.iter().any(|listed| listed.key == key), "{key}: {:?}", carried.listed);
    }
    let gdpo = here(&theirs.replace("rl: grpo", "rl: gdpo"), &given).unwrap_err().to_string();
    assert!(gdpo.contains("`rl: gdpo` has no counterpart") && gdpo.contains("grpo have"), "{gdpo}");
}

/// What TRL's DPO switches off by itself is not written, and no secret is copied.
#[test]
fn what_is_imported_can_be_run() {
    let folder = folder();
    std::fs::write(folder.path().join("pairs.jsonl"), "{}\n").unwrap();
    let theirs = "trl dpo --model_name_or_path Qwen/Qwen3-4B --dataset_name pairs.jsonl --use_peft --lora_dropout 0.1 --beta 0.2\n";
    let file = folder.path().join("dpo.sh");
    std::fs::write(&file, theirs).unwrap();
    let here = import(&Document::read(&file, None).unwrap(), &Given::default()).unwrap();
    let recipe = load(folder.path(), "here.yaml", &here.text);
    assert_eq!(value(&recipe, "stages.0.beta"), Some(0.2.into()));
    assert_eq!(value(&recipe, "stages.0.lora_dropout"), Some(0.0.into()));
    assert!(here.listed.iter().any(|listed| listed.key == "lora_dropout"), "{:?}", here.listed);
    let unsloth = "model: Qwen/Qwen3-4B\ntraining: {max_steps: 10}\ndata: {local_dataset: [train.jsonl]}\nlogging: {hf_token: hf_xyz}\n";
    let file = folder.path().join("unsloth.yaml");
    std::fs::write(&file, unsloth).unwrap();
    let here = import(&Document::read(&file, None).unwrap(), &Given::default()).unwrap();
    assert!(here.text.contains("hf_token") && !here.text.contains("hf_xyz"), "{}", here.text);
}
