//! What an executor may use, and what it reports to use.

use std::fmt;
use std::str::FromStr;

use zse_quant::{GgmlType, e4m3};

use crate::program::{Program, Rows, StateKind};

use super::LoadError;

/// How keys and values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum KvType {
    /// 4 bytes a number; exact.
    F32,
    /// 2 bytes a number.
    #[default]
    F16,
    /// 2 bytes a number.
    Bf16,
    /// Blocks of 32 numbers in 34 bytes, as ggml's `q8_0`.
    Q8_0,
    /// Blocks of 32 numbers in 18 bytes, as ggml's `q4_0`.
    Q4_0,
    /// FP8, 1 byte a number (E4M3, see [`zse_quant::e4m3`]), without a scale: what is larger than 448 becomes 448.
    Fp8,
}

impl KvType {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q8_0,
        Self::Q4_0,
        Self::Fp8,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
            Self::Fp8 => "fp8",
        }
    }

    /// The storage type of a row of keys or values; `None` of FP8, which ggml has no type for.
    fn ggml(self) -> Option<GgmlType> {
        Some(match self {
            Self::F32 => GgmlType::F32,
            Self::F16 => GgmlType::F16,
            Self::Bf16 => GgmlType::Bf16,
            Self::Q8_0 => GgmlType::Q8_0,
            Self::Q4_0 => GgmlType::Q4_0,
            Self::Fp8 => return None,
        })
    }

    /// Numbers of a block, which have a scale together; 1 in types without.
    pub fn block_len(self) -> usize {
        self.ggml().map_or(1, GgmlType::block_len)
    }

    /// Bytes of a head of `dim` numbers; `None` where `dim` is not a whole number of blocks.
    pub fn head_bytes(self, dim: usize) -> Option<usize> {
        match self.ggml() {
            Some(ty) => ty.row_bytes(dim),
            None => Some(dim),
        }
    }

    /// Rounds heads of `dim` numbers to the bytes that they are kept as; `None` where these are no whole number of blocks, or
    /// the numbers are not finite and the type has no such. FP8 has one for those: no number.
    pub fn encode(self, numbers: &[f32], dim: usize, bytes: &mut [u8]) -> Option<()> {
        if let Some(ty) = self.ggml() {
            return zse_quant::encode(ty, numbers, dim, None, bytes).ok();
        }
        let known = |x: f32| if x.is_finite() { x } else { f32::NAN };
        for (to, x) in bytes.iter_mut().zip(numbers) {
            *to = e4m3::round(known(*x));
        }
        (bytes.len() == numbers.len()).then_some(())
    }

    /// What bytes that are kept stand for; `None` where they are no whole number of blocks.
    pub fn decode(self, bytes: &[u8], numbers: &mut [f32]) -> Option<()> {
        if let Some(ty) = self.ggml() {
            return zse_quant::decode(ty, bytes, numbers).ok();
        }
        for (to, bits) in numbers.iter_mut().zip(bytes) {
            *to = e4m3::widen(*bits);
        }
        (bytes.len() == numbers.len()).then_some(())
    }

    /// Numbers of this type as numbers of type `to`, rounded to it; `None` where they are no whole
    /// number of blocks, or not finite and `to` has no such.
    ///
    /// ```
    /// use zse_model::executor::KvType;
    ///
    /// let f16 = [[0x00, 0x3c]; 64].concat();
    /// let q8_0 = KvType::F16.recode(KvType::Q8_0, &f16).unwrap();
    /// assert_eq!(q8_0.len(), 2 * 34);
    /// assert_eq!(KvType::Q8_0.recode(KvType::F16, &q8_0), Some(f16));
    /// ```
    pub fn recode(self, to: Self, bytes: &[u8]) -> Option<Vec<u8>> {
        const BLOCK: usize = 32;
        let blocks = bytes.len() / self.head_bytes(BLOCK)?;
        let mut numbers = vec![0.0; blocks * BLOCK];
        let mut recoded = vec![0; to.head_bytes(numbers.len())?];
        self.decode(bytes, &mut numbers)?;
        to.encode(&numbers, BLOCK, &mut recoded)?;
        Some(recoded)
    }
}

impl fmt::Display for KvType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for KvType {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|t| t.name().eq_ignore_ascii_case(s))
            .ok_or_else(|| {
                format!("unknown KV type '{s}'; known are f32, f16, bf16, q8_0, q4_0 and fp8")
            })
    }
}

/// Which groups of operations an executor may run as one kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Fuse {
    /// All that it has kernels for.
    #[default]
    All,
    /// None: each operation by itself (`--no-fuse`), to measure what fusion gains.
    None,
}

/// What an executor may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Blocks of each KV group (see [`Program::kv_groups`]).
    pub kv_blocks: usize,
    /// Tokens in a block.
    pub block_len: usize,
    /// Type of keys and values.
    pub kv_type: KvType,
    /// Most tokens in a batch.
    pub max_tokens: usize,
    /// Most rows in a batch that want an output.
    pub max_outputs: usize,
    /// Threads, at most [`Budget::MAX_THREADS`]; `None`: as many as the process may use.
    pub threads: Option<usize>,
    /// Fusion.
    pub fuse: Fuse,
    /// Most bytes that weights and caches should take; `None`: what the system has available. An
    /// executor that can leaves weights in the file where they do not fit.
    pub memory: Option<u64>,
}

impl Budget {
    /// Tokens in a block, unless something else is asked for.
    pub const BLOCK_LEN: usize = 32;

    /// Most threads that can be asked for: more than any machine would gain from.
    pub const MAX_THREADS: usize = 1024;

    /// Enough for `sequences` sequences of `context` tokens and batches of `max_tokens`.
    pub fn for_context(context: usize, sequences: usize, max_tokens: usize) -> Self {
        Self {
            kv_blocks: context.div_ceil(Self::BLOCK_LEN).saturating_mul(sequences),
            block_len: Self::BLOCK_LEN,
            kv_type: KvType::default(),
            max_tokens,
            max_outputs: max_tokens,
            threads: None,
            fuse: Fuse::default(),
            memory: None,
        }
    }

    /// The most rows that a value has in a batch. A sequence that is pooled counts as an output.
    pub fn max_rows(&self, rows: Rows) -> usize {
        match rows {
            Rows::Tokens => self.max_tokens,
            Rows::Outputs | Rows::Seqs => self.max_outputs.min(self.max_tokens),
        }
    }

    /// Bytes of all KV blocks for `program`; `None` where the KV type does not divide a head or
    /// the size overflows.
    pub fn kv_bytes(&self, program: &Program) -> Option<u64> {
        program.states.iter().try_fold(0u64, |sum, state| {
            let StateKind::Paged(p) = state.kind;
            let [k, v] = [p.k_dim, p.v_dim].map(|dim| self.kv_type.head_bytes(dim));
            let token = k?.checked_add(v?)?.checked_mul(p.kv_heads)? as u64;
            let tokens = (self.kv_blocks as u64).checked_mul(self.block_len as u64)?;
            sum.checked_add(token.checked_mul(tokens)?)
        })
    }
}

/// Whether the system gives `bytes` for `what` (`None`: more than can be counted), tried by asking
/// for them and letting them go. What is then allocated in parts would abort the process if the
/// system refused it, and each part may be small enough to be granted where the whole is not.
///
/// # Errors
/// [`LoadError::OutOfMemory`] if it does not.
pub fn try_reserve(what: &'static str, bytes: Option<u64>) -> Result<(), LoadError> {
    let mut probe = Vec::<u8>::new();
    let granted = bytes
        .and_then(|n| usize::try_from(n).ok())
        .is_some_and(|n| probe.try_reserve_exact(n).is_ok());
    // An allocation that nobody sees may be left out, and then never fails.
    std::hint::black_box(&mut probe);
    if granted {
        return Ok(());
    }
    Err(LoadError::OutOfMemory {
        what,
        needed: bytes.unwrap_or(u64::MAX),
        available: None,
    })
}

/// Bytes that an executor uses or, as a plan, will use; by use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryReport {
    /// Weights held by the executor itself (packed or uploaded).
    pub weights: u64,
    /// Weights that it reads from the checkpoint in place; the whole checkpoint where it is no map
    /// of a file but part of the program, as the built-in model is.
    pub mapped: u64,
    /// KV blocks.
    pub kv: u64,
    /// Intermediate results that are kept between steps; what one operation allocates and frees is
    /// not counted.
    pub activations: u64,
}

impl MemoryReport {
    /// All of it.
    pub fn total(&self) -> u64 {
        [self.weights, self.mapped, self.kv, self.activations]
            .into_iter()
            .fold(0, u64::saturating_add)
    }
}
