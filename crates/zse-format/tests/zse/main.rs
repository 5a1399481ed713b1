//! `.zse` files from outside: valid ones are read exactly, malformed ones refused.

#[path = "../gguf/counting.rs"]
mod counting;
mod fixture;
mod hostile;
mod sample;

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;
