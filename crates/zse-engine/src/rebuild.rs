//! An engine's executor, and another in its place once its device has failed for good.
//!
//! After some faults (an address that is not there, a memory error) a GPU's context answers every call with the same
//! error. What was in its memory is lost: the step that was in flight fails, all other sequences compute their tokens
//! again, on an executor that is made anew before the next step.

use std::ops::{Deref, DerefMut};

use zse_model::executor::{
    Batch, ExecError, Executor, LoadError, Masks, MemoryReport, Outputs, Ticket,
};

/// Makes an executor anew, as it was made first.
pub trait Rebuild: Send {
    /// Whether the executor that was made last can run no step any more. Asked before each step.
    fn is_lost(&self) -> bool;

    /// Another executor for the same model and budget. The one before was dropped.
    ///
    /// # Errors
    /// If the device cannot be set up again; it is tried again before the next step.
    fn rebuild(&mut self) -> Result<Box<dyn Executor>, LoadError>;
}

/// An executor that can be replaced.
pub(crate) struct Replaceable {
    executor: Box<dyn Executor>,
    rebuild: Option<Box<dyn Rebuild>>,
    /// Whether there is none: the last try failed.
    is_gone: bool,
}

impl Replaceable {
    pub(crate) fn new(executor: Box<dyn Executor>) -> Self {
        Self {
            executor,
            rebuild: None,
            is_gone: false,
        }
    }

    pub(crate) fn set_rebuild(&mut self, rebuild: Box<dyn Rebuild>) {
        self.rebuild = Some(rebuild);
    }

    /// Whether another is needed, and there is somebody who makes one.
    pub(crate) fn is_lost(&self) -> bool {
        let rebuild = self.rebuild.as_ref();
        rebuild.is_some_and(|rebuild| self.is_gone || rebuild.is_lost())
    }

    /// Puts another in its place; tells whether there is one. Until there is, each step fails with the reason.
    pub(crate) fn replace(&mut self) -> bool {
        let Some(rebuild) = &mut self.rebuild else {
            return false;
        };
        // Its memory has to go before there is room for the next one.
        self.executor = Box::new(Gone(String::new()));
        let made = rebuild.rebuild();
        self.is_gone = made.is_err();
        self.executor = made.unwrap_or_else(|error| Box::new(Gone(error.to_string())));
        !self.is_gone
    }
}

impl Deref for Replaceable {
    type Target = dyn Executor;

    fn deref(&self) -> &Self::Target {
        &*self.executor
    }
}

impl DerefMut for Replaceable {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut *self.executor
    }
}

/// Stands where an executor could not be made, for this reason.
struct Gone(String);

impl Gone {
    fn error(&self) -> ExecError {
        ExecError::Device(format!("it could not be set up again ({})", self.0))
    }
}

impl Executor for Gone {
    fn submit(&mut self, _: &Batch) -> Result<Ticket, ExecError> {
        Err(self.error())
    }

    fn sample(&mut self, _: Ticket, _: &Masks) -> Result<(), ExecError> {
        Err(self.error())
    }

    fn wait(&mut self, _: Ticket) -> Result<Outputs, ExecError> {
        Err(self.error())
    }

    fn memory(&self) -> MemoryReport {
        MemoryReport::default()
    }
}
