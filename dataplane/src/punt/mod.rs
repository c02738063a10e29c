//! Packets that the switch hands to the agent, and what comes of them.
//!
//! # Contract
//! - In: a packet-in and the rows. Out: a packet for the switch, a sighting of a MAC, or a reason for nothing.
//!
//! # Invariants
//! - Handlers are functions of rows and packet.
//! - A DHCP packet that the agent does not answer goes on where it would have gone without the agent, as OVN resumes it:
//!   DECLINE and RELEASE, what is malformed, and everything while the configuration can't be encoded.
//! - Before a packet is looked into it passes its port's and reason's token bucket, so that one port's flood costs the
//!   others no time even where the switch has no meters.

pub mod acl_log;
pub mod announce;
pub mod bfd;
pub mod dhcp;
pub mod dhcp_check;
mod inner;
mod learn;
pub mod neighbour;
pub mod reject;
mod router;

use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};

use etherparse::{LaxNetSlice, LaxSlicedPacket, TransportSlice};
use ofpacket::{Action, PacketIn2, PacketOut, Port, field};
use quantumnet_model::{
    Rows,
    address::Mac,
    nb::{Acl, Copp, DhcpOptions, LogicalRouter, LogicalSwitch, LogicalSwitchPort, Nat},
    sb::{DatapathBinding, PortBinding},
};
use uuid::Uuid;

pub use router::{question, resumed};

pub use learn::{Learner, Limits as LearnLimits, Outcome as LearnOutcome, Place};

use crate::{
    compile::{
        MeterSpec, MeterUnit, logical, meter,
        punt::{Protocol, Punt, PuntReason},
        register,
        table::Table,
    },
    punt::{
        dhcp::{Offer, Unanswered},
        reject::Refusal,
    },
};

/// What becomes of a packet.
#[derive(Debug)]
pub enum Verdict {
    /// The answer.
    Answer(PacketOut),
    /// No answer: the packet goes on, for this reason.
    Onward(PacketOut, &'static str),
    /// A MAC was seen at a place.
    Seen(Mac, Place),
    /// A port that waited has shown itself.
    Activated(Uuid),
    /// A parent says that it has a virtual port's address.
    Claimed(Claim),
    /// A packet of a BFD session's peer, at this router port.
    Bfd(Uuid, Vec<u8>),
    /// A record of a packet that an ACL wants logged, and the keys of switch and port where it met the ACL.
    Logged(acl_log::Record, Option<(i64, i64)>),
    /// A router port has heard of a neighbour.
    Neighbour(neighbour::Key, Mac),
    /// A packet waits for a neighbour's MAC.
    Waits(neighbour::Key),
    /// A neighbour that is used has not shown itself for long.
    Silent(neighbour::Key),
    /// The packet, which the switch paused, goes on like this.
    Resumed(Box<PacketIn2>),
    /// Nothing, for this reason.
    Nothing(&'static str),
}

/// A virtual port and who has its address.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Claim {
    /// Key of the datapath of both.
    pub datapath: u32,
    /// Key of the virtual port.
    pub port: u32,
    /// Key of the parent.
    pub parent: u32,
}

/// Counts packets, and holds floods back.
#[derive(Debug, Default)]
pub struct Punts {
    buckets: HashMap<(Uuid, PuntReason), Bucket>,
    /// Packets by reason and outcome.
    pub counts: BTreeMap<(&'static str, &'static str), u64>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Punts {
    /// Looks into a packet.
    pub fn handle(&mut self, now: Instant, rows: &Rows, packet: &PacketIn2) -> Verdict {
        let Ok(punt) = Punt::decode(packet.userdata.as_deref().unwrap_or_default()) else {
            return self.count("unknown", Verdict::Nothing("bad_userdata"));
        };
        let reason = label(punt.reason);
        let (who, spec) = limit(rows, punt, packet).unwrap_or_else(|| (punt.row, punt.reason.rate()));
        if !self.admit(now, (who, punt.reason), spec) {
            return self.count(reason, Verdict::Nothing("limited"));
        }
        let verdict = verdict(rows, punt, packet);
        self.count(reason, verdict)
    }

    fn admit(&mut self, now: Instant, who: (Uuid, PuntReason), spec: MeterSpec) -> bool {
        let (rate, burst) = packets(spec);
        if self.buckets.len() > BUCKETS_MAX {
            // Full ones are as good as none.
            self.buckets.retain(|_, bucket| {
                bucket.tokens + now.saturating_duration_since(bucket.at).as_secs_f64() * rate < burst
            });
        }
        let bucket = self.buckets.entry(who).or_insert(Bucket { tokens: burst, at: now });
        let gained = now.saturating_duration_since(bucket.at).as_secs_f64() * rate;
        *bucket = Bucket { tokens: (bucket.tokens + gained).min(burst), at: now };
        let admitted = bucket.tokens >= 1.0;
        if admitted {
            bucket.tokens -= 1.0;
        }
        admitted
    }

    /// What came of a packet that was handed on.
    pub fn refused(&mut self, reason: &'static str, why: &'static str) {
        *self.counts.entry((reason, why)).or_default() += 1;
    }

    fn count(&mut self, reason: &'static str, verdict: Verdict) -> Verdict {
        let outcome = match &verdict {
            Verdict::Answer(_) => "answered",
            Verdict::Seen(..) => "seen",
            Verdict::Activated(_) => "activated",
            Verdict::Claimed(_) => "claimed",
            Verdict::Bfd(..) => "heard",
            Verdict::Logged(..) => "logged",
            Verdict::Neighbour(..) => "seen",
            Verdict::Waits(_) => "waits",
            Verdict::Silent(_) => "asked",
            Verdict::Resumed(_) => "resumed",
            Verdict::Onward(_, why) | Verdict::Nothing(why) => why,
        };
        *self.counts.entry((reason, outcome)).or_default() += 1;
        verdict
    }
}

/// Whose limit a packet counts for, and what it is, where a `Meter` says so.
fn limit(rows: &Rows, punt: Punt, packet: &PacketIn2) -> Option<(Uuid, MeterSpec)> {
    if punt.reason == PuntReason::AclLog {
        let acl = rows.get::<Acl>(punt.row)?;
        return meter::limit(rows, acl.meter.as_ref()?, punt.row);
    }
    let datapath = rows.get::<PortBinding>(punt.row)?.datapath.uuid();
    let of_switch = rows.get::<LogicalSwitch>(datapath).and_then(|row| row.copp);
    let of_router = || rows.get::<LogicalRouter>(datapath).and_then(|row| row.copp);
    let copp = of_switch.or_else(of_router)?.uuid();
    // A frame is read only where something limits it: this stands before what sheds a flood.
    let protocol = protocol(punt.reason, packet.data.as_deref().unwrap_or_default())?;
    meter::limit(rows, rows.get::<Copp>(copp)?.meters.get(protocol.name())?, copp)
}

/// What of a `Copp` limits a frame; as the flows have it that sent it here.
fn protocol(reason: PuntReason, frame: &[u8]) -> Option<Protocol> {
    let parsed = || LaxSlicedPacket::from_ethernet(frame).ok();
    let by_family = |v4, v6| match parsed()?.net? {
        LaxNetSlice::Ipv4(_) | LaxNetSlice::Arp(_) => Some(v4),
        LaxNetSlice::Ipv6(_) => Some(v6),
    };
    match reason {
        PuntReason::Dhcpv4 => Some(Protocol::Dhcpv4Opts),
        PuntReason::RejectedFrom | PuntReason::RejectedTo => Some(Protocol::Reject),
        PuntReason::Bfd => Some(Protocol::Bfd),
        PuntReason::RouterSolicited => Some(Protocol::NdNa),
        PuntReason::ResolveNeighbour => by_family(Protocol::ArpResolve, Protocol::NdNsResolve),
        PuntReason::LearnNeighbour => match parsed()?.transport {
            Some(TransportSlice::Icmpv6(icmp)) if icmp.type_u8() == ADVERTISEMENT => Some(Protocol::NdNa),
            _ => by_family(Protocol::Arp, Protocol::NdNs),
        },
        PuntReason::RouterUnreachable if matches!(parsed()?.transport, Some(TransportSlice::Tcp(_))) => {
            Some(Protocol::TcpReset)
        }
        PuntReason::RouterUnreachable | PuntReason::TimeExceeded | PuntReason::TooLarge => {
            by_family(Protocol::Icmp4Error, Protocol::Icmp6Error)
        }
        PuntReason::LearnMac
        | PuntReason::Activated
        | PuntReason::VirtualClaim
        | PuntReason::AclLog
        | PuntReason::InnerAddress
        | PuntReason::RefreshNeighbour => None,
    }
}

/// A rate and a burst in packets. Of kilobits these are the most packets that there can be: the smallest frames.
fn packets(spec: MeterSpec) -> (f64, f64) {
    let (rate, burst) = (f64::from(spec.rate), f64::from(spec.burst));
    let of = match spec.unit {
        MeterUnit::Packets => 1.0,
        MeterUnit::Kilobits => 1_000.0 / SMALLEST_FRAME_BITS,
    };
    // Without a burst of its own a switch lets a second's worth through.
    ((rate * of).max(1.0), (if spec.burst == 0 { rate } else { burst } * of).max(1.0))
}

fn verdict(rows: &Rows, punt: Punt, packet: &PacketIn2) -> Verdict {
    let frame = packet.data.as_deref().unwrap_or_default();
    if let Some(acl) = rows.get::<Acl>(punt.row) {
        let to = packet.table.is_some_and(|table| table.0 == Table::ToPolicy.number());
        return Verdict::Logged(acl_log::Record::new(acl, frame, to), filtered_at(packet, to));
    }
    if punt.reason == PuntReason::InnerAddress {
        return resumed_within(rows.get(punt.row), packet);
    }
    let binding = rows.get::<PortBinding>(punt.row);
    let datapath = binding.and_then(|binding| rows.get::<DatapathBinding>(binding.datapath.uuid()));
    let (Some(binding), Some(datapath)) = (binding, datapath) else { return Verdict::Nothing("no_port") };
    let (Ok(datapath_key), Ok(port_key)) =
        (u32::try_from(datapath.tunnel_key), u32::try_from(binding.tunnel_key))
    else {
        return Verdict::Nothing("no_port");
    };
    match punt.reason {
        PuntReason::Activated => Verdict::Activated(punt.row),
        PuntReason::VirtualClaim => match came_from(packet) {
            Some(parent) => Verdict::Claimed(Claim { datapath: datapath_key, port: port_key, parent }),
            None => Verdict::Nothing("no_port"),
        },
        PuntReason::LearnMac => match frame.get(6..12).and_then(|mac| mac.first_chunk::<6>()) {
            Some(mac) => Verdict::Seen(Mac(*mac), Place { datapath: datapath_key, port: port_key }),
            None => Verdict::Nothing("truncated"),
        },
        PuntReason::RejectedFrom => match reject::answer(frame, Refusal::Rule) {
            Some(answer) => Verdict::Answer(to_port(datapath_key, port_key, answer)),
            None => Verdict::Nothing("not_answered"),
        },
        PuntReason::RejectedTo => match reject::answer(frame, Refusal::Rule) {
            Some(answer) => Verdict::Answer(from_port(datapath_key, port_key, answer)),
            None => Verdict::Nothing("not_answered"),
        },
        PuntReason::AclLog => Verdict::Nothing("no_acl"),
        PuntReason::InnerAddress => Verdict::Nothing("no_rule"),
        PuntReason::Bfd => Verdict::Bfd(punt.row, frame.to_vec()),
        PuntReason::LearnNeighbour
        | PuntReason::ResolveNeighbour
        | PuntReason::RefreshNeighbour
        | PuntReason::TimeExceeded
        | PuntReason::RouterUnreachable
        | PuntReason::TooLarge
        | PuntReason::RouterSolicited => {
            router::verdict(rows, punt, binding, (datapath_key, port_key), packet)
        }
        PuntReason::Dhcpv4 => {
            let answer = match offer(rows, punt.row, binding) {
                Some(Ok(offer)) => offer.answer(frame).map_err(Unanswered::label),
                Some(Err(_)) => Err("bad_options"),
                None => Err("no_options"),
            };
            // The request of an external port's host came by a localnet port, and the answer goes there.
            let by = if &*binding.r#type == "external" { came_from(packet) } else { Some(port_key) };
            let Some(by) = by else { return Verdict::Nothing("no_port") };
            match answer {
                Ok(answer) => Verdict::Answer(to_port(datapath_key, by, answer)),
                Err(why) => match onward(datapath_key, by, packet) {
                    Some(packet) => Verdict::Onward(packet, why),
                    None => Verdict::Nothing(why),
                },
            }
        }
    }
}

/// An ICMP error that goes on; as it is where it quotes nothing of the rule, or the rule has gone.
fn resumed_within(rule: Option<&Nat>, packet: &PacketIn2) -> Verdict {
    let frame = packet.data.as_deref().filter(|_| packet.full_len.is_none()).unwrap_or_default();
    let mut packet = packet.clone();
    if let Some(frame) = rule.and_then(|rule| inner::translated(rule, frame)) {
        packet.data = Some(frame.into());
    }
    Verdict::Resumed(Box::new(packet.into_resume()))
}

/// What a port is offered; `None` when it has no options.
pub fn offer(rows: &Rows, port: Uuid, binding: &PortBinding) -> Option<Result<Offer, dhcp::OfferError>> {
    let row = rows.get::<LogicalSwitchPort>(port)?;
    let options = rows.get::<DhcpOptions>(row.dhcpv4_options.as_ref()?.uuid())?;
    Some(Offer::new(row, binding.mac.iter().map(AsRef::as_ref), options))
}

/// Keys of the switch and of the port whose rules a packet met.
fn filtered_at(packet: &PacketIn2, to: bool) -> Option<(i64, i64)> {
    let metadata = packet.metadata.as_ref()?;
    let key = |field| i64::try_from(metadata.get(field)?.0).ok();
    Some((key(register::SWITCH.field)?, key(if to { register::OUT_PORT } else { register::IN_PORT })?))
}

/// Key of the port that the packet came from.
fn came_from(packet: &PacketIn2) -> Option<u32> {
    let (key, _) = packet.metadata.as_ref()?.get(register::IN_PORT)?;
    u32::try_from(key).ok()
}

/// A frame for a port of this hypervisor: past all policies, as OVN lets its own answers pass.
fn to_port(datapath: u32, port: u32, frame: Vec<u8>) -> PacketOut {
    let actions = vec![
        Action::load(register::SWITCH, datapath.into()),
        Action::load(register::OUT_PORT, port.into()),
        Action::resubmit(Table::Deliver.number()),
    ];
    PacketOut::new(actions, frame)
}

/// A frame that a port of this hypervisor might have sent: past the filters of what it sends, as OVN does.
fn from_port(datapath: u32, port: u32, frame: Vec<u8>) -> PacketOut {
    let actions = vec![
        Action::load(register::SWITCH, datapath.into()),
        Action::load(register::IN_PORT, port.into()),
        Action::resubmit(Table::Forward.number()),
    ];
    PacketOut::new(actions, frame)
}

/// The packet as it came, from where it came, to where it would go had no table taken it.
fn onward(datapath: u32, port: u32, packet: &PacketIn2) -> Option<PacketOut> {
    let frame = packet.data.as_deref().filter(|_| packet.full_len.is_none())?;
    let (in_port, _) = packet.metadata.as_ref()?.get(field::IN_PORT)?;
    let mut actions =
        vec![Action::load(register::SWITCH, datapath.into()), Action::load(register::IN_PORT, port.into())];
    if frame.first()? & 1 == 1 {
        actions.extend(logical::send(register::GROUP_FLOOD));
    } else {
        actions.push(logical::go(Table::Forward));
    }
    let in_port = Port(u32::try_from(in_port).ok()?);
    Some(PacketOut { in_port, ..PacketOut::new(actions, frame) })
}

fn label(reason: PuntReason) -> &'static str {
    match reason {
        PuntReason::LearnMac => "learn_mac",
        PuntReason::Dhcpv4 => "dhcpv4",
        PuntReason::Activated => "activated",
        PuntReason::VirtualClaim => "virtual_claim",
        PuntReason::RejectedFrom => "rejected_from",
        PuntReason::RejectedTo => "rejected_to",
        PuntReason::AclLog => "acl_log",
        PuntReason::Bfd => "bfd",
        PuntReason::LearnNeighbour => "learn_neighbour",
        PuntReason::ResolveNeighbour => "resolve_neighbour",
        PuntReason::RefreshNeighbour => "refresh_neighbour",
        PuntReason::TimeExceeded => "time_exceeded",
        PuntReason::RouterUnreachable => "router_unreachable",
        PuntReason::TooLarge => "too_large",
        PuntReason::RouterSolicited => "router_solicited",
        PuntReason::InnerAddress => "inner_address",
    }
}

const SMALLEST_FRAME_BITS: f64 = 512.0;
/// Type of a neighbour advertisement (RFC 4861, section 4.4).
const ADVERTISEMENT: u8 = 136;
const BUCKETS_MAX: usize = 8_192;
