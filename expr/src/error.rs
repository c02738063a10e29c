//! What is wrong with an expression, where, and what was expected there.
//!
//! # Invariants
//! - `at` lies within the text that was parsed; it is empty only at the text's end.

use std::ops::Range;

use thiserror::Error;

use crate::Level;

/// An expression that is not one, or whose types do not fit.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("column {}: {kind}", .at.start + 1)]
pub struct ExprError {
    /// Octets of the text that are to blame.
    pub at: Range<usize>,
    /// What is wrong with them.
    pub kind: ErrorKind,
}

/// What is wrong with an expression.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Something else has to stand here.
    #[error("expected {expected}, found {found}")]
    Expected {
        /// What the grammar allows.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// A character that begins no token.
    #[error("character {0:?} has no meaning here")]
    Character(char),
    /// `/*` without `*/` on its line.
    #[error("expected `*/` before the end of the line")]
    Comment,
    /// A string without its closing quote.
    #[error("expected `\"` before the end of the text")]
    Unterminated,
    /// A backslash in a string before something that JSON does not escape.
    #[error("expected a JSON escape sequence")]
    Escape,
    /// A constant that is none.
    #[error("invalid constant: {0}")]
    Constant(&'static str),
    /// A mask of another format than its value.
    #[error("expected a mask in the format of its value, or a prefix length behind an IP address")]
    Mask,
    /// `$`, `@` or `^` without a name.
    #[error("expected a name after `{0}`")]
    Name(char),
    /// The text is longer than the language allows here.
    #[error("{length} octets are more than the {limit} allowed")]
    TooLong {
        /// Length in octets.
        length: usize,
        /// Most octets allowed.
        limit: usize,
    },
    /// Too many parentheses inside each other.
    #[error("parentheses nest deeper than {limit}")]
    TooDeep {
        /// Deepest nesting allowed.
        limit: usize,
    },
    /// `a && b || c`.
    #[error("expected parentheses where `&&` and `||` meet")]
    Mixed,
    /// `!a == b`.
    #[error("expected parentheses around the comparison after `!`")]
    NotComparison,
    /// A name that is no symbol.
    #[error("expected a field or predicate, found the unknown name `{0}`")]
    UnknownSymbol(String),
    /// A call of something else than `is_chassis_resident`.
    #[error("expected `is_chassis_resident`, the only function, found `{0}`")]
    UnknownFunction(String),
    /// A string compared with numbers, or the reverse.
    #[error("expected {expected} for `{symbol}`, found {found}")]
    Type {
        /// What is compared.
        symbol: &'static str,
        /// The kind of constant it takes.
        expected: &'static str,
        /// The constant.
        found: String,
    },
    /// A constant with more bits than what it is compared with.
    #[error("expected no more bits than the {width} of `{symbol}`, found {found}")]
    Width {
        /// What is compared.
        symbol: &'static str,
        /// Its width in bits.
        width: u8,
        /// Bits of the constant.
        found: u8,
    },
    /// Bits that cannot be selected.
    #[error("`{symbol}` has no bits {low} to {high}: {why}")]
    Bits {
        /// What was to be divided.
        symbol: &'static str,
        /// First bit asked for.
        low: u64,
        /// Last bit asked for.
        high: u64,
        /// Why not.
        why: &'static str,
    },
    /// `<`, `<=`, `>` or `>=` where there is no order.
    #[error("expected `==` or `!=`: {why}")]
    Unordered {
        /// What has no order.
        why: &'static str,
    },
    /// A relation that the level of measurement does not have.
    #[error("expected `==` or `!=` for the {level} field `{symbol}`")]
    Relation {
        /// What is compared.
        symbol: &'static str,
        /// Its level of measurement.
        level: Level,
    },
    /// A nominal predicate tested for being false.
    #[error("nominal predicate `{symbol}` can only be tested for being true, counting each `!` around it")]
    Negated {
        /// The predicate.
        symbol: &'static str,
    },
    /// A nominal field tested for inequality.
    #[error("nominal field `{symbol}` can only be tested for equality, counting each `!` around it")]
    Inequality {
        /// The field.
        symbol: &'static str,
    },
    /// A field of several bits used as a truth value.
    #[error("expected a relational operator: `{symbol}` has {width} bits, of which none is its truth")]
    Truth {
        /// The field.
        symbol: &'static str,
        /// Bits selected.
        width: u8,
    },
    /// `1 < x > 2`, `1 == x == 2`.
    #[error("expected a range like `1 < x <= 2` or `2 > x >= 1`")]
    Range,
}
