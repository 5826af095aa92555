//! Conversations by a model's chat template: what the template does, tried once, and rows rendered with it.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::OnceLock;

use minijinja::Value;
use minijinja::value::Serde;

use crate::message::{ConversationRef, collect_texts, map_texts};
use crate::python::strip;
use crate::template::{ChatTemplate, TemplateError};
use crate::tokenizer::Place;
use crate::{Boundary, ChatRules, Message, RenderError, Rendered, Tokenizer, ToolCall};

/// Brackets a probe; from the private use area, so no template writes it.
const PROBE: char = '\u{F8F0}';

/// Where reasoning stands in the content itself, after it comes this and then the answer.
const END_OF_REASONING: &str = "</think>";

/// A compiled template, and what trying it showed.
#[derive(Debug)]
pub(crate) struct Chat {
    template: ChatTemplate,
    tried: Result<Tried, RenderError>,
    calls: OnceLock<CallForm>,
}

/// A template prints contents, and its turns end with a special token.
#[derive(Debug)]
struct Tried {
    end_of_turn: u32,
    /// Why prompts can be rendered but nothing be trained.
    untrainable: Option<RenderError>,
}

/// How a template wants turns that call tools. `transformers` leaves that to whoever prepares the data, and templates
/// disagree: Qwen's takes an empty content and arguments as an object, DeepSeek V3's no content and arguments as JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct CallForm {
    empty_content: EmptyContent,
    arguments_as_json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EmptyContent {
    Text,
    Missing,
    None,
}

impl CallForm {
    const USUAL: CallForm = CallForm { empty_content: EmptyContent::Text, arguments_as_json: false };
    const ALL: [CallForm; 6] = [
        CallForm::USUAL,
        CallForm { empty_content: EmptyContent::Missing, arguments_as_json: false },
        CallForm { empty_content: EmptyContent::None, arguments_as_json: false },
        CallForm { empty_content: EmptyContent::Text, arguments_as_json: true },
        CallForm { empty_content: EmptyContent::Missing, arguments_as_json: true },
        CallForm { empty_content: EmptyContent::None, arguments_as_json: true },
    ];
}

impl Tried {
    /// Tries a template on a small conversation.
    fn new(template: &ChatTemplate, tokenizer: &Tokenizer) -> Result<Tried, RenderError> {
        let probe = |index: usize| format!("{PROBE}{index}{PROBE}");
        let messages = [Message::new("user", probe(0)), Message::new("assistant", probe(1))];
        let values: Vec<Value> = messages.iter().map(|message| message_value(message, CallForm::USUAL)).collect();
        let none = Value::from(());
        let text = template.render(&values, &none, false)?;
        for (index, message) in messages.iter().enumerate() {
            let times = text.matches(&message.content).count();
            if times != 1 {
                return Err(RenderError::ContentCount { message: index + 1, role: message.role.clone(), times });
            }
        }
        let answer = text.find(&messages[1].content).unwrap_or_default();
        let after = answer + messages[1].content.len();
        let (_, end_of_turn) = tokenizer.specials().find(&text[after..]).next().ok_or(RenderError::NoEndOfTurn)?;

        let (prompt, bare) =
            (template.render(&values[..1], &none, true)?, template.render(&values[..1], &none, false)?);
        let untrainable = if !text.starts_with(&prompt) {
            let same = prompt.chars().zip(text.chars()).take_while(|(a, b)| a == b).map(|(c, _)| c.len_utf8()).sum();
            let from = |text: &str| text.get(same..).unwrap_or_default().chars().take(40).collect::<String>();
            Some(RenderError::PromptNotInTurn { prompt: from(&prompt), turn: from(&text) })
        } else if prompt == bare {
            // Without a generation prompt, the prompt may end before the turn's header, which would be trained.
            let header = text.get(prompt.len()..answer).and_then(|header| tokenizer.specials().find(header).next());
            header.map(|(_, id)| RenderError::HeaderNotInPrompt { token: tokenizer.token(id).unwrap_or_default() })
        } else {
            None
        };
        Ok(Tried { end_of_turn, untrainable })
    }
}

impl Chat {
    pub(crate) fn new(template: ChatTemplate, tokenizer: &Tokenizer) -> Chat {
        let tried = Tried::new(&template, tokenizer);
        Chat { template, tried, calls: OnceLock::new() }
    }

    /// Whether the template may print the time.
    pub(crate) fn is_dated(&self) -> bool {
        self.template.is_dated()
    }

    /// The special token that ends an assistant turn, or why conversations cannot be used.
    pub(crate) fn end_of_turn(&self) -> Result<u32, RenderError> {
        self.tried.as_ref().map(|tried| tried.end_of_turn).map_err(Clone::clone)
    }

    /// Why nothing can be trained, if so.
    pub(crate) fn check_trainable(&self) -> Result<(), RenderError> {
        let tried = self.tried.as_ref().map_err(Clone::clone)?;
        tried.untrainable.clone().map_or(Ok(()), Err)
    }

    /// The form in which the template prints calls: the first that it prints without loss, else the usual one.
    fn call_form(&self) -> CallForm {
        *self.calls.get_or_init(|| {
            // Some templates escape what is not ASCII.
            let [name, key, value] = ["probe_name", "probe_key", "probe_value"];
            let arguments = [(key.to_owned(), value.into())].into_iter().collect();
            let mut turn = Message::new("assistant", "");
            turn.tool_calls = vec![ToolCall { id: Some("abcdef123".to_owned()), name: name.to_owned(), arguments }];
            let prints = |form: &CallForm| {
                let values = [message_value(&Message::new("user", "a"), *form), message_value(&turn, *form)];
                let text = self.template.render(&values, &Value::from(()), false);
                text.is_ok_and(|text| text.contains(name) && text.contains(value))
            };
            CallForm::ALL.into_iter().find(prints).unwrap_or(CallForm::USUAL)
        })
    }
}

/// A message as a template sees it. Reasoning goes by its three names, as in `transformers` (`_alias_reasoning_fields`).
fn message_value(message: &Message, form: CallForm) -> Value {
    let mut fields: Vec<(&str, Value)> = vec![("role", message.role.as_str().into())];
    if !message.content.is_empty() || message.tool_calls.is_empty() || form.empty_content == EmptyContent::Text {
        fields.push(("content", message.content.as_str().into()));
    } else if form.empty_content == EmptyContent::None {
        fields.push(("content", Value::from(())));
    }
    if let Some(reasoning) = message.reasoning.as_deref() {
        fields.push(("thinking", reasoning.into()));
        fields.push(("reasoning_content", reasoning.into()));
    }
    if !message.tool_calls.is_empty() {
        let calls = message.tool_calls.iter().map(|call| {
            let arguments = Value::from(Serde(&call.arguments));
            let arguments = if form.arguments_as_json {
                crate::python::json(&arguments).map_or(arguments, Value::from)
            } else {
                arguments
            };
            let function = Value::from_pairs([("name", Value::from(call.name.as_str())), ("arguments", arguments)]);
            let id = call.id.as_deref().map(|id| ("id", Value::from(id)));
            Value::from_pairs(id.into_iter().chain([("type", "function".into()), ("function", function)]))
        });
        fields.push(("tool_calls", calls.collect::<Vec<Value>>().into()));
    }
    let optional = [("tool_call_id", &message.tool_call_id), ("name", &message.name)];
    fields.extend(optional.into_iter().filter_map(|(name, text)| Some((name, text.as_deref()?.into()))));
    Value::from_pairs(fields)
}

/// A conversation on its way to tokens.
pub(crate) struct Row<'r> {
    tokenizer: &'r Tokenizer,
    chat: &'r Chat,
    /// Its messages, in which control tokens that they spell are replaced by [`Row::spellings`].
    messages: Cow<'r, [Message]>,
    tools: Cow<'r, [serde_json::Value]>,
    /// Characters of the private use area, each with the text that it stands for.
    spellings: Vec<(char, String)>,
    /// Whether special tokens in the row's own text are tokens.
    controls: bool,
    /// Both as the template sees them.
    message_values: Vec<Value>,
    tools_value: Value,
}

/// An assistant turn that is trained: in bytes of the text, from the end of its prompt to the end of its end of turn.
struct Trained {
    message: usize,
    range: Range<usize>,
}

impl<'r> Row<'r> {
    pub(crate) fn new(
        tokenizer: &'r Tokenizer,
        chat: &'r Chat,
        conversation: ConversationRef<'r>,
        controls: bool,
    ) -> Row<'r> {
        let (mut messages, mut tools) = (Cow::Borrowed(conversation.messages), Cow::Borrowed(conversation.tools));
        let mut spellings = Vec::new();
        if !controls {
            let texts = texts_of(conversation);
            if texts.iter().any(|text| tokenizer.specials().are_in(text)) {
                spellings = stand_ins(tokenizer, &texts);
                let hide = |text: &str| hide(tokenizer, text, &spellings);
                messages = conversation.messages.iter().map(|message| message.map_texts(&hide)).collect();
                tools = conversation.tools.iter().map(|tool| map_texts(tool, &hide)).collect();
            }
        }
        let calls = messages.iter().any(|message| !message.tool_calls.is_empty());
        let form = if calls { chat.call_form() } else { CallForm::USUAL };
        let message_values = messages.iter().map(|message| message_value(message, form)).collect();
        let tools_value = if tools.is_empty() { Value::from(()) } else { Value::from(Serde(tools.as_ref())) };
        Row { tokenizer, chat, messages, tools, spellings, controls, message_values, tools_value }
    }

    pub(crate) fn render(&self, messages: usize, add_generation_prompt: bool) -> Result<String, TemplateError> {
        self.chat.template.render(&self.message_values[..messages], &self.tools_value, add_generation_prompt)
    }

    fn specials(&self, text: &str) -> Vec<(Range<usize>, u32)> {
        self.tokenizer.specials().find(text).collect()
    }

    /// The first `messages` messages, of which the turns `trained` are trained.
    pub(crate) fn train(&self, messages: usize, trained: &[usize], rules: &ChatRules) -> Result<Rendered, RenderError> {
        let text = self.render(messages, false)?;
        let specials = self.specials(&text);
        let (mut turns, mut starts) = (Vec::new(), Vec::new());
        for index in self.assistant_turns(messages) {
            let message = index + 1;
            let prompt = self.render(index, true)?;
            let is_prefix = text.starts_with(&prompt);
            if is_prefix {
                starts.push((prompt.len(), message));
            }
            if !trained.contains(&index) {
                continue;
            }
            if !is_prefix {
                return Err(RenderError::NotAPrefix { message });
            }
            // The turn as it stands at the end of its conversation, where the model writes it.
            let end = if message == messages {
                self.end_of_turn(&specials, prompt.len(), message)?
            } else {
                let alone = self.render(message, false)?;
                let end = self.end_of_turn(&self.specials(&alone), prompt.len(), message)?;
                if text.get(..end).is_none_or(|text| text != &alone[..end]) {
                    return Err(RenderError::NotAPrefix { message });
                }
                end
            };
            turns.push(Trained { message: index, range: prompt.len()..end });
        }
        let reasoning_dropped = self.check_printed(&text, &specials, messages, &turns)?;
        let mut rendered = self.encode(&text, &starts, &turns, rules.boundary)?;
        rendered.reasoning_dropped = reasoning_dropped;
        Ok(rendered)
    }

    /// The ids of the prompt for the assistant's next turn.
    pub(crate) fn prompt(&self, rules: &ChatRules) -> Result<Vec<u32>, RenderError> {
        let text = self.render(self.messages.len(), true)?;
        let mut starts = Vec::new();
        for index in self.assistant_turns(self.messages.len()) {
            let prompt = self.render(index, true)?;
            if text.starts_with(&prompt) {
                starts.push((prompt.len(), index + 1));
            }
        }
        self.check_printed(&text, &self.specials(&text), self.messages.len(), &[])?;
        Ok(self.encode(&text, &starts, &[], rules.boundary)?.ids)
    }

    fn assistant_turns(&self, messages: usize) -> impl Iterator<Item = usize> {
        let turns = self.messages[..messages].iter().enumerate();
        turns.filter(|(_, message)| message.role == "assistant").map(|(index, _)| index)
    }

    /// Where the first end of turn after byte `from` ends.
    fn end_of_turn(&self, specials: &[(Range<usize>, u32)], from: usize, message: usize) -> Result<usize, RenderError> {
        let end_of_turn = self.chat.end_of_turn()?;
        let mut after = specials.iter().filter(|(range, _)| range.start >= from);
        if let Some((range, _)) = after.clone().find(|(_, id)| *id == end_of_turn) {
            return Ok(range.end);
        }
        let token = |id| self.tokenizer.token(id).unwrap_or_default();
        let Some(&(_, got)) = after.next_back() else { return Err(RenderError::NoEndOfTurn) };
        Err(RenderError::OtherEndOfTurn { message, expected: token(end_of_turn), got: token(got) })
    }

    /// Checks that nothing that the row gives is lost, but reasoning: how many trained turns lost theirs is returned.
    fn check_printed(
        &self,
        text: &str,
        specials: &[(Range<usize>, u32)],
        messages: usize,
        turns: &[Trained],
    ) -> Result<usize, RenderError> {
        let mut places = Places { text, specials, controls: self.controls, at: 0 };
        let mut reasoning_dropped = 0;
        for (index, message) in self.messages[..messages].iter().enumerate() {
            let turn = turns.iter().find(|turn| turn.message == index).map(|turn| turn.range.clone());
            let within = turn.clone().unwrap_or(0..text.len());
            let mut printed = |part: &str| match &turn {
                Some(turn) => places.find(strip(part), turn.clone()).is_some(),
                None => places.find_in_order(strip(part)),
            };
            // Some templates print what tools answered as JSON.
            let as_json = || crate::python::json(&message.content.as_str().into()).unwrap_or_default();
            let in_json = |printed: &mut dyn FnMut(&str) -> bool| message.role == "tool" && printed(&as_json());
            let changed = || RenderError::ContentChanged { message: index + 1, role: message.role.clone() };
            if !printed(&message.content) && !in_json(&mut printed) {
                // Templates of reasoning models take the reasoning out of the content: to print it in a form of their own,
                // or not at all.
                let parts = message.content.rsplit_once(END_OF_REASONING).filter(|_| message.role == "assistant");
                let (reasoning, answer) = parts.ok_or_else(changed)?;
                if !printed(answer) {
                    return Err(changed());
                }
                let reasoning = reasoning.trim_start().strip_prefix("<think>").unwrap_or(reasoning);
                reasoning_dropped += usize::from(turn.is_some() && !printed(reasoning));
            }
            if let Some(reasoning) = message.reasoning.as_deref().filter(|_| turn.is_some()) {
                reasoning_dropped += usize::from(!printed(reasoning));
            }
            for call in &message.tool_calls {
                let mut texts = vec![call.name.as_str()];
                call.arguments.values().for_each(|value| collect_texts(value, &mut texts));
                // Texts that look the same within JSON and without.
                texts.retain(|text| {
                    !text.contains(|c: char| c.is_control() || matches!(c, '"' | '\\')) && text.is_ascii()
                });
                if texts.into_iter().any(|text| places.find(strip(text), within.clone()).is_none()) {
                    return Err(RenderError::CallDropped { message: index + 1, name: call.name.clone() });
                }
            }
        }
        for tool in self.tools.iter() {
            let name = tool["function"]["name"].as_str().or(tool["name"].as_str());
            if let Some(name) = name.filter(|name| places.find(name, 0..text.len()).is_none()) {
                return Err(RenderError::ToolDropped { name: name.to_owned() });
            }
        }
        Ok(reasoning_dropped)
    }

    /// Ids of the text, encoded anew at each of `starts` (byte, message).
    fn encode(
        &self,
        text: &str,
        starts: &[(usize, usize)],
        turns: &[Trained],
        boundary: Boundary,
    ) -> Result<Rendered, RenderError> {
        let mut rendered = Rendered::default();
        let (mut at, mut place) = (0, Place::Start);
        for (end, message) in starts.iter().map(|&(at, message)| (at, Some(message))).chain([(text.len(), None)]) {
            if end == at && message.is_some() {
                continue;
            }
            self.tokenizer.encode_parts(
                &text[at..end],
                place,
                |part| self.restore(part),
                |start, ids| {
                    rendered.ids.extend_from_slice(ids);
                    let trained = turns.iter().any(|turn| turn.range.contains(&(at + start)));
                    rendered.trained.resize(rendered.ids.len(), trained);
                },
            );
            if let Some(message) = message.filter(|_| boundary == Boundary::Refuse) {
                self.check_boundary(text, end, message)?;
            }
            let after_special = self.tokenizer.specials().find(&text[at..end]).last();
            let special = after_special.is_some_and(|(range, _)| at + range.end == end);
            (at, place) = (end, if special { Place::AfterSpecial } else { Place::Inside });
        }
        self.one_bos(&mut rendered);
        if let Some(first) = rendered.trained.first_mut() {
            *first = false;
        }
        Ok(rendered)
    }

    /// Refuses a boundary at which encoding both sides as one gives other tokens.
    fn check_boundary(&self, text: &str, at: usize, message: usize) -> Result<(), RenderError> {
        let ends_before = self.specials(&text[..at]).last().map_or(0, |(range, _)| range.end);
        let starts_after = self.specials(&text[at..]).first().map_or(text.len(), |(range, _)| at + range.start);
        let ids = |range: Range<usize>, place| {
            let mut ids = Vec::new();
            self.tokenizer.encode_parts(
                &text[range],
                place,
                |part| self.restore(part),
                |_, more| ids.extend_from_slice(more),
            );
            ids
        };
        let place = if ends_before == 0 { Place::Start } else { Place::AfterSpecial };
        let mut apart = ids(ends_before..at, place);
        apart.extend(ids(at..starts_after, if ends_before == at { Place::AfterSpecial } else { Place::Inside }));
        if apart == ids(ends_before..starts_after, place) {
            Ok(())
        } else {
            Err(RenderError::AmbiguousBoundary { message })
        }
    }

    /// Text in which characters that stand for spellings are those again.
    fn restore<'t>(&self, part: &'t str) -> Cow<'t, str> {
        let spelling = |c: char| self.spellings.iter().find(|(stand_in, _)| *stand_in == c);
        if self.spellings.is_empty() || !part.contains(|c| spelling(c).is_some()) {
            return Cow::Borrowed(part);
        }
        let mut text = String::with_capacity(part.len() + 16);
        for c in part.chars() {
            match spelling(c) {
                Some((_, spelling)) => text.push_str(spelling),
                None => text.push(c),
            }
        }
        Cow::Owned(text)
    }

    /// One beginning-of-sequence token, where the model's sequences start with one: not two, where the template prints it
    /// twice, and one where the tokenizer adds it to text and the template does not.
    fn one_bos(&self, rendered: &mut Rendered) {
        let Some(bos) = self.tokenizer.bos() else { return };
        let printed = rendered.ids.iter().take_while(|id| **id == bos).count();
        if printed > 1 {
            rendered.ids.drain(1..printed);
            rendered.trained.drain(1..printed);
        } else if printed == 0 && self.tokenizer.add_bos() {
            rendered.ids.insert(0, bos);
            rendered.trained.insert(0, false);
        }
    }
}

/// All texts that a conversation gives.
pub(crate) fn texts_of(conversation: ConversationRef<'_>) -> Vec<&str> {
    let mut texts: Vec<&str> = conversation.messages.iter().flat_map(Message::texts).collect();
    conversation.tools.iter().for_each(|tool| collect_texts(tool, &mut texts));
    texts
}

/// For each control token that the texts spell, a character that none of them has. Such characters survive what templates
/// do with text: trimming, JSON, searching for words.
fn stand_ins(tokenizer: &Tokenizer, texts: &[&str]) -> Vec<(char, String)> {
    let mut spellings: Vec<&str> = Vec::new();
    for text in texts {
        for (range, _) in tokenizer.specials().find(text) {
            if !spellings.contains(&&text[range.clone()]) {
                spellings.push(&text[range]);
            }
        }
    }
    let free = ('\u{F0000}'..='\u{FFFFD}').filter(|c| !texts.iter().any(|text| text.contains(*c)));
    free.zip(spellings.into_iter().map(str::to_owned)).collect()
}

/// `text` with characters that stand for the control tokens that it spells.
fn hide(tokenizer: &Tokenizer, text: &str, spellings: &[(char, String)]) -> String {
    let (mut hidden, mut at) = (String::with_capacity(text.len()), 0);
    for (range, _) in tokenizer.specials().find(text) {
        hidden.push_str(&text[at..range.start]);
        hidden.extend(spellings.iter().find(|(_, spelling)| *spelling == text[range.clone()]).map(|(c, _)| *c));
        at = range.end;
    }
    hidden + &text[at..]
}

/// Where a text holds what a row gave. What touches a special token was not given by the row, unless the rules allow it.
struct Places<'t> {
    text: &'t str,
    specials: &'t [(Range<usize>, u32)],
    controls: bool,
    /// Up to here, the contents are found.
    at: usize,
}

impl Places<'_> {
    fn find(&self, part: &str, within: Range<usize>) -> Option<Range<usize>> {
        let mut from = within.start;
        loop {
            let start = from + self.text.get(from..within.end)?.find(part)?;
            let found = start..start + part.len();
            let next = self.specials.partition_point(|(special, _)| special.end <= found.start);
            let touches = self.specials.get(next).is_some_and(|(special, _)| special.start < found.end);
            if self.controls || part.is_empty() || !touches {
                return Some(found);
            }
            from = self.specials[next].0.end;
        }
    }

    /// Contents mostly come in the order of the messages; some templates put the system message elsewhere.
    fn find_in_order(&mut self, part: &str) -> bool {
        let found = self.find(part, self.at..self.text.len());
        if let Some(found) = &found {
            self.at = found.end;
        }
        found.is_some()
            || self.find(part, 0..self.at.min(self.text.len())).is_some()
            || self.find(part, 0..self.text.len()).is_some()
    }
}
