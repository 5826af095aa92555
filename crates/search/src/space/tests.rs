use super::*;

fn space() -> Space {
    let mode = Parameter::new("mode", Domain::choice(["lora", "full"]));
    let rank = Parameter {
        when: Some(Condition { name: "mode".into(), values: vec!["lora".into()] }),
        ..Parameter::new("rank", Domain::Int { low: 2, high: 64, log: true, step: 1 })
    };
    let batch = Parameter::new("batch", Domain::Int { low: 8, high: 30, log: false, step: 8 });
    let micro = Parameter { at_most: Some("batch".into()), ..Parameter::new("micro", Domain::int(1, 64)) };
    let mix = Simplex::new("mix", vec![("a".into(), 10.0), ("b".into(), 0.0), ("c".into(), 0.0)], 100.0, 0.5).unwrap();
    let tie = Tie { name: "alpha".into(), value: Expression::parse("2 * rank").unwrap(), whole: true };
    Space::new(vec![mode, rank, batch, micro], vec![mix], vec![tie]).unwrap()
}

#[test]
fn coordinates_of_a_point_give_the_point() {
    let space = space();
    let random = temper_run::Random::new(1, "test");
    for index in 0..2000u64 {
        let at = |i: usize| random.unit(index * 10 + i as u64);
        let drawn: Vec<f64> =
            (0..space.parameters().len()).map(|i| if i == 0 { (at(0) * 2.0).floor() } else { at(i) }).collect();
        let point = space.point(&drawn);
        let back = space.coordinates(&point);
        assert_eq!(space.point(&back), point, "{drawn:?}");
        space.check_point(&point).unwrap();
        let batch = point["batch"].number().unwrap();
        assert!([8.0, 16.0, 24.0].contains(&batch), "high comes down to a step: {batch}");
        assert!(point["micro"].number().unwrap() <= batch);
        let fields = space.fields(&point).unwrap();
        let shares: Vec<f64> = ["a", "b", "c"].iter().map(|name| fields[*name].number().unwrap()).collect();
        assert_eq!(shares.iter().sum::<f64>(), 100.0, "{shares:?}");
        assert!(shares[0] >= 10.0 && shares.iter().all(|share| *share >= 0.0 && (share * 2.0).fract() == 0.0));
        assert_eq!(fields.contains_key("alpha"), point.contains_key("rank"));
        if let Some(Value::Int(rank)) = point.get("rank") {
            assert_eq!(fields["alpha"], Value::Int(2 * rank));
        }
    }
}

#[test]
fn shares_drawn_evenly_are_even_over_the_simplex() {
    let simplex = Simplex::new("m", vec![("a".into(), 0.0), ("b".into(), 0.0), ("c".into(), 0.0)], 1.0, 1e-6).unwrap();
    let space = Space::new(vec![], vec![simplex.clone()], vec![]).unwrap();
    let random = temper_run::Random::new(5, "test");
    let count = 20_000;
    let mut sums = [0.0; 3];
    let mut above_half = [0.0; 3];
    for index in 0..count {
        let fields = space.fields(&space.point(&[random.unit(2 * index), random.unit(2 * index + 1)])).unwrap();
        for (i, name) in ["a", "b", "c"].iter().enumerate() {
            let share = fields[*name].number().unwrap();
            sums[i] += share;
            above_half[i] += f64::from(share > 0.5);
        }
    }
    for i in 0..3 {
        // A share of a flat Dirichlet of three has the mean 1/3 and is above 1/2 with probability 1/4.
        assert!((sums[i] / count as f64 - 1.0 / 3.0).abs() < 0.01, "{sums:?}");
        assert!((above_half[i] / count as f64 - 0.25).abs() < 0.015, "{above_half:?}");
    }
    let parts = simplex.parts(&[0.2, 0.5, 0.3]).unwrap();
    let fields = space.fields(&parts).unwrap();
    assert_eq!(fields, Point::from([("a".into(), 0.2.into()), ("b".into(), 0.5.into()), ("c".into(), 0.3.into())]));
    assert_eq!(simplex.parts(&[0.2, 0.5, 0.4]), None);
}

/// optuna#5457, optuna#3820: values off the step, or with the dust of binary fractions.
#[test]
fn optuna_5457_steps_are_exact_decimals_and_high_is_on_a_step() {
    let domain = Domain::Float { low: 0.0, high: 1.0, log: false, step: Some(0.3) }.checked("x").unwrap();
    assert_eq!(domain, Domain::Float { low: 0.0, high: 0.9, log: false, step: Some(0.3) });
    let values: Vec<Value> = (0..4).map(|i| domain.at((f64::from(i) + 0.5) / 4.0)).collect();
    assert_eq!(values, [0.0, 0.3, 0.6, 0.9].map(Value::Float));
    assert_eq!(domain.coordinate(&Value::Float(0.600_000_000_000_000_1)), Some(0.625));
    assert_eq!(domain.coordinate(&Value::Float(0.5)), None);
}

/// optuna#3129, optuna#2341: choices of mixed types.
#[test]
fn optuna_3129_choices_of_mixed_types_keep_their_types() {
    let values = vec![Value::Null, true.into(), 1.into(), Value::Float(2.5), "x".into()];
    let domain = Domain::Choice { values: values.clone() }.checked("x").unwrap();
    for (index, value) in values.iter().enumerate() {
        assert_eq!(domain.coordinate(value), Some(index as f64));
        assert_eq!(domain.at(index as f64), *value);
    }
    assert_eq!(domain.coordinate(&Value::Float(1.0)), Some(2.0));
    assert!(Domain::Choice { values: vec![1.into(), Value::Float(1.0)] }.checked("x").is_err());
}

/// optuna#4080, optuna#1671: a range that changed in the middle of a study.
#[test]
fn optuna_4080_history_outlives_a_change_of_the_space() {
    let narrow = Space::new(
        vec![Parameter::new("x", Domain::choice(["a", "b"])), Parameter::new("y", Domain::int(0, 3))],
        vec![],
        vec![],
    )
    .unwrap();
    let old = Point::from([("x".into(), "c".into()), ("y".into(), 2.into()), ("z".into(), 1.into())]);
    let place = narrow.coordinates(&old);
    assert!(place[0].is_nan());
    assert_eq!(place[1], 0.625);
}

#[test]
fn a_wrong_space_says_what_is_wrong() {
    let wrong = |parameters: Vec<Parameter>| Space::new(parameters, vec![], vec![]).unwrap_err().to_string();
    assert_eq!(wrong(vec![Parameter::new("x", Domain::float(2.0, 1.0))]), "x: low 2 is above high 1");
    assert_eq!(
        wrong(vec![Parameter::new("x", Domain::log_float(0.0, 1.0))]),
        "x: a logarithmic scale begins above 0, got low 0"
    );
    assert_eq!(
        wrong(vec![Parameter::new("x", Domain::int(0, 1)), Parameter::new("x", Domain::int(0, 1))]),
        "x: is there twice"
    );
    let orphan = Parameter {
        when: Some(Condition { name: "y".into(), values: vec![1.into()] }),
        ..Parameter::new("x", Domain::int(0, 1))
    };
    assert_eq!(wrong(vec![orphan]), "x: depends on y, which is no parameter before it");
}

#[test]
fn a_finite_space_counts_and_lists_its_points() {
    let space = Space::new(
        vec![
            Parameter::new("mode", Domain::choice(["lora", "full"])),
            Parameter {
                when: Some(Condition { name: "mode".into(), values: vec!["lora".into()] }),
                ..Parameter::new("rank", Domain::choice([4, 8, 16]))
            },
            Parameter::new("batch", Domain::int(1, 2)),
        ],
        vec![],
        vec![],
    )
    .unwrap();
    assert_eq!(space.size(), Some(8));
    let points: Vec<Point> = space.points().collect();
    assert_eq!(points.len(), 8);
    assert!(points.iter().enumerate().all(|(i, point)| !points[..i].contains(point)));
    points.iter().for_each(|point| space.check_point(point).unwrap());
    assert_eq!(self::space().size(), None, "floats cannot be counted");
}

#[test]
fn whole_numbers_on_a_logarithmic_scale_are_all_listed() {
    let domain = Domain::Int { low: 1, high: 100, log: true, step: 1 };
    let space = Space::new(vec![Parameter::new("x", domain)], vec![], vec![]).unwrap();
    let values: Vec<Value> = space.points().map(|point| point["x"].clone()).collect();
    assert_eq!(values, (1..=100).map(Value::Int).collect::<Vec<_>>());
}

#[test]
fn expressions_are_read_as_written() {
    let value =
        |text: &str| Expression::parse(text).unwrap().evaluate(&|name| (name == "stages[0].lora_rank").then_some(8.0));
    assert_eq!(value("2 * stages[0].lora_rank"), Some(16.0));
    assert_eq!(value("1 + 2 * 3 - 4 / 2"), Some(5.0));
    assert_eq!(value("-(1 - 3) * min(2, 1e-3)"), Some(2e-3));
    assert_eq!(value("rank"), None);
    let wrong = |text: &str| Expression::parse(text).unwrap_err().to_string();
    assert_eq!(wrong("2 * "), "`2 * `, column 5: expected a number, a name or `(`");
    assert_eq!(wrong("2 x"), "`2 x`, column 3: expected an operator or the end");
    assert!(wrong(&"(".repeat(1000)).contains("nested too deeply"));
}

#[test]
fn what_a_user_gives_is_checked_against_bounds_and_not_against_its_last_bit() {
    let parameters = vec![
        Parameter::new("rate", Domain::log_float(1e-6, 1e-2)),
        Parameter { at_most: Some("rate".into()), ..Parameter::new("floor", Domain::log_float(1e-7, 1e-3)) },
    ];
    let space = Space::new(parameters, Vec::new(), Vec::new()).unwrap();
    let random = temper_run::Random::new(1, "test");
    for index in 0..2000 {
        let rate = 1e-6 + random.unit(index) * 9e-3;
        let point =
            |floor: f64| Point::from([("rate".into(), Value::Float(rate)), ("floor".into(), Value::Float(floor))]);
        space.check_point(&point((rate / 3.0).min(1e-3))).unwrap();
        if rate < 5e-4 {
            let said = space.check_point(&point(rate * 1.5)).unwrap_err().to_string();
            assert!(said.contains("above its bound rate"), "{said}");
        }
    }
    let whole = Space::new(vec![Parameter::new("x", Domain::float(0.0, 2.0))], Vec::new(), Vec::new()).unwrap();
    whole.check_point(&Point::from([("x".into(), Value::Int(1))])).unwrap();
}
