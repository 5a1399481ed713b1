//! What can be given on the command line.

mod convert;
mod load;
mod models;
mod sampling;
mod serve;
mod units;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use zse::plan::Mode;
use zse::quantize::Mixture;

pub(crate) use convert::ConvertArgs;
pub(crate) use load::{Global, LoraArgs, ModelArg, ModelId};
pub(crate) use models::{
    AboutArgs, CheckArgs, Form, ListArgs, ModelsArgs, ModelsCommand, PullArgs, RemoveArgs,
    SearchArgs,
};
pub(crate) use serve::ServeArgs;

pub(crate) use sampling::{GenerateArgs, SamplingArgs, random_seed, settings};

use crate::log::Level;

/// Runs large language models on your own machine.
///
/// Without a command: a chat with the built-in model.
#[derive(Debug, Parser)]
#[command(
    name = "zse",
    version,
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) global: Global,
    /// How much to say on standard error
    #[arg(long, global = true, value_enum, value_name = "LEVEL", default_value = "warn",
          help_heading = load::GLOBAL)]
    pub(crate) log: Level,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Talk with a model
    Chat(Box<ChatArgs>),
    /// Answer one prompt, or a file of conversations
    Run(Box<RunArgs>),
    /// Serve models over HTTP, with OpenAI's API
    Serve(ServeArgs),
    /// Measure speed, with llama-bench's meanings
    #[command(alias = "benchmark")]
    Bench(BenchArgs),
    /// Show what a model is and the memory it needs
    Info(InfoArgs),
    /// Show the tokens of a text
    Tokenize(TokenizeArgs),
    /// Measure how well a model predicts a text
    Perplexity(PerplexityArgs),
    /// Measure over a text how much each column of the weights matters, for --imatrix
    Imatrix(ImatrixArgs),
    /// Write a model as a .zse or GGUF file
    Convert(ConvertArgs),
    /// Write a GGUF file with weights of other types
    Quantize(QuantizeArgs),
    /// Fetch a model from the Hugging Face hub
    Pull(PullArgs),
    /// List, search, check and remove models
    Models(ModelsArgs),
    /// Show this machine and which models fit it
    Hardware(HardwareArgs),
    /// Check that ZSE works on this machine
    #[command(alias = "validate")]
    Doctor(DoctorArgs),
}

/// What the model is told before the conversation.
#[derive(Args, Debug, Default)]
pub(crate) struct SystemArg {
    /// System prompt
    #[arg(
        id = "system",
        long = "system",
        visible_alias = "system-prompt",
        value_name = "TEXT",
        allow_hyphen_values = true
    )]
    pub(crate) prompt: Option<String>,
}

#[derive(Args, Debug, Default)]
pub(crate) struct ChatArgs {
    #[command(flatten)]
    pub(crate) model: ModelArg,
    #[command(flatten)]
    pub(crate) lora: LoraArgs,
    #[command(flatten)]
    pub(crate) system: SystemArg,
    /// Functions that the model may call: a JSON file with an array of OpenAI's tool objects
    #[arg(long, value_name = "FILE")]
    pub(crate) tools: Option<PathBuf>,
    /// Continue a conversation that `/save` wrote
    #[arg(long, value_name = "FILE")]
    pub(crate) load: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) generate: GenerateArgs,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
}

#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) model: ModelArg,
    #[command(flatten)]
    pub(crate) lora: LoraArgs,
    /// Prompt; without it, and without --file, standard input is the prompt
    #[arg(
        short,
        long,
        value_name = "TEXT",
        group = "input",
        allow_hyphen_values = true
    )]
    pub(crate) prompt: Option<String>,
    /// Read the prompt from a file
    #[arg(short, long, value_name = "FILE", group = "input")]
    pub(crate) file: Option<PathBuf>,
    /// Answer every line of a file: `{"messages": [...], "tools": [...]}` (`-` for standard input)
    #[arg(long, value_name = "FILE", group = "input", conflicts_with_all = ["raw", "system"])]
    pub(crate) messages: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) system: SystemArg,
    /// Continue the prompt as it is, without the chat template
    #[arg(long, visible_alias = "no-template", conflicts_with = "system")]
    pub(crate) raw: bool,
    /// Print a JSON object: text, ids, finish_reason, usage, timings (with --messages, one a line)
    #[arg(long)]
    pub(crate) json: bool,
    /// With --messages: how many to answer at the same time
    #[arg(long, value_name = "N", default_value_t = 4, requires = "messages")]
    pub(crate) parallel: usize,
    #[command(flatten)]
    pub(crate) generate: GenerateArgs,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
}

/// How a benchmark is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
    Csv,
    Md,
}

#[derive(Args, Debug)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    pub(crate) model: ModelArg,
    #[command(flatten)]
    pub(crate) lora: LoraArgs,
    /// Prompt tokens; several separated by commas; 0: no such test
    #[arg(short = 'p', long, value_name = "N", default_value = "512")]
    #[arg(value_delimiter = ',')]
    pub(crate) n_prompt: Vec<usize>,
    /// Tokens to generate; several separated by commas; 0: no such test
    #[arg(short = 'n', long, value_name = "N", default_value = "128")]
    #[arg(value_delimiter = ',')]
    pub(crate) n_gen: Vec<usize>,
    /// Tokens that are in the context before the test
    #[arg(short = 'd', long, value_name = "N", default_value = "0")]
    #[arg(value_delimiter = ',')]
    pub(crate) n_depth: Vec<usize>,
    /// Sequences that are computed together
    #[arg(short = 'b', long, value_name = "N", default_value = "1")]
    #[arg(value_delimiter = ',')]
    pub(crate) batch: Vec<usize>,
    /// Repetitions
    #[arg(short, long, value_name = "N", default_value = "5")]
    pub(crate) repetitions: usize,
    /// Threads; several separated by commas
    #[arg(short = 't', value_name = "N", value_delimiter = ',')]
    pub(crate) n_threads: Vec<usize>,
    /// Run each test a second time with every operation by itself, to see what fusion gains
    #[arg(long)]
    pub(crate) no_fuse: bool,
    /// Say where the time goes, by operation and by part of a layer
    #[arg(long)]
    pub(crate) profile: bool,
    /// How to print the results
    #[arg(
        short,
        long,
        value_enum,
        value_name = "FORMAT",
        default_value = "table"
    )]
    pub(crate) output: Format,
}

/// Memory that a model may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// Of what the machine, or the GPU, has available.
    Auto,
    /// So many bytes.
    Bytes(u64),
}

fn budget(text: &str) -> Result<Room, String> {
    match text {
        "auto" => Ok(Room::Auto),
        _ => units::bytes(text).map(Room::Bytes),
    }
}

#[derive(Args, Debug)]
pub(crate) struct InfoArgs {
    #[command(flatten)]
    pub(crate) model: ModelArg,
    /// Show how to load the model within so much memory, such as 8GB, or `auto`: nine tenths of what this
    /// machine, or the GPU of --device, has available
    #[arg(long, value_name = "BYTES", value_parser = budget)]
    pub(crate) budget: Option<Room>,
    /// What --budget prefers: min_memory, balanced or max_speed
    #[arg(long, value_name = "MODE", default_value_t, requires = "budget")]
    pub(crate) mode: Mode,
    /// Print the program: every operation with its inputs, weights and result
    #[arg(long)]
    pub(crate) graph: bool,
    /// Compare the contents of a .zse file with its checksums
    #[arg(long, conflicts_with_all = ["graph", "metadata", "json"])]
    pub(crate) verify: bool,
    /// Print the file's metadata
    #[arg(long)]
    pub(crate) metadata: bool,
    /// Print a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct TokenizeArgs {
    #[command(flatten)]
    pub(crate) model: ModelArg,
    /// Text; without it, standard input is the text
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) prompt: Option<String>,
    /// Add no BOS or EOS
    #[arg(long)]
    pub(crate) no_bos: bool,
    /// Take the spelling of special tokens, such as `<|im_end|>`, for text
    #[arg(long)]
    pub(crate) no_parse_special: bool,
    /// Print a JSON object: ids, pieces
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct PerplexityArgs {
    #[command(flatten)]
    pub(crate) model: ModelArg,
    #[command(flatten)]
    pub(crate) lora: LoraArgs,
    /// Text to predict
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Measure only the first so many chunks
    #[arg(long, value_name = "N")]
    pub(crate) chunks: Option<usize>,
    /// Print a JSON object: perplexity, nll, tokens
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ImatrixArgs {
    #[command(flatten)]
    pub(crate) model: ModelArg,
    /// The text: what the model will be used for, in all of its languages; --ctx sets the size of
    /// its chunks [default: 512]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// File to write
    #[arg(short, long, value_name = "FILE", default_value = "imatrix.gguf")]
    pub(crate) output: PathBuf,
    /// Run at most this many chunks
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) chunks: Option<u32>,
    /// Look at the weights of the output, too
    #[arg(long)]
    pub(crate) process_output: bool,
}

#[derive(Args, Debug)]
pub(crate) struct QuantizeArgs {
    /// Model to read: a GGUF or .zse file, a directory with safetensors files, a model that was
    /// pulled, or `builtin`
    #[arg(value_name = "SRC")]
    pub(crate) source: String,
    /// File to write
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Type of the weights, such as Q4_K_M, Q8_0 or F16
    #[arg(short, long, value_name = "TYPE", value_parser = Mixture::parse)]
    pub(crate) quant: &'static Mixture,
    /// Give every matrix the same type
    #[arg(long)]
    pub(crate) pure: bool,
    /// Importance matrix, as `zse imatrix` and llama-imatrix write it (GGUF)
    #[arg(long, value_name = "FILE")]
    pub(crate) imatrix: Option<PathBuf>,
    /// Allow a source that is quantized already
    #[arg(long)]
    pub(crate) allow_requantize: bool,
}

#[derive(Args, Debug)]
pub(crate) struct HardwareArgs {
    /// Print a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) model: ModelArg,
}
