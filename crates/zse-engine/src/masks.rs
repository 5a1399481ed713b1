//! Masks of grammars, found out while the executor computes the logits that they are for.
//!
//! What may come next is known once the last token is drawn, so a thread of its own does it beside the
//! forward pass. It is there from the first grammar on, and sleeps while it has nothing to do.

use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use zse_model::executor::{Masks, TokenMask};
use zse_model::sampler::SampleError;
use zse_text::{GrammarError, GrammarState};

use crate::event::FinishReason;
use crate::scheduler::{Plan, Scheduler};
use crate::sequence::SeqId;

/// A row that a grammar constrains.
struct Row {
    id: SeqId,
    /// Of the step's outputs.
    row: usize,
    grammar: GrammarState,
}

/// Its mask, and its grammar back.
type Masked = (Row, Result<TokenMask, GrammarError>);

/// Finds masks out, those of one step at a time.
#[derive(Default)]
pub(crate) struct MaskMaker {
    thread: Option<Thread>,
    begun: Begun,
}

/// What was begun and not asked for.
#[derive(Default)]
enum Begun {
    #[default]
    Nothing,
    There,
    /// There is no thread to do it.
    Here(Vec<Row>),
}

/// Ends when this is dropped.
struct Thread {
    rows: Sender<Vec<Row>>,
    masked: Receiver<Vec<Masked>>,
}

impl Thread {
    fn start() -> Option<Self> {
        let (rows, wanted) = mpsc::channel::<Vec<Row>>();
        let (done, masked) = mpsc::channel();
        let work = move || {
            for rows in wanted {
                // Nobody asks any more if the engine is gone.
                if done.send(masks(rows)).is_err() {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("zse-masks".into());
        thread.spawn(work).ok()?;
        Some(Self { rows, masked })
    }
}

fn masks(rows: Vec<Row>) -> Vec<Masked> {
    let masked = rows.into_iter().map(|mut row| {
        let mask = row.grammar.mask();
        (row, mask)
    });
    masked.collect()
}

impl MaskMaker {
    /// Begins the masks of the rows of `plan` that a grammar constrains; those of the step before were
    /// asked for.
    pub(crate) fn begin(&mut self, plan: &Plan, scheduler: &mut Scheduler) {
        let (mut rows, mut row) = (Vec::new(), 0);
        for part in &plan.parts {
            if part.results > 0
                && let Some(seq) = scheduler.get_mut(part.id)
                && let Some(grammar) = seq.take_grammar()
            {
                let id = part.id;
                rows.push(Row { id, row, grammar });
            }
            row += part.results;
        }
        if rows.is_empty() {
            return;
        }
        if self.thread.is_none() {
            self.thread = Thread::start();
        }
        self.begun = match &self.thread {
            None => Begun::Here(rows),
            Some(thread) => match thread.rows.send(rows) {
                Ok(()) => Begun::There,
                Err(back) => Begun::Here(back.0),
            },
        };
    }

    /// The masks that were begun. A sequence whose grammar cannot be followed, or allows only what its biases
    /// forbid, ends; what its row gives is dropped.
    pub(crate) fn finish(&mut self, plan: &Plan, scheduler: &mut Scheduler) -> Masks {
        let mut masks = Masks::default();
        for (Row { id, row, grammar }, mask) in self.masked() {
            let Some(seq) = scheduler.get_mut(id) else {
                continue;
            };
            seq.put_grammar(grammar);
            match mask {
                Ok(mask) if seq.may_draw(&mask) => masks.rows.push((row, mask)),
                // Else the executor would fail the whole step.
                Ok(_) => seq.finish(FinishReason::Failed(SampleError::NoCandidates.to_string())),
                Err(error) => seq.finish(FinishReason::Failed(error.to_string())),
            }
        }
        for part in &plan.parts {
            if let Some(seq) = scheduler.get_mut(part.id)
                && seq.lacks_grammar()
            {
                seq.finish(FinishReason::Failed("its grammar was lost".to_owned()));
            }
        }
        masks
    }

    /// What was begun. Those that are missing were lost with the thread, by a fault in it.
    fn masked(&mut self) -> Vec<Masked> {
        match std::mem::take(&mut self.begun) {
            Begun::Nothing => Vec::new(),
            Begun::Here(rows) => masks(rows),
            Begun::There => {
                let masked = self.thread.as_ref().and_then(|t| t.masked.recv().ok());
                if masked.is_none() {
                    // The next step has a new one.
                    self.thread = None;
                }
                masked.unwrap_or_default()
            }
        }
    }
}
