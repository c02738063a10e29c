//! Field values, flags and addresses.

use std::fmt::{self, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::field::{Field, Format, Subfield};
use crate::match_::CtState;
use crate::port::Port;

/// Hexadecimal as C's `%#x` prints it: zero has no prefix.
pub(super) struct Hex(pub(super) u128);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { f.write_str("0") } else { write!(f, "{:#x}", self.0) }
    }
}

/// Hexadecimal bytes without leading zeros.
pub(super) struct HexBytes<'a>(pub(super) &'a [u8]);

impl fmt::Display for HexBytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.0.iter().skip_while(|byte| **byte == 0);
        match bytes.next() {
            None => f.write_str("0"),
            Some(first) => {
                write!(f, "{first:#x}")?;
                bytes.try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

/// Bytes with dots between.
pub(super) struct Dotted<'a>(pub(super) &'a [u8]);

impl fmt::Display for Dotted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(i, byte)| {
            if i > 0 {
                f.write_char('.')?;
            }
            write!(f, "{byte:02x}")
        })
    }
}

/// An Ethernet address in the lower 48 bits.
pub(super) struct Mac(pub(super) u128);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0.to_be_bytes();
        bytes[10..].iter().enumerate().try_for_each(|(i, byte)| {
            if i > 0 {
                f.write_char(':')?;
            }
            write!(f, "{byte:02x}")
        })
    }
}

pub(super) fn ipv4(value: u128) -> Ipv4Addr {
    Ipv4Addr::from(u32::try_from(value & u128::from(u32::MAX)).expect("masked to 32 bits"))
}

/// An address, and its mask as a prefix length where it is one.
pub(super) fn address(f: &mut fmt::Formatter<'_>, value: u128, mask: u128, bits: u32) -> fmt::Result {
    let show = |f: &mut fmt::Formatter<'_>, value: u128| {
        if bits == 32 { write!(f, "{}", ipv4(value)) } else { write!(f, "{}", Ipv6Addr::from(value)) }
    };
    show(f, value)?;
    let ones = if bits == 128 { u128::MAX } else { (1 << bits) - 1 };
    if mask == ones {
        return Ok(());
    }
    let length = mask.count_ones();
    let prefix = if length == 0 { 0 } else { (ones << (bits - length)) & ones };
    f.write_char('/')?;
    if mask == prefix { write!(f, "{length}") } else { show(f, mask) }
}

pub(super) fn ct_state_bit(bit: u128) -> Option<&'static str> {
    CtState::NAMES.iter().find(|(known, _)| u128::from(known.0) == bit).map(|(_, name)| *name)
}

pub(super) fn tcp_flag_bit(bit: u128) -> Option<&'static str> {
    const NAMES: [&str; 12] =
        ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns", "[200]", "[400]", "[800]"];
    NAMES.get(bit.trailing_zeros() as usize).copied()
}

pub(super) fn tunnel_flag_bit(bit: u128) -> Option<&'static str> {
    (bit == 1).then_some("oam")
}

/// Flags with `|` between when all are matched, else each with its sign.
pub(super) fn flags(
    f: &mut fmt::Formatter<'_>,
    value: u128,
    mask: u128,
    full: u128,
    name: fn(u128) -> Option<&'static str>,
) -> fmt::Result {
    let bits = |set: u128| (0..128).map(|i| 1u128 << i).filter(move |bit| set & bit != 0);
    if mask == full {
        if value == 0 {
            return f.write_str("0");
        }
        let known: Vec<&str> = bits(value).filter_map(name).collect();
        f.write_str(&known.join("|"))?;
        let bad = bits(value).filter(|bit| name(*bit).is_none()).fold(0, |bad, bit| bad | bit);
        return match (bad, known.is_empty()) {
            (0, _) => Ok(()),
            (bad, true) => write!(f, "{bad:#x}"),
            (bad, false) => write!(f, "|{bad:#x}"),
        };
    }
    if mask == 0 {
        return f.write_str("0/0");
    }
    bits(mask).try_for_each(|bit| {
        write!(f, "{}{}", if value & bit != 0 { '+' } else { '-' }, name(bit).unwrap_or("[Unknown]"))
    })
}

pub(super) fn fragment(value: u128, mask: u128) -> &'static str {
    match (value & mask & 3, mask & 3) {
        (0, 3 | 1) => "no",
        (1, 1) => "yes",
        (1, 3) => "first",
        (3, 3) | (2, 2) => "later",
        (0, 2) => "not_later",
        _ => "<error>",
    }
}

pub(super) fn packet_type(f: &mut fmt::Formatter<'_>, value: u128) -> fmt::Result {
    if value == 0 {
        return f.write_str("eth");
    }
    write!(f, "packet_type=({},{})", value >> 16, Hex(value & 0xffff))
}

/// A value as set-field and learn show it.
pub(super) struct FieldText<'a> {
    pub(super) field: Field,
    pub(super) value: &'a [u8],
    pub(super) mask: Option<&'a [u8]>,
}

impl fmt::Display for FieldText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, value, mask } = self;
        // The switch shortens a field of any width, so that a full mask need not have been one.
        let mask = mask.filter(|mask| field.has_any_width() || mask.iter().any(|byte| *byte != 0xff));
        if mask.is_some_and(|mask| mask.iter().all(|byte| *byte == 0)) {
            return f.write_str("ANY");
        }
        let number = |bytes: &[u8]| bytes.iter().fold(0u128, |number, byte| number << 8 | u128::from(*byte));
        let bits = u128::MAX >> (128 - 8 * value.len().clamp(1, 16));
        let (v, m) = (number(value), mask.map_or(bits, number));
        match field.info().map(|info| info.format) {
            Some(Format::Port32) if mask.is_none() => match u32::try_from(v) {
                Ok(port) => write!(f, "{}", Port(port)),
                Err(_) => write!(f, "{v}"),
            },
            Some(Format::Port16) if mask.is_none() => match u16::try_from(v) {
                Ok(port) => write!(f, "{}", Port::from_u16(port)),
                Err(_) => write!(f, "{v}"),
            },
            Some(Format::Decimal | Format::Port16 | Format::Port32) => {
                write!(f, "{v}")?;
                mask.map_or(Ok(()), |mask| write!(f, "/{}", HexBytes(mask)))
            }
            Some(Format::Mac) => {
                write!(f, "{}", Mac(v))?;
                mask.map_or(Ok(()), |_| write!(f, "/{}", Mac(m)))
            }
            Some(Format::Ipv4) => address(f, v, m, 32),
            Some(Format::Ipv6) => address(f, v, m, 128),
            Some(Format::Frag) => f.write_str(fragment(v, m)),
            Some(Format::TunnelFlags) => flags(f, v, m & 1, 1, tunnel_flag_bit),
            Some(Format::TcpFlags) => flags(f, v, m & 0xfff, 0xfff, tcp_flag_bit),
            Some(Format::CtState) => flags(f, v, m, 0xffff, ct_state_bit),
            Some(Format::PacketType) => packet_type(f, v),
            Some(Format::Hex) | None => {
                write!(f, "{}", HexBytes(value))?;
                mask.map_or(Ok(()), |mask| write!(f, "/{}", HexBytes(mask)))
            }
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => fmt::Debug::fmt(self, f),
        }
    }
}

impl fmt::Display for Subfield {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.nxm_name() {
            Some(name) => f.write_str(name)?,
            None => fmt::Debug::fmt(&self.field, f)?,
        }
        match (self.offset, self.bits) {
            (0, bits) if bits == self.field.bits() => f.write_str("[]"),
            (offset, 1) => write!(f, "[{offset}]"),
            (offset, bits) => {
                write!(f, "[{offset}..{}]", (u32::from(offset) + u32::from(bits)).saturating_sub(1))
            }
        }
    }
}
