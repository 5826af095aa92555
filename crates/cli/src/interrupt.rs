//! Ctrl-C: ends the program at once with exit code 3, unless something is under way that can end by itself: training,
//! after the step at hand, and an answer in `chat`, after which the talk goes on. Pressed again before that has ended, it
//! ends the program all the same; files and folders appear whole or not at all, so it may end anywhere. Where the base
//! writes rows it says that they are kept.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use temper_pipeline::Event;

use crate::command::{INTERRUPTED, tell};

/// What looks at [`STOP`].
static UNDER_WAY: AtomicU8 = AtomicU8::new(NOTHING);
const NOTHING: u8 = 0;
const TRAINING: u8 = 1;
const ANSWER: u8 = 2;
const WRITING: u8 = 3;

/// Set by Ctrl-C: what is under way is to end.
pub static STOP: AtomicBool = AtomicBool::new(false);

/// Listens from now on. Where no handler can be set the system's own applies.
pub fn listen() {
    let _ = ctrlc::set_handler(|| {
        let under_way = UNDER_WAY.load(Ordering::SeqCst);
        if under_way == WRITING {
            tell("\nstopped; the same command goes on after the rows that are kept");
        }
        if matches!(under_way, NOTHING | WRITING) || STOP.swap(true, Ordering::SeqCst) {
            std::process::exit(i32::from(INTERRUPTED));
        }
        if under_way == TRAINING {
            tell("\nending after this step, with a checkpoint; Ctrl-C again ends at once");
        }
    });
}

/// Says what an event belongs to.
pub fn hear(event: &Event) {
    let under_way = match event {
        Event::Train { .. } | Event::General { .. } => TRAINING,
        Event::Writing { .. } => WRITING,
        _ => NOTHING,
    };
    UNDER_WAY.store(under_way, Ordering::SeqCst);
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
