//! Labels as a trie over their tokens: every label of a set is scored in one pass over their shared prefixes.
//!
//! A label's score is the log-probability that the model writes exactly this label and then ends its turn: the sum over
//! the label's tokens, the end-of-turn token included. With that token the labels are disjoint outcomes, even where one
//! label begins with another, so their probabilities may be compared and normalised without any correction for length.
//!
//! ```text
//!               edge 0          edge 1
//! prompt's last ------> node 0 -------> (end)         label "skin":      edges 0, 1
//!  position   \                \ edge 2          edge 3
//!              \                `-----> node 1 ------> (end)    "skin disease": 0, 2, 3
//!               \ edge 4          edge 5
//!                `-----> node 2 -------> (end)        label "eye":       edges 4, 5
//! ```
//! An edge is one question to the model: "how likely is `token` after `from`?", answered by the hidden state of `from`.
//! A node is one query row, whose own token is attended to together with the prompt and the node's ancestors. A
//! label's last token is never attended from, so it is an edge without a node.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// A token that at least one label continues from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// The token that this row feeds.
    pub token: u32,
    /// The node before it; `None` after the prompt. Always a smaller index than the node's own.
    pub parent: Option<u32>,
    /// Tokens between it and the prompt: its position is the prompt's length plus `depth`.
    pub depth: u32,
}

/// One log-probability to read: of `token`, given the prompt and the tokens up to `from`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Edge {
    /// The node whose hidden state predicts `token`; `None` is the prompt's last position.
    pub from: Option<u32>,
    /// The predicted token.
    pub token: u32,
}

/// The layout: see the module's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trie {
    /// Query rows, parents before children.
    pub nodes: Vec<Node>,
    /// Log-probabilities to read, each (node, token) once.
    pub edges: Vec<Edge>,
    /// Each label's path: indices into `edges`, in the order of its tokens.
    pub labels: Vec<Vec<u32>>,
}

/// What the model thinks of a set of labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// The likeliest label; of equals the first.
    pub best: u32,
    /// Probability of each label given that the answer is one of them. Sums to 1.
    pub posterior: Vec<f64>,
}

/// Why a trie was not built or not scored. Labels are counted from 0.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TrieError {
    /// No labels.
    #[error("a classification needs labels and there are none")]
    NoLabels,
    /// A label without tokens.
    #[error("label {label} has no tokens: it needs at least its end-of-turn token")]
    EmptyLabel {
        /// Its index.
        label: usize,
    },
    /// Two labels of the same tokens.
    #[error("labels {first} and {second} have the same tokens, so no answer can tell them apart")]
    Duplicate {
        /// The first.
        first: usize,
        /// The other.
        second: usize,
    },
    /// A label that ends where another goes on.
    #[error("label {short} ends in the middle of label {long}\nhint: every label must end in the end-of-turn token")]
    NotEnded {
        /// The label that ends.
        short: usize,
        /// The label that goes on.
        long: usize,
    },
    /// A wrong number of log-probabilities.
    #[error("expected {expected} log-probabilities, got {got}")]
    Length {
        /// Edges, or labels.
        expected: usize,
        /// Given.
        got: usize,
    },
    /// NaN, or no label with a probability above zero.
    #[error("log-probability {index} is {value}\nhint: a model that diverged gives NaN")]
    NotALogprob {
        /// Index of the edge or label.
        index: usize,
        /// The value.
        value: f64,
    },
}

impl Trie {
    /// Lays out labels given as tokens, each with its end-of-turn token.
    pub fn new(labels: &[Vec<u32>]) -> Result<Trie, TrieError> {
        if labels.is_empty() {
            return Err(TrieError::NoLabels);
        }
        let mut trie = Trie { nodes: Vec::new(), edges: Vec::new(), labels: Vec::with_capacity(labels.len()) };
        let mut edge_of: HashMap<Edge, u32> = HashMap::new();
        // What each edge leads to: the label that ends with it, or the node that goes on and the label that made it.
        let mut ends: Vec<Option<usize>> = Vec::new();
        let mut nodes: Vec<Option<(u32, usize)>> = Vec::new();
        for (label, tokens) in labels.iter().enumerate() {
            let Some(last) = tokens.len().checked_sub(1) else {
                return Err(TrieError::EmptyLabel { label });
            };
            let mut path = Vec::with_capacity(tokens.len());
            let mut from = None;
            for (depth, &token) in tokens.iter().enumerate() {
                let edge = *edge_of.entry(Edge { from, token }).or_insert_with(|| {
                    trie.edges.push(Edge { from, token });
                    ends.push(None);
                    nodes.push(None);
                    trie.edges.len() as u32 - 1
                });
                path.push(edge);
                let edge = edge as usize;
                if depth == last {
                    if let Some(first) = ends[edge] {
                        return Err(TrieError::Duplicate { first, second: label });
                    }
                    if let Some((_, long)) = nodes[edge] {
                        return Err(TrieError::NotEnded { short: label, long });
                    }
                    ends[edge] = Some(label);
                } else {
                    if let Some(short) = ends[edge] {
                        return Err(TrieError::NotEnded { short, long: label });
                    }
                    let (node, _) = *nodes[edge].get_or_insert_with(|| {
                        trie.nodes.push(Node { token, parent: from, depth: depth as u32 });
                        (trie.nodes.len() as u32 - 1, label)
                    });
                    from = Some(node);
                }
            }
            trie.labels.push(path);
        }
        Ok(trie)
    }

    /// Log-probability of each label from that of each edge, in nats.
    pub fn label_logprobs(&self, edge_logprobs: &[f32]) -> Result<Vec<f64>, TrieError> {
        if edge_logprobs.len() != self.edges.len() {
            return Err(TrieError::Length { expected: self.edges.len(), got: edge_logprobs.len() });
        }
        if let Some(index) = edge_logprobs.iter().position(|value| value.is_nan()) {
            return Err(TrieError::NotALogprob { index, value: f64::NAN });
        }
        let sum = |path: &Vec<u32>| path.iter().map(|&edge| f64::from(edge_logprobs[edge as usize])).sum();
        Ok(self.labels.iter().map(sum).collect())
    }

    /// The likeliest label and the posterior over the labels (a softmax of their log-probabilities).
    pub fn choose(&self, label_logprobs: &[f64]) -> Result<Choice, TrieError> {
        if label_logprobs.len() != self.labels.len() {
            return Err(TrieError::Length { expected: self.labels.len(), got: label_logprobs.len() });
        }
        let mut best = 0;
        for (label, &value) in label_logprobs.iter().enumerate() {
            if value.is_nan() || value == f64::INFINITY {
                return Err(TrieError::NotALogprob { index: label, value });
            }
            if value > label_logprobs[best] {
                best = label;
            }
        }
        let most = label_logprobs[best];
        if most == f64::NEG_INFINITY {
            return Err(TrieError::NotALogprob { index: best, value: most });
        }
        let weights: Vec<f64> = label_logprobs.iter().map(|value| (value - most).exp()).collect();
        let total: f64 = weights.iter().sum();
        Ok(Choice { best: best as u32, posterior: weights.iter().map(|weight| weight / total).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: u32 = 2;

    /// The picture of the module's head: "skin", "skin disease", "eye".
    fn picture() -> Trie {
        Trie::new(&[vec![10, END], vec![10, 11, END], vec![12, END]]).unwrap()
    }

    #[test]
    fn layout_of_the_picture() {
        let trie = picture();
        assert_eq!(
            trie.nodes,
            [
                Node { token: 10, parent: None, depth: 0 },
                Node { token: 11, parent: Some(0), depth: 1 },
                Node { token: 12, parent: None, depth: 0 },
            ]
        );
        let edge = |from, token| Edge { from, token };
        assert_eq!(
            trie.edges,
            [
                edge(None, 10),
                edge(Some(0), END),
                edge(Some(0), 11),
                edge(Some(1), END),
                edge(None, 12),
                edge(Some(2), END)
            ]
        );
        assert_eq!(trie.labels, [vec![0, 1], vec![0, 2, 3], vec![4, 5]]);
    }

    /// Whatever the labels, walking a label's edges spells its tokens, and each node stands behind its parent.
    #[test]
    fn paths_spell_their_labels() {
        let labels: Vec<Vec<u32>> = (0..64_u32)
            .map(|i| [100 + i % 4, 200 + i / 4 % 4, 300 + i / 16].into_iter().take(3).chain([END]).collect())
            .collect();
        let trie = Trie::new(&labels).unwrap();
        assert_eq!((trie.nodes.len(), trie.edges.len()), (4 + 16 + 64, 4 + 16 + 64 + 64));
        for (path, tokens) in trie.labels.iter().zip(&labels) {
            let spelt: Vec<u32> = path.iter().map(|&edge| trie.edges[edge as usize].token).collect();
            assert_eq!(&spelt, tokens);
            for pair in path.windows(2) {
                let (edge, next) = (trie.edges[pair[0] as usize], trie.edges[pair[1] as usize]);
                let node = trie.nodes[next.from.unwrap() as usize];
                assert_eq!((node.token, node.parent), (edge.token, edge.from));
            }
        }
        for (index, node) in trie.nodes.iter().enumerate() {
            assert!(node.parent.is_none_or(|parent| (parent as usize) < index));
            assert_eq!(node.depth, node.parent.map_or(0, |parent| trie.nodes[parent as usize].depth + 1));
        }
    }

    #[test]
    fn a_label_of_the_end_token_alone_needs_no_node() {
        let trie = Trie::new(&[vec![END]]).unwrap();
        assert!(trie.nodes.is_empty());
        assert_eq!(trie.edges, [Edge { from: None, token: END }]);
    }

    #[test]
    fn labels_that_cannot_be_told_apart_are_refused() {
        assert_eq!(Trie::new(&[]), Err(TrieError::NoLabels));
        assert_eq!(Trie::new(&[vec![1, END], vec![]]), Err(TrieError::EmptyLabel { label: 1 }));
        assert_eq!(
            Trie::new(&[vec![1, END], vec![3, END], vec![1, END]]),
            Err(TrieError::Duplicate { first: 0, second: 2 })
        );
        assert_eq!(Trie::new(&[vec![1], vec![1, 5]]), Err(TrieError::NotEnded { short: 0, long: 1 }));
        assert_eq!(Trie::new(&[vec![1, 5], vec![1]]), Err(TrieError::NotEnded { short: 1, long: 0 }));
    }

    #[test]
    fn scores_are_products_along_the_path() {
        let trie = picture();
        let logprobs = [0.5_f32.ln(), 0.2_f32.ln(), 0.8_f32.ln(), 0.5_f32.ln(), 0.25_f32.ln(), 0.6_f32.ln()];
        let labels = trie.label_logprobs(&logprobs).unwrap();
        for (got, expected) in labels.iter().zip([0.1_f64, 0.2, 0.15]) {
            assert!((got.exp() - expected).abs() < 1e-6, "{got} is not ln {expected}");
        }
        let choice = trie.choose(&labels).unwrap();
        assert_eq!(choice.best, 1);
        for (got, expected) in choice.posterior.iter().zip([0.1 / 0.45, 0.2 / 0.45, 0.15 / 0.45]) {
            assert!((got - expected).abs() < 1e-6);
        }
    }

    #[test]
    fn posterior_survives_tiny_probabilities_and_ties_go_to_the_first() {
        let trie = picture();
        let choice = trie.choose(&[-1000.0, -1000.0, f64::NEG_INFINITY]).unwrap();
        assert_eq!(choice, Choice { best: 0, posterior: vec![0.5, 0.5, 0.0] });
    }

    #[test]
    fn nan_and_wrong_lengths_are_refused() {
        let trie = picture();
        assert_eq!(trie.label_logprobs(&[0.0; 5]), Err(TrieError::Length { expected: 6, got: 5 }));
        assert!(matches!(
            trie.label_logprobs(&[0.0, f32::NAN, 0.0, 0.0, 0.0, 0.0]),
            Err(TrieError::NotALogprob { index: 1, .. })
        ));
        assert!(matches!(trie.choose(&[0.0, f64::NAN, 0.0]), Err(TrieError::NotALogprob { index: 1, .. })));
        assert!(matches!(trie.choose(&[f64::NEG_INFINITY; 3]), Err(TrieError::NotALogprob { index: 0, .. })));
    }
}
