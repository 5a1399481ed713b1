//! Reading the beginning of a call, of which more may come.

/// Bytes that the beginning of a call may have, up to its arguments: it is read again whenever more
/// of it has come.
const LONGEST: usize = 4096;

/// Why a reader does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Miss {
    /// What is there may become it.
    More,
    /// What is there may become it, but not before one of these has come.
    Until(&'static [&'static str]),
    /// What is there begins an argument in Python, whose end has not come.
    Literal,
    /// It is something else.
    No,
}

/// A place in the first bytes of a text. What it finds is found in every longer text, too.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    /// Whether the text goes on where no more of it is read.
    is_cut: bool,
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let end = text.floor_char_boundary(LONGEST);
        Self {
            text: &text[..end],
            is_cut: end < text.len(),
            at: 0,
        }
    }

    /// At the end of what is there.
    fn more(&self) -> Miss {
        match self.is_cut {
            true => Miss::No,
            false => Miss::More,
        }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Skips spaces.
    pub(super) fn space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    /// Whether `text` comes next.
    pub(super) fn peek(&self, text: &str) -> Result<bool, Miss> {
        let rest = self.rest();
        match rest.starts_with(text) {
            true => Ok(true),
            false if text.starts_with(rest) => Err(self.more()),
            false => Ok(false),
        }
    }

    /// Skips `text` if it comes next.
    pub(super) fn skip(&mut self, text: &str) -> Result<bool, Miss> {
        let is_next = self.peek(text)?;
        if is_next {
            self.at += text.len();
        }
        Ok(is_next)
    }

    /// Skips `text`, which has to come next.
    pub(super) fn expect(&mut self, text: &str) -> Result<(), Miss> {
        match self.skip(text)? {
            true => Ok(()),
            false => Err(Miss::No),
        }
    }

    /// What is before `mark`, which is skipped.
    pub(super) fn until(&mut self, mark: &str) -> Result<&'a str, Miss> {
        let rest = self.rest();
        let length = rest.find(mark).ok_or_else(|| self.more())?;
        self.at += length + mark.len();
        Ok(&rest[..length])
    }

    /// What is before the first character of which `ends` is true.
    pub(super) fn before(&mut self, ends: impl Fn(char) -> bool) -> Result<&'a str, Miss> {
        let rest = self.rest();
        let length = rest.find(ends).ok_or_else(|| self.more())?;
        self.at += length;
        Ok(&rest[..length])
    }

    /// A string of JSON.
    pub(super) fn string(&mut self) -> Result<String, Miss> {
        let start = self.at;
        self.expect("\"")?;
        let mut is_escaped = false;
        for (i, byte) in self.rest().bytes().enumerate() {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' => is_escaped = true,
                b'"' => {
                    self.at += i + 1;
                    let text = &self.text[start..self.at];
                    return serde_json::from_str(text).map_err(|_| Miss::No);
                }
                _ => {}
            }
        }
        Err(self.more())
    }

    /// The name of a function or of a parameter, which ends before anything else.
    pub(super) fn name(&mut self) -> Result<&'a str, Miss> {
        match self.before(|c| !is_part_of_name(c))? {
            "" => Err(Miss::No),
            name => Ok(name),
        }
    }

    /// The beginning of an object that is a call, up to the object of its arguments: gives the name.
    pub(super) fn call_object(&mut self) -> Result<String, Miss> {
        self.expect("{")?;
        self.space();
        let mut name = None;
        loop {
            let key = self.string()?;
            self.space();
            self.expect(":")?;
            self.space();
            match (key.as_str(), name.take()) {
                ("name", None) => name = Some(self.string()?),
                // Llama says so before the name.
                ("type" | "id", before) => {
                    self.string()?;
                    name = before;
                }
                ("arguments" | "parameters", Some(name)) => {
                    return match self.peek("{")? {
                        true => Ok(name),
                        false => Err(Miss::No),
                    };
                }
                _ => return Err(Miss::No),
            }
            self.space();
            self.expect(",")?;
            self.space();
        }
    }
}

fn is_part_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// Whether a function may be called so.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(is_part_of_name)
}

/// Finds the end of an object of JSON that comes in pieces.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ObjectEnd {
    depth: usize,
    in_string: bool,
    is_escaped: bool,
}

impl ObjectEnd {
    /// Goes over the next piece; the length of what belongs to the object, once it ends.
    pub(super) fn find(&mut self, text: &str) -> Option<usize> {
        for (i, byte) in text.bytes().enumerate() {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' if self.in_string => self.is_escaped = true,
                b'"' => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(i + 1);
                    }
                }
                _ => {}
            }
        }
        None
    }
}
