//! All trials as a table.

use serde::Serialize;

use super::view::{Shown, View, state_name};
use crate::axis::text;
use crate::number::{count, duration, short};

/// The table; cells have a number to sort by where they are one.
#[derive(Serialize)]
pub(crate) struct Table {
    heads: Vec<Head>,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Head {
    text: String,
    title: String,
    number: bool,
}

#[derive(Serialize)]
struct Row {
    /// Best, default, recommended.
    class: String,
    cells: Vec<Cell>,
}

#[derive(Serialize)]
struct Cell {
    text: String,
    /// What it is sorted by, where that is not its text.
    key: Option<String>,
    number: bool,
    tag: &'static str,
}

pub(crate) fn table(view: &View) -> Table {
    let head = |text: &str, title: &str, number: bool| Head { text: text.into(), title: title.into(), number };
    let mut heads = vec![head("trial", "", true), head("state", "", false)];
    heads.extend((0..view.measures.len()).map(|objective| head(&view.title(objective), "", true)));
    let constraints = &view.page.history.goals().constraints;
    heads.extend(constraints.iter().map(|name| head(name, "at most 0 where it holds", true)));
    heads.push(head(&format!("reached, {}", view.page.budget_unit), "", true));
    let varying = view.varying();
    heads.extend(
        varying
            .iter()
            .map(|field| head(&field.label, &field.name, field.domain.as_ref().is_none_or(|d| d.choices().is_none()))),
    );
    let spent = !view.page.spent.is_empty();
    if spent {
        heads.extend([head("spent, tokens", "", true), head("time", "", true)]);
    }
    heads.push(head("reason", "", false));
    let rows = view.trials.iter().map(|shown| row(view, shown, spent)).collect();
    Table { heads, rows }
}

fn row(view: &View, shown: &Shown, spent: bool) -> Row {
    let trial = shown.trial;
    let number = |value: f64, text: String| Cell { text, key: Some(format!("{value}")), number: true, tag: "" };
    let words = |text: String| Cell { text, key: None, number: false, tag: "" };
    let measured =
        |value: Option<f64>| value.map_or_else(|| number(f64::NAN, String::new()), |value| number(value, short(value)));
    let mut cells = vec![number(trial.number as f64, trial.number.to_string())];
    let tag = match (shown.recommended, shown.default, shown.best) {
        (true, ..) => "recommended",
        (_, true, _) => "default",
        (_, _, true) => "front",
        _ => "",
    };
    cells.push(Cell { tag, ..words(state_name(trial.state).into()) });
    let has = shown.measured.is_some();
    cells.extend((0..view.measures.len()).map(|objective| {
        let value = if has { view.value(shown, objective) } else { f64::NAN };
        number(value, if has { view.written(value, objective) } else { String::new() })
    }));
    for index in 0..view.page.history.goals().constraints.len() {
        let value = shown.measured.and_then(|measured| measured.constraints.get(index).copied());
        let broken = value.is_some_and(|value| value.is_nan() || value > 0.0);
        cells.push(Cell { tag: if broken { "broken" } else { "" }, ..measured(value) });
    }
    cells.push(
        trial.last().map_or_else(|| number(0.0, String::new()), |last| number(last.step as f64, count(last.step))),
    );
    for field in view.varying() {
        let value = shown.point.get(&field.name);
        let words = || words(value.map_or_else(String::new, text));
        cells.push(value.and_then(|value| value.number()).map_or_else(words, |value| number(value, short(value))));
    }
    if spent {
        let spent = view.page.spent.get(&trial.number).copied().unwrap_or_default();
        cells.push(number(spent.tokens as f64, count(spent.tokens)));
        cells.push(number(spent.seconds, duration(spent.seconds)));
    }
    cells.push(words(trial.reason.clone().unwrap_or_default()));
    Row { class: tag.to_owned(), cells }
}
