//! The operations on plain slices. Matrices are row-major; sums run in f64.

use crate::adapter::LowRank;
use crate::program::{Act, PoolKind, RopeStyle};

/// `f(x)` of each number.
pub(super) fn map(x: &[f32], f: impl Fn(f32) -> f32) -> Vec<f32> {
    x.iter().map(|&v| f(v)).collect()
}

/// `f(a, b)` of each pair of numbers.
pub(super) fn zip(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> Vec<f32> {
    a.iter().zip(b).map(|(&a, &b)| f(a, b)).collect()
}

/// The activation of one number.
pub(super) fn activate(act: Act, x: f32) -> f32 {
    let v = f64::from(x);
    let y = match act {
        Act::Silu => v / (1.0 + (-v).exp()),
        Act::GeluErf => 0.5 * v * (1.0 + erf(v * std::f64::consts::FRAC_1_SQRT_2)),
        Act::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (v + 0.044_715 * v * v * v);
            0.5 * v * (1.0 + inner.tanh())
        }
        Act::Relu => v.max(0.0),
    };
    y as f32
}

/// The error function: its Taylor series near 0, the continued fraction of `erfc` beyond
/// (Abramowitz and Stegun 7.1.5 and 7.1.14); absolute error below 1e-12.
pub(super) fn erf(x: f64) -> f64 {
    let a = x.abs();
    let value = if a < 2.5 {
        let (mut term, mut sum) = (a, a);
        for n in 1..60 {
            let n = f64::from(n);
            term *= -a * a / n;
            sum += term / (2.0 * n + 1.0);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    } else {
        let fraction = (1..60).rev().fold(a, |f, n| a + f64::from(n) / 2.0 / f);
        1.0 - (-a * a).exp() / (fraction * std::f64::consts::PI.sqrt())
    };
    value.copysign(x)
}

/// Rows `ids` of `table`.
pub(super) fn embed(table: &[f32], cols: usize, ids: impl Iterator<Item = u32>) -> Vec<f32> {
    ids.flat_map(|id| &table[id as usize * cols..][..cols])
        .copied()
        .collect()
}

pub(super) fn rms_norm(x: &[f32], weight: &[f32], eps: f32, group: usize) -> Vec<f32> {
    x.chunks_exact(group)
        .flat_map(|row| {
            let squares: f64 = row.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
            let scale = 1.0 / (squares / group as f64 + f64::from(eps)).sqrt();
            row.iter()
                .zip(weight)
                .map(move |(&v, &w)| (f64::from(v) * scale) as f32 * w)
        })
        .collect()
}

pub(super) fn layer_norm(x: &[f32], weight: &[f32], bias: Option<&[f32]>, eps: f32) -> Vec<f32> {
    let n = weight.len();
    let mut out = Vec::with_capacity(x.len());
    for row in x.chunks_exact(n) {
        let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / n as f64;
        let var = row
            .iter()
            .map(|&v| (f64::from(v) - mean).powi(2))
            .sum::<f64>()
            / n as f64;
        let scale = 1.0 / (var + f64::from(eps)).sqrt();
        for (i, &v) in row.iter().enumerate() {
            out.push(
                ((f64::from(v) - mean) * scale) as f32 * weight[i] + bias.map_or(0.0, |b| b[i]),
            );
        }
    }
    out
}

/// `x W^T + bias` with `x` `[n, cols]` and `weight` `[rows, cols]`.
pub(super) fn linear(x: &[f32], weight: &[f32], cols: usize, bias: Option<&[f32]>) -> Vec<f32> {
    let mut out = Vec::with_capacity(x.len() / cols * (weight.len() / cols));
    for x in x.chunks_exact(cols) {
        for (i, w) in weight.chunks_exact(cols).enumerate() {
            out.push(dot(x, w) + bias.map_or(0.0, |b| b[i]));
        }
    }
    out
}

/// Adds what an adapter adds to a row of a product, times `scale`, to `out`.
pub(super) fn add_low_rank(x: &[f32], site: &LowRank, scale: f32, out: &mut [f32]) {
    let (a, b) = (site.a.to_f32(), site.b.to_f32());
    let inner: Vec<f32> = a.chunks_exact(x.len()).map(|row| dot(x, row)).collect();
    let rows = b.chunks_exact(inner.len());
    for (out, row) in out.iter_mut().zip(rows) {
        *out += scale * site.scale * dot(&inner, row);
    }
}

pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter()
        .zip(b)
        .map(|(&a, &b)| f64::from(a) * f64::from(b))
        .sum::<f64>() as f32
}

/// A rotary embedding ready to apply.
pub(super) struct Rotation<'a> {
    pub(super) style: RopeStyle,
    pub(super) frequencies: &'a [f32],
    pub(super) magnitude: f32,
}

pub(super) fn rope(
    x: &[f32],
    cols: usize,
    head_dim: usize,
    rotation: &Rotation<'_>,
    positions: &[u32],
) -> Vec<f32> {
    let mut out = x.to_vec();
    let pairs = rotation.frequencies.len();
    for (row, &position) in out.chunks_exact_mut(cols).zip(positions) {
        for head in row.chunks_exact_mut(head_dim) {
            for (i, &f) in rotation.frequencies.iter().enumerate() {
                let (a, b) = match rotation.style {
                    RopeStyle::Interleaved => (2 * i, 2 * i + 1),
                    RopeStyle::Halves => (i, i + pairs),
                };
                let (sin, cos) = f64::from(position as f32 * f).sin_cos();
                let [sin, cos] = [sin, cos].map(|v| v as f32 * rotation.magnitude);
                let (x, y) = (head[a], head[b]);
                head[a] = x * cos - y * sin;
                head[b] = x * sin + y * cos;
            }
        }
    }
    out
}

/// Softmax in place.
pub(super) fn softmax(x: &mut [f32]) {
    let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f64> = x.iter().map(|&v| f64::from(v - max).exp()).collect();
    let sum: f64 = weights.iter().sum();
    for (v, w) in x.iter_mut().zip(weights) {
        *v = (w / sum) as f32;
    }
}

pub(super) fn moe_route(
    logits: &[f32],
    experts: usize,
    top_k: usize,
    normalize: bool,
    scale: f32,
) -> Vec<f32> {
    let mut out = Vec::with_capacity(logits.len() / experts * 2 * top_k);
    for row in logits.chunks_exact(experts) {
        let mut p = row.to_vec();
        softmax(&mut p);
        let mut order: Vec<usize> = (0..experts).collect();
        order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
        let chosen = &order[..top_k];
        let sum: f32 = chosen.iter().map(|&e| p[e]).sum();
        let factor = if normalize { scale / sum } else { scale };
        out.extend(chosen.iter().map(|&e| e as f32));
        out.extend(chosen.iter().map(|&e| p[e] * factor));
    }
    out
}

/// The stacked matrices of a mixture.
pub(super) struct Experts<'a> {
    pub(super) gate: &'a [f32],
    pub(super) up: &'a [f32],
    pub(super) down: &'a [f32],
    pub(super) ff: usize,
    pub(super) out: usize,
    pub(super) act: Act,
}

/// Adds what adapters add to a product: of which row, by which of the three matrices and which expert,
/// of which input; to which result.
pub(super) type AddToExpert<'a> = &'a dyn Fn(usize, usize, usize, &[f32], &mut [f32]);

pub(super) fn moe_ffn(
    x: &[f32],
    cols: usize,
    route: &[f32],
    top_k: usize,
    experts: &Experts<'_>,
    add: AddToExpert<'_>,
) -> Vec<f32> {
    let Experts { ff, out, .. } = *experts;
    let mut result = Vec::with_capacity(x.len() / cols * out);
    let rows = x.chunks_exact(cols).zip(route.chunks_exact(2 * top_k));
    for (row, (x, route)) in rows.enumerate() {
        let mut sum = vec![0.0; out];
        for (&expert, &weight) in route[..top_k].iter().zip(&route[top_k..]) {
            let expert = expert as usize;
            let hidden = moe_hidden(x, expert, experts, &|side, y| add(row, side, expert, x, y));
            let down = &experts.down[expert * out * ff..][..out * ff];
            let mut y = linear(&hidden, down, ff, None);
            add(row, 2, expert, &hidden, &mut y);
            sum.iter_mut().zip(y).for_each(|(s, y)| *s += weight * y);
        }
        result.extend(sum);
    }
    result
}

/// `[ff]`: `act(gate(x)) * up(x)` of an expert; `add` adds to the products of gate, 0, and up, 1.
pub(super) fn moe_hidden(
    x: &[f32],
    expert: usize,
    experts: &Experts<'_>,
    add: &dyn Fn(usize, &mut [f32]),
) -> Vec<f32> {
    let size = experts.ff * x.len();
    let of = |side: usize, w: &[f32]| {
        let mut y = linear(x, &w[expert * size..][..size], x.len(), None);
        add(side, &mut y);
        y
    };
    let (gate, up) = (of(0, experts.gate), of(1, experts.up));
    zip(&gate, &up, |g, u| activate(experts.act, g) * u)
}

pub(super) fn pool(x: &[f32], cols: usize, kind: PoolKind) -> Vec<f32> {
    let rows = x.len() / cols;
    match kind {
        PoolKind::Cls => x[..cols].to_vec(),
        PoolKind::Last => x[(rows - 1) * cols..].to_vec(),
        PoolKind::Mean => (0..cols)
            .map(|c| {
                let sum: f64 = (0..rows).map(|r| f64::from(x[r * cols + c])).sum();
                (sum / rows as f64) as f32
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erf_matches_known_values() {
        // NIST DLMF, table 7.9 and by symmetry.
        for (x, y) in [
            (0.0, 0.0),
            (0.5, 0.520_499_877_8),
            (1.0, 0.842_700_792_9),
            (2.0, 0.995_322_265_0),
            (3.0, 0.999_977_909_5),
        ] {
            assert!((erf(x) - y).abs() < 1e-10, "erf({x}) = {}", erf(x));
            assert!((erf(-x) + y).abs() < 1e-10);
        }
    }

    #[test]
    fn erf_is_continuous_where_its_formulas_meet() {
        assert!((erf(2.5 - 1e-13) - erf(2.5)).abs() < 1e-12);
    }

    #[test]
    fn ties_route_to_the_lower_expert() {
        let route = moe_route(&[1.0, 2.0, 2.0, 0.0], 4, 2, true, 1.0);
        assert_eq!(route, [1.0, 2.0, 0.5, 0.5]);
    }
}
