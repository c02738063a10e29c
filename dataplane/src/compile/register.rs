//! Bits of metadata, registers, connection marks and zones: who writes them and who reads them.
//!
//! # Invariants
//! - No bit has two meanings; a declaration that overlaps another does not compile.
//! - No register holds a copy of a packet's field on the path that all traffic takes.

use ofpacket::{Field, Subfield, field};

use super::table::Status;

/// Where bits are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    /// OpenFlow metadata.
    Metadata,
    /// A register.
    Reg(u8),
    /// `ct_mark` of a connection.
    CtMark,
}

/// Declared bits.
#[derive(Clone, Copy, Debug)]
pub struct Bits {
    /// Their name in documentation.
    pub name: &'static str,
    /// Where they are.
    pub place: Place,
    /// Lowest bit.
    pub offset: u16,
    /// How many.
    pub bits: u16,
    /// Who writes them.
    pub writer: &'static str,
    /// Who reads them.
    pub reader: &'static str,
    /// Whether anything uses them yet.
    pub status: Status,
}

macro_rules! bits {
    ($($status:ident $name:ident = $place:expr, $offset:literal, $bits:literal, $writer:literal => $reader:literal;)*) => {
        /// All declared bits, by place.
        pub const BITS: &[Bits] = &[$(Bits {
            name: stringify!($name), place: $place, offset: $offset, bits: $bits, writer: $writer, reader: $reader, status: Status::$status,
        },)*];
    };
}

use Place::{CtMark, Metadata, Reg};

bits! {
    Built SWITCH = Metadata, 0, 24, "Classify" => "every logical table: key of the switch or router";
    Built VERDICT = Reg(0), 0, 3, "FromPolicy, AfterPolicy, ToPolicy" => "FromVerdict, AfterVerdict, ToVerdict: what the rule says";
    Built TIER = Reg(0), 3, 2, "FromVerdict, AfterVerdict, ToVerdict" => "FromPolicy, AfterPolicy, ToPolicy: tier of rules that is asked";
    Built COMMIT = Reg(0), 5, 1, "FromVerdict, FromPolicy, AfterPolicy, ToPolicy" => "FromVerdict, AfterVerdict, ToVerdict: the connection is to be kept, if it is known too";
    Built PERSIST = Reg(0), 6, 1, "FromPolicy, AfterPolicy, ToPolicy" => "FromVerdict, AfterVerdict, ToVerdict: the connection outlives its rule";
    Built SAMPLED = Reg(0), 7, 1, "FromPolicy, AfterPolicy, ToPolicy" => "FromVerdict, AfterVerdict, ToVerdict: the label says where the connection's packets are sampled";
    Built STATELESS = Reg(0), 8, 1, "FromTrack, ToTrack" => "FromPolicy, AfterPolicy, ToPolicy: the switch does not track connections";
    Built AGAIN = Reg(0), 9, 7, "nobody: 0 in every packet" => "FromPolicy, AfterPolicy, ToPolicy: makes flows of two dimensions of one field two";
    Built LIST = Reg(0), 16, 16, "nobody: 0 in every packet" => "FromPolicy, AfterPolicy, ToPolicy: makes flows of very many conjunctions several";
    Planned ORIGINAL_PORT = Reg(1), 0, 24, "BalanceTrack" => "Balance: protocol and port before translation";
    Built ANSWER_MAC_HIGH = Reg(2), 0, 16, "Neighbour" => "NeighbourReply: MAC of the address asked for, upper part";
    Built ANSWER_ROUTER = Reg(2), 16, 1, "Neighbour, RouterNeighbour" => "NeighbourReply: the address is a router's";
    Built ANSWER_MAC_LOW = Reg(3), 0, 32, "Neighbour" => "NeighbourReply: its lower part";
    Built NEXT_HOP = Reg(4), 0, 32, "Route, RoutePolicy" => "NextHop: address of the next hop";
    Built NEXT_HOP_1 = Reg(5), 0, 32, "Route, RoutePolicy" => "NextHop: the same";
    Built NEXT_HOP_2 = Reg(6), 0, 32, "Route, RoutePolicy" => "NextHop: the same";
    Built NEXT_HOP_3 = Reg(7), 0, 32, "Route, RoutePolicy" => "NextHop: its last part; IPv4 has zeros before";
    Built CHUNK = Reg(8), 0, 16, "Flood" => "FloodPorts: chunk of a group's local ports";
    Built ROUTE_TABLE = Reg(8), 16, 16, "RouterAdmit" => "Route: the ingress port has a route table of its own";
    Built TUNNEL = Reg(9), 0, 16, "Forward, Output" => "TunnelOut: OpenFlow port of the tunnel";
    Built POLICY_CHAIN = Reg(9), 16, 16, "RoutePolicy" => "RoutePolicy: chain of policies that is asked";
    Built FLAG_LOOPBACK = Reg(10), 0, 1, "RouterInput, Hairpin" => "Output: may leave by the port it came from";
    Built FLAG_SIZE_CHECKED = Reg(10), 1, 1, "RouterLarge" => "RouterLarge: its length has been looked at";
    Built FLAG_PKT_LARGER = Reg(10), 2, 1, "RouterLarge" => "RouterLarge: above the MTU";
    Built FLAG_NEIGHBOUR_KNOWN = Reg(10), 3, 1, "RouterNeighbour" => "RouterNeighbour: its sender is known, or the agent was told";
    Built FLAG_EGRESS_LOOPBACK = Reg(10), 4, 1, "RouterOut" => "RouterInput: may come from an address of the router";
    Built FLAG_FORCE_SNAT = Reg(10), 5, 1, "RouterTrack, RouterTranslate" => "RouterSource";
    Planned FLAG_SKIP_SNAT = Reg(10), 6, 1, "RouterTranslate" => "RouterSource";
    Built FLAG_PKT_SAMPLED = Reg(10), 7, 1, "FromPolicy, AfterPolicy, ToPolicy" => "the same: what is established is sampled once";
    Built WAY = Reg(10), 12, 2, "Route, Output" => "Route, Output: whether it was asked by which way the connection goes";
    Built FLAG_FROM_TUNNEL = Reg(10), 16, 1, "Classify" => "Output, FloodPorts: never sent into a tunnel, or to a localport";
    Built FLAG_FROM_LOCALPORT = Reg(10), 17, 1, "Classify" => "Output, FloodPorts: not to the physical network";
    Built FLAG_FROM_LOCALNET = Reg(10), 18, 1, "Classify" => "Neighbour: answered only where the address is";
    Built FLAG_FROM_ROUTER = Reg(10), 19, 1, "Output, Deliver" => "Output: not flooded to other routers";
    Built CHOSEN_WAY = Reg(11), 0, 16, "Route" => "Route: which of equal routes was chosen by fields that they name; 0 elsewhere";
    Built LABEL = Reg(12), 0, 32, "FromPolicy, AfterPolicy, ToPolicy" => "FromVerdict, AfterVerdict, ToVerdict: label of the connection";
    Built PORT_ZONE = Reg(13), 0, 16, "FromTrack, ToTrack" => "FromVerdict, AfterVerdict, ToVerdict: zone of the port";
    Built IN_PORT = Reg(14), 0, 32, "Classify" => "key of the port a packet came from";
    Built OUT_PORT = Reg(15), 0, 32, "Forward, Classify" => "key of the port or group it goes to";
    Built MARK_BLOCKED = CtMark, 0, 1, "FromVerdict, AfterVerdict, ToVerdict" => "the same, FromPolicy, AfterPolicy, ToPolicy: a rule forbade the connection later";
    Planned MARK_TRANSLATED = CtMark, 1, 1, "Balance" => "Hairpin: made by a load balancer";
    Planned MARK_SKIP_SNAT = CtMark, 2, 1, "RouterTranslate" => "RouterSource";
    Planned MARK_FORCE_SNAT = CtMark, 3, 1, "RouterTranslate" => "RouterSource";
    Built MARK_ALLOW_ESTABLISHED = CtMark, 6, 1, "FromVerdict, AfterVerdict, ToVerdict" => "FromPolicy, AfterPolicy, ToPolicy: allowed whatever rules say now";
    Built MARK_SAMPLED = CtMark, 7, 1, "FromVerdict, AfterVerdict, ToVerdict" => "FromPolicy, AfterPolicy, ToPolicy: its label says where its packets are sampled";
    Built MARK_REPLY_PORT = CtMark, 16, 16, "Route, Output" => "Route: replies leave by the port of the request";
}

/// Zones of connection tracking.
pub const ZONES: &[(&str, &str, Status)] = &[
    (
        "port",
        "one for each port here: as in OVN, what the sender's and what the receiver's rules decided is kept apart",
        Status::Built,
    ),
    (
        "router",
        "two for each router with translation here, one for destinations and one for sources",
        Status::Built,
    ),
    (
        "way",
        "one for each gateway router with symmetric replies here: by which port and MAC a connection came",
        Status::Built,
    ),
];

/// What a rule says; see [`super::stage::filter`].
pub const VERDICT: Subfield = Field::reg(0).range(0, 3);
/// Tier of rules that is asked.
pub const TIER: Subfield = Field::reg(0).range(3, 2);
/// The connection is to be kept, once later rules agree, and is written anew if it is known.
pub const COMMIT: Subfield = Field::reg(0).bit(5);
/// The connection outlives its rule.
pub const PERSIST: Subfield = Field::reg(0).bit(6);
/// The label says where the connection's packets are sampled.
pub const SAMPLED: Subfield = Field::reg(0).bit(7);
/// What a connection keeps beside its label: [`PERSIST`] and [`SAMPLED`].
pub const KEPT: Subfield = Field::reg(0).range(6, 2);
/// The switch does not track connections.
pub const STATELESS: Subfield = Field::reg(0).bit(8);
/// Always 0.
pub const AGAIN: Subfield = Field::reg(0).range(9, 7);
/// Always 0.
pub const LIST: Subfield = Field::reg(0).range(16, 16);
/// Which of equal routes was chosen: [`WAY_IS_CHOSEN`] and its place among them.
pub const CHOSEN_WAY: Subfield = Field::reg(11).range(0, 16);
/// The part of [`CHOSEN_WAY`] that has the place.
pub const CHOSEN_PLACE: Subfield = Field::reg(11).range(0, 15);
/// Set in [`CHOSEN_WAY`] once one is chosen.
pub const WAY_IS_CHOSEN: u16 = 0x8000;
/// Label of the connection.
pub const LABEL: Subfield = Field::reg(12).range(0, 32);
/// Zone of the port.
pub const PORT_ZONE: Subfield = Field::reg(13).range(0, 16);
/// A rule forbade the connection after it was made.
pub const MARK_BLOCKED: Subfield = field::CT_MARK.bit(0);
/// Allowed whatever the rules say now.
pub const MARK_ALLOW_ESTABLISHED: Subfield = field::CT_MARK.bit(6);
/// Its label says where its packets are sampled.
pub const MARK_SAMPLED: Subfield = field::CT_MARK.bit(7);
/// [`KEPT`] in a connection.
pub const MARK_KEPT: Subfield = field::CT_MARK.range(6, 2);
/// Where a connection keeps its label.
pub const CT_LABEL: Subfield = field::CT_LABEL.range(96, 32);
/// Port that a connection came by, or was routed by.
pub const MARK_REPLY_PORT: Subfield = field::CT_MARK.range(16, 16);
/// MAC at the other end of that, as in OVN.
pub const LABEL_REPLY_MAC: Subfield = field::CT_LABEL.range(32, 48);
/// Key of the switch.
pub const SWITCH: Subfield = field::METADATA.range(0, 24);
/// Key of the ingress port.
pub const IN_PORT: Field = Field::reg(14);
/// Key of the egress port or group.
pub const OUT_PORT: Field = Field::reg(15);
/// The part of `IN_PORT` that a key can fill and a tunnel header carries.
pub const IN_PORT_KEY: Subfield = IN_PORT.range(0, 15);
/// The part of `OUT_PORT` that a key can fill and a tunnel header carries.
pub const OUT_PORT_KEY: Subfield = OUT_PORT.range(0, 16);
/// A neighbour's MAC, in registers 2 and 3.
pub const ANSWER_MAC: Subfield = Field::xreg(1).range(0, 48);
/// The address asked for is a router's, which neighbour advertisements say.
pub const ANSWER_ROUTER: Subfield = Field::reg(2).bit(16);
/// Chunk of a group.
pub const CHUNK: Subfield = Field::reg(8).range(0, 16);
/// OpenFlow port of a tunnel.
pub const TUNNEL: Subfield = Field::reg(9).range(0, 16);
/// Came from a tunnel, or from a port that must not reach other hypervisors.
pub const FROM_TUNNEL: Subfield = Field::reg(10).bit(16);
/// Came from a localport.
pub const FROM_LOCALPORT: Subfield = Field::reg(10).bit(17);
/// Came from a physical network.
pub const FROM_LOCALNET: Subfield = Field::reg(10).bit(18);
/// Came into the switch from a router.
pub const FROM_ROUTER: Subfield = Field::reg(10).bit(19);
/// Address of the next hop, in registers 4 to 7; see [`next_hop`].
pub const NEXT_HOP: Field = Field::xxreg(1);
/// The part of [`NEXT_HOP`] that an IPv4 address fills.
pub const NEXT_HOP_V4: Subfield = Field::reg(7).range(0, 32);
/// Not 0 where the port that a packet came by has a route table of its own.
pub const ROUTE_TABLE: Subfield = Field::reg(8).range(16, 16);
/// Chain of policies that is asked.
pub const POLICY_CHAIN: Subfield = Field::reg(9).range(16, 16);
/// May leave by the port it came from.
pub const LOOPBACK: Subfield = Field::reg(10).bit(0);
/// Its length has been looked at.
pub const SIZE_CHECKED: Subfield = Field::reg(10).bit(1);
/// Larger than the MTU of the port that it leaves by, or came by.
pub const PKT_LARGER: Subfield = Field::reg(10).bit(2);
/// The sender of an ARP or ND packet is known as it is, or the agent was told of it.
pub const NEIGHBOUR_KNOWN: Subfield = Field::reg(10).bit(3);
/// Came back from the router's egress: its source may be an address of the router.
pub const EGRESS_LOOPBACK: Subfield = Field::reg(10).bit(4);
/// Has been sampled on this hypervisor since it came into the switch.
pub const PKT_SAMPLED: Subfield = Field::reg(10).bit(7);
/// Whether it was asked by which way the connection goes.
pub const WAY: Subfield = Field::reg(10).range(12, 2);
/// Its source is to be translated whatever rules say.
pub const FORCE_SNAT: Subfield = Field::reg(10).bit(5);
/// Its source is not to be translated.
pub const SKIP_SNAT: Subfield = Field::reg(10).bit(6);

/// An address as [`NEXT_HOP`] holds it. No IPv6 host has an address that begins with 96 zeros.
pub fn next_hop(ip: std::net::IpAddr) -> u128 {
    match ip {
        std::net::IpAddr::V4(ip) => u32::from(ip).into(),
        std::net::IpAddr::V6(ip) => ip.into(),
    }
}

/// Group key of all enabled ports.
pub const GROUP_FLOOD: u16 = 0x8000;
/// Group key of the ports with unknown addresses.
pub const GROUP_UNKNOWN: u16 = 0x8001;

const _: () = assert!(
    KEPT.offset == PERSIST.offset && SAMPLED.offset == PERSIST.offset + 1 && KEPT.bits == 2,
    "a connection keeps both by one action"
);
const _: () = assert!(
    MARK_KEPT.offset == MARK_ALLOW_ESTABLISHED.offset && MARK_SAMPLED.offset == MARK_KEPT.offset + 1,
    "a connection keeps both by one action"
);

const _: () = {
    let mut a = 0;
    while a < BITS.len() {
        let mut b = a + 1;
        while b < BITS.len() {
            assert!(!overlap(&BITS[a], &BITS[b]), "two declarations share bits");
            b += 1;
        }
        a += 1;
    }
};

const fn overlap(a: &Bits, b: &Bits) -> bool {
    let same = match (a.place, b.place) {
        (Metadata, Metadata) | (CtMark, CtMark) => true,
        (Reg(a), Reg(b)) => a == b,
        _ => false,
    };
    same && a.offset < b.offset + b.bits && b.offset < a.offset + a.bits
}
