//! How long, how fast, how often: steps, warm-up, validation, checkpoints.

use super::{ARTICLE, Cited, Find, GUIDE, Rule, SDK_BLOG, Severity, Symptom, hit, shown};

const NEVER: Cited = Cited {
    what: "aws/sagemaker-hyperpod-recipes @ 2631995: val_check_interval 2500 beside max_steps 100, save_steps 5 beside max_steps 2",
    when: "June 2026",
};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "warmup-takes-the-run",
        severity: Severity::Warning,
        when: "the warm-up takes half of a stage's steps or more, and more than one",
        reason: "the learning rate comes to its height late or never; usual are 3 to 15 % of the steps",
        source: SDK_BLOG,
        action: "lower the warm-up, or train longer",
        shows: None,
        explains: &[Symptom::NoGain],
        find: Find::Stage(|view| {
            let (warmup, steps) = (view.stage.fit.learning_rate.warmup_steps, view.stage.steps);
            (warmup > 1 && 2 * warmup >= steps).then(|| {
                let field = if view.number("warmup_steps").is_some() { "warmup_steps" } else { "warmup_ratio" };
                let found = format!("the warm-up takes {warmup} of {steps} steps");
                hit(view.path(field), found).remove(view.path(field))
            })
        }),
    },
    Rule {
        id: "more-than-one-epoch-of-cpt",
        severity: Severity::Warning,
        when: "a stage of cpt sees its domain more than once",
        reason: "continued pretraining takes at most one epoch: more of it learns the text by heart",
        source: ARTICLE,
        action: "train for one epoch, or add text",
        shows: None,
        explains: &[Symptom::Overfitting, Symptom::Forgetting],
        find: Find::Stage(|view| {
            // The last step of an epoch may begin the next.
            let epochs = view.epochs();
            (view.is(&["cpt"]) && epochs > 1.05).then(|| {
                let found = format!("the domain is seen {} times", shown(epochs));
                hit(view.path("train"), found).stretched(view, 1.0 / epochs)
            })
        }),
    },
    Rule {
        id: "many-epochs",
        severity: Severity::Warning,
        when: "the domain is seen more than twice as often as the guide has it: sft of all weights once, sft with LoRA twice, \
               dpo three \
               times",
        reason: "rows that come again and again are learnt by heart",
        source: GUIDE,
        action: "train for fewer epochs, or add rows",
        shows: None,
        explains: &[Symptom::Overfitting, Symptom::Forgetting],
        find: Find::Stage(|view| {
            let usual = match (view.stage.kind.as_str(), view.mode()) {
                ("sft", "full") => 1.0,
                ("sft", _) => 2.0,
                ("dpo", _) => 3.0,
                _ => return None,
            };
            let epochs = view.epochs();
            (epochs > 2.0 * usual + 0.05).then(|| {
                let found = format!("the domain is seen {} times", shown(epochs));
                hit(view.path("train"), found).stretched(view, usual / epochs)
            })
        }),
    },
    Rule {
        id: "validation-never-fires",
        severity: Severity::Warning,
        when: "a stage has validation rows and more than one step, and eval_steps is not below its steps",
        reason: "nothing is measured between start and end: no best weights to choose, no early end, no sign of overfitting",
        source: NEVER,
        action: "lower eval_steps to a fifth of the steps",
        shows: None,
        explains: &[],
        find: Find::Stage(|view| {
            let (every, steps) = (view.number("eval_steps")?, view.stage.steps as f64);
            (steps > 1.0 && every >= steps).then(|| {
                let path = view.path("eval_steps");
                hit(path.clone(), format!("eval_steps is {every}, and the stage has {steps} steps"))
                    .set(path, (steps / 5.0).ceil())
            })
        }),
    },
    Rule {
        id: "save-beyond-the-end",
        severity: Severity::Note,
        when: "save_steps is above the steps of a stage, which has more than 20",
        reason: "no checkpoint is written on the way: a run that is stopped begins anew",
        source: NEVER,
        action: "lower save_steps to a fifth of the steps",
        shows: None,
        explains: &[],
        find: Find::Stage(|view| {
            let (every, steps) = (view.number("save_steps")?, view.stage.steps as f64);
            (steps > 20.0 && every > steps).then(|| {
                let path = view.path("save_steps");
                hit(path.clone(), format!("save_steps is {every}, and the stage has {steps} steps"))
                    .set(path, (steps / 5.0).ceil())
            })
        }),
    },
    Rule {
        id: "rows-never-seen",
        severity: Severity::Note,
        when: "a stage of sft or cpt ends before it has seen half of its domain rows",
        reason: "an epoch is rows by batch: a run of fixed steps may end long before it",
        source: SDK_BLOG,
        action: "raise max_steps, or leave it out and train for an epoch",
        shows: None,
        explains: &[Symptom::NoGain],
        find: Find::Stage(|view| {
            let epochs = view.epochs();
            (view.is(&["sft", "cpt"]) && epochs > 0.0 && epochs < 0.5).then(|| {
                let found = format!("{} of an epoch is trained", shown(epochs));
                hit(view.path("train"), found).stretched(view, 1.0 / epochs)
            })
        }),
    },
];
