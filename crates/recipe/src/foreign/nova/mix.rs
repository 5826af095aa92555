//! Nova's mix of the customer's rows with Nova's own: its catalogs, its sums, where it stands.

use crate::catalog::Catalog;
use crate::kind::{Choice, closest};

use super::super::document::{Document, Leaf, text};
use super::super::finding::{Cited, Finding, Severity};
use super::super::script::number;
use super::super::view::{Said, Technique};
use super::keys::{GUIDE, SDK};
use super::{Nature, Platform};

/// How far a sum may be from 100, as the SDK has it.
const TOLERANCE: f64 = 0.01;
const FORGE: Cited =
    Cited { what: "AWS ML blog, hyperparameters of Nova Forge; guide, page on Forge SFT", when: "June 2026" };
const BLOG: Cited = Cited { what: "AWS blog, Nova Forge SDK part 2", when: "April 2026" };
const CUSTOMER: &str = "data_mixing.sources.customer_data.percent";
const FLAT_CUSTOMER: &str = "customer_data_percent";

/// A share of Nova's part.
struct Share<'d> {
    category: String,
    percent: Option<f64>,
    leaf: Leaf<'d>,
}

/// Whether a hyperparameter is one of the mix: `customer_data_percent`, `nova_<category>_percent`.
pub(super) fn is_key(last: &str) -> bool {
    last == FLAT_CUSTOMER || category(last).is_some() || last == "dataset_catalog"
}

fn category(last: &str) -> Option<&str> {
    last.strip_prefix("nova_")?.strip_suffix("_percent")
}

pub(super) fn is_mixed(document: &Document) -> bool {
    customer(document).is_some_and(|said| said.value < 100.0) || !shares(document).is_empty()
}

/// Percent that is the customer's.
pub(super) fn customer(document: &Document) -> Option<Said<f64>> {
    ["customer_data.percent", FLAT_CUSTOMER].iter().find_map(|end| document.said_ending(end))
}

fn shares(document: &Document) -> Vec<Share<'_>> {
    let mut shares = Vec::new();
    for leaf in document.leaves() {
        let last = leaf.path.rsplit('.').next().unwrap_or(&leaf.path);
        let name = match category(last) {
            Some(name) => name.replace('_', "-"),
            None if leaf.path.contains("nova_data.") => {
                let rest = leaf.path.split("nova_data.").nth(1).unwrap_or(last);
                rest.strip_suffix(".percent").unwrap_or(rest).to_owned()
            }
            None => continue,
        };
        shares.push(Share { category: name, percent: document.number_of(leaf.node), leaf });
    }
    shares
}

/// The catalog that is named, or the only one that a recipe of this kind can mean.
pub(super) fn catalog(document: &Document, nature: Nature) -> Option<Catalog> {
    let named = document.ending("dataset_catalog").and_then(|leaf| text(leaf.node).map(str::to_owned));
    match named {
        Some(name) => Catalog::ALL.iter().find(|(word, _)| *word == name).map(|(_, catalog)| *catalog),
        None => catalog_of(nature),
    }
}

pub(super) fn findings(document: &Document, nature: Nature) -> Vec<Finding> {
    let mut findings = Vec::new();
    let shares = shares(document);
    let customer = customer(document);
    if shares.is_empty() && customer.is_none() {
        return findings;
    }
    let mut find =
        |rule, severity, leaf: &Leaf<'_>, found: String, reason: &str, source: Cited, corrected: Option<String>| {
            findings.push(Finding {
                rule,
                severity,
                place: leaf.place.clone(),
                found,
                reason: reason.to_owned(),
                source: source.to_string(),
                corrected,
            });
        };
    if let Some(leaf) = document.ending("dataset_catalog")
        && let Some(name) = text(leaf.node)
    {
        let known = Catalog::ALL.iter().map(|(word, _)| *word);
        match Catalog::ALL.iter().find(|(word, _)| *word == name) {
            None => {
                let near = closest(name, known.clone());
                let reason = format!("the catalogs are {}", known.collect::<Vec<_>>().join(", "));
                let corrected = near.map(|near| document.line(&leaf.path, near));
                find(
                    "mix-catalog",
                    Severity::Error,
                    &leaf,
                    format!("there is no catalog `{name}`"),
                    &reason,
                    GUIDE,
                    corrected,
                );
            }
            Some((_, catalog)) => {
                let of_cpt = *catalog == Catalog::CptTextLite;
                let of_first = matches!(catalog, Catalog::SftText | Catalog::SftMm);
                let fits = of_cpt == (nature.technique == Technique::Cpt) && of_first != nature.second;
                let right = Catalog::ALL.iter().find(|(_, other)| Some(*other) == catalog_of(nature));
                if !fits {
                    let found = format!("`{name}` is not a catalog for this technique and model");
                    let reason = "each technique and each generation of Nova has catalogs of its own";
                    let corrected = right.map(|(word, _)| document.line(&leaf.path, word));
                    find("mix-catalog", Severity::Error, &leaf, found, reason, GUIDE, corrected);
                }
            }
        }
    }
    if let Some(leaf) =
        document.ending("data_mixing.sources.customer_data.percent").filter(|leaf| leaf.path != CUSTOMER)
    {
        let reason = "older pages place data_mixing under training_config, newer ones at the top of the recipe: the two disagree";
        find("mix-placement", Severity::Note, &leaf, format!("`{}` is not at the top", leaf.path), reason, GUIDE, None);
    }
    if let Some(catalog) = catalog(document, nature) {
        for share in &shares {
            if catalog.share(&share.category).is_none() {
                let near = closest(&share.category, catalog.shares().iter().map(|(name, _)| *name));
                let path = share.leaf.path.clone();
                let corrected = near.map(|near| {
                    let key = path.replace(&share.category, near).replace(&share.category.replace('-', "_"), near);
                    document.line(&key, &share.percent.map_or_else(String::new, number))
                });
                let found = format!("`{}` is no category of `{catalog}`", share.category);
                find(
                    "mix-category",
                    Severity::Error,
                    &share.leaf,
                    found,
                    "an unknown category is refused",
                    SDK,
                    corrected,
                );
            }
        }
    }
    for share in &shares {
        if share.percent.is_none_or(|percent| !(0.0..=100.0).contains(&percent)) {
            let found = format!("`{}` is {}", share.leaf.path, super::super::document::shown(share.leaf.node));
            find("mix-sum", Severity::Error, &share.leaf, found, "a share is a percent from 0 to 100", SDK, None);
        }
    }
    let sum: f64 = shares.iter().filter_map(|share| share.percent).sum();
    let whole = customer.as_ref().is_some_and(|said| said.value >= 100.0);
    if let Some(last) = shares.last() {
        if whole && sum > 0.0 {
            let found = format!("all of the mix is the customer's, and Nova's shares sum to {}", number(sum));
            let reason = "at 100 % customer data no share of Nova's may be above 0. The SDK's own defaults cannot be dialled to this: \
                          leave data_mixing out";
            find("mix-sum", Severity::Error, &last.leaf, found, reason, SDK, None);
        } else if !whole && (sum - 100.0).abs() > TOLERANCE {
            let found = format!("Nova's shares sum to {}", number((sum * 1e6).round() / 1e6));
            let reason =
                "the shares are percent of Nova's part alone and sum to 100; the customer's percent is not one of them";
            let rest = last.percent.unwrap_or(0.0) + 100.0 - sum;
            let corrected = (rest >= 0.0).then(|| document.line(&last.leaf.path, &number((rest * 1e6).round() / 1e6)));
            find("mix-sum", Severity::Error, &last.leaf, found, reason, GUIDE, corrected);
        }
    }
    if shares.is_empty()
        && !whole
        && nature.platform == Platform::HyperPod
        && let Some(leaf) = document.ending("customer_data.percent")
    {
        let reason = "below 100 % the rest is Nova's, and its shares must be said";
        find("mix-sum", Severity::Error, &leaf, "no share of Nova's is given".to_owned(), reason, SDK, None);
    }
    if nature.platform == Platform::SageMaker && nature.technique == Technique::Sft && nature.second {
        let catalog = Catalog::Sft1p5TextChat;
        let missing: Vec<&str> = catalog
            .shares()
            .iter()
            .map(|(name, _)| *name)
            .filter(|name| !shares.iter().any(|share| share.category == *name))
            .collect();
        if let (Some(first), false) = (shares.first(), missing.is_empty()) {
            let found = format!("{} of 23 categories are not given: {}", missing.len(), missing.join(", "));
            let reason = "a serverless job takes all 23 or none; write 0 for those that are not used";
            let corrected = Some(document.line(&format!("nova_{}_percent", missing[0].replace('-', "_")), "0"));
            find("mix-serverless", Severity::Error, &first.leaf, found, reason, GUIDE, corrected);
        }
    }
    if nature.technique == Technique::Sft && !whole {
        let text_only = catalog(document, nature) == Some(Catalog::Sft1p5TextChat);
        let share = |name: &str| shares.iter().find(|share| share.category == name);
        let at = customer_leaf(document).or_else(|| shares.first().map(|share| share.leaf.clone()));
        for (category, source, reason) in [
            (
                "reasoning-instruction-following",
                FORGE,
                "leaving it out is a known cause of lost reasoning and general scores",
            ),
            ("rai", BLOG, "keep it above zero: safety behaviour is forgotten as anything else is"),
        ] {
            let none = share(category).is_none_or(|share| share.percent == Some(0.0));
            if let (true, true, false, Some(at)) = (text_only, none, shares.is_empty(), &at) {
                let leaf = share(category).map_or(at, |share| &share.leaf);
                let percent = Catalog::Sft1p5TextChat.share(category).unwrap_or(1.0);
                let corrected = Some(document.line(category, &number(percent)));
                let found = format!("no `{category}` in the mix");
                find("mix-without-instructions", Severity::Warning, leaf, found, reason, source, corrected);
            }
        }
    }
    findings
}

/// The catalog of text of this technique and model.
fn catalog_of(nature: Nature) -> Option<Catalog> {
    match (nature.technique, nature.second) {
        (Technique::Cpt, true) => Some(Catalog::CptTextLite),
        (Technique::Sft, true) => Some(Catalog::Sft1p5TextChat),
        (Technique::Sft, false) => Some(Catalog::SftText),
        _ => None,
    }
}

fn customer_leaf(document: &Document) -> Option<Leaf<'_>> {
    ["customer_data.percent", FLAT_CUSTOMER].iter().find_map(|end| document.ending(end))
}
