//! The angles of rotary embeddings: one computation for the reference and every executor.

use crate::program::{Rope, RopeScaling};

/// Angle of each rotated pair for each step of position, `dims / 2` of them, and the factor on
/// sine and cosine, which is [`Rope::magnitude`].
///
/// `factors` are the decoded numbers of [`Rope::factors`]. The angle of pair `i` at position `p`
/// is `p * frequencies[i]`, computed in f32 as `(p as f32) * frequencies[i]`.
pub fn frequencies(rope: &Rope, factors: Option<&[f32]>) -> (Vec<f32>, f32) {
    let pairs = rope.dims / 2;
    let ramp = |i: usize| match rope.scaling {
        RopeScaling::Yarn {
            original_context,
            beta_fast,
            beta_slow,
            ..
        } => yarn_ramp(i, rope, original_context, beta_fast, beta_slow),
        _ => 0.0,
    };
    let frequencies = (0..pairs)
        .map(|i| {
            let exponent = -2.0 * i as f64 / rope.dims as f64;
            let factor = factors.map_or(1.0, |f| f64::from(f[i]));
            let plain = f64::from(rope.base).powf(exponent) / factor;
            let scaled = match rope.scaling {
                RopeScaling::None => plain,
                RopeScaling::Linear { factor } => plain / f64::from(factor),
                RopeScaling::Yarn { factor, .. } => {
                    let kept = ramp(i);
                    plain / f64::from(factor) * (1.0 - kept) + plain * kept
                }
            };
            scaled as f32
        })
        .collect();
    (frequencies, rope.magnitude)
}

/// YaRN's share of the unscaled frequency for pair `i`: 1 where the pair turns more than
/// `beta_fast` times within the training context, 0 where it turns less than `beta_slow` times.
fn yarn_ramp(i: usize, rope: &Rope, original_context: u32, beta_fast: f32, beta_slow: f32) -> f64 {
    let (dims, base) = (rope.dims as f64, f64::from(rope.base));
    // The pair that turns `rotations` times within the training context.
    let pair = |rotations: f32| {
        let turns = f64::from(original_context) / (f64::from(rotations) * std::f64::consts::TAU);
        dims * turns.ln() / (2.0 * base.ln())
    };
    let low = pair(beta_fast).floor().max(0.0);
    let high = pair(beta_slow).ceil().min(dims - 1.0);
    1.0 - ((i as f64 - low) / (high - low).max(0.001)).clamp(0.0, 1.0)
}
