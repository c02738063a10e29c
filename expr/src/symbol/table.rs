//! The table of symbols. Facts are those of OVN 26.03, with the symbols that 23.03 had and 26.03 no longer has; where both
//! define a name differently, 26.03 counts.
//!
//! Left out on purpose: `icmp4.frag_mtu`, `icmp6.frag_mtu` and `icmp4.inner_ip4.src`, which only actions can name, and
//! `remote_outport`, `__inport`, `__outport`, `from_evpn_vtep`, `to_evpn_vtep`, which belong to ovn-northd's own flows.

use ofpacket::field;

use super::{Level, Meaning, Symbol};

/// Declares every symbol once: strings, fields, ranges of fields, predicates.
macro_rules! symbols {
    (
        strings { $($(#[$sdoc:meta])* $sname:literal = $string:ident;)* }
        fields { $($(#[$fdoc:meta])* $fname:literal = $field:ident, $bits:literal, $level:ident, $needs:literal, $openflow:expr;)* }
        ranges { $($rname:literal = $of:ident[$low:literal .. $high:literal], $rneeds:literal;)* }
        predicates { $($pname:literal = $plevel:ident, $text:literal;)* }
    ) => {
        /// Something a packet has one value of: bits, or for the ports a name.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum Field {
            $($(#[$sdoc])* $string,)*
            $($(#[$fdoc])* $field,)*
        }

        impl Field {
            /// Every field, in table order, which is the order of dimensions in a clause.
            pub const ALL: &[Self] = &[$(Self::$string,)* $(Self::$field,)*];

            /// The field's own name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$string => $sname,)* $(Self::$field => $fname,)* }
            }

            /// Width in bits; 0 for the names of ports.
            pub const fn width(self) -> u8 {
                match self { $(Self::$string => 0,)* $(Self::$field => $bits,)* }
            }

            /// Which relations its symbols allow.
            pub const fn level(self) -> Level {
                match self { $(Self::$string => Level::Nominal,)* $(Self::$field => Level::$level,)* }
            }

            /// The OpenFlow field, for what a packet or its connection carries; `None` for ports, registers and flags,
            /// whose place is the pipeline's business.
            pub const fn openflow(self) -> Option<field::Field> {
                match self { $(Self::$string => None,)* $(Self::$field => $openflow,)* }
            }
        }

        const COUNT: usize = [$($sname,)* $($fname,)* $($rname,)* $($pname,)*].len();

        pub(super) static SYMBOLS: [Symbol; COUNT] = [
            $(Symbol::new($sname, 0, Level::Nominal, "", Meaning::Port(Field::$string)),)*
            $(Symbol::new($fname, $bits, Level::$level, $needs, Meaning::Bits { field: Field::$field, low: 0 }),)*
            $(Symbol::new($rname, $high - $low + 1, Field::$of.level(), $rneeds,
                Meaning::Bits { field: Field::$of, low: $low }),)*
            $(Symbol::new($pname, 1, Level::$plevel, "", Meaning::Predicate($text)),)*
        ];
    };
}

symbols! {
    strings {
        /// Logical port the packet came in by.
        "inport" = Inport;
        /// Logical port the packet is to leave by.
        "outport" = Outport;
    }
    // Name, field, width, level, prerequisite, OpenFlow.
    fields {
        /// Type of the payload, after VLAN tags.
        "eth.type" = EthType, 16, Nominal, "", Some(field::ETH_TYPE);
        /// Ethernet source.
        "eth.src" = EthSrc, 48, Ordinal, "", Some(field::ETH_SRC);
        /// Ethernet destination.
        "eth.dst" = EthDst, 48, Ordinal, "", Some(field::ETH_DST);
        /// VLAN tag; bit 12 says that there is one.
        "vlan.tci" = VlanTci, 16, Ordinal, "", Some(field::NXM_VLAN_TCI);
        /// IPv4 protocol or last IPv6 next header.
        "ip.proto" = IpProto, 8, Nominal, "ip", Some(field::IP_PROTO);
        /// Differentiated services code point.
        "ip.dscp" = IpDscp, 6, Nominal, "ip", Some(field::IP_DSCP);
        /// Explicit congestion notification.
        "ip.ecn" = IpEcn, 2, Nominal, "ip", Some(field::IP_ECN);
        /// TTL or hop limit.
        "ip.ttl" = IpTtl, 8, Nominal, "ip", Some(field::IP_TTL);
        /// Fragment bits: 0 is a fragment, 1 not the first.
        "ip.frag" = IpFrag, 2, Ordinal, "ip", Some(field::IP_FRAG);
        /// IPv4 source.
        "ip4.src" = Ip4Src, 32, Ordinal, "ip4", Some(field::IPV4_SRC);
        /// IPv4 destination.
        "ip4.dst" = Ip4Dst, 32, Ordinal, "ip4", Some(field::IPV4_DST);
        /// IPv6 source.
        "ip6.src" = Ip6Src, 128, Ordinal, "ip6", Some(field::IPV6_SRC);
        /// IPv6 destination.
        "ip6.dst" = Ip6Dst, 128, Ordinal, "ip6", Some(field::IPV6_DST);
        /// IPv6 flow label.
        "ip6.label" = Ip6Label, 20, Ordinal, "ip6", Some(field::IPV6_LABEL);
        /// ICMP type.
        "icmp4.type" = Icmp4Type, 8, Nominal, "icmp4", Some(field::ICMPV4_TYPE);
        /// ICMP code.
        "icmp4.code" = Icmp4Code, 8, Nominal, "icmp4", Some(field::ICMPV4_CODE);
        /// ICMPv6 type.
        "icmp6.type" = Icmp6Type, 8, Nominal, "icmp6", Some(field::ICMPV6_TYPE);
        /// ICMPv6 code.
        "icmp6.code" = Icmp6Code, 8, Nominal, "icmp6", Some(field::ICMPV6_CODE);
        /// Operation, of ARP and RARP.
        "arp.op" = ArpOp, 16, Nominal, "arp", Some(field::ARP_OP);
        /// Sender protocol address, of ARP and RARP.
        "arp.spa" = ArpSpa, 32, Ordinal, "arp", Some(field::ARP_SPA);
        /// Sender hardware address, of ARP and RARP.
        "arp.sha" = ArpSha, 48, Ordinal, "arp", Some(field::ARP_SHA);
        /// Target protocol address, of ARP and RARP.
        "arp.tpa" = ArpTpa, 32, Ordinal, "arp", Some(field::ARP_TPA);
        /// Target hardware address, of ARP and RARP.
        "arp.tha" = ArpTha, 48, Ordinal, "arp", Some(field::ARP_THA);
        /// Target of neighbour discovery.
        "nd.target" = NdTarget, 128, Ordinal, "nd", Some(field::ND_TARGET);
        /// Source link-layer address option.
        "nd.sll" = NdSll, 48, Ordinal, "nd_ns", Some(field::ND_SLL);
        /// Target link-layer address option.
        "nd.tll" = NdTll, 48, Ordinal, "nd_na", Some(field::ND_TLL);
        /// TCP source port.
        "tcp.src" = TcpSrc, 16, Ordinal, "tcp", Some(field::TCP_SRC);
        /// TCP destination port.
        "tcp.dst" = TcpDst, 16, Ordinal, "tcp", Some(field::TCP_DST);
        /// TCP flags, FIN in bit 0.
        "tcp.flags" = TcpFlags, 12, Ordinal, "tcp", Some(field::TCP_FLAGS);
        /// UDP source port.
        "udp.src" = UdpSrc, 16, Ordinal, "udp", Some(field::UDP_SRC);
        /// UDP destination port.
        "udp.dst" = UdpDst, 16, Ordinal, "udp", Some(field::UDP_DST);
        /// SCTP source port.
        "sctp.src" = SctpSrc, 16, Ordinal, "sctp", Some(field::SCTP_SRC);
        /// SCTP destination port.
        "sctp.dst" = SctpDst, 16, Ordinal, "sctp", Some(field::SCTP_DST);
        /// State of the packet's connection.
        "ct_state" = CtState, 32, Ordinal, "", Some(field::CT_STATE);
        /// Mark of the packet's connection.
        "ct_mark" = CtMark, 32, Ordinal, "", Some(field::CT_MARK);
        /// Label of the packet's connection.
        "ct_label" = CtLabel, 128, Ordinal, "", Some(field::CT_LABEL);
        /// Mark that travels with the packet on the hypervisor.
        "pkt.mark" = PktMark, 32, Ordinal, "", Some(field::PKT_MARK);
        /// Flags between stages of the pipeline.
        "flags" = Flags, 32, Ordinal, "", None;
        /// Logical registers 0 to 3, `reg0` in the upper bits.
        "xxreg0" = Xxreg0, 128, Ordinal, "", None;
        /// Logical registers 4 to 7, `reg4` in the upper bits.
        "xxreg1" = Xxreg1, 128, Ordinal, "", None;
        /// Logical registers 8 and 9, `reg8` in the upper bits.
        "xreg4" = Xreg4, 64, Ordinal, "", None;
    }
    ranges {
        "xreg0" = Xxreg0[64..127], "";
        "xreg1" = Xxreg0[0..63], "";
        "xreg2" = Xxreg1[64..127], "";
        "xreg3" = Xxreg1[0..63], "";
        "reg0" = Xxreg0[96..127], "";
        "reg1" = Xxreg0[64..95], "";
        "reg2" = Xxreg0[32..63], "";
        "reg3" = Xxreg0[0..31], "";
        "reg4" = Xxreg1[96..127], "";
        "reg5" = Xxreg1[64..95], "";
        "reg6" = Xxreg1[32..63], "";
        "reg7" = Xxreg1[0..31], "";
        "reg8" = Xreg4[32..63], "";
        "reg9" = Xreg4[0..31], "";
        "flags.loopback" = Flags[0..0], "";
        "flags.force_snat_for_dnat" = Flags[2..2], "";
        "flags.force_snat_for_lb" = Flags[3..3], "";
        "flags.skip_snat_for_lb" = Flags[9..9], "";
        "flags.use_snat_zone" = Flags[11..11], "";
        "flags.localnet" = Flags[15..15], "";
        "flags.tunnel_rx" = Flags[16..16], "";
        "flags.icmp_snat" = Flags[17..17], "";
        "flags.from_ctrl" = Flags[19..19], "";
        "flags.unsnat_new" = Flags[20..20], "";
        "flags.unsnat_not_tracked" = Flags[21..21], "";
        "flags.igmp_loopback" = Flags[22..22], "";
        "flags.pkt_sampled" = Flags[23..23], "";
        "flags.network_id" = Flags[28..31], "";
        "eth.mcast" = EthDst[40..40], "";
        "vlan.pcp" = VlanTci[13..15], "vlan.present";
        "vlan.vid" = VlanTci[0..11], "vlan.present";
        "rarp.op" = ArpOp[0..15], "rarp";
        "rarp.spa" = ArpSpa[0..31], "rarp";
        "rarp.sha" = ArpSha[0..47], "rarp";
        "rarp.tpa" = ArpTpa[0..31], "rarp";
        "rarp.tha" = ArpTha[0..47], "rarp";
        "ct.new" = CtState[0..0], "ct.trk";
        "ct.est" = CtState[1..1], "ct.trk";
        "ct.rel" = CtState[2..2], "ct.trk";
        "ct.rpl" = CtState[3..3], "ct.trk";
        "ct.inv" = CtState[4..4], "ct.trk";
        "ct.trk" = CtState[5..5], "";
        "ct.snat" = CtState[6..6], "ct.trk";
        "ct.dnat" = CtState[7..7], "ct.trk";
        "ct_mark.blocked" = CtMark[0..0], "";
        "ct_mark.natted" = CtMark[1..1], "";
        "ct_mark.skip_snat" = CtMark[2..2], "";
        "ct_mark.force_snat" = CtMark[3..3], "";
        "ct_mark.obs_stage" = CtMark[4..5], "";
        "ct_mark.allow_established" = CtMark[6..6], "";
        "ct_mark.obs_collector_id" = CtMark[16..23], "";
        "ct_mark.ecmp_reply_port" = CtMark[16..31], "";
        "ct_label.nf" = CtLabel[7..7], "";
        "ct_label.tun_if" = CtLabel[8..8], "";
        "ct_label.nf_id" = CtLabel[17..24], "";
        "ct_label.ecmp_reply_eth" = CtLabel[32..79], "";
        "ct_label.acl_id" = CtLabel[80..95], "";
        "ct_label.tun_if_id" = CtLabel[80..95], "";
        "ct_label.label" = CtLabel[96..127], "";
        "ct_label.obs_point_id" = CtLabel[96..127], "";
        "ct_label.obs_unused" = CtLabel[0..95], "";
        // In 23.03, no longer in 26.03.
        "ct_label.blocked" = CtLabel[0..0], "";
        "ct_label.natted" = CtLabel[1..1], "";
        "ct_label.skip_snat" = CtLabel[2..2], "";
        "ct_label.force_snat" = CtLabel[3..3], "";
        "ct_label.ecmp_reply_port" = CtLabel[80..95], "";
    }
    predicates {
        "eth.bcast" = Boolean, "eth.dst == ff:ff:ff:ff:ff:ff";
        "eth.mcastv6" = Boolean, "eth.dst[32..47] == 0x3333";
        "vlan.present" = Boolean, "vlan.tci[12]";
        "ip4" = Nominal, "eth.type == 0x800";
        "ip6" = Nominal, "eth.type == 0x86dd";
        "ip" = Nominal, "ip4 || ip6";
        "ip4.src_mcast" = Boolean, "ip4.src[28..31] == 0xe";
        "ip4.mcast" = Boolean, "eth.mcast && ip4.dst[28..31] == 0xe";
        "icmp4" = Nominal, "ip4 && ip.proto == 1";
        "igmp" = Nominal, "ip4.mcast && ip.proto == 2";
        "ip6.mcast_rsvd" = Boolean, "ip6.dst == {ff00::, ff01::, ff02::, ff03::, ff04::, ff05::, ff06::, ff07::, ff08::, \
            ff09::, ff0a::, ff0b::, ff0c::, ff0d::, ff0e::, ff0f::}";
        "ip6.mcast_all_nodes" = Boolean, "ip6.dst == {ff01::1, ff02::1}";
        "ip6.mcast_all_rtrs" = Boolean, "ip6.dst == {ff01::2, ff02::2, ff05::2}";
        "ip6.mcast_sol_node" = Boolean, "ip6.dst == ff02::1:ff00:0/104";
        "ip6.mcast_flood" = Boolean, "eth.mcastv6 && \
            (ip6.mcast_rsvd || ip6.mcast_all_nodes || ip6.mcast_all_rtrs || ip6.mcast_sol_node)";
        "ip6.mcast" = Boolean, "eth.mcastv6 && ip6.dst[120..127] == 0xff";
        "icmp6" = Nominal, "ip6 && ip.proto == 58";
        "icmp" = Nominal, "icmp4 || icmp6";
        "ip.is_frag" = Boolean, "ip.frag[0]";
        "ip.later_frag" = Boolean, "ip.frag[1]";
        "ip.first_frag" = Boolean, "ip.is_frag && !ip.later_frag";
        "arp" = Nominal, "eth.type == 0x806";
        "rarp" = Nominal, "eth.type == 0x8035";
        "nd" = Nominal, "icmp6.type == {135, 136} && icmp6.code == 0 && ip.ttl == 255";
        "nd_ns" = Nominal, "icmp6.type == 135 && icmp6.code == 0 && ip.ttl == 255";
        "nd_ns_mcast" = Nominal, "ip6.mcast && icmp6.type == 135 && icmp6.code == 0 && ip.ttl == 255";
        "nd_na" = Nominal, "icmp6.type == 136 && icmp6.code == 0 && ip.ttl == 255";
        "nd_rs" = Nominal, "icmp6.type == 133 && icmp6.code == 0 && ip.ttl == 255";
        "nd_ra" = Nominal, "icmp6.type == 134 && icmp6.code == 0 && ip.ttl == 255";
        "mldv1" = Nominal, "eth.mcastv6 && ip6.src == fe80::/10 && icmp6.type == {130, 131, 132}";
        "mldv2" = Nominal, "eth.mcastv6 && ip6.dst == ff02::16 && icmp6.type == 143";
        "tcp" = Nominal, "ip.proto == 6";
        "udp" = Nominal, "ip.proto == 17";
        "sctp" = Nominal, "ip.proto == 132";
    }
}
