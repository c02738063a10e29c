//! Which constants and relations a symbol allows (ovn-sb(5), "Fields", "Relational operators").
//!
//! # Contract
//! - Operators come as they count after every `!` around them.
//! - A template passes; what it stands for is checked when it is known.

use crate::error::ErrorKind;
use crate::expr::{Op, Value};
use crate::{Level, Meaning, Symbol};

/// Whether single bits of the symbol cannot be selected.
pub(crate) fn is_indivisible(symbol: &Symbol) -> bool {
    symbol.level() == Level::Nominal
}

/// Whether the symbol can be compared with the value at all.
pub(crate) fn value(symbol: &'static Symbol, op: Op, value: &Value) -> Result<(), ErrorKind> {
    let name = symbol.name();
    let mismatch = |expected| Err(ErrorKind::Type { symbol: name, expected, found: value.to_string() });
    let predicate = matches!(symbol.meaning(), Meaning::Predicate(_));
    match value {
        Value::Template(_) => Ok(()),
        Value::String(_) | Value::PortGroup(_) if symbol.width() > 0 => mismatch("an integer constant"),
        Value::String(_) | Value::PortGroup(_) => Ok(()),
        Value::Integer(_) | Value::AddressSet(_) if symbol.width() == 0 => mismatch("a string"),
        Value::AddressSet(_) if predicate => mismatch("0 or 1"),
        Value::AddressSet(_) => Ok(()),
        Value::Integer(constant) => {
            let found = constant.width();
            if found > symbol.width() {
                return Err(ErrorKind::Width { symbol: name, width: symbol.width(), found });
            }
            let positive = (constant.value() & 1 == 1) != (op == Op::Ne);
            if predicate && symbol.level() == Level::Nominal && !op.is_ordering() && !positive {
                return Err(ErrorKind::Negated { symbol: name });
            }
            Ok(())
        }
    }
}

/// Whether the relation to these values has a meaning.
pub(crate) fn relation(
    symbol: &'static Symbol,
    op: Op,
    set: bool,
    values: &[Value],
) -> Result<(), ErrorKind> {
    let level = symbol.level();
    if op.is_ordering() {
        if set {
            return Err(ErrorKind::Unordered { why: "sets have no order" });
        }
        if level != Level::Ordinal {
            return Err(ErrorKind::Relation { symbol: symbol.name(), level });
        }
        for value in values {
            match value {
                Value::AddressSet(_) => {
                    return Err(ErrorKind::Unordered { why: "address sets have no order" });
                }
                Value::Integer(constant) if constant.mask().is_some() => {
                    return Err(ErrorKind::Unordered {
                        why: "masked constants have no order, but bits like `x[0..7]` do",
                    });
                }
                _ => {}
            }
        }
    }
    let predicate = matches!(symbol.meaning(), Meaning::Predicate(_));
    if level == Level::Nominal && !predicate && op != Op::Eq {
        return Err(ErrorKind::Inequality { symbol: symbol.name() });
    }
    Ok(())
}
