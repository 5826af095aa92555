//! No committed text names a path of somebody's machine, no committed source holds unfinished work, and each dependency
//! has its reason written down.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, bail};

use crate::command::{output, program, root};

/// Files of data hold whatever people wrote; only machine paths are looked for in them.
const DATA: [&str; 7] = ["csv", "json", "jsonl", "lock", "tsv", "txt", "xml"];

/// What is looked for. The words are put together here so that this file does not hold them itself.
struct Patterns {
    machine_paths: Vec<String>,
    unfinished: Vec<String>,
}

impl Patterns {
    fn new() -> Self {
        let join = |pairs: &[(&str, &str)]| pairs.iter().map(|(start, end)| format!("{start}{end}")).collect();
        Self {
            machine_paths: join(&[
                ("/wo", "rk/"),
                ("/fa", "rm/"),
                ("/tmp/as", "sets"),
                (".libr", "ary"),
                ("../sha", "red"),
            ]),
            unfinished: join(&[("TO", "DO"), ("FIX", "ME"), ("to", "do!("), ("unimple", "mented!("), ("#[ign", "ore")]),
        }
    }

    /// The patterns that a file with this name must not hold.
    fn for_file(&self, name: &str) -> impl Iterator<Item = &String> {
        let is_data = name.rsplit_once('.').is_some_and(|(_, extension)| DATA.contains(&extension));
        self.machine_paths.iter().chain(if is_data { &[][..] } else { &self.unfinished[..] })
    }
}

/// Reads every file that git tracks and reports all finds at once.
pub fn check_text() -> Result<()> {
    let root = root()?;
    let patterns = Patterns::new();
    let mut finds = Vec::new();
    for name in output(program("git")?.args(["ls-files", "-z"]))?.split_terminator('\0') {
        let path = root.join(name);
        if !path.is_file() {
            continue; // deleted in the working tree, or a link to a folder
        }
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if let Ok(text) = std::str::from_utf8(&bytes) {
            finds.extend(finds_in(name, text, &patterns));
        }
    }
    if !finds.is_empty() {
        bail!("machine paths or unfinished work in committed files:\n{}", finds.join("\n"));
    }
    Ok(())
}

/// `file:line: pattern` for each find. Text with a NUL byte counts as binary.
fn finds_in(name: &str, text: &str, patterns: &Patterns) -> Vec<String> {
    if text.contains('\0') {
        return Vec::new();
    }
    let mut finds = Vec::new();
    for pattern in patterns.for_file(name).filter(|pattern| text.contains(pattern.as_str())) {
        for (index, _) in text.lines().enumerate().filter(|(_, line)| line.contains(pattern.as_str())) {
            finds.push(format!("{name}:{}: `{pattern}`", index + 1));
        }
    }
    finds
}

/// The version table of the workspace and the table of reasons name the same dependencies.
pub fn check_dependencies() -> Result<()> {
    let read = |name: &str| {
        let path = root()?.join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let (manifest, reasons) = (read("Cargo.toml")?, read("docs/decisions/dependencies.md")?);
    let (used, explained) = (in_version_table(&manifest), in_reason_table(&reasons));
    let mut wrong: Vec<String> = Vec::new();
    wrong.extend(used.difference(&explained).map(|name| format!("`{name}` has no row")));
    wrong.extend(
        explained.difference(&used).map(|name| format!("`{name}` has a row but is not in the root Cargo.toml")),
    );
    if !wrong.is_empty() {
        bail!("docs/decisions/dependencies.md does not fit the root Cargo.toml:\n{}", wrong.join("\n"));
    }
    Ok(())
}

/// Names in `[workspace.dependencies]`, one a line, without the workspace's own crates.
fn in_version_table(manifest: &str) -> BTreeSet<&str> {
    let lines = manifest.lines().skip_while(|line| *line != "[workspace.dependencies]").skip(1);
    let entries = lines.take_while(|line| !line.starts_with('[')).filter(|line| !line.contains("path ="));
    entries.filter_map(|line| line.split_once(" =")).map(|(name, _)| name).collect()
}

/// First cells of the rows of the Markdown table, below its head.
fn in_reason_table(reasons: &str) -> BTreeSet<&str> {
    let rows = reasons.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    rows.filter_map(|row| row.strip_prefix("| ")?.split_once(" |")).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pattern_is_found_with_its_line() {
        let patterns = Patterns::new();
        for pattern in patterns.machine_paths.iter().chain(&patterns.unfinished) {
            let text = format!("fine\nalso fine\nlet x = \"{pattern}y\";\n");
            assert_eq!(finds_in("a/b.rs", &text, &patterns), [format!("a/b.rs:3: `{pattern}`")]);
        }
    }

    #[test]
    fn data_may_hold_any_words_but_no_machine_path() {
        let patterns = Patterns::new();
        let [path, word] = [&patterns.machine_paths[0], &patterns.unfinished[0]];
        assert_eq!(finds_in("rows.jsonl", &format!("{word}\n{path}"), &patterns), [format!("rows.jsonl:2: `{path}`")]);
        assert_eq!(finds_in("binary", &format!("{word}\0"), &patterns), [""; 0]);
    }

    #[test]
    fn dependencies_are_read_from_both_tables() {
        let manifest =
            "[workspace]\nx = 1\n[workspace.dependencies]\nown = { path = \"own\" }\n\nhalf = \"2\"\n[lints]\ny = 1\n";
        assert_eq!(in_version_table(manifest), BTreeSet::from(["half"]));
        let reasons = "# Reasons\n\n| crate | why |\n|---|---|\n| half | bf16 |\n\nMore.\n";
        assert_eq!(in_reason_table(reasons), BTreeSet::from(["half"]));
    }
}
