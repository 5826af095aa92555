//! Why a row cannot be rendered.

use crate::TemplateError;

/// Why a row cannot be rendered. Messages are numbered from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// Messages, but no template.
    #[error(
        "rows of messages need a chat template and this model has none\nhint: use rows of prompt and completion, or give a template"
    )]
    NoTemplate,
    /// The template failed.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// An empty conversation.
    #[error("a conversation without messages")]
    NoMessages,
    /// A role that is none of the known ones.
    #[error("message {message}: role `{role}` is not supported, expected system, developer, user, assistant or tool")]
    UnknownRole {
        /// Which message.
        message: usize,
        /// Its role.
        role: String,
    },
    /// Nothing to train on.
    #[error("no assistant turn, so there is nothing to train on")]
    NoAssistantTurn,
    /// A turn marked as trained that is not the assistant's.
    #[error("message {message}: a turn of role `{role}` is marked as trained, expected only assistant turns")]
    TrainedRole {
        /// Which message.
        message: usize,
        /// Its role.
        role: String,
    },
    /// The assistant speaks before anybody asked.
    #[error("message 1: a conversation cannot start with an assistant turn")]
    AssistantFirst,
    /// Two assistant turns in a row.
    #[error("message {message}: an assistant turn follows an assistant turn\nhint: join them into one")]
    AssistantTwice {
        /// The second of them.
        message: usize,
    },
    /// A prompt whose last turn is the assistant's.
    #[error("message {message}: a prompt cannot end with an assistant turn")]
    EndsWithAssistant {
        /// The last message.
        message: usize,
    },
    /// The template leaves a content out or prints it more than once.
    #[error("message {message} ({role}): the chat template prints its content {times} times, expected once")]
    ContentCount {
        /// Which message.
        message: usize,
        /// Its role.
        role: String,
        /// How often.
        times: usize,
    },
    /// The template prints a content in another form, or not at all.
    #[error(
        "message {message} ({role}): the chat template leaves its content out, or changes it by more than trimming spaces, so what is trained cannot be told"
    )]
    ContentChanged {
        /// Which message.
        message: usize,
        /// Its role.
        role: String,
    },
    /// The template does not print a call.
    #[error(
        "message {message} (assistant): the chat template does not print its call of `{name}`, which would be lost\nhint: give a template that knows tools, or write the call into the content"
    )]
    CallDropped {
        /// The assistant turn.
        message: usize,
        /// The function called.
        name: String,
    },
    /// The template does not print a tool.
    #[error(
        "the chat template does not print the tool `{name}`, which would be lost\nhint: give a template that knows tools, or write them into the system message"
    )]
    ToolDropped {
        /// The tool.
        name: String,
    },
    /// A turn, or what stands before it, is rendered otherwise once it is not the last.
    #[error(
        "message {message} (assistant): the chat template renders this turn, or what stands before it, otherwise in the whole conversation than where the turn is the last, so training would not match use\nhint: `turns: apart` makes a row of each turn, in which it is the last"
    )]
    NotAPrefix {
        /// The assistant turn.
        message: usize,
    },
    /// No conversation starts with the prompt of its turn.
    #[error(
        "the chat template's generation prompt is no beginning of the turns that it renders, so nothing can be trained with it: the prompt goes on with {prompt:?} where the conversation goes on with {turn:?}\nhint: give a template whose turns start as its generation prompt does"
    )]
    PromptNotInTurn {
        /// The prompt from where they part.
        prompt: String,
        /// The conversation from there.
        turn: String,
    },
    /// The tokens of prompt and answer depend on whether they are encoded apart, and the rules refuse that.
    #[error(
        "message {message} (assistant): prompt and answer, encoded as one text, give other tokens at their boundary than encoded apart\nhint: `boundary: apart` encodes them apart, as generation does"
    )]
    AmbiguousBoundary {
        /// The assistant turn.
        message: usize,
    },
    /// The generation prompt stops short of the turn's header.
    #[error(
        "the chat template's generation prompt ends before the special token {token:?} of an assistant turn's header, so the header would be trained"
    )]
    HeaderNotInPrompt {
        /// The token.
        token: String,
    },
    /// Nothing says where an assistant turn ends.
    #[error(
        "the chat template ends an assistant turn without a special token, so a model trained on it would never stop"
    )]
    NoEndOfTurn,
    /// A turn ends otherwise than turns of this template do.
    #[error("message {message} (assistant): the turn ends with {got:?}, expected {expected:?}")]
    OtherEndOfTurn {
        /// The assistant turn.
        message: usize,
        /// The template's end of turn.
        expected: String,
        /// What stood there.
        got: String,
    },
    /// A character that the vocabulary cannot spell.
    #[error(
        "{place}: character U+{:04X} at byte {at} has no token in this vocabulary and would be lost\nhint: remove it from the text", *.character as u32
    )]
    Unencodable {
        /// Where: `message 2 (user)`, `prompt`, ...
        place: String,
        /// Byte offset in it.
        at: usize,
        /// The character.
        character: char,
    },
    /// The tokenizer names no end-of-sequence token.
    #[error("the tokenizer names no end-of-sequence token, so a model trained with it would never stop")]
    NoEos,
    /// A plain text without any.
    #[error("the text is empty")]
    EmptyText,
    /// A token named as document boundary is not a special token of the vocabulary.
    #[error("document boundary {0:?} is not a special token of this vocabulary")]
    UnknownBoundary(String),
}
