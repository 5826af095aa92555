//! Sequences in one forward, each common beginning computed once.
//!
//! Conversations of one system prompt, questions of one wording: their first tokens are the same, and causal attention makes
//! the same numbers of them. So they have one run of rows, which every sequence that begins with it sees as context.
//!
//! The results are those of each sequence alone but for rounding: attention goes run by run, so its sums are grouped by what
//! is shared. They do not change from run to run: the layout is a function of the sequences and of how many go together.

use temper_kernels::Segment;

/// A shorter beginning is not shared: what it saves is less than attention to one more run costs. A decision, not measured.
const WORTH: usize = 4;

/// The rows of a forward, sequence by sequence.
#[derive(Clone, Debug, Default)]
pub struct Beginnings {
    /// Token of each row.
    pub ids: Vec<u32>,
    /// Position of each row in its own sequence.
    pub positions: Vec<u32>,
    /// Which rows see which.
    pub segments: Vec<Segment>,
    /// The last sequence: its tokens, and the row of each.
    last: Vec<(u32, u32)>,
}

impl Beginnings {
    /// The order in which sequences share most: each beside those that begin as it does.
    pub fn order<'s>(count: usize, ids: impl Fn(usize) -> &'s [u32]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by_key(|&i| (ids(i), i));
        order
    }

    /// Rows that sequences take together in one forward.
    pub fn rows(sequences: &[impl AsRef<[u32]>]) -> usize {
        let (mut rows, mut before): (usize, &[u32]) = (0, &[]);
        for ids in Self::order(sequences.len(), |i| sequences[i].as_ref()).into_iter().map(|i| sequences[i].as_ref()) {
            rows += ids.len() - Self::common(before, ids);
            before = ids;
        }
        rows
    }

    /// How many tokens a sequence would share with the last one.
    pub fn shared(&self, ids: &[u32]) -> usize {
        worth(self.last.iter().zip(ids).take_while(|((last, _), id)| last == *id).count())
    }

    /// How many tokens two sequences share: those that both begin with, where they are worth it.
    pub fn common(a: &[u32], b: &[u32]) -> usize {
        worth(a.iter().zip(b).take_while(|(a, b)| a == b).count())
    }

    /// Lays out a sequence and gives the row of each of its tokens.
    pub fn add(&mut self, ids: &[u32]) -> Vec<u32> {
        let shared = self.shared(ids);
        self.last.truncate(shared);
        let context = runs(self.last.iter().map(|&(_, row)| row));
        let start = self.ids.len();
        self.ids.extend_from_slice(&ids[shared..]);
        self.positions.extend(shared as u32..ids.len() as u32);
        if shared < ids.len() {
            self.segments.push(Segment { rows: start..self.ids.len(), context });
        }
        self.last.extend(ids[shared..].iter().copied().zip(start as u32..));
        self.last.iter().map(|&(_, row)| row).collect()
    }

    /// Lays out rows that only the sequence they belong to sees: with `rows`, its rows, as context in so far as `context`
    /// names them. The first of the new rows comes back.
    pub fn branch(&mut self, ids: &[u32], positions: &[u32], context: impl Iterator<Item = u32>) -> u32 {
        let start = self.ids.len();
        self.ids.extend_from_slice(ids);
        self.positions.extend_from_slice(positions);
        self.segments.push(Segment { rows: start..self.ids.len(), context: runs(context) });
        start as u32
    }
}

fn worth(common: usize) -> usize {
    if common < WORTH { 0 } else { common }
}

/// Rows as runs of rows that follow one another.
fn runs(rows: impl Iterator<Item = u32>) -> Vec<std::ops::Range<usize>> {
    let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
    for row in rows {
        let row = row as usize;
        match runs.last_mut() {
            Some(run) if run.end == row => run.end += 1,
            _ => runs.push(row..row + 1),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_common_beginning_has_one_run_of_rows() {
        let mut laid = Beginnings::default();
        assert_eq!(laid.add(&[1, 1, 2, 3, 4]), [0, 1, 2, 3, 4]);
        assert_eq!(laid.add(&[1, 1, 2, 3, 5, 6]), [0, 1, 2, 3, 5, 6]);
        assert_eq!(laid.add(&[1, 1, 2, 3, 5, 7]), [0, 1, 2, 3, 5, 7]);
        assert_eq!(laid.add(&[1, 1, 2, 3]), [0, 1, 2, 3], "a beginning of another has no rows of its own");
        assert_eq!(laid.add(&[1, 1, 2]), [8, 9, 10], "three tokens are not worth it");
        assert_eq!(laid.ids, [1, 1, 2, 3, 4, 5, 6, 7, 1, 1, 2]);
        assert_eq!(laid.positions, [0, 1, 2, 3, 4, 4, 5, 5, 0, 1, 2]);
        let segment = |rows, context| Segment { rows, context };
        assert_eq!(
            laid.segments,
            [segment(0..5, vec![]), segment(5..7, vec![0..4]), segment(7..8, vec![0..4, 5..6]), segment(8..11, vec![])]
        );
        assert_eq!(laid.branch(&[8], &[1], [8, 9].into_iter()), 11);
        assert_eq!(laid.segments[4], segment(11..12, vec![8..10]));
    }

    #[test]
    fn the_order_puts_equal_beginnings_together() {
        let all: [&[u32]; 4] = [&[1, 2, 9], &[3], &[1, 2, 4], &[1]];
        assert_eq!(Beginnings::order(4, |i| all[i]), [3, 2, 0, 1]);
        assert_eq!(Beginnings::rows(&all), 8);
        assert_eq!(Beginnings::rows(&[[1, 2, 3, 4, 5], [1, 2, 3, 4, 6], [1, 2, 3, 5, 6]]), 5 + 1 + 5);
    }
}
