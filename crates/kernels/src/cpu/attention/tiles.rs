//! Keys and values, packed a tile at a time for the products of attention.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use crate::cpu::product::{Kernels, Operand, Ready, View, Words, with_scratch};
use crate::cpu::rows::Rows;
use crate::operands::{Heads, Segment};

/// Keys of one tile: whole panels, and scores of a block that stay in the second-level cache.
pub(super) const TILE: usize = 288;

thread_local! {
    /// The calling thread's packed tiles.
    static PACKED: RefCell<Words> = RefCell::default();
}

/// Which of keys and values are packed, and how.
#[derive(Clone, Copy)]
pub(super) enum Pass {
    /// Scores are `q k^T`, the output `p v`.
    Forward,
    /// Beside the scores `dout v^T`, and `ds k`.
    Backward,
}

/// A tile of a run of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tile {
    rows: Range<usize>,
    /// Words before it, of one key-value head.
    at: usize,
}

/// The packed keys and values of every run of rows that some segment sees. A run is packed once, however many see it;
/// its tiles begin at its first row, so what a row computes depends on nothing but the runs it sees.
pub(super) struct Tiles {
    kernels: Kernels,
    dim: usize,
    /// The heads' sliding window.
    window: Option<usize>,
    pass: Pass,
    /// Runs in order, each with its tiles.
    runs: Vec<(Range<usize>, Vec<Tile>)>,
    /// Words of one key-value head.
    words: usize,
    start: *const u32,
}

// SAFETY: workers only read what is packed.
unsafe impl Sync for Tiles {}

/// A tile as a block of query rows sees it.
#[derive(Clone)]
pub(super) struct Seen<'a> {
    tiles: &'a Tiles,
    /// Its rows of the packed batch.
    pub rows: Range<usize>,
    at: *const u32,
    /// How many of its keys the block's last row sees.
    pub used: usize,
    /// How many of them its first row sees, were there no window; each later row sees one more, up to `used`.
    first: usize,
    /// How many of its keys lie before the window of the block's first row, less than 0 where the window begins before the
    /// tile; one more for each later row.
    beyond: isize,
}

impl Tiles {
    /// Packs what the segments see and lends it.
    pub fn pack<R>(
        kernels: Kernels,
        qkv: Rows,
        segments: &[Segment],
        heads: Heads,
        pass: Pass,
        work: impl FnOnce(&Tiles) -> R,
    ) -> R {
        let seen = segments.iter().flat_map(|s| s.context.iter().chain([&s.rows]));
        let mut runs: Vec<Range<usize>> = seen.cloned().collect();
        runs.sort_unstable_by_key(|run| (run.start, run.end));
        runs.dedup();
        let Heads { dim, window, .. } = heads;
        let mut tiles = Self { kernels, dim, window, pass, runs: Vec::new(), words: 0, start: std::ptr::null() };
        for run in runs {
            let starts = run.clone().step_by(TILE);
            let laid = starts.map(|start| {
                let rows = start..run.end.min(start + TILE);
                let at = tiles.words;
                tiles.words += tiles.offsets(rows.len())[3];
                Tile { rows, at }
            });
            let laid = laid.collect();
            tiles.runs.push((run, laid));
        }
        with_scratch(&PACKED, tiles.words * heads.kv, |start| {
            tiles.start = start;
            let all: Vec<&Tile> = tiles.runs.iter().flat_map(|(_, tiles)| tiles).collect();
            (0..all.len() * heads.kv).into_par_iter().with_max_len(1).for_each(|task| {
                let (tile, kv) = (all[task / heads.kv], task % heads.kv);
                tiles.pack_tile(qkv, heads, tile, kv);
            });
            work(&tiles)
        })
    }

    /// Where the packed matrices of a tile begin, and where they end: keys by their lanes, values, and in the backward
    /// keys by rows.
    fn offsets(&self, keys: usize) -> [usize; 4] {
        let (by_lanes, by_rows) =
            (self.kernels.packed_words(keys, self.dim), self.kernels.packed_words(self.dim, keys));
        match self.pass {
            Pass::Forward => [0, by_lanes, by_lanes + by_rows, by_lanes + by_rows],
            Pass::Backward => [0, by_lanes, 2 * by_lanes, 2 * by_lanes + by_rows],
        }
    }

    fn pack_tile(&self, qkv: Rows, heads: Heads, tile: &Tile, kv: usize) {
        let (keys, dim, kernels) = (tile.rows.len(), self.dim, self.kernels);
        let key_column = heads.query_width() + kv * dim;
        let k = qkv.at(tile.rows.start, key_column);
        let v = qkv.at(tile.rows.start, key_column + heads.kv_width());
        let [k_at, v_at, last_at, _] = self.offsets(keys);
        let to = self.start.wrapping_add(kv * self.words + tile.at).cast_mut();
        let (lanes, rows) = (View::lanes_by_k, View::k_by_lanes);
        // SAFETY: qkv is only read; the tile's words belong to this task alone.
        unsafe {
            kernels.pack(lanes(k, qkv.stride), keys, dim, to.add(k_at));
            match self.pass {
                Pass::Forward => kernels.pack(rows(v, qkv.stride), dim, keys, to.add(v_at)),
                Pass::Backward => {
                    kernels.pack(lanes(v, qkv.stride), keys, dim, to.add(v_at));
                    kernels.pack(rows(k, qkv.stride), dim, keys, to.add(last_at));
                }
            }
        }
    }

    /// The tiles of which the rows `block` of a segment see something, the context's first.
    pub fn seen(&self, segment: &Segment, block: Range<usize>, kv: usize) -> impl Iterator<Item = Seen<'_>> {
        let context = segment.context.iter().flat_map(|run| self.of_run(run)).map(|tile| (tile, None));
        let own = self.of_run(&segment.rows).iter().map(|tile| (tile, Some(tile.rows.start)));
        let (start, end) = (block.start, block.end);
        let own = own.take_while(move |(tile, _)| tile.rows.start < end);
        // Rows that the block's first row would see without a window, itself among them.
        let visible = segment.context.iter().map(Range::len).sum::<usize>() + start + 1 - segment.rows.start;
        let before_window = self.window.map_or(isize::MIN / 2, |window| visible as isize - window as isize);
        let mut passed = 0;
        let seen = context.chain(own).map(move |(tile, causal)| {
            let (used, first) = match causal {
                Some(from) => (tile.rows.end.min(end) - from, (start + 1).saturating_sub(from).min(tile.rows.len())),
                None => (tile.rows.len(), tile.rows.len()),
            };
            let at = self.start.wrapping_add(kv * self.words + tile.at);
            let beyond = before_window - passed;
            passed += tile.rows.len() as isize;
            Seen { tiles: self, rows: tile.rows.clone(), at, used, first, beyond }
        });
        seen.filter(|tile| tile.beyond < tile.used as isize)
    }

    fn of_run(&self, run: &Range<usize>) -> &[Tile] {
        let found = self.runs.binary_search_by_key(&(run.start, run.end), |(run, _)| (run.start, run.end));
        found.map_or(&[], |index| &self.runs[index].1)
    }
}

impl Seen<'_> {
    fn operand(&self, matrix: usize, lanes: usize, k: usize, used: usize) -> Operand<'static> {
        let words = self.at.wrapping_add(self.tiles.offsets(self.rows.len())[matrix]);
        Operand::Ready(Ready { words, lanes, k, used })
    }

    /// The right operand of `q k^T`, of the keys that are used.
    pub fn keys_as_lanes(&self) -> Operand<'static> {
        self.operand(0, self.rows.len(), self.tiles.dim, self.used)
    }

    /// The right operand of `p v`; forward only.
    pub fn values(&self) -> Operand<'static> {
        self.operand(1, self.tiles.dim, self.rows.len(), self.tiles.dim)
    }

    /// The right operand of `dout v^T`; backward only.
    pub fn values_as_lanes(&self) -> Operand<'static> {
        self.operand(1, self.rows.len(), self.tiles.dim, self.used)
    }

    /// The right operand of `ds k`; backward only.
    pub fn keys(&self) -> Operand<'static> {
        self.operand(2, self.tiles.dim, self.rows.len(), self.tiles.dim)
    }

    /// Which of the tile's keys row `r` of the block sees; none where its window begins behind them.
    pub fn live(&self, r: usize) -> Range<usize> {
        let end = (self.first + r).min(self.used);
        (self.beyond + r as isize).clamp(0, end as isize) as usize..end
    }
}
