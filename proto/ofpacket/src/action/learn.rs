//! Flows that add flows (NXAST_LEARN, NXAST_LEARN2).

use crate::error::{DecodeError, EncodeError};
use crate::field::{Field, Subfield};
use crate::match_::FieldValue;
use crate::port::TableId;
use crate::wire::{Reader, Wire, Writer, wire_flags};

wire_flags! {
    /// How the learned flow lives and ends.
    pub flags LearnFlags(u16) {
        /// Tell when it is removed.
        SEND_FLOW_REM = 1, "send_flow_rem";
        /// Delete it with the flow that learned it.
        DELETE_LEARNED = 2, "delete_learned";
        /// Say in a bit whether the limit left room; set by `LearnLimit::result`.
        WRITE_RESULT = 4, "write_result";
    }
}

/// Adds or refreshes a flow made of the packet's fields.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Learn {
    /// Idle timeout in seconds, 0 for none.
    pub idle_timeout: u16,
    /// Hard timeout in seconds, 0 for none.
    pub hard_timeout: u16,
    /// Priority of the new flow.
    pub priority: u16,
    /// Cookie of the new flow.
    pub cookie: u64,
    /// How it lives and ends.
    pub flags: LearnFlags,
    /// Its table.
    pub table: TableId,
    /// Idle timeout in seconds once TCP ends, 0 to keep.
    pub fin_idle_timeout: u16,
    /// Hard timeout in seconds once TCP ends, 0 to keep.
    pub fin_hard_timeout: u16,
    /// Only in `Action::Learn2`.
    pub limit: LearnLimit,
    /// What the new flow matches and does.
    pub specs: Vec<LearnSpec>,
}

/// How many flows with this cookie and table may be learned.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct LearnLimit {
    /// At most so many; 0 means no limit.
    pub flows: u32,
    /// Bit that says whether there was room.
    pub result: Option<Subfield>,
}

/// One match or action of the learned flow.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct LearnSpec {
    /// Where the value comes from.
    pub source: LearnSource,
    /// What becomes of it.
    pub target: LearnTarget,
    /// Its size in bits; that of source and target.
    pub bits: u16,
}

/// Where a learned value comes from.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum LearnSource {
    /// The packet: a field from this bit up.
    Field(Field, u16),
    /// The flow: bytes, right-aligned, an even number of them.
    Immediate(Box<[u8]>),
}

/// What becomes of a learned value.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum LearnTarget {
    /// The new flow matches it in a field from this bit up.
    Match(Field, u16),
    /// The new flow loads it into a field from this bit up.
    Load(Field, u16),
    /// The new flow outputs to the port it names.
    Output,
}

impl Learn {
    /// Learns into a table, with the default priority and no timeouts.
    pub fn new(table: impl Into<TableId>) -> Self {
        Self {
            idle_timeout: 0,
            hard_timeout: 0,
            priority: crate::flow::DEFAULT_PRIORITY,
            cookie: 0,
            flags: LearnFlags::NONE,
            table: table.into(),
            fin_idle_timeout: 0,
            fin_hard_timeout: 0,
            limit: LearnLimit::default(),
            specs: Vec::new(),
        }
    }

    /// Adds a match or an action.
    pub fn spec(mut self, spec: LearnSpec) -> Self {
        self.specs.push(spec);
        self
    }

    fn put_common(&self, w: &mut Writer) {
        let mut flags = self.flags.without(LearnFlags::WRITE_RESULT);
        if self.limit.result.is_some() {
            flags |= LearnFlags::WRITE_RESULT;
        }
        w.put(self.idle_timeout);
        w.put(self.hard_timeout);
        w.put(self.priority);
        w.put(self.cookie);
        w.put(flags);
        w.put(self.table);
        w.zeros(1);
        w.put(self.fin_idle_timeout);
        w.put(self.fin_hard_timeout);
    }

    fn take_common(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (idle_timeout, hard_timeout, priority, cookie) = (r.take()?, r.take()?, r.take()?, r.take()?);
        let flags: LearnFlags = r.take()?;
        let table = r.take()?;
        r.skip(1)?;
        Ok(Self {
            idle_timeout,
            hard_timeout,
            priority,
            cookie,
            flags,
            table,
            fin_idle_timeout: r.take()?,
            fin_hard_timeout: r.take()?,
            limit: LearnLimit::default(),
            specs: Vec::new(),
        })
    }

    fn take_specs(&mut self, r: &mut Reader<'_>) -> Result<(), DecodeError> {
        // A zero header is the padding behind the last one.
        while r.left() >= 2 && !r.peek().starts_with(&[0, 0]) {
            self.specs.push(r.take()?);
        }
        Ok(())
    }
}

impl LearnSpec {
    /// Matches a field of the new flow against a field of the packet.
    pub fn match_field(target: impl Into<Subfield>, source: impl Into<Subfield>) -> Self {
        let (target, source) = (target.into(), source.into());
        Self {
            source: LearnSource::Field(source.field, source.offset),
            target: LearnTarget::Match(target.field, target.offset),
            bits: source.bits,
        }
    }

    /// Matches a field of the new flow against a value.
    pub fn match_value(target: impl Into<Subfield>, value: impl FieldValue) -> Self {
        let target = target.into();
        Self {
            source: LearnSource::immediate(value, target.bits),
            target: LearnTarget::Match(target.field, target.offset),
            bits: target.bits,
        }
    }

    /// Loads a field of the packet.
    pub fn load_field(target: impl Into<Subfield>, source: impl Into<Subfield>) -> Self {
        let (target, source) = (target.into(), source.into());
        Self {
            source: LearnSource::Field(source.field, source.offset),
            target: LearnTarget::Load(target.field, target.offset),
            bits: source.bits,
        }
    }

    /// Loads a value.
    pub fn load_value(target: impl Into<Subfield>, value: impl FieldValue) -> Self {
        let target = target.into();
        Self {
            source: LearnSource::immediate(value, target.bits),
            target: LearnTarget::Load(target.field, target.offset),
            bits: target.bits,
        }
    }

    /// Outputs to the port that a field of the packet names.
    pub fn output(source: impl Into<Subfield>) -> Self {
        let source = source.into();
        Self {
            source: LearnSource::Field(source.field, source.offset),
            target: LearnTarget::Output,
            bits: source.bits,
        }
    }
}

impl LearnSource {
    fn immediate(value: impl FieldValue, bits: u16) -> Self {
        let bytes = value.to_bits().to_be_bytes();
        let length = immediate_len(bits).min(bytes.len());
        let mut wide = vec![0; immediate_len(bits) - length];
        wide.extend_from_slice(&bytes[bytes.len() - length..]);
        Self::Immediate(wide.into())
    }
}

fn immediate_len(bits: u16) -> usize {
    usize::from(bits.div_ceil(16)) * 2
}

impl Wire for LearnSpec {
    fn put(&self, w: &mut Writer) {
        let (source, target) = match (&self.source, self.target) {
            (LearnSource::Field(..), LearnTarget::Match(..)) => (0, 0),
            (LearnSource::Field(..), LearnTarget::Load(..)) => (0, TARGET_LOAD),
            (LearnSource::Field(..), LearnTarget::Output) => (0, TARGET_OUTPUT),
            (LearnSource::Immediate(_), LearnTarget::Match(..)) => (SOURCE_IMMEDIATE, 0),
            (LearnSource::Immediate(_), LearnTarget::Load(..)) => (SOURCE_IMMEDIATE, TARGET_LOAD),
            (LearnSource::Immediate(_), LearnTarget::Output) => {
                w.refuse(EncodeError::NotExpressible {
                    what: "learn",
                    expected: "a field as the port to output to",
                });
                (SOURCE_IMMEDIATE, TARGET_OUTPUT)
            }
        };
        if self.bits > BITS_MASK || self.bits == 0 {
            w.refuse(EncodeError::NotExpressible { what: "learn", expected: "1 to 2047 bits" });
        }
        w.put(source | target | (self.bits & BITS_MASK));
        match &self.source {
            LearnSource::Field(field, offset) => {
                field.put_short(w);
                w.put(*offset);
            }
            LearnSource::Immediate(bytes) => {
                if bytes.len() != immediate_len(self.bits) {
                    w.refuse(EncodeError::NotExpressible {
                        what: "learn",
                        expected: "a value as wide as its bits",
                    });
                }
                w.bytes(bytes);
            }
        }
        if let LearnTarget::Match(field, offset) | LearnTarget::Load(field, offset) = self.target {
            field.put_short(w);
            w.put(offset);
        }
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let head: u16 = r.take()?;
        let bits = head & BITS_MASK;
        let source = if head & SOURCE_IMMEDIATE == 0 {
            LearnSource::Field(Field::take_short(r)?, r.take()?)
        } else {
            LearnSource::Immediate(r.bytes(immediate_len(bits))?.into())
        };
        let target = match head & TARGET_MASK {
            0 => LearnTarget::Match(Field::take_short(r)?, r.take()?),
            TARGET_LOAD => LearnTarget::Load(Field::take_short(r)?, r.take()?),
            TARGET_OUTPUT => LearnTarget::Output,
            _ => return Err(r.wrong("a known target of a learned value", head.into())),
        };
        Ok(Self { source, target, bits })
    }
}

/// The form without limit.
pub(super) struct LearnShort(pub(super) Learn);

impl Wire for LearnShort {
    fn put(&self, w: &mut Writer) {
        if self.0.limit != LearnLimit::default() {
            w.refuse(EncodeError::NotExpressible { what: "learn", expected: "`Learn2` for a limit" });
        }
        self.0.put_common(w);
        w.list(&self.0.specs);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut learn = Learn::take_common(r)?;
        learn.take_specs(r)?;
        Ok(Self(learn))
    }
}

/// The form with limit.
impl Wire for Learn {
    fn put(&self, w: &mut Writer) {
        self.put_common(w);
        w.put(self.limit.flows);
        w.put(self.limit.result.map_or(0, |result| result.offset));
        w.zeros(2);
        self.limit.result.iter().for_each(|result| w.put(result.field));
        w.list(&self.specs);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut learn = Self::take_common(r)?;
        learn.limit.flows = r.take()?;
        let offset = r.take()?;
        r.skip(2)?;
        if learn.flags.contains(LearnFlags::WRITE_RESULT) {
            let field: Field = r.take()?;
            learn.limit.result = Some(field.bit(offset));
            learn.flags = learn.flags.without(LearnFlags::WRITE_RESULT);
        }
        learn.take_specs(r)?;
        Ok(learn)
    }
}

const BITS_MASK: u16 = 0x07ff;
const SOURCE_IMMEDIATE: u16 = 1 << 13;
const TARGET_MASK: u16 = 3 << 11;
const TARGET_LOAD: u16 = 1 << 11;
const TARGET_OUTPUT: u16 = 2 << 11;
