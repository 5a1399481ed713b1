//! Every instruction set against [`Scalar`], operation by operation; the error of functions.

use zse_model::conformance::Rng;
use zse_model::program::Act;

use super::{Kernel, LANES, Scalar, Simd, chain, math};
use crate::isa::{Arch, Isa};

/// Results of all operations on some inputs, as bits.
struct Operations {
    a: [f32; LANES],
    b: [f32; LANES],
    c: [f32; LANES],
    x: [u8; 64],
    y: [u8; 64],
    z: [u8; 64],
}

impl Operations {
    fn random(rng: &mut Rng) -> Self {
        let special = [
            f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            0.0,
            -0.0,
            1e-40,
            f32::MAX,
            0.5,
            -2.5,
        ];
        let mut float = || match rng.below(5) {
            0 => rng.pick(&special),
            1 => f32::from_bits(rng.bits() as u32),
            _ => rng.normal() * 10.0,
        };
        let mut floats = || std::array::from_fn(|_| float());
        let (a, b, c) = (floats(), floats(), floats());
        let mut bytes = || std::array::from_fn(|_| rng.bits() as u8);
        Self {
            a,
            b,
            c,
            x: bytes(),
            y: bytes(),
            z: bytes(),
        }
    }
}

/// Bits of a vector of numbers; all NaNs alike.
#[inline(always)]
fn numbers<S: Simd>(s: S, v: S::F) -> Vec<u32> {
    s.to_array(v)
        .map(|x| if x.is_nan() { u32::MAX } else { x.to_bits() })
        .to_vec()
}

#[inline(always)]
fn integers<S: Simd>(s: S, v: S::I) -> Vec<u32> {
    s.to_i32_array(v).map(|x| x as u32).to_vec()
}

impl Kernel for &Operations {
    type Output = Vec<(&'static str, Vec<u32>)>;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Self::Output {
        let [a, b, c] = [&self.a, &self.b, &self.c].map(|v| s.load(v));
        let [x, y, z] = [&self.x, &self.y, &self.z].map(|v| s.load_bytes(v));
        let (bytes16, bytes32): (&[u8; 16], &[u8; 32]) =
            (self.x.first_chunk().unwrap(), self.x.first_chunk().unwrap());
        // Within the range of integers, where `round` says what it gives.
        let small = s.min(s.splat(1e9), s.max(s.splat(-1e9), s.fma(a, s.zero(), b)));
        let small = s.select_lt(
            small,
            small,
            small,
            s.min(s.splat(1e9), s.max(small, s.splat(-1e9))),
        );
        // Activations are never -128.
        let activations: [u8; 64] = self.y.map(|y| if y == 128 { 0 } else { y });
        let q = s.load_bytes(&activations);
        let mut low = [0; 16];
        s.store_low_bytes(x, &mut low);
        let wide = s.dot_wide(z, s.wide(x), q);
        // The offset of the wide form, taken out.
        let sums: [i32; LANES] = std::array::from_fn(|i| {
            activations[4 * i..4 * i + 4]
                .iter()
                .map(|&q| i32::from(q as i8))
                .sum()
        });
        let mut sum_bytes = [0; 64];
        for (to, sum) in sum_bytes.as_chunks_mut().0.iter_mut().zip(sums) {
            *to = (-S::WIDE_OFFSET * sum).to_le_bytes();
        }
        let wide = s.add_i32(wide, s.load_bytes(&sum_bytes));
        vec![
            ("add", numbers(s, s.add(a, b))),
            ("sub", numbers(s, s.sub(a, b))),
            ("mul", numbers(s, s.mul(a, b))),
            ("div", numbers(s, s.div(a, b))),
            ("fma", numbers(s, s.fma(a, b, c))),
            ("max", numbers(s, s.max(a, b))),
            ("min", numbers(s, s.min(a, b))),
            ("select_lt", numbers(s, s.select_lt(a, b, c, a))),
            ("round", integers(s, s.round(small))),
            ("to_f32", numbers(s, s.to_f32(x))),
            ("widen_u8", integers(s, s.widen_u8(bytes16))),
            ("widen_i8", integers(s, s.widen_i8(bytes16))),
            ("widen_u16", integers(s, s.widen_u16(bytes32))),
            ("widen_f16", numbers(s, s.widen_f16(bytes32))),
            ("f16_of_low", numbers(s, s.f16_of_low(x))),
            ("and", integers(s, s.and(x, y))),
            ("or", integers(s, s.or(x, y))),
            ("xor", integers(s, s.xor(x, y))),
            ("shl", integers(s, s.shl::<7>(x))),
            ("shr", integers(s, s.shr::<9>(x))),
            ("max_i32", integers(s, s.max_i32(x, y))),
            ("store_low_bytes", low.map(u32::from).to_vec()),
            ("add_i32", integers(s, s.add_i32(x, y))),
            ("mul_i32", integers(s, s.mul_i32(x, y))),
            (
                "lookup16",
                integers(s, s.lookup16(bytes16, s.and(y, s.splat_u8(15)))),
            ),
            ("lookup", integers(s, s.lookup(bytes32.as_chunks().0, x))),
            ("add_narrow", {
                let mut sums = Vec::new();
                for bits in 4..=7 {
                    let (w, mut chained) = (s.and(x, s.splat_u8((1 << bits) - 1)), s.begin(z));
                    for _ in 0..chain(bits) {
                        chained = s.add_narrow(chained, w, q);
                    }
                    sums.extend(integers(s, s.total(chained, z)));
                }
                sums
            }),
            ("dot_wide", integers(s, wide)),
            ("transpose", {
                let rows = array!(a; i => s.add(a, s.splat(i as f32)));
                let columns = s.transpose(rows);
                (0..LANES).flat_map(|i| numbers(s, columns[i])).collect()
            }),
            ("exp", numbers(s, math::exp(s, a))),
            ("tanh", numbers(s, math::tanh(s, a))),
            ("silu", numbers(s, math::activate(s, Act::Silu, a))),
            ("gelu_erf", numbers(s, math::activate(s, Act::GeluErf, a))),
            ("gelu_tanh", numbers(s, math::activate(s, Act::GeluTanh, a))),
            ("relu", numbers(s, math::activate(s, Act::Relu, a))),
        ]
    }
}

#[test]
fn all_instruction_sets_give_the_same_bits() {
    let mut rng = Rng::new(3);
    for _ in 0..2000 {
        let operations = Operations::random(&mut rng);
        let expected = Scalar.enter(&operations);
        for isa in Isa::available() {
            let got = Arch::of(isa).unwrap().run(&operations);
            for (got, expected) in got.iter().zip(&expected) {
                assert_eq!(got, expected, "{isa}");
            }
        }
    }
}

/// A function of the lanes of one vector.
struct Apply<F>(F, [f32; LANES]);

trait Function {
    fn apply<S: Simd>(&self, s: S, x: S::F) -> S::F;
}

impl<F: Function> Kernel for Apply<F> {
    type Output = [f32; LANES];

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> [f32; LANES] {
        s.to_array(self.0.apply(s, s.load(&self.1)))
    }
}

#[derive(Clone, Copy)]
struct Exp;
impl Function for Exp {
    fn apply<S: Simd>(&self, s: S, x: S::F) -> S::F {
        math::exp(s, x)
    }
}

#[derive(Clone, Copy)]
struct Tanh;
impl Function for Tanh {
    fn apply<S: Simd>(&self, s: S, x: S::F) -> S::F {
        math::tanh(s, x)
    }
}

#[derive(Clone, Copy)]
struct Activate(Act);
impl Function for Activate {
    fn apply<S: Simd>(&self, s: S, x: S::F) -> S::F {
        math::activate(s, self.0, x)
    }
}

/// Greatest relative and absolute error against `exact`, over `from ..= to`.
fn errors(f: impl Function + Copy, exact: impl Fn(f64) -> f64, from: f32, to: f32) -> (f64, f64) {
    const STEPS: usize = 200_000;
    let (mut relative, mut absolute) = (0.0f64, 0.0f64);
    for i in (0..=STEPS).step_by(LANES) {
        let x: [f32; LANES] = std::array::from_fn(|j| {
            from + (to - from) * ((i + j).min(STEPS) as f32 / STEPS as f32)
        });
        for (x, got) in x.into_iter().zip(Scalar.enter(Apply(f, x))) {
            let expected = exact(f64::from(x));
            let error = (f64::from(got) - expected).abs();
            absolute = absolute.max(error);
            if expected != 0.0 {
                relative = relative.max(error / expected.abs());
            }
        }
    }
    (relative, absolute)
}

/// The error function by a series of positive terms (Abramowitz and Stegun 7.1.6).
fn erf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..400 {
        term *= 2.0 * x * x / f64::from(2 * n + 1);
        sum += term;
    }
    std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp() * sum
}

/// `1 - erf(x)` for `x > 0` without cancelling: where the series would, by a continued fraction
/// (Abramowitz and Stegun 7.1.14).
fn erfc(x: f64) -> f64 {
    if x < 2.0 {
        return 1.0 - erf(x);
    }
    let fraction = (1..200)
        .rev()
        .fold(x, |rest, n| x + f64::from(n) / 2.0 / rest);
    (-x * x).exp() * 0.5 * std::f64::consts::FRAC_2_SQRT_PI / fraction
}

#[test]
fn functions_keep_their_error_bounds() {
    let (relative, _) = errors(Exp, f64::exp, -87.0, 88.0);
    assert!(relative < 2e-7, "exp {relative:e}");
    let (relative, _) = errors(Tanh, f64::tanh, -12.0, 12.0);
    assert!(relative < 5e-7, "tanh {relative:e}");

    let silu = |x: f64| x / (1.0 + (-x).exp());
    let (relative, _) = errors(Activate(Act::Silu), silu, -80.0, 80.0);
    assert!(relative < 5e-7, "silu {relative:e}");

    assert!((erfc(2.0) / (1.0 - erf(2.0)) - 1.0).abs() < 1e-12);
    let gelu = |x: f64| {
        let z = x * std::f64::consts::FRAC_1_SQRT_2;
        0.5 * x * if x < 0.0 { erfc(-z) } else { 1.0 + erf(z) }
    };
    let (_, absolute) = errors(Activate(Act::GeluErf), gelu, -12.0, 12.0);
    assert!(absolute < 1e-6, "gelu_erf {absolute:e}");
    let (relative, _) = errors(Activate(Act::GeluErf), gelu, -6.0, 12.0);
    assert!(relative < 3e-5, "gelu_erf {relative:e}");

    let gelu_tanh = |x: f64| {
        let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
        0.5 * x * (1.0 + inner.tanh())
    };
    let (_, absolute) = errors(Activate(Act::GeluTanh), gelu_tanh, -12.0, 12.0);
    assert!(absolute < 1e-6, "gelu_tanh {absolute:e}");
}

#[test]
fn exp_of_zero_is_one_and_nan_stays() {
    let x: [f32; LANES] = std::array::from_fn(|i| if i == 0 { 0.0 } else { f32::NAN });
    let y = Scalar.enter(Apply(Exp, x));
    assert_eq!(y[0], 1.0);
    assert!(y[1..].iter().all(|y| y.is_nan()));
}

/// The sums of whole chains of the greatest products, by bits of a weight.
struct Greatest;

impl Kernel for Greatest {
    type Output = Vec<(i32, Vec<u32>)>;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Self::Output {
        let mut all = Vec::new();
        for bits in 1..=7 {
            for x in [127, -127_i8] {
                let w = (1 << bits) - 1;
                let start = s.splat_i32(-5);
                let mut sums = s.begin(start);
                for _ in 0..chain(bits) {
                    sums = s.add_narrow(sums, s.splat_u8(w), s.splat_u8(x as u8));
                }
                let sum = 4 * chain(bits) as i32 * i32::from(w) * i32::from(x);
                all.push((sum - 5, integers(s, s.total(sums, start))));
            }
        }
        all
    }
}

#[test]
fn chains_hold_the_greatest_sums() {
    for isa in Isa::available() {
        for (expected, got) in Arch::of(isa).unwrap().run(Greatest) {
            assert!(
                got.iter().all(|&got| got as i32 == expected),
                "{isa}: {got:?} {expected}"
            );
        }
    }
}
