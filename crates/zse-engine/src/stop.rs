//! Stop strings in text that comes in pieces.

/// Finds the first of several strings in a text that comes in pieces, and holds back what may turn
/// out to begin one. What it finds does not depend on how the text is cut.
#[derive(Clone, Debug, Default)]
pub(crate) struct StopMatcher {
    stops: Vec<String>,
    held: String,
}

impl StopMatcher {
    /// Looks for `stops`, none of them empty.
    pub(crate) fn new(stops: Vec<String>) -> Self {
        Self {
            stops,
            held: String::new(),
        }
    }

    /// Takes the next piece: the text that is certain now, and the stop string that ends it, if one
    /// is complete. Of several, the one that is complete first counts, then the longest.
    pub(crate) fn push(&mut self, text: &str) -> (String, Option<String>) {
        self.held.push_str(text);
        let found = self.stops.iter().filter_map(|stop| {
            let start = self.held.find(stop.as_str())?;
            Some((start + stop.len(), start, stop))
        });
        if let Some((_, start, stop)) = found.min() {
            let stop = stop.clone();
            let mut text = std::mem::take(&mut self.held);
            text.truncate(start);
            return (text, Some(stop));
        }
        let certain = self.held.len() - self.undecided();
        let rest = self.held.split_off(certain);
        (std::mem::replace(&mut self.held, rest), None)
    }

    /// What is held back, at the end of the text.
    pub(crate) fn flush(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Bytes at the end of `held` that begin a stop string.
    fn undecided(&self) -> usize {
        let longest = self.stops.iter().map(|s| s.len() - 1).max().unwrap_or(0);
        let start = self.held.len().saturating_sub(longest);
        (start..self.held.len())
            .filter(|&i| self.held.is_char_boundary(i))
            .find(|&i| {
                self.stops
                    .iter()
                    .any(|stop| stop.starts_with(&self.held[i..]))
            })
            .map_or(0, |i| self.held.len() - i)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text and stop that come out if `text` comes in pieces of `size` characters.
    fn cut(stops: &[&str], text: &str, size: usize) -> (String, Option<String>) {
        let mut matcher = StopMatcher::new(stops.iter().map(|s| (*s).to_owned()).collect());
        let mut out = String::new();
        let chars: Vec<char> = text.chars().collect();
        for piece in chars.chunks(size) {
            let (text, stop) = matcher.push(&piece.iter().collect::<String>());
            out.push_str(&text);
            if stop.is_some() {
                return (out, stop);
            }
        }
        out.push_str(&matcher.flush());
        (out, None)
    }

    #[test]
    fn a_stop_is_found_however_the_text_is_cut() {
        for (stops, text, expected, stop) in [
            (&["</s>"][..], "one </s> two", "one ", Some("</s>")),
            (&["aab"], "aaab", "a", Some("aab")),
            (&["abcd", "bc"], "xabcd", "xa", Some("bc")),
            (&["b", "ab"], "xab", "x", Some("ab")),
            (&["ñ漢"], "añ漢b", "a", Some("ñ漢")),
            (&["END"], "the EN", "the EN", None),
            (&[], "any text", "any text", None),
        ] {
            for size in 1..=text.chars().count() {
                let (out, found) = cut(stops, text, size);
                assert_eq!(
                    (out.as_str(), found.as_deref()),
                    (expected, stop),
                    "{text} by {size}"
                );
            }
        }
    }

    #[test]
    fn only_what_may_begin_a_stop_is_held_back() {
        let mut matcher = StopMatcher::new(vec!["\nUser:".to_owned()]);
        assert_eq!(matcher.push("Hi.\nUs"), ("Hi.".to_owned(), None));
        assert_eq!(matcher.push("ual"), ("\nUsual".to_owned(), None));
        assert_eq!(matcher.push("\n"), (String::new(), None));
        assert_eq!(matcher.flush(), "\n");
    }
}
