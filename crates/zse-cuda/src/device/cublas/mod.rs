//! NVIDIA's library of matrix products (cuBLASLt), where this machine has it: looked for when the program runs,
//! never linked. Its products of 16-bit matrices by many columns are faster than our own.

mod library;

use std::collections::HashMap;
use std::ptr::{from_ref, null_mut};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Context, Device, Ptr};
use crate::error::CudaError;
pub(crate) use library::Library;
pub use library::cublas;
use library::named::*;
use library::{Found, Handle, Status};

/// Bytes that products may work in; as much as NVIDIA advises for Hopper.
pub(crate) const WORKSPACE: usize = 32 << 20;

/// Most shapes whose ways are kept.
const KEPT: usize = 4096;

/// What a product multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// A bf16 matrix with bf16 columns.
    Bf16,
    /// An E4M3 matrix with E4M3 columns, which leaves out the scales of both.
    Fp8,
    /// The same with a scale for each row of the matrix and for each column: from version 12.9 on, on Hopper.
    Fp8Scaled,
}

/// A product of a matrix with columns, summed in f32; of E4M3, as the tensor cores sum: with fewer bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Product {
    pub(crate) kind: Kind,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    /// Columns, which lie one behind the other, and so do those of the result.
    pub(crate) n: usize,
    /// Numbers between the starts of the matrix's rows, and of columns: multiples of 16 bytes.
    pub(crate) pitches: [usize; 2],
    /// Whether the result is bf16, not f32.
    pub(crate) narrow: bool,
    /// Whether an f32 bias is added to each column of the result, which is f32.
    pub(crate) bias: bool,
    /// How many numbers further the matrix, the result and the bias of another such product of the same columns are,
    /// which runs with it; multiples of 8.
    pub(crate) second: Option<[i64; 3]>,
}

/// Where a product's parts are, at multiples of 16 bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places {
    pub(crate) weight: Ptr,
    pub(crate) x: Ptr,
    /// Null: none.
    pub(crate) bias: Ptr,
    /// Added to the result, of which it has the form; it may be the result's own place. Null: nothing.
    pub(crate) add: Ptr,
    pub(crate) y: Ptr,
    /// The scales of the matrix's rows and of the columns, of [`Kind::Fp8Scaled`].
    pub(crate) scales: [Ptr; 2],
    /// [`WORKSPACE`] bytes.
    pub(crate) workspace: Ptr,
}

/// How a product of some shape runs.
struct Way {
    library: &'static Library,
    desc: Handle,
    /// Of the matrix, the columns and the result.
    layouts: [Handle; 3],
    found: Found,
}

/// The library at work on a device.
pub(crate) struct Cublas {
    library: &'static Library,
    context: Arc<Context>,
    handle: Handle,
    ways: Mutex<HashMap<Product, Way>>,
    /// Whether it can take [`Kind::Fp8Scaled`]; who opens it finds out.
    pub(crate) scales: bool,
}

// SAFETY: the library's handles may be used from any thread; a way is used under the lock alone.
unsafe impl Send for Cublas {}
// SAFETY: as above.
unsafe impl Sync for Cublas {}

/// Turns a status into an error that names the call.
fn check(status: Status, call: &'static str) -> Result<(), CudaError> {
    match status {
        0 => Ok(()),
        status => Err(CudaError::Library { call, status }),
    }
}

impl Way {
    fn new(
        library: &'static Library,
        handle: Handle,
        product: &Product,
    ) -> Result<Self, CudaError> {
        let mut way = Self {
            library,
            desc: null_mut(),
            layouts: [null_mut(); 3],
            found: Found::default(),
        };
        let Product {
            rows,
            cols,
            n,
            pitches: [pitch_w, pitch_x],
            ..
        } = *product;
        let result = if product.narrow { R_16BF } else { R_32F };
        // The library counts rows within columns: our rows are its columns.
        let number = match product.kind {
            Kind::Bf16 => R_16BF,
            Kind::Fp8 | Kind::Fp8Scaled => R_8F_E4M3,
        };
        let layouts = [
            (number, cols, rows, pitch_w),
            (number, cols, n, pitch_x),
            (result, rows, n, rows),
        ];
        // SAFETY: pointers are to places of the types that the functions write or read; what was made is
        // destroyed with `way`, and the preference below.
        unsafe {
            let desc = (library.desc_create)(&raw mut way.desc, COMPUTE_32F, R_32F);
            check(desc, "cublasLtMatmulDescCreate")?;
            way.set(DESC_TRANSA, &OP_T)?;
            if product.bias {
                way.set(DESC_EPILOGUE, &EPILOGUE_BIAS)?;
            }
            if product.kind != Kind::Bf16 {
                // What E4M3 rounds is far more than what this does.
                way.set(DESC_FAST_ACCUM, &1i8)?;
            }
            if product.kind == Kind::Fp8Scaled {
                for (mode, pointer) in DESC_SCALE_MODES.into_iter().zip(DESC_SCALE_POINTERS) {
                    way.set(mode, &SCALE_OUTER_VEC_32F)?;
                    // Some place: the search wants one, and reads nothing there.
                    way.set(pointer, &WORKSPACE)?;
                }
            }
            for (to, (ty, rows, cols, pitch)) in way.layouts.iter_mut().zip(layouts) {
                let made = (library.layout_create)(to, ty, rows as u64, cols as u64, pitch as i64);
                check(made, "cublasLtMatrixLayoutCreate")?;
            }
            if let Some([weight, result, bias]) = product.second {
                for (layout, stride) in way.layouts.into_iter().zip([weight, 0, result]) {
                    way.set_layout(layout, LAYOUT_COUNT, &2i32)?;
                    way.set_layout(layout, LAYOUT_STRIDE, &stride)?;
                }
                way.set(DESC_BIAS_STRIDE, &bias)?;
            }
            let mut preference = null_mut();
            let made = (library.preference_create)(&raw mut preference);
            check(made, "cublasLtMatmulPreferenceCreate")?;
            let found = way.search(handle, preference);
            (library.preference_destroy)(preference);
            way.found = found?;
        }
        Ok(way)
    }

    /// Sets an attribute of the product.
    fn set<T>(&self, attribute: i32, value: &T) -> Result<(), CudaError> {
        let from = from_ref(value).cast();
        // SAFETY: the attribute is of type `T`, as cublasLt.h says.
        let status = unsafe { (self.library.desc_set)(self.desc, attribute, from, size_of::<T>()) };
        check(status, "cublasLtMatmulDescSetAttribute")
    }

    /// Sets an attribute of a layout.
    fn set_layout<T>(&self, layout: Handle, attribute: i32, value: &T) -> Result<(), CudaError> {
        let from = from_ref(value).cast();
        // SAFETY: the attribute is of type `T`, as cublasLt.h says.
        let status = unsafe { (self.library.layout_set)(layout, attribute, from, size_of::<T>()) };
        check(status, "cublasLtMatrixLayoutSetAttribute")
    }

    /// Asks the library for its best way.
    ///
    /// # Safety
    /// The handles are the library's.
    unsafe fn search(&self, handle: Handle, preference: Handle) -> Result<Found, CudaError> {
        let set = |attribute: i32, bytes: &[u8]| {
            // SAFETY: the attribute is as large, as cublasLt.h says.
            let status = unsafe {
                (self.library.preference_set)(
                    preference,
                    attribute,
                    bytes.as_ptr().cast(),
                    bytes.len(),
                )
            };
            check(status, "cublasLtMatmulPreferenceSetAttribute")
        };
        set(PREF_MAX_WORKSPACE, &(WORKSPACE as u64).to_ne_bytes())?;
        // Sums of parts are added in f32, in an order that does not change.
        set(PREF_REDUCTION, &REDUCTION_COMPUTE_TYPE.to_ne_bytes())?;
        for attribute in PREF_ALIGNMENTS {
            set(attribute, &16u32.to_ne_bytes())?;
        }
        let (mut found, mut count) = (Found::default(), 0);
        let [w, x, y] = self.layouts;
        // SAFETY: room for one result.
        let status = unsafe {
            (self.library.heuristic)(
                handle,
                self.desc,
                w,
                x,
                y,
                y,
                preference,
                1,
                &raw mut found,
                &raw mut count,
            )
        };
        check(status, "cublasLtMatmulAlgoGetHeuristic")?;
        check(
            if count == 1 { found.state } else { 15 },
            "cublasLtMatmulAlgoGetHeuristic",
        )?;
        Ok(found)
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        // SAFETY: ours alone; those that were not made are null, which is let be.
        unsafe {
            for layout in self.layouts.iter().filter(|layout| !layout.is_null()) {
                (self.library.layout_destroy)(*layout);
            }
            if !self.desc.is_null() {
                (self.library.desc_destroy)(self.desc);
            }
        }
    }
}

impl Cublas {
    /// On `device`, if the library is there and takes it.
    pub(crate) fn new(device: &Device) -> Option<Self> {
        let library = Library::find()?;
        device.make_current().ok()?;
        let mut handle = null_mut();
        // SAFETY: writes a handle of the current context.
        let made = unsafe { (library.create)(&raw mut handle) };
        check(made, "cublasLtCreate").ok()?;
        Some(Self {
            library,
            context: Arc::clone(&device.inner),
            handle,
            ways: Mutex::default(),
            scales: false,
        })
    }

    /// Calls `with` with the way of `product`.
    fn way<T>(
        &self,
        product: &Product,
        with: impl FnOnce(&Way) -> Result<T, CudaError>,
    ) -> Result<T, CudaError> {
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(way) = ways.get(product) {
            return with(way);
        }
        if ways.len() >= KEPT {
            // Lengths of prompts come and go.
            ways.clear();
        }
        let way = Way::new(self.library, self.handle, product)?;
        with(ways.entry(*product).or_insert(way))
    }

    /// Whether the library has a way for `product`.
    pub(crate) fn takes(&self, product: &Product) -> bool {
        self.way(product, |_| Ok(())).is_ok()
    }

    /// Puts a product on the stream.
    ///
    /// # Safety
    /// The places hold what `product` says, and nothing else on the device uses the result or the workspace at the
    /// same time.
    pub(crate) unsafe fn run(
        &self,
        device: &Device,
        product: &Product,
        at: &Places,
    ) -> Result<(), CudaError> {
        self.way(product, |way| {
            if product.bias {
                way.set(DESC_BIAS_POINTER, &at.bias.0)?;
            }
            if product.kind == Kind::Fp8Scaled {
                for (pointer, scales) in DESC_SCALE_POINTERS.into_iter().zip(at.scales) {
                    way.set(pointer, &scales.0)?;
                }
            }
            let add = if at.add == Ptr::NULL { at.y } else { at.add };
            let (one, beta) = (1f32, f32::from(u8::from(at.add != Ptr::NULL)));
            let [w, x, y] = way.layouts;
            // SAFETY: the caller's promise; both factors are f32, read before the call returns.
            let status = unsafe {
                (self.library.matmul)(
                    self.handle,
                    way.desc,
                    from_ref(&one).cast(),
                    at.weight.0,
                    w,
                    at.x.0,
                    x,
                    from_ref(&beta).cast(),
                    add.0,
                    y,
                    at.y.0,
                    y,
                    &raw const way.found.algorithm,
                    at.workspace.0,
                    WORKSPACE,
                    device.stream,
                )
            };
            check(status, "cublasLtMatmul")
        })
    }
}

impl Drop for Cublas {
    fn drop(&mut self) {
        self.ways
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        if self.context.make_current().is_err() {
            // Lost with its context.
            return;
        }
        // SAFETY: ours alone; who owns us has waited for what still ran.
        unsafe { (self.library.destroy)(self.handle) };
    }
}
