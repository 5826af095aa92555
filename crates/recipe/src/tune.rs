//! The search: what is left open, what better means, how much it may cost.

use std::path::PathBuf;

use serde_json::Value;

use crate::jobs::{BedrockJobs, Jobs, SagemakerJobs};
use crate::kind::{above, above_to, choice, integer, list, number, run_name, scalar, text, truth};
use crate::problem::{Note, RecipeErrors};
use crate::reader::{Context, Read, section};
use crate::settings::{Setting, Settings, Valued, is};

crate::kind::words! {
    /// What chooses the next trial.
    pub enum SamplerKind {
        /// By budget, space and number of objectives; it says which and why.
        Auto = "auto",
        /// Evenly at random.
        Random = "random",
        /// Every combination in turn.
        Grid = "grid",
        /// Scrambled Sobol points: even coverage.
        Sobol = "sobol",
        /// Multivariate tree-structured Parzen estimator.
        Tpe = "tpe",
        /// Gaussian process.
        Gp = "gp",
    }
}

crate::kind::words! {
    /// What ends or pauses trials before their full length.
    pub enum EarlyStopping {
        /// Successive halving by non-dominated rank; what is behind is paused, and gone on with when its turn comes.
        Asha = "asha",
        /// Brackets of successive halving with several shortest lengths.
        Hyperband = "hyperband",
        /// What is worse than the median of the others at the same length ends.
        Median = "median",
        /// What is unlikely to reach the front by its own curve ends.
        Curve = "curve",
        /// What is worse than the best of the others on the same rows and items, by more than noise, ends.
        Paired = "paired",
        /// Only what diverged, or broke a floor beyond recovery.
        Hopeless = "hopeless",
        /// Every trial goes its full length.
        Off = "off",
    }
}

crate::kind::words! {
    /// Which way a metric is better.
    pub enum Sense {
        /// Lower.
        Minimize = "minimize",
        /// Higher.
        Maximize = "maximize",
    }
}

crate::kind::words! {
    /// How a program is given a trial's values.
    pub enum ValuesAs {
        /// As `--FIELD VALUE`, after its own arguments.
        Arguments = "arguments",
        /// As environment variables `TEMPER_VALUE_FIELD`.
        Environment = "environment",
        /// In a file made from `template`, whose path takes the place of `{file}` among its arguments.
        File = "file",
    }
}

crate::kind::words! {
    /// Where a program's metrics are read from.
    pub enum MetricSource {
        /// Lines of its standard output that are JSON objects.
        Stdout = "stdout",
        /// Lines of a file `metrics.jsonl` in the trial's folder.
        File = "file",
        /// TensorBoard event files in the trial's folder.
        Tensorboard = "tensorboard",
    }
}

section! {
    /// What `temper tune` searches. The recipe's own values are always trial 0.
    pub struct Tune |f| {
        /// Fields that are left open. Left out, they are made from the stages: learning rate and, where there are any, rank, share
        /// of domain data, warm-up.
        space: Vec<Searched> = f.keyed_sections("field", "values", "equals");
        /// What to make better, the domain first. Left out: `validation_loss` of the last stage (`reward`, where it is of kind `rft`)
        /// and, with watched general suites, `forgetting`, the largest rise of their loss in percent.
        objectives: Vec<Sought> = f.keyed_sections("metric", "direction", "direction");
        /// What must hold of a trial. The floors of the evaluation's `text_loss` suites always must, by their watched items.
        constraints: Vec<Limit> = f.keyed_sections("metric", "at_most", "at_most");
        /// What chooses the next trial.
        sampler: Valued<SamplerKind> =
            f.default(choice(), SamplerKind::Auto, "decision: a Gaussian process while trials are few, TPE beyond");
        /// What ends or pauses trials before their full length.
        early_stopping: Valued<EarlyStopping> = f.aliases(&["early_terminate", "pruner", "scheduler"]).default(
            choice(),
            EarlyStopping::Asha,
            "Li et al. 2020 (ASHA): most of the cost of a search is spent on trials that a fraction of it tells apart",
        );
        /// Lengths at which trials are compared, the full one with them.
        rungs: Valued<u64> = f.default(integer(1..=10), 4, "decision: from an eighth of the full length on");
        /// Each length is so many times the one before; of the trials at one, one in so many goes on.
        reduction_factor: Valued<u64> = f.aliases(&["eta"]).default(
            integer(2..=10),
            2,
            "decision: curves of short fine-tuning runs cross early, so that cutting to a third costs good trials",
        );
        /// Trials to begin; `temper tune --trials` says otherwise.
        trials: Option<Valued<u64>> = f.aliases(&["n_trials", "num_samples", "max_trials"]).optional(integer(1..));
        /// Minutes to search, the finalists with them, all commands that work on the study together; `temper tune --minutes` says
        /// otherwise.
        minutes: Option<Valued<f64>> = f.optional(number(above(0.0)));
        /// Tokens to train on in all; `temper tune --tokens` says otherwise.
        tokens: Option<Valued<u64>> = f.optional(integer(1..));
        /// Trials in a row that add nothing to the front, after which the search ends; 0 never ends it.
        patience: Valued<u64> = f.default(integer(0..), 0, "decision: the budget is the user's");
        /// Trials at the end that are trained again under other seeds.
        finalists: Valued<u64> = f.default(integer(0..=20), 2, "decision: the winner and its nearest rival");
        /// Further seeds of each finalist.
        finalist_seeds: Valued<u64> =
            f.default(integer(1..=10), 1, "decision: one repeat shows a lucky trial, and costs a trial");
        /// What carries trials out in place of Temper's own training: a program, or jobs of Nova Forge on AWS.
        trainer: Option<Trainer> = f.section();
    }
    check |r| {
        if let Some(objectives) = &objectives {
            for (index, sought) in objectives.iter().enumerate() {
                if objectives[..index].iter().any(|earlier| earlier.metric.value == sought.metric.value) {
                    let message = format!("`{}`: `{}` is an objective twice", sought.metric.path, sought.metric.value);
                    r.problem(sought.metric.place(), message, "keep one");
                }
            }
            if let (true, Some(Some(trainer))) = (objectives.is_empty(), &trainer) {
                let message = format!("`{}` is missing: what another trainer measures has no default", r.path_of("objectives"));
                r.problem(trainer.place(), message, "as in objectives: {eval_loss: minimize}");
            }
        }
        if let Some(space) = &space {
            for (index, searched) in space.iter().enumerate() {
                if space[..index].iter().any(|earlier| earlier.field.value == searched.field.value) {
                    let message = format!("`{}`: `{}` is searched twice", searched.field.path, searched.field.value);
                    r.problem(searched.field.place(), message, "keep one");
                }
            }
            if let (true, Some(Some(trainer))) = (space.is_empty(), &trainer) {
                let message = format!("`{}` is missing: what another trainer takes is not known", r.path_of("space"));
                r.problem(trainer.place(), message, "as in space: {learning_rate: {low: 1e-5, high: 1e-3, log: true}}");
            }
        }
    }
}

section! {
    /// One field that is left open: a range (`low`, `high`), a list (`values`), what follows from others (`equals`), or shares of a
    /// whole (`shares`).
    pub struct Searched |f| {
        /// Its path, as `--set` takes it; of `shares`, a name for them.
        field: Valued<String> = f.aliases(&["name", "path"]).required(text());
        /// The lowest value.
        low: Option<Valued<f64>> = f.aliases(&["min", "lower"]).optional(number(..));
        /// The highest value.
        high: Option<Valued<f64>> = f.aliases(&["max", "upper"]).optional(number(..));
        /// On a logarithmic scale.
        log: Valued<bool> = f.default(truth(), false, "decision: said where it is meant");
        /// Only `low`, `low + step`, ..
        step: Option<Valued<f64>> = f.aliases(&["q"]).optional(number(above(0.0)));
        /// Whether values are whole numbers; left out, as the field is, or as `low`, `high` and `step` are.
        whole: Option<Valued<bool>> = f.aliases(&["int", "integer"]).optional(truth());
        /// One of these.
        values: Option<Valued<Values>> = f.aliases(&["choices", "choice", "categories"]).optional(list_of_scalars());
        /// It follows: a sum, product or number over other fields, as in `2 * stages.0.lora_rank`.
        equals: Option<Valued<Value>> = f.optional(scalar());
        /// Fields that sum to `total`.
        shares: Option<Valued<Vec<String>>> = f.optional(list(2, text()));
        /// What the shares sum to.
        total: Valued<f64> = f.default(number(above(0.0)), 100.0, "decision: percent");
        /// Shares are multiples of this.
        grain: Valued<f64> = f.default(number(above(0.0)), 1.0, "decision: a finer share changes nothing that is noticed");
        /// Each share is at least this.
        floor: Valued<f64> = f.default(number(0.0..), 0.0, "decision: a source may be left out");
        /// It is there only while another field has one of these values; else it is taken out of the recipe.
        when: Vec<Condition> = f.keyed_sections("field", "values", "values");
        /// Not above this field, which is searched too and stands before it.
        at_most: Option<Valued<String>> = f.optional(text());
        /// Not below this field, which is searched too and stands before it.
        at_least: Option<Valued<String>> = f.optional(text());
        /// Where a good value is expected. A hint to the sampler, no bound.
        around: Option<Valued<Value>> = f.aliases(&["prior"]).optional(scalar());
        /// How sure `around` is: one standard deviation, as a share of the range.
        spread: Valued<f64> = f.default(number(above_to(0.0, 1.0)), 0.2, "decision: two thirds of the range within two deviations");
    }
    check |r| {
        let name = field.as_ref().map_or("it", |field| field.value.as_str());
        let place = || field.as_ref().and_then(Valued::place);
        let forms = [
            low.as_ref().is_some_and(Option::is_some) || high.as_ref().is_some_and(Option::is_some),
            values.as_ref().is_some_and(Option::is_some),
            equals.as_ref().is_some_and(Option::is_some),
            shares.as_ref().is_some_and(Option::is_some),
        ];
        match forms.iter().filter(|form| **form).count() {
            1 => {}
            0 => r.problem(place(), format!("`{}`: nothing says what {name} may be", r.path), "give low and high, values, equals, or shares"),
            _ => r.problem(place(), format!("`{}`: {name} is given in two ways", r.path), "give one: low and high, values, equals, or shares"),
        }
        match (&low, &high) {
            (Some(Some(one)), Some(None)) | (Some(None), Some(Some(one))) => {
                r.problem(one.place(), format!("`{}`: a range has a `low` and a `high`", r.path), "add the other one");
            }
            _ => {}
        }
        if let Some(when) = &when && when.len() > 1 {
            r.problem(when[1].field.place(), format!("`{}` names two fields", r.path_of("when")), "name one");
        }
        if let (Some(log), true) = (&log, is(&log) == Some(true)) && !forms[0] {
            r.problem(log.place(), format!("`{}` has no effect without `low` and `high`", log.path), "remove it");
        }
    }
}

/// Scalars in a list; no two the same.
pub type Values = Vec<Value>;

/// A list of scalars, or one that stands for a list of it.
fn list_of_scalars() -> crate::kind::Kind<Values> {
    let item = scalar();
    let schema = serde_json::json!({"anyOf": [{"type": "array", "minItems": 1, "items": item.schema}, item.schema]});
    let read = move |node: &crate::tree::Node, path: &str, cx: &mut Context| match &node.content {
        crate::tree::Content::List(nodes) if !nodes.is_empty() => {
            let read = |(index, node)| (item.read)(node, &format!("{path}.{index}"), cx);
            // All of them, so that all problems are seen.
            let values: Vec<Option<Value>> = nodes.iter().enumerate().map(read).collect();
            values.into_iter().collect()
        }
        crate::tree::Content::Scalar { .. } => (item.read)(node, path, cx).map(|value| vec![value]),
        _ => cx.expected(node, path, "a list of values", "write it in brackets"),
    };
    crate::kind::Kind { text: "a list of values".into(), schema, read: Box::new(read) }
}

section! {
    /// What another field must be.
    pub struct Condition |f| {
        /// The other field, which is searched too and stands before.
        field: Valued<String> = f.required(text());
        /// Its values.
        values: Valued<Values> = f.required(list_of_scalars());
    }
}

section! {
    /// One axis.
    pub struct Sought |f| {
        /// What is measured: `validation_loss`, or of a last stage of kind `rft` `reward` and the other signals of its validation;
        /// `forgetting`, `NAME` of a watched general suite (the rise of its loss in percent), or what a program reports.
        metric: Valued<String> = f.required(text());
        /// Which way it is better.
        direction: Valued<Sense> = f.aliases(&["goal", "mode"]).default(choice(), Sense::Minimize, "decision: most are losses");
    }
}

section! {
    /// What must hold of a trial.
    pub struct Limit |f| {
        /// What is measured, as an objective is; also `memory_gib`, planned, and `seconds` and `tokens`, by then.
        metric: Valued<String> = f.required(text());
        /// It is at most this.
        at_most: Option<Valued<f64>> = f.aliases(&["max"]).optional(number(..));
        /// It is at least this.
        at_least: Option<Valued<f64>> = f.aliases(&["min"]).optional(number(..));
    }
    check |r| {
        if let (Some(None), Some(None)) = (&at_most, &at_least) {
            r.problem(None, format!("`{}` has no bound", r.path), "give at_most or at_least");
        }
    }
}

section! {
    /// What carries trials out in place of Temper's own training: jobs of Nova Forge on AWS, or a program, by the keys from `command` on.
    /// Each run of a program begins in a folder of its own and is told in its environment: `TEMPER_TRIAL` (its
    /// number), `TEMPER_TRIAL_DIR`, `TEMPER_SEED`, and `TEMPER_RESUME`, the checkpoint to go on from, empty at first. It reports
    /// its metrics with `step` and, when it has saved one, `checkpoint` (a path). To pause or stop it, SIGTERM is sent.
    pub struct Trainer |f| {
        /// Trials are training jobs of SageMaker.
        sagemaker: Option<SagemakerJobs> = f.section();
        /// Trials are customization jobs of Bedrock.
        bedrock: Option<BedrockJobs> = f.section();
        /// Trials are runs of a program; where they are no jobs.
        program: Option<ProgramTrainer> = {
            let (on_sagemaker, on_bedrock) = (matches!(sagemaker, Some(Some(_)) | None), matches!(bedrock, Some(Some(_)) | None));
            let because = if on_sagemaker { "sagemaker" } else { "bedrock" };
            f.only_when(!on_sagemaker && !on_bedrock, because, |f| f.group())
        };
    }
    check |r| {
        if let (Some(Some(_)), Some(Some(second))) = (&sagemaker, &bedrock) {
            let message = format!("`{}` and `sagemaker` exclude each other", r.path_of("bedrock"));
            r.problem(second.jobs.recipe.place(), message, "keep one of them");
        }
    }
}

impl Trainer {
    /// Where its first value stands.
    fn place(&self) -> Option<crate::problem::Place> {
        let recipe = self.jobs().and_then(|jobs| jobs.recipe.place());
        recipe.or_else(|| self.program.as_ref().and_then(|program| program.command.place()))
    }

    /// All values, with where they came from.
    pub fn settings(&self) -> Vec<Setting> {
        let mut all = Vec::new();
        Settings::settings(self, &mut all);
        all
    }

    /// What jobs of either platform need; none of a program.
    pub fn jobs(&self) -> Option<&Jobs> {
        let of_sagemaker = self.sagemaker.as_ref().map(|sagemaker| &sagemaker.jobs);
        of_sagemaker.or(self.bedrock.as_ref().map(|bedrock| &bedrock.jobs))
    }
}

section! {
    /// A program that carries trials out: [`Trainer`] says how.
    pub struct ProgramTrainer |f| {
        /// The program and its arguments. `{FIELD}` is replaced by a value, `{file}`, `{dir}`, `{seed}`, `{trial}` and `{resume}` by what they name.
        command: Valued<Vec<String>> = f.required(list(1, text()));
        /// How it is given the values that no `{FIELD}` takes.
        values: Valued<ValuesAs> = f.default(choice(), ValuesAs::Arguments, "as W&B's agent does");
        /// The file that `values: file` fills in, a template (`{{ learning_rate }}`, by Jinja's rules).
        template: Option<Valued<PathBuf>> = f.optional(crate::kind::data_file());
        /// Where its metrics are read from.
        metrics: Valued<MetricSource> = f.default(choice(), MetricSource::Stdout, "decision: nothing to be found or named");
        /// Its last step, at which a trial has its full length.
        steps: Valued<u64> = f.aliases(&["max_steps"]).required(integer(1..));
        /// Minutes after which a trial that has not ended has failed; left out: never.
        timeout_minutes: Option<Valued<f64>> = f.optional(number(above(0.0)));
        /// Seconds from SIGTERM to SIGKILL.
        grace_seconds: Valued<f64> = f.default(number(0.0..), 60.0, "decision: time to write a checkpoint");
        /// Whether it can go on from a checkpoint: else what would be paused is stopped.
        resumes: Valued<bool> = f.default(truth(), false, "decision: a program is not believed to, unasked");
        /// Exit codes that mean a trial which could not be carried out with these values, such as too little memory: it has failed,
        /// and the search goes on. Any other code but 0 counts too, and three in a row end the search.
        fail_codes: Valued<Vec<u64>> = f.default(list(0, integer(0..=255)), Vec::new(), "decision: every code is told");
    }
    check |r| {
        if let (Some(values), Some(template)) = (&values, &template) {
            let file = values.value == ValuesAs::File;
            match template {
                None if file => r.problem(values.place(), format!("`{}` is missing", r.path_of("template")), "name the file to be filled in"),
                Some(template) if !file => {
                    r.problem(template.place(), format!("`{}` has no effect without values: file", template.path), "remove it, or say values: file");
                }
                _ => {}
            }
        }
    }
}

section! {
    /// A search whose trials a program or jobs on AWS carry out: a recipe without a base and stages.
    pub struct StudyFile |f| {
        /// The name of the study.
        name: Valued<String> = f.required(run_name());
        /// Seed of what is drawn.
        seed: Valued<u64> = f.default(integer(0..), 42, "the default of Hugging Face's TrainingArguments");
        /// Folder of the study, relative to the working directory.
        output: Valued<PathBuf> = {
            let folder = name.as_ref().map_or("NAME", |name| name.value.as_str());
            f.aliases(&["output_dir"]).default(text().map(PathBuf::from), PathBuf::from("runs").join(folder), "decision: runs/NAME")
        };
        /// What is searched.
        tune: Tune = f.section().and_then(|tune| tune);
    }
    check |r| {
        if let Some(tune) = &tune && tune.trainer.is_none() {
            r.problem(None, "`tune.trainer` is missing", "a file without `base` and `stages` names what carries trials out");
        }
    }
}

impl StudyFile {
    /// Reads such a file as [`Recipe::load`](crate::Recipe::load) reads a recipe.
    ///
    /// # Errors
    /// All problems at once.
    pub fn load(file: &std::path::Path, sets: &[String]) -> Result<(Self, Vec<Note>), RecipeErrors> {
        crate::recipe::load(file, sets, Self::read, Self::DOC)
    }
}

/// Whether the file is a [`StudyFile`]: its `tune` has a `trainer`, and it has no `stages`. What cannot be read is not.
pub fn is_study(file: &std::path::Path) -> bool {
    let Ok(text) = std::fs::read_to_string(file) else { return false };
    let Some(root) = crate::tree::parse(&text, None, &mut Vec::new()) else { return false };
    let crate::tree::Content::Map(entries) = &root.content else { return false };
    let has = |key: &str| entries.iter().find(|entry| entry.key == key);
    let trained = has("tune").is_some_and(|tune| match &tune.value.content {
        crate::tree::Content::Map(entries) => entries.iter().any(|entry| entry.key == "trainer"),
        _ => false,
    });
    trained && has("stages").is_none()
}
