//! The JSON forms of atoms and datums (RFC 7047, section 5.1).
//!
//! # Contract
//! Decoding is directed by a type: JSON alone can't tell a real from an integer or an empty set from an empty map.
//! [`Datum::from_json`] looks at shape and atomic types only, which is what a *difference* must satisfy;
//! [`Datum::from_json_checked`] also asks for the column's constraints. Names of rows not yet inserted are looked up in
//! a [`Symbols`].
//!
//! # Invariants
//! - `Datum::from_json(&datum.to_json(), ty) == Ok(datum)` for every datum of the type.
//! - Nothing here recurses: the nesting of an OVSDB value is fixed.

use serde_json::Value;
use thiserror::Error;
use uuid::Uuid;

use crate::schema::{BaseType, ColumnType, ConstraintError};
use crate::value::{Atom, AtomicType, Datum, NotFinite, Real};

/// The rows a transaction names before they have UUIDs (RFC 7047, section 5.1 `<named-uuid>`).
pub trait Symbols {
    /// The UUID this name stands for, if it may be used at all.
    fn resolve(&mut self, name: &str) -> Option<Uuid>;
}

/// Outside a transaction no name means anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSymbols;

impl Symbols for NoSymbols {
    fn resolve(&mut self, _name: &str) -> Option<Uuid> {
        None
    }
}

impl<F: FnMut(&str) -> Option<Uuid>> Symbols for F {
    fn resolve(&mut self, name: &str) -> Option<Uuid> {
        self(name)
    }
}

/// JSON that is no value of the type asked for.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum DecodeError {
    /// Another form than the type has.
    #[error("expected {expected}, got {got}")]
    Form {
        /// What the type asks for.
        expected: &'static str,
        /// The start of what was there.
        got: String,
    },
    /// An integer that does not fit in 64 bits, or has a fraction.
    #[error("expected a 64-bit integer, got {got}")]
    Integer {
        /// The number.
        got: String,
    },
    /// A real that is not finite.
    #[error(transparent)]
    Real(#[from] NotFinite),
    /// Strings of the protocol have no NUL.
    #[error("expected a string without null bytes")]
    Nul,
    /// No UUID.
    #[error("expected a uuid, got {got:?}")]
    Uuid {
        /// The string.
        got: String,
    },
    /// A name that no insert of this transaction gives.
    #[error("unknown named-uuid {name:?}")]
    UnknownName {
        /// The name.
        name: String,
    },
    /// One element twice in a set, or one key twice in a map.
    #[error("{what} holds {got} twice")]
    Duplicate {
        /// `set` or `map`.
        what: &'static str,
        /// The atom.
        got: Atom,
    },
    /// Of the right type, but refused by the column.
    #[error(transparent)]
    Constraint(#[from] ConstraintError),
}

impl DecodeError {
    /// A [`Self::Form`] that quotes at most a line of what was there.
    pub(crate) fn form(expected: &'static str, got: &Value) -> Self {
        Self::Form { expected, got: excerpt(got) }
    }
}

impl Atom {
    /// The JSON form.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Integer(value) => Value::from(*value),
            Self::Real(value) => Value::from(value.value()),
            Self::Boolean(value) => Value::from(*value),
            Self::String(value) => Value::from(value.as_ref()),
            Self::Uuid(value) => uuid_json(*value),
        }
    }

    /// Reads an atom of this type. Names are looked up in `symbols`.
    pub fn from_json_with(
        json: &Value,
        ty: AtomicType,
        symbols: &mut dyn Symbols,
    ) -> Result<Self, DecodeError> {
        match ty {
            AtomicType::Integer => integer(json).map(Self::Integer),
            AtomicType::Real => {
                let value = json.as_f64().ok_or_else(|| DecodeError::form("a number", json))?;
                Ok(Self::Real(Real::new(value)?))
            }
            AtomicType::Boolean => {
                json.as_bool().map(Self::Boolean).ok_or_else(|| DecodeError::form("a boolean", json))
            }
            AtomicType::String => {
                let value = json.as_str().ok_or_else(|| DecodeError::form("a string", json))?;
                if value.contains('\0') { Err(DecodeError::Nul) } else { Ok(Self::from(value)) }
            }
            AtomicType::Uuid => uuid(json, symbols).map(Self::Uuid),
        }
    }

    /// Reads an atom of this type; no names.
    pub fn from_json(json: &Value, ty: AtomicType) -> Result<Self, DecodeError> {
        Self::from_json_with(json, ty, &mut NoSymbols)
    }
}

impl Datum {
    /// The JSON form. A set of one is the bare atom.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Set(atoms) => match atoms.as_slice() {
                [atom] => atom.to_json(),
                _ => Value::from(vec![Value::from("set"), atoms.iter().map(Atom::to_json).collect()]),
            },
            Self::Map(pairs) => {
                let pairs = pairs.iter().map(|(k, v)| Value::from(vec![k.to_json(), v.to_json()])).collect();
                Value::from(vec![Value::from("map"), pairs])
            }
        }
    }

    /// Reads a value of this shape and these atomic types; no names, no constraints. This is how a difference is read.
    pub fn from_json(json: &Value, ty: &ColumnType) -> Result<Self, DecodeError> {
        Self::from_json_with(json, ty, &mut NoSymbols)
    }

    /// As [`Self::from_json`], with names.
    pub fn from_json_with(
        json: &Value,
        ty: &ColumnType,
        symbols: &mut dyn Symbols,
    ) -> Result<Self, DecodeError> {
        let key = ty.key.atomic;
        let Some(value) = &ty.value else {
            let Some(elements) = tagged(json, "set") else {
                return Ok(Self::Set(vec![Atom::from_json_with(json, key, symbols)?]));
            };
            let elements = elements.as_array().ok_or_else(|| DecodeError::form("an array", elements))?;
            let mut atoms = Vec::with_capacity(elements.len());
            for element in elements {
                atoms.push(Atom::from_json_with(element, key, symbols)?);
            }
            atoms.sort_unstable();
            return match atoms.windows(2).find(|w| w[0] == w[1]) {
                Some(twice) => Err(DecodeError::Duplicate { what: "set", got: twice[0].clone() }),
                None => Ok(Self::Set(atoms)),
            };
        };
        let elements = tagged(json, "map").and_then(Value::as_array);
        let elements = elements.ok_or_else(|| DecodeError::form(r#"["map", [..]]"#, json))?;
        let mut pairs = Vec::with_capacity(elements.len());
        for element in elements {
            let Some([k, v]) = element.as_array().map(Vec::as_slice) else {
                return Err(DecodeError::form("a pair", element));
            };
            pairs.push((
                Atom::from_json_with(k, key, symbols)?,
                Atom::from_json_with(v, value.atomic, symbols)?,
            ));
        }
        pairs.sort_unstable();
        match pairs.windows(2).find(|w| w[0].0 == w[1].0) {
            Some(twice) => Err(DecodeError::Duplicate { what: "map", got: twice[0].0.clone() }),
            None => Ok(Self::Map(pairs)),
        }
    }

    /// Reads a value that this column may hold: shape, types and constraints.
    pub fn from_json_checked(
        json: &Value,
        ty: &ColumnType,
        symbols: &mut dyn Symbols,
    ) -> Result<Self, DecodeError> {
        let datum = Self::from_json_with(json, ty, symbols)?;
        datum.check(ty)?;
        Ok(datum)
    }
}

impl BaseType {
    /// Reads an atom of this type, its constraints included; no names.
    pub fn atom_from_json(&self, json: &Value) -> Result<Atom, DecodeError> {
        let atom = Atom::from_json(json, self.atomic)?;
        self.check(&atom)?;
        Ok(atom)
    }
}

/// `["uuid", "…"]`.
pub fn uuid_json(uuid: Uuid) -> Value {
    Value::from(vec![Value::from("uuid"), Value::from(uuid.to_string())])
}

/// `["named-uuid", name]`: the row that an insert of the same transaction names so.
pub fn named_uuid_json(name: &str) -> Value {
    Value::from(vec![Value::from("named-uuid"), Value::from(name)])
}

/// Reads `["uuid", "…"]`.
pub fn uuid_from_json(json: &Value) -> Result<Uuid, DecodeError> {
    uuid(json, &mut NoSymbols)
}

/// A UUID in the one form OVSDB writes and reads: 36 characters with hyphens.
pub fn parse_uuid(text: &str) -> Result<Uuid, DecodeError> {
    let wrong = || DecodeError::Uuid { got: text.chars().take(EXCERPT_MAX).collect() };
    if text.len() != 36 {
        return Err(wrong());
    }
    Uuid::try_parse(text).map_err(|_| wrong())
}

fn uuid(json: &Value, symbols: &mut dyn Symbols) -> Result<Uuid, DecodeError> {
    if let Some(text) = tagged(json, "uuid").and_then(Value::as_str) {
        return parse_uuid(text);
    }
    if let Some(name) = tagged(json, "named-uuid").and_then(Value::as_str) {
        return symbols
            .resolve(name)
            .ok_or_else(|| DecodeError::UnknownName { name: name.chars().take(EXCERPT_MAX).collect() });
    }
    Err(DecodeError::form(r#"["uuid", ".."]"#, json))
}

fn integer(json: &Value) -> Result<i64, DecodeError> {
    if let Some(value) = json.as_i64() {
        return Ok(value);
    }
    let value = json.as_f64().ok_or_else(|| DecodeError::form("an integer", json))?;
    // OVS reads `1e3` and `7.0` as integers. Beyond 2^53 a double no longer says which integer was meant, but the
    // powers of two that bound i64 are exact, so the comparison is right.
    if value.fract() == 0.0 && (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&value) {
        #[expect(clippy::cast_possible_truncation, reason = "whole, and within the range of i64")]
        return Ok(value as i64);
    }
    Err(DecodeError::Integer { got: json.to_string() })
}

/// The second element of `[tag, x]`.
fn tagged<'a>(json: &'a Value, tag: &str) -> Option<&'a Value> {
    match json.as_array()?.as_slice() {
        [Value::String(first), second] if first == tag => Some(second),
        _ => None,
    }
}

/// The beginning of some JSON, for error messages, without printing all of a large value.
pub(crate) fn excerpt(json: &Value) -> String {
    match json {
        Value::Array(elements) if elements.len() > 4 => format!("an array of {}", elements.len()),
        Value::Object(members) => format!("an object of {}", members.len()),
        Value::Array(elements) => {
            let inner: Vec<String> = elements
                .iter()
                .map(|element| match element {
                    Value::Array(inner) => format!("an array of {}", inner.len()),
                    other => excerpt(other),
                })
                .collect();
            format!("[{}]", inner.join(", "))
        }
        Value::String(text) => format!("{:?}", text.chars().take(EXCERPT_MAX).collect::<String>()),
        other => other.to_string(),
    }
}

/// Characters of a peer's text that an error message quotes.
const EXCERPT_MAX: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use serde_json::json;

    fn check(ty: &ColumnType, input: Value, expected: Expect) {
        let got = match Datum::from_json(&input, ty) {
            Ok(datum) => format!("{datum} -> {}", datum.to_json()),
            Err(error) => format!("error: {error}"),
        };
        expected.assert_eq(&got);
    }

    #[test]
    fn scalars_and_sets() {
        let set = ColumnType::set(BaseType::INTEGER);
        check(&set, json!(3), expect!["3 -> 3"]);
        check(&set, json!(["set", [3, 1]]), expect![[r#"[1, 3] -> ["set",[1,3]]"#]]);
        check(&set, json!(["set", [3]]), expect!["3 -> 3"]);
        check(&set, json!(["set", []]), expect![[r#"[] -> ["set",[]]"#]]);
        check(&set, json!(["set", [3, 3]]), expect!["error: set holds 3 twice"]);
        check(&set, json!(["set", 3]), expect!["error: expected an array, got 3"]);
        check(&set, json!(1e3), expect!["1000 -> 1000"]);
        check(&set, json!(1.5), expect!["error: expected a 64-bit integer, got 1.5"]);
        check(&set, json!(u64::MAX), expect!["error: expected a 64-bit integer, got 18446744073709551615"]);
        check(&set, json!(i64::MIN), expect!["-9223372036854775808 -> -9223372036854775808"]);
        check(&set, json!("x"), expect![[r#"error: expected an integer, got "x""#]]);
        let real = ColumnType::scalar(BaseType::REAL);
        check(&real, json!(2), expect!["2 -> 2.0"]);
        let string = ColumnType::scalar(BaseType::STRING);
        check(&string, json!("a\0b"), expect!["error: expected a string without null bytes"]);
    }

    #[test]
    fn maps() {
        let map = ColumnType::map(BaseType::STRING, BaseType::INTEGER);
        check(
            &map,
            json!(["map", [["b", 1], ["a", 2]]]),
            expect![[r#"{"a"=2, "b"=1} -> ["map",[["a",2],["b",1]]]"#]],
        );
        check(&map, json!(["map", []]), expect![[r#"{} -> ["map",[]]"#]]);
        check(&map, json!(["map", [["a", 1], ["a", 2]]]), expect![[r#"error: map holds "a" twice"#]]);
        check(&map, json!(["map", [["a"]]]), expect![[r#"error: expected a pair, got ["a"]"#]]);
        check(
            &map,
            json!(["set", []]),
            expect![[r#"error: expected ["map", [..]], got ["set", an array of 0]"#]],
        );
    }

    #[test]
    fn uuids_and_names() {
        let ty = ColumnType::set(BaseType::UUID);
        let id = "36bef046-7da7-43a5-905a-c17899216fcb";
        check(
            &ty,
            json!(["uuid", id]),
            expect![[
                r#"36bef046-7da7-43a5-905a-c17899216fcb -> ["uuid","36bef046-7da7-43a5-905a-c17899216fcb"]"#
            ]],
        );
        check(
            &ty,
            json!(["uuid", "36bef0467da743a5905ac17899216fcb"]),
            expect![[r#"error: expected a uuid, got "36bef0467da743a5905ac17899216fcb""#]],
        );
        check(&ty, json!(["named-uuid", "row1"]), expect![[r#"error: unknown named-uuid "row1""#]]);
        let fixed = parse_uuid(id).unwrap();
        let named = json!(["set", [["named-uuid", "row1"]]]);
        let mut symbols = |name: &str| (name == "row1").then_some(fixed);
        assert_eq!(Datum::from_json_with(&named, &ty, &mut symbols), Ok(Datum::from(fixed)));
    }
}
