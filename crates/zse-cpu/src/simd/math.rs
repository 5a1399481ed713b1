//! Exponentials and what is made of them, as polynomials: the same formula, and so the same
//! bits, on every instruction set. Error bounds are held by tests.

use zse_model::program::Act;

use super::Simd;

/// Polynomial in `x` by Horner's rule, highest power first.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(s: S, x: S::F, coefficients: [f32; N]) -> S::F {
    let mut sum = s.splat(coefficients[0]);
    for c in &coefficients[1..] {
        sum = s.fma(sum, x, s.splat(*c));
    }
    sum
}

/// `e^x` with a relative error below 2e-7 for x from -87 to 88, constant beyond; NaN stays NaN.
///
/// `e^x = 2^n e^r` with `|r| <= ln 2 / 2`; the polynomial for `e^r` is that of Cephes
/// (S. L. Moshier, `expf`).
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::F) -> S::F {
    // In this order NaN passes both bounds.
    let x = s.min(s.splat(88.0), s.max(s.splat(-87.0), x));
    let n = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
    let k = s.to_f32(n);
    // ln 2 in two parts, the first exact in few bits.
    let r = s.fma(k, s.splat(-0.693_359_4), x);
    let r = s.fma(k, s.splat(2.121_944_4e-4), r);
    let p = polynomial(
        s,
        r,
        [
            1.987_569_2e-4,
            1.398_199_9e-3,
            8.333_452e-3,
            4.166_579_6e-2,
            1.666_666_5e-1,
            0.5,
        ],
    );
    let e = s.add(s.fma(s.mul(p, r), r, r), s.splat(1.0));
    let power = s.from_bits(s.shl::<23>(s.add_i32(n, s.splat_i32(127))));
    s.mul(e, power)
}

/// `x / (1 + e^(-y))`.
#[inline(always)]
fn times_sigmoid<S: Simd>(s: S, x: S::F, y: S::F) -> S::F {
    let one = s.splat(1.0);
    s.div(x, s.add(one, exp(s, s.sub(s.zero(), y))))
}

/// Hyperbolic tangent with a relative error below 5e-7 (Cephes, `tanhf`).
#[inline(always)]
pub(crate) fn tanh<S: Simd>(s: S, x: S::F) -> S::F {
    let sign = s.and(s.to_bits(x), s.splat_i32(i32::MIN));
    let magnitude = s.from_bits(s.xor(s.to_bits(x), sign));

    let z = s.mul(x, x);
    let p = polynomial(
        s,
        z,
        [
            -5.704_988_7e-3,
            2.063_909e-2,
            -5.373_971_6e-2,
            1.333_144_2e-1,
            -3.333_328e-1,
        ],
    );
    let small = s.fma(s.mul(p, z), x, x);

    let one = s.splat(1.0);
    let e = exp(s, s.add(magnitude, magnitude));
    let large = s.sub(one, s.div(s.splat(2.0), s.add(e, one)));
    let large = s.from_bits(s.or(s.to_bits(large), sign));

    s.select_lt(magnitude, s.splat(0.625), small, large)
}

/// `0.5 * x * (1 + erf(x / sqrt 2))` with a relative error below 3e-5 where it matters
/// (`|x| < 6`) and an absolute error below 1e-6.
///
/// Written with `erfc`, which does not cancel for negative x: the Chebyshev fit of Press et al.,
/// Numerical Recipes, `erfcc`.
#[inline(always)]
fn gelu_erf<S: Simd>(s: S, x: S::F) -> S::F {
    let half = s.splat(0.5);
    let sign = s.and(s.to_bits(x), s.splat_i32(i32::MIN));
    let magnitude = s.from_bits(s.xor(s.to_bits(x), sign));
    let z = s.mul(magnitude, s.splat(std::f32::consts::FRAC_1_SQRT_2));
    let t = s.div(s.splat(1.0), s.fma(half, z, s.splat(1.0)));
    let p = polynomial(
        s,
        t,
        [
            0.170_872_77,
            -0.822_152_2,
            1.488_515_9,
            -1.135_204,
            0.278_868_07,
            -0.186_288_06,
            0.096_784_18,
            0.374_091_96,
            1.000_023_7,
            -1.265_512_2,
        ],
    );
    // -z^2 in one rounding: erfc is as exact as its exponent.
    let erfc = s.mul(t, exp(s, s.fma(s.sub(s.zero(), z), z, p)));
    // erfc(-x / sqrt 2), for either sign of x.
    let tail = s.select_lt(s.zero(), x, s.sub(s.splat(2.0), erfc), erfc);
    s.mul(s.mul(half, x), tail)
}

/// The activation of each lane.
#[inline(always)]
pub(crate) fn activate<S: Simd>(s: S, act: Act, x: S::F) -> S::F {
    match act {
        Act::Silu => times_sigmoid(s, x, x),
        Act::GeluErf => gelu_erf(s, x),
        Act::GeluTanh => {
            // 0.5 (1 + tanh u) = sigmoid(2 u).
            let cube = s.mul(s.mul(x, x), x);
            let inner = s.fma(cube, s.splat(0.044_715), x);
            times_sigmoid(s, x, s.mul(inner, s.splat(1.595_769_2)))
        }
        Act::Relu => s.max(s.zero(), x),
    }
}

/// `cap * tanh(x / cap)`.
#[inline(always)]
pub(crate) fn soft_cap<S: Simd>(s: S, x: S::F, cap: f32) -> S::F {
    let cap = s.splat(cap);
    s.mul(cap, tanh(s, s.div(x, cap)))
}
