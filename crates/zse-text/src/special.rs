//! Tokens with a part to play: beginning and end of text, end of a turn, fill-in-the-middle.

use zse_format::Metadata;
use zse_format::hf::tokenizer::keys;

use crate::TextError;
use crate::string_table::StringTable;
use crate::vocab::{TokenKind, TokenizerModel};

/// Ids of tokens with a part to play. A file names some; others are known by their spelling.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialIds {
    /// Beginning of text (`[CLS]` in BERT).
    pub bos: Option<u32>,
    /// End of text.
    pub eos: Option<u32>,
    /// End of a turn in a chat.
    pub eot: Option<u32>,
    /// End of a message that awaits a tool's result.
    pub eom: Option<u32>,
    /// Text that has no token.
    pub unk: Option<u32>,
    /// Between two texts (`[SEP]` in BERT).
    pub sep: Option<u32>,
    /// Padding.
    pub pad: Option<u32>,
    /// Text to be guessed.
    pub mask: Option<u32>,
    /// Fill in the middle: before the text that comes first.
    pub fim_pre: Option<u32>,
    /// Fill in the middle: before the text that comes last.
    pub fim_suf: Option<u32>,
    /// Fill in the middle: before the text to be written.
    pub fim_mid: Option<u32>,
    /// Fill in the middle: padding.
    pub fim_pad: Option<u32>,
    /// Fill in the middle: before a repository's name.
    pub fim_rep: Option<u32>,
    /// Fill in the middle: between files.
    pub fim_sep: Option<u32>,
    /// Tokens that end a generation, beside those above that do.
    pub ends: Vec<u32>,
    /// Special tokens that swallow the spaces before them; `None` where the file does not say.
    pub lstrip: Option<Vec<u32>>,
    /// Special tokens that swallow the spaces behind them; `None` where the file does not say.
    pub rstrip: Option<Vec<u32>>,
}

impl SpecialIds {
    /// The ids that a GGUF file names, over the defaults of its kind of tokenizer. Ids that are
    /// not in the vocabulary count as absent.
    pub(crate) fn from_metadata(
        metadata: &Metadata,
        model: TokenizerModel,
        n_tokens: usize,
    ) -> Result<Self, TextError> {
        let known = |id: &u32| (*id as usize) < n_tokens;
        let id = |names: &[&str], default: Option<u32>| -> Result<Option<u32>, TextError> {
            for name in names {
                let key = format!("tokenizer.ggml.{name}_token_id");
                if let Some(id) = metadata.u32(&key)?.filter(known) {
                    return Ok(Some(id));
                }
            }
            Ok(default.filter(known))
        };
        let ids = |key| -> Result<Option<Vec<u32>>, TextError> {
            let mut ids = metadata.u32s(key)?;
            if let Some(ids) = &mut ids {
                ids.retain(known);
            }
            Ok(ids)
        };
        // Files written before the keys existed rely on these: LLaMA's and BERT's numbers.
        let [bos, eos, unk, sep, pad, mask] = match model {
            TokenizerModel::SentencePiece => [Some(1), Some(2), Some(0), None, None, None],
            TokenizerModel::WordPiece => {
                [Some(101), None, Some(100), Some(102), Some(0), Some(103)]
            }
            // T5's.
            TokenizerModel::Unigram => [None, Some(1), Some(2), None, Some(0), None],
            TokenizerModel::Bpe => [None; 6],
        };
        Ok(Self {
            bos: id(&["bos"], bos)?,
            eos: id(&["eos"], eos)?,
            eot: id(&["eot"], None)?,
            eom: id(&["eom"], None)?,
            unk: id(&["unknown"], unk)?,
            sep: id(&["seperator"], sep)?, // sic
            pad: id(&["padding"], pad)?,
            mask: id(&["mask"], mask)?,
            fim_pre: id(&["fim_pre", "prefix"], None)?,
            fim_suf: id(&["fim_suf", "suffix"], None)?,
            fim_mid: id(&["fim_mid", "middle"], None)?,
            fim_pad: id(&["fim_pad"], None)?,
            fim_rep: id(&["fim_rep"], None)?,
            fim_sep: id(&["fim_sep"], None)?,
            ends: ids(keys::END_TOKEN_IDS)?.unwrap_or_default(),
            lstrip: ids(keys::LSTRIP_TOKEN_IDS)?,
            rstrip: ids(keys::RSTRIP_TOKEN_IDS)?,
        })
    }

    /// Finds by their spelling the tokens that the file does not name, and all tokens that end a
    /// generation, which it returns in order of id. What is found so becomes a control token,
    /// whatever the file says.
    ///
    /// The spellings are those of the families llama.cpp knows (`llama-vocab.cpp`).
    pub(crate) fn detect(&mut self, tokens: &StringTable, kinds: &mut [TokenKind]) -> Vec<u32> {
        let find = |name: &&str| tokens.find(name.as_bytes());
        for (id, names) in [
            (&mut self.eot, EOT),
            (&mut self.eom, &["<|eom_id|>"]),
            (&mut self.fim_pre, FIM_PRE),
            (&mut self.fim_suf, FIM_SUF),
            (&mut self.fim_mid, FIM_MID),
            (&mut self.fim_pad, FIM_PAD),
            (&mut self.fim_rep, FIM_REP),
            (&mut self.fim_sep, &["<|file_sep|>"]),
        ] {
            if id.is_none() {
                *id = names.iter().find_map(find);
                if let Some(id) = *id {
                    kinds[id as usize] = TokenKind::Control;
                }
            }
        }

        let mut ends: Vec<u32> = [EOT, END].concat().iter().filter_map(find).collect();
        for &id in &ends {
            kinds[id as usize] = TokenKind::Control;
        }
        ends.extend(
            [
                self.fim_pad,
                self.fim_rep,
                self.fim_sep,
                self.eos,
                self.eot,
                self.eom,
            ]
            .iter()
            .flatten(),
        );
        ends.extend(&self.ends);
        ends.sort_unstable();
        ends.dedup();

        // gpt-oss writes its channels with these: they are text to be seen.
        for id in ["<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"]
            .iter()
            .filter_map(find)
        {
            kinds[id as usize] = TokenKind::UserDefined;
        }
        let ends_with = |ends: &[u32], name: &str| find(&name).is_some_and(|id| ends.contains(&id));
        let mut keep = |ends: &mut Vec<u32>, name: &str, kind| {
            if let Some(id) = find(&name).filter(|id| ends.contains(id)) {
                ends.retain(|&end| end != id);
                kinds[id as usize] = kind;
            }
        };
        // Where calls have a token of their own, <|end|> ends a message and not the turn.
        let calls = ends_with(&ends, "<|call|>") || ends_with(&ends, "<|calls|>");
        if calls && (ends_with(&ends, "<|return|>") || ends_with(&ends, "<|flush|>")) {
            keep(&mut ends, "<|end|>", TokenKind::UserDefined);
        }
        // Gemma 4 has a plain </s>, the HTML tag.
        if ends_with(&ends, "<|tool_response>") {
            keep(&mut ends, "</s>", TokenKind::Normal);
        }
        ends
    }
}

const EOT: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "<｜end▁of▁sentence｜>",
    "<end_of_utterance>",
];
/// Tokens that end a generation, beside those that end a turn.
const END: &[&str] = &[
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "</s>",
    "<|eom_id|>",
    "[EOS]",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "[e~[",
];
const FIM_PRE: &[&str] = &[
    "<|fim_prefix|>",
    "<fim-prefix>",
    "<fim_prefix>",
    "<｜fim▁begin｜>",
    "<PRE>",
    "▁<PRE>",
    "<|code_prefix|>",
    "<|prefix|>",
];
const FIM_SUF: &[&str] = &[
    "<|fim_suffix|>",
    "<fim-suffix>",
    "<fim_suffix>",
    "<｜fim▁hole｜>",
    "<SUF>",
    "▁<SUF>",
    "<|code_suffix|>",
    "<|suffix|>",
];
const FIM_MID: &[&str] = &[
    "<|fim_middle|>",
    "<fim-middle>",
    "<fim_middle>",
    "<｜fim▁end｜>",
    "<MID>",
    "▁<MID>",
    "<|code_middle|>",
    "<|middle|>",
];
const FIM_PAD: &[&str] = &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"];
const FIM_REP: &[&str] = &[
    "<|fim_repo|>",
    "<|repo_name|>",
    "<fim-repo>",
    "<REPO>",
    "<reponame>",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn detect(names: &[&str]) -> (SpecialIds, Vec<&'static str>, Vec<TokenKind>) {
        let tokens = StringTable::new("test", names.iter().map(|n| n.as_bytes())).unwrap();
        let mut kinds = vec![TokenKind::Normal; names.len()];
        let mut ids = SpecialIds::default();
        let ends = ids.detect(&tokens, &mut kinds);
        let all = [EOT, END].concat();
        let spelled = ends
            .iter()
            .filter_map(|&i| all.iter().find(|n| **n == names[i as usize]))
            .copied();
        (ids, spelled.collect(), kinds)
    }

    #[test]
    fn turn_ends_are_found_by_spelling_and_become_control_tokens() {
        let (ids, ends, kinds) = detect(&["a", "<|endoftext|>", "<|im_end|>", "<|fim_prefix|>"]);
        assert_eq!((ids.eot, ids.fim_pre), (Some(2), Some(3)));
        assert_eq!(ends, ["<|endoftext|>", "<|im_end|>"]);
        assert_eq!(kinds[0], TokenKind::Normal);
        assert!(kinds[1..].iter().all(|&k| k == TokenKind::Control));
    }

    #[test]
    fn end_of_message_does_not_end_a_harmony_turn() {
        let (_, ends, kinds) = detect(&["<|end|>", "<|return|>", "<|call|>", "<|channel|>"]);
        assert_eq!(ends, ["<|return|>", "<|call|>"]);
        assert_eq!(kinds[0], TokenKind::UserDefined);
        assert_eq!(kinds[3], TokenKind::UserDefined);
        let (_, ends, _) = detect(&["<|end|>", "<|user|>"]);
        assert_eq!(ends, ["<|end|>"]);
    }
}
