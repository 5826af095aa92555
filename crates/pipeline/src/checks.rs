//! Checks of the rows that a stage trains on, beside all that judges it; kept by content.

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use temper_data::{
    CheckOptions, CheckReport, DataError, ExamplesWriter, Filtering, Filters, HeldOut, HeldOutKind, Preparing,
    ReadOptions, RowRules, Source, Tell, Treatment, check_files, prepare_filtered, read_rows,
};
use temper_recipe::{DataErrors, Found, Private, Recipe, Stage};
use temper_run::sha256_file;

use crate::PipelineError;
use crate::base::{Base, open_base};
use crate::cache::{Kept, Kind};
use crate::files::Files;
use crate::identity::Input;
use crate::prepare::{read_options, row_rules};
use crate::run::Event;

/// Raised whenever checks find something else in the same rows.
const FINDINGS: u32 = 2;

/// What may not be trained on: a file, what it is for, how it is read.
#[derive(Debug, Clone)]
pub(crate) struct HeldOutFile {
    name: String,
    kind: HeldOutKind,
    path: PathBuf,
    options: ReadOptions,
}

impl HeldOutFile {
    fn read(&self) -> Result<HeldOut, DataError> {
        HeldOut::read(&self.name, self.kind, &self.path, &self.options)
    }
}

/// All that judges a stage: its validation, the domain's validation and test, the general suites; each file once.
fn held_out(recipe: &Recipe, stage: &Stage, found: &Files) -> Vec<HeldOutFile> {
    let plain = |name: &str, kind, path: &Path| HeldOutFile {
        name: name.to_owned(),
        kind,
        path: path.to_owned(),
        options: ReadOptions::default(),
    };
    let mut files = Vec::new();
    if let Some(validation) = &stage.validation {
        let options = read_options(&validation.value);
        let of = |path: &PathBuf| HeldOutFile {
            options: options.clone(),
            ..plain("validation", HeldOutKind::Validation, path)
        };
        files.extend(found.of(&validation.value.path).iter().map(of));
    }
    if let Some(evaluation) = &recipe.evaluation {
        if let Some(domain) = &evaluation.domain {
            files.push(plain("validation", HeldOutKind::Validation, &domain.validation.value));
            files.push(plain("test", HeldOutKind::Test, &domain.test.value));
        }
        files.extend(
            evaluation.general.iter().map(|suite| plain(&suite.name.value, HeldOutKind::Suite, &suite.path.value)),
        );
    }
    let mut seen = HashSet::new();
    files.retain(|file| seen.insert(file.path.canonicalize().unwrap_or_else(|_| file.path.clone())));
    files
}

/// What a stage leaves out of its rows.
fn filters(stage: &Stage) -> Filters {
    let Some(filters) = &stage.filters else { return Filters::default() };
    let drops = |found: Found| found == Found::Drop;
    let treatment = |private: Private| match private {
        Private::Keep => Treatment::Keep,
        Private::Drop => Treatment::Drop,
        Private::Mask => Treatment::Mask,
    };
    Filters {
        exact_duplicates: drops(filters.exact_duplicates.value),
        near_duplicates: drops(filters.near_duplicates.value),
        overlap: drops(filters.overlap.value),
        mojibake: drops(filters.mojibake.value),
        secrets: treatment(filters.secrets.value),
        personal_data: treatment(filters.personal_data.value),
        min_chars: filters.min_chars.as_ref().map(|least| least.value as usize),
        max_repetition: filters.max_repetition.as_ref().map(|most| most.value),
    }
}

/// The files that a stage trains on, in the order of the recipe: those of the domain, then general ones.
fn trained(stage: &Stage, found: &Files) -> Vec<(PathBuf, ReadOptions)> {
    let general = stage.mix.iter().flat_map(|mix| &mix.general).filter_map(|source| source.path.files());
    let mut trained = Vec::new();
    for files in stage.train.value.iter().chain(general) {
        trained.extend(found.of(&files.path).iter().map(|path| (path.clone(), read_options(files))));
    }
    trained
}

/// Filters of the files that a stage trains on, and what they need to know.
pub(crate) struct StageFilters {
    filters: Filters,
    /// Nothing where no filter looks at it.
    held_out: Vec<HeldOutFile>,
    trained: Vec<(PathBuf, ReadOptions)>,
    /// The filters as they are after so many of these files.
    after: RefCell<Option<(usize, Filtering)>>,
}

impl StageFilters {
    /// Those of a stage; nothing where none is on.
    pub fn of(recipe: &Recipe, stage: &Stage, found: &Files) -> Option<Self> {
        let filters = filters(stage);
        let held_out = if filters.overlap { held_out(recipe, stage, found) } else { Vec::new() };
        let trained = trained(stage, found);
        filters.any().then_some(Self { filters, held_out, trained, after: RefCell::new(None) })
    }

    /// What their result on the file of this number depends on, beside the file: where duplicates are looked for, also the
    /// files before it.
    pub fn ingredients(&self, number: usize) -> Result<Value, PipelineError> {
        let hashes = self.held_out.iter().map(|file| sha256_file(&file.path)).collect::<Result<Vec<_>, _>>()?;
        let looked_at = if self.filters.look_back() { &self.trained[..number] } else { &[] };
        let before = looked_at
            .iter()
            .map(|(path, options)| Ok(json!([sha256_file(path)?, options.format, options.columns])))
            .collect::<Result<Vec<Value>, PipelineError>>()?;
        Ok(json!({"filters": self.filters, "held_out": hashes, "before": before}))
    }

    /// At work on the file of this number; what they know of the files before it is read from them, where they are not at
    /// hand from having filtered these.
    pub fn work<T>(
        &self,
        number: usize,
        work: impl FnOnce(&mut Filtering) -> Result<T, DataError>,
    ) -> Result<T, DataError> {
        // What fails on its way is begun anew: it has seen some rows of the file.
        let known = self.after.borrow_mut().take().filter(|(after, _)| *after <= number || !self.filters.look_back());
        let (after, mut filtering) = match known {
            Some(known) => known,
            None => {
                let held_out = self.held_out.iter().map(HeldOutFile::read).collect::<Result<Vec<_>, _>>()?;
                (0, Filtering::new(self.filters.clone(), held_out))
            }
        };
        let missed = if self.filters.look_back() { &self.trained[after.min(number)..number] } else { &[] };
        for (path, options) in missed {
            filtering.next_file();
            read_rows(path, options, &mut |rows| {
                filtering.apply(rows);
                Ok::<_, DataError>(())
            })?;
        }
        let done = work(&mut filtering)?;
        *self.after.borrow_mut() = Some((number + 1, filtering));
        Ok(done)
    }
}

/// Checks the rows of a stage; `inputs` has the hash of every file.
pub(crate) fn check(
    recipe: &Recipe,
    index: usize,
    (found, inputs): (&Files, &[Input]),
    kept: Kept<'_>,
) -> Result<CheckReport, PipelineError> {
    let stage = &recipe.stages[index];
    let held_out = held_out(recipe, stage, found);
    let trained = trained(stage, found);
    let hash = |path: &Path| inputs.iter().find(|input| input.path == path).map(|input| input.sha256.as_str());
    let read = |path: &Path, options: &ReadOptions| json!([path, hash(path), options.format, options.columns]);
    let (filters, errors_stand) = (filters(stage), stage.data_errors.value == DataErrors::Allow);
    let first =
        trained.first().and_then(|(path, _)| path.file_name()).unwrap_or_default().to_string_lossy().into_owned();
    let ingredients = json!({
        "what": format!("checks of {first}"),
        "temper": [json!(env!("CARGO_PKG_VERSION")), json!(FINDINGS)],
        "trained": trained.iter().map(|(path, options)| read(path, options)).collect::<Vec<_>>(),
        "held_out": held_out.iter().map(|file| json!([file.name, file.kind, read(&file.path, &file.options)])).collect::<Vec<_>>(),
        "filters": filters,
        "errors_stand": errors_stand,
    });
    kept.or(Kind::Rows, &ingredients, || {
        let held_out = held_out.iter().map(HeldOutFile::read).collect::<Result<Vec<_>, _>>()?;
        let options = CheckOptions { held_out, filters, errors_stand, ..CheckOptions::default() };
        Ok(check_files(trained.iter().map(|(path, options)| (path.as_path(), options)), options)?)
    })
}

/// A stage of a recipe by its number, from 0.
fn stage_of(recipe: &Recipe, index: usize) -> Result<&Stage, PipelineError> {
    recipe.stages.get(index).ok_or_else(|| PipelineError::Unfit {
        path: format!("stages.{index}"),
        problem: format!("there is no such stage: the recipe has {}", recipe.stages.len()),
        hint: "stages are numbered from 0, as in --set stages.0.max_length=512".to_owned(),
    })
}

/// The base of a recipe, and how a stage of it makes tokens of rows.
///
/// # Errors
/// As [`open_base`]; [`PipelineError::Unfit`] where there is no such stage.
fn stage_rules(
    recipe: &Recipe,
    index: usize,
    offline: bool,
    on_event: &mut dyn FnMut(&Event),
) -> Result<(Base, RowRules), PipelineError> {
    let rules = row_rules(stage_of(recipe, index)?);
    let sha256 = recipe.base.sha256.as_ref().map(|sha256| sha256.value.as_str());
    Ok((open_base(&recipe.base.source.value.to_string(), sha256, offline, on_event)?, rules))
}

/// The rows of a file as a stage of a recipe trains them: by its base and rules, without what its filters leave out. `tell` is
/// told of each row that is left out.
///
/// A file that the stage trains on is filtered at its place after those before it, and read as the recipe says where `given`
/// says nothing; one that judges is not filtered; any other is filtered as if it were trained alone.
///
/// # Errors
/// As [`crate::prepare`], of the base and of the file.
pub fn stage_rows(
    recipe: &Recipe,
    index: usize,
    (path, given): (&Path, &ReadOptions),
    tell: Tell<'_>,
    offline: bool,
    on_event: &mut dyn FnMut(&Event),
) -> Result<(Base, Source), PipelineError> {
    let stage = stage_of(recipe, index)?;
    let (base, rules) = stage_rules(recipe, index, offline, on_event)?;
    let found = Files::find(recipe, offline, on_event)?;
    let is = |other: &Path| {
        other == path || other.canonicalize().ok().is_some_and(|it| path.canonicalize().ok() == Some(it))
    };
    let trained = trained(stage, &found);
    let place = trained.iter().position(|(other, _)| is(other));
    let judge = held_out(recipe, stage, &found).into_iter().find(|file| place.is_none() && is(&file.path));
    let said = place.map(|place| &trained[place].1).or(judge.as_ref().map(|judge| &judge.options));
    let options = said.filter(|_| *given == ReadOptions::default()).unwrap_or(given);
    let preparing = Preparing::new(&base.renderer, rules, ExamplesWriter::in_temporary_file()?).telling(tell);
    let named = ("data", 1.0);
    let source = match StageFilters::of(recipe, stage, &found).filter(|_| judge.is_none()) {
        Some(filters) => filters
            .work(place.unwrap_or(0), |filtering| prepare_filtered(path, options, Some(filtering), preparing, named)),
        None => prepare_filtered(path, options, None, preparing, named),
    }?;
    Ok((base, source))
}

/// Checks what a stage of a recipe trains on, or `files` in its place, by the rules of the stage: its base, template, length,
/// filters, and all that judges it; `more` is held out as well.
///
/// # Errors
/// As [`crate::prepare`], of the base and of the files.
pub fn check_stage(
    recipe: &Recipe,
    index: usize,
    files: Option<Vec<(PathBuf, ReadOptions)>>,
    more: Vec<HeldOut>,
    offline: bool,
    on_event: &mut dyn FnMut(&Event),
) -> Result<CheckReport, PipelineError> {
    let stage = stage_of(recipe, index)?;
    let (base, rules) = stage_rules(recipe, index, offline, on_event)?;
    let found = Files::find(recipe, offline, on_event)?;
    let held_out = held_out(recipe, stage, &found).iter().map(HeldOutFile::read).collect::<Result<Vec<_>, _>>()?;
    let options = CheckOptions {
        held_out: held_out.into_iter().chain(more).collect(),
        renderer: Some(&base.renderer),
        chat: rules.chat,
        max_length: Some(rules.max_length),
        filters: filters(stage),
        errors_stand: stage.data_errors.value == DataErrors::Allow,
    };
    let files = files.unwrap_or_else(|| trained(stage, &found));
    Ok(check_files(files.iter().map(|(path, options)| (path.as_path(), options)), options)?)
}

/// Refuses data in which errors were found that nothing takes out and the recipe does not allow.
pub(crate) fn refuse(stages: &[Stage], reports: &[CheckReport]) -> Result<(), PipelineError> {
    let refused = stages.iter().zip(reports).find(|(_, report)| report.refuses());
    let Some((stage, report)) = refused else { return Ok(()) };
    let findings: Vec<&temper_data::Finding> =
        report.findings.iter().filter(|finding| finding.action == temper_data::Action::Refused).collect();
    let texts: Vec<String> = findings.iter().map(|finding| format!("{finding}\nhint: {}", finding.hint)).collect();
    Err(PipelineError::Checks {
        path: stage.train.path.clone(),
        findings: texts.join("\n"),
        allow: stage.data_errors.path.clone(),
    })
}
