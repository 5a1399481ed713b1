//! Searches for scales, with the widest vectors that the machine has.

use super::blocks::weighted;
use crate::block::Layout;

/// A block whose scales are searched for.
pub(super) trait Searched<const LEN: usize>: Layout {
    /// The block for values that do not all round to zero in f16, and how much an error in each
    /// counts. To be inlined always, with all of weight that it calls (closures cannot be told to):
    /// it is compiled for several kinds of vectors.
    fn searched(x: &[f32; LEN], w: &[f32; LEN]) -> Self;
}

/// Encodes the blocks of one row as [`weighted_blocks`](super::blocks::weighted_blocks) does, with the
/// widest vectors that the machine has. The bytes are the same with
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
