//! Connections: those that the switch tracks, those that a traced packet would make, and what they do to a packet.
//!
//! # Invariants
//! - A zone is read once for each trace.
//! - A ping is a connection of its own each time it is started: as its identifier is not known, ICMP is never taken to be
//!   known, and what is alike is counted.

use std::collections::BTreeMap;

use ovsdb::unixctl_text::{self, Connection};
use quantumnet_api::v1::{AgentQueryError, TraceConnection, TracePacket, TraceTracked};

use crate::trace::{
    Job,
    flow::{self, Flow},
    packet_or_none,
    text::Pass,
    unavailable,
};

pub(super) struct Connections<'a> {
    job: &'a Job,
    zones: BTreeMap<u16, Vec<Connection>>,
}

/// A connection that a packet belongs to.
struct Found {
    state: &'static str,
    known: bool,
    mark: u32,
    label: u128,
    /// What the packet is after translation.
    source: (String, u32),
    destination: (String, u32),
}

impl<'a> Connections<'a> {
    pub(super) fn new(job: &'a Job) -> Self {
        Self { job, zones: BTreeMap::new() }
    }

    /// The packet as it goes on after the lookup of its connection that `ct` makes, and what was taken of the connection.
    pub(super) async fn resumed<C, F>(
        &mut self,
        later: &Pass,
        ct: &str,
        call: &C,
        made: &mut Vec<TraceTracked>,
    ) -> Result<(Flow, TraceConnection), AgentQueryError>
    where
        C: Fn(&'static str, Vec<String>) -> F,
        F: Future<Output = Result<String, String>>,
    {
        let mut flow = Flow::parse(&later.flow).readable();
        let after = packet_or_none(&flow);
        // A new translation is applied to the packet already; it is looked up by what it was before.
        let mut before = flow.clone();
        for (name, value) in fields(later.untranslated.as_deref().unwrap_or_default()) {
            before.set(name, value);
        }
        let before = packet_or_none(&before);
        let zone = u16::try_from(flow.number("ct_zone")).unwrap_or_default();
        if !self.zones.contains_key(&zone) {
            let arguments = vec![self.job.datapath.clone(), format!("zone={zone}")];
            let printed = call("dpctl/dump-conntrack", arguments).await.map_err(unavailable)?;
            self.zones.insert(zone, unixctl_text::connections(&printed));
        }
        let connections = self.zones.get(&zone).map(Vec::as_slice).unwrap_or_default();
        let found = known(connections, &before).or_else(|| self.assumed(zone, &before));
        let translates = ct.contains(",nat") || ct.contains("(nat");
        let mut connection = TraceConnection {
            zone: zone.into(),
            state: "new|trk".to_owned(),
            alike: alike(connections, &before),
            ..TraceConnection::default()
        };
        if let Some(found) = found {
            found.state.clone_into(&mut connection.state);
            (connection.known, connection.mark) = (found.known, found.mark);
            flow.set("ct_mark", format!("{:#x}", found.mark));
            flow.set("ct_label", format!("{:#x}", found.label));
            let [src, dst] = flow.ends();
            let (source, destination) = if translates {
                (found.source, found.destination)
            } else {
                ((before.ip_src.clone(), before.src), (before.ip_dst.clone(), before.dst))
            };
            let changed = (&source.0, &destination.0) != (&before.ip_src, &before.ip_dst)
                || (source.1, destination.1) != (before.src, before.dst);
            connection.translated = translates && changed;
            flow.set(src, source.0);
            flow.set(dst, destination.0);
            if has_ports(before.protocol) {
                flow.set("tp_src", source.1);
                flow.set("tp_dst", destination.1);
            }
        } else {
            connection.translated = before != after;
            if ct.contains("commit") {
                made.push(TraceTracked { zone: zone.into(), before: Some(before), after: Some(after) });
            }
        }
        flow.set("ct_state", &connection.state);
        flow.set("dp_hash", "0x1");
        Ok((flow, connection))
    }

    /// Adds what a pass commits without looking at it again.
    pub(super) fn made(&self, pass: &Pass, leaving: &Flow, made: &mut Vec<TraceTracked>) {
        let recirculates: Vec<&str> = pass.leads_to().into_iter().map(|(_, ct)| ct).collect();
        let packet = packet_or_none(leaving);
        for ct in pass.actions.split("ct(commit").skip(1) {
            let zone = ct.split("zone=").nth(1).and_then(|rest| rest.split([',', ')']).next());
            let Some(zone) = zone.and_then(|zone| zone.parse::<u32>().ok()) else { continue };
            let again = recirculates.iter().any(|other| other.contains(&format!("zone={zone}")));
            let one = TraceTracked { zone, before: Some(packet.clone()), after: Some(packet.clone()) };
            if !again && !made.contains(&one) {
                made.push(one);
            }
        }
    }

    /// A connection that is taken to be there: the packet is its answer.
    fn assumed(&self, zone: u16, packet: &TracePacket) -> Option<Found> {
        let of_zone = self.job.tracked.iter().filter(|tracked| tracked.zone == u32::from(zone));
        of_zone.filter_map(|tracked| Some((tracked.before.as_ref()?, tracked.after.as_ref()?))).find_map(
            |(before, after)| {
                let (answer, undone) = (flow::answer(after), flow::answer(before));
                (ends(&answer) == ends(packet)).then(|| Found {
                    state: "est|rpl|trk",
                    known: false,
                    mark: 0,
                    label: 0,
                    source: (undone.ip_src, undone.src),
                    destination: (undone.ip_dst, undone.dst),
                })
            },
        )
    }
}

type Ends<'a> = (u32, &'a str, u32, &'a str, u32);

fn ends(packet: &TracePacket) -> Ends<'_> {
    (packet.protocol, &packet.ip_src, packet.src, &packet.ip_dst, packet.dst)
}

fn known(connections: &[Connection], packet: &TracePacket) -> Option<Found> {
    if !has_ports(packet.protocol) {
        return None;
    }
    let end = |tuple: &BTreeMap<String, String>, ip: &str, port: &str| {
        (
            tuple.get(ip).cloned().unwrap_or_default(),
            tuple.get(port).and_then(|text| text.parse().ok()).unwrap_or_default(),
        )
    };
    connections.iter().filter(|connection| is_of(connection, packet.protocol)).find_map(|connection| {
        let side = |tuple| -> [(String, u32); 2] { [end(tuple, "src", "sport"), end(tuple, "dst", "dport")] };
        let (original, reply) = (side(&connection.original), side(&connection.reply));
        let own = [(packet.ip_src.clone(), packet.src), (packet.ip_dst.clone(), packet.dst)];
        let waits = connection.state.as_deref().is_some_and(|state| state.starts_with("SYN_SENT"));
        let (state, [destination, source]) = if own == original {
            (if waits { "new|trk" } else { "est|trk" }, reply)
        } else if own == reply {
            ("est|rpl|trk", original)
        } else {
            return None;
        };
        Some(Found {
            state,
            known: true,
            mark: connection.mark,
            label: connection.labels,
            source,
            destination,
        })
    })
}

/// Connections between the same addresses to the same port.
fn alike(connections: &[Connection], packet: &TracePacket) -> u32 {
    let of = |connection: &&Connection| {
        let field = |name: &str| connection.original.get(name).map(String::as_str).unwrap_or_default();
        is_of(connection, packet.protocol)
            && field("src") == packet.ip_src
            && field("dst") == packet.ip_dst
            && (!has_ports(packet.protocol) || field("dport") == packet.dst.to_string())
    };
    u32::try_from(connections.iter().filter(of).count()).unwrap_or(u32::MAX)
}

fn is_of(connection: &Connection, protocol: u32) -> bool {
    let name = match protocol {
        1 => "icmp",
        6 => "tcp",
        17 => "udp",
        58 => "icmpv6",
        132 => "sctp",
        other => return connection.protocol == other.to_string(),
    };
    connection.protocol == name
}

const fn has_ports(protocol: u32) -> bool {
    matches!(protocol, 6 | 17 | 132)
}

/// `nw_src=10.0.0.1,tp_src=0`.
fn fields(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split(',').filter_map(|part| part.trim().split_once('='))
}
