//! A finished generation as JSON, and as a line for people.

use std::time::Duration;

use serde_json::{Value, json};
use zse::{Completion, Timings, TokenInfo, Tokenizer, Usage};

/// The JSON object of `run --json`.
pub(crate) fn completion(done: &Completion, tokenizer: &Tokenizer, logprobs: bool) -> Value {
    let usage = done.finished.usage;
    let mut object = json!({
        "text": done.text,
        "ids": done.tokens.iter().map(|t| t.id).collect::<Vec<_>>(),
        "finish_reason": done.finished.reason.name(),
        "usage": {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        },
        "timings": timings(&usage, &done.finished.timings),
    });
    if logprobs {
        object["logprobs"] = done.tokens.iter().map(|t| token(t, tokenizer)).collect();
    }
    object
}

fn token(info: &TokenInfo, tokenizer: &Tokenizer) -> Value {
    let one = |id: u32, logprob: f32| {
        let text = String::from_utf8_lossy(&tokenizer.token_bytes(id)).into_owned();
        json!({ "id": id, "token": text, "logprob": logprob })
    };
    let mut object = one(info.id, info.logprob);
    object["top_logprobs"] = info
        .top
        .iter()
        .map(|&(id, logprob)| one(id, logprob))
        .collect();
    object
}

/// Times with the names of llama.cpp's server. `predicted_n` counts the tokens after the first:
/// those that `predicted_ms` was spent on.
fn timings(usage: &Usage, timings: &Timings) -> Value {
    let computed = usage.prompt_tokens - usage.shared_tokens;
    let decoded = usage.completion_tokens.saturating_sub(1);
    json!({
        "queued_ms": millis(timings.queued),
        "prompt_n": computed,
        "prompt_ms": millis(timings.prompt),
        "prompt_per_second": rate(computed, timings.prompt),
        "predicted_n": decoded,
        "predicted_ms": millis(timings.decode),
        "predicted_per_second": rate(decoded, timings.decode),
        "time_to_first_token_ms": millis(timings.time_to_first_token()),
    })
}

/// Tokens and speed in a line.
pub(crate) fn summary(usage: &Usage, timings: &Timings) -> String {
    let decoded = usage.completion_tokens.saturating_sub(1);
    format!(
        "prompt: {} tokens, {:.1} t/s; answer: {} tokens, {:.1} t/s; first token after {:.0} ms",
        usage.prompt_tokens,
        rate(usage.prompt_tokens - usage.shared_tokens, timings.prompt).unwrap_or(0.0),
        usage.completion_tokens,
        rate(decoded, timings.decode).unwrap_or(0.0),
        millis(timings.time_to_first_token()),
    )
}

/// Milliseconds, to the microsecond.
pub(crate) fn millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

/// Tokens a second; `None` where no time was spent.
pub(crate) fn rate(tokens: usize, time: Duration) -> Option<f64> {
    (!time.is_zero()).then(|| tokens as f64 / time.as_secs_f64())
}
