//! Opens any files as a Hugging Face directory, and makes the bytes of all its tensors.
//!
//! The input is `config.json` up to the first byte that is 0, and `model.safetensors` behind that.
#![no_main]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use zse_format::Checkpoint;

fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("the folder for temporary files can be written to");
}

fuzz_target!(|input: &[u8]| {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("zse-fuzz-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("the folder for temporary files can be written to");
        folder
    });
    let end = input.iter().position(|&byte| byte == 0);
    let (config, tensors) = input.split_at(end.unwrap_or(input.len()));
    write(&folder.join("config.json"), config);
    write(
        &folder.join("model.safetensors"),
        tensors.get(1..).unwrap_or_default(),
    );
    let Ok(file) = Checkpoint::open(folder) else {
        return;
    };
    assert_eq!(file.metadata().iter().count(), file.metadata().len());
    for tensor in file.tensors() {
        // The second half of the rows, made alone, is that of the whole.
        let rows: u64 = tensor.shape.iter().skip(1).product();
        let row = tensor.data.len() / rows.max(1) as usize;
        let half = row * (rows / 2) as usize;
        let piece = tensor.data.piece(half..tensor.data.len()).to_vec();
        let bytes = tensor.data.bytes();
        assert_eq!(bytes[half..], piece);
        let numbers: u64 = tensor.shape.iter().product();
        let size = tensor.ty.row_bytes(numbers as usize);
        assert_eq!(size, Some(bytes.len()));
        drop(bytes);
        file.release_pages(&tensor);
    }
});
