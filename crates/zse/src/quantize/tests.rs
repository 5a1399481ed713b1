//! Tests of the rules and of whole files.

use std::collections::HashMap;
use std::sync::Arc;

use zse_format::{Checkpoint, GgufWriter};
use zse_quant::GgmlType::{self, *};

use super::rules::Chooser;
use super::*;

/// A model with the tensors of a Llama of `layers` layers, rows of `cols`, in F32.
struct Shape {
    layers: usize,
    cols: u64,
    heads: u32,
    kv_heads: u32,
    experts: u32,
    tied: bool,
}

const SMALL: Shape = Shape {
    layers: 32,
    cols: 256,
    heads: 8,
    kv_heads: 8,
    experts: 0,
    tied: false,
};

fn model(shape: &Shape) -> Checkpoint {
    let mut writer = GgufWriter::new();
    writer.set("general.architecture", "llama").unwrap();
    writer
        .set("llama.block_count", shape.layers as u32)
        .unwrap();
    writer
        .set("llama.attention.head_count", shape.heads)
        .unwrap();
    writer
        .set("llama.attention.head_count_kv", shape.kv_heads)
        .unwrap();
    writer.set("llama.expert_count", shape.experts).unwrap();
    let mut tensors = vec![("token_embd.weight".to_owned(), vec![shape.cols, 3])];
    if !shape.tied {
        tensors.push(("output.weight".to_owned(), vec![shape.cols, 3]));
    }
    tensors.push(("output_norm.weight".to_owned(), vec![shape.cols]));
    for l in 0..shape.layers {
        for part in ["attn_q", "attn_k", "attn_v", "attn_output"] {
            tensors.push((format!("blk.{l}.{part}.weight"), vec![shape.cols, 2]));
        }
        tensors.push((format!("blk.{l}.attn_norm.weight"), vec![shape.cols]));
        for part in ["ffn_gate", "ffn_up", "ffn_down"] {
            match shape.experts {
                0 => tensors.push((format!("blk.{l}.{part}.weight"), vec![shape.cols, 2])),
                n => tensors.push((
                    format!("blk.{l}.{part}_exps.weight"),
                    vec![shape.cols, 2, u64::from(n)],
                )),
            }
        }
        if shape.experts > 0 {
            let dims = vec![shape.cols, u64::from(shape.experts)];
            tensors.push((format!("blk.{l}.ffn_gate_inp.weight"), dims));
        }
    }
    for (name, dims) in &tensors {
        writer.declare(name, F32, dims).unwrap();
    }
    let mut body = writer.begin(Vec::new(), "model").unwrap();
    for (i, (name, dims)) in tensors.iter().enumerate() {
        let values = (0..dims.iter().product::<u64>()).map(|k| ((k + i as u64) as f32 * 0.7).sin());
        let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
        body.write(name, &bytes).unwrap();
    }
    Checkpoint::from_bytes(body.finish().unwrap(), "model").unwrap()
}

fn choices(shape: &Shape, mixture: &str) -> HashMap<String, GgmlType> {
    choices_with(shape, mixture, false)
}

fn choices_with(shape: &Shape, mixture: &str, has_importance: bool) -> HashMap<String, GgmlType> {
    let checkpoint = model(shape);
    let mixture = Mixture::parse(mixture).unwrap();
    let chooser = Chooser::new(&checkpoint, mixture, false, has_importance);
    checkpoint
        .tensors()
        .map(|t| (t.name.to_owned(), chooser.choose(&t).ty))
        .collect()
}

/// Layers whose `part` has type `ty`.
fn layers_with(types: &HashMap<String, GgmlType>, part: &str, ty: GgmlType) -> Vec<usize> {
    (0..types.len())
        .filter(|l| types.get(&format!("blk.{l}.{part}.weight")) == Some(&ty))
        .collect()
}

const MORE_BITS_OF_32: [usize; 16] = [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31];

#[test]
fn q4_k_m_gives_half_of_the_layers_more_bits() {
    let types = choices(&SMALL, "Q4_K_M");
    for part in ["attn_v", "ffn_down"] {
        assert_eq!(layers_with(&types, part, Q6K), MORE_BITS_OF_32, "{part}");
        assert_eq!(layers_with(&types, part, Q4K).len(), 16, "{part}");
    }
    for part in ["attn_q", "attn_k", "attn_output", "ffn_gate", "ffn_up"] {
        assert_eq!(layers_with(&types, part, Q4K).len(), 32, "{part}");
    }
    assert_eq!(types["output.weight"], Q6K);
    assert_eq!(types["token_embd.weight"], Q4K);
    assert_eq!(types["output_norm.weight"], F32);
    assert_eq!(types["blk.5.attn_norm.weight"], F32);
}

#[test]
fn other_mixtures_follow_their_rules() {
    let types = choices(&SMALL, "Q3_K_M");
    assert_eq!(layers_with(&types, "attn_v", Q5K), [0, 1]);
    assert_eq!(layers_with(&types, "attn_v", Q4K).len(), 30);
    assert_eq!(layers_with(&types, "ffn_down", Q5K), [0, 1]);
    assert_eq!(layers_with(&types, "attn_output", Q4K).len(), 32);
    assert_eq!(layers_with(&types, "ffn_up", Q3K).len(), 32);

    let types = choices(&SMALL, "Q4_K_S");
    assert_eq!(layers_with(&types, "attn_v", Q5K), [0, 1, 2, 3]);
    assert_eq!(layers_with(&types, "ffn_down", Q5K), [0, 1, 2, 3]);

    let types = choices(
        &Shape {
            kv_heads: 2,
            ..SMALL
        },
        "Q2_K",
    );
    assert_eq!(layers_with(&types, "attn_v", Q4K).len(), 32);
    let types = choices(&SMALL, "Q2_K");
    assert_eq!(layers_with(&types, "attn_v", Q3K).len(), 32);

    let types = choices(&SMALL, "Q8_0");
    assert!(types.values().all(|&ty| ty == Q8_0 || ty == F32));
    let types = choices(&SMALL, "F16");
    assert_eq!(
        (types["output.weight"], types["output_norm.weight"]),
        (F16, F32)
    );
}

#[test]
fn q3_k_l_gives_more_bits_to_all_layers() {
    let types = choices(&SMALL, "Q3_K_L");
    for part in ["attn_v", "attn_output", "ffn_down"] {
        assert_eq!(layers_with(&types, part, Q5K).len(), 32, "{part}");
    }
    for part in ["attn_q", "attn_k", "ffn_gate", "ffn_up"] {
        assert_eq!(layers_with(&types, part, Q3K).len(), 32, "{part}");
    }
    assert_eq!(types["output.weight"], Q6K);
    let types = choices(
        &Shape {
            experts: 8,
            ..SMALL
        },
        "Q3_K_L",
    );
    assert_eq!(layers_with(&types, "attn_v", Q8_0).len(), 32);
    assert_eq!(layers_with(&types, "attn_output", Q3K).len(), 32);
    assert_eq!(layers_with(&types, "ffn_down_exps", Q5K).len(), 32);
}

#[test]
fn importance_changes_what_the_first_eighth_of_ffn_down_gets() {
    // The mixture, the type that it is mostly of, and that of the first layers with and without
    // importance.
    let cases = [
        ("Q4_0", Q4_0, Q4_1, Q4_0),
        ("Q5_0", Q5_0, Q5_1, Q5_0),
        ("IQ4_XS", Iq4Xs, Iq4Xs, Q5K),
        ("IQ4_NL", Iq4Nl, Iq4Nl, Q5K),
    ];
    for (mixture, base, weighted, unweighted) in cases {
        for (has_importance, first) in [(true, weighted), (false, unweighted)] {
            let types = choices_with(&SMALL, mixture, has_importance);
            for l in 0..32 {
                let expected = if l < 4 { first } else { base };
                let found = types[&format!("blk.{l}.ffn_down.weight")];
                assert_eq!(found, expected, "{mixture} {has_importance} {l}");
            }
            for part in ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_up"] {
                assert_eq!(
                    layers_with(&types, part, base).len(),
                    32,
                    "{mixture} {part}"
                );
            }
            assert_eq!(types["output.weight"], Q6K);
        }
    }
    let shared = Shape {
        kv_heads: 2,
        ..SMALL
    };
    let types = choices_with(&shared, "IQ4_XS", true);
    assert_eq!(layers_with(&types, "attn_v", Q5K).len(), 32);
}

#[test]
fn values_of_a_70b_get_at_least_q5_k() {
    let large = |kv_heads| Shape {
        layers: 80,
        kv_heads,
        ..SMALL
    };
    for mixture in ["Q2_K", "Q3_K_S", "Q3_K_M", "Q4_K_S"] {
        let types = choices(&large(2), mixture);
        assert_eq!(layers_with(&types, "attn_v", Q5K).len(), 80, "{mixture}");
    }
    // 40 of 80 layers get more bits, as 16 of 32 do.
    let types = choices(&large(2), "Q4_K_M");
    assert_eq!(layers_with(&types, "attn_v", Q6K).len(), 40);
    assert_eq!(layers_with(&types, "attn_v", Q5K).len(), 40);
    assert_eq!(layers_with(&types, "ffn_down", Q4K).len(), 40);
    // Where heads share nothing, 80 layers are Llama 65B, which has no such rule.
    let types = choices(&large(8), "Q3_K_S");
    assert_eq!(layers_with(&types, "attn_v", Q3K).len(), 80);
}

#[test]
fn tied_embeddings_are_the_output() {
    let types = choices(
        &Shape {
            tied: true,
            ..SMALL
        },
        "Q4_0",
    );
    assert_eq!(types["token_embd.weight"], Q6K);
    assert_eq!(types["blk.0.attn_v.weight"], Q4_0);
}

#[test]
fn experts_change_what_attention_gets_and_routers_stay() {
    let types = choices(
        &Shape {
            experts: 8,
            ..SMALL
        },
        "Q4_K_M",
    );
    assert_eq!(types["blk.7.attn_v.weight"], Q8_0);
    assert_eq!(types["blk.7.attn_k.weight"], Q8_0);
    assert_eq!(types["blk.7.attn_output.weight"], Q5K);
    assert_eq!(types["blk.0.ffn_down_exps.weight"], Q6K);
    assert_eq!(types["blk.7.ffn_gate_inp.weight"], F32);
    let types = choices(
        &Shape {
            experts: 4,
            ..SMALL
        },
        "MXFP4_MOE",
    );
    assert_eq!(types["blk.7.ffn_up_exps.weight"], Mxfp4);
    assert_eq!(types["blk.7.attn_v.weight"], Q8_0);
}

#[test]
fn rows_that_blocks_do_not_divide_get_a_smaller_type() {
    let types = choices(&Shape { cols: 96, ..SMALL }, "Q4_K_M");
    assert_eq!(types["blk.0.attn_q.weight"], Q5_0);
    assert_eq!(types["blk.0.ffn_down.weight"], Q8_0);
    assert_eq!(types["output.weight"], Q8_0);
    let types = choices(&Shape { cols: 40, ..SMALL }, "Q4_K_M");
    assert_eq!(types["blk.0.attn_q.weight"], F16);
}

#[test]
fn a_written_file_decodes_to_nearly_the_source_and_threads_do_not_matter() {
    let source = model(&Shape {
        layers: 2,
        experts: 3,
        ..SMALL
    });
    let dir = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for threads in [1, 3] {
        let out = dir.path().join(format!("out-{threads}.gguf"));
        let options = QuantizeOptions {
            threads: Some(threads),
            ..QuantizeOptions::new(Mixture::parse("Q8_0").unwrap())
        };
        let mut last = 0;
        let report = quantize(&source, &out, &options, |p| {
            assert!(p.done >= last && p.done <= p.total);
            last = p.done;
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(last, report.quantized.bytes_before);
        assert_eq!(report.quantized.types["q8_0"], 2 + 2 * 7);
        files.push(std::fs::read(&out).unwrap());
    }
    assert_eq!(files[0], files[1]);

    let result = Checkpoint::from_bytes(files.swap_remove(0), "result").unwrap();
    assert_eq!(
        result.metadata().require_u32("general.file_type").unwrap(),
        7
    );
    for tensor in source.tensors() {
        let written = result.tensor(tensor.name).unwrap();
        let decoded = |t: &zse_format::TensorView<'_>| {
            let mut values = vec![0.0; t.elements() as usize];
            zse_quant::decode(t.ty, &t.data.bytes(), &mut values).unwrap();
            values
        };
        let pairs = decoded(&tensor).into_iter().zip(decoded(&written));
        assert!(
            pairs.into_iter().all(|(a, b)| (a - b).abs() < 0.005),
            "{}",
            tensor.name
        );
    }
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        2,
        "no partial file is left"
    );
}

#[test]
fn a_quantized_source_is_refused_unless_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("a.gguf"), dir.path().join("b.gguf"));
    let mut options = QuantizeOptions::new(Mixture::parse("Q8_0").unwrap());
    quantize(
        &model(&Shape { layers: 1, ..SMALL }),
        &first,
        &options,
        |_| ControlFlow::Continue(()),
    )
    .unwrap();
    let source = Checkpoint::open(&first).unwrap();
    options.mixture = Mixture::parse("Q4_0").unwrap();
    let error = quantize(&source, &second, &options, |_| ControlFlow::Continue(())).unwrap_err();
    let is_refused = matches!(
        error,
        ConvertError::Quantize(QuantizeError::Requantize { .. })
    );
    assert!(is_refused, "{error}");
    assert!(!second.exists());
    options.allow_requantize = true;
    quantize(&source, &second, &options, |_| ControlFlow::Continue(())).unwrap();
}

#[test]
fn more_threads_than_engines_take_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let source = model(&Shape { layers: 1, ..SMALL });
    let out = dir.path().join("out.gguf");
    let mut options = QuantizeOptions::new(Mixture::parse("Q8_0").unwrap());
    for most in [Budget::MAX_THREADS + 1, usize::MAX] {
        options.threads = Some(most);
        let error = quantize(&source, &out, &options, |_| ControlFlow::Continue(())).unwrap_err();
        match error {
            ConvertError::Quantize(QuantizeError::TooManyThreads { threads }) => {
                assert_eq!(threads, most);
            }
            other => panic!("{other}"),
        }
        assert!(!out.exists());
    }
}

/// A GGUF file of these tensors: name, type, shape and bytes.
fn write(path: &Path, kind: &str, tensors: &[(String, GgmlType, &[u64], Vec<u8>)]) {
    let mut writer = GgufWriter::new();
    writer.set("general.type", kind).unwrap();
    for (name, ty, shape, _) in tensors {
        writer.declare(name, *ty, shape).unwrap();
    }
    let mut body = writer.create(path).unwrap();
    for (name, .., bytes) in tensors {
        body.write(name, bytes).unwrap();
    }
    body.finish().unwrap();
}

fn f32s(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    values.into_iter().flat_map(f32::to_le_bytes).collect()
}

/// An importance matrix that speaks of the tensor `name`, read from a file in `dir`.
fn importance(
    dir: &Path,
    name: &str,
    shape: &[u64],
    counts: &[f32],
    sum: impl Fn(u64) -> f32,
) -> Importance {
    let path = dir.join("imatrix.gguf");
    let sums = f32s((0..shape.iter().product()).map(sum));
    let experts = [counts.len() as u64];
    let tensors = [
        (format!("{name}.in_sum2"), F32, shape, sums),
        (
            format!("{name}.counts"),
            F32,
            &experts[..],
            f32s(counts.iter().copied()),
        ),
    ];
    write(&path, "imatrix", &tensors);
    Importance::open(&path).unwrap()
}

#[test]
fn each_expert_has_an_importance_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let name = "blk.0.ffn_up_exps.weight";
    let source = model(&Shape {
        layers: 1,
        experts: 3,
        ..SMALL
    });
    // Column 3 is all that matters to the first expert, column 9 to the third. The second saw
    // nothing, and so all of its columns matter alike.
    let importance = importance(dir.path(), name, &[256, 3], &[2.0, 0.0, 4.0], |k| match k {
        3 | 521 => 1e6,
        _ => 1e-6,
    });
    let tensor = source.tensor(name).unwrap();
    let columns = importance.of(&tensor).unwrap().unwrap();
    assert_eq!((columns[3], columns[521]), (5e5, 2.5e5));
    assert!(columns[256..512].iter().all(|&c| c == 1.0));

    let encoded = |importance: Option<&[f32]>| {
        let mut values = vec![0.0; tensor.elements() as usize];
        let mut bytes = Vec::new();
        let to = encode::Form {
            ty: Q4_0,
            layout: zse_format::Layout::Rows,
            group: None,
        };
        encode::tensor::<QuantizeError>(&tensor, to, importance, None, 1, |part, _| {
            bytes.extend_from_slice(part);
            Ok(())
        })
        .unwrap();
        zse_quant::decode(Q4_0, &bytes, &mut values).unwrap();
        values
    };
    let (weighted, alike) = (encoded(Some(columns)), encoded(Some(&vec![1.0; 3 * 256])));
    let mut plain = vec![0.0; weighted.len()];
    zse_quant::decode(F32, &tensor.data.bytes(), &mut plain).unwrap();
    // Rows are [256], of which each expert has two.
    let error = |values: &[f32], expert: usize, col: usize| -> f32 {
        [0, 1]
            .map(|row| (2 * expert + row) * 256 + col)
            .map(|at| (values[at] - plain[at]).abs())
            .iter()
            .sum()
    };
    for (expert, col) in [(0, 3), (2, 9)] {
        assert!(error(&weighted, expert, col) < 0.5 * error(&alike, expert, col));
    }
    assert_eq!(weighted[2 * 256..4 * 256], alike[2 * 256..4 * 256]);
}

#[test]
fn importance_of_a_tensor_of_four_dimensions_is_one_row_for_each_matrix() {
    let dir = tempfile::tempdir().unwrap();
    let name = "blk.0.attn_q.weight";
    let path = dir.path().join("model.gguf");
    let values = f32s((0..64 * 2 * 3 * 5).map(|k| (k as f32 * 0.7).sin()));
    write(
        &path,
        "model",
        &[(name.to_owned(), F32, &[64, 2, 3, 5], values)],
    );
    let source = Checkpoint::open(&path).unwrap();
    let quantized = |experts: u64| {
        let counts = vec![1.0; experts as usize];
        let importance = importance(dir.path(), name, &[64, experts], &counts, |_| 1.0);
        let options = QuantizeOptions {
            importance: Some(Arc::new(importance)),
            ..QuantizeOptions::new(Mixture::parse("Q4_0").unwrap())
        };
        let out = dir.path().join("out.gguf");
        quantize(&source, &out, &options, |_| ControlFlow::Continue(()))
    };
    let error = quantized(3).unwrap_err();
    let (found, expected) = match error {
        ConvertError::Quantize(QuantizeError::ImportanceShape {
            found, expected, ..
        }) => (found, expected),
        other => panic!("{other}"),
    };
    assert_eq!((found, expected), (64 * 3, 64 * 3 * 5));
    quantized(15).unwrap();
}

#[test]
fn malformed_importance_is_named_with_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("imatrix.gguf");
    let part = |end: &str| format!("blk.0.attn_q.weight.{end}");
    let sums = (part("in_sum2"), F32, &[4, 3][..], f32s([1.0; 12]));
    let counts = (part("counts"), F32, &[3][..], f32s([1.0; 3]));
    let halves = vec![0; 24];
    let cases = [
        (
            vec![sums.clone(), (part("counts"), F32, &[2], f32s([1.0; 2]))],
            "in_sum2",
            "sums of 3 experts and counts of 2",
        ),
        (
            vec![sums.clone()],
            "in_sum2",
            "there is no 'blk.0.attn_q.weight.counts'",
        ),
        (
            vec![(part("in_sum2"), F16, &[4, 3], halves.clone()), counts],
            "in_sum2",
            "its type is f16",
        ),
        (
            vec![sums, (part("counts"), F16, &[12], halves)],
            "counts",
            "its type is f16",
        ),
    ];
    for (tensors, end, expected) in cases {
        write(&path, "imatrix", &tensors);
        match Importance::open(&path).unwrap_err() {
            QuantizeError::ImportanceTensor { tensor, file, why } => {
                assert_eq!((tensor, file), (part(end), path.display().to_string()));
                assert!(why.contains(expected), "{why}");
            }
            other => panic!("{other}"),
        }
    }
}

#[test]
fn importance_is_read_and_used() {
    let dir = tempfile::tempdir().unwrap();
    let name = "blk.0.attn_q.weight";
    let importance = importance(dir.path(), name, &[256], &[2.0], |k| match k {
        // Column 7 is all that matters.
        7 => 1e6,
        _ => 1e-6,
    });
    let source = model(&Shape { layers: 1, ..SMALL });
    let error_of_column_7 = |importance: Option<Arc<Importance>>| {
        let out = dir.path().join("out.gguf");
        let options = QuantizeOptions {
            importance,
            pure: true,
            ..QuantizeOptions::new(Mixture::parse("Q4_0").unwrap())
        };
        quantize(&source, &out, &options, |_| ControlFlow::Continue(())).unwrap();
        let result = Checkpoint::open(&out).unwrap();
        let mut decoded = vec![0.0; 512];
        let tensor = result.tensor(name).unwrap();
        zse_quant::decode(tensor.ty, &tensor.data.bytes(), &mut decoded).unwrap();
        let mut plain = vec![0.0; 512];
        zse_quant::decode(F32, &source.tensor(name).unwrap().data.bytes(), &mut plain).unwrap();
        (decoded[7] - plain[7]).abs() + (decoded[256 + 7] - plain[256 + 7]).abs()
    };
    assert_eq!(importance.len(), 1);
    assert!(error_of_column_7(Some(Arc::new(importance))) < 0.5 * error_of_column_7(None));

    let other = dir.path().join("model.gguf");
    quantize(
        &source,
        &other,
        &QuantizeOptions::new(Mixture::parse("F16").unwrap()),
        |_| ControlFlow::Continue(()),
    )
    .unwrap();
    let error = Importance::open(&other).unwrap_err().to_string();
    assert!(error.contains("not an importance matrix"), "{error}");
}
