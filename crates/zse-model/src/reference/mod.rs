//! The reference executor.
