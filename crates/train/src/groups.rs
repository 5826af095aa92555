//! Learning rates of parts of a model.

use serde::Serialize;

/// A rate of its own for some of what is trained.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RateGroup {
    /// Which: see [`names`].
    pub modules: Vec<String>,
    /// Its rate as a multiple of the run's, at every step.
    pub factor: f64,
}

impl RateGroup {
    /// Whether the weight of this name belongs to it. `tied`: the head is the embedding, and either name stands for both.
    pub fn holds(&self, name: &str, tied: bool) -> bool {
        let known = [name, "lm_head.weight"];
        let known = if tied && name == "model.embed_tokens.weight" { &known[..] } else { &known[..1] };
        self.modules.iter().any(|pattern| known.iter().any(|name| names(pattern, name)))
    }
}

/// Whether a pattern names a weight: its parts stand side by side in the weight's name, as `self_attn` or `layers.3.mlp` do in
/// `model.layers.3.mlp.up_proj.weight`. A part may begin or end with `*`, which stands for anything, and may be a range of
/// layers, such as `0-14`.
pub fn names(pattern: &str, name: &str) -> bool {
    let [pattern, name] = [pattern, name].map(|text| text.split('.').collect::<Vec<&str>>());
    name.windows(pattern.len()).any(|run| pattern.iter().zip(run).all(|(pattern, part)| is(pattern, part)))
}

/// Whether one part of a name is what one part of a pattern says.
fn is(pattern: &str, part: &str) -> bool {
    if let (Some((first, last)), Ok(layer)) = (pattern.split_once('-'), part.parse::<usize>()) {
        let [first, last] = [first, last].map(|end| end.parse::<usize>().ok());
        return first.is_some_and(|first| first <= layer) && last.is_some_and(|last| layer <= last);
    }
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(end), None) => part.ends_with(end),
        (None, Some(start)) => part.starts_with(start),
        (Some(end), Some(_)) => part.contains(end.trim_end_matches('*')),
        (None, None) => part == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_run_of_parts_of_a_name() {
        const UP: &str = "model.layers.12.mlp.up_proj.weight";
        for pattern in ["mlp", "layers.12", "layers.0-14", "12-12.mlp", "up_proj", "*_proj", "up*", "*", "*pro*", UP] {
            assert!(names(pattern, UP), "{pattern}");
        }
        for pattern in ["ml", "layers.1", "layers.0-11", "layers.mlp", "mlp.layers", "proj", "norm", "*norm", "12-x"] {
            assert!(!names(pattern, UP), "{pattern}");
        }
        let norms =
            ["model.norm.weight", "model.layers.0.input_layernorm.weight", "model.layers.0.self_attn.q_norm.weight"];
        assert!(norms.iter().all(|norm| names("*norm", norm)));
    }

    #[test]
    fn a_tied_head_has_both_names() {
        let head = RateGroup { modules: vec!["lm_head".to_owned()], factor: 0.5 };
        assert!(head.holds("model.embed_tokens.weight", true));
        assert!(!head.holds("model.embed_tokens.weight", false));
        assert!(head.holds("lm_head.weight", false));
        assert!(!head.holds("model.norm.weight", true));
    }
}
