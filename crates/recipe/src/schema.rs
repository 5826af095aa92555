//! The JSON Schema of the recipe, for editors: from the same declarations as the reference.
//!
//! It knows every key with its aliases, types, ranges, choices and defaults. What depends on other fields (a rank with
//! `mode: full`), on files or on the base is left to the reader, which sees all.

use serde_json::{Map, Value, json};

use crate::field_doc::{DefaultDoc, FieldDoc, Shape, sentence};
use crate::reference::{Reference, read};
use crate::settings::plain;

/// The schema, in draft 2020-12.
pub fn schema() -> Value {
    let mut schema = section(read(), "");
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("Recipe of temper");
    schema
}

/// A map: its keys under all their names, and nothing else.
fn section(all: &Reference, path: &str) -> Value {
    let mut properties = Map::new();
    let mut conditions = Vec::new();
    for (field, defaults) in all.rows.iter().filter(|(field, _)| field.section == path) {
        let value = value(all, field, defaults);
        for alias in field.aliases {
            let mut value = value.clone();
            value["description"] = json!(format!("As `{}`. {}", field.name, sentence(field.doc)));
            properties.insert((*alias).to_owned(), value);
        }
        properties.insert(field.name.to_owned(), value);
        let names: Vec<&str> = std::iter::once(field.name).chain(field.aliases.iter().copied()).collect();
        if defaults.contains(&DefaultDoc::Required) {
            conditions.push(json!({"oneOf": names.iter().map(|name| json!({"required": [name]})).collect::<Vec<_>>()}));
        } else if names.len() > 1 {
            conditions.push(at_most_one(&names));
        }
    }
    for (_, names, required) in all.exclusive.iter().filter(|(section, ..)| section == path) {
        conditions.push(match required {
            true => json!({"oneOf": names.iter().map(|name| json!({"required": [name]})).collect::<Vec<_>>()}),
            false => at_most_one(names),
        });
    }
    let doc = all.sections.iter().find(|(section, _)| section == path).map_or("", |(_, doc)| doc);
    let mut schema = json!({
        "type": "object",
        "description": sentence(doc),
        "properties": properties,
        "additionalProperties": false,
    });
    if !conditions.is_empty() {
        schema["allOf"] = json!(conditions);
    }
    schema
}

/// No two of these keys.
fn at_most_one(names: &[&str]) -> Value {
    let pairs =
        names.iter().enumerate().flat_map(|(i, a)| names[i + 1..].iter().map(move |b| json!({"required": [a, b]})));
    json!({"not": {"anyOf": pairs.collect::<Vec<_>>()}})
}

fn value(all: &Reference, field: &FieldDoc, defaults: &[DefaultDoc]) -> Value {
    let mut value = match &field.shape {
        Shape::Value(schema) => schema.clone(),
        Shape::Section(path) => section(all, path),
        Shape::SectionOr(path, single) => {
            let of = |field: &FieldDoc| field.section == *path && field.name == *single;
            let single = all.rows.iter().find(|(field, _)| of(field)).map(|(field, _)| &field.shape);
            let single = match single {
                Some(Shape::Value(schema)) => schema.clone(),
                _ => json!(true),
            };
            json!({"anyOf": [single, section(all, path)]})
        }
        Shape::Sections(path, least) => json!({"type": "array", "minItems": least, "items": section(all, path)}),
        Shape::SectionsOr(path, word) => {
            json!({"anyOf": [{"const": word}, {"type": "array", "items": section(all, path)}]})
        }
        // Under a key each is a map without that field, or a value or list that stands for one of its fields.
        Shape::Keyed(path) => json!({"anyOf": [{"type": "array", "items": section(all, path)}, {"type": "object"}]}),
        Shape::Named(path) => json!({"type": "object", "additionalProperties": section(all, path)}),
    };
    let mut text = sentence(field.doc);
    for default in defaults {
        if let DefaultDoc::Value { value, why } = default {
            text.push_str(&format!("\nDefault {}: {why}.", plain(value)));
        }
    }
    value["description"] = json!(text);
    if let [DefaultDoc::Value { value: default, .. }] = defaults
        // The default of `output` depends on the recipe's name.
        && field.name != "output"
    {
        value["default"] = default.clone();
    }
    value
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "the helpers of a test may fail it")]

    use super::*;
    use crate::tree::{Content, Node, Scalar, parse};

    /// A recipe as an editor's language server reads it.
    fn plain_tree(node: &Node) -> Value {
        match &node.content {
            Content::Map(entries) => {
                entries.iter().map(|entry| (entry.key.clone(), plain_tree(&entry.value))).collect::<Map<_, _>>().into()
            }
            Content::List(items) => items.iter().map(plain_tree).collect::<Vec<_>>().into(),
            Content::Scalar { .. } => match node.scalar() {
                Some(Scalar::Integer(integer)) => json!(i64::try_from(integer).unwrap()),
                Some(Scalar::Number(number)) => json!(number),
                Some(Scalar::Text(text)) => json!(text),
                Some(Scalar::Bool) => json!(node.describe().eq_ignore_ascii_case("`true`")),
                _ => Value::Null,
            },
        }
    }

    fn complaints(text: &str) -> Vec<String> {
        let validator = jsonschema::draft202012::new(&schema()).unwrap();
        let tree = plain_tree(&parse(text, None, &mut Vec::new()).unwrap());
        validator.iter_errors(&tree).map(|error| format!("{}: {error}", error.instance_path())).collect()
    }

    fn shipped(name: &str) -> String {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes");
        std::fs::read_to_string(folder.join(name)).unwrap()
    }

    #[test]
    fn it_is_a_schema_and_the_shipped_recipes_hold_to_it() {
        jsonschema::draft202012::meta::validate(&schema()).unwrap();
        let mut seen = 0;
        for entry in std::fs::read_dir(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes")).unwrap()
        {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".yaml") {
                assert_eq!(complaints(&shipped(&name)), [""; 0], "{name}");
                seen += 1;
            }
        }
        assert!(seen >= 2);
    }

    #[test]
    fn what_the_reader_refuses_by_key_type_range_and_choice_the_schema_refuses() {
        let good = shipped("icd10.yaml");
        for (from, to) in [
            ("seed: 42", "seed: -1"),
            ("seed: 42", "sead: 42"),
            ("seed: 42", "precision: fp16"),
            ("name: icd10", "name: ICD 10"),
            ("name: icd10\n", ""),
            ("kind: sft", "kind: rlx"),
            ("max_steps: 60", "max_steps: 60\n    num_train_epochs: 2"),
            ("max_steps: 60", "max_steps: 60\n    iters: 60"),
            ("learning_rate: 1.5e-3", "learning_rate: 2"),
            ("target_modules: all-linear", "target_modules: [q_proj, qq_proj]"),
            ("heldout: {max_increase_percent: 2}", "heldout: {max_increase_percent: 2, max_kl: 1}"),
            ("b179c9523d0e6a0f", "not-a-hash"),
        ] {
            let wrong = good.replace(from, to);
            assert_ne!(wrong, good, "{from}");
            assert_ne!(complaints(&wrong), [""; 0], "{to}");
        }
    }

    #[test]
    fn names_of_other_tools_are_in_it() {
        let text = "name: a\nmodel: hf:o/m\nstages: [{kind: sft, train: [a, b], lr: 1e-4, epochs: 2, lora_r: 8}]\nbf16: true\n";
        assert_eq!(complaints(text), [""; 0]);
    }

    #[test]
    fn the_word_that_stands_for_a_list_is_in_it_and_no_other() {
        let text = "name: a\nbase: hf:o/m\nstages: [{kind: sft, train: a, mix: {general: WORD}}]\n";
        assert_eq!(complaints(&text.replace("WORD", "self")), [""; 0]);
        assert_ne!(complaints(&text.replace("WORD", "selves")), [""; 0]);
    }
}
