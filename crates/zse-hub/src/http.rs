//! Requests: redirects followed by hand, the token kept to its host, waits between attempts.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, LOCATION, RANGE, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode, Url, redirect};
use serde::de::DeserializeOwned;

use crate::HubError;
use crate::config::{Config, Patience};
use crate::name::is_this_machine;

/// Hosts that a request may be sent on to, one after the other.
const MAX_REDIRECTS: usize = 8;

/// Most bytes of a JSON answer: repositories of thousands of files stay below.
const MAX_JSON: usize = 32 << 20;

/// Sends requests to the hub, and to where it redirects them.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    config: Config,
}

/// What one attempt met, where another may do better.
#[derive(Debug)]
pub(crate) struct Setback {
    pub(crate) why: String,
    /// What the server asks to wait.
    pub(crate) wait: Option<Duration>,
}

/// Why an attempt brought nothing.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Another may.
    Again(Setback),
    /// No other will.
    Final(HubError),
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Self {
        Self::Final(error)
    }
}

impl Failure {
    /// Something that may have gone better at another time.
    pub(crate) fn again(why: impl ToString) -> Self {
        Self::Again(Setback {
            why: why.to_string(),
            wait: None,
        })
    }

    /// A connection that failed. Addresses are left out: those of files are signed.
    pub(crate) fn of_connection(error: reqwest::Error) -> Self {
        Self::again(innermost(&error.without_url()))
    }
}

/// The innermost cause says what happened.
fn innermost(error: &reqwest::Error) -> &dyn std::error::Error {
    let mut error: &dyn std::error::Error = error;
    while let Some(cause) = error.source() {
        error = cause;
    }
    error
}

impl Client {
    pub(crate) fn new(config: Config) -> Result<Self, HubError> {
        // Another part of the process may have chosen one before; that is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let host = config.endpoint.host_str().unwrap_or_default();
        let builder = || {
            let http = reqwest::Client::builder()
                .user_agent(concat!("zse/", env!("CARGO_PKG_VERSION")))
                .redirect(redirect::Policy::none())
                .connect_timeout(config.patience.connect)
                .read_timeout(config.patience.idle);
            // A proxy cannot reach what is on this machine.
            match is_this_machine(host) {
                true => http.no_proxy(),
                false => http,
            }
        };
        let http = builder().build().or_else(|error| {
            // A system without certificates: none are needed for a hub without TLS. Where it redirects
            // to a host with TLS, that is not trusted.
            match config.endpoint.scheme() {
                "http" => builder().tls_certs_only([]).build(),
                _ => Err(error),
            }
        });
        let http = http.map_err(|error| HubError::Config {
            name: "the system's TLS certificates or proxy".to_owned(),
            why: format!(
                "{}; certificates are those of the package `ca-certificates`, or of SSL_CERT_FILE",
                innermost(&error)
            ),
        })?;
        Ok(Self { http, config })
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// The endpoint's address with these parts of a path, each escaped.
    pub(crate) fn endpoint<'a>(&self, parts: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.config.endpoint.clone();
        url.path_segments_mut()
            .expect("an endpoint is http or https: its path has parts")
            .pop_if_empty()
            .extend(parts);
        url
    }

    /// Sends a request and follows redirects; the answer, and the address that gave it. The token
    /// goes to the endpoint alone, whatever host a redirect names.
    pub(crate) async fn send(
        &self,
        method: &Method,
        url: &Url,
        range: Option<(u64, u64)>,
    ) -> Result<(Response, Url), Failure> {
        let mut url = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send_once(method, &url, range).await?;
            if !response.status().is_redirection() {
                return Ok((response, url));
            }
            url = next_address(&url, response.headers())?;
        }
        Err(Failure::Final(HubError::Answer {
            url: shown(&url),
            why: format!("more than {MAX_REDIRECTS} redirects"),
        }))
    }

    /// Sends a request to one address, with the token if that is the endpoint's.
    pub(crate) async fn send_once(
        &self,
        method: &Method,
        url: &Url,
        range: Option<(u64, u64)>,
    ) -> Result<Response, Failure> {
        let mut request = self.http.request(method.clone(), url.clone());
        if let Some((first, last)) = range {
            request = request.header(RANGE, format!("bytes={first}-{last}"));
        }
        if let Some(token) = self.config.token.as_ref().filter(|_| self.is_endpoint(url)) {
            request = request.header(AUTHORIZATION, format!("Bearer {}", token.secret()));
        }
        let response = request.send().await.map_err(Failure::of_connection)?;
        match response.status() {
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Err(setback(&response)),
            status if status.is_server_error() => Err(setback(&response)),
            _ => Ok(response),
        }
    }

    fn is_endpoint(&self, url: &Url) -> bool {
        url.origin() == self.config.endpoint.origin()
    }

    /// The answer of the hub's API to a GET, as JSON. `what` is what is asked for, for messages.
    pub(crate) async fn json<T: DeserializeOwned>(
        &self,
        url: &Url,
        what: &str,
    ) -> Result<T, HubError> {
        self.refuse_offline(what)?;
        let mut attempts = Attempts::new(&self.config.patience, url);
        loop {
            let failure = match self.json_once(url, what).await {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            attempts.wait(failure).await?;
        }
    }

    async fn json_once<T: DeserializeOwned>(&self, url: &Url, what: &str) -> Result<T, Failure> {
        let (mut response, last) = self.send(&Method::GET, url, None).await?;
        self.check_status(&response, what, &last)?;
        let mut body = Vec::new();
        while let Some(bytes) = response.chunk().await.map_err(Failure::of_connection)? {
            if body.len() + bytes.len() > MAX_JSON {
                return Err(Failure::Final(HubError::Answer {
                    url: shown(&last),
                    why: format!("more than {MAX_JSON} bytes of JSON"),
                }));
            }
            body.extend_from_slice(&bytes);
        }
        serde_json::from_slice(&body).map_err(|error| {
            Failure::Final(HubError::Answer {
                url: shown(&last),
                why: error.to_string(),
            })
        })
    }

    /// An error where the answer is not a success.
    pub(crate) fn check_status(
        &self,
        response: &Response,
        what: &str,
        url: &Url,
    ) -> Result<(), HubError> {
        let with_token = self.config.token.is_some();
        match response.status() {
            status if status.is_success() => Ok(()),
            // Licences and tokens are the hub's: elsewhere there are none to ask for.
            status if !self.is_endpoint(url) => Err(HubError::Answer {
                url: shown(url),
                why: format!("status {status}"),
            }),
            // The hub answers 401 for what does not exist as well, so as not to tell.
            StatusCode::NOT_FOUND | StatusCode::GONE => Err(self.not_found(what)),
            StatusCode::UNAUTHORIZED if is_token_refused(response.headers()) => {
                Err(HubError::Token {
                    endpoint: shown(&self.config.endpoint),
                })
            }
            StatusCode::UNAUTHORIZED if !response.headers().contains_key("x-error-code") => {
                Err(self.not_found(what))
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let code = response
                    .headers()
                    .get("x-error-code")
                    .and_then(|v| v.to_str().ok());
                match code {
                    Some("RepoNotFound" | "RevisionNotFound" | "EntryNotFound") => {
                        Err(self.not_found(what))
                    }
                    _ => Err(HubError::Denied {
                        what: what.to_owned(),
                        with_token,
                    }),
                }
            }
            status => Err(HubError::Answer {
                url: shown(url),
                why: format!("status {status}"),
            }),
        }
    }

    fn not_found(&self, what: &str) -> HubError {
        HubError::NotFound {
            what: what.to_owned(),
            endpoint: shown(&self.config.endpoint),
            with_token: self.config.token.is_some(),
        }
    }

    pub(crate) fn refuse_offline(&self, what: &str) -> Result<(), HubError> {
        match self.config.offline {
            true => Err(HubError::Offline {
                what: what.to_owned(),
            }),
            false => Ok(()),
        }
    }
}

/// An address for messages: those of files carry signatures in their queries.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Fails for addresses that cannot have a user: then there is none to hide.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.as_str().trim_end_matches('/').to_owned()
}

/// Whether the hub refuses the token itself: then it says nothing of what was asked for.
fn is_token_refused(headers: &HeaderMap) -> bool {
    let message = headers.get("x-error-message");
    message
        .and_then(|value| value.to_str().ok())
        .is_some_and(|text| text.starts_with("Invalid credentials"))
}

/// Where a redirect leads: http or https, and never from https back to http.
fn next_address(url: &Url, headers: &HeaderMap) -> Result<Url, Failure> {
    let wrong = |why: &str| {
        Failure::Final(HubError::Answer {
            url: shown(url),
            why: why.to_owned(),
        })
    };
    let to = headers.get(LOCATION).and_then(|value| value.to_str().ok());
    let next = to
        .and_then(|to| url.join(to).ok())
        .ok_or_else(|| wrong("a redirect to nowhere"))?;
    match (url.scheme(), next.scheme()) {
        (_, "https") | ("http", "http") => Ok(next),
        _ => Err(wrong("a redirect to an address that is not https")),
    }
}

/// A server that asks to come again later.
fn setback(response: &Response) -> Failure {
    let seconds = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|v| v.to_str().ok()?.trim().parse().ok());
    Failure::Again(Setback {
        why: format!("status {}", response.status()),
        wait: seconds.map(Duration::from_secs),
    })
}

/// Attempts at one thing: how many there were, and how long to wait before the next.
#[derive(Debug)]
pub(crate) struct Attempts<'a> {
    patience: &'a Patience,
    url: String,
    failed: u32,
}

impl<'a> Attempts<'a> {
    pub(crate) fn new(patience: &'a Patience, url: &Url) -> Self {
        Self {
            patience,
            url: shown(url),
            failed: 0,
        }
    }

    /// Something came: the attempts before count no longer.
    pub(crate) fn reset(&mut self) {
        self.failed = 0;
    }

    /// Waits before the next attempt, or gives up.
    pub(crate) async fn wait(&mut self, failure: Failure) -> Result<(), HubError> {
        let setback = match failure {
            Failure::Again(setback) => setback,
            Failure::Final(error) => return Err(error),
        };
        self.failed += 1;
        if self.failed >= self.patience.attempts {
            return Err(HubError::Network {
                url: self.url.clone(),
                why: setback.why,
            });
        }
        tokio::time::sleep(self.pause(setback.wait, random())).await;
        Ok(())
    }

    /// What the server asks for, or the first wait doubled with each failure; then up to half of it
    /// more or less, so that many clients do not come back together. `random` is any number.
    fn pause(&self, asked: Option<Duration>, random: u64) -> Duration {
        let longest = self.patience.longest_wait;
        if let Some(asked) = asked {
            return asked.min(longest);
        }
        let doubled = self
            .patience
            .first_wait
            .saturating_mul(1 << (self.failed - 1).min(16));
        let share = 0.5 + (random % 1000) as f64 / 2000.0;
        doubled.min(longest).mul_f64(share)
    }
}

/// A number that differs from call to call and from process to process, good enough to spread clients.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redirect(from: &str, to: &str) -> Result<Url, Failure> {
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, to.parse().unwrap());
        next_address(&Url::parse(from).unwrap(), &headers)
    }

    #[test]
    fn redirects_stay_with_https() {
        assert_eq!(
            redirect("https://a/b/c", "/d").unwrap().as_str(),
            "https://a/d"
        );
        assert!(redirect("http://a/b", "https://b/").is_ok());
        assert!(redirect("https://a/b", "http://b/").is_err());
        assert!(redirect("https://a/b", "file:///etc/passwd").is_err());
    }

    #[test]
    fn addresses_are_shown_without_secrets() {
        let url = Url::parse("https://user:word@cdn.example/file?Signature=secret#x").unwrap();
        assert_eq!(shown(&url), "https://cdn.example/file");
    }

    #[test]
    fn waits_grow_to_a_limit_and_heed_the_server() {
        let patience = Patience {
            first_wait: Duration::from_millis(100),
            longest_wait: Duration::from_secs(1),
            ..Patience::default()
        };
        let url = Url::parse("http://a/").unwrap();
        let pause = |failed, asked, random| {
            let attempts = Attempts {
                failed,
                ..Attempts::new(&patience, &url)
            };
            attempts.pause(asked, random).as_millis()
        };
        assert_eq!(pause(1, None, 0), 50);
        assert_eq!(pause(3, None, 0), 200);
        assert_eq!(pause(40, None, 0), 500);
        assert!(pause(3, None, 999) <= 400);
        assert_eq!(pause(1, Some(Duration::from_millis(700)), 5), 700);
        assert_eq!(pause(1, Some(Duration::from_secs(90)), 5), 1000);
    }
}
