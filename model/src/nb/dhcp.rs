//! What guests are told when they ask: addresses and names.

use imbl::OrdMap;

use crate::{column::Text, row::Scope, table};

table! {
    /// Answers to the DHCP requests of the switch ports that refer to it.
    pub struct DhcpOptions = Northbound "DHCP_Options" [root] {
        /// IPv4 or IPv6 network. A port is answered only if its address is in it.
        cidr: Text,
        /// DHCP options by name. IPv4 needs `server_id`, `server_mac` and `lease_time` (seconds), IPv6
        /// `server_id`, a MAC; the others are in ovn-nb(5), DHCP_Options.
        options: OrdMap<Text, Text>,
        /// Free for clients.
        external_ids: OrdMap<Text, Text>,
    }
    scopes [
        Scope::Referrers { table: "Logical_Switch_Port", column: "dhcpv4_options" },
        Scope::Referrers { table: "Logical_Switch_Port", column: "dhcpv6_options" },
    ]
}

table! {
    /// A DHCPv4 server elsewhere, for the router ports that refer to it.
    pub struct DhcpRelay = Northbound "DHCP_Relay" [root] {
        /// Name, for people.
        name: Text,
        /// IPv4 address of the server, a single one; without it nothing is relayed.
        servers: Option<Text>,
        /// Reserved; ovn-nb(5) defines no key.
        options: OrdMap<Text, Text>,
        /// Free for clients.
        external_ids: OrdMap<Text, Text>,
    }
}

table! {
    /// Names that are answered within the switches that refer to it. Others go on to the guest's resolver.
    pub struct Dns = Northbound "DNS" [root] {
        /// From a name in lower case to its IP addresses, with spaces or commas between; from a name
        /// under `in-addr.arpa` or `ip6.arpa` to the name of the address.
        records: OrdMap<Text, Text>,
        /// `ovn-owned`: whether a query for a kind of address that a name here lacks is refused rather than
        /// passed on; false by default.
        options: OrdMap<Text, Text>,
        /// Free for clients.
        external_ids: OrdMap<Text, Text>,
    }
}
