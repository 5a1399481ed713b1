//! Malformed files: each is refused with an error that names the field, without allocating more
//! than the larger of 1 MB and four times the file's size.

use proptest::prelude::*;
use zse_format::{Checkpoint, FormatError};

use crate::counting::peak_during;
use crate::sample::{
    DATA_AT, FILE_BYTES, HEADER_BYTES, METADATA_BYTES, PRELUDE, field, header, sample, set,
    with_header,
};

/// Opens a malformed file; its error must name a field that contains `part`.
fn refused(bytes: Vec<u8>, part: &str, what: &str) {
    let size = bytes.len() as u64;
    let (opened, peak) = peak_during(|| Checkpoint::from_bytes(bytes, "hostile"));
    assert!(peak <= (4 * size).max(1 << 20), "{what}: {peak} bytes");
    let error = opened
        .err()
        .unwrap_or_else(|| panic!("{what}: not refused"));
    let FormatError::Malformed { field, offset, .. } = &error else {
        panic!("{what}: {error}");
    };
    assert!(field.contains(part), "{what}: {error}\nexpected: {part}");
    assert!(*offset <= size, "{what}: {error}");
}

#[test]
fn a_prelude_that_cannot_be_is_refused() {
    let good = sample();
    let fields = [
        (
            HEADER_BYTES,
            "header length",
            &[1 << 27, 1 << 40, u64::MAX][..],
        ),
        (METADATA_BYTES, "metadata", &[0, 1, 1 << 30, u64::MAX]),
        (
            DATA_AT,
            "start of the tensor data",
            &[0, 1, 4095, 1 << 40, u64::MAX - 4095],
        ),
        (
            FILE_BYTES,
            "file length",
            &[0, 1, good.len() as u64 + 1, u64::MAX],
        ),
        (56, "reserved field", &[1, u64::MAX]),
    ];
    for (at, part, values) in fields {
        for &value in values {
            let mut bytes = good.clone();
            set(&mut bytes, at, value);
            refused(bytes, part, &format!("{part} = {value}"));
        }
    }
    for version in [0, 2, 1 << 24, u32::MAX] {
        let mut bytes = good.clone();
        bytes[8..12].copy_from_slice(&version.to_le_bytes());
        refused(
            bytes,
            "version of the header",
            &format!("version {version}"),
        );
    }
    for entries in [0, 3, 5, 1 << 20, u32::MAX] {
        let mut bytes = good.clone();
        bytes[12..16].copy_from_slice(&entries.to_le_bytes());
        refused(bytes, "metadata", &format!("{entries} entries"));
    }
    let mut text = good.clone();
    text[4] = b'\n';
    refused(text, "magic of the header", "a file copied as text");
}

#[test]
fn padding_that_is_not_zeros_is_refused() {
    let good = sample();
    let end = PRELUDE as u64 + field(&good, HEADER_BYTES) + field(&good, METADATA_BYTES);
    for at in [end, field(&good, DATA_AT) - 1] {
        let mut bytes = good.clone();
        bytes[at as usize] = 7;
        refused(bytes, "padding behind the metadata", &format!("byte {at}"));
    }
}

#[test]
fn every_truncation_is_refused() {
    let good = sample();
    for len in (0..good.len()).filter(|len| *len < 2048 || len % 97 == 0) {
        let part = if len < 64 {
            " of the header"
        } else {
            "file length"
        };
        refused(
            good[..len].to_vec(),
            part,
            &format!("the first {len} bytes"),
        );
    }
    let longer = [&good[..], &[0]].concat();
    refused(longer, "file length", "one byte more");
}

#[test]
fn a_header_that_cannot_be_is_refused() {
    let good = sample();
    let json = header(&good);
    let up = "tensor \"blk.0.ffn_up_exps.weight\"";
    for (from, to, part) in [
        // Not JSON of the form.
        ("{", "[", "JSON of the header"),
        ("\"tensors\":[", "\"tensor\":[", "JSON of the header"),
        ("\"f16\"", "\"f17\"", "JSON of the header"),
        ("\"tiles16\"", "\"tiles32\"", "JSON of the header"),
        ("[4,3]", "[]", "JSON of the header"),
        ("[4,3]", "[4,3,1,1,1]", "JSON of the header"),
        ("[4,3]", "[-4,3]", "JSON of the header"),
        ("[4,3]", "[4.5,3]", "JSON of the header"),
        ("\"0123456789abcdef\"", "\"0123\"", "JSON of the header"),
        (
            "\"0123456789abcdef\"",
            "\"+123456789abcdef\"",
            "JSON of the header",
        ),
        // Tensors that cannot be.
        ("[4,3]", "[4,0]", "dimension of tensor"),
        ("[4,3]", "[4,18446744073709551615]", "dimension of tensor"),
        ("[32,17,2]", "[33,17,2]", "shape of tensor"),
        (
            "[32,17,2]",
            "[32,4611686018427387904,4611686018427387904]",
            "shape of tensor",
        ),
        ("[32,17,2]", "[32,17,3]", "number of bytes of tensor"),
        ("[32,17,2]", "[32,33,2]", "number of bytes of tensor"),
        (
            "\"q8_0\",\"layout\":\"tiles16\"",
            "\"q8_0\",\"layout\":\"ggml\"",
            up,
        ),
        (
            "\"q8_0\",\"layout\":\"tiles16\"",
            "\"i8\",\"layout\":\"tiles16\"",
            up,
        ),
        ("\"token_embd.weight\"", "\"\"", "length of the name"),
        (
            "\"output_norm.weight\"",
            "\"token_embd.weight\"",
            "name of tensor",
        ),
        // Places that cannot be: unaligned, before or after their group, over one another.
        (
            "[4,3],\"offset\":0,",
            "[4,3],\"offset\":1,",
            "offset of tensor",
        ),
        (
            "[4,3],\"offset\":0,",
            "[4,3],\"offset\":64,",
            "offset of tensor",
        ),
        (
            "[4],\"offset\":4096,",
            "[4],\"offset\":0,",
            "offset of tensor",
        ),
        ("[4],\"offset\":4096,", "[4],\"offset\":4160,", up),
        (
            "[4],\"offset\":8192,",
            "[4],\"offset\":18446744073709551552,",
            "offset of tensor",
        ),
        (
            "\"tensors\":2,\"offset\":4096",
            "\"tensors\":2,\"offset\":0",
            "offset of group",
        ),
        (
            "\"tensors\":2,\"offset\":4096",
            "\"tensors\":2,\"offset\":4097",
            "offset of group",
        ),
        (
            "\"tensors\":2,\"offset\":4096",
            "\"tensors\":2,\"offset\":8192",
            "offset of",
        ),
        (
            "\"tensors\":2,",
            "\"tensors\":1,",
            "number of bytes of group \"blk.0\"",
        ),
        (
            "\"tensors\":2,",
            "\"tensors\":18446744073709551615,",
            "number of tensors of group",
        ),
        (
            "\"tensors\":1,\"offset\":8192",
            "\"tensors\":0,\"offset\":8192",
            "number of tensors of group",
        ),
        (
            "\"offset\":8192,\"bytes\":16}],",
            "\"offset\":8192,\"bytes\":17}],",
            "offset of group",
        ),
        (
            "\"offset\":0,\"bytes\":24},",
            "\"offset\":0,\"bytes\":25},",
            "number of bytes of group \"input\"",
        ),
    ] {
        assert!(json.contains(from), "{from} is not in {json}");
        let changed = json.replacen(from, to, 1);
        refused(
            with_header(&good, &changed),
            part,
            &format!("{from} -> {to}"),
        );
    }
    let same = Checkpoint::from_bytes(with_header(&good, &json), "same").expect("a valid file");
    assert!(same.verify(|_| ()).expect("undamaged"));
    // What a later converter adds is passed over.
    let more = json.replacen('{', "{\"more\":{\"a\":[1,2]},", 1);
    Checkpoint::from_bytes(with_header(&good, &more), "more").expect("a valid file");
}

#[test]
fn long_lists_take_no_more_than_their_file() {
    let good = sample();
    let json = header(&good);
    for (from, piece) in [
        ("[4,3]", "0,"),
        (
            "\"groups\":[",
            "{\"name\":\"\",\"tensors\":0,\"offset\":0,\"bytes\":0},",
        ),
        (
            "\"tensors\":[{",
            "\"name\":\"\",\"type\":\"i8\",\"layout\":\"ggml\",\"shape\":[1],\"offset\":0,\"bytes\":1,\"xxh3\":\"0000000000000000\"},{",
        ),
        ("{\"provenance\"", "[["),
    ] {
        let at =
            json.find(from).expect("it is there") + from.len() - usize::from(from == "[4,3]") * 4;
        let many = piece.repeat((3 << 20) / piece.len());
        let changed = format!("{}{many}{}", &json[..at], &json[at..]);
        refused(with_header(&good, &changed), "", &format!("many {piece}"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn damaged_files_never_panic(
        places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut bytes = sample();
        let described = (PRELUDE as u64 + field(&bytes, HEADER_BYTES) + field(&bytes, METADATA_BYTES)) as usize;
        for (place, byte) in &places {
            bytes[place.index(described)] = *byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
            let len = bytes.len() as u64;
            if bytes.len() >= PRELUDE {
                set(&mut bytes, FILE_BYTES, len);
            }
        }
        match Checkpoint::from_bytes(bytes, "damaged") {
            Ok(file) => {
                let rows: usize = file.tensors().map(|t| t.data.bytes().len()).sum();
                prop_assert!(rows < 1 << 20);
                prop_assert!(file.metadata().iter().count() == file.metadata().len());
                let _ = file.verify(|_| ());
            }
            Err(error) => prop_assert!(error.to_string().starts_with("damaged: ")),
        }
    }
}
