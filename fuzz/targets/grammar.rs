//! Compiles any constraint, and follows a text that it allows, token by token.
//!
//! The first byte says what the text is: a schema, a regular expression, a grammar, choices (one a line),
//! or the schema of a call's arguments in a family's form. The second says how the text is drawn.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use serde::de::IgnoredAny;
use serde_json::Value;
use zse_text::{
    AnswerFormat, Family, Grammar, GrammarError, Grammars, SpecialIds, StringTable, TokenKind,
    Tokenizer, TokenizerModel, UnigramRules, Vocab, VocabFlags,
};

/// Most tokens of a text.
const MOST: usize = 64;

fn table(strings: &[String]) -> StringTable {
    StringTable::new("fuzz", strings.iter().map(String::as_bytes)).expect("they are few")
}

/// The end, two marks, all bytes, and some words.
fn tokenizer() -> Tokenizer {
    let mut tokens = ["</s>", "<|channel|>", "[TOOL_CALLS]"]
        .map(String::from)
        .to_vec();
    let mut kinds = vec![TokenKind::Control; tokens.len()];
    tokens.extend((0..=255u8).map(|byte| format!("<0x{byte:02X}>")));
    kinds.resize(tokens.len(), TokenKind::Byte);
    let words = ["true", "\":", "\", \"", "12", "{\"", "}}", "</", "\n<"];
    tokens.extend(words.map(String::from));
    kinds.resize(tokens.len(), TokenKind::Normal);
    let vocab = Vocab {
        model: TokenizerModel::SentencePiece,
        pre: String::new(),
        scores: Vec::new(),
        merges: table(&[]),
        special: SpecialIds {
            eos: Some(0),
            ..SpecialIds::default()
        },
        flags: VocabFlags::default(),
        unigram: UnigramRules::default(),
        name: String::new(),
        tokens: table(&tokens),
        kinds,
    };
    Tokenizer::new(vocab).expect("it is sound")
}

/// What a text has to be once it is complete.
enum Form {
    Json,
    OneOf(Vec<String>),
    Call(Family),
    Any,
}

/// The constraint that `text` is, and its form.
fn grammar(kind: u8, text: &str) -> Option<(Grammar, Form)> {
    let schema = || serde_json::from_str::<Value>(text).ok();
    let lines = || text.lines().map(str::to_owned).collect::<Vec<_>>();
    let families = Family::ALL.len();
    Some(match usize::from(kind) % (4 + families) {
        0 => (Grammar::JsonSchema(schema()?), Form::Json),
        1 => (Grammar::Regex(text.to_owned()), Form::Any),
        2 => (Grammar::Lark(text.to_owned()), Form::Any),
        3 => (Grammar::Choice(lines()), Form::OneOf(lines())),
        family => {
            let family = Family::ALL[family - 4];
            let functions = [("f".to_owned(), schema()?)];
            let format = AnswerFormat::of_family(family);
            (format.calls(&functions, kind >= 128), Form::Call(family))
        }
    })
}

/// A text that the grammar allows, if it came to its end.
fn draw(
    (tokenizer, grammars): &(Tokenizer, Grammars),
    grammar: Grammar,
    seed: u8,
) -> Result<Option<String>, GrammarError> {
    let mut state = grammars.compile(&grammar.into())?;
    let (mut text, mut random) = (Vec::new(), u64::from(seed));
    for _ in 0..MOST {
        let mask = state.mask()?;
        let bits = 0..mask.len() as u32 * 64;
        let allowed = bits.filter(|i| mask[*i as usize / 64] >> (i % 64) & 1 == 1);
        let allowed: Vec<u32> = allowed.collect();
        assert!(
            allowed
                .iter()
                .all(|&id| (id as usize) < tokenizer.vocab_size())
        );
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        let token = match allowed.contains(&0) {
            true => 0,
            false => allowed[(random >> 33) as usize % allowed.len()],
        };
        state.accept(token).expect("its mask has it");
        if token == 0 {
            return Ok(Some(String::from_utf8_lossy(&text).into_owned()));
        }
        text.extend_from_slice(&tokenizer.token_bytes(token));
        if state.is_over() {
            return Ok(Some(String::from_utf8_lossy(&text).into_owned()));
        }
    }
    Ok(None)
}

fuzz_target!(|input: (u8, u8, &str)| {
    static GRAMMARS: OnceLock<(Tokenizer, Grammars)> = OnceLock::new();
    let grammars = GRAMMARS.get_or_init(|| {
        // The library catches panics of its own, which are no finds.
        drop(std::panic::take_hook());
        let tokenizer = tokenizer();
        let grammars = Grammars::new(&tokenizer).expect("it has an end");
        (tokenizer, grammars)
    });
    let (kind, seed, text) = input;
    let Some((grammar, form)) = grammar(kind, text) else {
        return;
    };
    let Ok(Some(drawn)) = draw(grammars, grammar, seed) else {
        return;
    };
    match form {
        Form::Json => match serde_json::from_str::<Value>(&drawn) {
            Ok(_) => {}
            // Its numbers have no range, but Rust's have.
            Err(error) if error.to_string().starts_with("number out of range") => {
                drop(serde_json::from_str::<IgnoredAny>(&drawn).expect(&drawn));
            }
            Err(error) => panic!("{drawn}: {error}"),
        },
        Form::OneOf(texts) => assert!(texts.contains(&drawn), "{drawn}"),
        Form::Call(family) => {
            let mut reader = AnswerFormat::of_family(family).reader(true, false);
            reader.push(&drawn);
            reader.finish();
            assert!(reader.calls() > 0, "{drawn}");
        }
        Form::Any => {}
    }
});
