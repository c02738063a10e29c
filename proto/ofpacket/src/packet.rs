//! Packets between switch and controller (OpenFlow 1.3.5, sections 7.3.7 and 7.4.1; NXT_PACKET_IN2 and
//! NXT_RESUME of Open vSwitch).

use crate::action::{Action, PacketInReason, put_actions};
use crate::error::DecodeError;
use crate::group::Property;
use crate::match_::Match;
use crate::port::{BufferId, Port, TableId};
use crate::property;
use crate::wire::{Reader, Wire, Writer};

/// A packet from the controller (`ofp_packet_out`).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct PacketOut {
    /// Buffered packet, instead of `data`.
    pub buffer: BufferId,
    /// Port it seems to come from, or `Port::CONTROLLER`.
    pub in_port: Port,
    /// What happens to it.
    pub actions: Vec<Action>,
    /// The packet.
    pub data: Box<[u8]>,
}

impl PacketOut {
    /// Sends a packet through these actions, as coming from the controller.
    pub fn new(actions: Vec<Action>, data: impl Into<Box<[u8]>>) -> Self {
        Self { buffer: BufferId::NONE, in_port: Port::CONTROLLER, actions, data: data.into() }
    }
}

impl Wire for PacketOut {
    fn put(&self, w: &mut Writer) {
        w.put(self.buffer);
        w.put(self.in_port);
        let length_at = w.len();
        w.zeros(8);
        put_actions(w, length_at, &self.actions);
        w.bytes(&self.data);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (buffer, in_port) = (r.take()?, r.take()?);
        let length: u16 = r.take()?;
        r.skip(6)?;
        let actions = r.sub("ofp_packet_out actions", length.into())?.list()?;
        Ok(Self { buffer, in_port, actions, data: r.take()? })
    }
}

/// A packet for the controller (`ofp_packet_in`).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct PacketIn {
    /// Buffered packet.
    pub buffer: BufferId,
    /// Bytes of the whole packet.
    pub total_len: u16,
    /// Why it came.
    pub reason: PacketInReason,
    /// Table that sent it.
    pub table: TableId,
    /// Cookie of the flow that sent it.
    pub cookie: u64,
    /// Metadata: ingress port, registers and so on.
    pub metadata: Match,
    /// The packet, perhaps cut.
    pub data: Box<[u8]>,
}

impl Wire for PacketIn {
    fn put(&self, w: &mut Writer) {
        w.put(self.buffer);
        w.put(self.total_len);
        w.put(self.reason);
        w.put(self.table);
        w.put(self.cookie);
        self.metadata.put(w);
        w.zeros(2);
        w.bytes(&self.data);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (buffer, total_len, reason) = (r.take()?, r.take()?, r.take()?);
        let (table, cookie, metadata) = (r.take()?, r.take()?, r.take()?);
        r.skip(2)?;
        Ok(Self { buffer, total_len, reason, table, cookie, metadata, data: r.take()? })
    }
}

/// A packet for the controller with everything that belongs to it (NXT_PACKET_IN2). The same
/// structure, changed or not, resumes a paused packet (NXT_RESUME).
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct PacketIn2 {
    /// The packet, perhaps cut.
    pub data: Option<Box<[u8]>>,
    /// Bytes of the whole packet, if it was cut.
    pub full_len: Option<u32>,
    /// Buffered packet.
    pub buffer: Option<BufferId>,
    /// Table that sent it.
    pub table: Option<TableId>,
    /// Cookie of the flow that sent it.
    pub cookie: Option<u64>,
    /// Why it came.
    pub reason: Option<PacketInReason>,
    /// Metadata: ingress port, registers, connection tracking.
    pub metadata: Option<Match>,
    /// What the controller action carried.
    pub userdata: Option<Box<[u8]>>,
    /// What the switch needs to go on with a paused packet; opaque, with its leading padding.
    pub continuation: Option<Box<[u8]>>,
    /// Properties this crate does not know.
    pub unknown: Vec<Property>,
}

impl PacketIn2 {
    /// The answer that lets a paused packet go on; change `data` and `metadata` at will.
    pub fn into_resume(self) -> Self {
        Self { full_len: None, buffer: None, ..self }
    }
}

const PACKET: u16 = 0;
const FULL_LEN: u16 = 1;
const BUFFER: u16 = 2;
const TABLE: u16 = 3;
const COOKIE: u16 = 4;
const REASON: u16 = 5;
const METADATA: u16 = 6;
const USERDATA: u16 = 7;
const CONTINUATION: u16 = 8;

impl Wire for PacketIn2 {
    fn put(&self, w: &mut Writer) {
        self.data.iter().for_each(|data| property::put(w, PACKET, |w| w.bytes(data)));
        self.full_len.iter().for_each(|length| property::put(w, FULL_LEN, |w| w.put(*length)));
        self.buffer.iter().for_each(|buffer| property::put(w, BUFFER, |w| w.put(*buffer)));
        self.table.iter().for_each(|table| property::put(w, TABLE, |w| w.put(*table)));
        if let Some(cookie) = self.cookie {
            property::put_nested(w, COOKIE, |w| w.put(cookie));
        }
        self.reason.iter().for_each(|reason| property::put(w, REASON, |w| w.put(*reason)));
        self.metadata
            .iter()
            .for_each(|metadata| property::put(w, METADATA, |w| w.bytes(metadata.as_bytes())));
        self.userdata.iter().for_each(|userdata| property::put(w, USERDATA, |w| w.bytes(userdata)));
        self.continuation.iter().for_each(|bytes| property::put(w, CONTINUATION, |w| w.bytes(bytes)));
        for Property { kind, value } in &self.unknown {
            property::put(w, *kind, |w| w.bytes(value));
        }
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut this = Self::default();
        while !r.is_empty() {
            let (kind, mut value) = property::take(r, "nx_packet_in2")?;
            match kind {
                PACKET => this.data = Some(value.take()?),
                FULL_LEN => this.full_len = Some(value.take()?),
                BUFFER => this.buffer = Some(value.take()?),
                TABLE => this.table = Some(value.take()?),
                COOKIE => {
                    value.skip(4)?;
                    this.cookie = Some(value.take()?);
                }
                REASON => this.reason = Some(value.take()?),
                METADATA => this.metadata = Some(Match::take_entries(&mut value)?),
                USERDATA => this.userdata = Some(value.take()?),
                CONTINUATION => this.continuation = Some(value.take()?),
                kind => this.unknown.push(Property { kind, value: value.take()? }),
            }
        }
        Ok(this)
    }
}
