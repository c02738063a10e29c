//! Actions that change fields, registers, headers and the stack.

use crate::action::Action;
use crate::error::DecodeError;
use crate::field::{Field, Form, Subfield};
use crate::match_::FieldValue;
use crate::wire::{Reader, Wire, Writer, wire_struct};

/// Sets a field, or with a mask some of its bits (section 7.2.5; NXAST_REG_LOAD2 when masked).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct SetField {
    /// The field.
    pub field: Field,
    /// As many bytes as the field has.
    pub value: Box<[u8]>,
    /// Bits to set; all without a mask.
    pub mask: Option<Box<[u8]>>,
}

impl SetField {
    /// Sets all of a field.
    pub fn new(field: Field, value: impl FieldValue) -> Self {
        Self { field, value: widen(field, value.to_bits()), mask: None }
    }

    /// Sets the bits of a mask; a mask of everything is none.
    pub fn masked(field: Field, value: impl FieldValue, mask: impl FieldValue) -> Self {
        let mask = mask.to_bits();
        if mask & field.significant() == field.significant() && field.width() <= 16 {
            return Self::new(field, value);
        }
        Self { field, value: widen(field, value.to_bits() & mask), mask: Some(widen(field, mask)) }
    }

    pub(super) fn put_entry(&self, w: &mut Writer, form: Form) {
        self.field.put_entry(w, form, &self.value, self.mask.as_deref());
    }

    pub(super) fn take_padded(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (field, value, mask) = Field::take_entry(r)?;
        Ok(Self { field, value: value.into(), mask: mask.map(Into::into) })
    }
}

impl Wire for SetField {
    fn put(&self, w: &mut Writer) {
        self.put_entry(w, Form::Oxm);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::take_padded(r)
    }
}

fn widen(field: Field, value: u128) -> Box<[u8]> {
    let width = usize::from(field.width());
    let bytes = value.to_be_bytes();
    let mut wide = vec![0; width.saturating_sub(bytes.len())];
    wide.extend_from_slice(&bytes[bytes.len().saturating_sub(width)..]);
    wide.into()
}

/// Copies bits from field to field (NXAST_REG_MOVE; OFPAT_COPY_FIELD in 1.5).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct RegMove {
    /// Where from.
    pub source: Subfield,
    /// Where to; its size is that of the source.
    pub target: Subfield,
}

impl RegMove {
    fn put_with(&self, w: &mut Writer, between: usize, form: Form) {
        w.put(self.source.bits);
        w.put(self.source.offset);
        w.put(self.target.offset);
        w.zeros(between);
        if self.source.bits != self.target.bits {
            let expected = "source and target of one size";
            w.refuse(crate::error::EncodeError::NotExpressible { what: "move", expected });
        }
        self.source.field.put_header(w, form);
        self.target.field.put_header(w, form);
    }

    fn take_with(r: &mut Reader<'_>, between: usize) -> Result<Self, DecodeError> {
        let (bits, source, target): (u16, u16, u16) = (r.take()?, r.take()?, r.take()?);
        r.skip(between)?;
        let (from, to): (Field, Field) = (r.take()?, r.take()?);
        Ok(Self { source: from.range(source, bits), target: to.range(target, bits) })
    }

    pub(super) fn put_copy_field(&self, w: &mut Writer) {
        self.put_with(w, 2, Form::Oxm);
    }

    pub(super) fn take_copy_field(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::take_with(r, 2)
    }
}

impl Wire for RegMove {
    fn put(&self, w: &mut Writer) {
        self.put_with(w, 0, Form::Nxm);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::take_with(r, 0)
    }
}

/// The form of ONF extension 320 (ONFACT_COPY_FIELD).
pub(super) struct OnfCopyField(pub(super) RegMove);

impl Wire for OnfCopyField {
    fn put(&self, w: &mut Writer) {
        w.zeros(2);
        self.0.put_copy_field(w);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.skip(2)?;
        RegMove::take_copy_field(r).map(Self)
    }
}

/// Sets at most 64 bits of a field (NXAST_REG_LOAD; a masked set-field in 1.5).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct RegLoad {
    /// Where to.
    pub target: Subfield,
    /// What, right-aligned.
    pub value: u64,
}

impl RegLoad {
    pub(super) fn to_set_field(&self) -> Option<SetField> {
        let Subfield { field, offset, bits } = self.target;
        if bits == 0 || bits > 64 || field.width() > 16 || offset + bits > u16::from(field.width()) * 8 {
            return None;
        }
        let ones = (1u128 << bits) - 1;
        Some(SetField::masked(field, (u128::from(self.value) & ones) << offset, ones << offset))
    }
}

impl Wire for RegLoad {
    fn put(&self, w: &mut Writer) {
        let packed = self.target.packed(w);
        w.put(packed);
        self.target.field.put_short(w);
        w.put(self.value);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let packed = r.take()?;
        let field = Field::take_short(r)?;
        Ok(Self { target: Subfield::unpacked(field, packed), value: r.take()? })
    }
}

/// Bits for the stack (NXAST_STACK_PUSH, NXAST_STACK_POP).
pub(super) struct Stack(pub(super) Subfield);

impl Wire for Stack {
    fn put(&self, w: &mut Writer) {
        w.put(self.0.offset);
        let start = w.len();
        w.put(self.0.field);
        w.put(self.0.bits);
        w.pad_to(start, 12);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let offset = r.take()?;
        let field: Field = r.take()?;
        Ok(Self(field.range(offset, r.take()?)))
    }
}

/// A field to remove (NXAST_DELETE_FIELD).
pub(super) struct Deleted(pub(super) Field);

impl Wire for Deleted {
    fn put(&self, w: &mut Writer) {
        let start = w.len();
        w.put(self.0);
        w.pad_to(start, 14);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.take().map(Self)
    }
}

/// Says in a bit whether the packet is larger than so many bytes (NXAST_CHECK_PKT_LARGER).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct CheckPacketLarger {
    /// Bytes, Ethernet header included.
    pub length: u16,
    /// The bit; one bit wide.
    pub target: Subfield,
}

impl Wire for CheckPacketLarger {
    fn put(&self, w: &mut Writer) {
        w.put(self.length);
        w.put(self.target.offset);
        let start = w.len();
        w.put(self.target.field);
        w.pad_to(start, 10);
        if self.target.bits != 1 {
            let expected = "a single bit";
            w.refuse(crate::error::EncodeError::NotExpressible { what: "check_pkt_larger", expected });
        }
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (length, offset) = (r.take()?, r.take()?);
        let field: Field = r.take()?;
        Ok(Self { length, target: field.bit(offset) })
    }
}

/// Bytes without meaning to the switch (NXAST_NOTE), filled up with zeros to 6, 14, 22 … bytes.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Note(Box<[u8]>);

impl Note {
    /// A note of these bytes, filled up with zeros.
    pub fn new(bytes: &[u8]) -> Self {
        let mut bytes = bytes.to_vec();
        bytes.resize((bytes.len() + 2).next_multiple_of(8) - 2, 0);
        Self(bytes.into())
    }

    /// The bytes with their filling.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Wire for Note {
    fn put(&self, w: &mut Writer) {
        w.bytes(&self.0);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.take().map(Self)
    }
}

/// Controllers that get a packet whose TTL expired (NXAST_DEC_TTL_CNT_IDS).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct CounterIds(pub Vec<u16>);

impl Wire for CounterIds {
    fn put(&self, w: &mut Writer) {
        w.count("dec_ttl", self.0.len());
        w.zeros(4);
        w.list(&self.0);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count: u16 = r.take()?;
        r.skip(4)?;
        r.sub("dec_ttl", usize::from(count) * 2)?.list().map(Self)
    }
}

/// Actions for a copy of the packet (NXAST_CLONE).
pub(super) struct Nested(pub(super) Vec<Action>);

impl Wire for Nested {
    fn put(&self, w: &mut Writer) {
        w.zeros(6);
        w.list(&self.0);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.skip(6)?;
        r.nested("clone", r.left())?.list().map(Self)
    }
}

/// A 32-bit argument, aligned.
pub(super) struct SkipTwo(pub(super) u32);

impl Wire for SkipTwo {
    fn put(&self, w: &mut Writer) {
        w.zeros(2);
        w.put(self.0);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.skip(2)?;
        r.take().map(Self)
    }
}

/// A 64-bit argument, aligned.
pub(super) struct SkipSix(pub(super) u64);

impl Wire for SkipSix {
    fn put(&self, w: &mut Writer) {
        w.zeros(6);
        w.put(self.0);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.skip(6)?;
        r.take().map(Self)
    }
}

wire_struct! {
    /// One dimension of a conjunctive match (NXAST_CONJUNCTION).
    pub struct Conjunction "nx_action_conjunction" {
        /// Which dimension, from 0; printed from 1.
        clause: u8,
        /// How many dimensions, 2 to 64.
        clauses: u8,
        /// The conjunction, as `CONJ_ID` reports it.
        id: u32,
    }

    /// Shortens timeouts when a TCP connection ends (NXAST_FIN_TIMEOUT).
    pub struct FinTimeout "nx_action_fin_timeout" {
        /// New idle timeout in seconds, unless 0.
        idle_timeout: u16,
        /// New hard timeout in seconds, unless 0.
        hard_timeout: u16 => pad 2,
    }

    /// Adds a header in front (NXAST_ENCAP).
    pub struct Encap "nx_action_encap" {
        /// Size of the header, or 0.
        header_size: u16,
        /// Packet type of the result: name space in the upper half, type in the lower.
        packet_type: u32,
        /// Properties, encoded.
        properties: Box<[u8]>,
    }
}

/// Removes the header in front (NXAST_DECAP).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Decap {
    /// Packet type of the result; 0xfffe lets the header say.
    pub packet_type: u32,
}

impl Wire for Decap {
    fn put(&self, w: &mut Writer) {
        w.zeros(2);
        w.put(self.packet_type);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.skip(2)?;
        Ok(Self { packet_type: r.take()? })
    }
}
