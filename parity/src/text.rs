//! Random texts that tokenizers find hard.

use zse_model::conformance::Rng;

/// Ranges of characters that pre-tokenizers and normalizers treat in ways of their own.
const RANGES: &[(u32, u32)] = &[
    (0x20, 0x7e),       // ASCII
    (0x00, 0x1f),       // control characters
    (0x80, 0xff),       // Latin-1
    (0x100, 0x24f),     // extended Latin
    (0x300, 0x36f),     // combining marks
    (0x370, 0x3ff),     // Greek
    (0x400, 0x4ff),     // Cyrillic
    (0x590, 0x5ff),     // Hebrew
    (0x600, 0x6ff),     // Arabic, with its digits
    (0x900, 0x97f),     // Devanagari
    (0xe00, 0xe7f),     // Thai
    (0x1100, 0x11ff),   // Hangul letters
    (0x2000, 0x206f),   // spaces and punctuation
    (0x2150, 0x218f),   // fractions and Roman numerals
    (0x2190, 0x23ff),   // arrows and technical symbols
    (0x3000, 0x303f),   // CJK punctuation
    (0x3040, 0x30ff),   // kana
    (0x4e00, 0x9fff),   // Han
    (0xac00, 0xd7a3),   // Hangul
    (0xe000, 0xe0ff),   // private use
    (0xfb00, 0xfb4f),   // ligatures
    (0xff00, 0xffef),   // full and half width
    (0x1d400, 0x1d7ff), // mathematical letters
    (0x1f300, 0x1faff), // emoji
    (0x20000, 0x2a6df), // rare Han
    (0xe0000, 0xe007f), // tags
    (0x00, 0x10ffff),   // anything
];

/// Pieces that have rules of their own.
const PIECES: &[&str] = &[
    " ",
    "  ",
    "   ",
    "\t",
    "\n",
    "\n\n",
    "\r\n",
    " \n ",
    "\u{a0}",
    "\u{3000}",
    "'s",
    "'LL",
    "'re",
    "n't",
    "’s",
    "don't",
    "I'VE",
    "Hello",
    "hello",
    "World",
    "THE",
    "iPhone",
    "foo_bar",
    "fooBar",
    "1",
    "23",
    "456",
    "7890",
    "3.14",
    "1,000,000",
    "½",
    "x²",
    "http://a.b/c?d=e&f",
    "a@b.cd",
    "...",
    "!!",
    "?!",
    "--",
    "——",
    "()",
    "[]",
    "{}",
    "\"",
    "“”",
    "<|",
    "|>",
    "<s>",
    "</s>",
    "[CLS]",
    "[MASK]",
    "é",
    "e\u{301}",
    "ß",
    "İ",
    "ǅ",
    "ﬁ",
    "한국어",
    "中文",
    "日本語",
    "👍🏽",
    "👨‍👩‍👧",
    "🇪🇺",
    "\u{feff}",
    "\u{200d}",
    "\u{0}",
    "\u{7f}",
    "▁",
    "Ġ",
    "##a",
];

/// A text of 1 to 24 pieces; some are of `controls`.
pub(crate) fn random(rng: &mut Rng, controls: &[String]) -> String {
    let mut text = String::new();
    for _ in 0..=rng.below(24) {
        match rng.below(8) {
            0 if !controls.is_empty() => text += &controls[rng.below(controls.len())],
            0..=4 => text += rng.pick(PIECES),
            _ => {
                let (first, last) = rng.pick(RANGES);
                let count = 1 + rng.below(6);
                let mut draw =
                    || char::from_u32(first + rng.below((last - first + 1) as usize) as u32);
                // Surrogates are no characters.
                text.extend((0..count).filter_map(|_| draw()));
            }
        }
    }
    text
}
