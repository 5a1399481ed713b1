//! Whole files under their names, and nothing else, whatever the server does.

use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::{env, fs};

use zse_hub::{Hub, HubError};

use crate::{CHUNK, Client, config, contents, parse};
use zse_hub_mock::{COMMIT, Fault, Server, sha256};

pub(crate) const FILE: &str = "m-Q4_K_M.gguf";

#[track_caller]
pub(crate) fn assert_whole(client: &Client, bytes: &[u8]) {
    let found = client
        .hub()
        .cache()
        .find(&parse("org/name"))
        .expect("it is here");
    assert!(
        fs::read(&found.path).unwrap() == bytes,
        "the contents are the server's"
    );
    assert_eq!(client.unfinished(".incomplete"), None);
}

#[track_caller]
pub(crate) fn assert_nothing(client: &Client) {
    assert_eq!(client.final_names(), Vec::<String>::new());
    assert_eq!(client.hub().cache().find(&parse("org/name")), None);
}

#[test]
fn files_lie_as_huggingface_hub_lays_them() {
    let bytes = contents(10 * CHUNK + 7);
    let server = Server::start(&[(FILE, &bytes), ("m-Q8_0.gguf", &bytes[..5])]);
    let client = Client::of(&server);
    let pulled = client.pull("org/name", 4).unwrap();
    assert_eq!(pulled.fetched, bytes.len() as u64);
    assert_eq!(pulled.quants, ["Q4_K_M", "Q8_0"]);
    assert_eq!(pulled.model.quant.as_deref(), Some("Q4_K_M"));
    assert_whole(&client, &bytes);
    let pointer = client.repo().join("snapshots").join(COMMIT).join(FILE);
    assert_eq!(pulled.model.path, pointer);
    assert_eq!(
        fs::read_to_string(client.repo().join("refs/main")).unwrap(),
        COMMIT
    );
    let blob = client.repo().join("blobs").join(sha256(&bytes));
    assert_eq!(fs::read(&blob).unwrap(), bytes);
    #[cfg(unix)]
    assert_eq!(
        fs::read_link(&pointer).unwrap().to_str(),
        Some(format!("../../blobs/{}", sha256(&bytes)).as_str())
    );
    // The second time nothing is fetched.
    server.seen();
    assert_eq!(client.pull("org/name", 4).unwrap().fetched, 0);
    assert_eq!(server.asked(), 0);
}

#[test]
fn what_another_program_has_fetched_is_not_fetched_again() {
    let bytes = contents(3 * CHUNK);
    let server = Server::start(&[(FILE, &bytes)]);
    let client = Client::of(&server);
    let blobs = client.repo().join("blobs");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join(sha256(&bytes)), &bytes).unwrap();
    assert_eq!(client.pull("org/name", 4).unwrap().fetched, 0);
    assert_whole(&client, &bytes);
}

#[test]
fn a_beginning_that_another_program_left_is_gone_on_with() {
    let bytes = contents(5 * CHUNK);
    let server = Server::start(&[(FILE, &bytes)]);
    let client = Client::of(&server);
    let blobs = client.repo().join("blobs");
    fs::create_dir_all(&blobs).unwrap();
    let name = format!("{}.incomplete", sha256(&bytes));
    fs::write(blobs.join(name), &bytes[..1234]).unwrap();
    assert_eq!(
        client.pull("org/name", 3).unwrap().fetched,
        (bytes.len() - 1234) as u64
    );
    assert_whole(&client, &bytes);
}

#[test]
fn broken_connections_cost_at_most_one_chunk() {
    let bytes = contents(8 * CHUNK);
    for connections in [1, 4] {
        let server = Server::start(&[(FILE, &bytes)]);
        server.set(|s| s.faults = [Fault::Cut(0), Fault::Cut(CHUNK / 2), Fault::Cut(1)].into());
        let client = Client::of(&server);
        let pulled = client.pull("org/name", connections).unwrap();
        assert_whole(&client, &bytes);
        // What came before a connection broke is not fetched a second time.
        assert_eq!(pulled.fetched, bytes.len() as u64);
        // A connection that breaks may take what was sent on it along: then all of its chunk is
        // asked for again.
        let again = server.asked() - bytes.len();
        assert!(again <= 3 * CHUNK, "{again} bytes were asked for again");
    }
}

#[test]
fn a_stalled_connection_is_given_up() {
    let bytes = contents(4 * CHUNK);
    let server = Server::start(&[(FILE, &bytes)]);
    server.set(|s| s.faults = [Fault::Stall(CHUNK / 2), Fault::Stall(0)].into());
    let mut client = Client::of(&server);
    client.config.patience.idle = Duration::from_millis(300);
    // A slow machine may look stalled: that must not end the test.
    client.config.patience.attempts = 1000;
    client.pull("org/name", 2).unwrap();
    assert_whole(&client, &bytes);
}

#[test]
fn refusals_and_wrong_answers_are_tried_again() {
    let bytes = contents(6 * CHUNK);
    for fault in [
        Fault::Status(429),
        Fault::Status(503),
        Fault::Status(500),
        Fault::TooShort,
        Fault::OtherRange,
    ] {
        let server = Server::start(&[(FILE, &bytes)]);
        server.set(|s| s.faults = [fault; 3].into());
        let client = Client::of(&server);
        client
            .pull("org/name", 2)
            .unwrap_or_else(|e| panic!("{fault:?}: {e}"));
        assert_whole(&client, &bytes);
    }
}

#[test]
fn a_server_that_never_answers_well_is_given_up_and_what_came_is_kept() {
    let bytes = contents(6 * CHUNK);
    let server = Server::start(&[(FILE, &bytes)]);
    let client = Client::of(&server);
    // One connection: the first two chunks come, then nothing more does.
    server.set(|s| s.faults = [Fault::Cut(CHUNK), Fault::Cut(CHUNK)].into());
    server.set(|s| s.faults.extend([Fault::Status(503); 100]));
    let error = client.pull("org/name", 1).unwrap_err();
    assert!(matches!(error, HubError::Network { .. }), "{error}");
    assert!(error.to_string().contains("503"), "{error}");
    assert_nothing(&client);
    assert_eq!(client.incomplete().as_deref(), Some(&bytes[..2 * CHUNK]));
    server.set(|s| s.faults.clear());
    assert_eq!(
        client.pull("org/name", 1).unwrap().fetched,
        4 * CHUNK as u64
    );
    assert_whole(&client, &bytes);
}

#[test]
fn contents_that_are_not_those_promised_are_dropped() {
    let bytes = contents(3 * CHUNK);
    let server = Server::start(&[(FILE, &bytes)]);
    let cdn = Server::start(&[(FILE, &contents(4 * CHUNK)[CHUNK..])]);
    server.set(|s| s.cdn = Some(cdn.address.clone()));
    let client = Client::of(&server);
    let error = client.pull("org/name", 2).unwrap_err();
    assert!(matches!(error, HubError::Contents { .. }), "{error}");
    assert!(error.to_string().contains(&sha256(&bytes)), "{error}");
    assert_nothing(&client);
    assert_eq!(client.unfinished(".incomplete"), None);
}

#[test]
fn a_length_that_is_not_the_promised_one_is_refused() {
    let server = Server::start(&[(FILE, &contents(3 * CHUNK))]);
    for other in [2 * CHUNK, 4 * CHUNK] {
        let cdn = Server::start(&[(FILE, &contents(other))]);
        server.set(|s| s.cdn = Some(cdn.address.clone()));
        let client = Client::of(&server);
        let error = client.pull("org/name", 2).unwrap_err();
        assert!(matches!(error, HubError::Changed { .. }), "{error}");
        assert_nothing(&client);
    }
}

#[test]
fn parts_of_two_versions_are_not_put_together() {
    let bytes = contents(8 * CHUNK);
    let server = Server::start(&[(FILE, &bytes)]);
    server.set(|s| s.changes_after = Some(3));
    let client = Client::of(&server);
    let error = client.pull("org/name", 1).unwrap_err();
    assert!(matches!(error, HubError::Changed { .. }), "{error}");
    assert_nothing(&client);
    assert_eq!(client.unfinished(".incomplete"), None);
}

#[test]
fn tags_that_are_no_hashes_do_not_count_where_the_hash_is_known() {
    let bytes = contents(8 * CHUNK);
    let server = Server::start(&[(FILE, &bytes)]);
    server.set(|s| s.odd_tags = true);
    let client = Client::of(&server);
    client.pull("org/name", 2).unwrap();
    assert_whole(&client, &bytes);
}

#[test]
fn a_server_without_ranges_is_read_from_the_start() {
    let bytes = contents(9 * CHUNK);
    let server = Server::start(&[(FILE, &bytes)]);
    server.set(|s| s.no_ranges = true);
    let client = Client::of(&server);
    // Parallel requests meet no fault; those of the whole file do.
    server.set(|s| {
        s.faults = [
            Fault::Cut(0),
            Fault::Cut(0),
            Fault::Cut(5 * CHUNK),
            Fault::Cut(CHUNK),
        ]
        .into()
    });
    client.pull("org/name", 2).unwrap();
    assert_whole(&client, &bytes);
}

#[test]
fn the_token_stays_with_the_hub() {
    let bytes = contents(4 * CHUNK);
    let server = Server::start(&[(FILE, &bytes)]);
    let cdn = Server::start(&[(FILE, &bytes)]);
    server.set(|s| {
        s.cdn = Some(cdn.address.clone());
        s.gated = true;
    });
    let client = Client::of(&server).with_token();
    client.pull("org/name", 2).unwrap();
    assert_whole(&client, &bytes);
    assert!(server.seen().iter().all(|seen| seen.has_token));
    let elsewhere = cdn.seen();
    assert!(!elsewhere.is_empty() && elsewhere.iter().all(|seen| !seen.has_token));
}

#[test]
fn an_interrupted_pull_keeps_what_came_and_goes_on() {
    let bytes = contents(6 * CHUNK);
    let server = Server::start(&[(FILE, &bytes)]);
    // The first two chunks come, then the server is silent until the client leaves.
    server.set(|s| s.faults = [Fault::Cut(CHUNK), Fault::Cut(CHUNK), Fault::Stall(10)].into());
    let client = Client::of(&server);
    let stop = |p: &zse_hub::Progress| match p.done > 2 * CHUNK as u64 {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    };
    let error = client.hub().pull(&parse("org/name"), 1, stop).unwrap_err();
    assert!(matches!(error, HubError::Interrupted), "{error}");
    assert_nothing(&client);
    // So is what came of the third.
    let kept = client.incomplete().expect("it is kept");
    assert!(kept.len() > 2 * CHUNK && kept == bytes[..kept.len()]);
    assert_eq!(
        client.pull("org/name", 1).unwrap().fetched,
        (bytes.len() - kept.len()) as u64
    );
    assert_whole(&client, &bytes);
}

#[test]
fn two_programs_do_not_write_one_file() {
    let bytes = contents(CHUNK);
    let server = Server::start(&[(FILE, &bytes)]);
    let client = Client::of(&server);
    let locks = client.folder.path().join(".locks/models--org--name");
    fs::create_dir_all(&locks).unwrap();
    let lock = fs::File::create(locks.join(format!("{}.lock", sha256(&bytes)))).unwrap();
    lock.lock().unwrap();
    let error = client.pull("org/name", 1).unwrap_err();
    assert!(matches!(error, HubError::Busy { .. }), "{error}");
    drop(lock);
    client.pull("org/name", 1).unwrap();
    assert_whole(&client, &bytes);
}

#[test]
fn safetensors_and_split_files_come_whole() {
    let (a, b) = (contents(2 * CHUNK), contents(CHUNK / 2));
    let server = Server::start(&[
        ("config.json", b"{}"),
        ("tokenizer.json", b""),
        ("model-00001-of-00002.safetensors", &a),
        ("model-00002-of-00002.safetensors", &b),
        ("README.md", b"no"),
    ]);
    let client = Client::of(&server);
    let pulled = client.pull("org/name", 2).unwrap();
    let mut names: Vec<_> = fs::read_dir(&pulled.model.path)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "tokenizer.json"
        ]
    );
    assert_eq!(pulled.model.bytes, (a.len() + b.len() + 2) as u64);
}

#[test]
fn a_list_without_hashes_is_completed_file_by_file() {
    let bytes = contents(2 * CHUNK);
    let server = Server::start(&[(FILE, &bytes)]);
    let cdn = Server::start(&[(FILE, &bytes)]);
    server.set(|s| {
        s.bare_list = true;
        s.cdn = Some(cdn.address.clone());
    });
    let client = Client::of(&server);
    client.pull("org/name", 2).unwrap();
    assert_whole(&client, &bytes);
    assert!(
        server
            .seen()
            .iter()
            .any(|seen| seen.method == "HEAD" && seen.path.ends_with(FILE))
    );
}

#[test]
fn paths_that_lead_out_of_the_cache_are_never_written() {
    let bytes = contents(10);
    let server = Server::start(&[(FILE, &bytes)]);
    let outside = [
        "../../../evil-Q4_K_M.gguf",
        "/tmp/evil.gguf",
        "a\\..\\evil.gguf",
    ];
    server.set(|s| s.also_listed = outside.map(str::to_owned).to_vec());
    let client = Client::of(&server);
    let info = client.hub().info(&parse("org/name")).unwrap();
    assert_eq!(info.files.len(), 1);
    client.pull("org/name", 1).unwrap();
    assert_whole(&client, &bytes);
}

#[test]
fn a_file_elsewhere_is_pulled_by_its_address_and_never_mixed_with_its_successor() {
    let bytes = contents(4 * CHUNK);
    let server = Server::start(&[(FILE, &bytes)]);
    let other = Server::start(&[]);
    let client = Client::of(&other).with_token();
    let address = format!("{}/cdn/{FILE}", server.address);
    server.set(|s| s.faults = [Fault::Cut(CHUNK)].into());
    server.set(|s| s.faults.extend([Fault::Status(503); 50]));
    client.pull(&address, 1).unwrap_err();
    server.set(|s| s.faults.clear());
    let first = client.pull(&address, 1).unwrap();
    assert_eq!(first.fetched, 3 * CHUNK as u64);
    assert_eq!(fs::read(&first.model.path).unwrap(), bytes);
    assert_eq!(client.pull(&address, 1).unwrap().fetched, 0);
    assert!(server.seen().iter().all(|seen| !seen.has_token));
    let newer = contents(3 * CHUNK);
    server.set(|s| {
        s.files.insert(FILE.to_owned(), newer.clone());
    });
    let second = client.pull(&address, 1).unwrap();
    assert_eq!(fs::read(&second.model.path).unwrap(), newer);
    let here = client.hub().cache().find(&parse(&address)).unwrap();
    assert_eq!(here.path, second.model.path);
    // What is missing there is no matter of licences or tokens of the hub.
    let absent = format!("{}/cdn/absent.gguf", server.address);
    let error = client.pull(&absent, 1).unwrap_err();
    assert!(matches!(error, HubError::Answer { .. }), "{error}");
    assert!(error.to_string().contains("404"), "{error}");
}

/// Names the server, in `HF_ENDPOINT`, to a process of its own, and the folder of its cache.
const CACHE: &str = "ZSE_HUB_TEST_ENDPOINT_CACHE";

#[test]
fn an_address_of_another_hub_is_pulled_as_its_name_is() {
    if let (Ok(address), Some(cache)) = (env::var("HF_ENDPOINT"), env::var_os(CACHE)) {
        let hub = Hub::new(config(&address, Path::new(&cache))).unwrap();
        let model = parse(&format!("{address}/org/name/resolve/main/{FILE}"));
        hub.pull(&model, 1, |_| ControlFlow::Continue(())).unwrap();
        return;
    }
    let bytes = contents(2 * CHUNK);
    let server = Server::start(&[(FILE, &bytes)]);
    let client = Client::of(&server);
    let test = "pull::an_address_of_another_hub_is_pulled_as_its_name_is";
    let done = Command::new(env::current_exe().unwrap())
        .args(["--exact", test])
        .env("HF_ENDPOINT", &server.address)
        .env(CACHE, client.folder.path())
        .status();
    assert!(done.unwrap().success());
    assert_whole(&client, &bytes);
    // Called by the hash that the hub names, which was checked.
    assert!(client.repo().join("blobs").join(sha256(&bytes)).exists());
}

/// Nobody knows the hash, and the hub, or an address that was closed meanwhile, leads elsewhere.
#[test]
fn the_tag_of_the_first_answer_holds_for_all_addresses() {
    let bytes = contents(4 * CHUNK);
    let server = Server::start(&[(FILE, &bytes)]);
    let client = Client::of(&server);
    let address = format!("{}/cdn/{FILE}", server.address);
    // The first look and the first chunk; then all is asked for anew.
    server.set(|s| {
        s.changes_after = Some(2);
        s.faults = [Fault::Cut(CHUNK), Fault::Status(404)].into();
    });
    let error = client.pull(&address, 1).unwrap_err();
    assert!(matches!(error, HubError::Changed { .. }), "{error}");
    assert_eq!(client.unfinished(".incomplete"), None);
    let pulled = client.pull(&address, 1).unwrap();
    assert_eq!(pulled.fetched, bytes.len() as u64);
    assert_eq!(fs::read(&pulled.model.path).unwrap(), bytes);
}

#[test]
fn answers_that_are_not_the_contents_are_refused() {
    let bytes = contents(4 * CHUNK);
    let server = Server::start(&[(FILE, &bytes)]);
    let client = Client::of(&server);
    let address = format!("{}/cdn/{FILE}", server.address);
    server.set(|s| s.no_ranges = true);
    for (faults, has_changed) in [
        (vec![Fault::Status(203)], false),
        (vec![Fault::Cut(0), Fault::Status(203)], false),
        (vec![Fault::TooShort], true),
        (vec![Fault::Cut(0), Fault::TooShort], true),
    ] {
        server.set(|s| s.faults = faults.clone().into());
        let error = client.pull(&address, 1).unwrap_err();
        match error {
            HubError::Changed { .. } => assert!(has_changed, "{faults:?}"),
            HubError::Answer { .. } => assert!(!has_changed, "{faults:?}"),
            other => panic!("{faults:?}: {other}"),
        }
    }
    let pulled = client.pull(&address, 1).unwrap();
    assert_eq!(fs::read(&pulled.model.path).unwrap(), bytes);
}

#[cfg(unix)]
#[test]
fn sizes_that_no_disk_has_are_refused() {
    let server = Server::start(&[("config.json", b"{}"), ("model.safetensors", b"")]);
    server.set(|s| s.listed_size = Some(u64::MAX));
    let client = Client::of(&server);
    let error = client.pull("org/name", 1).unwrap_err();
    assert!(matches!(error, HubError::NoSpace { .. }), "{error}");
    assert_nothing(&client);
}
