//! How each trial is shown: its values in the fields of interest, what it measured, and what it is among the others.

use temper_search::{Direction, Domain, Measured, Point, State, Trial, Value};

use super::{Measure, StudyPage};
use crate::axis::{Axis, text};
use crate::number::{count, decimals, fixed};

/// A study as every picture sees it.
pub(crate) struct View<'a> {
    pub page: &'a StudyPage<'a>,
    pub trials: Vec<Shown<'a>>,
    pub fields: Vec<Field>,
    pub measures: Vec<Measure>,
    /// Decimals of each objective's values.
    decimals: Vec<usize>,
}

/// A trial.
pub(crate) struct Shown<'a> {
    pub trial: &'a Trial,
    /// Its fields; empty where a tie could not be computed.
    pub point: Point,
    /// At its end, or what it reported last.
    pub measured: Option<&'a Measured>,
    /// It came to its end: only such trials are compared with each other.
    pub whole: bool,
    /// None where nothing was measured.
    pub feasible: Option<bool>,
    /// No trial that came to its end and holds the constraints is better on every axis.
    pub best: bool,
    pub default: bool,
    pub recommended: bool,
}

/// A field that is shown.
pub(crate) struct Field {
    pub name: String,
    /// As short as it can be among the others.
    pub label: String,
    /// None where its values are numbers without a domain.
    pub domain: Option<Domain>,
    /// Whether trials differ in it.
    pub varies: bool,
}

impl<'a> View<'a> {
    pub fn of(page: &'a StudyPage<'a>) -> Self {
        let history = page.history;
        let goals = history.goals();
        let mut trials: Vec<Shown> = history.trials().iter().map(|trial| shown(page, trial)).collect();
        let whole: Vec<usize> =
            (0..trials.len()).filter(|&index| trials[index].whole && trials[index].feasible == Some(true)).collect();
        let measured: Vec<&Measured> = whole.iter().filter_map(|&index| trials[index].measured).collect();
        for place in goals.front(&measured) {
            trials[whole[place]].best = true;
        }
        let fields = fields(page, &trials);
        let measure = |(index, objective): (usize, &temper_search::Objective)| {
            page.measures.get(index).cloned().unwrap_or_else(|| Measure {
                label: objective.name.replace('_', " "),
                unit: String::new(),
                scale: 1.0,
            })
        };
        let measures = goals.objectives.iter().enumerate().map(measure).collect();
        let mut view = Self { page, trials, fields, measures, decimals: Vec::new() };
        let all = |objective| view.trials.iter().map(|shown| view.value(shown, objective)).collect::<Vec<f64>>();
        view.decimals = (0..view.measures.len()).map(|objective| decimals(&all(objective))).collect();
        view
    }

    /// The fields in which trials differ.
    pub fn varying(&self) -> Vec<&Field> {
        self.fields.iter().filter(|field| field.varies).collect()
    }

    /// A trial's value on an objective, in the unit in which it is shown; NaN where it has none.
    pub fn value(&self, shown: &Shown, objective: usize) -> f64 {
        self.scaled(shown.values().get(objective).copied().unwrap_or(f64::NAN), objective)
    }

    /// A value in the unit in which it is shown.
    pub fn scaled(&self, value: f64, objective: usize) -> f64 {
        value * self.measures[objective].scale
    }

    /// A value in the unit in which it is shown, with as many decimals as all of that objective.
    pub fn written(&self, value: f64, objective: usize) -> String {
        fixed(value, self.decimals[objective])
    }

    /// "%; higher is better".
    pub fn unit(&self, objective: usize) -> String {
        let way = if self.higher_is_better(objective) { "higher is better" } else { "lower is better" };
        let unit = &self.measures[objective].unit;
        if unit.is_empty() { way.to_owned() } else { format!("{unit}; {way}") }
    }

    /// "accuracy, %".
    pub fn title(&self, objective: usize) -> String {
        let Measure { label, unit, .. } = &self.measures[objective];
        if unit.is_empty() { label.clone() } else { format!("{label}, {unit}") }
    }

    pub fn higher_is_better(&self, objective: usize) -> bool {
        self.page.history.goals().objectives[objective].direction == Direction::Maximize
    }

    /// The axis of an objective over all that was measured, with what must be seen on it.
    pub fn axis(&self, objective: usize, marks: usize) -> Option<Axis> {
        let all: Vec<f64> = self.trials.iter().map(|shown| self.value(shown, objective)).collect();
        let mut keep: Vec<f64> = self
            .trials
            .iter()
            .filter(|shown| shown.best || shown.default || shown.recommended)
            .map(|shown| self.value(shown, objective))
            .collect();
        keep.extend(self.page.bounds.iter().filter(|b| b.objective == objective).map(|b| self.scaled(b.at, objective)));
        Axis::over(&all, &keep, self.higher_is_better(objective), marks)
    }

    /// The trial with its number, what it is, and its values: what is read out at a point.
    pub fn says(&self, shown: &Shown) -> String {
        let values = (0..self.measures.len()).map(|objective| {
            let Measure { label, unit, .. } = &self.measures[objective];
            let value = self.written(self.value(shown, objective), objective);
            if unit.is_empty() { format!("{label} {value}") } else { format!("{label} {value} {unit}") }
        });
        let values = if shown.measured.is_some() { values.collect::<Vec<_>>().join(", ") } else { "no result".into() };
        let broken = if shown.feasible == Some(false) { ", a constraint broken" } else { "" };
        let settings: Vec<String> = self
            .varying()
            .iter()
            .filter_map(|f| Some(format!("{} {}", f.label, text(shown.point.get(&f.name)?))))
            .collect();
        format!("{}: {values}{broken}; {}", self.called(shown), settings.join(", "))
    }

    /// "Trial 12, stopped at 64 steps (recommended)".
    pub fn called(&self, shown: &Shown) -> String {
        let mut roles = Vec::new();
        if shown.recommended {
            roles.push("recommended");
        }
        if shown.default {
            roles.push("default");
        }
        let roles = if roles.is_empty() { String::new() } else { format!(" ({})", roles.join(", ")) };
        let at = match (shown.trial.state, shown.trial.last()) {
            (State::Complete, _) => String::new(),
            (state, Some(report)) => {
                format!(", {} at {} {}", state_name(state), count(report.step), self.page.budget_unit)
            }
            (state, None) => format!(", {}", state_name(state)),
        };
        format!("Trial {}{roles}{at}", shown.trial.number)
    }

    /// How many trials are in each state, in words.
    pub fn states(&self) -> Vec<String> {
        [State::Complete, State::Pruned, State::Paused, State::Failed, State::Running, State::Stale]
            .into_iter()
            .filter_map(|state| {
                let number = self.trials.iter().filter(|shown| shown.trial.state == state).count();
                (number > 0).then(|| format!("{} {}", count(number), state_name(state)))
            })
            .collect()
    }
}

impl Shown<'_> {
    /// What it measured, by objective; empty where nothing.
    pub fn values(&self) -> &[f64] {
        self.measured.map_or(&[], |measured| &measured.values)
    }

    /// How its point is drawn: filled or hollow, and whether constraints hold.
    pub fn class(&self) -> &'static str {
        match (self.whole, self.feasible) {
            (true, Some(false)) => "whole broken",
            (true, _) => "whole",
            (false, Some(false)) => "part broken",
            (false, _) => "part",
        }
    }
}

/// What a state is called.
pub(crate) fn state_name(state: State) -> &'static str {
    match state {
        State::Running => "running",
        State::Paused => "paused",
        State::Stale => "left by its worker",
        State::Complete => "finished",
        State::Pruned => "stopped",
        State::Failed => "failed",
    }
}

fn shown<'a>(page: &StudyPage, trial: &'a Trial) -> Shown<'a> {
    let measured = match trial.state {
        State::Failed => None,
        _ => trial.result.as_ref().or_else(|| trial.last().map(|report| &report.measured)),
    };
    let space = page.history.space();
    Shown {
        trial,
        point: space.fields(&trial.point).unwrap_or_default(),
        measured,
        whole: trial.state == State::Complete,
        feasible: measured.map(|measured| page.history.goals().is_feasible(measured)),
        best: false,
        default: page.default == Some(trial.number),
        recommended: page.recommended.as_ref().is_some_and(|recommended| recommended.trial == trial.number),
    }
}

fn fields(page: &StudyPage, trials: &[Shown]) -> Vec<Field> {
    let space = page.history.space();
    let names = if page.fields.is_empty() {
        // Parts that draw a simplex are no fields: its shares are.
        let parts: usize = space.simplexes().iter().map(|simplex| simplex.shares().count() - 1).sum();
        let own = &space.parameters()[..space.parameters().len() - parts];
        let shares = space.simplexes().iter().flat_map(|simplex| simplex.shares());
        own.iter().map(|parameter| parameter.name.clone()).chain(shares.map(str::to_owned)).collect()
    } else {
        page.fields.clone()
    };
    let field = |name: &String| {
        let values: Vec<Option<&Value>> = trials.iter().map(|shown| shown.point.get(name)).collect();
        let label = label(name, &names);
        let domain = space.parameter(name).map(|parameter| parameter.domain.clone()).or_else(|| {
            // A tie that is no number stands as choices, in the order in which they came.
            let mut seen: Vec<Value> = Vec::new();
            let texts = values.iter().flatten().filter(|value| value.number().is_none());
            texts.for_each(|value| {
                if !seen.iter().any(|one| one.same(value)) {
                    seen.push((*value).clone());
                }
            });
            (!seen.is_empty()).then_some(Domain::Choice { values: seen })
        });
        let varies = values.windows(2).any(|pair| pair[0] != pair[1]);
        Field { label, domain, varies, name: name.clone() }
    };
    names.iter().map(field).collect()
}

/// The last parts of a path that tell it from all others: `stages[1].lora_rank` is `lora_rank` where it is the only one.
fn label(name: &str, names: &[String]) -> String {
    let ends = |count: usize, name: &str| {
        let parts: Vec<&str> = name.split('.').collect();
        parts[parts.len().saturating_sub(count)..].join(".")
    };
    let parts = name.split('.').count();
    let own = |count: &usize| names.iter().filter(|other| ends(*count, other) == ends(*count, name)).count() == 1;
    ends((1..=parts).find(own).unwrap_or(parts), name)
}

impl Field {
    /// Its axis: the whole domain, or what trials have.
    pub fn axis(&self, view: &View, marks: usize) -> Option<Axis> {
        if let Some(domain) = &self.domain {
            return Some(Axis::domain(domain, marks));
        }
        let values = view.trials.iter().filter_map(|shown| shown.point.get(&self.name)?.number());
        let values: Vec<f64> = values.collect();
        let (low, high) = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
        (low <= high).then(|| Axis::around(low, high, marks))
    }

    /// Whether its axis is logarithmic.
    pub fn is_log(&self) -> bool {
        matches!(self.domain, Some(Domain::Float { log: true, .. } | Domain::Int { log: true, .. }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_as_short_as_they_can_be() {
        let names = ["stages[0].lora_rank", "stages[0].rate", "stages[1].rate", "seed"].map(str::to_owned);
        let labels: Vec<String> = names.iter().map(|name| label(name, &names)).collect();
        assert_eq!(labels, ["lora_rank", "stages[0].rate", "stages[1].rate", "seed"]);
    }
}
