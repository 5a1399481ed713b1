//! The library's file, and its functions.

use std::env;
use std::ffi::c_void;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::OnceLock;

use cudarc::driver::sys::CUstream;

/// The library's files, by preference.
const FILES: [&str; 3] = if cfg!(windows) {
    ["cublasLt64_13.dll", "cublasLt64_12.dll", "cublasLt.dll"]
} else {
    ["libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"]
};

/// The versions that are used, those whose types are here: 12 and 13.
const VERSIONS: Range<usize> = 120_000..140_000;

pub(super) type Handle = *mut c_void;
pub(super) type Status = i32;

/// `cublasLtMatmulAlgo_t`: what the library makes of a shape.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Algorithm([u64; 8]);

/// `cublasLtMatmulHeuristicResult_t`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Found {
    pub(super) algorithm: Algorithm,
    workspace: usize,
    pub(super) state: Status,
    waves: f32,
    reserved: [i32; 4],
}

const _: () = assert!(size_of::<Found>() == 96);

type Create = unsafe extern "C" fn(*mut Handle) -> Status;
type Destroy = unsafe extern "C" fn(Handle) -> Status;
type Set = unsafe extern "C" fn(Handle, i32, *const c_void, usize) -> Status;
type Matmul = unsafe extern "C" fn(
    Handle,
    Handle,
    *const c_void,
    u64,
    Handle,
    u64,
    Handle,
    *const c_void,
    u64,
    Handle,
    u64,
    Handle,
    *const Algorithm,
    u64,
    usize,
    CUstream,
) -> Status;

/// The library, open.
pub(crate) struct Library {
    pub(super) create: Create,
    pub(super) destroy: Destroy,
    pub(super) matmul: Matmul,
    pub(super) heuristic: unsafe extern "C" fn(
        Handle,
        Handle,
        Handle,
        Handle,
        Handle,
        Handle,
        Handle,
        i32,
        *mut Found,
        *mut i32,
    ) -> Status,
    pub(super) desc_create: unsafe extern "C" fn(*mut Handle, i32, i32) -> Status,
    pub(super) desc_set: Set,
    pub(super) desc_destroy: Destroy,
    pub(super) layout_create: unsafe extern "C" fn(*mut Handle, i32, u64, u64, i64) -> Status,
    pub(super) layout_set: Set,
    pub(super) layout_destroy: Destroy,
    pub(super) preference_create: Create,
    pub(super) preference_set: Set,
    pub(super) preference_destroy: Destroy,
    version: usize,
    path: PathBuf,
    /// Holds what the functions are of.
    _library: libloading::Library,
}

/// Where the library may be: where the system's loader looks, then in the folders of toolkits, of those at `homes`
/// first. Only whole paths count: no code comes from the folder that the program happens to run in.
fn candidates(homes: impl IntoIterator<Item = PathBuf>) -> Vec<PathBuf> {
    const PARTS: [&str; 4] = ["lib64", "lib", "targets/x86_64-linux/lib", "bin"];
    const USUAL: [&str; 3] = [
        "/usr/local/cuda/lib64",
        "/usr/local/cuda-13/lib64",
        "/opt/cuda/lib64",
    ];
    let of_homes = homes
        .into_iter()
        .flat_map(|home| PARTS.map(|part| home.join(part)));
    let folders = of_homes.chain(USUAL.map(PathBuf::from));
    let folders = folders.filter(|folder| folder.is_absolute());
    let files = folders.flat_map(|folder| FILES.map(|file| folder.join(file)));
    FILES.map(PathBuf::from).into_iter().chain(files).collect()
}

/// The toolkits that the environment names.
fn homes() -> impl Iterator<Item = PathBuf> {
    let named = ["CUDA_HOME", "CUDA_PATH"].map(env::var_os);
    named.into_iter().flatten().map(PathBuf::from)
}

impl Library {
    /// The library, if this machine has it.
    pub(crate) fn find() -> Option<&'static Self> {
        static FOUND: OnceLock<Option<Library>> = OnceLock::new();
        FOUND
            .get_or_init(|| candidates(homes()).into_iter().find_map(Self::open))
            .as_ref()
    }

    fn open(path: PathBuf) -> Option<Self> {
        // SAFETY: NVIDIA's library; what it does when it is loaded is sound.
        let library = unsafe { libloading::Library::new(&path) }.ok()?;
        /// A function by its name.
        ///
        /// # Safety
        /// It is of type `F`.
        unsafe fn get<F: Copy>(library: &libloading::Library, name: &str) -> Option<F> {
            // SAFETY: the caller's promise.
            unsafe { library.get::<F>(name.as_bytes()) }
                .ok()
                .map(|f| *f)
        }
        // SAFETY: types as in cublasLt.h of CUDA 12 and 13.
        unsafe {
            let version: unsafe extern "C" fn() -> usize = get(&library, "cublasLtGetVersion")?;
            let version = version();
            VERSIONS.contains(&version).then_some(())?;
            Some(Self {
                create: get(&library, "cublasLtCreate")?,
                destroy: get(&library, "cublasLtDestroy")?,
                matmul: get(&library, "cublasLtMatmul")?,
                heuristic: get(&library, "cublasLtMatmulAlgoGetHeuristic")?,
                desc_create: get(&library, "cublasLtMatmulDescCreate")?,
                desc_set: get(&library, "cublasLtMatmulDescSetAttribute")?,
                desc_destroy: get(&library, "cublasLtMatmulDescDestroy")?,
                layout_create: get(&library, "cublasLtMatrixLayoutCreate")?,
                layout_set: get(&library, "cublasLtMatrixLayoutSetAttribute")?,
                layout_destroy: get(&library, "cublasLtMatrixLayoutDestroy")?,
                preference_create: get(&library, "cublasLtMatmulPreferenceCreate")?,
                preference_set: get(&library, "cublasLtMatmulPreferenceSetAttribute")?,
                preference_destroy: get(&library, "cublasLtMatmulPreferenceDestroy")?,
                version,
                path,
                _library: library,
            })
        }
    }
}

/// The cuBLASLt that products of BF16 matrices by many columns would run on: its version, and where it was found.
pub fn cublas() -> Option<String> {
    let library = Library::find()?;
    let (major, minor) = (library.version / 10_000, library.version / 100 % 100);
    Some(format!("{major}.{minor} ({})", library.path.display()))
}

/// Names and values of cublasLt.h and library_types.h.
pub(super) mod named {
    pub(in super::super) const R_32F: i32 = 0;
    pub(in super::super) const R_16BF: i32 = 14;
    pub(in super::super) const R_8F_E4M3: i32 = 28;
    pub(in super::super) const COMPUTE_32F: i32 = 68;
    pub(in super::super) const OP_T: i32 = 1;
    pub(in super::super) const DESC_TRANSA: i32 = 3;
    pub(in super::super) const DESC_EPILOGUE: i32 = 7;
    pub(in super::super) const DESC_BIAS_POINTER: i32 = 8;
    pub(in super::super) const DESC_BIAS_STRIDE: i32 = 10;
    pub(in super::super) const DESC_SCALE_POINTERS: [i32; 2] = [17, 18];
    pub(in super::super) const DESC_FAST_ACCUM: i32 = 25;
    pub(in super::super) const DESC_SCALE_MODES: [i32; 2] = [31, 32];
    pub(in super::super) const SCALE_OUTER_VEC_32F: i32 = 3;
    pub(in super::super) const LAYOUT_COUNT: i32 = 5;
    pub(in super::super) const LAYOUT_STRIDE: i32 = 6;
    pub(in super::super) const EPILOGUE_BIAS: i32 = 4;
    pub(in super::super) const PREF_MAX_WORKSPACE: i32 = 1;
    pub(in super::super) const PREF_REDUCTION: i32 = 3;
    pub(in super::super) const REDUCTION_COMPUTE_TYPE: u32 = 2;
    pub(in super::super) const PREF_ALIGNMENTS: [i32; 4] = [5, 6, 7, 8];
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn only_toolkits_with_whole_paths_are_looked_in() {
        let of = |home: &str| candidates([PathBuf::from(home)]);
        let usual = candidates([]);
        assert_eq!(of(""), usual);
        assert_eq!(of("cuda"), usual);
        let found = of("/a/cuda");
        assert_eq!(found[..3], FILES.map(PathBuf::from));
        assert_eq!(found[3], PathBuf::from("/a/cuda/lib64/libcublasLt.so.13"));
    }
}
