//! What is asked of the head: only the positions that predict something go through it, forward and backward.

use temper_kernels::{Device, LogProbGrad, LogProbs, Pick, Tensor};
use temper_model::{Llama, Noise, Tokens, Workspace};

/// Predictions asked of one pass, in the order of the rows that make them; one row may make several.
pub(crate) struct Picks {
    /// Rows of the hidden states, ascending, each once.
    rows: Vec<u32>,
    /// A pick for each prediction, by its row's place in `rows`.
    picks: Vec<Pick>,
    /// The place of each pick among the predictions as they were asked.
    order: Vec<usize>,
    /// What divides the logits.
    temperature: f32,
}

/// The gradients by what was asked, in the order in which it was asked.
#[derive(Clone, Copy, Default)]
pub(crate) struct ByAsked<'a> {
    /// By each log-probability.
    pub logprob: &'a [f32],
    /// By the entropy of the distribution that each prediction is of; empty for none.
    pub entropy: &'a [f32],
}

impl Picks {
    /// Predictions as row and token, in any order.
    pub fn of(asked: &[(u32, u32)]) -> Self {
        let mut order: Vec<usize> = (0..asked.len()).collect();
        order.sort_by_key(|&place| asked[place].0);
        let mut rows: Vec<u32> = Vec::with_capacity(asked.len());
        let pick = |&place: &usize| {
            let (row, token) = asked[place];
            if rows.last() != Some(&row) {
                rows.push(row);
            }
            Pick { row: rows.len() as u32 - 1, token }
        };
        let picks = order.iter().map(pick).collect();
        Self { rows, picks, order, temperature: 1.0 }
    }

    /// The same of logits that are divided by `temperature`.
    pub fn at(self, temperature: f32) -> Self {
        Self { temperature, ..self }
    }

    /// Brings the rows that predict to where [`Picks::score`] and [`Picks::backward`] read them.
    pub fn gather<D: Device>(&self, model: &Llama<D>, ws: &Workspace<D::Buffer>, hidden: &Tensor<D::Buffer>) {
        let (d, picked) = (model.device(), ws.picked.first_rows(self.rows.len()));
        d.gather_rows(hidden, &self.rows, &picked);
        // The logits are linear in what goes into the head.
        if self.temperature != 1.0 {
            d.scale(self.temperature.recip(), &picked);
        }
    }

    /// Log-probabilities of the predictions as they were asked, of gathered rows.
    pub fn score<D: Device>(&self, model: &Llama<D>, ws: &Workspace<D::Buffer>) -> Vec<f32> {
        self.measure(model, ws).0
    }

    /// [`Picks::score`], and the entropies of the distributions, in nats.
    pub fn measure<D: Device>(&self, model: &Llama<D>, ws: &Workspace<D::Buffer>) -> (Vec<f32>, Vec<f32>) {
        let picked = ws.picked.first_rows(self.rows.len());
        let found = model.device().linear_logprob(&picked, &model.head().value, &self.picks, &ws.logits[0], None);
        self.as_asked(&found)
    }

    /// [`Picks::measure`], and adds the gradients of everything trained, from those by what was asked. The workspace still holds the
    /// forward of `tokens` with this noise.
    ///
    /// # Panics
    /// When the workspace is not for training.
    pub fn backward<D: Device>(
        &self,
        model: &Llama<D>,
        ws: &Workspace<D::Buffer>,
        tokens: Tokens<'_>,
        by: ByAsked<'_>,
        noise: Option<&Noise>,
    ) -> (Vec<f32>, Vec<f32>) {
        let (Some(hidden_gradient), Some(picked_gradient)) = (&ws.hidden_gradient, &ws.picked_gradient) else {
            panic!("a step needs a workspace for training");
        };
        let (d, head, count) = (model.device(), model.head(), self.rows.len());
        let (picked, dpicked) = (ws.picked.first_rows(count), picked_gradient.first_rows(count));
        let by_pick: Vec<f32> = self.order.iter().map(|&place| by.logprob[place]).collect();
        let mut by_row = vec![0.0; if by.entropy.is_empty() { 0 } else { count }];
        for (pick, &place) in self.picks.iter().zip(&self.order).filter(|_| !by.entropy.is_empty()) {
            by_row[pick.row as usize] += by.entropy[place];
        }
        let grad = LogProbGrad { logprob: &by_pick, entropy: &by_row, hidden: &dpicked, head: head.gradient.as_ref() };
        let found = d.linear_logprob(&picked, &head.value, &self.picks, &ws.logits[0], Some(grad));
        if self.temperature != 1.0 {
            d.scale(self.temperature.recip(), &dpicked);
        }
        let dhidden = hidden_gradient.first_rows(tokens.ids.len());
        d.fill(&dhidden, 0.0);
        d.scatter_rows(&dpicked, &self.rows, &dhidden);
        model.backward_noised(ws, tokens, noise);
        self.as_asked(&found)
    }

    fn as_asked(&self, found: &LogProbs) -> (Vec<f32>, Vec<f32>) {
        let (mut logprobs, mut entropies) = (vec![0.0; self.picks.len()], vec![0.0; self.picks.len()]);
        for ((pick, &place), &logprob) in self.picks.iter().zip(&self.order).zip(&found.logprob) {
            logprobs[place] = logprob;
            entropies[place] = found.entropy[pick.row as usize];
        }
        (logprobs, entropies)
    }
}
