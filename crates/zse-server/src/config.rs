//! How a server is set up, and why it may not be.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use zse::GpuState;

use crate::registry::Registry;

/// Settings of a server. The defaults are safe: loopback only, and every limit set.
#[derive(Clone)]
pub struct Config {
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
    /// Keys that open the routes for users; without any key, everyone who reaches the server may ask for
    /// everything.
    pub api_keys: Vec<String>,
    /// Keys that open every route, and with them those that change what is served. Where there are keys,
    /// no other manages models.
    pub admin_keys: Vec<String>,
    /// Names beside the loopback ones that the `Host` header may have.
    pub allowed_hosts: Vec<String>,
    /// Origins, such as `https://chat.example`, whose pages may ask from a browser.
    pub allowed_origins: Vec<String>,
    /// Most continuations that run or wait at the same time; more get status 429.
    pub max_requests: usize,
    /// Most connections at the same time; more wait until one is closed.
    pub max_connections: usize,
    /// Most bytes of a request's body.
    pub max_body: usize,
    /// How long a client may take for a request, from the first byte of its headers to the end of its body.
    /// A connection that is idle for so long is closed.
    pub read_timeout: Duration,
    /// How long a client may take none of the bytes that wait for it.
    pub write_timeout: Duration,
    /// How long requests may run on once the server is told to stop.
    pub drain: Duration,
    /// A comment is sent on a stream that has had nothing to say for so long, so that proxies keep
    /// it open.
    pub keep_alive: Duration,
    /// How long a stream waits for a model that has to be loaded before it begins with comments that say so.
    pub load_notice: Duration,
    /// Most bytes that all loaded models may take; `None`: what the machine has when the server
    /// starts.
    pub model_memory: Option<u64>,
    /// How long a model stays loaded that nobody asks for; `None`: until others need its memory.
    pub model_idle: Option<Duration>,
    /// Other names of models: each with the name that it stands for.
    pub aliases: Vec<(String, String)>,
    /// Where models come from beside those that the server is given; `None`: from nowhere.
    pub registry: Option<Registry>,
    /// Folders whose adapters (LoRA) clients may have loaded; without any, they may have none loaded.
    pub adapter_folders: Vec<PathBuf>,
    /// Told about failures that clients only hear of in general words.
    pub report: Report,
    /// How this process stands with its GPUs, where the server is to end once they are broken
    /// ([`Ended::Broken`](crate::Ended)), so that another process can take its place; asked several times a second.
    /// `None`: it serves on, and models on such a GPU fail.
    pub gpu_state: Option<AskGpu>,
}

/// Says how a process stands with its GPUs.
pub type AskGpu = Arc<dyn Fn() -> GpuState + Send + Sync>;

/// Where a server's failures are written.
pub type Report = Arc<dyn Fn(&str) + Send + Sync>;

impl Default for Config {
    fn default() -> Self {
        Self {
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8000),
            api_keys: Vec::new(),
            admin_keys: Vec::new(),
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            max_requests: 256,
            max_connections: 4096,
            max_body: 4 << 20,
            // Those who take longer are gone within 15 s.
            read_timeout: Duration::from_secs(14),
            write_timeout: Duration::from_secs(30),
            drain: Duration::from_secs(30),
            keep_alive: Duration::from_secs(15),
            load_notice: Duration::from_secs(1),
            model_memory: None,
            model_idle: None,
            aliases: Vec::new(),
            registry: None,
            adapter_folders: Vec::new(),
            report: Arc::new(|_| {}),
            gpu_state: None,
        }
    }
}

impl Config {
    /// All keys: those of users, then those of who runs the server.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        let all = self.api_keys.iter().chain(&self.admin_keys);
        all.map(String::as_str)
    }

    /// Checks what can be known before anything is done.
    pub(crate) fn check(&self) -> Result<(), ServeError> {
        // A key that a header cannot hold would lock everyone out, an empty one nobody.
        let usable = |key: &str| !key.is_empty() && key.bytes().all(|b| b.is_ascii_graphic());
        if !self.keys().all(usable) {
            return Err(ServeError::BadKey);
        }
        if !self.address.ip().is_loopback() && self.keys().next().is_none() {
            return Err(ServeError::NoKey {
                address: self.address,
            });
        }
        Ok(())
    }
}

// By hand: keys stay out of logs.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("address", &self.address)
            .field("keys", &self.keys().count())
            .finish_non_exhaustive()
    }
}

/// Why a server cannot serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Others could use it without a key.
    #[error(
        "{address} can be reached from other machines: give a key (--api-key, ZSE_API_KEY or \
         --api-key-file), or listen on 127.0.0.1"
    )]
    NoKey {
        /// Where it was to listen.
        address: SocketAddr,
    },
    /// A key that cannot be sent.
    #[error("an API key is empty, or has spaces or characters other than printable ASCII")]
    BadKey,
    /// Two models, adapters or aliases of one name.
    #[error(
        "the name '{name}' is given twice, to models, adapters or aliases: give one of them another \
         (NAME=MODEL, --lora NAME=PATH, --alias)"
    )]
    SameName {
        /// The name.
        name: String,
    },
    /// Another name of what is not there.
    #[error("the alias '{alias}' stands for '{name}', which is not served")]
    AliasOfNothing {
        /// The other name.
        alias: String,
        /// What it stands for.
        name: String,
    },
    /// There is nothing to serve.
    #[error("there is no model to serve")]
    NoModel,
    /// The port is taken, or the address is not this machine's.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where it was to listen.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The system gave no threads or timers.
    #[error("cannot start the server's threads")]
    Runtime(#[source] std::io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(address: &str, keys: &[&str]) -> Config {
        Config {
            address: address.parse().unwrap(),
            api_keys: keys.iter().map(|k| (*k).to_owned()).collect(),
            ..Config::default()
        }
    }

    #[test]
    fn only_loopback_is_served_without_a_key() {
        assert!(config("127.0.0.1:0", &[]).check().is_ok());
        assert!(config("[::1]:0", &[]).check().is_ok());
        for address in ["0.0.0.0:0", "[::]:0", "192.168.1.2:80"] {
            let error = config(address, &[]).check().unwrap_err();
            assert!(matches!(error, ServeError::NoKey { .. }));
            assert!(config(address, &["secret"]).check().is_ok());
        }
    }

    #[test]
    fn keys_that_cannot_be_sent_are_refused() {
        for key in ["", "two words", "schlüssel", "line\n"] {
            let error = config("127.0.0.1:0", &["good", key]).check().unwrap_err();
            assert!(matches!(error, ServeError::BadKey), "{key:?}");
        }
    }

    #[test]
    fn keys_are_not_in_debug_output() {
        let text = format!("{:?}", config("127.0.0.1:0", &["secret"]));
        assert!(!text.contains("secret"), "{text}");
    }
}
