//! The schema for editors, judged by a validator of others.

use temper_recipe::schema;

use super::folder::{Folder, WHOLE};

/// A recipe that has every section and every kind of value: each key that the reader accepts must be in the schema, which
/// allows no other.
#[test]
fn everything_that_is_read_is_in_the_schema() {
    let (recipe, _) = Folder::new().load(WHOLE, &[]).unwrap();
    let resolved = serde_json::to_value(&recipe).unwrap();
    let validator = jsonschema::draft202012::new(&schema()).unwrap();
    let complaints: Vec<String> = validator.iter_errors(&resolved).map(|error| error.to_string()).collect();
    assert_eq!(complaints, [""; 0]);
}
