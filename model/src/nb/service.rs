//! Traffic that is sent through, or copied to, something that looks at it.

use imbl::{OrdMap, OrdSet};

use super::LogicalSwitchPort;
use crate::{
    column::{Strong, Text},
    row::Scope,
    table,
};

table! {
    /// How the functions that refer to it are probed.
    pub struct NetworkFunctionHealthCheck = Northbound "Network_Function_Health_Check" {
        /// Unique name.
        name: Text,
        /// `interval` (default 5) and `timeout` (3) in seconds; `success_count` and `failure_count`
        /// (1 each), the results that change the state.
        options: OrdMap<Text, Text>,
        /// Free for clients.
        external_ids: OrdMap<Text, Text>,
    }
    indexes [["name"]]
}

table! {
    /// A middlebox: a pair of switch ports that traffic passes through, or one that gets a copy.
    pub struct NetworkFunction = Northbound "Network_Function" [root] {
        /// Unique name.
        name: Text,
        /// Inline, where it takes traffic of `to-lport` ACLs and replies to `from-lport` ones; empty for
        /// a function that gets copies.
        outport: Option<Strong<LogicalSwitchPort>>,
        /// Inline, where it takes traffic of `from-lport` ACLs and replies to `to-lport` ones; else where
        /// all copies go.
        inport: Strong<LogicalSwitchPort>,
        /// How it is probed, inline only; taken for healthy while its ports are up when empty.
        health_check: Option<Strong<NetworkFunctionHealthCheck>>,
        /// Unique number, by which connections remember the function.
        id: i64 => |c| c.with(|t| t.range(1, 255)),
        /// Free for clients.
        external_ids: OrdMap<Text, Text>,
    }
    indexes [["name"], ["id"]]
}

table! {
    /// Interchangeable functions, one of which serves the ACLs that refer to the group.
    pub struct NetworkFunctionGroup = Northbound "Network_Function_Group" [root] {
        /// Unique name.
        name: Text,
        /// Without an active function, traffic passes (`fail-open`) or is dropped (`fail-close`). When
        /// empty, dropped for `inline`; `vtap` always passes.
        fallback: Option<Text> => |c| c.with(|t| t.one_of(&["fail-open", "fail-close"])),
        /// The members.
        network_function: OrdSet<Strong<NetworkFunction>>,
        /// The member in use, by health or, for `vtap`, by its port being bound; written by the centre.
        network_function_active: Option<Strong<NetworkFunction>>,
        /// Whether traffic goes through the function or a copy goes to it.
        mode: Text => |c| c.with(|t| t.one_of(&["inline", "vtap"])),
        /// Unique number, by which packets remember the group.
        id: i64 => |c| c.with(|t| t.range(1, 255)),
        /// Free for clients.
        external_ids: OrdMap<Text, Text>,
    }
    indexes [["name"], ["id"]]
}

table! {
    /// Copies of the traffic of the switch ports that refer to it.
    pub struct Mirror = Northbound "Mirror" [root] {
        /// Unique name.
        name: Text,
        /// Whether what the port sends (`from-lport`), what it is sent (`to-lport`) or both is copied.
        filter: Text => |c| c.with(|t| t.one_of(&["from-lport", "to-lport", "both"])),
        /// Where copies go: for `gre` and `erspan` the tunnel's remote IP address, for `local` the
        /// external_ids:mirror-id of an interface, for `lport` the name of a switch port.
        sink: Text,
        /// How copies travel: in a tunnel, within the chassis, or to a logical port.
        r#type: Text => |c| c.with(|t| t.one_of(&["gre", "erspan", "local", "lport"])),
        /// Key of a `gre` tunnel or index of an `erspan` one; else ignored.
        index: i64,
        /// Which packets an `lport` mirror copies.
        mirror_rules: OrdSet<Strong<MirrorRule>>,
        /// Free for clients.
        external_ids: OrdMap<Text, Text>,
    }
    indexes [["name"]]
    scopes [Scope::Referrers { table: "Logical_Switch_Port", column: "mirror_rules" }]
}

table! {
    /// A selection among the packets of a mirror of type `lport`.
    pub struct MirrorRule = Northbound "Mirror_Rule" {
        /// Packets meant, in the language of ovn-sb(5), Logical_Flow.
        r#match: Text,
        /// Whether they are copied.
        action: Text => |c| c.with(|t| t.one_of(&["mirror", "skip"])),
        /// Higher wins. Priority and match together are unique in a mirror.
        priority: i64 => |c| c.with(|t| t.range(0, 32767)),
    }
    scopes [Scope::Referrers { table: "Mirror", column: "mirror_rules" }]
}
