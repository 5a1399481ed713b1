//! Which conversion a partial file is of.

use std::fs;
use std::time::UNIX_EPOCH;

use zse_format::{Checkpoint, Checksum, Checksummer};

use super::ConvertOptions;
use super::merge::Merge;

/// What two conversions have in common if one may go on where the other ended: the source's files
/// as they are now, everything that the header says, how weights are encoded, and what is added to them.
pub(super) fn identity(
    source: &Checkpoint,
    header: &[u8],
    options: &ConvertOptions,
    merge: &Merge,
) -> Checksum {
    let mut all = Checksummer::default();
    let mut put = |part: &str| {
        all.write(&(part.len() as u64).to_le_bytes());
        all.write(part.as_bytes());
    };
    put(env!("CARGO_PKG_VERSION"));
    let mut is_in_memory = false;
    for file in source.files() {
        put(file);
        let facts = fs::metadata(file).ok();
        let modified = facts.as_ref().and_then(|facts| {
            let time = facts.modified().ok()?;
            time.duration_since(UNIX_EPOCH).ok()
        });
        is_in_memory |= facts.is_none();
        put(&format!(
            "{:?} {modified:?}",
            facts.map(|facts| facts.len())
        ));
    }
    if is_in_memory {
        // Nothing but its bytes tells such a source from another of the same shapes.
        let tensors = source.tensors();
        tensors.for_each(|tensor| all.write(&tensor.data.bytes()));
    }
    all.write(header);
    if let Some(importance) = &options.importance {
        importance.digest(&mut all);
    }
    merge.digest(&mut all);
    all.finish()
}
