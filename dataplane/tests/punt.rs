//! DHCP answers, read back by a codec that is not ours; and packets that no guest should send.
#![allow(clippy::unwrap_used)] // a test fails by panicking, its helpers too

mod controller;

use std::{net::Ipv4Addr, sync::Arc, time::Instant};

use dhcproto::{
    Decodable, Decoder,
    v4::{self, DhcpOption, MessageType, OptionCode},
};
use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use ofpacket::{Action, Match, PacketIn2, Port};
use proptest::prelude::*;
use quantumnet_dataplane::{
    compile::{
        punt::{Punt, PuntReason},
        table::Table,
    },
    punt::{
        Punts, Verdict,
        dhcp::{Offer, OfferError, Unanswered},
    },
};
use quantumnet_model::{
    Rows,
    nb::{DhcpOptions, LogicalSwitchPort},
};

const CLIENT: [u8; 6] = [0x0a, 0, 0, 0, 0, 5];
const SERVER: [u8; 6] = [0x0a, 0xdd, 0, 0, 0, 1];
const BASIC: &[(&str, &str)] =
    &[("server_id", "10.0.0.254"), ("server_mac", "0a:dd:00:00:00:01"), ("lease_time", "3600")];

fn map(pairs: &[(&str, &str)]) -> imbl::OrdMap<Arc<str>, Arc<str>> {
    pairs.iter().map(|(key, value)| (Arc::from(*key), Arc::from(*value))).collect()
}

fn offer_for(
    addresses: &[&str],
    port: &[(&str, &str)],
    options: &[(&str, &str)],
) -> Result<Offer, OfferError> {
    let port = LogicalSwitchPort { options: map(port), ..LogicalSwitchPort::default() };
    let given = DhcpOptions { cidr: "10.0.0.0/24".into(), options: map(options), ..DhcpOptions::default() };
    Offer::new(&port, addresses.iter().copied(), &given)
}

fn offer(more: &[(&str, &str)]) -> Offer {
    let options = [BASIC, more].concat();
    offer_for(&["unknown", "0a:00:00:00:00:05 fd00::5 192.168.0.5 10.0.0.5"], &[], &options).unwrap()
}

/// A client's frame; `options` come after the message type.
fn frame(kind: u8, ciaddr: [u8; 4], flags: u8, options: &[u8]) -> Vec<u8> {
    let mut message = vec![0; 236];
    message[..4].copy_from_slice(&[1, 1, 6, 0]);
    message[4..8].copy_from_slice(&[1, 2, 3, 4]);
    message[10] = flags;
    message[12..16].copy_from_slice(&ciaddr);
    message[28..34].copy_from_slice(&CLIENT);
    message.extend_from_slice(&[99, 130, 83, 99, 53, 1, kind]);
    message.extend_from_slice(options);
    message.push(255);
    let builder = PacketBuilder::ethernet2(CLIENT, [0xff; 6]).ipv4([0; 4], [255; 4], 64).udp(68, 67);
    let mut frame = Vec::new();
    builder.write(&mut frame, &message).unwrap();
    frame
}

struct Reply {
    to_mac: [u8; 6],
    from: Ipv4Addr,
    to: Ipv4Addr,
    message: v4::Message,
    options: Vec<u8>,
}

fn read(frame: &[u8]) -> Reply {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let ethernet = packet.link.as_ref().unwrap().to_header().unwrap().ethernet2().unwrap();
    assert_eq!(ethernet.source, SERVER);
    let Some(NetSlice::Ipv4(ip)) = &packet.net else { panic!("IPv4") };
    let Some(TransportSlice::Udp(udp)) = &packet.transport else { panic!("UDP") };
    assert_eq!((udp.source_port(), udp.destination_port()), (67, 68));
    let message = v4::Message::decode(&mut Decoder::new(udp.payload())).unwrap();
    assert_eq!((message.xid(), message.opcode()), (0x0102_0304, v4::Opcode::BootReply));
    assert_eq!(message.chaddr(), CLIENT);
    Reply {
        to_mac: ethernet.destination,
        from: ip.header().source_addr(),
        to: ip.header().destination_addr(),
        message,
        options: udp.payload()[240..].to_vec(),
    }
}

fn kind(reply: &Reply) -> MessageType {
    reply.message.opts().msg_type().unwrap()
}

const REQUESTED: &[u8] = &[50, 4, 10, 0, 0, 5];

#[test]
fn every_kind_of_request_has_its_answer() {
    let offer = offer(&[("router", "10.0.0.254"), ("next_server", "10.0.0.9"), ("T1", "5")]);
    let nobody = [0; 4];
    let own = [10, 0, 0, 5];
    for (name, frame, expected, yiaddr) in [
        ("discover", frame(1, nobody, 0, &[]), MessageType::Offer, own),
        (
            "selecting",
            frame(3, nobody, 0, &[REQUESTED, &[54, 4, 10, 0, 0, 254]].concat()),
            MessageType::Ack,
            own,
        ),
        ("rebooting", frame(3, nobody, 0, REQUESTED), MessageType::Ack, own),
        ("renewing or rebinding", frame(3, own, 0, &[]), MessageType::Ack, own),
        ("wrong address", frame(3, nobody, 0, &[50, 4, 10, 0, 0, 66]), MessageType::Nak, nobody),
        ("wrong renewal", frame(3, [10, 0, 0, 66], 0, &[]), MessageType::Nak, nobody),
        ("no address", frame(3, nobody, 0, &[]), MessageType::Nak, nobody),
        ("inform", frame(8, own, 0, &[]), MessageType::Ack, nobody),
    ] {
        let reply = read(&offer.answer(&frame).unwrap());
        assert_eq!((kind(&reply), reply.message.yiaddr().octets()), (expected, yiaddr), "{name}");
        assert_eq!((reply.to_mac, reply.from), (CLIENT, Ipv4Addr::new(10, 0, 0, 254)), "{name}");
        assert_eq!(reply.to.octets(), own, "{name}");
        let leased = reply.message.opts().get(OptionCode::AddressLeaseTime).is_some();
        assert_eq!(leased, expected != MessageType::Nak && name != "inform", "{name}");
        let routed = reply.message.opts().get(OptionCode::Router).is_some();
        assert_eq!(routed, expected != MessageType::Nak, "{name}");
        let next = if expected == MessageType::Nak || name == "inform" { [0; 4] } else { [10, 0, 0, 9] };
        assert_eq!(reply.message.siaddr().octets(), next, "{name}");
    }
    for kind in [4, 7] {
        assert_eq!(offer.answer(&frame(kind, own, 0, &[])), Err(Unanswered::NoAnswer));
    }
    assert_eq!(offer.answer(&frame(9, own, 0, &[])), Err(Unanswered::MessageType));
}

#[test]
fn a_client_that_asks_for_broadcast_gets_it() {
    let reply = read(&offer(&[]).answer(&frame(1, [0; 4], 0x80, &[])).unwrap());
    assert_eq!(reply.to, Ipv4Addr::BROADCAST);
}

#[test]
fn options_stand_in_order_with_the_padding_of_ovn() {
    let offer = offer(&[("router", "10.0.0.254"), ("mtu", "1400"), ("bootfile_name", "\"a\"")]);
    let reply = read(&offer.answer(&frame(1, [0; 4], 0, &[])).unwrap());
    let expected: &[&[u8]] = &[
        &[53, 1, 2],
        &[67, 1, b'a'],
        &[51, 4, 0, 0, 14, 16],
        &[26, 2, 5, 120],
        &[1, 4, 255, 255, 255, 0],
        &[3, 4, 10, 0, 0, 254],
        &[54, 4, 10, 0, 0, 254],
        &[0, 0, 0, 0, 255, 0, 0, 0, 0],
    ];
    assert_eq!(reply.options, expected.concat());
}

#[test]
fn who_is_no_ipxe_yet_gets_the_alternative_boot_file() {
    let both = &[("bootfile_name", "\"a\""), ("bootfile_name_alt", "\"b\"")][..];
    let ipxe = &[175, 1, 0][..];
    for (given, options, expected) in [
        (both, &[][..], b"b"),
        (both, ipxe, b"a"),
        (&both[..1], &[], b"a"),
        (&both[..1], ipxe, b"a"),
        (&both[1..], &[], b"b"),
        (&both[1..], ipxe, b"b"),
    ] {
        let reply = read(&offer(given).answer(&frame(1, [0; 4], 0, options)).unwrap());
        let found = reply.message.opts().get(OptionCode::BootfileName);
        assert_eq!(found, Some(&DhcpOption::BootfileName(expected.to_vec())), "{given:?} {options:?}");
        assert!(!reply.options.windows(2).any(|pair| pair == [254, 1]));
    }
}

#[test]
fn the_next_server_is_an_option_too() {
    let reply = read(&offer(&[("next_server", "10.0.0.9")]).answer(&frame(1, [0; 4], 0, &[])).unwrap());
    assert!(reply.options.windows(6).any(|option| option == [253, 4, 10, 0, 0, 9]), "{:?}", reply.options);
}

#[test]
fn the_ports_own_host_name_wins() {
    let options = [BASIC, &[("hostname", "\"common\"")]].concat();
    let offer = offer_for(&["0a:00:00:00:00:05 10.0.0.5"], &[("hostname", "\"special\"")], &options).unwrap();
    let reply = read(&offer.answer(&frame(1, [0; 4], 0, &[])).unwrap());
    assert_eq!(reply.message.opts().get(OptionCode::Hostname), Some(&DhcpOption::Hostname("special".into())));
}

#[test]
fn half_a_configuration_offers_nothing() {
    let mac = &["0a:00:00:00:00:05 10.0.0.5"][..];
    let missing = |name| Err(OfferError::Missing { name });
    assert_eq!(offer_for(mac, &[], &BASIC[1..]), missing("server_id"));
    assert_eq!(offer_for(mac, &[], &BASIC[..2]), missing("lease_time"));
    assert!(matches!(
        offer_for(&["0a:00:00:00:00:05 10.1.0.5"], &[], BASIC),
        Err(OfferError::NoAddress { .. })
    ));
    let unknown = [BASIC, &[("rooter", "10.0.0.1")]].concat();
    assert!(matches!(offer_for(mac, &[], &unknown), Err(OfferError::Option(_))));
}

/// A packet-in of the port's DHCP punt.
fn punted(frame: Vec<u8>) -> PacketIn2 {
    let punt = Punt { reason: PuntReason::Dhcpv4, row: controller::id(controller::PORT, 1) };
    PacketIn2 {
        data: Some(frame.into()),
        metadata: Some(Match::new().in_port(Port(9))),
        userdata: Some(Box::new(punt.encode())),
        ..PacketIn2::default()
    }
}

#[test]
fn what_is_not_answered_goes_on() {
    let mut rows = Rows::default();
    controller::network(&mut rows, 1);
    controller::port(&mut rows, 1, 1, false);
    let mut punts = Punts::default();
    let now = Instant::now();
    let discover = frame(1, [0; 4], 0, &[]);
    assert!(matches!(punts.handle(now, &rows, &punted(discover.clone())), Verdict::Answer(_)));

    // RELEASE, by broadcast and to the server.
    let release = frame(7, [10, 0, 0, 1], 0, &[]);
    let mut unicast = release.clone();
    unicast[..6].copy_from_slice(&SERVER);
    for (frame, to) in [(release, Table::Output), (unicast, Table::Forward)] {
        let Verdict::Onward(packet, "no_answer") = punts.handle(now, &rows, &punted(frame.clone())) else {
            panic!("onward");
        };
        assert_eq!((packet.in_port, &*packet.data), (Port(9), frame.as_slice()));
        assert_eq!(packet.actions.last(), Some(&Action::resubmit(to.number())));
    }

    // Nothing that the configuration can't be encoded for is lost either.
    let (uuid, right) = rows.iter::<DhcpOptions>().next().map(|(uuid, row)| (uuid, row.clone())).unwrap();
    let options = right.options.update("rooter".into(), "10.0.0.1".into());
    controller::put(&mut rows, uuid, DhcpOptions { options, ..right });
    let verdict = punts.handle(now, &rows, &punted(discover.clone()));
    assert!(matches!(verdict, Verdict::Onward(_, "bad_options")));
    // One that was cut can't go on whole.
    let cut = PacketIn2 { full_len: Some(9_000), ..punted(discover) };
    assert!(matches!(punts.handle(now, &rows, &cut), Verdict::Nothing("bad_options")));
}

#[test]
fn malformed_packets_are_told_apart() {
    let offer = offer(&[]);
    let good = frame(1, [0; 4], 0, &[]);
    assert_eq!(offer.answer(&[]), Err(Unanswered::NotUdp));
    assert_eq!(offer.answer(&good[..60]), Err(Unanswered::NotUdp));
    let mut reply = good.clone();
    reply[42] = 2;
    assert_eq!(offer.answer(&reply), Err(Unanswered::NotRequest));
    assert_eq!(offer.answer(&frame(1, [0; 4], 0, &[50, 200])), Err(Unanswered::Options));
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(
        noise in prop::collection::vec(any::<u8>(), 0..700),
        options in prop::collection::vec(any::<u8>(), 0..64),
        cut in 0..700usize,
        flips in prop::collection::vec((0..400usize, any::<u8>()), 0..8),
    ) {
        let offer = offer(&[]);
        let _ = offer.answer(&noise);
        let mut frame = frame(1, [0; 4], 0, &options);
        for (at, byte) in flips {
            if let Some(place) = frame.get_mut(at) {
                *place ^= byte;
            }
        }
        frame.truncate(cut);
        let _ = offer.answer(&frame);
    }
}
