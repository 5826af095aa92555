//! Several jobs at a time, their results in order.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Does all jobs, `at_once` at a time.
pub(crate) fn each<T: Sync, R: Send>(jobs: &[T], at_once: usize, work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    if at_once.min(jobs.len()) <= 1 {
        return jobs.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = jobs.get(index) else { return done };
            done.push((index, work(job)));
        }
    };
    let mut all = thread::scope(|scope| {
        let workers: Vec<_> = (0..at_once.min(jobs.len())).map(|_| scope.spawn(worker)).collect();
        let join = |worker: thread::ScopedJoinHandle<'_, Vec<(usize, R)>>| match worker.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        workers.into_iter().flat_map(join).collect::<Vec<_>>()
    });
    all.sort_by_key(|(index, _)| *index);
    all.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_order() {
        let jobs: Vec<usize> = (0..100).collect();
        for at_once in [1, 3, 200] {
            assert_eq!(each(&jobs, at_once, |job| job * 2), jobs.iter().map(|job| job * 2).collect::<Vec<_>>());
        }
        assert!(each(&[0; 0], 4, |job| *job).is_empty());
    }
}
