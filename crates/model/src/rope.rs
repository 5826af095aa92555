//! Rotary frequencies, and how longer contexts scale them: `modeling_rope_utils.py` of transformers.

use std::f64::consts::TAU;

use serde::Serialize;

/// How the rotary frequencies of a model differ from `theta^(-2k/dim)`. Names as in `rope_scaling` of `config.json`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "rope_type", rename_all = "lowercase")]
pub enum RopeScaling {
    /// As they are.
    Default,
    /// All divided by `factor` (Chen et al., 2023).
    Linear {
        /// At least 1.
        factor: f64,
    },
    /// Scaled by the length of a sequence beyond `max_position_embeddings`, which no sequence here exceeds: so as they are.
    Dynamic {
        /// Kept for whoever reads the model after us.
        factor: f64,
    },
    /// Llama 3.1: low frequencies divided by `factor`, high ones as they are, a ramp between.
    Llama3 {
        /// At least 1.
        factor: f64,
        /// Wavelengths above `original_max_position_embeddings / low_freq_factor` are divided.
        low_freq_factor: f64,
        /// Wavelengths below `original_max_position_embeddings / high_freq_factor` stay.
        high_freq_factor: f64,
        /// Positions before scaling.
        original_max_position_embeddings: usize,
    },
    /// YaRN (Peng et al., 2023).
    Yarn {
        /// At least 1.
        factor: f64,
        /// Positions before scaling.
        original_max_position_embeddings: usize,
        /// Rotations over the original positions above which a frequency stays.
        beta_fast: f64,
        /// Rotations below which it is divided by `factor`.
        beta_slow: f64,
        /// Factor on queries and keys; none for `0.1 ln(factor) + 1`.
        attention_factor: Option<f64>,
        /// Whether the ends of the ramp are whole dimensions.
        truncate: bool,
    },
}

impl RopeScaling {
    /// `rope_type` in a file.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Linear { .. } => "linear",
            Self::Dynamic { .. } => "dynamic",
            Self::Llama3 { .. } => "llama3",
            Self::Yarn { .. } => "yarn",
        }
    }

    /// The `dim / 2` frequencies in radians a position, and the factor on cosines and sines.
    pub(crate) fn frequencies(self, theta: f64, dim: usize) -> (Vec<f64>, f64) {
        let plain = (0..dim / 2).map(|k| theta.powf(-2.0 * k as f64 / dim as f64));
        match self {
            Self::Default | Self::Dynamic { .. } => (plain.collect(), 1.0),
            Self::Linear { factor } => (plain.map(|frequency| frequency / factor).collect(), 1.0),
            Self::Llama3 { factor, low_freq_factor: low, high_freq_factor: high, original_max_position_embeddings } => {
                let scale = |frequency: f64| {
                    let rotations = original_max_position_embeddings as f64 * frequency / TAU;
                    let kept = ((rotations - low) / (high - low)).clamp(0.0, 1.0);
                    (1.0 - kept) * frequency / factor + kept * frequency
                };
                (plain.map(scale).collect(), 1.0)
            }
            Self::Yarn {
                factor,
                original_max_position_embeddings,
                beta_fast,
                beta_slow,
                attention_factor,
                truncate,
            } => {
                let width = dim as f64;
                let dimension = |rotations: f64| {
                    width * (original_max_position_embeddings as f64 / (rotations * TAU)).ln() / (2.0 * theta.ln())
                };
                let (mut low, mut high) = (dimension(beta_fast), dimension(beta_slow));
                if truncate {
                    (low, high) = (low.floor(), high.ceil());
                }
                (low, high) = (low.max(0.0), high.min(width - 1.0));
                if low == high {
                    high += 0.001;
                }
                let scale = |(k, frequency): (usize, f64)| {
                    let divided = ((k as f64 - low) / (high - low)).clamp(0.0, 1.0);
                    divided * frequency / factor + (1.0 - divided) * frequency
                };
                let attention = attention_factor.unwrap_or_else(|| 0.1 * factor.max(1.0).ln() + 1.0);
                (plain.enumerate().map(scale).collect(), attention)
            }
        }
    }

    /// What is wrong with these numbers.
    pub(crate) fn problems(self) -> Vec<String> {
        let name = self.name();
        let mut problems = Vec::new();
        let mut check = |field: &str, holds: bool, expected: &str, got: f64| {
            if !holds {
                problems.push(format!("rope_scaling ({name}): {field}: expected {expected}, got {got}"));
            }
        };
        if let Self::Linear { factor }
        | Self::Dynamic { factor }
        | Self::Llama3 { factor, .. }
        | Self::Yarn { factor, .. } = self
        {
            check("factor", factor.is_finite() && factor >= 1.0, "a finite number of at least 1", factor);
        }
        if let Self::Llama3 { original_max_position_embeddings: original, .. }
        | Self::Yarn { original_max_position_embeddings: original, .. } = self
        {
            let holds = (1..=1 << 28).contains(&original);
            check("original_max_position_embeddings", holds, "1 to 268435456", original as f64);
        }
        match self {
            Self::Llama3 { low_freq_factor: low, high_freq_factor: high, .. } => {
                check("low_freq_factor", low.is_finite() && low > 0.0, "a finite number above 0", low);
                check("high_freq_factor", high.is_finite() && high > low, "above low_freq_factor", high);
            }
            Self::Yarn { beta_fast, beta_slow, attention_factor, .. } => {
                check("beta_slow", beta_slow.is_finite() && beta_slow > 0.0, "a finite number above 0", beta_slow);
                check("beta_fast", beta_fast.is_finite() && beta_fast >= beta_slow, "at least beta_slow", beta_fast);
                let attention = attention_factor.unwrap_or(1.0);
                check("attention_factor", attention.is_finite() && attention > 0.0, "above 0", attention);
            }
            Self::Default | Self::Linear { .. } | Self::Dynamic { .. } => {}
        }
        problems
    }
}
