//! Where everything came from: mix, settings, files, machine, and the commands that repeat the run.

use serde::Serialize;
use serde_json::Value;

use crate::folder::{FileReport, RunFolder, Source};
use crate::number::{bytes, count, duration, epochs, percent};

/// The mix of one stage.
#[derive(Serialize)]
pub(crate) struct Mix {
    title: String,
    units: [Unit; 3],
    sources: Vec<MixSource>,
}

#[derive(Serialize)]
struct Unit {
    name: &'static str,
    planned_in: bool,
}

#[derive(Serialize)]
struct MixSource {
    name: String,
    cells: [MixCell; 3],
    epochs: String,
    repeated: String,
}

#[derive(Serialize)]
struct MixCell {
    planned: String,
    drawn: String,
    amount: String,
}

pub(crate) fn mixes(run: &RunFolder) -> Vec<Mix> {
    let stages = run.plan.stages.iter().enumerate();
    let mix = |(index, stage): (usize, &crate::folder::Stage)| {
        let unit = |name, key: &str| Unit { name, planned_in: stage.shares.unit == key };
        let source = |share: &crate::folder::Share| {
            let cell = |planned: f64, drawn: f64, amount: u64| MixCell {
                planned: percent(planned),
                drawn: percent(drawn),
                amount: count(amount),
            };
            let (p, a, d) = (&share.planned, &share.actual, &share.drawn);
            MixSource {
                name: share.name.clone(),
                cells: [
                    cell(p.samples, a.samples, d.samples),
                    cell(p.processed_tokens, a.processed_tokens, d.processed_tokens),
                    cell(p.trained_tokens, a.trained_tokens, d.trained_tokens),
                ],
                epochs: epochs(share.epochs),
                repeated: count(share.repeated),
            }
        };
        Mix {
            title: stage_title(index, &stage.kind),
            units: [
                unit("rows", "samples"),
                unit("processed tokens", "processed_tokens"),
                unit("trained tokens", "trained_tokens"),
            ],
            sources: stage.shares.sources.iter().map(source).collect(),
        }
    };
    stages.map(mix).collect()
}

pub(crate) fn stage_title(index: usize, kind: &str) -> String {
    format!("Stage {}, {kind}", index + 1)
}

/// Settings of one origin.
#[derive(Serialize)]
pub(crate) struct SettingGroup {
    title: &'static str,
    rows: Vec<SettingRow>,
}

#[derive(Serialize)]
struct SettingRow {
    path: String,
    value: String,
    source: String,
}

/// What was asked for, then what follows from defaults.
pub(crate) fn settings(run: &RunFolder) -> Vec<SettingGroup> {
    let rows = |of_default: bool| {
        let settings = run.plan.settings.iter();
        let settings = settings.filter(|setting| matches!(setting.source, Source::Default { .. }) == of_default);
        let row = |setting: &crate::folder::Setting| SettingRow {
            path: setting.path.clone(),
            value: plain(&setting.value),
            source: match &setting.source {
                Source::Default { why } => why.clone(),
                Source::Recipe { line } => format!("recipe, line {line}"),
                Source::Alias { name, line } => format!("recipe, line {line}, as {name}"),
                Source::Set { argument } => format!("--set {argument}"),
            },
        };
        settings.map(row).collect()
    };
    vec![
        SettingGroup { title: "Given in the recipe or by a flag", rows: rows(false) },
        SettingGroup { title: "Defaults", rows: rows(true) },
    ]
}

/// A value as people write it.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// The files of one stage.
#[derive(Serialize)]
pub(crate) struct DataGroup {
    title: String,
    files: Vec<DataRow>,
}

#[derive(Serialize)]
struct DataRow {
    path: String,
    rows: String,
    kept: String,
    dropped: String,
    tokens: String,
    trained_tokens: String,
    lengths: String,
    ignored: String,
}

pub(crate) fn data(run: &RunFolder) -> Vec<DataGroup> {
    let several = run.plan.stages.len() > 1;
    let row = |(path, report): &(String, FileReport)| {
        let dropped = report.dropped.iter().map(|(reason, dropped)| {
            let lines: Vec<String> = dropped.first_lines.iter().map(|&line| count(line)).collect();
            format!("{} {} (first lines {})", count(dropped.count), reason.replace('_', " "), lines.join(", "))
        });
        let dropped = dropped.collect::<Vec<_>>().join("; ");
        let ignored = report.ignored_fields.iter().map(|(field, rows)| format!("{field} ({})", count(*rows)));
        DataRow {
            path: path.clone(),
            rows: count(report.rows),
            kept: count(report.kept),
            dropped: if dropped.is_empty() { "none".to_owned() } else { dropped },
            tokens: count(report.processed_tokens),
            trained_tokens: count(report.trained_tokens),
            lengths: [report.lengths.min, report.lengths.p50, report.lengths.max].map(count).join(" / "),
            ignored: ignored.collect::<Vec<_>>().join(", "),
        }
    };
    let group = |(index, stage): (usize, &crate::folder::Stage)| DataGroup {
        title: if several { stage_title(index, &stage.kind) } else { String::new() },
        files: stage.files.iter().map(row).collect(),
    };
    run.plan.stages.iter().enumerate().map(group).collect()
}

/// A file with its hash and licence.
#[derive(Serialize)]
pub(crate) struct HashRow {
    pub path: String,
    pub used_for: String,
    pub licence: String,
    pub unknown: bool,
    pub sha256: String,
}

/// What is said where nothing was declared.
pub(crate) const UNKNOWN: &str = "unknown";

/// Base, recipe and data.
pub(crate) fn hashes(run: &RunFolder) -> Vec<HashRow> {
    let base = &run.plan.base;
    let mut rows = Vec::new();
    for (file, sha256) in &base.sha256s {
        rows.push(HashRow {
            path: file.clone(),
            used_for: format!("base, {}", base.description),
            licence: base.licence.clone().unwrap_or_else(|| UNKNOWN.to_owned()),
            unknown: base.licence.is_none(),
            sha256: sha256.clone(),
        });
    }
    if let Some(invocation) = run.plan.provenance.as_ref().and_then(|provenance| provenance.invocation.as_ref()) {
        let (path, sha256) = (invocation.recipe.clone(), invocation.recipe_sha256.clone());
        rows.push(HashRow { path, used_for: "recipe".to_owned(), licence: String::new(), unknown: false, sha256 });
    }
    for file in &run.plan.inputs {
        // Only training data have a field for their licence.
        let unknown = file.trained && file.licence.is_none();
        rows.push(HashRow {
            path: file.path.clone(),
            used_for: file.setting.clone(),
            licence: file.licence.clone().unwrap_or_else(|| if unknown { UNKNOWN } else { "" }.to_owned()),
            unknown,
            sha256: file.sha256.clone(),
        });
    }
    rows
}

/// A line of the list on machine and software.
#[derive(Serialize)]
pub(crate) struct Fact {
    name: &'static str,
    value: String,
}

pub(crate) fn machine(run: &RunFolder) -> Vec<Fact> {
    let steps = &run.metrics.steps;
    let tokens: u64 = steps.iter().map(|step| step.processed_tokens).sum();
    let seconds: f64 = steps.iter().map(|step| step.seconds).filter(|s| s.is_finite()).sum();
    let estimated: f64 = run.plan.stages.iter().map(|stage| stage.estimate.seconds).sum();
    let memory = run.plan.stages.iter().map(|stage| stage.estimate.memory_bytes).max().unwrap_or(0);
    let trained =
        run.plan.stages.iter().map(|stage| count(stage.trained_parameters)).collect::<Vec<_>>().join(", then ");
    let provenance = run.plan.provenance.as_ref();
    let old = "not recorded by the version that ran it";
    let ended = run.summary.as_ref().and_then(|summary| summary.ended.as_deref());
    let dates = match (provenance.and_then(|p| p.began.as_deref()), ended) {
        (Some(began), Some(ended)) => format!("began {}, ended {}", date(began), date(ended)),
        (Some(began), None) => format!("began {}", date(began)),
        (None, Some(ended)) => format!("ended {}", date(ended)),
        (None, None) => old.to_owned(),
    };
    let mut facts = vec![
        Fact { name: "date", value: dates },
        Fact { name: "temper", value: provenance.map_or(old.to_owned(), |p| p.temper.clone()) },
        Fact { name: "system", value: provenance.map_or(old.to_owned(), |p| p.system.clone()) },
        Fact { name: "device", value: run.plan.device.clone() },
        Fact { name: "precision", value: precision(run).to_owned() },
        Fact { name: "trained parameters", value: format!("{trained} of {}", count(run.plan.base.parameters)) },
        Fact { name: "memory, as planned", value: bytes(memory) },
    ];
    if seconds > 0.0 {
        let rate = count((tokens as f64 / seconds) as u64);
        let value = format!("{} ({} were planned), {rate} tokens a second", duration(seconds), duration(estimated));
        facts.push(Fact { name: "steps", value });
    }
    if !run.history.is_empty() {
        facts.push(Fact { name: "history", value: run.history.join("\n") });
    }
    if let Some(summary) = &run.summary {
        facts.push(Fact { name: "whole run", value: duration(summary.seconds) });
    }
    facts
}

/// `2026-11-25T16:44:06Z` as people read it: `2026-11-25 16:44 UTC`.
fn date(utc: &str) -> String {
    match utc.get(..16).and_then(|minute| minute.split_once('T')) {
        Some((day, minute)) => format!("{day} {minute} UTC"),
        None => utc.to_owned(),
    }
}

/// What was rounded while it trained and was judged.
pub(crate) fn precision(run: &RunFolder) -> &'static str {
    let setting = run.plan.settings.iter().find(|s| s.path == "precision");
    match setting.and_then(|s| s.value.as_str()) {
        Some("bf16") => "bf16 operands in products; sums, trained weights and their moments in f32",
        // Runs of older versions name none.
        _ => "f32",
    }
}

/// Commands.
#[derive(Serialize)]
pub(crate) struct Reproduce {
    #[serde(rename = "where")]
    place: String,
    lines: Vec<String>,
}

pub(crate) fn reproduce(run: &RunFolder) -> Reproduce {
    let folder = run.path.display().to_string();
    let shown = [format!("temper report {}", word(&folder)), format!("tensorboard --logdir {}", word(&folder))];
    let invocation = run.plan.provenance.as_ref().and_then(|p| Some((p, p.invocation.as_ref()?)));
    let Some((provenance, invocation)) = invocation else {
        let place = "The plan of this run does not name its recipe; every resolved value stands under Settings.";
        return Reproduce { place: place.to_owned(), lines: shown.to_vec() };
    };
    let recipe = word(&invocation.recipe);
    // Where the run lay matters to no result, and a second one needs another folder.
    let sets = invocation.sets.iter().filter(|set| !set.starts_with("output="));
    let sets: String = sets.map(|set| format!(" --set {}", word(set))).collect();
    let (sha256, quoted) = (&invocation.recipe_sha256, invocation.recipe.replace('\'', "'\\''"));
    let mut lines =
        vec![format!("# temper {}", provenance.temper), format!("echo '{sha256}  {quoted}' | sha256sum --check")];
    lines.push(format!("temper plan {recipe}{}", sets));
    lines.push(format!(
        "temper run {recipe}{} --output {}",
        sets,
        word(&format!("{}-again", folder.trim_end_matches('/')))
    ));
    let adapter = run.path.join("adapter");
    if adapter.is_dir() && run.has_evaluation() {
        let adapter = word(&adapter.display().to_string());
        lines.push(format!("temper eval {recipe}{} --adapter {adapter} --test", sets));
    }
    lines.extend(shown);
    Reproduce {
        place: "From the folder in which the run was started. The same binary on the same machine and number of threads gives \
                the same bits; elsewhere the numbers agree to rounding."
            .to_owned(),
        lines,
    }
}

/// An argument as a POSIX shell reads it.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,#".contains(c);
    if !text.is_empty() && text.chars().all(plain) && !text.starts_with('#') {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_survive_a_shell() {
        assert_eq!(word("stages.0.learning_rate=2e-3"), "stages.0.learning_rate=2e-3");
        assert_eq!(word("floors={a: {max_kl: 1}}"), "'floors={a: {max_kl: 1}}'");
        assert_eq!(word("it's; rm"), r"'it'\''s; rm'");
        assert_eq!(word(""), "''");
    }
}
