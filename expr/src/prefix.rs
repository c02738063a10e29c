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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_prefixes(family: AddressFamily) -> impl Strategy<Value = Vec<Prefix>> {
        // Few different bits, so that prefixes touch and contain each other.
        let address = (any::<u128>(), 0..4_u8).prop_map(move |(bits, kind)| match kind {
            0 => bits & ones(family.width()),
            1 => bits & 0b111,
            _ => ones(family.width()) ^ (bits & 0b111),
        });
        let prefix = (address, 0..=family.width())
            .prop_map(move |(address, length)| Prefix::new(family, address, length).unwrap());
        prop::collection::vec(prefix, 0..12)
    }

    /// Addresses at the edges of each prefix and around them.
    fn edges(prefixes: &[Prefix]) -> Vec<u128> {
        let width = prefixes.first().map_or(32, |prefix| prefix.family.width());
        let ends =
            prefixes.iter().flat_map(|prefix| [prefix.value, prefix.value | (ones(width) & !prefix.mask())]);
        let around =
            ends.flat_map(|end| [end, end.wrapping_add(1) & ones(width), end.wrapping_sub(1) & ones(width)]);
        around.chain([0, ones(width)]).collect()
    }

    fn any_family() -> impl Strategy<Value = AddressFamily> {
        prop_oneof![Just(AddressFamily::Mac), Just(AddressFamily::Ipv4), Just(AddressFamily::Ipv6)]
    }

    proptest! {
        #[test]
        fn a_complement_holds_what_is_outside(
            (family, prefixes) in any_family().prop_flat_map(|family| (Just(family), any_prefixes(family)))
        ) {
            let outside = complement(family, prefixes.iter().copied());
            for address in edges(&prefixes).into_iter().chain(edges(&outside)) {
                let inside = prefixes.iter().any(|prefix| prefix.contains(address));
                let holders = outside.iter().filter(|prefix| prefix.contains(address)).count();
                prop_assert_eq!(holders, usize::from(!inside), "{:#x}", address);
            }
            prop_assert!(outside.is_sorted());
            // Twice outside is inside, in the fewest prefixes.
            let inside = complement(family, outside.iter().copied());
            prop_assert!(inside.len() <= prefixes.len());
            prop_assert_eq!(complement(family, inside), outside);
        }
    }

    #[test]
    fn other_families_do_not_count() {
        let v4 = Prefix::new(AddressFamily::Ipv4, 0, 0).unwrap();
        let all = [Prefix::new(AddressFamily::Mac, 0, 0).unwrap()];
        assert_eq!(complement(AddressFamily::Mac, [v4]), all);
        assert_eq!(complement(AddressFamily::Ipv4, [v4]), []);
        assert_eq!(
            Prefix::new(AddressFamily::Ipv4, 0, 33).unwrap_err().to_string(),
            "prefix length 33 of an address of 32 bits"
        );
    }

    #[test]
    fn members_of_sets_are_prefixes_of_one_family() {
        let member =
            |text: &str, family| Prefix::of_member(family, &text.parse().unwrap()).map(|p| p.to_string());
        assert_eq!(member("10.0.0.1/8", AddressFamily::Ipv4).as_deref(), Some("0xa000000/8"));
        assert_eq!(member("10.0.0.1", AddressFamily::Ipv4).as_deref(), Some("0xa000001/32"));
        assert_eq!(member("10.0.0.1", AddressFamily::Ipv6), None);
        assert_eq!(member("10.0.0.1/255.0.0.255", AddressFamily::Ipv4), None);
        assert_eq!(
            member("ff:00:00:00:00:00/ff:00:00:00:00:00", AddressFamily::Mac).as_deref(),
            Some("0xff0000000000/8")
        );
    }
}
