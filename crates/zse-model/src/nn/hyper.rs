//! Hyperparameters from a file's metadata, checked against what a model can be.

use std::ops::RangeInclusive;

use zse_format::{Checkpoint, Metadata};

use crate::error::ModelError;
use crate::model::ModelOptions;

// Far above any model, and low enough that no product of two overflows anywhere.
const LAYERS: usize = 1 << 10;
const HEADS: usize = 1 << 12;
const HEAD_DIM: usize = 1 << 12;
const WIDTH: usize = 1 << 24;
const CONTEXT: usize = 1 << 30;

/// Reads the keys `{architecture}.*`.
pub struct Hyper<'a> {
    /// All of the file's metadata.
    pub metadata: &'a Metadata,
    /// The caller's choices.
    pub options: &'a ModelOptions,
    architecture: &'a str,
}

impl<'a> Hyper<'a> {
    /// A reader of the keys of `architecture`.
    pub fn new(metadata: &'a Metadata, architecture: &'a str, options: &'a ModelOptions) -> Self {
        Self {
            metadata,
            options,
            architecture,
        }
    }

    /// The full name of a key.
    pub fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    /// The integer `name`, if the file has it.
    ///
    /// # Errors
    /// If it is no integer or outside `range`.
    pub fn integer(
        &self,
        name: &str,
        range: RangeInclusive<usize>,
    ) -> Result<Option<usize>, ModelError> {
        let key = self.key(name);
        let Some(value) = self.metadata.u64(&key)? else {
            return Ok(None);
        };
        match usize::try_from(value) {
            Ok(n) if range.contains(&n) => Ok(Some(n)),
            _ => Err(ModelError::Hyperparameter {
                key,
                value: value.to_string(),
                what: format!("must be from {} to {}", range.start(), range.end()),
            }),
        }
    }

    /// The integer `name`.
    ///
    /// # Errors
    /// If it is missing, no integer or outside `range`.
    pub fn require_integer(
        &self,
        name: &str,
        range: RangeInclusive<usize>,
    ) -> Result<usize, ModelError> {
        match self.integer(name, range)? {
            Some(n) => Ok(n),
            None => Ok(self.metadata.require_u32(&self.key(name))? as usize),
        }
    }

    /// The positive number `name`, if the file has it.
    ///
    /// # Errors
    /// If it is no number or not positive and finite.
    pub fn positive(&self, name: &str) -> Result<Option<f32>, ModelError> {
        let key = self.key(name);
        let Some(x) = self.metadata.f32(&key)? else {
            return Ok(None);
        };
        if x > 0.0 && x.is_finite() {
            return Ok(Some(x));
        }
        let what = "must be positive and finite".to_owned();
        Err(ModelError::Hyperparameter {
            key,
            value: x.to_string(),
            what,
        })
    }

    /// The positive number `name`; `None` where the file has none, or 0 to say so.
    ///
    /// # Errors
    /// If it is no number, negative or not finite.
    pub fn positive_or_none(&self, name: &str) -> Result<Option<f32>, ModelError> {
        match self.metadata.f32(&self.key(name))? {
            Some(0.0) => Ok(None),
            _ => self.positive(name),
        }
    }

    /// Epsilon of root-mean-square norms.
    ///
    /// # Errors
    /// If it is missing, or not positive and finite.
    pub fn rms_eps(&self) -> Result<f32, ModelError> {
        self.require_positive("attention.layer_norm_rms_epsilon")
    }

    /// Epsilon of layer norms.
    ///
    /// # Errors
    /// If it is missing, or not positive and finite.
    pub fn layer_norm_eps(&self) -> Result<f32, ModelError> {
        self.require_positive("attention.layer_norm_epsilon")
    }

    fn require_positive(&self, name: &str) -> Result<f32, ModelError> {
        match self.positive(name)? {
            Some(x) => Ok(x),
            None => Ok(self.metadata.require_f32(&self.key(name))?),
        }
    }
}

/// The sizes that every transformer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dims {
    /// Layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; they divide `heads`.
    pub kv_heads: usize,
    /// Length of a head of queries and keys.
    pub head_dim: usize,
    /// Length of a head of values.
    pub v_dim: usize,
    /// Inner width of the MLP.
    pub ff: usize,
    /// Entries of the vocabulary.
    pub vocab: usize,
    /// Tokens that the model was trained for.
    pub trained_context: usize,
    /// Tokens that a sequence may grow to.
    pub context: usize,
}

impl Dims {
    /// Reads them; the size of the vocabulary is that of `token_embd.weight`.
    ///
    /// # Errors
    /// If one is missing or cannot be.
    pub fn read(h: &Hyper<'_>, checkpoint: &Checkpoint) -> Result<Self, ModelError> {
        let width = h.require_integer("embedding_length", 1..=WIDTH)?;
        let heads = h.require_integer("attention.head_count", 1..=HEADS)?;
        let kv_heads = h
            .integer("attention.head_count_kv", 1..=HEADS)?
            .unwrap_or(heads);
        if heads % kv_heads != 0 {
            return Err(ModelError::Hyperparameter {
                key: h.key("attention.head_count_kv"),
                value: kv_heads.to_string(),
                what: format!("must divide the {heads} query heads"),
            });
        }
        let head_len = |name| match h.integer(name, 1..=HEAD_DIM)? {
            Some(n) => Ok(n),
            None if width % heads == 0 && width / heads <= HEAD_DIM => Ok(width / heads),
            None => Err(ModelError::Hyperparameter {
                key: h.key("embedding_length"),
                value: width.to_string(),
                what: format!(
                    "cannot be split over {heads} heads, and there is no '{}'",
                    h.key(name)
                ),
            }),
        };
        let table = "token_embd.weight";
        let missing = || ModelError::MissingTensor {
            name: table.to_owned(),
        };
        let rows = checkpoint.tensor(table).ok_or_else(missing)?.shape.get(1);
        let vocab = rows.map_or(1, |&rows| rows as usize);
        let trained_context = h.require_integer("context_length", 1..=CONTEXT)?;
        Ok(Self {
            layers: h.require_integer("block_count", 1..=LAYERS)?,
            width,
            heads,
            kv_heads,
            head_dim: head_len("attention.key_length")?,
            v_dim: head_len("attention.value_length")?,
            ff: h.require_integer("feed_forward_length", 1..=WIDTH)?,
            vocab,
            trained_context,
            context: h.options.context.unwrap_or(trained_context),
        })
    }
}
