//! Reading the beginning of a call, of which more may come.

/// Why a reader does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Miss {
    /// What is there may become it.
    More,
    /// It is something else.
    No,
}

/// A place in a text. What it finds is found in every longer text, too.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
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
            false if text.starts_with(rest) => Err(Miss::More),
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
        let length = rest.find(mark).ok_or(Miss::More)?;
        self.at += length + mark.len();
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
        Err(Miss::More)
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
