//! Products of BF16 matrices by many columns through cuBLASLt.

use super::gemv::Job;
use crate::device::{Cublas, CublasKind, CublasPlaces, CublasProduct, Device, Ptr};
use crate::error::CudaError;

/// Most columns that our own kernels multiply where the library is there.
pub(crate) const FEW: usize = 16;

/// The product of `job`, whose columns are bf16 rows every `pitch` numbers; a narrow result is bf16, without bias.
pub(crate) fn product(job: &Job, pitch: usize, narrow: bool) -> CublasProduct {
    let matrix = &job.weight.matrix;
    let pitch_w = matrix.layout.pitch(matrix.cols());
    CublasProduct {
        kind: CublasKind::Bf16,
        rows: matrix.rows(),
        cols: matrix.cols(),
        n: job.n,
        pitches: [pitch_w, pitch],
        narrow,
        bias: !narrow && job.weight.bias != Ptr::NULL,
        second: None,
    }
}

/// How many numbers of so many bytes `b` is behind `a`, if it is whole units of 16 bytes.
pub(crate) fn apart(a: Ptr, b: Ptr, bytes: u64) -> Option<i64> {
    let apart = b.0.checked_sub(a.0)?;
    let numbers = i64::try_from(apart / bytes).ok();
    numbers.filter(|_| apart % 16 == 0)
}

/// Both products, if they are alike and lie so that the library can run them as one: small ones alone do not fill the GPU.
pub(crate) fn pair(cublas: &Cublas, [a, b]: [&Job; 2], pitch: usize) -> Option<CublasProduct> {
    let (first, second) = (product(a, pitch, false), product(b, pitch, false));
    let fits = first == second && [a.add, b.add] == [Ptr::NULL; 2];
    let pair = CublasProduct {
        second: Some([
            apart(a.weight.matrix.planes.q, b.weight.matrix.planes.q, 2)?,
            apart(a.y, b.y, 4)?,
            apart(a.weight.bias, b.weight.bias, 4)?,
        ]),
        ..first
    };
    (fits && cublas.takes(&pair)).then_some(pair)
}

/// Runs `job`, which is not gated, as `product` says.
pub(crate) fn gemm(
    (device, cublas): (&Device, &Cublas),
    job: &Job,
    product: &CublasProduct,
    x: Ptr,
    workspace: Ptr,
) -> Result<(), CudaError> {
    let at = CublasPlaces {
        weight: job.weight.matrix.planes.q,
        x,
        bias: job.weight.bias,
        add: job.add,
        y: job.y,
        scales: [Ptr::NULL; 2],
        workspace,
    };
    // SAFETY: the matrix as it was loaded, n rows behind x, y and add, and room to work in, as planned.
    unsafe { cublas.run(device, product, &at) }
}
