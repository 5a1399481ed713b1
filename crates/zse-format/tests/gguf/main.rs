//! GGUF files from outside: valid ones are read exactly, malformed ones refused.

mod counting;
mod hostile;
mod lora;
mod mutations;
mod raw;
mod read;
mod split;
mod watch;
mod write;

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;
