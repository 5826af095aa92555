//! The mix: how much of the training is the user's domain, and how much is general data against forgetting.

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;

use serde::{Serialize, Serializer};

use crate::catalog::Catalog;
use crate::kind::{Kind, above, above_to, choice, data_file, integer, name, number, text};
use crate::reader::{Context, section};
use crate::rows::{RowFiles, row_files};
use crate::settings::{Source, Valued};
use crate::tree::{Content, Node};

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
        /// A catalog of Amazon Nova Forge, whose shares the sources named after its categories have where they give none.
        catalog: Option<Valued<Catalog>> = f.aliases(&["dataset_catalog"]).optional(choice());
        /// Percent of the mix that is domain data; at 100 the mix is off.
        domain: Valued<f64> = {
            let of_catalog = catalog.as_ref().and_then(|catalog| catalog.as_ref()).map(|catalog| catalog.value.domain());
            let why = if of_catalog.is_some() {
                "the default of this catalog of Amazon Nova Forge"
            } else {
                "Amazon Nova Forge: about 50 % customer data is the balance point for most cases (AWS ML blog, June 2026)"
            };
            f.aliases(&["customer_data_percent"]).default(number(above_to(0.0, 100.0)), of_catalog.unwrap_or(50.0), why)
        };
        /// The general sources.
        general: Vec<GeneralSource> = {
            let sources = f.sections_or(SELF, &[("name", SELF), ("path", SELF), ("share", "100")]);
            let of = catalog.as_ref().and_then(|catalog| catalog.as_ref()).map(|catalog| catalog.value);
            sources.map(|sources| with_shares(sources, of))
        };
    }
    check |r| {
        if let (Some(domain), Some(general)) = (&domain, &general) {
            let of = catalog.as_ref().and_then(|catalog| catalog.as_ref());
            for source in general.iter().filter(|source| source.share.is_none()) {
                let (message, hint) = match of {
                    None => (format!("`{}` has no `share`", source.name.path), "percent of the general part; the shares sum to 100".to_owned()),
                    Some(catalog) => (
                        format!("`{}`: `{}` is no category of `{}`, and it has no `share`", source.name.path, source.name.value, catalog.value),
                        catalog.value.hint(&source.name.value),
                    ),
                };
                r.problem(source.name.place(), message, hint);
            }
            let sum: f64 = general.iter().filter_map(|source| source.share.as_ref()).map(|share| share.value).sum();
            let whole = general.iter().all(|source| source.share.is_some());
            if general.is_empty() && domain.value < 100.0 {
                let message = format!("`{}` is missing: {} % of the mix has no source", r.path_of("general"), 100.0 - domain.value);
                r.problem(domain.place(), message, "add general sources, or say domain: 100");
            } else if whole && !general.is_empty() && (sum - 100.0).abs() > 1e-6 {
                let message = format!("the shares of `{}` sum to {sum}, expected 100", r.path_of("general"));
                let place = general.last().and_then(|source| source.share.as_ref()?.place());
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
        /// Rows, as in `train`; or the word `self`: rows that the base writes itself before training.
        path: Valued<GeneralRows> = f.required(general_rows());
        /// How the base writes them.
        self_data: Option<SelfData> = {
            let file = path.as_ref().is_some_and(|path| path.files().is_some());
            f.only_when(!file, "a file as `path`", |f| f.group())
        };
        /// Licence of its rows, as `data_licence` of the stage.
        licence: Option<Valued<String>> = f.aliases(&["license"]).optional(text());
        /// Percent of the general part; the shares sum to 100. With a `catalog`, sources that give none have its shares, in
        /// proportion.
        share: Option<Valued<f64>> = f.optional(number(0.0..=100.0));
        /// Factor on the loss of each token of this source.
        loss_weight: Valued<f64> = f.default(number(above(0.0)), 1.0, "decision: every token counts alike");
    }
}

section! {
    /// Rows that the base writes itself: its answers to prompts, filtered, for replay without its training data.
    pub struct SelfData |f| {
        /// Prompts that the base answers (`path: self`). What the filters drop of the answers is counted and not replaced.
        rows: Valued<u64> = f.default(
            integer(1..=100_000),
            512,
            "decision: enough that a run of the example's length repeats no row, and minutes on two cores",
        );
        /// Longest answer in tokens (`path: self`); an answer that did not end by then is dropped.
        max_new_tokens: Valued<u64> = f.default(
            integer(1..),
            128,
            "decision: half a row of the usual max_length; most everyday answers of small chat models end by then",
        );
        /// Temperature at which answers are drawn (`path: self`); 0 takes the likeliest token.
        temperature: Valued<f64> = f.default(
            number(0.0..=2.0),
            0.0,
            "decision: the prompts differ, so the answers do; drawn at 1, answers of the example's base were not sane \
             (docs/decisions/0006-general-self.md)",
        );
        /// File of further prompts (`path: self`), one a line: `{"prompt": "..."}` or `{"messages": [...]}`, a user turn last.
        prompts: Option<Valued<PathBuf>> = f.optional(data_file());
    }
}

/// Where the rows of a general source come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GeneralRows {
    /// Files.
    Files(RowFiles),
    /// The base writes them: `self` in the recipe.
    Base,
}

impl GeneralRows {
    /// The files, where it is files.
    pub fn files(&self) -> Option<&RowFiles> {
        match self {
            Self::Files(files) => Some(files),
            Self::Base => None,
        }
    }
}

impl GeneralSource {
    /// Its percent of the general part: a recipe that was read has one for every source.
    pub fn percent(&self) -> f64 {
        self.share.as_ref().map_or(0.0, |share| share.value)
    }
}

impl fmt::Display for GeneralRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files(files) => write!(f, "{}", files.path.display()),
            Self::Base => f.write_str(SELF),
        }
    }
}

impl Serialize for GeneralRows {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Files(files) => files.serialize(serializer),
            Self::Base => serializer.serialize_str(SELF),
        }
    }
}

const SELF: &str = "self";

/// The shares of a catalog, in proportion, for the sources that give none and are named after its categories.
fn with_shares(mut sources: Vec<GeneralSource>, catalog: Option<Catalog>) -> Vec<GeneralSource> {
    let Some(catalog) = catalog else { return sources };
    let given: f64 = sources.iter().filter_map(|source| source.share.as_ref()).map(|share| share.value).sum();
    let open = |source: &&mut GeneralSource| source.share.is_none();
    let total: f64 = sources.iter_mut().filter(open).filter_map(|source| catalog.share(&source.name.value)).sum();
    for source in sources.iter_mut().filter(|source| source.share.is_none()) {
        if let Some(share) = catalog.share(&source.name.value).filter(|_| total > 0.0) {
            let why =
                "the share of its category in the catalog of Amazon Nova Forge, in proportion to those that are here";
            let path = source.name.path.strip_suffix("name").unwrap_or_default().to_owned() + "share";
            let value = share * (100.0 - given).max(0.0) / total;
            source.share = Some(Valued { value, path, source: Source::Default { why } });
        }
    }
    sources
}

/// The word `self`, or a file; a file of that name is written `./self`.
fn general_rows() -> Kind<GeneralRows> {
    let files = row_files();
    let schema = files.schema.clone();
    let read = move |node: &Node, path: &str, cx: &mut Context| match &node.content {
        Content::Scalar { text, .. } if text == SELF => Some(GeneralRows::Base),
        _ => (files.read)(node, path, cx).map(GeneralRows::Files),
    };
    Kind {
        text: "a path, a map of `path` and what is said of its rows, or `self`".into(),
        schema,
        read: Box::new(read),
    }
}
