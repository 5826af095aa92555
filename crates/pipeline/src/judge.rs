//! Both axes of a recipe's `evaluation`, base and tuned on the same items.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use temper_eval::compare::{Comparison, Pair, Scores, compare};
use temper_eval::items::{self, ChatPrompt, InstructionItem, MultipleChoiceItem, TextItem};
use temper_eval::record::{self, ItemRecord};
use temper_eval::stats::Bootstrap;
use temper_eval::suite::{Bench, Encoder, EvalError, Side, chat_kl};
use temper_kernels::Cpu;
use temper_model::{Llama, Purpose, Tuning, Workspace};
use temper_recipe::{BOOTSTRAP_SAMPLES, Bound, DomainEvaluation, Evaluation, Recipe, Suite, SuiteKind, Valued};
use temper_run::sha256_file;

use crate::PipelineError;
use crate::cache::{Kept, Kind};
use crate::domain::{self, Domain};
use crate::identity::base_ingredients;
use crate::prepare::Prepared;
use crate::rows::Tokens;
use crate::run::Event;
use crate::watch::watched_every;

/// Tokens of a packed batch of items; an item longer than this is refused before anything is trained.
pub const BATCH_TOKENS: usize = 1024;

/// Prompts of a chat suite that the tuned model answers as well, to be read beside the base's answers.
const CHAT_SAMPLES: usize = 12;

/// Both axes, and what became of each item.
pub(crate) struct Judged {
    pub comparison: Comparison,
    pub items: Vec<ItemRecord>,
    /// Of the tuned model, the domain first.
    pub scores: Vec<Scored>,
}

/// What a model scored on a suite.
#[derive(Debug)]
pub(crate) struct Scored {
    pub name: String,
    /// What items share.
    pub clusters: Option<Vec<u32>>,
    pub tuned: Scores,
}

/// Which rows of the domain are scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// Those that steer.
    Validation,
    /// Those that are read once, at the end.
    Test,
    /// The same, after a search: of the suites that were watched while training, only the items that were not.
    Unseen,
}

impl Split {
    fn file(self, domain: &DomainEvaluation) -> &Path {
        match self {
            Self::Validation => &domain.validation.value,
            Self::Test | Self::Unseen => &domain.test.value,
        }
    }

    /// Of how many items of a suite one is left out, the first of each; none where all are scored.
    fn leaves_out(self, evaluation: &Evaluation, suite: &Suite, items: usize) -> Option<usize> {
        let every = watched_every(evaluation, suite, items).filter(|_| self == Self::Unseen)?;
        // Where all are watched there is nothing else to score.
        (every > 1).then_some(every)
    }
}

/// The two models. Where both are one, the base is that model with its adapters off.
pub(crate) struct Models<'m> {
    pub base: &'m Llama<Cpu>,
    pub tuned: &'m Llama<Cpu>,
}

/// The items of one general suite.
enum Items {
    Text(Vec<TextItem>),
    Choice(Vec<MultipleChoiceItem>),
    Chat(Vec<ChatPrompt>),
    Instruction(Vec<InstructionItem>),
}

impl Items {
    fn read(kind: SuiteKind, path: &Path) -> Result<Self, PipelineError> {
        Ok(match kind {
            SuiteKind::TextLoss => Self::Text(items::read_text(path)?),
            SuiteKind::MultipleChoice => Self::Choice(items::read_multiple_choice(path)?),
            SuiteKind::ChatKl => Self::Chat(items::read_chat_prompts(path)?),
            SuiteKind::InstructionFollowing => Self::Instruction(items::read_instructions(path)?),
        })
    }

    /// How many there are.
    fn len(&self) -> usize {
        match self {
            Self::Text(items) => items.len(),
            Self::Choice(items) => items.len(),
            Self::Chat(items) => items.len(),
            Self::Instruction(items) => items.len(),
        }
    }

    /// Without the first of every so many.
    fn without(self, every: usize) -> Self {
        fn rest<T>(items: Vec<T>, every: usize) -> Vec<T> {
            items.into_iter().enumerate().filter(|(index, _)| index % every != 0).map(|(_, item)| item).collect()
        }
        match self {
            Self::Text(items) => Self::Text(rest(items, every)),
            Self::Choice(items) => Self::Choice(rest(items, every)),
            Self::Chat(items) => Self::Chat(rest(items, every)),
            Self::Instruction(items) => Self::Instruction(rest(items, every)),
        }
    }

    /// Whether a model can be scored on them, with answers of at most `most` tokens.
    fn check(&self, encoder: &Encoder<'_>, most: usize) -> Result<(), EvalError> {
        match self {
            Self::Text(items) => encoder.check_texts(items),
            Self::Choice(items) => encoder.check_choices(items),
            Self::Chat(items) => encoder.check_chat(items, most),
            Self::Instruction(items) => encoder.check_instructions(items, most),
        }
    }

    /// Of each item, what it shares with others.
    fn sources(&self) -> Vec<Option<&str>> {
        match self {
            Self::Text(items) => items.iter().map(|i| i.source.as_deref()).collect(),
            Self::Choice(items) => items.iter().map(|i| i.source.as_deref()).collect(),
            Self::Chat(items) => items.iter().map(|i| i.source.as_deref()).collect(),
            Self::Instruction(items) => items.iter().map(|i| i.source.as_deref()).collect(),
        }
    }
}

fn domain_items(evaluation: &Evaluation, split: Split) -> Result<Option<Domain>, PipelineError> {
    let Some(domain) = &evaluation.domain else { return Ok(None) };
    Domain::read(domain, split.file(domain)).map(Some)
}

/// Tokens of a batch of this base's items.
fn batch_tokens(context: usize) -> usize {
    BATCH_TOKENS.min(context)
}

/// Reads every evaluation file but keeps nothing: a fault in them must not cost a training run. Each must have at least
/// two units that an interval can resample, and no item that is too long. What is wrong with all of them is said at once.
///
/// That a file's items fit is kept in the cache; files that do not are looked at anew each time.
pub(crate) fn check_items(recipe: &Recipe, context: usize, tokens: Tokens<'_>) -> Result<(), PipelineError> {
    let Some(evaluation) = &recipe.evaluation else { return Ok(()) };
    let encoder = Encoder { renderer: tokens.renderer, batch_tokens: batch_tokens(context), context };
    let fits = |file: &Valued<PathBuf>, asked: Value, fits: &dyn Fn() -> Result<(), EvalError>| {
        let of = json!([asked, context, encoder.batch_tokens]);
        let key = tokens.ingredients("whether items fit:", &file.value, of)?;
        tokens.kept.or(Kind::Rows, &key, || {
            let (path, name) = (file.path.clone(), file.value.display().to_string());
            fits().map_err(|error| PipelineError::Item { path, file: name, error })
        })
    };
    let mut problems = Vec::new();
    if let Some(domain) = &evaluation.domain {
        for (split, file) in [(Split::Validation, &domain.validation), (Split::Test, &domain.test)] {
            problems.extend(
                domain_items(evaluation, split)
                    .and_then(|items| match items {
                        None => Ok(()),
                        Some(items) => {
                            check_units(file, &items.groups(), "group")?;
                            check_domain(recipe, domain, &items, file, &encoder, &fits)
                        }
                    })
                    .err(),
            );
        }
    }
    for suite in &evaluation.general {
        problems.extend(
            Items::read(suite.kind.value, &suite.path.value)
                .and_then(|items| {
                    check_units(&suite.path, &items.sources(), "source")?;
                    let most = suite.max_new_tokens.as_ref().map_or(0, |m| m.value as usize);
                    let asked = json!([suite.kind.value.to_string(), most]);
                    fits(&suite.path, asked, &|| items.check(&encoder, most))
                })
                .err(),
        );
    }
    match problems.len() {
        0 => Ok(()),
        1 => Err(problems.remove(0)),
        _ => Err(PipelineError::Several(problems)),
    }
}

/// Whether a file's items fit, as they are asked for; kept where they do.
type Fits<'f> = dyn Fn(&Valued<PathBuf>, Value, &dyn Fn() -> Result<(), EvalError>) -> Result<(), PipelineError> + 'f;

/// Whether a model can be scored on the user's task.
fn check_domain(
    recipe: &Recipe,
    domain: &DomainEvaluation,
    items: &Domain,
    file: &Valued<PathBuf>,
    encoder: &Encoder<'_>,
    fits: &Fits<'_>,
) -> Result<(), PipelineError> {
    match items {
        Domain::Classification(items) => {
            let labels = domain.labels();
            fits(file, json!(["domain", labels]), &|| encoder.check_classification(items, labels))
        }
        Domain::Rewarded(_) => {
            domain::rewards(recipe, domain)?;
            let most = domain.max_new_tokens.as_ref().map_or(0, |most| most.value as usize);
            let longest = items.prompts(encoder.renderer)?.iter().map(Vec::len).max().unwrap_or(0);
            if longest + most <= encoder.context {
                return Ok(());
            }
            Err(PipelineError::Unfit {
                path: file.path.clone(),
                problem: format!(
                    "{}: a prompt of {longest} tokens and an answer of {most} exceed the model's context of {}",
                    file.value.display(),
                    encoder.context
                ),
                hint: "shorten the prompt, or lower evaluation.domain.max_new_tokens".to_owned(),
            })
        }
    }
}

fn check_units(file: &Valued<PathBuf>, sources: &[Option<&str>], field: &str) -> Result<(), PipelineError> {
    let items = sources.len();
    let clusters = items::clusters(sources.iter().copied());
    let units = clusters.map_or(items, |clusters| clusters.into_iter().max().map_or(0, |last| last as usize + 1));
    if units >= 2 {
        return Ok(());
    }
    let (what, hint) = match items {
        1 => ("1 item is".to_owned(), "add items".to_owned()),
        _ => (
            format!("{items} items of one `{field}` are"),
            format!("add items of another `{field}`, or leave `{field}` out if the items do not depend on each other"),
        ),
    };
    Err(PipelineError::Unfit {
        path: file.path.clone(),
        problem: format!("{}: {what} a single unit, of which no interval can be made", file.value.display()),
        hint,
    })
}

/// How intervals are made of a recipe's comparisons.
pub(crate) fn bootstrap(recipe: &Recipe) -> Bootstrap {
    let resamples =
        recipe.evaluation.as_ref().map_or(BOOTSTRAP_SAMPLES, |evaluation| evaluation.bootstrap_samples.value);
    Bootstrap { resamples: resamples as u32, seed: recipe.seed.value }
}

/// Scores both models on the domain's split and every general suite, and weighs them against the floors. Without `texts`
/// the records of the items hold scores only.
///
/// # Errors
/// When the recipe has no `evaluation`, or an item cannot be scored.
pub(crate) fn judge(
    prepared: &Prepared,
    models: Models<'_>,
    split: Split,
    texts: bool,
    on_event: &mut dyn FnMut(&Event),
) -> Result<Judged, PipelineError> {
    let Some(evaluation) = &prepared.recipe.evaluation else {
        return Err(PipelineError::Unfit {
            path: "evaluation".to_owned(),
            problem: "the recipe has none".to_owned(),
            hint: "add `evaluation` with `domain`, `general` or both".to_owned(),
        });
    };
    let (device, config) = (models.tuned.device(), models.tuned.config());
    let tokens = batch_tokens(config.max_position_embeddings);
    let space = models.tuned.adapter_space();
    let workspace = Workspace::allocate(device, config, space, Purpose::Infer, tokens);
    let bench = |model, adapter| Bench {
        side: Side { model, adapter },
        renderer: &prepared.base.renderer,
        workspace: &workspace,
    };
    // A tuned model without adapters of its own (full rank) ignores the switch.
    let (base, tuned) = (bench(models.base, false), bench(models.tuned, true));
    let sides = [("base", &base), ("tuned", &tuned)];
    let mut tell = |suite: &str, side: &'static str, done: usize, total: usize| {
        on_event(&Event::Evaluating { suite: suite.to_owned(), side, done, total });
    };

    let kept = kept_scores(prepared);
    let mut records = Vec::new();
    let mut domain_scores = Vec::new();
    let domain = domain_items(evaluation, split)?;
    if let (Some(items), Some(domain)) = (&domain, &evaluation.domain) {
        for (name, side) in sides {
            let mut score = || {
                let of = (&prepared.recipe, domain);
                items.score(of, side, &mut |suite, done, total| tell(suite, name, done, total))
            };
            domain_scores.push(match name {
                "base" => kept.or(Kind::Scores, &of_domain(prepared, domain, split)?, score)?,
                _ => score()?,
            });
        }
        if let [base, tuned] = &domain_scores[..] {
            records.extend(items.records(domain, base, tuned));
        }
    }
    let mut general = Vec::new();
    for suite in &evaluation.general {
        let name = suite.name.value.as_str();
        let most = suite.max_new_tokens.as_ref().map_or(0, |m| m.value as usize);
        let items = Items::read(suite.kind.value, &suite.path.value)?;
        let left_out = split.leaves_out(evaluation, suite, items.len());
        let items = match left_out {
            Some(every) => items.without(every),
            None => items,
        };
        let key = of_suite(prepared, suite, left_out)?;
        let mut chat_samples: Vec<[String; 2]> = Vec::new();
        let mut score =
            |bench: &Bench<'_, Cpu>, progress: &mut dyn FnMut(usize, usize)| -> Result<Scores, PipelineError> {
                Ok(match &items {
                    Items::Text(items) => Scores::TextLoss { items: bench.text_loss(items, progress)? },
                    Items::Choice(items) => Scores::MultipleChoice {
                        items: bench.multiple_choice(items, progress)?,
                        kinds: items.iter().map(|i| i.kind.clone()).collect(),
                    },
                    Items::Instruction(items) => {
                        Scores::InstructionFollowing { items: bench.instruction_following(items, most, progress)? }
                    }
                    Items::Chat(items) => {
                        let answers = kept.or(Kind::Scores, &key, || base.chat_answers(items, most, progress))?;
                        if texts {
                            let few = &items[..items.len().min(CHAT_SAMPLES)];
                            let of_tuned = tuned.chat_answers(few, most, progress)?;
                            let text = |ids: &[u32]| prepared.base.renderer.tokenizer().decode(ids, true);
                            chat_samples.extend(answers.iter().zip(&of_tuned).map(|(b, t)| [text(b), text(t)]));
                        }
                        Scores::ChatKl { items: chat_kl(&base, tuned.side, items, &answers, progress)? }
                    }
                })
            };
        let of_base = match &items {
            Items::Chat(_) => None,
            _ => {
                Some(kept.or(Kind::Scores, &key, || score(&base, &mut |done, total| tell(name, "base", done, total)))?)
            }
        };
        let of_tuned = score(&tuned, &mut |done, total| tell(name, "tuned", done, total))?;
        records.extend(match (&items, &of_base, &of_tuned) {
            (Items::Text(items), Some(Scores::TextLoss { items: base }), Scores::TextLoss { items: tuned }) => {
                record::text_loss(name, items, base, tuned)
            }
            (
                Items::Choice(items),
                Some(Scores::MultipleChoice { items: base, .. }),
                Scores::MultipleChoice { items: tuned, .. },
            ) => record::multiple_choice(name, items, base, tuned),
            (
                Items::Instruction(items),
                Some(Scores::InstructionFollowing { items: base }),
                Scores::InstructionFollowing { items: tuned },
            ) => record::instructions(name, items, base, tuned),
            (Items::Chat(items), _, Scores::ChatKl { items: scores }) => {
                record::chat_kl(name, items, scores, &chat_samples)
            }
            // Scores are of the kind of their items.
            _ => Vec::new(),
        });
        general.push((name, items::clusters(items.sources().into_iter()), of_base, of_tuned));
    }

    let floor = |name: &str| evaluation.floors.iter().find(|f| f.suite == name).map(|f| bound(f.bound.value));
    let pairs: Vec<Pair<'_>> = general
        .iter()
        .map(|(name, clusters, base, tuned)| Pair {
            name,
            clusters: clusters.clone(),
            base: base.as_ref(),
            tuned,
            floor: floor(name),
        })
        .collect();
    let domain = domain.zip(<[Scores; 2]>::try_from(domain_scores).ok());
    let domain = domain.as_ref().map(|(items, [base, tuned])| Pair {
        name: "domain",
        clusters: items::clusters(items.groups().into_iter()),
        base: Some(base),
        tuned,
        floor: None,
    });
    let comparison = compare(domain.as_ref(), &pairs, bootstrap(&prepared.recipe))?;
    if !texts {
        records = records.into_iter().map(ItemRecord::without_texts).collect();
    }
    let of_domain = domain.map(|pair| (pair.name, pair.clusters, pair.tuned.clone()));
    let of_general = general.into_iter().map(|(name, clusters, _, tuned)| (name, clusters, tuned));
    let scored = |(name, clusters, tuned): (&str, _, _)| Scored { name: name.to_owned(), clusters, tuned };
    let scores = of_domain.into_iter().chain(of_general).map(scored).collect();
    Ok(Judged { comparison, items: records, scores })
}

/// Where the base's scores are kept: they hold texts where it answers, which a run may be told to keep nowhere.
fn kept_scores(prepared: &Prepared) -> Kept<'_> {
    if prepared.provenance.no_samples { Kept(None) } else { prepared.kept() }
}

/// Of each suite, the domain's test split first, whether the base's scores are kept.
pub(crate) fn base_is_known(prepared: &Prepared) -> Result<Vec<bool>, PipelineError> {
    let Some(evaluation) = &prepared.recipe.evaluation else { return Ok(Vec::new()) };
    let domain = evaluation.domain.iter().map(|domain| of_domain(prepared, domain, Split::Test));
    let keys = domain.chain(evaluation.general.iter().map(|suite| of_suite(prepared, suite, None)));
    keys.map(|key| Ok(kept_scores(prepared).has(Kind::Scores, &key?))).collect()
}

fn of_domain(prepared: &Prepared, domain: &DomainEvaluation, split: Split) -> Result<Value, PipelineError> {
    of_base(prepared, "domain", split.file(domain), domain::asked(&prepared.recipe, domain)?)
}

fn of_suite(prepared: &Prepared, suite: &Suite, left_out: Option<usize>) -> Result<Value, PipelineError> {
    let most = suite.max_new_tokens.as_ref().map_or(0, |most| most.value);
    let mut asked = vec![json!(suite.kind.value.to_string()), json!(most)];
    asked.extend(left_out.map(|every| json!({"without every": every})));
    of_base(prepared, &suite.name.value, &suite.path.value, asked.into())
}

/// What the base's scores of a suite depend on besides the base: the file as it is now, and how its items are asked.
fn of_base(prepared: &Prepared, suite: &str, file: &Path, asked: Value) -> Result<Value, PipelineError> {
    let what = format!("the base on {suite}");
    Ok(base_ingredients(prepared, &what, json!([sha256_file(file)?, asked])))
}

fn bound(bound: Bound) -> f64 {
    match bound {
        Bound::MaxIncreasePercent(x) | Bound::MaxDropPoints(x) | Bound::MaxKl(x) => x,
    }
}

/// Both axes of an adapter that was trained before, over the recipe's base; `any_base` as in [`crate::Base::with_adapter`].
///
/// # Errors
/// When the adapter does not fit the base, or an item cannot be scored.
pub fn judge_adapter(
    prepared: &Prepared,
    adapter: &Path,
    any_base: bool,
    split: Split,
    on_event: &mut dyn FnMut(&Event),
) -> Result<Comparison, PipelineError> {
    let (model, warning) = prepared.base.with_adapter_over(prepared.packed(), prepared.device, adapter, any_base)?;
    prepared.packed_problem().into_iter().for_each(|message| on_event(&Event::Warning { message }));
    warning.into_iter().for_each(|message| on_event(&Event::Warning { message }));
    let apart = if model.holds_base() { None } else { Some(prepared.load_base(&Tuning::Frozen)?) };
    let models = Models { base: apart.as_ref().unwrap_or(&model), tuned: &model };
    Ok(judge(prepared, models, split, false, on_event)?.comparison)
}
