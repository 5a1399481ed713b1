//! Which products cuBLASLt takes, and how they run: those of BF16 and FP8 matrices by many columns, all of a model or
//! none, so that a norm knows in which form its result is read. FP8: `library_fp8.rs`.

use std::collections::HashSet;

use zse_model::Model;
use zse_model::executor::Budget;
use zse_model::passes::{GroupKind, Step};
use zse_model::program::{Act, Op, ValueId};

use super::run::Run;
use crate::device::{Cublas, CublasKind, CublasProduct, Device, Ptr};
use crate::error::CudaError;
use crate::ops::gemv::{Job, Weight};
use crate::ops::quantize::{Form, pitch16};
use crate::ops::{elementwise, gemm_cublas};
use crate::weights::{Layout, Layouts};

/// The layouts that it takes.
const TAKEN: [Layout; 2] = [Layout::Bf16, Layout::Fp8];

/// Whether the library can take the BF16 and FP8 matrices of `model`, of which there are some, and what its gated products
/// make is read by products with matrices of the same alone: it is left in the form that those want.
pub(super) fn suits(
    model: &Model,
    layouts: &Layouts,
    steps: &[Step],
    only_products: &[Option<Form>],
) -> bool {
    // Rows and columns are multiples of 16 bytes.
    let whole = |(layout, [rows, cols]): (Layout, [usize; 2])| {
        let multiple = if layout == Layout::Fp8 { 16 } else { 8 };
        rows.is_multiple_of(multiple) && cols.is_multiple_of(multiple)
    };
    let mut sizes = sizes(model, layouts).peekable();
    let all_whole = sizes.peek().is_some() && sizes.all(whole);
    all_whole
        && TAKEN.into_iter().all(|layout| {
            let gated = gated(model, layouts, steps, layout);
            let mut reads = gated.iter().zip(only_products).filter(|(gated, _)| **gated);
            reads.all(|(_, form)| *form == Form::of(layout))
        })
}

/// The layouts, rows and columns of the matrices in BF16 and FP8 that are multiplied.
fn sizes(model: &Model, layouts: &Layouts) -> impl Iterator<Item = (Layout, [usize; 2])> {
    model.program.nodes.iter().filter_map(|node| match node.op {
        Op::Linear { weight, .. } => {
            let (view, layout) = (model.weights.get(weight), layouts.of(weight));
            (TAKEN.contains(&layout)).then_some((layout, [view.rows, view.cols]))
        }
        _ => None,
    })
}

/// By value, whether a step makes it of two products with matrices in `layout`, a gate and what it lets through.
pub(super) fn gated(model: &Model, layouts: &Layouts, steps: &[Step], layout: Layout) -> Vec<bool> {
    let program = &model.program;
    let mut gated = vec![false; program.values.len()];
    for step in steps {
        let Step::Group(GroupKind::GatedUp, nodes) = step else {
            continue;
        };
        let nodes = || nodes.iter().map(|id| &program.nodes[id.index()]);
        let mut weights = nodes().filter_map(|node| match node.op {
            Op::Linear { weight, .. } => Some(layouts.of(weight)),
            _ => None,
        });
        if weights.all(|of| of == layout) {
            let out = nodes().next_back().and_then(|glu| glu.out);
            out.into_iter().for_each(|v| gated[v.index()] = true);
        }
    }
    gated
}

/// The library on `device`, if it has a way for all products of `model`.
pub(super) fn open(
    device: &Device,
    model: &Model,
    layouts: &Layouts,
    budget: &Budget,
) -> Option<Cublas> {
    let mut cublas = Cublas::new(device)?;
    let all: HashSet<(Layout, [usize; 2])> = sizes(model, layouts).collect();
    let of = |layout: Layout| all.iter().filter(move |(of, _)| *of == layout);
    let counts = [
        gemm_cublas::FEW + 1,
        budget.max_tokens.max(gemm_cublas::FEW + 1),
    ];
    let takes = |&(_, [rows, cols]): &(Layout, [usize; 2])| {
        counts.into_iter().all(|n| {
            [pitch16(cols), cols].into_iter().all(|pitch| {
                [(false, false), (false, true), (true, false)]
                    .into_iter()
                    .all(|(narrow, bias)| {
                        cublas.takes(&CublasProduct {
                            kind: CublasKind::Bf16,
                            rows,
                            cols,
                            n,
                            pitches: [Layout::Bf16.pitch(cols), pitch],
                            narrow,
                            bias,
                            second: None,
                        })
                    })
            })
        })
    };
    let takes_fp8 = |kind: CublasKind| {
        of(Layout::Fp8).all(|&(_, [rows, cols])| {
            let of = |n, narrow| CublasProduct {
                kind,
                rows,
                cols,
                n,
                pitches: [cols; 2],
                narrow,
                bias: false,
                second: None,
            };
            let mut products = counts.iter().flat_map(|&n| [of(n, false), of(n, true)]);
            products.all(|product| cublas.takes(&product))
        })
    };
    let all = of(Layout::Bf16).all(takes) && takes_fp8(CublasKind::Fp8);
    let scales = takes_fp8(CublasKind::Fp8Scaled);
    cublas.scales = scales;
    all.then_some(cublas)
}

impl Run<'_> {
    /// Runs products of `x` that are not gated, two at a time where they are alike.
    pub(super) fn all_by_library(&mut self, x: ValueId, jobs: &[Job]) -> Result<(), CudaError> {
        let mut left = jobs;
        while let [first, rest @ ..] = left {
            left = rest;
            let second = rest.first().map(|second| [first, second]);
            if self.by_library(x, first, false, second)? {
                left = &rest[1..];
            }
        }
        Ok(())
    }

    /// Runs a product of `x` that is not gated, or both of `pair`, of which it is the first, if that can be: tells so.
    fn by_library(
        &mut self,
        x: ValueId,
        job: &Job,
        narrow: bool,
        pair: Option<[&Job; 2]>,
    ) -> Result<bool, CudaError> {
        let cols = self.cols(x);
        let (x, pitch) = if self.in_place == Some(x) {
            (self.value(x), cols)
        } else {
            (self.narrow(x, Form::Rows, job)?.x, pitch16(cols))
        };
        let workspace = self.at(self.scratch().shared);
        let cublas = self.cublas.expect("no form of its columns without it");
        let pair = pair.and_then(|jobs| gemm_cublas::pair(cublas, jobs, pitch));
        let product = pair.unwrap_or_else(|| gemm_cublas::product(job, pitch, narrow));
        gemm_cublas::gemm((self.device, cublas), job, &product, x, workspace)?;
        Ok(pair.is_some())
    }

    /// Runs a gated product of `x`: both halves lie as bf16 in the place of the f32 result, then the result does.
    pub(super) fn gated_by_library(
        &mut self,
        x: ValueId,
        job: &Job,
        (act, up): (Act, Weight),
        out: ValueId,
    ) -> Result<(), CudaError> {
        let (rows, n) = (job.weight.matrix.rows(), job.n);
        let halves = [job.y, job.y.offset(2 * rows * n)];
        for (weight, y) in [job.weight, up].into_iter().zip(halves) {
            let half = Job {
                weight,
                gated: None,
                y,
                add: Ptr::NULL,
                ..*job
            };
            self.by_library(x, &half, true, None)?;
        }
        let biases = [job.weight.bias, up.bias];
        elementwise::glu_bf16(self.device, act, halves, biases, job.y, (n * rows, rows))?;
        self.in_place = Some(out);
        Ok(())
    }
}
