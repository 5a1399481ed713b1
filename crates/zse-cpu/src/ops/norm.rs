//! Root-mean-square norm and layer norm. Sums run over 16 lanes, lane `i` over columns that are
//! `i` modulo 16, and end in a fixed tree.

use super::Ctx;
use crate::simd::{Kernel, LANES, Simd};

/// Sum of a row.
#[inline(always)]
fn sum<S: Simd>(s: S, row: &[f32]) -> f32 {
    let (whole, rest) = row.as_chunks::<LANES>();
    let mut sum = s.zero();
    for x in whole {
        sum = s.add(s.load(x), sum);
    }
    s.sum(s.add(s.load_part(rest, 0.0), sum))
}

/// Sum of `(x - mean)^2` over a row.
#[inline(always)]
fn squares<S: Simd>(s: S, row: &[f32], mean: f32) -> f32 {
    let (whole, rest) = row.as_chunks::<LANES>();
    let mut sum = s.zero();
    for x in whole {
        let x = s.sub(s.load(x), s.splat(mean));
        sum = s.fma(x, x, sum);
    }
    let x = s.sub(s.load_part(rest, mean), s.splat(mean));
    s.sum(s.fma(x, x, sum))
}

/// `(x - mean) * factor * weight + bias` over a row.
#[inline(always)]
fn apply<S: Simd>(s: S, row: Row<'_>, mean: f32, factor: f32, out: &mut [f32]) {
    let (mean, factor) = (s.splat(mean), s.splat(factor));
    let (x, x_rest) = row.x.as_chunks::<LANES>();
    let (weight, weight_rest) = row.weight.as_chunks::<LANES>();
    let (bias, bias_rest) = row.bias.unwrap_or(&[]).as_chunks::<LANES>();
    let (out, out_rest) = out.as_chunks_mut::<LANES>();
    for i in 0..out.len() {
        let y = s.mul(
            s.mul(s.sub(s.load(&x[i]), mean), factor),
            s.load(&weight[i]),
        );
        let y = match bias.get(i) {
            Some(bias) => s.add(y, s.load(bias)),
            None => y,
        };
        s.store(y, &mut out[i]);
    }
    let x = s.sub(s.load_part(x_rest, 0.0), mean);
    let y = s.mul(s.mul(x, factor), s.load_part(weight_rest, 0.0));
    let y = match row.bias {
        Some(_) => s.add(y, s.load_part(bias_rest, 0.0)),
        None => y,
    };
    s.store_part(y, out_rest);
}

/// A row, its weights and its biases, all of one length.
#[derive(Clone, Copy)]
struct Row<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
}

struct RmsNorm<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    eps: f32,
    out: &'a mut [f32],
}

impl Kernel for RmsNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self {
            x,
            weight,
            eps,
            out,
        } = self;
        for (x, out) in x
            .chunks_exact(weight.len())
            .zip(out.chunks_exact_mut(weight.len()))
        {
            let squares = squares(s, x, 0.0);
            let factor = 1.0 / (squares / weight.len() as f32 + eps).sqrt();
            apply(
                s,
                Row {
                    x,
                    weight,
                    bias: None,
                },
                0.0,
                factor,
                out,
            );
        }
    }
}

/// `x / sqrt(mean(x^2) + eps) * weight` over each run of `weight.len()` columns of rows of
/// `cols`.
pub(crate) fn rms_norm(
    ctx: &Ctx<'_>,
    x: &[f32],
    cols: usize,
    weight: &[f32],
    eps: f32,
    out: &mut [f32],
) {
    ctx.rows(out, cols, |first, out| {
        ctx.arch.run(RmsNorm {
            x: &x[first * cols..][..out.len()],
            weight,
            eps,
            out,
        });
    });
}

struct LayerNorm<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
    eps: f32,
    out: &'a mut [f32],
}

impl Kernel for LayerNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self {
            x,
            weight,
            bias,
            eps,
            out,
        } = self;
        let n = weight.len();
        for (x, out) in x.chunks_exact(n).zip(out.chunks_exact_mut(n)) {
            let mean = sum(s, x) / n as f32;
            let squares = squares(s, x, mean);
            let factor = 1.0 / (squares / n as f32 + eps).sqrt();
            apply(s, Row { x, weight, bias }, mean, factor, out);
        }
    }
}

/// `(x - mean) / sqrt(var + eps) * weight + bias` over rows of `weight.len()` columns.
pub(crate) fn layer_norm(
    ctx: &Ctx<'_>,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    eps: f32,
    out: &mut [f32],
) {
    let cols = weight.len();
    ctx.rows(out, cols, |first, out| {
        ctx.arch.run(LayerNorm {
            x: &x[first * cols..][..out.len()],
            weight,
            bias,
            eps,
            out,
        });
    });
}
