//! Labels: how often each comes, which are rare, which contradict each other.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A label is rare where it has less than this share of what it would have were all alike.
const RARE: f64 = 0.1;
/// More labels than this are no labels but answers.
const MOST: usize = 1000;
/// Words of the longest answer that counts as a label where the row names none.
pub(super) const LABEL_WORDS: usize = 5;

/// What rows ask, and what they answer.
#[derive(Default)]
pub(super) struct Labels {
    counts: BTreeMap<String, usize>,
    /// By question: half of the first answer's hash, and the row.
    first: HashMap<u64, (u32, u32)>,
    too_many: bool,
}

impl Labels {
    /// Counts the label of a row.
    pub fn count(&mut self, label: Option<String>) {
        let Some(label) = label.filter(|_| !self.too_many) else { return };
        *self.counts.entry(label).or_insert(0) += 1;
        if self.counts.len() > MOST {
            self.too_many = true;
            self.counts.clear();
        }
    }

    /// The number of the first row with this question, where it has another answer.
    pub fn conflict(&mut self, asked: u64, answer: u64, row: usize) -> Option<usize> {
        let answer = (answer >> 32) as u32;
        let (first, at) = *self.first.entry(asked).or_insert((answer, row as u32));
        (first != answer).then_some(at as usize)
    }

    /// How often each label comes.
    pub fn counts(&self) -> &BTreeMap<String, usize> {
        &self.counts
    }

    /// The labels that are rare, with how often each comes.
    pub fn rare(&self) -> Vec<(String, usize)> {
        let all: usize = self.counts.values().sum();
        let even = all as f64 / self.counts.len().max(1) as f64;
        let rare = self.counts.iter().filter(|(_, count)| (**count as f64) < RARE * even);
        rare.map(|(label, count)| (label.clone(), *count)).collect()
    }

    /// Of these labels those that no row has; none where rows have no labels at all.
    pub fn unseen<'l>(&self, labels: impl Iterator<Item = &'l String>) -> BTreeSet<&'l str> {
        let rows = !self.counts.is_empty();
        labels.filter(|label| rows && !self.counts.contains_key(*label)).map(String::as_str).collect()
    }
}
