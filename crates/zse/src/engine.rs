//! A loaded model that answers.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;

use zse_engine::{
    AdapterChoice, Ended, Engine as StepEngine, EngineConfig, EngineHandle, EventStream, Generate,
    Limits, Request,
};
use zse_model::Model;
use zse_model::program::ProgramOutput;
use zse_text::{AnswerFormat, ChatTemplate, Tokenizer, TooManyTokens};

use crate::adapters::Adapters;
use crate::chat::ChatRequest;
use crate::generation::Generation;
use crate::{AdapterInfo, AdapterSource, Error, LoadOptions, MemoryReport, Metrics, ModelSource};

/// A loaded model. Cloning is cheap: clones share the model, and may be used from any number of
/// threads; their requests are computed together, up to [`LoadOptions::sequences`] at a time.
///
/// ```
/// use zse::{Engine, Generate, LoadOptions, ModelSource, SampleParams};
///
/// let engine = Engine::load(&ModelSource::Builtin, &LoadOptions::default())?;
/// let settings = Generate {
///     params: SampleParams { temperature: 0.8, seed: 1, ..SampleParams::default() },
///     max_tokens: Some(24),
///     ..Generate::default()
/// };
/// for chunk in engine.generate("Once upon a time", &settings)? {
///     print!("{}", chunk?.text);
/// }
/// # Ok::<(), zse::Error>(())
/// ```
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
    /// What the requests of this clone use.
    adapters: Arc<[AdapterChoice]>,
}

struct Shared {
    model: Arc<Model>,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    answers: AnswerFormat,
    memory: MemoryReport,
    device: String,
    adapters: Adapters,
    /// Dropped last: whoever hears that the engine has ended finds the memory of all of this free.
    handle: EngineHandle,
}

/// What a file says of a model.
struct Described {
    model: Arc<Model>,
    tokenizer: Tokenizer,
    template: ChatTemplate,
}

impl Described {
    fn open(source: &ModelSource, options: &LoadOptions) -> Result<Self, Error> {
        let checkpoint = source.open()?;
        if options.device.own_memory().is_some() {
            // All of it will be read, and none of it has to wait for the GPU.
            let checkpoint = Arc::clone(&checkpoint);
            // Without a thread for it, the file is read when it is needed.
            drop(thread::Builder::new().spawn(move || checkpoint.prefetch(PREFETCHED)));
        }
        let tokenizer = Tokenizer::from_metadata(checkpoint.metadata())?;
        let template = ChatTemplate::from_metadata(checkpoint.metadata(), &tokenizer)?;
        let model = options.model(checkpoint)?;
        Ok(Self {
            model,
            tokenizer,
            template,
        })
    }
}

/// Bytes of a file that a disk reads while a GPU is made ready, and more.
const PREFETCHED: usize = 1 << 30;

impl Engine {
    /// Loads a model.
    ///
    /// # Errors
    /// If the file is not there, is no model that can be run, or does not fit the device.
    pub fn load(source: &ModelSource, options: &LoadOptions) -> Result<Self, Error> {
        // A GPU takes a moment to be ready. The file is opened meanwhile.
        let (described, backend) = thread::scope(|scope| {
            let described = scope.spawn(|| Described::open(source, options));
            let backend = options.backend();
            let described = described.join();
            (
                described.unwrap_or_else(|panic| resume_unwind(panic)),
                backend,
            )
        });
        let Described {
            model,
            tokenizer,
            template,
        } = described?;
        let backend = backend?;
        let budget = options.budget(&model);
        // Asked now: once loaded, the model itself takes of what is available.
        let memory = options.model_memory(&model)?;
        let config = EngineConfig {
            max_sequences: options.sequences,
            max_waiting: options.max_waiting,
            ..EngineConfig::default()
        };
        let device = backend.place(&model, &budget)?;
        let words = Some(tokenizer.clone());
        let engine = StepEngine::load(&*backend, Arc::clone(&model), words, &budget, config)
            .map_err(|error| options.not_loaded(&model, &budget, error))?;
        let mut engine = engine.with_swap(&options.swap).map_err(Error::Swap)?;
        if let Some(rebuild) = options.rebuild(&model, &budget) {
            engine = engine.with_rebuild(rebuild);
        }
        let engine = Self {
            adapters: Arc::default(),
            shared: Arc::new(Shared {
                handle: engine.start().map_err(Error::Thread)?,
                adapters: Adapters::default(),
                model,
                // What says how tools are called says the rest, too.
                answers: AnswerFormat::new(template.rendered(true), &tokenizer),
                tokenizer,
                template,
                memory,
                device,
            }),
        };
        for adapter in &options.adapters {
            engine.load_adapter(adapter)?;
        }
        Ok(engine)
    }

    /// Loads an adapter (LoRA) beside the model, for clones that [`with_adapters`](Self::with_adapters)
    /// gives. Requests that run go on meanwhile.
    ///
    /// ```no_run
    /// use zse::{Engine, Generate, LoadOptions, ModelSource};
    ///
    /// let engine = Engine::load(&"model.gguf".parse()?, &LoadOptions::default())?;
    /// engine.load_adapter(&"sql=adapters/sql-lora".parse()?)?;
    /// let sql = engine.with_adapters(&[("sql", 1.0)])?;
    /// // The two share their steps; what one gives does not depend on the other.
    /// let settings = Generate::default();
    /// let plain = engine.generate("List all users", &settings)?;
    /// let query = sql.generate("List all users", &settings)?;
    /// println!("{}\n{}", plain.complete()?.text, query.complete()?.text);
    /// # Ok::<(), zse::Error>(())
    /// ```
    ///
    /// # Errors
    /// If it is not for this model, cannot be read, its name is taken, or the device has no kernels for
    /// adapters.
    pub fn load_adapter(&self, source: &AdapterSource) -> Result<(), Error> {
        let Shared {
            model,
            handle,
            adapters,
            ..
        } = &*self.shared;
        adapters.load(model, handle, source)
    }

    /// Forgets an adapter. Its memory is free once the requests that use it have ended, and the clones
    /// that were made for it are gone.
    ///
    /// # Errors
    /// If there is none of this name.
    pub fn unload_adapter(&self, name: &str) -> Result<(), Error> {
        self.shared.adapters.unload(name)
    }

    /// The adapters that are loaded, in the order of loading.
    pub fn adapters(&self) -> Vec<AdapterInfo> {
        self.shared.adapters.all()
    }

    /// This engine for requests that use these adapters and no others, each times a factor: 1 as it was
    /// trained.
    ///
    /// # Errors
    /// If there is none of a name.
    pub fn with_adapters(&self, choices: &[(&str, f32)]) -> Result<Self, Error> {
        Ok(Self {
            shared: Arc::clone(&self.shared),
            adapters: self.shared.adapters.choose(choices)?.into(),
        })
    }

    /// Starts `request` with the adapters of this clone.
    pub(crate) fn submit(&self, request: Request) -> Result<EventStream, Error> {
        let request = request.with_adapters(self.adapters.to_vec());
        Ok(self.shared.handle.submit(request)?)
    }

    /// Continues `text`. BOS is put before it if the model asks for it and `text` does not spell it;
    /// special tokens such as `<|im_end|>` may be spelled out. EOS is never put behind it: even where
    /// a model asks for that, a text that goes on has not ended.
    ///
    /// # Errors
    /// If the prompt does not fit the context, or a setting is out of its range.
    pub fn generate(&self, text: &str, settings: &Generate) -> Result<Generation, Error> {
        self.generate_tokens(self.open_tokens(text, true), settings)
    }

    /// Continues tokens.
    ///
    /// # Errors
    /// As [`generate`](Self::generate).
    pub fn generate_tokens(
        &self,
        prompt: Vec<u32>,
        settings: &Generate,
    ) -> Result<Generation, Error> {
        let stream = self.submit(Request::generate(prompt, settings.clone()))?;
        Ok(Generation::new(stream, settings.n))
    }

    /// The next message of a conversation, by the model's chat template.
    ///
    /// ```
    /// use zse::{ChatRequest, Engine, Generate, LoadOptions, Message, ModelSource, Role,
    ///     SampleParams};
    ///
    /// let engine = Engine::load(&ModelSource::Builtin, &LoadOptions::default())?;
    /// let settings = Generate { params: SampleParams::greedy(), ..Generate::default() };
    /// let question = Message::new(Role::User, "How do I measure the speed of a model?");
    /// let request = ChatRequest::new(vec![question]);
    /// let answer = engine.chat(&request, &settings)?.complete()?;
    /// assert_eq!(answer.finished.reason.name(), "stop");
    /// println!("{}", answer.text);
    /// # Ok::<(), zse::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the template refuses the conversation, or as [`generate`](Self::generate).
    pub fn chat(&self, request: &ChatRequest, settings: &Generate) -> Result<Generation, Error> {
        self.generate_tokens(self.chat_tokens(request)?, settings)
    }

    /// The prompt that [`chat`](Self::chat) gives to the model.
    ///
    /// # Errors
    /// If the template refuses the conversation.
    pub fn chat_prompt(&self, request: &ChatRequest) -> Result<String, Error> {
        Ok(self.shared.template.render(&request.input())?)
    }

    /// The tokens of [`chat_prompt`](Self::chat_prompt), with BOS as in
    /// [`generate`](Self::generate).
    ///
    /// # Errors
    /// As there.
    pub fn chat_tokens(&self, request: &ChatRequest) -> Result<Vec<u32>, Error> {
        Ok(self.open_tokens(&self.chat_prompt(request)?, true))
    }

    /// The tokens of a text that goes on: behind BOS if the model asks for it, once even where the
    /// text spells it (many chat templates do), and without EOS.
    pub fn open_tokens(&self, text: &str, parse_special: bool) -> Vec<u32> {
        self.opened(self.tokenizer().encode(text, false, parse_special))
    }

    /// The tokens of a text that goes on, as [`open_tokens`](Self::open_tokens) gives them, if it is
    /// not too long for the context: one that is much too long takes little time.
    ///
    /// # Errors
    /// If it leaves no room for another token.
    pub fn prompt_tokens(
        &self,
        text: &str,
        parse_special: bool,
    ) -> Result<Vec<u32>, TooManyTokens> {
        let most = self.limits().sequence().saturating_sub(1);
        let tokens = self
            .tokenizer()
            .encode_within(text, false, parse_special, most)?;
        let tokens = self.opened(tokens);
        match tokens.len() > most {
            true => Err(TooManyTokens {
                tokens: tokens.len(),
                is_exact: true,
            }),
            false => Ok(tokens),
        }
    }

    /// Tokens with BOS before them, if the model asks for it.
    fn opened(&self, mut tokens: Vec<u32>) -> Vec<u32> {
        let tokenizer = self.tokenizer();
        if let Some(bos) = tokenizer.bos().filter(|_| tokenizer.adds_bos())
            && tokens.first() != Some(&bos)
        {
            tokens.insert(0, bos);
        }
        tokens
    }

    /// The tokens of a prompt that asks for what stands between `before` and `after`, in the order
    /// prefix, suffix, middle (Bavarian et al. 2022, arXiv:2207.14255), behind BOS if the model asks
    /// for it; `None` for a model without tokens that say so.
    pub fn gap_tokens(&self, before: &[u32], after: &[u32]) -> Option<Vec<u32>> {
        let tokenizer = self.tokenizer();
        let ids = tokenizer.special_ids();
        let (prefix, suffix, middle) = (ids.fim_pre?, ids.fim_suf?, ids.fim_mid?);
        let bos = tokenizer.bos().filter(|_| tokenizer.adds_bos());
        let before = match before.split_first() {
            Some((&first, rest)) if Some(first) == bos => rest,
            _ => before,
        };
        let bos = bos.as_slice();
        Some([bos, &[prefix], before, &[suffix], after, &[middle]].concat())
    }

    /// Embeddings of texts, each of length 1, for a model that gives them (BERT).
    ///
    /// # Errors
    /// If the model gives next tokens and not embeddings, or a text is too long.
    pub fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, Error> {
        let mut embeddings = Vec::with_capacity(texts.len());
        for text in texts {
            embeddings.push(self.embed_tokens(self.tokenizer().encode(text, true, false))?);
        }
        Ok(embeddings)
    }

    /// The embedding of tokens, of length 1; as in [`embed`](Self::embed), for callers that count
    /// them.
    ///
    /// # Errors
    /// As there.
    pub fn embed_tokens(&self, tokens: Vec<u32>) -> Result<Vec<f32>, Error> {
        self.always().embed_tokens(tokens)
    }

    /// The template by which the model itself wants to be asked to rank.
    pub(crate) fn rerank_template(&self) -> Option<&str> {
        self.shared.template.source("rerank")
    }

    /// The natural log-probability of each of `tokens` from index `from` (at least 1) on, given
    /// those before it. `salt` as in [`Generate::salt`].
    ///
    /// # Errors
    /// If there is nothing to score, or the tokens do not fit the context.
    pub fn score(&self, tokens: Vec<u32>, from: usize, salt: &str) -> Result<Vec<f32>, Error> {
        self.always().score(tokens, from, salt)
    }

    /// What the engine counted and measured so far, and what was in use after its last step.
    pub fn metrics(&self) -> Metrics {
        self.shared.handle.metrics()
    }

    /// Forgets what the prefix cache holds, before the next step. Requests that run keep what they
    /// found.
    pub fn clear_cache(&self) {
        self.shared.handle.clear_cache();
    }

    /// Tells when the memory of the model is free again, which it is soon after the last clone and
    /// the last [`Generation`] are dropped.
    pub fn ended(&self) -> Ended {
        self.shared.handle.ended()
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.shared.tokenizer
    }

    /// The model: what it is, its program and its weights.
    pub fn model(&self) -> &Model {
        &self.shared.model
    }

    /// Whether the model brings a chat template of its own; a blank one is none.
    pub fn has_chat_template(&self) -> bool {
        !self.shared.template.is_fallback()
    }

    /// The source of the chat template that a conversation is rendered by, with tools or without.
    pub fn chat_template(&self, with_tools: bool) -> &str {
        self.shared.template.rendered(with_tools)
    }

    /// How the model writes calls of tools and thoughts.
    pub fn answer_format(&self) -> AnswerFormat {
        self.shared.answers
    }

    /// Whether it gives embeddings ([`embed`](Self::embed)) and neither next tokens nor scores.
    pub fn is_embedder(&self) -> bool {
        matches!(self.model().program.output, ProgramOutput::Pooled(_)) && !self.is_reranker()
    }

    /// Tokens that a sequence may have.
    pub fn context(&self) -> usize {
        self.model().info.context
    }

    /// What a request may ask for.
    pub fn limits(&self) -> Limits {
        self.shared.handle.limits()
    }

    /// Where it runs, such as `cpu (avx512)`.
    pub fn device(&self) -> &str {
        &self.shared.device
    }

    /// The memory that it needs, as [`LoadOptions::memory`] says, with the adapters that are loaded now.
    pub fn memory(&self) -> MemoryReport {
        let adapters: u64 = self.adapters().iter().map(|adapter| adapter.bytes).sum();
        MemoryReport {
            weights: self.shared.memory.weights.saturating_add(adapters),
            ..self.shared.memory
        }
    }
}

#[cfg(all(test, feature = "builtin"))]
mod tests {
    use zse_format::{Checkpoint, GgufWriter};

    use super::*;
    use crate::{Message, Role};

    /// The built-in model with metadata that `change` sets.
    fn changed(change: impl Fn(&mut GgufWriter)) -> ModelSource {
        let builtin = ModelSource::Builtin.open().unwrap();
        let mut writer = GgufWriter::new();
        writer.set_all(builtin.metadata()).unwrap();
        change(&mut writer);
        for tensor in builtin.tensors() {
            writer
                .declare(tensor.name, tensor.ty, tensor.shape)
                .unwrap();
        }
        let mut file = writer.begin(Vec::new(), "changed").unwrap();
        for tensor in builtin.tensors() {
            file.write(tensor.name, &tensor.data.bytes()).unwrap();
        }
        let bytes = file.finish().unwrap();
        ModelSource::Checkpoint(Arc::new(Checkpoint::from_bytes(bytes, "changed").unwrap()))
    }

    #[test]
    fn a_blank_chat_template_is_none_of_the_model() {
        let options = LoadOptions {
            context: Some(64),
            ..LoadOptions::default()
        };
        for (template, expected) in [("", false), (" \n", false), ("{{ messages }}", true)] {
            let source = changed(|writer| writer.set("tokenizer.chat_template", template).unwrap());
            let engine = Engine::load(&source, &options).unwrap();
            assert_eq!(engine.has_chat_template(), expected, "{template:?}");
        }
        let engine = Engine::load(&ModelSource::Builtin, &options).unwrap();
        assert!(engine.has_chat_template());
    }

    #[test]
    fn a_prompt_begins_with_one_bos_and_never_ends_in_eos() {
        let options = LoadOptions {
            context: Some(256),
            ..LoadOptions::default()
        };
        // One that asks for BOS and EOS around every text.
        let eager = changed(|writer| {
            for end in ["bos", "eos"] {
                let key = format!("tokenizer.ggml.add_{end}_token");
                writer.set(&key, true).unwrap();
            }
        });
        let engine = Engine::load(&eager, &options).unwrap();
        let tokenizer = engine.tokenizer();
        let (bos, eos) = (tokenizer.bos().unwrap(), tokenizer.eos().unwrap());
        let bare = tokenizer.encode("Hello", false, true);
        let around = [&[bos], &bare[..], &[eos]].concat();
        assert_eq!(tokenizer.encode("Hello", true, true), around);
        let open = &around[..around.len() - 1];
        assert_eq!(engine.open_tokens("Hello", true), open);
        assert_eq!(engine.open_tokens("<|endoftext|>Hello", true), open);

        let request = ChatRequest::new(vec![Message::new(Role::User, "Hello")]);
        let prompt = engine.chat_prompt(&request).unwrap();
        let tokens = engine.chat_tokens(&request).unwrap();
        assert_eq!(tokens[0], bos);
        assert_eq!(tokens[1..], tokenizer.encode(&prompt, false, true));
    }
}
