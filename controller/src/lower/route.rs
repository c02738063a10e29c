//! Static routes and policies of routers: what agents can't use of them is told.
//!
//! # Contract
//! - Reads `Logical_Router_Static_Route`, `Logical_Router_Policy`, their router and its ports; writes nothing but problems,
//!   and which rows have one for want of a path. A row with a problem has no effect until it is mended.
//!
//! # Invariants
//! - A change of a router's ports that takes nothing away costs the rows that had a problem; only one that does costs
//!   every route of the router.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use quantumnet_model::{
    ColumnId, Row, Strong, Uuid,
    column::Text,
    nb::{LogicalRouter, LogicalRouterPolicy, LogicalRouterPort, LogicalRouterStaticRoute},
    row::DynRow,
    selection::Selection,
    tables,
};

use crate::{
    lower::{
        Dirty, lookup, matches,
        problem::{self, Problems},
        router,
    },
    store::{State, Touched, Txn},
};

/// Networks and names of a router's ports.
#[derive(Debug, Default)]
struct Ports {
    networks: BTreeSet<IpNet>,
    lengths: BTreeSet<(bool, u8)>,
    names: BTreeSet<Text>,
    uuids: BTreeSet<Uuid>,
}

impl Ports {
    fn of(state: &State, router: Uuid) -> Self {
        let mut found = Self::default();
        let ports = state.get::<LogicalRouter>(router).into_iter().flat_map(|router| router.ports.iter());
        for port in ports.map(Strong::uuid) {
            let Some(row) = state.get::<LogicalRouterPort>(port) else { continue };
            found.uuids.insert(port);
            found.names.insert(row.name.clone());
            for network in networks(row) {
                found.lengths.insert((network.addr().is_ipv4(), network.prefix_len()));
                found.networks.insert(network);
            }
        }
        found
    }

    /// Whether the address is in a network of a port.
    fn reach(&self, ip: IpAddr) -> bool {
        let lengths = self.lengths.iter().filter(|(is_v4, _)| *is_v4 == ip.is_ipv4());
        let mut networks = lengths.filter_map(|(_, length)| IpNet::new(ip, *length).ok());
        // Every port has its link-local address.
        is_link_local(ip) || networks.any(|network| self.networks.contains(&network.trunc()))
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

fn networks(port: &LogicalRouterPort) -> impl Iterator<Item = IpNet> + use<'_> {
    port.networks.iter().filter_map(|network| network.parse::<IpNet>().ok()).map(|network| network.trunc())
}

pub(super) fn lower(txn: &mut Txn<'_>, dirty: &mut Dirty) {
    let mut routes: BTreeSet<Uuid> =
        txn.touched_in::<LogicalRouterStaticRoute>().iter().map(|touched| touched.uuid).collect();
    let mut policies: BTreeSet<Uuid> =
        txn.touched_in::<LogicalRouterPolicy>().iter().map(|touched| touched.uuid).collect();
    let mut routers: BTreeSet<(Uuid, bool)> = BTreeSet::new();
    for touched in txn.touched_in::<LogicalRouter>() {
        each_changed(&touched, "static_routes", &mut |route, _| _ = routes.insert(route));
        each_changed(&touched, "policies", &mut |policy, _| _ = policies.insert(policy));
        each_changed(&touched, "ports", &mut |_, gained| _ = routers.insert((touched.uuid, !gained)));
    }
    for touched in txn.touched_in::<LogicalRouterPort>() {
        let (Some(old), Some(new)) =
            (touched.before::<LogicalRouterPort>(), touched.after::<LogicalRouterPort>())
        else {
            continue;
        };
        if old.networks != new.networks || old.name != new.name {
            let takes = old.name != new.name || !old.networks.clone().is_subset(&new.networks);
            routers.extend(router::of(txn.state(), touched.uuid).map(|router| (router, takes)));
        }
    }
    for (router, takes) in routers {
        let key = router.to_string();
        routes.extend(lookup::rows(txn.state(), lookup::PATHLESS, &key));
        policies.extend(lookup::rows(txn.state(), lookup::PATHLESS, &key));
        if let Some(router) = txn.get::<LogicalRouter>(router).filter(|_| takes) {
            routes.extend(router.static_routes.iter().map(Strong::uuid));
            policies.extend(router.policies.iter().map(Strong::uuid));
        }
    }
    let mut ports: BTreeMap<Uuid, Ports> = BTreeMap::new();
    for uuid in routes {
        let router =
            txn.referrers_through::<LogicalRouterStaticRoute, LogicalRouter>(uuid, "static_routes").next();
        let row = txn.get::<LogicalRouterStaticRoute>(uuid);
        if row.is_none() && txn.get::<LogicalRouterPolicy>(uuid).is_some() {
            // Of both kinds some had a problem.
            continue;
        }
        dirty.work.rows += 1;
        let found = row.zip(router).map(|(row, router)| {
            let ports = ports.entry(router).or_insert_with(|| Ports::of(txn.state(), router));
            (router, route(row, ports))
        });
        tell::<LogicalRouterStaticRoute>(txn, uuid, found);
    }
    for uuid in policies {
        let router = txn.referrers_through::<LogicalRouterPolicy, LogicalRouter>(uuid, "policies").next();
        let row = txn.get::<LogicalRouterPolicy>(uuid);
        if row.is_none() && txn.get::<LogicalRouterStaticRoute>(uuid).is_some() {
            continue;
        }
        dirty.work.rows += 1;
        let found = row.zip(router).map(|(row, router)| {
            let ports = ports.entry(router).or_insert_with(|| Ports::of(txn.state(), router));
            (router, policy(row, ports))
        });
        tell::<LogicalRouterPolicy>(txn, uuid, found);
    }
}

fn tell<T: Row>(txn: &mut Txn<'_>, uuid: Uuid, found: Option<(Uuid, Problems)>) {
    let pathless = found.as_ref().filter(|(_, problems)| !problems.is_empty());
    let pathless = pathless.map(|(router, _)| Text::from(router.to_string()));
    lookup::set(txn, lookup::PATHLESS, uuid, pathless.as_slice());
    problem::set::<T>(txn, uuid, found.map(|(_, problems)| problems).unwrap_or_default());
}

/// Every row that a column of a router gained (`true`) or lost.
fn each_changed(touched: &Touched, column: &str, visit: &mut dyn FnMut(Uuid, bool)) {
    let column = tables::decl(LogicalRouter::TABLE).column(column).unwrap_or(ColumnId(0));
    match (&touched.old, &touched.new) {
        (Some(old), Some(new)) => DynRow::reference_changes(old.as_ref(), new.as_ref(), column, visit),
        (Some(row), None) => row.each_reference(column, &mut |uuid| visit(uuid, false)),
        (None, Some(row)) => row.each_reference(column, &mut |uuid| visit(uuid, true)),
        (None, None) => {}
    }
}

/// What is wrong with a route.
fn route(row: &LogicalRouterStaticRoute, ports: &Ports) -> Problems {
    let mut problems = Problems::new();
    let mut wrong =
        |column, message: String| problems.push((column, format!("{message}; the route has no effect")));
    if prefix(&row.ip_prefix).is_none() {
        let message =
            format!("ip_prefix is {:?}, expected a prefix such as 10.0.0.0/8 or an address", row.ip_prefix);
        wrong("ip_prefix", message);
    }
    let output = row.output_port.as_ref().filter(|name| !name.is_empty());
    if let Some(name) = output.filter(|name| !ports.names.contains(*name)) {
        wrong("output_port", format!("the router has no port {name}"));
    }
    match &*row.nexthop {
        "discard" => {}
        "" => {
            if output.is_none() {
                wrong("nexthop", "without a next hop a route needs an output_port".to_owned());
            }
        }
        text => match text.parse::<IpAddr>() {
            Err(_) => wrong("nexthop", format!("nexthop is {text:?}, expected an IP address or discard")),
            Ok(ip) => {
                if output.is_none() && !ports.reach(ip) {
                    wrong("nexthop", format!("no port of the router is in a network of {ip}"));
                }
            }
        },
    }
    problems.extend(selection(row));
    problems
}

/// What of the fields to choose equal routes by can't be followed. Those that all of them name count.
fn selection(row: &LogicalRouterStaticRoute) -> Option<(&'static str, String)> {
    let is_v4 = prefix(&row.ip_prefix)?.addr().is_ipv4();
    if Selection::of(row.selection_fields.iter().map(|field| &**field), is_v4).is_some() {
        return None;
    }
    let fields: Vec<&str> = row.selection_fields.iter().map(|field| &**field).collect();
    let message = format!(
        "switches have no hash of just {}; of equal routes that all name these, one is chosen by addresses, protocol and ports",
        fields.join(", ")
    );
    Some(("selection_fields", message))
}

/// What is wrong with a policy.
fn policy(row: &LogicalRouterPolicy, ports: &Ports) -> Problems {
    let mut problems = Problems::new();
    let mut wrong =
        |column, message: String| problems.push((column, format!("{message}; the policy has no effect")));
    if let Err(reason) = matches::check(&row.r#match) {
        wrong("match", reason);
    }
    if let Some(port) = row.output_port.filter(|port| !ports.uuids.contains(&port.uuid())) {
        wrong("output_port", format!("port {} is not one of the router", port.uuid()));
    }
    match &*row.action {
        "reroute" => {
            let hops: Vec<&Text> =
                row.nexthops.iter().chain(row.nexthop.iter().filter(|_| row.nexthops.is_empty())).collect();
            let parsed: Vec<IpAddr> = hops.iter().filter_map(|hop| hop.parse().ok()).collect();
            if hops.is_empty() {
                wrong("nexthops", "reroute needs a next hop".to_owned());
            } else if let Some(hop) = hops.iter().find(|hop| hop.parse::<IpAddr>().is_err()) {
                wrong("nexthops", format!("{hop:?} is no IP address"));
            } else if parsed.iter().any(|hop| hop.is_ipv4() != parsed[0].is_ipv4()) {
                wrong("nexthops", "the next hops are of both families".to_owned());
            } else if row.output_port.is_some() && parsed.len() > 1 {
                wrong("output_port", "with several next hops each has a port of its own".to_owned());
            } else if row.output_port.is_none()
                && let Some(hop) = parsed.iter().find(|hop| !ports.reach(**hop))
            {
                wrong("nexthops", format!("no port of the router is in a network of {hop}"));
            }
        }
        "jump" if row.jump_chain.as_ref().is_none_or(|chain| chain.is_empty()) => {
            wrong("jump_chain", "jump needs a chain".to_owned());
        }
        _ => {}
    }
    problems
}

/// A prefix, or an address as the prefix of all its bits.
fn prefix(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports() -> Ports {
        let mut ports = Ports::default();
        for network in ["10.0.0.0/24", "fd00::/64"] {
            let network: IpNet = network.parse().unwrap();
            ports.lengths.insert((network.addr().is_ipv4(), network.prefix_len()));
            ports.networks.insert(network);
        }
        ports.names.insert("rp".into());
        ports
    }

    #[test]
    fn routes_that_lead_nowhere_are_told() {
        let check = |prefix: &str, hop: &str, port: &str| {
            let output_port = (!port.is_empty()).then(|| port.into());
            let row = LogicalRouterStaticRoute {
                ip_prefix: prefix.into(),
                nexthop: hop.into(),
                output_port,
                ..LogicalRouterStaticRoute::default()
            };
            route(&row, &ports()).into_iter().map(|(column, _)| column).collect::<Vec<_>>()
        };
        assert_eq!(check("0.0.0.0/0", "10.0.0.9", ""), [] as [&str; 0]);
        assert_eq!(check("::/0", "fd00::9", ""), [] as [&str; 0]);
        assert_eq!(check("::/0", "fe80::9", "rp"), [] as [&str; 0]);
        assert_eq!(check("10.9.0.0/16", "discard", ""), [] as [&str; 0]);
        assert_eq!(check("10.9.0.1", "", "rp"), [] as [&str; 0]);
        assert_eq!(check("10.9.0.0/16", "192.0.2.1", "rp"), [] as [&str; 0], "the port is named");
        assert_eq!(check("10.9.0.0/16", "192.0.2.1", ""), ["nexthop"]);
        assert_eq!(check("10.9.0.0/33", "10.0.0.9", ""), ["ip_prefix"]);
        assert_eq!(check("10.9.0.0/16", "", ""), ["nexthop"]);
        assert_eq!(check("10.9.0.0/16", "10.0.0.9", "nosuch"), ["output_port"]);
    }

    #[test]
    fn fields_that_no_switch_chooses_by_are_told() {
        let check = |prefix: &str, fields: &[&str]| {
            let row = LogicalRouterStaticRoute {
                ip_prefix: prefix.into(),
                nexthop: "discard".into(),
                selection_fields: fields.iter().map(|field| Text::from(*field)).collect(),
                ..LogicalRouterStaticRoute::default()
            };
            route(&row, &ports()).into_iter().map(|(_, message)| message).collect::<Vec<_>>().join("|")
        };
        assert_eq!(check("10.9.0.0/16", &[]), "");
        assert_eq!(check("10.9.0.0/16", &["ip_src", "ip_dst"]), "");
        assert_eq!(check("fd09::/64", &["ip_src", "ip_dst"]), "", "it has no such field");
        assert_eq!(
            check("10.9.0.0/16", &["ip_src", "ip_proto"]),
            "switches have no hash of just ip_proto, ip_src; of equal routes that all name these, one is chosen by addresses, protocol and ports"
        );
    }

    #[test]
    fn policies_that_can_t_be_followed_are_told() {
        let check = |action: &str, r#match: &str, hops: &[&str]| {
            let row = LogicalRouterPolicy {
                action: action.into(),
                r#match: r#match.into(),
                nexthops: hops.iter().map(|hop| Text::from(*hop)).collect(),
                ..LogicalRouterPolicy::default()
            };
            policy(&row, &ports()).into_iter().map(|(column, _)| column).collect::<Vec<_>>()
        };
        assert_eq!(check("drop", "ip4.src == 10.0.0.0/8", &[]), [] as [&str; 0]);
        assert_eq!(check("reroute", "ip4", &["10.0.0.7", "10.0.0.8"]), [] as [&str; 0]);
        assert_eq!(check("drop", "ip4.src = 1", &[]), ["match"]);
        assert_eq!(check("reroute", "ip4", &[]), ["nexthops"]);
        assert_eq!(check("reroute", "ip4", &["10.0.0.7", "fd00::7"]), ["nexthops"]);
        assert_eq!(check("reroute", "ip4", &["192.0.2.7"]), ["nexthops"]);
        assert_eq!(check("jump", "ip4", &[]), ["jump_chain"]);

        let (mut ports, port) = (ports(), Uuid::from_u128(7));
        ports.uuids.insert(port);
        let out = |hops: &[&str]| {
            let row = LogicalRouterPolicy {
                action: "reroute".into(),
                r#match: "ip4".into(),
                nexthops: hops.iter().map(|hop| Text::from(*hop)).collect(),
                output_port: Some(quantumnet_model::Weak::new(port)),
                ..LogicalRouterPolicy::default()
            };
            policy(&row, &ports).into_iter().map(|(column, _)| column).collect::<Vec<_>>()
        };
        assert_eq!(out(&["192.0.2.7"]), [] as [&str; 0], "the port is said");
        assert_eq!(out(&["10.0.0.7", "10.0.0.8"]), ["output_port"]);
    }
}
