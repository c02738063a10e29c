//! Type-length-value properties: the length leaves out the zeros up to a multiple of eight.

use crate::error::DecodeError;
use crate::wire::{Reader, Writer};

/// Appends a property.
pub(crate) fn put(w: &mut Writer, kind: u16, value: impl FnOnce(&mut Writer)) {
    let start = w.len();
    w.put(kind);
    w.put(0u16);
    value(w);
    w.length_at("property", start + 2, start);
    w.align(start, 8);
}

/// Appends a 16-bit property, which by custom is as long as one of 32 bits.
pub(crate) fn put_u16(w: &mut Writer, kind: u16, value: u16) {
    put(w, kind, |w| {
        w.put(value);
        w.zeros(2);
    });
}

/// Appends a property that holds properties, which begin at a multiple of eight.
pub(crate) fn put_nested(w: &mut Writer, kind: u16, value: impl FnOnce(&mut Writer)) {
    put(w, kind, |w| {
        w.zeros(4);
        value(w);
    });
}

/// Reads a property: its type and its value.
pub(crate) fn take<'a>(r: &mut Reader<'a>, what: &'static str) -> Result<(u16, Reader<'a>), DecodeError> {
    let mut value = r.entry(what, 2, 4)?;
    let length = value.left();
    let padding = length.next_multiple_of(8) - length;
    // The last property of a message may come without its zeros.
    r.skip(padding.min(r.left()))?;
    let kind = value.take()?;
    value.skip(2)?;
    Ok((kind, value))
}
