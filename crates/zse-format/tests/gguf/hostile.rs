//! Malformed files: each is refused with an error that names the field, quickly, and without
//! allocating more than the larger of 1 MB and four times the file's size.

use std::collections::HashSet;
use std::time::Duration;

use zse_format::{Checkpoint, FormatError};

use crate::counting::peak_during;
use crate::raw::{ARRAY, Field, Kind, Raw, STRING, sample};
use crate::watch::Watch;

/// Refusals checked so far, without repetitions of a file.
#[derive(Default)]
struct Refusals {
    seen: HashSet<Vec<u8>>,
}

impl Refusals {
    /// Opens a malformed file; its error must name a field that contains `field`. Returns where
    /// in the file that is.
    fn check(&mut self, bytes: Vec<u8>, field: &str, what: &str) -> u64 {
        let size = bytes.len() as u64;
        let error = refused(&bytes, size, what);
        let at = match &error {
            FormatError::Malformed {
                file,
                field: named,
                offset,
                ..
            } => {
                assert_eq!(file, "hostile", "{what}");
                assert!(named.contains(field), "{what}: {error}\nexpected: {field}");
                assert!(*offset <= size, "{what}: {error}");
                *offset
            }
            other => panic!("{what}: {other}"),
        };
        self.seen.insert(bytes);
        at
    }
}

/// The error of opening `bytes`, within the limits on time and memory.
fn refused(bytes: &[u8], size: u64, what: &str) -> FormatError {
    let copy = bytes.to_vec();
    let watch = Watch::start();
    let (result, peak) = peak_during(|| Checkpoint::from_bytes(copy, "hostile"));
    let took = watch.elapsed();
    assert!(took < Duration::from_millis(100), "{what}: took {took:?}");
    assert!(
        peak <= (4 * size).max(1 << 20),
        "{what}: {peak} bytes for a file of {size}"
    );
    result
        .err()
        .unwrap_or_else(|| panic!("{what}: not refused"))
}

/// Values of a field that make the sample malformed, whatever follows.
fn bad_values(field: &Field, current: u64) -> Vec<u64> {
    let far = [
        i64::MAX as u64,
        i64::MAX as u64 + 1,
        u64::MAX,
        u64::MAX - 7,
        u64::MAX / 4 + 1,
    ];
    let mut values = match field.kind {
        Kind::TensorCount | Kind::MetadataCount | Kind::ArrayLength => {
            // The last two overflow when multiplied by a size.
            vec![1 << 32, 1 << 60, 1 << 61]
        }
        Kind::StringLength => vec![1 << 20, 1 << 32],
        Kind::KeyLength => vec![0, 65_536, 1 << 32],
        Kind::NameLength => vec![0, 1025, 1 << 32],
        Kind::ValueType | Kind::ElementType => {
            return vec![13, 255, 1 << 8, 9 << 24, u32::MAX.into(), i32::MAX as u64];
        }
        Kind::Bool => return vec![2, 128, 255],
        Kind::Alignment => return vec![0, 3, 33, 48, u32::MAX.into(), (1 << 31) + 1],
        Kind::Dims => return vec![5, 6, 255, 1 << 31, u32::MAX.into()],
        Kind::Dim => vec![0],
        Kind::TensorType => {
            // Ids that ggml has given up, and ids beyond its last.
            return vec![4, 5, 31, 36, 37, 38, 1000, 1 << 31, u32::MAX.into()];
        }
        Kind::Offset => vec![current + 1, current + (1 << 20), 1 << 62, u64::MAX - 31],
    };
    if field.kind == Kind::Dim {
        values.extend(&far[1..4]);
    } else {
        values.extend(far);
    }
    values
}

fn current(raw: &Raw, field: &Field) -> u64 {
    let mut bytes = [0; 8];
    bytes[..field.width].copy_from_slice(&raw.bytes[field.at..field.at + field.width]);
    u64::from_le_bytes(bytes)
}

fn every_field_at_its_extremes(refusals: &mut Refusals) {
    for (version, alignment) in [(3, 32), (2, 64)] {
        let raw = sample(version, alignment);
        for field in &raw.fields {
            for value in bad_values(field, current(&raw, field)) {
                let what = format!("{} = {value}", field.name);
                refusals.check(raw.with(field, value), &field.name, &what);
            }
        }
    }
}

/// Lengths and counts that are possible, but not for what follows: reading goes on at a wrong
/// place, and must find it out.
fn every_length_at_one_more_and_less(refusals: &mut Refusals) {
    let raw = sample(3, 32);
    let is_length = |field: &&Field| {
        matches!(
            field.kind,
            Kind::TensorCount
                | Kind::MetadataCount
                | Kind::KeyLength
                | Kind::StringLength
                | Kind::ArrayLength
                | Kind::NameLength
                | Kind::Dims
        )
    };
    for field in raw.fields.iter().filter(is_length) {
        let now = current(&raw, field);
        for value in [0, 1, now.wrapping_sub(1), now + 1] {
            // Fewer tensors than there are, down to none, leave bytes that nobody asks for.
            let is_fine = value == now || field.kind == Kind::TensorCount && value < now;
            if !is_fine && value != u64::MAX {
                let what = format!("{} = {value}, not {now}", field.name);
                // The field itself is wrong, or what is then read behind it.
                let is_own = matches!(field.kind, Kind::KeyLength | Kind::NameLength) && value == 0;
                let part = match field.kind {
                    _ if is_own => &*field.name,
                    Kind::KeyLength => " of metadata",
                    Kind::TensorCount | Kind::NameLength | Kind::Dims => " of tensor",
                    // A value may be taken for tensors and the other way round.
                    _ => " of ",
                };
                let at = refusals.check(raw.with(field, value), part, &what);
                assert!(at >= field.at as u64, "{what}: at byte {at}");
                assert!(!is_own || at == field.at as u64, "{what}: at byte {at}");
            }
        }
    }
}

fn every_truncation(refusals: &mut Refusals) {
    let raw = sample(3, 32);
    // The counts in the header promise this much: 4 tensors and 19 entries of the least size.
    let promised = 24 + 4 * 25 + 19 * 14;
    let header_end = raw.fields.last().expect("a tensor's offset").at + 8;
    for len in 0..raw.bytes.len() {
        let before = raw.fields.iter().rfind(|field| field.at <= len);
        let whole = match before.and_then(|field| field.name.split_once(" of ")) {
            _ if len < 4 => "magic of the header",
            _ if len < 8 => "version of the header",
            _ if len < promised => "count of the header",
            _ if len >= header_end => "offset of tensor",
            Some((_, whole)) => whole,
            None => unreachable!("a field stands before byte {promised}"),
        };
        let cut = raw.bytes[..len].to_vec();
        refusals.check(cut, whole, &format!("the first {len} bytes"));
    }
}

fn marks_and_versions(refusals: &mut Refusals) {
    let raw = sample(3, 32);
    for mark in [
        *b"GGUE",
        *b"FUGG",
        *b"ggml",
        *b"GGUf",
        [0; 4],
        [0xFF; 4],
        *b"PK\x03\x04",
    ] {
        let mut bytes = raw.bytes.clone();
        bytes[..4].copy_from_slice(&mark);
        refusals.check(bytes, "magic of the header", &format!("magic {mark:?}"));
    }
    let versions = [
        0,
        1,
        4,
        5,
        255,
        u32::MAX,
        1 << 24,
        2 << 24,
        3 << 24,
        1 << 31,
        0x0300,
    ];
    for version in versions {
        let mut bytes = raw.bytes.clone();
        bytes[4..8].copy_from_slice(&version.to_le_bytes());
        refusals.check(
            bytes,
            "version of the header",
            &format!("version {version}"),
        );
    }
}

fn duplicates_and_names(refusals: &mut Refusals) {
    let mut keys = Raw::new(3, 0, 3);
    keys.text("a", "1");
    keys.text("b", "2");
    keys.text("a", "1");
    refusals.check(keys.bytes, "key of metadata \"a\"", "a key twice");

    let mut names = Raw::new(3, 2, 0);
    names.tensor(b"a", &[1], 24, 0);
    names.tensor(b"a", &[1], 24, 32);
    names.data(32, 64);
    refusals.check(names.bytes, "name of tensor \"a\"", "a name twice");

    for bad in [
        &b"\xFF"[..],
        b"a\xC3",
        b"\xED\xA0\x80",
        b"\xF8\x88\x80\x80\x80",
    ] {
        let mut key = Raw::new(3, 0, 1);
        key.key(bad, 0);
        key.value(&[0]);
        refusals.check(
            key.bytes,
            "key of metadata entry 0",
            "a key that is not UTF-8",
        );
        let mut name = Raw::new(3, 1, 0);
        name.tensor(bad, &[1], 24, 0);
        name.data(32, 1);
        refusals.check(name.bytes, "name of tensor 0", "a name that is not UTF-8");
    }
}

fn nesting(refusals: &mut Refusals) {
    for depth in [9, 10, 64, 1000, 50_000] {
        for innermost in [0, STRING, ARRAY] {
            let mut raw = Raw::new(3, 0, 1);
            raw.key(b"deep", ARRAY);
            (1..depth).for_each(|_| raw.array(ARRAY, 1));
            raw.array(innermost, 0);
            let what = format!("{depth} levels of type {innermost}");
            refusals.check(raw.bytes, "array of metadata \"deep\"", &what);
        }
    }
    // Each level promises as many arrays as the file could hold.
    let mut raw = Raw::new(3, 0, 1);
    raw.key(b"wide", ARRAY);
    (0..8).for_each(|level| raw.array(ARRAY, 8 - level));
    refusals.check(raw.bytes, "metadata \"wide\"", "levels without end");
}

fn alignment_types(refusals: &mut Refusals) {
    for ty in (0..8).chain(10..13).filter(|&ty| ty != 4) {
        let mut raw = Raw::new(3, 0, 1);
        raw.key(b"general.alignment", ty);
        raw.value(
            &[1, 0, 0, 0, 0, 0, 0, 0][..[1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8][ty as usize]],
        );
        let what = format!("alignment of type {ty}");
        refusals.check(raw.bytes, "value of metadata \"general.alignment\"", &what);
    }
    let mut raw = Raw::new(3, 0, 1);
    raw.text("general.alignment", "32");
    refusals.check(
        raw.bytes,
        "value of metadata \"general.alignment\"",
        "alignment as text",
    );
    for alignment in [1 << 12, 1 << 20, 1 << 31] {
        let mut raw = Raw::new(3, 1, 1);
        raw.alignment(alignment);
        raw.tensor(b"a", &[1], 24, 0);
        raw.data(32, 1);
        refusals.check(
            raw.bytes,
            "offset of tensor \"a\"",
            "data after the end by alignment",
        );
    }
}

fn shapes_and_places(refusals: &mut Refusals) {
    let mut check = |dims: &[u64], ty, offset, field: &str| {
        let mut raw = Raw::new(3, 2, 0);
        raw.tensor(b"first", &[64], 24, 0);
        raw.tensor(b"a", dims, ty, offset);
        raw.data(32, 1024);
        let what = format!("{dims:?} of type {ty} at {offset}");
        refusals.check(raw.bytes, &format!("{field} of tensor \"a\""), &what);
    };
    // Rows that are no whole number of blocks.
    for (ty, cols) in [
        (2, 31),
        (2, 33),
        (8, 1),
        (10, 32),
        (12, 255),
        (14, 257),
        (20, 16),
        (39, 8),
    ] {
        check(&[cols], ty, 64, "shape");
    }
    // Sizes beyond 64 bits, in elements or in bytes.
    let (half, most) = (1 << 32, i64::MAX as u64);
    for dims in [
        &[half, half][..],
        &[most, 2],
        &[most, most, most, most],
        &[2, 1, most, 2],
    ] {
        check(dims, 24, 64, "shape");
    }
    for (cols, ty) in [(1 << 62, 0), (1 << 61, 28), (most, 27), (most / 2 + 1, 1)] {
        check(&[cols], ty, 64, "shape");
    }
    // Data beyond the end of the file, by offset or by size.
    for (cols, offset) in [
        (961, 64),
        (1, 1024),
        (1, 1 << 40),
        (1 << 40, 64),
        (most, 1 << 62),
    ] {
        check(&[cols], 24, offset, "offset");
    }
    for offset in [1, 31, 33, 65, u64::MAX] {
        check(&[1], 24, offset, "offset");
    }
    for (cols, offset) in [(1, 0), (64, 0), (1000, 0), (64, 32)] {
        let mut raw = Raw::new(3, 2, 0);
        raw.tensor(b"first", &[64], 24, 0);
        raw.tensor(b"a", &[cols], 24, offset);
        raw.data(32, 1024);
        refusals.check(raw.bytes, "offset of tensor", "data over other data");
    }
}

/// Files that make a reader allocate or work as much as it can be made to before it refuses.
fn amplification(refusals: &mut Refusals) {
    let last_is_wrong = 0xEEEE_EEEE;
    let n = 60_000;
    let mut tensors = Raw::new(3, n, 0);
    for i in 0..n {
        let ty = if i + 1 == n { last_is_wrong } else { 24 };
        tensors.tensor(format!("{i:x}").as_bytes(), &[], ty, 0);
    }
    refusals.check(
        tensors.bytes,
        "type of tensor",
        "many tensors, the last of no type",
    );

    let mut overlapping = Raw::new(3, n, 0);
    (0..n).for_each(|i| overlapping.tensor(format!("{i:x}").as_bytes(), &[], 24, 0));
    overlapping.data(32, 1);
    refusals.check(
        overlapping.bytes,
        "offset of tensor",
        "many tensors over each other",
    );

    let n = 65_000;
    let mut entries = Raw::new(3, 0, n);
    for i in 0..n {
        entries.key(format!("{:x}", i % (n - 1)).as_bytes(), 0);
        entries.value(&[0]);
    }
    refusals.check(
        entries.bytes,
        "key of metadata",
        "many entries, the last known",
    );

    let n = 200_000;
    let mut strings = Raw::new(3, 0, 1);
    strings.key(b"strings", ARRAY);
    strings.array(STRING, n);
    (1..n).for_each(|_| strings.string(b""));
    strings.value(&u64::MAX.to_le_bytes());
    refusals.check(
        strings.bytes,
        "string length of metadata \"strings\"",
        "many strings",
    );

    let mut arrays = Raw::new(3, 0, 1);
    arrays.key(b"arrays", ARRAY);
    arrays.array(ARRAY, n);
    (1..n).for_each(|_| arrays.array(0, 0));
    arrays.array(13, 0);
    refusals.check(
        arrays.bytes,
        "element type of metadata \"arrays\"",
        "many arrays",
    );

    // Long keys that differ late are slow to sort.
    let n = 64;
    let mut long = Raw::new(3, 0, n);
    for i in 0..n {
        let mut key = "k".repeat(65_530);
        key.push_str(&format!("{:04}", i % (n - 1)));
        long.key(key.as_bytes(), 0);
        long.value(&[0]);
    }
    refusals.check(long.bytes, "key of metadata", "long keys, the last known");

    for (tensors, entries) in [
        (131_073, 0),
        (0, 65_537),
        (10_000, 60_000),
        (60_000, 10_000),
    ] {
        let mut counts = Raw::new(3, tensors, entries);
        counts.value(&vec![0; 800_000]);
        refusals.check(counts.bytes, "of", "counts that do not fit the file");
    }
}

#[test]
fn the_watch_counts_what_this_thread_does() {
    let watch = Watch::start();
    if watch.start.is_some() {
        // Work until it shows; a watch that stands still would accept any slowness.
        let shows = (0..u64::MAX)
            .take(1 << 36)
            .map(std::hint::black_box)
            .any(|i| i % (1 << 20) == 0 && watch.elapsed() > Duration::from_millis(5));
        assert!(shows);
    }
}

#[test]
fn malformed_files_are_refused() {
    let sample = Checkpoint::from_bytes(sample(3, 32).bytes, "sample");
    sample.expect("what the tests spoil is valid");
    let mut refusals = Refusals::default();
    marks_and_versions(&mut refusals);
    every_field_at_its_extremes(&mut refusals);
    every_length_at_one_more_and_less(&mut refusals);
    every_truncation(&mut refusals);
    duplicates_and_names(&mut refusals);
    nesting(&mut refusals);
    alignment_types(&mut refusals);
    shapes_and_places(&mut refusals);
    amplification(&mut refusals);
    let distinct = refusals.seen.len();
    println!("{distinct} malformed files were refused");
    assert!(distinct >= 300, "only {distinct} files");
}
