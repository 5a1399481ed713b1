//! XXH3-64, the checksum of `.zse` files: as fast as memory, and made for accidents, not against
//! forgers.

use std::fmt;
use std::hash::Hasher;

use serde::de::Deserializer;
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use crate::text::read_text;

/// An XXH3-64 checksum; 16 hexadecimal digits in JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checksum(pub u64);

impl Serialize for Checksum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:016x}", self.0))
    }
}

impl<'de> Deserialize<'de> for Checksum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read_text(deserializer, "16 hexadecimal digits", |text| {
            let is_hex = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
            let value = is_hex.then(|| u64::from_str_radix(text, 16).ok());
            value.flatten().map(Self)
        })
    }
}

impl Checksum {
    /// The checksum of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(XxHash3_64::oneshot(bytes))
    }
}

/// A [`Checksum`] of bytes that come piece by piece.
#[derive(Clone, Default)]
pub struct Checksummer(XxHash3_64);

impl Checksummer {
    /// Takes the next piece.
    pub fn write(&mut self, bytes: &[u8]) {
        Hasher::write(&mut self.0, bytes);
    }

    /// The checksum of all pieces so far.
    pub fn finish(&self) -> Checksum {
        Checksum(self.0.finish())
    }
}

impl fmt::Debug for Checksummer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Checksummer({:016x})", self.finish().0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_specification() {
        // From the reference implementation's own test vectors: an empty input, seed 0.
        assert_eq!(Checksum::of(b""), Checksum(0x2D06_8005_38D3_94C2));
        let text = b"a model, in pieces of any length".repeat(40);
        for cut in [0, 1, 100, 240, 241, text.len()] {
            let mut pieces = Checksummer::default();
            pieces.write(&text[..cut]);
            pieces.write(&text[cut..]);
            assert_eq!(pieces.finish(), Checksum::of(&text), "cut at {cut}");
        }
    }
}
