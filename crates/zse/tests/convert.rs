//! Models converted to `.zse` and back: the same bits, and nothing left to do when they are loaded.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zse::convert::{ConvertError, ConvertOptions, ConvertReport, Target, TypeRule, convert};
use zse::format::{Checkpoint, GgufWriter, Layout};
use zse::quantize::{Mixture, QuantizeError, QuantizeProgress};
use zse::{Engine, LoadOptions, ModelSource};
use zse_quant::GgmlType;

/// A folder of this test's own, and the models of each architecture.
struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a temporary directory"),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn files(&self) -> usize {
        fs::read_dir(&self.dir).expect("it is there").count()
    }
}

fn golden(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../zse-model/tests/golden");
    folder.join(name)
}

fn open(path: &Path) -> Arc<Checkpoint> {
    Arc::new(Checkpoint::open(path).unwrap_or_else(|error| panic!("{error}")))
}

fn go_on(_: QuantizeProgress<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn converted(from: &Path, to: &Path, options: &ConvertOptions) -> ConvertReport {
    convert(&open(from), to, options, go_on).unwrap_or_else(|error| panic!("{error}"))
}

fn rules(rules: &[&str]) -> Vec<TypeRule> {
    let parsed = rules.iter().map(|rule| TypeRule::parse(rule));
    parsed.collect::<Result<_, _>>().expect("good rules")
}

/// What a model makes of some tokens, and the memory that its weights take: held, and in the file.
fn results(path: &Path) -> (Vec<u32>, (u64, u64)) {
    let options = LoadOptions {
        device: "cpu".parse().expect("a device"),
        ..LoadOptions::default()
    };
    let engine = Engine::load(&ModelSource::Path(path.to_owned()), &options)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let tokens: Vec<u32> = (0..24).map(|i| 3 + i * 5 % 23).collect();
    let numbers = if engine.is_embedder() {
        engine.embed_tokens(tokens)
    } else {
        engine
            .score(tokens.clone(), 1, "")
            .or_else(|_| Ok(vec![engine.relevance(tokens, "")?]))
    };
    let numbers = numbers.unwrap_or_else(|error: zse::Error| panic!("{error}"));
    let memory = engine.memory();
    let bits = numbers.into_iter().map(f32::to_bits).collect();
    (bits, (memory.weights, memory.mapped))
}

#[test]
fn every_architecture_gives_the_same_bits_from_every_layout() {
    let bench = Bench::new();
    let mut tiles = 0;
    let listing = fs::read_dir(golden("")).expect("the fixtures are committed");
    for from in listing.map(|entry| entry.expect("listed").path()) {
        if from.extension().is_none_or(|e| e != "gguf") {
            continue;
        }
        let (expected, _) = results(&from);
        for target in Target::ALL {
            let to = bench.path("model.zse");
            let options = ConvertOptions {
                target,
                ..ConvertOptions::default()
            };
            converted(&from, &to, &options);
            let name = format!("{} for {}", from.display(), target.name());
            assert_eq!(results(&to).0, expected, "{name}");
            let file = open(&to);
            assert!(file.verify(|_| ()).expect("undamaged"), "{name}");
            let tiled = file.tensors().filter(|t| t.layout() == Layout::Tiles16);
            let tiled = tiled.count();
            assert_eq!(tiled > 0, target == Target::Cpu, "{name}");
            tiles += tiled;
        }
    }
    assert!(tiles > 100, "{tiles}");
}

#[test]
fn a_file_for_the_cpu_is_mapped_and_nothing_else() {
    let bench = Bench::new();
    let (from, to) = (golden("llama3.gguf"), bench.path("model.zse"));
    converted(&from, &to, &ConvertOptions::default());
    let ((_, packed), (_, mapped)) = (results(&from), results(&to));
    let file = open(&to);
    let tiles: u64 = file
        .tensors()
        .filter_map(|t| t.tiles)
        .map(|t| t.len() as u64)
        .sum();
    let vectors: u64 = file
        .tensors()
        .filter(|t| t.shape.len() == 1)
        .map(|t| 4 * t.elements())
        .sum();
    assert!(packed.0 >= vectors + tiles, "{packed:?}");
    // What is held is norms and the like; what is mapped, tiles and the table of embeddings.
    assert_eq!(mapped.0, vectors, "held, with {tiles} bytes of tiles");
    assert!(mapped.1 >= tiles, "{mapped:?}");
}

#[test]
fn every_kind_of_type_gives_the_same_bits() {
    let bench = Bench::new();
    for name in ["qwen3.gguf", "mixtral.gguf", "bert-mean.gguf"] {
        for ty in ["F16", "BF16", "Q4_0", "Q5_1", "Q8_0", "IQ4_NL", "MXFP4"] {
            let options = |target| ConvertOptions {
                target,
                rules: rules(&[&format!("weight={ty}")]),
                ..ConvertOptions::default()
            };
            let (plain, tiled) = (bench.path("plain.gguf"), bench.path("tiled.zse"));
            let report = converted(&golden(name), &plain, &options(Target::Portable));
            assert!(report.quantized.types.len() > 1, "{report:?}");
            converted(&golden(name), &tiled, &options(Target::Cpu));
            assert_eq!(results(&tiled).0, results(&plain).0, "{name} {ty}");
        }
    }
}

#[test]
fn what_comes_back_is_what_went_in() {
    let bench = Bench::new();
    for name in ["mixtral.gguf", "phi3.gguf", "gemma3.gguf"] {
        let (zse, gguf) = (bench.path("model.zse"), bench.path("model.gguf"));
        let (again, direct) = (bench.path("again.zse"), bench.path("direct.gguf"));
        let from = golden(name);
        converted(&from, &zse, &ConvertOptions::default());
        converted(&zse, &gguf, &ConvertOptions::default());
        let (before, after) = (open(&from), open(&gguf));
        assert_eq!(before.tensors().count(), after.tensors().count());
        for tensor in before.tensors() {
            let found = after.tensor(tensor.name).expect("no tensor is lost");
            assert_eq!((found.ty, found.shape), (tensor.ty, tensor.shape));
            assert!(
                found.data.bytes() == *tensor.data.bytes(),
                "{}",
                tensor.name
            );
        }
        for (key, value) in before.metadata().iter() {
            let found = after.metadata().get(key).map(|v| format!("{v:?}"));
            assert_eq!(found, Some(format!("{value:?}")), "{key}");
        }
        // Files do not depend on the way, but for where they say they come from.
        converted(&gguf, &again, &ConvertOptions::default());
        let (one, other) = (open(&zse), open(&again));
        assert!(
            one.tensors()
                .zip(other.tensors())
                .all(|(a, b)| a.tiles == b.tiles)
        );
        converted(&gguf, &direct, &ConvertOptions::default());
        assert!(fs::read(&gguf).expect("written") == fs::read(&direct).expect("written"));
    }
    assert_eq!(bench.files(), 4, "no partial file is left");
}

/// Ends a conversion after so many pieces; then its error.
fn ended_after(pieces: usize, from: &Path, to: &Path, options: &ConvertOptions) -> ConvertError {
    let mut left = pieces;
    let ended = convert(&open(from), to, options, |_| {
        left -= 1;
        match left {
            0 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    });
    ended.expect_err("it was ended")
}

#[test]
fn an_interrupted_conversion_goes_on_and_gives_the_same_file() {
    let bench = Bench::new();
    let (from, to) = (golden("qwen3.gguf"), bench.path("model.zse"));
    let options = |threads| ConvertOptions {
        mixture: Some(Mixture::parse("Q8_0").expect("it is known")),
        threads: Some(threads),
        ..ConvertOptions::default()
    };
    let whole = bench.path("whole.zse");
    let report = converted(&from, &whole, &options(1));
    assert_eq!(report.resumed, 0);
    let expected = fs::read(&whole).expect("written");
    assert_eq!(report.file_bytes, expected.len() as u64);

    let partial = bench.path("model.zse.partial");
    for pieces in [1, 3, 7] {
        let error = ended_after(pieces, &from, &to, &options(2));
        let ConvertError::Interrupted { finished, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(finished, pieces);
        assert!(!to.exists() && partial.exists());
    }
    // A crash may lose bytes that the journal counts, and cut the journal itself.
    let mut bytes = fs::read(&partial).expect("it is there");
    let first = open(&whole).converted().expect("a .zse file").groups()[0].bytes;
    let data_at = u64::from_le_bytes(expected[32..40].try_into().expect("eight bytes"));
    let lost = data_at as usize..(data_at + first / 2) as usize;
    assert!(bytes[lost.clone()].iter().any(|&b| b != 0));
    bytes[lost].fill(0);
    bytes.truncate(bytes.len() - 5);
    fs::write(&partial, &bytes).expect("written");
    let report = converted(&from, &to, &options(3));
    assert!((1..=5).contains(&report.resumed), "{report:?}");
    assert!(fs::read(&to).expect("written") == expected);
    assert!(!partial.exists());
}

#[test]
fn a_conversion_that_ends_within_its_last_tensor_is_not_whole() {
    let bench = Bench::new();
    let (from, to) = (bench.path("source.gguf"), bench.path("model.gguf"));
    let mut writer = GgufWriter::new();
    writer
        .set("general.architecture", "llama")
        .expect("a value");
    // More than what is encoded at a time.
    let (cols, rows) = (1024, 1024);
    writer
        .declare("blk.0.ffn_up.weight", GgmlType::F32, &[cols, rows])
        .expect("a tensor");
    let mut file = writer
        .begin(fs::File::create(&from).expect("created"), "source")
        .expect("begun");
    let values = (0..cols * rows).map(|i| (i as f32 * 0.7).sin());
    let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
    file.write("blk.0.ffn_up.weight", &bytes).expect("written");
    file.finish().expect("whole");

    let options = ConvertOptions {
        rules: rules(&["weight=Q8_0"]),
        threads: Some(1),
        ..ConvertOptions::default()
    };
    let error = ended_after(1, &from, &to, &options);
    assert!(
        matches!(error, ConvertError::Interrupted { finished: 0, .. }),
        "{error}"
    );
    assert!(!to.exists());
    let whole = bench.path("whole.gguf");
    converted(&from, &whole, &options);
    converted(&from, &to, &options);
    assert!(fs::read(&to).expect("written") == fs::read(&whole).expect("written"));
}

#[test]
fn a_partial_file_of_another_conversion_is_not_used() {
    let bench = Bench::new();
    let (from, to) = (golden("qwen3.gguf"), bench.path("model.zse"));
    let eights = |pattern: &str| ConvertOptions {
        rules: rules(&[&format!("{pattern}=Q8_0"), "=Q4_0"]),
        ..ConvertOptions::default()
    };
    // The same sizes in another order of types: only the header tells them apart.
    ended_after(6, &from, &to, &eights("attn_q"));
    let report = converted(&from, &to, &eights("attn_k"));
    assert_eq!(report.resumed, 0);
    let fresh = bench.path("fresh.zse");
    converted(&from, &fresh, &eights("attn_k"));
    assert!(fs::read(&to).expect("written") == fs::read(&fresh).expect("written"));

    // A source that was written anew meanwhile.
    let moved = bench.path("source.gguf");
    fs::copy(&from, &moved).expect("copied");
    let options = ConvertOptions::default();
    let other = bench.path("other.zse");
    ended_after(4, &moved, &other, &options);
    let file = fs::File::options()
        .write(true)
        .open(&moved)
        .expect("it is there");
    file.set_modified(std::time::UNIX_EPOCH).expect("set");
    assert_eq!(converted(&moved, &other, &options).resumed, 0);
}

#[test]
fn types_follow_rules_then_the_mixture() {
    let bench = Bench::new();
    let to = bench.path("model.zse");
    let options = ConvertOptions {
        mixture: Some(Mixture::parse("Q4_0").expect("it is known")),
        rules: rules(&[r"blk\.0\.ffn_(up|gate)=Q8_0", "ffn=Q5_0"]),
        ..ConvertOptions::default()
    };
    converted(&golden("llama3.gguf"), &to, &options);
    let file = open(&to);
    let ty = |name: &str| file.tensor(name).expect("it is there").ty.name();
    assert_eq!(ty("blk.0.ffn_up.weight"), "q8_0");
    assert_eq!(ty("blk.1.ffn_up.weight"), "q5_0");
    assert_eq!(ty("blk.0.ffn_norm.weight"), "f32");
    assert_eq!(ty("blk.1.attn_q.weight"), "q4_0");
    let metadata = file.metadata();
    assert_eq!(
        metadata.u32("general.file_type").expect("a number"),
        Some(2)
    );
    let converted = file.converted().expect("a .zse file");
    let groups: Vec<_> = converted.groups().iter().map(|g| &*g.name).collect();
    assert_eq!(groups[..2], ["input", "blk.0"]);
    assert_eq!(groups.last(), Some(&"output"));
    assert_eq!(converted.provenance().source.name, "llama3.gguf");
    assert_eq!(converted.provenance().target, "cpu");

    for bad in ["ffn", "ffn=Q9", "(=Q8_0", "ffn=I32"] {
        let error = TypeRule::parse(bad).expect_err("a bad rule").to_string();
        assert!(error.contains(bad), "{error}");
    }
}

#[test]
fn what_cannot_be_done_is_said_and_leaves_nothing() {
    let bench = Bench::new();
    let from = golden("llama3.gguf");
    let error = |from: &Path, name: &str, options: &ConvertOptions| {
        let done = convert(&open(from), &bench.path(name), options, go_on);
        done.expect_err("it cannot be done")
    };
    let plain = ConvertOptions::default();
    let extension = error(&from, "model.bin", &plain);
    assert!(
        matches!(extension, ConvertError::Extension { .. }),
        "{extension}"
    );

    let q8 = ConvertOptions {
        rules: rules(&["weight=Q8_0"]),
        ..ConvertOptions::default()
    };
    let source = bench.path("q8.gguf");
    converted(&from, &source, &q8);
    let q4 = ConvertOptions {
        rules: rules(&["weight=Q4_0"]),
        ..ConvertOptions::default()
    };
    let twice = error(&source, "q4.zse", &q4);
    let is_twice = matches!(
        twice,
        ConvertError::Quantize(QuantizeError::Requantize { .. })
    );
    assert!(is_twice, "{twice}");
    assert_eq!(bench.files(), 1);
    let allowed = ConvertOptions {
        allow_requantize: true,
        ..q4
    };
    converted(&source, &bench.path("q4.zse"), &allowed);
}

#[test]
fn a_source_is_not_written_over() {
    let bench = Bench::new();
    let from = bench.path("model.gguf.partial");
    fs::copy(golden("llama3.gguf"), &from).unwrap();
    let before = fs::read(&from).unwrap();
    for out in ["model.gguf", "other.gguf"] {
        let out = bench.path(out);
        let result = convert(&open(&from), &out, &ConvertOptions::default(), go_on);
        match out.ends_with("model.gguf") {
            true => assert!(
                matches!(result, Err(ConvertError::OwnSource { .. })),
                "{result:?}"
            ),
            false => assert!(result.is_ok(), "{result:?}"),
        }
    }
    assert_eq!(fs::read(&from).unwrap(), before);
}

#[test]
fn what_the_disk_has_no_room_for_leaves_nothing() {
    let bench = Bench::new();
    let (from, to) = (bench.path("source.gguf"), bench.path("model.gguf"));
    // 8 TiB of zeros, which take no room.
    let mut writer = GgufWriter::new();
    writer.set("general.architecture", "llama").unwrap();
    let shape = [1 << 20, 1 << 21];
    writer
        .declare("blk.0.ffn_up.weight", GgmlType::F32, &shape)
        .unwrap();
    let plan = writer.plan();
    fs::write(&from, &plan.header).unwrap();
    let file = fs::File::options().write(true).open(&from).unwrap();
    if file.set_len(plan.bytes).is_err() {
        // The filesystem has no files of that size.
        return;
    }
    // Were the disk not asked, the work would end with its first piece.
    let stop = |_: QuantizeProgress<'_>| ControlFlow::Break(());
    let error = convert(&open(&from), &to, &ConvertOptions::default(), stop).unwrap_err();
    let ConvertError::Space {
        needed, available, ..
    } = error
    else {
        panic!("{error}");
    };
    assert!(needed >= plan.bytes && available < needed);
    assert_eq!(bench.files(), 1, "only the source is there");
}

#[test]
fn a_folder_is_not_written_over() {
    let bench = Bench::new();
    let to = bench.path("model.gguf");
    fs::create_dir(&to).unwrap();
    let from = open(&golden("llama3.gguf"));
    let error = convert(&from, &to, &ConvertOptions::default(), go_on).unwrap_err();
    assert!(matches!(error, ConvertError::Io { .. }), "{error}");
    assert_eq!(bench.files(), 1);
}

/// Whoever comes second is refused, or writes all of it again: no reader ever finds less.
#[test]
fn conversions_to_one_name_at_a_time_give_a_whole_file() {
    let bench = Bench::new();
    let (from, to) = (golden("llama3.gguf"), bench.path("model.gguf"));
    let options = ConvertOptions {
        threads: Some(1),
        ..ConvertOptions::default()
    };
    converted(&from, &to, &options);
    let expected = fs::read(&to).unwrap();
    let work = || {
        let source = open(&from);
        for _ in 0..20 {
            match convert(&source, &to, &options, go_on) {
                Ok(_) | Err(ConvertError::InUse { .. }) => {}
                Err(error) => panic!("{error}"),
            }
            assert!(fs::read(&to).unwrap() == expected);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(work);
        }
    });
    assert_eq!(bench.files(), 1);
}

/// A layer's experts are one tensor of the result and many of a directory.
#[test]
fn experts_are_converted_one_by_one() {
    let bench = Bench::new();
    for name in ["mixtral", "qwen3moe", "llama2"] {
        let source = open(&golden(name));
        let of_matrix = |tensor: zse::format::TensorView<'_>| {
            let matrices: u64 = tensor.shape.iter().skip(2).product();
            tensor.data.len() / matrices as usize
        };
        let largest = source.tensors().map(of_matrix).max().unwrap();
        let stacked = source.tensors().map(|t| t.data.len()).max().unwrap();
        assert_eq!(largest < stacked, name != "llama2");
        for (out, mixture) in [("a.zse", Some("Q8_0")), ("b.zse", None)] {
            let options = ConvertOptions {
                mixture: mixture.map(|name| Mixture::parse(name).unwrap()),
                target: Target::Portable,
                ..ConvertOptions::default()
            };
            let out = bench.path(out);
            convert(&source, &out, &options, go_on).unwrap();
            let made = source.most_made();
            assert!(made > 0 && made <= largest, "{name}: {made} of {largest}");
            if mixture.is_none() {
                for tensor in open(&out).tensors() {
                    let own = source.tensor(tensor.name).unwrap().data.bytes();
                    assert!(own == tensor.data.bytes(), "{name}: {}", tensor.name);
                }
            }
        }
    }
}
