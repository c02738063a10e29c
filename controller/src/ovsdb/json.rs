//! Values of columns as JSON octets, without a tree in between: an initial dump writes millions of them.
//!
//! # Invariants
//! - The octets are those of `ovsdb::json`'s tree for the same datum.

use ovsdb::value::{Atom, Datum};
use quantumnet_model::Uuid;
use serde::Serialize;

/// Appends a value.
pub(super) fn datum(out: &mut Vec<u8>, datum: &Datum) {
    match datum {
        Datum::Set(atoms) => match atoms.as_slice() {
            [only] => atom(out, only),
            _ => {
                out.extend_from_slice(b"[\"set\",[");
                separated(out, atoms, atom);
                out.extend_from_slice(b"]]");
            }
        },
        Datum::Map(pairs) => {
            out.extend_from_slice(b"[\"map\",[");
            separated(out, pairs, |out, (key, value)| {
                out.push(b'[');
                atom(out, key);
                out.push(b',');
                atom(out, value);
                out.push(b']');
            });
            out.extend_from_slice(b"]]");
        }
    }
}

/// Appends anything that serde knows.
pub(super) fn value(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    serde_json::to_writer(out, value).expect("memory is the only thing that this encoding can lack");
}

/// Appends a uuid as a string.
pub(super) fn uuid_text(out: &mut Vec<u8>, uuid: Uuid) {
    out.push(b'"');
    out.extend_from_slice(uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes());
    out.push(b'"');
}

fn atom(out: &mut Vec<u8>, atom: &Atom) {
    match atom {
        Atom::Integer(integer) => value(out, integer),
        Atom::Real(real) => value(out, &real.value()),
        Atom::Boolean(boolean) => value(out, boolean),
        Atom::String(text) => value(out, text.as_ref()),
        Atom::Uuid(uuid) => {
            out.extend_from_slice(b"[\"uuid\",");
            uuid_text(out, *uuid);
            out.push(b']');
        }
    }
}

fn separated<T>(out: &mut Vec<u8>, items: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
    for (place, item) in items.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        write(out, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ovsdb::value::Real;

    #[test]
    fn octets_are_those_of_the_tree() {
        for value in [
            Datum::EMPTY_SET,
            Datum::EMPTY_MAP,
            Datum::from("a \"quoted\" \u{1} text"),
            Datum::set([3, 1, i64::MIN]),
            Datum::from(Real::new(0.1).unwrap()),
            Datum::from(true),
            Datum::set([Uuid::from_u128(7), Uuid::max()]),
            Datum::map([("k", "v"), ("", "\u{fffd}")]),
        ] {
            let mut out = Vec::new();
            datum(&mut out, &value);
            assert_eq!(String::from_utf8(out).unwrap(), value.to_json().to_string());
        }
    }
}
