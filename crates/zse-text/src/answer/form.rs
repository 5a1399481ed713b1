//! What a family's form of calls and thoughts is made of.

use super::THINK;
use super::cursor::Miss;

/// How a family writes calls and thoughts.
pub(super) trait Form: Sync {
    /// What calls, or other parts of an answer, begin with.
    fn marks(&self) -> &'static [&'static str];

    /// What a call without a mark may begin with, where an answer begins.
    fn bare(&self) -> &'static [char] {
        &[]
    }

    /// Whether marks are looked for where there are no tools, because all answers have them.
    fn always(&self) -> bool {
        false
    }

    /// The token that begins a thought, if the model does so.
    fn opening_of_thought(&self) -> &'static str {
        THINK
    }

    /// What ends a thought.
    fn end_of_thought(&self) -> &'static str {
        "</think>"
    }

    /// What stands behind `mark`. `is_end`: no more will come.
    ///
    /// # Errors
    /// If more must come first, or it is text like any other, mark and all.
    fn head(&self, mark: &str, text: &str, is_end: bool) -> Result<Head, Miss>;

    /// The next of the arguments that [`Head::Arguments`] began.
    ///
    /// # Errors
    /// If more must come first, or there is none where one has to be.
    fn argument(&self, _: &str) -> Result<Argument, Miss> {
        Err(Miss::No)
    }

    /// What stands behind the arguments of a call. `is_end`: no more will come.
    ///
    /// # Errors
    /// If more must come first; or it is text.
    fn tail(&self, text: &str, is_end: bool) -> Result<Tail, Miss>;
}

/// What a mark begins. Numbers are bytes of the text behind the mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// A call, whose arguments, an object, begin at `at`.
    Call { name: String, at: usize },
    /// A call that ends before `at`.
    Whole {
        name: String,
        arguments: String,
        at: usize,
    },
    /// A call, whose arguments begin one by one at `at`.
    Arguments { name: String, at: usize },
    /// The same, if there is a function of that name; else text like any other.
    MaybeArguments { name: String, at: usize },
    /// A thought.
    Thought { at: usize },
    /// Text; what is before it is no part of the answer.
    Text { at: usize },
}

/// What stands where an argument may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Argument {
    /// One, up to `at`.
    Next {
        name: String,
        value: Written,
        at: usize,
    },
    /// The end of all, up to `at`.
    End { at: usize },
}

/// The value of an argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// As JSON.
    Json(String),
    /// As text, of which the function's schema says what it means.
    Plain(String),
}

/// What follows a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// Another call, as if behind a mark.
    Call { at: usize },
    /// Text, or another mark.
    Text { at: usize },
}
