//! Amazon Nova Forge's categories of general data, and the shares that its catalogs give them by default.
//!
//! As its documentation listed them in 2026; each catalog sums to 100.

use crate::kind::closest;

crate::kind::words! {
    /// A catalog of Amazon Nova Forge: names of general sources, and their shares.
    pub enum Catalog {
        /// Nova 2, supervised, text.
        Sft1p5TextChat = "sft_1p5_text_chat",
        /// Nova 2, supervised, multimodal.
        Sft1p5MmChat = "sft_1p5_mm_chat",
        /// Nova 1, supervised, text.
        SftText = "sft_text",
        /// Nova 1, supervised, multimodal.
        SftMm = "sft_mm",
        /// Nova 2, continued pretraining.
        CptTextLite = "cpt_text_lite",
    }
}

impl Catalog {
    /// Percent of the mix that is the customer's.
    pub fn domain(self) -> f64 {
        if self == Self::CptTextLite { 25.0 } else { 50.0 }
    }

    /// Categories, each with its percent of the general part.
    pub fn shares(self) -> &'static [(&'static str, f64)] {
        match self {
            Self::Sft1p5TextChat => &[
                ("agents", 1.0),
                ("baseline", 10.0),
                ("chat", 0.5),
                ("code", 10.0),
                ("factuality", 0.1),
                ("identity", 1.0),
                ("long-context", 1.0),
                ("math", 2.0),
                ("rai", 1.0),
                ("instruction-following", 13.0),
                ("stem", 0.5),
                ("planning", 10.0),
                ("reasoning-chat", 0.5),
                ("reasoning-code", 0.5),
                ("reasoning-factuality", 0.5),
                ("reasoning-instruction-following", 45.0),
                ("reasoning-math", 0.5),
                ("reasoning-planning", 0.5),
                ("reasoning-rag", 0.4),
                ("reasoning-rai", 0.5),
                ("reasoning-stem", 0.4),
                ("rag", 1.0),
                ("translation", 0.1),
            ],
            Self::Sft1p5MmChat => &[
                ("charts", 1.0),
                ("chat", 38.0),
                ("code", 20.0),
                ("docs", 3.0),
                ("general", 2.0),
                ("grounding", 1.0),
                ("rag", 4.0),
                ("screenshot", 4.0),
                ("text", 8.0),
                ("translation", 4.0),
                ("video", 15.0),
            ],
            Self::SftText => &[
                ("agents", 1.0),
                ("chat", 51.0),
                ("code", 8.0),
                ("rai", 1.0),
                ("instruction-following", 13.0),
                ("stem", 6.0),
                ("planning", 2.0),
                ("reasoning", 8.0),
                ("rag", 1.0),
                ("translation", 9.0),
            ],
            Self::SftMm => &[
                ("agents", 11.0),
                ("docs", 17.0),
                ("perception", 10.0),
                ("rag", 4.0),
                ("rai", 3.0),
                ("reasoning", 10.0),
                ("stem", 17.0),
                ("text", 10.0),
                ("video", 18.0),
            ],
            Self::CptTextLite => &[
                ("agents", 20.0),
                ("business-and-finance", 4.0),
                ("scientific", 10.0),
                ("code", 5.0),
                ("factual-and-news", 5.0),
                ("longform-text", 6.0),
                ("health-and-medicine", 1.0),
                ("humanities-and-education", 1.0),
                ("legal", 1.0),
                ("math", 9.0),
                ("additional-languages", 15.0),
                ("social-and-personal-interest", 11.0),
                ("entertainment", 0.5),
                ("reasoning", 10.0),
                ("other", 0.5),
                ("tables", 1.0),
            ],
        }
    }

    /// The share of a category.
    pub fn share(self, category: &str) -> Option<f64> {
        self.shares().iter().find(|(name, _)| *name == category).map(|(_, share)| *share)
    }

    /// The category that was meant, or all of them.
    pub(crate) fn hint(self, category: &str) -> String {
        let names = || self.shares().iter().map(|(name, _)| *name);
        match closest(category, names()) {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!(
                "the categories are {}; or give each source its `share`",
                names().collect::<Vec<_>>().join(", ")
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Choice;

    #[test]
    fn every_catalog_sums_to_100_and_names_no_category_twice() {
        for (word, catalog) in Catalog::ALL {
            let shares = catalog.shares();
            let sum: f64 = shares.iter().map(|(_, share)| share).sum();
            assert!((sum - 100.0).abs() < 1e-9, "{word}: {sum}");
            assert!(
                shares.iter().enumerate().all(|(at, (name, _))| shares[..at].iter().all(|(other, _)| other != name))
            );
        }
    }
}
