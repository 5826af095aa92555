//! What the reference libraries made of conversations and texts (`tests/golden/chat`), and where fetched files lie.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use temper_text::{Conversation, Message};

/// Conversations and texts.
#[derive(Deserialize)]
pub struct Cases {
    pub conversations: Vec<Case>,
    #[allow(dead_code, reason = "shared by test binaries that do not all encode")]
    pub texts: Vec<String>,
}

/// A conversation with a name.
#[derive(Deserialize)]
pub struct Case {
    pub name: String,
    messages: Vec<Message>,
    #[serde(default)]
    tools: Vec<serde_json::Value>,
}

impl Case {
    pub fn conversation(&self) -> Conversation {
        Conversation { messages: self.messages.clone(), tools: self.tools.clone() }
    }
}

/// The folder of goldens.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/chat")
}

/// A file of goldens.
pub fn read<T: for<'de> Deserialize<'de>>(name: &str) -> T {
    serde_json::from_str(&std::fs::read_to_string(folder().join(name)).unwrap()).unwrap()
}

/// The folder of files that are fetched and not committed; nothing where they cannot be fetched.
pub fn fetched() -> Option<PathBuf> {
    let folder = std::env::var_os("TEMPER_TEST_TOKENIZERS").expect(
        "TEMPER_TEST_TOKENIZERS is not set: run these tests with `cargo xtask test`, which fetches tokenizers, or set it to \
         `none` to leave them out",
    );
    (folder != "none").then(|| folder.into())
}

/// A chat template by its name: committed, or fetched.
pub fn template(name: &str) -> Option<String> {
    let folders = [Some(folder()), fetched()];
    let path = |folder: PathBuf| folder.join("templates").join(name).with_extension("jinja");
    folders.into_iter().flatten().find_map(|folder| std::fs::read_to_string(path(folder)).ok())
}
