//! What to change so that a packet that is stopped passes.
//!
//! # Contract
//! - In: what stopped it. Out: sentences for people, with what to write where that is known. Nothing here changes anything.

use std::net::IpAddr;

use quantumnet_model::{
    Row,
    intent::{Port, SecurityPolicy},
    nb::Acl,
};

use crate::{
    explain::{end::End, object::Object, packet::Kind},
    store::State,
};

/// From where to where a packet goes, as far as advice needs it.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) kind: Kind,
    /// Labels by which policies would know the ends, as `role=web`.
    pub(crate) labels: [Option<String>; 2],
}

impl Way {
    pub(crate) fn new(state: &State, ends: [Option<&End>; 2], ips: [IpAddr; 2], kind: Kind) -> Self {
        let label = |end: Option<&End>| {
            let port = state.get::<Port>(end?.port)?;
            let (key, value) = port.labels.iter().chain(port.vm_labels.iter()).next()?;
            Some(format!("{key}={value}"))
        };
        Self { source: ips[0], destination: ips[1], kind, labels: [label(ends[0]), label(ends[1])] }
    }

    /// As a rule of a policy: `role=web -> role=db : tcp/5432`.
    fn policy(&self) -> String {
        let end = |label: &Option<String>, ip: IpAddr| label.clone().unwrap_or_else(|| prefix(ip));
        format!(
            "{} -> {} : {}",
            end(&self.labels[0], self.source),
            end(&self.labels[1], self.destination),
            self.kind.name()
        )
    }

    /// As a rule of a security group.
    fn group(&self, receives: bool) -> String {
        let (direction, remote) =
            if receives { ("INGRESS", self.source) } else { ("EGRESS", self.destination) };
        format!("{{ direction: {direction}, {}, remote_prefix: {} }}", self.kind.rule(), prefix(remote))
    }
}

fn prefix(ip: IpAddr) -> String {
    format!("{ip}/{}", if ip.is_ipv4() { 32 } else { 128 })
}

/// Against a rule that stops it.
pub(crate) fn of_rule(state: &State, rule: &Object, way: &Way) -> Vec<String> {
    let Some(acl) = state.get::<Acl>(rule.row) else { return Vec::new() };
    let receives = &*acl.direction == "to-lport";
    let Object { kind, name, part, .. } = rule;
    let default = part.starts_with("default-");
    match kind.as_str() {
        "SecurityGroup" if default => {
            vec![format!("add a rule to SecurityGroup {name}: {}", way.group(receives))]
        }
        "SecurityGroup" => vec![
            format!("change or remove rule {part} of SecurityGroup {name}"),
            format!(
                "or allow it with a higher priority than that rule's, in one of the port's groups: {}",
                way.group(receives)
            ),
        ],
        "SecurityPolicy" if part == "isolate" => vec![
            format!("allow it in a SecurityPolicy, such as {name}: match: \"{}\"", way.policy()),
            format!("or, if {name} is to isolate nobody there, set its isolate: NOTHING"),
        ],
        "SecurityPolicy" => {
            let order = state.get::<SecurityPolicy>(rule.id).map(|row| row.priority);
            let order = order.map(|priority| format!(" (priority {priority})")).unwrap_or_default();
            vec![
                format!("change or remove rule {part} of SecurityPolicy {name}"),
                format!(
                    "or allow it in a policy that is asked before {name}{order}: match: \"{}\"",
                    way.policy()
                ),
            ]
        }
        _ => vec![format!(
            "change {} {name}, or add one that allows it with a priority above {} in tier {} or an earlier one",
            Acl::NAME,
            acl.priority,
            acl.tier
        )],
    }
}

/// Where nothing decides and the default is to drop.
pub(crate) fn of_default(receives: bool, way: &Way) -> Vec<String> {
    vec![
        format!("put the port into a SecurityGroup with the rule {}", way.group(receives)),
        format!("or allow it in a SecurityPolicy: match: \"{}\"", way.policy()),
    ]
}

/// Why a packet ends in a table that has nothing to do with rules, and what to do about it.
pub(crate) fn of_table(
    table: &str,
    miss: bool,
    source: &End,
    destination: Option<&End>,
    way: &Way,
) -> (String, Vec<String>) {
    let says = |reason: &str, advice: &str| (reason.to_owned(), vec![advice.to_owned()]);
    let port = &*source.binding.logical_port;
    match table {
        "Classify" => says(
            "the switch does not take packets from this port, or not with this VLAN tag",
            "see that the port is enabled and up; `qnctl describe port` shows both",
        ),
        "Admit" | "AdmitNeighbour" => says(
            "port security: the port may not send with this MAC and address",
            "send with the port's own addresses, or add what it may have to its allowed_address_pairs",
        ),
        "LearnMac" => {
            says("the MAC is not known behind this port yet", "send again: the first frame makes it known")
        }
        "FromTrack" | "ToTrack" => says(
            "the port's connections have no zone yet",
            "trace again in a moment; if it stays so, see the agent's log",
        ),
        "Forward" => says(
            "no port of the network has the destination's MAC",
            "see that the destination is on this network, and what addresses its port has",
        ),
        "RouterAdmit" => says(
            "the router does not take the packet at this port",
            "see that the router and its port are enabled, and that they are on the network",
        ),
        "RouterInput" => says(
            "the router does not route packets with these addresses",
            "send from and to addresses that can be routed",
        ),
        "Route" => (
            format!("the router has no route to {}", way.destination),
            vec![format!(
                "add a route for {} to the router, or connect the network that has it",
                prefix(way.destination)
            )],
        ),
        "RoutePolicy" => says("a policy of the router drops it", "change that policy of the router"),
        "NextHop" | "NextHopMissing" => says(
            "the router does not know the MAC of the next hop",
            "see that the next hop is up and answers",
        ),
        "Output" | "TunnelOut" | "Flood" | "FloodPorts" => says(
            "there is no way to the destination's port from here: it is on no hypervisor, or there is no tunnel to that",
            "plug the destination in; if it is, `qnctl describe node` shows what is wrong with the hypervisor",
        ),
        "AdmitOut" => says(
            "port security: the destination's port may not receive this address",
            "send to the port's own addresses, or add the address to its allowed_address_pairs",
        ),
        "Deliver" => {
            let name = destination.map_or("the destination", |end| &*end.binding.logical_port);
            (format!("{name} is not on this hypervisor any more"), vec!["trace again".to_owned()])
        }
        _ if miss => (format!("no flow of the table matches what port {port} sent"), Vec::new()),
        _ => ("a flow of the table drops it".to_owned(), Vec::new()),
    }
}
