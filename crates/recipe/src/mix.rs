//! The mix: how much of the training is the user's domain, and how much is general data against forgetting.

use std::collections::HashSet;
use std::path::PathBuf;

use crate::kind::{above, above_to, choice, data_file, name, number, text};
use crate::reader::section;
use crate::settings::Valued;

crate::kind::words! {
    /// What the shares of a mix are counted in.
    pub enum MixUnit {
        /// All tokens that go through the model.
        ProcessedTokens = "processed_tokens",
        /// The tokens that carry loss.
        TrainedTokens = "trained_tokens",
        /// Rows.
        Samples = "samples",
    }
}

section! {
    /// The mix of domain and general data: two layers, as in Amazon Nova Forge. The share of a general source in the whole
    /// is (100 - `domain`) % of its `share`.
    pub struct Mix |f| {
        /// What the shares are counted in.
        unit: Valued<MixUnit> = f.default(
            choice(),
            MixUnit::TrainedTokens,
            "decision: the loss is averaged over trained tokens, so only in this unit is a share of the mix a share of the loss",
        );
        /// Percent of the mix that is domain data.
        domain: Valued<f64> = f.default(
            number(above_to(0.0, 100.0)),
            50.0,
            "Amazon Nova Forge: about 50 % customer data is the balance point for most cases (AWS ML blog, June 2026)",
        );
        /// The general sources.
        general: Vec<GeneralSource> = f.sections(0);
    }
    check |r| {
        if let (Some(domain), Some(general)) = (&domain, &general) {
            let sum: f64 = general.iter().map(|source| source.share.value).sum();
            if general.is_empty() && domain.value < 100.0 {
                let message = format!("`{}` is missing: {} % of the mix has no source", r.path_of("general"), 100.0 - domain.value);
                r.problem(domain.place(), message, "add general sources, or say domain: 100");
            } else if !general.is_empty() && (sum - 100.0).abs() > 1e-6 {
                let message = format!("the shares of `{}` sum to {sum}, expected 100", r.path_of("general"));
                let place = general.last().and_then(|source| source.share.place());
                r.problem(place, message, "shares are percent of the general part; `domain` is not one of them");
            }
            let mut seen = HashSet::new();
            for source in general {
                if !seen.insert(source.name.as_str()) {
                    let message = format!("`{}`: a second source named `{}`", source.name.path, source.name.value);
                    r.problem(source.name.place(), message, "give each source its own name; it names the metrics");
                }
            }
        }
    }
}

section! {
    /// One source of general data.
    pub struct GeneralSource |f| {
        /// Its name in metrics and reports.
        name: Valued<String> = f.required(name());
        /// File of rows.
        path: Valued<PathBuf> = f.required(data_file());
        /// Licence of its rows, as `data_licence` of the stage.
        licence: Option<Valued<String>> = f.aliases(&["license"]).optional(text());
        /// Percent of the general part; the shares sum to 100.
        share: Valued<f64> = f.required(number(0.0..=100.0));
        /// Factor on the loss of each token of this source.
        loss_weight: Valued<f64> = f.default(number(above(0.0)), 1.0, "decision: every token counts alike");
    }
}
