//! Where packed words lie: panels of a right operand, part by part, and the storage they lie in.

use std::cell::RefCell;
use std::ops::Range;
use std::thread::LocalKey;

use super::isa::{GROUP, PANEL};

/// Words in whole cache lines.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u32; 16]);

/// Storage for packed words; grows, and is then reused.
#[derive(Default)]
pub(in crate::cpu) struct Words(Vec<Line>);

impl Words {
    pub fn zeros(words: usize) -> Self {
        Self(vec![Line([0; 16]); words.div_ceil(16)])
    }

    /// At least so many words, zeros where it had to grow.
    pub fn reach(&mut self, words: usize) -> *mut u32 {
        if self.0.len() * 16 < words {
            self.0.resize(words.div_ceil(16), Line([0; 16]));
        }
        self.0.as_mut_ptr().cast()
    }

    pub fn as_ptr(&self) -> *const u32 {
        self.0.as_ptr().cast()
    }

    /// Words that were asked for at most, in whole cache lines.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.0.len() * 16
    }

    pub fn at(&self, word: usize) -> u32 {
        self.0[word / 16].0[word % 16]
    }

    /// The first `words` words as bytes.
    pub fn bytes(&self, words: usize) -> &[u8] {
        assert!(words <= self.0.len() * 16, "{words} words of {}", self.0.len() * 16);
        // SAFETY: lines are arrays of words without padding, and any byte may be read.
        unsafe { std::slice::from_raw_parts(self.as_ptr().cast(), 4 * words) }
    }
}

/// A thread's scratch.
pub(in crate::cpu) type Scratch = LocalKey<RefCell<Words>>;

/// Lends a thread's scratch. It is taken out meanwhile, so that a product within a product finds an empty one.
pub(in crate::cpu) fn with_scratch<R>(of: &'static Scratch, words: usize, work: impl FnOnce(*mut u32) -> R) -> R {
    let mut scratch = of.take();
    let result = work(scratch.reach(words));
    of.set(scratch);
    result
}

/// One panel of a right operand.
#[derive(Clone, Copy)]
pub(super) struct Panel {
    /// The part that it belongs to, and its number within it.
    pub part: usize,
    pub within: usize,
    /// Its first lane, how many there are, and how many with the padding.
    pub lane: usize,
    pub lanes: usize,
    pub width: usize,
    /// Words before it.
    pub offset: usize,
}

/// How the lanes of a right operand lie in panels: each part begins a panel of its own. A layout of one unit counts lanes.
#[derive(Clone, Copy)]
pub(super) struct Layout<'a> {
    /// One past the last lane of each part.
    pub ends: &'a [usize],
    pub units: usize,
}

impl Layout<'_> {
    /// Lanes of all parts.
    pub fn lanes(self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// The lanes of a part.
    pub fn part(self, part: usize) -> Range<usize> {
        (if part == 0 { 0 } else { self.ends[part - 1] })..self.ends[part]
    }

    fn parts(self) -> impl Iterator<Item = Range<usize>> {
        (0..self.ends.len()).map(move |part| self.part(part))
    }

    /// Panels of all parts.
    pub fn count(self) -> usize {
        self.parts().map(|lanes| lanes.len().div_ceil(PANEL)).sum()
    }

    /// Words of all panels.
    pub fn words(self) -> usize {
        self.units * self.parts().map(|lanes| lanes.len().next_multiple_of(GROUP)).sum::<usize>()
    }

    /// The panel of this number.
    pub fn panel(self, mut index: usize) -> Panel {
        let mut offset = 0;
        for (part, lanes) in self.parts().enumerate() {
            let panels = lanes.len().div_ceil(PANEL);
            if index < panels {
                return self.within(part, index, offset);
            }
            index -= panels;
            offset += lanes.len().next_multiple_of(GROUP) * self.units;
        }
        unreachable!("a panel beyond the last")
    }

    /// The panel that holds a lane.
    pub fn panel_of(self, lane: usize) -> Panel {
        let part = self.ends.partition_point(|&end| end <= lane);
        let before: usize = self.parts().take(part).map(|lanes| lanes.len().next_multiple_of(GROUP)).sum();
        self.within(part, (lane - self.part(part).start) / PANEL, before * self.units)
    }

    /// Panel `index` of a part whose words begin at `offset`.
    fn within(self, part: usize, index: usize, offset: usize) -> Panel {
        let own = self.part(part);
        let lane = own.start + index * PANEL;
        let lanes = (own.end - lane).min(PANEL);
        let width = lanes.next_multiple_of(GROUP);
        Panel { part, within: index, lane, lanes, width, offset: offset + index * PANEL * self.units }
    }
}
