//! Match and register fields (OpenFlow 1.3.5, section 7.2.3.7; Open vSwitch `ovs-fields(7)`), declared once
//! in a table that decoder, encoder, printer and tests read.
//!
//! Many fields have two numbers on the wire: an OXM one, which matches use, and an older NXM one,
//! which Nicira actions use. Here both are one [`Field`].
//!
//! # Invariants
//! - The order of the table is the order of entries in a `Match`, and a field stands after the
//!   fields it depends on.
//! - An undeclared field keeps its numbers, sorts after all declared ones and survives a round trip.

use std::fmt;

use crate::error::{DecodeError, EncodeError};
use crate::wire::{Reader, Wire, Writer};

mod table;

pub use table::*;

/// A protocol or pipeline field, declared in the table or only known by its numbers.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Field {
    rank: u16,
    class: u16,
    number: u8,
    width: u8,
    experimenter: u32,
}

/// Numbers of a field on the wire.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Numbers {
    pub(crate) name: &'static str,
    pub(crate) class: u16,
    pub(crate) number: u8,
    pub(crate) experimenter: u32,
}

/// What the table says about a field.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Info {
    pub(crate) name: &'static str,
    pub(crate) bytes: u8,
    pub(crate) bits: u16,
    pub(crate) format: Format,
    pub(crate) needs: Prerequisite,
    pub(crate) nxm: &'static [Numbers],
    pub(crate) oxm: &'static [Numbers],
}

/// How a value is printed (`enum mf_string` of Open vSwitch).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Format {
    Decimal,
    Hex,
    Ipv4,
    Ipv6,
    Mac,
    Port16,
    Port32,
    Frag,
    TunnelFlags,
    TcpFlags,
    CtState,
    PacketType,
}

/// What a match must say already before it may name a field (section 7.2.3.6).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Prerequisite {
    /// Nothing.
    None,
    /// An Ethernet packet, which every packet is here.
    Ethernet,
    /// ARP or RARP.
    Arp,
    /// A VLAN tag.
    VlanVid,
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
    /// IPv4 or IPv6.
    Ip,
    /// MPLS, unicast or multicast.
    Mpls,
    /// TCP over either IP.
    Tcp,
    /// UDP over either IP.
    Udp,
    /// SCTP over either IP.
    Sctp,
    /// ICMP.
    Icmpv4,
    /// ICMPv6.
    Icmpv6,
    /// Neighbour solicitation or advertisement.
    Nd,
    /// Neighbour solicitation.
    NdSolicit,
    /// Neighbour advertisement.
    NdAdvert,
    /// A network service header.
    Nsh,
    /// A packet that went through connection tracking.
    Ct,
}

const CLASS_EXPERIMENTER: u16 = 0xffff;
const RANK_UNKNOWN: u16 = u16::MAX;

impl Field {
    pub(crate) const fn declared(rank: u16) -> Self {
        let info = &TABLE[rank as usize];
        let numbers = if info.oxm.is_empty() { info.nxm[0] } else { info.oxm[0] };
        Self {
            rank,
            class: numbers.class,
            number: numbers.number,
            width: info.bytes,
            experimenter: numbers.experimenter,
        }
    }

    /// A field by its numbers on the wire; `experimenter` counts only for class 0xffff.
    pub fn from_numbers(class: u16, number: u8, experimenter: u32, width: u8) -> Self {
        let experimenter = if class == CLASS_EXPERIMENTER { experimenter } else { 0 };
        let number = number & 0x7f;
        let rank = match INDEX_CLASSES.iter().position(|known| *known == class) {
            Some(at) => u16::from(INDEX[at][usize::from(number)]),
            None if class == CLASS_EXPERIMENTER || class == CLASS_ERICSSON => (0..)
                .zip(TABLE)
                .find(|(_, info)| {
                    info.oxm
                        .iter()
                        .any(|n| (n.class, n.number, n.experimenter) == (class, number, experimenter))
                })
                .map_or(INDEX_NONE, |(rank, _)| rank),
            None => INDEX_NONE,
        };
        if rank != INDEX_NONE {
            let declared = Self::declared(rank);
            if declared.width == width || declared.has_any_width() {
                return Self { width, ..declared };
            }
        }
        Self { rank: RANK_UNKNOWN, class, number, width, experimenter }
    }

    pub(crate) fn info(self) -> Option<&'static Info> {
        TABLE.get(usize::from(self.rank))
    }

    /// Bytes of a value.
    pub const fn width(self) -> u8 {
        self.width
    }

    /// Whether the width depends on the switch's tunnel option table.
    pub const fn has_any_width(self) -> bool {
        self.rank >= Rank::TUN_METADATA0 as u16 && self.rank <= Rank::TUN_METADATA63 as u16
    }

    /// A tunnel metadata field as wide as its tunnel option; other fields stay as they are.
    pub const fn of_width(self, bytes: u8) -> Self {
        if self.has_any_width() { Self { width: bytes, ..self } } else { self }
    }

    /// Significant bits of a value, as subfields count them.
    pub fn bits(self) -> u16 {
        match self.info() {
            Some(info) if !self.has_any_width() => info.bits,
            _ => u16::from(self.width) * 8,
        }
    }

    /// Bits of a value that a match looks at. Differs from `bits` where the wire carries more than
    /// the field (the presence bit of `VLAN_VID`) or the switch keeps less (`CT_STATE`).
    pub(crate) fn significant(self) -> u128 {
        match self {
            VLAN_VID => 0x1fff,
            CT_STATE => 0xff,
            TUN_FLAGS => 0xffff,
            _ if self.bits() >= 128 => u128::MAX,
            _ => (1 << self.bits()) - 1,
        }
    }

    /// What a match must say before it may name this field.
    pub fn prerequisite(self) -> Prerequisite {
        self.info().map_or(Prerequisite::None, |info| info.needs)
    }

    /// The name `ovs-ofctl` uses in `set_field` and `learn`.
    pub fn name(self) -> Option<&'static str> {
        self.info().map(|info| info.name)
    }

    /// The name `ovs-ofctl` uses in `move`, `load`, `push` and other subfields.
    pub fn nxm_name(self) -> Option<&'static str> {
        self.info().map(|info| self.preferred(info.nxm, info.oxm).name)
    }

    /// All of the field.
    pub fn all(self) -> Subfield {
        Subfield { field: self, offset: 0, bits: self.bits() }
    }

    /// The `bits` bits from `offset` up.
    pub const fn range(self, offset: u16, bits: u16) -> Subfield {
        Subfield { field: self, offset, bits }
    }

    /// One bit.
    pub const fn bit(self, offset: u16) -> Subfield {
        Subfield { field: self, offset, bits: 1 }
    }

    /// Register `number` of 0 to 15.
    ///
    /// # Panics
    /// When there is no such register: a mistake of the program, not of a peer.
    pub const fn reg(number: u8) -> Self {
        assert!(number < 16, "there are registers 0 to 15");
        Self::declared(Rank::REG0 as u16 + number as u16)
    }

    /// The 64-bit register over `REG{2n}` and `REG{2n+1}`.
    ///
    /// # Panics
    /// When there is no such register.
    pub const fn xreg(number: u8) -> Self {
        assert!(number < 8, "there are 64-bit registers 0 to 7");
        Self::declared(Rank::XREG0 as u16 + number as u16)
    }

    /// The 128-bit register over `REG{4n}` to `REG{4n+3}`.
    ///
    /// # Panics
    /// When there is no such register.
    pub const fn xxreg(number: u8) -> Self {
        assert!(number < 4, "there are 128-bit registers 0 to 3");
        Self::declared(Rank::XXREG0 as u16 + number as u16)
    }

    /// Tunnel metadata slot `number` of 0 to 63, as wide as its tunnel option.
    ///
    /// # Panics
    /// When there is no such slot.
    pub const fn tun_metadata(number: u8, bytes: u8) -> Self {
        assert!(number < 64, "there are tunnel metadata slots 0 to 63");
        Self::declared(Rank::TUN_METADATA0 as u16 + number as u16).of_width(bytes)
    }

    pub(crate) const fn rank(self) -> u16 {
        self.rank
    }

    fn preferred(self, first: &[Numbers], second: &[Numbers]) -> Numbers {
        *first.first().or_else(|| second.first()).expect("every row of the table has numbers")
    }

    fn numbers(self, form: Form) -> (u16, u8, u32) {
        match (self.info(), form) {
            (Some(info), Form::Nxm) => {
                let numbers = self.preferred(info.nxm, info.oxm);
                (numbers.class, numbers.number, numbers.experimenter)
            }
            _ => (self.class, self.number, self.experimenter),
        }
    }

    /// Appends the header; `payload` is the length of value and mask.
    fn put_numbers(self, w: &mut Writer, form: Form, masked: bool) {
        let (class, number, experimenter) = self.numbers(form);
        let payload = usize::from(self.width) * (1 + usize::from(masked));
        let length = payload + if class == CLASS_EXPERIMENTER { 4 } else { 0 };
        let length = u8::try_from(length).unwrap_or_else(|_| {
            w.refuse(EncodeError::TooLong { what: "oxm", limit: usize::from(u8::MAX), got: length });
            u8::MAX
        });
        w.put(class);
        w.put(number << 1 | u8::from(masked));
        w.put(length);
        if class == CLASS_EXPERIMENTER {
            w.put(experimenter);
        }
    }

    /// Whether a four-byte header can name it.
    pub(crate) fn has_short(self) -> bool {
        self.numbers(Form::Nxm).0 != CLASS_EXPERIMENTER
    }

    /// Appends the header alone.
    pub(crate) fn put_header(self, w: &mut Writer, form: Form) {
        self.put_numbers(w, form, false);
    }

    /// Appends an entry: header, value and mask.
    pub(crate) fn put_entry(self, w: &mut Writer, form: Form, value: &[u8], mask: Option<&[u8]>) {
        if value.len() != usize::from(self.width) || mask.is_some_and(|mask| mask.len() != value.len()) {
            w.refuse(EncodeError::NotExpressible { what: "oxm", expected: "a value as wide as its field" });
        }
        self.put_numbers(w, form, mask.is_some());
        w.bytes(value);
        w.bytes(mask.unwrap_or_default());
    }

    /// Reads an entry: field, value and mask.
    pub(crate) fn take_entry<'a>(r: &mut Reader<'a>) -> Result<RawEntry<'a>, DecodeError> {
        let (field, masked) = Self::take_header(r)?;
        let value = r.bytes(usize::from(field.width))?;
        let mask = if masked { Some(r.bytes(usize::from(field.width))?) } else { None };
        Ok((field, value, mask))
    }

    fn take_header(r: &mut Reader<'_>) -> Result<(Self, bool), DecodeError> {
        let class: u16 = r.take()?;
        let [number, length]: [u8; 2] = r.array()?;
        let masked = number & 1 != 0;
        let mut payload = length;
        let mut experimenter = 0;
        if class == CLASS_EXPERIMENTER {
            experimenter = r.take()?;
            payload = length
                .checked_sub(4)
                .ok_or_else(|| r.wrong("an experimenter OXM of 4 bytes or more", length.into()))?;
        }
        if masked && payload % 2 != 0 {
            return Err(r.wrong("an even length of a masked OXM", length.into()));
        }
        Ok((Self::from_numbers(class, number >> 1, experimenter, payload / (1 + u8::from(masked))), masked))
    }

    /// Appends a four-byte header in the form that Nicira actions use.
    pub(crate) fn put_short(self, w: &mut Writer) {
        if !self.has_short() {
            w.refuse(EncodeError::NotExpressible {
                what: "nxm header",
                expected: "a field outside the experimenter class",
            });
        }
        self.put_numbers(w, Form::Nxm, false);
    }

    /// Reads a four-byte header.
    pub(crate) fn take_short(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if r.peek().starts_with(&[0xff, 0xff]) {
            return Err(r.wrong("a field outside the experimenter class", u64::from(CLASS_EXPERIMENTER)));
        }
        Self::take(r)
    }
}

/// A header alone, of four or eight bytes, in the form that Nicira actions use.
impl Wire for Field {
    fn put(&self, w: &mut Writer) {
        self.put_numbers(w, Form::Nxm, false);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (field, masked) = Self::take_header(r)?;
        if masked {
            return Err(r.wrong("a field header without mask", 1));
        }
        Ok(field)
    }
}

/// Field, value and mask as they stand on the wire.
pub(crate) type RawEntry<'a> = (Field, &'a [u8], Option<&'a [u8]>);

/// Which of its numbers a field shows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Form {
    /// Matches and OpenFlow set-field.
    Oxm,
    /// Nicira actions.
    Nxm,
}

impl fmt::Debug for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) if self.has_any_width() => write!(f, "{name}({})", self.width),
            Some(name) => f.write_str(name),
            None => write!(
                f,
                "oxm({:#06x}, {}, {:#x}, {})",
                self.class, self.number, self.experimenter, self.width
            ),
        }
    }
}

/// Consecutive bits of a field.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Subfield {
    /// The field.
    pub field: Field,
    /// Lowest bit.
    pub offset: u16,
    /// How many bits, at least one.
    pub bits: u16,
}

impl Subfield {
    /// Offset and size as Nicira actions pack them: size less one in the lower six bits.
    pub(crate) fn packed(self, w: &mut Writer) -> u16 {
        if self.bits == 0 || self.bits > 64 || self.offset > 0x3ff {
            w.refuse(EncodeError::NotExpressible {
                what: "subfield",
                expected: "1 to 64 bits from a bit below 1024",
            });
            return 0;
        }
        self.offset << 6 | (self.bits - 1)
    }

    pub(crate) const fn unpacked(field: Field, packed: u16) -> Self {
        Self { field, offset: packed >> 6, bits: (packed & 0x3f) + 1 }
    }
}

impl From<Field> for Subfield {
    fn from(field: Field) -> Self {
        field.all()
    }
}

const CLASS_ERICSSON: u16 = 0x1000;
const INDEX_NONE: u16 = 0xff;
const INDEX_CLASSES: [u16; 4] = [0x0000, 0x0001, 0x8000, 0x8001];

/// Rank of every number of the common classes, so that decoding a header is one look.
static INDEX: [[u8; 128]; 4] = {
    let mut index = [[0xff; 128]; 4];
    let mut rank = 0;
    while rank < TABLE.len() {
        let mut list = 0;
        while list < 2 {
            let numbers = if list == 0 { TABLE[rank].nxm } else { TABLE[rank].oxm };
            let mut i = 0;
            while i < numbers.len() {
                let mut class = 0;
                while class < INDEX_CLASSES.len() {
                    if numbers[i].class == INDEX_CLASSES[class] {
                        index[class][numbers[i].number as usize] = rank as u8;
                    }
                    class += 1;
                }
                i += 1;
            }
            list += 1;
        }
        rank += 1;
    }
    index
};

const _: () = assert!(TABLE.len() < INDEX_NONE as usize, "a rank fits a byte");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::Version;

    fn short(field: Field) -> Vec<u8> {
        let mut w = Writer::new(Version::V1_3);
        field.put(&mut w);
        w.finish().unwrap()
    }

    #[test]
    fn field_headers_match_open_vswitch() {
        assert_eq!(short(REG0), [0, 1, 0, 4]);
        assert_eq!(short(METADATA), [0x80, 0, 4, 8]);
        assert_eq!(short(ETH_SRC), [0, 0, 4, 6]);
        assert_eq!(short(XXREG3), [0, 1, 228, 16]);
        assert_eq!(short(NSH_SPI), [0xff, 0xff, 8, 8, 0, 0x5a, 0xd6, 0x50]);
    }

    #[test]
    fn every_number_leads_back_to_its_field() {
        for (rank, info) in (0..).zip(TABLE) {
            for n in info.nxm.iter().chain(info.oxm) {
                assert_eq!(
                    Field::from_numbers(n.class, n.number, n.experimenter, info.bytes),
                    Field::declared(rank),
                    "{}",
                    n.name
                );
            }
        }
    }

    #[test]
    fn a_field_of_another_width_is_another_field() {
        let odd = Field::from_numbers(1, 0, 0, 8);
        assert_eq!(odd.name(), None);
        assert_eq!(short(odd), [0, 1, 0, 8]);
        assert_eq!(Field::from_numbers(1, 40, 0, 8).name(), Some("tun_metadata0"));
    }
}
