//! What makes a step of a gradient, and which parts of the model have a rate of their own.

use crate::kind::{Kind, above_to, choice_refusing, list, number, text};
use crate::reader::{Context, section};
use crate::settings::Valued;
use crate::tree::Node;

crate::kind::words! {
    /// What makes a step of a gradient.
    pub enum Optimizer {
        /// Each number by its own scale (Loshchilov and Hutter, 2019).
        AdamW = "adamw",
        /// Each matrix of a block by an orthogonal one (Jordan et al., 2024), the rest by AdamW.
        Muon = "muon",
    }
}

/// `adamw` or `muon`.
pub(crate) fn optimizer_kind() -> Kind<Optimizer> {
    const ADAMW: &str = "a name of AdamW, which is `adamw` here";
    const OTHER: &str = "an optimiser that is not in this version";
    choice_refusing(&[
        ("adamw_torch", ADAMW),
        ("adamw_torch_fused", ADAMW),
        ("adamw_hf", ADAMW),
        ("adamw_8bit", OTHER),
        ("adamw_bnb_8bit", OTHER),
        ("paged_adamw_8bit", OTHER),
        ("adafactor", OTHER),
        ("lion", OTHER),
        ("sgd", OTHER),
    ])
}

section! {
    /// A learning rate for some of what is trained.
    pub struct RateGroup |f| {
        /// Which: parts of a weight's name that stand side by side in it, such as `embed_tokens`, `lm_head`, `self_attn`, `mlp`,
        /// `layers.3.mlp`. A part may begin or end with `*`, as in `*norm`, all norms, and may be a range of layers, as in
        /// `layers.0-14`. A tied head goes by either name.
        modules: Valued<Vec<String>> = f.required(list(1, pattern()));
        /// The highest learning rate of these. It rises and falls as that of the stage does, to the same share of `min_lr`;
        /// `loraplus_lr_ratio` multiplies it too.
        learning_rate: Valued<f64> = f.aliases(&["lr"]).required(number(above_to(0.0, 1.0)));
    }
}

const PATTERN: &str = r"^(\*?[A-Za-z0-9_]+\*?|[0-9]+-[0-9]+)(\.(\*?[A-Za-z0-9_]+\*?|[0-9]+-[0-9]+))*$";

/// Parts of a weight's name.
fn pattern() -> Kind<String> {
    let expected = "parts of a weight's name, such as `mlp`, `*norm` or `layers.0-14.self_attn`";
    let inner = text();
    let read = move |node: &Node, path: &str, cx: &mut Context| {
        let given = (inner.read)(node, path, cx)?;
        let word = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        let part = |part: &str| match part.split_once('-') {
            Some((first, last)) => match (first.parse::<u64>(), last.parse::<u64>()) {
                (Ok(first), Ok(last)) => first <= last,
                _ => false,
            },
            None => {
                let part = part.strip_prefix('*').unwrap_or(part);
                word(part.strip_suffix('*').unwrap_or(part))
            }
        };
        if given.split('.').all(part) {
            return Some(given);
        }
        cx.expected(node, path, expected, "a range of layers is written as in `layers.0-14`, the lower one first")
    };
    Kind {
        text: expected.into(),
        schema: serde_json::json!({"type": "string", "pattern": PATTERN}),
        read: Box::new(read),
    }
}
