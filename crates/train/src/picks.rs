//! What is asked of the head: only the positions that predict something go through it, forward and backward.

use temper_kernels::{Device, LogProbGrad, Pick, Tensor};
use temper_model::{Llama, Noise, Tokens, Workspace};

/// Predictions asked of one pass, in the order of the rows that make them; one row may make several.
pub(crate) struct Picks {
    /// Rows of the hidden states, ascending, each once.
    rows: Vec<u32>,
    /// A pick for each prediction, by its row's place in `rows`.
    picks: Vec<Pick>,
    /// The place of each pick among the predictions as they were asked.
    order: Vec<usize>,
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
        Self { rows, picks, order }
    }

    /// Brings the rows that predict to where [`Picks::score`] and [`Picks::backward`] read them.
    pub fn gather<D: Device>(&self, model: &Llama<D>, ws: &Workspace<D::Buffer>, hidden: &Tensor<D::Buffer>) {
        model.device().gather_rows(hidden, &self.rows, &ws.picked.first_rows(self.rows.len()));
    }

    /// Log-probabilities of the predictions as they were asked, of gathered rows.
    pub fn score<D: Device>(&self, model: &Llama<D>, ws: &Workspace<D::Buffer>) -> Vec<f32> {
        let picked = ws.picked.first_rows(self.rows.len());
        let found = model.device().linear_logprob(&picked, &model.head().value, &self.picks, &ws.logits[0], None);
        self.as_asked(&found.logprob)
    }

    /// [`Picks::score`], and adds the gradients of everything trained, from those by the log-probabilities as they were asked. The
    /// workspace still holds the forward of `tokens` with this noise.
    ///
    /// # Panics
    /// When the workspace is not for training.
    pub fn backward<D: Device>(
        &self,
        model: &Llama<D>,
        ws: &Workspace<D::Buffer>,
        tokens: Tokens<'_>,
        by_logprob: &[f32],
        noise: Option<&Noise>,
    ) -> Vec<f32> {
        let (Some(hidden_gradient), Some(picked_gradient)) = (&ws.hidden_gradient, &ws.picked_gradient) else {
            panic!("a step needs a workspace for training");
        };
        let (d, head, count) = (model.device(), model.head(), self.rows.len());
        let (picked, dpicked) = (ws.picked.first_rows(count), picked_gradient.first_rows(count));
        let by_pick: Vec<f32> = self.order.iter().map(|&place| by_logprob[place]).collect();
        let grad = LogProbGrad { logprob: &by_pick, entropy: &[], hidden: &dpicked, head: head.gradient.as_ref() };
        let found = d.linear_logprob(&picked, &head.value, &self.picks, &ws.logits[0], Some(grad));
        let dhidden = hidden_gradient.first_rows(tokens.ids.len());
        d.fill(&dhidden, 0.0);
        d.scatter_rows(&dpicked, &self.rows, &dhidden);
        model.backward_noised(ws, tokens, noise);
        self.as_asked(&found.logprob)
    }

    fn as_asked(&self, by_pick: &[f32]) -> Vec<f32> {
        let mut logprobs = vec![0.0; by_pick.len()];
        self.order.iter().zip(by_pick).for_each(|(&place, &logprob)| logprobs[place] = logprob);
        logprobs
    }
}
