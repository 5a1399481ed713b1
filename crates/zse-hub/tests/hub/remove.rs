//! Removal takes what was asked for, and nothing that others have or are about to have.

use std::fs;

use crate::server::{Server, sha256};
use crate::{CHUNK, Client, contents, parse};

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
