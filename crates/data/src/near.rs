//! Texts that are nearly the same, found without comparing each with each: MinHash with locality-sensitive hashing (Broder 1997;
//! Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", chapter 3).
//!
//! A text is the set of its runs of [`SHINGLE`] words. Of [`BANDS`] times [`ROWS`] hash functions the least value over the set is
//! taken: two sets agree in one with the probability of their Jaccard index. Sets that agree in all of a band are compared:
//! exactly where both have at most [`KEPT`] shingles, else by their [`KEPT`] smallest hashes (Cohen and Kaplan 2007), which
//! errs by less than 0.03 (one standard deviation). A pair at the threshold of 0.8 shares a band with a probability of
//! 1 - (1 - 0.8^6)^20 = 99.8 %.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use temper_run::Random;

use crate::words::{hash_of, runs};

/// Words of a shingle (Lee et al. 2022, "Deduplicating Training Data Makes Language Models Better", section 4.2).
pub const SHINGLE: usize = 5;
/// The Jaccard index from which two texts are nearly the same (the same source; the Nova Forge SDK's default too).
pub const NEAR_DUPLICATE: f64 = 0.8;
/// Bands of the signature, as many as in NeMo Curator.
const BANDS: usize = 20;
/// Hash functions of a band: see the probability above.
const ROWS: usize = 6;
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
pub fn jaccard(a: &[u32], b: &[u32]) -> f64 {
    of_least(a, b, usize::MAX)
}

/// Of two sorted sets, by the `least` smallest of their union.
fn of_least(a: &[u32], b: &[u32], least: usize) -> f64 {
    let (mut i, mut j, mut both, mut all) = (0, 0, 0, 0);
    while (i < a.len() || j < b.len()) && all < least {
        let (x, y) = (a.get(i), b.get(j));
        all += 1;
        match (x, y) {
            (Some(x), Some(y)) if x == y => (i, j, both) = (i + 1, j + 1, both + 1),
            (Some(x), Some(y)) if x < y => i += 1,
            (Some(_), None) => i += 1,
            _ => j += 1,
        }
    }
    both as f64 / all.max(1) as f64
}

/// What is kept of a text: its smallest hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sketch {
    least: Box<[u32]>,
    /// Whether these are all.
    whole: bool,
}

impl Sketch {
    fn of(set: &[u32]) -> Sketch {
        Sketch { least: set[..set.len().min(KEPT)].into(), whole: set.len() <= KEPT }
    }

    fn jaccard(&self, other: &Sketch) -> f64 {
        of_least(&self.least, &other.least, if self.whole && other.whole { usize::MAX } else { KEPT })
    }
}

/// The hash functions: `(a x + b) >> 32` with odd `a` (Dietzfelbinger 1996).
static FUNCTIONS: LazyLock<[(u64, u64); BANDS * ROWS]> = LazyLock::new(|| {
    let random = Random::new(42, "minhash");
    std::array::from_fn(|at| (random.bits(2 * at as u64) | 1, random.bits(2 * at as u64 + 1)))
});

/// The least value of each function over a set.
fn signature(set: &[u32]) -> [u32; BANDS * ROWS] {
    let mut least = [u32::MAX; BANDS * ROWS];
    for &shingle in set {
        for (least, (a, b)) in least.iter_mut().zip(FUNCTIONS.iter()) {
            *least = (*least).min((a.wrapping_mul(u64::from(shingle)).wrapping_add(*b) >> 32) as u32);
        }
    }
    least
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
    sketch: Sketch,
    bands: Box<[u64]>,
}

impl Prepared {
    /// Of a set of shingles as [`shingles`] gives it; nothing where that is empty.
    pub fn of(set: &[u32]) -> Option<Prepared> {
        if set.is_empty() {
            return None;
        }
        let signature = signature(set);
        let bands = signature
            .chunks_exact(ROWS)
            .zip(0u64..)
            .map(|(band, at)| hash_of(std::iter::once(at).chain(band.iter().map(|&least| u64::from(least)))));
        Some(Prepared { sketch: Sketch::of(set), bands: bands.collect() })
    }
}

/// The texts so far, of which none is near another. At most 1.7 KB a text.
#[derive(Debug, Default)]
pub struct NearIndex {
    /// By the hash of a band: the newest of its entries.
    newest: HashMap<u64, u32>,
    /// A text, and the entry before this one in its bucket, from 1; 0 is none.
    entries: Vec<(u32, u32)>,
    sketches: Vec<Sketch>,
}

impl NearIndex {
    /// The number of the earlier text that this one is near to; where there is none, it becomes the next text.
    pub fn add(&mut self, text: Prepared) -> Option<usize> {
        let mut best: Option<(f64, u32)> = None;
        for band in &text.bands {
            let mut at = self.newest.get(band).copied().unwrap_or(0);
            for _ in 0..COMPARED {
                let Some(&(other, before)) = (at as usize).checked_sub(1).and_then(|at| self.entries.get(at)) else {
                    break;
                };
                at = before;
                let near = text.sketch.jaccard(&self.sketches[other as usize]);
                if near >= NEAR_DUPLICATE
                    && best.is_none_or(|(most, first)| near > most || near == most && other < first)
                {
                    best = Some((near, other));
                }
            }
        }
        if let Some((_, other)) = best {
            return Some(other as usize);
        }
        let number = self.sketches.len() as u32;
        for &band in &text.bands {
            let newest = self.newest.entry(band).or_insert(0);
            self.entries.push((number, *newest));
            *newest = self.entries.len() as u32;
        }
        self.sketches.push(text.sketch);
        None
    }

    /// How many texts are kept.
    pub fn len(&self) -> usize {
        self.sketches.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sketches.is_empty()
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
                // Five standard deviations of 120 draws.
                let deviation = (exact * (1.0 - exact) / x.len() as f64).sqrt();
                assert!((agree - exact).abs() < 5.0 * deviation, "{size} {both}: {agree} for {exact}");
                sum += agree - exact;
                let sketched = Sketch::of(&a).jaccard(&Sketch::of(&b));
                let error = if size <= KEPT { 0.0 } else { 5.0 * (exact * (1.0 - exact) / KEPT as f64).sqrt() };
                assert!((sketched - exact).abs() <= error, "{size} {both}: {sketched} for {exact}");
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
