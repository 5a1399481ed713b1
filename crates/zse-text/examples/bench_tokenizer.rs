//! Times loading a tokenizer and encoding a text with it:
//! `cargo run --release -p zse-text --example bench_tokenizer -- MODEL.gguf [TEXT.txt]`

use std::time::Instant;

use zse_format::Checkpoint;
use zse_text::Tokenizer;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments
        .next()
        .ok_or("usage: bench_tokenizer MODEL.gguf [TEXT.txt]")?;
    let start = Instant::now();
    let checkpoint = Checkpoint::open(model.as_ref())?;
    let opened = start.elapsed();
    let tokenizer = Tokenizer::from_metadata(checkpoint.metadata())?;
    println!(
        "open {:.2} ms, build {:.2} ms, {} tokens",
        opened.as_secs_f64() * 1e3,
        (start.elapsed() - opened).as_secs_f64() * 1e3,
        tokenizer.vocab_size()
    );
    let mut texts = vec![
        ("1 MiB of 'a'".to_owned(), "a".repeat(1 << 20)),
        ("1 MiB of ' '".to_owned(), " ".repeat(1 << 20)),
        ("1 MiB of '<'".to_owned(), "<".repeat(1 << 20)),
    ];
    for path in arguments {
        texts.push((path.clone(), std::fs::read_to_string(path)?));
    }
    for (name, text) in texts {
        let start = Instant::now();
        let ids = tokenizer.encode(&text, false, true);
        let encoded = start.elapsed();
        let decoded = tokenizer.decode(&ids, false);
        let total = start.elapsed();
        let rate = |time: std::time::Duration| text.len() as f64 / 1e6 / time.as_secs_f64();
        println!(
            "{name}: {} tokens, encode {:.1} MB/s, decode {:.1} MB/s, same text: {}",
            ids.len(),
            rate(encoded),
            rate(total - encoded),
            decoded == text
        );
    }
    Ok(())
}
