//! Values: `KIND/KEY.json`, two lines. The first holds the ingredients of the key and the hash of the second, which is the
//! value. What is damaged counts as not there, and is written anew.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use temper_run::{sha256_bytes, to_json, write_atomic};

use super::{Cache, Kind, key_of, touch};
use crate::PipelineError;
use crate::checkpoints::io;

#[derive(Serialize, Deserialize)]
struct Head {
    key: Value,
    sha256: String,
}

impl Cache {
    /// The value of these ingredients, if it is there and whole.
    fn value<T: DeserializeOwned>(&self, kind: Kind, ingredients: &Value) -> Option<T> {
        let path = self.folder(kind).join(format!("{}.json", key_of(ingredients)));
        let text = fs::read_to_string(&path).ok()?;
        let (head, value) = text.split_once('\n')?;
        let head: Head = serde_json::from_str(head).ok()?;
        if head.key != *ingredients || head.sha256 != sha256_bytes(value.as_bytes()) {
            return None;
        }
        let value = serde_json::from_str(value).ok()?;
        touch(&path);
        Some(value)
    }

    /// Whether there is a value of these ingredients, whole or not.
    fn has(&self, kind: Kind, ingredients: &Value) -> bool {
        self.folder(kind).join(format!("{}.json", key_of(ingredients))).is_file()
    }

    fn put<T: Serialize>(&self, kind: Kind, ingredients: &Value, value: &T) -> Result<(), PipelineError> {
        let folder = self.folder(kind);
        fs::create_dir_all(&folder).map_err(io("create", &folder))?;
        let value = to_json(value)?;
        let head = to_json(&Head { key: ingredients.clone(), sha256: sha256_bytes(value.as_bytes()) })?;
        let path = folder.join(format!("{}.json", key_of(ingredients)));
        Ok(write_atomic(&path, format!("{head}\n{value}").as_bytes())?)
    }
}

/// A cache that may be switched off.
#[derive(Clone, Copy)]
pub(crate) struct Kept<'c>(pub Option<&'c Cache>);

impl Kept<'_> {
    /// The value of these ingredients, if it is kept.
    pub fn get<T: DeserializeOwned>(self, kind: Kind, ingredients: &Value) -> Option<T> {
        self.0?.value(kind, ingredients)
    }

    /// Whether a value seems to be kept: for an estimate.
    pub fn has(self, kind: Kind, ingredients: &Value) -> bool {
        self.0.is_some_and(|cache| cache.has(kind, ingredients))
    }

    /// Keeps a value. A cache that cannot be written costs a later run time, not this one its result.
    pub fn put<T: Serialize>(self, kind: Kind, ingredients: &Value, value: &T) {
        let _ = self.0.map(|cache| cache.put(kind, ingredients, value));
    }

    /// The value that is kept, or else a new one, to be kept.
    pub fn or<T: Serialize + DeserializeOwned, E>(
        self,
        kind: Kind,
        ingredients: &Value,
        compute: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        if let Some(value) = self.get(kind, ingredients) {
            return Ok(value);
        }
        let value = compute()?;
        self.put(kind, ingredients, &value);
        Ok(value)
    }
}

/// The ingredients of the value in a file.
pub(super) fn ingredients(path: &Path) -> Option<Value> {
    let mut line = String::new();
    BufReader::new(fs::File::open(path).ok()?).read_line(&mut line).ok()?;
    serde_json::from_str::<Head>(&line).ok().map(|head| head.key)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_comes_back_to_the_bit_and_a_damaged_one_is_computed_anew() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache { root: folder.path().to_owned() };
        let (kept, key) = (Kept(Some(&cache)), json!({"what": "a sum", "of": [1, 2]}));
        let numbers = vec![0.1 + 0.2, f64::MIN_POSITIVE, 1.0 / 3.0];
        let compute = || Ok::<_, PipelineError>(numbers.clone());
        let never = || -> Result<Vec<f64>, PipelineError> { panic!("it is kept") };
        assert_eq!(kept.or(Kind::Scores, &key, compute).unwrap(), numbers);
        assert_eq!(kept.or(Kind::Scores, &key, never).unwrap(), numbers);
        assert_eq!(kept.get::<Vec<f64>>(Kind::Scores, &json!({"what": "a sum", "of": [1, 3]})), None);
        assert_eq!(kept.get::<Vec<f64>>(Kind::Speed, &key), None);

        let entry = &cache.list().unwrap()[0];
        assert_eq!((entry.kind, entry.what.as_str()), (Kind::Scores, "a sum"));
        let text = fs::read_to_string(&entry.path).unwrap();
        for damaged in [text.replace("0.3", "0.4"), text[..text.len() - 2].to_owned(), String::new()] {
            fs::write(&entry.path, damaged).unwrap();
            assert_eq!(kept.get::<Vec<f64>>(Kind::Scores, &key), None);
        }
        assert_eq!(kept.or(Kind::Scores, &key, compute).unwrap(), numbers);
        assert_eq!(kept.or(Kind::Scores, &key, never).unwrap(), numbers);
        assert_eq!(cache.prune(None, Some(0)).unwrap().0.len(), 1);
        assert_eq!(kept.get::<Vec<f64>>(Kind::Scores, &key), None);
    }

    #[test]
    fn without_a_cache_everything_is_computed() {
        let two = Kept(None).or(Kind::Scores, &json!({}), || Ok::<_, PipelineError>(2)).unwrap();
        assert_eq!(two, 2);
    }
}
