//! What "95 %" promises: over many simulated evaluations the interval contains the truth in 92 to 98 of 100.
//!
//! With 1000 evaluations the standard deviation of the measured coverage is 0.7 points, so the limits are three to four
//! of them away from 95 %. All draws are seeded: the numbers are the same on every run.

use temper_eval::classify::Outcome;
use temper_eval::stats::{Bootstrap, DocumentLoss, Interval};

const EVALUATIONS: u64 = 1000;

/// Uniform draws for the simulations (xorshift64*, another generator than the bootstrap's own).
struct Simulation(u64);

impl Simulation {
    fn uniform(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Box and Muller.
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    fn bernoulli(&mut self, probability: f64) -> f64 {
        f64::from(self.uniform() < probability)
    }
}

/// Asserts that the intervals of many simulated evaluations cover `truth` as often as they should.
fn assert_covers(truth: f64, mut evaluate: impl FnMut(&mut Simulation, &Bootstrap) -> Interval) {
    let mut simulation = Simulation(0x5eed);
    let mut covered = 0;
    for seed in 0..EVALUATIONS {
        let interval = evaluate(&mut simulation, &Bootstrap { resamples: 500, seed });
        covered += u64::from(interval.low <= truth && truth <= interval.high);
    }
    let share = 100.0 * covered as f64 / EVALUATIONS as f64;
    assert!((92.0..=98.0).contains(&share), "the 95 % interval covered the truth in {share:.1} % of the evaluations");
}

#[test]
fn mean_of_normal_scores() {
    assert_covers(3.0, |simulation, bootstrap| {
        let values: Vec<f64> = (0..60).map(|_| 3.0 + 2.0 * simulation.normal()).collect();
        bootstrap.mean(&values, None).unwrap()
    });
}

/// The plain percentile interval covers about 90 % here: this is what the expansion is for.
#[test]
fn mean_of_few_normal_scores() {
    assert_covers(3.0, |simulation, bootstrap| {
        let values: Vec<f64> = (0..10).map(|_| 3.0 + 2.0 * simulation.normal()).collect();
        bootstrap.mean(&values, None).unwrap()
    });
}

#[test]
fn accuracy() {
    assert_covers(0.7, |simulation, bootstrap| {
        let right: Vec<f64> = (0..100).map(|_| simulation.bernoulli(0.7)).collect();
        bootstrap.mean(&right, None).unwrap()
    });
}

/// One answer in a hundred is wrong, so a third of the evaluations of 100 items see none that is.
#[test]
fn accuracy_close_to_one_errs_to_the_safe_side() {
    let mut simulation = Simulation(0x5eed);
    let mut missed = 0;
    for seed in 0..EVALUATIONS {
        let right: Vec<f64> = (0..100).map(|_| simulation.bernoulli(0.99)).collect();
        let interval = Bootstrap { resamples: 500, seed }.mean(&right, None).unwrap();
        missed += u64::from(interval.low > 0.99);
    }
    assert_eq!(missed, 0, "claimed more than the truth in {missed} of {EVALUATIONS} evaluations");
}

/// Base right 60 %; the tuned model answers as the base does, but for a tenth of the items each way.
#[test]
fn paired_difference_of_accuracies() {
    assert_covers(0.6 * -0.10 + 0.4 * 0.05, |simulation, bootstrap| {
        let (mut base, mut tuned) = (Vec::new(), Vec::new());
        for _ in 0..200 {
            let before = simulation.bernoulli(0.6);
            let flip = if before == 1.0 { simulation.bernoulli(0.10) } else { simulation.bernoulli(0.05) };
            base.push(before);
            tuned.push((before - flip).abs());
        }
        bootstrap.paired_difference(&base, &tuned, None).unwrap()
    });
}

/// Forty sources of five items that agree with each other: resampling items would cover under two thirds.
#[test]
fn paired_difference_of_clustered_items() {
    let clusters: Vec<u32> = (0..200).map(|item| item / 5).collect();
    assert_covers(0.5, |simulation, bootstrap| {
        let (mut base, mut tuned) = (Vec::new(), Vec::new());
        for _ in 0..40 {
            let of_source = simulation.normal();
            for _ in 0..5 {
                let before = simulation.normal();
                base.push(before);
                tuned.push(before + 0.5 + of_source + 0.3 * simulation.normal());
            }
        }
        bootstrap.paired_difference(&base, &tuned, Some(&clusters)).unwrap()
    });
}

/// Documents of 50 to 450 tokens whose loss rises by 0.1 nats a token, more in some than in others.
#[test]
fn loss_difference_of_documents() {
    assert_covers(0.1, |simulation, bootstrap| {
        let (mut base, mut tuned) = (Vec::new(), Vec::new());
        for _ in 0..80 {
            let tokens = 50 + (400.0 * simulation.uniform()) as u64;
            let per_token = 3.0 + 0.5 * simulation.normal();
            let rise = 0.1 + 0.1 * simulation.normal();
            let document = |per_token: f64| DocumentLoss { nats: per_token * tokens as f64, tokens, bytes: 4 * tokens };
            base.push(document(per_token));
            tuned.push(document(per_token + rise));
        }
        bootstrap.loss_difference(&base, &tuned, None).unwrap().nats_per_token
    });
}

/// Five labels of equal frequency; the base is right in 30 %, the tuned model in 70 %, errors are spread evenly. Then
/// each label's precision and recall, and so its F1, tend to that share.
#[test]
fn difference_of_macro_f1() {
    assert_covers(0.4, |simulation, bootstrap| {
        let mut answer = |truth: u32, right: f64| {
            let wrong = (truth + 1 + (4.0 * simulation.uniform()) as u32) % 5;
            let predicted = if simulation.bernoulli(right) == 1.0 { truth } else { wrong };
            Outcome { truth, predicted: Some(predicted) }
        };
        let base: Vec<Outcome> = (0..150).map(|item| answer(item % 5, 0.3)).collect();
        let tuned: Vec<Outcome> = (0..150).map(|item| answer(item % 5, 0.7)).collect();
        bootstrap.macro_f1_difference(&base, &tuned, 5, None).unwrap()
    });
}
