//! The table of trials.

use super::super::StudyPage;
use super::super::view::{Shown, View, state_name};
use super::{ascii, cut, legend, mark};
use crate::axis::text;
use crate::number::count;

/// Characters of a column of settings, at most: its head and its texts are cut.
const WIDEST: usize = 14;
/// Between columns.
const GAP: &str = "  ";

struct Column {
    head: String,
    cells: Vec<String>,
    right: bool,
}

impl Column {
    fn width(&self) -> usize {
        self.cells.iter().chain([&self.head]).map(|cell| cell.chars().count()).max().unwrap_or(0)
    }
}

/// The trials as a table of at most `width` characters a line and `rows` trials: the recommended, the default and those on the
/// front are always among them, then the newest. Settings that all trials share are left out, and so are those for which there is no
/// room; they are named below.
pub fn trials(page: &StudyPage, width: usize, rows: usize) -> String {
    let view = View::of(page);
    let mut shown: Vec<&Shown> = view.trials.iter().collect();
    shown.sort_by_key(|one| (!one.recommended, !one.default, !one.best, std::cmp::Reverse(one.trial.number)));
    let left = shown.len().saturating_sub(rows);
    shown.truncate(rows);
    shown.sort_by_key(|one| one.trial.number);

    let column = |head: String, right: bool, cell: &dyn Fn(&Shown) -> String| Column {
        head,
        cells: shown.iter().map(|one| cell(one)).collect(),
        right,
    };
    let mut columns = vec![
        column(String::new(), false, &|one| mark(one).to_string()),
        column("trial".into(), true, &|one| one.trial.number.to_string()),
        column("state".into(), false, &|one| state_name(one.trial.state).into()),
        column(reached(&view), true, &|one| at(&view, one)),
    ];
    for objective in 0..view.measures.len() {
        let way = if view.higher_is_better(objective) { '^' } else { 'v' };
        let head = format!("{} {way}", cut(&view.title(objective), 22));
        columns.push(column(head, true, &|one| {
            if one.measured.is_some() {
                ascii(&view.written(view.value(one, objective), objective))
            } else {
                "-".into()
            }
        }));
    }
    let taken = |columns: &[Column]| {
        columns.iter().map(Column::width).sum::<usize>() + GAP.len() * columns.len().saturating_sub(1)
    };
    let mut unseen = Vec::new();
    for field in view.varying() {
        let next = column(cut(&field.label, WIDEST), true, &|one| {
            one.point.get(&field.name).map_or_else(|| "-".into(), |value| cut(&text(value), WIDEST))
        });
        if taken(&columns) + GAP.len() + next.width() <= width {
            columns.push(next);
        } else {
            unseen.push(field.label.clone());
        }
    }
    let line = |cells: &dyn Fn(&Column) -> &str| {
        let cell = |column: &Column| {
            let (text, width) = (cells(column), column.width());
            if column.right { format!("{text:>width$}") } else { format!("{text:<width$}") }
        };
        let line = columns.iter().map(cell).collect::<Vec<_>>().join(GAP);
        cut(line.trim_end(), width) + "\n"
    };
    let mut out = line(&|column| &column.head);
    (0..shown.len()).for_each(|row| out += &line(&|column| &column.cells[row]));
    if left > 0 {
        out += &format!("{} more trials are not shown\n", count(left));
    }
    if !unseen.is_empty() {
        out += &cut(&format!("no room for: {}", ascii(&unseen.join(", "))), width);
        out.push('\n');
    }
    let seen: Vec<char> = shown.iter().map(|one| mark(one)).collect();
    let told = legend(&seen);
    if !told.is_empty() {
        out += &format!("{told}\n");
    }
    out
}

/// What [`at`] tells.
fn reached(view: &View) -> String {
    if view.page.rungs.is_empty() { view.page.budget_unit.to_owned() } else { "rung".to_owned() }
}

/// The rung that a trial has reached, of how many; the step where there are no rungs.
fn at(view: &View, shown: &Shown) -> String {
    let rungs = &view.page.rungs;
    let step = shown.trial.last().map_or(0, |last| last.step);
    if rungs.is_empty() {
        return count(step);
    }
    let reached = if shown.whole { rungs.len() } else { rungs.iter().filter(|rung| **rung <= step).count() };
    format!("{reached}/{}", rungs.len())
}
