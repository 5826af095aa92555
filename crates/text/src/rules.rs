//! What a row may say and what of it is trained: the choices that a recipe makes.

/// How conversations are rendered. The default is the strict choice throughout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChatRules {
    /// Whether text of the row that spells a control token (`<|im_end|>`) becomes that token. Otherwise it stays text.
    pub allow_control_tokens: bool,
    /// Only the conversation's last assistant turn is trained.
    pub last_turn_only: bool,
    /// Whether the turns of a conversation are trained in one row.
    pub turns: Turns,
    /// What to do where prompt and answer, encoded as one text, give other tokens than encoded apart.
    pub boundary: Boundary,
}

/// Whether the turns of a conversation are trained in one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Turns {
    /// One row with all turns. A conversation is refused whose template renders a turn otherwise once it is not the last, as
    /// templates of reasoning models do: training would not match use.
    #[default]
    Together,
    /// A row for each trained turn: the conversation up to it, in which it is the last.
    Apart,
}

/// The boundary between a prompt and the answer after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Boundary {
    /// Encoded apart, as generation does it.
    #[default]
    Apart,
    /// Refused where encoding both as one text gives other tokens.
    Refuse,
}
