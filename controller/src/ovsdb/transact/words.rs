//! Types and values in the words of ovsdb-server's messages.

use ovsdb::{
    json::parse_uuid,
    schema::{ColumnType, ConstraintError, Max},
    value::{Atom, AtomicType, Datum},
};

/// A type, as `set of 1 or more uuids`.
pub(crate) fn type_name(ty: &ColumnType) -> String {
    let key = ty.key.atomic.name();
    if ty.is_scalar() {
        return key.to_owned();
    }
    let kind = if ty.is_map() { "map" } else { "set" };
    let count = match (ty.min, ty.max) {
        (0, Max::Unlimited) => " of".to_owned(),
        (min, Max::Unlimited) => format!(" of {min} or more"),
        (0, Max::Limited(max)) => format!(" of up to {max}"),
        (min, Max::Limited(max)) => format!(" of {min} to {max}"),
    };
    match &ty.value {
        None => format!("{kind}{count} {key}s"),
        Some(value) => format!("{kind}{count} ({key}, {}) pairs", value.atomic.name()),
    }
}

/// A number of elements; ovsdb-server has 2^32-1 for no bound.
pub(crate) fn max(max: Max) -> String {
    match max {
        Max::Limited(max) => max.to_string(),
        Max::Unlimited => u32::MAX.to_string(),
    }
}

/// An atom as the tools take it: strings quoted where they need it.
pub(crate) fn atom(atom: &Atom) -> String {
    match atom {
        Atom::String(text) if needs_quotes(text) => serde_json::Value::from(text.as_ref()).to_string(),
        Atom::String(text) => text.as_ref().to_owned(),
        other => other.to_string(),
    }
}

fn needs_quotes(text: &str) -> bool {
    let plain = |octet: u8| octet.is_ascii_alphanumeric() || b"_-.".contains(&octet);
    !text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        || !text.bytes().all(plain)
        || text == "true"
        || text == "false"
        || parse_uuid(text).is_ok()
}

/// A column's value as the tools print it.
pub(crate) fn datum(datum: &Datum, ty: &ColumnType) -> String {
    let listed = match datum {
        Datum::Set(atoms) => atoms.iter().map(atom).collect::<Vec<_>>(),
        Datum::Map(pairs) => {
            pairs.iter().map(|(key, value)| format!("{}={}", atom(key), atom(value))).collect()
        }
    }
    .join(", ");
    match (ty.is_composite() || datum.is_empty(), ty.is_map()) {
        (true, true) => format!("{{{listed}}}"),
        (true, false) => format!("[{listed}]"),
        (false, _) => listed,
    }
}

/// Why an atom may not be where it was to be put.
pub(crate) fn constraint(error: &ConstraintError, wrong: &Atom) -> String {
    match error {
        ConstraintError::Enumeration { allowed, got } => {
            let allowed: Vec<String> = allowed.iter().map(atom).collect();
            format!("{} is not one of the allowed values ([{}])", atom(got), allowed.join(", "))
        }
        ConstraintError::Integer { min, max: i64::MAX, got } => {
            format!("{got} is less than minimum allowed value {min}")
        }
        ConstraintError::Integer { min: i64::MIN, max, got } => {
            format!("{got} is greater than maximum allowed value {max}")
        }
        ConstraintError::Length { min, got, .. } if got < min => {
            format!("{wrong} length {got} is less than minimum allowed length {min}")
        }
        ConstraintError::Length { max, got, .. } => {
            format!("{wrong} length {got} is greater than maximum allowed length {max}")
        }
        other => other.to_string(),
    }
}

/// What JSON an atom of this type is written as.
pub(crate) const fn expected(ty: AtomicType) -> &'static str {
    match ty {
        AtomicType::Uuid => r#"expected ["uuid", <string>]"#,
        AtomicType::Integer => "expected integer",
        AtomicType::Real => "expected real",
        AtomicType::Boolean => "expected boolean",
        AtomicType::String => "expected string",
    }
}

/// `"a"`, `"a" and "b"`, `"a", "b", and "c"`.
pub(crate) fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [one, two] => format!("{one} and {two}"),
        [rest @ .., last] => format!("{}, and {last}", rest.join(", ")),
    }
}
