//! A study of jobs in a folder of its own, and a worker of it.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use temper_aws::JobTrainer;
use temper_pipeline::tune::{Budget, Clock, Ears, Over, Study, Told, Trainer};
use temper_pipeline::{Interrupt, Options, PipelineError};
use temper_search::State;
use temper_search::store::{Opening, Store};

use crate::{RECIPE, ROLE};

/// A study in a folder of its own.
pub struct Searched {
    pub folder: tempfile::TempDir,
    pub file: PathBuf,
}

/// A study on SageMaker's machines; `trainer` and `tune` are further lines of these sections.
pub fn on_sagemaker(trainer: &str, tune: &str) -> Searched {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("nova.yaml"), RECIPE).unwrap();
    let text = format!(
        "name: nova
output: {}
tune:
  trainer:
    sagemaker:
      recipe: nova.yaml
      region: us-east-1
      role: {ROLE}
      image: image
      instance_type: ml.p5.48xlarge
      price_per_hour: 40
      max_hours: 1
      poll_seconds: 0.01
{trainer}
  space: {{training_config.optim_config.lr: {{low: 2e-6, high: 1e-4, log: true}}}}
  objectives: {{validation_loss: minimize}}
  sampler: random
  trials: 3
{tune}
",
        folder.path().join("study").display()
    );
    Searched::of(folder, &text)
}

impl Searched {
    pub fn of(folder: tempfile::TempDir, text: &str) -> Self {
        let file = folder.path().join("study.yaml");
        std::fs::write(&file, text).unwrap();
        Self { folder, file }
    }

    pub fn load(&self, sets: &[&str]) -> Result<Study, PipelineError> {
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        Study::load(&self.file, &sets)
    }

    /// One worker's search against an endpoint.
    pub fn search(&self, url: &str, sets: &[&str]) -> Result<Searching, PipelineError> {
        self.search_with(url, sets, &Options::default(), &|_| {})
    }

    pub fn search_with(
        &self,
        url: &str,
        sets: &[&str],
        options: &Options,
        hear: &(dyn Fn(&Told) + Sync),
    ) -> Result<Searching, PipelineError> {
        std::fs::write(self.folder.path().join("endpoint"), url).unwrap();
        search(&self.load(sets)?, options, hear)
    }

    /// The trials as they stand.
    pub fn trials(&self) -> Vec<temper_search::Trial> {
        let study = self.load(&[]).unwrap();
        let mut store = study.open(&study.address(), &opening()).unwrap();
        store.refresh().unwrap();
        store.history().trials().to_vec()
    }

    pub fn states(&self) -> Vec<State> {
        self.trials().iter().map(|trial| trial.state).collect()
    }
}

/// What a worker did.
pub struct Searching {
    pub over: Over,
    pub store: Store,
    /// Why nothing new began.
    pub closing: Vec<String>,
    pub clock: Clock,
}

pub fn opening() -> Opening {
    Opening { worker: "worker".to_owned(), lease: Duration::from_millis(500), change_space: false }
}

pub fn search(study: &Study, options: &Options, hear: &(dyn Fn(&Told) + Sync)) -> Result<Searching, PipelineError> {
    let study = Study { jobs: Some(make), ..Study::load(&study.file, &study.sets)? };
    let mut store = study.open(&study.address(), &opening())?;
    let clock = Clock::read(&mut store, Instant::now())?;
    let closing = Mutex::new(Vec::new());
    let tell = |told: &Told, _: &Store| {
        hear(told);
        if let Told::Closing { reason } = told {
            closing.lock().unwrap().push(reason.clone());
        }
    };
    let ears = Ears { tell: &tell, hear: &|_| {} };
    let mut store = Some(store);
    let budget = Budget::of(&study.tune, Budget::default());
    let over = study.work(&mut store, (budget, None), clock, options, &ears)?;
    Ok(Searching { over, store: store.unwrap(), closing: closing.into_inner().unwrap(), clock })
}

/// The trainer of a study whose endpoint is told by a file beside it.
pub fn trainer(study: &Study, interrupt: Option<Interrupt>) -> Result<JobTrainer<'_>, PipelineError> {
    let endpoint = std::fs::read_to_string(study.file.with_file_name("endpoint")).unwrap_or_default();
    let variable = move |name: &str| match name {
        "AWS_ENDPOINT_URL" => Some(endpoint.clone()),
        "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => Some("testing".to_owned()),
        _ => None,
    };
    Ok(JobTrainer::new(study, interrupt, Box::new(variable), None)?.pausing(Duration::from_millis(1)))
}

pub fn make(study: &Study, interrupt: Option<Interrupt>) -> Result<Box<dyn Trainer + '_>, PipelineError> {
    let trainer = trainer(study, interrupt)?;
    trainer.ready()?;
    Ok(Box::new(trainer))
}
