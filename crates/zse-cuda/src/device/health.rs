//! Whether a context can still be used. After a fault that a GPU cannot contain (an address that is not there, a
//! memory error) every call of its context fails, whoever makes it: all it held is lost, and it is reset before it is
//! opened again. Whether that helps is the driver's to say: after some faults it gives the process no other context.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, Weak};

use cudarc::driver::sys;

use super::{Context, Found};
use crate::error::{CudaError, Named};

/// What is known of a context by all who use it.
#[derive(Debug, Default)]
pub(crate) struct Health {
    lost: AtomicBool,
    /// Read while calls are made, so that it is not reset beneath them.
    using: RwLock<()>,
}

/// Tells whether the context on a GPU that models were loaded in is lost ([`CudaBackend`](crate::CudaBackend::watch)).
#[derive(Clone, Debug)]
pub struct Watch(pub(crate) Arc<Health>);

impl Watch {
    /// Whether it is: executors made in it run no step any more.
    pub fn is_lost(&self) -> bool {
        self.0.is_lost()
    }
}

impl Health {
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    pub(crate) fn lose(&self) {
        if !self.lost.swap(true, Ordering::AcqRel) {
            FAILED.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Keeps the context from being reset while what comes back is there.
    ///
    /// # Errors
    /// If it is lost.
    pub(crate) fn enter(&self) -> Result<RwLockReadGuard<'_, ()>, CudaError> {
        let using = self.using.read().unwrap_or_else(PoisonError::into_inner);
        match self.is_lost() {
            true => Err(CudaError::Lost),
            false => Ok(using),
        }
    }
}

/// A context, for as long as somebody has it, and what became of it.
type Opened = (Weak<Context>, Arc<Health>);

/// The contexts that were opened last, by GPU: all models on one share it.
static OPENED: Mutex<BTreeMap<usize, Opened>> = Mutex::new(BTreeMap::new());

/// Contexts that were lost and not opened again.
static FAILED: AtomicUsize = AtomicUsize::new(0);

/// Whether the driver has refused this process a context after a fault.
static BROKEN: AtomicBool = AtomicBool::new(false);

/// Whether a GPU of this process has failed and was not opened again yet.
pub fn is_failed() -> bool {
    FAILED.load(Ordering::Acquire) > 0
}

/// Whether a GPU of this process has failed so that its driver gives no new context to it: only another process can
/// use the GPU.
pub fn is_broken() -> bool {
    BROKEN.load(Ordering::Acquire)
}

impl Context {
    /// The context on GPU `ordinal`: that which is open, unless it is lost, or a new one.
    pub(crate) fn open(ordinal: usize) -> Result<Arc<Self>, CudaError> {
        let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        let found = Found::new(ordinal)?;
        let mut was_lost = false;
        if let Some((context, health)) = opened.get(&ordinal) {
            if health.is_lost() {
                was_lost = true;
                let _alone = health.using.write();
                // SAFETY: the device exists. Whoever has something of the context left looks at its health first.
                unsafe { sys::cuDevicePrimaryCtxReset_v2(found.device) }
                    .named("cuDevicePrimaryCtxReset")?;
            } else if let Some(context) = context.upgrade() {
                return Ok(context);
            }
        }
        let context = Self::retain(found).map_err(|error| match was_lost {
            // Not every fault ends with the context: after some the driver refuses the process.
            true => {
                BROKEN.store(true, Ordering::Release);
                CudaError::Broken(error.to_string())
            }
            false => error,
        })?;
        if was_lost {
            FAILED.fetch_sub(1, Ordering::AcqRel);
        }
        let context = Arc::new(context);
        let health = Arc::clone(&context.health);
        opened.insert(ordinal, (Arc::downgrade(&context), health));
        Ok(context)
    }
}
