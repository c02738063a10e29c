//! What of `OVN_Southbound` is filled as OVN fills it, for those who read it. Whoever fills a table changes its line here.

use super::State::{self, NotYet, Partly, Works};

const AGENTS: &str = "empty for good: agents compile for themselves, or know it";

/// Table, state, area, and what is missing or why.
pub(super) const TABLES: &[(&str, State, &str, &str)] = &[
    ("SB_Global", Works, "global", "clients may write external_ids, connections and ssl"),
    ("Connection", Works, "server", "clients may write it"),
    ("SSL", Works, "server", "clients may write it"),
    ("Chassis", Works, "l2", "clients may write external_ids and delete it"),
    ("Chassis_Private", Works, "l2", "clients may write external_ids and delete it"),
    ("Encap", Works, "l2", "goes with its chassis"),
    ("Datapath_Binding", Works, "l2", "a router that is disabled keeps its row"),
    ("Port_Binding", Works, "l2", "mac has the addresses given for dynamic and router"),
    ("FDB", Works, "l2", "clients may delete rows; the MAC is forgotten"),
    ("HA_Chassis_Group", Works, "ha", "ref_chassis are those whose agents hold the router"),
    ("HA_Chassis", Works, "ha", ""),
    ("DNS", Works, "dns", "shown; names are not answered yet"),
    ("Address_Set", Partly, "acl", "svc_monitor_mac comes with load balancing"),
    ("Port_Group", Works, "acl", ""),
    ("MAC_Binding", Works, "routing", "clients may delete rows; the neighbour is forgotten"),
    ("Static_MAC_Binding", Works, "routing", ""),
    ("BFD", Works, "routing", ""),
    ("ECMP_Nexthop", NotYet, "routing", "empty until packets are routed"),
    ("Learned_Route", NotYet, "routing", "empty until routes are exchanged"),
    ("Advertised_Route", NotYet, "routing", "empty until routes are exchanged"),
    ("Advertised_MAC_Binding", NotYet, "evpn", "empty until routes are exchanged"),
    ("Service_Monitor", NotYet, "lb", "empty until backends are probed"),
    ("Load_Balancer", NotYet, "lb", "empty until connections are balanced"),
    ("Controller_Event", NotYet, "lb", "empty until connections are balanced"),
    ("Chassis_Template_Var", NotYet, "lb", "empty until template variables are used"),
    ("IGMP_Group", NotYet, "multicast", "empty until groups are learned"),
    ("IP_Multicast", NotYet, "multicast", "empty until groups are learned"),
    ("Mirror", Works, "mirror", ""),
    ("Meter", Works, "qos", ""),
    ("Meter_Band", Works, "qos", ""),
    ("ACL_ID", NotYet, "acl", "empty until ACLs are evaluated"),
    ("Gateway_Chassis", NotYet, "ha", "empty for good: HA_Chassis has replaced it"),
    ("Logical_Flow", NotYet, "flows", AGENTS),
    ("Logical_DP_Group", NotYet, "flows", AGENTS),
    ("Multicast_Group", NotYet, "flows", AGENTS),
    ("DHCP_Options", NotYet, "flows", AGENTS),
    ("DHCPv6_Options", NotYet, "flows", AGENTS),
    ("RBAC_Role", NotYet, "server", "empty for good: agents do not write this database"),
    ("RBAC_Permission", NotYet, "server", "empty for good: agents do not write this database"),
];
