//! The general data that every binary carries: what is replayed against forgetting, and what measures it.

/// A file of `data/general`.
pub struct File {
    /// Its name in the folder `general`.
    pub name: &'static str,
    /// Its content.
    pub content: &'static str,
}

macro_rules! file {
    ($name:literal) => {
        File { name: $name, content: include_str!(concat!("../../../../data/general/", $name)) }
    };
}

/// Text to replay; rows of `text`.
pub const PROSE: File = file!("prose.jsonl");
/// Answers of a small chat model to replay; rows of `messages`.
pub const CHAT: File = file!("chat.jsonl");
/// Held-out text of another kind than the replay.
pub const HELDOUT: File = file!("heldout.jsonl");
/// Multiple choice.
pub const WORDNET: File = file!("wordnet.jsonl");
/// Prompts along which base and tuned model are compared.
pub const CHAT_PROMPTS: File = file!("chat_prompts.jsonl");
/// Tasks whose answer a program can check.
pub const INSTRUCTIONS: File = file!("instructions.jsonl");
const README: File = file!("README.md");

const ABOUT: &str = "<!-- Written by `temper init` from the general data of Temper's repository; `chat_seeds.jsonl` and \
                     `make.py`, which the text below names, stay there. -->\n\n";

/// Sources and licences of all files, for the folder they are written to.
pub fn readme() -> String {
    format!("{ABOUT}{}", README.content)
}
