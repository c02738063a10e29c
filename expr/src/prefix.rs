//! Prefixes of MAC, IPv4 and IPv6 addresses, and what lies outside of them.

use std::fmt;

use thiserror::Error;

use crate::constant::{Constant, ones, prefix_mask};
use crate::cube::{self, Cube};

/// The kinds of addresses that sets hold.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum AddressFamily {
    /// 48 bits.
    Mac,
    /// 32 bits.
    Ipv4,
    /// 128 bits.
    Ipv6,
}

impl AddressFamily {
    /// Width of an address in bits.
    pub const fn width(self) -> u8 {
        match self {
            Self::Mac => 48,
            Self::Ipv4 => 32,
            Self::Ipv6 => 128,
        }
    }
}

/// Addresses that agree in their first `length` bits.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Prefix {
    family: AddressFamily,
    value: u128,
    length: u8,
}

/// A prefix that is longer than its addresses.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("prefix length {length} of an address of {width} bits")]
pub struct PrefixError {
    length: u8,
    width: u8,
}

impl Prefix {
    /// The prefix of this address and length in bits; bits behind it do not count.
    ///
    /// # Errors
    /// If the prefix is longer than an address of its family.
    pub fn new(family: AddressFamily, address: u128, length: u8) -> Result<Self, PrefixError> {
        let width = family.width();
        if length > width {
            return Err(PrefixError { length, width });
        }
        Ok(Self { family, value: address & prefix_mask(length, width), length })
    }

    /// A member of an address set as a prefix of this family; `None` if it is of another family, or its mask is not a prefix.
    pub fn of_member(family: AddressFamily, member: &Constant) -> Option<Self> {
        let width = family.width();
        let mask = member.mask().unwrap_or_else(|| ones(width));
        let length = mask.count_ones() as u8;
        (member.is_of_family(width) && mask == prefix_mask(length, width)).then(|| Self {
            family,
            value: member.value(),
            length,
        })
    }

    /// What its addresses are.
    pub fn family(&self) -> AddressFamily {
        self.family
    }

    /// The first address.
    pub fn value(&self) -> u128 {
        self.value
    }

    /// Bits that count, from the most significant one.
    pub fn length(&self) -> u8 {
        self.length
    }

    /// The bits that count, as a mask.
    pub fn mask(&self) -> u128 {
        prefix_mask(self.length, self.family.width())
    }

    /// Whether the address begins with it.
    pub fn contains(&self, address: u128) -> bool {
        address & self.mask() == self.value
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}/{}", self.value, self.length)
    }
}

/// The fewest prefixes that hold every address of the family that none of `prefixes` holds, in ascending order. Prefixes of
/// other families do not count.
pub fn complement(family: AddressFamily, prefixes: impl IntoIterator<Item = Prefix>) -> Vec<Prefix> {
    let own = prefixes.into_iter().filter(|prefix| prefix.family == family);
    let cubes: Vec<Cube> = own.map(|prefix| Cube::new(prefix.value, prefix.mask())).collect();
    let outside =
        cube::complement(&cubes, family.width()).expect("only masks that are not prefixes can be too many");
    outside
        .into_iter()
        .map(|cube| Prefix { family, value: cube.value, length: cube.mask.count_ones() as u8 })
        .collect()
}
