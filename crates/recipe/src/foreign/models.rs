//! Families of models by their names, as far as names tell.

use super::document::Document;
use super::finding::{Cited, Finding, Severity};

/// Words in names that tell a family. What is derived of another comes first.
const FAMILIES: &[(&str, &str)] = &[
    ("deepseek", "deepseek"),
    ("qwen", "qwen"),
    ("mixtral", "mistral"),
    ("mistral", "mistral"),
    ("ministral", "mistral"),
    ("gemma", "gemma"),
    ("phi-", "phi"),
    ("phi3", "phi"),
    ("smollm", "smollm"),
    ("llama", "llama"),
    ("falcon", "falcon"),
    ("yi-", "yi"),
    ("glm", "glm"),
    ("olmo", "olmo"),
    ("granite", "granite"),
];

/// The family that a name tells.
pub(super) fn family(name: &str) -> Option<&'static str> {
    // Of `huggyllama/llama-7b` the repository's own name tells, not its owner's.
    let name = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
    FAMILIES.iter().find(|(word, _)| name.contains(word)).map(|(_, family)| *family)
}

/// A template or a class of another family than the model's.
pub(super) fn mismatch(document: &Document, key: &str, model: &str, kind: &str, source: Cited) -> Option<Finding> {
    let (ours, theirs) = (family(model)?, family(kind)?);
    // Models of these families are built as Llama is, and load as one.
    let alike = theirs == "llama" && matches!(ours, "smollm" | "yi" | "deepseek");
    if ours == theirs || alike || kind.to_ascii_lowercase().contains("auto") {
        return None;
    }
    Some(Finding {
        rule: "model-mismatch",
        severity: Severity::Error,
        place: document.at(key)?.node.place.clone(),
        found: format!("the model `{model}` with `{kind}`"),
        reason: "a class or a template of another family: the weights do not fit, or turns are printed as the model never saw them".into(),
        source: source.to_string(),
        corrected: None,
    })
}
