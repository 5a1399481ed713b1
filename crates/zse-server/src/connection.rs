//! The connection that a request came on: for those that outlive their response, and for how long a
//! request may take to arrive.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

/// A place among the connections, which the server waits for when it stops. Every request has it
/// among its extensions.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    stop: watch::Receiver<bool>,
    arrivals: Arc<Arrivals>,
    _place: Arc<OwnedSemaphorePermit>,
}

/// What came on a connection.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    bytes: AtomicU64,
    request: Mutex<Arrival>,
}

/// Where a connection is with its next request.
#[derive(Clone, Copy, Debug, Default)]
enum Arrival {
    /// None of it has come.
    #[default]
    Nothing,
    /// Its first byte came then.
    Since(Instant),
    /// It is being answered, and what comes is its body.
    Answered,
}

/// When the first byte of a request came. Every request has it among its extensions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun(pub(crate) Instant);

impl Arrivals {
    /// Counts bytes that came.
    pub(crate) fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Relaxed);
        let mut request = self.request.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Arrival::Nothing, 1..) = (*request, bytes) {
            *request = Arrival::Since(Instant::now());
        }
    }

    /// How many bytes came.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// The headers of a request are there.
    pub(crate) fn begin(&self) -> Begun {
        let mut request = self.request.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *request, Arrival::Answered) {
            Arrival::Since(first) => Begun(first),
            // It came with the one before.
            Arrival::Nothing | Arrival::Answered => Begun(Instant::now()),
        }
    }

    /// A request has its response: what comes next belongs to another.
    pub(crate) fn end(&self) {
        let mut request = self.request.lock().unwrap_or_else(PoisonError::into_inner);
        *request = Arrival::Nothing;
    }
}

impl Connection {
    pub(crate) fn new(stop: watch::Receiver<bool>, place: OwnedSemaphorePermit) -> Self {
        Self {
            stop,
            arrivals: Arc::default(),
            _place: Arc::new(place),
        }
    }

    /// What comes on it.
    pub(crate) fn arrivals(&self) -> Arc<Arrivals> {
        Arc::clone(&self.arrivals)
    }

    /// Ready once the server is told to stop.
    pub(crate) async fn stopped(&mut self) {
        // Whoever would say so is gone only once it has.
        let _ = self.stop.wait_for(|stop| *stop).await;
    }
}
