//! Counts the steps of encoding in tests, which hold that they grow no faster than the text.

/// Counts `steps`: characters looked at, or anything else that takes bounded time. Costs nothing
/// outside of tests.
#[inline(always)]
pub(crate) fn step(steps: u32) {
    #[cfg(test)]
    tests::STEPS.set(tests::STEPS.get() + u64::from(steps));
    #[cfg(not(test))]
    let _ = steps;
}

/// Starts to count the steps of this thread.
#[cfg(test)]
pub(crate) fn start() {
    tests::STEPS.set(0);
}

/// The steps since [`start`].
#[cfg(test)]
pub(crate) fn steps() -> u64 {
    tests::STEPS.get()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;

    use crate::families;
    use crate::tokenizer::ALPHABET;
    use crate::{
        SpecialIds, StringTable, TokenKind, Tokenizer, TokenizerModel, UnigramRules, Vocab,
        VocabFlags,
    };

    thread_local! {
        pub(super) static STEPS: Cell<u64> = const { Cell::new(0) };
    }

    fn table(strings: &[String]) -> StringTable {
        StringTable::new("test", strings.iter().map(String::as_bytes)).unwrap()
    }

    /// A vocabulary of all bytes and of runs of some: "aa", "aaaa", "▁▁", ...; and special tokens
    /// that are runs too.
    pub(crate) fn tokenizer(model: TokenizerModel, pre: &str) -> Tokenizer {
        let mut tokens: Vec<String> = (0..=255).map(|byte| format!("<0x{byte:02X}>")).collect();
        tokens.extend(ALPHABET.map(String::from));
        let mut merges = Vec::new();
        for unit in ["a", "A", "1", "<", "Ġ", "Ċ", "▁", "\n", "漢", "æ"] {
            for len in [1, 2, 4, 8] {
                let half = unit.repeat(len);
                merges.push(format!("{half} {half}"));
                tokens.extend([half.clone(), half.repeat(2)]);
            }
        }
        let plain = tokens.len();
        tokens.extend(["~~~", "~~~~~"].map(String::from));
        let mut kinds = vec![TokenKind::Normal; plain];
        kinds.resize(tokens.len(), TokenKind::UserDefined);
        Tokenizer::new(Vocab {
            model,
            pre: pre.to_owned(),
            tokens: table(&tokens),
            scores: Vec::new(),
            kinds,
            merges: table(&merges),
            special: SpecialIds::default(),
            flags: VocabFlags::default(),
            unigram: UnigramRules::default(),
            name: String::new(),
        })
        .unwrap()
    }

    /// Texts of about `n` bytes that are made of runs.
    fn texts(n: usize) -> Vec<String> {
        let runs = [
            "a", "A", "aA", "Aa", " ", "\n", "\r", "\t", "\u{3000}", "1", "漢", "か", "\u{301}",
            "<", "~", "'", "!", "/", " \n", "\n ", "a ", " a", "a1", "1,", "é", "🦙", "'s",
        ];
        let runs = runs.map(|unit| unit.repeat(n / unit.len()));
        let spaces = ["1", "漢", "x", "!", "\n1", "\u{301}"];
        let spaces = spaces.map(|end| " ".repeat(n) + end);
        let marks = ["<sentinel:1", "IMGIMGAAAA"];
        let marks = marks.map(|start| start.to_owned() + &start[start.len() - 1..].repeat(n));
        [&runs[..], &spaces, &marks].concat()
    }

    #[test]
    fn encoding_takes_steps_in_proportion_to_the_text() {
        let families = families::names().map(|pre| (TokenizerModel::Bpe, pre));
        let others = [
            TokenizerModel::SentencePiece,
            TokenizerModel::Unigram,
            TokenizerModel::WordPiece,
        ];
        let n = 2048;
        for (model, pre) in families.chain(others.map(|model| (model, "default"))) {
            let tokenizer = tokenizer(model, pre);
            let steps = |text: &str| {
                super::start();
                tokenizer.encode(text, true, true);
                super::steps()
            };
            for (short, long) in texts(n).iter().zip(texts(4 * n)) {
                let (few, many) = (steps(short), steps(&long));
                let what = || {
                    format!(
                        "{model:?} {pre}: {few} and {many} for {:?}",
                        &short[short.len() - 9..]
                    )
                };
                // The others remember words, and look at none that is too long.
                let counts = model != TokenizerModel::Bpe || few >= n as u64 / 64;
                assert!(counts, "{}", what());
                assert!(many <= 8 * few, "{}", what());
            }
        }
    }
}
