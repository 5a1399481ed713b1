//! The grids of the i-quants: which groups of 4 or 8 small integers an index stands for.
//!
//! The tables are facts of the formats, taken from ggml with attribution, stored as digits and
//! expanded at compile time.

mod iq1;
mod iq2;
mod iq3;

/// Groups of 8 from digits of 2 bits.
const fn expand8<const N: usize>(codes: &[u16; N], values: [i8; 3]) -> [[i8; 8]; N] {
    let mut grid = [[0; 8]; N];
    let mut i = 0;
    while i < 8 * N {
        grid[i / 8][i % 8] = values[(codes[i / 8] >> (2 * (i % 8))) as usize & 3];
        i += 1;
    }
    grid
}

/// Groups of 4 from digits of 3 bits.
const fn expand4<const N: usize>(codes: &[u16; N], values: [i8; 8]) -> [[i8; 4]; N] {
    let mut grid = [[0; 4]; N];
    let mut i = 0;
    while i < 4 * N {
        grid[i / 4][i % 4] = values[(codes[i / 4] >> (3 * (i % 4))) as usize & 7];
        i += 1;
    }
    grid
}

/// IQ1_S and IQ1_M: 11-bit index.
pub static IQ1S: [[i8; 8]; 2048] = expand8(&iq1::IQ1S, [-1, 0, 1]);
/// IQ2_XXS: 8-bit index.
pub static IQ2XXS: [[i8; 8]; 256] = expand8(&iq2::IQ2XXS, [8, 25, 43]);
/// IQ2_XS: 9-bit index.
pub static IQ2XS: [[i8; 8]; 512] = expand8(&iq2::IQ2XS, [8, 25, 43]);
/// IQ2_S: 10-bit index.
pub static IQ2S: [[i8; 8]; 1024] = expand8(&iq2::IQ2S, [8, 25, 43]);
/// IQ3_XXS: 8-bit index.
pub static IQ3XXS: [[i8; 4]; 256] = expand4(&iq3::IQ3XXS, [4, 12, 20, 28, 36, 44, 52, 62]);
/// IQ3_S: 9-bit index.
pub static IQ3S: [[i8; 4]; 512] = expand4(&iq3::IQ3S, [1, 3, 5, 7, 9, 11, 13, 15]);

/// Seven signs to eight: the last makes the number of minus signs even.
#[inline]
pub(crate) fn even_signs(signs: u32) -> u8 {
    let signs = (signs & 127) as u8;
    signs | ((signs.count_ones() as u8 & 1) << 7)
}

/// Negates the values whose bit is set.
#[inline]
pub(crate) fn with_signs(values: [i8; 8], signs: u8) -> [i8; 8] {
    std::array::from_fn(|i| {
        let minus = -(((signs >> i) & 1) as i8);
        (values[i] ^ minus) - minus
    })
}

/// Two groups of 4 as one of 8.
#[inline]
pub(crate) fn join(a: [i8; 4], b: [i8; 4]) -> [i8; 8] {
    std::array::from_fn(|i| if i < 4 { a[i] } else { b[i - 4] })
}

/// Four groups of 8 as one of 32.
#[inline]
pub(crate) fn collect32(group: impl Fn(usize) -> [i8; 8]) -> [i8; 32] {
    let mut q = [0; 32];
    for (l, q) in q.as_chunks_mut().0.iter_mut().enumerate() {
        *q = group(l);
    }
    q
}
