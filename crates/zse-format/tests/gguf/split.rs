//! Models split over several files.

use std::fs;
use std::path::Path;

use zse_format::{Checkpoint, FormatError, GgufWriter};
use zse_quant::GgmlType;

use crate::counting::peak_during;

/// What a part says of itself; changed by the tests that want disagreement.
#[derive(Clone)]
struct Part {
    no: Option<u16>,
    count: Option<u16>,
    tensors: Option<i32>,
    name: &'static str,
}

/// The parts of a sound model of three files with a tensor each.
fn sound() -> Vec<Part> {
    ["a", "b", "c"]
        .into_iter()
        .zip(0..)
        .map(|(name, no)| Part {
            no: Some(no),
            count: Some(3),
            tensors: Some(3),
            name,
        })
        .collect()
}

fn write(dir: &Path, parts: &[Part]) {
    for (part, number) in parts.iter().zip(1..) {
        let mut writer = GgufWriter::new();
        if number == 1 {
            writer.set("general.architecture", "llama").expect("set");
        }
        part.no
            .into_iter()
            .for_each(|v| writer.set("split.no", v).expect("set"));
        part.count
            .into_iter()
            .for_each(|v| writer.set("split.count", v).expect("set"));
        part.tensors
            .into_iter()
            .for_each(|v| writer.set("split.tensors.count", v).expect("set"));
        writer
            .declare(part.name, GgmlType::I8, &[1])
            .expect("declared");
        let mut file = writer.create(&path(dir, number)).expect("created");
        file.write(part.name, &[number as u8]).expect("written");
        file.finish().expect("finished");
    }
}

fn path(dir: &Path, number: usize) -> std::path::PathBuf {
    dir.join(format!("model-{number:05}-of-00003.gguf"))
}

#[test]
fn any_part_opens_the_whole_model() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    write(dir.path(), &sound());
    for number in 1..=3 {
        let file = Checkpoint::open(&path(dir.path(), number)).expect("a sound model");
        assert_eq!(
            file.metadata().str("general.architecture").expect("text"),
            Some("llama")
        );
        let all: Vec<_> = file
            .tensors()
            .map(|t| (t.name, t.data.bytes()[0]))
            .collect();
        assert_eq!(all, [("a", 1), ("b", 2), ("c", 3)]);
        assert_eq!(file.tensor("b").expect("it is there").data.bytes(), [2]);
        file.release_pages(&file.tensor("c").expect("it is there"));
        let sizes = (1..=3).map(|n| fs::metadata(path(dir.path(), n)).expect("a file").len());
        assert_eq!(file.file_bytes(), sizes.sum::<u64>());
    }
}

/// The error of opening a model that `change` has spoilt.
fn refused(change: impl FnOnce(&mut Vec<Part>)) -> FormatError {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut parts = sound();
    change(&mut parts);
    write(dir.path(), &parts);
    let (result, peak) = peak_during(|| Checkpoint::open(&path(dir.path(), 1)));
    assert!(peak < 1 << 20, "{peak} bytes");
    result.expect_err("it is spoilt")
}

#[test]
fn parts_that_disagree_are_refused() {
    let names = |error: FormatError, key: &str| {
        let message = error.to_string();
        assert!(message.contains(key), "{message}");
    };
    names(refused(|p| p[1].no = Some(2)), "split.no is 2");
    names(refused(|p| p[0].no = Some(1)), "split.no is 1");
    names(refused(|p| p[2].count = Some(4)), "split.count is 4");
    names(refused(|p| p[0].count = Some(2)), "split.count is 2");
    names(
        refused(|p| p[0].count = Some(u16::MAX)),
        "split.count is 65535",
    );
    names(
        refused(|p| p[0].tensors = Some(4)),
        "split.tensors.count is 4",
    );
    names(refused(|p| p[2].no = None), "split.no");
    names(refused(|p| p[1].count = None), "split.count");
    names(refused(|p| p[0].tensors = Some(-1)), "split.tensors.count");
    names(refused(|p| p[2].name = "a"), "name of tensor \"a\"");
    names(
        refused(|p| p.truncate(2)),
        "model-00003-of-00003.gguf: cannot open",
    );
}

#[test]
fn a_part_cannot_be_opened_alone() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    write(dir.path(), &sound());
    let bytes = fs::read(path(dir.path(), 1)).expect("read");
    let error = Checkpoint::from_bytes(bytes, "part").expect_err("the others are missing");
    assert!(matches!(&error, FormatError::Split { .. }), "{error}");

    let renamed = dir.path().join("model.gguf");
    fs::rename(path(dir.path(), 1), &renamed).expect("renamed");
    let error = Checkpoint::open(&renamed)
        .expect_err("its number is gone")
        .to_string();
    assert!(error.contains("name-00001-of-00003.gguf"), "{error}");
}
