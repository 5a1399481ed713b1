//! Passes over programs: which operations can run as one ([`schedule`]) and which results can
//! share memory ([`BufferPlan`]).

mod buffers;
mod schedule;

pub use buffers::{Buffer, BufferPlan};
pub use schedule::{GroupKind, Step, schedule};
