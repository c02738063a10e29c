//! What traffic may pass, at what rate and with what mark, and the sets that rules name.

use imbl::{OrdMap, OrdSet};

use super::{LogicalSwitchPort, NetworkFunctionGroup, Sample};
use crate::{
    column::{Strong, Text, Weak},
    row::{Database, Scope},
    table,
};

table! {
    /// Limits on the packets of each protocol that agents handle themselves.
    pub struct Copp = Northbound "Copp" [root] {
        /// Unique name.
        name: Text,
        /// From protocol (`arp`, `arp-resolve`, `dhcpv4-opts`, `dns`, `igmp`, `reject`, …; ovn-nb(5),
        /// Copp) to the name of a `Meter`. A protocol without one is not limited.
        meters: OrdMap<Text, Text>,
        /// Free for clients.
        external_ids: OrdMap<Text, Text>,
    }
    indexes [["name"]]
    scopes [
        Scope::Referrers { table: "Logical_Switch", column: "copp" },
        Scope::Referrers { table: "Logical_Router", column: "copp" },
    ]
}

table! {
    /// Addresses under a name, written `$name` in a match.
    pub struct AddressSet = Northbound "Address_Set" [root] {
        /// Unique name; letters, digits after the first, `_` and `.`.
        name: Text,
        /// MACs, IPv4 or IPv6 addresses, perhaps masked; all of one kind.
        addresses: OrdSet<Text>,
        /// `ic-adv`: whether other availability zones learn the set; false by default.
        options: OrdMap<Text, Text>,
        /// Free for clients.
        external_ids: OrdMap<Text, Text>,
    }
    indexes [["name"]]
    scopes [
        Scope::Referrers { table: "NAT", column: "allowed_ext_ips" },
        Scope::Referrers { table: "NAT", column: "exempted_ext_ips" },
    ]
}

table! {
    /// Switch ports under a name, written `@name` in a match; their addresses are `$name_ip4` and
    /// `$name_ip6`.
    pub struct PortGroup = Northbound "Port_Group" [root] {
        /// Unique name; letters, digits after the first, `_` and `.`.
        name: Text,
        /// The members, of any switch. A port leaves when it is deleted.
        ports: OrdSet<Weak<LogicalSwitchPort>>,
        /// Filters for every switch that has a member; matches name `@name` to mean the members only.
        acls: OrdSet<Strong<Acl>>,
        /// Free for clients.
        external_ids: OrdMap<Text, Text> => |c| c.central(),
    }
    indexes [["name"]]
    scopes [Scope::Of("ports")]
}

table! {
    /// A filter. The matching one of highest priority decides; traffic that none matches passes, unless
    /// `NB_Global` has options:default_acl_drop.
    pub struct Acl = Northbound "ACL" {
        /// Name in log records; empty for none.
        name: Option<Text> => |c| c.with(|t| t.length(0, 63)),
        /// Higher wins; the order of equals is undefined.
        priority: i64 => |c| c.with(|t| t.range(0, 32767)),
        /// Whether it filters what ports send (`from-lport`) or what they are sent (`to-lport`).
        direction: Text => |c| c.with(|t| t.one_of(&["from-lport", "to-lport"])),
        /// Packets meant, in the language of ovn-sb(5), Logical_Flow. `outport` is known to `to-lport`
        /// only.
        r#match: Text,
        /// `allow-related` admits replies too; `allow` also does where the switch tracks connections,
        /// `allow-stateless` never. `reject` answers what it drops; `pass` leaves it to the next tier.
        action: Text => |c| c.with(|t| t.one_of(&["allow", "allow-related", "allow-stateless", "drop", "reject", "pass"])),
        /// Functions that matching traffic is sent or copied to on its way; none when empty.
        network_function_group: Option<Strong<NetworkFunctionGroup>>,
        /// Whether a match is logged; the other columns of logging need it.
        log: bool,
        /// Severity of log records, as of syslog; `info` when empty.
        severity: Option<Text> => |c| c.with(|t| t.one_of(&["alert", "warning", "notice", "info", "debug"])),
        /// Name of the `Meter` that limits log records; no limit when empty.
        meter: Option<Text>,
        /// Written into the connections that it allows, to find them by; replaces the observation point
        /// of samples. 0 is none.
        label: i64 => |c| c.with(|t| t.range(0, 4294967295)),
        /// Round of evaluation: tier 0 first, the next where a tier reaches no verdict.
        tier: i64 => |c| c.with(|t| t.range(0, 3)),
        /// How new connections are sampled, or all packets of a stateless rule; not at all when empty.
        sample_new: Option<Strong<Sample>>,
        /// How established and related connections are sampled; not at all when empty.
        sample_est: Option<Strong<Sample>>,
        /// `apply-after-lb` (`from-lport` only), `log-related` and `persist-established`; false by
        /// default.
        options: OrdMap<Text, Text>,
        /// Free for clients.
        external_ids: OrdMap<Text, Text> => |c| c.central(),
    }
    scopes [
        Scope::Referrers { table: "Logical_Switch", column: "acls" },
        Scope::Referrers { table: "Port_Group", column: "acls" },
    ]
}

table! {
    /// A rule that marks or limits traffic of a switch; the matching one of highest priority applies.
    pub struct Qos = Northbound "QoS" {
        /// Higher wins; the order of equals is undefined.
        priority: i64 => |c| c.with(|t| t.range(0, 32767)),
        /// Whether it is for what ports send (`from-lport`) or what they are sent (`to-lport`).
        direction: Text => |c| c.with(|t| t.one_of(&["from-lport", "to-lport"])),
        /// Packets meant, in the language of ovn-sb(5), Logical_Flow.
        r#match: Text,
        /// Marks to set: `dscp` in the IP header (0 to 63), `mark` in the packet's metadata. No marks
        /// when empty.
        action: OrdMap<Text, i64> => |c| c.with(|t| t.one_of(&["dscp", "mark"]).value_range(0, 4294967295)),
        /// `rate` in kilobits per second, beyond which packets are dropped, and optionally `burst` in
        /// kilobits. No limit when empty.
        bandwidth: OrdMap<Text, i64> => |c| c.with(|t| t.one_of(&["rate", "burst"]).value_range(1, 4294967295)),
        /// Free for clients.
        external_ids: OrdMap<Text, Text>,
    }
    scopes [Scope::Referrers { table: "Logical_Switch", column: "qos_rules" }]
}

table! {
    /// A limit that rules share by its name.
    pub struct Meter = Northbound "Meter" [root] {
        /// Unique name. Those that begin with `__` are reserved.
        name: Text,
        /// What the bands count: kilobits or packets per second.
        unit: Text => |c| c.with(|t| t.one_of(&["kbps", "pktps"])),
        /// Rates and what is done beyond them; of several exceeded the highest acts.
        bands: OrdSet<Strong<MeterBand>> => |c| c.with(|t| t.at_least(1)),
        /// Whether each user has the rate to itself. All users share it when empty or false.
        fair: Option<bool>,
        /// Free for clients.
        external_ids: OrdMap<Text, Text>,
    }
    indexes [["name"]]
    scopes [
        Scope::Named { column: "name", database: Database::Northbound, table: "ACL", by: "meter", sigil: None },
        Scope::Named { column: "name", database: Database::Northbound, table: "Copp", by: "meters", sigil: None },
    ]
}

table! {
    /// A rate of a meter.
    pub struct MeterBand = Northbound "Meter_Band" {
        /// What becomes of packets beyond the rate.
        action: Text => |c| c.with(|t| t.one_of(&["drop"])),
        /// The rate, in the meter's unit.
        rate: i64 => |c| c.with(|t| t.range(1, 4294967295)),
        /// Excess that a burst may have, in kilobits or packets; 0 leaves it to the switch.
        burst_size: i64 => |c| c.with(|t| t.range(0, 4294967295)),
        /// Free for clients.
        external_ids: OrdMap<Text, Text>,
    }
    scopes [Scope::Referrers { table: "Meter", column: "bands" }]
}
