//! Malformed files: each is refused with an error that names the field, quickly, and without
//! allocating more than the larger of 1 MB and four times the file's size.

use std::collections::HashSet;
use std::time::Duration;

use proptest::prelude::*;
use zse_format::{FormatError, Problem, Safetensors};

use crate::counting::peak_during;
use crate::raw::{SAMPLE, file, sample};
use crate::watch::Watch;

/// The field and problem of the error of reading `bytes`, within the limits on time and memory.
fn refused(bytes: &[u8], what: &str) -> (String, Problem) {
    let size = bytes.len() as u64;
    let copy = bytes.to_vec();
    let watch = Watch::start();
    let (result, peak) = peak_during(|| Safetensors::from_bytes(copy, "hostile"));
    let took = watch.elapsed();
    assert!(took < Duration::from_millis(100), "{what}: took {took:?}");
    assert!(
        peak <= (4 * size).max(1 << 20),
        "{what}: {peak} bytes for a file of {size}"
    );
    match result {
        Ok(_) => panic!("{what}: not refused"),
        Err(FormatError::Malformed {
            file,
            field,
            offset,
            problem,
        }) => {
            assert_eq!(file, "hostile", "{what}");
            assert!(offset <= size, "{what}");
            (field, problem)
        }
        Err(other) => panic!("{what}: {other}"),
    }
}

#[test]
fn every_cut_off_file_is_refused() {
    let sample = sample();
    for len in 0..sample.len() {
        refused(&sample[..len], &format!("cut off at {len}"));
    }
}

#[test]
fn lengths_beyond_the_file_are_refused() {
    for len in [1 << 32, 1 << 60, u64::MAX, u64::MAX - 7, 100_000_001] {
        let mut bytes = sample();
        bytes[..8].copy_from_slice(&len.to_le_bytes());
        let (field, problem) = refused(&bytes, "length");
        assert_eq!(field, "length of the header");
        assert!(matches!(problem, Problem::OutOfRange { value, .. } if value == len));
    }
}

#[test]
fn every_number_that_is_wrong_is_refused() {
    let (header, data) = SAMPLE;
    let numbers: Vec<usize> = (1..header.len())
        .filter(|&i| header[i..].starts_with(|c: char| c.is_ascii_digit()))
        .filter(|&i| header[..i].ends_with(['[', ',']))
        .collect();
    assert_eq!(numbers.len(), 17);
    let mut seen = HashSet::new();
    for at in numbers {
        let end = at + header[at..].find([',', ']']).unwrap();
        let current = &header[at..end];
        for value in [
            "1",
            "3",
            "17",
            "19",
            "4294967296",
            "9223372036854775807",
            "18446744073709551615",
            "18446744073709551616",
            "-1",
            "0.5",
            "1e3",
            "null",
            "\"4\"",
            "[]",
            "",
        ] {
            // A tensor without numbers may have any other size beside the 0.
            let free = header[..at].ends_with("[0,") && !value.starts_with(['-', '"', '[', 'n']);
            let is_free = free && value.parse::<u64>().is_ok();
            if value != current && !is_free {
                let bad = format!("{}{value}{}", &header[..at], &header[end..]);
                refused(&file(&bad, data), &bad);
                seen.insert(bad);
            }
        }
    }
    assert!(seen.len() >= 200, "{}", seen.len());
}

#[test]
fn errors_name_the_tensor_and_what_is_wrong() {
    let one = |entry: &str, data| file(&format!("{{{entry}}}"), data);
    let entry = |name: &str, dtype: &str, shape: &str, offsets: &str| {
        format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#)
    };
    let pair = |a: &str, b: &str, data| one(&format!("{a},{b}"), data);
    let first = entry("a", "U8", "[4]", "[0,4]");
    for (bytes, field, problem) in [
        (
            one(&entry("a", "U8", "[4]", "[0,5]"), 5),
            "data_offsets of tensor \"a\"",
            "span 5 bytes",
        ),
        (
            one(&entry("a", "U8", "[4]", "[4,0]"), 4),
            "data_offsets of tensor \"a\"",
            "only 4",
        ),
        (
            one(&entry("a", "U8", "[4]", "[0,4]"), 3),
            "data_offsets of tensor \"a\"",
            "only 3",
        ),
        (
            one(&entry("a", "F4", "[3]", "[0,2]"), 2),
            "shape of tensor \"a\"",
            "larger",
        ),
        (
            one(&entry("a", "F64", "[4294967296,4294967296]", "[0,0]"), 0),
            "shape of tensor \"a\"",
            "larger",
        ),
        (one(&first, 6), "end of the tensor data", "leaves 2 bytes"),
        (
            one(&entry("a", "U8", "[4]", "[2,6]"), 6),
            "tensor \"a\"",
            "leaves 2 bytes",
        ),
        (
            pair(&first, &entry("b", "U8", "[4]", "[2,6]"), 6),
            "tensor \"b\"",
            "over the data of tensor \"a\"",
        ),
        (
            pair(&first, &entry("b", "U8", "[4]", "[0,4]"), 4),
            "data_offsets",
            "over the data",
        ),
        (
            pair(&first, &entry("b", "U8", "[4]", "[5,9]"), 9),
            "tensor \"b\"",
            "leaves 1 bytes",
        ),
        (
            pair(&first, &entry("a", "U8", "[4]", "[4,8]"), 8),
            "name of tensor \"a\"",
            "occurs twice",
        ),
        (
            pair(&first, &entry("\\u0061", "U8", "[4]", "[4,8]"), 8),
            "name of tensor \"a\"",
            "twice",
        ),
        (
            one(&entry("a", "float32", "[4]", "[0,4]"), 4),
            "header",
            "unknown dtype \"float32\"",
        ),
        (
            one(&entry("a", "U8", "[1,1,1,1,1,4]", "[0,4]"), 4),
            "header",
            "at most 5 sizes",
        ),
        (
            one(r#""a":{"dtype":"U8","shape":[4]}"#, 4),
            "header",
            "data_offsets",
        ),
        (
            one(
                r#""a":{"dtype":"U8","dtype":"U8","shape":[4],"data_offsets":[0,4]}"#,
                4,
            ),
            "header",
            "duplicate",
        ),
        (one(r#""__metadata__":{"a":1}"#, 0), "header", "string"),
        (
            one(r#""__metadata__":[]"#, 0),
            "header",
            "an object of strings",
        ),
        (file("[]", 0), "header", "brace"),
        (file(" {}", 0), "header", "brace"),
        (file("{}x", 0), "header", "trailing"),
        (
            file("{\"a\":{\"\u{1}\":0}}", 0),
            "header",
            "control character",
        ),
    ] {
        let (found, why) = refused(&bytes, field);
        assert!(found.contains(field), "{found}: expected {field}");
        assert!(
            why.to_string().contains(problem),
            "{why}: expected {problem}"
        );
    }
    let invalid = [b"{\"".as_slice(), &[0xFF], b"\":{}}"].concat();
    let mut bytes = (invalid.len() as u64).to_le_bytes().to_vec();
    bytes.extend(invalid);
    assert_eq!(refused(&bytes, "not UTF-8").0, "header");
}

#[test]
fn large_headers_stay_within_the_limits() {
    let entry = |i: usize| format!(r#""{i}":{{"dtype":"U8","shape":[],"data_offsets":[0,0]}}"#);
    let deep = "[".repeat(100_000);
    let many: Vec<_> = (0..20_000).map(entry).collect();
    for (header, what) in [
        (format!(r#"{{"a":{deep}"#), "nesting"),
        (
            format!(r#"{{"a":{{"b":{deep}"#),
            "nesting of what is ignored",
        ),
        (format!("{{{}}}", many.join(",")), "scalars of no bytes"),
        (
            format!(
                r#"{{"a":{{"dtype":"U8","shape":[{}]}}}}"#,
                "1,".repeat(100_000)
            ),
            "shape",
        ),
        (format!("{{\"{}\":1}}", "a".repeat(200_000)), "name"),
        (format!("{{{}", " ".repeat(200_000)), "spaces"),
    ] {
        refused(&file(&header, 0), what);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn damaged_files_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = sample();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        match Safetensors::from_bytes(bytes, "damaged") {
            Ok(file) => prop_assert!(file.tensors().map(|t| t.data.len()).sum::<usize>() <= 18),
            Err(error) => prop_assert!(error.to_string().starts_with("damaged: ")),
        }
    }
}
