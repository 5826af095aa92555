//! From logits to the next token.

use temper_run::Random;

/// How the next token is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the likeliest token.
    pub temperature: f32,
    /// Keeps the k likeliest tokens; 0 keeps all.
    pub top_k: usize,
    /// Keeps the likeliest tokens until their probabilities reach this sum (Holtzman et al., 2020); 1 keeps all.
    pub top_p: f32,
    /// Every draw is a function of (seed, the request's key, index of the token): it does not depend on the batch.
    pub seed: u64,
}

impl Sampling {
    /// The likeliest token each time.
    pub const GREEDY: Self = Self { temperature: 0.0, top_k: 0, top_p: 1.0, seed: 0 };

    /// The `index`-th token of the request with this key. Order: temperature, top-k, top-p, as in HF transformers.
    pub fn draw(&self, logits: &[f32], key: u64, index: usize) -> u32 {
        let likelier = |&a: &u32, &b: &u32| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b));
        let mut tokens: Vec<u32> = (0..logits.len() as u32).collect();
        if self.temperature <= 0.0 {
            return tokens.into_iter().min_by(likelier).unwrap_or(0);
        }
        if self.top_k > 0 && self.top_k < tokens.len() {
            tokens.select_nth_unstable_by(self.top_k - 1, likelier);
            tokens.truncate(self.top_k);
        }
        // Only the cut of top-p needs an order: sorting a whole vocabulary takes longer than a small model's step.
        if self.top_p < 1.0 {
            tokens.sort_unstable_by(likelier);
        }
        let top = tokens.iter().map(|&t| logits[t as usize]).fold(f32::NEG_INFINITY, f32::max);
        let weight = |&t: &u32| (f64::from(logits[t as usize] - top) / f64::from(self.temperature)).exp();
        let weights: Vec<f64> = tokens.iter().map(weight).collect();
        let total: f64 = weights.iter().sum();
        let mut kept = 0.0;
        let within = weights.iter().take_while(|&&w| {
            let take = kept < f64::from(self.top_p) * total;
            kept += if take { w } else { 0.0 };
            take
        });
        let count = within.count().max(1);
        let kept: f64 = weights[..count].iter().sum();
        let mut left = Random::new(self.seed, "sample").within(key).unit(index as u64) * kept;
        for (&token, &weight) in tokens[..count].iter().zip(&weights) {
            left -= weight;
            if left < 0.0 {
                return token;
            }
        }
        tokens[count - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 4] = [1.0, 3.0, 2.0, -1.0];

    fn shares(sampling: Sampling) -> [f64; 4] {
        let mut counts = [0.0; 4];
        let draws = 20_000;
        for index in 0..draws {
            counts[sampling.draw(&LOGITS, 0, index) as usize] += 1.0 / draws as f64;
        }
        counts
    }

    fn softmax(kept: &[usize], temperature: f64) -> [f64; 4] {
        let total: f64 = kept.iter().map(|&k| (f64::from(LOGITS[k]) / temperature).exp()).sum();
        let mut p = [0.0; 4];
        kept.iter().for_each(|&k| p[k] = (f64::from(LOGITS[k]) / temperature).exp() / total);
        p
    }

    #[test]
    fn draws_follow_the_kept_probabilities() {
        let all = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, seed: 7 };
        let cases = [
            (all, softmax(&[0, 1, 2, 3], 1.0)),
            (Sampling { temperature: 2.0, ..all }, softmax(&[0, 1, 2, 3], 2.0)),
            (Sampling { top_k: 2, ..all }, softmax(&[1, 2], 1.0)),
            // The likeliest has 0.66 of all, the second brings it to 0.90: top-p 0.8 keeps both.
            (Sampling { top_p: 0.8, ..all }, softmax(&[1, 2], 1.0)),
            (Sampling { top_p: 1e-6, ..all }, softmax(&[1], 1.0)),
        ];
        for (sampling, expected) in cases {
            for (got, expected) in shares(sampling).iter().zip(expected) {
                assert!((got - expected).abs() < 0.012, "{sampling:?}: {got} against {expected}");
            }
        }
    }

    #[test]
    fn greedy_takes_the_likeliest_and_the_lowest_id_among_equals() {
        assert_eq!(Sampling::GREEDY.draw(&LOGITS, 0, 0), 1);
        assert_eq!(Sampling::GREEDY.draw(&[0.0, 2.0, 2.0], 0, 0), 1);
    }

    #[test]
    fn a_draw_depends_on_seed_request_and_index_only() {
        let s = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, seed: 1 };
        let run = |s: Sampling, request| (0..50).map(|i| s.draw(&LOGITS, request, i)).collect::<Vec<_>>();
        assert_eq!(run(s, 3), run(s, 3));
        assert_ne!(run(s, 3), run(s, 4));
        assert_ne!(run(s, 3), run(Sampling { seed: 2, ..s }, 3));
    }
}
