//! What is said on standard error beside errors: `--log`.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};

use clap::ValueEnum;

/// How much to say; each level includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
#[repr(u8)]
pub(crate) enum Level {
    /// Nothing but the error that ends a command, which is always told
    Off,
    /// The same
    Error,
    /// What may not be as it was meant
    Warn,
    /// What happens, and how long it took
    Info,
    /// Details, such as the plan of memory
    Debug,
    /// The same
    Trace,
}

static LEVEL: AtomicU8 = AtomicU8::new(Level::Warn as u8);

/// Chooses the level for the whole process.
pub(crate) fn set(level: Level) {
    LEVEL.store(level as u8, Ordering::Relaxed);
}

/// Whether messages of this level are wanted.
fn enabled(level: Level) -> bool {
    LEVEL.load(Ordering::Relaxed) >= level as u8
}

fn write(level: Level, text: fmt::Arguments<'_>) {
    if enabled(level) {
        let name = level
            .to_possible_value()
            .map(|v| v.get_name().to_owned())
            .unwrap_or_default();
        eprintln!("{name}: {text}");
    }
}

/// Something that may not be what the user wants.
pub(crate) fn warn(text: fmt::Arguments<'_>) {
    write(Level::Warn, text);
}

/// What happens, and how long it took.
pub(crate) fn info(text: fmt::Arguments<'_>) {
    write(Level::Info, text);
}

/// Details.
pub(crate) fn debug(text: fmt::Arguments<'_>) {
    write(Level::Debug, text);
}
