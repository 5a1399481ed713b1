//! Passes over programs.
