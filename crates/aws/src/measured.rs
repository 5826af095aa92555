//! What a job measured, by name: the metrics of its description, and the last numbers of the files that it left.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::error::Error;
use crate::job::Job;
use crate::request::Platform;

/// Metrics of a job, each with where it was found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Measured {
    values: BTreeMap<String, Vec<(String, f64)>>,
    /// Files that are not what their names say, and why.
    unread: Vec<String>,
}

impl Measured {
    /// The metrics of a description: SageMaker's by their own names; of Bedrock's `trainingLoss` and `validationLoss`, which with
    /// several validators is `validationLoss.0` and so on. Each under its name, and as `description:NAME`.
    pub fn described(job: &Job) -> Self {
        let mut measured = Self::default();
        let mut add = |name: String, value: &Value| measured.of("description", &name, value.as_f64());
        match job.platform {
            Platform::SageMaker => {
                for metric in job.metrics["final"].as_array().into_iter().flatten() {
                    add(metric["MetricName"].as_str().unwrap_or_default().to_owned(), &metric["Value"]);
                }
            }
            Platform::Bedrock => {
                add("trainingLoss".to_owned(), &job.metrics["training"]["trainingLoss"]);
                let validators = job.metrics["validation"].as_array().map_or(&[][..], Vec::as_slice);
                for (index, validator) in validators.iter().enumerate() {
                    let number = if validators.len() == 1 { String::new() } else { format!(".{index}") };
                    add(format!("validationLoss{number}"), &validator["validationLoss"]);
                }
            }
        }
        measured
    }

    /// Adds what lies in a folder that [`fetch`](crate::fetch) wrote: of each `.csv` the columns of its last row, of each `.jsonl` its
    /// last line, of each `.json` all numbers by their paths; under the column's or path's name, and as `FILE:NAME`. A file that is not what
    /// its name says tells nothing, which is said where a metric is missing.
    ///
    /// # Errors
    /// Where a file cannot be read.
    pub fn fetched(mut self, folder: &Path) -> Result<Self, Error> {
        self.folder(folder, folder)?;
        Ok(self)
    }

    /// The metrics that are known by one value, by name.
    pub fn known(&self) -> BTreeMap<String, f64> {
        let one = |values: &[(String, f64)]| values.iter().all(|(_, value)| *value == values[0].1);
        self.values.iter().filter(|(_, values)| one(values)).map(|(name, values)| (name.clone(), values[0].1)).collect()
    }

    /// Why a metric is not known.
    pub fn unknown(&self, name: &str) -> String {
        match self.values.get(name) {
            Some(values) => {
                let places: Vec<String> = values.iter().map(|(place, value)| format!("{value} in {place}")).collect();
                format!("`{name}` is {}: say which, as in FILE:{name}", places.join(", "))
            }
            None => {
                // SageMaker's own names have colons too, as `validation:accuracy`.
                let placed =
                    |name: &str, place: &str| name.strip_prefix(place).is_some_and(|rest| rest.starts_with(':'));
                let short = self.values.iter().filter(|(name, values)| !placed(name, &values[0].0));
                let names: Vec<&str> = short.map(|(name, _)| name.as_str()).collect();
                let left = if names.is_empty() { "nothing that is a number".to_owned() } else { names.join(", ") };
                let unread = self.unread.iter().map(|file| format!("; not read: {file}")).collect::<String>();
                format!("it left no `{name}`; it left {left}{unread}")
            }
        }
    }

    fn add(&mut self, place: &str, name: String, value: Option<f64>) {
        if let Some(value) = value.filter(|value| value.is_finite()) {
            self.values.entry(name).or_default().push((place.to_owned(), value));
        }
    }

    fn of(&mut self, place: &str, name: &str, value: Option<f64>) {
        self.add(place, name.to_owned(), value);
        self.add(place, format!("{place}:{name}"), value);
    }

    fn folder(&mut self, root: &Path, folder: &Path) -> Result<(), Error> {
        let failed = |action, path: &Path| {
            let path = path.to_path_buf();
            move |source| Error::Io { action, path, source }
        };
        let entries = fs::read_dir(folder).map_err(failed("list", folder))?;
        let mut paths = entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(failed("list", folder))?;
        paths.sort();
        for path in paths {
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
            // The description, which is known already, and what went in.
            if ["job.json", "metrics.json", "recipe"].contains(&name.as_str()) {
                continue;
            }
            if path.is_dir() {
                self.folder(root, &path)?;
                continue;
            }
            let read = || fs::read(&path).map_err(failed("read", &path));
            let understood = match path.extension().and_then(|extension| extension.to_str()) {
                Some("csv") => self.csv(&name, &read()?).map_err(|error| error.to_string()),
                Some("json") => self.document(&name, &read()?),
                Some("jsonl") => {
                    let text = read()?;
                    let last = text.split(|byte| *byte == b'\n').rfind(|line| !line.trim_ascii().is_empty());
                    last.map_or(Ok(()), |line| self.document(&name, line))
                }
                _ => Ok(()),
            };
            if let Err(problem) = understood {
                self.unread.push(format!("{name}: {problem}"));
            }
        }
        Ok(())
    }

    fn csv(&mut self, file: &str, text: &[u8]) -> Result<(), csv::Error> {
        let mut reader = csv::Reader::from_reader(text);
        let header = reader.headers()?.clone();
        // A column that is empty in the last rows was last measured before them.
        let mut last: BTreeMap<usize, f64> = BTreeMap::new();
        for row in reader.records() {
            let row = row?;
            last.extend(row.iter().enumerate().filter_map(|(column, cell)| Some((column, cell.trim().parse().ok()?))));
        }
        for (column, name) in header.iter().enumerate() {
            self.of(file, name.trim(), last.get(&column).copied());
        }
        Ok(())
    }

    fn document(&mut self, file: &str, text: &[u8]) -> Result<(), String> {
        self.json(file, "", &serde_json::from_slice(text).map_err(|error| error.to_string())?);
        Ok(())
    }

    fn json(&mut self, file: &str, path: &str, value: &Value) {
        let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        match value {
            Value::Object(map) => map.iter().for_each(|(key, value)| self.json(file, &below(key), value)),
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(index, item)| self.json(file, &below(&index.to_string()), item));
            }
            single => self.of(file, path, single.as_f64()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_numbers_of_each_file_count_and_two_that_differ_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("job.json", r#"{"secret": 1}"#);
        write("recipe/recipe.json", r#"{"lr": 1}"#);
        write("train/metrics.csv", "step,training_loss,validation_loss\n1,3.5,2.5\n2,3.0,\n");
        write("eval.json", r#"{"results": {"all": {"accuracy": 0.5}}, "step": 7}"#);
        write("log.jsonl", "{\"reward\": 0.1}\n{\"reward\": 0.75, \"note\": \"x\"}\n\n");
        let measured = Measured::default().fetched(folder.path()).unwrap();
        let known = measured.known();
        assert_eq!(known["training_loss"], 3.0);
        assert_eq!(known["validation_loss"], 2.5, "measured every second step");
        assert_eq!(known["results.all.accuracy"], 0.5);
        assert_eq!(known["reward"], 0.75);
        assert_eq!(known["train/metrics.csv:step"], 2.0);
        assert!(!known.contains_key("step") && !known.contains_key("secret") && !known.contains_key("lr"));
        let said = measured.unknown("step");
        assert_eq!(said, "`step` is 7 in eval.json, 2 in train/metrics.csv: say which, as in FILE:step");
        let mut colons = Measured::default();
        colons.of("description", "validation:accuracy", Some(0.5));
        assert_eq!(colons.unknown("x"), "it left no `x`; it left validation:accuracy", "as moto showed");
        let said = measured.unknown("loss");
        assert!(said.starts_with("it left no `loss`; it left results.all.accuracy, reward"), "{said}");
        write("cut.json", "{\"loss\": 1.");
        write("uneven.csv", "a,b\n1\n");
        let measured = Measured::default().fetched(folder.path()).unwrap();
        assert_eq!(measured.known(), known, "the others are read all the same");
        let said = measured.unknown("loss");
        assert!(
            said.contains("; not read: cut.json: EOF while parsing") && said.contains("; not read: uneven.csv: "),
            "{said}"
        );
    }
}
