//! Adapters against PEFT, on the fixtures that `tests/lora/make.py` makes.

use std::path::Path;

use zse_format::{Checkpoint, Lora, LoraWeight};
use zse_model::conformance::{Golden, GoldenError, adapter_cases};
use zse_model::reference::Reference;

/// Holds what `open` makes of the fixture `name` to PEFT.
fn check(file: &Path, open: fn(&Path) -> Result<Golden, GoldenError>) {
    let mut golden = open(file).unwrap();
    let report = golden.compare(&Reference).unwrap();
    println!("{:20} {:.1e}", golden.name, report.error);
    assert!(report.error <= 1e-4, "{}: {report:?}", golden.name);
    assert_eq!(report.diverged, None, "{}", golden.name);
    // What is compared is the adapter's work.
    golden.adapter = None;
    let without = golden.compare(&Reference).unwrap();
    assert!(without.error > 1e-2, "{}: {without:?}", golden.name);
}

#[test]
fn directories_of_peft_compute_what_peft_computes() {
    let files = Golden::adapter_files().unwrap();
    assert!(files.len() >= 12, "{files:?}");
    for file in files {
        check(&file, Golden::open_directory);
    }
}

#[test]
fn gguf_files_compute_the_same() {
    let files = Golden::adapter_files().unwrap();
    let has_gguf = |file: &&std::path::PathBuf| file.with_extension("gguf").is_file();
    assert_eq!(files.iter().filter(has_gguf).count(), 4);
    for file in files.iter().filter(has_gguf) {
        check(file, Golden::open);
    }
}

#[test]
fn both_forms_of_an_adapter_are_the_same() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    for name in ["llama2", "phi3", "gemma2", "qwen3moe-modules"] {
        let base = name.split('-').next().unwrap();
        let base = Checkpoint::open(&folder.join(format!("golden/{base}.gguf"))).unwrap();
        let open = |file: String| Lora::open(&folder.join("lora").join(file), &base).unwrap();
        let (peft, gguf) = (open(name.to_owned()), open(format!("{name}.gguf")));
        for weight in gguf.weights() {
            let is_same = |w: &&LoraWeight| w.name == weight.name && w.expert == weight.expert;
            let other = peft.weights().iter().find(is_same).unwrap();
            assert_eq!(other.scale, weight.scale, "{}", weight.name);
            assert_eq!(other.a.to_f32(), weight.a.to_f32(), "{}", weight.name);
            assert_eq!(other.b.to_f32(), weight.b.to_f32(), "{}", weight.name);
        }
        assert_eq!(peft.weights().len(), gguf.weights().len());
    }
}

#[test]
fn cases_of_adapters_run_and_the_adapters_count() {
    for mut case in adapter_cases(1).unwrap() {
        let (with, _) = case.run(&Reference).unwrap();
        assert!(with.iter().all(|v| v.is_finite()), "{}", case.name);
        for batch in &mut case.batches {
            batch
                .seqs
                .iter_mut()
                .for_each(|seq| seq.adapters.truncate(0));
        }
        let (without, _) = case.run(&Reference).unwrap();
        let nmse = zse_model::conformance::nmse(&with, &without);
        assert!(nmse > 1e-2, "{}: {nmse}", case.name);
    }
}
