//! Models that are found at a hub, judged, downloaded and removed while the server runs.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use zse::{Device, LoadOptions};
use zse_hub::Patience;
use zse_hub_mock::{Fault, Server as Hub};
use zse_server::Registry;

use crate::common::{Answer, Running, message, serve};
use crate::openapi::Document;
use crate::ws::{hear, open};

/// A model that embeds, of less than 100 kB.
const MODEL: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../zse-model/tests/golden/bert-mean.gguf"
);

/// A server of the built-in model, and the hub that it knows.
struct Setup {
    server: Running,
    hub: Hub,
    cache: TempDir,
}

fn start() -> Setup {
    let model = std::fs::read(MODEL).expect("it is part of the repository");
    let hub = Hub::start(&[("m-F32.gguf", &model)]);
    let cache = tempfile::tempdir().expect("there is room");
    let config = zse_hub::Config {
        endpoint: hub.address.parse().expect("an address"),
        token: None,
        cache: cache.path().to_owned(),
        offline: false,
        patience: Patience {
            first_wait: Duration::from_millis(1),
            longest_wait: Duration::from_millis(10),
            // A machine that does much else is no stalled connection.
            connect: Duration::from_secs(3600),
            idle: Duration::from_secs(3600),
            ..Patience::default()
        },
        chunk: 8 << 10,
    };
    let registry = Registry {
        hub: config,
        device: Device::Cpu,
        context: None,
        options: Arc::new(|_| Ok(LoadOptions::default())),
    };
    let server = serve(|config| config.registry = Some(registry));
    Setup { server, hub, cache }
}

impl Setup {
    fn download(&self, body: &Value) -> u64 {
        let download = self.server.post("/api/models/download", body).json();
        download["id"].as_u64().expect("a number")
    }

    fn state(&self, id: u64) -> Value {
        self.server
            .get(&format!("/api/models/download/{id}"))
            .json()
    }

    /// Looks at a download until `is_reached`.
    #[track_caller]
    fn wait(&self, id: u64, is_reached: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let download = self.state(id);
            if is_reached(&download) {
                return download;
            }
            assert!(start.elapsed() < Duration::from_secs(300), "{download}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[track_caller]
    fn ended(&self, id: u64, state: &str) -> Value {
        let download = self.wait(id, |d| !d["ended"].is_null());
        assert_eq!(download["state"], state, "{download}");
        download
    }

    fn served(&self) -> Vec<String> {
        let models = self.server.get("/v1/models").json();
        let models = models["data"].as_array().expect("a list").iter();
        models
            .map(|m| m["id"].as_str().expect("a name").to_owned())
            .collect()
    }

    fn embeds(&self, model: &str) -> bool {
        let body = json!({ "model": model, "input": "a cat" });
        self.server.post("/v1/embeddings", &body).status == 200
    }

    fn delete(&self, model: &str) -> Answer {
        let body = json!({ "model": model }).to_string();
        self.server.request("DELETE", "/api/delete", "", &body)
    }

    /// Whether a file has a final name.
    fn has_files(&self) -> bool {
        let snapshots = self.cache.path().join("models--org--name/snapshots");
        std::fs::read_dir(snapshots).is_ok_and(|mut entries| entries.next().is_some())
    }
}

#[test]
fn a_model_is_downloaded_served_loaded_and_removed() {
    let setup = start();
    let id = setup.download(&json!({ "model": "org/name", "name": "mine", "load": true }));
    let done = setup.ended(id, "done");
    assert_eq!(
        (&done["model"], &done["source"]),
        (&json!("mine"), &json!("org/name"))
    );
    assert_eq!(done["quant"], "F32");
    assert!(
        done["total"].as_u64() > Some(90_000) && done["total"] == done["done"],
        "{done}"
    );
    assert_eq!(setup.served(), ["builtin", "mine"]);
    assert_eq!(
        setup.server.get("/v1/models/mine").json()["state"],
        "loaded"
    );
    assert!(setup.embeds("mine"));
    // Who names no model means the one that the server was given.
    let body = json!({ "prompt": "Once", "max_tokens": 1 });
    assert_eq!(
        setup.server.post("/v1/completions", &body).json()["model"],
        "builtin"
    );

    // What is here is not fetched again, and may have another name, too.
    let again = setup.download(&json!({ "model": "org/name", "quant": "f32" }));
    assert_eq!(setup.ended(again, "done")["fetched"], 0);
    assert_eq!(setup.served(), ["builtin", "mine", "org/name"]);
    assert!(setup.embeds("org/name"));
    // Files go with their last name.
    assert_eq!(setup.delete("org/name:f32").status, 409);
    assert_eq!(setup.delete("mine").status, 200);
    assert_eq!(setup.served(), ["builtin", "org/name"]);
    assert!(setup.has_files());

    let load = json!({ "model": "org/name" });
    let unloaded = setup.server.post("/api/models/unload", &load).json();
    assert_eq!(unloaded["state"], "unloaded");
    assert_eq!(
        setup.server.post("/api/models/load", &load).json()["state"],
        "loaded"
    );
}

#[test]
fn a_model_that_is_removed_is_gone_and_can_come_back() {
    let setup = start();
    let ask = json!({ "model": "org/name", "load": true, "keep_alive": "1h" });
    let id = setup.download(&ask);
    setup.ended(id, "done");
    assert!(setup.embeds("org/name"));
    assert_eq!(setup.delete("org/name").status, 200);
    assert_eq!(setup.served(), ["builtin"]);
    assert!(!setup.embeds("org/name") && !setup.has_files());
    assert_eq!(setup.delete("org/name").status, 404);
    let id = setup.download(&ask);
    assert!(setup.ended(id, "done")["fetched"].as_u64() > Some(90_000));
    assert!(setup.embeds("org/name"));
    // One that nobody serves is found in the cache.
    assert_eq!(setup.delete("builtin").status, 409);
}

#[test]
fn a_download_is_cancelled_and_goes_on_later() {
    let setup = start();
    setup
        .hub
        .set(|hub| hub.faults = vec![Fault::Stall(10); 1].into());
    let ask = json!({ "model": "org/name" });
    let id = setup.download(&ask);
    let path = format!("/api/models/download/{id}");
    setup.wait(id, |d| d["state"] == "downloading" && d["total"] != 0);
    assert_eq!(setup.download(&ask), id);
    let other = json!({ "model": "org/name:f32", "name": "org/name" });
    setup.server.post("/api/models/download", &other).error(409);
    assert_eq!(setup.delete("org/name").status, 409);
    assert_eq!(setup.server.request("DELETE", &path, "", "").status, 200);
    setup.ended(id, "cancelled");
    assert_eq!(setup.served(), ["builtin"]);
    assert!(!setup.has_files());
    let id = setup.download(&ask);
    setup.ended(id, "done");
    assert_eq!(setup.served(), ["builtin", "org/name"]);
    let all = setup.server.get("/api/models/download").json();
    let states = all["downloads"].as_array().unwrap().iter();
    let states: Vec<&Value> = states.map(|download| &download["state"]).collect();
    assert_eq!(states, ["cancelled", "done"]);
}

#[test]
fn what_is_wrong_with_a_download_is_told() {
    let setup = start();
    for (body, status, hint) in [
        (json!({ "model": "nothing" }), 400, "catalogue"),
        (
            json!({ "model": "org/name", "quant": "banana" }),
            400,
            "Q4_K_M",
        ),
        (
            json!({ "model": "org/name", "name": "builtin" }),
            409,
            "another name",
        ),
        (json!({ "model": "org/name", "name": "" }), 400, "name"),
        (json!({ "model": "org/name", "pin": true }), 400, "load"),
        (json!({ "model": "org/name", "where": "/" }), 400, "where"),
        (json!({}), 400, "model"),
    ] {
        let error = setup
            .server
            .post("/api/models/download", &body)
            .error(status);
        assert!(error.to_string().contains(hint), "{error}");
    }
    let id = setup.download(&json!({ "model": "org/absent" }));
    let failed = setup.ended(id, "failed");
    assert!(
        failed["error"]
            .as_str()
            .unwrap()
            .contains("no model org/absent"),
        "{failed}"
    );
    setup
        .hub
        .set(|hub| (hub.wrong_hash, hub.odd_tags) = (true, true));
    let id = setup.download(&json!({ "model": "org/name" }));
    let failed = setup.ended(id, "failed");
    assert!(
        failed["error"].as_str().unwrap().contains("wrong contents"),
        "{failed}"
    );
    assert_eq!(setup.served(), ["builtin"]);
    assert!(!setup.has_files());
    for id in ["99", "banana"] {
        let answer = setup.server.get(&format!("/api/models/download/{id}"));
        assert_eq!(
            answer.error(if id == "99" { 404 } else { 400 })["param"],
            "id"
        );
    }
    let none = serve(|_| {});
    none.post("/api/models/download", &json!({ "model": "org/name" }))
        .error(501);
    none.get("/api/models/registry").error(501);
}

#[test]
fn connections_that_break_do_not_end_a_download() {
    let setup = start();
    let faults = [
        Fault::Cut(100),
        Fault::Status(503),
        Fault::TooShort,
        Fault::OtherRange,
    ];
    setup.hub.set(|hub| hub.faults = faults.into());
    let id = setup.download(&json!({ "model": "org/name" }));
    setup.ended(id, "done");
    assert!(setup.embeds("org/name"));
}

#[test]
fn progress_comes_over_the_websocket() {
    let setup = start();
    let before = setup.download(&json!({ "model": "org/absent" }));
    setup.ended(before, "failed");
    let mut client = open(&setup.server, "/ws/downloads", &[]).expect("a WebSocket");
    let mut next = || -> Value { serde_json::from_str(&hear(&mut client)).expect("JSON") };
    assert_eq!(next()["state"], "failed");
    let id = setup.download(&json!({ "model": "org/name", "load": true }));
    let mut states = Vec::new();
    let mut done = 0;
    while states.last() != Some(&json!("done")) {
        let download = next();
        assert_eq!(download["id"], id);
        let now = download["done"].as_u64().unwrap();
        assert!(now >= done, "{download} after {done} bytes");
        done = now;
        states.push(download["state"].clone());
    }
    states.dedup();
    // Some may be passed over where much happens at once.
    let order = ["queued", "downloading", "loading", "done"];
    let places = states
        .iter()
        .map(|state| order.iter().position(|known| state == known));
    let places: Vec<usize> = places.map(|place| place.expect("a state")).collect();
    assert!(places.is_sorted(), "{states:?}");
    assert_eq!(done, setup.state(id)["total"]);
}

#[test]
fn the_registry_is_listed_searched_and_checked() {
    let setup = start();
    let document = Document::of(&setup.server);
    let get = |path: &str| {
        let answer = setup.server.get(path);
        let documented = path.split('?').next().expect("a path");
        document.json("get", documented, &answer);
        answer.json()
    };
    let listing = get("/api/models/registry?category=code&recommended=true");
    let models = listing["catalogue"].as_array().unwrap();
    assert!(!models.is_empty());
    for model in models {
        assert!(
            model["categories"]
                .as_array()
                .unwrap()
                .contains(&json!("code"))
        );
    }
    let within = |bytes: u64| {
        let path = format!("/api/models/registry?memory={bytes}");
        get(&path)["catalogue"].as_array().unwrap().len()
    };
    assert!(0 < within(2 << 30) && within(2 << 30) < within(8 << 30));
    let here = get("/api/models/registry?fits=true");
    assert!(!here["catalogue"].as_array().unwrap().is_empty());
    let error = setup
        .server
        .get("/api/models/registry?category=poetry")
        .error(400);
    assert_eq!(error["param"], "category");
    setup
        .server
        .get("/api/models/registry?colour=red")
        .error(400);

    // The hub gives one sound name.
    for path in ["/api/models/discover", "/api/models/search?q=good&limit=5"] {
        let found = get(path)["models"].clone();
        assert_eq!(
            (found.as_array().unwrap().len(), &found[0]["id"]),
            (1, &json!("org/good"))
        );
    }
    setup
        .server
        .get("/api/models/search?q=good&limit=0")
        .error(400);
    setup
        .server
        .get("/api/models/discover?sort=colour")
        .error(400);

    let verdict = get("/api/models/check?model=org/name");
    assert_eq!(
        (&verdict["runs"], &verdict["architecture"]),
        (&json!(true), &json!("bert"))
    );
    assert!(verdict["memory"].as_u64() > Some(90_000), "{verdict}");
    assert_eq!(verdict["fits"], json!(true));
    assert!(verdict["available"].as_u64() > verdict["memory"].as_u64());
    assert!(!setup.has_files());
    setup
        .server
        .get("/api/models/check?model=org/absent")
        .error(404);
    setup
        .server
        .get("/api/models/check?model=nothing")
        .error(400);
    setup.hub.set(|hub| {
        hub.files = [("m.gguf".to_owned(), vec![0; 1000])].into();
    });
    setup
        .server
        .get("/api/models/check?model=org/name")
        .error(400);

    let id = setup.download(&json!({ "model": "org/absent" }));
    document.json(
        "get",
        "/api/models/download",
        &setup.server.get("/api/models/download"),
    );
    let one = setup.server.get(&format!("/api/models/download/{id}"));
    document.json("get", "/api/models/download/{id}", &one);
}

/// The objects of the lines of an answer.
fn lines(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{}", answer.body);
    let lines = answer.body.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

#[test]
fn ollamas_clients_pull_and_delete() {
    let setup = start();
    let ask = json!({ "model": "org/name:latest", "insecure": false });
    let said = lines(&setup.server.post("/api/pull", &ask));
    assert_eq!(said.last().unwrap()["status"], "success");
    let pulling = said.iter().filter(|line| line["digest"].is_string());
    let pulling: Vec<&Value> = pulling.collect();
    assert!(!pulling.is_empty(), "{said:?}");
    for line in &pulling {
        // Its command line cuts this part out.
        assert_eq!(line["digest"].as_str().unwrap()[7..19].len(), 12);
        assert!(
            line["completed"].as_u64() <= line["total"].as_u64(),
            "{line}"
        );
    }
    assert_eq!(
        pulling.last().unwrap()["completed"],
        pulling.last().unwrap()["total"]
    );
    let tags = setup.server.get("/api/tags").json().to_string();
    assert!(tags.contains("org/name:latest"), "{tags}");
    assert_eq!(setup.delete("org/name:latest").status, 200);
    assert_eq!(setup.served(), ["builtin"]);

    let whole = json!({ "name": "org/name", "stream": false });
    assert_eq!(
        setup.server.post("/api/pull", &whole).json(),
        json!({ "status": "success" })
    );
    let absent = lines(
        &setup
            .server
            .post("/api/pull", &json!({ "model": "org/absent" })),
    );
    assert!(
        absent.last().unwrap()["error"]
            .as_str()
            .unwrap()
            .contains("org/absent")
    );
    let absent = json!({ "model": "org/absent", "stream": false });
    assert_eq!(setup.server.post("/api/pull", &absent).status, 502);
    for wrong in [
        json!({ "model": "nothing" }),
        json!({ "model": "" }),
        json!({ "model": "org/name", "insecure": true }),
    ] {
        let answer = setup.server.post("/api/pull", &wrong);
        assert_eq!(answer.status, 400, "{}", answer.body);
        assert!(answer.body.starts_with(r#"{"error":""#), "{}", answer.body);
    }
}

#[test]
fn a_pull_whose_client_goes_away_is_cancelled() {
    let setup = start();
    setup.hub.set(|hub| hub.faults = [Fault::Stall(10)].into());
    let mut stream = setup.server.connect();
    let ask = json!({ "model": "org/name" }).to_string();
    stream
        .write_all(message("POST", "/api/pull", "", &ask).as_bytes())
        .unwrap();
    stream.read_exact(&mut [0; 100]).unwrap();
    drop(stream);
    setup.ended(1, "cancelled");
    assert!(!setup.has_files());
}
