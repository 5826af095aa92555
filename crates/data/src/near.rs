//! Texts that are nearly the same, found without comparing each with each: MinHash with locality-sensitive hashing (Broder 1997;
//! Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", chapter 3).
//!
//! A text is the set of its runs of [`SHINGLE`] words. Of [`BANDS`] times [`ROWS`] hash functions the least value over the set is
//! taken: two sets agree in one with the probability of their Jaccard index. Sets that agree in all of a band are compared: by all
//! their shingles where both have at most [`KEPT`], else by their [`KEPT`] smallest hashes (Cohen and Kaplan 2007), which errs by
//! less than 0.03 (one standard deviation). A pair at the threshold of 0.8 shares a band with a probability of
//! 1 - (1 - 0.8^5)^16 = 99.8 %.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use temper_run::Random;

use crate::words::{hash_of, runs};

/// Words of a shingle (Lee et al. 2022, "Deduplicating Training Data Makes Language Models Better", section 4.2).
const SHINGLE: usize = 5;
/// The Jaccard index from which two texts are nearly the same (the same source; the Nova Forge SDK's default too).
const NEAR_DUPLICATE: f64 = 0.8;
/// Bands of the signature, and hash functions of a band: see the probability above. More functions find fewer pairs that are not
/// near, and take longer.
const BANDS: usize = 16;
/// See [`BANDS`].
const ROWS: usize = 5;
/// Hashes that are kept of each text.
const KEPT: usize = 256;
/// Texts of a bucket that are compared, the newest: a bound for data in which half of every text is alike.
const COMPARED: usize = 32;

/// The hashes of a text's shingles, sorted, each once. A text of fewer words has none, and is near to nothing.
pub fn shingles(words: &[u64]) -> Vec<u32> {
    let mut set: Vec<u32> = runs(words, SHINGLE).map(|run| (run >> 32) as u32).collect();
    set.sort_unstable();
    set.dedup();
    set
}

/// Of two sorted sets, exactly.
pub(crate) fn jaccard(a: &[u32], b: &[u32]) -> f64 {
    of_least(a.iter().copied(), b.iter().copied(), usize::MAX)
}

/// Of two sorted sets, by the `least` smallest of their union.
fn of_least(a: impl Iterator<Item = u32>, b: impl Iterator<Item = u32>, least: usize) -> f64 {
    let (mut a, mut b, mut both, mut all) = (a.peekable(), b.peekable(), 0, 0);
    while all < least {
        match (a.peek(), b.peek()) {
            (None, None) => break,
            (Some(x), Some(y)) if x == y => {
                both += 1;
                a.next();
                b.next();
            }
            (Some(x), Some(y)) if x > y => drop(b.next()),
            (None, Some(_)) => drop(b.next()),
            (Some(_), _) => drop(a.next()),
        }
        all += 1;
    }
    both as f64 / all.max(1) as f64
}

/// What is kept of a set: its [`KEPT`] smallest hashes, and of these the highest bits, enough for 256 times as many as the set has,
/// and for 65,536. So few of its members share theirs with another. They lie in order, each as its distance from the one before, seven
/// bits in a byte, the lowest first.
#[derive(Debug, Clone, Copy)]
struct Sketch<'s> {
    gaps: &'s [u8],
    bits: u8,
    whole: bool,
}

impl<'s> Sketch<'s> {
    /// Of a set, by way of `gaps`, which is empty.
    fn of(set: &[u32], gaps: &'s mut Vec<u8>) -> Self {
        let bits = (set.len().next_power_of_two().ilog2() + 8).clamp(16, 32);
        let mut before = None;
        for code in set.iter().take(KEPT).map(|hash| hash >> (32 - bits)) {
            if before != Some(code) {
                let mut gap = code - before.unwrap_or(0);
                while gap >= 0x80 {
                    gaps.push(gap as u8 | 0x80);
                    gap >>= 7;
                }
                gaps.push(gap as u8);
                before = Some(code);
            }
        }
        Sketch { gaps, bits: bits as u8, whole: set.len() <= KEPT }
    }

    /// The highest bits of its hashes, each once.
    fn codes(self, bits: u8) -> impl Iterator<Item = u32> {
        let (dropped, mut code, mut shift, mut before) = (self.bits - bits, 0, 0, None);
        let each = self.gaps.iter().filter_map(move |&byte| {
            code += u32::from(byte & 0x7F) << shift;
            shift = if byte < 0x80 { 0 } else { shift + 7 };
            (shift == 0).then_some(code >> dropped)
        });
        each.filter(move |&code| before.replace(code) != Some(code))
    }

    fn jaccard(self, other: Sketch<'_>) -> f64 {
        let bits = self.bits.min(other.bits);
        let least = if self.whole && other.whole { usize::MAX } else { KEPT };
        of_least(self.codes(bits), other.codes(bits), least)
    }
}

/// The hash functions, linear permutations (Bohman, Cooper and Frieze 2000, "Min-wise independent linear permutations") of 32 bits.
static FUNCTIONS: LazyLock<[(u32, u32); BANDS * ROWS]> = LazyLock::new(|| {
    let random = Random::new(42, "minhash");
    std::array::from_fn(|at| (random.bits(2 * at as u64) as u32 | 1, random.bits(2 * at as u64 + 1) as u32))
});

/// The least value of each function over a set.
fn signature(set: &[u32]) -> [u32; BANDS * ROWS] {
    FUNCTIONS.map(|(a, b)| set.iter().map(|&shingle| a.wrapping_mul(shingle).wrapping_add(b)).min().unwrap_or(u32::MAX))
}

/// Shingles that more than this share of at least [`COMMON_FROM`] texts have are a frame.
const COMMON: f64 = 0.25;
const COMMON_FROM: usize = 20;
/// Texts by which a frame is known.
const FRAMED_BY: usize = 1000;

/// What a prompt puts around every row of a file alike, so that no two would differ enough: the shingles that more than a quarter
/// of the first rows have. They are no content, and do not count.
#[derive(Debug, Default)]
pub struct Frame(HashSet<u32>);

impl Frame {
    /// Of the first texts of a file, of which at most 1,000 are looked at.
    pub fn of<'s>(sets: impl IntoIterator<Item = &'s Vec<u32>>) -> Frame {
        let (mut counts, mut texts) = (HashMap::new(), 0);
        for set in sets.into_iter().take(FRAMED_BY) {
            texts += 1;
            set.iter().for_each(|&shingle| *counts.entry(shingle).or_insert(0) += 1);
        }
        let most = if texts < COMMON_FROM { usize::MAX } else { (COMMON * texts as f64) as usize };
        Frame(counts.into_iter().filter(|(_, count)| *count > most).map(|(shingle, _)| shingle).collect())
    }

    /// A set without it.
    pub fn without(&self, mut set: Vec<u32>) -> Vec<u32> {
        set.retain(|shingle| !self.0.contains(shingle));
        set
    }
}

/// A text as it is looked up: pure, so that texts are prepared in parallel.
#[derive(Debug, Clone)]
pub struct Prepared {
    gaps: Box<[u8]>,
    bits: u8,
    whole: bool,
    bands: [u32; BANDS],
}

impl Prepared {
    /// Of a set of shingles as [`shingles`] gives it; nothing where that is empty.
    pub fn of(set: &[u32]) -> Option<Prepared> {
        if set.is_empty() {
            return None;
        }
        let signature = signature(set);
        // Half of a hash will do: what meets by chance is compared all the same.
        let band = |at: usize| {
            let least = &signature[ROWS * at..ROWS * (at + 1)];
            let values = std::iter::once(at as u64).chain(least.iter().map(|&least| u64::from(least)));
            (hash_of(values) >> 32) as u32
        };
        let mut gaps = Vec::new();
        let Sketch { bits, whole, .. } = Sketch::of(set, &mut gaps);
        Some(Prepared { gaps: gaps.into(), bits, whole, bands: std::array::from_fn(band) })
    }
}

/// The texts so far, of which none is near another. Kept of each are the hashes of its bands, some 220 bytes, and its sketch, a byte
/// or two for each of at most 256 hashes.
#[derive(Debug, Default)]
pub struct NearIndex {
    /// By the lowest bits of a band's hash: the newest entry with these, from 1; 0 is none. A power of two long.
    newest: Vec<u32>,
    /// Of each entry, of which a text has [`BANDS`], one after the other: its band's hash, and the entry before it that has the
    /// same lowest bits.
    entries: Vec<(u32, u32)>,
    /// The sketches of all texts, one after the other.
    gaps: Vec<u8>,
    /// Where that of each text ends, and what else it says.
    ends: Vec<(usize, u8, bool)>,
}

impl NearIndex {
    /// The number of the earlier text that this one is near to; where there is none, it becomes the next text.
    pub fn add(&mut self, text: Prepared) -> Option<usize> {
        let sketch = Sketch { gaps: &text.gaps, bits: text.bits, whole: text.whole };
        let mut best: Option<(f64, usize)> = None;
        for &band in &text.bands {
            let mut at = self.newest.get(self.place(band)).copied().unwrap_or(0);
            let mut compared = 0;
            while let Some(&(hash, before)) = (at as usize).checked_sub(1).and_then(|at| self.entries.get(at)) {
                let other = (at as usize - 1) / BANDS;
                at = before;
                if hash != band {
                    continue;
                }
                let near = sketch.jaccard(self.sketch(other));
                if near >= NEAR_DUPLICATE
                    && best.is_none_or(|(most, first)| near > most || near == most && other < first)
                {
                    best = Some((near, other));
                }
                compared += 1;
                if compared == COMPARED {
                    break;
                }
            }
        }
        if let Some((_, other)) = best {
            return Some(other);
        }
        self.entries.extend(text.bands.map(|band| (band, 0)));
        self.gaps.extend_from_slice(&text.gaps);
        self.ends.push((self.gaps.len(), text.bits, text.whole));
        if self.entries.len() > self.newest.len() {
            self.newest = vec![0; self.entries.len().next_power_of_two()];
            self.link(0);
        } else {
            self.link(self.entries.len() - BANDS);
        }
        None
    }

    fn place(&self, band: u32) -> usize {
        band as usize & self.newest.len().wrapping_sub(1)
    }

    /// Puts the entries from this one on into their places, the newest first.
    fn link(&mut self, from: usize) {
        for at in from..self.entries.len() {
            let place = self.place(self.entries[at].0);
            self.entries[at].1 = self.newest[place];
            self.newest[place] = at as u32 + 1;
        }
    }

    fn sketch(&self, text: usize) -> Sketch<'_> {
        let start = text.checked_sub(1).map_or(0, |before| self.ends[before].0);
        let (end, bits, whole) = self.ends[text];
        Sketch { gaps: &self.gaps[start..end], bits, whole }
    }

    /// How many texts are kept.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two sets of `size` each, of which `both` are common.
    fn pair(seed: u64, size: usize, both: usize) -> (Vec<u32>, Vec<u32>) {
        let random = Random::new(seed, "sets");
        let number = |at: usize| (random.bits(at as u64) >> 32) as u32;
        let sorted = |mut set: Vec<u32>| {
            set.sort_unstable();
            set
        };
        let a = sorted((0..size).map(number).collect());
        (a, sorted((size - both..2 * size - both).map(number).collect()))
    }

    fn sketched(a: &[u32], b: &[u32]) -> f64 {
        let (mut x, mut y) = (Vec::new(), Vec::new());
        Sketch::of(a, &mut x).jaccard(Sketch::of(b, &mut y))
    }

    #[test]
    fn a_sketch_gives_back_its_hashes() {
        for set in [vec![0, 1, u32::MAX], vec![u32::MAX], (0..3000).map(|n| n * n * 400).collect()] {
            let mut gaps = Vec::new();
            let sketch = Sketch::of(&set, &mut gaps);
            let mut expected: Vec<u32> =
                set.iter().take(KEPT).map(|hash| hash >> (32 - u32::from(sketch.bits))).collect();
            expected.dedup();
            assert_eq!(sketch.codes(sketch.bits).collect::<Vec<_>>(), expected);
            assert_eq!(sketched(&set, &set), 1.0);
        }
    }

    #[test]
    fn a_signature_estimates_the_jaccard_index_without_bias() {
        for (size, both) in [(40, 36), (100, 80), (200, 100), (1000, 100)] {
            let mut sum = 0.0;
            let trials = 100;
            for seed in 0..trials {
                let (a, b) = pair(seed, size, both);
                let exact = jaccard(&a, &b);
                assert_eq!(exact, both as f64 / (2 * size - both) as f64);
                let (x, y) = (signature(&a), signature(&b));
                let agree = x.iter().zip(&y).filter(|(x, y)| x == y).count() as f64 / x.len() as f64;
                // Five standard deviations of so many draws.
                let deviation = (exact * (1.0 - exact) / x.len() as f64).sqrt();
                assert!((agree - exact).abs() < 5.0 * deviation, "{size} {both}: {agree} for {exact}");
                sum += agree - exact;
                let sketched = sketched(&a, &b);
                let drawn = if size <= KEPT { 0.0 } else { 5.0 * (exact * (1.0 - exact) / KEPT as f64).sqrt() };
                // Members of two sets of which one in 256 is taken for another, or one of few.
                let taken = 0.01 + 1.0 / size as f64;
                assert!((sketched - exact).abs() <= drawn + taken, "{size} {both}: {sketched} for {exact}");
            }
            assert!((sum / trials as f64).abs() < 0.02, "{size} {both}: {sum}");
        }
    }

    #[test]
    fn pairs_at_the_threshold_are_found_and_those_below_are_not() {
        // 90 of 110: a Jaccard index of 0.82; 82 of 118 make 0.69.
        let (mut found, mut wrong) = (0, 0);
        for seed in 0..200 {
            let (a, b) = pair(seed, 100, 90);
            let mut index = NearIndex::default();
            assert_eq!(index.add(Prepared::of(&a).unwrap()), None);
            found += usize::from(index.add(Prepared::of(&b).unwrap()) == Some(0));
            let (_, c) = pair(seed, 100, 82);
            let mut index = NearIndex::default();
            index.add(Prepared::of(&a).unwrap());
            wrong += usize::from(index.add(Prepared::of(&c).unwrap()).is_some());
        }
        // 99.8 % of 200 are 199.6.
        assert!(found >= 197, "{found}");
        assert_eq!(wrong, 0);
    }

    #[test]
    fn a_text_too_short_for_a_shingle_is_near_to_nothing() {
        assert!(shingles(&[1, 2, 3, 4]).is_empty());
        assert!(Prepared::of(&[]).is_none());
        assert_eq!(shingles(&[1, 2, 3, 4, 5]).len(), 1);
    }
}
