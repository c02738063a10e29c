//! Matches, in the order and with the abbreviations of `ovs-ofctl`.

use std::fmt::{self, Write as _};

use crate::field::{self, Field};
use crate::match_::Match;
use crate::port::Port;
use crate::print::value::{
    Hex, HexBytes, Mac, address, ct_state_bit, flags, fragment, packet_type, tcp_flag_bit, tunnel_flag_bit,
};

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut printer = Printer { matches: self, f, first: true };
        printer.metadata()?;
        let network = printer.network_type()?;
        printer.registers()?;
        printer.tunnel()?;
        printer.hex(field::METADATA, "metadata")?;
        printer.port(field::IN_PORT, "in_port")?;
        printer.vlan()?;
        printer.mac(field::ETH_SRC, "dl_src")?;
        printer.mac(field::ETH_DST, "dl_dst")?;
        printer.network(&network)?;
        printer.transport()?;
        printer.undeclared()
    }
}

/// What the abbreviation for Ethernet type and protocol already says.
struct Network {
    eth_type: Option<u128>,
    type_shown: bool,
    proto_shown: bool,
}

struct Printer<'a, 'f, 'm> {
    matches: &'m Match,
    f: &'a mut fmt::Formatter<'f>,
    first: bool,
}

impl Printer<'_, '_, '_> {
    fn get(&self, field: Field) -> Option<(u128, u128, bool)> {
        self.matches.get(field).map(|(value, mask)| (value, mask, mask == field.significant()))
    }

    fn comma(&mut self) -> fmt::Result {
        if !std::mem::replace(&mut self.first, false) {
            self.f.write_char(',')?;
        }
        Ok(())
    }

    fn word(&mut self, word: &str) -> fmt::Result {
        self.comma()?;
        self.f.write_str(word)
    }

    fn name(&mut self, name: &str) -> fmt::Result {
        self.comma()?;
        write!(self.f, "{name}=")
    }

    /// `name=0x1` or `name=0x1/0x3`, zero without prefix.
    fn hex(&mut self, field: Field, name: &str) -> fmt::Result {
        let Some((value, mask, exact)) = self.get(field) else { return Ok(()) };
        self.name(name)?;
        if exact { write!(self.f, "{}", Hex(value)) } else { write!(self.f, "{}/{}", Hex(value), Hex(mask)) }
    }

    /// `name=1` or `name=0x1/0x3`.
    fn decimal(&mut self, field: Field, name: &str) -> fmt::Result {
        let Some((value, mask, exact)) = self.get(field) else { return Ok(()) };
        self.name(name)?;
        if exact { write!(self.f, "{value}") } else { write!(self.f, "{value:#x}/{mask:#x}") }
    }

    /// The value times a power of two, without mask.
    fn shifted(&mut self, field: Field, name: &str, shift: u32) -> fmt::Result {
        let Some((value, ..)) = self.get(field) else { return Ok(()) };
        self.name(name)?;
        write!(self.f, "{}", value << shift)
    }

    fn port(&mut self, field: Field, name: &str) -> fmt::Result {
        let Some((value, ..)) = self.get(field) else { return Ok(()) };
        self.name(name)?;
        write!(self.f, "{}", Port(u32::try_from(value).unwrap_or(u32::MAX)))
    }

    fn mac(&mut self, field: Field, name: &str) -> fmt::Result {
        let Some((value, mask, exact)) = self.get(field) else { return Ok(()) };
        self.name(name)?;
        if exact { write!(self.f, "{}", Mac(value)) } else { write!(self.f, "{}/{}", Mac(value), Mac(mask)) }
    }

    fn address(&mut self, field: Field, name: &str) -> fmt::Result {
        let Some((value, mask, _)) = self.get(field) else { return Ok(()) };
        self.name(name)?;
        address(self.f, value, mask, u32::from(field.width()) * 8)
    }

    fn metadata(&mut self) -> fmt::Result {
        self.hex(field::PKT_MARK, "pkt_mark")?;
        self.hex(field::RECIRC_ID, "recirc_id")?;
        self.hex(field::DP_HASH, "dp_hash")?;
        self.shifted(field::CONJ_ID, "conj_id", 0)?;
        self.port(field::ACTSET_OUTPUT, "actset_output")?;
        if let Some((value, mask, _)) = self.get(field::CT_STATE) {
            self.name("ct_state")?;
            flags(self.f, value, mask, 0xff, ct_state_bit)?;
        }
        self.decimal(field::CT_ZONE, "ct_zone")?;
        self.hex(field::CT_MARK, "ct_mark")?;
        self.hex(field::CT_LABEL, "ct_label")?;
        self.address(field::CT_NW_SRC, "ct_nw_src")?;
        self.address(field::CT_IPV6_SRC, "ct_ipv6_src")?;
        self.address(field::CT_NW_DST, "ct_nw_dst")?;
        self.address(field::CT_IPV6_DST, "ct_ipv6_dst")?;
        self.shifted(field::CT_NW_PROTO, "ct_nw_proto", 0)?;
        self.decimal(field::CT_TP_SRC, "ct_tp_src")?;
        self.decimal(field::CT_TP_DST, "ct_tp_dst")?;
        if let Some((value, ..)) = self.get(field::PACKET_TYPE) {
            self.comma()?;
            packet_type(self.f, value)?;
        }
        Ok(())
    }

    fn network_type(&mut self) -> Result<Network, fmt::Error> {
        let eth_type = match (self.get(field::ETH_TYPE), self.get(field::PACKET_TYPE)) {
            (Some((eth_type, ..)), _) => Some(eth_type),
            (None, Some((packet_type, ..))) if packet_type >> 16 == 1 => Some(packet_type & 0xffff),
            _ => None,
        };
        let mut network = Network { eth_type, type_shown: false, proto_shown: false };
        if self.get(field::ETH_TYPE).is_none() {
            return Ok(network);
        }
        let proto = self.get(field::IP_PROTO).map(|(proto, ..)| proto);
        let word = match (eth_type, proto) {
            (Some(IPV4), Some(1)) => "icmp",
            (Some(IPV6), Some(58)) => "icmp6",
            (Some(IPV4), Some(6)) => "tcp",
            (Some(IPV4), Some(17)) => "udp",
            (Some(IPV4), Some(132)) => "sctp",
            (Some(IPV6), Some(6)) => "tcp6",
            (Some(IPV6), Some(17)) => "udp6",
            (Some(IPV6), Some(132)) => "sctp6",
            (Some(IPV4), _) => "ip",
            (Some(IPV6), _) => "ipv6",
            (Some(ARP), _) => "arp",
            (Some(RARP), _) => "rarp",
            (Some(0x8847), _) => "mpls",
            (Some(0x8848), _) => "mplsm",
            _ => return Ok(network),
        };
        network.type_shown = true;
        network.proto_shown = proto.is_some() && !matches!(word, "ip" | "ipv6");
        self.word(word)?;
        Ok(network)
    }

    fn registers(&mut self) -> fmt::Result {
        for number in 0..16 {
            let register = Field::reg(number);
            self.hex(register, register.name().unwrap_or_default())?;
        }
        Ok(())
    }

    fn tunnel(&mut self) -> fmt::Result {
        self.hex(field::TUNNEL_ID, "tun_id")?;
        self.address(field::TUN_SRC, "tun_src")?;
        self.address(field::TUN_DST, "tun_dst")?;
        self.address(field::TUN_IPV6_SRC, "tun_ipv6_src")?;
        self.address(field::TUN_IPV6_DST, "tun_ipv6_dst")?;
        self.decimal(field::TUN_GBP_ID, "tun_gbp_id")?;
        let bare_hex = [
            (field::TUN_GBP_FLAGS, "tun_gbp_flags", true),
            (field::TUN_ERSPAN_VER, "tun_erspan_ver", false),
            (field::TUN_ERSPAN_IDX, "tun_erspan_idx", true),
            (field::TUN_ERSPAN_DIR, "tun_erspan_dir", false),
            (field::TUN_ERSPAN_HWID, "tun_erspan_hwid", true),
            (field::TUN_GTPU_FLAGS, "gtpu_flags", true),
            (field::TUN_GTPU_MSGTYPE, "gtpu_msgtype", false),
        ];
        for (field, name, hex) in bare_hex {
            if let Some((value, ..)) = self.get(field) {
                self.name(name)?;
                if hex { write!(self.f, "{}", Hex(value))? } else { write!(self.f, "{value}")? }
            }
        }
        if let Some((value, mask, _)) = self.get(field::TUN_FLAGS) {
            self.name("tun_flags")?;
            flags(self.f, value, mask & TUNNEL_FLAGS, TUNNEL_FLAGS, tunnel_flag_bit)?;
        }
        let matches = self.matches;
        for entry in matches.iter().filter(|entry| entry.field.has_any_width()) {
            self.word(entry.field.name().unwrap_or_default())?;
            if entry.mask.is_some_and(|mask| mask.iter().all(|byte| *byte == 0)) {
                continue;
            }
            write!(self.f, "={}", HexBytes(entry.value))?;
            if let Some(mask) = entry.mask {
                write!(self.f, "/{}", HexBytes(mask))?;
            }
        }
        Ok(())
    }

    fn vlan(&mut self) -> fmt::Result {
        let (mut value, mut mask) = (0, 0);
        if let Some((vid, vid_mask, _)) = self.get(field::VLAN_VID) {
            (value, mask) = (vid, vid_mask);
        }
        if let Some((pcp, ..)) = self.get(field::VLAN_PCP) {
            value |= pcp << 13;
            mask |= 0xe000;
        }
        if let Some((tci, tci_mask, _)) = self.get(field::NXM_VLAN_TCI) {
            value |= tci;
            mask |= tci_mask;
        }
        let (vid_mask, pcp_mask) = (mask & 0x0fff, mask & 0xe000);
        if mask == 0 {
            return Ok(());
        }
        let whole =
            matches!(vid_mask, 0 | 0x0fff) && matches!(pcp_mask, 0 | 0xe000) && (vid_mask | pcp_mask) != 0;
        if mask & value & 0x1000 != 0 && whole {
            if vid_mask != 0 {
                self.name("dl_vlan")?;
                write!(self.f, "{}", value & 0x0fff)?;
            }
            if pcp_mask != 0 {
                self.name("dl_vlan_pcp")?;
                write!(self.f, "{}", value >> 13)?;
            }
            return Ok(());
        }
        self.name("vlan_tci")?;
        write!(self.f, "{value:#06x}")?;
        if mask == 0xffff { Ok(()) } else { write!(self.f, "/{mask:#06x}") }
    }

    fn network(&mut self, network: &Network) -> fmt::Result {
        if let (false, Some((eth_type, ..))) = (network.type_shown, self.get(field::ETH_TYPE)) {
            self.name("dl_type")?;
            write!(self.f, "{eth_type:#06x}")?;
        }
        match network.eth_type {
            Some(IPV6) => {
                self.address(field::IPV6_SRC, "ipv6_src")?;
                self.address(field::IPV6_DST, "ipv6_dst")?;
                if let Some((value, mask, exact)) = self.get(field::IPV6_LABEL) {
                    self.name("ipv6_label")?;
                    write!(self.f, "{value:#07x}")?;
                    if !exact {
                        write!(self.f, "/{mask:#07x}")?;
                    }
                }
            }
            Some(ARP | RARP) => {
                self.address(field::ARP_SPA, "arp_spa")?;
                self.address(field::ARP_TPA, "arp_tpa")?;
            }
            Some(NSH) => self.service_header()?,
            _ => {
                self.address(field::IPV4_SRC, "nw_src")?;
                self.address(field::IPV4_DST, "nw_dst")?;
            }
        }
        if !network.proto_shown {
            self.shifted(field::IP_PROTO, "nw_proto", 0)?;
        }
        self.shifted(field::ARP_OP, "arp_op", 0)?;
        self.mac(field::ARP_SHA, "arp_sha")?;
        self.mac(field::ARP_THA, "arp_tha")?;
        self.shifted(field::IP_DSCP, "nw_tos", 2)?;
        self.shifted(field::IP_ECN, "nw_ecn", 0)?;
        self.shifted(field::IP_TTL, "nw_ttl", 0)?;
        self.shifted(field::MPLS_LABEL, "mpls_label", 0)?;
        self.shifted(field::MPLS_TC, "mpls_tc", 0)?;
        self.shifted(field::MPLS_TTL, "mpls_ttl", 0)?;
        self.shifted(field::MPLS_BOS, "mpls_bos", 0)?;
        if let Some((value, mask, _)) = self.get(field::IP_FRAG) {
            self.name("nw_frag")?;
            self.f.write_str(fragment(value, mask))?;
        }
        Ok(())
    }

    fn service_header(&mut self) -> fmt::Result {
        self.decimal(field::NSH_FLAGS, "nsh_flags")?;
        self.decimal(field::NSH_TTL, "nsh_ttl")?;
        self.decimal(field::NSH_MDTYPE, "nsh_mdtype")?;
        self.decimal(field::NSH_NP, "nsh_np")?;
        let words = [
            (field::NSH_SPI, "nsh_spi"),
            (field::NSH_C1, "nsh_c1"),
            (field::NSH_C2, "nsh_c2"),
            (field::NSH_C3, "nsh_c3"),
            (field::NSH_C4, "nsh_c4"),
        ];
        for (field, name) in words {
            if field == field::NSH_C1 {
                self.decimal(field::NSH_SI, "nsh_si")?;
            }
            if let Some((value, mask, exact)) = self.get(field) {
                self.name(name)?;
                write!(self.f, "{value:#x}")?;
                if !exact {
                    write!(self.f, "/{mask:#x}")?;
                }
            }
        }
        Ok(())
    }

    fn transport(&mut self) -> fmt::Result {
        for (kind, code) in
            [(field::ICMPV4_TYPE, field::ICMPV4_CODE), (field::ICMPV6_TYPE, field::ICMPV6_CODE)]
        {
            self.shifted(kind, "icmp_type", 0)?;
            self.shifted(code, "icmp_code", 0)?;
        }
        self.address(field::ND_TARGET, "nd_target")?;
        self.mac(field::ND_SLL, "nd_sll")?;
        self.mac(field::ND_TLL, "nd_tll")?;
        self.shifted(field::ND_RESERVED, "nd_reserved", 0)?;
        self.shifted(field::ND_OPTIONS_TYPE, "nd_options_type", 0)?;
        let ports = [
            (field::TCP_SRC, field::TCP_DST),
            (field::UDP_SRC, field::UDP_DST),
            (field::SCTP_SRC, field::SCTP_DST),
        ];
        for (source, destination) in ports {
            self.decimal(source, "tp_src")?;
            self.decimal(destination, "tp_dst")?;
        }
        if let Some((value, mask, _)) = self.get(field::TCP_FLAGS) {
            self.name("tcp_flags")?;
            flags(self.f, value, mask, 0xfff, tcp_flag_bit)?;
        }
        Ok(())
    }

    /// What `ovs-ofctl` has no word for.
    fn undeclared(&mut self) -> fmt::Result {
        let matches = self.matches;
        for entry in matches.iter().filter(|entry| entry.field.info().is_none()) {
            self.comma()?;
            write!(self.f, "{}={}", entry.field, HexBytes(entry.value))?;
            if let Some(mask) = entry.mask {
                write!(self.f, "/{}", HexBytes(mask))?;
            }
        }
        Ok(())
    }
}

const IPV4: u128 = 0x0800;
const IPV6: u128 = 0x86dd;
const ARP: u128 = 0x0806;
const RARP: u128 = 0x8035;
const NSH: u128 = 0x894f;
const TUNNEL_FLAGS: u128 = 0xf;
