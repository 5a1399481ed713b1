//! Written files are read back as they were meant, or refused while they are written.

use std::fs;

use zse_format::{Checkpoint, EncodedValue, FormatError, GgufWriter};
use zse_quant::GgmlType;

use crate::raw::{Raw, sample, scalars};

#[test]
fn a_file_is_copied_with_every_value() {
    let original = Checkpoint::from_bytes(sample(2, 64).bytes, "sample").expect("a valid file");
    let mut writer = GgufWriter::new();
    writer.set_alignment(64).expect("a power of two");
    writer
        .set_all(original.metadata())
        .expect("all are writable");
    for tensor in original.tensors() {
        writer
            .declare(tensor.name, tensor.ty, tensor.shape)
            .expect("declared");
    }
    let mut body = writer.begin(Vec::new(), "copy").expect("begun");
    for tensor in original.tensors() {
        // In two pieces: a tensor need not be in memory as a whole.
        let bytes = tensor.data.bytes();
        let (first, second) = bytes.split_at(bytes.len() / 3);
        body.write(tensor.name, first).expect("written");
        body.write(tensor.name, second).expect("written");
    }
    let copy = Checkpoint::from_bytes(body.finish().expect("all is written"), "copy")
        .expect("what is written can be read");

    assert_eq!(copy.metadata().len(), original.metadata().len());
    for (key, value) in original.metadata().iter() {
        let copied = copy.metadata().get(key).expect("it was copied");
        assert_eq!(
            EncodedValue::from(copied),
            EncodedValue::from(value),
            "{key}"
        );
    }
    for (copied, tensor) in copy.tensors().zip(original.tensors()) {
        assert_eq!(
            (copied.name, copied.ty, copied.shape),
            (tensor.name, tensor.ty, tensor.shape)
        );
        assert_eq!(copied.data.bytes(), tensor.data.bytes());
    }
}

#[test]
fn values_are_encoded_as_the_format_says() {
    let bytes: Vec<_> = scalars().into_iter().map(|(_, bytes)| bytes).collect();
    let mut writer = GgufWriter::new();
    writer.set("a", 1).expect("set");
    writer.set("a", 1.5f32).expect("a value is replaced");
    writer.set("b", &[true, false][..]).expect("set");
    let nested = EncodedValue::nested([EncodedValue::strings(["x", "yz"]), (&[7u8][..]).into()]);
    writer.set("c", nested.expect("arrays only")).expect("set");
    assert_eq!(EncodedValue::nested([EncodedValue::from(1u8)]), None);

    let mut expected = b"GGUF".to_vec();
    expected.extend([3, 0, 0, 0]);
    expected.extend([0; 8]);
    expected.extend(3u64.to_le_bytes());
    let put = |expected: &mut Vec<u8>, key: u8, ty: u8| {
        expected.extend([1, 0, 0, 0, 0, 0, 0, 0, key, ty, 0, 0, 0]);
    };
    put(&mut expected, b'a', 6);
    expected.extend(&bytes[6]);
    put(&mut expected, b'b', 9);
    expected.extend([7, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    put(&mut expected, b'c', 9);
    expected.extend([9, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend([8, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend([
        1, 0, 0, 0, 0, 0, 0, 0, b'x', 2, 0, 0, 0, 0, 0, 0, 0, b'y', b'z',
    ]);
    expected.extend([0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7]);
    let written = writer
        .begin(Vec::new(), "out")
        .expect("begun")
        .finish()
        .expect("no tensors");
    assert_eq!(written, expected);
}

#[test]
fn what_no_file_can_hold_is_refused() {
    let mut writer = GgufWriter::new();
    let mut deep = EncodedValue::from(&[1u8][..]);
    for _ in 0..8 {
        deep = EncodedValue::nested([deep]).expect("an array");
    }
    writer
        .declare("taken", GgmlType::F32, &[4])
        .expect("declared");
    let refusals = [
        writer.set("", 1u32),
        writer.set(&"k".repeat(65_536), 1u32),
        writer.set("general.alignment", 32u32),
        writer.set("deep", deep),
        writer.set_alignment(24),
        writer.set_alignment(0),
        writer.declare("", GgmlType::F32, &[4]),
        writer.declare(&"n".repeat(1025), GgmlType::F32, &[4]),
        writer.declare("taken", GgmlType::F32, &[4]),
        writer.declare("shape", GgmlType::F32, &[]),
        writer.declare("shape", GgmlType::F32, &[4, 0]),
        writer.declare("shape", GgmlType::F32, &[1; 5]),
        writer.declare("shape", GgmlType::Q8_0, &[33]),
        writer.declare("shape", GgmlType::F32, &[u64::MAX, 2]),
    ];
    for (refusal, i) in refusals.into_iter().zip(0..) {
        let error = refusal.expect_err("unwritable");
        assert!(
            matches!(error, FormatError::Unwritable { .. }),
            "{i}: {error}"
        );
    }
}

#[test]
fn as_many_entries_are_written_as_are_read() {
    let most = zse_format::limits::MAX_METADATA;
    let copy = |alignment: u32| {
        let mut raw = Raw::new(3, 0, most);
        (1..most).for_each(|i| raw.text(&format!("k{i:x}"), ""));
        match alignment {
            32 => raw.text("k0", ""),
            other => raw.alignment(other),
        }
        let original = Checkpoint::from_bytes(raw.bytes, "full").expect("the limit is met");
        let mut writer = GgufWriter::new();
        writer.set_alignment(alignment).expect("a power of two");
        writer
            .set_all(original.metadata())
            .expect("all are writable");
        assert!(writer.set("one more", 1u32).is_err());
        writer.set("k1", 1u32).expect("a value is replaced");
        let body = writer.begin(Vec::new(), "copy").expect("begun");
        let copy = body.finish().expect("no tensors");
        let copy = Checkpoint::from_bytes(copy, "copy").expect("what is written can be read");
        assert_eq!(copy.metadata().len() as u64, most);
        writer
    };
    copy(64).set_alignment(128).expect("it has its entry");
    assert!(copy(32).set_alignment(64).is_err());
}

#[test]
fn tensors_are_written_whole_and_in_order() {
    let mut writer = GgufWriter::new();
    writer.declare("a", GgmlType::I8, &[3]).expect("declared");
    writer.declare("b", GgmlType::I8, &[1]).expect("declared");
    let begun = || writer.begin(Vec::new(), "out").expect("begun");
    assert!(begun().write("b", &[1]).is_err());
    assert!(begun().write("a", &[1; 4]).is_err());
    assert!(begun().finish().is_err());
    let mut body = begun();
    body.write("a", &[1, 2]).expect("two bytes");
    assert!(body.write("b", &[1]).is_err());
    body.write("a", &[3]).expect("the third");
    body.write("b", &[4]).expect("written");
    assert!(body.write("b", &[5]).is_err());
    let file = Checkpoint::from_bytes(body.finish().expect("whole"), "out").expect("valid");
    assert_eq!(
        file.tensor("a").expect("it is there").data.bytes(),
        [1, 2, 3]
    );
    assert_eq!(file.tensor("b").expect("it is there").data.bytes(), [4]);
}

#[test]
fn an_unfinished_file_leaves_the_old_one_alone() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("model.gguf");
    fs::write(&path, b"old").expect("written");
    let mut writer = GgufWriter::new();
    writer.declare("a", GgmlType::I8, &[1]).expect("declared");

    let mut unfinished = writer.create(&path).expect("created");
    unfinished.write("a", &[]).expect("nothing is written");
    assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 2);
    unfinished.finish().expect_err("a byte is missing");
    assert_eq!(fs::read(&path).expect("read"), b"old");
    assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1);

    let mut whole = writer.create(&path).expect("created");
    whole.write("a", &[9]).expect("written");
    whole.finish().expect("finished");
    let file = Checkpoint::open(&path).expect("the new file");
    assert_eq!(file.tensor("a").expect("it is there").data.bytes(), [9]);
    assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1);
}
