//! Opens any bytes as a `.zse` file, and reads all that an open one has to give.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zse_format::{Checkpoint, Layout};

fuzz_target!(|bytes: &[u8]| {
    let file = match Checkpoint::from_bytes(bytes.to_vec(), "fuzz") {
        Ok(file) => file,
        Err(error) => {
            assert!(error.to_string().starts_with("fuzz: "));
            return;
        }
    };
    assert_eq!(file.metadata().iter().count(), file.metadata().len());
    for tensor in file.tensors() {
        let found = file.tensor(tensor.name).expect("found by its name");
        assert_eq!(found.stored_len(), tensor.stored().len());
        // Rows take no more than their tiles.
        let rows = tensor.data.bytes();
        assert!(rows.len() == tensor.data.len() && rows.len() <= tensor.stored_len());
        let is_tiled = tensor.layout() == Layout::Tiles16;
        assert_eq!(file.tiles(tensor.name).is_some(), is_tiled);
        file.release_pages(&tensor);
    }
    if let Some(converted) = file.converted() {
        assert_eq!(converted.checksums().len(), file.tensors().count());
        let grouped: u64 = converted.groups().iter().map(|g| g.tensors).sum();
        assert_eq!(grouped, file.tensors().count() as u64);
        let _ = file.verify(|_| ());
    }
});
