//! Whether full rank bettered what LoRA made: both on the same validation rows, by more than noise.

use serde::{Deserialize, Serialize};
use temper_data::MicroBatch;
use temper_eval::compare::CompareError;
use temper_eval::stats::{Bootstrap, DocumentLoss, Interval};
use temper_kernels::{Cpu, Device};
use temper_model::{Llama, Workspace};
use temper_recipe::BOOTSTRAP_SAMPLES;
use temper_train::{Batches, evaluate_rows};

use crate::PipelineError;

/// What was decided, and by what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// Whether the later part's weights are the stage's result.
    pub taken: bool,
    /// Its validation loss minus that of the part before, nats per token, on the same rows; none where no validation of it was below
    /// that of its own start.
    pub difference: Option<Interval>,
}

impl Choice {
    /// Of a part that gained nothing on its own start.
    pub(crate) const NOTHING_GAINED: Self = Self { taken: false, difference: None };

    /// In one line.
    pub fn reason(&self) -> String {
        let Some(Interval { estimate, low, high, n, .. }) = self.difference else {
            return "full rank is not taken: no validation loss of it was below that of its start".to_owned();
        };
        let taken = if self.taken { "taken" } else { "not taken" };
        format!(
            "full rank is {taken}: its validation loss is {estimate:+.4} nats per token to LoRA's (95 % interval {low:+.4} to \
             {high:+.4}, {n} rows)"
        )
    }

    /// Compares the `later` model with the `earlier` one. A row counts as a unit of its own. The later is taken where the whole of
    /// the paired interval lies below zero.
    pub(crate) fn between(
        earlier: &Llama<Cpu>,
        later: &Llama<Cpu>,
        workspace: &Workspace<<Cpu as Device>::Buffer>,
        validation: &Batches,
        seed: u64,
    ) -> Result<Self, PipelineError> {
        // Pairs are refused where the recipe is read.
        let Batches::Tokens(batches) = validation else { return Ok(Self::NOTHING_GAINED) };
        let [earlier, later] = [earlier, later].map(|model| row_losses(model, workspace, batches));
        let bootstrap = Bootstrap { resamples: BOOTSTRAP_SAMPLES as u32, seed };
        let difference = validation_difference(bootstrap, &earlier, &later)?;
        Ok(Self { taken: difference.high < 0.0, difference: Some(difference) })
    }
}

/// The loss of the `later` on validation rows minus that of the `earlier`, nats per token, paired row by row.
pub(crate) fn validation_difference(
    bootstrap: Bootstrap,
    earlier: &[DocumentLoss],
    later: &[DocumentLoss],
) -> Result<Interval, PipelineError> {
    let change = bootstrap.loss_difference(earlier, later, None);
    let change = change.map_err(|error| CompareError::Stats { suite: "validation".to_owned(), error })?;
    Ok(change.nats_per_token)
}

/// The loss of each validation row; its bytes are not known, and no loss by bytes is to be asked of it.
pub(crate) fn row_losses(
    model: &Llama<Cpu>,
    workspace: &Workspace<<Cpu as Device>::Buffer>,
    batches: &[MicroBatch],
) -> Vec<DocumentLoss> {
    let rows = evaluate_rows(model, workspace, true, batches).into_iter();
    rows.map(|row| DocumentLoss { nats: row.nll, tokens: row.weight as u64, bytes: 1 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_decided_is_said_with_its_interval() {
        let interval = Interval { estimate: -0.02, low: -0.03, high: -0.01, n: 40, clusters: 40 };
        let said = Choice { taken: true, difference: Some(interval) }.reason();
        assert!(
            said.contains("is taken") && said.contains("-0.0200 nats") && said.contains("-0.0300 to -0.0100, 40 rows"),
            "{said}"
        );
        let said = Choice { taken: false, difference: Some(Interval { high: 0.01, ..interval }) }.reason();
        assert!(said.contains("not taken") && said.contains("+0.0100"), "{said}");
        assert!(Choice::NOTHING_GAINED.reason().contains("no validation loss"));
    }
}
