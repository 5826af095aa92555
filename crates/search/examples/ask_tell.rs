//! A study by JSON lines: how another program asks for points and tells what came of them, and how the library is used.
//!
//! One request a line on standard input, one answer a line on standard output. First the study:
//!
//! ```text
//! {"study": {"sampler": "auto", "seed": 1, "budget": 100, "objectives": ["minimize"], "constraints": ["memory"],
//!            "parameters": [{"name": "rate", "domain": {"type": "float", "low": 1e-6, "high": 1e-3, "log": true}},
//!                           {"name": "rank", "domain": {"type": "int", "low": 1, "high": 64, "log": true, "step": 1}},
//!                           {"name": "mode", "domain": {"type": "choice", "values": ["lora", "full"]}}]}}
//! {"study": "ok"}
//! ```
//!
//! Then as often as wanted, also several asks before a tell:
//!
//! ```text
//! {"ask": {}}
//! {"number": 0, "point": {"mode": "lora", "rank": 8, "rate": 3.1e-5}, "reason": "...", "seconds": 0.0001}
//! {"tell": {"number": 0, "values": [1.25], "constraints": [-3.5]}}
//! {"tell": "ok"}
//! ```
//!
//! A value that is no number is told as null; a trial that failed with `"values": null`. An exhausted finite space answers an ask
//! by `{"exhausted": true}`. `seconds` is what the sampler took for the ask.
#![allow(clippy::print_stdout, reason = "it answers on standard output")]

use std::error::Error;
use std::io::{BufRead, Write};
use std::time::Instant;

use serde::Deserialize;
use serde_json::json;
use temper_search::sampler::named;
use temper_search::{
    Ask, Direction, Domain, Goals, History, Measured, Objective, Parameter, Sampler, Space, State, Trial,
};

#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Request {
    Study(Wanted),
    Ask {},
    Tell(Told),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    sampler: String,
    seed: u64,
    budget: Option<u64>,
    objectives: Vec<Direction>,
    #[serde(default)]
    constraints: Vec<String>,
    parameters: Vec<Named>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: String,
    domain: Domain,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    number: u64,
    values: Option<Vec<Option<f64>>>,
    #[serde(default)]
    constraints: Vec<Option<f64>>,
}

struct Study {
    sampler: Box<dyn Sampler>,
    history: History,
    seed: u64,
    budget: Option<u64>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut study: Option<Study> = None;
    let mut output = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let answer = match (serde_json::from_str(&line?)?, &mut study) {
            (Request::Study(wanted), study) => {
                *study = Some(begin(wanted)?);
                json!({"study": "ok"})
            }
            (Request::Ask {}, Some(study)) => ask(study),
            (Request::Tell(told), Some(study)) => tell(study, told)?,
            (_, None) => return Err("expected a study first".into()),
        };
        writeln!(output, "{answer}")?;
        output.flush()?;
    }
    Ok(())
}

fn begin(wanted: Wanted) -> Result<Study, Box<dyn Error>> {
    let parameters = wanted.parameters.into_iter().map(|one| Parameter::new(one.name, one.domain)).collect();
    let name = |(index, direction): (usize, Direction)| Objective { name: format!("objective {index}"), direction };
    let objectives = wanted.objectives.into_iter().enumerate().map(name).collect();
    let goals = Goals { objectives, constraints: wanted.constraints };
    let sampler = named(&wanted.sampler).ok_or_else(|| format!("there is no sampler `{}`", wanted.sampler))?;
    let history = History::new(Space::new(parameters, vec![], vec![])?, goals);
    Ok(Study { sampler, history, seed: wanted.seed, budget: wanted.budget })
}

fn ask(study: &mut Study) -> serde_json::Value {
    let number = study.history.trials().last().map_or(0, |trial| trial.number + 1);
    let ask = Ask { history: &study.history, number, seed: study.seed, budget: study.budget };
    let start = Instant::now();
    let Some(point) = study.sampler.suggest(&ask) else { return json!({"exhausted": true}) };
    let seconds = start.elapsed().as_secs_f64();
    let reason = study.sampler.reason(&ask);
    let answer = json!({"number": number, "point": point, "reason": reason, "seconds": seconds});
    study.history.put(Trial::new(number, point));
    answer
}

fn tell(study: &mut Study, told: Told) -> Result<serde_json::Value, Box<dyn Error>> {
    let trial = study.history.trial(told.number).ok_or_else(|| format!("there is no trial {}", told.number))?;
    let numbers = |values: Vec<Option<f64>>| values.into_iter().map(|value| value.unwrap_or(f64::NAN)).collect();
    let result = told.values.map(|values| Measured { values: numbers(values), constraints: numbers(told.constraints) });
    let state = if result.is_some() { State::Complete } else { State::Failed };
    let told = Trial { state, result, ..trial.clone() };
    study.history.put(told);
    Ok(json!({"tell": "ok"}))
}
