//! Random damage to valid files never does more than return an error.

use proptest::prelude::*;
use zse_format::Checkpoint;

use crate::raw::{sample, walk};

#[derive(Clone, Debug)]
enum Damage {
    Set(usize, u8),
    /// Sets eight bytes to a value that is a likely length or count.
    Number(usize, u64),
    Remove(usize, usize),
    Repeat(usize, usize),
    CutOff(usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<prop::sample::Index>().prop_map(|i| i.index(1 << 20));
    let number = prop_oneof![
        0..300u64,
        Just(u64::MAX),
        Just(i64::MAX as u64),
        any::<u64>()
    ];
    prop_oneof![
        4 => (at.clone(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        4 => (at.clone(), number).prop_map(|(at, number)| Damage::Number(at, number)),
        1 => (at.clone(), 1..40usize).prop_map(|(at, len)| Damage::Remove(at, len)),
        1 => (at.clone(), 1..40usize).prop_map(|(at, len)| Damage::Repeat(at, len)),
        1 => at.prop_map(Damage::CutOff),
    ]
}

fn apply(bytes: &mut Vec<u8>, damage: &Damage) {
    let place = |at: usize| at % bytes.len();
    match *damage {
        Damage::Set(at, byte) => {
            let at = place(at);
            bytes[at] = byte;
        }
        Damage::Number(at, number) => {
            let at = place(at);
            let len = (bytes.len() - at).min(8);
            bytes[at..at + len].copy_from_slice(&number.to_le_bytes()[..len]);
        }
        Damage::Remove(at, len) => {
            let at = place(at);
            bytes.drain(at..(at + len).min(bytes.len() - 1).max(at));
        }
        Damage::Repeat(at, len) => {
            let at = place(at);
            let piece = bytes[at..(at + len).min(bytes.len())].to_vec();
            bytes.splice(at..at, piece);
        }
        Damage::CutOff(at) => {
            let at = place(at);
            bytes.truncate(at.max(1));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn damaged_files_never_panic(
        version in 2..4u32,
        alignment in prop::sample::select(vec![1u32, 32, 64]),
        damages in prop::collection::vec(damage(), 1..6),
    ) {
        let mut bytes = sample(version, alignment).bytes;
        for damage in &damages {
            apply(&mut bytes, damage);
        }
        match Checkpoint::from_bytes(bytes, "damaged") {
            Ok(file) => prop_assert!(walk(&file) < 1 << 20),
            Err(error) => prop_assert!(error.to_string().starts_with("damaged: ")),
        }
    }
}
