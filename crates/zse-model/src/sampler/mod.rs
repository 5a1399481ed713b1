//! How a token is drawn from logits: the definition that every sampler, on any device, is tested
//! equal to.

mod params;

pub use params::{Mirostat, SampleParams};
