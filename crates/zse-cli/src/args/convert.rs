//! What `zse convert` is given.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use zse::convert::{Target, TypeRule};
use zse::quantize::Mixture;

#[derive(Args, Debug)]
pub(crate) struct ConvertArgs {
    /// Model to read: anything that can be run
    #[arg(value_name = "SRC")]
    pub(crate) source: String,
    /// File to write: its ending, .zse or .gguf, says what it becomes
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// What a .zse file is for: cpu stores matrices as the CPU's kernels read them, cuda and portable
    /// rows as in GGUF, which a GPU permutes as they arrive; any device reads all of them
    #[arg(long, value_name = "TARGET", default_value = "cpu", value_parser = targets())]
    pub(crate) target: Target,
    /// Type of the weights, such as Q4_K_M, Q8_0 or F16; without it they stay as they are
    #[arg(short, long, value_name = "TYPE", value_parser = Mixture::parse)]
    pub(crate) quant: Option<&'static Mixture>,
    /// Type of the tensors with names that a regular expression finds, such as ffn_down=Q6_K;
    /// several times: the first that fits counts
    #[arg(long, value_name = "PATTERN=TYPE", value_parser = TypeRule::parse)]
    pub(crate) tensor_type: Vec<TypeRule>,
    /// Give every matrix the same type
    #[arg(long, requires = "quant")]
    pub(crate) pure: bool,
    /// Adapter (LoRA) to add to the weights, a directory of PEFT or a GGUF file; several times: all of
    /// them
    #[arg(long, value_name = "PATH")]
    pub(crate) merge_lora: Vec<PathBuf>,
    /// Importance matrix, as `zse imatrix` and llama-imatrix write it (GGUF)
    #[arg(long, value_name = "FILE")]
    pub(crate) imatrix: Option<PathBuf>,
    /// Allow other types for a source that is quantized already
    #[arg(long)]
    pub(crate) allow_requantize: bool,
}

fn targets() -> impl TypedValueParser<Value = Target> {
    PossibleValuesParser::new(Target::ALL.map(Target::name)).map(|name| {
        let found = Target::ALL.into_iter().find(|target| target.name() == name);
        found.expect("the parser takes only names of targets")
    })
}
