//! Vectors as arrays: runs everywhere, and says what the others must give.

use super::{Kernel, LANES, Simd};

/// Vectors without an instruction set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scalar;

/// Bytes of a vector.
type Bytes = [u8; 64];

#[inline(always)]
fn zip(a: [f32; LANES], b: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

#[inline(always)]
fn lanes(v: Bytes) -> [u32; LANES] {
    std::array::from_fn(|i| {
        u32::from_le_bytes([v[4 * i], v[4 * i + 1], v[4 * i + 2], v[4 * i + 3]])
    })
}

#[inline(always)]
fn bytes(lanes: [u32; LANES]) -> Bytes {
    let mut out = [0; 64];
    for (to, lane) in out.as_chunks_mut().0.iter_mut().zip(lanes) {
        *to = lane.to_le_bytes();
    }
    out
}

/// To each lane of `acc`, the sum of its four products `f(w) * x`.
#[inline(always)]
fn dot(acc: Bytes, w: Bytes, x: Bytes, f: impl Fn(u8) -> i32) -> Bytes {
    let acc = lanes(acc);
    bytes(std::array::from_fn(|i| {
        let products = (4 * i..4 * i + 4).map(|j| f(w[j]) * i32::from(x[j] as i8));
        acc[i].wrapping_add(products.sum::<i32>() as u32)
    }))
}

impl Simd for Scalar {
    type F = [f32; LANES];
    type I = Bytes;
    type Sums = Bytes;

    const COLUMNS: usize = 1;
    const TILES: usize = 1;
    const DIRECT: usize = 1;
    const FLOAT_COLUMNS: usize = 4;
    const WIDE_OFFSET: i32 = 0;

    #[inline(always)]
    fn enter<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        [x; LANES]
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::F {
        *x
    }
    #[inline(always)]
    fn store(self, v: Self::F, to: &mut [f32; LANES]) {
        *to = v;
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn select_lt(self, a: Self::F, b: Self::F, x: Self::F, y: Self::F) -> Self::F {
        std::array::from_fn(|i| if a[i] < b[i] { x[i] } else { y[i] })
    }
    #[inline(always)]
    fn round(self, v: Self::F) -> Self::I {
        bytes(v.map(|x| x.round_ties_even() as i32 as u32))
    }
    #[inline(always)]
    fn to_f32(self, v: Self::I) -> Self::F {
        lanes(v).map(|x| x as i32 as f32)
    }
    #[inline(always)]
    fn to_bits(self, v: Self::F) -> Self::I {
        bytes(v.map(f32::to_bits))
    }
    #[inline(always)]
    fn from_bits(self, v: Self::I) -> Self::F {
        lanes(v).map(f32::from_bits)
    }

    #[inline(always)]
    fn splat_i32(self, x: i32) -> Self::I {
        bytes([x as u32; LANES])
    }
    #[inline(always)]
    fn splat_u8(self, x: u8) -> Self::I {
        [x; 64]
    }
    #[inline(always)]
    fn load_bytes(self, x: &[u8; 64]) -> Self::I {
        *x
    }
    #[inline(always)]
    fn store_bytes(self, v: Self::I, to: &mut [u8; 64]) {
        *to = v;
    }
    #[inline(always)]
    fn widen_u8(self, x: &[u8; LANES]) -> Self::I {
        bytes(x.map(u32::from))
    }
    #[inline(always)]
    fn widen_i8(self, x: &[u8; LANES]) -> Self::I {
        bytes(x.map(|x| i32::from(x as i8) as u32))
    }
    #[inline(always)]
    fn widen_u16(self, x: &[u8; 2 * LANES]) -> Self::I {
        bytes(std::array::from_fn(|i| {
            u32::from(u16::from_le_bytes([x[2 * i], x[2 * i + 1]]))
        }))
    }
    #[inline(always)]
    fn widen_f16(self, x: &[u8; 2 * LANES]) -> Self::F {
        self.f16_of_low(self.widen_u16(x))
    }
    #[inline(always)]
    fn f16_of_low(self, v: Self::I) -> Self::F {
        lanes(v).map(|x| half::f16::from_bits(x as u16).to_f32())
    }

    #[inline(always)]
    fn and(self, a: Self::I, b: Self::I) -> Self::I {
        std::array::from_fn(|i| a[i] & b[i])
    }
    #[inline(always)]
    fn or(self, a: Self::I, b: Self::I) -> Self::I {
        std::array::from_fn(|i| a[i] | b[i])
    }
    #[inline(always)]
    fn xor(self, a: Self::I, b: Self::I) -> Self::I {
        std::array::from_fn(|i| a[i] ^ b[i])
    }
    #[inline(always)]
    fn shl<const N: u32>(self, v: Self::I) -> Self::I {
        bytes(lanes(v).map(|x| x << N))
    }
    #[inline(always)]
    fn shr<const N: u32>(self, v: Self::I) -> Self::I {
        bytes(lanes(v).map(|x| x >> N))
    }
    #[inline(always)]
    fn max_i32(self, a: Self::I, b: Self::I) -> Self::I {
        let (a, b) = (lanes(a), lanes(b));
        bytes(std::array::from_fn(|i| {
            (a[i] as i32).max(b[i] as i32) as u32
        }))
    }
    #[inline(always)]
    fn store_low_bytes(self, v: Self::I, to: &mut [u8; LANES]) {
        *to = lanes(v).map(|x| x as u8);
    }
    #[inline(always)]
    fn add_i32(self, a: Self::I, b: Self::I) -> Self::I {
        let (a, b) = (lanes(a), lanes(b));
        bytes(std::array::from_fn(|i| a[i].wrapping_add(b[i])))
    }
    #[inline(always)]
    fn mul_i32(self, a: Self::I, b: Self::I) -> Self::I {
        let (a, b) = (lanes(a), lanes(b));
        bytes(std::array::from_fn(|i| a[i].wrapping_mul(b[i])))
    }
    #[inline(always)]
    fn lookup16(self, table: &[u8; 16], i: Self::I) -> Self::I {
        i.map(|i| table[usize::from(i & 15)])
    }

    #[inline(always)]
    fn begin(self, start: Self::I) -> Self::Sums {
        start
    }
    #[inline(always)]
    fn add_narrow(self, sums: Self::Sums, w: Self::I, x: Self::I) -> Self::Sums {
        dot(sums, w, x, i32::from)
    }
    #[inline(always)]
    fn total(self, sums: Self::Sums, _start: Self::I) -> Self::I {
        sums
    }
    #[inline(always)]
    fn wide(self, w: Self::I) -> Self::I {
        w
    }
    #[inline(always)]
    fn dot_wide(self, acc: Self::I, w: Self::I, x: Self::I) -> Self::I {
        dot(acc, w, x, |w| i32::from(w as i8))
    }
}
