//! Looking: lists, search, headers, offline, errors that say what to do, removal.

use std::fs;

use zse_hub::{HubError, Order, Search};

use crate::{CHUNK, Client, contents, parse};
use zse_hub_mock::{Fault, Server};

#[test]
fn errors_say_what_to_do() {
    let server = Server::start(&[("m-Q8_0.gguf", b"x")]);
    let client = Client::of(&server);
    let error = client.pull("org/absent", 1).unwrap_err();
    assert!(matches!(error, HubError::NotFound { .. }), "{error}");
    assert!(error.to_string().contains("HF_TOKEN"), "{error}");
    let error = client.pull("org/name:Q4_K_M", 1).unwrap_err().to_string();
    assert!(
        error.contains("Q4_K_M") && error.contains("Q8_0"),
        "{error}"
    );
    server.set(|s| s.gated = true);
    let error = client.pull("org/name", 1).unwrap_err();
    assert!(matches!(error, HubError::Denied { .. }), "{error}");
    assert!(error.to_string().contains("accept its licence"), "{error}");
    server.set(|s| s.refuses_tokens = true);
    let error = client.with_token().pull("org/name", 1).unwrap_err();
    assert!(matches!(error, HubError::Token { .. }), "{error}");
    assert!(error.to_string().contains("unset HF_TOKEN"), "{error}");
}

#[test]
fn a_busy_hub_is_asked_again() {
    let server = Server::start(&[("config.json", b"{\"a\": 1}")]);
    let client = Client::of(&server);
    let hub = client.hub();
    let info = hub.info(&parse("org/name")).unwrap();
    server.set(|s| s.faults = [Fault::Status(429), Fault::Status(502), Fault::Cut(0)].into());
    assert_eq!(
        hub.read(&info, "config.json", 0..100).unwrap(),
        b"{\"a\": 1}"
    );
}

#[test]
fn some_bytes_of_a_file_are_read_with_and_without_ranges() {
    let bytes = contents(3 * CHUNK);
    let server = Server::start(&[("a.gguf", &bytes)]);
    let client = Client::of(&server);
    let hub = client.hub();
    let info = hub.info(&parse("org/name")).unwrap();
    for no_ranges in [false, true] {
        server.set(|s| s.no_ranges = no_ranges);
        assert_eq!(hub.read(&info, "a.gguf", 10..500).unwrap(), bytes[10..500]);
    }
    server.set(|s| {
        s.no_ranges = false;
        s.faults = [Fault::OtherRange].into();
    });
    assert_eq!(hub.read(&info, "a.gguf", 10..500).unwrap(), bytes[10..500]);
    assert_eq!(hub.read(&info, "a.gguf", 10..10).unwrap(), b"");
    let error = hub.read(&info, "a.gguf", 0..1 << 40).unwrap_err();
    assert!(matches!(error, HubError::Answer { .. }), "{error}");
}

#[test]
fn searches_give_only_sound_names() {
    let server = Server::start(&[]);
    let search = Search {
        text: Some("good"),
        gguf_only: true,
        order: Order::Downloads,
        limit: 10,
    };
    let found = Client::of(&server).hub().search(&search).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].id.as_str(), found[0].gguf, found[0].gated),
        ("org/good", true, true)
    );
}

#[test]
fn offline_uses_what_is_here_and_asks_nobody() {
    let bytes = contents(CHUNK);
    let server = Server::start(&[("m.gguf", &bytes)]);
    let mut client = Client::of(&server);
    client.config.offline = true;
    let error = client.pull("org/name", 1).unwrap_err();
    assert!(matches!(error, HubError::Offline { .. }), "{error}");
    client.config.offline = false;
    let pulled = client.pull("org/name", 1).unwrap();
    client.config.offline = true;
    server.seen();
    assert_eq!(client.pull("org/name", 1).unwrap().model, pulled.model);
    assert!(server.seen().is_empty());
}

#[test]
fn models_are_listed_and_removed_one_by_one() {
    let (a, b) = (contents(CHUNK), contents(2 * CHUNK));
    let server = Server::start(&[("m-Q4_K_M.gguf", &a), ("m-Q8_0.gguf", &b)]);
    let client = Client::of(&server);
    client.pull("org/name", 1).unwrap();
    client.pull("org/name:Q8_0", 1).unwrap();
    let hub = client.hub();
    let cache = hub.cache();
    let quants = || -> Vec<_> {
        cache
            .list()
            .unwrap()
            .into_iter()
            .filter_map(|m| m.quant)
            .collect()
    };
    assert_eq!(quants(), ["Q4_K_M", "Q8_0"]);
    let small = cache.find(&parse("org/name:q4_k_m")).unwrap();
    assert_eq!(cache.remove(&small).unwrap(), a.len() as u64);
    assert_eq!(quants(), ["Q8_0"]);
    let large = cache.find(&parse("org/name")).unwrap();
    assert_eq!(cache.remove(&large).unwrap(), b.len() as u64);
    assert!(cache.list().unwrap().is_empty() && !client.repo().exists());
    assert!(fs::exists(client.folder.path()).unwrap());
}
