//! BFD sessions of router ports (ovn-nb(5), `BFD`; RFC 5880 and RFC 5881), run by the agent of the hypervisor where the
//! port's gateway is.
//!
//! # Contract
//! - In: the sessions that are to be here, packets that the switch hands over, time. Out: packets for the switch, and the
//!   state of each session.
//!
//! # Invariants
//! - A session that is to be here goes on whatever else changes; one whose ends change starts anew.
//! - A packet is for a session only by the port and address that it came from, and by the session's name once the peer
//!   knows it. Only packets that crossed no router count (RFC 5881, section 5).

mod packet;
mod session;

use std::{collections::BTreeMap, net::IpAddr, time::Instant};

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use ofpacket::{Action, PacketOut};
use quantumnet_model::address::Mac;
use uuid::Uuid;

pub use packet::{Control, State};
pub use session::{Params, Session};

use crate::compile::{logical, register, table::Table};

/// A session that is to be here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Peering {
    /// Key of the router.
    pub router: u32,
    /// Key of its port.
    pub port: u32,
    /// The port's binding.
    pub binding: Uuid,
    /// The port's MAC.
    pub mac: Mac,
    /// The port's address.
    pub source: IpAddr,
    /// The peer.
    pub peer: IpAddr,
    /// The peer is in a network of the port's.
    pub near: bool,
    /// Settings.
    pub params: Params,
}

/// The sessions, by their `BFD` rows.
#[derive(Debug, Default)]
pub struct Sessions {
    entries: BTreeMap<Uuid, Entry>,
    /// Times that a session came up or went down.
    pub flaps: u64,
}

#[derive(Debug)]
struct Entry {
    peering: Peering,
    source_port: u16,
    session: Session,
}

impl Entry {
    fn send(&self, packet: &Control) -> PacketOut {
        let Peering { mac, source, peer, .. } = self.peering;
        let link = PacketBuilder::ethernet2(mac.0, [0; 6]);
        let payload = packet.encode();
        let mut frame = Vec::new();
        // Others see by the hops whether it crossed a router.
        let written = match (source, peer) {
            (IpAddr::V4(source), IpAddr::V4(peer)) => link
                .ipv4(source.octets(), peer.octets(), HOPS)
                .udp(self.source_port, PORT)
                .write(&mut frame, &payload),
            (IpAddr::V6(source), IpAddr::V6(peer)) => link
                .ipv6(source.octets(), peer.octets(), HOPS)
                .udp(self.source_port, PORT)
                .write(&mut frame, &payload),
            _ => unreachable!("a session's ends are of one family"),
        };
        written.expect("vectors take all, and 24 octets fit every packet");
        let Peering { router, port, .. } = self.peering;
        let actions = if self.peering.near { leave_by(router, port, peer) } else { route(router, port) };
        PacketOut::new(actions, frame)
    }

    fn step<T>(&mut self, flaps: &mut u64, step: impl FnOnce(&mut Session) -> T) -> T {
        let before = self.session.state();
        let result = step(&mut self.session);
        let after = self.session.state();
        if (before == State::Up) != (after == State::Up) {
            *flaps += 1;
            let peer = self.peering.peer;
            tracing::info!(%peer, from = before.name(), to = after.name(), "BFD session");
        }
        result
    }
}

impl Sessions {
    /// These sessions are to be here now.
    pub fn set(&mut self, now: Instant, wanted: BTreeMap<Uuid, Peering>) {
        let mut old = std::mem::take(&mut self.entries);
        for (row, peering) in wanted {
            if (peering.source.is_ipv4()) != (peering.peer.is_ipv4()) {
                continue;
            }
            let known = old
                .remove(&row)
                .filter(|entry| Peering { params: peering.params, ..entry.peering.clone() } == peering);
            let entry = match known {
                Some(mut entry) => {
                    entry.session.set_params(now, peering.params);
                    Entry { peering, ..entry }
                }
                None => {
                    let mine = self.free(row, |entry| entry.session.discriminator(), 1, u32::MAX);
                    let first = u32::from(SOURCE_PORTS_FROM);
                    let source_port =
                        self.free(row, |entry| entry.source_port.into(), first, u16::MAX.into());
                    let source_port = u16::try_from(source_port).unwrap_or(SOURCE_PORTS_FROM);
                    let session = Session::new(now, mine, peering.params);
                    Entry { peering, source_port, session }
                }
            };
            self.entries.insert(row, entry);
        }
    }

    /// A number that no session has, from the row's uuid.
    fn free(&self, row: Uuid, of: impl Fn(&Entry) -> u32, first: u32, last: u32) -> u32 {
        let numbers = last - first + 1;
        let start = row.as_fields().0 % numbers;
        let number = |step: u32| first + (start + step % numbers) % numbers;
        let taken = |number: u32| self.entries.values().any(|entry| of(entry) == number);
        (0..numbers).map(number).find(|number| !taken(*number)).unwrap_or(first)
    }

    /// Takes a frame that came in by a router port. Returns the answer, if it wants one at once, or says why it counted for
    /// nothing.
    pub fn receive(
        &mut self,
        now: Instant,
        binding: Uuid,
        frame: &[u8],
    ) -> Result<Option<PacketOut>, &'static str> {
        let packet = SlicedPacket::from_ethernet(frame).map_err(|_| "truncated")?;
        let (source, to, hops) = match &packet.net {
            Some(NetSlice::Ipv4(ip)) => {
                let ip = ip.header();
                (IpAddr::from(ip.source_addr()), IpAddr::from(ip.destination_addr()), ip.ttl())
            }
            Some(NetSlice::Ipv6(ip)) => {
                let ip = ip.header();
                (ip.source_addr().into(), ip.destination_addr().into(), ip.hop_limit())
            }
            _ => return Err("not_ip"),
        };
        let Some(TransportSlice::Udp(udp)) = &packet.transport else { return Err("not_udp") };
        if hops != HOPS {
            return Err("hops");
        }
        let control = Control::decode(udp.payload()).ok_or("malformed")?;
        let is_it = |entry: &&mut Entry| {
            let Peering { binding: port, source: own, peer, .. } = entry.peering;
            port == binding && own == to && peer == source
        };
        let entry = self.entries.values_mut().find(is_it).ok_or("no_session")?;
        if control.yours != 0 && control.yours != entry.session.discriminator() {
            return Err("no_session");
        }
        let answer = entry.step(&mut self.flaps, |session| session.receive(now, &control));
        Ok(answer.map(|answer| entry.send(&answer)))
    }

    /// When to ask for [`Self::due`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.entries.values().filter_map(|entry| entry.session.poll_timeout()).min()
    }

    /// Packets that are due.
    pub fn due(&mut self, now: Instant) -> Vec<PacketOut> {
        let mut out = Vec::new();
        for entry in self.entries.values_mut() {
            let packet = entry.step(&mut self.flaps, |session| session.due(now));
            out.extend(packet.map(|packet| entry.send(&packet)));
        }
        out
    }

    /// States by row.
    pub fn states(&self) -> BTreeMap<Uuid, State> {
        self.entries.iter().map(|(row, entry)| (*row, entry.session.state())).collect()
    }
}

/// To a neighbour of the port's, as it is: past the routes, which take a hop off.
fn leave_by(router: u32, port: u32, peer: IpAddr) -> Vec<Action> {
    let mut actions = from(router, port);
    actions.extend([
        Action::load(register::OUT_PORT, port.into()),
        Action::set_field(register::NEXT_HOP, register::next_hop(peer)),
        logical::go(Table::NextHop),
    ]);
    actions
}

/// To a peer that is further away, where the routes lead.
fn route(router: u32, port: u32) -> Vec<Action> {
    let mut actions = from(router, port);
    actions.push(logical::go(Table::Route));
    actions
}

fn from(router: u32, port: u32) -> Vec<Action> {
    vec![Action::load(register::SWITCH, router.into()), Action::load(register::IN_PORT, port.into())]
}

/// Control packets of single hops (RFC 5881, section 4).
pub const PORT: u16 = 3784;
const SOURCE_PORTS_FROM: u16 = 49_152;
const HOPS: u8 = 255;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn peering(port: u32) -> Peering {
        Peering {
            router: 9,
            port,
            binding: Uuid::from_u128(port.into()),
            mac: Mac([0x0a, 0, 0, 0, 0, 9]),
            source: "10.0.0.1".parse().unwrap(),
            peer: "10.0.0.2".parse().unwrap(),
            near: true,
            params: Params {
                min_tx: Duration::from_millis(100),
                min_rx: Duration::from_millis(100),
                detect_mult: 3,
            },
        }
    }

    fn row(number: u128) -> Uuid {
        Uuid::from_u128(number << 96 | 1)
    }

    /// A frame as the peer sends it.
    fn heard(hops: u8, control: &Control) -> Vec<u8> {
        let mut frame = Vec::new();
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 0, 0, 2], [10, 0, 0, 1], hops);
        builder.udp(50_000, PORT).write(&mut frame, &control.encode()).unwrap();
        frame
    }

    #[test]
    fn packets_are_for_the_session_of_their_port_and_address() {
        let (mut sessions, now) = (Sessions::default(), Instant::now());
        sessions.set(now, [(row(1), peering(1)), (row(2), peering(2))].into());
        let down = Control { state: State::Down, detect_mult: 3, mine: 5, ..Control::default() };
        let port = |number: u128| Uuid::from_u128(number);
        assert_eq!(sessions.receive(now, port(1), &heard(254, &down)).unwrap_err(), "hops");
        assert_eq!(sessions.receive(now, port(3), &heard(255, &down)).unwrap_err(), "no_session");
        let other = Control { yours: 77, ..down };
        assert_eq!(sessions.receive(now, port(1), &heard(255, &other)).unwrap_err(), "no_session");
        assert!(sessions.receive(now, port(1), &heard(255, &down)).unwrap().is_none());
        let states: Vec<State> = sessions.states().into_values().collect();
        assert_eq!(states, [State::Init, State::Down]);
    }

    #[test]
    fn sessions_have_names_and_ports_of_their_own_and_go_on() {
        let (mut sessions, now) = (Sessions::default(), Instant::now());
        let one = row(1);
        // The same first octets, and so the same number to begin with.
        let other = Uuid::from_u128(1 << 96 | 2);
        sessions.set(now, [(one, peering(1)), (other, peering(2))].into());
        let numbers = |sessions: &Sessions, row| {
            let entry = &sessions.entries[&row];
            (entry.session.discriminator(), entry.source_port)
        };
        let (a, b) = (numbers(&sessions, one), numbers(&sessions, other));
        assert!(a.0 != b.0 && a.1 != b.1 && a.1 >= SOURCE_PORTS_FROM, "{a:?} {b:?}");
        let down = Control { state: State::Down, detect_mult: 3, mine: 5, ..Control::default() };
        sessions.receive(now, peering(1).binding, &heard(255, &down)).unwrap();
        let params = Params { detect_mult: 9, ..peering(1).params };
        sessions.set(now, [(one, Peering { params, ..peering(1) })].into());
        assert_eq!((numbers(&sessions, one), sessions.states()[&one]), (a, State::Init), "it goes on");
        sessions.set(now, [(one, Peering { peer: "10.0.0.3".parse().unwrap(), ..peering(1) })].into());
        assert_eq!(sessions.states()[&one], State::Down, "another peer");
    }

    #[test]
    fn packets_of_a_session() {
        let (mut sessions, now) = (Sessions::default(), Instant::now());
        sessions.set(now, [(row(1), peering(1))].into());
        let [packet] = &sessions.due(now)[..] else { panic!("one packet") };
        let frame = SlicedPacket::from_ethernet(&packet.data).unwrap();
        let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Udp(udp))) = (frame.net, frame.transport) else {
            panic!("no UDP")
        };
        assert_eq!((ip.header().ttl(), udp.destination_port()), (255, PORT));
        let control = Control::decode(udp.payload()).unwrap();
        assert_eq!((control.state, control.detect_mult, control.required_min_rx), (State::Down, 3, 100_000));
        assert!(sessions.due(now).is_empty() && sessions.poll_timeout() > Some(now));
    }
}
