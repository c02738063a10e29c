//! How long the neighbours of a router live unseen (ovn-nb(5), `mac_binding_age_threshold`).

use std::net::IpAddr;

use crate::nb::LogicalRouter;
use ipnet::IpNet;

/// How long neighbours of a router live unseen, by prefix: the longest counts.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Thresholds {
    /// The longest first, in milliseconds; 0 is for ever.
    prefixes: Vec<(IpNet, i64)>,
    default: i64,
}

impl Thresholds {
    /// Reads `mac_binding_age_threshold`: seconds, or `PREFIX:SECONDS` and at most one default, separated by
    /// semicolons. What cannot be read makes all of it void, and is told.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut found = Self::default();
        for entry in text.split(';').map(str::trim).filter(|entry| !entry.is_empty()) {
            // An IPv6 prefix has colons of its own.
            let (prefix, seconds) = match entry.rsplit_once(':') {
                Some((prefix, seconds)) => (Some(prefix), seconds),
                None => (None, entry),
            };
            let wrong =
                || format!("{entry:?} is neither seconds nor a prefix with seconds such as 10.0.0.0/8:60");
            let lives = i64::from(seconds.trim().parse::<u32>().map_err(|_| wrong())?) * 1_000;
            match prefix {
                None => found.default = lives,
                Some(prefix) => {
                    let prefix = prefix.trim().trim_start_matches('[').trim_end_matches(']');
                    let prefix =
                        prefix.parse::<IpNet>().or_else(|_| prefix.parse::<IpAddr>().map(IpNet::from));
                    found.prefixes.push((prefix.map_err(|_| wrong())?, lives));
                }
            }
        }
        found.prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.prefix_len()));
        Ok(found)
    }

    /// Those of a router; what is told of them is the problem of its row.
    pub fn of(router: &LogicalRouter) -> Self {
        let text = router.options.get("mac_binding_age_threshold");
        text.and_then(|text| Self::parse(text).ok()).unwrap_or_default()
    }

    /// How long a neighbour lives unseen, in milliseconds; `None` for ever.
    pub fn lives(&self, ip: IpAddr) -> Option<i64> {
        let own = self.prefixes.iter().find(|(prefix, _)| prefix.contains(&ip)).map(|(_, lives)| *lives);
        Some(own.unwrap_or(self.default)).filter(|lives| *lives > 0)
    }

    /// The least of them in seconds; `None` when all live for ever.
    pub fn least(&self) -> Option<i64> {
        let all = self.prefixes.iter().map(|(_, lives)| *lives).chain([self.default]);
        all.filter(|lives| *lives > 0).min().map(|lives| lives / 1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_says_how_long_a_neighbour_lives() {
        let thresholds = Thresholds::parse("10.0.0.0/8:60; 10.1.0.0/16:0;fd00::/8:30;120").unwrap();
        let lives = |ip: &str| thresholds.lives(ip.parse().unwrap());
        assert_eq!(lives("10.9.0.1"), Some(60_000));
        assert_eq!(lives("10.1.0.1"), None, "for ever");
        assert_eq!(lives("fd00::1"), Some(30_000));
        assert_eq!(lives("192.0.2.1"), Some(120_000));
        assert_eq!(thresholds.least(), Some(30));
        assert_eq!(Thresholds::parse("300").unwrap().lives("fd00::1".parse().unwrap()), Some(300_000));
        assert_eq!(Thresholds::parse("0").unwrap().least(), None);
        assert_eq!(Thresholds::parse("").unwrap(), Thresholds::default());
        for wrong in ["x", "10.0.0.0/33:60", "10.0.0.0/8:x", "-1", "10.0.0.0/8"] {
            assert!(Thresholds::parse(wrong).is_err(), "{wrong}");
        }
    }
}
