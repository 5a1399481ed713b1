//! Rows cut in blocks, with the weight of each error.

use std::array::from_fn;

use super::fit::Sample;
use crate::block::{Layout, blocks_mut};

/// Encodes the blocks of one row, each from its values alone.
pub(super) fn round_blocks<B: Layout, const LEN: usize>(
    row: &[f32],
    dst: &mut [u8],
    encode: impl Fn(&[f32; LEN]) -> B,
) {
    const { assert!(B::LEN == LEN) }
    for (block, x) in blocks_mut::<B>(dst).iter_mut().zip(row.as_chunks().0) {
        *block = encode(x);
    }
}

/// Encodes the blocks of one row, each from its values and how much an error in each counts.
pub(super) fn weighted_blocks<B: Layout, const LEN: usize>(
    row: &[f32],
    importance: Option<&[f32]>,
    dst: &mut [u8],
    encode: impl Fn(&[f32; LEN], &[f32; LEN]) -> B,
) {
    for (block, x, w) in weighted(row, importance, dst) {
        *block = encode(x, &w);
    }
}

/// The blocks of one row, their values, and how much an error in each counts.
///
/// Importance is scaled so that its greatest is 1 in each block. A block without any counts all
/// its errors alike.
fn weighted<'a, B: Layout + 'a, const LEN: usize>(
    row: &'a [f32],
    importance: Option<&'a [f32]>,
    dst: &'a mut [u8],
) -> impl Iterator<Item = (&'a mut B, &'a [f32; LEN], [f32; LEN])> {
    const { assert!(B::LEN == LEN) }
    let importance = importance.map(|i| i.as_chunks().0);
    let blocks = blocks_mut(dst).iter_mut().zip(row.as_chunks().0);
    blocks.enumerate().map(move |(i, (block, x))| {
        let w = importance.map_or([1.0; LEN], |importance| relative(&importance[i]));
        (block, x, w)
    })
}

/// A block whose scales are searched for.
pub(super) trait Searched<const LEN: usize>: Layout {
    /// The block for values that do not all round to zero in f16, and how much an error in each
    /// counts. To be inlined always, with all of weight that it calls (closures cannot be told to):
    /// it is compiled for several kinds of vectors.
    fn searched(x: &[f32; LEN], w: &[f32; LEN]) -> Self;
}

/// As [`weighted_blocks`], with the widest vectors that the machine has. The bytes are the same with
/// any: no step is fused with another, and lanes add up in one order.
pub(super) fn search_blocks<B: Searched<LEN>, const LEN: usize>(
    row: &[f32],
    importance: Option<&[f32]>,
    dst: &mut [u8],
) {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
            // SAFETY: the machine has what the function is compiled for.
            return unsafe { search_avx512::<B, LEN>(row, importance, dst) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the machine has what the function is compiled for.
            return unsafe { search_avx2::<B, LEN>(row, importance, dst) };
        }
    }
    search::<B, LEN>(row, importance, dst);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,avx512f,avx512vl")]
fn search_avx512<B: Searched<LEN>, const LEN: usize>(
    row: &[f32],
    importance: Option<&[f32]>,
    dst: &mut [u8],
) {
    search::<B, LEN>(row, importance, dst);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn search_avx2<B: Searched<LEN>, const LEN: usize>(
    row: &[f32],
    importance: Option<&[f32]>,
    dst: &mut [u8],
) {
    search::<B, LEN>(row, importance, dst);
}

#[inline(always)]
fn search<B: Searched<LEN>, const LEN: usize>(
    row: &[f32],
    importance: Option<&[f32]>,
    dst: &mut [u8],
) {
    for (block, x, w) in weighted(row, importance, dst) {
        *block = match x.iter().all(|x| x.abs() <= ROUNDS_TO_ZERO) {
            true => B::default(),
            false => B::searched(x, &w),
        };
    }
}

/// Half the least f16, 2^-25: under it, nothing is better than a scale of 0. (Searches would lose
/// their way there, as squares vanish.)
const ROUNDS_TO_ZERO: f32 = 1.0 / 33_554_432.0;

/// Importance over its maximum. Values without importance get so little that it only decides
/// among encodings that are otherwise alike.
fn relative<const LEN: usize>(importance: &[f32; LEN]) -> [f32; LEN] {
    const LITTLE: f32 = 1e-9;
    let most = importance.iter().fold(0.0, |m: f32, w| m.max(*w));
    match most > 0.0 {
        true => importance.map(|w| w / most + LITTLE),
        false => [1.0; LEN],
    }
}

/// The `S` runs of a superblock.
#[inline(always)]
pub(super) fn runs<'a, const N: usize, const S: usize>(
    x: &'a [f32; 256],
    w: &'a [f32; 256],
) -> [Sample<'a, N>; S] {
    const { assert!(N * S == 256) }
    from_fn(|j| Sample {
        x: &x.as_chunks().0[j],
        w: &w.as_chunks().0[j],
    })
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::iq4::{Iq4Nl, Iq4Xs};
    use crate::kquants::{Q2K, Q3K, Q4K, Q5K, Q6K};
    use crate::legacy::{Q4_0, Q4_1, Q5_0, Q5_1};

    const COLS: usize = 512;

    fn all_vectors_give_the_same_bytes<B: Searched<LEN>, const LEN: usize>(
        row: &[f32],
        importance: Option<&[f32]>,
    ) -> Result<(), TestCaseError> {
        let empty = vec![0; COLS / LEN * size_of::<B>()];
        let [mut plain, mut avx2, mut avx512] = [(); 3].map(|()| empty.clone());
        search::<B, LEN>(row, importance, &mut plain);
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the machine has what the function is compiled for.
            unsafe { search_avx2::<B, LEN>(row, importance, &mut avx2) };
            prop_assert_eq!(&plain, &avx2);
        }
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
            // SAFETY: the machine has what the function is compiled for.
            unsafe { search_avx512::<B, LEN>(row, importance, &mut avx512) };
            prop_assert_eq!(&plain, &avx512);
        }
        Ok(())
    }

    fn row() -> impl Strategy<Value = Vec<f32>> {
        let number = prop_oneof![8 => -0.1f32..0.1, 1 => -30.0f32..30.0, 1 => Just(0.0)];
        prop::collection::vec(number, COLS)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn blocks_do_not_depend_on_the_vectors(
            row in row(),
            weights in prop::collection::vec(0.0f32..9.0, COLS),
            is_weighted: bool,
        ) {
            let importance = is_weighted.then_some(&weights[..]);
            all_vectors_give_the_same_bytes::<Q2K, _>(&row, importance)?;
            all_vectors_give_the_same_bytes::<Q3K, _>(&row, importance)?;
            all_vectors_give_the_same_bytes::<Q4K, _>(&row, importance)?;
            all_vectors_give_the_same_bytes::<Q5K, _>(&row, importance)?;
            all_vectors_give_the_same_bytes::<Q6K, _>(&row, importance)?;
            all_vectors_give_the_same_bytes::<Iq4Xs, _>(&row, importance)?;
            all_vectors_give_the_same_bytes::<Iq4Nl, _>(&row, importance)?;
            all_vectors_give_the_same_bytes::<Q4_0, _>(&row, importance)?;
            all_vectors_give_the_same_bytes::<Q4_1, _>(&row, importance)?;
            all_vectors_give_the_same_bytes::<Q5_0, _>(&row, importance)?;
            all_vectors_give_the_same_bytes::<Q5_1, _>(&row, importance)?;
        }
    }
}
