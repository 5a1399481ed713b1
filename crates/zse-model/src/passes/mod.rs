//! Passes over programs: which rows need not be computed ([`gather_early`]), which operations can
//! run as one ([`schedule`]) and which results can share memory ([`BufferPlan`]).

mod buffers;
mod gather;
mod schedule;

pub use buffers::{Buffer, BufferPlan};
pub use gather::gather_early;
pub use schedule::{GroupKind, Step, schedule};
