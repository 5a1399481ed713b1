//! The `zse` command.
fn main() {}
