//! Tensors that are made piece by piece are those that are made at once, and no more than a piece of
//! them is ever in memory.

use std::fs;
use std::path::{Path, PathBuf};

use zse_format::{Checkpoint, TensorView};

/// Every directory of the fixtures of zse-model: all architectures, all quantized formats.
fn directories() -> Vec<PathBuf> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../zse-model/tests");
    let folders = ["golden", "quantized"].map(|folder| fs::read_dir(tests.join(folder)));
    let entries = folders.into_iter().flat_map(|folder| folder.unwrap());
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.join("config.json").exists())
        .collect()
}

/// The bytes of a tensor's rows, put together from pieces of `rows` rows.
fn in_pieces(tensor: &TensorView<'_>, rows: usize) -> Vec<u8> {
    let step = rows * row_bytes(tensor);
    let len = tensor.data.len();
    let pieces = (0..len).step_by(step);
    pieces
        .flat_map(|at| tensor.data.piece(at..len.min(at + step)).to_vec())
        .collect()
}

fn row_bytes(tensor: &TensorView<'_>) -> usize {
    tensor.ty.row_bytes(tensor.shape[0] as usize).unwrap()
}

#[test]
fn pieces_of_any_rows_are_those_of_the_whole() {
    let directories = directories();
    assert!(directories.len() > 30);
    let mut made = 0;
    for path in directories {
        // What is made whole is made by another one, so that it is not counted.
        let [model, whole] = [(); 2].map(|()| Checkpoint::open(&path).unwrap());
        // Not on the bounds of heads, blocks of FP8, tiles of rows or experts.
        for rows in [1, 3, 70] {
            let most = model.tensors().map(|t| rows * row_bytes(&t)).max();
            for tensor in model.tensors() {
                let pieces = in_pieces(&tensor, rows);
                assert!(model.most_made() <= most.unwrap(), "{}", tensor.name);
                let whole = whole.tensor(tensor.name).unwrap().data.bytes();
                let (path, name) = (path.display(), tensor.name);
                assert!(whole == pieces, "{path}: {rows} rows of {name}");
                made += usize::from(tensor.data.is_made());
            }
        }
    }
    assert!(made > 500, "{made}");
}

#[test]
fn pieces_of_what_is_kept_are_parts_of_it() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../zse-model/tests/golden/mixtral");
    let model = Checkpoint::open(&path).unwrap();
    let tensor = model.tensor("blk.0.ffn_down_exps.weight").unwrap();
    let whole = tensor.data.bytes();
    assert_eq!(model.most_made(), whole.len());
    let row = row_bytes(&tensor);
    let part = tensor.data.slice(row..5 * row);
    let piece = part.piece(row..2 * row);
    assert_eq!(piece, whole[2 * row..3 * row]);
    assert_eq!(piece.as_ptr(), whole[2 * row..].as_ptr());
    // Once it is released, a piece of it is made alone, and not kept.
    model.release_pages(&tensor);
    let made = [(); 2].map(|()| part.piece(row..2 * row));
    assert!(made.iter().all(|made| *made == piece));
    assert_ne!(made[0].as_ptr(), piece.as_ptr());
    assert_ne!(made[0].as_ptr(), made[1].as_ptr());
}
