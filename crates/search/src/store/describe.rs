//! A study's space and goals as JSON: what is compared when a study is opened again.

use serde_json::{Map, Value as Json, json};

use super::optuna::EXACT;
use crate::goals::Goals;
use crate::space::{Domain, Parameter, Space};

/// The space. Priors are left out: they steer where is looked, not what a value means.
pub(super) fn space(space: &Space) -> Json {
    let parameter = |parameter: &Parameter| {
        let when = parameter.when.as_ref();
        let parts = [
            ("domain", json!(parameter.domain)),
            ("when", json!(when.map(|when| json!({"name": when.name, "values": when.values})))),
            ("at_most", json!(parameter.at_most)),
            ("at_least", json!(parameter.at_least)),
        ];
        let said =
            parts.into_iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.to_owned(), value));
        (parameter.name.clone(), Json::Object(said.collect()))
    };
    let ties =
        space.ties().iter().map(|tie| (tie.name.clone(), json!({"value": tie.value.to_string(), "whole": tie.whole})));
    json!({
        "parameters": space.parameters().iter().map(parameter).collect::<Map<_, _>>(),
        "simplexes": space.simplexes(),
        "ties": ties.collect::<Map<_, _>>(),
    })
}

/// The goals.
pub(super) fn goals(goals: &Goals) -> Json {
    json!(goals)
}

/// In what two descriptions differ, in a line each.
pub(super) fn differences(kept: &Json, given: &Json) -> Vec<String> {
    if let (Json::Object(kept), Json::Object(given)) = (kept, given) {
        let mut names: Vec<&String> = kept.keys().collect();
        names.extend(given.keys().filter(|name| !kept.contains_key(*name)));
        let below = |name: &String| match (kept.get(name), given.get(name)) {
            (Some(a), Some(b)) => differences(a, b).into_iter().map(|line| join(name, &line)).collect(),
            (Some(a), None) => vec![format!("{name}: had {a}, now is not there")],
            (None, Some(b)) => vec![format!("{name}: was not there, now is {b}")],
            (None, None) => Vec::new(),
        };
        return names.into_iter().flat_map(below).collect();
    }
    if kept == given { Vec::new() } else { vec![format!(": had {kept}, now {given}")] }
}

fn join(name: &str, line: &str) -> String {
    if line.starts_with(':') { format!("{name}{line}") } else { format!("{name}.{line}") }
}

/// A parameter whose values a float does not hold exactly.
pub(super) fn inexact(space: &Space) -> Option<&str> {
    let is_wide = |parameter: &&Parameter| match parameter.domain {
        Domain::Int { low, high, .. } => low < -EXACT || high > EXACT,
        Domain::Float { .. } | Domain::Choice { .. } => false,
    };
    space.parameters().iter().find(is_wide).map(|parameter| parameter.name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::Expression;
    use crate::space::Tie;

    #[test]
    fn differences_name_what_changed_and_from_what() {
        let tie = |text: &str| Tie { name: "alpha".into(), value: Expression::parse(text).unwrap(), whole: true };
        let build = |high, text: &str, extra: bool| {
            let mut parameters = vec![Parameter::new("rank", Domain::int(4, high))];
            parameters.extend(extra.then(|| Parameter::new("rate", Domain::float(0.0, 1.0))));
            space(&Space::new(parameters, Vec::new(), vec![tie(text)]).unwrap())
        };
        let (old, new) = (build(32, "2 * rank", false), build(64, "rank", true));
        assert_eq!(differences(&old, &old), [""; 0]);
        let said = differences(&old, &new);
        assert_eq!(said.len(), 3, "{said:?}");
        assert_eq!(said[0], "parameters.rank.domain.high: had 32, now 64");
        assert!(said[1].starts_with("parameters.rate: was not there, now is "), "{said:?}");
        assert_eq!(said[2], "ties.alpha.value: had \"2 * rank\", now \"rank\"");
    }
}
