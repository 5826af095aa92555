//! Rows as tokens: in memory, or in a file that is read row by row, so that a run over gigabytes takes the memory of a step.
//!
//! The file holds numbers of 32 bits, little-endian, row after row: first the ids, then the runs of trained tokens, each by its
//! first and one past its last. What is held in memory is where each row lies and how long it is: 36 bytes a row.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::DataError;

/// Bytes of a row's place in an index.
const PLACE: usize = 36;

/// A row ready for training.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// Token ids, at least two.
    pub ids: Vec<u32>,
    /// `weights[i]` is the weight of predicting `ids[i]` from `ids[..i]`; 0 where not trained, and for the first.
    pub weights: Vec<f32>,
    /// Line of the row in its file, from 1.
    pub row: usize,
}

impl Example {
    /// Tokens that go through the model.
    pub fn processed_tokens(&self) -> usize {
        self.ids.len()
    }

    /// Tokens that are targets.
    pub fn trained_tokens(&self) -> usize {
        self.weights.iter().filter(|&&weight| weight > 0.0).count()
    }
}

/// Two answers to one prompt, ready for training: the tokens that both begin with are there once.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// Prompt and better answer, then what the prompt and worse answer have beyond the first `common` tokens.
    pub ids: Vec<u32>,
    /// As in [`Example`]: what is 0 is context, of either answer.
    pub weights: Vec<f32>,
    /// Tokens of prompt and better answer.
    pub chosen: usize,
    /// Tokens that both begin with, at least one; none of them is a target.
    pub common: usize,
    /// Line of the row in its file, from 1.
    pub row: usize,
}

impl Pair {
    /// The better and the worse answer, each whole after the prompt.
    pub fn answers(&self) -> [Example; 2] {
        let (common, chosen, row) = (self.common, self.chosen, self.row);
        let whole = |ids: Vec<u32>, weights: Vec<f32>| Example { ids, weights, row };
        [
            whole(self.ids[..chosen].to_vec(), self.weights[..chosen].to_vec()),
            whole(
                [&self.ids[..common], &self.ids[chosen..]].concat(),
                [&self.weights[..common], &self.weights[chosen..]].concat(),
            ),
        ]
    }
}

/// Where a row lies, and its sizes.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Place {
    /// Its first number.
    start: u64,
    ids: u32,
    /// Numbers that say which tokens are trained: two a run.
    runs: u32,
    trained: u32,
    row: u32,
    /// Not a number where the row says none.
    quality: f32,
    /// Of a pair: tokens of prompt and better answer, and tokens that both answers begin with; 0 of other rows.
    chosen: u32,
    common: u32,
}

/// Rows as tokens, in order of their file, or of several files one after another.
#[derive(Debug, Clone)]
pub struct Examples {
    parts: Vec<Part>,
}

/// The rows of one file.
#[derive(Debug, Clone)]
struct Part {
    /// How many rows lie in the parts before it.
    before: usize,
    places: Arc<Vec<Place>>,
    store: Store,
}

#[derive(Debug, Clone)]
enum Store {
    Memory(Arc<Vec<u32>>),
    /// Shared by clones: a read moves the file's own place.
    File {
        path: PathBuf,
        file: Arc<Mutex<File>>,
    },
}

impl Examples {
    fn of(places: Vec<Place>, store: Store) -> Examples {
        Examples { parts: vec![Part { before: 0, places: Arc::new(places), store }] }
    }

    /// Adds the rows of `more` after these.
    pub fn append(&mut self, more: Examples) {
        for part in more.parts {
            let before = self.len();
            self.parts.push(Part { before, ..part });
        }
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.parts.last().map_or(0, |part| part.before + part.places.len())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn part(&self, index: usize) -> &Part {
        let part = self.parts.partition_point(|part| part.before <= index).saturating_sub(1);
        &self.parts[part]
    }

    fn place(&self, index: usize) -> Place {
        let part = self.part(index);
        part.places[index - part.before]
    }

    fn places(&self) -> impl Iterator<Item = &Place> {
        self.parts.iter().flat_map(|part| part.places.iter())
    }

    /// Tokens of a row that go through the model.
    pub fn processed_tokens(&self, index: usize) -> usize {
        self.place(index).ids as usize
    }

    /// Tokens of a row that are targets.
    pub fn trained_tokens(&self, index: usize) -> usize {
        self.place(index).trained as usize
    }

    /// Line of a row in its file.
    pub fn line(&self, index: usize) -> usize {
        self.place(index).row as usize
    }

    /// The quality of a row, where the row says one.
    pub fn quality(&self, index: usize) -> Option<f32> {
        Some(self.place(index).quality).filter(|quality| !quality.is_nan())
    }

    /// Tokens of the longest row.
    pub fn longest(&self) -> usize {
        self.places().map(|place| place.ids as usize).max().unwrap_or(0)
    }

    /// A row, each of its targets with the weight `weight`.
    ///
    /// # Errors
    /// [`DataError::Read`] where the file of tokens cannot be read any more.
    pub fn get(&self, index: usize, weight: f32) -> Result<Example, DataError> {
        let place = self.place(index);
        let (ids, runs) = (place.ids as usize, place.runs as usize);
        let mut numbers = match &self.part(index).store {
            Store::Memory(numbers) => numbers[place.start as usize..][..ids + runs].to_vec(),
            Store::File { path, file } => {
                let mut bytes = vec![0; 4 * (ids + runs)];
                // A thread that failed while it read left no part of anything.
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                let read = file.seek(SeekFrom::Start(4 * place.start)).and_then(|_| file.read_exact(&mut bytes));
                read.map_err(|source| DataError::Read { path: path.clone(), source })?;
                numbers_of(&bytes).collect()
            }
        };
        let mut weights = vec![0.0; ids];
        for run in numbers[ids..].chunks_exact(2) {
            weights[run[0] as usize..run[1] as usize].fill(weight);
        }
        numbers.truncate(ids);
        Ok(Example { ids: numbers, weights, row: place.row as usize })
    }

    /// A pair, each of its targets with the weight `weight`.
    ///
    /// # Errors
    /// As [`Examples::get`].
    ///
    /// # Panics
    /// When the row is no pair.
    pub fn pair(&self, index: usize, weight: f32) -> Result<Pair, DataError> {
        let Place { chosen, common, .. } = self.place(index);
        assert!(common > 0, "row {index} is a pair");
        let Example { ids, weights, row } = self.get(index, weight)?;
        Ok(Pair { ids, weights, chosen: chosen as usize, common: common as usize, row })
    }

    /// The places of the rows of one file as bytes, to be kept beside the file of tokens.
    pub fn index(&self) -> Vec<u8> {
        let bytes = |place: &Place| {
            let mut bytes = [0; PLACE];
            bytes[..8].copy_from_slice(&place.start.to_le_bytes());
            for (part, number) in bytes[8..].chunks_exact_mut(4).zip([
                place.ids,
                place.runs,
                place.trained,
                place.row,
                place.quality.to_bits(),
                place.chosen,
                place.common,
            ]) {
                part.copy_from_slice(&number.to_le_bytes());
            }
            bytes
        };
        self.places().flat_map(bytes).collect()
    }

    /// The rows of a file of tokens with its [`index`](Self::index); nothing where the two do not fit each other.
    pub fn open(path: &Path, index: &[u8]) -> Option<Examples> {
        let file = File::open(path).ok()?;
        let length = file.metadata().ok()?.len() / 4;
        if !index.len().is_multiple_of(PLACE) {
            return None;
        }
        let place = |bytes: &[u8]| {
            let mut start = [0; 8];
            start.copy_from_slice(&bytes[..8]);
            let mut numbers = numbers_of(&bytes[8..]);
            let mut next = || numbers.next().unwrap_or_default();
            let (start, ids, runs, trained, row) = (u64::from_le_bytes(start), next(), next(), next(), next());
            let quality = f32::from_bits(next());
            Place { start, ids, runs, trained, row, quality, chosen: next(), common: next() }
        };
        let places: Vec<Place> = index.chunks_exact(PLACE).map(place).collect();
        let end = |place: &Place| place.start.checked_add(u64::from(place.ids) + u64::from(place.runs));
        if !places.iter().all(|place| end(place).is_some_and(|end| end <= length)) {
            return None;
        }
        let store = Store::File { path: path.to_owned(), file: Arc::new(Mutex::new(file)) };
        Some(Examples::of(places, store))
    }
}

fn numbers_of(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.chunks_exact(4).map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]]))
}

/// Takes rows as tokens, one after another.
pub struct ExamplesWriter {
    places: Vec<Place>,
    next: u64,
    sink: Sink,
}

enum Sink {
    Memory(Vec<u32>),
    File { path: PathBuf, file: BufWriter<File> },
}

impl ExamplesWriter {
    fn to(sink: Sink) -> Self {
        Self { places: Vec::new(), next: 0, sink }
    }

    /// Keeps them in memory.
    pub fn in_memory() -> Self {
        Self::to(Sink::Memory(Vec::new()))
    }

    /// Writes them to a new file.
    ///
    /// # Errors
    /// [`DataError::Write`] where that cannot be made.
    pub fn in_file(path: &Path) -> Result<Self, DataError> {
        let opened = File::options().read(true).write(true).create_new(true).open(path);
        let file = opened.map_err(|source| DataError::Write { path: path.to_owned(), source })?;
        let sink = Sink::File { path: path.to_owned(), file: BufWriter::with_capacity(1 << 20, file) };
        Ok(Self::to(sink))
    }

    /// Writes them to a file of the system's temporary folder, which goes with the rows.
    ///
    /// # Errors
    /// [`DataError::Write`] where that cannot be made.
    pub fn in_temporary_file() -> Result<Self, DataError> {
        let path = std::env::temp_dir();
        let file = tempfile::tempfile().map_err(|source| DataError::Write { path: path.clone(), source })?;
        let sink = Sink::File { path, file: BufWriter::with_capacity(1 << 20, file) };
        Ok(Self::to(sink))
    }

    /// Adds a row of line `row`; `trained[i]` says whether `ids[i]` is a target.
    ///
    /// # Errors
    /// [`DataError::Write`].
    pub fn add(&mut self, ids: &[u32], trained: &[bool], row: usize, quality: Option<f32>) -> Result<(), DataError> {
        self.put(ids, trained, (0, 0), row, quality)
    }

    /// Adds two answers to one prompt, each as tokens and whether they are targets, of line `row`. Both have a target, and
    /// begin with the same token.
    ///
    /// # Errors
    /// [`DataError::Write`].
    pub fn add_pair(
        &mut self,
        chosen: (&[u32], &[bool]),
        rejected: (&[u32], &[bool]),
        row: usize,
        quality: Option<f32>,
    ) -> Result<(), DataError> {
        let alike = chosen.0.iter().zip(rejected.0).take_while(|(a, b)| a == b).count();
        // A target is predicted for each answer apart, even where both begin with the same word.
        let before = |trained: &[bool]| trained.iter().position(|&trained| trained).unwrap_or(trained.len());
        let common = alike.min(before(chosen.1)).min(before(rejected.1));
        let ids = [chosen.0, &rejected.0[common..]].concat();
        let trained = [chosen.1, &rejected.1[common..]].concat();
        self.put(&ids, &trained, (chosen.0.len() as u32, common as u32), row, quality)
    }

    fn put(
        &mut self,
        ids: &[u32],
        trained: &[bool],
        (chosen, common): (u32, u32),
        row: usize,
        quality: Option<f32>,
    ) -> Result<(), DataError> {
        let mut runs = Vec::new();
        for (at, &now) in trained.iter().enumerate() {
            if now != (runs.len() % 2 == 1) {
                runs.push(at as u32);
            }
        }
        if runs.len() % 2 == 1 {
            runs.push(trained.len() as u32);
        }
        match &mut self.sink {
            Sink::Memory(numbers) => {
                numbers.extend_from_slice(ids);
                numbers.extend_from_slice(&runs);
            }
            Sink::File { path, file } => {
                let bytes: Vec<u8> = ids.iter().chain(&runs).flat_map(|number| number.to_le_bytes()).collect();
                file.write_all(&bytes).map_err(|source| DataError::Write { path: path.clone(), source })?;
            }
        }
        let trained = trained.iter().filter(|&&trained| trained).count() as u32;
        let (ids, runs) = (ids.len() as u32, runs.len() as u32);
        let quality = quality.unwrap_or(f32::NAN);
        self.places.push(Place { start: self.next, ids, runs, trained, row: row as u32, quality, chosen, common });
        self.next += u64::from(ids) + u64::from(runs);
        Ok(())
    }

    /// All rows that were added.
    ///
    /// # Errors
    /// [`DataError::Write`] where the last of them cannot be written.
    pub fn finish(self) -> Result<Examples, DataError> {
        let store = match self.sink {
            Sink::Memory(numbers) => Store::Memory(Arc::new(numbers)),
            Sink::File { path, file } => match file.into_inner() {
                Ok(file) => Store::File { path, file: Arc::new(Mutex::new(file)) },
                Err(error) => return Err(DataError::Write { path, source: error.into_error() }),
            },
        };
        Ok(Examples::of(self.places, store))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::unwrap_used)]
    fn rows_come_back_as_they_were_from_memory_and_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let rows = [vec![false, true, true, false, true], vec![false, true], vec![false; 4], vec![false, true, false]];
        let mut writers = [ExamplesWriter::in_memory(), ExamplesWriter::in_file(&path).unwrap()];
        for writer in &mut writers {
            for (row, trained) in rows.iter().enumerate() {
                let ids: Vec<u32> = (0..trained.len() as u32).map(|id| 10 * row as u32 + id).collect();
                writer.add(&ids, trained, row + 1, (row == 1).then_some(0.25)).unwrap();
            }
        }
        let [memory, file] = writers.map(|writer| writer.finish().unwrap());
        let opened = Examples::open(&path, &file.index()).unwrap();
        for (row, trained) in rows.iter().enumerate() {
            let example = memory.get(row, 0.5).unwrap();
            assert_eq!(example.row, row + 1);
            assert_eq!(example.ids, (0..trained.len() as u32).map(|id| 10 * row as u32 + id).collect::<Vec<_>>());
            let weights: Vec<f32> = trained.iter().map(|&trained| if trained { 0.5 } else { 0.0 }).collect();
            assert_eq!(example.weights, weights);
            assert_eq!(file.get(row, 0.5).unwrap(), example);
            assert_eq!(opened.get(row, 0.5).unwrap(), example);
            assert_eq!(memory.trained_tokens(row), example.trained_tokens());
            assert_eq!(opened.quality(row), (row == 1).then_some(0.25));
        }
        let pair = |chosen: &[u32], rejected: &[u32]| {
            let mut writer = ExamplesWriter::in_memory();
            let trained = |ids: &[u32]| (0..ids.len()).map(|at| at >= 3).collect::<Vec<_>>();
            writer.add_pair((chosen, &trained(chosen)), (rejected, &trained(rejected)), 7, None).unwrap();
            writer.finish().unwrap().pair(0, 0.5).unwrap()
        };
        // Both answers begin with 8, which is a target of each.
        let both = pair(&[1, 2, 3, 8, 5], &[1, 2, 3, 8, 6, 7]);
        assert_eq!((both.chosen, both.common, both.row), (5, 3, 7));
        assert_eq!(both.ids, [1, 2, 3, 8, 5, 8, 6, 7]);
        assert_eq!(both.weights, [0.0, 0.0, 0.0, 0.5, 0.5, 0.5, 0.5, 0.5]);
        let [chosen, rejected] = both.answers().map(|answer| answer.ids);
        assert_eq!((chosen, rejected), (vec![1, 2, 3, 8, 5], vec![1, 2, 3, 8, 6, 7]));
        assert_eq!(pair(&[1, 2, 3, 8], &[1, 4, 3, 9]).common, 1, "prompts that differ share what is the same");
        // An index of another file, or a cut one, is none.
        std::fs::write(&path, [0; 8]).unwrap();
        assert!(Examples::open(&path, &file.index()).is_none());
        assert!(Examples::open(&path, &file.index()[1..]).is_none());
    }
}
