//! An engine on a thread of its own.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{io, thread};

use zse_model::executor::MemoryReport;
use zse_model::{Adapter, AdapterError};
use zse_text::GrammarState;

use crate::adapters::{self, AdapterLoadError, LoadedAdapter, Registry};
use crate::channel::{EventStream, Sink, Wake, channel};
use crate::constraint::Constraints;
use crate::ended::{Ended, TellEnd};
use crate::engine::Engine;
use crate::metrics::Metrics;
use crate::queue::{Full, Place, Queue};
use crate::request::{Limits, Request, RequestError};

enum Command {
    Open(Box<Opening>),
    /// A caller read from a channel that was full, or cancelled.
    Look,
    /// The prefix cache is to be forgotten.
    ClearCache,
    /// An adapter is to be loaded, and whoever asked to hear of it.
    LoadAdapter(
        Box<Adapter>,
        adapters::Wake,
        Sender<Result<LoadedAdapter, AdapterError>>,
    ),
}

/// A request that was accepted.
struct Opening {
    request: Request,
    grammar: Option<GrammarState>,
    sink: Sink,
    place: Place,
}

/// Hands requests to an engine that runs on a thread of its own. Clones serve the same engine, which
/// ends when the last handle and the last [`EventStream`] are gone.
#[derive(Clone, Debug)]
pub struct EngineHandle {
    commands: Sender<Command>,
    limits: Limits,
    memory: MemoryReport,
    channel_capacity: usize,
    queue: Arc<Queue>,
    metrics: Arc<Mutex<Metrics>>,
    constraints: Arc<Constraints>,
    adapters: Arc<Registry>,
    ended: Ended,
}

/// Why a request gave no result.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EngineError {
    /// It was refused.
    #[error(transparent)]
    Refused(#[from] RequestError),
    /// As many requests wait as may.
    #[error(
        "{waiting} requests wait already, which is as many as may: try again in {} s",
        retry_after.as_secs()
    )]
    Busy {
        /// Requests that wait for their first step.
        waiting: usize,
        /// When to try again: what it took lately to serve as many as wait, 1 s to 60 s.
        retry_after: Duration,
    },
    /// It failed on the way.
    #[error("{0}")]
    Failed(String),
    /// Nobody wanted the result any more.
    #[error("nobody waits for the result any more")]
    Cancelled,
    /// The engine is gone.
    #[error("the engine has stopped")]
    Stopped,
}

impl From<Full> for EngineError {
    fn from(full: Full) -> Self {
        Self::Busy {
            waiting: full.waiting,
            retry_after: full.retry_after,
        }
    }
}

impl Engine {
    /// Moves the engine to a thread of its own.
    ///
    /// # Errors
    /// If the system has no thread to give.
    pub fn start(self) -> io::Result<EngineHandle> {
        let (commands, receiver) = mpsc::channel();
        let handle = EngineHandle {
            commands,
            limits: self.limits(),
            memory: self.memory(),
            channel_capacity: self.channel_capacity(),
            queue: Arc::clone(self.queue()),
            metrics: Arc::clone(self.published()),
            constraints: Arc::clone(self.constraints()),
            adapters: Arc::clone(self.registry()),
            ended: Ended::default(),
        };
        let tell_end = TellEnd(handle.ended.clone());
        thread::Builder::new()
            .name("zse-engine".into())
            .spawn(move || {
                // Dropped last: behind the engine, however that ends.
                let _tell_end = tell_end;
                self.run(&receiver);
            })?;
        Ok(handle)
    }

    /// Steps while there is work, sleeps while there is none, ends when nobody can ask any more.
    fn run(mut self, commands: &Receiver<Command>) {
        loop {
            let worked = self.step();
            if worked {
                // Those who send what it gave may wait for this core.
                thread::yield_now();
            } else {
                match commands.recv() {
                    Ok(command) => self.obey(command),
                    Err(mpsc::RecvError) => return,
                }
            }
            commands.try_iter().for_each(|command| self.obey(command));
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Open(opening) => {
                let Opening {
                    request,
                    grammar,
                    sink,
                    place,
                } = *opening;
                self.open(request, grammar, sink, Some(place));
            }
            // The next step looks at every channel.
            Command::Look => {}
            Command::ClearCache => self.clear_cache(),
            Command::LoadAdapter(adapter, wake, told) => {
                let loaded = self.load_adapter_with(&adapter, Some(wake));
                // Nobody may be there to hear it.
                let _ = told.send(loaded);
            }
        }
    }
}

impl EngineHandle {
    /// Starts a request.
    ///
    /// # Errors
    /// [`EngineError::Refused`] if it can never be served, [`EngineError::Busy`] if too many wait,
    /// [`EngineError::Stopped`] if the engine is gone.
    pub fn submit(&self, request: Request) -> Result<EventStream, EngineError> {
        self.limits.check(&request)?;
        self.adapters.check(&request.adapters)?;
        let place = self.queue.enter()?;
        let grammar = self.constraints.compile(&request)?;
        let commands = self.commands.clone();
        let wake: Wake = Box::new(move || {
            // Without an engine there is nobody to wake.
            let _ = commands.send(Command::Look);
        });
        let (sink, stream) = channel(self.channel_capacity, Some(wake));
        let opening = Opening {
            request,
            grammar,
            sink,
            place,
        };
        self.commands
            .send(Command::Open(Box::new(opening)))
            .map_err(|_| EngineError::Stopped)?;
        Ok(stream)
    }

    /// Loads an adapter for the requests to come, between two steps, and waits for it.
    ///
    /// # Errors
    /// If the executor has no kernels for adapters, or memory does not suffice.
    pub fn load_adapter(&self, adapter: Adapter) -> Result<LoadedAdapter, AdapterLoadError> {
        let (told, hear) = mpsc::channel();
        let commands = self.commands.clone();
        let wake: adapters::Wake = Box::new(move || {
            // Without an engine there is nothing to unload.
            let _ = commands.send(Command::Look);
        });
        let stopped = |_| AdapterLoadError::Stopped;
        let load = Command::LoadAdapter(Box::new(adapter), wake, told);
        self.commands
            .send(load)
            .map_err(|_| AdapterLoadError::Stopped)?;
        Ok(hear.recv().map_err(stopped)??)
    }

    /// The embedding of a prompt.
    ///
    /// # Errors
    /// Those of [`submit`](Self::submit), and if the engine fails on the way.
    pub fn embed(&self, prompt: Vec<u32>) -> Result<Vec<f32>, EngineError> {
        self.values(Request::embed(prompt))
    }

    /// The log-probabilities of the tokens of `prompt` from index `from` on, each given those
    /// before it: `prompt.len() - from` of them. `salt` as [`Generate::salt`](crate::Generate::salt).
    ///
    /// # Errors
    /// Those of [`submit`](Self::submit), and if the engine fails on the way.
    pub fn score(
        &self,
        prompt: Vec<u32>,
        from: usize,
        salt: &str,
    ) -> Result<Vec<f32>, EngineError> {
        self.values(Request::score(prompt, from).with_salt(salt))
    }

    /// What happened so far and what was in use after the last step. Those that wait are counted as
    /// of now.
    pub fn metrics(&self) -> Metrics {
        let metrics = *self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        Metrics {
            waiting: metrics.waiting.max(self.waiting()),
            refused: self.queue.refused(),
            ..metrics
        }
    }

    /// Requests that wait for their first step.
    pub fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    /// What it can take.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Bytes that the executor used when the engine started.
    pub fn memory(&self) -> MemoryReport {
        self.memory
    }

    /// Forgets what the prefix cache holds, before the next step. Requests that run keep what they
    /// found.
    pub fn clear_cache(&self) {
        // Without an engine there is no cache.
        let _ = self.commands.send(Command::ClearCache);
    }

    /// Tells when the engine's thread has ended, which it does once all handles and streams are
    /// gone.
    pub fn ended(&self) -> Ended {
        self.ended.clone()
    }

    /// The numbers that a request for scores or an embedding gives, one after another.
    ///
    /// # Errors
    /// Those of [`submit`](Self::submit), and if the engine fails on the way.
    pub fn values(&self, request: Request) -> Result<Vec<f32>, EngineError> {
        self.submit(request)?.values(None)
    }
}
