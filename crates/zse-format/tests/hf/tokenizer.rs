//! The tokenizer's keys: tokens of every kind, roles, templates, and what is refused.

use serde_json::{Value, json};
use zse_format::EncodedValue;
use zse_format::hf::tokenizer::{TokenizerFiles, keys, metadata};

use crate::directory::Model;

/// A tokenizer.json of byte-level BPE that splits at `pattern`.
fn bpe(pattern: &str) -> Value {
    json!({
        "model": {
            "type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "<s>": 4},
            "merges": [["a", "b"]], "unk_token": null,
        },
        "added_tokens": [
            {"id": 4, "content": "<s>", "special": true},
            {"id": 5, "content": "<|im_end|>", "special": false},
            {"id": 6, "content": "▁▁x", "special": false, "rstrip": true},
            {"id": 99, "content": "<beyond>", "special": true},
        ],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false},
        ]},
        "post_processor": {"type": "TemplateProcessing", "single": [
            {"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}},
        ]},
    })
}

const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The entries of a tokenizer.json with a config.json and a tokenizer_config.json.
fn entries(tokenizer: &Value, config: &Value, more: &Value) -> Vec<(String, EncodedValue)> {
    let [tokenizer, config, more] = [tokenizer, config, more].map(|file| file.to_string());
    let files = TokenizerFiles {
        tokenizer: Some(tokenizer.as_bytes()),
        config: Some(config.as_bytes()),
        tokenizer_config: Some(more.as_bytes()),
        ..TokenizerFiles::default()
    };
    metadata(&files).unwrap()
}

fn get<'e>(entries: &'e [(String, EncodedValue)], key: &str) -> Option<&'e EncodedValue> {
    let found = entries.iter().find(|(other, _)| other == key);
    found.map(|(_, value)| value)
}

fn refused(tokenizer: &Value) -> String {
    let text = tokenizer.to_string();
    let files = TokenizerFiles {
        directory: "dir",
        tokenizer: Some(text.as_bytes()),
        ..TokenizerFiles::default()
    };
    let error = metadata(&files).unwrap_err().to_string();
    assert!(error.starts_with("dir: tokenizer.json "), "{error}");
    error
}

#[test]
fn tokens_have_the_kinds_that_converters_give_them() {
    let config = json!({"vocab_size": 8, "eos_token_id": [5, 2, 50]});
    let tokenizer_config = json!({"bos_token": "<s>", "eos_token": {"content": "<|im_end|>"}});
    let found = entries(&bpe(QWEN2), &config, &tokenizer_config);
    let tokens = [
        "a",
        "b",
        "ab",
        "[PAD3]",
        "<s>",
        "<|im_end|>",
        "  x",
        "[PAD7]",
    ];
    for (key, value) in [
        ("tokenizer.ggml.model", "gpt2".into()),
        ("tokenizer.ggml.pre", "qwen2".into()),
        ("tokenizer.ggml.tokens", EncodedValue::strings(tokens)),
        (
            "tokenizer.ggml.token_type",
            [1, 1, 1, 5, 3, 3, 4, 5][..].into(),
        ),
        ("tokenizer.ggml.merges", EncodedValue::strings(["a b"])),
        ("tokenizer.ggml.bos_token_id", 4u32.into()),
        ("tokenizer.ggml.eos_token_id", 5u32.into()),
        ("tokenizer.ggml.add_bos_token", true.into()),
        ("tokenizer.ggml.add_eos_token", false.into()),
        (keys::END_TOKEN_IDS, [2u32][..].into()),
        (keys::LSTRIP_TOKEN_IDS, [0u32; 0][..].into()),
        (keys::RSTRIP_TOKEN_IDS, [6u32][..].into()),
    ] {
        assert_eq!(get(&found, key), Some(&value), "{key}");
    }
    let absent = ["tokenizer.ggml.scores", "tokenizer.chat_template"];
    assert!(absent.iter().all(|key| get(&found, key).is_none()));
}

/// A field of a protocol buffer.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, content.len() as u8], content].concat()
}

#[test]
fn tokens_of_sentencepiece_are_completed_by_other_files() {
    let piece = |text: &str, score: f32, kind: u8| {
        let score = [&[0x15][..], &score.to_le_bytes()].concat();
        field(
            1,
            &[field(1, text.as_bytes()), score, vec![0x18, kind]].concat(),
        )
    };
    let model = [
        piece("<unk>", 0.0, 2),
        piece("<s>", 0.0, 3),
        piece("<0x41>", 0.0, 6),
        piece("▁a", -1.5, 1),
        piece("<x>", 0.0, 4),
        field(2, &[0x18, 2]),
    ];
    let tokenizer_config = json!({
        "add_bos_token": true, "added_tokens_decoder": {"1": {"content": "<s>", "special": true}},
        "chat_template": [
            {"name": "default", "template": "D"}, {"name": "tool use", "template": "T"},
        ],
    })
    .to_string();
    let bytes = model.concat();
    let files = TokenizerFiles {
        config: Some(br#"{"vocab_size": 7}"#),
        sentence_piece: Some(&bytes),
        tokenizer_config: Some(tokenizer_config.as_bytes()),
        added_tokens: Some(br#"{"<y>": 5}"#),
        ..TokenizerFiles::default()
    };
    let found = metadata(&files).unwrap();
    let tokens = ["<unk>", "<s>", "<0x41>", "▁a", "<x>", "<y>", "[PAD6]"];
    let scores = [0.0f32, -1000.0, 0.0, -1.5, 0.0, -1000.0, -10000.0];
    for (key, value) in [
        ("tokenizer.ggml.model", "llama".into()),
        ("tokenizer.ggml.tokens", EncodedValue::strings(tokens)),
        ("tokenizer.ggml.scores", scores[..].into()),
        (
            "tokenizer.ggml.token_type",
            [2, 3, 6, 1, 4, 4, 5][..].into(),
        ),
        ("tokenizer.ggml.add_space_prefix", true.into()),
        ("tokenizer.ggml.add_bos_token", true.into()),
        ("tokenizer.ggml.bos_token_id", 1u32.into()),
        ("tokenizer.chat_template", "D".into()),
        ("tokenizer.chat_template.tool_use", "T".into()),
        (
            "tokenizer.chat_templates",
            EncodedValue::strings(["tool_use"]),
        ),
    ] {
        assert_eq!(get(&found, key), Some(&value), "{key}");
    }
    let read = |trainer: &[u8], normalizer: &[u8], tokenizer: Option<&str>| {
        let (trainer, normalizer) = (field(2, trainer), field(3, normalizer));
        let model = [&model[..5].concat()[..], &trainer, &normalizer].concat();
        metadata(&TokenizerFiles {
            sentence_piece: Some(&model),
            tokenizer: tokenizer.map(str::as_bytes),
            ..TokenizerFiles::default()
        })
        .map_err(|error| error.to_string())
    };
    let unigram = read(&[0x18, 1], &[0x20, 0], None).unwrap();
    let key = "tokenizer.ggml.remove_extra_whitespaces";
    assert_eq!(get(&unigram, key), Some(&false.into()));
    assert_eq!(get(&unigram, "tokenizer.ggml.model"), Some(&"t5".into()));
    let mut of_bpe = bpe(QWEN2);
    of_bpe["pre_tokenizer"] = json!({"type": "Metaspace", "split": false});
    let of_bpe = of_bpe.to_string();
    for (trainer, normalizer, tokenizer, said) in [
        (&[0x18, 3][..], &[][..], None, "model_type 3 (words)"),
        (&[0x18, 1], &[], Some(&*of_bpe), "model_type 1 (Unigram)"),
        (&[0xc0, 1, 1], &[], None, "treat_whitespace_as_suffix"),
        (&[], &[0x28, 0], None, "escape_whitespaces"),
        (&[], &[0x12, 1, 0], None, "precompiled_charsmap"),
    ] {
        let error = read(trainer, normalizer, tokenizer).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn a_template_of_its_own_wins_over_the_configuration() {
    let tokenizer = bpe(QWEN2).to_string();
    let files = TokenizerFiles {
        tokenizer: Some(tokenizer.as_bytes()),
        tokenizer_config: Some(br#"{"chat_template": "old"}"#),
        chat_template: Some(b"new"),
        additional_chat_templates: &[("rag", b"R")],
        ..TokenizerFiles::default()
    };
    let found = metadata(&files).unwrap();
    assert_eq!(get(&found, "tokenizer.chat_template"), Some(&"new".into()));
    assert_eq!(
        get(&found, "tokenizer.chat_template.rag"),
        Some(&"R".into())
    );
}

#[test]
fn templates_without_end_are_refused() {
    let many: Vec<_> = (0..65)
        .map(|i| json!({"name": format!("t{i}"), "template": "T"}))
        .collect();
    let listed = json!({"chat_template": many}).to_string();
    for file in ["tokenizer_config.json", "chat_template.json"] {
        let mut model = Model::llama();
        model.files.push(("tokenizer.json", bpe(QWEN2).to_string()));
        model.files.push((file, listed.clone()));
        let error = model.refused();
        let expected = format!("{file} has more than 64 chat templates");
        assert!(error.contains(&expected), "{error}");
    }
    let mut model = Model::llama();
    model.files.push(("tokenizer.json", bpe(QWEN2).to_string()));
    model.files.push(("chat_template.jinja", "D".to_owned()));
    let directory = model.write();
    let folder = directory.path("additional_chat_templates");
    std::fs::create_dir(&folder).unwrap();
    for i in 0..70 {
        std::fs::write(folder.join(format!("t{i}.jinja")), "T").unwrap();
    }
    let error = directory.open().unwrap_err().to_string();
    let expected = "additional_chat_templates has more than 64 chat templates";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn rules_that_are_not_known_are_printed() {
    let error = refused(&bpe(r"\p{L}{7}|."));
    assert!(error.contains(r"\p{L}{7}|."), "{error}");
    let mut lowercase = bpe(QWEN2);
    lowercase["normalizer"] = json!({"type": "Lowercase"});
    assert!(refused(&lowercase).contains(r#"{"type":"Lowercase"}"#));
    let mut prefixed = bpe(QWEN2);
    prefixed["pre_tokenizer"] = json!({"type": "ByteLevel"});
    assert!(refused(&prefixed).contains("ByteLevel"));
    for split in [json!(true), Value::Null] {
        let mut words = bpe(QWEN2);
        words["pre_tokenizer"] =
            json!({"type": "Metaspace", "prepend_scheme": "first", "split": split});
        assert!(refused(&words).contains("Metaspace"));
        words["pre_tokenizer"]["split"] = json!(false);
        entries(&words, &json!({}), &json!({}));
    }
    let mut words = bpe(QWEN2);
    words["model"]["type"] = json!("WordLevel");
    assert!(refused(&words).contains("\"WordLevel\""));
}

#[test]
fn steps_of_unigram_that_are_not_known_are_printed() {
    let mut unigram = bpe(QWEN2);
    unigram["model"] = json!({"type": "Unigram", "vocab": [["a", -1.0]]});
    unigram["pre_tokenizer"] = json!({"type": "Metaspace", "prepend_scheme": "always"});
    let found = entries(&unigram, &json!({}), &json!({}));
    assert_eq!(get(&found, "tokenizer.ggml.model"), Some(&"t5".into()));
    let split = get(&found, "tokenizer.zse.unigram.split_words");
    assert_eq!(split, Some(&true.into()));
    let with = |key: &str, value: Value| {
        let mut changed = unigram.clone();
        changed[key] = value;
        refused(&changed)
    };
    for (key, value, said) in [
        ("normalizer", json!({"type": "NFKC"}), "NFKC"),
        (
            "normalizer",
            json!({"type": "Precompiled", "precompiled_charsmap": "%"}),
            "base64",
        ),
        (
            "normalizer",
            json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
            "ends in its length",
        ),
        (
            "normalizer",
            json!({"type": "Strip", "strip_left": true, "strip_right": true}),
            "Strip",
        ),
        ("pre_tokenizer", json!({"type": "Whitespace"}), "Whitespace"),
        ("pre_tokenizer", Value::Null, "Metaspace"),
        (
            "pre_tokenizer",
            json!({"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"},
                {"type": "Metaspace", "prepend_scheme": "never"}]}),
            "never",
        ),
        (
            "model",
            json!({"type": "Unigram", "vocab": {"a": 0}}),
            "list of tokens",
        ),
    ] {
        let error = with(key, value);
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn files_that_contradict_themselves_are_refused() {
    let mut merge = bpe(QWEN2);
    merge["model"]["merges"] = json!(["a b c"]);
    assert!(refused(&merge).contains("\"a b c\" is not two tokens"));
    let mut twice = bpe(QWEN2);
    twice["model"]["vocab"]["c"] = json!(0);
    assert!(refused(&twice).contains("two tokens of id 0"));
    let mut far = bpe(QWEN2);
    far["added_tokens"][3]["id"] = json!(u32::MAX);
    assert!(refused(&far).contains("4294967295"));
    assert!(refused(&json!([])).contains("is not a tokenizer"));
    let error = metadata(&TokenizerFiles::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("are missing"), "{error}");
    let tokenizer = bpe(QWEN2).to_string();
    for size in [0u64, 100_000, 1 << 40] {
        let config = json!({"vocab_size": size}).to_string();
        let files = TokenizerFiles {
            tokenizer: Some(tokenizer.as_bytes()),
            config: Some(config.as_bytes()),
            ..TokenizerFiles::default()
        };
        let error = metadata(&files).unwrap_err().to_string();
        assert!(error.contains(&format!("has vocab_size {size}")), "{error}");
    }
}

#[test]
fn directories_bring_their_tokenizer() {
    let mut model = Model::llama();
    model.files.push(("tokenizer.json", bpe(QWEN2).to_string()));
    model
        .files
        .push(("chat_template.jinja", "{{ messages }}".to_owned()));
    let checkpoint = model.write().open().unwrap();
    let metadata = checkpoint.metadata();
    assert_eq!(metadata.require_str("tokenizer.ggml.pre").unwrap(), "qwen2");
    assert_eq!(
        metadata
            .require_strings("tokenizer.ggml.tokens")
            .unwrap()
            .len(),
        6
    );
    let template = metadata.require_str("tokenizer.chat_template").unwrap();
    assert_eq!(template, "{{ messages }}");
}
