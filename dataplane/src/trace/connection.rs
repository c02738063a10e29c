//! Connections: those that the switch tracks, those that a traced packet would make, and what they do to a packet.
//!
//! # Invariants
//! - A zone is read once for each trace.
//! - A ping is a connection of its own each time it is started: as its identifier is not known, ICMP is never taken to be
//!   known, and what is alike is counted.

use std::collections::BTreeMap;

use ovsdb::unixctl_text::{self, Connection};
use quantumnet_api::v1::{AgentQueryError, TraceConnection, TracePacket, TraceTracked};

use crate::trace::{Job, flow::Flow, packet_or_none, text::Pass, unavailable};

pub(super) struct Connections<'a> {
    job: &'a Job,
    /// What the switch printed of each: read only as far as a packet may be of it, as guests decide how much it is.
    zones: BTreeMap<u16, String>,
}

/// A connection that a packet belongs to.
struct Found {
    state: &'static str,
    known: bool,
    mark: u32,
    label: u128,
    /// Source and destination after translation.
    ends: [End; 2],
}

/// Address and port.
type End = (String, u32);

impl<'a> Connections<'a> {
    pub(super) fn new(job: &'a Job) -> Self {
        Self { job, zones: BTreeMap::new() }
    }

    /// The packet as it goes on after the lookup of its connection that `ct` makes, and what was taken of the connection.
    /// `moved` is the packet as it is then, if a translation has changed it unseen by the tables.
    pub(super) async fn resumed<C, F>(
        &mut self,
        later: &Pass,
        ct: &str,
        moved: Option<&TracePacket>,
        call: &C,
        made: &mut Vec<TraceTracked>,
    ) -> Result<(Flow, TraceConnection), AgentQueryError>
    where
        C: Fn(&'static str, Vec<String>) -> F,
        F: Future<Output = Result<String, String>>,
    {
        let mut flow = Flow::parse(&later.flow).readable();
        // A new translation is applied to what was printed already; the connection is looked up by what was before.
        let after = packet_or_none(&flow);
        let mut printed = flow.clone();
        for (name, value) in fields(later.untranslated.as_deref().unwrap_or_default()) {
            printed.set(name, value);
        }
        let printed = packet_or_none(&printed);
        let before = moved.map_or_else(
            || printed.clone(),
            |moved| with_ends(&printed, [source(moved), destination(moved)]),
        );
        let zone = u16::try_from(flow.number("ct_zone")).unwrap_or_default();
        let connections = self.zone(zone, &before, call).await?;
        let found = known(&connections, &before);
        let mut connection = TraceConnection {
            zone: zone.into(),
            state: "new|trk".to_owned(),
            alike: alike(&connections, &before),
            ..TraceConnection::default()
        };
        let found = found.or_else(|| self.assumed(zone, &before));
        let ends = if let Some(found) = found {
            found.state.clone_into(&mut connection.state);
            (connection.known, connection.mark) = (found.known, found.mark);
            flow.set("ct_mark", format!("{:#x}", found.mark));
            flow.set("ct_label", format!("{:#x}", found.label));
            if translates(ct) { found.ends } else { [source(&before), destination(&before)] }
        } else {
            // What this translation leaves alone is as it was before.
            let end = |printed: End, after: End, before: End| if printed == after { before } else { after };
            let ends = [
                end(source(&printed), source(&after), source(&before)),
                end(destination(&printed), destination(&after), destination(&before)),
            ];
            if ct.contains("commit") {
                let after = with_ends(&before, ends.clone());
                remember(made, zone, &before, &after);
            }
            ends
        };
        connection.translated = ends != [source(&before), destination(&before)];
        let names = flow.ends();
        let ports = ["tp_src", "tp_dst"];
        for ((name, port), (ip, number)) in names.into_iter().zip(ports).zip(ends) {
            flow.set(name, ip);
            if has_ports(before.protocol) {
                flow.set(port, number);
            }
        }
        flow.set("ct_state", &connection.state);
        flow.set("dp_hash", "0x1");
        Ok((flow, connection))
    }

    /// The packet behind a `ct` that does not have it enter the datapath again.
    pub(super) async fn passed<C, F>(
        &mut self,
        ct: &str,
        packet: TracePacket,
        call: &C,
        made: &mut Vec<TraceTracked>,
    ) -> Result<TracePacket, AgentQueryError>
    where
        C: Fn(&'static str, Vec<String>) -> F,
        F: Future<Output = Result<String, String>>,
    {
        let zone = ct.split("zone=").nth(1).and_then(|rest| rest.split([',', ')']).next());
        let zone = zone.and_then(|zone| zone.parse::<u16>().ok()).unwrap_or_default();
        let known =
            if translates(ct) { known(&self.zone(zone, &packet, call).await?, &packet) } else { None };
        let ends = match known.or_else(|| self.assumed(zone, &packet)) {
            Some(found) if translates(ct) => found.ends,
            Some(_) => return Ok(packet),
            None => [new_end(ct, "src=", source(&packet)), new_end(ct, "dst=", destination(&packet))],
        };
        let after = with_ends(&packet, ends);
        if ct.contains("commit") {
            remember(made, zone, &packet, &after);
        }
        Ok(after)
    }

    /// The connections of a zone that have both addresses of the packet.
    async fn zone<C, F>(
        &mut self,
        zone: u16,
        packet: &TracePacket,
        call: &C,
    ) -> Result<Vec<Connection>, AgentQueryError>
    where
        C: Fn(&'static str, Vec<String>) -> F,
        F: Future<Output = Result<String, String>>,
    {
        if !self.zones.contains_key(&zone) {
            let arguments = vec![self.job.datapath.clone(), format!("zone={zone}")];
            let printed = call("dpctl/dump-conntrack", arguments).await.map_err(unavailable)?;
            self.zones.insert(zone, printed);
        }
        let printed = self.zones.get(&zone).map(String::as_str).unwrap_or_default();
        let near =
            printed.lines().filter(|line| line.contains(&packet.ip_src) && line.contains(&packet.ip_dst));
        Ok(near.flat_map(unixctl_text::connections).collect())
    }

    /// A connection that is taken to be there: the packet is its answer.
    fn assumed(&self, zone: u16, packet: &TracePacket) -> Option<Found> {
        let of_zone = self.job.tracked.iter().filter(|tracked| tracked.zone == u32::from(zone));
        of_zone.filter_map(|tracked| Some((tracked.before.as_ref()?, tracked.after.as_ref()?))).find_map(
            |(before, after)| {
                let (answer, undone) = (after.answer(), before.answer());
                (ends(&answer) == ends(packet)).then_some(Found {
                    state: "est|rpl|trk",
                    known: false,
                    mark: 0,
                    label: 0,
                    ends: [source(&undone), destination(&undone)],
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
            ends: [source, destination],
        })
    })
}

fn source(packet: &TracePacket) -> End {
    (packet.ip_src.clone(), packet.src)
}

fn destination(packet: &TracePacket) -> End {
    (packet.ip_dst.clone(), packet.dst)
}

/// The packet with other ends; what is no port stays.
fn with_ends(packet: &TracePacket, [source, destination]: [End; 2]) -> TracePacket {
    let (src, dst) =
        if has_ports(packet.protocol) { (source.1, destination.1) } else { (packet.src, packet.dst) };
    TracePacket { ip_src: source.0, ip_dst: destination.0, src, dst, ..packet.clone() }
}

/// An end that a new translation replaces: `nat(src=192.0.2.1-192.0.2.9:1024-65535)` takes the first address, and leaves the
/// port where that is free.
fn new_end(ct: &str, which: &str, end: End) -> End {
    let Some((_, text)) = ct.split_once("nat(").and_then(|(_, nat)| nat.split_once(which)) else {
        return end;
    };
    let text = text.split([',', ')', '-']).next().unwrap_or_default();
    let bare = text.strip_prefix('[').and_then(|text| text.split_once(']'));
    let (ip, port) = match bare {
        Some((ip, port)) => (ip, port.strip_prefix(':')),
        None if text.matches(':').count() > 1 => (text, None),
        None => text.split_once(':').map_or((text, None), |(ip, port)| (ip, Some(port))),
    };
    // A destination has one port; of a range of source ports the packet's own is as good as any.
    let port = port.filter(|_| which == "dst=").and_then(|port| port.parse().ok()).unwrap_or(end.1);
    (ip.to_owned(), port)
}

fn translates(ct: &str) -> bool {
    ct.contains(",nat") || ct.contains("(nat")
}

fn remember(made: &mut Vec<TraceTracked>, zone: u16, before: &TracePacket, after: &TracePacket) {
    let one = TraceTracked { zone: zone.into(), before: Some(before.clone()), after: Some(after.clone()) };
    if !made.contains(&one) {
        made.push(one);
    }
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
