//! How the tensors of an architecture are named and stored, there and here.

/// A tensor, or one of each layer (`{l}`), of each expert (`{e}`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    /// The module's name in the directory; it has a `.weight` and perhaps a `.bias`.
    pub(super) from: &'static str,
    /// The tensor's name in GGUF, without `.weight` or `.bias`.
    pub(super) to: &'static str,
    pub(super) change: Change,
    /// Whether a model may lack it.
    pub(super) optional: bool,
    /// Rows before this one are left out.
    pub(super) first_row: u64,
    /// The module that has all experts in one tensor of three dimensions, as MLX stores them.
    pub(super) stacked: Option<&'static str>,
}

/// What becomes of the numbers of a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing.
    None,
    /// Gemma's norms multiply by one more than what is stored.
    PlusOne,
    /// Rows of query heads, stored as two halves that are rotated against each other, come as
    /// neighbours, as Meta's code rotates them.
    RotatedQueries,
    /// The same of key heads.
    RotatedKeys,
}

/// A rule for what every model of the architecture has.
pub(super) const fn rule(from: &'static str, to: &'static str) -> Rule {
    Rule {
        from,
        to,
        change: Change::None,
        optional: false,
        first_row: 0,
        stacked: None,
    }
}

impl Rule {
    /// The same with a change.
    pub(super) const fn with(self, change: Change) -> Self {
        Self { change, ..self }
    }

    /// The same, of what a model may lack.
    pub(super) const fn optional(self) -> Self {
        Self {
            optional: true,
            ..self
        }
    }

    /// The same without its first `rows` rows.
    pub(super) const fn behind(self, rows: u64) -> Self {
        Self {
            first_row: rows,
            ..self
        }
    }

    /// The same of experts, `{e}`, which may also be stacked in the module `name`.
    pub(super) const fn stacked(self, name: &'static str) -> Self {
        Self {
            stacked: Some(name),
            ..self
        }
    }
}
