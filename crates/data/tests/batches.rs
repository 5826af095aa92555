//! The mix and the packing, on made-up rows: every token id tells its row.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

use std::collections::{BTreeMap, HashSet};

use temper_data::{
    Example, ExampleRef, ExamplesWriter, Extent, Format, LengthReport, MixError, MixUnit, RowKind, RowOrder, Schedule,
    Source, SourceReport, Split, TurnsApart, micro_batches, schedule,
};
use temper_run::Random;

/// Row `r` of length `n`: ids `1000 r`, `1000 r + 1`, ...; the last `trained` are targets.
fn example(row: usize, length: usize, trained: usize, weight: f32) -> Example {
    let weights = (0..length).map(|i| if i > 0 && i >= length - trained { weight } else { 0.0 }).collect();
    Example { ids: (0..length).map(|i| (1000 * row + i) as u32).collect(), weights, row }
}

fn source(name: &str, rows: usize, shape: impl Fn(usize) -> (usize, usize)) -> Source {
    let examples: Vec<Example> = (0..rows).map(|r| example(r, shape(r).0, shape(r).1, 1.0)).collect();
    let report = SourceReport {
        kind: RowKind::Text,
        format: Format::Text,
        split: Split::default(),
        masked: 0,
        turns_apart: TurnsApart::default(),
        reasoning_dropped: 0,
        rows,
        kept: rows,
        dropped: BTreeMap::new(),
        processed_tokens: examples.iter().map(Example::processed_tokens).sum(),
        trained_tokens: examples.iter().map(Example::trained_tokens).sum(),
        lengths: LengthReport::default(),
        ignored_fields: BTreeMap::new(),
    };
    let mut writer = ExamplesWriter::in_memory();
    for example in &examples {
        let trained: Vec<bool> = example.weights.iter().map(|&weight| weight > 0.0).collect();
        writer.add(&example.ids, &trained, example.row, None).unwrap();
    }
    let (examples, order, general) = (writer.finish().unwrap(), RowOrder::Shuffled, name != "domain");
    Source { name: name.into(), examples, loss_weight: 1.0, order, general, report }
}

/// Short domain rows with few targets beside long replay rows trained whole, as in classification with prose.
fn domain_and_replay() -> Vec<Source> {
    vec![
        source("domain", 300, |r| (20 + r % 13, 2)),
        source("prose", 50, |r| (40 + 7 * (r % 9), 39)),
        source("chat", 80, |r| (30, 5 + r % 20)),
    ]
}

fn drawn(schedule: &Schedule, source: u16) -> Vec<u32> {
    let of_source = |r: &&ExampleRef| r.source == source;
    schedule.steps().iter().flatten().filter(of_source).map(|r| r.index).collect()
}

#[test]
fn shares_meet_the_plan_in_the_unit_it_names() {
    let sources = domain_and_replay();
    let shares = [0.7, 0.2, 0.1];
    for unit in [MixUnit::ProcessedTokens, MixUnit::TrainedTokens, MixUnit::Samples] {
        for steps in [5, 60] {
            let schedule = schedule(&sources, &shares, unit, 16, Extent::Steps(steps), 1).unwrap();
            assert_eq!(schedule.steps().len(), steps);
            assert!(schedule.steps().iter().all(|step| step.len() == 16));
            // Counted here from the rows themselves.
            let mut totals = [[0.0; 3]; 3];
            for r in schedule.steps().iter().flatten() {
                let e = sources[usize::from(r.source)].example(r.index as usize).unwrap();
                let amounts = [1, e.ids.len(), e.weights.iter().filter(|&&w| w > 0.0).count()];
                (0..3).for_each(|u| totals[u][usize::from(r.source)] += amounts[u] as f64);
            }
            let in_unit = match unit {
                MixUnit::Samples => 0,
                MixUnit::ProcessedTokens => 1,
                MixUnit::TrainedTokens => 2,
            };
            let total: f64 = totals[in_unit].iter().sum();
            // No source is ahead by more than its longest row, so none is behind by more than the others are ahead.
            let longest = [1.0, 96.0, 39.0][in_unit];
            for (s, share) in shares.iter().enumerate() {
                let off = (totals[in_unit][s] - share * total).abs();
                assert!(off <= 2.0 * longest, "{unit:?} after {steps} steps: source {s} is off by {off}");
                let report = &schedule.shares().sources[s];
                for (u, actual) in [report.actual.samples, report.actual.processed_tokens, report.actual.trained_tokens]
                    .into_iter()
                    .enumerate()
                {
                    assert!((actual - totals[u][s] / totals[u].iter().sum::<f64>()).abs() < 1e-12);
                }
                let planned = [report.planned.samples, report.planned.processed_tokens, report.planned.trained_tokens];
                assert!((planned[in_unit] - share).abs() < 1e-12);
                let drawn = [report.drawn.samples, report.drawn.processed_tokens, report.drawn.trained_tokens];
                (0..3).for_each(|u| assert_eq!(drawn[u] as f64, totals[u][s]));
            }
        }
    }
}

#[test]
fn planned_shares_in_the_other_units_are_what_a_long_run_draws() {
    let sources = domain_and_replay();
    let schedule = schedule(&sources, &[0.5, 0.3, 0.2], MixUnit::TrainedTokens, 32, Extent::Steps(2000), 9).unwrap();
    for source in &schedule.shares().sources {
        for (planned, actual) in [
            (source.planned.samples, source.actual.samples),
            (source.planned.processed_tokens, source.actual.processed_tokens),
            (source.planned.trained_tokens, source.actual.trained_tokens),
        ] {
            assert!((planned - actual).abs() < 0.002, "{}: planned {planned}, actual {actual}", source.name);
        }
    }
}

/// mlx-examples#843: rows that do not fill a batch were never trained.
#[test]
fn mlx_examples_843_every_row_is_seen_once_an_epoch_and_the_last_step_may_be_smaller() {
    let sources = [source("domain", 63, |_| (10, 3))];
    let one = schedule(&sources, &[1.0], MixUnit::Samples, 8, Extent::Epochs(1.0), 3).unwrap();
    assert_eq!(one.steps().len(), 8);
    assert_eq!(one.steps()[7].len(), 7);
    let mut seen = drawn(&one, 0);
    seen.sort_unstable();
    assert_eq!(seen, (0..63).collect::<Vec<_>>());

    let mixed = [sources[0].clone(), source("replay", 10, |r| (25 + r, 20))];
    for epochs in [1, 3] {
        let schedule =
            schedule(&mixed, &[0.8, 0.2], MixUnit::ProcessedTokens, 8, Extent::Epochs(f64::from(epochs)), 3).unwrap();
        let rows = drawn(&schedule, 0);
        assert_eq!(rows.len(), 63 * epochs as usize);
        for epoch in rows.chunks(63) {
            assert_eq!(epoch.iter().collect::<HashSet<_>>().len(), 63);
        }
        let (last, whole) = schedule.steps().split_last().unwrap();
        assert!(whole.iter().all(|step| step.len() == 8) && (1..=8).contains(&last.len()));
        assert_eq!(schedule.shares().sources[0].epochs, f64::from(epochs));
        assert_eq!(schedule.shares().sources[0].repeated, 63 * (epochs as usize - 1));
    }
    let half = schedule(&sources, &[1.0], MixUnit::Samples, 8, Extent::Epochs(0.5), 3).unwrap();
    assert_eq!(drawn(&half, 0).len(), 32);
}

/// transformers#40691: after a resume in the second epoch, the order of the first was replayed.
#[test]
fn transformers_40691_the_order_is_a_pure_function_of_seed_and_epoch() {
    let sources = domain_and_replay();
    let draw = |steps, seed| {
        schedule(&sources, &[0.7, 0.2, 0.1], MixUnit::ProcessedTokens, 16, Extent::Steps(steps), seed).unwrap()
    };
    // A longer run begins with the shorter one: going on is the same as never having stopped.
    assert_eq!(draw(90, 7).steps()[..40], *draw(40, 7).steps());
    assert_ne!(draw(40, 7).steps(), draw(40, 8).steps());
    let alone = schedule(&sources[..1], &[1.0], MixUnit::Samples, 100, Extent::Epochs(2.0), 7).unwrap();
    let rows = drawn(&alone, 0);
    assert_ne!(rows[..300], rows[300..]);
    // Another source beside it does not change the order within the first.
    let mixed = draw(90, 7);
    let of_domain = drawn(&mixed, 0);
    let common = of_domain.len().min(600);
    assert!(common > 300);
    assert_eq!(of_domain[..common], rows[..common]);
}

#[test]
fn mixes_that_cannot_be_drawn_are_refused() {
    let sources = domain_and_replay();
    let refused =
        |shares: &[f64], batch, extent| schedule(&sources, shares, MixUnit::Samples, batch, extent, 0).unwrap_err();
    let steps = Extent::Steps(1);
    assert_eq!(refused(&[1.0], 8, steps), MixError::Count { sources: 3, shares: 1 });
    assert_eq!(refused(&[1.5, -0.5, 0.0], 8, steps), MixError::Share { name: "domain".into(), share: 1.5 });
    assert!(matches!(refused(&[f64::NAN, 0.5, 0.5], 8, steps), MixError::Share { .. }));
    assert_eq!(refused(&[0.5, 0.25, 0.5], 8, steps), MixError::Sum(1.25));
    assert!(matches!(refused(&[1.0, 0.0, 0.0], 0, steps), MixError::NotPositive { field: "global batch size", .. }));
    assert!(matches!(refused(&[1.0, 0.0, 0.0], 8, Extent::Steps(0)), MixError::NotPositive { field: "steps", .. }));
    assert!(matches!(refused(&[1.0, 0.0, 0.0], 8, Extent::Epochs(0.0)), MixError::NotPositive { field: "epochs", .. }));
    assert_eq!(refused(&[0.0, 1.0, 0.0], 8, Extent::Epochs(1.0)), MixError::EpochsOfNothing("domain".into()));
    let empty = [source("empty", 0, |_| (2, 1))];
    let error = schedule(&empty, &[1.0], MixUnit::Samples, 8, steps, 0).unwrap_err();
    assert_eq!(error, MixError::NoRows("empty".into()));
    // A source without share is never drawn.
    let schedule = schedule(&sources, &[1.0, 0.0, 0.0], MixUnit::Samples, 8, Extent::Steps(9), 0).unwrap();
    assert_eq!((drawn(&schedule, 0).len(), drawn(&schedule, 1).len()), (72, 0));
    assert_eq!(schedule.shares().sources[1].actual.samples, 0.0);
}

/// trl#3067, trl#1230, trl#3526: packed rows saw each other, and the last token of one predicted the first of the next.
#[test]
fn trl_3067_packed_rows_do_not_touch() {
    let sources = domain_and_replay();
    let schedule = schedule(&sources, &[0.6, 0.3, 0.1], MixUnit::Samples, 24, Extent::Steps(20), 2).unwrap();
    for step in 0..20 {
        let owned = schedule.rows(step, &sources).unwrap();
        let rows: Vec<(u16, &Example)> = owned.iter().map(|(source, row)| (*source, row)).collect();
        for max_tokens in [1, 50, 128, 4096] {
            for batch in micro_batches(&rows, max_tokens) {
                assert!(batch.ids.len() <= max_tokens || batch.segments.len() == 1);
                assert_eq!(batch.positions.len(), batch.ids.len());
                let mut end = 0;
                for segment in &batch.segments {
                    assert_eq!(segment.start, end, "segments follow one another without a gap");
                    end = segment.end;
                    let positions: Vec<u32> = (0..segment.len() as u32).collect();
                    assert_eq!(batch.positions[segment.clone()], positions);
                    assert!(batch.ids[segment.clone()].windows(2).all(|pair| pair[1] == pair[0] + 1));
                }
                assert_eq!(end, batch.ids.len());
                for target in &batch.targets {
                    let row = target.row as usize;
                    assert_eq!(batch.ids[row + 1], target.token);
                    assert!(batch.segments.iter().any(|s| s.contains(&row) && s.contains(&(row + 1))));
                }
            }
        }
    }
}

/// trl#5075, trl#4632: packing lost tokens. Here: tokens in are tokens out, weights too, however the rows come.
#[test]
fn trl_5075_packing_loses_nothing_in_any_order() {
    let examples: Vec<Example> =
        (0..40).map(|r| example(r, 3 + (r * 7) % 29, 1 + r % 3, 0.25 * (1 + r % 4) as f32)).collect();
    let rows: Vec<(u16, &Example)> = examples.iter().map(|e| ((e.row % 3) as u16, e)).collect();
    let mut ids: Vec<u32> = examples.iter().flat_map(|e| e.ids.clone()).collect();
    ids.sort_unstable();
    // Weights are quarters, so their sums are exact in any order.
    let weight = |source: u16| -> f32 { rows.iter().filter(|(s, _)| *s == source).flat_map(|(_, e)| &e.weights).sum() };
    for seed in 0..5 {
        let order = Random::new(seed, "order").permutation(40);
        let shuffled: Vec<(u16, &Example)> = order.iter().map(|&i| rows[i]).collect();
        for max_tokens in [5, 31, 64, 10_000] {
            let batches = micro_batches(&shuffled, max_tokens);
            let mut packed: Vec<u32> = batches.iter().flat_map(|b| b.ids.clone()).collect();
            packed.sort_unstable();
            assert_eq!(packed, ids);
            assert_eq!(batches.iter().map(|b| b.segments.len()).sum::<usize>(), 40);
            for source in 0..3 {
                let targets = batches.iter().flat_map(|b| &b.targets).filter(|t| t.source == source);
                assert_eq!(targets.map(|t| t.weight).sum::<f32>(), weight(source));
            }
        }
    }
    // Close to the fewest batches possible: the bound of best fit decreasing.
    let fewest = ids.len().div_ceil(64);
    assert!(micro_batches(&rows, 64).len() <= fewest * 11 / 9 + 1);
    assert!(micro_batches(&[], 64).is_empty());
}

/// torchtune#2745: an incomplete last step leaked into the next epoch, or was divided by a whole one.
#[test]
fn torchtune_2745_the_last_step_is_smaller_and_counts_as_one() {
    let sources = vec![source("domain", 63, |r| (5 + r % 3, 2))];
    let made = |epochs: f64| schedule(&sources, &[1.0], MixUnit::Samples, 8, Extent::Epochs(epochs), 1).unwrap();
    let once = made(1.0);
    assert_eq!((once.steps().len(), once.steps()[7].len()), (8, 7));
    // Steps go on over the end of an epoch; the last of all is the smaller one.
    let twice = made(2.0);
    assert_eq!((twice.steps().len(), twice.steps()[7].len(), twice.steps()[15].len()), (16, 8, 6));
}

#[test]
fn the_best_rows_come_last_in_each_epoch_and_equal_ones_at_random() {
    let mut writer = ExamplesWriter::in_memory();
    let quality = |row: usize| (row * 7 % 5) as f32;
    for row in 0..50 {
        writer.add(&[1, 2, row as u32], &[false, true, true], row + 1, Some(quality(row))).unwrap();
    }
    let mut ordered = source("domain", 50, |_| (3, 2));
    (ordered.examples, ordered.order) = (writer.finish().unwrap(), RowOrder::BestLast);
    let sources = vec![ordered];
    let made = schedule(&sources, &[1.0], MixUnit::Samples, 10, Extent::Epochs(2.0), 4).unwrap();
    let drawn = drawn(&made, 0);
    let epochs: Vec<&[u32]> = drawn.chunks(50).collect();
    for epoch in &epochs {
        assert!(epoch.windows(2).all(|pair| quality(pair[0] as usize) <= quality(pair[1] as usize)));
        assert_eq!(epoch.iter().collect::<HashSet<_>>().len(), 50);
    }
    assert_ne!(epochs[0], epochs[1]);
    assert_eq!(made, schedule(&sources, &[1.0], MixUnit::Samples, 10, Extent::Epochs(2.0), 4).unwrap());
}

/// Several sources of the domain: their weights are met, the small one is walked more often, epochs count the rows of all.
#[test]
fn weighted_sources_of_the_domain_are_sampled_up_and_down() {
    let mut sources =
        vec![source("domain", 300, |_| (10, 2)), source("domain", 30, |_| (10, 2)), source("prose", 50, |_| (10, 9))];
    sources[1].name = "faq".into();
    let made = schedule(&sources, &[0.4, 0.4, 0.2], MixUnit::Samples, 10, Extent::Epochs(1.0), 5).unwrap();
    let rows: Vec<usize> = (0..3).map(|s| drawn(&made, s).len()).collect();
    assert_eq!(rows[0] + rows[1], 330);
    assert!(rows[0].abs_diff(rows[1]) <= 1 && rows[2].abs_diff(330 / 4) <= 1, "{rows:?}");
    let shares = &made.shares().sources;
    assert!((shares[1].epochs - rows[1] as f64 / 30.0).abs() < 1e-9 && shares[1].repeated == rows[1] - 30);
    assert!(shares[0].epochs < 1.0);
}
