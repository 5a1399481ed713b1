//! How models are served.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;

/// Without a MODEL, the built-in one is served.
///
/// Requests name a model by its file's name without `.gguf`; where one model is served, they need
/// not.
#[derive(Args, Debug)]
pub(crate) struct ServeArgs {
    /// Models: paths of GGUF files, or `builtin` [default: builtin]
    #[arg(value_name = "MODEL")]
    pub(crate) models: Vec<String>,
    /// Address to listen on; one that other machines reach needs a key
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub(crate) host: IpAddr,
    /// Port to listen on; 0: any free one
    #[arg(long, value_name = "PORT", default_value_t = 8000)]
    pub(crate) port: u16,
    /// Key that requests must have; may be given several times. Other users of this machine can see
    /// it; the variable ZSE_API_KEY and --api-key-file keep it from them
    #[arg(long, value_name = "KEY")]
    pub(crate) api_key: Vec<String>,
    /// File with one key a line; empty lines, and those that begin with `#`, are skipped
    #[arg(long, value_name = "FILE")]
    pub(crate) api_key_file: Option<PathBuf>,
    /// How many answers of a model are computed at the same time, each with room for a whole
    /// context; more wait
    #[arg(long, value_name = "N", default_value_t = 4,
          value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) parallel: u16,
    /// How many answers may run or wait at the same time; more are refused with status 429
    #[arg(long, value_name = "N", default_value_t = 256,
          value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) max_requests: u16,
    /// Name that clients may call this machine by, beside localhost; may be given several times.
    /// With a key and an address that others reach, any name is allowed unless some are given
    #[arg(long, value_name = "NAME")]
    pub(crate) allow_host: Vec<String>,
    /// Origin, such as `https://chat.example`, whose web pages may ask; may be given several times
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) allow_origin: Vec<String>,
}
