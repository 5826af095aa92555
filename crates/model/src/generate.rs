//! Generation over a key-value cache, many requests at a time: a request that ends gives its place to the next.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use temper_kernels::{Device, Segment, Write};

use crate::workspace::{LOGIT_ROWS, Purpose, Workspace};
use crate::{KvCache, Llama, Sampling, Tokens};

/// Sequences that are decoded together.
const PLACES: usize = 32;
/// Tokens of prompts that are read together.
const PREFILL_TOKENS: usize = 512;

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// A stop token came; it is the last id.
    Stop,
    /// The limit of new tokens.
    Length,
    /// `on_token` asked for no more.
    Cancelled,
}

/// What one request got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// New token ids, the stop token among them.
    pub ids: Vec<u32>,
    /// Why it ended.
    pub finish: Finish,
}

/// A request that cannot be served.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum GenerateError {
    /// Nothing to go on from.
    #[error("request {0} has an empty prompt\nhint: give at least one token of text")]
    EmptyPrompt(usize),
    /// Longer than the model's positions.
    #[error(
        "request {request}: a prompt of {prompt} tokens and {new} new ones exceed the model's context of {context}\nhint: \
         shorten the prompt or lower max_new_tokens"
    )]
    TooLong {
        /// Index of the request.
        request: usize,
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens asked for.
        new: usize,
        /// `max_position_embeddings`.
        context: usize,
    },
}

/// One sequence at work.
struct Active {
    request: usize,
    place: usize,
    /// Tokens in the cache.
    length: usize,
    ids: Vec<u32>,
}

/// Continues each prompt until a stop token or `max_new_tokens`. `adapter` turns LoRA adapters on. `on_token` hears of
/// each token as it comes: the request, the token, and with its last one why it ended. Where it breaks off, what was not
/// ended then is [`Finish::Cancelled`].
///
/// # Errors
/// [`GenerateError`], before anything is computed.
pub fn generate<D: Device>(
    model: &Llama<D>,
    adapter: bool,
    prompts: &[Vec<u32>],
    max_new_tokens: usize,
    stops: &[u32],
    sampling: &Sampling,
    on_token: &mut dyn FnMut(usize, u32, Option<Finish>) -> ControlFlow<()>,
) -> Result<Vec<Generated>, GenerateError> {
    let (d, context) = (model.device(), model.config().max_position_embeddings);
    for (request, prompt) in prompts.iter().enumerate() {
        if prompt.is_empty() {
            return Err(GenerateError::EmptyPrompt(request));
        }
        if prompt.len() + max_new_tokens > context {
            let (prompt, new) = (prompt.len(), max_new_tokens);
            return Err(GenerateError::TooLong { request, prompt, new, context });
        }
    }
    let all = |finish| prompts.iter().map(|_| Generated { ids: Vec::new(), finish }).collect::<Vec<_>>();
    let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
    if longest == 0 || max_new_tokens == 0 {
        return Ok(all(Finish::Length));
    }
    let mut done = all(Finish::Cancelled);
    let places = PLACES.min(prompts.len()).min(LOGIT_ROWS);
    let capacity = longest + max_new_tokens;
    let tokens = longest.max(PREFILL_TOKENS.min(prompts.iter().map(Vec::len).sum())).max(places);
    let ws = Workspace::allocate(d, model.config(), model.adapter_widths(), Purpose::Infer, tokens);
    let cache = KvCache::allocate(d, model.config(), places * capacity);

    let mut waiting: VecDeque<usize> = (0..prompts.len()).collect();
    let mut free: Vec<usize> = (0..places).rev().collect();
    let mut active: Vec<Active> = Vec::new();
    while !waiting.is_empty() || !active.is_empty() {
        // Read prompts into the free places, as many as the workspace holds.
        let mut joined: Vec<Active> = Vec::new();
        let mut read = 0;
        while let Some(&request) = waiting.front() {
            let length = prompts[request].len();
            if free.is_empty() || read + length > tokens {
                break;
            }
            waiting.pop_front();
            let place = free.pop().unwrap_or(0);
            read += length;
            joined.push(Active { request, place, length, ids: Vec::new() });
        }
        // The sequences that this pass gives a token.
        let stepped = if !joined.is_empty() {
            let (mut ids, mut positions, mut rows, mut segments, mut lasts) = (vec![], vec![], vec![], vec![], vec![]);
            for a in &joined {
                let start = ids.len();
                ids.extend_from_slice(&prompts[a.request]);
                positions.extend(0..a.length as u32);
                rows.extend((0..a.length).map(|i| (a.place * capacity + i) as u32));
                segments.push(Segment::alone(start..ids.len()));
                lasts.push(ids.len() as u32 - 1);
            }
            let batch = Tokens { ids: &ids, positions: &positions, segments: &segments };
            let hidden = model.prefill(&ws, batch, &cache, &rows, adapter);
            let picked = ws.picked.first_rows(lasts.len());
            d.gather_rows(&hidden, &lasts, &picked);
            take_tokens(model, &ws, &picked, &mut joined, sampling);
            joined
        } else {
            let ids: Vec<u32> = active.iter().filter_map(|a| a.ids.last().copied()).collect();
            let positions: Vec<u32> = active.iter().map(|a| a.length as u32).collect();
            let own: Vec<u32> = active.iter().map(|a| (a.place * capacity + a.length) as u32).collect();
            let seen: Vec<_> = active.iter().map(|a| a.place * capacity..a.place * capacity + a.length + 1).collect();
            let hidden = model.decode(&ws, &ids, &positions, &cache, &own, &seen, adapter);
            active.iter_mut().for_each(|a| a.length += 1);
            take_tokens(model, &ws, &hidden, &mut active, sampling);
            std::mem::take(&mut active)
        };
        let mut flow = ControlFlow::Continue(());
        for mut a in stepped {
            let finish = match a.ids.last() {
                Some(token) if stops.contains(token) => Some(Finish::Stop),
                _ if a.ids.len() == max_new_tokens => Some(Finish::Length),
                _ => None,
            };
            if let (Some(&token), true) = (a.ids.last(), flow.is_continue()) {
                flow = on_token(a.request, token, finish);
            }
            if let Some(finish) = finish {
                free.push(a.place);
                done[a.request] = Generated { ids: std::mem::take(&mut a.ids), finish };
            } else {
                active.push(a);
            }
        }
        if flow.is_break() {
            active.into_iter().for_each(|a| done[a.request].ids = a.ids);
            break;
        }
    }
    Ok(done)
}

/// Draws the next token of each sequence from its hidden state.
fn take_tokens<D: Device>(
    model: &Llama<D>,
    ws: &Workspace<D::Buffer>,
    hidden: &temper_kernels::Tensor<D::Buffer>,
    active: &mut [Active],
    sampling: &Sampling,
) {
    let (d, head) = (model.device(), &model.head().value);
    let next: Vec<u32> = if sampling.temperature <= 0.0 {
        d.linear_logprob(hidden, head, &[], &ws.logits[0], None).argmax
    } else {
        let logits = ws.logits[0].first_rows(hidden.rows());
        d.linear(hidden, head, 1.0, Write::Set, &logits);
        let values = d.read(&logits);
        let row = |(i, a): (usize, &Active)| {
            let logits = &values[i * head.rows()..(i + 1) * head.rows()];
            sampling.draw(logits, a.request, a.ids.len())
        };
        active.iter().enumerate().map(row).collect()
    };
    for (a, token) in active.iter_mut().zip(next) {
        a.ids.push(token);
    }
}
