//! Symbols of the expression language: what a name stands for (ovn-sb(5), `Logical_Flow.match`; ovn-architecture(7)).
//!
//! # Contract
//! - Names, widths, levels of measurement, prerequisites and expansions come from the one table in `table.rs`.
//! - A [`Field`] is a family of bits that a packet has once: symbols that overlap (`reg0` and `xxreg0`, `ct.est` and
//!   `ct_state`) are ranges of one field, so the normal form need not know about overlaps.
//!
//! # Invariants
//! - Expansions and prerequisites name symbols of the table only, and end at fields.
//! - This module does not know where a pipeline keeps logical registers: [`Field::openflow`] is `None` for them.

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{LazyLock, OnceLock};

use crate::Expr;

mod table;

pub use table::Field;

/// What may be asked of a field (ovn-sb(5), "level of measurement").
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Level {
    /// Identifiers: only equality, and no single bits. Strings are nominal too.
    Nominal,
    /// Predicates over ordinal fields: equality and inequality.
    Boolean,
    /// Numbers whose bits can be matched one by one: every relation.
    Ordinal,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nominal => "nominal",
            Self::Boolean => "Boolean",
            Self::Ordinal => "ordinal",
        })
    }
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Meaning {
    /// The name of a logical port.
    Port(Field),
    /// Bits of a field, from `low` on, as many as the symbol is wide.
    Bits {
        /// The field that holds them.
        field: Field,
        /// Least significant bit, counted from 0.
        low: u8,
    },
    /// A Boolean expression, as text.
    Predicate(&'static str),
}

/// A name of the language with its type.
pub struct Symbol {
    name: &'static str,
    width: u8,
    level: Level,
    prerequisite: &'static str,
    meaning: Meaning,
    expansion: OnceLock<Option<Expr>>,
}

impl Symbol {
    const fn new(
        name: &'static str,
        width: u8,
        level: Level,
        prerequisite: &'static str,
        meaning: Meaning,
    ) -> Self {
        Self { name, width, level, prerequisite, meaning, expansion: OnceLock::new() }
    }

    /// The symbol of this name, if there is one.
    pub fn named(name: &str) -> Option<&'static Self> {
        static INDEX: LazyLock<HashMap<&'static str, &'static Symbol>> =
            LazyLock::new(|| table::SYMBOLS.iter().map(|symbol| (symbol.name, symbol)).collect());
        INDEX.get(name).copied()
    }

    /// Every symbol, in table order.
    pub fn all() -> &'static [Self] {
        &table::SYMBOLS
    }

    /// The name as it is written in expressions.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Width in bits; 0 for strings, 1 for predicates.
    pub fn width(&self) -> u8 {
        self.width
    }

    /// Which relations are allowed.
    pub fn level(&self) -> Level {
        self.level
    }

    /// What it stands for.
    pub fn meaning(&self) -> Meaning {
        self.meaning
    }

    /// What has to hold for the symbol to have a value, as text; empty if nothing.
    pub fn prerequisite(&self) -> &'static str {
        self.prerequisite
    }

    /// A predicate's expression, or else the prerequisite, if there is one. A predicate has no prerequisite.
    pub(crate) fn expansion(&self) -> Option<&Expr> {
        let parse = || {
            let text = match self.meaning {
                Meaning::Predicate(text) => text,
                _ if self.prerequisite.is_empty() => return None,
                _ => self.prerequisite,
            };
            Some(Expr::parse(text).expect("the table's own expressions parse; a test reads them all"))
        };
        self.expansion.get_or_init(parse).as_ref()
    }
}

impl fmt::Debug for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Symbol {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Symbol {}

impl Hash for Symbol {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level_of(expr: &Expr) -> Level {
        match expr {
            Expr::Bool(_) | Expr::Resident { .. } => Level::Boolean,
            Expr::And(parts) | Expr::Or(parts) => parts.iter().map(level_of).min().unwrap(),
            Expr::Compare(comparison) => comparison.symbol().level().min(Level::Boolean),
        }
    }

    #[test]
    fn expansions_parse_and_have_the_declared_level() {
        for symbol in Symbol::all() {
            if let Meaning::Predicate(text) = symbol.meaning() {
                let expr = Expr::parse(text).unwrap_or_else(|error| panic!("{symbol}: {error}"));
                assert_eq!(symbol.level(), level_of(&expr), "{symbol}");
                assert_eq!((symbol.width(), symbol.prerequisite()), (1, ""), "{symbol}");
            } else if !symbol.prerequisite().is_empty() {
                Expr::parse(symbol.prerequisite()).unwrap_or_else(|error| panic!("{symbol}: {error}"));
            }
        }
    }

    #[test]
    fn names_are_distinct_and_found() {
        for symbol in Symbol::all() {
            assert!(std::ptr::eq(Symbol::named(symbol.name()).unwrap(), symbol), "{symbol} twice");
        }
        assert_eq!(Symbol::named("ip5"), None);
    }

    #[test]
    fn bits_lie_in_their_field_and_fields_are_as_wide_as_openflow_says() {
        for symbol in Symbol::all() {
            if let Meaning::Bits { field, low } = symbol.meaning() {
                assert!(symbol.width() > 0 && low + symbol.width() <= field.width(), "{symbol}");
            }
        }
        for field in Field::ALL {
            if let Some(openflow) = field.openflow() {
                assert_eq!(openflow.bits(), u16::from(field.width()), "{field}");
            }
        }
    }
}
