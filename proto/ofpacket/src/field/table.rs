//! The table of fields: name, bytes, bits, printed form, prerequisite, NXM numbers, OXM numbers.
//!
//! Numbers as in `ovs-fields(7)` and OpenFlow 1.3.5, section 7.2.3.7; of several OXM numbers the first is that of
//! OpenFlow 1.3.

use super::{Field, Format, Info, Numbers, Prerequisite};

/// Declares the fields: a constant each, and the table behind them.
macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $bytes:literal, $bits:literal, $format:ident, $needs:ident,
        [$($nxm:ident = ($nc:literal, $nn:literal, $ne:literal)),*],
        [$($oxm:ident = ($oc:literal, $on:literal, $oe:literal)),*];)*) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms, reason = "the names are those of the constants")]
        #[derive(Clone, Copy)]
        pub(super) enum Rank { $($name),* }

        pub(super) const TABLE: &[Info] = &[$(Info {
            name: $text,
            bytes: $bytes,
            bits: $bits,
            format: Format::$format,
            needs: Prerequisite::$needs,
            nxm: &[$(Numbers { name: stringify!($nxm), class: $nc, number: $nn, experimenter: $ne }),*],
            oxm: &[$(Numbers { name: stringify!($oxm), class: $oc, number: $on, experimenter: $oe }),*],
        }),*];

        $($(#[$doc])* pub const $name: Field = Field::declared(Rank::$name as u16);)*

        /// Every declared field, in table order.
        pub const ALL: &[Field] = &[$($name),*];
    };
}

fields! {
    /// Type of the outermost header; absent means Ethernet (OpenFlow 1.5).
    PACKET_TYPE = "packet_type", 4, 32, PacketType, None, [], [OXM_OF_PACKET_TYPE = (0x8000, 44, 0x0)];
    /// Hash the datapath computed for a select group.
    DP_HASH = "dp_hash", 4, 32, Hex, None, [NXM_NX_DP_HASH = (0x0001, 35, 0x0)], [NXOXM_ET_DP_HASH = (0xffff, 0, 0x2320)];
    /// Recirculation round of the packet.
    RECIRC_ID = "recirc_id", 4, 32, Decimal, None, [NXM_NX_RECIRC_ID = (0x0001, 36, 0x0)], [];
    /// Conjunction whose every dimension matched.
    CONJ_ID = "conj_id", 4, 32, Decimal, None, [NXM_NX_CONJ_ID = (0x0001, 37, 0x0)], [];
    /// Ingress port, 32 bits wide.
    IN_PORT = "in_port_oxm", 4, 32, Port32, None, [], [OXM_OF_IN_PORT = (0x8000, 0, 0x0)];
    /// Ingress port in its 16-bit form, for `move`, `load`, `push` and `learn`.
    NXM_IN_PORT = "in_port", 2, 16, Port16, None, [NXM_OF_IN_PORT = (0x0000, 0, 0x0)], [];
    /// Output port in the action set.
    ACTSET_OUTPUT = "actset_output", 4, 32, Port32, None, [], [ONFOXM_ET_ACTSET_OUTPUT = (0xffff, 43, 0x4f4e4600), OXM_OF_ACTSET_OUTPUT = (0x8000, 43, 0x0)];
    /// Ethernet source address.
    ETH_SRC = "eth_src", 6, 48, Mac, Ethernet, [NXM_OF_ETH_SRC = (0x0000, 2, 0x0)], [OXM_OF_ETH_SRC = (0x8000, 4, 0x0)];
    /// Ethernet destination address.
    ETH_DST = "eth_dst", 6, 48, Mac, Ethernet, [NXM_OF_ETH_DST = (0x0000, 1, 0x0)], [OXM_OF_ETH_DST = (0x8000, 3, 0x0)];
    /// Ethernet type of the payload, after VLAN tags.
    ETH_TYPE = "eth_type", 2, 16, Hex, Ethernet, [NXM_OF_ETH_TYPE = (0x0000, 3, 0x0)], [OXM_OF_ETH_TYPE = (0x8000, 5, 0x0)];
    /// Whole VLAN tag; `Match` turns it into `VLAN_VID` and `VLAN_PCP`.
    NXM_VLAN_TCI = "vlan_tci", 2, 16, Hex, Ethernet, [NXM_OF_VLAN_TCI = (0x0000, 4, 0x0)], [];
    /// VLAN id; bit 12 says that a tag is present.
    VLAN_VID = "vlan_vid", 2, 12, Decimal, Ethernet, [], [OXM_OF_VLAN_VID = (0x8000, 6, 0x0)];
    /// VLAN priority.
    VLAN_PCP = "vlan_pcp", 1, 3, Decimal, VlanVid, [], [OXM_OF_VLAN_PCP = (0x8000, 7, 0x0)];
    /// Traffic class of the outermost MPLS label.
    MPLS_TC = "mpls_tc", 1, 3, Decimal, Mpls, [], [OXM_OF_MPLS_TC = (0x8000, 35, 0x0)];
    /// Bottom-of-stack bit of the outermost MPLS label.
    MPLS_BOS = "mpls_bos", 1, 1, Decimal, Mpls, [], [OXM_OF_MPLS_BOS = (0x8000, 36, 0x0)];
    /// TTL of the outermost MPLS label.
    MPLS_TTL = "mpls_ttl", 1, 8, Decimal, Mpls, [NXM_NX_MPLS_TTL = (0x0001, 30, 0x0)], [];
    /// Outermost MPLS label.
    MPLS_LABEL = "mpls_label", 4, 20, Decimal, Mpls, [], [OXM_OF_MPLS_LABEL = (0x8000, 34, 0x0)];
    /// IPv4 source address.
    IPV4_SRC = "ip_src", 4, 32, Ipv4, Ipv4, [NXM_OF_IP_SRC = (0x0000, 7, 0x0)], [OXM_OF_IPV4_SRC = (0x8000, 11, 0x0)];
    /// IPv4 destination address.
    IPV4_DST = "ip_dst", 4, 32, Ipv4, Ipv4, [NXM_OF_IP_DST = (0x0000, 8, 0x0)], [OXM_OF_IPV4_DST = (0x8000, 12, 0x0)];
    /// IPv6 source address.
    IPV6_SRC = "ipv6_src", 16, 128, Ipv6, Ipv6, [NXM_NX_IPV6_SRC = (0x0001, 19, 0x0)], [OXM_OF_IPV6_SRC = (0x8000, 26, 0x0)];
    /// IPv6 destination address.
    IPV6_DST = "ipv6_dst", 16, 128, Ipv6, Ipv6, [NXM_NX_IPV6_DST = (0x0001, 20, 0x0)], [OXM_OF_IPV6_DST = (0x8000, 27, 0x0)];
    /// IPv6 flow label.
    IPV6_LABEL = "ipv6_label", 4, 20, Hex, Ipv6, [NXM_NX_IPV6_LABEL = (0x0001, 27, 0x0)], [OXM_OF_IPV6_FLABEL = (0x8000, 28, 0x0)];
    /// IPv4 protocol or last IPv6 next header.
    IP_PROTO = "nw_proto", 1, 8, Decimal, Ip, [NXM_OF_IP_PROTO = (0x0000, 6, 0x0)], [OXM_OF_IP_PROTO = (0x8000, 10, 0x0)];
    /// DSCP in the upper six bits; `Match` turns it into `IP_DSCP`.
    NXM_IP_TOS = "nw_tos", 1, 8, Decimal, Ip, [NXM_OF_IP_TOS = (0x0000, 5, 0x0)], [];
    /// Differentiated services code point.
    IP_DSCP = "ip_dscp", 1, 6, Decimal, Ip, [], [OXM_OF_IP_DSCP = (0x8000, 8, 0x0)];
    /// Explicit congestion notification bits.
    IP_ECN = "nw_ecn", 1, 2, Decimal, Ip, [NXM_NX_IP_ECN = (0x0001, 28, 0x0)], [OXM_OF_IP_ECN = (0x8000, 9, 0x0)];
    /// IPv4 TTL or IPv6 hop limit.
    IP_TTL = "nw_ttl", 1, 8, Decimal, Ip, [NXM_NX_IP_TTL = (0x0001, 29, 0x0)], [];
    /// Fragment bits: 1 is a fragment, 2 is not the first.
    IP_FRAG = "ip_frag", 1, 2, Frag, Ip, [NXM_NX_IP_FRAG = (0x0001, 26, 0x0)], [];
    /// ARP operation.
    ARP_OP = "arp_op", 2, 16, Decimal, Arp, [NXM_OF_ARP_OP = (0x0000, 15, 0x0)], [OXM_OF_ARP_OP = (0x8000, 21, 0x0)];
    /// ARP sender protocol address.
    ARP_SPA = "arp_spa", 4, 32, Ipv4, Arp, [NXM_OF_ARP_SPA = (0x0000, 16, 0x0)], [OXM_OF_ARP_SPA = (0x8000, 22, 0x0)];
    /// ARP target protocol address.
    ARP_TPA = "arp_tpa", 4, 32, Ipv4, Arp, [NXM_OF_ARP_TPA = (0x0000, 17, 0x0)], [OXM_OF_ARP_TPA = (0x8000, 23, 0x0)];
    /// ARP sender hardware address.
    ARP_SHA = "arp_sha", 6, 48, Mac, Arp, [NXM_NX_ARP_SHA = (0x0001, 17, 0x0)], [OXM_OF_ARP_SHA = (0x8000, 24, 0x0)];
    /// ARP target hardware address.
    ARP_THA = "arp_tha", 6, 48, Mac, Arp, [NXM_NX_ARP_THA = (0x0001, 18, 0x0)], [OXM_OF_ARP_THA = (0x8000, 25, 0x0)];
    /// TCP source port.
    TCP_SRC = "tcp_src", 2, 16, Decimal, Tcp, [NXM_OF_TCP_SRC = (0x0000, 9, 0x0)], [OXM_OF_TCP_SRC = (0x8000, 13, 0x0)];
    /// TCP destination port.
    TCP_DST = "tcp_dst", 2, 16, Decimal, Tcp, [NXM_OF_TCP_DST = (0x0000, 10, 0x0)], [OXM_OF_TCP_DST = (0x8000, 14, 0x0)];
    /// UDP source port.
    UDP_SRC = "udp_src", 2, 16, Decimal, Udp, [NXM_OF_UDP_SRC = (0x0000, 11, 0x0)], [OXM_OF_UDP_SRC = (0x8000, 15, 0x0)];
    /// UDP destination port.
    UDP_DST = "udp_dst", 2, 16, Decimal, Udp, [NXM_OF_UDP_DST = (0x0000, 12, 0x0)], [OXM_OF_UDP_DST = (0x8000, 16, 0x0)];
    /// TCP flags, FIN in bit 0.
    TCP_FLAGS = "tcp_flags", 2, 12, TcpFlags, Tcp, [NXM_NX_TCP_FLAGS = (0x0001, 34, 0x0)], [ONFOXM_ET_TCP_FLAGS = (0xffff, 42, 0x4f4e4600), OXM_OF_TCP_FLAGS = (0x8000, 42, 0x0)];
    /// SCTP source port.
    SCTP_SRC = "sctp_src", 2, 16, Decimal, Sctp, [], [OXM_OF_SCTP_SRC = (0x8000, 17, 0x0)];
    /// SCTP destination port.
    SCTP_DST = "sctp_dst", 2, 16, Decimal, Sctp, [], [OXM_OF_SCTP_DST = (0x8000, 18, 0x0)];
    /// ICMP type.
    ICMPV4_TYPE = "icmp_type", 1, 8, Decimal, Icmpv4, [NXM_OF_ICMP_TYPE = (0x0000, 13, 0x0)], [OXM_OF_ICMPV4_TYPE = (0x8000, 19, 0x0)];
    /// ICMP code.
    ICMPV4_CODE = "icmp_code", 1, 8, Decimal, Icmpv4, [NXM_OF_ICMP_CODE = (0x0000, 14, 0x0)], [OXM_OF_ICMPV4_CODE = (0x8000, 20, 0x0)];
    /// ICMPv6 type.
    ICMPV6_TYPE = "icmpv6_type", 1, 8, Decimal, Icmpv6, [NXM_NX_ICMPV6_TYPE = (0x0001, 21, 0x0)], [OXM_OF_ICMPV6_TYPE = (0x8000, 29, 0x0)];
    /// ICMPv6 code.
    ICMPV6_CODE = "icmpv6_code", 1, 8, Decimal, Icmpv6, [NXM_NX_ICMPV6_CODE = (0x0001, 22, 0x0)], [OXM_OF_ICMPV6_CODE = (0x8000, 30, 0x0)];
    /// Neighbour discovery target address.
    ND_TARGET = "nd_target", 16, 128, Ipv6, Nd, [NXM_NX_ND_TARGET = (0x0001, 23, 0x0)], [OXM_OF_IPV6_ND_TARGET = (0x8000, 31, 0x0)];
    /// Source link-layer address option of a solicitation.
    ND_SLL = "nd_sll", 6, 48, Mac, NdSolicit, [NXM_NX_ND_SLL = (0x0001, 24, 0x0)], [OXM_OF_IPV6_ND_SLL = (0x8000, 32, 0x0)];
    /// Target link-layer address option of an advertisement.
    ND_TLL = "nd_tll", 6, 48, Mac, NdAdvert, [NXM_NX_ND_TLL = (0x0001, 25, 0x0)], [OXM_OF_IPV6_ND_TLL = (0x8000, 33, 0x0)];
    /// Flag word of a neighbour discovery message.
    ND_RESERVED = "nd_reserved", 4, 32, Decimal, Nd, [], [ERICOXM_OF_ICMPV6_ND_RESERVED = (0x1000, 1, 0x0)];
    /// First neighbour discovery option type.
    ND_OPTIONS_TYPE = "nd_options_type", 1, 8, Decimal, Nd, [], [ERICOXM_OF_ICMPV6_ND_OPTIONS_TYPE = (0x1000, 2, 0x0)];
    /// Tunnel key, for instance the VNI.
    TUNNEL_ID = "tun_id", 8, 64, Hex, None, [NXM_NX_TUN_ID = (0x0001, 16, 0x0)], [OXM_OF_TUNNEL_ID = (0x8000, 38, 0x0)];
    /// Tunnel flags; bit 0 is OAM.
    TUN_FLAGS = "tun_flags", 2, 1, TunnelFlags, None, [NXM_NX_TUN_FLAGS = (0x0001, 104, 0x0)], [];
    /// Outer IPv4 source.
    TUN_SRC = "tun_src", 4, 32, Ipv4, None, [NXM_NX_TUN_IPV4_SRC = (0x0001, 31, 0x0)], [];
    /// Outer IPv4 destination.
    TUN_DST = "tun_dst", 4, 32, Ipv4, None, [NXM_NX_TUN_IPV4_DST = (0x0001, 32, 0x0)], [];
    /// Outer IPv6 source.
    TUN_IPV6_SRC = "tun_ipv6_src", 16, 128, Ipv6, None, [NXM_NX_TUN_IPV6_SRC = (0x0001, 109, 0x0)], [];
    /// Outer IPv6 destination.
    TUN_IPV6_DST = "tun_ipv6_dst", 16, 128, Ipv6, None, [NXM_NX_TUN_IPV6_DST = (0x0001, 110, 0x0)], [];
    /// VXLAN group policy id.
    TUN_GBP_ID = "tun_gbp_id", 2, 16, Decimal, None, [NXM_NX_TUN_GBP_ID = (0x0001, 38, 0x0)], [];
    /// VXLAN group policy flags.
    TUN_GBP_FLAGS = "tun_gbp_flags", 1, 8, Hex, None, [NXM_NX_TUN_GBP_FLAGS = (0x0001, 39, 0x0)], [];
    /// Tunnel option mapped to slot 0; see `Field::of_width`.
    TUN_METADATA0 = "tun_metadata0", 124, 992, Hex, None, [NXM_NX_TUN_METADATA0 = (0x0001, 40, 0x0)], [];
    /// Tunnel option mapped to slot 1; see `Field::of_width`.
    TUN_METADATA1 = "tun_metadata1", 124, 992, Hex, None, [NXM_NX_TUN_METADATA1 = (0x0001, 41, 0x0)], [];
    /// Tunnel option mapped to slot 2; see `Field::of_width`.
    TUN_METADATA2 = "tun_metadata2", 124, 992, Hex, None, [NXM_NX_TUN_METADATA2 = (0x0001, 42, 0x0)], [];
    /// Tunnel option mapped to slot 3; see `Field::of_width`.
    TUN_METADATA3 = "tun_metadata3", 124, 992, Hex, None, [NXM_NX_TUN_METADATA3 = (0x0001, 43, 0x0)], [];
    /// Tunnel option mapped to slot 4; see `Field::of_width`.
    TUN_METADATA4 = "tun_metadata4", 124, 992, Hex, None, [NXM_NX_TUN_METADATA4 = (0x0001, 44, 0x0)], [];
    /// Tunnel option mapped to slot 5; see `Field::of_width`.
    TUN_METADATA5 = "tun_metadata5", 124, 992, Hex, None, [NXM_NX_TUN_METADATA5 = (0x0001, 45, 0x0)], [];
    /// Tunnel option mapped to slot 6; see `Field::of_width`.
    TUN_METADATA6 = "tun_metadata6", 124, 992, Hex, None, [NXM_NX_TUN_METADATA6 = (0x0001, 46, 0x0)], [];
    /// Tunnel option mapped to slot 7; see `Field::of_width`.
    TUN_METADATA7 = "tun_metadata7", 124, 992, Hex, None, [NXM_NX_TUN_METADATA7 = (0x0001, 47, 0x0)], [];
    /// Tunnel option mapped to slot 8; see `Field::of_width`.
    TUN_METADATA8 = "tun_metadata8", 124, 992, Hex, None, [NXM_NX_TUN_METADATA8 = (0x0001, 48, 0x0)], [];
    /// Tunnel option mapped to slot 9; see `Field::of_width`.
    TUN_METADATA9 = "tun_metadata9", 124, 992, Hex, None, [NXM_NX_TUN_METADATA9 = (0x0001, 49, 0x0)], [];
    /// Tunnel option mapped to slot 10; see `Field::of_width`.
    TUN_METADATA10 = "tun_metadata10", 124, 992, Hex, None, [NXM_NX_TUN_METADATA10 = (0x0001, 50, 0x0)], [];
    /// Tunnel option mapped to slot 11; see `Field::of_width`.
    TUN_METADATA11 = "tun_metadata11", 124, 992, Hex, None, [NXM_NX_TUN_METADATA11 = (0x0001, 51, 0x0)], [];
    /// Tunnel option mapped to slot 12; see `Field::of_width`.
    TUN_METADATA12 = "tun_metadata12", 124, 992, Hex, None, [NXM_NX_TUN_METADATA12 = (0x0001, 52, 0x0)], [];
    /// Tunnel option mapped to slot 13; see `Field::of_width`.
    TUN_METADATA13 = "tun_metadata13", 124, 992, Hex, None, [NXM_NX_TUN_METADATA13 = (0x0001, 53, 0x0)], [];
    /// Tunnel option mapped to slot 14; see `Field::of_width`.
    TUN_METADATA14 = "tun_metadata14", 124, 992, Hex, None, [NXM_NX_TUN_METADATA14 = (0x0001, 54, 0x0)], [];
    /// Tunnel option mapped to slot 15; see `Field::of_width`.
    TUN_METADATA15 = "tun_metadata15", 124, 992, Hex, None, [NXM_NX_TUN_METADATA15 = (0x0001, 55, 0x0)], [];
    /// Tunnel option mapped to slot 16; see `Field::of_width`.
    TUN_METADATA16 = "tun_metadata16", 124, 992, Hex, None, [NXM_NX_TUN_METADATA16 = (0x0001, 56, 0x0)], [];
    /// Tunnel option mapped to slot 17; see `Field::of_width`.
    TUN_METADATA17 = "tun_metadata17", 124, 992, Hex, None, [NXM_NX_TUN_METADATA17 = (0x0001, 57, 0x0)], [];
    /// Tunnel option mapped to slot 18; see `Field::of_width`.
    TUN_METADATA18 = "tun_metadata18", 124, 992, Hex, None, [NXM_NX_TUN_METADATA18 = (0x0001, 58, 0x0)], [];
    /// Tunnel option mapped to slot 19; see `Field::of_width`.
    TUN_METADATA19 = "tun_metadata19", 124, 992, Hex, None, [NXM_NX_TUN_METADATA19 = (0x0001, 59, 0x0)], [];
    /// Tunnel option mapped to slot 20; see `Field::of_width`.
    TUN_METADATA20 = "tun_metadata20", 124, 992, Hex, None, [NXM_NX_TUN_METADATA20 = (0x0001, 60, 0x0)], [];
    /// Tunnel option mapped to slot 21; see `Field::of_width`.
    TUN_METADATA21 = "tun_metadata21", 124, 992, Hex, None, [NXM_NX_TUN_METADATA21 = (0x0001, 61, 0x0)], [];
    /// Tunnel option mapped to slot 22; see `Field::of_width`.
    TUN_METADATA22 = "tun_metadata22", 124, 992, Hex, None, [NXM_NX_TUN_METADATA22 = (0x0001, 62, 0x0)], [];
    /// Tunnel option mapped to slot 23; see `Field::of_width`.
    TUN_METADATA23 = "tun_metadata23", 124, 992, Hex, None, [NXM_NX_TUN_METADATA23 = (0x0001, 63, 0x0)], [];
    /// Tunnel option mapped to slot 24; see `Field::of_width`.
    TUN_METADATA24 = "tun_metadata24", 124, 992, Hex, None, [NXM_NX_TUN_METADATA24 = (0x0001, 64, 0x0)], [];
    /// Tunnel option mapped to slot 25; see `Field::of_width`.
    TUN_METADATA25 = "tun_metadata25", 124, 992, Hex, None, [NXM_NX_TUN_METADATA25 = (0x0001, 65, 0x0)], [];
    /// Tunnel option mapped to slot 26; see `Field::of_width`.
    TUN_METADATA26 = "tun_metadata26", 124, 992, Hex, None, [NXM_NX_TUN_METADATA26 = (0x0001, 66, 0x0)], [];
    /// Tunnel option mapped to slot 27; see `Field::of_width`.
    TUN_METADATA27 = "tun_metadata27", 124, 992, Hex, None, [NXM_NX_TUN_METADATA27 = (0x0001, 67, 0x0)], [];
    /// Tunnel option mapped to slot 28; see `Field::of_width`.
    TUN_METADATA28 = "tun_metadata28", 124, 992, Hex, None, [NXM_NX_TUN_METADATA28 = (0x0001, 68, 0x0)], [];
    /// Tunnel option mapped to slot 29; see `Field::of_width`.
    TUN_METADATA29 = "tun_metadata29", 124, 992, Hex, None, [NXM_NX_TUN_METADATA29 = (0x0001, 69, 0x0)], [];
    /// Tunnel option mapped to slot 30; see `Field::of_width`.
    TUN_METADATA30 = "tun_metadata30", 124, 992, Hex, None, [NXM_NX_TUN_METADATA30 = (0x0001, 70, 0x0)], [];
    /// Tunnel option mapped to slot 31; see `Field::of_width`.
    TUN_METADATA31 = "tun_metadata31", 124, 992, Hex, None, [NXM_NX_TUN_METADATA31 = (0x0001, 71, 0x0)], [];
    /// Tunnel option mapped to slot 32; see `Field::of_width`.
    TUN_METADATA32 = "tun_metadata32", 124, 992, Hex, None, [NXM_NX_TUN_METADATA32 = (0x0001, 72, 0x0)], [];
    /// Tunnel option mapped to slot 33; see `Field::of_width`.
    TUN_METADATA33 = "tun_metadata33", 124, 992, Hex, None, [NXM_NX_TUN_METADATA33 = (0x0001, 73, 0x0)], [];
    /// Tunnel option mapped to slot 34; see `Field::of_width`.
    TUN_METADATA34 = "tun_metadata34", 124, 992, Hex, None, [NXM_NX_TUN_METADATA34 = (0x0001, 74, 0x0)], [];
    /// Tunnel option mapped to slot 35; see `Field::of_width`.
    TUN_METADATA35 = "tun_metadata35", 124, 992, Hex, None, [NXM_NX_TUN_METADATA35 = (0x0001, 75, 0x0)], [];
    /// Tunnel option mapped to slot 36; see `Field::of_width`.
    TUN_METADATA36 = "tun_metadata36", 124, 992, Hex, None, [NXM_NX_TUN_METADATA36 = (0x0001, 76, 0x0)], [];
    /// Tunnel option mapped to slot 37; see `Field::of_width`.
    TUN_METADATA37 = "tun_metadata37", 124, 992, Hex, None, [NXM_NX_TUN_METADATA37 = (0x0001, 77, 0x0)], [];
    /// Tunnel option mapped to slot 38; see `Field::of_width`.
    TUN_METADATA38 = "tun_metadata38", 124, 992, Hex, None, [NXM_NX_TUN_METADATA38 = (0x0001, 78, 0x0)], [];
    /// Tunnel option mapped to slot 39; see `Field::of_width`.
    TUN_METADATA39 = "tun_metadata39", 124, 992, Hex, None, [NXM_NX_TUN_METADATA39 = (0x0001, 79, 0x0)], [];
    /// Tunnel option mapped to slot 40; see `Field::of_width`.
    TUN_METADATA40 = "tun_metadata40", 124, 992, Hex, None, [NXM_NX_TUN_METADATA40 = (0x0001, 80, 0x0)], [];
    /// Tunnel option mapped to slot 41; see `Field::of_width`.
    TUN_METADATA41 = "tun_metadata41", 124, 992, Hex, None, [NXM_NX_TUN_METADATA41 = (0x0001, 81, 0x0)], [];
    /// Tunnel option mapped to slot 42; see `Field::of_width`.
    TUN_METADATA42 = "tun_metadata42", 124, 992, Hex, None, [NXM_NX_TUN_METADATA42 = (0x0001, 82, 0x0)], [];
    /// Tunnel option mapped to slot 43; see `Field::of_width`.
    TUN_METADATA43 = "tun_metadata43", 124, 992, Hex, None, [NXM_NX_TUN_METADATA43 = (0x0001, 83, 0x0)], [];
    /// Tunnel option mapped to slot 44; see `Field::of_width`.
    TUN_METADATA44 = "tun_metadata44", 124, 992, Hex, None, [NXM_NX_TUN_METADATA44 = (0x0001, 84, 0x0)], [];
    /// Tunnel option mapped to slot 45; see `Field::of_width`.
    TUN_METADATA45 = "tun_metadata45", 124, 992, Hex, None, [NXM_NX_TUN_METADATA45 = (0x0001, 85, 0x0)], [];
    /// Tunnel option mapped to slot 46; see `Field::of_width`.
    TUN_METADATA46 = "tun_metadata46", 124, 992, Hex, None, [NXM_NX_TUN_METADATA46 = (0x0001, 86, 0x0)], [];
    /// Tunnel option mapped to slot 47; see `Field::of_width`.
    TUN_METADATA47 = "tun_metadata47", 124, 992, Hex, None, [NXM_NX_TUN_METADATA47 = (0x0001, 87, 0x0)], [];
    /// Tunnel option mapped to slot 48; see `Field::of_width`.
    TUN_METADATA48 = "tun_metadata48", 124, 992, Hex, None, [NXM_NX_TUN_METADATA48 = (0x0001, 88, 0x0)], [];
    /// Tunnel option mapped to slot 49; see `Field::of_width`.
    TUN_METADATA49 = "tun_metadata49", 124, 992, Hex, None, [NXM_NX_TUN_METADATA49 = (0x0001, 89, 0x0)], [];
    /// Tunnel option mapped to slot 50; see `Field::of_width`.
    TUN_METADATA50 = "tun_metadata50", 124, 992, Hex, None, [NXM_NX_TUN_METADATA50 = (0x0001, 90, 0x0)], [];
    /// Tunnel option mapped to slot 51; see `Field::of_width`.
    TUN_METADATA51 = "tun_metadata51", 124, 992, Hex, None, [NXM_NX_TUN_METADATA51 = (0x0001, 91, 0x0)], [];
    /// Tunnel option mapped to slot 52; see `Field::of_width`.
    TUN_METADATA52 = "tun_metadata52", 124, 992, Hex, None, [NXM_NX_TUN_METADATA52 = (0x0001, 92, 0x0)], [];
    /// Tunnel option mapped to slot 53; see `Field::of_width`.
    TUN_METADATA53 = "tun_metadata53", 124, 992, Hex, None, [NXM_NX_TUN_METADATA53 = (0x0001, 93, 0x0)], [];
    /// Tunnel option mapped to slot 54; see `Field::of_width`.
    TUN_METADATA54 = "tun_metadata54", 124, 992, Hex, None, [NXM_NX_TUN_METADATA54 = (0x0001, 94, 0x0)], [];
    /// Tunnel option mapped to slot 55; see `Field::of_width`.
    TUN_METADATA55 = "tun_metadata55", 124, 992, Hex, None, [NXM_NX_TUN_METADATA55 = (0x0001, 95, 0x0)], [];
    /// Tunnel option mapped to slot 56; see `Field::of_width`.
    TUN_METADATA56 = "tun_metadata56", 124, 992, Hex, None, [NXM_NX_TUN_METADATA56 = (0x0001, 96, 0x0)], [];
    /// Tunnel option mapped to slot 57; see `Field::of_width`.
    TUN_METADATA57 = "tun_metadata57", 124, 992, Hex, None, [NXM_NX_TUN_METADATA57 = (0x0001, 97, 0x0)], [];
    /// Tunnel option mapped to slot 58; see `Field::of_width`.
    TUN_METADATA58 = "tun_metadata58", 124, 992, Hex, None, [NXM_NX_TUN_METADATA58 = (0x0001, 98, 0x0)], [];
    /// Tunnel option mapped to slot 59; see `Field::of_width`.
    TUN_METADATA59 = "tun_metadata59", 124, 992, Hex, None, [NXM_NX_TUN_METADATA59 = (0x0001, 99, 0x0)], [];
    /// Tunnel option mapped to slot 60; see `Field::of_width`.
    TUN_METADATA60 = "tun_metadata60", 124, 992, Hex, None, [NXM_NX_TUN_METADATA60 = (0x0001, 100, 0x0)], [];
    /// Tunnel option mapped to slot 61; see `Field::of_width`.
    TUN_METADATA61 = "tun_metadata61", 124, 992, Hex, None, [NXM_NX_TUN_METADATA61 = (0x0001, 101, 0x0)], [];
    /// Tunnel option mapped to slot 62; see `Field::of_width`.
    TUN_METADATA62 = "tun_metadata62", 124, 992, Hex, None, [NXM_NX_TUN_METADATA62 = (0x0001, 102, 0x0)], [];
    /// Tunnel option mapped to slot 63; see `Field::of_width`.
    TUN_METADATA63 = "tun_metadata63", 124, 992, Hex, None, [NXM_NX_TUN_METADATA63 = (0x0001, 103, 0x0)], [];
    /// ERSPAN index.
    TUN_ERSPAN_IDX = "tun_erspan_idx", 4, 20, Hex, None, [], [NXOXM_ET_ERSPAN_IDX = (0xffff, 11, 0x2320)];
    /// ERSPAN version.
    TUN_ERSPAN_VER = "tun_erspan_ver", 1, 4, Decimal, None, [], [NXOXM_ET_ERSPAN_VER = (0xffff, 12, 0x2320)];
    /// ERSPAN direction.
    TUN_ERSPAN_DIR = "tun_erspan_dir", 1, 1, Decimal, None, [], [NXOXM_ET_ERSPAN_DIR = (0xffff, 13, 0x2320)];
    /// ERSPAN hardware id.
    TUN_ERSPAN_HWID = "tun_erspan_hwid", 1, 6, Hex, None, [], [NXOXM_ET_ERSPAN_HWID = (0xffff, 14, 0x2320)];
    /// GTP-U flags.
    TUN_GTPU_FLAGS = "tun_gtpu_flags", 1, 8, Hex, None, [], [NXOXM_ET_GTPU_FLAGS = (0xffff, 15, 0x2320)];
    /// GTP-U message type.
    TUN_GTPU_MSGTYPE = "tun_gtpu_msgtype", 1, 8, Decimal, None, [], [NXOXM_ET_GTPU_MSGTYPE = (0xffff, 16, 0x2320)];
    /// Network service header flags.
    NSH_FLAGS = "nsh_flags", 1, 8, Decimal, Nsh, [], [NXOXM_NSH_FLAGS = (0xffff, 1, 0x5ad650)];
    /// Network service header TTL.
    NSH_TTL = "nsh_ttl", 1, 8, Decimal, Nsh, [], [NXOXM_NSH_TTL = (0xffff, 10, 0x5ad650)];
    /// Network service header metadata type.
    NSH_MDTYPE = "nsh_mdtype", 1, 8, Decimal, Nsh, [], [NXOXM_NSH_MDTYPE = (0xffff, 2, 0x5ad650)];
    /// Network service header next protocol.
    NSH_NP = "nsh_np", 1, 8, Decimal, Nsh, [], [NXOXM_NSH_NP = (0xffff, 3, 0x5ad650)];
    /// Service path identifier.
    NSH_SPI = "nsh_spi", 4, 24, Hex, Nsh, [], [NXOXM_NSH_SPI = (0xffff, 4, 0x5ad650)];
    /// Service index.
    NSH_SI = "nsh_si", 1, 8, Decimal, Nsh, [], [NXOXM_NSH_SI = (0xffff, 5, 0x5ad650)];
    /// Network service header context 1.
    NSH_C1 = "nsh_c1", 4, 32, Hex, Nsh, [], [NXOXM_NSH_C1 = (0xffff, 6, 0x5ad650)];
    /// Network service header context 2.
    NSH_C2 = "nsh_c2", 4, 32, Hex, Nsh, [], [NXOXM_NSH_C2 = (0xffff, 7, 0x5ad650)];
    /// Network service header context 3.
    NSH_C3 = "nsh_c3", 4, 32, Hex, Nsh, [], [NXOXM_NSH_C3 = (0xffff, 8, 0x5ad650)];
    /// Network service header context 4.
    NSH_C4 = "nsh_c4", 4, 32, Hex, Nsh, [], [NXOXM_NSH_C4 = (0xffff, 9, 0x5ad650)];
    /// Register 0.
    REG0 = "reg0", 4, 32, Hex, None, [NXM_NX_REG0 = (0x0001, 0, 0x0)], [];
    /// Register 1.
    REG1 = "reg1", 4, 32, Hex, None, [NXM_NX_REG1 = (0x0001, 1, 0x0)], [];
    /// Register 2.
    REG2 = "reg2", 4, 32, Hex, None, [NXM_NX_REG2 = (0x0001, 2, 0x0)], [];
    /// Register 3.
    REG3 = "reg3", 4, 32, Hex, None, [NXM_NX_REG3 = (0x0001, 3, 0x0)], [];
    /// Register 4.
    REG4 = "reg4", 4, 32, Hex, None, [NXM_NX_REG4 = (0x0001, 4, 0x0)], [];
    /// Register 5.
    REG5 = "reg5", 4, 32, Hex, None, [NXM_NX_REG5 = (0x0001, 5, 0x0)], [];
    /// Register 6.
    REG6 = "reg6", 4, 32, Hex, None, [NXM_NX_REG6 = (0x0001, 6, 0x0)], [];
    /// Register 7.
    REG7 = "reg7", 4, 32, Hex, None, [NXM_NX_REG7 = (0x0001, 7, 0x0)], [];
    /// Register 8.
    REG8 = "reg8", 4, 32, Hex, None, [NXM_NX_REG8 = (0x0001, 8, 0x0)], [];
    /// Register 9.
    REG9 = "reg9", 4, 32, Hex, None, [NXM_NX_REG9 = (0x0001, 9, 0x0)], [];
    /// Register 10.
    REG10 = "reg10", 4, 32, Hex, None, [NXM_NX_REG10 = (0x0001, 10, 0x0)], [];
    /// Register 11.
    REG11 = "reg11", 4, 32, Hex, None, [NXM_NX_REG11 = (0x0001, 11, 0x0)], [];
    /// Register 12.
    REG12 = "reg12", 4, 32, Hex, None, [NXM_NX_REG12 = (0x0001, 12, 0x0)], [];
    /// Register 13.
    REG13 = "reg13", 4, 32, Hex, None, [NXM_NX_REG13 = (0x0001, 13, 0x0)], [];
    /// Register 14.
    REG14 = "reg14", 4, 32, Hex, None, [NXM_NX_REG14 = (0x0001, 14, 0x0)], [];
    /// Register 15.
    REG15 = "reg15", 4, 32, Hex, None, [NXM_NX_REG15 = (0x0001, 15, 0x0)], [];
    /// Registers 0 and 1 as one; `Match` splits it.
    XREG0 = "xreg0", 8, 64, Hex, None, [], [OXM_OF_PKT_REG0 = (0x8001, 0, 0x0)];
    /// Registers 2 and 3 as one; `Match` splits it.
    XREG1 = "xreg1", 8, 64, Hex, None, [], [OXM_OF_PKT_REG1 = (0x8001, 1, 0x0)];
    /// Registers 4 and 5 as one; `Match` splits it.
    XREG2 = "xreg2", 8, 64, Hex, None, [], [OXM_OF_PKT_REG2 = (0x8001, 2, 0x0)];
    /// Registers 6 and 7 as one; `Match` splits it.
    XREG3 = "xreg3", 8, 64, Hex, None, [], [OXM_OF_PKT_REG3 = (0x8001, 3, 0x0)];
    /// Registers 8 and 9 as one; `Match` splits it.
    XREG4 = "xreg4", 8, 64, Hex, None, [], [OXM_OF_PKT_REG4 = (0x8001, 4, 0x0)];
    /// Registers 10 and 11 as one; `Match` splits it.
    XREG5 = "xreg5", 8, 64, Hex, None, [], [OXM_OF_PKT_REG5 = (0x8001, 5, 0x0)];
    /// Registers 12 and 13 as one; `Match` splits it.
    XREG6 = "xreg6", 8, 64, Hex, None, [], [OXM_OF_PKT_REG6 = (0x8001, 6, 0x0)];
    /// Registers 14 and 15 as one; `Match` splits it.
    XREG7 = "xreg7", 8, 64, Hex, None, [], [OXM_OF_PKT_REG7 = (0x8001, 7, 0x0)];
    /// Registers 0 to 3 as one; `Match` splits it.
    XXREG0 = "xxreg0", 16, 128, Hex, None, [NXM_NX_XXREG0 = (0x0001, 111, 0x0)], [];
    /// Registers 4 to 7 as one; `Match` splits it.
    XXREG1 = "xxreg1", 16, 128, Hex, None, [NXM_NX_XXREG1 = (0x0001, 112, 0x0)], [];
    /// Registers 8 to 11 as one; `Match` splits it.
    XXREG2 = "xxreg2", 16, 128, Hex, None, [NXM_NX_XXREG2 = (0x0001, 113, 0x0)], [];
    /// Registers 12 to 15 as one; `Match` splits it.
    XXREG3 = "xxreg3", 16, 128, Hex, None, [NXM_NX_XXREG3 = (0x0001, 114, 0x0)], [];
    /// Mark of the packet in the kernel.
    PKT_MARK = "pkt_mark", 4, 32, Hex, None, [NXM_NX_PKT_MARK = (0x0001, 33, 0x0)], [];
    /// Connection tracking state bits; see `crate::CtState`.
    CT_STATE = "ct_state", 4, 32, CtState, None, [NXM_NX_CT_STATE = (0x0001, 105, 0x0)], [];
    /// Connection tracking zone.
    CT_ZONE = "ct_zone", 2, 16, Hex, None, [NXM_NX_CT_ZONE = (0x0001, 106, 0x0)], [];
    /// Connection mark.
    CT_MARK = "ct_mark", 4, 32, Hex, None, [NXM_NX_CT_MARK = (0x0001, 107, 0x0)], [];
    /// Connection label.
    CT_LABEL = "ct_label", 16, 128, Hex, None, [NXM_NX_CT_LABEL = (0x0001, 108, 0x0)], [];
    /// IPv4 source of the original direction.
    CT_NW_SRC = "ct_nw_src", 4, 32, Ipv4, Ct, [NXM_NX_CT_NW_SRC = (0x0001, 120, 0x0)], [];
    /// IPv6 source of the original direction.
    CT_IPV6_SRC = "ct_ipv6_src", 16, 128, Ipv6, Ct, [NXM_NX_CT_IPV6_SRC = (0x0001, 122, 0x0)], [];
    /// IPv4 destination of the original direction.
    CT_NW_DST = "ct_nw_dst", 4, 32, Ipv4, Ct, [NXM_NX_CT_NW_DST = (0x0001, 121, 0x0)], [];
    /// IPv6 destination of the original direction.
    CT_IPV6_DST = "ct_ipv6_dst", 16, 128, Ipv6, Ct, [NXM_NX_CT_IPV6_DST = (0x0001, 123, 0x0)], [];
    /// IP protocol of the original direction.
    CT_NW_PROTO = "ct_nw_proto", 1, 8, Decimal, Ct, [NXM_NX_CT_NW_PROTO = (0x0001, 119, 0x0)], [];
    /// Source port of the original direction.
    CT_TP_SRC = "ct_tp_src", 2, 16, Decimal, Ct, [NXM_NX_CT_TP_SRC = (0x0001, 124, 0x0)], [];
    /// Destination port of the original direction.
    CT_TP_DST = "ct_tp_dst", 2, 16, Decimal, Ct, [NXM_NX_CT_TP_DST = (0x0001, 125, 0x0)], [];
    /// OpenFlow metadata, shared between tables.
    METADATA = "metadata", 8, 64, Hex, None, [], [OXM_OF_METADATA = (0x8000, 2, 0x0)];
}
