//! A row of data becomes token ids and a mask of what is trained.
//!
//! # How the mask is found
//! Chat templates are programs, so nothing is assumed about their markers. A conversation is rendered three ways:
//! 1. as it is: the text;
//! 2. with a placeholder for each message's content: which parts of the text are the template's and which are content;
//! 3. for each assistant turn, the messages before it with the generation prompt: the prompt at inference.
//!
//! Each prompt must be a prefix of the text, else the conversation is refused: the model would be trained on a context
//! that it never sees in use. What is trained is what the model must write after that prompt: the content, and the
//! special token that ends the turn. (Where the template puts ordinary text between prompt and content, or between
//! content and end of turn, the model must write that too, and it is trained.)
//!
//! # How the text is encoded
//! Special tokens are recognised in the template's parts only. Between two special tokens the text is encoded as a
//! whole, as at inference, except that encoding starts anew where an assistant's turn starts, as generation does. So the
//! ids of each prompt are a prefix of the ids of the conversation, and equal what `transformers` makes of the same text
//! as long as no content spells a special token.

use std::ops::Range;

use crate::{ChatTemplate, Message, Specials, TemplateError, Tokenizer};

/// Special tokens that mark the end of a document in pretraining, most specific first; see
/// [`Renderer::document_boundary`].
const DOCUMENT_BOUNDARIES: [&str; 2] = ["<|endoftext|>", "<|end_of_text|>"];

/// Brackets a placeholder; from the private use area, so no template writes it.
const PLACEHOLDER: char = '\u{F8F0}';

/// Token ids of a row, and which of them the model is trained to predict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The tokens.
    pub ids: Vec<u32>,
    /// `trained[i]`: whether `ids[i]` is a target, predicted from `ids[..i]`. Same length as `ids`; the first is
    /// false, since nothing stands before it.
    pub trained: Vec<bool>,
}

impl Rendered {
    fn new(parts: &[(&[u32], bool)]) -> Rendered {
        let ids: Vec<u32> = parts.iter().flat_map(|(ids, _)| ids.iter().copied()).collect();
        let mut trained: Vec<bool> = parts.iter().flat_map(|(ids, t)| ids.iter().map(move |_| *t)).collect();
        if let Some(first) = trained.first_mut() {
            *first = false;
        }
        Rendered { ids, trained }
    }
}

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
    /// A role that is none of the three.
    #[error("message {message}: role `{role}` is not supported, expected system, user or assistant")]
    UnknownRole {
        /// Which message.
        message: usize,
        /// Its role.
        role: String,
    },
    /// Nothing to train on.
    #[error("no assistant turn, so there is nothing to train on")]
    NoAssistantTurn,
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
    /// The template prints a content in another form.
    #[error(
        "message {message} ({role}): the chat template changes its content by more than trimming spaces, so what is trained cannot be told"
    )]
    ContentChanged {
        /// Which message.
        message: usize,
        /// Its role.
        role: String,
    },
    /// The conversation does not start with the prompt of one of its turns.
    #[error(
        "message {message} (assistant): the chat template renders the messages before it differently as a prompt and in the whole conversation, so training would not match use\nhint: cut the conversation after this turn, one row per assistant turn"
    )]
    NotAPrefix {
        /// The assistant turn.
        message: usize,
    },
    /// The generation prompt stops short of the turn's header.
    #[error(
        "message {message} (assistant): the chat template's generation prompt ends before the special token {token:?} of the turn's header, so the header would be trained"
    )]
    HeaderNotInPrompt {
        /// The assistant turn.
        message: usize,
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

/// A template that was tried once: it compiles, and its turns end with a special token.
#[derive(Debug)]
struct Chat {
    template: ChatTemplate,
    end_of_turn: u32,
}

/// Renders rows of all three kinds for one model. The only way from data to tokens.
#[derive(Debug)]
pub struct Renderer {
    tokenizer: Tokenizer,
    /// `None`: no template. An error is kept until a conversation asks for it; other rows do not need the template.
    chat: Option<Result<Chat, RenderError>>,
    eos: u32,
    bos: Option<u32>,
    document_boundary: u32,
}

impl Renderer {
    /// A renderer with the template given, or with the tokenizer's own.
    ///
    /// # Errors
    /// [`RenderError::NoEos`]. A template that fails is reported by [`Renderer::chat`], [`Renderer::prompt`] and
    /// [`Renderer::check_template`].
    pub fn new(tokenizer: Tokenizer, template: Option<&str>) -> Result<Renderer, RenderError> {
        let eos = tokenizer.eos().ok_or(RenderError::NoEos)?;
        let bos = tokenizer.bos().filter(|_| tokenizer.add_bos());
        let document_boundary = DOCUMENT_BOUNDARIES
            .iter()
            .filter_map(|token| tokenizer.id(token))
            .find(|&id| tokenizer.is_special(id))
            .unwrap_or(eos);
        let source = template.or(tokenizer.chat_template()).map(str::to_owned);
        let mut renderer = Renderer { tokenizer, chat: None, eos, bos, document_boundary };
        renderer.chat = source.map(|source| renderer.try_template(&source));
        Ok(renderer)
    }

    /// The same, with documents parted by the special token named.
    ///
    /// # Errors
    /// [`RenderError::UnknownBoundary`].
    pub fn with_document_boundary(mut self, token: &str) -> Result<Renderer, RenderError> {
        self.document_boundary = (self.tokenizer.id(token))
            .filter(|&id| self.tokenizer.is_special(id))
            .ok_or_else(|| RenderError::UnknownBoundary(token.to_owned()))?;
        Ok(self)
    }

    /// Compiles the template and finds, on a small conversation, the special token that ends an assistant turn.
    fn try_template(&self, source: &str) -> Result<Chat, RenderError> {
        let token = |id: Option<u32>| id.and_then(|id| self.tokenizer.token(id));
        let (bos, eos) = (token(self.tokenizer.bos()), token(Some(self.eos)));
        let template = ChatTemplate::new(source, bos.as_deref(), eos.as_deref())?;
        let layout = Layout::new(&template, &[Message::new("user", "a"), Message::new("assistant", "b")], false)?;
        let ending = self.tokenizer.find_specials(&layout.text[layout.following[1].clone()]);
        let &(_, end_of_turn) = ending.first().ok_or(RenderError::NoEndOfTurn)?;
        Ok(Chat { template, end_of_turn })
    }

    /// The chat template's fault, if conversations cannot be rendered.
    ///
    /// # Errors
    /// [`RenderError::NoTemplate`], [`RenderError::NoEndOfTurn`], or what the template said.
    pub fn check_template(&self) -> Result<(), RenderError> {
        self.usable_chat().map(|_| ())
    }

    fn usable_chat(&self) -> Result<&Chat, RenderError> {
        match &self.chat {
            None => Err(RenderError::NoTemplate),
            Some(Err(error)) => Err(error.clone()),
            Some(Ok(chat)) => Ok(chat),
        }
    }

    /// A conversation for training: trained are the assistant's turns, each with its end of turn, and nothing else.
    ///
    /// # Errors
    /// See [`RenderError`]; an empty assistant turn is none, it trains its end of turn.
    pub fn chat(&self, messages: &[Message]) -> Result<Rendered, RenderError> {
        let chat = self.usable_chat()?;
        self.check_messages(messages)?;
        if !messages.iter().any(|message| message.role == "assistant") {
            return Err(RenderError::NoAssistantTurn);
        }
        self.encode(chat, messages, &Layout::new(&chat.template, messages, false)?)
    }

    /// The prompt for the assistant's next turn. An exact prefix of [`Renderer::chat`] on the same messages and more.
    ///
    /// # Errors
    /// See [`RenderError`].
    pub fn prompt(&self, messages: &[Message]) -> Result<Vec<u32>, RenderError> {
        let chat = self.usable_chat()?;
        self.check_messages(messages)?;
        if messages.last().is_some_and(|message| message.role == "assistant") {
            return Err(RenderError::EndsWithAssistant { message: messages.len() });
        }
        Ok(self.encode(chat, messages, &Layout::new(&chat.template, messages, true)?)?.ids)
    }

    /// A prompt and its completion for training: trained are the completion and the end-of-sequence token after it.
    /// Both are text, encoded apart as at inference.
    ///
    /// # Errors
    /// [`RenderError::Unencodable`].
    pub fn completion(&self, prompt: &str, completion: &str) -> Result<Rendered, RenderError> {
        self.check_text("completion", completion)?;
        let prompt = self.completion_prompt(prompt)?;
        let completion = self.tokenizer.encode(completion, Specials::AsText);
        Ok(Rendered::new(&[(&prompt, false), (&completion, true), (&[self.eos], true)]))
    }

    /// The prompt of [`Renderer::completion`], for inference.
    ///
    /// # Errors
    /// [`RenderError::Unencodable`].
    pub fn completion_prompt(&self, prompt: &str) -> Result<Vec<u32>, RenderError> {
        self.check_text("prompt", prompt)?;
        let text = self.tokenizer.encode(prompt, Specials::AsText);
        Ok(self.bos.into_iter().chain(text).collect())
    }

    /// A document for continued pretraining: boundary, text, boundary, as documents stand in a pretraining stream. All
    /// is trained but the first boundary, which gives the first token of the text something to be predicted from. A
    /// model whose sequences start with a beginning-of-sequence token has that in place of the first boundary.
    ///
    /// # Errors
    /// [`RenderError::EmptyText`], [`RenderError::Unencodable`].
    pub fn text(&self, text: &str) -> Result<Rendered, RenderError> {
        self.check_text("text", text)?;
        if text.is_empty() {
            return Err(RenderError::EmptyText);
        }
        let ids = self.tokenizer.encode(text, Specials::AsText);
        let first = self.bos.unwrap_or(self.document_boundary);
        Ok(Rendered::new(&[(&[first], false), (&ids, true), (&[self.document_boundary], true)]))
    }

    /// The token that ends an assistant turn, found by rendering; the end-of-sequence token where there is no usable
    /// chat template.
    pub fn end_of_turn(&self) -> u32 {
        self.usable_chat().map_or(self.eos, |chat| chat.end_of_turn)
    }

    /// Tokens at which generation stops: end of turn, end of sequence, document boundary; each once.
    pub fn stop_ids(&self) -> Vec<u32> {
        let mut ids = vec![self.end_of_turn(), self.eos, self.document_boundary];
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// The token between documents in continued pretraining: the first of `<|endoftext|>` and `<|end_of_text|>` that is
    /// a special token of the vocabulary, else the end-of-sequence token. (Of an instruct model the latter is often the
    /// end of a turn, which never stood between documents.) [`Renderer::with_document_boundary`] sets another.
    pub fn document_boundary(&self) -> u32 {
        self.document_boundary
    }

    /// The end-of-sequence token.
    pub fn eos(&self) -> u32 {
        self.eos
    }

    /// The token that plain text starts with, where the model was trained so.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    fn check_text(&self, place: &str, text: &str) -> Result<(), RenderError> {
        match self.tokenizer.unencodable(text) {
            None => Ok(()),
            Some((at, character)) => Err(RenderError::Unencodable { place: place.to_owned(), at, character }),
        }
    }

    fn check_messages(&self, messages: &[Message]) -> Result<(), RenderError> {
        let mut before = None;
        for (index, message) in messages.iter().enumerate() {
            let role = message.role.as_str();
            match role {
                "system" | "user" => {}
                "assistant" if before.is_none() => return Err(RenderError::AssistantFirst),
                "assistant" if before == Some("assistant") => {
                    return Err(RenderError::AssistantTwice { message: index + 1 });
                }
                "assistant" => {}
                _ => return Err(RenderError::UnknownRole { message: index + 1, role: role.to_owned() }),
            }
            self.check_text(&format!("message {} ({role})", index + 1), &message.content)?;
            before = Some(role);
        }
        if messages.is_empty() { Err(RenderError::NoMessages) } else { Ok(()) }
    }

    fn encode(&self, chat: &Chat, messages: &[Message], layout: &Layout) -> Result<Rendered, RenderError> {
        let text = &layout.text;
        let shifted = |part: &Range<usize>| {
            let start = part.start;
            let found = self.tokenizer.find_specials(&text[part.clone()]);
            found.into_iter().map(move |(range, id)| (range.start + start..range.end + start, id))
        };
        let token = |id| self.tokenizer.token(id).unwrap_or_default();

        // What the model writes: from the end of each turn's prompt to the end of its end-of-turn token.
        let mut turns: Vec<Range<usize>> = Vec::new();
        for (index, _) in messages.iter().enumerate().filter(|(_, message)| message.role == "assistant") {
            let message = index + 1;
            let content = &layout.contents[index];
            let prompt = chat.template.render(&messages[..index], true)?;
            if !text.starts_with(&prompt) || prompt.len() > content.start {
                return Err(RenderError::NotAPrefix { message });
            }
            if let Some((_, id)) = shifted(&(prompt.len()..content.start)).next() {
                return Err(RenderError::HeaderNotInPrompt { message, token: token(id) });
            }
            let Some((end, id)) = shifted(&layout.following[index]).next() else {
                return Err(RenderError::NoEndOfTurn);
            };
            if id != chat.end_of_turn {
                let expected = token(chat.end_of_turn);
                return Err(RenderError::OtherEndOfTurn { message, expected, got: token(id) });
            }
            turns.push(prompt.len()..end.end);
        }

        let mut rendered = Rendered { ids: Vec::new(), trained: Vec::new() };
        let mut push = |ids: &[u32], start: usize| {
            rendered.ids.extend_from_slice(ids);
            let trained = start > 0 && turns.iter().any(|turn| turn.contains(&start));
            rendered.trained.resize(rendered.ids.len(), trained);
        };
        let mut at = 0;
        let end_of_text = (text.len()..text.len(), None);
        let specials = layout.template_parts.iter().flat_map(shifted).map(|(range, id)| (range, Some(id)));
        for (range, special) in specials.chain([end_of_text]) {
            // Text up to the special token, encoded anew where a turn starts.
            let starts = turns.iter().map(|turn| turn.start).filter(|start| (at..range.start).contains(start));
            for end in starts.chain([range.start]).collect::<Vec<_>>() {
                push(&self.tokenizer.encode(&text[at..end], Specials::AsText), at);
                at = end;
            }
            if let Some(id) = special {
                push(&[id], at);
            }
            at = range.end;
        }
        Ok(rendered)
    }
}

/// A rendered conversation, and where in it the template's own text and the contents lie.
struct Layout {
    text: String,
    /// Byte ranges of the template's text, in order, empty ones too: before, between and after the contents.
    template_parts: Vec<Range<usize>>,
    /// Byte range of each message's content, by message.
    contents: Vec<Range<usize>>,
    /// Byte range of the template's text that follows each content, by message.
    following: Vec<Range<usize>>,
}

impl Layout {
    fn new(template: &ChatTemplate, messages: &[Message], add_generation_prompt: bool) -> Result<Layout, RenderError> {
        let text = template.render(messages, add_generation_prompt)?;
        let placeholder = |index: usize| format!("{PLACEHOLDER}{index}{PLACEHOLDER}");
        let stand_ins: Vec<Message> =
            messages.iter().enumerate().map(|(i, m)| Message::new(m.role.as_str(), placeholder(i))).collect();
        let skeleton = template.render(&stand_ins, add_generation_prompt)?;

        // Where each placeholder lies in the skeleton, in the order of the text.
        let mut places = Vec::with_capacity(messages.len());
        for (index, message) in messages.iter().enumerate() {
            let name = placeholder(index);
            let found: Vec<usize> = skeleton.match_indices(&name).map(|(at, _)| at).collect();
            let &[at] = found.as_slice() else {
                let (message, role, times) = (index + 1, message.role.clone(), found.len());
                return Err(RenderError::ContentCount { message, role, times });
            };
            places.push((at..at + name.len(), index));
        }
        places.sort_by_key(|(place, _)| place.start);

        // The text must be the skeleton with each placeholder replaced by the content, as it is or trimmed.
        let head_end = places.first().map_or(skeleton.len(), |(place, _)| place.start);
        let mut template_parts = Vec::with_capacity(messages.len() + 1);
        template_parts.push(0..head_end);
        let mut contents = vec![0..0; messages.len()];
        let mut following = contents.clone();
        let mut at = head_end;
        let mut fits = text.starts_with(&skeleton[..head_end]);
        for (i, (place, index)) in places.iter().enumerate() {
            let message = &messages[*index];
            let next = places.get(i + 1);
            let between = &skeleton[place.end..next.map_or(skeleton.len(), |(place, _)| place.start)];
            let rest = text.get(at..).unwrap_or_default();
            let content = [message.content.as_str(), message.content.trim()].into_iter().find(|content| {
                let tail = rest.strip_prefix(content);
                tail.is_some_and(|tail| if next.is_some() { tail.starts_with(between) } else { tail == between })
            });
            fits &= content.is_some();
            let Some(content) = content.filter(|_| fits) else {
                return Err(RenderError::ContentChanged { message: index + 1, role: message.role.clone() });
            };
            contents[*index] = at..at + content.len();
            at += content.len();
            following[*index] = at..at + between.len();
            template_parts.push(following[*index].clone());
            at += between.len();
        }
        Ok(Layout { text, template_parts, contents, following })
    }
}
