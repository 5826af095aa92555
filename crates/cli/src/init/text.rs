//! The recipe as text, every choice with its reason.

use std::fmt::Write;

use temper_pipeline::{Base, parameters};
use temper_report::{bytes, count};

use super::choose::Choices;
use super::look::{Data, FEWEST_GROUPS};
use super::{Task, Written};
use crate::machine::Memory;

/// Longest line of the recipe.
const WIDTH: usize = 110;

/// What the comments of a recipe rest on.
pub struct Found<'a> {
    pub name: &'a str,
    /// As the recipe names the base, with its hash where it belongs to one file.
    pub source: &'a str,
    pub sha256: Option<&'a str>,
    pub base: &'a Base,
    pub data: &'a Data,
    pub choices: &'a Choices,
    pub written: &'a Written,
    pub memory: Memory,
    pub threads: usize,
}

pub fn recipe(found: &Found<'_>) -> String {
    let Found { data, choices: c, base, written, .. } = found;
    let mut out = String::new();
    head(&mut out, found);

    let config = base.checkpoint.config();
    let licence = base.resolved.licence.as_deref();
    comment(
        &mut out,
        0,
        &format!(
            "The base: {} weights as {}, licence {}. {}",
            count(parameters(config)),
            base.checkpoint.precision(),
            licence.unwrap_or("unknown: neither the source nor the file declares one, so ask before you publish"),
            if c.has_template {
                "It has a chat template, so it was post-trained for conversations."
            } else {
                "It has no chat template, so it is a pre-trained base: no conversations, no chat suites."
            }
        ),
    );
    line(&mut out, 0, "base:");
    line(&mut out, 1, &format!("source: {}", scalar(found.source)));
    if let Some(hash) = found.sha256 {
        line(&mut out, 1, &format!("sha256: {hash}"));
    }
    line(&mut out, 0, "seed: 42\n");
    line(&mut out, 0, "stages:");
    stage(&mut out, found);
    out.push('\n');
    line(&mut out, 0, "evaluation:");
    evaluation(&mut out, data, c, written);
    out
}

fn head(out: &mut String, found: &Found<'_>) {
    let Found { data, written, .. } = found;
    comment(
        out,
        0,
        &format!(
            "Made by `temper init`. Look at it with `temper plan`, change what you know better, then `temper run`. On {} threads, \
         {} of memory free of {}.",
            found.threads,
            bytes(found.memory.available),
            bytes(found.memory.total)
        ),
    );
    out.push_str("#\n");
    let files: Vec<String> =
        data.files.iter().map(|(path, rows)| format!("{} ({} rows)", path.display(), count(*rows))).collect();
    let l = &data.lengths;
    comment(
        out,
        0,
        &format!(
            "Data: {}: rows of {}. Length in tokens: median {}, nine of ten up to {}, longest {}. Its licence is unknown: rows \
         declare none.",
            files.join(", "),
            data.kind,
            l.p50,
            l.p90,
            l.max
        ),
    );
    comment(out, 0, &format!("Task: {}: {}.", data.task.word(), data.why_task));
    let t = &data.together;
    comment(
        out,
        0,
        &format!(
            "Repetitions: {} rows have the text of an earlier row, {} nearly so (7 of 10 words and word pairs shared); they stay in \
         the data, on one side of the split.",
            count(t.exact),
            count(t.near)
        ),
    );
    if data.contradictions > 0 {
        comment(
            out,
            0,
            &format!(
                "CHECK: {} rows give another answer to a text that an earlier row has; no model can get both right.",
                count(data.contradictions)
            ),
        );
    }
    for (reason, rows) in &data.dropped {
        comment(out, 0, &format!("CHECK: {} rows will be left out: {reason}.", count(*rows)));
    }
    if !data.ignored.is_empty() {
        let fields: Vec<String> =
            data.ignored.iter().map(|(field, rows)| format!("`{field}` ({})", count(*rows))).collect();
        comment(out, 0, &format!("Fields that nothing reads: {}.", fields.join(", ")));
    }
    let groups = match (data.grouped, data.groups) {
        (0, _) => "no row has a `group` or `source`: if rows come from shared documents or patients, name them so and init again".to_owned(),
        (rows, groups) if groups < FEWEST_GROUPS => {
            format!("{} rows name {groups} different groups, too few to split by: taken for names of corpora", count(rows))
        }
        (rows, groups) => format!("{} rows of {} groups, no group is parted", count(rows), count(groups)),
    };
    comment(
        out,
        0,
        &format!(
            "Split: {} to train, {} to steer, {} to judge; {groups}. The same rows are always split the same way (seed 42).",
            count(written.train),
            count(written.validation),
            count(written.test)
        ),
    );
    let _ = write!(out, "name: {}\n\n", found.name);
}

fn stage(out: &mut String, found: &Found<'_>) {
    let Found { data, choices: c, base, .. } = found;
    let hidden = base.checkpoint.config().hidden_size;
    let (kind, why) = match data.task {
        Task::Text => ("cpt", "the loss is on every token of the documents"),
        Task::Preference => ("dpo", "the better answer is to become likelier than the worse one"),
        _ => ("sft", "the loss is on the answers only"),
    };
    line(out, 1, &format!("- kind: {kind}  # {why}"));
    if data.task == Task::Text && c.has_template {
        comment(
            out,
            2,
            "A chat model that is trained on plain text loses part of its chat habits; the suites `chat` and \
                         `instructions` below show how much.",
        );
    }
    comment(out, 2, "LoRA first: it forgives poor hyperparameters and forgets less (Biderman et al. 2024).");
    line(out, 2, "mode: lora");
    comment(
        out,
        2,
        &format!(
            "The smallest of 16, 32, 64 and 128 whose adapters hold the trained tokens, at 2 bits a weight and 1 bit a token \
         (Allen-Zhu and Li 2024; LoRA Without Regret, 2025). alpha stays at 32: {}.",
            "then rank and learning rate are two knobs"
        ),
    );
    line(out, 2, &format!("lora_rank: {}", c.rank));
    line(out, 2, "lora_alpha: 32");
    line(out, 2, "train: split/train.jsonl");
    line(out, 2, "# data_licence: NAME IT, it goes into the plan, the report and the model card");
    line(out, 2, "validation: split/validation.jsonl  # chooses the best checkpoint");
    let left = if c.too_long == 0 {
        "all of your rows fit".to_owned()
    } else {
        format!(
            "CHECK: {} of your rows are longer and will be left out, none is cut: split them first",
            count(c.too_long)
        )
    };
    comment(out, 2, &format!("The longest row, yours and the general ones, rounded up to 64; at most 2048: {left}."));
    line(out, 2, &format!("max_length: {}", c.max_length));
    if data.task == Task::Preference {
        comment(
            out,
            2,
            "How strongly the model is held to its start: 0.1 in TRL and Amazon Nova Forge; 0.01 to 0.05 lets it go further. \
             General data cannot be mixed in, a stage over pairs takes pairs only: this is what keeps the rest.",
        );
        line(out, 2, "beta: 0.1");
    } else {
        mix(out, data, c);
    }
    comment(
        out,
        2,
        &format!(
            "{} so about {} steps of {} rows: the largest of 32, 16 and 8 that gives at least 60 steps.",
            match (data.task, c.epochs) {
                (Task::Preference, _) => "Two passes (Amazon Nova Forge's recipe for DPO with LoRA);".to_owned(),
                (Task::Text, _) => "One pass over your text (Amazon Nova Forge: at most one for CPT);".to_owned(),
                (_, 1) => "One pass over your rows is enough from 2000 rows on;".to_owned(),
                (_, n) => format!("{n} passes: fewer than 2000 rows are seen too seldom in one;"),
            },
            count(c.steps),
            c.batch
        ),
    );
    line(out, 2, &format!("num_train_epochs: {}", c.epochs));
    line(out, 2, &format!("global_batch_size: {}", c.batch));
    let room = if c.memory as u64 > found.memory.available * 7 / 10 {
        "CHECK: that is more than 70 % of what is free now"
    } else {
        "at most 70 % of what is free"
    };
    comment(
        out,
        2,
        &format!("Tokens computed at once: about {} of memory, {room}. It changes no result.", bytes(c.memory as u64)),
    );
    line(out, 2, &format!("micro_batch_tokens: {}", c.micro_batch_tokens));
    let why = if data.task == Task::Preference {
        "Amazon Nova Forge's recipe for DPO; TRL's default for all weights is a tenth of it. The first knob to turn."
            .to_owned()
    } else {
        format!(
            "5e-4 * (2000 / {hidden}) ^ 0.781: the rule of Thinking Machines for LoRA on Llama models of width {hidden} (Tinker \
             cookbook, 2025){}. The first knob to turn.",
            if data.task == Task::Text { ", halved for plain text as the defaults are" } else { "" }
        )
    };
    comment(out, 2, &why);
    line(out, 2, &format!("learning_rate: {}", rate(c.learning_rate)));
    comment(out, 2, "Down to a tenth; five looks at the validation rows.");
    line(out, 2, "lr_scheduler_type: cosine");
    line(out, 2, &format!("min_lr: {}", rate(c.learning_rate / 10.0)));
    line(out, 2, &format!("eval_steps: {}", c.eval_steps));
}

fn mix(out: &mut String, data: &Data, c: &Choices) {
    let usual = if data.task == Task::Classification { 80 } else { 50 };
    let why = match data.task {
        Task::Classification => "rows, because a label is a few tokens and a general row a hundred".to_owned(),
        _ => "trained tokens, the only unit in which a share of the mix is a share of the loss".to_owned(),
    };
    let share = if c.domain > usual {
        format!(
            "{} % instead of {usual} %: more would repeat the general rows over four times (Muennighoff et al. 2023). CHECK: \
             your data is large for this replay; add general text of your own to keep more",
            c.domain
        )
    } else {
        format!(
            "{usual} %{}",
            if usual == 50 {
                ", the balance point of Amazon Nova Forge"
            } else {
                ", as in the example recipes/icd10.yaml of Temper's repository"
            }
        )
    };
    comment(
        out,
        2,
        &format!(
            "General data against forgetting, beside this recipe with its licences in general/README.md (public domain; `chat` \
         Apache-2.0: answers of SmolLM2-135M-Instruct, the better the nearer your base is to it). Counted in {why}. Yours: {share}."
        ),
    );
    line(out, 2, "mix:");
    line(out, 3, &format!("unit: {}", c.unit));
    line(out, 3, &format!("domain: {}", c.domain));
    line(out, 3, "general:");
    for replay in &c.replay {
        line(out, 4, &format!("- {{name: {0}, path: general/{0}.jsonl, share: {1}}}", replay.name, replay.share));
    }
    if c.domain_loss_weight > 1.0 {
        comment(out, 2, "Weighs the few tokens of an answer up, to about three fifths of the loss.");
        line(out, 2, &format!("domain_loss_weight: {}", c.domain_loss_weight));
    }
}

fn evaluation(out: &mut String, data: &Data, c: &Choices, written: &Written) {
    let half_width = 98.0 / (written.test.max(1) as f64).sqrt();
    match data.task {
        Task::Classification => {
            comment(
                out,
                1,
                &format!(
                    "Accuracy over the labels. {} test rows tell differences of about {half_width:.0} points (95 %, at worst); more \
                 rows tell finer ones.",
                    count(written.test)
                ),
            );
            line(out, 1, "domain:");
            line(out, 2, "task: classification");
            line(out, 2, "validation: split/validation.jsonl");
            line(out, 2, "test: split/test.jsonl");
            let labels: Vec<String> = data.labels.iter().map(|(label, _)| scalar(label)).collect();
            flow_list(out, 2, "labels", &labels);
            let few: Vec<String> = data
                .labels
                .iter()
                .filter(|(_, rows)| *rows < 20)
                .map(|(label, rows)| format!("{label} ({rows})"))
                .collect();
            if !few.is_empty() {
                comment(out, 2, &format!("CHECK: labels with fewer than 20 rows: {}.", few.join(", ")));
            }
        }
        Task::Chat => comment(
            out,
            1,
            "`domain` is left out: this version scores labels only, and your answers are free. What the model learns of your \
             data shows in the validation loss of the stage; the general axis is judged as always. split/test.jsonl is held \
             out and read by nothing yet: look at answers to it with `temper generate --file`.",
        ),
        Task::Preference => comment(
            out,
            1,
            "`domain` is left out: what is learned of the pairs shows in the rewards and the accuracy of the validation pairs, \
             while training and in the report. split/test.jsonl is held out and read by nothing yet.",
        ),
        Task::Text => comment(
            out,
            1,
            "`domain` is left out: this version scores labels only. What the model learns of your text is the suite \
             `own-text`, the loss on held-out documents of yours, without a floor.",
        ),
    }
    comment(out, 1, "English suites, base and tuned on the same items; licences in general/README.md.");
    line(out, 1, "general:");
    if data.task == Task::Text {
        line(out, 2, "- {name: own-text, kind: text_loss, path: split/test.jsonl}");
    }
    line(out, 2, "- {name: heldout, kind: text_loss, path: general/heldout.jsonl}");
    line(out, 2, "- {name: wordnet, kind: multiple_choice, path: general/wordnet.jsonl}");
    if c.has_template {
        line(out, 2, "- {name: chat, kind: chat_kl, path: general/chat_prompts.jsonl, max_new_tokens: 32}");
        line(
            out,
            2,
            "- {name: instructions, kind: instruction_following, path: general/instructions.jsonl, max_new_tokens: 48}",
        );
    }
    comment(
        out,
        1,
        "Floors: how much may be lost, judged at the bad end of the 95 % interval. 2 % of the held-out loss: what forgets rises \
         by ten times that. 6 points of multiple choice: twice the half-width of 800 items, so that a model that lost nothing \
         is called kept. `chat` and `instructions` are shown without a floor: too few items to decide one.",
    );
    line(out, 1, "floors:");
    line(out, 2, "heldout: {max_increase_percent: 2}");
    line(out, 2, "wordnet: {max_drop_points: 6}");
}

fn line(out: &mut String, depth: usize, text: &str) {
    let _ = writeln!(out, "{:indent$}{text}", "", indent = 2 * depth);
}

/// A comment, folded at [`WIDTH`].
fn comment(out: &mut String, depth: usize, text: &str) {
    let mut current = String::new();
    for word in text.split_whitespace() {
        if !current.is_empty() && current.chars().count() + word.chars().count() + 2 * depth + 3 > WIDTH {
            line(out, depth, &format!("# {current}"));
            current.clear();
        }
        if !current.is_empty() {
            current.push(' ');
        }
        current.push_str(word);
    }
    line(out, depth, &format!("# {current}"));
}

/// `key: [a, b, ...]`, folded.
fn flow_list(out: &mut String, depth: usize, key: &str, items: &[String]) {
    let mut current = format!("{key}: [");
    let hang = current.chars().count();
    for (i, item) in items.iter().enumerate() {
        let piece = if i + 1 < items.len() { format!("{item},") } else { format!("{item}]") };
        let full = current.chars().count() + piece.chars().count() + 2 * depth + 1 > WIDTH;
        if full && i > 0 {
            line(out, depth, current.trim_end());
            current = " ".repeat(hang);
        }
        current.push_str(&piece);
        current.push(' ');
    }
    line(out, depth, current.trim_end());
}

/// Text as a YAML scalar: plain where that cannot be anything else, else in double quotes, whose escapes are JSON's.
pub fn scalar(text: &str) -> String {
    let word = text.chars().next().is_some_and(|c| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/'))
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&text.to_lowercase().as_str());
    if word { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

/// A rate in the way people write it: 1.3e-3.
fn rate(value: f64) -> String {
    let text = format!("{value:.1e}");
    text.replace(".0e", "e")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_read_back_as_the_text_they_are() {
        assert_eq!(scalar("Neoplasm"), "Neoplasm");
        assert_eq!(
            [scalar("no"), scalar("a: b"), scalar("12"), scalar("it's \"x\"")],
            ["\"no\"", "\"a: b\"", "\"12\"", "\"it's \\\"x\\\"\""]
        );
        assert_eq!([rate(1.3e-3), rate(2e-4)], ["1.3e-3", "2e-4"]);
    }
}
