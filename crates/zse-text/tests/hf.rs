//! Tokenizers of Hugging Face directories: small ones of each kind give the ids that the library
//! `tokenizers` (or `sentencepiece`) gives (`hf/make.py`).

use std::path::{Path, PathBuf};

use zse_format::hf::tokenizer::{TokenizerFiles, metadata};
use zse_format::{Checkpoint, EncodedValue, GgufWriter, Metadata};
use zse_text::{TokenKind, Tokenizer};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hf")
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The directory's metadata as a checkpoint without tensors, under the model's `name`.
fn checkpoint(files: &TokenizerFiles<'_>, name: &str) -> Checkpoint {
    let mut writer = GgufWriter::new();
    writer.set("general.name", name).unwrap();
    for (key, value) in metadata(files).unwrap() {
        writer.set(&key, value).unwrap();
    }
    let bytes = writer.begin(Vec::new(), "test").unwrap().finish().unwrap();
    Checkpoint::from_bytes(bytes, "test").unwrap()
}

fn load(kind: &str) -> Tokenizer {
    load_as(kind, "test")
}

fn load_as(kind: &str, name: &str) -> Tokenizer {
    let read = |file: &str| std::fs::read(folder().join(kind).join(file)).ok();
    let (tokenizer, model) = (read("tokenizer.json"), read("tokenizer.model"));
    let config = read("tokenizer_config.json");
    let files = TokenizerFiles {
        directory: kind,
        tokenizer: tokenizer.as_deref(),
        sentence_piece: model.as_deref(),
        tokenizer_config: config.as_deref(),
        ..TokenizerFiles::default()
    };
    Tokenizer::from_metadata(checkpoint(&files, name).metadata()).unwrap()
}

/// Every text's ids are those in `KIND/golden.json`, where it has them.
fn check(kind: &str) {
    let tokenizer = load(kind);
    let texts = match kind.starts_with("unigram") {
        true => "texts-unigram.json",
        false => "texts.json",
    };
    let texts = json(&folder().join(texts));
    let golden = json(&folder().join(kind).join("golden.json"));
    let (texts, golden) = (texts.as_array().unwrap(), golden.as_array().unwrap());
    assert_eq!(texts.len(), golden.len());
    let mut compared = 0;
    for (text, ids) in texts.iter().zip(golden) {
        let Some(ids) = ids.as_array() else { continue };
        let text = text.as_str().unwrap();
        let expected: Vec<u32> = ids.iter().map(|id| id.as_u64().unwrap() as u32).collect();
        let found = tokenizer.encode(text, true, true);
        assert_eq!(found, expected, "{kind}: {text:?}");
        compared += 1;
    }
    assert!(compared > 200, "{kind}: {compared} texts");
}

macro_rules! kinds {
    ($($name:ident: $kind:literal;)*) => {$(
        #[test]
        fn $name() {
            check($kind);
        }
    )*};
}
kinds! {
    gpt_2: "gpt-2";
    starcoder: "starcoder";
    llama_3: "llama-bpe";
    qwen_2: "qwen2";
    gpt_4o: "gpt-4o";
    tekken: "tekken";
    deepseek_v3: "deepseek-v3";
    deepseek_coder: "deepseek-coder";
    bloom: "bloom";
    llama_2_from_merges: "llama-2";
    mistral_with_a_space_at_the_start_only: "mistral";
    gemma_from_merges: "gemma";
    sentencepiece_model: "sentencepiece";
    sentencepiece_model_without_prefix: "sentencepiece-no-prefix";
    unigram_of_xlm_roberta: "unigram-xlm-roberta";
    unigram_of_t5: "unigram-t5";
    unigram_with_bytes: "unigram-bytes";
    unigram_sentencepiece_model: "unigram-sentencepiece";
    unigram_sentencepiece_model_with_rules: "unigram-sentencepiece-rules";
    unigram_sentencepiece_model_without_prefix: "unigram-sentencepiece-no-prefix";
    bert_uncased: "bert-uncased";
    bert_cased: "bert-cased";
}

#[test]
fn pairs_are_put_together_as_the_template_says() {
    let tokenizer = load("unigram-xlm-roberta");
    let pairs = json(&folder().join("unigram-xlm-roberta/pairs.json"));
    for pair in pairs.as_array().unwrap() {
        let [first, second] = [0, 1].map(|i| pair[i].as_str().unwrap());
        let expected: Vec<u32> = serde_json::from_value(pair[2].clone()).unwrap();
        assert_eq!(tokenizer.encode_pair(first, second), expected, "{pair}");
    }
    let bert = load("bert-uncased");
    let once = |text| bert.encode(text, true, true);
    let expected = [&once("a")[..], &once("b")[1..]].concat();
    assert_eq!(bert.encode_pair("a", "b"), expected);
}

#[test]
fn roles_of_special_tokens_are_read() {
    let tokenizer = load("llama-bpe");
    let (bos, end) = (tokenizer.bos().unwrap(), tokenizer.eos().unwrap());
    assert_eq!(tokenizer.piece(bos), "<s>");
    assert_eq!(tokenizer.piece(end), "<|end|>");
    assert!(tokenizer.adds_bos() && tokenizer.is_eog(end));
    let extra = tokenizer.token_id("<extra>").unwrap();
    assert_eq!(tokenizer.kind(extra), Some(TokenKind::UserDefined));
    assert!(!load("gpt-2").adds_bos());
    let bert = load("bert-uncased");
    let ids = bert.special_ids();
    let [bos, sep, unk, pad] = [ids.bos, ids.sep, ids.unk, ids.pad].map(Option::unwrap);
    let pieces = [bos, sep, unk, pad].map(|id| bert.piece(id).into_owned());
    assert_eq!(pieces, ["[CLS]", "[SEP]", "[UNK]", "[PAD]"]);
}

/// GGUF files of Phi-3 are told by their name to swallow spaces; a tokenizer.json says who does.
#[test]
fn the_name_of_a_directory_decides_no_token() {
    let encode = |tokenizer: Tokenizer, text| tokenizer.encode(text, false, true);
    let ids = encode(load("llama-bpe"), "<extra>  a");
    assert_ne!(ids, encode(load("llama-bpe"), "<extra>a"));
    assert_eq!(
        encode(load_as("llama-bpe", "my-phi-3-clone"), "<extra>  a"),
        ids
    );
}

/// A tokenizer.json (or tokenizer.model) that says what a GGUF vocabulary says gives that
/// vocabulary's ids; the vocabularies are those of `shared/vocab`, as in `vocab.rs`.
#[test]
fn real_vocabularies_give_the_ids_of_their_gguf() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vocab");
    if !folder.is_dir() {
        eprintln!("passed over: no folder {}", folder.display());
        return;
    }
    for (name, stages) in [
        ("llama-bpe", &[LLAMA3][..]),
        ("qwen2", &[QWEN2]),
        ("gpt-2", &[]),
        ("starcoder", &[r"\p{N}"]),
    ] {
        let path = folder.join(format!("ggml-vocab-{name}.gguf"));
        let gguf = Checkpoint::open(&path).unwrap();
        let json = tokenizer_json(gguf.metadata(), stages).to_string();
        let files = TokenizerFiles {
            tokenizer: Some(json.as_bytes()),
            ..TokenizerFiles::default()
        };
        let found = checkpoint(&files, name);
        for key in ["tokens", "token_type", "merges"] {
            let key = format!("tokenizer.ggml.{key}");
            let [a, b] = [&found, &gguf].map(|c| c.metadata().get(&key).map(EncodedValue::from));
            assert!(a == b, "{name}: {key} differs");
        }
        let [found, expected] =
            [&found, &gguf].map(|c| Tokenizer::from_metadata(c.metadata()).unwrap());
        let texts = std::fs::read_to_string(path.with_extension("gguf.inp")).unwrap();
        for text in texts.split("\n__ggml_vocab_test__\n") {
            let [a, b] = [&found, &expected].map(|t| t.encode(text, false, true));
            assert_eq!(a, b, "{name}: {text:?}");
        }
    }
}

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The tokenizer.json of a vocabulary of byte-level BPE, which splits at `stages`, or as GPT-2 where
/// they leave that to the last step.
fn tokenizer_json(metadata: &Metadata, stages: &[&str]) -> serde_json::Value {
    let strings = |key: &str| -> Vec<String> {
        let key = format!("tokenizer.ggml.{key}");
        let strings = metadata.require_strings(&key).unwrap().utf8();
        strings.map(|text| text.unwrap().to_owned()).collect()
    };
    let tokens = strings("tokens");
    let kinds = metadata.require_i32s("tokenizer.ggml.token_type").unwrap();
    let (mut vocab, mut added) = (serde_json::Map::new(), Vec::new());
    for (id, (token, kind)) in tokens.iter().zip(kinds).enumerate() {
        match kind {
            1 => drop(vocab.insert(token.clone(), id.into())),
            5 => {}
            kind => {
                added.push(serde_json::json!({"id": id, "content": token, "special": kind == 3}))
            }
        }
    }
    let is_whole = stages.iter().any(|stage| stage.len() > 10);
    let mut steps: Vec<_> = stages.iter().map(|stage| {
        serde_json::json!({"type": "Split", "pattern": {"Regex": stage}, "behavior": "Isolated", "invert": false})
    }).collect();
    steps.push(
        serde_json::json!({"type": "ByteLevel", "add_prefix_space": false, "use_regex": !is_whole}),
    );
    serde_json::json!({
        "model": {"type": "BPE", "vocab": vocab, "merges": strings("merges"), "ignore_merges": stages == [LLAMA3]},
        "added_tokens": added,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
    })
}

/// Whatever becomes of a byte of a file, it is refused or a tokenizer that works.
#[test]
fn damaged_files_are_refused_or_work() {
    let read = |file: &str| std::fs::read(folder().join(file)).unwrap();
    let jsons = ["llama-bpe", "unigram-t5"].map(|kind| read(&format!("{kind}/tokenizer.json")));
    let models = ["sentencepiece", "unigram-sentencepiece-rules"]
        .map(|kind| read(&format!("{kind}/tokenizer.model")));
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as usize % below
    };
    let mut accepted = 0;
    for round in 0..1200 {
        let is_json = round % 2 == 0;
        let kinds = if is_json { &jsons } else { &models };
        let mut bytes = kinds[round / 2 % 2].clone();
        for _ in 0..=random(3) {
            let at = random(bytes.len());
            bytes[at] = random(256) as u8;
        }
        if round % 10 < 2 {
            bytes.truncate(random(bytes.len()) + 1);
        }
        let files = TokenizerFiles {
            directory: "damaged",
            tokenizer: is_json.then_some(&bytes[..]),
            sentence_piece: (!is_json).then_some(&bytes[..]),
            ..TokenizerFiles::default()
        };
        match metadata(&files) {
            Err(error) => assert!(error.to_string().starts_with("damaged: ")),
            Ok(_) => {
                let tokenizer =
                    Tokenizer::from_metadata(checkpoint(&files, "test").metadata()).unwrap();
                tokenizer.decode(&tokenizer.encode("Hello, 世界 <s>\n", true, true), false);
                accepted += 1;
            }
        }
    }
    assert!((1..1200).contains(&accepted), "{accepted} accepted");
}
