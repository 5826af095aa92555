//! What the judgement computes, counted.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use temper_eval::items;
use temper_eval::trie::Trie;
use temper_kernels::Cpu;
use temper_model::{Beginnings, LlamaConfig, Purpose, Workspace};
use temper_recipe::SuiteKind;
use temper_text::{Message, Specials};

use super::{PASS_TOKENS, PLACES};
use crate::PipelineError;
use crate::domain::Domain;
use crate::identity::hashes_of;
use crate::judge::BATCH_TOKENS;
use crate::prepare::Prepared;

/// What a judgement, or a side of it, computes.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Judging {
    /// Tokens forward.
    pub tokens: usize,
    /// Rows through the head.
    pub rows: usize,
    /// Steps of decoding.
    pub decode_steps: usize,
    /// Tokens that the key-value cache holds at most.
    cached: usize,
}

impl Judging {
    /// The files of a recipe's evaluation, and how their items are asked.
    pub fn ingredients(prepared: &Prepared) -> Value {
        let settings = prepared.recipe.settings();
        let of = settings.iter().filter(|setting| setting.path.starts_with("evaluation."));
        let value = |setting: &temper_recipe::Setting| {
            let hashes = hashes_of(prepared, &setting.path);
            if hashes.is_empty() { json!([setting.path, setting.value]) } else { json!([setting.path, hashes]) }
        };
        of.map(value).collect()
    }

    /// What the tuned model takes, and what the base takes for each suite, the domain first.
    pub fn of(prepared: &Prepared) -> Result<(Self, Vec<Self>), PipelineError> {
        let (mut tuned, mut base) = (Self::default(), Vec::new());
        let Some(evaluation) = &prepared.recipe.evaluation else { return Ok((tuned, base)) };
        let renderer = &prepared.base.renderer;
        let encode = |text: &str| renderer.tokenizer().encode(text, Specials::AsText).len();
        let prompt = |messages: &[Message]| renderer.prompt(messages).unwrap_or_default();
        let both = |tuned: &mut Self, base: &mut Vec<Self>, side: Self| {
            tuned.add(side);
            base.push(side);
        };
        if let Some(domain) = &evaluation.domain {
            let items = Domain::read(domain, &domain.test.value)?;
            let prompts = items.prompts(renderer)?;
            if let Domain::Rewarded(_) = items {
                let most = domain.max_new_tokens.as_ref().map_or(0, |most| most.value as usize);
                both(&mut tuned, &mut base, Self::written(&prompts, most));
            }
            let label = |label: &String| {
                let mut ids = renderer.tokenizer().encode(label, Specials::AsText);
                ids.push(renderer.end_of_turn());
                ids
            };
            if let Domain::Classification(_) = items {
                let labels: Vec<Vec<u32>> = domain.labels().iter().map(label).collect();
                let nodes = Trie::new(&labels).map_or(0, |trie| trie.nodes.len());
                let longest = labels.iter().map(Vec::len).max().unwrap_or(0) + 2;
                let mut side = Self::written(&prompts, longest);
                side.tokens += Beginnings::rows(&prompts) + prompts.len() * nodes;
                side.rows += prompts.len() * (nodes + 1);
                both(&mut tuned, &mut base, side);
            }
        }
        for suite in &evaluation.general {
            let path = &suite.path.value;
            let most = suite.max_new_tokens.as_ref().map_or(0, |most| most.value as usize);
            match suite.kind.value {
                SuiteKind::TextLoss => {
                    let tokens = items::read_text(path)?.iter().map(|item| encode(&item.text) + 2).sum();
                    both(&mut tuned, &mut base, Self { tokens, rows: tokens, ..Self::default() });
                }
                SuiteKind::MultipleChoice => {
                    let mut side = Self::default();
                    for item in items::read_multiple_choice(path)? {
                        let choices: usize = item.choices.iter().map(|choice| encode(choice)).sum();
                        side.tokens += encode(&item.prompt) + choices;
                        side.rows += choices;
                    }
                    both(&mut tuned, &mut base, side);
                }
                SuiteKind::ChatKl => {
                    let items = items::read_chat_prompts(path)?;
                    let prompts: Vec<Vec<u32>> = items.iter().map(|item| prompt(&item.messages)).collect();
                    // The base's answers are kept; both models are run along them.
                    base.push(Self::written(&prompts, most));
                    tuned.add(Self {
                        tokens: 2 * (Beginnings::rows(&prompts) + prompts.len() * most),
                        rows: 2 * prompts.len() * most,
                        ..Self::default()
                    });
                }
                SuiteKind::InstructionFollowing => {
                    let turn = |text: &str| prompt(&[Message::new("user", text)]);
                    let prompts: Vec<Vec<u32>> =
                        items::read_instructions(path)?.iter().map(|item| turn(&item.prompt)).collect();
                    both(&mut tuned, &mut base, Self::written(&prompts, most));
                }
            }
        }
        Ok((tuned, base))
    }

    /// Adds the work of `other`, done after this.
    pub fn add(&mut self, other: Self) {
        self.tokens += other.tokens;
        self.rows += other.rows;
        self.decode_steps += other.decode_steps;
        self.cached = self.cached.max(other.cached);
    }

    /// Answers of at most `most` tokens to these prompts.
    fn written(prompts: &[Vec<u32>], most: usize) -> Self {
        let longest = prompts.iter().map(Vec::len).max().unwrap_or(0) + most;
        Self {
            tokens: prompts.iter().map(Vec::len).sum(),
            rows: prompts.len(),
            decode_steps: most * prompts.len().div_ceil(PLACES),
            cached: longest * PLACES.min(prompts.len()),
        }
    }

    /// Bytes beside the models: the workspace of the suites, and that of generation with its cache.
    pub fn memory(&self, device: &Cpu, config: &LlamaConfig) -> usize {
        let suites = Workspace::bytes(device, config, [0; 4], Purpose::Infer, BATCH_TOKENS);
        if self.cached == 0 {
            return suites;
        }
        // In bf16.
        let cache = 2 * self.cached * 2 * config.heads().kv_width() * config.num_hidden_layers;
        suites + cache + Workspace::bytes(device, config, [0; 4], Purpose::Infer, PASS_TOKENS)
    }
}
