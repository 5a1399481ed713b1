//! `zse tokenize`: the tokens of a text.

use std::io::{self, Write};

use serde_json::json;
use zse::Tokenizer;

use crate::args::TokenizeArgs;

pub(crate) fn run(args: &TokenizeArgs) -> anyhow::Result<()> {
    let checkpoint = args.model.source()?.open()?;
    let tokenizer = Tokenizer::from_metadata(checkpoint.metadata())?;
    let text = match &args.prompt {
        Some(text) => text.clone(),
        None => super::standard_input()?,
    };
    let ids = tokenizer.encode(&text, !args.no_bos, !args.no_parse_special);
    let mut out = io::stdout().lock();
    if args.json {
        let pieces: Vec<_> = ids.iter().map(|&id| piece(&tokenizer, id)).collect();
        writeln!(out, "{}", json!({ "ids": ids, "pieces": pieces }))?;
    } else {
        for &id in &ids {
            writeln!(out, "{id:>8}  {:?}", piece(&tokenizer, id))?;
        }
    }
    Ok(())
}

/// What a token adds to a text; U+FFFD stands for parts of characters.
fn piece(tokenizer: &Tokenizer, id: u32) -> String {
    String::from_utf8_lossy(&tokenizer.token_bytes(id)).into_owned()
}
