//! Memory: on the device, and pinned on the host.

use std::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::{result, sys};
use memmap2::MmapMut;

use super::{Context, Device};
use crate::error::{CudaError, Named};

/// An address on the device, as kernels take it; 0 is null.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Ptr(pub(crate) u64);

impl Ptr {
    /// Nothing.
    pub(crate) const NULL: Self = Self(0);

    /// The address `bytes` further.
    pub(crate) fn offset(self, bytes: usize) -> Self {
        Self(self.0 + bytes as u64)
    }
}

/// Counts out parts of an allocation before it is made.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Arena {
    bytes: usize,
}

impl Arena {
    /// Parts start at multiples of this.
    const ALIGN: usize = 256;

    /// The offset of a new part of `bytes`; saturates, and then no device holds it.
    pub(crate) fn take(&mut self, bytes: usize) -> usize {
        let at = self.bytes;
        self.bytes = at.saturating_add(
            bytes
                .checked_next_multiple_of(Self::ALIGN)
                .unwrap_or(usize::MAX),
        );
        at
    }

    /// Bytes of all parts.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// An allocation on the device.
pub(crate) struct DeviceMemory {
    context: Arc<Context>,
    at: Ptr,
    bytes: usize,
}

impl Device {
    /// Allocates `bytes` for `what`.
    pub(crate) fn allocate(
        &self,
        what: &'static str,
        bytes: usize,
    ) -> Result<DeviceMemory, CudaError> {
        self.make_current()?;
        // SAFETY: the context is current.
        let at = match unsafe { result::malloc_sync(bytes.max(1)) } {
            Err(e) if e.0 == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                return Err(CudaError::OutOfMemory {
                    what,
                    needed: bytes as u64,
                    available: self.memory()?.0,
                });
            }
            other => other.named("cuMemAlloc")?,
        };
        Ok(DeviceMemory {
            context: Arc::clone(&self.inner),
            at: Ptr(at),
            bytes,
        })
    }

    /// Allocates `bytes` on the host that kernels read and write in place, over the bus.
    pub(crate) fn allocate_host(&self, bytes: usize) -> Result<HostMemory, CudaError> {
        let failed = |source| CudaError::Host {
            what: "no memory on the host for large tables",
            source,
        };
        let mut map = MmapMut::map_anon(bytes.max(1)).map_err(failed)?;
        // Only advice.
        #[cfg(target_os = "linux")]
        drop(map.advise(memmap2::Advice::HugePage));
        // Pages are made here and not by the driver, whose lock would keep all other threads from it meanwhile.
        map.chunks_mut(4096).for_each(|page| page[0] = 0);
        self.make_current()?;
        let (from, len) = (map.as_mut_ptr().cast::<c_void>(), map.len());
        // SAFETY: a map of so many bytes, which lives until it is unregistered.
        unsafe { sys::cuMemHostRegister_v2(from, len, sys::CU_MEMHOSTREGISTER_DEVICEMAP) }
            .named("cuMemHostRegister")?;
        let mut memory = HostMemory {
            context: Arc::clone(&self.inner),
            map,
            at: Ptr::NULL,
        };
        // SAFETY: just registered, for that.
        unsafe { sys::cuMemHostGetDevicePointer_v2(&raw mut memory.at.0, from, 0) }
            .named("cuMemHostGetDevicePointer")?;
        Ok(memory)
    }

    /// Allocates `words` zeros on the host that the device copies from and to without a detour.
    pub(crate) fn pin(&self, words: usize) -> Result<PinnedMemory, CudaError> {
        self.make_current()?;
        // SAFETY: the context is current.
        let at = unsafe { result::malloc_host(4 * words.max(1), 0) }.named("cuMemHostAlloc")?;
        // SAFETY: just allocated, so large.
        unsafe { std::ptr::write_bytes(at.cast::<u8>(), 0, 4 * words) };
        Ok(PinnedMemory {
            context: Arc::clone(&self.inner),
            at: at.cast(),
            words,
        })
    }

    /// Fills with zeros, in the order of the stream.
    pub(crate) fn clear(&self, memory: &DeviceMemory) -> Result<(), CudaError> {
        // SAFETY: the whole of an allocation.
        unsafe { result::memset_d8_async(memory.at.0, 0, memory.bytes, self.stream) }
            .named("cuMemsetD8Async")
    }

    /// Copies `from` to the device, in the order of the stream.
    ///
    /// # Safety
    /// `to` has room, and `from` is not pinned or not changed before the stream was waited for.
    pub(crate) unsafe fn upload<T: Copy>(&self, to: Ptr, from: &[T]) -> Result<(), CudaError> {
        if from.is_empty() {
            return Ok(());
        }
        // SAFETY: the caller's promise.
        unsafe { result::memcpy_htod_async(to.0, from, self.stream) }.named("cuMemcpyHtoDAsync")
    }

    /// Copies from the device, in the order of the stream.
    ///
    /// # Safety
    /// There are as many numbers behind `from`, and `to` is not read before the stream was waited for.
    pub(crate) unsafe fn download<T: Copy>(
        &self,
        to: &mut [T],
        from: Ptr,
    ) -> Result<(), CudaError> {
        if to.is_empty() {
            return Ok(());
        }
        // SAFETY: the caller's promise.
        unsafe { result::memcpy_dtoh_async(to, from.0, self.stream) }.named("cuMemcpyDtoHAsync")
    }

    /// Copies from the device to memory of the host that it knows, in the order of the stream.
    ///
    /// # Safety
    /// Both parts are so large.
    pub(crate) unsafe fn copy_to_host(
        &self,
        to: Ptr,
        from: Ptr,
        bytes: usize,
    ) -> Result<(), CudaError> {
        // SAFETY: the caller's promise.
        unsafe { sys::cuMemcpyAsync(to.0, from.0, bytes, self.stream) }.named("cuMemcpyAsync")
    }

    /// Copies on the device, in the order of the stream.
    ///
    /// # Safety
    /// Both parts are of memory of this device, and do not overlap.
    pub(crate) unsafe fn copy(&self, to: Ptr, from: Ptr, bytes: usize) -> Result<(), CudaError> {
        // SAFETY: the caller's promise.
        unsafe { result::memcpy_dtod_async(to.0, from.0, bytes, self.stream) }
            .named("cuMemcpyDtoDAsync")
    }
}

impl DeviceMemory {
    /// Its address.
    pub(crate) fn at(&self) -> Ptr {
        self.at
    }

    /// Its size.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        if self.context.make_current().is_err() {
            // Lost with its context.
            return;
        }
        // SAFETY: ours alone; freeing waits for what still runs.
        let _ = unsafe { result::free_sync(self.at.0) };
    }
}

/// An allocation on the host, in the device's address space.
pub(crate) struct HostMemory {
    context: Arc<Context>,
    /// Only kernels use it.
    map: MmapMut,
    at: Ptr,
}

impl HostMemory {
    /// Its address on the device.
    pub(crate) fn at(&self) -> Ptr {
        self.at
    }
}

impl Drop for HostMemory {
    fn drop(&mut self) {
        if self.context.make_current().is_err() {
            // Lost with its context.
            return;
        }
        // SAFETY: ours alone; who owns us has waited for what still ran.
        let _ = unsafe { sys::cuMemHostUnregister(self.map.as_mut_ptr().cast()) };
    }
}

/// Words on the host, pinned.
pub(crate) struct PinnedMemory {
    context: Arc<Context>,
    at: *mut u32,
    words: usize,
}

// SAFETY: the memory is owned, and plain.
unsafe impl Send for PinnedMemory {}

impl PinnedMemory {
    /// The words.
    pub(crate) fn words(&self) -> &[u32] {
        // SAFETY: `words` of them, initialised, and borrowed with `self`.
        unsafe { std::slice::from_raw_parts(self.at, self.words) }
    }

    /// The bytes of the words, to be changed.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as of `words_mut`; any bytes are words.
        unsafe { std::slice::from_raw_parts_mut(self.at.cast(), 4 * self.words) }
    }

    /// The words, to be changed.
    pub(crate) fn words_mut(&mut self) -> &mut [u32] {
        // SAFETY: as above, borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.at, self.words) }
    }
}

impl Drop for PinnedMemory {
    fn drop(&mut self) {
        if self.context.make_current().is_err() {
            // Lost with its context.
            return;
        }
        // SAFETY: ours alone. A copy that still runs is one of the stream, which who owns us waits for.
        let _ = unsafe { result::free_host(self.at.cast::<c_void>()) };
    }
}
