//! Swapped blocks in less room, at the price of exactness: what comes back was rounded.

use std::io;

use zse_model::executor::KvType;

/// From the type of the numbers that executors give and take, to the one that they are kept in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Compaction {
    given: KvType,
    kept: KvType,
}

impl Compaction {
    /// # Errors
    /// If the executor's blocks cannot be rounded (`given` is none), or would not be smaller.
    pub(super) fn new(given: Option<KvType>, kept: KvType) -> io::Result<Self> {
        let wrong = |why| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        let Some(given) = given else {
            let why = "the keys and values of this device cannot be compacted";
            return wrong(why.to_owned());
        };
        let this = Self { given, kept };
        match this.kept_bytes(1 << 20) < 1 << 20 {
            true => Ok(this),
            false => wrong(format!(
                "keys and values of type {given} take no less room as {kept}: compact them to less"
            )),
        }
    }

    /// What so many bytes of a block take when they are kept.
    pub(super) fn kept_bytes(self, bytes: usize) -> usize {
        let of = |ty: KvType| ty.head_bytes(BLOCK).unwrap_or(usize::MAX);
        bytes.div_ceil(of(self.given)).saturating_mul(of(self.kept))
    }

    /// The bytes of a block as they are kept; `None` if they have no form of that type.
    pub(super) fn compact(self, block: &[u8]) -> Option<Vec<u8>> {
        self.given.recode(self.kept, block)
    }

    /// The bytes of a block as an executor takes them.
    pub(super) fn expand(self, kept: &[u8]) -> Option<Vec<u8>> {
        self.kept.recode(self.given, kept)
    }
}

/// Numbers that have one scale, in types that have scales.
const BLOCK: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_take_at_most_55_percent_of_their_room_and_come_back_rounded() {
        let numbers = (0..256u32).map(|i| (i as f32 * 0.37).sin());
        let f32: Vec<u8> = numbers.flat_map(f32::to_le_bytes).collect();
        let f16 = KvType::F32.recode(KvType::F16, &f32).expect("whole blocks");
        for (kept, percent, error) in [(KvType::Q8_0, 54, 0.005), (KvType::Q4_0, 29, 0.13)] {
            let compaction = Compaction::new(Some(KvType::F16), kept).expect("smaller");
            let compacted = compaction.compact(&f16).expect("finite numbers");
            assert_eq!(compacted.len(), compaction.kept_bytes(f16.len()));
            assert!(compacted.len() * 100 <= f16.len() * percent);
            let back = compaction.expand(&compacted).expect("whole blocks");
            let [back, before] = [&back, &f16].map(|bytes| {
                let f32 = KvType::F16
                    .recode(KvType::F32, bytes)
                    .expect("whole blocks");
                let numbers = f32.as_chunks().0.iter();
                numbers.map(|x| f32::from_le_bytes(*x)).collect::<Vec<_>>()
            });
            for (back, before) in back.iter().zip(&before) {
                assert!((back - before).abs() <= error, "{back} {before}");
            }
        }
    }

    #[test]
    fn what_would_not_be_smaller_or_is_no_number_is_refused() {
        for (given, kept) in [
            (None, KvType::Q8_0),
            (Some(KvType::Q8_0), KvType::Q8_0),
            (Some(KvType::Q4_0), KvType::Q8_0),
            (Some(KvType::F16), KvType::Bf16),
        ] {
            assert!(Compaction::new(given, kept).is_err(), "{given:?} {kept}");
        }
        let compaction = Compaction::new(Some(KvType::F16), KvType::Q8_0).expect("smaller");
        assert_eq!(compaction.compact(&[0xff; 64]), None, "NaN");
        assert_eq!(compaction.compact(&[0; 63]), None, "a part of a block");
    }
}
