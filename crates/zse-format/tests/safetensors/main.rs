//! Safetensors files from outside: valid ones are read exactly, malformed ones refused.

#[path = "../gguf/counting.rs"]
mod counting;
mod hostile;
mod raw;
mod read;
#[path = "../gguf/watch.rs"]
mod watch;

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;
