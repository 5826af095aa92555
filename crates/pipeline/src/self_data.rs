//! General data that the base writes itself (`path: self`): its answers to prompts, filtered, before any training.
//!
//! What is written is a function of base, tokenizer, prompts, settings and seed, and is cached as `self/KEY.jsonl` in the
//! cache folder, KEY being their hash. The filters are applied anew each time: they also depend on the recipe's evaluation
//! files, and cost nothing beside the writing. Line numbers in reports are those of `self/KEY.jsonl`.
//!
//! Prompts are answered in parts of [`PART`], each by itself, so that it does not depend on what was answered before. While
//! the base writes, `self/KEY.part.jsonl` holds the parts that are done: a process that ends in the middle loses at most the
//! part at hand, and the next one gives the bytes that the first would have given.

mod filter;
mod prompts;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;
use temper_data::{DropReason, Dropped, Format, LoadedRows, Row, RowContent, RowKind, Source, prepare};
use temper_kernels::Cpu;
use temper_model::{Finish, Llama, Sampling, Tuning, default_cache_dir, generate};
use temper_recipe::{GeneralSource, Recipe, SelfData};
use temper_run::{JsonLog, Random, sha256_bytes, write_atomic};
use temper_text::{Conversation, Message};

use crate::checkpoints::io;
use crate::files::Files;
use crate::identity::{Input, NUMERICS, tokenizer_sha256};
use crate::plan::base_licence;
use crate::run::Event;
use crate::{Base, PipelineError};
use filter::Filter;
use prompts::{Prompt, prompts};

/// Part of `max_new_tokens` that a plan takes a kept answer to be long while nothing is written yet: a guess, which the plan
/// says. Those of the example were 50 tokens of 128 in the mean.
pub(crate) const KEPT_LENGTH: f64 = 0.4;
/// The same for all answers, by which the time is told: 81 of 128 in the example, as two fifths went to the limit.
const WRITTEN_LENGTH: f64 = 0.65;
/// Prompts that are answered together and kept together: a smaller part loses less when the process ends, and takes longer.
/// The example's 512 in parts of 128 took 3 % more CPU time than in one, and gave the same bytes.
const PART: usize = 128;

/// What the base wrote for one source, or is going to write.
#[derive(Clone, Debug, Serialize)]
pub struct SelfReport {
    /// Where the recipe names it: `stages.0.mix.general.0.path`.
    pub setting: String,
    /// The file of all rows as they were written.
    pub path: PathBuf,
    /// Whether it is there. If not, all counts below are of prompts, and lengths are assumed.
    pub written: bool,
    /// Rows written, or prompts that will be answered.
    pub rows: usize,
    /// Rows that passed the filters.
    pub kept: usize,
    /// Rows dropped by the filters. `rows` = `kept` + all of these.
    pub dropped: BTreeMap<DropReason, usize>,
    /// Rows and kept rows of each category.
    pub categories: BTreeMap<String, (usize, usize)>,
    /// Tokens of all prompts.
    pub prompt_tokens: usize,
    /// Tokens of all answers, counted or assumed.
    pub answer_tokens: usize,
}

impl SelfReport {
    /// Tokens of prompts to read and of answers to write.
    pub(crate) fn to_write(&self) -> (usize, usize) {
        if self.written { (0, 0) } else { (self.prompt_tokens, self.answer_tokens) }
    }
}

/// The rows of one source.
pub(crate) struct OwnRows {
    pub report: SelfReport,
    pub source: Source,
    /// As the recipe declares it.
    licence: Option<String>,
    /// Kept rows, as the run folder's `self.jsonl` holds them; empty while nothing is written.
    pub kept: String,
    /// Dropped rows, each with its reason and its line.
    pub dropped: String,
}

/// One line of the file that was written: a conversation, the base's answer last.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    messages: Vec<Message>,
    category: String,
    finish: String,
}

/// A row as it was written.
struct Written {
    /// Its line, from 1.
    line: usize,
    messages: Vec<Message>,
    category: String,
    /// Whether the base ended its turn itself.
    finished: bool,
}

impl Written {
    fn answer(&self) -> &str {
        self.messages.last().map_or("", |message| &message.content)
    }

    /// The turns before the answer.
    fn asked(&self) -> impl Iterator<Item = &Message> {
        self.messages.iter().take(self.messages.len().saturating_sub(1))
    }
}

/// What writing needs besides the source itself.
pub(crate) struct Writer<'a> {
    pub recipe: &'a Recipe,
    pub base: &'a Base,
    pub device: Cpu,
    /// Whether rows that are not cached are written now; if not, a plan is made of the prompts.
    pub write: bool,
    /// The files of the recipe's rows.
    pub files: &'a Files,
    pub on_event: &'a mut dyn FnMut(&Event),
}

impl Writer<'_> {
    /// The rows of `source`: from the cache, or written now.
    pub fn rows(
        &mut self,
        source: &GeneralSource,
        settings: &SelfData,
        max_length: usize,
    ) -> Result<OwnRows, PipelineError> {
        let (setting, renderer) = (&source.path.path, &self.base.renderer);
        let unfit = |problem: String, hint: &str| PipelineError::Unfit {
            path: setting.clone(),
            problem,
            hint: hint.to_owned(),
        };
        renderer.check_template().map_err(|error| {
            unfit(
                format!("the base answers prompts, and {error}"),
                "take a base that was trained to chat, or a file of rows",
            )
        })?;
        let own = settings.prompts.as_ref().map(|path| path.value.as_path());
        let prompts = prompts(settings.rows.value as usize, own, self.recipe.seed.value)?;
        let max_new_tokens = settings.max_new_tokens.value as usize;
        let context = self.base.checkpoint.config().max_position_embeddings;
        let mut ids = Vec::new();
        for prompt in &prompts {
            let tokens = renderer.prompt(&prompt.messages)?;
            if tokens.len() + max_new_tokens > context {
                let start: String = prompt.messages.iter().flat_map(|m| m.content.chars()).take(60).collect();
                let problem = format!(
                    "the prompt `{start}...` has {} tokens, which with {max_new_tokens} new ones exceed the base's {context} positions",
                    tokens.len()
                );
                return Err(unfit(problem, "lower max_new_tokens, or shorten the prompt"));
            }
            ids.push(tokens);
        }

        let key = json!({
            "numerics": NUMERICS,
            "base": self.base.resolved.sha256s.iter().map(|(_, hash)| hash).collect::<Vec<_>>(),
            "tokenizer": tokenizer_sha256(self.base),
            "precision": self.recipe.precision.value,
            "prompts": prompts,
            "max_new_tokens": max_new_tokens,
            "temperature": settings.temperature.value,
            "seed": self.recipe.seed.value,
            "part": PART,
        });
        // Rows do not depend on the machine's instructions but in last bits that may tip a draw: rows written elsewhere are
        // the base's own all the same, and what is trained on is known by the hash of its content.
        let key = sha256_bytes(key.to_string().as_bytes());
        let folder = default_cache_dir().unwrap_or_else(|| PathBuf::from(".temper-cache")).join("self");
        let path = folder.join(format!("{key}.jsonl"));
        let prompt_tokens = ids.iter().map(Vec::len).sum();
        if !path.is_file() {
            if !self.write {
                return self.assumed(source, &prompts, path, prompt_tokens, settings, max_length);
            }
            std::fs::create_dir_all(&folder).map_err(io("create", &folder))?;
            let unfinished = folder.join(format!("{key}.part.jsonl"));
            let (new, temperature) = (max_new_tokens, settings.temperature.value as f32);
            let text = self.answer(&prompts, &ids, new, temperature, &unfinished)?;
            write_atomic(&path, text.as_bytes())?;
            // Where it stays it is in nobody's way: what is whole is looked for first.
            let _ = std::fs::remove_file(&unfinished);
        }
        self.filtered(source, path, prompt_tokens, max_length)
    }

    /// The base's answers as lines of JSON, part by part: those in `unfinished` are taken, new ones added to it.
    fn answer(
        &mut self,
        prompts: &[Prompt],
        ids: &[Vec<u32>],
        max_new_tokens: usize,
        temperature: f32,
        unfinished: &Path,
    ) -> Result<String, PipelineError> {
        let mut text = whole_parts(unfinished, prompts);
        let mut log = JsonLog::resume(unfinished, Some(text.len() as u64))?;
        let mut done = text.lines().count();
        (self.on_event)(&Event::Writing { done, of: prompts.len() });
        if done == prompts.len() {
            return Ok(text);
        }
        let (checkpoint, renderer) = (&self.base.checkpoint, &self.base.renderer);
        let read = |name: &str, shape: &[usize]| checkpoint.stored(name, shape);
        let model = Llama::load(self.device, checkpoint.config(), &Tuning::Frozen, read)?;
        let seeds = Random::new(self.recipe.seed.value, "self parts");
        let stops = renderer.stop_ids();
        for part in done / PART..prompts.len().div_ceil(PART) {
            let range = part * PART..prompts.len().min((part + 1) * PART);
            // Draws go by the place in the part.
            let sampling = Sampling { temperature, top_k: 0, top_p: 1.0, seed: seeds.bits(part as u64) };
            let asked = &ids[range.clone()];
            let answers = generate(&model, false, asked, max_new_tokens, &stops, &sampling, &mut |_, _, end| {
                if end.is_some() {
                    done += 1;
                    (self.on_event)(&Event::Writing { done, of: prompts.len() });
                }
                ControlFlow::Continue(())
            })?;
            for (prompt, answer) in prompts[range].iter().zip(answers) {
                let ids = match answer.finish {
                    Finish::Stop => &answer.ids[..answer.ids.len() - 1],
                    Finish::Length | Finish::Cancelled => &answer.ids,
                };
                let mut messages = prompt.messages.clone();
                messages.push(Message::new("assistant", renderer.tokenizer().decode(ids, false).trim()));
                let row = json!({"messages": messages, "category": prompt.category, "finish": answer.finish});
                log.append(&row)?;
                text.push_str(&format!("{row}\n"));
            }
            log.sync()?;
        }
        Ok(text)
    }

    /// Reads what was written, filters it, and makes a source of what is kept.
    fn filtered(
        &self,
        source: &GeneralSource,
        path: PathBuf,
        prompt_tokens: usize,
        max_length: usize,
    ) -> Result<OwnRows, PipelineError> {
        let text = std::fs::read_to_string(&path).map_err(io("read", &path))?;
        let mut rows = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let Line { messages, category, finish } =
                serde_json::from_str(line).map_err(|error| PipelineError::Unfit {
                    path: format!("{}:{}", path.display(), index + 1),
                    problem: format!("damaged: {error}"),
                    hint: "remove the file; it is written again".to_owned(),
                })?;
            rows.push(Written { line: index + 1, messages, category, finished: finish == "stop" });
        }
        let tokenizer = self.base.renderer.tokenizer();
        let judged = evaluation_files(self.recipe, self.files);
        let judged: Vec<&Path> = judged.iter().map(PathBuf::as_path).collect();
        let mut filter = Filter::new(tokenizer, &rows, &judged)?;
        let mut reasons: BTreeMap<DropReason, Dropped> = BTreeMap::new();
        let mut categories: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        let (mut kept, mut dropped, mut trained, mut answer_tokens) = (String::new(), String::new(), Vec::new(), 0);
        for (row, line) in rows.iter().zip(text.lines()) {
            answer_tokens += tokenizer.encode(row.answer(), temper_text::Specials::AsText).len();
            let category = categories.entry(row.category.clone()).or_default();
            category.0 += 1;
            match filter.reason(row) {
                None => {
                    category.1 += 1;
                    kept.push_str(line);
                    kept.push('\n');
                    let content = RowContent::Messages(Conversation::new(row.messages.clone()));
                    trained.push(Row { line: row.line, content, id: None, group: None, label: None, quality: None });
                }
                Some(reason) => {
                    reasons.entry(reason).or_default().add(row.line, 0);
                    let row = json!({"dropped": reason, "line": row.line, "messages": row.messages, "category": row.category});
                    dropped.push_str(&format!("{row}\n"));
                }
            }
        }
        let counts: BTreeMap<DropReason, usize> = reasons.iter().map(|(reason, d)| (*reason, d.count)).collect();
        if trained.is_empty() {
            let counts: Vec<String> = counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
            return Err(PipelineError::Unfit {
                path: source.path.path.clone(),
                problem: format!(
                    "the filters kept none of the {} rows that the base wrote: {}",
                    rows.len(),
                    counts.join(", ")
                ),
                hint: format!(
                    "look at {}; raise max_new_tokens if answers are long, or lower temperature",
                    path.display()
                ),
            });
        }
        let report = SelfReport {
            setting: source.path.path.clone(),
            path: path.clone(),
            written: true,
            rows: rows.len(),
            kept: trained.len(),
            dropped: counts,
            categories,
            prompt_tokens,
            answer_tokens,
        };
        let licence = source.licence.as_ref().map(|licence| licence.value.clone());
        let mut source = self.source(source, path, trained, max_length)?;
        source.report.rows = rows.len();
        source.report.dropped.extend(reasons);
        Ok(OwnRows { report, source, licence, kept, dropped })
    }

    /// What a plan shows while nothing is written: the prompts, with answers of an assumed length.
    fn assumed(
        &self,
        source: &GeneralSource,
        prompts: &[Prompt],
        path: PathBuf,
        prompt_tokens: usize,
        settings: &SelfData,
        max_length: usize,
    ) -> Result<OwnRows, PipelineError> {
        let length = |part: f64| ((settings.max_new_tokens.value as f64 * part) as usize).max(1);
        let answer = vec!["a"; length(KEPT_LENGTH)].join(" ");
        let mut categories: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        let mut rows = Vec::new();
        for (index, prompt) in prompts.iter().enumerate() {
            let category = categories.entry(prompt.category.clone()).or_default();
            *category = (category.0 + 1, category.1 + 1);
            let mut messages = prompt.messages.clone();
            messages.push(Message::new("assistant", answer.clone()));
            let content = RowContent::Messages(Conversation::new(messages));
            rows.push(Row { line: index + 1, content, id: None, group: None, label: None, quality: None });
        }
        let report = SelfReport {
            setting: source.path.path.clone(),
            path: path.clone(),
            written: false,
            rows: prompts.len(),
            kept: prompts.len(),
            dropped: BTreeMap::new(),
            categories,
            prompt_tokens,
            answer_tokens: length(WRITTEN_LENGTH) * prompts.len(),
        };
        let source = self.source(source, path, rows, max_length)?;
        Ok(OwnRows { report, source, licence: None, kept: String::new(), dropped: String::new() })
    }

    fn source(
        &self,
        source: &GeneralSource,
        path: PathBuf,
        rows: Vec<Row>,
        max_length: usize,
    ) -> Result<Source, PipelineError> {
        let loaded = LoadedRows {
            path,
            format: Format::Messages,
            kind: RowKind::Messages,
            rows,
            ignored_fields: BTreeMap::new(),
        };
        Ok(prepare(&loaded, &self.base.renderer, max_length, &source.name.value, source.loss_weight.value as f32)?)
    }
}

impl OwnRows {
    /// The run folder's file of the kept rows of the `index`-th source.
    pub fn file_name(index: usize) -> String {
        if index == 0 { "self.jsonl".to_owned() } else { format!("self-{}.jsonl", index + 1) }
    }

    /// The run folder's file of the dropped rows.
    pub fn dropped_name(index: usize) -> String {
        Self::file_name(index).replace(".jsonl", ".dropped.jsonl")
    }

    /// What a run reads of it: the kept rows, which the run folder holds as `file`. Unless the recipe says otherwise, they
    /// have the licence of the base that wrote them.
    pub fn input(&self, file: PathBuf, base: &Base) -> Input {
        let of_base = base_licence(base.resolved.licence.as_deref(), base.checkpoint.licence().as_deref());
        let licence = self.licence.clone().or(of_base);
        let sha256 = sha256_bytes(self.kept.as_bytes());
        Input {
            setting: self.report.setting.clone(),
            path: file,
            bytes: self.kept.len() as u64,
            sha256,
            trained: true,
            licence,
        }
    }
}

/// The whole parts at the start of a file that was being written: answers to these prompts, in their order.
fn whole_parts(unfinished: &Path, prompts: &[Prompt]) -> String {
    let text = std::fs::read_to_string(unfinished).unwrap_or_default();
    let answers = |(line, prompt): &(&str, &Prompt)| {
        let row: Option<Line> = line.strip_suffix('\n').and_then(|line| serde_json::from_str(line).ok());
        row.is_some_and(|row| {
            let asked = row.messages.split_last().map_or(&[][..], |(_, asked)| asked);
            asked == prompt.messages && row.category == prompt.category
        })
    };
    let good = text.split_inclusive('\n').zip(prompts).take_while(answers).count();
    let whole = if good == prompts.len() { good } else { good / PART * PART };
    text.split_inclusive('\n').take(whole).collect()
}

/// Every file by which the recipe's model is judged or chosen.
fn evaluation_files(recipe: &Recipe, found: &Files) -> Vec<PathBuf> {
    let validations = recipe.stages.iter().filter_map(|stage| stage.validation.as_ref());
    let mut files: Vec<PathBuf> = validations.flat_map(|files| found.of(&files.value.path).to_vec()).collect();
    if let Some(evaluation) = &recipe.evaluation {
        files.extend(evaluation.domain.iter().flat_map(|d| [d.validation.value.clone(), d.test.value.clone()]));
        files.extend(evaluation.general.iter().map(|suite| suite.path.value.clone()));
    }
    files.sort();
    files.dedup();
    files
}
