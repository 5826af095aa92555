//! Generation over a key-value cache, many requests at a time. A request that ends gives its place to the next; prompts are
//! read in pieces beside the tokens that others get, so that nobody waits for a long prompt; what prompts begin with in
//! common is computed once. What a request gets does not depend on the requests beside it, to the bit.

use std::collections::VecDeque;
use std::ops::{ControlFlow, Range};

use temper_kernels::{Cached, Device, Tensor, Write};

use crate::prefixes::Prefixes;
use crate::workspace::{LOGIT_ROWS, Purpose, Workspace};
use crate::{KvCache, Llama, Sampling};

/// Sequences that are decoded together.
const PLACES: usize = 32;
/// Tokens that go through the model together.
const PASS_TOKENS: usize = 256;

const _: () = assert!(PLACES <= LOGIT_ROWS && PLACES < PASS_TOKENS);

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

/// A run of tokens with its rows of the cache, as far as they are filled.
struct Run {
    rows: Range<usize>,
    filled: usize,
}

impl Run {
    /// The rows that hold something.
    fn seen(&self) -> Range<usize> {
        self.rows.start..self.rows.start + self.filled
    }
}

/// One sequence at work.
struct Active {
    request: usize,
    /// Of the prompt's own tokens and the new ones.
    own: Run,
    ids: Vec<u32>,
}

/// Rows of the cache that nobody has, in runs that ascend and do not touch.
struct Free(Vec<Range<usize>>);

impl Free {
    /// The first run that has room for them.
    fn take(&mut self, rows: usize) -> Option<Range<usize>> {
        let i = self.0.iter().position(|free| free.len() >= rows)?;
        let start = self.0[i].start;
        self.0[i].start += rows;
        self.0.retain(|free| !free.is_empty());
        Some(start..start + rows)
    }

    fn give_back(&mut self, rows: Range<usize>) {
        let i = self.0.partition_point(|free| free.start < rows.start);
        self.0.insert(i, rows);
        let mut joined: Vec<Range<usize>> = Vec::with_capacity(self.0.len());
        for rows in self.0.drain(..) {
            match joined.last_mut() {
                Some(last) if last.end == rows.start => last.end = rows.end,
                _ => joined.push(rows),
            }
        }
        self.0 = joined;
    }
}

/// Who reads a prompt.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reader {
    Shared(usize),
    Request(usize),
}

/// All requests and what of them is in the cache.
struct Requests<'a> {
    prompts: &'a [Vec<u32>],
    prefixes: Prefixes,
    max_new_tokens: usize,
    waiting: VecDeque<usize>,
    free: Free,
    /// By shared run: its rows, while a request at work or one that waits beside it goes through it.
    shared: Vec<Option<Run>>,
    /// By shared run: requests that have not ended.
    users: Vec<usize>,
    active: Vec<Active>,
    /// Prompts to be read, in order: a run comes after those that it sees.
    reading: VecDeque<Reader>,
}

/// The tokens of one pass.
#[derive(Default)]
struct Pass {
    ids: Vec<u32>,
    positions: Vec<u32>,
    own: Vec<u32>,
    runs: Vec<Cached>,
    /// Indices into the sequences at work that get a token, and the rows of their last tokens.
    stepped: Vec<usize>,
    lasts: Vec<u32>,
}

impl Pass {
    /// Puts tokens of a run, of which `before` rows are seen, behind the others.
    fn push(&mut self, ids: &[u32], first_position: usize, before: Vec<Range<usize>>, run: &mut Run) {
        let start = self.ids.len();
        self.ids.extend_from_slice(ids);
        self.positions.extend((0..ids.len()).map(|i| (first_position + i) as u32));
        self.own.extend((0..ids.len()).map(|i| (run.rows.start + run.filled + i) as u32));
        run.filled += ids.len();
        let seen = before.into_iter().chain([run.seen()]).collect();
        self.runs.push(Cached { rows: start..self.ids.len(), seen });
    }
}

impl<'a> Requests<'a> {
    fn new(prompts: &'a [Vec<u32>], max_new_tokens: usize, cache_rows: usize) -> Self {
        let prefixes = Prefixes::of(prompts);
        Self {
            waiting: prefixes.order.iter().copied().collect(),
            free: Free(vec![0..cache_rows]),
            shared: prefixes.shared.iter().map(|_| None).collect(),
            users: prefixes.shared.iter().map(|shared| shared.users).collect(),
            active: Vec::new(),
            reading: VecDeque::new(),
            prompts,
            prefixes,
            max_new_tokens,
        }
    }

    /// Lets waiting requests join, as many as there are places and rows for.
    fn join(&mut self) {
        while self.active.len() < PLACES {
            let Some(&request) = self.waiting.front() else { return };
            let path = self.prefixes.path(request);
            let own = self.prompts[request].len() - self.prefixes.shared_tokens(request) + self.max_new_tokens;
            let mut taken = Vec::new();
            let missing: Vec<usize> = path.into_iter().filter(|&node| self.shared[node].is_none()).collect();
            let lengths = missing.iter().map(|&node| self.prefixes.shared[node].end - self.prefixes.shared[node].start);
            let enough = lengths.chain([own]).all(|rows| self.free.take(rows).map(|rows| taken.push(rows)).is_some());
            if !enough {
                // Its turn comes when others end; alone it fits.
                taken.into_iter().for_each(|rows| self.free.give_back(rows));
                return;
            }
            self.waiting.pop_front();
            let mut taken = taken.into_iter().map(|rows| Run { rows, filled: 0 });
            for (node, run) in missing.into_iter().zip(taken.by_ref()) {
                self.shared[node] = Some(run);
                self.reading.push_back(Reader::Shared(node));
            }
            self.active.extend(taken.map(|own| Active { request, own, ids: Vec::new() }));
            self.reading.push_back(Reader::Request(request));
        }
    }

    /// The rows of shared runs up to `node`.
    fn seen(&self, node: Option<usize>) -> Vec<Range<usize>> {
        let up = std::iter::successors(node, |&node| self.prefixes.shared[node].parent);
        let mut seen: Vec<_> = up.filter_map(|node| self.shared[node].as_ref().map(Run::seen)).collect();
        seen.reverse();
        seen
    }

    /// The next pass: a token for each sequence that has one, and as much of prompts as there is room for.
    fn pass(&mut self) -> Pass {
        let mut pass = Pass::default();
        for i in 0..self.active.len() {
            let request = self.active[i].request;
            let before = self.seen(self.prefixes.of[request]);
            let Active { own, ids, .. } = &mut self.active[i];
            if let Some(&last) = ids.last() {
                let position = self.prompts[request].len() + ids.len() - 1;
                pass.push(&[last], position, before, own);
                pass.stepped.push(i);
                pass.lasts.push(pass.ids.len() as u32 - 1);
            }
        }
        while let (Some(&reader), room @ 1..) = (self.reading.front(), PASS_TOKENS - pass.ids.len()) {
            let (prompt, begin, end, parent) = match reader {
                Reader::Shared(node) => {
                    let shared = &self.prefixes.shared[node];
                    (shared.prompt, shared.start, shared.end, shared.parent)
                }
                Reader::Request(request) => {
                    let begin = self.prefixes.shared_tokens(request);
                    (request, begin, self.prompts[request].len(), self.prefixes.of[request])
                }
            };
            let before = self.seen(parent);
            let active = self.active.iter().position(|active| reader == Reader::Request(active.request));
            let run = match reader {
                Reader::Shared(node) => self.shared[node].as_mut(),
                Reader::Request(_) => active.map(|i| &mut self.active[i].own),
            };
            // A run that is read has its rows, and a request that is read is at work.
            let Some(run) = run else { unreachable!("a prompt without rows") };
            let from = begin + run.filled;
            let to = end.min(from + room);
            pass.push(&self.prompts[prompt][from..to], from, before, run);
            if to == end {
                self.reading.pop_front();
                if let Some(i) = active {
                    pass.stepped.push(i);
                    pass.lasts.push(pass.ids.len() as u32 - 1);
                }
            }
        }
        pass
    }

    /// Takes out a sequence that ended, and with it the shared runs that nobody else goes through.
    fn leave(&mut self, request: usize) -> Option<Vec<u32>> {
        let i = self.active.iter().position(|active| active.request == request)?;
        let ended = self.active.remove(i);
        self.free.give_back(ended.own.rows);
        for node in self.prefixes.path(request) {
            self.users[node] -= 1;
            let unused = self.users[node] == 0;
            if let Some(run) = self.shared[node].take_if(|_| unused) {
                self.free.give_back(run.rows);
            }
        }
        Some(ended.ids)
    }
}

/// [`generate_keyed`], each request drawing by its index.
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
    let keys: Vec<u64> = (0..prompts.len() as u64).collect();
    generate_keyed(model, adapter, (prompts, &keys), max_new_tokens, stops, sampling, on_token)
}

/// Continues each prompt until a stop token or `max_new_tokens`. `adapter` turns LoRA adapters on. `on_token` hears of
/// each token as it comes: the request, the token, and with its last one why it ended. Where it breaks off, what was not
/// ended then is [`Finish::Cancelled`]. Each request has a key, of which with the sampling's seed its draws are a function: the
/// same request gets the same tokens, whichever stand beside it.
///
/// # Errors
/// [`GenerateError`], before anything is computed.
pub fn generate_keyed<D: Device>(
    model: &Llama<D>,
    adapter: bool,
    (prompts, keys): (&[Vec<u32>], &[u64]),
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
    let places = PLACES.min(prompts.len());
    let cache_rows = places * (longest + max_new_tokens);
    let ws = Workspace::allocate(d, model.config(), model.adapter_space(), Purpose::Infer, PASS_TOKENS);
    let cache = KvCache::allocate(d, model.config(), cache_rows);

    let mut requests = Requests::new(prompts, max_new_tokens, cache_rows);
    while !requests.waiting.is_empty() || !requests.active.is_empty() {
        requests.join();
        let pass = requests.pass();
        let hidden = model.extend(&ws, &pass.ids, &pass.positions, &cache, &pass.own, &pass.runs, adapter);
        if pass.lasts.is_empty() {
            continue;
        }
        let picked = ws.picked.first_rows(pass.lasts.len());
        d.gather_rows(&hidden, &pass.lasts, &picked);
        let drawn: Vec<&Active> = pass.stepped.iter().map(|&i| &requests.active[i]).collect();
        let tokens = next_tokens(model, &ws, &picked, &drawn, (sampling, keys));
        let mut ended = Vec::new();
        let mut flow = ControlFlow::Continue(());
        for (&i, token) in pass.stepped.iter().zip(tokens) {
            let active = &mut requests.active[i];
            active.ids.push(token);
            let finish = match active.ids.len() {
                _ if stops.contains(&token) => Some(Finish::Stop),
                length if length == max_new_tokens => Some(Finish::Length),
                _ => None,
            };
            if flow.is_continue() {
                flow = on_token(active.request, token, finish);
            }
            ended.extend(finish.map(|finish| (active.request, finish)));
        }
        for (request, finish) in ended {
            done[request] = Generated { ids: requests.leave(request).unwrap_or_default(), finish };
        }
        if flow.is_break() {
            requests.active.into_iter().for_each(|active| done[active.request].ids = active.ids);
            break;
        }
    }
    Ok(done)
}

/// The next token of each sequence, from its hidden state.
fn next_tokens<D: Device>(
    model: &Llama<D>,
    ws: &Workspace<D::Buffer>,
    hidden: &Tensor<D::Buffer>,
    sequences: &[&Active],
    (sampling, keys): (&Sampling, &[u64]),
) -> Vec<u32> {
    let (d, head) = (model.device(), &model.head().value);
    if sampling.temperature <= 0.0 {
        return d.linear_argmax(hidden, head, &ws.logits[0]);
    }
    let logits = ws.logits[0].first_rows(hidden.rows());
    d.linear(hidden, head, 1.0, Write::Set, &logits);
    let values = d.read(&logits);
    let rows = values.chunks_exact(head.rows()).zip(sequences);
    rows.map(|(logits, sequence)| sampling.draw(logits, keys[sequence.request], sequence.ids.len())).collect()
}
