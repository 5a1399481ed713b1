//! Streams beside the device's own, for copies that run side by side.

use std::ffi::c_void;

use cudarc::driver::{result, sys};

use super::{Device, Ptr, Shape};
use crate::error::{CudaError, Named};

/// A stream of its own.
pub(crate) struct Stream<'a> {
    device: &'a Device,
    stream: sys::CUstream,
}

impl Device {
    /// A new stream.
    pub(crate) fn stream(&self) -> Result<Stream<'_>, CudaError> {
        self.make_current()?;
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking)
            .named("cuStreamCreate")?;
        Ok(Stream {
            device: self,
            stream,
        })
    }
}

impl Stream<'_> {
    /// Waits for all that was put on it.
    pub(crate) fn synchronize(&self) -> Result<(), CudaError> {
        // SAFETY: the stream lives as long as `self`.
        unsafe { result::stream::synchronize(self.stream) }.named("cuStreamSynchronize")
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

    /// Launches `kernel`.
    ///
    /// # Safety
    /// As of [`Device::launch`].
    pub(crate) unsafe fn launch(
        &self,
        kernel: &str,
        shape: Shape,
        arguments: &mut [*mut c_void],
    ) -> Result<(), CudaError> {
        // SAFETY: the caller's promise.
        unsafe { self.device.launch_on(self.stream, kernel, shape, arguments) }
    }
}

impl Drop for Stream<'_> {
    fn drop(&mut self) {
        if self.device.make_current().is_err() {
            // Lost with its context.
            return;
        }
        let _ = self.synchronize();
        // SAFETY: ours alone, and nothing runs on it any more.
        let _ = unsafe { result::stream::destroy(self.stream) };
    }
}
