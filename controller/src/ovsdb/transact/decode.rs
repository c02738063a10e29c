//! Columns' values from a client's JSON, with ovsdb-server's errors.
//!
//! # Contract
//! - As `ovsdb::json` reads them; what differs is that the number of elements and the constraints may be relaxed, as
//!   conditions and mutations ask for, and that errors have ovsdb-server's words.

use ovsdb::{
    Symbols,
    result::ErrorKind,
    schema::{BaseType, ColumnType, Max},
    value::{Atom, AtomicType, Datum},
};
use serde_json::Value;

use super::{fault::Fault, members::is_id, words};

/// What a value must be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Type<'a> {
    pub(crate) key: &'a BaseType,
    pub(crate) value: Option<&'a BaseType>,
    pub(crate) min: usize,
    pub(crate) max: Max,
}

impl<'a> From<&'a ColumnType> for Type<'a> {
    fn from(ty: &'a ColumnType) -> Self {
        Self { key: &ty.key, value: ty.value.as_ref(), min: ty.min, max: ty.max }
    }
}

/// Reads a value.
pub(crate) fn datum(json: &Value, ty: Type<'_>, names: &mut dyn Symbols) -> Result<Datum, Fault> {
    let Some(value) = ty.value else {
        let Some(elements) = set(json) else {
            return Ok(Datum::Set(vec![atom(json, ty.key, names)?]));
        };
        let elements = elements.ok_or_else(|| Fault::syntax(json, r#"expected ["set", <array>]"#))?;
        count(json, "set", elements.len(), ty)?;
        let mut atoms =
            elements.iter().map(|element| atom(element, ty.key, names)).collect::<Result<Vec<_>, _>>()?;
        atoms.sort_unstable();
        return if atoms.windows(2).any(|pair| pair[0] == pair[1]) {
            Err(duplicate("set contains duplicate"))
        } else {
            Ok(Datum::Set(atoms))
        };
    };
    let elements = match json.as_array().map(Vec::as_slice) {
        Some([Value::String(tag), Value::Array(elements)]) if tag == "map" => elements,
        _ => return Err(Fault::syntax(json, r#"expected ["map", <array>]"#)),
    };
    count(json, "map", elements.len(), ty)?;
    let mut pairs = Vec::with_capacity(elements.len());
    for element in elements {
        let Some([key, held]) = element.as_array().map(Vec::as_slice) else {
            return Err(Fault::syntax(element, "expected 2-element array"));
        };
        pairs.push((atom(key, ty.key, names)?, atom(held, value, names)?));
    }
    pairs.sort_unstable();
    if pairs.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Err(duplicate("map contains duplicate key"));
    }
    Ok(Datum::Map(pairs))
}

/// The elements of what calls itself a set; `Some(None)` when they are no array.
fn set(json: &Value) -> Option<Option<&Vec<Value>>> {
    match json.as_array()?.as_slice() {
        [Value::String(tag), Value::Array(elements)] if tag == "set" => Some(Some(elements)),
        [Value::String(tag), ..] if tag == "set" => Some(None),
        _ => None,
    }
}

fn count(json: &Value, class: &str, got: usize, ty: Type<'_>) -> Result<(), Fault> {
    if got >= ty.min && !ty.max.is_exceeded_by(got) {
        return Ok(());
    }
    let details = if (ty.min, ty.max) == (1, Max::Limited(1)) {
        format!("{class} must have exactly one member but {got} are present")
    } else {
        format!("{class} must have {} to {} members but {got} are present", ty.min, words::max(ty.max))
    };
    Err(Fault::syntax(json, details))
}

fn duplicate(details: &str) -> Fault {
    Fault::new(ErrorKind::Other("ovsdb error".into()), details)
}

fn atom(json: &Value, base: &BaseType, names: &mut dyn Symbols) -> Result<Atom, Fault> {
    let atom =
        Atom::from_json_with(json, base.atomic, names).map_err(|_| Fault::syntax(json, wrong(json, base)))?;
    check(&atom, base)?;
    Ok(atom)
}

/// Asks for the constraints.
pub(crate) fn check(atom: &Atom, base: &BaseType) -> Result<(), Fault> {
    base.check(atom).map_err(|error| Fault::constraint(words::constraint(&error, atom)))
}

fn wrong(json: &Value, base: &BaseType) -> String {
    if base.atomic == AtomicType::Uuid
        && let Some([Value::String(tag), Value::String(text)]) = json.as_array().map(Vec::as_slice)
    {
        if tag == "uuid" {
            return format!("\"{text}\" is not a valid UUID");
        }
        if tag == "named-uuid" && !is_id(text) {
            return "named-uuid string is not a valid <id>".to_owned();
        }
    }
    words::expected(base.atomic).to_owned()
}
