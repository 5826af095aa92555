//! Ctrl-C: ends the program at once with exit code 3, unless something is under way that can end by itself: training,
//! after the step at hand, and an answer in `chat`, after which the talk goes on. Pressed again before that has ended, it
//! ends the program all the same; files and folders appear whole or not at all, so it may end anywhere.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use crate::command::{INTERRUPTED, tell};

/// What looks at [`STOP`].
static UNDER_WAY: AtomicU8 = AtomicU8::new(NOTHING);
const NOTHING: u8 = 0;
const TRAINING: u8 = 1;
const ANSWER: u8 = 2;

/// Set by Ctrl-C: what is under way is to end.
pub static STOP: AtomicBool = AtomicBool::new(false);

/// Listens from now on. Where no handler can be set the system's own applies.
pub fn listen() {
    let _ = ctrlc::set_handler(|| {
        let under_way = UNDER_WAY.load(Ordering::SeqCst);
        if under_way == NOTHING || STOP.swap(true, Ordering::SeqCst) {
            std::process::exit(i32::from(INTERRUPTED));
        }
        if under_way == TRAINING {
            tell("\nending after this step, with a checkpoint; Ctrl-C again ends at once");
        }
    });
}

/// Says whether training is under way.
pub fn training(is: bool) {
    UNDER_WAY.store(if is { TRAINING } else { NOTHING }, Ordering::SeqCst);
}

/// For as long as this lives, an answer is under way.
pub struct Answering(());

impl Answering {
    pub fn begin() -> Self {
        STOP.store(false, Ordering::SeqCst);
        UNDER_WAY.store(ANSWER, Ordering::SeqCst);
        Self(())
    }

    pub fn interrupted(&self) -> bool {
        STOP.load(Ordering::SeqCst)
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        UNDER_WAY.store(NOTHING, Ordering::SeqCst);
    }
}
