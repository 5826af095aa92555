//! Weights that are packed once.

use std::ops::Range;
use std::sync::OnceLock;

use rayon::prelude::*;

use super::block::Lanes;
use super::pack::{View, unpack};
use super::panels::{Layout, Panel, Words};
use super::quantised::Quantised;
use super::stored::{Mapped, Stored};
use super::{Kernels, Shared};
use crate::operands::Encoded;

/// A weight that will not change: packed once for `x W^T`, and for `dy W` when that is first asked for, or kept as its file
/// has it for both. The rows as they were are not kept; they come back rounded to the precision.
pub(in crate::cpu) struct Frozen {
    rows: usize,
    cols: usize,
    kernels: Kernels,
    /// One past the last row of each part; adapters are added part by part.
    ends: Vec<usize>,
    kept: Kept,
}

enum Kept {
    /// In the words of the kernels, in both orders.
    Words { forward: Stored, backward: OnceLock<Stored> },
    /// As its file has it: both orders are read from one copy.
    Quantised(Quantised),
}

impl Frozen {
    /// Packs a row-major weight [rows, cols] whose parts end at `ends`.
    pub fn pack(kernels: Kernels, values: &[f32], rows: usize, cols: usize, ends: Vec<usize>) -> Self {
        assert_eq!(values.len(), rows * cols, "a weight's values");
        assert!(ends.is_sorted() && ends.last() == Some(&rows), "the parts of {rows} rows end at {ends:?}");
        let layout = Layout { ends: &ends, units: kernels.units(cols) };
        let mut forward = Words::zeros(layout.words());
        let to = forward.reach(layout.words());
        // SAFETY: the values reach rows x cols and the words the whole layout.
        unsafe { kernels.pack_right(View::lanes_by_k(values.as_ptr(), cols), layout, cols, 1.0, to, true) };
        let kept = Kept::Words { forward: Stored::Own(forward), backward: OnceLock::new() };
        Self { rows, cols, kernels, ends, kept }
    }

    /// Packs the rows of parts that end at `ends` as their file has them; none where the kernels have no way to read them.
    pub fn keep(kernels: Kernels, parts: &[Encoded<'_>], cols: usize, ends: Vec<usize>) -> Option<Self> {
        if kernels.bf16 {
            return None;
        }
        let kept = Kept::Quantised(Quantised::pack(parts, cols, &ends)?);
        let rows = ends.last().copied().unwrap_or(0);
        Some(Self { rows, cols, kernels, ends, kept })
    }

    /// A weight that was packed before, in both orders; none where there are not as many words as its layouts have.
    pub fn mapped(
        kernels: Kernels,
        (rows, cols): (usize, usize),
        ends: Vec<usize>,
        [forward, backward]: [Mapped; 2],
    ) -> Option<Self> {
        let words = Self::words(kernels, (rows, cols), &ends);
        if [forward.bytes().len(), backward.bytes().len()] != words.map(|words| 4 * words) {
            return None;
        }
        let kept = Kept::Words { forward: Stored::Mapped(forward), backward: OnceLock::from(Stored::Mapped(backward)) };
        Some(Self { rows, cols, kernels, ends, kept })
    }

    /// Words of a weight [rows, cols] packed for `x W^T` and for `dy W`.
    pub fn words(kernels: Kernels, (rows, cols): (usize, usize), ends: &[usize]) -> [usize; 2] {
        let forward = Layout { ends, units: kernels.units(cols) };
        let backward = Layout { ends: std::slice::from_ref(&cols), units: kernels.units(rows) };
        [forward.words(), backward.words()]
    }

    /// What [`Frozen::mapped`] takes back: the packed words of both orders. Packs the second where nothing asked for it yet.
    ///
    /// # Panics
    /// When the weight stays quantised.
    pub fn bytes(&self) -> [&[u8]; 2] {
        let Kept::Words { forward, backward } = &self.kept else { panic!("a quantised weight has no packed words") };
        let [of_forward, of_backward] = Self::words(self.kernels, self.shape(), &self.ends);
        [forward.bytes(of_forward), self.packed_backward(backward).bytes(of_backward)]
    }

    /// Whether these are the parts it was frozen with.
    pub fn has_ends(&self, ends: &[usize]) -> bool {
        self.ends == ends
    }

    /// Rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }

    /// The number of the part that holds just these rows.
    pub fn part(&self, rows: &Range<usize>) -> usize {
        let layout = self.forward_layout();
        match self.ends.iter().position(|&end| end == rows.end) {
            Some(part) if layout.part(part) == *rows => part,
            _ => panic!("rows {rows:?} are no part of a weight frozen with parts that end at {:?}", self.ends),
        }
    }

    fn forward_layout(&self) -> Layout<'_> {
        let units = match self.kept {
            Kept::Words { .. } => self.kernels.units(self.cols),
            Kept::Quantised(_) => 1,
        };
        Layout { ends: &self.ends, units }
    }

    /// The right operand of `x W^T`.
    pub(super) fn forward(&self) -> (Lanes<'_>, Layout<'_>) {
        let right = match &self.kept {
            Kept::Words { forward, .. } => Lanes::Packed(forward.as_ptr()),
            Kept::Quantised(quantised) => Lanes::Quantised(quantised),
        };
        (right, self.forward_layout())
    }

    /// Writes a row into `to`.
    pub fn read_row(&self, row: usize, to: &mut [f32]) {
        self.read(row, 0, to);
    }

    /// Writes columns of a row, from `first` on, into `to`.
    fn read(&self, row: usize, first: usize, to: &mut [f32]) {
        let panel = self.forward_layout().panel_of(row);
        let (bf16, lane) = (self.kernels.bf16, row - panel.lane);
        let words = match &self.kept {
            Kept::Words { forward, .. } => forward,
            Kept::Quantised(quantised) => return quantised.read(panel, lane, first, to),
        };
        let step = if bf16 { 2 } else { 1 };
        for (k, to) in (first..).zip(to) {
            *to = unpack(bf16, words.at(panel.offset + k / step * panel.width + lane), k);
        }
    }

    /// The right operand of `dy W`; words are packed when it is first asked for. Its lanes are one part.
    pub(super) fn backward(&self) -> (Lanes<'_>, Layout<'_>) {
        let right = match &self.kept {
            Kept::Words { backward, .. } => Lanes::Packed(self.packed_backward(backward).as_ptr()),
            Kept::Quantised(quantised) => Lanes::QuantisedColumns(quantised, self.forward_layout()),
        };
        (right, self.backward_layout())
    }

    fn backward_layout(&self) -> Layout<'_> {
        Layout { ends: std::slice::from_ref(&self.cols), units: self.kernels.units(self.rows) }
    }

    fn packed_backward<'a>(&self, backward: &'a OnceLock<Stored>) -> &'a Stored {
        let layout = self.backward_layout();
        backward.get_or_init(|| {
            let mut words = Words::zeros(layout.words());
            let to = Shared(words.reach(layout.words()));
            (0..layout.count()).into_par_iter().with_max_len(1).for_each(|index| {
                let panel = layout.panel(index);
                let mut columns = vec![0.0; self.rows * panel.lanes];
                for (row, columns) in columns.chunks_exact_mut(panel.lanes).enumerate() {
                    self.read(row, panel.lane, columns);
                }
                let view = View::k_by_lanes(columns.as_ptr(), panel.lanes);
                // SAFETY: each panel has one writer; the columns reach every row.
                unsafe { self.kernels.pack_panel(view, Panel { lane: 0, ..panel }, self.rows, 1.0, to.get()) };
            });
            Stored::Own(words)
        })
    }

    /// Whether the kernels multiply what was packed.
    pub(super) fn check(&self, kernels: Kernels) {
        assert_eq!(self.kernels.bf16, kernels.bf16, "a weight is used in the precision that it was frozen in");
    }
}
