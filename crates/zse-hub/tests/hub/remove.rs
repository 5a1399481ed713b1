//! Removal takes what was asked for, and nothing that others have or are about to have.

use std::fs;

use crate::{CHUNK, Client, contents, parse};
use zse_hub_mock::{Server, sha256};

#[test]
fn removing_one_file_leaves_the_others() {
    let weights = contents(CHUNK);
    let server = Server::start(&[
        ("config.json", b"{}"),
        ("model.safetensors", &weights),
        ("README.md", b"about"),
    ]);
    let client = Client::of(&server);
    let model = client.pull("org/name", 1).unwrap().model;
    let one = client.pull("org/name:README.md", 1).unwrap().model;
    assert_eq!(fs::read(&one.path).unwrap(), b"about");
    let hub = client.hub();
    let cache = hub.cache();
    assert_eq!(cache.remove(&one).unwrap(), 5);
    assert_eq!(cache.find(&parse("org/name:README.md")), None);
    assert_eq!(cache.find(&parse("org/name")), Some(model.clone()));
}

#[test]
fn removal_leaves_what_others_have_and_fetch() {
    let bytes = contents(CHUNK);
    let server = Server::start(&[("a-Q4_K_M.gguf", &bytes), ("config.json", b"{}")]);
    let client = Client::of(&server);
    let config = client.pull("org/name:config.json", 1).unwrap().model;
    let hub = client.hub();
    let cache = hub.cache();
    let pull = || client.pull("org/name", 1).unwrap().model;
    let bytes_of = |n| n * CHUNK as u64;
    assert_eq!(cache.remove(&pull()).unwrap(), bytes_of(1));
    assert!(config.path.exists());
    cache.remove(&config).unwrap();
    assert!(!client.repo().exists());

    let model = pull();
    let etag = sha256(b"another file, on its way");
    let begun = client.repo().join(format!("blobs/{etag}.incomplete"));
    fs::write(&begun, b"its beginning").unwrap();
    let locks = client.folder.path().join(".locks/models--org--name");
    let lock = fs::File::create(locks.join(format!("{etag}.lock"))).unwrap();
    lock.lock().unwrap();
    assert_eq!(cache.remove(&model).unwrap(), bytes_of(1));
    assert_eq!(fs::read(&begun).unwrap(), b"its beginning");
    drop(lock);
    // Nobody is at it any more: it goes with the model.
    assert_eq!(cache.remove(&pull()).unwrap(), bytes_of(1) + 13);
    assert!(!client.repo().exists());
}
