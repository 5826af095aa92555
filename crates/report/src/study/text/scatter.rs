//! The front as a plot of braille dots.

use super::super::StudyPage;
use super::super::front::better;
use super::super::view::{Shown, View};
use super::{ascii, cut, legend, mark};
use crate::axis::Axis;
use crate::number::count;

/// A field of characters, each of two by four dots.
struct Canvas {
    columns: usize,
    rows: usize,
    dots: Vec<u8>,
    marks: Vec<Option<char>>,
}

/// The bit of each dot in a braille character, by row and column (Unicode, block Braille Patterns).
const BITS: [[u8; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];

impl Canvas {
    fn new(columns: usize, rows: usize) -> Self {
        Self { columns, rows, dots: vec![0; columns * rows], marks: vec![None; columns * rows] }
    }

    /// Puts a dot at shares of the width from the left and of the height from below.
    fn dot(&mut self, x: f64, y: f64) {
        let place = |share: f64, count: usize| ((share * count as f64) as usize).min(count - 1);
        let (column, row) = (place(x, 2 * self.columns), place(1.0 - y, 4 * self.rows));
        self.dots[row / 4 * self.columns + column / 2] |= BITS[row % 4][column % 2];
    }

    fn mark(&mut self, x: f64, y: f64, mark: char) {
        let place = |share: f64, count: usize| ((share * count as f64) as usize).min(count - 1);
        let (column, row) = (place(x, self.columns), place(1.0 - y, self.rows));
        self.marks[row * self.columns + column] = Some(mark);
    }

    fn line(&self, row: usize) -> String {
        let cell = |at: usize| match (self.marks[at], self.dots[at]) {
            (Some(mark), _) => mark,
            (None, 0) => ' ',
            (None, bits) => char::from_u32(0x2800 + u32::from(bits)).unwrap_or('.'),
        };
        (row * self.columns..(row + 1) * self.columns).map(cell).collect()
    }
}

/// The first two objectives against each other, of one objective over the trials: trials as dots, those that stand out as
/// letters. `columns` and `rows` are those of the whole, axes and all. None where no trial has two numbers, or the room is
/// less than 30 by 8.
pub fn front(page: &StudyPage, columns: usize, rows: usize) -> Option<String> {
    if columns < 30 || rows < 8 {
        return None;
    }
    let view = View::of(page);
    let pair = view.measures.len() > 1;
    let (across, up) = if pair { (Some(0), 1) } else { (None, 0) };
    let x_axis = match across {
        Some(objective) => view.axis(objective, columns / 16)?,
        None => Axis::linear(0.0, view.trials.last()?.trial.number.max(1) as f64, columns / 16),
    };
    let y_axis = view.axis(up, rows / 5)?;
    // One line for the title, three for the axis, two for what the marks mean and what is missing.
    let height = rows - 6;
    let gutter = y_axis.marks().iter().map(|(_, label)| label.chars().count()).max().unwrap_or(0);
    let mut canvas = Canvas::new(columns - gutter - 2, height);
    let mut shown: Vec<&Shown> = view.trials.iter().collect();
    shown.sort_by_key(|one| (one.recommended, one.default, one.best));
    let (mut beyond, mut missing, mut seen) = (0usize, 0usize, Vec::new());
    for one in shown {
        let x = across.map_or(one.trial.number as f64, |objective| view.value(one, objective));
        let y = view.value(one, up);
        if x.is_nan() || y.is_nan() {
            missing += 1;
            continue;
        }
        let (x, y) = (x_axis.at(x), y_axis.at(y));
        beyond += usize::from(x.beyond || y.beyond);
        canvas.dot(x.share, y.share);
        // Broken constraints are dots: there may be many.
        let mark = mark(one);
        if !matches!(mark, ' ' | 'x') {
            canvas.mark(x.share, y.share, mark);
            seen.push(mark);
        }
    }
    if canvas.dots.iter().all(|bits| *bits == 0) {
        return None;
    }
    let mut out = format!("{}\n", cut(&format!("{} ({})", view.title(up), better(&view, up)), columns));
    let row_of = |share: f64| (((1.0 - share) * height as f64) as usize).min(height - 1);
    for row in 0..height {
        let tick = y_axis.marks().iter().find(|(share, _)| row_of(*share) == row);
        let label = tick.map_or(String::new(), |(_, label)| ascii(label));
        let edge = if tick.is_some() { '┤' } else { '│' };
        out += format!("{label:>gutter$} {edge}{}", canvas.line(row)).trim_end();
        out.push('\n');
    }
    let mut axis: Vec<char> = vec!['─'; canvas.columns];
    let mut labels = vec![' '; gutter + 2 + canvas.columns + 8];
    let mut free = 0;
    for (share, label) in x_axis.marks() {
        let (label, at) = (ascii(label), ((share * canvas.columns as f64) as usize).min(canvas.columns - 1));
        let length = label.chars().count();
        let from = (gutter + 2 + at).saturating_sub(length / 2);
        axis[at] = '┬';
        if from >= free && from + length <= columns {
            labels[from..from + length].iter_mut().zip(label.chars()).for_each(|(cell, character)| *cell = character);
            free = from + length + 1;
        }
    }
    out += &format!("{:>gutter$} └{}\n", "", axis.iter().collect::<String>());
    out += labels.iter().collect::<String>().trim_end();
    let under = across
        .map_or("trial".to_owned(), |objective| format!("{} ({})", view.title(objective), better(&view, objective)));
    out += &format!("\n{:>columns$}\n", cut(&under, columns));
    let mut strays = Vec::new();
    if beyond > 0 {
        strays.push(format!("{} beyond the axis, at its edge", count(beyond)));
    }
    if missing > 0 {
        strays.push(format!("{} without a number", count(missing)));
    }
    for told in [legend(&seen), strays.join("; ")].iter().filter(|told| !told.is_empty()) {
        out += &format!("{}\n", cut(told, columns));
    }
    Some(out)
}
