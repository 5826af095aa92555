//! What prompts have in common: a tree of runs of tokens, each computed once.

/// A shared run of fewer tokens is not worth a node of its own.
const LEAST: usize = 16;

/// A run of tokens that at least two prompts go through, after their common beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shared {
    /// A prompt that has it, and where it begins and ends there.
    pub prompt: usize,
    pub start: usize,
    pub end: usize,
    /// The run before it.
    pub parent: Option<usize>,
    /// Prompts that go through it.
    pub users: usize,
}

/// Prompts as paths through a tree of shared runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Prefixes {
    pub shared: Vec<Shared>,
    /// The last shared run of each prompt; the rest of the prompt, at least its last token, is its own.
    pub of: Vec<Option<usize>>,
    /// The prompts in an order in which those that share come one after the other, the first ones first.
    pub order: Vec<usize>,
}

impl Prefixes {
    pub fn of(prompts: &[Vec<u32>]) -> Self {
        let mut tree = Self { of: vec![None; prompts.len()], ..Self::default() };
        // The last token of a prompt is never shared: its hidden state gives the first new token.
        let shareable = |p: usize| &prompts[p][..prompts[p].len().saturating_sub(1)];
        let mut sorted: Vec<usize> = (0..prompts.len()).collect();
        sorted.sort_by(|&a, &b| shareable(a).cmp(shareable(b)).then(a.cmp(&b)));
        tree.order = tree.grow(&sorted, 0, None, &shareable);
        tree
    }

    /// Tokens of a prompt that are shared.
    pub fn shared_tokens(&self, prompt: usize) -> usize {
        self.of[prompt].map_or(0, |node| self.shared[node].end)
    }

    /// The shared runs of a prompt, the first one first.
    pub fn path(&self, prompt: usize) -> Vec<usize> {
        let mut path: Vec<usize> = std::iter::successors(self.of[prompt], |&node| self.shared[node].parent).collect();
        path.reverse();
        path
    }

    /// Makes nodes of what the sorted prompts, alike in their first `depth` tokens, share beyond those.
    fn grow<'p>(
        &mut self,
        sorted: &[usize],
        depth: usize,
        parent: Option<usize>,
        shareable: &dyn Fn(usize) -> &'p [u32],
    ) -> Vec<usize> {
        let alike = |a: usize, b: usize| shareable(a).iter().zip(shareable(b)).take_while(|(a, b)| a == b).count();
        let mut groups: Vec<Vec<usize>> = Vec::new();
        let mut rest = sorted;
        while let [first, others @ ..] = rest {
            let count = 1 + others.iter().take_while(|&&p| alike(*first, p) >= depth + LEAST).count();
            let (group, after) = rest.split_at(count);
            rest = after;
            if let ([first, .., last], true) = (group, count > 1) {
                let end = alike(*first, *last);
                self.shared.push(Shared { prompt: *first, start: depth, end, parent, users: count });
                groups.push(self.grow(group, end, Some(self.shared.len() - 1), shareable));
            } else {
                self.of[*first] = parent;
                groups.push(vec![*first]);
            }
        }
        groups.sort_by_key(|group| group.iter().min().copied());
        groups.concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(parts: &[(u32, usize)]) -> Vec<u32> {
        parts.iter().flat_map(|&(token, count)| vec![token; count]).collect()
    }

    #[test]
    fn prompts_share_what_they_begin_with_and_keep_their_last_token() {
        let prompts = [
            prompt(&[(1, 20), (2, 20), (5, 1)]),
            prompt(&[(9, 30)]),
            prompt(&[(1, 20), (2, 20), (3, 40), (4, 2)]),
            prompt(&[(1, 20), (2, 20), (3, 40), (6, 1)]),
            prompt(&[(1, 20), (7, 3)]),
            prompt(&[(9, 30)]),
            prompt(&[(1, 8)]),
        ];
        let tree = Prefixes::of(&prompts);
        let run = |prompt: usize| {
            let path = tree.path(prompt);
            path.iter().map(|&n| (tree.shared[n].start, tree.shared[n].end, tree.shared[n].users)).collect::<Vec<_>>()
        };
        assert_eq!(run(0), [(0, 20, 4), (20, 40, 3)]);
        assert_eq!(run(2), [(0, 20, 4), (20, 40, 3), (40, 80, 2)]);
        assert_eq!(run(3), run(2));
        assert_eq!(run(4), [(0, 20, 4)]);
        assert_eq!(run(1), [(0, 29, 2)]);
        assert_eq!(run(5), run(1));
        assert_eq!(run(6), []);
        assert_eq!((tree.shared_tokens(1), tree.shared_tokens(6)), (29, 0));
        assert_eq!(tree.order, [0, 2, 3, 4, 1, 5, 6]);
        for node in &tree.shared {
            assert!(node.end - node.start >= LEAST);
        }
    }
}
