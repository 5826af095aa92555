//! The numbers of the recipe, each with its reason.

use temper_data::{ReadOptions, RowKind, Source, parse_rows, prepare};
use temper_kernels::Cpu;
use temper_model::{LINEAR_MODULES, LoraSettings, Purpose, Tuning};
use temper_pipeline::{BATCH_TOKENS, Base, PipelineError, training_memory};
use temper_train::OptimizerSettings;

use super::look::Data;
use super::{Task, general};
use crate::command::Failure;
use crate::machine::Memory;

/// The longest row that is proposed: longer ones cost memory in every layer.
const LONGEST: usize = 2048;
/// How often general rows may be repeated: up to four passes are nearly as good as fresh text (Muennighoff et al. 2023).
const REPEATS: f64 = 4.0;

/// One source of replay.
pub struct Replay {
    pub name: &'static str,
    pub file: &'static general::File,
    pub share: usize,
    pub rows: usize,
    /// Trained tokens of all its rows.
    pub trained: usize,
}

/// What the recipe says.
pub struct Choices {
    pub has_template: bool,
    pub max_length: usize,
    /// Rows of the user's that are longer.
    pub too_long: usize,
    pub replay: Vec<Replay>,
    /// `samples` or `trained_tokens`.
    pub unit: &'static str,
    /// Percent.
    pub domain: usize,
    pub domain_loss_weight: f64,
    pub epochs: usize,
    pub batch: usize,
    /// About so many steps.
    pub steps: usize,
    pub eval_steps: usize,
    pub rank: usize,
    pub learning_rate: f64,
    pub micro_batch_tokens: usize,
    /// Bytes of training at these settings.
    pub memory: usize,
    /// Rows wanted for validation and test.
    pub validation: usize,
    pub test: usize,
    /// Tokens of a row that the judgement can still score.
    pub judged_tokens: usize,
}

pub fn choose(data: &Data, base: &Base, device: &Cpu, memory: Memory) -> Result<Choices, Failure> {
    let config = base.checkpoint.config();
    let has_template = base.renderer.check_template().is_ok();
    let n = data.rows.len();
    let (test, validation) = ((n * 15 / 100).clamp(5, 1000), (n / 10).clamp(4, 300));
    let train = n.saturating_sub(test + validation).max(1);

    // A stage over pairs is mixed with pairs only, and there are no general ones; continued pretraining takes plain text only;
    // conversations need a template.
    let files = match data.task {
        Task::Preference => vec![],
        Task::Classification | Task::Chat if has_template => vec![("prose", &general::PROSE), ("chat", &general::CHAT)],
        Task::Classification | Task::Chat | Task::Text => vec![("prose", &general::PROSE)],
    };
    let sources = files.iter().map(|(_, file)| read(file, base)).collect::<Result<Vec<Source>, Failure>>()?;
    let replay: Vec<Replay> = files
        .iter()
        .zip(&sources)
        .map(|((name, file), source)| Replay {
            name,
            file,
            share: 100 / files.len(),
            rows: source.report.kept,
            trained: source.report.trained_tokens,
        })
        .collect();

    let longest = sources.iter().map(|s| s.report.lengths.max).max().unwrap_or(0).max(data.lengths.max);
    let most = LONGEST.min(config.max_position_embeddings);
    let max_length = longest.next_multiple_of(64).clamp(64.min(most), most);
    let too_long = data.rows.iter().filter(|seen| seen.tokens > max_length).count();
    let kept = data.rows.iter().filter(|seen| (1..=max_length).contains(&seen.tokens));
    let share = train as f64 / n as f64;
    let trained = (kept.map(|seen| seen.trained).sum::<usize>() as f64 * share).max(1.0);
    let per_row = trained / train as f64;
    let general_per_row = replay.iter().map(|r| r.trained as f64 / r.rows as f64 / replay.len() as f64).sum::<f64>();

    let epochs = match (data.task, train) {
        (Task::Preference, _) => 2,
        (Task::Text, _) | (_, 2000..) => 1,
        (_, 500..) => 2,
        _ => 3,
    };
    // The part of the mix that general data can fill without being repeated more than four times. Sources share it in
    // equal parts, so the smallest bounds it.
    let bounded =
        |size: fn(&Replay) -> usize| replay.iter().map(size).min().unwrap_or(0) as f64 * replay.len() as f64 * REPEATS;
    let (unit, usual, seen, available) = match data.task {
        Task::Classification => ("samples", 80.0, (train * epochs) as f64, bounded(|r| r.rows)),
        Task::Chat | Task::Text | Task::Preference => {
            ("trained_tokens", 50.0, trained * epochs as f64, bounded(|r| r.trained))
        }
    };
    let domain = (100.0 * seen / (seen + available)).ceil().clamp(usual, 99.0);
    // Rows of the domain among all rows of a step.
    let domain_rows = match data.task {
        Task::Classification => domain / 100.0,
        Task::Preference => 1.0,
        Task::Chat | Task::Text => {
            let (own, other) = (domain / per_row, (100.0 - domain) / general_per_row);
            own / (own + other)
        }
    };
    // A label is a few tokens beside a hundred of a general row; three fifths of the loss for the domain.
    let domain_loss_weight = if data.task == Task::Classification {
        let other = (1.0 - domain_rows) * general_per_row;
        (1.5 * other / (domain_rows * per_row)).round().clamp(1.0, 20.0)
    } else {
        1.0
    };
    let steps_of = |batch: usize| ((train * epochs) as f64 / (batch as f64 * domain_rows)).ceil() as usize;
    let batch = [32, 16].into_iter().find(|&batch| steps_of(batch) >= 60).unwrap_or(8);
    let steps = steps_of(batch).max(1);

    let tuning = |rank: usize| Tuning::Lora(LoraSettings::new(rank, 32.0, LINEAR_MODULES.map(str::to_owned).to_vec()));
    let ranks = [16, 32, 64, 128];
    let holds = |rank: &usize| 2.0 * tuning(*rank).numbers(config) as f64 >= trained;
    let rank = ranks.into_iter().find(holds).unwrap_or(128);
    let rule =
        5e-4 * (2000.0 / config.hidden_size as f64).powf(0.781) * if data.task == Task::Text { 0.5 } else { 1.0 };
    let rate = if data.task == Task::Preference { 1e-5 } else { rule };
    let magnitude = 10f64.powf(rate.log10().floor() - 1.0);
    let learning_rate = (rate / magnitude).round() * magnitude;

    let adamw = OptimizerSettings::default();
    // The longest pair: two answers.
    let least = if data.task == Task::Preference { 2 * max_length } else { max_length };
    let takes = |tokens: usize| training_memory(device, config, (&tuning(rank), Purpose::Train), &adamw, tokens);
    let roomy = least.max(1024);
    let fits = |tokens: usize| takes(tokens) as f64 <= 0.7 * memory.available as f64;
    let micro_batch_tokens = if fits(roomy) { roomy } else { least };
    // Of a classification the trie of labels stands beside the row.
    let label_tokens = |label: &str| base.renderer.tokenizer().encode(label, temper_text::Specials::AsText).len() + 1;
    let labels: usize = data.labels.iter().map(|(label, _)| label_tokens(label)).sum();
    Ok(Choices {
        has_template,
        max_length,
        too_long,
        replay,
        unit,
        domain: domain as usize,
        domain_loss_weight,
        epochs,
        batch,
        steps,
        eval_steps: (steps / 5).max(5),
        rank,
        learning_rate,
        micro_batch_tokens,
        memory: takes(micro_batch_tokens),
        validation,
        test,
        judged_tokens: if data.kind == RowKind::Messages || data.task != Task::Chat {
            BATCH_TOKENS.saturating_sub(labels + 8)
        } else {
            usize::MAX
        },
    })
}

fn read(file: &general::File, base: &Base) -> Result<Source, Failure> {
    let read = || {
        let rows = parse_rows(std::path::Path::new(file.name), file.content.as_bytes(), &ReadOptions::default())?;
        prepare(&rows, &base.renderer, usize::MAX, file.name, 1.0)
    };
    read().map_err(|error| Failure::from(PipelineError::from(error)))
}
