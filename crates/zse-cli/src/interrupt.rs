//! Ctrl-C: a flag that long work looks at.

use std::process;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Pieces of work that look at the flag.
static LOOKING: AtomicUsize = AtomicUsize::new(0);

/// What a shell is told of a program that Ctrl-C has ended.
const ENDED: i32 = 130;

/// From now on, Ctrl-C sets a flag and does not end the process. May be called again.
pub(crate) fn catch() -> anyhow::Result<()> {
    let handler = || match LOOKING.load(Ordering::SeqCst) {
        0 => process::exit(ENDED),
        _ => INTERRUPTED.store(true, Ordering::SeqCst),
    };
    match ctrlc::set_handler(handler) {
        Ok(()) | Err(ctrlc::Error::MultipleHandlers) => {
            LOOKING.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// Takes one [`catch`] back: after as many of these, Ctrl-C ends the process again.
pub(crate) fn release() {
    LOOKING.fetch_sub(1, Ordering::SeqCst);
}

/// Whether Ctrl-C was pressed since the last time that this was asked.
pub(crate) fn take() -> bool {
    INTERRUPTED.swap(false, Ordering::SeqCst)
}
