//! Opens any bytes as a GGUF file, and reads all that an open one has to give.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zse_format::{Checkpoint, EncodedValue, GgufWriter, Value};

/// Touches every byte of a value; returns how deep it is nested.
fn depth(value: Value<'_>) -> usize {
    match value {
        Value::Array(array) => 1 + array.iter().map(depth).max().unwrap_or(0),
        Value::String(text) => usize::from(text.iter().all(|&b| b == 0)),
        _ => 0,
    }
}

fuzz_target!(|bytes: &[u8]| {
    let file = match Checkpoint::from_bytes(bytes.to_vec(), "fuzz") {
        Ok(file) => file,
        Err(error) => {
            assert!(error.to_string().starts_with("fuzz: "));
            return;
        }
    };
    let metadata = file.metadata();
    let mut writer = GgufWriter::new();
    for (key, value) in metadata.iter() {
        assert!(depth(value) <= 1 + zse_format::limits::MAX_NESTING as usize);
        // Every getter answers, whatever the type.
        let _ = (
            metadata.u32(key),
            metadata.f32(key),
            metadata.bool(key),
            metadata.str(key),
        );
        let _ = (metadata.i32s(key), metadata.f32s(key), metadata.bools(key));
        if let Ok(Some(strings)) = metadata.strings(key) {
            assert_eq!(strings.len(), strings.utf8().count());
        }
        let copy = metadata.get(key).map(EncodedValue::from);
        assert_eq!(copy, Some(EncodedValue::from(value)));
    }
    writer
        .set_all(metadata)
        .expect("what was read can be written");
    for tensor in file.tensors() {
        let found = file
            .tensor(tensor.name)
            .expect("a tensor is found by its name");
        assert_eq!(found.data.bytes(), tensor.data.bytes());
        writer
            .declare(tensor.name, tensor.ty, tensor.shape)
            .expect("what was read can be written");
    }
    // A copy is a valid file with the same contents.
    let mut body = writer.begin(Vec::new(), "copy").expect("memory takes all");
    for tensor in file.tensors() {
        body.write(tensor.name, &tensor.data.bytes())
            .expect("as declared");
    }
    let copy = body.finish().expect("all is written");
    let copy = Checkpoint::from_bytes(copy, "copy").expect("what was written can be read");
    assert!(
        copy.tensors()
            .map(|t| t.data.bytes())
            .eq(file.tensors().map(|t| t.data.bytes()))
    );
});
