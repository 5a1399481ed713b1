//! How each family of BPE tokenizers splits text before merging: the table behind
//! `tokenizer.ggml.pre`.
//!
//! The patterns are those of the models' own `tokenizer.json`, under the names that llama.cpp
//! gives the families (`llama-vocab.cpp`). Where llama.cpp only approximates a pattern for want
//! of Unicode's upper and lower case categories (`tekken`, `gpt-4o`), the model's own is used.
//! Falcon and the families with several stages follow llama.cpp's reading.

use unicode_general_category::GeneralCategory;

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

/// Stages that are no pattern.
const THOUSANDS: &str = "thousands";
const THOUSANDS_OF_WORDS: &str = "thousands of words";

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

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;
const CJK_AND_KANA: &str = "[一-龥぀-ゟ゠-ヿ]+";
const BLOOM: &str = " ?[^(\\s|.,!?…。，、।۔،)]+";
const LINES: &str = r"[^\n]+|\n+";

/// Names in `tokenizer.ggml.pre` and the stages they stand for.
const FAMILIES: &[(&[&str], &[&str])] = &[
    (
        &["default"],
        &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
    ),
    (
        &[
            "gpt-2",
            "phi-2",
            "jina-es",
            "jina-de",
            "gigachat",
            "jina-v2-es",
            "jina-v2-de",
            "a.x-4.0",
            "mellum",
            "modern-bert",
            "exaone4",
            "jina-v1-en",
            "jina-v2-code",
            "roberta-bpe",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
        ],
        &[GPT2],
    ),
    (
        &[
            "starcoder",
            "refact",
            "command-r",
            "smollm",
            "codeshell",
            "exaone",
            "minerva-7b",
            "mellum2",
        ],
        &[r"\p{N}", GPT2],
    ),
    (
        &[
            "llama3",
            "llama-v3",
            "llama-bpe",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
            "jina-v5-nano",
            "dbrx",
            "smaug-bpe",
            "chatglm-bpe",
            "glm4",
            "glm5",
        ],
        &[LLAMA3],
    ),
    (
        &[
            "qwen2",
            "deepseek-r1-qwen",
            "kormo",
            "f2llmv2",
            "stablelm2",
            "hunyuan",
            "solar-open",
            "megrez",
            "grok-2",
        ],
        &[QWEN2],
    ),
    (&["laguna"], &[LINES, QWEN2]),
    (
        &["qwen35"],
        &[
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ],
    ),
    (
        &["ufakzeka"],
        &[r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
    ),
    (
        &["seed-coder"],
        &[
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+",
        ],
    ),
    (
        &["bailingmoe", "bailingmoe2", "llada-moe"],
        &[
            r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
        ],
    ),
    (
        &["minicpm5"],
        &[
            r"\p{N}{1,3}",
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ],
    ),
    (
        &["jais-2"],
        &[
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s",
        ],
    ),
    (
        // The model's own (?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+ matches the same, but in more ways.
        &["exaone-moe"],
        &[
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}(?: ?\p{L}|\p{M})*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+",
        ],
    ),
    (
        &[
            "gpt-4o",
            "llama4",
            "kanana2",
            "talkie",
            "minimax-m2",
            "granite-embed-multi-97m",
        ],
        &[GPT4O],
    ),
    (&["tiny_aya", "cohere2moe"], &[THOUSANDS_OF_WORDS, GPT4O]),
    (
        &["tekken"],
        &[
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ],
    ),
    (
        &["kimi-k2"],
        &[
            r"\p{Han}+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ],
    ),
    (
        &["deepseek-llm"],
        &[
            r"[\r\n]",
            r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+",
            r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
            r"\s+$",
            r"[一-龥ࠀ-一가-퟿]+",
            r"\p{N}+",
        ],
    ),
    (
        &["deepseek-coder"],
        &[
            r"[\r\n]",
            r"\s?\p{L}+",
            r"\s?\p{P}+",
            r"[一-龥ࠀ-一가-퟿]+",
            r"\p{N}",
        ],
    ),
    (
        &["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"],
        &[r"\p{N}{1,3}", CJK_AND_KANA, DEEPSEEK3],
    ),
    (
        &["spark2_5"],
        &[
            r"\p{N}{1,3}",
            CJK_AND_KANA,
            r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+|[\r\n]|\s+(?!\S)|\s+"##,
            r"\p{N}",
        ],
    ),
    (
        &["afmoe"],
        &[
            THOUSANDS,
            "[一-鿿㐀-䶿豈-﫿぀-ゟ゠-ヿ･-ﾟ⼀-⿟เ-๿຀-໿ក-៿က-႟ꩠ-ꩿꧠ-꧿가-힯ᄀ-ᇿ]+",
            DEEPSEEK3,
        ],
    ),
    (
        &["youtu"],
        &[
            "[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+",
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ],
    ),
    (
        &["falcon"],
        &[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"],
    ),
    (&["poro-chat", "bloom", "gpt3-finnish"], &[BLOOM]),
    (&["viking"], &[BLOOM, r"\p{N}"]),
    (
        &["chameleon"],
        &[
            "<sentinel:[0-9]+>",
            "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z",
            r"([\t\n]|    |  )",
            r"\p{N}",
            r"[\p{P}!-/:-@\[-`{-~]",
            GPT2,
        ],
    ),
    (&["superbpe"], &[r"\p{N}+", THOUSANDS]),
    (
        &["gemma4", "granite-embed-multi-311m", "sarvam-moe"],
        &[LINES],
    ),
];

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
