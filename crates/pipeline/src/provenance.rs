//! How a run was asked for: program, machine, command.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use temper_run::{sha256_file, utc_now};

use crate::PipelineError;

/// The command, so that a report can say how to repeat it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invocation {
    /// The recipe file, as it was named.
    pub recipe: PathBuf,
    /// SHA-256 of its content.
    pub recipe_sha256: String,
    /// The `--set` arguments, in order.
    pub sets: Vec<String>,
}

/// Program, machine, command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// Version of Temper.
    pub temper: String,
    /// Operating system and processor family.
    pub system: String,
    /// When the run began: a date in UTC, as RFC 3339 writes it.
    #[serde(default)]
    pub began: Option<String>,
    /// The command; none where the caller gave a recipe that is in no file.
    pub invocation: Option<Invocation>,
    /// Keeps texts of the data and of the models out of the run folder and its report: ids and scores only. Recorded, so
    /// that a run that is resumed keeps them out as well.
    pub no_samples: bool,
}

impl Default for Provenance {
    /// This program on this machine, called without a recipe file.
    fn default() -> Self {
        Self {
            temper: env!("CARGO_PKG_VERSION").to_owned(),
            system: format!("{} on {}", std::env::consts::OS, std::env::consts::ARCH),
            began: Some(utc_now()),
            invocation: None,
            no_samples: false,
        }
    }
}

impl Provenance {
    /// That of a command on a recipe file.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn of_command(recipe: &Path, sets: &[String]) -> Result<Self, PipelineError> {
        let (recipe, recipe_sha256, sets) = (recipe.to_owned(), sha256_file(recipe)?, sets.to_vec());
        Ok(Self { invocation: Some(Invocation { recipe, recipe_sha256, sets }), ..Self::default() })
    }

    /// What the plan in a run folder recorded; none where there is no plan, or one of a version that recorded nothing.
    pub fn recorded(run: &Path) -> Option<Self> {
        #[derive(Deserialize)]
        struct Plan {
            provenance: Provenance,
        }
        let plan = std::fs::read(run.join("plan.json")).ok()?;
        serde_json::from_slice::<Plan>(&plan).ok().map(|plan| plan.provenance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run that kept texts out must not write them when it goes on.
    #[test]
    fn a_run_that_is_resumed_finds_what_it_recorded() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Provenance::recorded(folder.path()), None);
        let recipe = folder.path().join("recipe.yaml");
        std::fs::write(&recipe, "abc").unwrap();
        let mut provenance = Provenance::of_command(&recipe, &["seed=1".to_owned()]).unwrap();
        provenance.no_samples = true;
        let sha256 = &provenance.invocation.as_ref().unwrap().recipe_sha256;
        assert!(sha256.starts_with("ba7816bf8f01cfea"), "{sha256}");
        let plan = serde_json::json!({"name": "a", "provenance": provenance});
        std::fs::write(folder.path().join("plan.json"), plan.to_string()).unwrap();
        assert_eq!(Provenance::recorded(folder.path()), Some(provenance));
    }
}
