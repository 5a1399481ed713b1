//! How the likelihood of a token that is there already is asked for.

use std::sync::Arc;

use zse_model::executor::{Output, SampleJob, Want};
use zse_model::sampler::SampleParams;

use crate::event::TokenInfo;

/// Above what any logit is.
const CERTAIN: f32 = 1e30;

/// What tells how likely `token` is, and the `top` most likely ones in its place. Those come with draws
/// only: then it is the draw that gives `token` in any case, whose log-probability is the model's own all
/// the same.
pub(crate) fn want(token: u32, top: u32) -> Want {
    if top == 0 {
        return Want::LogProb(token);
    }
    let params = SampleParams {
        logit_bias: vec![(token, CERTAIN)],
        top_logprobs: top,
        ..SampleParams::greedy()
    };
    Want::Sample(Box::new(SampleJob {
        params: Arc::new(params),
        history: Vec::new(),
        choice: 0,
        position: 0,
        mu: 0.0,
    }))
}

/// What came of [`want`]; `None` if it is of another kind.
pub(crate) fn read(token: u32, result: Output) -> Option<TokenInfo> {
    match result {
        Output::LogProb(logprob) => Some(TokenInfo {
            id: token,
            logprob,
            top: Vec::new(),
        }),
        Output::Sampled(drawn) => Some(TokenInfo {
            id: token,
            // Nothing lifts a token that the model itself rules out.
            logprob: match drawn.token == token {
                true => drawn.logprob,
                false => f32::NEG_INFINITY,
            },
            top: drawn.top,
        }),
        Output::Logits(_) | Output::Pooled(_) | Output::Hidden(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zse_model::executor::finish;
    use zse_model::sampler::LogProbs;

    /// Logits as a model gives them, one of which it rules out.
    const LOGITS: [f32; 6] = [0.5, -3.0, f32::NEG_INFINITY, 7.25, 7.25, -80.0];

    #[test]
    fn alternatives_change_no_score() {
        let model = LogProbs::new(&LOGITS).unwrap();
        for token in 0..LOGITS.len() as u32 {
            let score = |top| read(token, finish(0, &want(token, top), &LOGITS, None).unwrap());
            let (alone, among) = (score(0).unwrap(), score(3).unwrap());
            assert_eq!(alone.logprob.to_bits(), model.of(token).to_bits());
            assert_eq!(among.logprob.to_bits(), alone.logprob.to_bits());
            assert_eq!((alone.id, among.id), (token, token));
            assert_eq!((alone.top, among.top), (Vec::new(), model.top(3)));
        }
    }

    #[test]
    fn a_result_of_another_kind_is_none() {
        assert_eq!(read(1, Output::Pooled(vec![1.0])), None);
    }
}
