//! From which kind of checkpoint to start: what Amazon's pages on Nova advise, by technique and by how much data there is.
//!
//! Nothing here was measured on a model of this size; `temper probe` measures. Where the pages disagree, both are said.

use serde::Serialize;
use temper_recipe::{CheckpointKind, Mode, Recipe, Stage, StageKind};

/// What is advised, and by whom.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Advice {
    /// The kinds, the first before the second; several where sources disagree.
    pub kinds: Vec<CheckpointKind>,
    /// Why, with its source.
    pub because: String,
}

const ARTICLE: &str = "AWS ML blog, June 2026";
const CPT_PAGE: &str = "Nova Forge guide, page on CPT";
const SFT_PAGE: &str = "Nova Forge guide, page on SFT";

/// Demonstrations from which the page on SFT counts.
const DEMONSTRATIONS: usize = 1000;

/// Of the recipe's first stage, whose domain has so many tokens and rows; none where the recipe says of no checkpoint what kind
/// it is.
pub(crate) fn advice(recipe: &Recipe, tokens: usize, rows: usize) -> Vec<Advice> {
    use CheckpointKind::{MidTrained, PostTrained, PreTrained};
    let Some(stage) = recipe.stages.first().filter(|_| recipe.base.kind.is_some() || !recipe.checkpoints.is_empty())
    else {
        return Vec::new();
    };
    let billions = tokens as f64 / 1e9;
    let advise = |kinds: &[CheckpointKind], because: String| Advice { kinds: kinds.to_vec(), because };
    let mut all = match (stage.kind.value, stage.mode.value) {
        (StageKind::Cpt, _) if billions > 100.0 => {
            vec![advise(&[PreTrained], format!("CPT on more than 100 billion tokens ({ARTICLE}; {CPT_PAGE})"))]
        }
        (StageKind::Cpt, _) if billions > 10.0 => vec![
            advise(&[PreTrained, MidTrained], format!("CPT on more than 10 billion tokens ({CPT_PAGE})")),
            advise(
                &[PostTrained],
                format!("earlier checkpoints pay off above 100 billion tokens only ({ARTICLE}): the sources disagree"),
            ),
        ],
        (StageKind::Cpt, _) => vec![advise(
            &[PostTrained],
            format!(
                "CPT on {}, less than 10 billion, or to keep what follows instructions ({CPT_PAGE}; {ARTICLE})",
                shown(tokens)
            ),
        )],
        (StageKind::Sft, Mode::Full) if rows >= DEMONSTRATIONS => vec![
            advise(&[MidTrained], format!("full rank on {DEMONSTRATIONS} demonstrations or more ({SFT_PAGE})")),
            advise(
                &[PostTrained],
                format!("full rank from an earlier checkpoint wants large structured data ({ARTICLE})"),
            ),
        ],
        (StageKind::Sft, Mode::Full) => vec![advise(
            &[PostTrained],
            format!(
                "{rows} demonstrations, fewer than the {DEMONSTRATIONS} from which an earlier one is advised ({SFT_PAGE})"
            ),
        )],
        (StageKind::Sft, Mode::Lora | Mode::LoraThenFull) => {
            vec![advise(
                &[PostTrained],
                format!("LoRA, the advised start, keeps its alignment ({ARTICLE}; {SFT_PAGE})"),
            )]
        }
        (StageKind::Dpo | StageKind::Rft, _) => Vec::new(),
    };
    let answers = |stage: &Stage| stage.kind.value != StageKind::Cpt;
    if stage.kind.value == StageKind::Cpt && !recipe.stages.iter().any(answers) {
        let because = "no stage after it teaches instructions, which one of an earlier checkpoint needs";
        all.push(advise(&[PostTrained], format!("{because} ({ARTICLE})")));
    }
    all
}

/// `3.2 million tokens`.
fn shown(tokens: usize) -> String {
    match tokens {
        1_000_000.. => format!("{:.1} million tokens", tokens as f64 / 1e6),
        _ => format!("{tokens} tokens"),
    }
}
