//! A study with early stopping by JSON lines: how another program has its trials carried on, paused and ended, and how the library's rules are used.
//!
//! One request a line on standard input, one answer a line on standard output. First the study; `rules` are joined in their order:
//!
//! ```text
//! {"study": {"sampler": "tpe", "seed": 1, "objectives": ["minimize"], "constraints": [], "rungs": [1, 3, 9, 27],
//!            "parameters": [{"name": "rate", "domain": {"type": "float", "low": 1e-6, "high": 1e-3, "log": true}}],
//!            "rules": [{"rule": "asha", "reduction": 3, "mode": "pause"}, {"rule": "median", "others": 5}]}}
//! {"study": "ok"}
//! ```
//!
//! A parameter may have `"when": ["mode", ["lora"]]`: another one and its values. A study may have `"first": {"rate": 1e-4}`: the values of
//! trial 0, which goes its full length whatever the rules say.
//!
//! A worker asks what to do next, and reports at each rung until it is told otherwise. At the full budget a trial is complete.
//!
//! ```text
//! {"next": {"closing": false}}
//! {"number": 4, "point": {"rate": 3.1e-5}, "from": 1, "until": 3}
//! {"report": {"number": 4, "step": 3, "values": [1.25], "constraints": [], "items": []}}
//! {"decision": "pause", "reason": "asha: place 3 of 5 at step 3, where 1 go on"}
//! ```
//!
//! Where only some points can be carried out, as those of a table, a trial is put at the one that was, before its first report:
//! `{"place": {"number": 4, "point": {"rate": 3e-5}}}` is answered by `{"place": "ok"}`.
//!
//! The other decisions are `{"decision": "continue", "until": 9}`, `stop` with a reason, and `complete`. A value that is no number is
//! reported as null. Where nothing is left to do, the answer to `next` is `{"done": true}`. A forecast of a curve alone, with the
//! quantiles asked for and the shares of the budget as x, after what `others` teach:
//!
//! ```text
//! {"curve": {"points": [[0.1, 2.0], [0.2, 1.6], [0.4, 1.4]], "others": [], "quantiles": [0.05, 0.5, 0.95], "below": 1.0}}
//! {"mean": 1.31, "quantiles": [1.15, 1.32, 1.46], "below": 0.02}
//! ```
//!
//! and that of a trial's objectives, as losses, and constraints, as the study's rules make it: `{"forecast": {"number": 4, "quantiles": [0.5]}}`
//! is answered by `{"quantiles": [[1.2]]}`, or null where it has too few reports.
#![allow(clippy::print_stdout, reason = "it answers on standard output")]

use std::error::Error;
use std::io::{BufRead, Write};

use serde::Deserialize;
use serde_json::{Value, json};
use temper_search::sampler::named;
use temper_search::space::Condition;
use temper_search::stopping::{
    Asha, Curve, Extrapolation, Forecast, Hopeless, Hyperband, Median, Mode, Paired, Rungs, Together,
};
use temper_search::{
    Ask, Decision, Direction, Domain, Goals, History, Measured, Objective, Parameter, Point, Report, Sampler, Space,
    State, Stopping, Trial,
};

#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Request {
    Study(Wanted),
    Next { closing: bool },
    Place { number: u64, point: Point },
    Report(Reported),
    Curve(Asked),
    Forecast { number: u64, quantiles: Vec<f64> },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    sampler: String,
    seed: u64,
    objectives: Vec<Direction>,
    constraints: Vec<String>,
    parameters: Vec<Named>,
    rungs: Vec<u64>,
    rules: Vec<Rule>,
    first: Option<Point>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: String,
    domain: Domain,
    when: Option<(String, Vec<temper_search::Value>)>,
}

#[derive(Deserialize)]
#[serde(tag = "rule", rename_all = "snake_case", deny_unknown_fields)]
enum Rule {
    Asha { reduction: u64, mode: How },
    Hyperband { reduction: u64, brackets: usize, mode: How },
    Median { others: usize },
    Paired { level: f64 },
    Extrapolation { threshold: f64 },
    Hopeless { threshold: f64 },
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum How {
    Pause,
    Stop,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reported {
    number: u64,
    step: u64,
    values: Vec<Option<f64>>,
    constraints: Vec<Option<f64>>,
    items: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    points: Vec<(f64, f64)>,
    others: Vec<Vec<(f64, f64)>>,
    quantiles: Vec<f64>,
    below: f64,
}

struct Study {
    sampler: Box<dyn Sampler>,
    stopping: Together,
    history: History,
    seed: u64,
    first: Option<Point>,
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
            (Request::Curve(asked), _) => forecast(&asked),
            (Request::Next { closing }, Some(study)) => next(study, closing)?,
            (Request::Report(reported), Some(study)) => report(study, reported)?,
            (Request::Place { number, point }, Some(study)) => {
                let trial = study.history.trial(number).ok_or_else(|| format!("there is no trial {number}"))?.clone();
                study.history.put(Trial { point, ..trial });
                json!({"place": "ok"})
            }
            (Request::Forecast { number, quantiles }, Some(study)) => {
                let trial = study.history.trial(number).ok_or_else(|| format!("there is no trial {number}"))?;
                let rule = Extrapolation::new(study.stopping.rungs().clone(), 0.05)?;
                let of = |forecast: &Forecast| quantiles.iter().map(|share| forecast.quantile(*share)).collect();
                let forecasts = rule.forecasts(&study.history, trial);
                let quantiles: Option<Vec<Vec<f64>>> = forecasts.map(|all| all.iter().map(of).collect());
                json!({"quantiles": quantiles})
            }
            (_, None) => return Err("expected a study first".into()),
        };
        writeln!(output, "{answer}")?;
        output.flush()?;
    }
    Ok(())
}

fn begin(wanted: Wanted) -> Result<Study, Box<dyn Error>> {
    let parameter = |one: Named| {
        let when = one.when.map(|(name, values)| Condition { name, values });
        Parameter { when, ..Parameter::new(one.name, one.domain) }
    };
    let parameters = wanted.parameters.into_iter().map(parameter).collect();
    let name = |(index, direction): (usize, Direction)| Objective { name: format!("objective {index}"), direction };
    let objectives = wanted.objectives.into_iter().enumerate().map(name).collect();
    let goals = Goals { objectives, constraints: wanted.constraints };
    let sampler = named(&wanted.sampler).ok_or_else(|| format!("there is no sampler `{}`", wanted.sampler))?;
    let rungs = Rungs::at(wanted.rungs)?;
    let rules = wanted.rules.into_iter().map(|rule| make(rule, rungs.clone())).collect::<Result<_, _>>()?;
    let history = History::new(Space::new(parameters, vec![], vec![])?, goals);
    Ok(Study { sampler, stopping: Together::new(rules)?, history, seed: wanted.seed, first: wanted.first })
}

fn make(rule: Rule, rungs: Rungs) -> Result<Box<dyn Stopping>, Box<dyn Error>> {
    let mode = |how| match how {
        How::Pause => Mode::Pause,
        How::Stop => Mode::Stop,
    };
    Ok(match rule {
        Rule::Asha { reduction, mode: how } => Box::new(Asha::new(rungs, reduction, mode(how))?),
        Rule::Hyperband { reduction, brackets, mode: how } => {
            Box::new(Hyperband::new(rungs, reduction, brackets, mode(how))?)
        }
        Rule::Median { others } => Box::new(Median::new(rungs, others)),
        Rule::Paired { level } => Box::new(Paired::new(rungs, level)?),
        Rule::Extrapolation { threshold } => Box::new(Extrapolation::new(rungs, threshold)?),
        Rule::Hopeless { threshold } => Box::new(Hopeless::new(rungs, vec![], threshold)?),
    })
}

/// What was paused and is worth going on with, else a new trial.
fn next(study: &mut Study, closing: bool) -> Result<Value, Box<dyn Error>> {
    let resumed = study.stopping.resume(&study.history, closing);
    let trial = match resumed.and_then(|number| study.history.trial(number)) {
        Some(trial) => Trial { state: State::Running, reason: None, ..trial.clone() },
        None if closing => return Ok(json!({"done": true})),
        None => {
            let number = study.history.trials().last().map_or(0, |trial| trial.number + 1);
            let ask = Ask { history: &study.history, number, seed: study.seed, budget: None };
            let own = study.first.clone().filter(|_| number == 0);
            let Some(point) = own.or_else(|| study.sampler.suggest(&ask)) else { return Ok(json!({"done": true})) };
            Trial::new(number, point)
        }
    };
    let from = trial.last().map_or(0, |last| last.step);
    let until = study.stopping.rungs().after(from).ok_or("a paused trial is at its full budget")?;
    let answer = json!({"number": trial.number, "point": trial.point, "from": from, "until": until});
    study.history.put(trial);
    Ok(answer)
}

fn report(study: &mut Study, reported: Reported) -> Result<Value, Box<dyn Error>> {
    let Reported { number, step, values, constraints, items } = reported;
    let mut trial = study.history.trial(number).ok_or_else(|| format!("there is no trial {number}"))?.clone();
    let numbers = |values: Vec<Option<f64>>| values.into_iter().map(|value| value.unwrap_or(f64::NAN)).collect();
    let measured = Measured { values: numbers(values), constraints: numbers(constraints) };
    trial.put(Report { step, measured, items });
    study.history.put(trial.clone());
    let decision = match study.first {
        Some(_) if number == 0 => Decision::Continue,
        _ => study.stopping.decide(&study.history, &trial),
    };
    let until = study.stopping.rungs().after(step);
    let (state, answer) = match (decision, until) {
        (Decision::Continue, Some(until)) => (State::Running, json!({"decision": "continue", "until": until})),
        (Decision::Continue, None) => (State::Complete, json!({"decision": "complete"})),
        (Decision::Pause { reason }, _) => (State::Paused, json!({"decision": "pause", "reason": reason})),
        (Decision::Stop { reason }, _) => (State::Pruned, json!({"decision": "stop", "reason": reason})),
    };
    trial.state = state;
    trial.result = state.is_finished().then(|| trial.last().map(|last| last.measured.clone())).flatten();
    trial.reason = answer["reason"].as_str().map(str::to_owned);
    study.history.put(trial);
    Ok(answer)
}

fn forecast(asked: &Asked) -> Value {
    let curve = Curve::learned(asked.others.iter().map(Vec::as_slice));
    let Some(forecast) = curve.forecast(&asked.points, 1.0) else { return json!({"mean": null}) };
    let quantiles: Vec<f64> = asked.quantiles.iter().map(|share| forecast.quantile(*share)).collect();
    json!({"mean": forecast.mean(), "quantiles": quantiles, "below": forecast.below(asked.below)})
}
