//! From a pattern's text to its syntax tree.

use std::iter::Peekable;
use std::str::CharIndices;

use super::class::Class;
use crate::TextError;

/// A pattern's syntax tree.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    /// One character of a set.
    Class(Class),
    /// All in order.
    Seq(Vec<Node>),
    /// The first that lets the rest match.
    Alt(Vec<Node>),
    /// As many as possible from `min` to `max`, giving back where the rest asks for it.
    Repeat {
        /// What is repeated; it cannot match nothing.
        node: Box<Node>,
        min: u32,
        max: Option<u32>,
    },
    /// Looks ahead without taking.
    Look { node: Box<Node>, negated: bool },
    /// The end of the text.
    End,
}

impl Node {
    fn can_be_empty(&self) -> bool {
        match self {
            Self::Class(_) => false,
            Self::Seq(nodes) => nodes.iter().all(Self::can_be_empty),
            Self::Alt(nodes) => nodes.iter().any(Self::can_be_empty),
            Self::Repeat { node, min, .. } => *min == 0 || node.can_be_empty(),
            Self::Look { .. } | Self::End => true,
        }
    }
}

/// Nested groups, and the largest count in `{m,n}`. Patterns of real models stay far below.
const MAX_DEPTH: usize = 32;
const MAX_COUNT: u32 = 1000;

/// Parses `pattern`.
///
/// # Errors
/// [`TextError::Pattern`] for syntax outside of the part of regular expressions that
/// pre-tokenizers use.
pub(super) fn parse(pattern: &str) -> Result<Node, TextError> {
    let mut parser = Parser {
        pattern,
        chars: pattern.char_indices().peekable(),
        fold: false,
        depth: 0,
    };
    let node = parser.alternatives()?;
    match parser.chars.peek() {
        None => Ok(node),
        Some(_) => Err(parser.error("unmatched ')'")),
    }
}

struct Parser<'p> {
    pattern: &'p str,
    chars: Peekable<CharIndices<'p>>,
    /// Inside `(?i:`.
    fold: bool,
    depth: usize,
}

impl Parser<'_> {
    fn error(&mut self, problem: &'static str) -> TextError {
        let offset = self
            .chars
            .peek()
            .map_or(self.pattern.len(), |&(offset, _)| offset);
        TextError::Pattern {
            pattern: self.pattern.to_owned(),
            offset,
            problem,
        }
    }

    fn peek(&mut self) -> Option<char> {
        self.chars.peek().map(|&(_, c)| c)
    }

    fn next(&mut self) -> Result<char, TextError> {
        match self.chars.next() {
            Some((_, c)) => Ok(c),
            None => Err(self.error("ends too early")),
        }
    }

    fn eat(&mut self, expected: &str) -> bool {
        let Some(&(offset, _)) = self.chars.peek() else {
            return false;
        };
        let found = self.pattern[offset..].starts_with(expected);
        if found {
            self.chars.nth(expected.chars().count() - 1);
        }
        found
    }

    fn alternatives(&mut self) -> Result<Node, TextError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error("nests too deeply"));
        }
        let mut alternatives = vec![self.sequence()?];
        while self.eat("|") {
            alternatives.push(self.sequence()?);
        }
        self.depth -= 1;
        Ok(if alternatives.len() == 1 {
            alternatives.remove(0)
        } else {
            Node::Alt(alternatives)
        })
    }

    fn sequence(&mut self) -> Result<Node, TextError> {
        let mut nodes = Vec::new();
        while !matches!(self.peek(), None | Some('|' | ')')) {
            let atom = self.atom()?;
            nodes.push(self.quantified(atom)?);
        }
        Ok(if nodes.len() == 1 {
            nodes.remove(0)
        } else {
            Node::Seq(nodes)
        })
    }

    fn quantified(&mut self, node: Node) -> Result<Node, TextError> {
        let (min, max) = match self.peek() {
            Some('?') => (0, Some(1)),
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('{') => {
                self.next()?;
                let min = self.count()?;
                let max = match self.eat(",") {
                    false => Some(min),
                    true if self.peek() == Some('}') => None,
                    true => Some(self.count()?),
                };
                if self.peek() != Some('}') || max.is_some_and(|max| max < min) {
                    return Err(self.error("expected a count {m}, {m,} or {m,n}"));
                }
                (min, max)
            }
            _ => return Ok(node),
        };
        self.next()?;
        if matches!(self.peek(), Some('?' | '*' | '+')) {
            return Err(self.error("lazy and possessive repeats are not supported"));
        }
        if node.can_be_empty() {
            return Err(self.error("repeats what may match nothing"));
        }
        Ok(Node::Repeat {
            node: Box::new(node),
            min,
            max,
        })
    }

    fn count(&mut self) -> Result<u32, TextError> {
        let mut count = 0;
        while let Some(digit) = self.peek().and_then(|c| c.to_digit(10)) {
            self.next()?;
            count = count * 10 + digit;
            if count > MAX_COUNT {
                return Err(self.error("count too large"));
            }
        }
        Ok(count)
    }

    fn atom(&mut self) -> Result<Node, TextError> {
        Ok(match self.next()? {
            '(' => return self.group(),
            '[' => Node::Class(self.class()?),
            '$' => Node::End,
            '\\' => Node::Class(self.escape()?),
            '.' | '^' | '*' | '+' | '?' | '{' => return Err(self.error("unsupported syntax")),
            c => {
                let mut class = Class::literal(c);
                if self.fold {
                    class.fold();
                }
                Node::Class(class)
            }
        })
    }

    /// Behind `(`.
    fn group(&mut self) -> Result<Node, TextError> {
        let fold = self.fold;
        let mut negated = None;
        if self.eat("?=") {
            negated = Some(false);
        } else if self.eat("?!") {
            negated = Some(true);
        } else if self.eat("?i:") {
            self.fold = true;
        } else if !self.eat("?:") && self.peek() == Some('?') {
            return Err(self.error("unsupported kind of group"));
        }
        let node = self.alternatives()?;
        if !self.eat(")") {
            return Err(self.error("expected ')'"));
        }
        self.fold = fold;
        Ok(match negated {
            Some(negated) => Node::Look {
                node: Box::new(node),
                negated,
            },
            None => node,
        })
    }

    /// Behind `\`.
    fn escape(&mut self) -> Result<Class, TextError> {
        let mut class = Class::default();
        if self.eat("S") {
            class.add_white_space();
            class.negate();
        } else if let Some(c) = self.escape_into(&mut class)? {
            class.add_range(c, c);
        }
        Ok(class)
    }

    /// Behind `\`: adds a set to `class`, or returns the character that is meant.
    fn escape_into(&mut self, class: &mut Class) -> Result<Option<char>, TextError> {
        Ok(Some(match self.next()? {
            'r' => '\r',
            'n' => '\n',
            't' => '\t',
            c if c.is_ascii_punctuation() => c,
            's' => {
                class.add_white_space();
                return Ok(None);
            }
            'd' => {
                class.add_property("Nd");
                return Ok(None);
            }
            'p' => {
                let rest = self
                    .chars
                    .peek()
                    .map_or("", |&(offset, _)| &self.pattern[offset..]);
                let name = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
                let Some((name, _)) = name.filter(|(name, _)| class.add_property(name)) else {
                    return Err(self.error("unknown property"));
                };
                self.chars.nth(name.chars().count() + 1);
                return Ok(None);
            }
            _ => return Err(self.error("unknown escape")),
        }))
    }

    /// Behind `[`.
    fn class(&mut self) -> Result<Class, TextError> {
        let mut class = Class::default();
        let negated = self.eat("^");
        while !self.eat("]") {
            if self.eat("&&[") {
                let other = self.class()?;
                if negated || !self.eat("]") {
                    return Err(self.error("'&&' must stand last in a class without '^'"));
                }
                class.intersect(other);
                return Ok(class);
            }
            let first = match self.next()? {
                '[' => return Err(self.error("a class in a class")),
                '\\' => match self.escape_into(&mut class)? {
                    Some(c) => c,
                    None => continue,
                },
                c => c,
            };
            let last = if self.eat("-") { self.next()? } else { first };
            if last < first || (last != first && matches!(last, ']' | '\\')) {
                return Err(self.error("bad range"));
            }
            class.add_range(first, last);
        }
        if self.fold {
            class.fold();
        }
        if negated {
            class.negate();
        }
        Ok(class)
    }
}
