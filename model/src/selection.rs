//! By which fields one of several equal routes is chosen (ovn-nb(5), `Logical_Router_Static_Route.selection_fields`).

use std::collections::BTreeSet;

/// What a switch can choose by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Selection {
    /// Addresses, protocol and ports of either end.
    Connection,
    /// The MAC that sent the packet.
    EthSrc,
    /// The address that it comes from.
    Source,
    /// The address that it goes to.
    Destination,
    /// Both addresses.
    Addresses,
}

impl Selection {
    /// The one that looks at just these fields of packets of that family; `None` when there is none. Fields of the other
    /// family say nothing, and no field is no wish.
    pub fn of<'a>(fields: impl IntoIterator<Item = &'a str>, is_v4: bool) -> Option<Self> {
        let here = |field: &'a str| match (field, is_v4) {
            ("ip_src", true) | ("ipv6_src", false) => Some("src"),
            ("ip_dst", true) | ("ipv6_dst", false) => Some("dst"),
            ("ip_src" | "ip_dst" | "ipv6_src" | "ipv6_dst", _) => None,
            (other, _) => Some(other),
        };
        let fields: BTreeSet<&str> = fields.into_iter().filter_map(here).collect();
        match fields.into_iter().collect::<Vec<_>>().as_slice() {
            [] | ["dst", "ip_proto", "src", "tp_dst", "tp_src"] => Some(Self::Connection),
            ["eth_src"] => Some(Self::EthSrc),
            ["src"] => Some(Self::Source),
            ["dst"] => Some(Self::Destination),
            ["dst", "src"] => Some(Self::Addresses),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_a_switch_can_choose_by() {
        let of = |fields: &str, is_v4| Selection::of(fields.split_terminator(','), is_v4);
        assert_eq!(of("", true), Some(Selection::Connection));
        assert_eq!(of("tp_src,tp_dst,ip_proto,ip_src,ip_dst", true), Some(Selection::Connection));
        assert_eq!(of("tp_src,tp_dst,ip_proto,ipv6_src,ipv6_dst", false), Some(Selection::Connection));
        assert_eq!(of("ip_src,ip_dst,ipv6_src", true), Some(Selection::Addresses));
        assert_eq!(of("ip_src,ip_dst,ipv6_src", false), Some(Selection::Source));
        assert_eq!(of("ipv6_dst", false), Some(Selection::Destination));
        assert_eq!(of("ip_src", false), Some(Selection::Connection), "it has no such field");
        assert_eq!(of("eth_src", true), Some(Selection::EthSrc));
        for fields in ["eth_dst", "ip_src,ip_proto", "ip_src,eth_src", "tp_src,tp_dst,ip_proto"] {
            assert_eq!(of(fields, true), None, "{fields}");
        }
    }
}
