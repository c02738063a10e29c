//! Address translation at routers.

use imbl::OrdMap;

use super::{AddressSet, LogicalRouterPort};
use crate::{
    column::{Strong, Text, Weak},
    row::Scope,
    table,
};

table! {
    /// A translation between an outer and an inner address.
    pub struct Nat = Northbound "NAT" {
        /// The outer IPv4 or IPv6 address.
        external_ip: Text,
        /// MAC that the outer address answers with on the port's own chassis; with `logical_port` it
        /// makes a `dnat_and_snat` distributed. At the gateway when empty.
        external_mac: Option<Text>,
        /// Ports that a new source port is taken from, as `1024-65535`; no such limit when empty.
        external_port_range: Text,
        /// The inner address, of the same family; for `snat` it may be a network.
        logical_ip: Text,
        /// Name of the switch port with the inner address; goes with `external_mac`.
        logical_port: Option<Text>,
        /// `snat` replaces the source of outbound connections, `dnat` the destination of inbound ones.
        r#type: Text => |c| c.with(|t| t.one_of(&["dnat", "snat", "dnat_and_snat"])),
        /// The only peers it is for; all when empty. Not together with `exempted_ext_ips`.
        allowed_ext_ips: Option<Strong<AddressSet>>,
        /// Peers it is not for; none when empty. With both sets the rule is ignored.
        exempted_ext_ips: Option<Strong<AddressSet>>,
        /// Gateway port it is for. When empty, the router's only one, or of several the one whose network
        /// has the outer address.
        gateway_port: Option<Weak<LogicalRouterPort>>,
        /// Order among rules with a `match`, higher first; else unused.
        priority: i64 => |c| c.with(|t| t.range(0, 32767)),
        /// Further condition, in the language of ovn-sb(5), Logical_Flow. Rules with one come before
        /// those without; none when empty.
        r#match: Text,
        /// `stateless` (`dnat_and_snat` without conntrack), `stateless_icmp_helper`, `add_route`,
        /// `dynamic-routing-advertise`; ovn-nb(5), NAT.
        options: OrdMap<Text, Text>,
        /// Free for clients.
        external_ids: OrdMap<Text, Text> => |c| c.central(),
    }
    scopes [Scope::Referrers { table: "Logical_Router", column: "nat" }]
}
