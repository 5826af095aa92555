//! The user's task of an `evaluation`: its items, and what a model makes of them.

use std::path::Path;

use serde_json::{Value, json};
use temper_data::{ReadOptions, RowContent, Task, load_rows};
use temper_eval::compare::{Rewarded, Scores};
use temper_eval::items::{self, ClassificationItem};
use temper_eval::record::{self, ItemRecord};
use temper_eval::suite::Bench;
use temper_kernels::Cpu;
use temper_model::Sampling;
use temper_recipe::{DomainEvaluation, Recipe, Reward};
use temper_reward::Rewards;
use temper_run::sha256_file;
use temper_text::{Conversation, Renderer};

use crate::PipelineError;
use crate::rft::{Asked, Prompt, Sampler};

/// A prompt whose likeliest answer is scored.
pub(crate) struct TaskItem {
    pub line: usize,
    pub group: Option<String>,
    conversation: Conversation,
    prompt: Prompt,
}

/// The items of the user's task.
pub(crate) enum Domain {
    Classification(Vec<ClassificationItem>),
    Rewarded(Vec<TaskItem>),
}

/// What scores the answers of a task: the evaluation's own rewards, or those of the last stage that reinforces.
pub(crate) fn rewards<'r>(recipe: &'r Recipe, domain: &'r DomainEvaluation) -> Result<&'r [Reward], PipelineError> {
    if !domain.rewards.is_empty() {
        return Ok(&domain.rewards);
    }
    let stage = recipe.stages.iter().rev().find(|stage| !stage.rewards.is_empty());
    stage.map(|stage| &stage.rewards[..]).ok_or_else(|| PipelineError::Unfit {
        path: domain.task.path.clone(),
        problem: "nothing says what an answer earns".to_owned(),
        hint: "give `evaluation.domain.rewards`: docs/rewards.md".to_owned(),
    })
}

/// What its scores depend on besides the model and the rows.
pub(crate) fn asked(recipe: &Recipe, domain: &DomainEvaluation) -> Result<Value, PipelineError> {
    if domain.labels.is_some() {
        return Ok(json!(domain.labels()));
    }
    let rewards = rewards(recipe, domain)?;
    let mut files = Vec::new();
    for (_, path) in rewards.iter().flat_map(Reward::files) {
        files.push(sha256_file(path)?);
    }
    // Where they stand in the recipe is no part of what they say.
    let at = rewards.first().map_or("", |first| first.name.path.trim_end_matches("0.name"));
    let settings = recipe.settings().into_iter().filter(|setting| !at.is_empty() && setting.path.starts_with(at));
    let settings: Vec<Value> = settings.map(|setting| json!([&setting.path[at.len()..], setting.value])).collect();
    let most = domain.max_new_tokens.as_ref().map(|most| most.value);
    let success = domain.success_threshold.as_ref().map(|success| success.value);
    Ok(json!({"rewards": settings, "files": files, "max_new_tokens": most, "success": success}))
}

impl Domain {
    pub fn read(domain: &DomainEvaluation, file: &Path) -> Result<Self, PipelineError> {
        if domain.labels.is_some() {
            return Ok(Self::Classification(items::read_classification(file, domain.labels())?));
        }
        let loaded = load_rows(file, &ReadOptions::default())?;
        let mut items = Vec::new();
        for row in loaded.rows {
            let RowContent::Task(Task { .. }) = &row.content else {
                return Err(PipelineError::Unfit {
                    path: domain.task.path.clone(),
                    problem: format!("{}: line {} is no prompt with a reference answer", file.display(), row.line),
                    hint: "rows as for a stage of rft: `messages` that end in a user turn, and `reference_answer`"
                        .to_owned(),
                });
            };
            let RowContent::Task(task) = row.content else { continue };
            let id = row.id.unwrap_or_else(|| row.line.to_string());
            let prompt = Prompt { id, row: task.fields() };
            items.push(TaskItem { line: row.line, group: row.group, conversation: task.prompt, prompt });
        }
        Ok(Self::Rewarded(items))
    }

    /// Of each item, what it shares with others.
    pub fn groups(&self) -> Vec<Option<&str>> {
        match self {
            Self::Classification(items) => items.iter().map(|item| item.group.as_deref()).collect(),
            Self::Rewarded(items) => items.iter().map(|item| item.group.as_deref()).collect(),
        }
    }

    /// The prompts' tokens.
    pub fn prompts(&self, renderer: &Renderer) -> Result<Vec<Vec<u32>>, PipelineError> {
        match self {
            Self::Classification(items) => items.iter().map(|item| Ok(renderer.prompt(&item.prompt[..])?)).collect(),
            Self::Rewarded(items) => items.iter().map(|item| Ok(renderer.prompt(&item.conversation)?)).collect(),
        }
    }

    /// What a model makes of them; `tell` hears of the suite, items done and items in all.
    pub fn score(
        &self,
        (recipe, domain): (&Recipe, &DomainEvaluation),
        bench: &Bench<'_, Cpu>,
        tell: &mut dyn FnMut(&str, usize, usize),
    ) -> Result<Scores, PipelineError> {
        match self {
            Self::Classification(items) => {
                let labels = domain.labels();
                let scored = bench.classify(items, labels, &mut |done, total| tell("domain", done, total))?;
                let mut heard = |done, total| tell("domain, written", done, total);
                let written = Some(bench.exact_match(items, labels, &mut heard)?);
                Ok(Scores::Classification { labels: labels.len(), items: scored, written })
            }
            Self::Rewarded(items) => {
                let folder =
                    tempfile::tempdir().map_err(crate::checkpoints::io("create a folder in", &std::env::temp_dir()))?;
                let rewards = Rewards::open(rewards(recipe, domain)?, recipe.seed.value, folder.path())?;
                let longest = domain.max_new_tokens.as_ref().map_or(0, |most| most.value as usize);
                let success = domain.success_threshold.as_ref().map_or(1.0, |success| success.value);
                let (model, renderer, adapter) = (bench.side.model, bench.renderer, bench.side.adapter);
                let sampler = Sampler { model, adapter, renderer, rewards: &rewards, longest, buffer: 0, penalty: 0.0 };
                let ids = self.prompts(renderer)?;
                let asked: Vec<Asked<'_>> =
                    ids.iter().zip(items).map(|(ids, item)| Asked { ids, prompt: &item.prompt }).collect();
                let mut heard = |done, total| tell("domain", done, total);
                let sampled = sampler.sample(&asked, 1, &Sampling::GREEDY, |_, _| 0, &mut heard)?;
                let rewarded = sampled.groups.into_iter().flatten().map(|completion| Rewarded {
                    right: completion.reward.is_some_and(|reward| reward >= success),
                    reward: completion.reward,
                    answer: completion.text,
                });
                Ok(Scores::Rewarded { items: rewarded.collect() })
            }
        }
    }

    /// What became of each item; nothing of scores of another kind.
    pub fn records(&self, domain: &DomainEvaluation, base: &Scores, tuned: &Scores) -> Vec<ItemRecord> {
        match (self, base, tuned) {
            (
                Self::Classification(items),
                Scores::Classification { items: base, written: Some(base_written), .. },
                Scores::Classification { items: tuned, written: Some(tuned_written), .. },
            ) => {
                record::classification("domain", items, domain.labels(), [(base, base_written), (tuned, tuned_written)])
            }
            (Self::Rewarded(items), Scores::Rewarded { items: base }, Scores::Rewarded { items: tuned }) => {
                let prompt = |item: &TaskItem| (item.line, item.prompt.question().to_owned(), item.prompt.answer());
                record::rewarded("domain", &items.iter().map(prompt).collect::<Vec<_>>(), base, tuned)
            }
            _ => Vec::new(),
        }
    }
}
