//! What a user calls a model: `org/name`, with a quant, a file or a revision, or an address.

use std::fmt;
use std::str::FromStr;

use reqwest::Url;
use serde::Serialize;

use crate::HubError;
use crate::config::endpoint_of_env;
use crate::digest::sha256;

/// Hosts whose addresses name repositories of the hub, whatever the endpoint is.
const HUB_HOSTS: [&str; 3] = ["huggingface.co", "www.huggingface.co", "hf.co"];

/// A repository of the hub: `org/name`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct RepoId(String);

impl RepoId {
    /// Checks the hub's rule: two words of letters, digits, `-`, `_` and `.`, at most 96 bytes each,
    /// that neither begin nor end in `-` or `.`, without `--` and `..`.
    ///
    /// # Errors
    /// [`HubError::Name`].
    pub fn new(text: &str) -> Result<Self, HubError> {
        let is_part = |part: &str| {
            let is_inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
            (1..=96).contains(&part.len())
                && part.bytes().all(is_inner)
                && !part.starts_with(['-', '.'])
                && !part.ends_with(['-', '.'])
                && !part.contains("--")
                && !part.contains("..")
        };
        match text.split_once('/') {
            Some((org, name)) if is_part(org) && is_part(name) => Ok(Self(text.to_owned())),
            _ => Err(HubError::Name {
                name: text.to_owned(),
                why: "a repository is `org/name`, of letters, digits, `-`, `_` and `.`",
            }),
        }
    }

    /// `org/name`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of its folder in the cache.
    pub(crate) fn folder(&self) -> String {
        format!("models--{}", self.0.replace('/', "--"))
    }

    /// The repository of a folder of the cache.
    pub(crate) fn of_folder(folder: &str) -> Option<Self> {
        Self::new(&folder.strip_prefix("models--")?.replacen("--", "/", 1)).ok()
    }
}

impl fmt::Display for RepoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which of a repository's files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// What is best for most people.
    #[default]
    Best,
    /// The GGUF file of this quant, such as `Q4_K_M`, in any case.
    Quant(String),
    /// The file of this path.
    File(String),
}

/// A model of the hub. Parses from `org/name`, `org/name:Q4_K_M`, `org/name:file.gguf`, each perhaps
/// with `@revision`, from the addresses of the hub's pages and files (of the public one, and of the one that
/// `HF_ENDPOINT` names), and from the address of a GGUF file elsewhere.
///
/// ```
/// use zse_hub::{Choice, ModelRef};
///
/// let model: ModelRef = "bartowski/Llama-3.2-1B-Instruct-GGUF:q6_k".parse()?;
/// assert_eq!(model.choice, Choice::Quant("q6_k".to_owned()));
/// # Ok::<(), zse_hub::HubError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelRef {
    /// The repository.
    pub repo: RepoId,
    /// Branch, tag or commit; `None`: `main`.
    pub revision: Option<String>,
    /// Which of its files.
    pub choice: Choice,
    /// Where the file is, if that is not the hub: it is kept as if it were of a repository of its own.
    pub(crate) address: Option<Url>,
}

impl ModelRef {
    /// The branch where none is named.
    pub const MAIN: &'static str = "main";

    /// Branch, tag or commit.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or(Self::MAIN)
    }

    fn new(
        name: &str,
        repo: &str,
        revision: Option<&str>,
        choice: Choice,
    ) -> Result<Self, HubError> {
        let wrong = |why| HubError::Name {
            name: name.to_owned(),
            why,
        };
        if revision.is_some_and(|r| !is_relative_path(r)) {
            return Err(wrong("a revision is a branch, a tag or a commit"));
        }
        match &choice {
            Choice::File(file) if !is_relative_path(file) => {
                return Err(wrong("a file is named by its path in the repository"));
            }
            Choice::Quant(quant) if crate::quant::canonical(quant).is_none() => {
                return Err(wrong(
                    "behind `:` comes a quant, such as Q4_K_M, or a file that ends in .gguf",
                ));
            }
            _ => {}
        }
        Ok(Self {
            repo: RepoId::new(repo)?,
            revision: revision.map(str::to_owned),
            choice,
            address: None,
        })
    }

    /// What suits most people of a repository.
    pub fn best_of(repo: RepoId) -> Self {
        Self {
            repo,
            revision: None,
            choice: Choice::Best,
            address: None,
        }
    }

    /// A GGUF file anywhere else.
    fn elsewhere(text: &str, url: Url) -> Result<Self, HubError> {
        let wrong = |why| HubError::Name {
            name: text.to_owned(),
            why,
        };
        let host = url.host_str().unwrap_or_default();
        // Without the hub's hash, only the connection can be trusted.
        if url.scheme() != "https" && !is_this_machine(host) {
            return Err(wrong(
                "the address of a file outside the hub begins with https",
            ));
        }
        let file = url
            .path_segments()
            .and_then(Iterator::last)
            .unwrap_or_default()
            .to_owned();
        if !file.ends_with(".gguf") || !is_relative_path(&file) {
            return Err(wrong("the address of a file outside the hub ends in .gguf"));
        }
        if crate::select::is_part(&file) {
            return Err(wrong(
                "a model that is split over several files is pulled from the hub",
            ));
        }
        let words: String = host
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { ' ' })
            .collect();
        let host = words.split_whitespace().collect::<Vec<_>>().join("-");
        let repo = format!(
            "url/{}-{}",
            &host[..host.len().min(64)],
            &sha256(url.as_str())[..16]
        );
        Ok(Self {
            choice: Choice::File(file),
            address: Some(url),
            ..Self::best_of(RepoId::new(&repo)?)
        })
    }

    fn from_address(text: &str, endpoint: Option<&Url>) -> Result<Self, HubError> {
        let wrong = |why| HubError::Name {
            name: text.to_owned(),
            why,
        };
        let url = Url::parse(text).map_err(|_| wrong("it is not an address"))?;
        let is_public = url.host_str().is_some_and(|host| HUB_HOSTS.contains(&host));
        let path = match is_public {
            true => Some(url.path()),
            false => endpoint.and_then(|endpoint| path_below(endpoint, &url)),
        };
        let Some(path) = path else {
            return Self::elsewhere(text, url);
        };
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        match parts[..] {
            [org, name] if is_public || !name.ends_with(".gguf") => {
                Self::new(text, &format!("{org}/{name}"), None, Choice::Best)
            }
            [org, name, "tree", revision] => {
                Self::new(text, &format!("{org}/{name}"), Some(revision), Choice::Best)
            }
            [org, name, "resolve" | "blob", revision, ref file @ ..] if !file.is_empty() => {
                let file = Choice::File(file.join("/"));
                Self::new(text, &format!("{org}/{name}"), Some(revision), file)
            }
            // Who runs a hub may have other files beside it.
            _ if !is_public => Self::elsewhere(text, url),
            _ => Err(wrong("it is neither the page of a model nor a file of one")),
        }
    }

    /// The model that `text` names where `endpoint` is a hub beside the public one.
    fn parse(text: &str, endpoint: Option<&Url>) -> Result<Self, HubError> {
        if text.starts_with("https://") || text.starts_with("http://") {
            return Self::from_address(text, endpoint);
        }
        let name = HUB_HOSTS
            .iter()
            .find_map(|host| text.strip_prefix(host)?.strip_prefix('/'))
            .unwrap_or(text);
        let (name, revision) = match name.split_once('@') {
            // The revision may stand before or behind the choice.
            Some((name, rest)) => match rest.split_once(':') {
                Some((revision, choice)) => (format!("{name}:{choice}"), Some(revision)),
                None => (name.to_owned(), Some(rest)),
            },
            None => (name.to_owned(), None),
        };
        let (repo, choice) = match name.split_once(':') {
            None => (name.as_str(), Choice::Best),
            Some((repo, file)) if file.contains('.') => (repo, Choice::File(file.to_owned())),
            Some((repo, quant)) => (repo, Choice::Quant(quant.to_owned())),
        };
        Self::new(text, repo, revision, choice)
    }
}

/// The path of `url` behind that of `endpoint`, if it is an address there.
fn path_below<'u>(endpoint: &Url, url: &'u Url) -> Option<&'u str> {
    let path = url
        .path()
        .strip_prefix(endpoint.path().trim_end_matches('/'))?;
    (url.origin() == endpoint.origin() && path.starts_with('/')).then_some(path)
}

impl FromStr for ModelRef {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Self, HubError> {
        Self::parse(text, endpoint_of_env().as_ref())
    }
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(address) = &self.address {
            return f.write_str(address.as_str());
        }
        self.repo.fmt(f)?;
        match &self.choice {
            Choice::Best => {}
            Choice::Quant(name) | Choice::File(name) => write!(f, ":{name}")?,
        }
        match &self.revision {
            Some(revision) => write!(f, "@{revision}"),
            None => Ok(()),
        }
    }
}

/// Whether a host is this machine itself.
pub(crate) fn is_this_machine(host: &str) -> bool {
    matches!(host, "localhost" | "127.0.0.1" | "[::1]")
}

/// Whether a text from outside is a path that stays below the folder it is joined to: no `..`, no
/// root, no drive, no backslash, no control characters, of bounded length.
pub(crate) fn is_relative_path(text: &str) -> bool {
    (1..=512).contains(&text.len())
        && !text.contains(['\\', ':'])
        && !text.contains(char::is_control)
        && text.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> ModelRef {
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn names_have_a_choice_and_a_revision() {
        let plain = parse("org/name");
        assert_eq!(
            (plain.repo.as_str(), plain.revision()),
            ("org/name", "main")
        );
        assert_eq!(plain.choice, Choice::Best);
        for text in [
            "org/name:Q4_K_M@v1",
            "org/name@v1:Q4_K_M",
            "hf.co/org/name:Q4_K_M@v1",
        ] {
            let model = parse(text);
            assert_eq!(model.choice, Choice::Quant("Q4_K_M".to_owned()), "{text}");
            assert_eq!(model.to_string(), "org/name:Q4_K_M@v1", "{text}");
        }
        let file = parse("org/name:sub/a-00001-of-00002.gguf");
        assert_eq!(
            file.choice,
            Choice::File("sub/a-00001-of-00002.gguf".to_owned())
        );
    }

    #[test]
    fn addresses_of_the_hub_are_names() {
        assert_eq!(
            parse("https://huggingface.co/org/name").to_string(),
            "org/name"
        );
        let file = "https://huggingface.co/org/name/resolve/main/a/b.gguf?download=true";
        assert_eq!(parse(file).to_string(), "org/name:a/b.gguf@main");
    }

    #[test]
    fn addresses_of_another_hub_are_names_too() {
        for (endpoint, below, beside) in [
            ("https://hub.example", "", None),
            ("http://hub.example:8080/hf/", "/hf", Some("/org/name")),
        ] {
            let endpoint = Url::parse(endpoint).unwrap();
            let root = endpoint.origin().ascii_serialization();
            let parse = |path: &str| ModelRef::parse(&format!("{root}{path}"), Some(&endpoint));
            for (path, expected) in [
                ("/org/name", "org/name"),
                ("/org/name/tree/v1", "org/name@v1"),
                (
                    "/org/name/resolve/main/a/b.gguf?download=true",
                    "org/name:a/b.gguf@main",
                ),
            ] {
                let model = parse(&format!("{below}{path}")).unwrap();
                assert_eq!(
                    (model.to_string().as_str(), model.address),
                    (expected, None)
                );
            }
            if let Some(beside) = beside {
                assert!(parse(beside).is_err());
            }
        }
        // What is neither a page nor a file of a model is a file as anywhere else.
        let endpoint = Url::parse("https://hub.example").unwrap();
        for address in [
            "https://hub.example/m.gguf",
            "https://hub.example/files/m.gguf",
            "https://hub.example/a/b/c/m.gguf",
            "https://other.example/org/name/resolve/main/m.gguf",
        ] {
            let model = ModelRef::parse(address, Some(&endpoint)).unwrap();
            assert!(model.repo.as_str().starts_with("url/"), "{address}");
        }
        let public = "https://huggingface.co/org/name";
        assert_eq!(
            ModelRef::parse(public, Some(&endpoint)).unwrap(),
            parse("org/name")
        );
    }

    #[test]
    fn what_could_leave_the_cache_is_refused() {
        for text in [
            "name",
            "a/b/c",
            "../b",
            "a/..",
            "a/b:../c.gguf",
            "a/b:/c.gguf",
            "a/b:c\\d.gguf",
            "a/b@../../x",
            "a/b@",
            "a/-b",
            "a/b--c",
            "a/b:banana",
            "a/b:x/./y.gguf",
            "a b/c",
            "",
            "https://other.example/org/name",
        ] {
            let error = text.parse::<ModelRef>().expect_err(text);
            assert!(matches!(error, HubError::Name { .. }), "{text}: {error}");
        }
    }

    #[test]
    fn files_elsewhere_have_a_folder_of_their_own() {
        let address = "https://models.example/a/m.gguf?key=1";
        let model = parse(address);
        assert!(
            model.repo.as_str().starts_with("url/models-example-"),
            "{}",
            model.repo
        );
        assert_eq!(model.choice, Choice::File("m.gguf".to_owned()));
        assert_eq!(model.to_string(), address);
        assert_ne!(model.repo, parse("https://models.example/b/m.gguf").repo);
        assert!("http://127.0.0.1:80/m.gguf".parse::<ModelRef>().is_ok());
        for wrong in [
            "http://models.example/m.gguf",
            "https://models.example/m.bin",
            "https://models.example/",
            "https://models.example/m-00001-of-00002.gguf",
        ] {
            assert!(wrong.parse::<ModelRef>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn folders_are_those_of_the_shared_cache() {
        let repo = RepoId::new("Qwen/Qwen3-8B").unwrap();
        assert_eq!(repo.folder(), "models--Qwen--Qwen3-8B");
        assert_eq!(RepoId::of_folder(&repo.folder()), Some(repo));
        assert_eq!(RepoId::of_folder("datasets--a--b"), None);
    }
}
