//! How a recipe asks for rows, in the words of their reader.

use temper_data::{Format, ReadOptions, RowRules, Wanted};
use temper_recipe::{RowFiles, RowFormat, Stage, StageKind};
use temper_text::{Boundary, ChatRules, Turns};

/// How the files of a source are read.
pub(crate) fn read_options(files: &RowFiles) -> ReadOptions {
    let format = files.format.map(|format| match format {
        RowFormat::Messages => Format::Messages,
        RowFormat::Converse => Format::Converse,
        RowFormat::Sharegpt => Format::Sharegpt,
        RowFormat::Alpaca => Format::Alpaca,
        RowFormat::PromptCompletion => Format::PromptCompletion,
        RowFormat::QuestionAnswer => Format::QuestionAnswer,
        RowFormat::Preference => Format::Preference,
        RowFormat::Rft => Format::Rft,
        RowFormat::Text => Format::Text,
    });
    ReadOptions { format, columns: files.columns.clone(), ending: None }
}

/// How the rows of a stage become tokens.
pub(crate) fn row_rules(stage: &Stage) -> RowRules {
    // Of a prompt and its completion, the latter is still to come.
    let to_come = stage.rollouts.as_ref().map_or(0, |rollouts| rollouts.max_completion_length.value);
    let max_length = stage.max_length.value.saturating_sub(to_come) as usize;
    let wanted = match stage.kind.value {
        StageKind::Sft | StageKind::Cpt => Wanted::Answers,
        StageKind::Dpo => Wanted::Pairs,
        StageKind::Rft => Wanted::Prompts,
    };
    RowRules { max_length, chat: chat_rules(stage), wanted }
}

/// Which rows of answers a stage takes, whatever it trains on otherwise.
pub(crate) fn answer_rules(stage: &Stage) -> RowRules {
    RowRules { max_length: stage.max_length.value as usize, chat: chat_rules(stage), wanted: Wanted::Answers }
}

/// How the conversations of a stage are rendered.
fn chat_rules(stage: &Stage) -> ChatRules {
    ChatRules {
        allow_control_tokens: stage.allow_control_tokens.value,
        last_turn_only: stage.mask_history.value,
        turns: match stage.turns.value {
            temper_recipe::Turns::Together => Turns::Together,
            temper_recipe::Turns::Apart => Turns::Apart,
        },
        boundary: match stage.boundary.value {
            temper_recipe::Boundary::Apart => Boundary::Apart,
            temper_recipe::Boundary::Refuse => Boundary::Refuse,
        },
    }
}
