//! Whether there is room for a file before it is written.

use super::ConvertError;
use super::partial::Partial;

/// Refuses a file that its disk has no room for. Where the system does not tell, none is refused.
pub(super) fn check(partial: &Partial) -> Result<(), ConvertError> {
    let needed = partial.plan().bytes.saturating_sub(partial.taken());
    match free_bytes(partial) {
        Some(available) if available < needed => Err(ConvertError::Space {
            path: partial.partial().to_owned(),
            needed,
            available,
        }),
        _ => Ok(()),
    }
}

/// Bytes that this process may still write to the disk of the file.
#[cfg(unix)]
#[allow(
    clippy::useless_conversion,
    reason = "the types differ between systems"
)]
fn free_bytes(partial: &Partial) -> Option<u64> {
    let disk = nix::sys::statvfs::statvfs(partial.partial()).ok()?;
    let blocks: u64 = disk.blocks_available().try_into().ok()?;
    let size: u64 = disk.fragment_size().try_into().ok()?;
    blocks.checked_mul(size)
}

#[cfg(not(unix))]
fn free_bytes(_: &Partial) -> Option<u64> {
    None
}
