//! The precision of products, and what other tools call it.

use serde_json::{Value, json};

use crate::kind::{Choice, Kind, choice_refusing};
use crate::problem::Note;
use crate::reader::Context;
use crate::tree;

crate::kind::words! {
    /// How matrix products round their operands; sums are f32 in both.
    pub enum Precision {
        /// Not at all.
        F32 = "f32",
        /// To bf16: the upper half of an f32, rounded to nearest.
        Bf16 = "bf16",
    }
}

/// Names of Hugging Face, torchtune, Lightning and NeMo for one of ours.
const SPELLINGS: [(&str, Precision); 9] = [
    ("fp32", Precision::F32),
    ("float32", Precision::F32),
    ("float", Precision::F32),
    ("32", Precision::F32),
    ("32-true", Precision::F32),
    ("torch.float32", Precision::F32),
    ("bfloat16", Precision::Bf16),
    ("bf16-mixed", Precision::Bf16),
    ("torch.bfloat16", Precision::Bf16),
];

const HALF: &str =
    "another number format, whose range needs a scaled loss: `bf16` is as small and has the range of f32";
const PURE: &str = "bf16 for trained weights too, which would lose small updates: here they stay f32";
const AUTO: &str = "not taken: the same recipe would give other weights on another machine";

/// `f32` or `bf16`, or another tool's name of one, with a note.
pub(crate) fn precision() -> Kind<Precision> {
    let ours = choice_refusing::<Precision>(&[
        ("f16", HALF),
        ("fp16", HALF),
        ("float16", HALF),
        ("half", HALF),
        ("16-mixed", HALF),
        ("bf16-true", PURE),
        ("auto", AUTO),
    ]);
    let text = ours.text.clone();
    let read = move |node: &tree::Node, path: &str, cx: &mut Context| {
        let tree::Content::Scalar { text, .. } = &node.content else { return (ours.read)(node, path, cx) };
        let Some((_, precision)) = SPELLINGS.iter().find(|(spelling, _)| spelling == text) else {
            return (ours.read)(node, path, cx);
        };
        let message = format!("`{path}`: `{text}` is read as `{precision}`");
        cx.notes.push(Note { place: node.place.clone(), message });
        Some(*precision)
    };
    let words = Precision::ALL.iter().map(|(word, _)| *word);
    let spellings = SPELLINGS.iter().map(|(spelling, _)| *spelling);
    // The truth values are those of `bf16`.
    let schema =
        json!({"enum": words.chain(spellings).map(Value::from).chain([true.into(), false.into()]).collect::<Vec<_>>()});
    Kind { text, schema, read: Box::new(read) }
}
