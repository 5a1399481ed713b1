//! Which step is in flight: what the promises of [`Executor`](super::Executor) about tickets come to
//! on every device.

use super::{Batch, ExecError, Output, Outputs, Ticket, Want};

/// The newest step of an executor, until it was waited for.
#[derive(Debug, Default)]
pub struct Flight {
    /// Number of the newest ticket.
    newest: u64,
    /// Its step, if nobody has waited for it.
    step: Option<Step>,
}

#[derive(Debug)]
struct Step {
    wants: Vec<Want>,
    /// Once they are there: sampled, or pooled.
    outputs: Option<Outputs>,
}

impl Flight {
    /// Starts the step of `batch`; the one before is dropped.
    pub fn begin(&mut self, batch: &Batch) -> Ticket {
        self.newest += 1;
        self.step = Some(Step {
            wants: batch.outputs.iter().map(|o| o.want.clone()).collect(),
            outputs: None,
        });
        Ticket(self.newest)
    }

    /// What is wanted of the step of `ticket`; `None` if its outputs are there already.
    ///
    /// # Errors
    /// [`ExecError::BadTicket`] if it is not in flight.
    pub fn wants(&self, ticket: Ticket) -> Result<Option<&[Want]>, ExecError> {
        match &self.step {
            Some(Step { outputs, wants }) if ticket.0 == self.newest => {
                Ok(outputs.is_none().then_some(wants))
            }
            _ => Err(ExecError::BadTicket(ticket)),
        }
    }

    /// Keeps the outputs of the step in flight until they are taken.
    pub fn finish(&mut self, rows: Vec<Output>) {
        if let Some(step) = &mut self.step {
            step.outputs = Some(Outputs { rows });
        }
    }

    /// Ends the step of `ticket` and hands over its outputs.
    ///
    /// # Errors
    /// [`ExecError::BadTicket`] if it is not in flight, [`ExecError::NotSampled`], and then it
    /// still is, if its outputs are not there.
    pub fn take(&mut self, ticket: Ticket) -> Result<Outputs, ExecError> {
        self.wants(ticket)?;
        match self.step.take() {
            Some(Step {
                outputs: Some(outputs),
                ..
            }) => Ok(outputs),
            step => {
                self.step = step;
                Err(ExecError::NotSampled(ticket))
            }
        }
    }
}
