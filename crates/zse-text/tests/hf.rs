//! Tokenizers of Hugging Face directories: small ones of each kind give the ids that the library
//! `tokenizers` (or `sentencepiece`) gives (`hf/make.py`).

use std::path::{Path, PathBuf};

use zse_format::hf::tokenizer::{TokenizerFiles, metadata};
use zse_format::{Checkpoint, GgufWriter};
use zse_text::{TokenKind, Tokenizer};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hf")
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The directory's metadata as a checkpoint without tensors.
fn checkpoint(files: &TokenizerFiles<'_>) -> Checkpoint {
    let mut writer = GgufWriter::new();
    for (key, value) in metadata(files).unwrap() {
        writer.set(&key, value).unwrap();
    }
    let bytes = writer.begin(Vec::new(), "test").unwrap().finish().unwrap();
    Checkpoint::from_bytes(bytes, "test").unwrap()
}

fn load(kind: &str) -> Tokenizer {
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
    Tokenizer::from_metadata(checkpoint(&files).metadata()).unwrap()
}

/// Every text's ids are those in `KIND/golden.json`, where it has them.
fn check(kind: &str) {
    let tokenizer = load(kind);
    let texts = json(&folder().join("texts.json"));
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
    bert_uncased: "bert-uncased";
    bert_cased: "bert-cased";
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
