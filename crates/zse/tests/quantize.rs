//! `zse quantize` through the SDK: it writes as `zse convert` does.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use zse::convert::{ConvertError, ConvertOptions, ConvertReport, convert};
use zse::format::{Checkpoint, GgufWriter};

use zse::quantize::{Mixture, QuantizeOptions, QuantizeProgress, quantize};
use zse_quant::GgmlType;

fn go_on(_: QuantizeProgress<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn options() -> QuantizeOptions {
    QuantizeOptions::new(Mixture::parse("Q8_0").unwrap())
}

/// A file of zse-model's fixtures.
fn golden(name: &str) -> Checkpoint {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../zse-model/tests/golden");
    Checkpoint::open(&folder.join(name)).unwrap()
}

/// Ends the work behind so many pieces.
fn ended_after(
    pieces: usize,
    source: &Checkpoint,
    out: &Path,
) -> Result<ConvertReport, ConvertError> {
    let mut left = pieces;
    quantize(source, out, &options(), |_| {
        left -= 1;
        match left {
            0 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    })
}

fn files(dir: &TempDir) -> usize {
    fs::read_dir(dir.path()).unwrap().count()
}

#[test]
fn an_interrupted_quantization_goes_on_and_gives_what_conversion_gives() {
    let dir = tempfile::tempdir().unwrap();
    let source = golden("qwen3.gguf");
    // The name says nothing of what is written.
    let out = dir.path().join("out.bin");
    let partial = dir.path().join("out.bin.partial");
    let error = ended_after(3, &source, &out).unwrap_err();
    let is_interrupted = matches!(error, ConvertError::Interrupted { finished: 3, .. });
    assert!(is_interrupted, "{error}");
    assert!(!out.exists() && partial.exists());

    let report = quantize(&source, &out, &options(), go_on).unwrap();
    assert_eq!(report.resumed, 3);
    let written = fs::read(&out).unwrap();
    assert_eq!(report.file_bytes, written.len() as u64);
    let whole = dir.path().join("whole.gguf");
    let of_convert = ConvertOptions {
        mixture: Some(options().mixture),
        ..ConvertOptions::default()
    };
    convert(&Arc::new(source), &whole, &of_convert, go_on).unwrap();
    assert!(fs::read(&whole).unwrap() == written);
    assert_eq!(files(&dir), 2);
}

#[test]
fn a_source_is_not_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let fixture = golden("qwen3.gguf");
    let fixture = fixture.files().next().unwrap();
    fs::copy(fixture, &path).unwrap();
    let source = Checkpoint::open(&path).unwrap();
    let error = quantize(&source, &path, &options(), go_on).unwrap_err();
    assert!(matches!(error, ConvertError::OwnSource { .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), fs::read(fixture).unwrap());
    assert_eq!(files(&dir), 1);
}

/// A model in memory, of two matrices of one number.
fn of_value(value: f32) -> Checkpoint {
    let names = ["blk.0.ffn_up.weight", "blk.1.ffn_up.weight"];
    let mut writer = GgufWriter::new();
    writer.set("general.architecture", "llama").unwrap();
    for name in names {
        writer.declare(name, GgmlType::F32, &[64, 4]).unwrap();
    }
    let mut body = writer.begin(Vec::new(), "memory").unwrap();
    for name in names {
        body.write(name, &value.to_le_bytes().repeat(256)).unwrap();
    }
    Checkpoint::from_bytes(body.finish().unwrap(), "memory").unwrap()
}

/// They have one name and one shape.
#[test]
fn what_is_left_of_one_model_in_memory_is_no_part_of_another() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.gguf");
    ended_after(1, &of_value(1.0), &out).unwrap_err();
    assert!(dir.path().join("out.gguf.partial").exists());
    assert_eq!(
        quantize(&of_value(2.0), &out, &options(), go_on)
            .unwrap()
            .resumed,
        0
    );
    ended_after(1, &of_value(2.0), &out).unwrap_err();
    assert_eq!(
        quantize(&of_value(2.0), &out, &options(), go_on)
            .unwrap()
            .resumed,
        1
    );
}
