//! Several LoRA trials over one copy of the base: how many at once, and each of them.
//!
//! The base is packed once ([`PackedWeights`]) and read by all; adapters, moments, gradients and activations are each trial's
//! own. Trials run in lanes, each a thread with a pool of its own, so that a lane's operations never wait for another's. What
//! a trial gives does not depend on lanes, threads or the other trials, to the bit: no operation's result depends on how many
//! threads it has. Why lanes and not all threads on one trial after the other: docs/decisions/0011-do-less.md.

use std::convert::Infallible;
use std::panic::resume_unwind;
use std::sync::Mutex;

use rayon::ThreadPoolBuilder;
use temper_data::MicroBatch;
use temper_kernels::{Cpu, Device, PackedWeights};
use temper_model::{Llama, LlamaConfig, LoraSettings, Purpose, Tuning, WeightsError, Workspace};

use crate::TrainError;
use crate::fit::{Fit, FitOutcome, FitSettings, Progress};

/// How trials share the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lanes {
    /// Trials at once.
    pub count: usize,
    /// Threads of each.
    pub threads: usize,
}

impl Lanes {
    /// As many lanes as there are trials, threads, and places in memory for trials of `bytes` each; at least one. The threads
    /// are dealt evenly; those of a remainder stay idle.
    pub fn fit(trials: usize, threads: usize, memory: usize, bytes: usize) -> Self {
        let count = trials.min(threads).min(memory / bytes.max(1)).max(1);
        Self { count, threads: (threads / count).max(1) }
    }

    /// Carries out `work` on each trial, so many at once, the next as soon as a lane is free. Results come in the order of
    /// the trials.
    ///
    /// # Panics
    /// When a thread cannot be started, or with what `work` panicked with.
    pub fn run<T: Send, R: Send>(self, trials: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
        let results: Vec<Mutex<Option<R>>> = trials.iter().map(|_| Mutex::new(None)).collect();
        let waiting = Mutex::new(trials.into_iter().enumerate());
        let next = || waiting.lock().ok()?.next();
        let lane = || {
            // The lane's own thread is the first of its pool.
            let pool = ThreadPoolBuilder::new().num_threads(self.threads).use_current_thread().build();
            let Ok(_pool) = pool else { panic!("a lane of {} threads cannot be started", self.threads) };
            while let Some((index, trial)) = next() {
                let result = work(trial);
                if let Ok(mut place) = results[index].lock() {
                    *place = Some(result);
                }
            }
        };
        std::thread::scope(|scope| {
            let lanes: Vec<_> = (0..self.count).map(|_| scope.spawn(lane)).collect();
            lanes.into_iter().for_each(|lane| lane.join().unwrap_or_else(|panic| resume_unwind(panic)));
        });
        results.into_iter().filter_map(|place| place.into_inner().ok().flatten()).collect()
    }
}

/// Reads a tensor by HF name and shape.
pub type ReadTensor<'r> = dyn Fn(&str, &[usize]) -> Result<Vec<f32>, WeightsError> + Sync + 'r;

/// A base that trials share.
#[derive(Clone, Copy)]
pub struct TrialBase<'b> {
    /// Its products' precision; the number of threads is the lane's.
    pub device: Cpu,
    /// Its shape.
    pub config: &'b LlamaConfig,
    /// Its frozen weights.
    pub packed: &'b PackedWeights,
    /// Its other tensors, the norms.
    pub tensor: &'b ReadTensor<'b>,
}

/// One adapter to be trained.
#[derive(Clone)]
pub struct Trial<'t> {
    /// Rank, scale, modules.
    pub lora: &'t LoraSettings,
    /// Of the adapters' first numbers.
    pub seed: u64,
    /// Rates, optimiser, length, validation.
    pub settings: FitSettings,
    /// The micro-batches of each step, from 1.
    pub batches: &'t (dyn Fn(usize) -> Vec<MicroBatch> + Sync),
    /// Validation rows; none for no validation.
    pub validation: &'t [MicroBatch],
    /// Tokens of the largest micro-batch.
    pub tokens: usize,
}

/// What a trial gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    /// How it ended.
    pub outcome: FitOutcome,
    /// The adapters after the last step, by PEFT's names, in order.
    pub adapters: Vec<(String, Vec<f32>)>,
}

/// Why a trial gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The base could not be read.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Training.
    #[error(transparent)]
    Train(#[from] TrainError),
}

impl TrialBase<'_> {
    /// Bytes that a trial takes beside the base: activations, and value, gradient and two moments of each adapter.
    pub fn bytes(&self, trial: &Trial<'_>) -> usize {
        let (space, adapters) = (trial.lora.space(self.config), Tuning::Lora(trial.lora.clone()).numbers(self.config));
        16 * adapters + Workspace::bytes(&self.device, self.config, space, Purpose::Train, trial.tokens)
    }

    /// Trains one adapter on the calling thread's pool. `hear` is told of each step and validation.
    ///
    /// # Errors
    /// [`TrialError`].
    pub fn train(&self, trial: &Trial<'_>, hear: &mut dyn FnMut(Progress)) -> Result<Trained, TrialError> {
        let tuning = Tuning::Lora(trial.lora.clone());
        let find = |weight: &_| self.packed.find(weight);
        let model =
            Llama::load_over(self.device, self.config, &tuning, find, |name, shape| (self.tensor)(name, shape))?;
        model.init_adapters(trial.seed);
        let space = model.adapter_space();
        let workspace = Workspace::allocate(&self.device, self.config, space, Purpose::Train, trial.tokens);
        let mut fit = Fit::new(&model, &workspace, trial.settings.clone(), trial.validation.to_vec());
        while let Some(progress) = fit.advance(|step| Ok::<_, Infallible>((trial.batches)(step)))? {
            hear(progress);
        }
        let read = |(name, adapter): (String, temper_model::Parameter<_>)| (name, self.device.read(&adapter.value));
        Ok(Trained { outcome: fit.outcome(), adapters: model.adapters().into_iter().map(read).collect() })
    }

    /// Trains all of them, in lanes that fill `threads` and fit `memory` bytes beside the base. Results come in the order
    /// of the trials; `hear` is told of each trial, by its index.
    pub fn train_all(
        &self,
        trials: &[Trial<'_>],
        threads: usize,
        memory: usize,
        hear: &(dyn Fn(usize, Progress) + Sync),
    ) -> Vec<Result<Trained, TrialError>> {
        let largest = trials.iter().map(|trial| self.bytes(trial)).max().unwrap_or(0);
        let lanes = Lanes::fit(trials.len(), threads, memory, largest);
        let numbered: Vec<(usize, &Trial<'_>)> = trials.iter().enumerate().collect();
        lanes.run(numbered, |(index, trial)| self.train(trial, &mut |progress| hear(index, progress)))
    }
}
