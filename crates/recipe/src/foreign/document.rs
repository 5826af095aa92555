//! A recipe of another tool as it was written: YAML, JSON or a command line, each value with its place.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::kind::Choice;
use crate::problem::{Place, Problem, RecipeErrors};
use crate::tree::{Content, Entry, Node, Scalar, parse};

use serde_json::{Map, Value};

use super::Tool;

/// A recipe of another tool.
#[derive(Debug, Clone)]
pub struct Document {
    /// The file.
    pub file: PathBuf,
    /// Whose recipe it is.
    pub tool: Tool,
    /// How its lines are written.
    pub(crate) form: Form,
    pub(crate) root: Node,
}

/// How a recipe is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `key: value`.
    Yaml,
    /// `"key": value`.
    Json,
    /// `--key value`.
    Command,
}

/// A value with its full path.
#[derive(Debug, Clone)]
pub(crate) struct Leaf<'d> {
    pub path: String,
    pub place: &'d Place,
    pub node: &'d Node,
}

impl Document {
    /// Reads a file; whose it is, is told by its keys where `tool` does not say.
    ///
    /// # Errors
    /// All that is wrong with the file as a file, and where it is no recipe of a tool that is known.
    pub fn read(file: &Path, tool: Option<Tool>) -> Result<Self, RecipeErrors> {
        let fail = |problems: Vec<Problem>| RecipeErrors { file: file.to_path_buf(), problems };
        let whole = |message: String, hint: String| fail(vec![Problem { place: Place::Whole, message, hint }]);
        let bytes = std::fs::read(file)
            .map_err(|error| whole(format!("cannot read it: {error}"), "check the path and its permissions".into()))?;
        let text = String::from_utf8(bytes).map_err(|_| whole("not UTF-8 text".into(), "save it as UTF-8".into()))?;
        Self::of_text(file, &text, tool).map_err(fail)
    }

    /// As [`read`](Self::read), of a text that stands for a file of that name.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn parse(file: &Path, text: &str, tool: Option<Tool>) -> Result<Self, RecipeErrors> {
        Self::of_text(file, text, tool).map_err(|problems| RecipeErrors { file: file.to_path_buf(), problems })
    }

    /// As [`read`](Self::read), of a text.
    pub(crate) fn of_text(file: &Path, text: &str, tool: Option<Tool>) -> Result<Self, Vec<Problem>> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let (form, root, told) = if let Some((root, told)) = command_line(text) {
            (Form::Command, root, Some(told))
        } else {
            let mut problems = Vec::new();
            let root = parse(text, None, &mut problems);
            let form = if text.trim_start().starts_with('{') { Form::Json } else { Form::Yaml };
            match root {
                Some(root) if problems.is_empty() => (form, root, None),
                _ if !problems.is_empty() => return Err(problems),
                _ => return Err(vec![nothing("it is empty")]),
            }
        };
        if !matches!(root.content, Content::Map(_)) {
            return Err(vec![nothing("it is no map of keys")]);
        }
        let tool = match tool.or(told).or_else(|| Tool::of(&root)) {
            Some(tool) => tool,
            None => {
                let known: Vec<&str> = Tool::ALL.iter().map(|(word, _)| *word).collect();
                let message = "its keys tell no tool that is known";
                let hint = format!("say which by --from: {}", known.join(", "));
                return Err(vec![Problem { place: Place::Whole, message: message.into(), hint }]);
            }
        };
        Ok(Self { file: file.to_path_buf(), tool, form, root })
    }

    /// All of it as JSON, with values that are quoted as texts; what a request to a service is made of.
    pub fn to_json(&self) -> Value {
        to_json(&self.root)
    }

    /// The value at a path such as `training_config.optim_config.lr`; null counts as not there.
    pub(crate) fn at(&self, path: &str) -> Option<Leaf<'_>> {
        let mut node = &self.root;
        let mut place = &self.root.place;
        for part in path.split('.') {
            (node, place) = match &node.content {
                Content::Map(entries) => {
                    let entry = entries.iter().find(|entry| entry.key == part)?;
                    (&entry.value, &entry.key_place)
                }
                Content::List(items) => {
                    let item = items.get(part.parse::<usize>().ok()?)?;
                    (item, &item.place)
                }
                Content::Scalar { .. } => return None,
            };
        }
        (!node.is_null()).then(|| Leaf { path: path.to_owned(), place, node })
    }

    /// The first value whose path ends so: tools move their sections, the ends stay.
    pub(crate) fn ending(&self, end: &str) -> Option<Leaf<'_>> {
        self.leaves().into_iter().find(|leaf| ends(&leaf.path, end) && !leaf.node.is_null())
    }

    /// Whether there is a key of this path, whatever its value.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.at(path).is_some()
    }

    /// Every value that is no map, and no list of maps, in order.
    pub(crate) fn leaves(&self) -> Vec<Leaf<'_>> {
        let mut leaves = Vec::new();
        gather(&self.root, String::new(), &self.root.place, &mut leaves);
        leaves
    }

    /// A number at a path.
    pub(crate) fn number(&self, path: &str) -> Option<f64> {
        self.at(path).and_then(|leaf| self.number_of(leaf.node))
    }

    /// A truth value at a path.
    pub(crate) fn truth(&self, path: &str) -> Option<bool> {
        self.at(path).and_then(|leaf| truth(leaf.node))
    }

    /// A text at a path.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.at(path).and_then(|leaf| text(leaf.node))
    }

    /// The number that a node means: quoted numbers count, as job requests write them, and a reference to another key is followed.
    pub(crate) fn number_of(&self, node: &Node) -> Option<f64> {
        let Content::Scalar { text, .. } = &node.content else { return None };
        match node.scalar() {
            Some(Scalar::Integer(integer)) => Some(integer as f64),
            Some(Scalar::Number(number)) => Some(number),
            Some(Scalar::Text(_)) => match text.trim().parse() {
                Ok(number) => Some(number),
                Err(_) => self.referred(text).and_then(|leaf| match leaf.node.scalar() {
                    Some(Scalar::Integer(integer)) => Some(integer as f64),
                    Some(Scalar::Number(number)) => Some(number),
                    _ => None,
                }),
            },
            _ => None,
        }
    }

    /// What `${path}` and `${oc.select:path,..}` of OmegaConf refer to.
    fn referred(&self, text: &str) -> Option<Leaf<'_>> {
        let inner = text.trim().strip_prefix("${")?.strip_suffix('}')?;
        let path = inner.strip_prefix("oc.select:").unwrap_or(inner);
        self.at(path.split(',').next().unwrap_or(path).trim())
    }

    /// A line of this recipe: the key's last part, and a value.
    pub(crate) fn line(&self, path: &str, value: &str) -> String {
        let key = path.rsplit('.').next().unwrap_or(path);
        match self.form {
            Form::Yaml => format!("{key}: {value}"),
            Form::Json => {
                let bare = value.parse::<f64>().is_ok() || matches!(value, "true" | "false" | "null");
                let quoted = self.strings() || !bare;
                let value = value.trim_matches('"');
                if quoted { format!("\"{key}\": \"{value}\"") } else { format!("\"{key}\": {value}") }
            }
            Form::Command => format!("--{key} {value}"),
        }
    }

    /// Whether all its numbers are written as text, as job requests want it.
    fn strings(&self) -> bool {
        self.leaves().iter().all(|leaf| match &leaf.node.content {
            Content::Scalar { plain, .. } => !plain,
            _ => true,
        })
    }

    /// Paths of all keys, those of maps too.
    pub(crate) fn paths(&self) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        for leaf in self.leaves() {
            let mut path = leaf.path.as_str();
            all.insert(path.to_owned());
            while let Some((above, _)) = path.rsplit_once('.') {
                all.insert(above.to_owned());
                path = above;
            }
        }
        all
    }
}

/// Whether a path is `end`, or ends in it after a dot.
pub(crate) fn ends(path: &str, end: &str) -> bool {
    path.strip_suffix(end).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

fn nothing(message: &str) -> Problem {
    let hint = "expected the keys of a recipe, as YAML, JSON or a command line".into();
    Problem { place: Place::Whole, message: message.into(), hint }
}

fn to_json(node: &Node) -> Value {
    match &node.content {
        Content::Map(entries) => {
            Value::Object(entries.iter().map(|entry| (entry.key.clone(), to_json(&entry.value))).collect::<Map<_, _>>())
        }
        Content::List(items) => Value::Array(items.iter().map(to_json).collect()),
        Content::Scalar { text, .. } => match node.scalar() {
            Some(Scalar::Null) => Value::Null,
            Some(Scalar::Bool) => Value::Bool(text.eq_ignore_ascii_case("true")),
            Some(Scalar::Integer(_) | Scalar::Number(_)) => {
                // What JSON writes no number for (`0x1F`, `.inf`) stays the text that it is.
                serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone()))
            }
            _ => Value::String(text.clone()),
        },
    }
}

fn gather<'d>(node: &'d Node, path: String, place: &'d Place, into: &mut Vec<Leaf<'d>>) {
    let below = |part: &str| if path.is_empty() { part.to_owned() } else { format!("{path}.{part}") };
    match &node.content {
        Content::Map(entries) if !entries.is_empty() => {
            entries.iter().for_each(|entry| gather(&entry.value, below(&entry.key), &entry.key_place, into));
        }
        Content::List(items) if items.iter().any(|item| matches!(item.content, Content::Map(_))) => {
            let each = items.iter().enumerate();
            each.for_each(|(index, item)| gather(item, below(&index.to_string()), &item.place, into));
        }
        _ => into.push(Leaf { path, place, node }),
    }
}

/// The truth value that a node means; YAML 1.1, which these tools read, has more words for one than YAML 1.2.
pub(crate) fn truth(node: &Node) -> Option<bool> {
    match text(node)?.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => Some(true),
        "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// A single value as it is written, without quotes.
pub(crate) fn text(node: &Node) -> Option<&str> {
    match &node.content {
        Content::Scalar { text, .. } => Some(text),
        _ => None,
    }
}

/// The single values of a list, or of one value separated by commas.
pub(crate) fn texts(node: &Node) -> Vec<String> {
    match &node.content {
        Content::List(items) => items.iter().filter_map(text).map(str::to_owned).collect(),
        Content::Scalar { text, .. } => text.split(',').map(|part| part.trim().to_owned()).collect(),
        Content::Map(_) => Vec::new(),
    }
}

/// A value as it is shown in a message.
pub(crate) fn shown(node: &Node) -> String {
    match &node.content {
        Content::Scalar { text, .. } => text.clone(),
        Content::List(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(", ")),
        Content::Map(entries) => {
            let each = entries.iter().map(|entry| format!("{}: {}", entry.key, shown(&entry.value)));
            format!("{{{}}}", each.collect::<Vec<_>>().join(", "))
        }
    }
}

/// A shell script or a line that calls `trl`, `accelerate launch` or `torchrun`: its arguments as keys, each with its line. The
/// technique is kept as the key `command`.
fn command_line(text: &str) -> Option<(Node, Tool)> {
    let words = words(text);
    let starts = |word: &str| matches!(word, "trl" | "accelerate" | "torchrun" | "python" | "python3");
    let first = words.iter().position(|(word, ..)| starts(word))?;
    // What stands before it are comments, settings of the environment or `!`; a YAML file has a key there.
    if words[..first].iter().any(|(word, ..)| word.ends_with(':')) {
        return None;
    }
    let techniques = ["sft", "dpo", "grpo", "kto", "rloo", "reward"];
    let of_word = |word: &str| {
        let name = word.rsplit(['/', '.']).find(|part| *part != "py")?;
        techniques.into_iter().find(|technique| *technique == name)
    };
    let (at, technique) =
        words[first..].iter().enumerate().find_map(|(at, (word, ..))| Some((first + at, of_word(word)?)))?;
    let place = |index: usize| Place::File { line: words[index].1, column: words[index].2 };
    let scalar = |text: String, plain: bool, place: Place| Node { place, content: Content::Scalar { text, plain } };
    let mut entries = vec![Entry {
        key: "command".into(),
        key_place: place(at),
        value: scalar(technique.to_owned(), false, place(at)),
    }];
    let mut index = first + 1;
    while index < words.len() {
        let Some(key) = words[index].0.strip_prefix("--") else {
            index += 1;
            continue;
        };
        // What stands before the script is the launcher's.
        let (launcher, end) = if index < at { ("launch.", at) } else { ("", words.len()) };
        let key_place = place(index);
        let (key, joined) = match key.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (key, None),
        };
        index += 1;
        let mut values: Vec<(String, Place)> = joined.into_iter().map(|value| (value, key_place.clone())).collect();
        if values.is_empty() {
            while index < end && !words[index].0.starts_with("--") {
                values.push((words[index].0.clone(), place(index)));
                index += 1;
            }
        }
        let value = match &values[..] {
            [] => scalar("true".into(), true, key_place.clone()),
            [(value, place)] => scalar(value.clone(), true, place.clone()),
            many => {
                let items = many.iter().map(|(value, place)| scalar(value.clone(), true, place.clone()));
                Node { place: key_place.clone(), content: Content::List(items.collect()) }
            }
        };
        entries.push(Entry { key: format!("{launcher}{}", key.replace('-', "_")), key_place, value });
    }
    let place = Place::File { line: words[first].1, column: words[first].2 };
    Some((Node { place, content: Content::Map(entries) }, Tool::Trl))
}

/// The words of a shell command with line and column, without comments, line ends and quotes.
fn words(text: &str) -> Vec<(String, usize, usize)> {
    let mut words = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with('#') {
            continue;
        }
        let mut word: Option<(String, usize)> = None;
        let mut quote = None;
        for (column, c) in line.chars().enumerate() {
            let (text, _) = match (&mut word, c) {
                (None, c) if c.is_whitespace() || c == '\\' => continue,
                (word, _) => word.get_or_insert((String::new(), column + 1)),
            };
            match (quote, c) {
                (Some(open), c) if c == open => quote = None,
                (None, '"' | '\'') => quote = Some(c),
                (None, c) if c.is_whitespace() || c == '\\' => {
                    words.extend(word.take().map(|(text, column)| (text, number + 1, column)));
                }
                _ => text.push(c),
            }
        }
        words.extend(word.map(|(text, column)| (text, number + 1, column)));
    }
    words
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail")]

    use super::*;

    fn read(text: &str) -> Document {
        Document::of_text(Path::new("recipe"), text, None).unwrap()
    }

    #[test]
    fn a_command_line_is_keys_with_lines() {
        let document = read(
            "# how it is run\nCUDA_VISIBLE_DEVICES=0 accelerate launch --num_processes 2 scripts/sft.py \\\n  --model_name_or_path 'a b' --use-peft \\\n  \
             --lora_target_modules q_proj v_proj --learning_rate=2e-4\n",
        );
        assert_eq!(document.tool, Tool::Trl);
        assert_eq!(document.text("command"), Some("sft"));
        assert_eq!(document.text("model_name_or_path"), Some("a b"));
        assert_eq!(document.truth("use_peft"), Some(true));
        assert_eq!(document.number("learning_rate"), Some(2e-4));
        let modules = document.at("lora_target_modules").unwrap();
        assert_eq!(texts(modules.node), ["q_proj", "v_proj"]);
        assert_eq!(modules.place, &Place::File { line: 4, column: 3 });
        assert!(document.leaves().iter().any(|leaf| leaf.path == "launch.num_processes"));
    }

    #[test]
    fn numbers_are_read_through_quotes_and_references() {
        let document = read(
            "run: {model_type: x}\ntraining_config:\n  max_steps: \"100\"\n  save_steps: ${oc.select:training_config.max_steps}\n",
        );
        assert_eq!(document.tool, Tool::Nova);
        assert_eq!(document.said_ending("save_steps"), None);
        let leaf = document.ending("save_steps").unwrap();
        assert_eq!(document.number_of(leaf.node), None, "a text is no number until it is followed to one");
        let document = read(
            "run: {model_type: x}\ntraining_config:\n  max_steps: 100\n  save_steps: ${oc.select:training_config.max_steps}\n",
        );
        assert_eq!(document.said_ending("save_steps").unwrap().value, 100.0);
    }

    #[test]
    fn a_recipe_is_json_as_it_was_written() {
        let document = read(
            "run: {model_type: x, replicas: 4}\ntraining_config: {lr: 1e-5, on: true, off: null, text: \"4\", list: [1, a]}\n",
        );
        let expected = r#"{"run":{"model_type":"x","replicas":4},"training_config":{"lr":1e-5,"on":true,"off":null,"text":"4","list":[1,"a"]}}"#;
        assert_eq!(document.to_json(), serde_json::from_str::<Value>(expected).unwrap());
    }

    #[test]
    fn each_tool_is_told_by_its_keys() {
        for (text, tool) in [
            ("run: {name: x}\ntraining_config: {max_steps: 1}\n", Tool::Nova),
            ("{\"baseModelIdentifier\": \"x\"}", Tool::Nova),
            ("{\"HyperParameters\": {\"lr\": \"1\"}}", Tool::Nova),
            ("base_model: x\n", Tool::Axolotl),
            ("model_name_or_path: x\nstage: sft\n", Tool::LlamaFactory),
            ("model_name_or_path: x\nuse_peft: true\n", Tool::Trl),
            ("model: x\ntraining: {max_steps: 1}\n", Tool::Unsloth),
            ("model: x\niters: 10\n", Tool::MlxLm),
            ("name: x\nstages: []\n", Tool::Temper),
        ] {
            assert_eq!(read(text).tool, tool, "{text}");
        }
        let told = |text: &str| Document::of_text(Path::new("x"), text, None).unwrap_err()[0].message.clone();
        assert_eq!(told("a: 1\n"), "its keys tell no tool that is known");
        assert_eq!(told(""), "it is empty");
        assert_eq!(told("- 1\n"), "it is no map of keys");
        assert!(told("a: [\n").starts_with("not valid YAML"));
    }
}
