//! A study in a terminal: the table of its trials while it runs, the front when it ends. Plain text without colours; numbers are
//! in ASCII, since other programs read them.

mod scatter;
mod trials;

pub use scatter::front;
pub use trials::trials;

use super::view::Shown;
use crate::axis;

/// What a trial is among the others, in one character; they are told by [`MARKS`].
fn mark(shown: &Shown) -> char {
    match (shown.recommended, shown.default, shown.best, shown.feasible) {
        (true, ..) => 'R',
        (_, true, ..) => 'D',
        (_, _, true, _) => '*',
        (_, _, _, Some(false)) => 'x',
        _ => ' ',
    }
}

const MARKS: [(char, &str); 4] =
    [('R', "recommended"), ('D', "default"), ('*', "on the front"), ('x', "a constraint is broken")];

/// The marks that are among `seen`, told in a line.
fn legend(seen: &[char]) -> String {
    let told = MARKS.iter().filter(|(mark, _)| seen.contains(mark)).map(|(mark, means)| format!("{mark} {means}"));
    told.collect::<Vec<_>>().join("   ")
}

fn ascii(text: &str) -> String {
    text.replace('−', "-").replace('∞', "inf").replace('…', "~")
}

fn cut(text: &str, characters: usize) -> String {
    ascii(&axis::cut(text, characters))
}

#[cfg(test)]
mod tests;
