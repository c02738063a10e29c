//! What a flow matches: OXM entries in canonical form (OpenFlow 1.3.5, section 7.2.3).
//!
//! # Invariants
//! - Entries are sorted by field and each field occurs once, so equal bytes mean equal matches and
//!   a field comes after those it depends on.
//! - A match has one form whatever numbers it was written with: 64- and 128-bit registers are
//!   split, a whole VLAN tag becomes id and priority, a full mask becomes no mask, an empty mask
//!   no entry, and "an Ethernet packet" is not said. This is the form in which Open vSwitch
//!   reports flows, so what is wanted can be compared with what is there.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::error::DecodeError;
use crate::field::{self, Field, Form, Prerequisite, Subfield};
use crate::header::Version;
use crate::port::Port;
use crate::wire::{Reader, Wire, Writer, wire_flags};

wire_flags! {
    /// Bits of [`field::CT_STATE`].
    pub flags CtState(u32) {
        /// Start of a connection.
        NEW = 0x01, "new";
        /// Part of a connection that is already there.
        EST = 0x02, "est";
        /// Belongs to a connection, for instance an ICMP error.
        REL = 0x04, "rel";
        /// In the direction opposite to the first packet.
        RPL = 0x08, "rpl";
        /// Not to be associated with any connection.
        INV = 0x10, "inv";
        /// Went through connection tracking.
        TRK = 0x20, "trk";
        /// Its source was translated.
        SNAT = 0x40, "snat";
        /// Its destination was translated.
        DNAT = 0x80, "dnat";
    }
}

/// The condition of a flow, in canonical form.
#[derive(Clone, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Match {
    entries: Vec<u8>,
}

/// One field of a match.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Entry<'a> {
    /// The field.
    pub field: Field,
    /// The value; zero where the mask is.
    pub value: &'a [u8],
    /// Bits that count; all of them without a mask.
    pub mask: Option<&'a [u8]>,
}

/// A value that fits a field: an integer or an address.
pub trait FieldValue {
    /// The value as an integer, most significant byte first on the wire.
    fn to_bits(self) -> u128;
}

impl Match {
    /// The match of every packet.
    pub const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// Adds `field == value`. An earlier condition on the same field is replaced. Bits that the field
    /// does not have are a mistake, asserted in debug builds and dropped in others.
    pub fn with(self, field: Field, value: impl FieldValue) -> Self {
        self.with_masked(field, value, u128::MAX)
    }

    /// Adds `field & mask == value & mask`. Bits of an earlier condition outside the mask stay.
    pub fn with_masked(mut self, field: Field, value: impl FieldValue, mask: impl FieldValue) -> Self {
        self.insert_bits(field, value.to_bits(), mask.to_bits());
        self
    }

    /// Adds a condition on some bits of a field.
    pub fn with_bits(self, bits: impl Into<Subfield>, value: impl FieldValue) -> Self {
        let bits = bits.into();
        let ones = if bits.bits >= 128 { u128::MAX } else { (1 << bits.bits) - 1 };
        let offset = u32::from(bits.offset);
        let shift = |value: u128| value.checked_shl(offset).unwrap_or(0);
        let value = value.to_bits();
        debug_assert!(value <= ones, "{value:#x} does not fit {bits:?}");
        self.with_masked(bits.field, shift(value & ones), shift(ones))
    }

    /// Adds a condition on the first `length` bits, for addresses.
    pub fn with_prefix(self, field: Field, value: impl FieldValue, length: u8) -> Self {
        let bits = u32::from(field.bits());
        let length = u32::from(length).min(bits);
        let ones = if bits >= 128 { u128::MAX } else { (1 << bits) - 1 };
        let mask = if length == 0 { 0 } else { (ones << (bits - length)) & ones };
        self.with_masked(field, value, mask)
    }

    /// Adds a condition on a field of any width, bytes in wire order.
    pub fn with_bytes(mut self, field: Field, value: &[u8], mask: Option<&[u8]>) -> Self {
        self.insert(field, value, mask);
        self
    }

    /// Drops the condition on a field.
    pub fn without(mut self, field: Field) -> Self {
        self.remove(field);
        self
    }

    /// Matches the ingress port.
    pub fn in_port(self, port: Port) -> Self {
        self.with(field::IN_PORT, port.0)
    }

    /// Matches the Ethernet type.
    pub fn eth_type(self, eth_type: u16) -> Self {
        self.with(field::ETH_TYPE, eth_type)
    }

    /// Matches ARP.
    pub fn arp(self) -> Self {
        self.eth_type(ETH_TYPE_ARP)
    }

    /// Matches IPv4.
    pub fn ipv4(self) -> Self {
        self.eth_type(ETH_TYPE_IPV4)
    }

    /// Matches IPv6.
    pub fn ipv6(self) -> Self {
        self.eth_type(ETH_TYPE_IPV6)
    }

    /// Matches the IP protocol; say which IP as well.
    pub fn ip_proto(self, protocol: u8) -> Self {
        self.with(field::IP_PROTO, protocol)
    }

    /// Matches a register.
    ///
    /// # Panics
    /// When there is no register of this number.
    pub fn reg(self, number: u8, value: u32) -> Self {
        self.with(Field::reg(number), value)
    }

    /// Matches some bits of a register.
    ///
    /// # Panics
    /// When there is no register of this number.
    pub fn reg_masked(self, number: u8, value: u32, mask: u32) -> Self {
        self.with_masked(Field::reg(number), value, mask)
    }

    /// Matches the OpenFlow metadata.
    pub fn metadata(self, value: u64) -> Self {
        self.with(field::METADATA, value)
    }

    /// Matches connection tracking state: the bits of `set` are 1, those of `clear` are 0.
    pub fn ct_state(self, set: CtState, clear: CtState) -> Self {
        self.with_masked(field::CT_STATE, set.0, set.with(clear).0)
    }

    /// Matches packets tagged with this VLAN.
    pub fn vlan(self, id: u16) -> Self {
        self.with(field::VLAN_VID, VLAN_PRESENT | (id & 0x0fff))
    }

    /// Matches packets with any VLAN tag.
    pub fn tagged(self) -> Self {
        self.with_masked(field::VLAN_VID, VLAN_PRESENT, VLAN_PRESENT)
    }

    /// Matches packets without VLAN tag.
    pub fn untagged(self) -> Self {
        self.with(field::VLAN_VID, 0u16)
    }

    /// Adds the conditions that the fields need and that are not in doubt: `TCP_DST` adds the IP
    /// protocol but cannot know which IP.
    pub fn with_prerequisites(mut self) -> Self {
        let needs: Vec<_> = self.iter().map(|entry| entry.field.prerequisite()).collect();
        for (field, value) in needs.iter().flat_map(|needed| needed.conditions()) {
            if self.get(*field).is_none() {
                self = self.with(*field, *value);
            }
        }
        self
    }

    /// The first field whose prerequisite is missing; a switch would refuse the match.
    pub fn missing_prerequisite(&self) -> Option<(Field, Prerequisite)> {
        self.iter()
            .map(|entry| (entry.field, entry.field.prerequisite()))
            .find(|(_, needs)| !self.satisfies(*needs))
    }

    fn satisfies(&self, needs: Prerequisite) -> bool {
        let exact = |field| self.get(field).map(|(value, _)| value);
        let any_of = |field, values: &[u128]| exact(field).is_some_and(|value| values.contains(&value));
        let (v4, v6) = (u128::from(ETH_TYPE_IPV4), u128::from(ETH_TYPE_IPV6));
        let ip = any_of(field::ETH_TYPE, &[v4, v6]);
        let proto = |number| ip && any_of(field::IP_PROTO, &[number]);
        let icmpv6 = any_of(field::ETH_TYPE, &[v6]) && any_of(field::IP_PROTO, &[58]);
        match needs {
            Prerequisite::None | Prerequisite::Ethernet => true,
            Prerequisite::Arp => any_of(field::ETH_TYPE, &[ETH_TYPE_ARP.into(), 0x8035]),
            Prerequisite::VlanVid => self.get(field::VLAN_VID).is_some_and(|(value, _)| value & 0x1000 != 0),
            Prerequisite::Ipv4 => any_of(field::ETH_TYPE, &[v4]),
            Prerequisite::Ipv6 => any_of(field::ETH_TYPE, &[v6]),
            Prerequisite::Ip => ip,
            Prerequisite::Mpls => any_of(field::ETH_TYPE, &[0x8847, 0x8848]),
            Prerequisite::Tcp => proto(6),
            Prerequisite::Udp => proto(17),
            Prerequisite::Sctp => proto(132),
            Prerequisite::Icmpv4 => any_of(field::ETH_TYPE, &[v4]) && any_of(field::IP_PROTO, &[1]),
            Prerequisite::Icmpv6 => icmpv6,
            Prerequisite::Nd => icmpv6 && any_of(field::ICMPV6_TYPE, &[135, 136]),
            Prerequisite::NdSolicit => icmpv6 && any_of(field::ICMPV6_TYPE, &[135]),
            Prerequisite::NdAdvert => icmpv6 && any_of(field::ICMPV6_TYPE, &[136]),
            Prerequisite::Nsh => any_of(field::ETH_TYPE, &[0x894f]),
            Prerequisite::Ct => {
                ip && self.get(field::CT_STATE).is_some_and(|(state, mask)| is_connection(state, mask))
            }
        }
    }

    /// Value and mask of a field of at most 16 bytes. Without a mask the mask has all its bits.
    pub fn get(&self, field: Field) -> Option<(u128, u128)> {
        let entry = self.iter().find(|entry| entry.field == field)?;
        Some((to_u128(entry.value)?, entry.mask.map_or_else(|| Some(field.significant()), to_u128)?))
    }

    /// The entries in order.
    pub fn iter(&self) -> impl Iterator<Item = Entry<'_>> {
        let mut reader = self.reader();
        std::iter::from_fn(move || {
            if reader.is_empty() {
                return None;
            }
            let (field, value, mask) =
                Field::take_entry(&mut reader).expect("entries were written by `insert_raw`");
            Some(Entry { field, value, mask })
        })
    }

    /// Whether every packet matches.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The encoded entries, as they stand in a flow-mod.
    pub fn as_bytes(&self) -> &[u8] {
        &self.entries
    }

    fn reader(&self) -> Reader<'_> {
        Reader::new("oxm", Version::V1_3, &self.entries)
    }

    /// Adds bits of a field, in canonical form. Tells whether bits were there already and differ.
    fn insert_bits(&mut self, field: Field, value: u128, mask: u128) -> bool {
        if field.width() > 16 {
            let (value, mask) = (value.to_be_bytes(), mask.to_be_bytes());
            let width = usize::from(field.width());
            let widen = |bytes: &[u8], fill| [vec![fill; width - bytes.len()], bytes.to_vec()].concat();
            let fill = if mask == [0xff; 16] { 0xff } else { 0 };
            return self.insert(field, &widen(&value, 0), Some(&widen(&mask, fill)));
        }
        let significant = field.significant();
        debug_assert!(
            value & mask & !significant == 0 || field == field::CT_STATE,
            "{value:#x} does not fit {field:?}"
        );
        let mask = mask & significant;
        let value = value & mask;
        match field {
            field::PACKET_TYPE if value == 0 && mask == significant => false,
            field::NXM_IN_PORT if mask == significant => {
                let port = Port::from_u16(u16::try_from(value).expect("the field is 16 bits wide"));
                self.insert_bits(field::IN_PORT, port.0.into(), u128::MAX)
            }
            field::NXM_IP_TOS if mask & !0xfc == 0 || mask == significant => {
                self.insert_bits(field::IP_DSCP, value >> 2, mask >> 2)
            }
            field::NXM_VLAN_TCI if mask & 0xe000 == 0xe000 || mask & 0xe000 == 0 => {
                let clash = self.insert_bits(field::VLAN_VID, value & 0x1fff, mask & 0x1fff);
                // Without a tag there is no priority to match.
                let tagged = value & 0x1fff != 0;
                if tagged {
                    self.insert_bits(field::VLAN_PCP, value >> 13, mask >> 13) || clash
                } else {
                    clash
                }
            }
            _ if field.rank() >= field::XREG0.rank() && field.rank() <= field::XREG7.rank() => {
                self.insert_registers((field.rank() - field::XREG0.rank()) * 2, 2, value, mask)
            }
            _ if field.rank() >= field::XXREG0.rank() && field.rank() <= field::XXREG3.rank() => {
                self.insert_registers((field.rank() - field::XXREG0.rank()) * 4, 4, value, mask)
            }
            _ if mask == 0 && !field.has_any_width() => false,
            _ => {
                let (mut value, mut mask) = (value, mask);
                let mut clash = false;
                if let Some((old, old_mask)) = self.get(field) {
                    clash = (old ^ value) & old_mask & mask != 0;
                    value |= old & !mask;
                    mask |= old_mask;
                }
                let width = usize::from(field.width());
                let (value, mask_bytes) = (value.to_be_bytes(), mask.to_be_bytes());
                let exact = mask == significant;
                self.insert_raw(field, &value[16 - width..], (!exact).then_some(&mask_bytes[16 - width..]));
                clash
            }
        }
    }

    fn insert_registers(&mut self, first: u16, count: u16, value: u128, mask: u128) -> bool {
        let mut clash = false;
        for i in 0..count {
            let register = Field::declared(field::REG0.rank() + first + i);
            let shift = 32 * u32::from(count - 1 - i);
            let part = |bits: u128| (bits >> shift) & u128::from(u32::MAX);
            clash |= self.insert_bits(register, part(value), part(mask));
        }
        clash
    }

    fn insert(&mut self, field: Field, value: &[u8], mask: Option<&[u8]>) -> bool {
        let full = mask.is_none_or(|mask| mask.iter().all(|byte| *byte == 0xff));
        if let (Some(_), Some(value)) = (field.info(), to_u128(value).filter(|_| field.width() <= 16)) {
            let mask = if full { Some(u128::MAX) } else { mask.and_then(to_u128) };
            let significant = field.significant();
            return self.insert_bits(field, value & significant, mask.unwrap_or(u128::MAX));
        }
        let value: Vec<u8> = match mask {
            Some(mask) => value.iter().zip(mask).map(|(value, mask)| value & mask).collect(),
            None => value.to_vec(),
        };
        let clash = self.iter().any(|entry| entry.field == field);
        self.insert_raw(field, &value, mask.filter(|_| !full));
        clash
    }

    fn remove(&mut self, field: Field) {
        let (from, to) = self.place(field);
        self.entries.drain(from..to);
    }

    /// Where the entry of `field` is, or where it would go.
    fn place(&self, field: Field) -> (usize, usize) {
        let mut reader = self.reader();
        loop {
            let from = reader.consumed();
            if reader.is_empty() {
                return (from, from);
            }
            let (at, ..) = Field::take_entry(&mut reader).expect("entries were written by `insert_raw`");
            match at.cmp(&field) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => return (from, reader.consumed()),
                std::cmp::Ordering::Greater => return (from, from),
            }
        }
    }

    fn insert_raw(&mut self, field: Field, value: &[u8], mask: Option<&[u8]>) {
        let mut w = Writer::new(Version::V1_3);
        field.put_entry(&mut w, Form::Oxm, value, mask);
        let entry = w.finish().expect("a caller gives a value as wide as the field");
        let (from, to) = self.place(field);
        self.entries.splice(from..to, entry);
    }

    /// Reads entries up to the end.
    pub(crate) fn take_entries(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut this = Self::new();
        while !r.is_empty() {
            r.what("oxm");
            let (field, value, mask) = Field::take_entry(r)?;
            if this.insert(field, value, mask) {
                return Err(r.wrong("each field once", field.rank().into()));
            }
        }
        Ok(this)
    }
}

/// `ofp_match`: type, length, entries, and zeros up to a multiple of eight (section 7.2.3.1).
impl Wire for Match {
    fn put(&self, w: &mut Writer) {
        let start = w.len();
        w.put(MATCH_OXM);
        w.put(0u16);
        w.bytes(&self.entries);
        w.length_at("ofp_match", start + 2, start);
        w.align(start, 8);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let start = r.consumed();
        let mut entries = r.entry("ofp_match", 2, 4)?;
        let kind: u16 = entries.take()?;
        if kind != MATCH_OXM {
            return Err(entries.wrong("OXM, type 1", kind.into()));
        }
        entries.skip(2)?;
        let this = Self::take_entries(&mut entries)?;
        let length = r.consumed() - start;
        r.what("ofp_match");
        r.skip(length.next_multiple_of(8) - length)?;
        Ok(this)
    }
}

impl fmt::Debug for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for entry in self.iter() {
            match entry.mask {
                None => map.entry(&entry.field, &Hex(entry.value)),
                Some(mask) => map.entry(&entry.field, &(Hex(entry.value), Hex(mask))),
            };
        }
        map.finish()
    }
}

struct Hex<'a>(&'a [u8]);

impl fmt::Debug for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Prerequisite {
    /// The one way to satisfy it; empty when there are several or none is needed.
    fn conditions(self) -> &'static [(Field, u32)] {
        match self {
            Self::Arp => &[(field::ETH_TYPE, ETH_TYPE_ARP as u32)],
            Self::Ipv4 => &[(field::ETH_TYPE, ETH_TYPE_IPV4 as u32)],
            Self::Ipv6 => &[(field::ETH_TYPE, ETH_TYPE_IPV6 as u32)],
            Self::Tcp => &[(field::IP_PROTO, 6)],
            Self::Udp => &[(field::IP_PROTO, 17)],
            Self::Sctp => &[(field::IP_PROTO, 132)],
            Self::Icmpv4 => &[(field::ETH_TYPE, ETH_TYPE_IPV4 as u32), (field::IP_PROTO, 1)],
            Self::Icmpv6 | Self::Nd => &[(field::ETH_TYPE, ETH_TYPE_IPV6 as u32), (field::IP_PROTO, 58)],
            Self::NdSolicit => {
                &[(field::ETH_TYPE, ETH_TYPE_IPV6 as u32), (field::IP_PROTO, 58), (field::ICMPV6_TYPE, 135)]
            }
            Self::NdAdvert => {
                &[(field::ETH_TYPE, ETH_TYPE_IPV6 as u32), (field::IP_PROTO, 58), (field::ICMPV6_TYPE, 136)]
            }
            Self::Nsh => &[(field::ETH_TYPE, 0x894f)],
            _ => &[],
        }
    }
}

/// Whether state bits say that there is a connection, whose addresses can then be matched.
fn is_connection(state: u128, mask: u128) -> bool {
    let implied = [CtState::NEW, CtState::EST, CtState::REL, CtState::RPL, CtState::SNAT, CtState::DNAT];
    let implied = implied.into_iter().fold(CtState::NONE, CtState::with);
    let (trk, inv) = (u128::from(CtState::TRK.0), u128::from(CtState::INV.0));
    state & u128::from(implied.0) != 0 || (state & trk != 0 && mask & inv != 0 && state & inv == 0)
}

fn to_u128(bytes: &[u8]) -> Option<u128> {
    if bytes.len() > 16 {
        return None;
    }
    Some(bytes.iter().fold(0, |value, byte| value << 8 | u128::from(*byte)))
}

macro_rules! field_values {
    ($($integer:ty),*) => {$(
        impl FieldValue for $integer {
            fn to_bits(self) -> u128 {
                self.into()
            }
        }
    )*};
}
field_values!(u8, u16, u32, u64, u128);

/// Integer literals without a suffix; they are never negative.
impl FieldValue for i32 {
    fn to_bits(self) -> u128 {
        self.unsigned_abs().into()
    }
}

impl FieldValue for Ipv4Addr {
    fn to_bits(self) -> u128 {
        u32::from(self).into()
    }
}

impl FieldValue for Ipv6Addr {
    fn to_bits(self) -> u128 {
        self.into()
    }
}

impl FieldValue for [u8; 6] {
    fn to_bits(self) -> u128 {
        self.into_iter().fold(0, |value, byte| value << 8 | u128::from(byte))
    }
}

impl FieldValue for Port {
    fn to_bits(self) -> u128 {
        self.0.into()
    }
}

impl FieldValue for CtState {
    fn to_bits(self) -> u128 {
        self.0.into()
    }
}

const MATCH_OXM: u16 = 1;
/// Set in `VLAN_VID` when there is a tag.
pub const VLAN_PRESENT: u16 = 0x1000;
/// Ethernet type of IPv4.
pub const ETH_TYPE_IPV4: u16 = 0x0800;
/// Ethernet type of ARP.
pub const ETH_TYPE_ARP: u16 = 0x0806;
/// Ethernet type of IPv6.
pub const ETH_TYPE_IPV6: u16 = 0x86dd;
