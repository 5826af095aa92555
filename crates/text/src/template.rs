//! Chat templates: the Jinja source that comes with a model, run as `transformers` runs it.
//!
//! Settings follow `transformers/utils/chat_template_utils.py`: `trim_blocks`, `lstrip_blocks`, no escaping, loop
//! controls, `raise_exception`, `strftime_now`, `tojson` that does not escape HTML, Python's way to print values, its
//! methods on strings, lists and dictionaries, and `{% generation %}` blocks, whose marks are ignored: what is trained is
//! found by rendering.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, Value};

use crate::python;

/// Steps that a template may take over a conversation; a step is about an operator, a name or a turn of a loop, or 64 bytes of text
/// that is made, so that what a template holds is bounded, too: 512 MiB. A published template takes some hundred a message.
const STEPS: u64 = 8_000_000;

/// A chat template failed to compile or to run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("chat template{}: {message}", line.map(|line| format!(", line {line}")).unwrap_or_default())]
pub struct TemplateError {
    /// Line of the template, from 1.
    pub line: Option<usize>,
    /// What the template (`raise_exception`) or the engine said.
    pub message: String,
}

impl From<Error> for TemplateError {
    fn from(error: Error) -> TemplateError {
        let message = match (error.kind(), error.detail()) {
            (ErrorKind::OutOfFuel, _) => {
                format!("more than {STEPS} steps, expected loops that end and texts that do not grow without end")
            }
            (ErrorKind::InvalidOperation, Some(detail)) => detail.to_owned(),
            (kind, Some(detail)) => format!("{kind}: {detail}"),
            (kind, None) => kind.to_string(),
        };
        TemplateError { line: error.line(), message }
    }
}

/// A compiled chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    dated: bool,
}

impl ChatTemplate {
    /// Compiles `source`; `tokens` are the special tokens that it may name (`bos_token`, `eos_token`, ...). Those that a
    /// model does not have stay undefined, as in `transformers`.
    ///
    /// `strftime_now` tells the time `now`, in UTC, so all rows of a run see one date.
    ///
    /// # Errors
    /// Where the source is no valid template, with its line.
    pub fn new(
        source: &str,
        tokens: &[(&'static str, String)],
        now: jiff::Timestamp,
    ) -> Result<ChatTemplate, TemplateError> {
        let mut environment = Environment::new();
        environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
        environment.set_fuel(Some(STEPS));
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_unknown_method_callback(python::method);
        environment.set_formatter(|out, state, value| match value.as_str() {
            Some(text) => Ok(out.write_str(text)?),
            None => Ok(out.write_str(&python::to_text(state, value)?)?),
        });
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        let now = now.to_zoned_datetime(jiff::tz::TimeZone::UTC);
        environment.add_function("strftime_now", move |format: String| {
            jiff::fmt::strtime::format(&format, &now)
                .map_err(|e| Error::new(ErrorKind::InvalidOperation, format!("strftime_now({format:?}): {e}")))
        });
        environment.add_filter("tojson", python::tojson);
        environment.add_filter("join", python::join);
        environment.add_filter("trim", python::trim);
        environment.add_filter("string", |state: &State, value: Value| python::to_text(state, &value));
        // In Python texts are sequences of characters.
        let sequence = |value: Value| matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::String);
        environment.add_test("sequence", sequence);
        environment.add_test("iterable", |value: Value| {
            value.kind() == ValueKind::String || (!value.is_none() && value.try_iter().is_ok())
        });
        for (name, token) in tokens {
            environment.add_global(*name, token.as_str());
        }
        // Jinja2 reads every end of line as a newline.
        let source = source.replace("\r\n", "\n").replace('\r', "\n");
        let dated = source.contains("strftime_now");
        environment.add_template_owned("chat", without_generation_marks(&source))?;
        Ok(ChatTemplate { environment, dated })
    }

    /// Whether it may print the time.
    pub fn is_dated(&self) -> bool {
        self.dated
    }

    /// A conversation as text; with `add_generation_prompt` it ends where the assistant is to start. `messages` and
    /// `tools` are as `transformers` gives them: `tools` is none, not undefined, where there are no tools.
    ///
    /// # Errors
    /// What the template raised, with its line.
    pub fn render(
        &self,
        messages: &[Value],
        tools: &Value,
        add_generation_prompt: bool,
    ) -> Result<String, TemplateError> {
        let template = self.environment.get_template("chat")?;
        Ok(template.render(minijinja::context! {
            messages => Value::from(messages.to_vec()),
            tools => tools,
            documents => Value::from(()),
            add_generation_prompt => add_generation_prompt,
        })?)
    }
}

/// `{% generation %}` and `{% endgeneration %}` become a block that is always taken; whitespace control stays.
fn without_generation_marks(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else { break };
        let tag = &rest[start..start + length];
        out.push_str(&rest[..start]);
        match tag.trim_start_matches("{%").trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+') {
            "generation" => out.push_str(&tag.replace("generation", "if true")),
            "endgeneration" => out.push_str(&tag.replace("endgeneration", "endif")),
            _ => out.push_str(tag),
        }
        rest = &rest[start + length..];
    }
    out + rest
}
