//! Tool calls, found while a text is written.

use zse::{TOOL_CALL_OPEN, parse_tool_calls};

use crate::sampling::random;

const CLOSE: &str = "</tool_call>";

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Part {
    /// Text for the user.
    Text(String),
    /// What the model thinks before it answers.
    Reasoning(String),
    /// A call begins.
    Call {
        /// Which of the answer's calls it is.
        index: usize,
        /// An id of its own.
        id: String,
        /// The function's name.
        name: String,
    },
    /// More of the arguments of a call.
    Arguments {
        /// Which of the answer's calls they belong to.
        index: usize,
        /// A piece of JSON.
        text: String,
    },
}

/// Tells text and calls apart as they come, with the result that [`parse_tool_calls`] gives for the
/// whole, but for spaces at the very beginning: text is held back only while it may begin a call, or
/// is space that may stand before one.
#[derive(Debug, Default)]
pub(crate) struct ToolReader {
    /// Text that is not dealt with; in a call, all of it from the opening tag on.
    held: String,
    in_call: bool,
    /// Bytes of `held` that hold no closing tag.
    searched: usize,
    has_text: bool,
    calls: usize,
    /// The newest part is a call.
    after_call: bool,
}

impl ToolReader {
    /// How many calls there were so far.
    pub(crate) fn calls(&self) -> usize {
        self.calls
    }

    /// Takes the next piece of text.
    pub(crate) fn push(&mut self, text: &str) -> Vec<Part> {
        self.held.push_str(text);
        let mut parts = Vec::new();
        loop {
            if self.in_call {
                let Some(at) = self.held[self.searched..].find(CLOSE) else {
                    // The tag may be cut in two.
                    let mut from = self.held.len().saturating_sub(CLOSE.len());
                    while !self.held.is_char_boundary(from) {
                        from -= 1;
                    }
                    self.searched = self.searched.max(from);
                    return parts;
                };
                let rest = self.held.split_off(self.searched + at + CLOSE.len());
                let call = std::mem::replace(&mut self.held, rest);
                self.in_call = false;
                self.whole(&call, &mut parts);
            } else {
                let Some(at) = self.held.find(TOOL_CALL_OPEN) else {
                    let certain = self.held.len() - uncertain(&self.held);
                    let rest = self.held.split_off(certain);
                    let text = std::mem::replace(&mut self.held, rest);
                    self.text(&text, &mut parts);
                    return parts;
                };
                let call = self.held.split_off(at);
                let before = std::mem::replace(&mut self.held, call);
                // Kept with the tag until it is known whether it is a call.
                let trimmed = before.trim_end().len();
                self.text(&before[..trimmed], &mut parts);
                self.held.insert_str(0, &before[trimmed..]);
                self.in_call = true;
                self.searched = before.len() - trimmed + TOOL_CALL_OPEN.len();
            }
        }
    }

    /// The rest, at the end of the text.
    pub(crate) fn finish(&mut self) -> Vec<Part> {
        let mut parts = Vec::new();
        let rest = std::mem::take(&mut self.held);
        match self.in_call {
            true => self.whole(&rest, &mut parts),
            false if self.calls > 0 => self.text(rest.trim_end(), &mut parts),
            false => self.text(&rest, &mut parts),
        }
        self.in_call = false;
        parts
    }

    /// Takes what stands between tags, both included.
    fn whole(&mut self, text: &str, parts: &mut Vec<Part>) {
        let (text, calls) = parse_tool_calls(text);
        self.text(&text, parts);
        for call in calls {
            let index = self.calls;
            self.calls += 1;
            self.after_call = true;
            parts.push(Part::Call {
                index,
                id: format!("call_{:016x}", random()),
                name: call.function.name,
            });
            parts.push(Part::Arguments {
                index,
                text: call.function.arguments,
            });
        }
    }

    fn text(&mut self, text: &str, parts: &mut Vec<Part>) {
        let text = match self.after_call {
            true => text.trim_start(),
            false => text,
        };
        if text.is_empty() {
            return;
        }
        let line = if self.after_call && self.has_text {
            "\n"
        } else {
            ""
        };
        self.after_call = false;
        self.has_text = true;
        parts.push(Part::Text(format!("{line}{text}")));
    }
}

/// Bytes at the end of `text` that may begin a call: spaces, and the beginning of the tag.
fn uncertain(text: &str) -> usize {
    let longest = (TOOL_CALL_OPEN.len() - 1).min(text.len());
    let tag = (1..=longest)
        .rev()
        .find(|&n| text.ends_with(&TOOL_CALL_OPEN[..n]))
        .unwrap_or(0);
    let before = &text[..text.len() - tag];
    tag + before.len() - before.trim_end().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text and calls of `text`, given in pieces of `size` characters.
    fn read(text: &str, size: usize) -> (String, Vec<(String, String)>) {
        let mut reader = ToolReader::default();
        let chars: Vec<char> = text.chars().collect();
        let mut parts = Vec::new();
        for piece in chars.chunks(size) {
            parts.extend(reader.push(&piece.iter().collect::<String>()));
        }
        parts.extend(reader.finish());
        let (mut content, mut calls) = (String::new(), Vec::new());
        for part in parts {
            match part {
                Part::Text(text) => content += &text,
                Part::Call { name, .. } => calls.push((name, String::new())),
                Part::Arguments { index, text } => calls[index].1 += &text,
                Part::Reasoning(_) => panic!("nothing thinks here"),
            }
        }
        assert_eq!(reader.calls(), calls.len());
        (content, calls)
    }

    #[test]
    fn pieces_give_what_the_whole_gives() {
        for text in [
            "plain text, 1 < 2 ",
            " leading and trailing \n",
            "Let me see.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>",
            "<tool_call>{\"name\": \"f\"}</tool_call>\n<tool_call>{\"name\": \"g\"}</tool_call>\n",
            "a <tool_call>{\"name\": \"f\"}</tool_call> b <tool_call>{\"name\": \"g\"}</tool_call> c",
            "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"city\": \"Zürich\"}}",
            "a <tool_call> no call </tool_call> b",
            "<tool_call> oops <tool_call>{\"name\": \"f\"}</tool_call>",
            "a <tool_c",
            "größer <tool_call>é",
        ] {
            let (content, calls) = parse_tool_calls(text);
            let calls: Vec<_> = calls
                .into_iter()
                .map(|call| (call.function.name, call.function.arguments))
                .collect();
            for size in [1, 2, 3, 7, 1000] {
                let found = read(text, size);
                assert_eq!(
                    found,
                    (content.clone(), calls.clone()),
                    "{text:?} by {size}"
                );
            }
        }
    }

    #[test]
    fn text_is_not_held_back_longer_than_needed() {
        let mut reader = ToolReader::default();
        assert_eq!(reader.push("Hello"), [Part::Text("Hello".to_owned())]);
        assert_eq!(reader.push(" <"), []);
        assert_eq!(reader.push("b"), [Part::Text(" <b".to_owned())]);
    }

    #[test]
    fn ids_differ() {
        let mut reader = ToolReader::default();
        let text = "<tool_call>{\"name\": \"f\"}</tool_call>";
        let ids: Vec<_> = [reader.push(text), reader.push(text)]
            .concat()
            .into_iter()
            .filter_map(|part| match part {
                Part::Call { id, .. } => Some(id),
                _ => None,
            })
            .collect();
        assert_ne!(ids[0], ids[1]);
    }
}
