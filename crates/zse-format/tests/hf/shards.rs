//! Models in several files.

use serde_json::{Map, Value, json};

use crate::directory::{Directory, Model, floats, safetensors};

const INDEX: &str = "model.safetensors.index.json";
const FILES: [&str; 2] = [
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
];

/// A model in two files, and their list.
fn sharded() -> (Directory, Map<String, Value>) {
    let model = Model::llama();
    let directory = model.write();
    std::fs::remove_file(directory.path("model.safetensors")).unwrap();
    let mut list = Map::new();
    let (first, second) = model.tensors.split_at(5);
    for (file, tensors) in FILES.into_iter().zip([first, second]) {
        directory.add(file, safetensors(tensors));
        list.extend(tensors.iter().map(|t| (t.0.clone(), json!(file))));
    }
    (directory, list)
}

fn write(directory: &Directory, list: &Map<String, Value>) {
    directory.add(
        INDEX,
        json!({"metadata": {}, "weight_map": list}).to_string(),
    );
}

#[test]
fn a_list_names_the_files() {
    let (directory, list) = sharded();
    write(&directory, &list);
    let whole = Model::llama().write();
    let (model, whole) = (directory.open().unwrap(), whole.open().unwrap());
    assert_eq!(model.tensors().count(), 12);
    for tensor in whole.tensors() {
        let found = model.tensor(tensor.name).unwrap();
        assert_eq!(found.data.bytes(), tensor.data.bytes(), "{}", tensor.name);
    }
}

#[test]
fn a_single_file_comes_before_a_list() {
    let directory = Model::llama().write();
    directory.add(INDEX, json!({"weight_map": {"a": FILES[0]}}).to_string());
    assert_eq!(directory.open().unwrap().tensors().count(), 12);
}

#[test]
fn files_that_do_not_agree_with_the_list_are_refused() {
    for (name, file, expected) in [
        (
            "model.norm.weight",
            json!("../model-00001-of-00002.safetensors"),
            "beside the list",
        ),
        ("model.norm.weight", json!("/etc/passwd"), "beside the list"),
        ("model.norm.weight", json!(FILES[1]), "not of one model"),
        ("another.weight", json!(FILES[1]), "not of one model"),
        ("another.weight", json!("other.safetensors"), "cannot open"),
        ("model.norm.weight", json!(1), "is not what it should be"),
    ] {
        let (directory, mut list) = sharded();
        list.insert(name.to_owned(), file.clone());
        write(&directory, &list);
        let error = directory.open().unwrap_err().to_string();
        assert!(error.contains(expected), "{file}: {error}");
    }
    let (directory, mut list) = sharded();
    list.remove("model.norm.weight");
    write(&directory, &list);
    let error = directory.open().unwrap_err().to_string();
    assert!(error.contains("not of one model"), "{error}");
    write(&directory, &Map::new());
    let error = directory.open().unwrap_err().to_string();
    assert!(error.contains("names 0 files"), "{error}");
}

#[test]
fn a_tensor_of_two_files_is_refused() {
    let (directory, list) = sharded();
    let tensors = [floats("model.norm.weight", &[8])];
    directory.add(FILES[1], safetensors(&tensors));
    write(&directory, &list);
    let error = directory.open().unwrap_err().to_string();
    assert!(error.contains("not of one model"), "{error}");
}
