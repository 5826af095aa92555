//! What a completion is better than: the other completions of its prompt.

use serde::Serialize;

/// What the differences from a group's mean are divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RewardScale {
    /// The standard deviation of the group's own rewards: GRPO (Shao et al. 2024).
    Group,
    /// That of all rewards of the round (Hu et al. 2025, REINFORCE++; TRL's `scale_rewards: batch`).
    Batch,
    /// Nothing: Dr. GRPO (Liu et al. 2025), which shows that the division weighs easy and hard prompts most.
    None,
}

/// What a reward is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RewardBaseline {
    /// The mean of its group, itself among them: GRPO.
    GroupMean,
    /// The mean of the others of its group: RLOO (Ahmadian et al. 2024). The same but for a factor n / (n - 1).
    LeaveOneOut,
}

/// Added to a standard deviation before it divides; as in TRL.
const EPSILON: f64 = 1e-4;

/// The advantage of each reward; none where there was no reward, which is left out of mean and deviation. A group whose rewards
/// are all the same, or that has one only, teaches nothing: its advantages are exactly 0. Deviations are those of a sample
/// (n - 1), as in TRL.
pub fn advantages(groups: &[Vec<Option<f64>>], baseline: RewardBaseline, scale: RewardScale) -> Vec<Vec<Option<f64>>> {
    let all: Vec<f64> = groups.iter().flatten().flatten().copied().collect();
    let of_batch = deviation(&all);
    let of_group = |group: &Vec<Option<f64>>| -> Vec<Option<f64>> {
        let known: Vec<f64> = group.iter().flatten().copied().collect();
        if is_stuck(&known) {
            return group.iter().map(|reward| reward.map(|_| 0.0)).collect();
        }
        let n = known.len() as f64;
        let mean = known.iter().sum::<f64>() / n;
        let factor = if baseline == RewardBaseline::LeaveOneOut { n / (n - 1.0) } else { 1.0 };
        let divisor = match scale {
            RewardScale::Group => deviation(&known) + EPSILON,
            RewardScale::Batch => of_batch + EPSILON,
            RewardScale::None => 1.0,
        };
        group.iter().map(|reward| reward.map(|reward| factor * (reward - mean) / divisor)).collect()
    };
    groups.iter().map(of_group).collect()
}

/// Differences of rewards that are rounding: of weighted sums of the same parts.
const SAME: f64 = 1e-9;

/// Whether rewards of a group teach nothing.
pub fn is_stuck(rewards: &[f64]) -> bool {
    let (low, high) = rewards.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &r| (l.min(r), h.max(r)));
    rewards.len() < 2 || high - low <= SAME
}

/// Standard deviation of a sample; 0 of fewer than two.
fn deviation(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(rewards: &[f64]) -> Vec<Option<f64>> {
        rewards.iter().copied().map(Some).collect()
    }

    #[test]
    fn by_hand() {
        // Mean 0.25, sample deviation 0.5.
        let one = vec![group(&[1.0, 0.0, 0.0, 0.0])];
        let grpo = advantages(&one, RewardBaseline::GroupMean, RewardScale::Group);
        assert!(
            (grpo[0][0].unwrap() - 0.75 / 0.5001).abs() < 1e-12 && (grpo[0][1].unwrap() + 0.25 / 0.5001).abs() < 1e-12
        );
        let plain = advantages(&one, RewardBaseline::GroupMean, RewardScale::None);
        assert_eq!(plain[0], group(&[0.75, -0.25, -0.25, -0.25]));
        let others = advantages(&one, RewardBaseline::LeaveOneOut, RewardScale::None);
        assert_eq!(others[0][0], Some(1.0));
        assert!((others[0][1].unwrap() + 1.0 / 3.0).abs() < 1e-12);
        // All rewards: 1, 0, 0, 0, 1, 1, 1, 0; deviation sqrt(2 / 7).
        let two = vec![group(&[1.0, 0.0, 0.0, 0.0]), group(&[1.0, 1.0, 1.0, 0.0])];
        let batch = advantages(&two, RewardBaseline::GroupMean, RewardScale::Batch);
        assert!((batch[1][0].unwrap() - 0.25 / ((2.0_f64 / 7.0).sqrt() + 1e-4)).abs() < 1e-12);
    }

    #[test]
    fn near_zero_variance_groups_are_exactly_zero() {
        // The mean of three times 0.1 is not 0.1 in binary; sums of weighted parts differ in the last digit.
        for rewards in [[0.1; 3], [0.1 + 0.2, 0.3, 0.3], [-1e6; 3]] {
            let found = advantages(&[group(&rewards)], RewardBaseline::GroupMean, RewardScale::Group);
            assert_eq!(found[0], group(&[0.0; 3]));
        }
    }

    #[test]
    fn abstained_rewards_are_left_out_of_mean_and_deviation() {
        let with = advantages(&[vec![Some(1.0), None, Some(0.0)]], RewardBaseline::GroupMean, RewardScale::Group);
        let without = advantages(&[group(&[1.0, 0.0])], RewardBaseline::GroupMean, RewardScale::Group);
        assert_eq!([with[0][0], with[0][2]], [without[0][0], without[0][1]]);
        assert_eq!(with[0][1], None);
        let alone = advantages(&[vec![Some(1.0), None]], RewardBaseline::GroupMean, RewardScale::Group);
        assert_eq!(alone[0], [Some(0.0), None]);
    }
}
