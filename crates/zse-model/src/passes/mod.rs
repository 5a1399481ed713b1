//! Passes over programs: which rows need not be computed ([`gather_early`]), which operations can
//! run as one ([`schedule`]), which results can share memory ([`BufferPlan`]) and how two executors share
//! a program ([`split`]).

mod buffers;
mod gather;
mod schedule;
mod split;

pub use buffers::{Buffer, BufferPlan};
pub use gather::gather_early;
pub use schedule::{GroupKind, Step, schedule};
pub use split::split;
