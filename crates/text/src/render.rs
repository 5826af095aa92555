//! A row of data becomes token ids and a mask of what is trained.
//!
//! # How the mask is found
//! Chat templates are programs, so nothing is assumed about their markers. What is trained is what the model must write:
//! from the end of the prompt at inference (the messages before, with the generation prompt) to the special token that ends
//! the turn. Each prompt must be a prefix of the text, and each trained turn must stand in the text as it stands where it is
//! the last, else the conversation is refused: the model would be trained on a context that it never sees in use. (Where the
//! template puts ordinary text between prompt and content, or between content and end of turn, the model must write that
//! too, and it is trained.)
//!
//! # How the text is encoded
//! Control tokens that the row's own texts spell are replaced, before the template runs, by characters that appear nowhere
//! else; so the special tokens in the rendered text are the template's, and the spellings are put back as text. Between two
//! special tokens the text is encoded as a whole, as at inference, except that encoding starts anew where an assistant's turn
//! starts, as generation does. So the ids of each prompt are a prefix of the ids of the conversation, and equal what
//! `transformers` makes of the same text as long as no content spells a special token.

use crate::chat::{Chat, Row, texts_of};
use crate::message::ConversationRef;
use crate::template::ChatTemplate;
use crate::{ChatRules, RenderError, Specials, Tokenizer, Turns};

/// Special tokens that mark the end of a document in pretraining, most specific first; see
/// [`Renderer::document_boundary`].
const DOCUMENT_BOUNDARIES: [&str; 2] = ["<|endoftext|>", "<|end_of_text|>"];

/// Token ids of a row, and which of them the model is trained to predict.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rendered {
    /// The tokens.
    pub ids: Vec<u32>,
    /// `trained[i]`: whether `ids[i]` is a target, predicted from `ids[..i]`. Same length as `ids`; the first is
    /// false, since nothing stands before it.
    pub trained: Vec<bool>,
    /// Trained turns whose reasoning the template left out.
    pub reasoning_dropped: usize,
}

impl Rendered {
    fn new(parts: &[(&[u32], bool)]) -> Rendered {
        let ids: Vec<u32> = parts.iter().flat_map(|(ids, _)| ids.iter().copied()).collect();
        let mut trained: Vec<bool> = parts.iter().flat_map(|(ids, t)| ids.iter().map(move |_| *t)).collect();
        if let Some(first) = trained.first_mut() {
            *first = false;
        }
        Rendered { ids, trained, reasoning_dropped: 0 }
    }
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
    now: jiff::Timestamp,
}

impl Renderer {
    /// A renderer with the template given, or with the tokenizer's own.
    ///
    /// # Errors
    /// [`RenderError::NoEos`]. A template that fails is reported by [`Renderer::chat`], [`Renderer::prompt`] and
    /// [`Renderer::check_template`].
    pub fn new(tokenizer: Tokenizer, template: Option<&str>) -> Result<Renderer, RenderError> {
        Renderer::new_at(tokenizer, template, jiff::Timestamp::now())
    }

    /// The same, where templates that print the date print that of `now`, in UTC.
    ///
    /// # Errors
    /// As [`Renderer::new`].
    pub fn new_at(tokenizer: Tokenizer, template: Option<&str>, now: jiff::Timestamp) -> Result<Renderer, RenderError> {
        let eos = tokenizer.eos().ok_or(RenderError::NoEos)?;
        let bos = tokenizer.bos().filter(|_| tokenizer.add_bos());
        let document_boundary = DOCUMENT_BOUNDARIES
            .iter()
            .filter_map(|token| tokenizer.id(token))
            .find(|&id| tokenizer.is_special(id))
            .unwrap_or(eos);
        let source = template.or(tokenizer.chat_template()).map(str::to_owned);
        let mut renderer = Renderer { tokenizer, chat: None, eos, bos, document_boundary, now };
        renderer.chat = source.map(|source| renderer.try_template(&source, now));
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

    fn try_template(&self, source: &str, now: jiff::Timestamp) -> Result<Chat, RenderError> {
        let named = [
            ("bos_token", self.tokenizer.bos()),
            ("eos_token", Some(self.eos)),
            ("unk_token", self.tokenizer.unk()),
            ("pad_token", self.tokenizer.pad()),
        ];
        let tokens: Vec<(&'static str, String)> =
            named.into_iter().filter_map(|(name, id)| Some((name, self.tokenizer.token(id?)?))).collect();
        Ok(Chat::new(ChatTemplate::new(source, &tokens, now)?, &self.tokenizer))
    }

    /// The time that the template tells, where it may print one: then the same rows are other tokens at another time.
    pub fn dated(&self) -> Option<jiff::Timestamp> {
        self.compiled_chat().is_ok_and(Chat::is_dated).then_some(self.now)
    }

    /// The chat template's fault, if conversations cannot be rendered.
    ///
    /// # Errors
    /// [`RenderError::NoTemplate`], [`RenderError::NoEndOfTurn`], [`RenderError::ContentCount`], or what the template said.
    pub fn check_template(&self) -> Result<(), RenderError> {
        self.usable_chat().map(|_| ())
    }

    /// The same, or why prompts can be rendered and conversations cannot be trained.
    ///
    /// # Errors
    /// As [`Renderer::check_template`], and [`RenderError::HeaderNotInPrompt`], [`RenderError::PromptNotInTurn`].
    pub fn check_trainable(&self) -> Result<(), RenderError> {
        self.usable_chat()?.check_trainable()
    }

    /// The template, if it compiles.
    fn compiled_chat(&self) -> Result<&Chat, RenderError> {
        match &self.chat {
            None => Err(RenderError::NoTemplate),
            Some(Err(error)) => Err(error.clone()),
            Some(Ok(chat)) => Ok(chat),
        }
    }

    /// The template, if its turns end.
    fn usable_chat(&self) -> Result<&Chat, RenderError> {
        let chat = self.compiled_chat()?;
        chat.end_of_turn().map(|_| chat)
    }

    /// A conversation for training, in one row, or with [`Turns::Apart`] in a row for each trained turn; never in none.
    /// Trained are the assistant's turns, each with its end of turn, and nothing else: those that the rules and the messages'
    /// own `train` do not exclude. Where they exclude all, the one row has no trained token.
    ///
    /// # Errors
    /// See [`RenderError`]; an empty assistant turn is none, it trains its end of turn.
    pub fn chat<'c>(
        &self,
        conversation: impl Into<ConversationRef<'c>>,
        rules: &ChatRules,
    ) -> Result<Vec<Rendered>, RenderError> {
        let (chat, conversation) = (self.usable_chat()?, conversation.into());
        let messages = conversation.messages;
        self.check(conversation)?;
        let mut turns = (0..messages.len()).filter(|&index| messages[index].role == "assistant");
        let turns: Vec<usize> =
            if rules.last_turn_only { turns.next_back().into_iter().collect() } else { turns.collect() };
        if turns.is_empty() {
            return Err(RenderError::NoAssistantTurn);
        }
        chat.check_trainable()?;
        let trained: Vec<usize> = turns.into_iter().filter(|&index| messages[index].train != Some(false)).collect();
        let row = Row::new(&self.tokenizer, chat, conversation, rules.allow_control_tokens);
        match rules.turns {
            Turns::Apart if !trained.is_empty() => {
                trained.iter().map(|&turn| row.train(turn + 1, &[turn], rules)).collect()
            }
            _ => Ok(vec![row.train(messages.len(), &trained, rules)?]),
        }
    }

    /// The prompt for the assistant's next turn, by the default rules. An exact prefix of [`Renderer::chat`] on the same
    /// messages and more.
    ///
    /// # Errors
    /// See [`RenderError`].
    pub fn prompt<'c>(&self, conversation: impl Into<ConversationRef<'c>>) -> Result<Vec<u32>, RenderError> {
        self.prompt_by(conversation, &ChatRules::default())
    }

    /// The same by other rules, of which `allow_control_tokens` and `boundary` concern prompts.
    ///
    /// # Errors
    /// See [`RenderError`].
    pub fn prompt_by<'c>(
        &self,
        conversation: impl Into<ConversationRef<'c>>,
        rules: &ChatRules,
    ) -> Result<Vec<u32>, RenderError> {
        let (chat, conversation) = (self.usable_chat()?, conversation.into());
        self.check(conversation)?;
        if conversation.messages.last().is_some_and(|message| message.role == "assistant") {
            return Err(RenderError::EndsWithAssistant { message: conversation.messages.len() });
        }
        Row::new(&self.tokenizer, chat, conversation, rules.allow_control_tokens).prompt(rules)
    }

    /// A conversation as the text that the template makes of it, with nothing checked.
    ///
    /// # Errors
    /// [`RenderError::NoTemplate`], or what the template said.
    pub fn chat_text<'c>(
        &self,
        conversation: impl Into<ConversationRef<'c>>,
        add_generation_prompt: bool,
    ) -> Result<String, RenderError> {
        let (chat, conversation) = (self.compiled_chat()?, conversation.into());
        let row = Row::new(&self.tokenizer, chat, conversation, true);
        Ok(row.render(conversation.messages.len(), add_generation_prompt)?)
    }

    /// A prompt and its completion for training: trained are the completion and the end-of-sequence token after it.
    /// Both are text, encoded apart as at inference.
    ///
    /// # Errors
    /// [`RenderError::Unencodable`].
    pub fn completion(&self, prompt: &str, completion: &str) -> Result<Rendered, RenderError> {
        self.check_text("completion", completion)?;
        let prompt = self.completion_prompt(prompt)?;
        let completion = self.tokenizer.encode_continuation(completion);
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
        self.compiled_chat().and_then(Chat::end_of_turn).unwrap_or(self.eos)
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

    /// Roles and their order, and that every character can be encoded.
    fn check(&self, conversation: ConversationRef<'_>) -> Result<(), RenderError> {
        let mut before = None;
        for (index, message) in conversation.messages.iter().enumerate() {
            let (role, message_number) = (message.role.as_str(), index + 1);
            match role {
                "assistant" if before.is_none() => return Err(RenderError::AssistantFirst),
                "assistant" if before == Some("assistant") => {
                    return Err(RenderError::AssistantTwice { message: message_number });
                }
                "assistant" => {}
                "system" | "developer" | "user" | "tool" => {
                    if message.train == Some(true) {
                        return Err(RenderError::TrainedRole { message: message_number, role: role.to_owned() });
                    }
                }
                _ => return Err(RenderError::UnknownRole { message: message_number, role: role.to_owned() }),
            }
            for text in message.texts() {
                self.check_text(&format!("message {message_number} ({role})"), text)?;
            }
            before = Some(role);
        }
        if conversation.messages.is_empty() {
            return Err(RenderError::NoMessages);
        }
        let tools = ConversationRef { messages: &[], tools: conversation.tools };
        texts_of(tools).into_iter().try_for_each(|text| self.check_text("tools", text))
    }
}
