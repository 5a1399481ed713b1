//! A GPU: its context, one stream, the kernels, and memory.

mod cublas;
mod graph;
mod health;
mod memory;
mod nvml;
mod stream;

use std::collections::HashMap;
use std::ffi::c_void;
use std::fmt;
use std::mem::MaybeUninit;
use std::sync::{Arc, OnceLock};

use cudarc::driver::result;
use cudarc::driver::sys;
use zse_model::executor::ExecError;

use crate::error::{CudaError, Named};
pub use cublas::cublas;
pub(crate) use cublas::{
    Cublas, Kind as CublasKind, Library, Places as CublasPlaces, Product as CublasProduct,
    WORKSPACE,
};
pub(crate) use graph::Graph;
pub(crate) use health::Health;
pub use health::{Watch, is_broken, is_failed};
pub(crate) use memory::{Arena, DeviceMemory, HostMemory, PinnedMemory, Ptr};
pub use nvml::{Gpu, energy, gpus};
pub(crate) use stream::Stream;

/// A source file's kernels, compiled for each target.
struct Image {
    name: &'static str,
    sm_90a: &'static [u8],
    compute_80: &'static [u8],
}

static IMAGES: &[Image] = &include!(concat!(env!("OUT_DIR"), "/images.rs"));

/// The largest dynamic shared memory that a kernel asks for.
const SHARED_LIMIT: i32 = 196 << 10;

/// A kernel's grid and block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) grid: [u32; 3],
    pub(crate) block: u32,
    /// Bytes of dynamic shared memory.
    pub(crate) shared: u32,
}

impl Shape {
    /// A grid of one dimension.
    pub(crate) fn line(blocks: usize, block: u32) -> Self {
        Self::plane(blocks, 1, block)
    }

    /// A grid of two.
    pub(crate) fn plane(x: usize, y: usize, block: u32) -> Self {
        Self::space([x, y, 1], block)
    }

    /// A grid of three.
    pub(crate) fn space(grid: [usize; 3], block: u32) -> Self {
        // Sizes were bounded when the model was compiled; a grid beyond 32 bits is refused by the driver.
        let size = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self {
            grid: grid.map(size),
            block,
            shared: 0,
        }
    }

    /// With dynamic shared memory.
    pub(crate) fn shared(self, bytes: usize) -> Self {
        Self {
            shared: u32::try_from(bytes).unwrap_or(u32::MAX),
            ..self
        }
    }
}

/// A kernel; its code goes to the device when it is first used.
struct Kernel {
    function: sys::CUfunction,
    /// Set once its blocks may ask for as much shared memory as there is.
    raised: OnceLock<()>,
}

/// A GPU with the kernels and one stream.
pub(crate) struct Device {
    inner: Arc<Context>,
    /// Nobody else's: a step is recorded and replayed on it.
    stream: sys::CUstream,
    kernels: HashMap<String, Kernel>,
    /// Most shared memory of a block, what its code declares included.
    shared: i32,
    modules: Vec<sys::CUmodule>,
    pub(crate) multiprocessors: usize,
    /// Whether it runs Hopper's kernels, which may start while the one before them ends.
    pub(crate) is_hopper: bool,
}

/// A context on a GPU, which memory must not outlive.
pub(crate) struct Context {
    device: sys::CUdevice,
    context: sys::CUcontext,
    pub(crate) name: String,
    pub(crate) is_hopper: bool,
    multiprocessors: i32,
    /// Most shared memory of a block, what its code declares included.
    shared: i32,
    pub(crate) health: Arc<Health>,
}

// SAFETY: the driver's handles may be used from any thread; every use makes the context current first.
unsafe impl Send for Context {}
// SAFETY: as above; the driver locks what it shares.
unsafe impl Sync for Context {}
// SAFETY: functions and modules are handles of that context.
unsafe impl Send for Device {}
// SAFETY: nothing of it changes behind a shared borrow, and the driver locks what it shares.
unsafe impl Sync for Device {}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Context {
    /// Makes it current on this thread, unless it is lost: then nothing that it gave may be used.
    fn make_current(&self) -> Result<(), CudaError> {
        if self.health.is_lost() {
            return Err(CudaError::Lost);
        }
        // SAFETY: the context lives as long as `self`.
        unsafe { result::ctx::set_current(self.context) }.named("cuCtxSetCurrent")
    }
}

impl Context {
    /// Bytes free.
    pub(crate) fn free(&self) -> Result<u64, CudaError> {
        self.make_current()?;
        let (free, _) = result::mem_get_info().named("cuMemGetInfo")?;
        Ok(free as u64)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: the retained context is ours, and nothing uses it any more. An error (a device that
        // fell off) leaves nothing to do.
        let _ = unsafe { result::primary_ctx::release(self.device) };
    }
}

/// The driver, ready to be asked, and how many GPUs it shows.
pub(crate) fn driver() -> Result<usize, CudaError> {
    // SAFETY: only tries to load the library.
    if !unsafe { sys::is_culib_present() } {
        return Err(CudaError::NoDriver);
    }
    match result::init() {
        Err(e) if e.0 == sys::CUresult::CUDA_ERROR_NO_DEVICE => return Ok(0),
        other => other.named("cuInit")?,
    }
    let mut version = 0;
    // SAFETY: writes an int.
    unsafe { sys::cuDriverGetVersion(&raw mut version) }.named("cuDriverGetVersion")?;
    if version < 13000 {
        return Err(CudaError::OldDriver { version });
    }
    let count = result::device::get_count().named("cuDeviceGetCount")?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// A GPU that the kernels run on.
pub(crate) struct Found {
    device: sys::CUdevice,
    name: String,
    is_hopper: bool,
}

impl Found {
    /// Looks GPU `ordinal` up, without making a context on it.
    pub(crate) fn new(ordinal: usize) -> Result<Self, CudaError> {
        let count = driver()?;
        let number = i32::try_from(ordinal).ok().filter(|_| ordinal < count);
        let device = number.ok_or(CudaError::NoDevice { ordinal, count })?;
        let device = result::device::get(device).named("cuDeviceGet")?;
        let name = result::device::get_name(device).named("cuDeviceGetName")?;
        use sys::CUdevice_attribute as A;
        let mut found = Self {
            device,
            name,
            is_hopper: false,
        };
        let major = found.attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = found.attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        if major < 8 {
            let name = found.name;
            return Err(CudaError::TooOld { name, major, minor });
        }
        found.is_hopper = (major, minor) == (9, 0);
        Ok(found)
    }

    /// Where it is on the bus, such as `0000:3B:00.0`.
    fn address(&self) -> Result<String, CudaError> {
        let mut text = [0_u8; 32];
        // SAFETY: writes as many bytes as there are at most; the device exists.
        unsafe {
            sys::cuDeviceGetPCIBusId(text.as_mut_ptr().cast(), text.len() as i32, self.device)
        }
        .named("cuDeviceGetPCIBusId")?;
        let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    fn attribute(&self, which: sys::CUdevice_attribute) -> Result<i32, CudaError> {
        // SAFETY: the device exists.
        unsafe { result::device::get_attribute(self.device, which) }.named("cuDeviceGetAttribute")
    }
}

impl Context {
    /// The context of a GPU, made if there is none.
    fn retain(found: Found) -> Result<Self, CudaError> {
        use sys::CUdevice_attribute as A;
        let multiprocessors = found.attribute(A::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        let shared = found.attribute(A::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?;
        // SAFETY: the device exists; released when `Context` is dropped.
        let context = unsafe { result::primary_ctx::retain(found.device) }
            .named("cuDevicePrimaryCtxRetain")?;
        Ok(Self {
            device: found.device,
            context,
            name: found.name,
            is_hopper: found.is_hopper,
            multiprocessors,
            shared,
            health: Arc::default(),
        })
    }
}

impl Device {
    /// A device in `context`; `portable` takes the kernels that any card can run.
    pub(crate) fn new(context: &Arc<Context>, portable: bool) -> Result<Self, CudaError> {
        context.make_current()?;
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking)
            .named("cuStreamCreate")?;
        let hopper = context.is_hopper && !portable;
        let mut this = Self {
            inner: Arc::clone(context),
            stream,
            kernels: HashMap::new(),
            shared: context.shared,
            modules: Vec::new(),
            multiprocessors: usize::try_from(context.multiprocessors).unwrap_or(1),
            is_hopper: hopper,
        };
        for image in IMAGES {
            let code = if hopper {
                image.sm_90a
            } else {
                image.compute_80
            };
            this.load(image.name, code)?;
        }
        Ok(this)
    }

    /// Loads all kernels of an image.
    fn load(&mut self, name: &'static str, code: &[u8]) -> Result<(), CudaError> {
        // The driver wants images aligned.
        let mut aligned = vec![0u64; code.len().div_ceil(8)];
        for (to, from) in aligned.iter_mut().zip(code.chunks(8)) {
            let mut word = [0; 8];
            word[..from.len()].copy_from_slice(from);
            *to = u64::from_ne_bytes(word);
        }
        // SAFETY: a whole image that nvcc made; the driver copies what it keeps.
        let module =
            unsafe { result::module::load_data(aligned.as_ptr().cast::<c_void>()) }.named(name)?;
        self.modules.push(module);
        let mut count = 0;
        // SAFETY: the module was loaded.
        unsafe { sys::cuModuleGetFunctionCount(&raw mut count, module) }
            .named("cuModuleGetFunctionCount")?;
        if count == 0 {
            // Kernels of the other path.
            return Ok(());
        }
        let mut functions = vec![MaybeUninit::<sys::CUfunction>::uninit(); count as usize];
        // SAFETY: there is room for `count` handles.
        unsafe { sys::cuModuleEnumerateFunctions(functions.as_mut_ptr().cast(), count, module) }
            .named("cuModuleEnumerateFunctions")?;
        for function in functions {
            // SAFETY: the call above filled all of them.
            let function = unsafe { function.assume_init() };
            let mut name = std::ptr::null();
            // SAFETY: a function of this module; its name lives as long as the module.
            let name = unsafe {
                sys::cuFuncGetName(&raw mut name, function).named("cuFuncGetName")?;
                std::ffi::CStr::from_ptr(name)
            };
            let name = name.to_string_lossy().into_owned();
            let raised = OnceLock::new();
            self.kernels.insert(name, Kernel { function, raised });
        }
        Ok(())
    }

    /// Lets blocks of a kernel ask for as much shared memory as there is.
    fn raise(&self, function: sys::CUfunction) -> Result<(), CudaError> {
        use sys::CUfunction_attribute_enum as A;
        // What the code declares counts too.
        let declared = A::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES;
        // SAFETY: a function of one of our modules.
        let declared = unsafe { result::function::get_function_attribute(function, declared) }
            .named("cuFuncGetAttribute")?;
        let which = A::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        let bytes = SHARED_LIMIT.min(self.shared - declared);
        // SAFETY: as above.
        unsafe { result::function::set_function_attribute(function, which, bytes) }
            .named("cuFuncSetAttribute")
    }

    /// Makes the context current on this thread; before any other use there.
    pub(crate) fn make_current(&self) -> Result<(), CudaError> {
        self.inner.make_current()
    }

    /// Whether its context can be used.
    pub(crate) fn health(&self) -> &Arc<Health> {
        &self.inner.health
    }

    /// What came of a step. Where the device failed and cannot even be waited for, the context is lost.
    pub(crate) fn look_after<T>(&self, done: Result<T, ExecError>) -> Result<T, ExecError> {
        if matches!(done, Err(ExecError::Device(_))) && self.synchronize().is_err() {
            self.inner.health.lose();
        }
        done
    }

    /// Waits for all that was put on the stream.
    pub(crate) fn synchronize(&self) -> Result<(), CudaError> {
        // SAFETY: the stream lives as long as `self`.
        unsafe { result::stream::synchronize(self.stream) }.named("cuStreamSynchronize")
    }

    /// Bytes free, and in all.
    pub(crate) fn memory(&self) -> Result<(u64, u64), CudaError> {
        let (free, total) = result::mem_get_info().named("cuMemGetInfo")?;
        Ok((free as u64, total as u64))
    }

    /// Launches `kernel`.
    ///
    /// # Safety
    /// `arguments` point to values of the kernel's parameter types, in their order; pointers among them
    /// to memory of this device that is large enough for what the kernel reads and writes, and that
    /// nothing else on the device uses at the same time.
    pub(crate) unsafe fn launch(
        &self,
        kernel: &str,
        shape: Shape,
        arguments: &mut [*mut c_void],
    ) -> Result<(), CudaError> {
        // SAFETY: the caller's promise.
        unsafe { self.launch_on(self.stream, kernel, shape, arguments) }
    }

    /// Launches `kernel` on `stream`.
    ///
    /// # Safety
    /// As of [`launch`](Self::launch); the stream is one of this context.
    unsafe fn launch_on(
        &self,
        stream: sys::CUstream,
        kernel: &str,
        shape: Shape,
        arguments: &mut [*mut c_void],
    ) -> Result<(), CudaError> {
        if shape.grid.contains(&0) {
            return Ok(());
        }
        let kernel = self
            .kernels
            .get(kernel)
            .ok_or_else(|| CudaError::NoKernel(kernel.to_owned()))?;
        if shape.shared > 0 && kernel.raised.get().is_none() {
            self.raise(kernel.function)?;
            let _ = kernel.raised.set(());
        }
        let mut attribute = sys::CUlaunchAttribute {
            id: sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
            pad: [0; 4],
            value: sys::CUlaunchAttributeValue {
                programmaticStreamSerializationAllowed: 1,
            },
        };
        let [x, y, z] = shape.grid;
        let config = sys::CUlaunchConfig {
            gridDimX: x,
            gridDimY: y,
            gridDimZ: z,
            blockDimX: shape.block,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: shape.shared,
            hStream: stream,
            attrs: &raw mut attribute,
            numAttrs: u32::from(self.is_hopper),
        };
        // SAFETY: the caller's promise; the configuration lives to the end of the call.
        unsafe {
            sys::cuLaunchKernelEx(
                &raw const config,
                kernel.function,
                arguments.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        }
        .named("cuLaunchKernelEx")
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if self.make_current().is_err() {
            // Lost with its context.
            return;
        }
        let _ = self.synchronize();
        for module in &self.modules {
            // SAFETY: loaded by `load`, and nothing runs any more.
            let _ = unsafe { result::module::unload(*module) };
        }
        // SAFETY: made by `new`, and nothing runs on it any more.
        let _ = unsafe { result::stream::destroy(self.stream) };
    }
}

/// Launches a kernel on a device: name, shape; arguments.
macro_rules! launch {
    ($device:expr, $kernel:expr, $shape:expr; $($argument:expr),+ $(,)?) => {
        $device.launch(
            $kernel,
            $shape,
            &mut [$(std::ptr::from_ref(&$argument).cast_mut().cast::<std::ffi::c_void>()),+],
        )
    };
}
pub(crate) use launch;
