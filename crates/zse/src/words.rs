//! From texts to the tokens that contain them.

use zse_text::Tokenizer;

/// The tokens whose text contains one of `texts`: what [`SampleParams::dry_breakers`] wants for
/// breakers such as a line end.
///
/// [`SampleParams::dry_breakers`]: crate::SampleParams::dry_breakers
pub fn tokens_containing(tokenizer: &Tokenizer, texts: &[&str]) -> Vec<u32> {
    let contains = |id: &u32| {
        let bytes = tokenizer.token_bytes(*id);
        let text = String::from_utf8_lossy(&bytes);
        texts
            .iter()
            .any(|wanted| !wanted.is_empty() && text.contains(wanted))
    };
    (0..tokenizer.vocab_size() as u32)
        .filter(contains)
        .collect()
}
