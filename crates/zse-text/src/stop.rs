//! Finding stop strings in text that comes piece by piece.

/// Looks for stop strings in a stream of text, and holds back only what may yet become one.
///
/// Text stops at the stop string that is complete first; of several that end at the same place the
/// longest counts. What is found does not depend on how the text is cut into pieces. Each string is
/// matched by Knuth, Morris and Pratt's automaton, so time is linear in the text.
#[derive(Clone, Debug)]
pub struct StopMatcher {
    stops: Vec<Stop>,
    /// Text that may be the start of a stop string; at most the longest one less a byte.
    held: String,
    found: Option<usize>,
}

#[derive(Clone, Debug)]
struct Stop {
    text: Box<[u8]>,
    /// `borders[n]`: the longest proper prefix of the first `n` bytes that is also their suffix.
    borders: Box<[usize]>,
    /// Bytes of `text` that the stream ends with.
    matched: usize,
}

impl StopMatcher {
    /// A matcher of `stops`; empty strings are ignored.
    pub fn new<S: AsRef<str>>(stops: impl IntoIterator<Item = S>) -> Self {
        let stops = stops
            .into_iter()
            .map(|stop| Stop::new(stop.as_ref()))
            .collect();
        Self {
            stops,
            held: String::new(),
            found: None,
        }
    }

    /// Takes the next piece and returns the text that is certain to come before any stop string.
    /// After a stop string was found that is none.
    pub fn push(&mut self, piece: &str) -> String {
        if self.found.is_some() {
            return String::new();
        }
        self.held.push_str(piece);
        let start = self.held.len() - piece.len();
        for at in start..self.held.len() {
            let byte = self.held.as_bytes()[at];
            let mut longest = None;
            for (i, stop) in self.stops.iter_mut().enumerate() {
                if stop.advance(byte) && longest.is_none_or(|(len, _)| stop.text.len() > len) {
                    longest = Some((stop.text.len(), i));
                }
            }
            if let Some((len, i)) = longest {
                self.found = Some(i);
                let mut text = std::mem::take(&mut self.held);
                text.truncate(at + 1 - len);
                return text;
            }
        }
        // The text ends with a character, so what matches starts with one.
        let kept = self
            .stops
            .iter()
            .map(|stop| stop.matched)
            .max()
            .unwrap_or(0);
        let held = self.held.split_off(self.held.len() - kept);
        std::mem::replace(&mut self.held, held)
    }

    /// The number of the stop string that was found.
    pub fn found(&self) -> Option<usize> {
        self.found
    }

    /// The text still held back, at the end of the stream.
    pub fn finish(&mut self) -> String {
        self.stops.iter_mut().for_each(|stop| stop.matched = 0);
        std::mem::take(&mut self.held)
    }
}

impl Stop {
    fn new(text: &str) -> Self {
        let text: Box<[u8]> = text.as_bytes().into();
        let mut borders = vec![0; text.len() + 1];
        let mut border = 0;
        for n in 1..text.len() {
            while border > 0 && text[n] != text[border] {
                border = borders[border];
            }
            border += usize::from(text[n] == text[border]);
            borders[n + 1] = border;
        }
        Self {
            text,
            borders: borders.into(),
            matched: 0,
        }
    }

    /// Takes a byte; whether it completes the string.
    fn advance(&mut self, byte: u8) -> bool {
        if self.text.is_empty() {
            return false;
        }
        while self.matched > 0 && self.text.get(self.matched) != Some(&byte) {
            self.matched = self.borders[self.matched];
        }
        self.matched += usize::from(self.text[self.matched] == byte);
        self.matched == self.text.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn holds_back_only_what_may_become_a_stop_string() {
        let mut matcher = StopMatcher::new(["</s>", "\nUser:", ""]);
        assert_eq!(matcher.push("a <"), "a ");
        assert_eq!(matcher.push("b\nUs"), "<b");
        assert_eq!(matcher.push("e\n"), "\nUse");
        assert_eq!(matcher.push("User: x"), "");
        assert_eq!(matcher.found(), Some(1));
        assert_eq!(
            (matcher.push("more"), matcher.finish()),
            (String::new(), String::new())
        );
    }

    #[test]
    fn held_text_comes_out_at_the_end() {
        let mut matcher = StopMatcher::new(["aab"]);
        assert_eq!(matcher.push("aaa"), "a");
        assert_eq!(matcher.finish(), "aa");
        assert_eq!(matcher.push("b"), "b");
        assert_eq!(matcher.found(), None);
    }

    #[test]
    fn never_splits_a_character() {
        let mut matcher = StopMatcher::new(["é!"]);
        assert_eq!(matcher.push("aè"), "aè");
        assert_eq!(matcher.push("é"), "");
        assert_eq!(matcher.push("?"), "é?");
    }

    #[test]
    fn a_stop_is_found_however_the_text_is_cut() {
        for (stops, text, expected, stop) in [
            (&["</s>"][..], "one </s> two", "one ", Some(0)),
            (&["aab"], "aaab", "a", Some(0)),
            (&["abcd", "bc"], "xabcd", "xa", Some(1)),
            (&["b", "ab"], "xab", "x", Some(1)),
            (&["ñ漢"], "añ漢b", "a", Some(0)),
            (&["END"], "the EN", "the EN", None),
            (&[], "any text", "any text", None),
        ] {
            let chars: Vec<char> = text.chars().collect();
            for size in 1..=chars.len() {
                let mut matcher = StopMatcher::new(stops);
                let pieces = chars.chunks(size).map(String::from_iter);
                let mut out: String = pieces.map(|piece| matcher.push(&piece)).collect();
                out += &matcher.finish();
                assert_eq!(
                    (&*out, matcher.found()),
                    (expected, stop),
                    "{text} by {size}"
                );
            }
        }
    }

    /// The text before the stop string that ends first, the longest of those.
    fn naive(text: &str, stops: &[String]) -> (String, bool) {
        for end in 0..=text.len() {
            let ends = |stop: &&String| {
                !stop.is_empty() && text.as_bytes()[..end].ends_with(stop.as_bytes())
            };
            if let Some(stop) = stops.iter().filter(ends).max_by_key(|stop| stop.len()) {
                return (text[..end - stop.len()].to_owned(), true);
            }
        }
        (text.to_owned(), false)
    }

    proptest! {
        #[test]
        fn finds_the_same_however_the_text_is_cut(
            pieces in proptest::collection::vec("[abé]{0,4}", 0..12),
            stops in proptest::collection::vec("[abé]{0,4}", 0..4),
        ) {
            let mut matcher = StopMatcher::new(&stops);
            let mut text = String::new();
            for piece in &pieces {
                text += &matcher.push(piece);
                // What is held back could become a stop string, and nothing more is.
                let held = &matcher.held;
                prop_assert!(held.is_empty() || stops.iter().any(|stop| stop.len() > held.len() && stop.starts_with(held.as_str())));
            }
            text += &matcher.finish();
            prop_assert_eq!((text, matcher.found().is_some()), naive(&pieces.concat(), &stops));
        }
    }
}
