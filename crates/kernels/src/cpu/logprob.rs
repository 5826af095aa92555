//! Log-probabilities and divergences over the vocabulary, in chunks of logits.

use rayon::prelude::*;

use super::rows::{CpuBuffer, Rows};
use super::{Cells, Cpu, lanes};
use crate::check::expect_shape;
use crate::device::Device;
use crate::operands::{LogProbGrad, LogProbs, Pick, Write};

pub(super) fn logprob(
    cpu: &Cpu,
    hidden: &Cells,
    head: &Cells,
    picks: &[Pick],
    logits: &Cells,
    grad: Option<LogProbGrad<'_, CpuBuffer>>,
) -> LogProbs {
    expect_shape("the head", head, logits.cols(), hidden.cols());
    assert!(picks.is_sorted_by_key(|p| p.row), "picks ascend by row");
    assert!(
        picks.iter().all(|p| (p.row as usize) < hidden.rows() && (p.token as usize) < head.rows()),
        "picks lie within hidden and head"
    );
    let n = hidden.rows();
    let mut found = LogProbs { logprob: vec![0.0; picks.len()], entropy: vec![0.0; n], argmax: vec![0; n] };
    let pick_start: Vec<usize> = (0..=n).map(|row| picks.partition_point(|p| (p.row as usize) < row)).collect();
    let by = grad.as_ref().map(|g| (g.logprob, g.entropy));
    for start in (0..n).step_by(logits.rows().max(1)) {
        let range = start..(start + logits.rows()).min(n);
        let (h, z) = (hidden.row_range(range.clone()), logits.first_rows(range.len()));
        cpu.linear(&h, head, 1.0, Write::Set, &z);
        let rows = Rows::of(&z);
        let chunk: Vec<(f32, u32, Vec<f32>)> = range
            .clone()
            .into_par_iter()
            .with_max_len(1)
            .map(|row| {
                // SAFETY: each row of the chunk has one worker.
                let z = unsafe { rows.row_mut(row - start) };
                let (log_sum, entropy, top) = lanes::log_sum_entropy(z);
                let argmax = lanes::place_of(top, z) as u32;
                let own = pick_start[row]..pick_start[row + 1];
                let logprob = picks[own.clone()].iter().map(|p| z[p.token as usize] - log_sum).collect();
                if let Some((by_logprob, by_entropy)) = by {
                    let total: f32 = by_logprob[own.clone()].iter().sum();
                    let e = by_entropy.get(row).copied().unwrap_or(0.0);
                    lanes::logit_gradient(z, log_sum, total, e, entropy);
                    for (pick, g) in picks[own.clone()].iter().zip(&by_logprob[own]) {
                        z[pick.token as usize] += g;
                    }
                }
                (entropy, argmax, logprob)
            })
            .collect();
        for (row, (entropy, argmax, logprob)) in range.clone().zip(chunk) {
            found.entropy[row] = entropy;
            found.argmax[row] = argmax;
            found.logprob[pick_start[row]..pick_start[row + 1]].copy_from_slice(&logprob);
        }
        if let Some(grad) = &grad {
            cpu.linear_backward_input(&z, head, 1.0, Write::Set, &grad.hidden.row_range(range));
            if let Some(dhead) = grad.head {
                cpu.linear_backward_weight(&z, &h, 1.0, dhead);
            }
        }
    }
    found
}

/// Columns of logits that one worker looks through.
const COLUMNS: usize = 8192;

pub(super) fn argmax(cpu: &Cpu, hidden: &Cells, head: &Cells, logits: &Cells) -> Vec<u32> {
    expect_shape("the head", head, logits.cols(), hidden.cols());
    let (n, parts) = (hidden.rows(), head.rows().div_ceil(COLUMNS));
    let mut found = Vec::with_capacity(n);
    for start in (0..n).step_by(logits.rows().max(1)) {
        let range = start..(start + logits.rows()).min(n);
        let z = logits.first_rows(range.len());
        cpu.linear(&hidden.row_range(range.clone()), head, 1.0, Write::Set, &z);
        let rows = Rows::of(&z);
        let part = |i: usize| {
            let first = i % parts * COLUMNS;
            // SAFETY: only read.
            let z = unsafe { rows.row(i / parts) };
            let z = &z[first..(first + COLUMNS).min(z.len())];
            let top = lanes::top(z);
            (top, first + lanes::place_of(top, z))
        };
        let tops: Vec<(f32, usize)> = (0..range.len() * parts).into_par_iter().with_max_len(1).map(part).collect();
        let best = |tops: &[(f32, usize)]| tops.iter().copied().reduce(|a, b| if b.0 > a.0 { b } else { a });
        found.extend(tops.chunks(parts.max(1)).map(|tops| best(tops).map_or(0, |(_, token)| token as u32)));
    }
    found
}

pub(super) fn kl(cpu: &Cpu, p: (&Cells, &Cells), q: (&Cells, &Cells), logits: (&Cells, &Cells)) -> Vec<f32> {
    assert_eq!((p.0.rows(), logits.0.rows()), (q.0.rows(), logits.1.rows()), "p and q have the same rows");
    let n = p.0.rows();
    let mut found = Vec::with_capacity(n);
    for start in (0..n).step_by(logits.0.rows().max(1)) {
        let range = start..(start + logits.0.rows()).min(n);
        let (zp, zq) = (logits.0.first_rows(range.len()), logits.1.first_rows(range.len()));
        cpu.linear(&p.0.row_range(range.clone()), p.1, 1.0, Write::Set, &zp);
        cpu.linear(&q.0.row_range(range.clone()), q.1, 1.0, Write::Set, &zq);
        let (zp, zq) = (Rows::of(&zp), Rows::of(&zq));
        found.par_extend((0..range.len()).into_par_iter().map(|i| {
            // SAFETY: both are only read.
            let (p, q) = unsafe { (zp.row(i), zq.row(i)) };
            lanes::kl(p, lanes::log_sum_entropy(p).0, q, lanes::log_sum_entropy(q).0)
        }));
    }
    found
}
