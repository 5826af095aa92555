//! Chat templates: the Jinja source that comes with a model, run as `transformers` runs it.
//!
//! Settings follow `transformers/utils/chat_template_utils.py`: `trim_blocks`, `lstrip_blocks`, no escaping, loop
//! controls, `raise_exception`, `strftime_now`, `tojson` that does not escape HTML, Python's methods on strings, lists
//! and dictionaries, and `{% generation %}` blocks, whose marks are ignored: what is trained is found by rendering.

use std::io;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value, context};
use serde::Serialize;

use crate::Message;

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
    bos_token: Option<String>,
    eos_token: Option<String>,
}

impl ChatTemplate {
    /// Compiles `source`; the tokens are what `bos_token` and `eos_token` mean in it.
    ///
    /// `strftime_now` tells the time, in UTC, at which the template was compiled, so all rows of a run see one date.
    ///
    /// # Errors
    /// Where the source is no valid template, with its line.
    pub fn new(source: &str, bos_token: Option<&str>, eos_token: Option<&str>) -> Result<ChatTemplate, TemplateError> {
        let mut environment = Environment::new();
        environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        let now = jiff::Timestamp::now().to_zoned_datetime(jiff::tz::TimeZone::UTC);
        environment.add_function("strftime_now", move |format: String| {
            jiff::fmt::strtime::format(&format, &now)
                .map_err(|e| Error::new(ErrorKind::InvalidOperation, format!("strftime_now({format:?}): {e}")))
        });
        environment.add_filter("tojson", tojson);
        environment.add_template_owned("chat", without_generation_marks(source))?;
        let owned = |token: Option<&str>| token.map(str::to_owned);
        Ok(ChatTemplate { environment, bos_token: owned(bos_token), eos_token: owned(eos_token) })
    }

    /// The conversation as text; with `add_generation_prompt` it ends where the assistant is to start.
    ///
    /// # Errors
    /// What the template raised, with its line.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, TemplateError> {
        let template = self.environment.get_template("chat")?;
        // A token that the model does not have is undefined in the template, as in transformers.
        let token = |token: &Option<String>| token.as_deref().map_or(Value::UNDEFINED, Value::from);
        Ok(template.render(context! {
            messages => Value::from(Serde(messages)),
            add_generation_prompt => add_generation_prompt,
            bos_token => token(&self.bos_token),
            eos_token => token(&self.eos_token),
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

/// Python's `json.dumps(value, ensure_ascii=False, indent=indent)`.
fn tojson(value: Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let ensure_ascii: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    if ensure_ascii == Some(true) {
        return Err(Error::new(ErrorKind::InvalidOperation, "tojson: ensure_ascii=true is not supported"));
    }
    let mut out = Vec::new();
    let written = match indent {
        Some(width) => {
            let indent = " ".repeat(width);
            let format = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, format))
        }
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, PythonFormatter)),
    };
    written.map_err(|e| Error::new(ErrorKind::InvalidOperation, format!("tojson: {e}")))?;
    String::from_utf8(out).map_err(|e| Error::new(ErrorKind::InvalidOperation, format!("tojson: {e}")))
}

/// JSON on one line with Python's spaces: `{"a": 1, "b": [1, 2]}`.
struct PythonFormatter;

impl serde_json::ser::Formatter for PythonFormatter {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }
    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }
    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}
