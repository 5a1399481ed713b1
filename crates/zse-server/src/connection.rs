//! The connection that a request came on, for those that outlive their response.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::{OwnedSemaphorePermit, watch};

/// A place among the connections, which the server waits for when it stops. Every request has it
/// among its extensions.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    stop: watch::Receiver<bool>,
    /// Bytes that came on it.
    received: Arc<AtomicU64>,
    _place: Arc<OwnedSemaphorePermit>,
}

impl Connection {
    pub(crate) fn new(stop: watch::Receiver<bool>, place: OwnedSemaphorePermit) -> Self {
        Self {
            stop,
            received: Arc::default(),
            _place: Arc::new(place),
        }
    }

    /// Counts the bytes that come on it.
    pub(crate) fn received(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.received)
    }

    /// Ready once the server is told to stop.
    pub(crate) async fn stopped(&mut self) {
        // Whoever would say so is gone only once it has.
        let _ = self.stop.wait_for(|stop| *stop).await;
    }
}
