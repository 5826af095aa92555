//! A random forest over the unit scales of a space, and the means of its trees over parts of it.

use temper_run::Random;

use super::{Group, Share};
use crate::space::Space;

/// Resamples of the trials; their deviation is known to about a sixth.
const BAGS: usize = 20;
/// Trees of each resample.
const TREES: usize = 16;
/// Trials of a leaf, at least.
const LEAF: usize = 2;
/// Values of a number at which its main effect is looked at; points of a simplex; points of the whole space.
const GRID: usize = 64;
const GROUP_GRID: usize = 256;
const POINTS: usize = 2048;
/// Trials of a bag, at most: what more of them would tell is less than the standard error.
const LARGEST_BAG: usize = 300;

/// Where a node sends a point.
enum Test {
    /// To the left below this coordinate.
    Below(f64),
    /// To the left with these choices, by index.
    Among(Vec<bool>),
}

impl Test {
    fn is_left(&self, coordinate: f64) -> bool {
        match self {
            Self::Below(cut) => coordinate < *cut,
            Self::Among(left) => left[coordinate as usize],
        }
    }
}

enum Node {
    Leaf(f64),
    Split { parameter: usize, test: Test, left: Box<Node>, right: Box<Node> },
}

/// The part of one parameter's values that reaches a node.
#[derive(Clone)]
enum Side {
    /// From and to, on the unit scale.
    Number(f64, f64),
    /// Whether it is among them, of each choice.
    Choices(Vec<bool>),
}

/// The value of a box of the space.
struct Leaf {
    value: f64,
    sides: Vec<Side>,
}

impl Side {
    fn halves(&self, test: &Test) -> (Self, Self) {
        match (self, test) {
            (Self::Number(from, to), Test::Below(cut)) => (Self::Number(*from, *cut), Self::Number(*cut, *to)),
            (Self::Choices(here), Test::Among(left)) => {
                let part = |side: bool| here.iter().zip(left).map(|(here, left)| *here && *left == side).collect();
                (Self::Choices(part(true)), Self::Choices(part(false)))
            }
            // A test is of its parameter's kind.
            _ => (self.clone(), self.clone()),
        }
    }

    /// Its share of all values.
    fn size(&self) -> f64 {
        match self {
            Self::Number(from, to) => to - from,
            Self::Choices(here) => here.iter().filter(|one| **one).count() as f64 / here.len() as f64,
        }
    }

    fn holds(&self, coordinate: f64) -> bool {
        match self {
            Self::Number(from, to) => (*from..*to).contains(&coordinate),
            Self::Choices(here) => here[coordinate as usize],
        }
    }
}

impl Node {
    fn predict(&self, place: &[f64]) -> f64 {
        match self {
            Self::Leaf(value) => *value,
            Self::Split { parameter, test, left, right } => {
                if test.is_left(place[*parameter]) {
                    left.predict(place)
                } else {
                    right.predict(place)
                }
            }
        }
    }

    /// The boxes of its leaves, which tile `sides`.
    fn leaves(&self, sides: Vec<Side>, leaves: &mut Vec<Leaf>) {
        match self {
            Self::Leaf(value) => leaves.push(Leaf { value: *value, sides }),
            Self::Split { parameter, test, left, right } => {
                let (first, second) = sides[*parameter].halves(test);
                let with = |side: Side| {
                    let mut sides = sides.clone();
                    sides[*parameter] = side;
                    sides
                };
                left.leaves(with(first), leaves);
                right.leaves(with(second), leaves);
            }
        }
    }
}

/// Adds to `sums` the mean of a tree over the space with the parameters of `group` at each of `places`.
fn add_means(leaves: &[Leaf], group: &Group, places: &[Vec<f64>], sums: &mut [f64]) {
    for leaf in leaves {
        let others = leaf.sides.iter().enumerate().filter(|(index, _)| !group.parameters.contains(index));
        let part = leaf.value * others.map(|(_, side)| side.size()).product::<f64>();
        for (place, sum) in places.iter().zip(&mut *sums) {
            if group.parameters.iter().all(|&parameter| leaf.sides[parameter].holds(place[parameter])) {
                *sum += part;
            }
        }
    }
}

/// The places of the trials of one tree, without gaps, and their values.
struct Fit<'a> {
    places: Vec<Vec<f64>>,
    values: Vec<f64>,
    choices: &'a [Option<usize>],
    random: Random,
    drawn: std::cell::Cell<u64>,
}

impl Fit<'_> {
    fn draw(&self) -> f64 {
        self.drawn.set(self.drawn.get() + 1);
        self.random.unit(self.drawn.get())
    }

    fn mean(&self, trials: &[usize]) -> f64 {
        trials.iter().map(|&trial| self.values[trial]).sum::<f64>() / trials.len() as f64
    }

    fn grow(&self, trials: &[usize]) -> Node {
        let mean = self.mean(trials);
        // Half of the parameters, another half at each node: else the strongest one takes all cuts that few trials allow.
        self.drawn.set(self.drawn.get() + 1);
        let order = self.random.within(self.drawn.get()).permutation(self.choices.len());
        let best = order
            .into_iter()
            .filter(|&parameter| self.differs(trials, parameter))
            .take(self.choices.len().div_ceil(2))
            .filter_map(|parameter| Some((parameter, self.cut(trials, parameter, mean)?)))
            .max_by(|(_, a), (_, b)| a.gain.total_cmp(&b.gain));
        let Some((parameter, Cut { test, gain })) = best else { return Node::Leaf(mean) };
        let (left, right): (Vec<usize>, Vec<usize>) =
            trials.iter().partition(|&&trial| test.is_left(self.places[trial][parameter]));
        if gain <= 0.0 || left.is_empty() || right.is_empty() {
            return Node::Leaf(mean);
        }
        let (left, right) = (Box::new(self.grow(&left)), Box::new(self.grow(&right)));
        Node::Split { parameter, test, left, right }
    }

    /// Whether its values differ.
    fn differs(&self, trials: &[usize], parameter: usize) -> bool {
        let at = |trial: &usize| self.places[*trial][parameter];
        trials.iter().any(|trial| at(trial) != at(&trials[0]))
    }

    /// The cut of one parameter that takes most of the squares away; none where it has one value.
    fn cut(&self, trials: &[usize], parameter: usize, mean: f64) -> Option<Cut> {
        let at = |trial: usize| self.places[trial][parameter];
        // Choices are put in the order of their means: the best two sets are then a cut of that order (Fisher, 1958).
        let ranks = self.choices[parameter].map(|choices| {
            let mut sums = vec![(0.0, 0usize); choices];
            for &trial in trials {
                let sum = &mut sums[at(trial) as usize];
                *sum = (sum.0 + self.values[trial], sum.1 + 1);
            }
            // What no trial here has goes to either side: by chance, so that trees differ.
            let rank = |(sum, count): (f64, usize)| match count {
                0 if self.draw() < 0.5 => f64::NEG_INFINITY,
                0 => f64::INFINITY,
                _ => sum / count as f64,
            };
            sums.into_iter().map(rank).collect::<Vec<f64>>()
        });
        let key = |trial: usize| ranks.as_ref().map_or(at(trial), |ranks| ranks[at(trial) as usize]);
        let mut order = trials.to_vec();
        order.sort_by(|&a, &b| key(a).total_cmp(&key(b)));
        let (mut sum, mut best) = (0.0, None::<(f64, f64, f64)>);
        for (index, pair) in order.windows(2).enumerate() {
            sum += self.values[pair[0]] - mean;
            let (left, right) = (index + 1, order.len() - index - 1);
            let (before, after) = (key(pair[0]), key(pair[1]));
            if left < LEAF || right < LEAF || before == after {
                continue;
            }
            let gain = sum * sum * (1.0 / left as f64 + 1.0 / right as f64);
            if best.is_none_or(|(most, ..)| gain > most) {
                best = Some((gain, before, after));
            }
        }
        let (gain, before, after) = best?;
        let test = match ranks {
            Some(ranks) => Test::Among(ranks.iter().map(|rank| *rank <= before).collect()),
            // Anywhere between the two: what the trees agree on is then no steeper than what was seen.
            None => Test::Below(after - self.draw() * (after - before)),
        };
        Some(Cut { test, gain })
    }
}

struct Cut {
    test: Test,
    gain: f64,
}

/// Trees over the whole space, bag by bag.
pub(super) struct Forest {
    /// Of each parameter, how many choices; none of a number.
    choices: Vec<Option<usize>>,
    trees: Vec<Node>,
    /// Of each bag, whether it has seen each trial.
    seen: Vec<Vec<bool>>,
}

impl Forest {
    /// `places` are coordinates, NaN where a parameter is not active.
    pub fn fit(space: &Space, places: &[Vec<f64>], values: &[f64]) -> Self {
        let choices: Vec<Option<usize>> = space.parameters().iter().map(|p| p.domain.choices()).collect();
        let count = values.len() as u64;
        let (mut trees, mut seen) = (Vec::new(), Vec::new());
        for bag in 0..BAGS as u64 {
            let random = Random::new(0, "search.importance").within(bag);
            let sample: Vec<usize> =
                (0..bag_size(values.len()) as u64).map(|index| random.below(index, count) as usize).collect();
            seen.push((0..values.len()).map(|trial| sample.contains(&trial)).collect());
            for tree in 0..TREES as u64 {
                let random = random.within(tree);
                let filled = |(index, &trial): (usize, &usize)| {
                    let place = places[trial].iter().enumerate();
                    let draws = random.within(index as u64);
                    place
                        .map(|(i, &at)| if at.is_nan() { even(choices[i], draws.unit(i as u64)) } else { at })
                        .collect()
                };
                let fit = Fit {
                    places: sample.iter().enumerate().map(filled).collect(),
                    values: sample.iter().map(|&trial| values[trial]).collect(),
                    choices: &choices,
                    random: random.within(count),
                    drawn: std::cell::Cell::new(0),
                };
                trees.push(fit.grow(&(0..sample.len()).collect::<Vec<_>>()));
            }
        }
        Self { choices, trees, seen }
    }

    /// 1 minus the squares that are left of trials by trees which have not seen them, over those by the mean.
    pub fn explained(&self, places: &[Vec<f64>], values: &[f64]) -> f64 {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let (mut left, mut all) = (0.0, 0.0);
        for (trial, (place, value)) in places.iter().zip(values).enumerate() {
            let bags = (0..BAGS).filter(|&bag| !self.seen[bag][trial]);
            let trees: Vec<&Node> = bags.flat_map(|bag| &self.trees[bag * TREES..(bag + 1) * TREES]).collect();
            // What is not active has no effect, wherever it is put: the middle.
            let place: Vec<f64> = place.iter().map(|&at| if at.is_nan() { 0.5 } else { at }).collect();
            if !trees.is_empty() {
                let guess = trees.iter().map(|tree| tree.predict(&place)).sum::<f64>() / trees.len() as f64;
                left += (value - guess).powi(2);
                all += (value - mean).powi(2);
            }
        }
        if all > 0.0 { 1.0 - left / all } else { 0.0 }
    }

    /// The main effects' shares with the deviation between bags.
    pub fn shares(&self, groups: &[Group], trials: usize) -> Vec<Share> {
        let points = self.evenly(POINTS);
        let predict = |tree: &Node| points.iter().map(|point| tree.predict(point)).collect::<Vec<f64>>();
        let whole = Spread::of(points.len(), |tree, sums| {
            sums.iter_mut().zip(predict(&self.trees[tree])).for_each(|(sum, value)| *sum += value);
        });
        let leaves: Vec<Vec<Leaf>> = self.trees.iter().map(|tree| self.leaves(tree)).collect();
        // A bag of fewer trials than there are deviates more than one of all would.
        let size = bag_size(trials) as f64 / trials as f64;
        let share = |group: &Group| {
            let places = self.grid(group);
            let main = Spread::of(places.len(), |tree, sums| add_means(&leaves[tree], group, &places, sums));
            let ratio = |part: f64, whole: f64| if whole > 0.0 { (part / whole).min(1.0) } else { 0.0 };
            let by_bag: Vec<f64> =
                main.bags.iter().zip(&whole.bags).map(|(part, whole)| ratio(*part, *whole)).collect();
            let error = (variance(&by_bag) * size * BAGS as f64 / (BAGS - 1) as f64).sqrt();
            Share { name: group.name.clone(), share: ratio(main.all, whole.all), error }
        };
        groups.iter().map(share).collect()
    }

    fn leaves(&self, tree: &Node) -> Vec<Leaf> {
        let side = |choices: &Option<usize>| match choices {
            Some(choices) => Side::Choices(vec![true; *choices]),
            None => Side::Number(0.0, 1.0),
        };
        let mut leaves = Vec::new();
        tree.leaves(self.choices.iter().map(side).collect(), &mut leaves);
        leaves
    }

    /// Places that fill the space evenly, more so than places by chance: a lattice by the powers of the root of
    /// x^(d+1) = x + 1 (Roberts, The Unreasonable Effectiveness of Quasirandom Sequences, 2018).
    fn evenly(&self, count: usize) -> Vec<Vec<f64>> {
        let dimensions = self.choices.len() as f64;
        let root = (0..64).fold(2.0f64, |root, _| (1.0 + root).powf(1.0 / (dimensions + 1.0)));
        let at = |point: usize, parameter: usize| {
            even(self.choices[parameter], (0.5 + (point + 1) as f64 * root.powi(-(parameter as i32) - 1)).fract())
        };
        (0..count).map(|point| (0..self.choices.len()).map(|parameter| at(point, parameter)).collect()).collect()
    }

    /// Places at which a group's main effect is looked at, each as likely as the others.
    fn grid(&self, group: &Group) -> Vec<Vec<f64>> {
        let [parameter] = group.parameters[..] else {
            return self.evenly(GROUP_GRID);
        };
        let values: Vec<f64> = match self.choices[parameter] {
            Some(choices) => (0..choices).map(|choice| choice as f64).collect(),
            None => (0..GRID).map(|cell| (cell as f64 + 0.5) / GRID as f64).collect(),
        };
        let at = |value: f64| {
            let mut place = vec![0.0; self.choices.len()];
            place[parameter] = value;
            place
        };
        values.into_iter().map(at).collect()
    }
}

/// The variance over places of the forest's mean, and of each bag's.
struct Spread {
    all: f64,
    bags: Vec<f64>,
}

impl Spread {
    /// `add` adds what a tree says of each place.
    fn of(places: usize, add: impl Fn(usize, &mut [f64])) -> Self {
        let mut all = vec![0.0; places];
        let of_bag = |bag: usize| {
            let mut sums = vec![0.0; places];
            (bag * TREES..(bag + 1) * TREES).for_each(|tree| add(tree, &mut sums));
            all.iter_mut().zip(&sums).for_each(|(all, sum)| *all += sum);
            variance(&sums) / (TREES * TREES) as f64
        };
        let bags = (0..BAGS).map(of_bag).collect();
        Self { all: variance(&all) / (TREES * TREES * BAGS * BAGS) as f64, bags }
    }
}

fn bag_size(trials: usize) -> usize {
    trials.min(LARGEST_BAG)
}

fn variance(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64
}

/// A coordinate from a number in [0, 1).
pub(super) fn even(choices: Option<usize>, unit: f64) -> f64 {
    choices.map_or(unit, |choices| (unit * choices as f64).floor())
}
