//! Rotary position embeddings.

use zse_model::program::RopeStyle;

use super::Ctx;
use crate::simd::{Kernel, Simd};

/// The rotations of a step's tokens under one rotary embedding. Angles are computed once a step,
/// however many layers use them.
pub(crate) struct Rotations {
    style: RopeStyle,
    /// Angle a position of each pair, from [`zse_model::rope::frequencies`].
    frequencies: Vec<f32>,
    magnitude: f32,
    /// `[n_tokens, pairs]`.
    cos: Vec<f32>,
    /// `[n_tokens, pairs]`.
    sin: Vec<f32>,
}

/// The rotation of one token.
#[derive(Clone, Copy)]
pub(crate) struct Rotation<'a> {
    style: RopeStyle,
    cos: &'a [f32],
    sin: &'a [f32],
}

impl Rotations {
    /// For pairs that turn by `frequencies` a position; sine and cosine are times `magnitude`.
    pub(crate) fn new(style: RopeStyle, frequencies: Vec<f32>, magnitude: f32) -> Self {
        Self {
            style,
            frequencies,
            magnitude,
            cos: Vec::new(),
            sin: Vec::new(),
        }
    }

    /// Takes tokens at `positions`.
    pub(crate) fn set(&mut self, positions: &[u32]) {
        for table in [&mut self.cos, &mut self.sin] {
            table.clear();
            table.reserve_exact(positions.len() * self.frequencies.len());
        }
        for &position in positions {
            for &frequency in &self.frequencies {
                let angle = position as f32 * frequency;
                let (sin, cos) = f64::from(angle).sin_cos();
                self.cos.push(cos as f32 * self.magnitude);
                self.sin.push(sin as f32 * self.magnitude);
            }
        }
    }

    /// The rotation of token `token` of the step.
    pub(crate) fn of(&self, token: usize) -> Rotation<'_> {
        let pairs = self.frequencies.len();
        let range = token * pairs..(token + 1) * pairs;
        Rotation {
            style: self.style,
            cos: &self.cos[range.clone()],
            sin: &self.sin[range],
        }
    }

    /// Bytes that the rotations of `n_tokens` tokens take, each of `pairs` pairs.
    pub(crate) fn bytes_of(n_tokens: usize, pairs: usize) -> usize {
        4 * (pairs + 2 * n_tokens * pairs)
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        4 * (self.frequencies.capacity() + self.cos.capacity() + self.sin.capacity())
    }
}

/// Rotates heads of one token in place.
struct Rotate<'a> {
    rotation: Rotation<'a>,
    heads: &'a mut [f32],
    head_dim: usize,
}

impl Kernel for Rotate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Rotation { style, cos, sin } = self.rotation;
        // No fused multiply-add: the compiler may widen these loops, not round them differently.
        for head in self.heads.chunks_exact_mut(self.head_dim) {
            let head = &mut head[..2 * cos.len()];
            match style {
                RopeStyle::Interleaved => {
                    let pairs = head.as_chunks_mut::<2>().0.iter_mut();
                    for (([x, y], cos), sin) in pairs.zip(cos).zip(sin) {
                        (*x, *y) = (*x * cos - *y * sin, *x * sin + *y * cos);
                    }
                }
                RopeStyle::Halves => {
                    let (x, y) = head.split_at_mut(cos.len());
                    for (((x, y), cos), sin) in x.iter_mut().zip(y).zip(cos).zip(sin) {
                        (*x, *y) = (*x * cos - *y * sin, *x * sin + *y * cos);
                    }
                }
            }
        }
    }
}

/// Rotates the heads of one token in place.
pub(crate) fn rotate(ctx: &Ctx<'_>, rotation: Rotation<'_>, heads: &mut [f32], head_dim: usize) {
    ctx.arch.run(Rotate {
        rotation,
        heads,
        head_dim,
    });
}

/// Rotates each head of `x`, `[n_tokens, cols]`.
pub(crate) fn rope(
    ctx: &Ctx<'_>,
    rotations: &Rotations,
    x: &[f32],
    cols: usize,
    head_dim: usize,
    out: &mut [f32],
) {
    ctx.rows(out, cols, |first, out| {
        out.copy_from_slice(&x[first * cols..][..out.len()]);
        for (i, row) in out.chunks_exact_mut(cols).enumerate() {
            rotate(ctx, rotations.of(first + i), row, head_dim);
        }
    });
}
