//! FP8 products against plain sums on the host, on shapes with tails; need a GPU but for nothing here.

use std::sync::Arc;

use zse_model::conformance::{DecoderSpec, Rng, decoder, nmse};
use zse_model::program::{Act, TensorId};
use zse_quant::GgmlType;

use super::fp8::{self, At, Halves};
use super::gemm_hopper::{self, Shared};
use super::gemv::{Job, MOST, Weight, gemv};
use super::quantize::{self, Columns, Form, Narrowed};
use super::{gemm, gemv as few};
use crate::device::{Context, Cublas, Device, DeviceMemory, Ptr, WORKSPACE};
use crate::weights::{Layout, Matrix, Planes, Upload, e4m3, upload};

/// A device, and what was allocated on it.
struct Lab {
    device: Device,
    kept: Vec<DeviceMemory>,
}

impl Lab {
    fn new(portable: bool) -> Self {
        let context: Arc<Context> = Context::open(0).expect("a GPU");
        let device = Device::new(&context, portable).expect("kernels");
        Self {
            device,
            kept: Vec::new(),
        }
    }

    /// Memory that is zero.
    fn room(&mut self, bytes: usize) -> Ptr {
        let memory = self
            .device
            .allocate("a test", bytes.max(256))
            .expect("memory");
        self.device.clear(&memory).expect("it is cleared");
        // What is loaded comes on other streams.
        self.device.synchronize().expect("it ends");
        self.kept.push(memory);
        self.kept[self.kept.len() - 1].at()
    }

    fn put<T: Copy>(&mut self, numbers: &[T]) -> Ptr {
        let at = self.room(size_of_val(numbers));
        // SAFETY: as large; waited for.
        unsafe { self.device.upload(at, numbers) }.expect("a copy");
        self.device.synchronize().expect("it ends");
        at
    }

    fn get<T: Copy + Default>(&self, from: Ptr, len: usize) -> Vec<T> {
        let mut numbers = vec![T::default(); len];
        // SAFETY: as large; waited for.
        unsafe { self.device.download(&mut numbers, from) }.expect("a copy");
        self.device.synchronize().expect("it ends");
        numbers
    }
}

/// A matrix, there and here.
struct Known {
    matrix: Matrix,
    /// What the bytes and scales stand for, by row.
    rows: Vec<Vec<f32>>,
}

/// The matrices of a decoder whose rows are of odd numbers, loaded as FP8 and compared with what the host makes of them.
fn matrices(lab: &mut Lab, ty: GgmlType, seed: u64) -> Vec<Known> {
    let spec = DecoderSpec {
        layers: 1,
        width: 288,
        heads: 9,
        kv_heads: 3,
        ff: 1184,
        vocab: 1041,
        ..DecoderSpec::small(ty)
    };
    let model = decoder(&spec, seed).expect("a model");
    let mut all = Vec::new();
    for i in 0..model.program.tensors.len() {
        let view = model.weights.get(TensorId(i as u32));
        if view.ty != ty || view.rows < 2 || view.name.starts_with("token") {
            continue;
        }
        let (rows, cols) = (view.rows, view.cols);
        let (q, d) = (lab.room(rows * cols), lab.room(4 * rows));
        let planes = Planes {
            q,
            d,
            rows: rows as i32,
            cols: cols as i32,
            ..Planes::default()
        };
        let layout = Layout::Fp8;
        let there = Upload {
            view,
            layout,
            planes,
        };
        // SAFETY: planes of its size.
        unsafe { upload(&lab.device, &[there], |_| {}) }.expect("it is loaded");
        let numbers = view.to_f32().expect("numbers");
        let (bytes, scales): (Vec<u8>, Vec<f32>) = (lab.get(q, rows * cols), lab.get(d, rows));
        let mut known = Vec::new();
        for (r, row) in numbers.chunks_exact(cols).enumerate() {
            let (expected, scale) = e4m3::row(row);
            assert_eq!(
                scale.to_bits(),
                scales[r].to_bits(),
                "{} row {r}",
                view.name
            );
            assert_eq!(expected, bytes[r * cols..][..cols], "{} row {r}", view.name);
            known.push(expected.iter().map(|b| e4m3::widen(*b) * scale).collect());
        }
        all.push(Known {
            matrix: Matrix { layout, planes },
            rows: known,
        });
    }
    assert!(all.len() >= 8, "{} matrices", all.len());
    all
}

/// `rows * x`, with biases and what is added.
fn product(known: &Known, x: &[f32], bias: &[f32], add: &[f32]) -> Vec<f32> {
    let rows = known.rows.len();
    let columns = x.chunks_exact(known.matrix.cols()).enumerate();
    let sums = columns.flat_map(|(c, x)| {
        known.rows.iter().enumerate().map(move |(r, row)| {
            let sum: f64 = row
                .iter()
                .zip(x)
                .map(|(a, b)| f64::from(*a) * f64::from(*b))
                .sum();
            (sum + f64::from(bias[r]) + f64::from(add[c * rows + r])) as f32
        })
    });
    sums.collect()
}

/// Columns as FP8 holds them.
fn rounded(x: &[f32], cols: usize) -> Vec<f32> {
    let rows = x.chunks_exact(cols).flat_map(|x| {
        let (bytes, scale) = e4m3::row(x);
        bytes.into_iter().map(move |b| e4m3::widen(b) * scale)
    });
    rows.collect()
}

fn near(got: &[f32], expected: &[f32], tolerance: f64, what: &str) {
    let error = nmse(got, expected);
    println!("{what}: {error:.1e}");
    assert!(error <= tolerance, "{what}: {error:e}");
}

fn products(portable: bool) {
    let mut lab = Lab::new(portable);
    let mut rng = Rng::new(31);
    let cublas = Cublas::new(&lab.device);
    println!("portable {portable}, library {}", cublas.is_some());
    for ty in [GgmlType::Bf16, GgmlType::F16, GgmlType::F32] {
        let all = matrices(&mut lab, ty, rng.bits());
        for n in [1, 2, 3, 4, 8, 11, 16, 17, 40, 70, 133, 300] {
            for (k, known) in all.iter().enumerate() {
                let (rows, cols) = (known.matrix.rows(), known.matrix.cols());
                let mut numbers = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.normal()).collect() };
                let (x, bias, add) = (numbers(n * cols), numbers(rows), numbers(n * rows));
                let what = format!("{} {rows} x {cols}, {n} columns", ty.name());
                let weight = Weight {
                    matrix: known.matrix,
                    bias: lab.put(&bias),
                };
                let job = Job {
                    weight,
                    gated: None,
                    x: lab.put(&x),
                    rounded: Columns::default(),
                    add: lab.put(&add),
                    y: lab.room(4 * n * rows),
                    n,
                };
                let expected = product(known, &x, &bias, &add);
                let fetch = |lab: &Lab| lab.get::<f32>(job.y, n * rows);
                if n <= MOST {
                    gemv(&lab.device, &job).expect("it runs");
                    near(&fetch(&lab), &expected, 1e-11, &format!("{what}, f32"));
                }
                if n == 1 && k > 0 && all[k - 1].matrix.cols() == cols {
                    let other = Job {
                        weight: Weight {
                            matrix: all[k - 1].matrix,
                            bias: Ptr::NULL,
                        },
                        add: Ptr::NULL,
                        y: lab.room(4 * all[k - 1].matrix.rows()),
                        ..job
                    };
                    few::several(&lab.device, &[other, job]).expect("they run");
                    near(&fetch(&lab), &expected, 1e-11, &format!("{what}, together"));
                }
                if n > 2 {
                    let [bytes, scales] = Narrowed::bytes(n, cols);
                    let to = Narrowed {
                        x: lab.room(bytes),
                        scale: lab.room(scales),
                    };
                    quantize::narrow(&lab.device, Form::Fp8, job.x, to, n, cols).expect("f16");
                    let [parts, arrived] = Shared::bytes(n, rows).map(|bytes| lab.room(bytes));
                    let shared = Shared { parts, arrived };
                    if lab.device.is_hopper {
                        gemm_hopper::gemm(&lab.device, &[job], to, shared).expect("it runs");
                    } else {
                        gemm::gemm(&lab.device, &job, to).expect("it runs");
                    }
                    near(&fetch(&lab), &expected, 1e-6, &format!("{what}, f16"));
                }
                if let Some(cublas) = cublas.as_ref().filter(|_| n > 2 && rows % 16 == 0) {
                    let [bytes, scales] = Narrowed::bytes_fp8(n, cols);
                    let to = Narrowed {
                        x: lab.room(bytes),
                        scale: lab.room(scales),
                    };
                    quantize::narrow(&lab.device, Form::RowsFp8, job.x, to, n, cols).expect("FP8");
                    let expected = product(known, &rounded(&x, cols), &bias, &add);
                    let workspace = lab.room(WORKSPACE);
                    library(&lab, (cublas, to, workspace), &job, &expected, &what);
                }
                lab.kept.truncate(2 * all.len());
            }
        }
        lab.kept.clear();
    }
}

/// All ways through cuBLASLt.
fn library(
    lab: &Lab,
    (cublas, x, workspace): (&Cublas, Narrowed, Ptr),
    job: &Job,
    expected: &[f32],
    what: &str,
) {
    let at = At {
        device: &lab.device,
        cublas,
        x,
        workspace,
    };
    at.several(&[*job]).expect("it runs");
    let got: Vec<f32> = lab.get(job.y, expected.len());
    near(&got, expected, 1e-5, &format!("{what}, FP8"));
    let mut scaled = Cublas::new(&lab.device).expect("it was there");
    scaled.scales = true;
    let at = At {
        cublas: &scaled,
        ..at
    };
    match at.one(job) {
        Ok(()) => {
            let got: Vec<f32> = lab.get(job.y, expected.len());
            near(&got, expected, 1e-5, &format!("{what}, FP8 scaled"));
        }
        Err(error) => println!("{what}: the library does not scale: {error}"),
    }
}

#[test]
#[ignore = "needs a GPU"]
fn products_are_those_of_the_host() {
    products(false);
    products(true);
}

/// Gates as FP8 rows, of halves that have their scales and of such that lack them, and norms.
#[test]
#[ignore = "needs a GPU"]
fn rows_are_those_of_the_host() {
    let mut lab = Lab::new(false);
    let mut rng = Rng::new(7);
    for (n, cols) in [(1, 64), (3, 1184), (5, 18944), (2, 33280)] {
        let mut numbers = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.normal()).collect() };
        let [gate, up] = [numbers(n * cols), numbers(n * cols)];
        let (gates, ups, columns) = (numbers(cols), numbers(cols), numbers(n));
        let bits =
            |x: &[f32]| -> Vec<u16> { x.iter().map(|x| (x.to_bits() >> 16) as u16).collect() };
        let narrow = |x: &[f32]| -> Vec<f32> {
            bits(x)
                .iter()
                .map(|b| f32::from_bits(u32::from(*b) << 16))
                .collect()
        };
        let (q, scale) = (lab.room(n * cols), lab.room(4 * n));
        let to = Narrowed { x: q, scale };
        let weight = |lab: &mut Lab, scales: &[f32]| Weight {
            matrix: Matrix {
                layout: Layout::Fp8,
                planes: Planes {
                    d: lab.put(scales),
                    rows: cols as i32,
                    cols: 32,
                    ..Planes::default()
                },
            },
            bias: lab.put(scales),
        };
        let weights = [weight(&mut lab, &gates), weight(&mut lab, &ups)];
        let at = [lab.put(&bits(&gate)), lab.put(&bits(&up))];
        let there = lab.put(&columns);
        for lacks in [false, true] {
            let halves = Halves {
                act: Act::Relu,
                weights,
                at,
                columns: if lacks { there } else { Ptr::NULL },
            };
            fp8::glu(&lab.device, &halves, to, n).expect("it runs");
            let by = |c: usize, f: f32| if lacks { columns[c] * f } else { 1.0 };
            let expected: Vec<f32> = (0..n * cols)
                .map(|i| {
                    let (c, r) = (i / cols, i % cols);
                    let x = narrow(&gate)[i] * by(c, gates[r]) + gates[r];
                    x.max(0.0) * (narrow(&up)[i] * by(c, ups[r]) + ups[r])
                })
                .collect();
            close(&lab, to, &expected, [n, cols], "gates");
        }
        let x = numbers(n * cols);
        let at = lab.put(&x);
        quantize::narrow(&lab.device, Form::RowsFp8, at, to, n, cols).expect("it runs");
        close(&lab, to, &x, [n, cols], "rows");
        if cols <= fp8::NORM_COLS {
            let (weight, y) = (lab.put(&gates), lab.room(4 * n * cols));
            fp8::rms_norm(&lab.device, [at, weight, y], 1e-5, to, [n, cols]).expect("it runs");
            let norms = x.chunks_exact(cols).flat_map(|x| {
                let squares: f32 = x.iter().map(|v| v * v).sum();
                let by = 1.0 / (squares / cols as f32 + 1e-5).sqrt();
                x.iter()
                    .zip(&gates)
                    .map(move |(x, w)| x * by * w)
                    .collect::<Vec<_>>()
            });
            let norms: Vec<f32> = norms.collect();
            near(&lab.get(y, n * cols), &norms, 1e-11, "norms");
            close(&lab, to, &norms, [n, cols], "norms");
        }
        lab.kept.clear();
    }
}

/// FP8 rows hold numbers to a sixteenth, and to a part of the largest of their row.
fn close(lab: &Lab, at: Narrowed, expected: &[f32], [n, cols]: [usize; 2], what: &str) {
    let (bytes, scales): (Vec<u8>, Vec<f32>) = (lab.get(at.x, n * cols), lab.get(at.scale, n));
    for (c, row) in expected.chunks_exact(cols).enumerate() {
        let top = row.iter().fold(0f32, |top, x| top.max(x.abs()));
        assert!(
            (scales[c] * 448.0 / top - 1.0).abs() < 1e-4,
            "{what}: {top}"
        );
        for (r, x) in row.iter().enumerate() {
            let got = e4m3::widen(bytes[c * cols + r]) * scales[c];
            let room = x.abs() / 15.9 + top / 448.0 / 1000.0;
            assert!(
                (got - x).abs() <= room,
                "{what} {n} x {cols}, {r}: {got} for {x}"
            );
        }
    }
}
