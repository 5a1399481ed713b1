//! What a model's file says of it, read without loading it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Map, Value, json};
use zse::format::{Checkpoint, Value as MetaValue};
use zse::{AnswerFormat, ChatTemplate, ModelSource, TextError, Tokenizer};

use super::{Models, on_thread, with_causes};
use crate::chat::{takes_tools, thinks};
use crate::error::ApiError;

/// Where a file has its chat template.
const TEMPLATE: &str = "tokenizer.chat_template";

/// Facts of a model's file.
#[derive(Debug)]
pub(crate) struct Details {
    /// Such as `llama`.
    pub(crate) architecture: String,
    /// How many numbers its weights are.
    pub(crate) parameters: u64,
    /// The type that most of its weights have.
    pub(crate) quantization: &'static str,
    /// Bytes of its files.
    pub(crate) size: u64,
    /// When the file was written; for the built-in model the beginning of 1970.
    pub(crate) modified: SystemTime,
    pub(crate) template: Option<String>,
    /// Whether its chat template tells it of tools.
    pub(crate) takes_tools: bool,
    pub(crate) license: Option<String>,
    pub(crate) task: Task,
    /// All metadata but for lists, which are long.
    pub(crate) metadata: Map<String, Value>,
}

/// What a model can be asked for beside an answer, which its vocabulary says: that takes longer to read than
/// the rest.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Abilities {
    /// To think before it answers.
    pub(crate) thinks: bool,
    /// To write what is missing between two texts.
    pub(crate) fills_gaps: bool,
}

impl Abilities {
    /// Those of a model that gives text.
    fn of(checkpoint: &Checkpoint) -> Result<Self, TextError> {
        let tokenizer = Tokenizer::from_metadata(checkpoint.metadata())?;
        let template = ChatTemplate::from_metadata(checkpoint.metadata(), &tokenizer)?;
        let format = AnswerFormat::new(template.rendered(true), &tokenizer);
        let ids = tokenizer.special_ids();
        Ok(Self {
            thinks: thinks(template.rendered(false), format),
            fills_gaps: [ids.fim_pre, ids.fim_suf, ids.fim_mid]
                .iter()
                .all(Option::is_some),
        })
    }
}

/// What a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    Text,
    Embeddings,
    Ranking,
}

impl Task {
    /// llama.cpp's number for a head that ranks.
    const RANK: u32 = 4;

    fn of(checkpoint: &Checkpoint, architecture: &str) -> Self {
        let key = format!("{architecture}.pooling_type");
        let pooling = checkpoint.metadata().u32(&key).ok().flatten();
        // Files of cross-encoders often lack the number, and are known by their head.
        let has_head = || {
            let mut names = checkpoint.tensors().map(|tensor| tensor.name);
            names.any(|name| matches!(name, "cls.weight" | "cls.output.weight"))
        };
        match pooling {
            Some(Self::RANK) => Self::Ranking,
            Some(_) => Self::Embeddings,
            None if has_head() => Self::Ranking,
            None => Self::Text,
        }
    }
}

impl Models {
    /// Facts of a model, read once.
    ///
    /// # Errors
    /// If there is no such model, or its file cannot be read.
    pub(crate) async fn details(
        self: &Arc<Self>,
        name: Option<&str>,
    ) -> Result<Arc<Details>, ApiError> {
        let index = self.index(name)?;
        if let Some(details) = self.entry(index).details.get() {
            return Ok(Arc::clone(details));
        }
        let models = Arc::clone(self);
        on_thread(move || models.read_details(index)).await?
    }

    /// What a model that gives text can be asked for, read once; nothing where its vocabulary cannot be read.
    ///
    /// # Errors
    /// If there is no such model, or its file cannot be read.
    pub(crate) async fn abilities(
        self: &Arc<Self>,
        name: Option<&str>,
    ) -> Result<Abilities, ApiError> {
        let index = self.index(name)?;
        if let Some(abilities) = self.entry(index).abilities.get() {
            return Ok(*abilities);
        }
        let models = Arc::clone(self);
        let read = move || {
            let checkpoint = models.checkpoint(index)?;
            // Whoever asks for an answer hears what is wrong with it.
            let abilities = Abilities::of(&checkpoint).unwrap_or_default();
            Ok(*models.entry(index).abilities.get_or_init(|| abilities))
        };
        on_thread(read).await?
    }

    /// A model's file.
    fn checkpoint(&self, index: usize) -> Result<Arc<Checkpoint>, ApiError> {
        let entry = self.entry(index);
        let engine = self.table().status(index).engine;
        let opened = match (&entry.origin, engine) {
            (Some(origin), _) => origin.source.open(),
            (None, Some(engine)) => Ok(Arc::clone(engine.model().weights.checkpoint())),
            (None, None) => return Err(ApiError::internal("a model without an origin is gone")),
        };
        opened.map_err(|error| ApiError::cannot_load(&entry.name, with_causes(&error)))
    }

    fn read_details(&self, index: usize) -> Result<Arc<Details>, ApiError> {
        let entry = self.entry(index);
        let checkpoint = self.checkpoint(index)?;
        let file = match entry.origin.as_ref().map(|origin| &origin.source) {
            Some(ModelSource::Path(path)) => std::fs::metadata(path).ok(),
            _ => None,
        };
        let modified = file.and_then(|file| file.modified().ok());
        let details = Details::of(&checkpoint, modified.unwrap_or(SystemTime::UNIX_EPOCH));
        Ok(Arc::clone(entry.details.get_or_init(|| Arc::new(details))))
    }
}

impl Details {
    fn of(checkpoint: &Checkpoint, modified: SystemTime) -> Self {
        let metadata = checkpoint.metadata();
        let text = |key| metadata.str(key).ok().flatten().map(str::to_owned);
        let mut types: BTreeMap<&'static str, u64> = BTreeMap::new();
        for tensor in checkpoint.tensors() {
            *types.entry(tensor.ty.name()).or_default() += tensor.elements();
        }
        let architecture = text("general.architecture").unwrap_or_default();
        let templates = ["tokenizer.chat_template.tool_use", TEMPLATE].map(text);
        // One that is for tools alone goes first.
        let with_tools = templates.iter().flatten().next();
        Self {
            parameters: types.values().sum(),
            quantization: types
                .iter()
                .max_by_key(|(_, count)| **count)
                .map_or("unknown", |(name, _)| name),
            size: checkpoint.file_bytes(),
            modified,
            takes_tools: with_tools.is_some_and(|template| takes_tools(template)),
            template: text(TEMPLATE),
            license: text("general.license"),
            task: Task::of(checkpoint, &architecture),
            metadata: metadata
                .iter()
                .map(|(key, value)| (key.to_owned(), to_json(value)))
                .collect(),
            architecture,
        }
    }
}

/// A value of the metadata; `null` for a list.
fn to_json(value: MetaValue<'_>) -> Value {
    match value {
        MetaValue::U8(v) => v.into(),
        MetaValue::I8(v) => v.into(),
        MetaValue::U16(v) => v.into(),
        MetaValue::I16(v) => v.into(),
        MetaValue::U32(v) => v.into(),
        MetaValue::I32(v) => v.into(),
        MetaValue::U64(v) => v.into(),
        MetaValue::I64(v) => v.into(),
        MetaValue::F32(v) => json!(v),
        MetaValue::F64(v) => json!(v),
        MetaValue::Bool(v) => v.into(),
        MetaValue::String(v) => String::from_utf8_lossy(v).into(),
        MetaValue::Array(_) => Value::Null,
    }
}
