//! Jobs of Nova Forge that carry the trials of a search out.

use std::path::PathBuf;

use serde_json::Value;

use crate::kind::{above, data_file, integer, number, scalar, text, truth};
use crate::reader::section;
use crate::settings::Valued;

section! {
    /// What jobs of SageMaker and of Bedrock both need.
    pub struct Jobs |f| {
        /// A recipe of Nova's. The names of `space` are paths in it, such as `training_config.optim_config.lr`; its own values are trial 0.
        recipe: Valued<PathBuf> = f.required(data_file());
        /// The region; left out, that of AWS's environment or profile.
        region: Option<Valued<String>> = f.optional(text());
        /// The profile of AWS's files whose credentials are taken; left out, the first of AWS's chain.
        profile: Option<Valued<String>> = f.optional(text());
        /// ARN of the role that jobs run as.
        role: Option<Valued<String>> = f.optional(text());
        /// Training rows in S3, in place of the recipe's.
        train: Option<Valued<String>> = f.optional(text());
        /// Validation rows in S3, in place of the recipe's.
        validation: Option<Valued<String>> = f.optional(text());
        /// Where in S3 jobs write, in place of the recipe's.
        output: Option<Valued<String>> = f.optional(text());
        /// Serverless and Bedrock: the model to start from.
        base_model: Option<Valued<String>> = f.optional(text());
        /// USD that all jobs of the study may cost together. Left out, none is started.
        max_cost: Option<Valued<f64>> = f.optional(number(above(0.0)));
        /// Serverless and Bedrock: millions of tokens that a job trains on, all epochs together; a number, or arithmetic over searched
        /// fields, as in `4.2 * hyperParameters.epochCount`.
        million_tokens: Option<Valued<Value>> = f.optional(scalar());
        /// Serverless and Bedrock: USD of a million tokens.
        price_per_million: Option<Valued<f64>> = f.optional(number(above(0.0)));
        /// Seconds between two questions how a job stands.
        poll_seconds: Valued<f64> = f.default(number(above(0.0)), 60.0, "decision: jobs take hours, and AWS throttles who asks often");
        /// Another number starts all jobs anew, in place of those that were started with the same values before.
        attempt: Valued<u64> = f.default(integer(0..=999), 0, "decision: the same job twice is one job");
    }
}

section! {
    /// Training jobs of SageMaker that carry trials out, one each: on machines of your choice where the recipe is HyperPod's YAML,
    /// serverless where it is hyperparameters. Only in a build with `--features aws`: docs/nova.md.
    pub struct SagemakerJobs |f| {
        /// What Bedrock's need as well.
        jobs: Jobs = f.group();
        /// Machines of your choice: AWS's image for the technique.
        image: Option<Valued<String>> = f.optional(text());
        /// Machines of your choice: their kind, such as ml.p5.48xlarge. Their number is the recipe's `run.replicas`.
        instance_type: Option<Valued<String>> = f.optional(text());
        /// Hours after which SageMaker ends a job.
        max_hours: Option<Valued<f64>> = f.optional(number(above(0.0)));
        /// Machines of your choice: USD of one in an hour.
        price_per_hour: Option<Valued<f64>> = f.optional(number(above(0.0)));
        /// Serverless: the group that models are registered in.
        model_group: Option<Valued<String>> = f.optional(text());
        /// Serverless RFT: what scores.
        evaluator: Option<Valued<String>> = f.optional(text());
        /// Serverless: train all weights, not LoRA.
        full_rank: Valued<bool> = f.default(truth(), false, "LoRA, as in AWS's own recipes for serverless jobs");
        /// Serverless: you accept the licence of the model.
        accept_eula: Valued<bool> = f.default(truth(), false, "a licence is the user's to accept");
        /// Machines of your choice: what SageMaker reads out of a job's log, a name and a regular expression with one group each.
        metrics: Vec<LogMetric> = f.keyed_sections("name", "pattern", "pattern");
        /// The last step. With it a trial is measured on its way too, where the job's description tells a metric `step`.
        steps: Option<Valued<u64>> = f.optional(integer(1..));
    }
    check |r| {
        if let (Some(metrics), Some(Some(steps))) = (&metrics, &steps)
            && !metrics.iter().any(|metric| metric.name.value == "step")
        {
            let message = format!("`{}` has no effect without a metric `step`", steps.path);
            r.problem(steps.place(), message, "add it to `metrics`, as in step: 'global_step=([0-9]+)'");
        }
    }
}

section! {
    /// A metric that SageMaker reads out of a job's log.
    pub struct LogMetric |f| {
        /// Its name, by which objectives and constraints call it.
        name: Valued<String> = f.required(text());
        /// A regular expression whose one group is the number; the last that matches counts.
        pattern: Valued<String> = f.required(text());
    }
}

section! {
    /// Model customization jobs of Bedrock that carry trials out, one each. Only in a build with `--features aws`: docs/nova.md.
    pub struct BedrockJobs |f| {
        /// What SageMaker's need as well.
        jobs: Jobs = f.group();
    }
}
