//! Inclusive ranges of addresses, and the numbers that stand for addresses.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// A run of keys, both ends included.
pub type Run = (u128, u128);

/// The number that stands for an address within its family.
pub fn key_of(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    }
}

/// The address of `like`'s family that `key` stands for; `None` when the family is too narrow.
pub fn ip_of(key: u128, like: IpAddr) -> Option<IpAddr> {
    match like {
        IpAddr::V4(_) => u32::try_from(key).ok().map(|key| Ipv4Addr::from(key).into()),
        IpAddr::V6(_) => Some(Ipv6Addr::from(key).into()),
    }
}

/// Addresses from `first` to `last`, both included, of one family.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Range {
    /// The lowest.
    pub first: IpAddr,
    /// The highest.
    pub last: IpAddr,
}

impl Range {
    /// `None` when the ends are of two families or the wrong way round.
    pub fn new(first: IpAddr, last: IpAddr) -> Option<Self> {
        (first.is_ipv4() == last.is_ipv4() && key_of(first) <= key_of(last)).then_some(Self { first, last })
    }

    /// Back from its text `first-last`.
    pub fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-')?;
        Self::new(first.parse().ok()?, last.parse().ok()?)
    }

    /// As numbers.
    pub fn run(&self) -> Run {
        (key_of(self.first), key_of(self.last))
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// `runs` in order, merged where they touch.
pub fn merged(mut runs: Vec<Run>) -> Vec<Run> {
    runs.sort_unstable();
    let mut out: Vec<Run> = Vec::with_capacity(runs.len());
    for (first, last) in runs {
        match out.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => out.push((first, last)),
        }
    }
    out
}

/// What of `runs` is in none of `holes`, in order.
pub fn without(runs: Vec<Run>, holes: Vec<Run>) -> Vec<Run> {
    let holes = merged(holes);
    let mut out = Vec::new();
    for (mut first, last) in merged(runs) {
        let mut gone = false;
        for &(hole_first, hole_last) in &holes {
            if hole_last < first {
                continue;
            }
            if hole_first > last {
                break;
            }
            if hole_first > first {
                out.push((first, hole_first - 1));
            }
            if hole_last >= last {
                gone = true;
                break;
            }
            first = hole_last + 1;
        }
        if !gone {
            out.push((first, last));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_cut_out() {
        assert_eq!(without(vec![(0, 9)], vec![(0, 0), (9, 9), (4, 5)]), [(1, 3), (6, 8)]);
        assert_eq!(without(vec![(5, 9), (0, 4)], vec![]), [(0, 9)]);
        assert_eq!(without(vec![(3, 4)], vec![(0, 9)]), []);
        assert_eq!(without(vec![(0, u128::MAX)], vec![(u128::MAX, u128::MAX)]), [(0, u128::MAX - 1)]);
    }

    #[test]
    fn a_range_is_of_one_family_and_the_right_way_round() {
        assert!(Range::parse("10.0.0.1-10.0.0.9").is_some());
        for wrong in ["10.0.0.9-10.0.0.1", "10.0.0.1-fd00::1", "10.0.0.1", "-", "x-y"] {
            assert!(Range::parse(wrong).is_none(), "{wrong}");
        }
    }
}
