//! A model that the server was given: its name, where it comes from, and how it is made ready.

use std::time::{Duration, Instant};

use zse::{AdapterSource, Engine, Error, Generate, LoadOptions, ModelSource, SampleParams};

/// A model and the name that clients call it by.
#[derive(Clone)]
pub struct Served {
    pub(crate) name: String,
    /// Where it is loaded from; without, it stays as it was given.
    pub(crate) origin: Option<Origin>,
    pub(crate) engine: Option<Engine>,
    pub(crate) times: LoadTimes,
    pub(crate) is_pinned: bool,
}

/// Where a model comes from, and how it is loaded.
#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) source: ModelSource,
    pub(crate) options: LoadOptions,
}

/// How long each part of making a model ready took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadTimes {
    /// Mapping the file and reading its header.
    pub map: Duration,
    /// Packing the weights for the device.
    pub pack: Duration,
    /// Computing first tokens.
    pub warm_up: Duration,
}

impl Served {
    /// Serves `engine` as `name` for as long as the server runs.
    pub fn new(name: impl Into<String>, engine: Engine) -> Self {
        Self {
            name: name.into(),
            origin: None,
            engine: Some(engine),
            times: LoadTimes::default(),
            is_pinned: true,
        }
    }

    /// Serves what `source` has as `name`: loaded when a request first asks for it, and unloaded
    /// where others need its memory or nobody has asked for it for long.
    pub fn on_request(name: impl Into<String>, source: ModelSource, options: LoadOptions) -> Self {
        Self {
            name: name.into(),
            origin: Some(Origin { source, options }),
            engine: None,
            times: LoadTimes::default(),
            is_pinned: false,
        }
    }

    /// Keeps it loaded once it is, whatever others need.
    #[must_use]
    pub fn pinned(mut self) -> Self {
        self.is_pinned = true;
        self
    }

    /// Loads it now, unless it is, and computes first tokens, so that the first client waits for
    /// nothing.
    ///
    /// # Errors
    /// If it cannot be loaded, or fails.
    pub fn load(&mut self) -> Result<&Engine, Error> {
        let engine = match (self.engine.take(), &self.origin) {
            (Some(engine), _) => {
                let start = Instant::now();
                warm_up(&engine)?;
                self.times.warm_up = start.elapsed();
                engine
            }
            (None, Some(origin)) => {
                let (engine, times) = origin.load()?;
                self.times = times;
                engine
            }
            // What was given without an origin came with an engine.
            (None, None) => return Err(Error::Failed("there is nothing to load".to_owned())),
        };
        Ok(self.engine.insert(engine))
    }

    /// The adapters that it has from the start.
    pub(super) fn adapters(&self) -> Vec<AdapterSource> {
        match (&self.engine, &self.origin) {
            (Some(engine), _) => engine.adapters().into_iter().map(|a| a.source).collect(),
            (None, Some(origin)) => origin.options.adapters.clone(),
            (None, None) => Vec::new(),
        }
    }

    /// The name that clients call it by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How long the last [`load`](Self::load) took.
    pub fn times(&self) -> LoadTimes {
        self.times
    }
}

impl Origin {
    /// Loads it and computes first tokens.
    pub(super) fn load(&self) -> Result<(Engine, LoadTimes), Error> {
        let start = Instant::now();
        let checkpoint = self.source.open()?;
        let mapped = start.elapsed();
        let engine = Engine::load(&ModelSource::Checkpoint(checkpoint), &self.options)?;
        let packed = start.elapsed();
        warm_up(&engine)?;
        let times = LoadTimes {
            map: mapped,
            pack: packed - mapped,
            warm_up: start.elapsed() - packed,
        };
        Ok((engine, times))
    }

    /// Bytes of memory that it will need.
    pub(super) fn memory(&self) -> Result<u64, Error> {
        let model = self.options.model(self.source.open()?)?;
        Ok(self.options.resident(&self.options.memory(&model)?))
    }
}

/// Computes first tokens, so that the first client does not wait for what a model does once.
pub(super) fn warm_up(engine: &Engine) -> Result<(), Error> {
    if engine.is_embedder() {
        return engine.embed(&["a"]).map(|_| ());
    }
    if engine.is_reranker() {
        let tokens = engine.pair_tokens("a", "a", None)?;
        return engine.relevance(tokens, "").map(|_| ());
    }
    let settings = Generate {
        params: SampleParams::greedy(),
        max_tokens: Some(2),
        ..Generate::default()
    };
    let generation = engine.generate("a", &settings)?;
    generation.complete().map(|_| ())
}
