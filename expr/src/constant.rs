//! Integer constants: numbers, MAC and IP addresses, each with or without a mask (ovn-sb(5), "Constants").
//!
//! # Invariants
//! - A bit that is 1 in `value` is 1 in `mask`.
//! - What is printed parses to the same constant.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::ExprError;
use crate::error::ErrorKind;
use crate::lex::{self, Token};

/// How a constant is written, which also says which masks it takes.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Format {
    /// `80`
    Decimal,
    /// `0x50`
    Hexadecimal,
    /// `00:00:5e:00:53:01`
    Ethernet,
    /// `192.0.2.1`
    Ipv4,
    /// `2001:db8::1`
    Ipv6,
}

/// An integer constant. An address set consists of these; parse its members with [`str::parse`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Constant {
    value: u128,
    mask: Option<u128>,
    format: Format,
}

impl Constant {
    pub(crate) const fn new(value: u128, format: Format) -> Self {
        Self { value, mask: None, format }
    }

    /// With the mask that was written behind `/`, if the two formats go together.
    pub(crate) fn masked(self, by: Self) -> Result<Self, ErrorKind> {
        let (format, mask) = match (self.format, by.format) {
            (format, other) if format == other => (format, by.value),
            (Format::Ipv4, Format::Decimal) if by.value <= 32 => {
                (Format::Ipv4, prefix_mask(by.value as u8, 32))
            }
            (Format::Ipv6, Format::Decimal) if by.value <= 128 => {
                (Format::Ipv6, prefix_mask(by.value as u8, 128))
            }
            (Format::Decimal, Format::Hexadecimal) if self.value == 0 => (Format::Hexadecimal, by.value),
            _ => return Err(ErrorKind::Mask),
        };
        Ok(Self { value: self.value & mask, mask: Some(mask), format })
    }

    /// The value; bits outside the mask are 0.
    pub fn value(&self) -> u128 {
        self.value
    }

    /// The mask, if one was given.
    pub fn mask(&self) -> Option<u128> {
        self.mask
    }

    /// How it was written.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The number, if it is written as a plain decimal one.
    pub(crate) fn as_decimal(&self) -> Option<u64> {
        (self.format == Format::Decimal && self.mask.is_none())
            .then(|| u64::try_from(self.value).ok())
            .flatten()
    }

    /// Bits that a field needs to be compared with it: an address's own width, a number's or mask's highest bit.
    pub fn width(&self) -> u8 {
        let significant = |number: u128| (128 - number.leading_zeros()) as u8;
        match (self.mask, self.format) {
            (Some(mask), _) => significant(mask),
            (None, Format::Decimal | Format::Hexadecimal) => significant(self.value),
            (None, Format::Ethernet) => 48,
            (None, Format::Ipv4) => 32,
            (None, Format::Ipv6) => 128,
        }
    }

    /// Whether a member of an address set says something about a symbol of this width. An address does only about
    /// fields exactly as wide as it is, so one set may hold the IPv4 and the IPv6 addresses of the same hosts.
    pub fn is_of_family(&self, width: u8) -> bool {
        match self.format {
            Format::Decimal | Format::Hexadecimal => self.width() <= width,
            Format::Ethernet => width == 48,
            Format::Ipv4 => width == 32,
            Format::Ipv6 => width == 128,
        }
    }
}

/// The upper `length` of `width` bits set.
pub(crate) fn prefix_mask(length: u8, width: u8) -> u128 {
    ones(width) & !ones(width.saturating_sub(length))
}

/// The lower `width` bits set.
pub(crate) fn ones(width: u8) -> u128 {
    u128::MAX.checked_shr(128 - u32::from(width.min(128))).unwrap_or(0)
}

impl FromStr for Constant {
    type Err = ExprError;

    /// Parses one constant and nothing else, as in a row of `Address_Set`.
    ///
    /// # Errors
    /// If the text is no constant. OVN leaves such a member out, and takes the first of several words.
    fn from_str(text: &str) -> Result<Self, ExprError> {
        let tokens = lex::tokens(text)?;
        match tokens.as_slice() {
            [(Token::Integer(constant), _), (Token::End, _)] => Ok(*constant),
            [(Token::Integer(_), _), (other, at), ..] | [(other, at), ..] => Err(ExprError {
                at: at.clone(),
                kind: ErrorKind::Expected { expected: "one constant", found: other.to_string() },
            }),
            [] => unreachable!("tokens end with one that says so"),
        }
    }
}

impl fmt::Display for Constant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let write = |f: &mut fmt::Formatter<'_>, number: u128| match self.format {
            Format::Decimal => write!(f, "{number}"),
            Format::Hexadecimal => write!(f, "{number:#x}"),
            Format::Ethernet => write_mac(f, number),
            Format::Ipv4 => write!(f, "{}", Ipv4Addr::from(number as u32)),
            Format::Ipv6 => write!(f, "{}", Ipv6Addr::from(number)),
        };
        write(f, self.value)?;
        let Some(mask) = self.mask else { return Ok(()) };
        let width = match self.format {
            Format::Ipv4 => 32,
            Format::Ipv6 => 128,
            _ => 0,
        };
        let length = mask.count_ones() as u8;
        f.write_str("/")?;
        if width != 0 && mask == prefix_mask(length, width) { write!(f, "{length}") } else { write(f, mask) }
    }
}

fn write_mac(f: &mut fmt::Formatter<'_>, number: u128) -> fmt::Result {
    let octets = number.to_be_bytes();
    for (i, octet) in octets[10..].iter().enumerate() {
        write!(f, "{}{octet:02x}", if i == 0 { "" } else { ":" })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_address_sets_parse_and_print() {
        for (text, printed) in [
            ("10.0.0.1", "10.0.0.1"),
            ("10.0.0.1/24", "10.0.0.0/24"),
            ("10.0.0.1/255.255.255.0", "10.0.0.0/24"),
            ("10.0.0.1/255.0.0.255", "10.0.0.1/255.0.0.255"),
            ("00:00:5E:00:53:01", "00:00:5e:00:53:01"),
            ("00:00:5e:00:53:01/ff:ff:ff:00:00:00", "00:00:5e:00:00:00/ff:ff:ff:00:00:00"),
            ("2001:db8::1", "2001:db8::1"),
            ("2001:db8::1/32", "2001:db8::/32"),
            ("0/0xff00", "0x0/0xff00"),
            (" 80 ", "80"),
        ] {
            let constant: Constant = text.parse().unwrap();
            assert_eq!(constant.to_string(), printed);
            assert_eq!(printed.parse(), Ok(constant));
        }
        for text in ["", "x", "10.0.0.1 10.0.0.2", "10.0.0.1-10.0.0.9", "10.0.0.0/33", "$set"] {
            assert!(text.parse::<Constant>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_address_belongs_to_fields_of_its_own_width() {
        let family =
            |text: &str| [32, 48, 128].map(|width| text.parse::<Constant>().unwrap().is_of_family(width));
        assert_eq!(family("10.0.0.0/8"), [true, false, false]);
        assert_eq!(family("00:00:5e:00:53:01"), [false, true, false]);
        assert_eq!(family("::1"), [false, false, true]);
        assert_eq!(family("0x100000000"), [false, true, true]);
    }
}
