//! Hashes by which the hub names contents.

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

/// The hash of what came so far.
#[derive(Clone)]
pub(crate) struct Digest(Context);

impl Digest {
    /// For contents of `size` bytes that the hub calls `etag`: SHA-256 of large files (64 digits),
    /// git's object id of small ones (40 digits).
    pub(crate) fn new(etag: &str, size: u64) -> Self {
        if etag.len() == 64 {
            return Self(Context::new(&SHA256));
        }
        let mut sha1 = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
        sha1.update(format!("blob {size}\0").as_bytes());
        Self(sha1)
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// In hexadecimal.
    pub(crate) fn finish(self) -> String {
        hex(self.0.finish().as_ref())
    }
}

/// The SHA-256 of a text, in hexadecimal.
pub(crate) fn sha256(text: &str) -> String {
    hex(ring::digest::digest(&SHA256, text.as_bytes()).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_hashes_are_those_of_git_and_of_sha256sum() {
        let of = |etag: &str, bytes: &[u8]| {
            let mut digest = Digest::new(etag, bytes.len() as u64);
            digest.update(bytes);
            digest.finish()
        };
        // `printf hello | git hash-object --stdin`, `printf hello | sha256sum`
        assert_eq!(
            of(&"0".repeat(40), b"hello"),
            "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0"
        );
        assert_eq!(
            of(&"0".repeat(64), b"hello"),
            "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
        );
    }
}
