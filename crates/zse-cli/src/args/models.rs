//! Which model of the hub, and what about it.

use clap::{Args, Subcommand, ValueEnum};
use zse_hub::Hub;

use super::ModelId;

#[derive(Args, Debug)]
pub(crate) struct PullArgs {
    #[command(flatten)]
    pub(crate) model: ModelId,
    /// Branch, tag or commit [default: main]
    #[arg(long, value_name = "REVISION")]
    pub(crate) revision: Option<String>,
    /// Ask nobody: succeed if the model is here already
    #[arg(long)]
    pub(crate) offline: bool,
    /// Connections at a time
    #[arg(short, long, value_name = "N", default_value_t = Hub::CONNECTIONS as u8,
          value_parser = clap::value_parser!(u8).range(1..=32))]
    pub(crate) jobs: u8,
}

#[derive(Args, Debug)]
pub(crate) struct ModelsArgs {
    #[command(subcommand)]
    pub(crate) command: ModelsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModelsCommand {
    /// List the catalogue, and what is on this machine
    List(ListArgs),
    /// Search the hub
    Search(SearchArgs),
    /// Tell whether a model will run here, and in how much memory, before it is pulled
    Check(CheckArgs),
    /// Show what is known of a model
    Info(AboutArgs),
    /// Remove a model from this machine
    Rm(RemoveArgs),
    /// Print where a model is on this machine
    Path(PathArgs),
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// For people
    #[default]
    Table,
    /// For programs
    Json,
}

/// How results are printed.
#[derive(Args, Debug)]
pub(crate) struct FormArg {
    /// How to print the result
    #[arg(
        short = 'o',
        long = "output",
        value_enum,
        value_name = "FORM",
        default_value = "table"
    )]
    pub(crate) form: Form,
}

#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// Only those of a category: chat, code, reasoning, small, large, multilingual, embedding, rerank
    #[arg(short, long, value_name = "CATEGORY")]
    pub(crate) category: Option<String>,
    /// Only those that are recommended
    #[arg(short, long)]
    pub(crate) recommended: bool,
    /// Only those that run in so many GiB of memory
    #[arg(short = 'v', long = "memory", value_name = "GIB")]
    pub(crate) memory: Option<f64>,
    /// Only those that run in the memory that this machine, or the GPU of --device, has available
    #[arg(long, conflicts_with = "memory")]
    pub(crate) fits: bool,
    /// Only those that are on this machine
    #[arg(long)]
    pub(crate) local: bool,
    /// Quant whose memory is shown and must fit
    #[arg(short, long, value_name = "QUANT", default_value = "Q4_K_M")]
    pub(crate) quant: String,
    #[command(flatten)]
    pub(crate) form: FormArg,
}

#[derive(Args, Debug)]
pub(crate) struct SearchArgs {
    /// Part of a name
    #[arg(value_name = "TEXT")]
    pub(crate) text: String,
    /// Repositories without GGUF files as well
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Most results
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20,
          value_parser = clap::value_parser!(u16).range(1..=100))]
    pub(crate) limit: u16,
    #[command(flatten)]
    pub(crate) form: FormArg,
}

#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) model: ModelId,
    #[command(flatten)]
    pub(crate) form: FormArg,
}

#[derive(Args, Debug)]
pub(crate) struct AboutArgs {
    #[command(flatten)]
    pub(crate) model: ModelId,
    #[command(flatten)]
    pub(crate) form: FormArg,
}

#[derive(Args, Debug)]
pub(crate) struct RemoveArgs {
    #[command(flatten)]
    pub(crate) model: ModelId,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[derive(Args, Debug)]
pub(crate) struct PathArgs {
    #[command(flatten)]
    pub(crate) model: ModelId,
}
