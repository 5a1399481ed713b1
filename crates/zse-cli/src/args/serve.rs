//! How models are served.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use zse::plan::Mode;
use zse::{AdapterSource, KvType};

use super::units::bytes;
use super::{Room, budget};

/// Without a MODEL and a folder, the built-in model is served.
///
/// Requests name a model by its file's name without `.gguf` or `.zse`, or as NAME=MODEL says; where one model
/// is served, they need not. MODELs are loaded at the start, those of a folder when they are first
/// asked for.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServeArgs {
    /// Models: paths of GGUF or .zse files, of directories with safetensors files, or `builtin`,
    /// each perhaps with a name: NAME=MODEL [default: builtin]
    #[arg(value_name = "MODEL")]
    pub(crate) models: Vec<String>,
    /// Folder whose GGUF and .zse files and directories of safetensors are served, each loaded when
    /// it is first asked for; may be given several times
    #[arg(long, value_name = "DIR")]
    pub(crate) models_dir: Vec<PathBuf>,
    /// Another name for a model; may be given several times
    #[arg(long, value_name = "NAME=MODEL", value_parser = alias)]
    pub(crate) alias: Vec<(String, String)>,
    /// Adapter (LoRA) of the one MODEL, a directory of PEFT or a GGUF file, that requests may name as
    /// their model [default name: that of the file]; may be given several times
    #[arg(long, value_name = "[NAME=]PATH")]
    pub(crate) lora: Vec<AdapterSource>,
    /// Folder whose adapters clients may load with /v1/load_lora_adapter; may be given several times
    #[arg(long, value_name = "DIR")]
    pub(crate) lora_dir: Vec<PathBuf>,
    /// Model, by its name, that stays loaded whatever others need; may be given several times
    #[arg(long, value_name = "NAME")]
    pub(crate) pin: Vec<String>,
    /// Memory that all loaded models may take, such as 12G; who was not asked for longest is
    /// unloaded first [default: what the machine, or the GPU, has available at the start]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub(crate) models_memory: Option<u64>,
    /// Memory that all loaded models may take, as --models-memory, and for which the context and
    /// the type of keys and values of each are chosen where --ctx and --kv-type do not say;
    /// `zse info MODEL --budget` shows what that would be. `auto`: nine tenths of what the machine, or
    /// the GPU, has available at the start
    #[arg(long, value_name = "BYTES", value_parser = budget, conflicts_with = "models_memory")]
    pub(crate) budget: Option<Room>,
    /// What --budget prefers: min_memory, balanced or max_speed
    #[arg(long, value_name = "MODE", default_value_t, requires = "budget")]
    pub(crate) mode: Mode,
    /// Seconds after which a model that nobody asks for is unloaded [default: never]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) idle_unload: Option<u64>,
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
    /// Key that may also manage models: load and unload, download and remove them; may be given several
    /// times. Where there are keys, no other may. The variable ZSE_ADMIN_KEY and --admin-key-file keep
    /// it from other users of this machine
    #[arg(long, value_name = "KEY")]
    pub(crate) admin_key: Vec<String>,
    /// File with such keys, one a line
    #[arg(long, value_name = "FILE")]
    pub(crate) admin_key_file: Option<PathBuf>,
    /// How many answers of a model are computed at the same time, each with room for a whole
    /// context; more wait
    #[arg(long, value_name = "N", default_value_t = 4,
          value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) parallel: u16,
    /// Memory of each model for conversations that are idle, such as 2G: their keys and values go
    /// there when others need the room, and come back when they go on [default: they are computed
    /// again]
    #[arg(long, value_name = "BYTES", value_parser = bytes, default_value = "0",
          hide_default_value = true)]
    pub(crate) kv_swap_memory: u64,
    /// Folder for what --kv-swap-memory has no room for, on a fast disk: a file for each model that
    /// nobody else can open, gone with the server
    #[arg(long, value_name = "DIR")]
    pub(crate) kv_swap_dir: Option<PathBuf>,
    /// Most bytes of each such file
    #[arg(long, value_name = "BYTES", value_parser = bytes, default_value = "16G",
          requires = "kv_swap_dir")]
    pub(crate) kv_swap_disk: u64,
    /// Type that idle conversations are rounded to, q8_0 or q4_0: twice or four times as many have room,
    /// but what goes on then is not exact [default: they come back bit by bit]
    #[arg(long, value_name = "TYPE")]
    pub(crate) kv_compact: Option<KvType>,
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

/// A name and what it stands for.
fn alias(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, model)) if !name.is_empty() && !model.is_empty() => {
            Ok((name.to_owned(), model.to_owned()))
        }
        _ => Err("give a name, `=`, and the model that it stands for".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_have_two_sides() {
        assert_eq!(alias("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        for wrong in ["a", "=a", "a="] {
            assert!(alias(wrong).is_err(), "{wrong}");
        }
    }
}
