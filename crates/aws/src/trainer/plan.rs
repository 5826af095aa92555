//! What a study of jobs will start and may cost, before anything is sent.

use temper_pipeline::PipelineError;
use temper_pipeline::tune::repeats;

use super::JobTrainer;
use super::words::as_keys;
use crate::cost::Basis;
use crate::request::Platform;

/// What the jobs of a study will be.
#[derive(Debug, Clone, serde::Serialize)]
pub struct JobsPlan {
    /// What carries them out.
    pub platform: Platform,
    /// What the job of trial 0 may cost; none without a price.
    pub cost: Option<Basis>,
    /// The same in USD.
    pub usd: Option<f64>,
    /// Trials that are to begin; none where the study ends by time or tokens alone.
    pub trials: Option<u64>,
    /// Jobs at the end, for the finalists and trial 0 under other seeds.
    pub repeats: u64,
    /// USD that all jobs may cost together; none where that was not said.
    pub max_cost: Option<f64>,
    /// Trials that the limit pays for, each at the most that the job of trial 0 may cost, beside the jobs at the end.
    pub paid: Option<u64>,
    /// What to say that is not said: a price, a limit.
    pub missing: Vec<String>,
    /// The requests of trial 0, as they would be sent, without their signatures.
    pub requests: String,
}

impl JobTrainer<'_> {
    /// Refuses a study that cannot start a job: trial 0 is no whole request, or nobody has said what may be spent. Asks nobody.
    ///
    /// # Errors
    /// As said.
    pub fn ready(&self) -> Result<(), PipelineError> {
        let plan = self.plan(None)?;
        match plan.missing.first() {
            Some(missing) => Err(PipelineError::Unfit {
                path: self.path.clone(),
                problem: "what the study may cost is not known, and nothing is sent".to_owned(),
                hint: missing.clone(),
            }),
            None => Ok(()),
        }
    }

    /// What a search of so many trials will start. Asks nobody, and needs no credentials.
    ///
    /// # Errors
    /// Where the recipe's own values are no whole request.
    pub fn plan(&self, trials: Option<u64>) -> Result<JobsPlan, PipelineError> {
        let own = self.study.searchable.own.clone().unwrap_or_default();
        let submission = self.fields(&own).and_then(|fields| self.submission(&fields, 0));
        let (_, submission) = submission.map_err(|problem| {
            let problem = as_keys(&problem);
            let (problem, hint) = problem.split_once("\nhint: ").unwrap_or((&problem, "`temper check` explains it"));
            let file = self.jobs.recipe.value.display();
            PipelineError::Unfit {
                path: self.path.clone(),
                problem: format!("trial 0, the values of {file}: {problem}"),
                hint: hint.to_owned(),
            }
        })?;
        let surroundings = self.surroundings();
        let region = surroundings.region(self.region()).map_err(|error| self.failure(error))?;
        let max_cost = self.jobs.max_cost.as_ref().map(|most| most.value);
        let usd = submission.cost.map(|cost| cost.usd());
        let repeats = repeats(&self.study.tune);
        let paid = max_cost.zip(usd).map(|(most, usd)| (most / usd).max(0.0) as u64);
        let missing = [
            submission.cost.is_none().then(|| as_keys(submission.cost_hint)),
            max_cost.is_none().then(|| "`max_cost`: USD that all jobs of the study may cost together".to_owned()),
        ];
        Ok(JobsPlan {
            platform: self.platform,
            cost: submission.cost,
            usd,
            trials,
            repeats,
            max_cost,
            paid: paid.map(|jobs| jobs.saturating_sub(repeats)),
            missing: missing.into_iter().flatten().collect(),
            requests: submission.shown(&surroundings, &region),
        })
    }
}
