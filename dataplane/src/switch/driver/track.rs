//! Whether the switch tells SCTP associations apart by their ports.
//!
//! A datapath does not say so: one that knows no ports of a protocol tracks all of it between two hosts as one connection. So two
//! packets are sent through it that go nowhere. The first begins an association; the second goes the other way with other ports.
//! It is the beginning of another one, or, to a switch that looks at addresses only, a reply.
//!
//! # Invariants
//! - A switch that says nothing in time, or refuses any of it, can't.
//! - The addresses are for documentation (RFC 5737), and the zone is one that no port has.

use std::time::{Duration, Instant};

use etherparse::{PacketBuilder, ip_number};
use ofpacket::{
    Action, Conntrack, ConntrackZone, Controller, CtState, FlowMod, Match, Message, PacketIn2, PacketOut,
    field,
};

use super::{Driver, Output, Phase, handshake::PROBE_TABLE};

/// The question and its answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Question {
    /// Messages that it is made of.
    xids: Vec<u32>,
    answer: Option<bool>,
    /// Until when the rest of the handshake waits for it.
    until: Option<Instant>,
}

impl Question {
    /// When it is taken to be answered with no.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Whether associations are told apart.
    pub(super) fn answer(&self) -> bool {
        self.answer == Some(true)
    }

    /// Whether a message of that number was a part of it. If one is refused, the answer is no.
    pub(super) fn refused(&mut self, xid: u32) -> bool {
        let ours = self.xids.contains(&xid);
        if ours {
            self.answer = Some(false);
        }
        ours
    }
}

impl Driver {
    pub(super) fn ask_sctp(&mut self, out: &mut Vec<Output>) {
        let tell = Action::Controller2(Controller {
            userdata: Some(Box::from(USERDATA)),
            max_len: 0,
            ..Controller::default()
        });
        let zone = || Conntrack::new(ConntrackZone::Immediate(ZONE));
        let first = PacketOut::new(vec![Action::Ct(zone().commit())], init(HOSTS, [1, 2]));
        let [a, b] = HOSTS;
        let second = PacketOut::new(vec![Action::Ct(zone().table(PROBE_TABLE))], init([b, a], [3, 4]));
        for message in [
            Message::FlowMod(FlowMod::add(PROBE_TABLE, PRIORITY, sctp(), vec![tell])),
            Message::PacketOut(first),
            Message::PacketOut(second),
        ] {
            let xid = self.send(&message, out);
            self.setup.sctp.xids.push(xid);
        }
    }

    /// Takes the second packet, if it is that.
    pub(super) fn sctp_answered(&mut self, packet: &PacketIn2, out: &mut Vec<Output>) -> bool {
        if packet.userdata.as_deref() != Some(USERDATA) {
            return false;
        }
        if self.phase == Phase::Setup {
            let state = packet.metadata.as_ref().and_then(|metadata| metadata.get(field::CT_STATE));
            let state = state.map_or(0, |(state, _)| state);
            let has = |flag: CtState| state & u128::from(flag.0) != 0;
            let new = has(CtState::TRK) && has(CtState::NEW) && !has(CtState::RPL);
            self.setup.sctp.answer.get_or_insert(new);
            if self.setup.sctp.until.is_some() {
                self.up(out);
            }
        }
        true
    }

    /// The rest of the handshake is done.
    pub(super) fn set_up(&mut self, now: Instant, out: &mut Vec<Output>) {
        if self.setup.sctp.answer.is_some() {
            self.up(out);
        } else {
            self.setup.sctp.until = Some(now + WAIT);
        }
    }

    pub(super) fn forget_sctp(&mut self, out: &mut Vec<Output>) {
        self.setup.sctp.until = None;
        self.send(&Message::FlowMod(FlowMod::delete_strict(PROBE_TABLE, PRIORITY, sctp())), out);
    }
}

fn sctp() -> Match {
    Match::new().ipv4().ip_proto(ip_number::SCTP.0)
}

/// A packet that asks for an association (RFC 9260, section 3.3.2).
fn init([from, to]: [[u8; 4]; 2], [source, destination]: [u8; 2]) -> Vec<u8> {
    let mut init = vec![0, source, 0, destination, 0, 0, 0, 0, 0, 0, 0, 0];
    // The chunk: its length, a tag, a window, a stream each way, the first number.
    init.extend([1, 0, 0, 20, 0, 0, 0, source, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1]);
    let checksum = crc32c::crc32c(&init).to_le_bytes();
    init[8..12].copy_from_slice(&checksum);
    let mut frame = Vec::new();
    let ip = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]).ipv4(from, to, 64);
    ip.write_to_vec(&mut frame, ip_number::SCTP, &init).expect("the packet is short");
    frame
}

/// Marks the packet that comes back; no user data of a punt is that short.
const USERDATA: &[u8] = b"sctp";
const PRIORITY: u16 = 1;
/// Zones of ports begin with 1.
const ZONE: u16 = 0;
const HOSTS: [[u8; 4]; 2] = [[192, 0, 2, 1], [192, 0, 2, 2]];
/// The packet needs a few milliseconds, on a busy machine more.
const WAIT: Duration = Duration::from_secs(5);
