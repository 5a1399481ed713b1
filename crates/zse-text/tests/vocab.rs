//! Real vocabularies: every input of `shared/vocab` beside the repository gives the ids expected,
//! and comes back as it was.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use zse_format::Checkpoint;
use zse_text::Tokenizer;

/// The folder of vocabularies, if this checkout has one.
fn folder() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vocab");
    if !folder.is_dir() {
        eprintln!(
            "passed over: no folder of vocabularies at {}",
            folder.display()
        );
        return None;
    }
    Some(folder)
}

fn load(path: &Path) -> Tokenizer {
    let checkpoint = Checkpoint::open(path).unwrap();
    Tokenizer::from_metadata(checkpoint.metadata()).unwrap()
}

/// All vocabularies with their paths.
fn vocabularies() -> Vec<(PathBuf, Tokenizer)> {
    let Some(folder) = folder() else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "gguf"));
    paths.sort();
    paths
        .into_iter()
        .map(|path| (path.clone(), load(&path)))
        .collect()
}

fn is_word_piece(path: &Path) -> bool {
    path.to_string_lossy().contains("bert")
}

#[test]
fn ids_are_those_expected() {
    for (path, tokenizer) in vocabularies() {
        let read =
            |suffix: &str| std::fs::read_to_string(format!("{}.{suffix}", path.display())).unwrap();
        let (inputs, outputs) = (read("inp"), read("out"));
        let inputs = inputs.strip_suffix("\n__ggml_vocab_test__\n").unwrap();
        let inputs: Vec<&str> = inputs.split("\n__ggml_vocab_test__\n").collect();
        let expected = outputs.lines().map(|line| {
            line.split_whitespace()
                .map(|id| id.parse().unwrap())
                .collect::<Vec<u32>>()
        });
        let expected: Vec<_> = expected.collect();
        assert_eq!(inputs.len(), expected.len(), "{}", path.display());
        for (input, expected) in inputs.iter().zip(expected) {
            let ids = tokenizer.encode(input, false, false);
            assert_eq!(ids, expected, "{}: {input:?}", path.display());
            if !is_word_piece(&path) {
                assert_eq!(tokenizer.decode(&ids, false), *input, "{}", path.display());
            }
        }
    }
}

#[test]
fn long_runs_of_one_character_come_back_as_they_were() {
    for (path, tokenizer) in vocabularies() {
        if is_word_piece(&path) {
            continue;
        }
        for unit in ["a", " ", "\n", "漢", "\u{301}", "<", "1"] {
            let text = unit.repeat((1 << 13) / unit.len());
            let ids = tokenizer.encode(&text, false, true);
            assert_eq!(
                tokenizer.decode(&ids, false),
                text,
                "{}: {unit:?}",
                path.display()
            );
        }
    }
}

#[test]
fn random_ids_decode_in_a_stream_as_they_do_at_once() {
    for (path, tokenizer) in vocabularies() {
        let mut seed = 0x9e37_79b9_7f4a_7c15u64;
        for _ in 0..200 {
            let ids: Vec<u32> = (0..50)
                .map(|_| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (seed >> 33) as u32 % (tokenizer.vocab_size() as u32 + 2)
                })
                .collect();
            for skip in [false, true] {
                let stream = tokenizer.stream();
                let mut stream = if skip { stream } else { stream.show_special() };
                let mut text: String = ids.iter().map(|&id| stream.push(id)).collect();
                text += &stream.flush();
                assert_eq!(text, tokenizer.decode(&ids, skip), "{}", path.display());
            }
        }
    }
}

fn texts() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "\\PC{0,8}",
        "[a-zA-Z' ]{0,12}",
        "[ \t\r\n]{1,6}",
        "[0-9.,]{1,8}",
        "[\u{0}-\u{ff}]{0,4}",
        "[\u{300}-\u{36f}\u{4e00}-\u{4eff}\u{ac00}-\u{acff}\u{1f600}-\u{1f64f}\u{200d}]{0,4}",
        Just("<|im_end|></s> <s> [INST]<|eot_id|><unk> x".to_owned()),
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

#[test]
fn any_text_comes_back_as_it_was() {
    for (path, tokenizer) in vocabularies() {
        if is_word_piece(&path) {
            continue;
        }
        // Falcon's vocabulary lacks the tokens of some control characters.
        let lacks = |c: char| {
            tokenizer
                .encode(c.encode_utf8(&mut [0; 4]), false, false)
                .is_empty()
        };
        let lacking: Vec<char> = ('\0'..' ').filter(|&c| lacks(c)).collect();
        assert!(lacking.is_empty() || path.to_string_lossy().contains("falcon"));
        let config = ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        };
        proptest!(config, |(text in texts(), parse_special: bool)| {
            prop_assume!(!text.contains(&lacking[..]));
            // Phi-3's special tokens swallow the spaces behind them.
            prop_assume!(!parse_special || !path.to_string_lossy().contains("phi-3"));
            let ids = tokenizer.encode(&text, false, parse_special);
            prop_assert_eq!(tokenizer.decode(&ids, false), text, "{}", path.display());
        });
    }
}
