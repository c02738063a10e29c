//! The typed tree of an expression.
//!
//! # Contract
//! - Only [`Expr::parse`] makes comparisons, so every comparison here has passed the type check.
//! - Printing an expression and parsing that gives the same expression.
//!
//! # Invariants
//! - There is no negation but in a comparison's operator and in `Resident`: `!` is pushed to the leaves while parsing, before
//!   prerequisites count. So `!(tcp.dst == 80)` is `tcp.dst != 80`, and true only for TCP.
//! - A comparison implies its symbol's prerequisite: it means `comparison && prerequisite`, also with a set that is empty, where
//!   OVN drops the prerequisite. A predicate's own prerequisites are
//!   within its expansion, so `!ip4.mcast` is true for packets that are not IPv4.
//! - No `And` stands directly in an `And`, no `Or` in an `Or`, and both have at least two parts.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::constant::{Constant, Format};
use crate::{ExprError, Symbol, parse};

/// An expression whose types are checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Expr {
    /// `1` or `0`.
    Bool(bool),
    /// All of them.
    And(Vec<Self>),
    /// Any of them.
    Or(Vec<Self>),
    /// A relation, and its symbol's prerequisite.
    Compare(Comparison),
    /// Whether the hypervisor has this port, or not.
    Resident {
        /// The logical port.
        port: Text,
        /// Whether it must be elsewhere.
        negated: bool,
    },
}

/// A string of an expression.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Text {
    /// `"name"`
    Literal(String),
    /// `^name`, which stands for a string.
    Template(String),
}

/// A relation between a symbol's bits and constants.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Comparison {
    pub(crate) symbol: &'static Symbol,
    pub(crate) low: u8,
    pub(crate) width: u8,
    pub(crate) op: Op,
    pub(crate) set: bool,
    pub(crate) values: Vec<Value>,
}

/// A relational operator, as it counts after every `!` around it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Op {
    /// `==`: equal to one of the values.
    Eq,
    /// `!=`: equal to none of the values.
    Ne,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
    /// `>=`
    Ge,
}

/// What a symbol is compared with.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Value {
    /// A number or address.
    Integer(Constant),
    /// Name of a logical port.
    String(String),
    /// `$name`: the members of an address set.
    AddressSet(String),
    /// `@name`: the members of a port group.
    PortGroup(String),
    /// `^name`: constants that the hypervisor knows.
    Template(String),
}

/// Names of rows an expression depends on.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct References {
    /// `Address_Set`s.
    pub address_sets: BTreeSet<String>,
    /// `Port_Group`s.
    pub port_groups: BTreeSet<String>,
    /// Logical ports that packets come from or go to.
    pub ports: BTreeSet<String>,
    /// Variables of `Chassis_Template_Var`.
    pub templates: BTreeSet<String>,
    /// Logical ports whose chassis matters.
    pub residents: BTreeSet<String>,
}

impl Expr {
    /// Longest text that is parsed, in octets.
    pub const MAX_LENGTH: usize = 1 << 20;
    /// Deepest nesting of parentheses, as in OVN.
    pub const MAX_DEPTH: usize = 100;

    /// Parses and checks an expression.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place in the text.
    pub fn parse(text: &str) -> Result<Self, ExprError> {
        parse::parse(text)
    }

    /// Which rows decide what the expression matches.
    pub fn references(&self) -> References {
        let mut references = References::default();
        self.collect(&mut references);
        references
    }

    fn collect(&self, into: &mut References) {
        match self {
            Self::Bool(_) => {}
            Self::And(parts) | Self::Or(parts) => parts.iter().for_each(|part| part.collect(into)),
            Self::Resident { port: Text::Literal(name), .. } => drop(into.residents.insert(name.clone())),
            Self::Resident { port: Text::Template(name), .. } => drop(into.templates.insert(name.clone())),
            Self::Compare(comparison) => {
                for value in &comparison.values {
                    match value {
                        Value::Integer(_) => {}
                        Value::String(name) => drop(into.ports.insert(name.clone())),
                        Value::AddressSet(name) => drop(into.address_sets.insert(name.clone())),
                        Value::PortGroup(name) => drop(into.port_groups.insert(name.clone())),
                        Value::Template(name) => drop(into.templates.insert(name.clone())),
                    }
                }
            }
        }
    }

    /// All of `parts`.
    pub(crate) fn all(parts: Vec<Self>) -> Self {
        Self::joined(parts, |part| if let Self::And(inner) = part { Ok(inner) } else { Err(part) }, Self::And)
    }

    /// Any of `parts`.
    pub(crate) fn any(parts: Vec<Self>) -> Self {
        Self::joined(parts, |part| if let Self::Or(inner) = part { Ok(inner) } else { Err(part) }, Self::Or)
    }

    fn joined(
        parts: Vec<Self>,
        flatten: impl Fn(Self) -> Result<Vec<Self>, Self>,
        join: impl Fn(Vec<Self>) -> Self,
    ) -> Self {
        let mut flat = Vec::with_capacity(parts.len());
        for part in parts {
            match flatten(part) {
                Ok(inner) => flat.extend(inner),
                Err(part) => flat.push(part),
            }
        }
        match flat.len() {
            1 => flat.remove(0),
            _ => join(flat),
        }
    }
}

impl Comparison {
    /// What is compared.
    pub fn symbol(&self) -> &'static Symbol {
        self.symbol
    }

    /// The first of the symbol's bits that is compared, and how many are; (0, 0) for strings.
    pub fn bits(&self) -> (u8, u8) {
        (self.low, self.width)
    }

    /// The relation.
    pub fn op(&self) -> Op {
        self.op
    }

    /// What with: one value, or with `==` and `!=` a set.
    pub fn values(&self) -> &[Value] {
        &self.values
    }
}

impl Op {
    /// The operator that holds where this one does not.
    pub(crate) fn inverted(self) -> Self {
        match self {
            Self::Eq => Self::Ne,
            Self::Ne => Self::Eq,
            Self::Lt => Self::Ge,
            Self::Ge => Self::Lt,
            Self::Gt => Self::Le,
            Self::Le => Self::Gt,
        }
    }

    /// The operator with its sides exchanged.
    pub(crate) fn turned(self) -> Self {
        match self {
            Self::Eq | Self::Ne => self,
            Self::Lt => Self::Gt,
            Self::Gt => Self::Lt,
            Self::Le => Self::Ge,
            Self::Ge => Self::Le,
        }
    }

    /// Whether it asks for an order.
    pub(crate) fn is_ordering(self) -> bool {
        !matches!(self, Self::Eq | Self::Ne)
    }
}

impl FromStr for Expr {
    type Err = ExprError;

    fn from_str(text: &str) -> Result<Self, ExprError> {
        Self::parse(text)
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (parts, sign) = match self {
            Self::Bool(value) => return write!(f, "{}", u8::from(*value)),
            Self::Compare(comparison) => return comparison.fmt(f),
            Self::Resident { port, negated } => {
                return write!(f, "{}is_chassis_resident({port})", if *negated { "!" } else { "" });
            }
            Self::And(parts) => (parts, "&&"),
            Self::Or(parts) => (parts, "||"),
        };
        for (i, part) in parts.iter().enumerate() {
            if i > 0 {
                write!(f, " {sign} ")?;
            }
            match part {
                Self::And(_) | Self::Or(_) => write!(f, "({part})")?,
                _ => part.fmt(f)?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let truth = self.width == 1 && !self.set && self.values == [Value::TRUE];
        if truth && self.op == Op::Ne {
            f.write_str("!")?;
        }
        self.symbol.fmt(f)?;
        if self.width != self.symbol.width() {
            match self.width {
                1 => write!(f, "[{}]", self.low)?,
                width => write!(f, "[{}..{}]", self.low, self.low + (width - 1))?,
            }
        }
        if truth && !self.op.is_ordering() {
            return Ok(());
        }
        write!(f, " {} ", self.op)?;
        if let (false, [value]) = (self.set, self.values.as_slice()) {
            return value.fmt(f);
        }
        for (i, value) in self.values.iter().enumerate() {
            write!(f, "{}{value}", if i == 0 { "{" } else { ", " })?;
        }
        f.write_str("}")
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Eq => "==",
            Self::Ne => "!=",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
        })
    }
}

impl Value {
    /// What a symbol without operator is compared with.
    pub(crate) const TRUE: Self = Self::Integer(Constant::new(1, Format::Decimal));
    pub(crate) const ZERO: Self = Self::Integer(Constant::new(0, Format::Hexadecimal));

    /// The Boolean that a lone `0` or `1` is.
    pub(crate) fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Integer(constant) => match constant.as_decimal() {
                Some(0) => Some(false),
                Some(1) => Some(true),
                _ => None,
            },
            _ => None,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(constant) => constant.fmt(f),
            Self::String(text) => quote(f, text),
            Self::AddressSet(name) => write!(f, "${name}"),
            Self::PortGroup(name) => write!(f, "@{name}"),
            Self::Template(name) => write!(f, "^{name}"),
        }
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(text) => quote(f, text),
            Self::Template(name) => write!(f, "^{name}"),
        }
    }
}

/// A string with JSON's escapes.
fn quote(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    for character in text.chars() {
        match character {
            '"' | '\\' => write!(f, "\\{character}")?,
            '\0'..='\u{1f}' => write!(f, "\\u{:04x}", u32::from(character))?,
            _ => write!(f, "{character}")?,
        }
    }
    f.write_str("\"")
}
