//! The dimensions of a transformer: how many parameters it has, and what memory it takes in which
//! quant, before a byte of its weights is here.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use zse_quant::GgmlType::{self, F16, Q3K, Q4_0, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};

/// The dimensions of a transformer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// Layers.
    pub layers: u64,
    /// Width of the residual stream.
    pub width: u64,
    /// Width of the MLP's inner layer, or of each expert's.
    pub ff: u64,
    /// Query heads.
    pub heads: u64,
    /// Key and value heads.
    pub kv_heads: u64,
    /// Length of a head.
    pub head_dim: u64,
    /// Tokens of the vocabulary.
    pub vocab: u64,
    /// Positions with learned embeddings; 0: rotary.
    #[serde(default)]
    pub positions: u64,
    /// Whether the output shares the token embedding's weights, or there is none.
    #[serde(default)]
    pub tied: bool,
    /// Whether the MLP has two matrices, not the three of a gated one.
    #[serde(default)]
    pub plain_mlp: bool,
    /// Experts of a mixture; 0: none.
    #[serde(default)]
    pub experts: u64,
    /// Experts that a token meets.
    #[serde(default)]
    pub experts_used: u64,
    /// Tokens that most layers see back; 0: all of them do see everything.
    #[serde(default)]
    pub window: u64,
    /// Of so many layers one sees everything, where there is a window.
    #[serde(default)]
    pub window_period: u64,
}

/// Why no dimensions can be told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// Not an object of the kind that `transformers` writes.
    #[error("config.json is no JSON object of a model")]
    NoConfig,
    /// A dimension that is missing, or cannot be.
    #[error("config.json: {field} is missing, or no dimension of a model")]
    Field {
        /// Its name.
        field: &'static str,
    },
}

/// Largest values that are taken seriously: sums and products of such dimensions stay below 2^64.
const LIMITS: [(&str, u64); 8] = [
    ("vocab_size", 1 << 24),
    ("hidden_size", 1 << 17),
    ("intermediate_size", 1 << 20),
    ("moe_intermediate_size", 1 << 20),
    ("num_hidden_layers", 1 << 11),
    ("max_position_embeddings", 1 << 24),
    ("sliding_window", 1 << 24),
    ("sliding_window_pattern", 1 << 11),
];

/// The same for numbers of heads and experts, and the length of a head.
const LIMIT: u64 = 1 << 11;

/// What Gemma 3's `config.json` leaves out: the defaults of `Gemma3TextConfig` in transformers.
const GEMMA3: [(&str, u64); 4] = [
    ("num_attention_heads", 8),
    ("num_key_value_heads", 4),
    ("head_dim", 256),
    ("vocab_size", 262_208),
];

/// A quant by what makes up its files. Names and choices are llama.cpp's.
#[derive(Clone, Copy, Debug)]
pub struct QuantPlan {
    /// Its name, such as `Q4_K_M`.
    pub name: &'static str,
    /// Most tensors.
    base: GgmlType,
    /// Attention's values and the MLP's second matrix: this type in so many of 8 layers.
    more: (GgmlType, u64),
    /// Attention's output.
    attn_output: GgmlType,
    /// The output, or the token embedding that stands for it.
    output: GgmlType,
}

impl QuantPlan {
    /// Those that most people choose among, the smallest first.
    pub const ALL: [Self; 6] = [
        Self {
            attn_output: Q4K,
            ..Self::new("Q3_K_M", Q3K, (Q4K, 8), Q6K)
        },
        Self::new("Q4_K_M", Q4K, (Q6K, 4), Q6K),
        Self::new("Q5_K_M", Q5K, (Q6K, 4), Q6K),
        Self::new("Q6_K", Q6K, (Q6K, 0), Q6K),
        Self::new("Q8_0", Q8_0, (Q8_0, 0), Q8_0),
        Self::new("F16", F16, (F16, 0), F16),
    ];

    const fn new(
        name: &'static str,
        base: GgmlType,
        more: (GgmlType, u64),
        output: GgmlType,
    ) -> Self {
        Self {
            name,
            base,
            more,
            attn_output: base,
            output,
        }
    }

    /// The quant of this name, in any case.
    pub fn parse(name: &str) -> Option<&'static Self> {
        Self::ALL.iter().find(|q| q.name.eq_ignore_ascii_case(name))
    }
}

/// Bytes of so many weights in rows of length `row`, in a type or, where its blocks do not divide the
/// rows, in the one that llama.cpp takes for it.
fn bytes(ty: GgmlType, weights: u64, row: u64) -> f64 {
    let fits = |ty: GgmlType| row.is_multiple_of(ty.block_len() as u64);
    let smaller = match ty {
        Q3K => Q4_0,
        Q4K => Q5_0,
        Q5K => Q5_1,
        Q6K => Q8_0,
        _ => F16,
    };
    let ty = [ty, smaller]
        .into_iter()
        .find(|ty| fits(*ty))
        .unwrap_or(F16);
    weights as f64 * ty.block_bytes() as f64 / ty.block_len() as f64
}

impl Shape {
    /// Tokens of context that memory is told for, where the model can have more.
    pub const CONTEXT: u64 = 4096;

    /// The dimensions in a `config.json`, with the `model_type` that it names. Models that see as
    /// well as read have their dimensions in `text_config`.
    ///
    /// # Errors
    /// [`ShapeError`] names the field.
    pub fn from_config(config: &Value) -> Result<(Self, String), ShapeError> {
        let kind = config["model_type"]
            .as_str()
            .ok_or(ShapeError::NoConfig)?
            .to_owned();
        let text = match &config["text_config"] {
            text @ Value::Object(_) => text,
            _ => config,
        };
        let is_gemma3 = matches!(kind.as_str(), "gemma3" | "gemma3_text");
        let optional = |field: &str| {
            let limit = LIMITS
                .iter()
                .find(|(name, _)| *name == field)
                .map_or(LIMIT, |(_, limit)| *limit);
            match &text[field] {
                Value::Null if is_gemma3 => {
                    let default = GEMMA3.iter().find(|(name, _)| *name == field);
                    default.map(|(_, value)| *value)
                }
                value => value.as_u64().filter(|n| *n <= limit),
            }
        };
        let required = |field: &'static str| {
            let found = optional(field).filter(|n| *n > 0);
            found.ok_or(ShapeError::Field { field })
        };
        let width = required("hidden_size")?;
        let heads = required("num_attention_heads")?;
        let experts = ["num_local_experts", "num_experts", "n_routed_experts"];
        let experts = experts.iter().find_map(|f| optional(f)).unwrap_or(0);
        let is_bert = matches!(kind.as_str(), "bert" | "roberta" | "xlm-roberta");
        let ff = match optional("moe_intermediate_size") {
            Some(ff) if experts > 0 && ff > 0 => ff,
            _ => required("intermediate_size")?,
        };
        // Tables of defaults are transformers'.
        let tied_by_default = matches!(
            kind.as_str(),
            "gemma" | "gemma2" | "gemma3" | "gemma3_text" | "starcoder2"
        );
        let tied = text["tie_word_embeddings"]
            .as_bool()
            .or(config["tie_word_embeddings"].as_bool());
        let windows = match kind.as_str() {
            "gemma2" => 2,
            "gemma3" | "gemma3_text" => optional("sliding_window_pattern").unwrap_or(6),
            _ => 0,
        };
        Ok((
            Self {
                layers: required("num_hidden_layers")?,
                width,
                ff,
                heads,
                kv_heads: optional("num_key_value_heads")
                    .filter(|n| *n > 0)
                    .unwrap_or(heads),
                head_dim: optional("head_dim")
                    .filter(|n| *n > 0)
                    .unwrap_or((width / heads).min(LIMIT)),
                vocab: required("vocab_size")?,
                positions: if is_bert {
                    optional("max_position_embeddings").unwrap_or(0)
                } else {
                    0
                },
                tied: is_bert || tied.unwrap_or(tied_by_default),
                plain_mlp: is_bert || kind == "starcoder2",
                experts,
                experts_used: optional("num_experts_per_tok").unwrap_or(0).min(experts),
                window: if windows > 0 {
                    optional("sliding_window").unwrap_or(0)
                } else {
                    0
                },
                window_period: windows,
            },
            kind,
        ))
    }

    /// Weights of one layer's attention: queries, or the output; keys, or values.
    fn attention(&self) -> (u64, u64) {
        let width = self.width * self.head_dim;
        (width * self.heads, width * self.kv_heads)
    }

    /// Weights of one layer's MLP, of all experts: the matrices into it; the one out of it.
    fn mlp(&self) -> (u64, u64) {
        let one = self.width * self.ff * self.experts.max(1);
        let inwards = if self.plain_mlp { one } else { 2 * one };
        (inwards + self.experts * self.width, one)
    }

    /// Weights of the token and position embeddings.
    fn embedding(&self) -> u64 {
        (self.vocab + self.positions) * self.width
    }

    /// Parameters, without norms and biases (in most models less than a thousandth).
    pub fn parameters(&self) -> u64 {
        let (queries, keys) = self.attention();
        let (inwards, outwards) = self.mlp();
        let layers = self.layers * (2 * (queries + keys) + inwards + outwards);
        let output = if self.tied {
            0
        } else {
            self.vocab * self.width
        };
        layers + self.embedding() + output
    }

    /// Bytes of the weights in a quant.
    pub fn weight_bytes(&self, quant: &QuantPlan) -> u64 {
        let (queries, values) = self.attention();
        let (inwards, outwards) = self.mlp();
        let plain = bytes(quant.base, queries + values + inwards, self.width)
            + bytes(quant.attn_output, queries, self.heads * self.head_dim);
        let (more, of_8) = quant.more;
        let mixed = |ty| bytes(ty, values, self.width) + bytes(ty, outwards, self.ff);
        let mixed = mixed(more) * of_8 as f64 + mixed(quant.base) * (8 - of_8) as f64;
        let layers = self.layers as f64 * (plain + mixed / 8.0);
        let embedding = match self.tied {
            true => bytes(quant.output, self.embedding(), self.width),
            false => {
                bytes(quant.base, self.embedding(), self.width)
                    + bytes(quant.output, self.vocab * self.width, self.width)
            }
        };
        (layers + embedding) as u64
    }

    /// Bytes of the weights in the types that `matrix` gives to layers' matrices, and `embedding` to the
    /// token embedding and the output, by the length of rows. `None` where one of them is not given.
    pub(crate) fn held_bytes(
        &self,
        matrix: impl Fn(u64) -> Option<GgmlType>,
        embedding: impl Fn(u64) -> Option<GgmlType>,
    ) -> Option<u64> {
        let (queries, values) = self.attention();
        let (inwards, outwards) = self.mlp();
        let heads = self.heads * self.head_dim;
        let layers = bytes(
            matrix(self.width)?,
            queries + 2 * values + inwards,
            self.width,
        ) + bytes(matrix(heads)?, queries, heads)
            + bytes(matrix(self.ff)?, outwards, self.ff);
        let output = if self.tied {
            0
        } else {
            self.vocab * self.width
        };
        let beside = bytes(
            embedding(self.width)?,
            self.embedding() + output,
            self.width,
        );
        Some((self.layers as f64 * layers + beside) as u64)
    }

    /// Bytes of the keys and values of `context` tokens in f16. Layers with a window keep no more
    /// tokens than that.
    pub fn kv_bytes(&self, context: u64) -> u64 {
        if self.positions > 0 {
            // An encoder keeps nothing.
            return 0;
        }
        let token = 2 * 2 * self.kv_heads * self.head_dim;
        let (all, near) = match (self.window, self.window_period) {
            (0, _) | (_, 0) => (self.layers, 0),
            (_, period) => (self.layers / period, self.layers - self.layers / period),
        };
        token * (all * context + near * context.min(self.window))
    }

    /// Bytes that running the model in a quant takes, with `context` tokens.
    pub fn memory(&self, quant: &QuantPlan, context: u64) -> u64 {
        self.weight_bytes(quant) + self.memory_beside_weights(context)
    }

    /// Bytes that running the model takes beside its weights: keys and values of `context` tokens,
    /// intermediate results of up to 512, and the program with its tokenizer.
    pub fn memory_beside_weights(&self, context: u64) -> u64 {
        const BATCH: u64 = 512;
        const PROGRAM: u64 = 48 << 20;
        let ff = self.ff * self.experts_used.max(1);
        let row = 4 * self.width + 3 * ff + 2 * self.heads * self.head_dim;
        let activations = 4 * (BATCH.min(context) * row + self.vocab);
        self.kv_bytes(context) + activations + PROGRAM
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LLAMA_8B: Shape = Shape {
        layers: 32,
        width: 4096,
        ff: 14336,
        heads: 32,
        kv_heads: 8,
        head_dim: 128,
        vocab: 128_256,
        positions: 0,
        tied: false,
        plain_mlp: false,
        experts: 0,
        experts_used: 0,
        window: 0,
        window_period: 0,
    };

    /// Sizes of the files at <https://huggingface.co/bartowski/Meta-Llama-3.1-8B-Instruct-GGUF>.
    #[test]
    fn sizes_are_those_of_published_files() {
        for (quant, published) in [
            ("Q3_K_M", 4.019e9),
            ("Q4_K_M", 4.921e9),
            ("Q5_K_M", 5.733e9),
            ("Q6_K", 6.596e9),
            ("Q8_0", 8.541e9),
            ("F16", 16.07e9),
        ] {
            let computed = LLAMA_8B.weight_bytes(QuantPlan::parse(quant).unwrap()) as f64;
            assert!(
                (computed / published - 1.0).abs() < 0.015,
                "{quant}: {computed}"
            );
        }
    }

    /// Rows that super-blocks do not divide. Sizes of the files at
    /// <https://huggingface.co/ggml-org/gemma-3-1b-it-GGUF> and
    /// <https://huggingface.co/bartowski/Qwen2.5-0.5B-Instruct-GGUF>.
    #[test]
    fn sizes_count_the_types_that_stand_in() {
        for (id, published) in [("gemma-3-1b", 0.806e9), ("qwen2.5-0.5b", 0.398e9)] {
            let shape = crate::Catalogue::builtin().find(id).unwrap().shape;
            let computed = shape.weight_bytes(QuantPlan::parse("Q4_K_M").unwrap()) as f64;
            assert!(
                (computed / published - 1.0).abs() < 0.025,
                "{id}: {computed}"
            );
        }
    }

    #[test]
    fn a_config_gives_the_dimensions() {
        let config = json!({
            "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336,
            "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
            "tie_word_embeddings": false, "vocab_size": 128_256, "max_position_embeddings": 131_072,
        });
        assert_eq!(
            Shape::from_config(&config).unwrap(),
            (LLAMA_8B, "llama".to_owned())
        );
    }

    #[test]
    fn dimensions_of_what_sees_as_well_are_those_of_its_text_part() {
        let config = json!({ "model_type": "gemma3", "text_config": {
            "hidden_size": 2560, "intermediate_size": 10240, "num_attention_heads": 8, "head_dim": 256,
            "num_key_value_heads": 4, "num_hidden_layers": 34, "vocab_size": 262_208,
            "sliding_window": 1024 } });
        let (shape, kind) = Shape::from_config(&config).unwrap();
        assert_eq!(
            (kind.as_str(), shape.window, shape.window_period, shape.tied),
            ("gemma3", 1024, 6, true)
        );
        // So it stands at <https://huggingface.co/google/gemma-3-4b-it>.
        let short = json!({ "model_type": "gemma3", "text_config": {
            "hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text",
            "num_hidden_layers": 34, "rope_scaling": { "factor": 8.0, "rope_type": "linear" },
            "sliding_window": 1024 } });
        assert_eq!(Shape::from_config(&short).unwrap().0, shape);
        // Five layers see everything, 29 keep 1024 tokens each.
        assert_eq!(shape.kv_bytes(8192), 4 * 4 * 256 * (5 * 8192 + 29 * 1024));
    }

    #[test]
    fn the_largest_dimensions_overflow_nothing() {
        let largest = Shape {
            layers: 1 << 11,
            width: 1 << 17,
            ff: 1 << 20,
            heads: LIMIT,
            kv_heads: LIMIT,
            head_dim: LIMIT,
            vocab: 1 << 24,
            experts: LIMIT,
            experts_used: LIMIT,
            ..Shape::default()
        };
        assert!(largest.parameters() > 0);
        for quant in &QuantPlan::ALL {
            assert!(largest.memory(quant, 1 << 24) > largest.weight_bytes(quant));
        }
    }

    #[test]
    fn hostile_configs_are_refused() {
        assert!(matches!(
            Shape::from_config(&json!([])),
            Err(ShapeError::NoConfig)
        ));
        let whole = json!({
            "model_type": "llama", "hidden_size": 64, "intermediate_size": 64, "vocab_size": 64,
            "num_attention_heads": 4, "num_hidden_layers": 2,
        });
        assert!(Shape::from_config(&whole).is_ok());
        for field in [
            "hidden_size",
            "num_attention_heads",
            "num_hidden_layers",
            "vocab_size",
        ] {
            for wrong in [
                json!(0),
                json!(-1),
                json!("64"),
                json!(u64::MAX),
                json!(null),
            ] {
                let mut config = whole.clone();
                config[field] = wrong;
                let error = Shape::from_config(&config).unwrap_err().to_string();
                assert!(error.contains(field), "{error}");
            }
        }
    }
}
