//! Which hub, with which token, and where files are kept: the variables of `huggingface_hub`.
//!
//! <https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables>

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;
use std::{env, fmt, fs, io};

use reqwest::Url;

use crate::HubError;

/// The public hub.
const PUBLIC: &str = "https://huggingface.co";

/// The variable that names another one.
const ENDPOINT: &str = "HF_ENDPOINT";

/// A secret that shows a user of the hub to it; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token of visible ASCII.
    ///
    /// # Errors
    /// Why it cannot be one. The message does not repeat it.
    pub fn new(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        match !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()) {
            true => Ok(Self(text.to_owned())),
            false => Err("a token is one word of ASCII"),
        }
    }

    pub(crate) fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// How long to wait for a server, and how often to ask again.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Requests in a row that may bring nothing before it is given up.
    pub attempts: u32,
    /// Wait after the first; it doubles with each, and a random part of it is left out.
    pub first_wait: Duration,
    /// Longest wait, also where a server asks for more.
    pub longest_wait: Duration,
    /// Time for a connection.
    pub connect: Duration,
    /// Time without a byte after which a connection is given up.
    pub idle: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            attempts: 6,
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(60),
            connect: Duration::from_secs(15),
            idle: Duration::from_secs(30),
        }
    }
}

/// Which hub, with which token, and where files are kept.
#[derive(Clone, Debug)]
pub struct Config {
    /// Root of the hub's API, without a trailing slash.
    pub endpoint: Url,
    /// Sent to the endpoint, and to no other host.
    pub token: Option<Token>,
    /// The cache shared with `huggingface_hub`: the folder of the `models--*`.
    pub cache: PathBuf,
    /// Whether the network must not be used.
    pub offline: bool,
    /// How long to wait.
    pub patience: Patience,
    /// Bytes asked for in one request of a file.
    pub chunk: u64,
}

impl Config {
    /// Bytes asked for in one request of a file.
    pub const CHUNK: u64 = 8 << 20;

    /// As the environment has it: `HF_ENDPOINT`, `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_HOME`,
    /// `HF_HUB_CACHE`, `HF_HUB_OFFLINE`.
    ///
    /// # Errors
    /// [`HubError::Config`] names the variable or the file that cannot be used.
    pub fn from_env() -> Result<Self, HubError> {
        Self::from_variables(|name| env::var_os(name).filter(|value| !value.is_empty()))
    }

    fn from_variables(get: impl Fn(&str) -> Option<OsString>) -> Result<Self, HubError> {
        let text = |names: &[&str]| -> Result<Option<(String, String)>, HubError> {
            let Some((name, value)) = names.iter().find_map(|n| Some((*n, get(n)?))) else {
                return Ok(None);
            };
            match value.into_string() {
                Ok(value) => Ok(Some((name.to_owned(), value))),
                Err(_) => Err(unusable(name, "it is not text")),
            }
        };
        let endpoint = match text(&[ENDPOINT])? {
            Some((name, value)) => endpoint(&value).map_err(|why| unusable(&name, why))?,
            None => endpoint(PUBLIC).expect("a constant that is an address"),
        };
        let folder = |name| get(name).map(|path| expand(PathBuf::from(path)));
        let home = match (folder("HF_HOME"), folder("XDG_CACHE_HOME")) {
            (Some(home), _) => home,
            (None, Some(cache)) => cache.join("huggingface"),
            (None, None) => env::home_dir()
                .ok_or_else(|| unusable("HF_HOME", "it is not set, and there is no home folder"))?
                .join(".cache/huggingface"),
        };
        let token = match text(&["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"])? {
            Some((name, value)) => Some(Token::new(&value).map_err(|why| unusable(&name, why))?),
            None => token_file(folder("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token")))?,
        };
        let cache = folder("HF_HUB_CACHE")
            .or_else(|| folder("HUGGINGFACE_HUB_CACHE"))
            .unwrap_or_else(|| home.join("hub"));
        let offline =
            text(&["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])?.is_some_and(|(_, value)| {
                ["1", "true", "yes", "on"].contains(&value.to_ascii_lowercase().as_str())
            });
        Ok(Self {
            endpoint,
            token,
            cache,
            offline,
            patience: Patience::default(),
            chunk: Self::CHUNK,
        })
    }
}

/// Another hub than the public one, where the environment names one that can be used.
pub(crate) fn endpoint_of_env() -> Option<Url> {
    endpoint(&env::var(ENDPOINT).ok()?).ok()
}

/// The path with the user's folder for a leading `~`, which shells leave as it is behind a `=` in files
/// and quotes; `huggingface_hub` reads it so.
fn expand(path: PathBuf) -> PathBuf {
    match (path.strip_prefix("~"), env::home_dir()) {
        (Ok(below), Some(home)) => home.join(below),
        _ => path,
    }
}

fn unusable(name: &str, why: &str) -> HubError {
    HubError::Config {
        name: name.to_owned(),
        why: why.to_owned(),
    }
}

/// The address of a hub: http or https, and nothing behind its path.
fn endpoint(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text.trim_end_matches('/')).map_err(|_| "it is not an address")?;
    match url.scheme() {
        "https" | "http" if url.query().is_none() && url.fragment().is_none() => Ok(url),
        _ => Err("give an address such as https://huggingface.co"),
    }
}

/// The token that `huggingface-cli login` has left, if any.
fn token_file(path: PathBuf) -> Result<Option<Token>, HubError> {
    match fs::read_to_string(&path) {
        Ok(text) if text.trim().is_empty() => Ok(None),
        Ok(text) => match Token::new(&text) {
            Ok(token) => Ok(Some(token)),
            Err(why) => Err(unusable(&path.display().to_string(), why)),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(HubError::io("read", &path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(variables: &[(&str, &str)]) -> Result<Config, HubError> {
        Config::from_variables(|name| {
            let found = variables.iter().find(|(known, _)| *known == name)?;
            Some(found.1.into())
        })
    }

    #[test]
    fn folders_are_those_of_huggingface_hub() {
        let cache = |variables: &[(&str, &str)]| config(variables).unwrap().cache;
        assert_eq!(
            cache(&[("XDG_CACHE_HOME", "/c")]),
            PathBuf::from("/c/huggingface/hub")
        );
        let home = ("HF_HOME", "/h");
        assert_eq!(
            cache(&[home, ("XDG_CACHE_HOME", "/c")]),
            PathBuf::from("/h/hub")
        );
        assert_eq!(cache(&[home, ("HF_HUB_CACHE", "/x")]), PathBuf::from("/x"));
        let own = env::home_dir().map_or_else(|| PathBuf::from("~/x"), |home| home.join("x"));
        assert_eq!(cache(&[home, ("HF_HUB_CACHE", "~/x")]), own);
    }

    #[test]
    fn a_token_comes_from_the_variable_then_from_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        assert_eq!(config(&[("HF_HOME", home)]).unwrap().token, None);
        fs::write(folder.path().join("token"), "hf_file\n").unwrap();
        let token = |variables: &[(&str, &str)]| config(variables).unwrap().token.unwrap();
        assert_eq!(token(&[("HF_HOME", home)]).secret(), "hf_file");
        let both = [("HF_HOME", home), ("HF_TOKEN", "hf_env")];
        assert_eq!(token(&both).secret(), "hf_env");
        let other = folder.path().join("other");
        fs::write(&other, "hf_other").unwrap();
        let path = [
            ("HF_HOME", home),
            ("HF_TOKEN_PATH", other.to_str().unwrap()),
        ];
        assert_eq!(token(&path).secret(), "hf_other");
    }

    #[test]
    fn a_token_is_never_shown() {
        let config = config(&[("HF_HOME", "/h"), ("HF_TOKEN", "hf_secret")]).unwrap();
        assert!(!format!("{config:?}").contains("hf_secret"));
        let error = super::Token::new("two words").unwrap_err();
        assert!(!error.contains("two words"));
    }

    #[test]
    fn wrong_values_name_their_variable() {
        for (name, value) in [
            ("HF_ENDPOINT", "ftp://hub"),
            ("HF_ENDPOINT", "hub"),
            ("HF_TOKEN", "two words"),
        ] {
            let error = config(&[("HF_HOME", "/h"), (name, value)])
                .unwrap_err()
                .to_string();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn offline_is_a_switch() {
        let offline = |value| {
            config(&[("HF_HOME", "/h"), ("HF_HUB_OFFLINE", value)])
                .unwrap()
                .offline
        };
        assert!(offline("1") && offline("TRUE"));
        assert!(!offline("0") && !offline("no"));
    }
}
