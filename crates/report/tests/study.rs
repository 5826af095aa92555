//! The page of made-up studies: a whole one, one of a single trial, one where nothing finished, a hostile one.
//!
//! `TEMPER_STUDY_PAGES=FOLDER cargo test --release -p temper-report --test study` leaves the pages there, to be looked at.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use temper_report::study::{Bound, Finalist, Measure, Recommended, Sealed, Spent, StudyPage};
use temper_run::Random;
use temper_search::space::{Condition, Expression, Simplex, Tie};
use temper_search::{
    Direction, Domain, Goals, History, Measured, Objective, Parameter, Point, Report, Space, State, Trial, Value,
};

const RUNGS: [u64; 4] = [4_096, 16_384, 65_536, 262_144];

fn space() -> Space {
    let lora = || Some(Condition { name: "stages[0].mode".into(), values: vec!["lora".into()] });
    let parameters = vec![
        Parameter::new("stages[0].learning_rate", Domain::log_float(1e-5, 1e-2)),
        Parameter::new("stages[0].mode", Domain::choice(["lora", "full"])),
        Parameter {
            when: lora(),
            ..Parameter::new("stages[0].lora_rank", Domain::Int { low: 2, high: 64, log: true, step: 1 })
        },
        Parameter { when: lora(), ..Parameter::new("stages[0].lora_dropout", Domain::float(0.0, 0.2)) },
        Parameter::new("stages[0].batch", Domain::choice([8, 16, 32, 64])),
        Parameter::new("stages[0].warmup", Domain::float(0.0, 0.2)),
        Parameter::new("stages[0].schedule", Domain::choice(["cosine", "warmup-stable-decay", "constant", "linear"])),
    ];
    let shares = [("mix.icd10", 20.0), ("mix.general", 0.0), ("mix.instructions", 0.0)];
    let mix = Simplex::new("mix", shares.map(|(name, floor)| (name.to_owned(), floor)).to_vec(), 100.0, 0.5).unwrap();
    let value = Expression::parse("2 * stages[0].lora_rank").unwrap();
    Space::new(parameters, vec![mix], vec![Tie { name: "stages[0].lora_alpha".into(), value, whole: true }]).unwrap()
}

fn goals() -> Goals {
    let objective = |name: &str, direction| Objective { name: name.into(), direction };
    Goals {
        objectives: vec![
            objective("domain_accuracy", Direction::Maximize),
            objective("general_loss", Direction::Minimize),
        ],
        constraints: vec!["heldout floor".into()],
    }
}

/// What a made-up model comes to after `share` of the full budget.
fn measured(space: &Space, point: &Point, share: f64, noise: Random) -> Measured {
    let fields = space.fields(point).unwrap();
    let number = |name: &str| fields.get(name).and_then(Value::number).unwrap_or(f64::NAN);
    let full = fields["stages[0].mode"] == Value::from("full");
    let best = if full { -4.3 } else { -3.3 };
    let rate = number("stages[0].learning_rate").log10();
    let off = rate - best;
    let domain = number("mix.icd10") / 100.0;
    let rank = if full { 6.0 } else { number("stages[0].lora_rank").log2() };
    let learnt = (1.0 - (-5.0 * share).exp()) * (-(off / 0.9).powi(2)).exp() * (0.6 + 0.4 * domain.sqrt());
    let accuracy = 0.22 + 0.55 * learnt + 0.012 * rank * learnt + 0.01 * (noise.unit(0) - 0.5);
    let forgot = (0.18 * (off + 0.6).max(0.0).powi(2) + 0.09 * domain * (1.0 + off).max(0.0)) * (0.3 + 0.7 * share);
    let general = 2.61 + forgot - 0.06 * (number("mix.general") / 100.0) + 0.006 * (noise.unit(1) - 0.5);
    let far = rate > -2.25;
    let values = if far { vec![0.02, if rate > -2.1 { f64::INFINITY } else { 4e7 }] } else { vec![accuracy, general] };
    Measured { constraints: vec![if far { 9.0 } else { general - 2.70 }], values }
}

fn history(count: u64) -> History {
    let mut history = History::new(space(), goals());
    let random = Random::new(11, "study");
    for number in 0..count {
        let space = history.space();
        let draws = random.within(number);
        let place: Vec<f64> = space
            .parameters()
            .iter()
            .enumerate()
            .map(|(index, parameter)| match parameter.domain.choices() {
                Some(choices) => draws.below(index as u64, choices as u64) as f64,
                // The search narrows down as it goes on.
                None if number > 30 && index == 0 => 0.35 + 0.4 * draws.unit(0),
                None => draws.unit(index as u64),
            })
            .collect();
        let mut trial = Trial::new(number, space.point(&place));
        let stop = draws.unit(50);
        let end = match number {
            0 => 4,
            _ if stop < 0.35 => 1,
            _ if stop < 0.55 => 2,
            _ if stop < 0.65 => 3,
            _ => 4,
        };
        for (rung, step) in RUNGS.into_iter().enumerate().take(end) {
            let share = step as f64 / RUNGS[3] as f64;
            trial.reports.push(Report::new(step, measured(space, &trial.point, share, draws.within(60 + rung as u64))));
        }
        (trial.state, trial.reason) = match (end, number % 17) {
            (_, 13) => (State::Failed, Some("CUDA out of memory: tried to allocate 2.50 GiB".to_owned())),
            (4, _) => (State::Complete, None),
            (end, 5) => {
                (State::Paused, Some(format!("rank 3 of 9 at rung {end}: waits for a place among the best third")))
            }
            (_, 7) => (State::Running, None),
            (1, 9) => (State::Stale, None),
            (end, _) => (State::Pruned, Some(format!("beaten on both axes by 7 of 12 trials at rung {end}"))),
        };
        match trial.state {
            State::Failed => trial.reports.truncate((number % 2) as usize),
            State::Complete | State::Pruned => trial.result = trial.last().map(|report| report.measured.clone()),
            _ => {}
        }
        if number == 40 {
            let nan = Measured { values: vec![f64::NAN, f64::NAN], constraints: vec![f64::NAN] };
            trial.reports.last_mut().unwrap().measured = nan.clone();
            trial.result = Some(nan);
        }
        history.put(trial);
    }
    history
}

fn best(history: &History) -> u64 {
    let feasible = history.trials().iter().filter(|trial| trial.state == State::Complete);
    let value = |trial: &&Trial| match &trial.result {
        Some(result) if history.goals().is_feasible(result) => result.values[0],
        _ => f64::NEG_INFINITY,
    };
    feasible.max_by(|a, b| value(a).total_cmp(&value(b))).unwrap().number
}

fn page(history: &History) -> StudyPage<'_> {
    let spent = history.trials().iter().map(|trial| {
        let tokens = trial.last().map_or(0, |last| last.step);
        (trial.number, Spent { tokens, seconds: 3.0 + tokens as f64 / 2_900.0 })
    });
    StudyPage {
        measures: vec![
            Measure { label: "ICD-10 accuracy".into(), unit: "%".into(), scale: 100.0 },
            Measure { label: "general loss".into(), unit: "nats per token".into(), scale: 1.0 },
        ],
        bounds: vec![Bound { objective: 1, at: 2.70, label: "floor: loss at most 2.70".into() }],
        default: Some(0),
        spent: spent.collect(),
        budget_unit: "tokens",
        rungs: RUNGS.to_vec(),
        ..StudyPage::new("icd10-tune", history)
    }
}

fn whole(history: &History) -> StudyPage<'_> {
    let winner = best(history);
    let seeds = |trial: u64, shift: f64| {
        let result = history.trial(trial).unwrap().result.clone().unwrap();
        let random = Random::new(trial, "seeds");
        let seed = |seed: u64| {
            let noise = |index| 2.0 * random.unit(10 * seed + index) - 1.0;
            let values = vec![result.values[0] - shift + 0.012 * noise(0), result.values[1] + 0.006 * noise(1)];
            (seed, Measured { values, constraints: vec![-0.01] })
        };
        Finalist { trial, seeds: (1..=4).map(seed).collect() }
    };
    let front = history.trials().iter().filter(|trial| {
        trial.state == State::Complete
            && trial.number != winner
            && trial.number != 0
            && trial.result.as_ref().is_some_and(|r| r.values[0] > 0.6)
    });
    let mut finalists = vec![seeds(winner, 0.01)];
    finalists.extend(front.take(2).map(|trial| seeds(trial.number, 0.004)));
    finalists.push(seeds(0, 0.0));
    let sealed = |what: &str, unit: &str, sides: [f64; 2], difference, higher_is_better, decision: &str, good| Sealed {
        what: what.into(),
        unit: unit.into(),
        default: sides[0],
        recommended: sides[1],
        difference,
        higher_is_better,
        decision: decision.into(),
        good,
    };
    StudyPage {
        recommended: Some(Recommended {
            trial: winner,
            reason: "It has the highest ICD-10 accuracy of all trials that keep the general loss below the floor, over four \
                     seeds as well; the lead over the default is more than the noise between seeds."
                .into(),
            sure: true,
        }),
        finalists,
        sealed: vec![
            sealed("ICD-10 accuracy", "%", [43.1, 70.6], [22.9, 27.5, 32.0], true, "better", Some(true)),
            sealed("MMLU slice", "%", [31.5, 31.1], [-1.7, -0.4, 0.8], true, "cannot tell", None),
            sealed("held-out text, loss", "nats per token", [2.642, 2.668], [0.017, 0.026, 0.035], false, "kept: floor 0.05", Some(true)),
        ],
        notes: vec![
            "Sampler: multivariate TPE, chosen since 80 trials were planned in a space of 9 parameters. Ended after 30 minutes.".into(),
        ],
        ..page(history)
    }
}

fn keep(name: &str, page: &str) {
    if let Some(folder) = std::env::var_os("TEMPER_STUDY_PAGES") {
        std::fs::write(std::path::Path::new(&folder).join(format!("{name}.html")), page).unwrap();
    }
}

#[test]
fn a_whole_study_has_every_part() {
    let history = history(80);
    let page = whole(&history).render().unwrap();
    keep("whole", &page);
    for id in ["answer", "finalists", "front", "parallel", "importance", "slices", "curves", "trials"] {
        assert!(page.contains(&format!("<section id=\"{id}\"")), "{id}");
    }
    assert!(page.len() < 700_000, "{} bytes", page.len());
    assert!(!page.contains("NaN%") && !page.contains("inf%"), "a place that is no number");
    let failed = history.trials().iter().filter(|trial| trial.state == State::Failed).count();
    let finished = history.trials().iter().filter(|trial| trial.state == State::Complete).count();
    assert!(page.contains(&format!("{failed} failed")) && page.contains(&format!("{finished} finished")));
    assert!(page.contains("beyond the axis: drawn at its edge"), "losses of 4e7 and infinity");
    assert!(page.contains("1 trial without a number: not drawn"), "trial 40");
    assert!(page.contains("waits for a place among the best third"), "the reason of a paused trial");
    assert!(page.contains("before a first report"), "failed trials without a curve");
    // Once under the answer, once as a tag of the table.
    assert!(page.contains("is recommended</strong>") && page.contains("<span class=\"tag good\">recommended</span>"));
}

#[test]
fn nothing_is_asked_of_the_network_and_one_script_may_run() {
    let history = history(20);
    let page = page(&history).render().unwrap();
    for outside in ["http:", "https:", "src=", "url(", "@import", "<link"] {
        assert!(!page.contains(outside), "{outside}");
    }
    let (_, after) = page.split_once("script-src &#x27;sha256-").or(page.split_once("script-src 'sha256-")).unwrap();
    let hash: Vec<u8> = after.replace("&#x2f;", "/").bytes().take_while(|byte| *byte != b'=').collect();
    let (_, script) = page.split_once("<script>").unwrap();
    let (script, rest) = script.split_once("</script>").unwrap();
    assert!(!rest.contains("<script"));
    let digest = temper_run::sha256_bytes(script.as_bytes());
    let bytes: Vec<u8> = (0..32).map(|i| u8::from_str_radix(&digest[2 * i..2 * i + 2], 16).unwrap()).collect();
    assert_eq!(String::from_utf8(hash).unwrap(), base64(&bytes), "SCRIPT_HASH is that of another script");
}

/// Without padding.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |three: &[u8]| {
        let bits = (0..3).fold(0u32, |bits, i| bits << 8 | u32::from(three.get(i).copied().unwrap_or(0)));
        let letters: Vec<char> =
            (0..=three.len()).map(|i| LETTERS[(bits >> (18 - 6 * i)) as usize & 63] as char).collect();
        letters
    };
    bytes.chunks(3).flat_map(group).collect()
}

#[test]
fn no_text_becomes_markup() {
    const HOSTILE: &str =
        "<script>alert(1)</script><img onerror=alert(2)> \"quoted\" 'single' & </svg></table> {{ 7*7 }}";
    let goals = Goals { constraints: vec![HOSTILE.into()], ..Goals::minimize(HOSTILE) };
    let space = Space::new(vec![Parameter::new(HOSTILE, Domain::choice([HOSTILE, "b"]))], vec![], vec![]).unwrap();
    let mut history = History::new(space, goals);
    for (number, choice) in [HOSTILE, "b"].into_iter().enumerate() {
        let measured = Measured { values: vec![number as f64], constraints: vec![-1.0] };
        let point = Point::from([(HOSTILE.to_owned(), choice.into())]);
        let mut trial = Trial::new(number as u64, point);
        trial.reports.push(Report::new(1, measured.clone()));
        trial.state = if number == 0 { State::Complete } else { State::Pruned };
        (trial.result, trial.reason) = (Some(measured), Some(HOSTILE.into()));
        history.put(trial);
    }
    let page = StudyPage {
        name: HOSTILE,
        recommended: Some(Recommended { trial: 0, reason: HOSTILE.into(), sure: false }),
        default: Some(1),
        notes: vec![HOSTILE.into()],
        bounds: vec![Bound { objective: 0, at: 0.5, label: HOSTILE.into() }],
        budget_unit: HOSTILE,
        ..StudyPage::new("", &history)
    };
    let page = page.render().unwrap();
    assert!(!page.contains("<script>alert") && !page.contains("<img") && page.contains("&lt;img"));
    assert_eq!(page.matches("</script>").count(), 1);
}

#[test]
fn hundreds_of_trials_are_no_larger_than_a_photograph() {
    let history = history(400);
    let page = whole(&history).render().unwrap();
    keep("large", &page);
    assert!(page.len() < 2_500_000, "{} bytes", page.len());
}

#[test]
fn small_studies_say_what_they_lack() {
    let empty = History::new(space(), goals());
    let rendered = page(&empty).render().unwrap();
    keep("empty", &rendered);
    assert!(rendered.contains("Nothing was tried") && rendered.contains("<p>There is none.</p>"));
    let one = history(1);
    let rendered = page(&one).render().unwrap();
    keep("one", &rendered);
    assert!(rendered.contains("Not told: not enough trials: 1 can be compared"));
    let mut none = History::new(space(), goals());
    for trial in history(6).trials() {
        let mut trial = trial.clone();
        trial.state = if trial.number < 3 { State::Running } else { State::Failed };
        (trial.result, trial.reason) = (None, Some("exit code 1".into()));
        if trial.number == 2 {
            trial.reports.clear();
        }
        none.put(trial);
    }
    let rendered = page(&none).render().unwrap();
    keep("none", &rendered);
    assert!(rendered.contains("No answer yet") && rendered.contains("exit code 1"));
}
