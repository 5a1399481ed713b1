//! How each family of BPE tokenizers splits text before merging, by its name in
//! `tokenizer.ggml.pre`; the rules themselves are zse-format's table.

use unicode_general_category::GeneralCategory;
use zse_format::pre_tokenizer::{FAMILIES, THOUSANDS, THOUSANDS_OF_WORDS};

use crate::pattern::{Pattern, Scratch, char_at};
use crate::{TextError, work};

/// One cut of the text into pieces; the next stage cuts the pieces further.
#[derive(Clone, Debug)]
enum Stage {
    Pattern(Pattern),
    /// Runs of digits in groups of three from the right, as in 1234567 -> 1 234 567.
    Thousands {
        /// Leave alone runs that go on as a word (`123abc`).
        whole_words: bool,
    },
}

/// The splitting rules of one family.
#[derive(Clone, Debug)]
pub(crate) struct PreTokenizer {
    stages: Vec<Stage>,
    /// A word that is a token is taken as it is, whatever its merges would make of it.
    pub(crate) ignore_merges: bool,
    /// Whether BOS is added where the file does not say.
    pub(crate) add_bos: bool,
    /// Tokens are text with U+2581 for spaces and byte tokens `<0xHH>`, not GPT-2's byte alphabet.
    pub(crate) raw: bool,
}

impl PreTokenizer {
    /// The rules of the family called `name` in `tokenizer.ggml.pre`.
    ///
    /// # Errors
    /// [`TextError::UnknownPreTokenizer`].
    pub(crate) fn new(name: &str) -> Result<Self, TextError> {
        let (_, stages) = FAMILIES
            .iter()
            .find(|(names, _)| names.contains(&name))
            .ok_or_else(|| TextError::UnknownPreTokenizer {
                pre: name.to_owned(),
            })?;
        let stages = stages.iter().map(|stage| {
            Ok(match *stage {
                THOUSANDS => Stage::Thousands { whole_words: false },
                THOUSANDS_OF_WORDS => Stage::Thousands { whole_words: true },
                pattern => Stage::Pattern(Pattern::new(pattern)?),
            })
        });
        Ok(Self {
            stages: stages.collect::<Result<_, TextError>>()?,
            ignore_merges: IGNORE_MERGES.contains(&name),
            add_bos: ADD_BOS.contains(&name),
            raw: RAW.contains(&name),
        })
    }

    /// Hands the words of `text` to `emit`, in order. No word is empty; together they are `text`.
    pub(crate) fn words<'t>(&self, text: &'t str, emit: &mut dyn FnMut(&'t str)) {
        run(&self.stages, text, &mut Scratch::default(), emit);
    }
}

/// One name of each family.
#[cfg(test)]
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|(names, _)| names[0])
}

fn run<'t>(stages: &[Stage], text: &'t str, scratch: &mut Scratch, emit: &mut dyn FnMut(&'t str)) {
    match stages {
        [] => emit(text),
        [Stage::Pattern(pattern), rest @ ..] => {
            pattern.split(text, scratch, &mut |piece, scratch| {
                run(rest, piece, scratch, emit)
            });
        }
        [Stage::Thousands { whole_words }, rest @ ..] => {
            thousands(text, *whole_words, &mut |piece| {
                run(rest, piece, scratch, emit)
            });
        }
    }
}

/// Cuts runs of digits in groups of three from the right; the first group may be shorter.
fn thousands<'t>(text: &'t str, whole_words: bool, emit: &mut dyn FnMut(&'t str)) {
    let category = unicode_general_category::get_general_category;
    let is_digit = |c: char| category(c) == GeneralCategory::DecimalNumber;
    let is_word = |c: char| c.is_alphanumeric() || IN_WORDS.contains(&category(c));
    let (mut gap, mut at) = (0, 0);
    while let Some(start) = text[at..].find(is_digit).map(|found| at + found) {
        let end = text[start..]
            .find(|c| !is_digit(c))
            .map_or(text.len(), |len| start + len);
        at = end;
        work::step((end - start) as u32);
        if whole_words && char_at(text, end).is_some_and(is_word) {
            continue;
        }
        if gap < start {
            emit(&text[gap..start]);
        }
        gap = end;
        let count = text[start..end].chars().count();
        let mut from = start;
        for (i, (offset, _)) in text[start..end].char_indices().enumerate().skip(1) {
            if (count - i).is_multiple_of(3) {
                emit(&text[from..start + offset]);
                from = start + offset;
            }
        }
        emit(&text[from..end]);
    }
    if gap < text.len() {
        emit(&text[gap..]);
    }
}

/// What `\w` holds beside letters and numbers.
const IN_WORDS: &[GeneralCategory] = &[
    GeneralCategory::NonspacingMark,
    GeneralCategory::SpacingMark,
    GeneralCategory::EnclosingMark,
    GeneralCategory::ConnectorPunctuation,
];

const IGNORE_MERGES: &[&str] = &[
    "llama3",
    "llama-v3",
    "llama-bpe",
    "falcon3",
    "falcon-h1",
    "pixtral",
    "midm-2.0",
    "lfm2",
    "jina-v5-nano",
    "minicpm5",
    "youtu",
    "glm4",
    "glm5",
    "tekken",
    "granite-embed-multi-97m",
];
const ADD_BOS: &[&str] = &[
    "llama3",
    "llama-v3",
    "llama-bpe",
    "falcon3",
    "falcon-h1",
    "pixtral",
    "midm-2.0",
    "lfm2",
    "jina-v5-nano",
    "tekken",
    "chameleon",
    "gemma4",
    "granite-embed-multi-311m",
];
const RAW: &[&str] = &["gemma4", "granite-embed-multi-311m", "sarvam-moe"];

#[cfg(test)]
mod tests {
    use super::*;

    fn words<'t>(family: &str, text: &'t str) -> Vec<&'t str> {
        let mut words = Vec::new();
        PreTokenizer::new(family)
            .unwrap()
            .words(text, &mut |word| words.push(word));
        words
    }

    #[test]
    fn every_family_compiles_and_loses_nothing() {
        let text = "I'll pay 1234567\u{a0}kr,\r\n\t  naïve 漢字かな — Ünïcode’s   END \u{200d}🦙";
        for name in FAMILIES.iter().flat_map(|(names, _)| *names) {
            assert_eq!(words(name, text).concat(), text, "{name}");
        }
        for name in [IGNORE_MERGES, ADD_BOS, RAW].concat() {
            assert!(PreTokenizer::new(name).is_ok(), "{name}");
        }
        assert!(matches!(
            PreTokenizer::new("no-such"),
            Err(TextError::UnknownPreTokenizer { .. })
        ));
    }

    #[test]
    fn families_differ_where_their_patterns_do() {
        assert_eq!(words("gpt-2", "a  b12'll"), ["a", " ", " b", "12", "'ll"]);
        assert_eq!(
            words("llama-bpe", "x12345 'LL\n\n y"),
            ["x", "123", "45", " '", "LL", "\n\n", " y"]
        );
        assert_eq!(words("qwen2", "12"), ["1", "2"]);
        assert_eq!(words("starcoder", " 12"), [" ", "1", "2"]);
        assert_eq!(
            words("tekken", "fooBar ПРИВЕТмир"),
            ["foo", "Bar", " ПРИВЕТмир"]
        );
        assert_eq!(words("deepseek-v3", "a漢字12"), ["a", "漢字", "12"]);
        assert_eq!(words("gemma4", "a b\n\nc"), ["a b", "\n\n", "c"]);
    }

    #[test]
    fn thousands_are_grouped_from_the_right() {
        assert_eq!(
            words("superbpe", "a1234567,12"),
            ["a", "1", "234", "567", ",", "12"]
        );
        assert_eq!(
            words("tiny_aya", "1234 1234x"),
            ["1", "234", " ", "123", "4", "x"]
        );
    }
}
