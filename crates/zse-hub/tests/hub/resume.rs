//! Pulls that end early: what came is kept, whichever connection brought it, and nothing of it is
//! fetched a second time.

use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, fs};

use zse_hub::{Hub, HubError, Progress};
use zse_hub_mock::{Fault, Server};

use crate::pull::{FILE, assert_nothing, assert_whole};
use crate::{CHUNK, Client, config, contents, parse};

const CHUNKS: usize = 24;
const CONNECTIONS: usize = 8;

/// A server of [`CHUNKS`] chunks and a bit, which is silent on three connections after half a chunk.
fn stalling() -> (Server, Vec<u8>) {
    let bytes = contents(CHUNKS * CHUNK + 7);
    let server = Server::start(&[(FILE, &bytes)]);
    server.set(|s| s.faults = [Fault::Stall(CHUNK / 2); 3].into());
    (server, bytes)
}

/// Bytes that do not come from such a server.
const MISSING: usize = 3 * (CHUNK - CHUNK / 2);

/// Pulls until `came` bytes are there, as somebody who presses Ctrl-C then.
fn pull_until(client: &Client, model: &str, came: usize) {
    let stop = |p: &Progress| match p.done >= came as u64 {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    };
    let pulled = client.hub().pull(&parse(model), CONNECTIONS, stop);
    let error = pulled.unwrap_err();
    assert!(matches!(error, HubError::Interrupted), "{error}");
    assert_nothing(client);
}

/// A pull of many connections that was stopped when nothing more came.
fn interrupted() -> (Server, Vec<u8>, Client) {
    let (server, bytes) = stalling();
    let client = Client::of(&server);
    pull_until(&client, "org/name", bytes.len() - MISSING);
    server.seen();
    (server, bytes, client)
}

#[test]
fn many_connections_fetch_only_what_did_not_come() {
    let (server, bytes, client) = interrupted();
    let pulled = client.pull("org/name", CONNECTIONS).unwrap();
    assert_eq!(pulled.fetched, MISSING as u64);
    assert_eq!(server.asked(), MISSING);
    assert_whole(&client, &bytes);
}

#[test]
fn so_they_do_where_nobody_knows_the_hash() {
    let (server, bytes) = stalling();
    let client = Client::of(&server);
    let address = format!("{}/cdn/{FILE}", server.address);
    pull_until(&client, &address, bytes.len() - MISSING);
    server.seen();
    let pulled = client.pull(&address, CONNECTIONS).unwrap();
    assert_eq!(pulled.fetched, MISSING as u64);
    assert!(fs::read(&pulled.model.path).unwrap() == bytes);
    // Beside them the first byte, to see what is there.
    let asked = server.asked();
    assert!((MISSING..MISSING + 2).contains(&asked), "{asked}");
}

/// Names the server to the process that is killed, and the folder of its cache.
const ADDRESS: &str = "ZSE_HUB_TEST_ADDRESS";
const CACHE: &str = "ZSE_HUB_TEST_CACHE";

#[test]
fn a_pull_that_is_killed_is_gone_on_with() {
    if let (Ok(address), Some(cache)) = (env::var(ADDRESS), env::var_os(CACHE)) {
        // The process that is killed.
        let hub = Hub::new(config(&address, Path::new(&cache))).unwrap();
        let pulled = hub.pull(&parse("org/name"), CONNECTIONS, |_| {
            ControlFlow::Continue(())
        });
        panic!("it was to be killed: {pulled:?}");
    }
    let (server, bytes) = stalling();
    let client = Client::of(&server);
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "resume::a_pull_that_is_killed_is_gone_on_with"])
        .env(ADDRESS, &server.address)
        .env(CACHE, client.folder.path())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while noted(&client) != (bytes.len() - MISSING) as u64 {
        assert!(
            begun.elapsed() < Duration::from_secs(120),
            "it stands still"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    // At once, with no time for a last word.
    child.kill().unwrap();
    child.wait().unwrap();
    assert_nothing(&client);
    server.seen();
    client.pull("org/name", CONNECTIONS).unwrap();
    assert_eq!(server.asked(), MISSING);
    assert_whole(&client, &bytes);
}

/// The bytes that a map speaks of.
fn noted(client: &Client) -> u64 {
    let map = client.unfinished(".zse-map.incomplete");
    let map = map.and_then(|path| fs::read(path).ok()).unwrap_or_default();
    let entries = map.as_chunks::<8>().0.iter().skip(3);
    entries.map(|&n| u64::from_le_bytes(n)).sum()
}

#[test]
fn a_map_that_lies_is_found_out_by_the_hash() {
    let (server, bytes, client) = interrupted();
    let path = client.unfinished(".zse-map.incomplete").unwrap();
    let mut map = fs::read(&path).unwrap();
    // It says that all chunks came.
    for entry in map[24..].as_chunks_mut().0 {
        *entry = (CHUNK as u64).to_le_bytes();
    }
    fs::write(&path, map).unwrap();
    let pulled = client.pull("org/name", CONNECTIONS).unwrap();
    assert_eq!(pulled.fetched, bytes.len() as u64);
    assert_eq!(server.asked(), bytes.len());
    assert_whole(&client, &bytes);
}

#[test]
fn bytes_that_were_changed_meanwhile_are_found_out_by_the_hash() {
    let (server, bytes, client) = interrupted();
    let path = client.unfinished(".zse.incomplete").unwrap();
    let mut kept = fs::read(&path).unwrap();
    let last = kept.len() - 1;
    kept[last] ^= 1;
    fs::write(&path, kept).unwrap();
    client.pull("org/name", CONNECTIONS).unwrap();
    assert_eq!(server.asked(), MISSING + bytes.len());
    assert_whole(&client, &bytes);
}

#[test]
fn a_server_whose_contents_are_wrong_is_asked_anew_once() {
    let (server, bytes, client) = interrupted();
    // Of the same length, but what is here is not its beginning.
    let cdn = Server::start(&[(FILE, &contents(bytes.len() + 1)[1..])]);
    server.set(|s| s.cdn = Some(cdn.address.clone()));
    let error = client.pull("org/name", CONNECTIONS).unwrap_err();
    assert!(matches!(error, HubError::Contents { .. }), "{error}");
    assert_eq!(cdn.asked(), MISSING + bytes.len());
    assert_nothing(&client);
    assert_eq!(client.unfinished(".incomplete"), None);
}

#[test]
fn without_a_sound_map_all_is_fetched_anew() {
    let damages: [fn(Vec<u8>) -> Vec<u8>; 4] = [
        |_| Vec::new(),
        |map| map[..map.len() - 1].to_vec(),
        |map| [&map[..8], &[0xff; 8], &map[16..]].concat(),
        |map| map.iter().map(|byte| !byte).collect(),
    ];
    for damage in damages {
        let (server, bytes, client) = interrupted();
        let path = client.unfinished(".zse-map.incomplete").unwrap();
        fs::write(&path, damage(fs::read(&path).unwrap())).unwrap();
        client.pull("org/name", CONNECTIONS).unwrap();
        assert_eq!(server.asked(), bytes.len());
        assert_whole(&client, &bytes);
    }
}

#[test]
fn chunks_of_another_size_go_on_behind_the_beginning() {
    let bytes = contents(6 * CHUNK);
    let server = Server::start(&[(FILE, &bytes)]);
    server.set(|s| s.faults = [Fault::Cut(CHUNK), Fault::Cut(CHUNK)].into());
    server.set(|s| s.faults.extend([Fault::Status(503); 100]));
    let mut client = Client::of(&server);
    client.pull("org/name", 1).unwrap_err();
    server.set(|s| s.faults.clear());
    client.config.chunk = 700;
    let fetched = client.pull("org/name", 3).unwrap().fetched;
    assert_eq!(fetched, 4 * CHUNK as u64);
    assert_whole(&client, &bytes);
}

#[test]
fn a_server_that_gives_ranges_no_more_is_read_around_what_is_here() {
    let (server, bytes, client) = interrupted();
    server.set(|s| s.no_ranges = true);
    let pulled = client.pull("org/name", CONNECTIONS).unwrap();
    assert_eq!(pulled.fetched, MISSING as u64);
    assert_whole(&client, &bytes);
}
