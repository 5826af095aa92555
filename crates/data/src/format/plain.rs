//! `text`: documents.

use serde_json::{Map, Value};

use super::fields::Fields;
use crate::row::RowContent;

pub(super) fn read(fields: &mut Fields) -> Result<RowContent, String> {
    fields.required_text("text").map(RowContent::Text)
}

pub(super) fn write(content: &RowContent) -> Result<Map<String, Value>, String> {
    match content {
        RowContent::Text(text) => Ok(Map::from_iter([("text".to_owned(), text.as_str().into())])),
        RowContent::Completion { prompt, completion } => {
            Ok(Map::from_iter([("text".to_owned(), format!("{prompt}{completion}").into())]))
        }
        other => Err(format!(
            "it holds documents, not {}: a chat template makes text of these, see `temper data show`",
            other.kind()
        )),
    }
}
