//! Launches recorded once and replayed as one.

use std::sync::Arc;

use cudarc::driver::{result, sys};

use super::{Context, Device};
use crate::error::{CudaError, Named};

/// A recorded sequence of launches.
pub(crate) struct Graph {
    context: Arc<Context>,
    exec: sys::CUgraphExec,
}

// SAFETY: the handle may be used from any thread, one at a time.
unsafe impl Send for Graph {}

impl Device {
    /// Records what `launches` puts on the stream, without running it.
    ///
    /// # Errors
    /// That of `launches`, or the driver's.
    pub(crate) fn record(
        &self,
        launches: impl FnOnce() -> Result<(), CudaError>,
    ) -> Result<Graph, CudaError> {
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream lives as long as `self`.
        unsafe { result::stream::begin_capture(self.stream, mode) }
            .named("cuStreamBeginCapture")?;
        let launched = launches();
        // SAFETY: as above. Ends the recording whatever came of it.
        let graph = unsafe { result::stream::end_capture(self.stream) }.named("cuStreamEndCapture");
        launched?;
        let graph = graph?;
        // SAFETY: a graph just recorded; destroyed once it was made executable.
        let exec = unsafe {
            let exec = result::graph::instantiate(graph, sys::CUgraphInstantiate_flags(0));
            let _ = result::graph::destroy(graph);
            exec
        }
        .named("cuGraphInstantiate")?;
        Ok(Graph {
            context: Arc::clone(&self.inner),
            exec,
        })
    }

    /// Runs a recording.
    ///
    /// # Safety
    /// All memory that was named when it was recorded is still there.
    pub(crate) unsafe fn replay(&self, graph: &Graph) -> Result<(), CudaError> {
        // SAFETY: a graph of this context, and the caller's promise.
        unsafe { result::graph::launch(graph.exec, self.stream) }.named("cuGraphLaunch")
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        if self.context.make_current().is_err() {
            // Lost with its context.
            return;
        }
        // SAFETY: ours alone.
        let _ = unsafe { result::graph::exec_destroy(self.exec) };
    }
}
