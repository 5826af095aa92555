//! How long a stage trains, and which parts of that are warm-up and decay.

use serde::Serialize;

use crate::kind::{above, above_to, integer, number};
use crate::reader::{Alternative, Read, Section};
use crate::settings::Valued;

/// How long a stage trains.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Duration {
    /// `max_steps`: optimiser steps.
    Steps(u64),
    /// `num_train_epochs`: passes over the domain data.
    Epochs(f64),
}

/// A part of a stage's steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Span {
    /// A number of optimiser steps.
    Steps(u64),
    /// A share of all steps, 0 to 1.
    Ratio(f64),
}

impl Span {
    /// The number of steps it is of `total` steps; a ratio is rounded up, as in Hugging Face's `get_warmup_steps`.
    pub fn steps(self, total: u64) -> u64 {
        match self {
            Self::Steps(steps) => steps,
            Self::Ratio(ratio) => (ratio * total as f64).ceil() as u64,
        }
    }
}

/// `max_steps` or `num_train_epochs`; left out, so many epochs for that reason.
pub(crate) fn duration_of(r: &mut Section<'_>, (epochs, why): (f64, &'static str)) -> Option<Valued<Duration>> {
    let steps = Alternative {
        name: "max_steps",
        doc: "Optimiser steps to train; instead of `num_train_epochs`.",
        aliases: &["iters"],
        kind: integer(1..).map(Duration::Steps),
    };
    let passes = Alternative {
        name: "num_train_epochs",
        doc: "Passes over the domain data; instead of `max_steps`.",
        aliases: &["num_epochs", "epochs"],
        kind: number(above(0.0)).map(Duration::Epochs),
    };
    r.field("duration", "").one_of(vec![steps, passes], Some((1, Duration::Epochs(epochs), why)))
}

/// `warmup_steps` or `warmup_ratio`.
pub(crate) struct Warmup(pub Valued<Span>);

impl Read for Warmup {
    const DOC: &'static str = "";

    fn read(r: &mut Section<'_>) -> Option<Self> {
        let steps = Alternative {
            name: "warmup_steps",
            doc: "Steps of the warm-up; instead of `warmup_ratio`.",
            aliases: &["num_warmup_steps"],
            kind: integer(0..).map(Span::Steps),
        };
        let ratio = Alternative {
            name: "warmup_ratio",
            doc: "Share of all steps that are warm-up, rounded up; instead of `warmup_steps`.",
            aliases: &["lr_warmup_ratio"],
            kind: number(0.0..=1.0).map(Span::Ratio),
        };
        let why = "the low end of the usual 0.03 to 0.1; the QLoRA paper's (Dettmers et al. 2023)";
        r.field("warmup", "").one_of(vec![steps, ratio], Some((1, Span::Ratio(0.03), why))).map(Self)
    }
}

/// `decay_steps` or `decay_ratio`.
pub(crate) struct Decay(pub Valued<Span>);

impl Read for Decay {
    const DOC: &'static str = "";

    fn read(r: &mut Section<'_>) -> Option<Self> {
        let steps = Alternative {
            name: "decay_steps",
            doc: "Last steps in which the learning rate falls, for `wsd`; instead of `decay_ratio`.",
            aliases: &[],
            kind: integer(1..).map(Span::Steps),
        };
        let ratio = Alternative {
            name: "decay_ratio",
            doc: "Share of all steps in which the learning rate falls, for `wsd`; instead of `decay_steps`.",
            aliases: &[],
            kind: number(above_to(0.0, 1.0)).map(Span::Ratio),
        };
        let why = "a decay of 10 to 20 % of the steps matches cosine (Hägele et al. 2024)";
        r.field("decay", "").one_of(vec![steps, ratio], Some((1, Span::Ratio(0.2), why))).map(Self)
    }
}
