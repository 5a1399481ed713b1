//! Reads any bytes as the tokenizer files of a Hugging Face directory, and has what comes of them
//! encode and decode a text.
//!
//! The input is cut at the byte 0x1e: the files in the order of `TokenizerFiles`, a template's name, and
//! the text. An empty part is no file. Bytes 0x1e within `tokenizer.model` are written 0x1f.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zse_format::hf::tokenizer::{TokenizerFiles, metadata};
use zse_format::{Checkpoint, GgufWriter};
use zse_text::Tokenizer;

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.split(|&byte| byte == 0x1e);
    let mut next = || parts.next().filter(|part| !part.is_empty());
    let mut files = TokenizerFiles {
        directory: "fuzz",
        config: next(),
        generation_config: next(),
        tokenizer: next(),
        sentence_piece: next(),
        tokenizer_config: next(),
        special_tokens_map: next(),
        added_tokens: next(),
        chat_template: next(),
        chat_template_json: next(),
        additional_chat_templates: &[],
    };
    let name = String::from_utf8_lossy(next().unwrap_or_default());
    let more = [(&*name, &b"{{ x }}"[..])];
    if !name.is_empty() {
        files.additional_chat_templates = &more;
    }
    let text = String::from_utf8_lossy(next().unwrap_or_default());
    let entries = match metadata(&files) {
        Ok(entries) => entries,
        Err(error) => {
            assert!(error.to_string().starts_with("fuzz: "));
            return;
        }
    };
    let mut writer = GgufWriter::new();
    for (key, value) in entries {
        writer
            .set(&key, value)
            .expect("keys are short and values whole");
    }
    let file = writer
        .begin(Vec::new(), "fuzz")
        .and_then(|body| body.finish());
    let file = Checkpoint::from_bytes(file.expect("memory takes all"), "fuzz");
    let file = file.expect("what was written can be read");
    let tokenizer =
        Tokenizer::from_metadata(file.metadata()).expect("a tokenizer that was accepted");
    let ids = tokenizer.encode(&text, true, true);
    assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
    tokenizer.decode(&ids, false);
});
