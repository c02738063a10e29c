//! Instructions of a flow (OpenFlow 1.3.5, section 7.2.4).

use crate::action::Action;
use crate::error::{DecodeError, EncodeError};
use crate::header::Version;
use crate::port::{MeterId, TableId};
use crate::wire::{Reader, Wire, Writer};

/// What a flow does with a packet. The switch runs instructions in the order of their numbers,
/// and meters first.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Instruction {
    /// Goes on in a later table.
    GotoTable(TableId),
    /// Sets the metadata bits of the mask.
    WriteMetadata {
        /// The bits.
        value: u64,
        /// Which bits.
        mask: u64,
    },
    /// Merges actions into the action set.
    WriteActions(Vec<Action>),
    /// Runs actions now.
    ApplyActions(Vec<Action>),
    /// Empties the action set.
    ClearActions,
    /// Applies a meter.
    Meter(MeterId),
    /// An instruction this crate does not know, header included.
    Unknown(Box<[u8]>),
}

const GOTO_TABLE: u16 = 1;
const WRITE_METADATA: u16 = 2;
const WRITE_ACTIONS: u16 = 3;
const APPLY_ACTIONS: u16 = 4;
const CLEAR_ACTIONS: u16 = 5;
const METER: u16 = 6;

impl Instruction {
    fn kind(&self) -> Option<u16> {
        Some(match self {
            Self::GotoTable(_) => GOTO_TABLE,
            Self::WriteMetadata { .. } => WRITE_METADATA,
            Self::WriteActions(_) => WRITE_ACTIONS,
            Self::ApplyActions(_) => APPLY_ACTIONS,
            Self::ClearActions => CLEAR_ACTIONS,
            Self::Meter(_) => METER,
            Self::Unknown(_) => return None,
        })
    }

    fn take_body(kind: u16, r: &mut Reader<'_>) -> Result<Option<Self>, DecodeError> {
        Ok(Some(match kind {
            GOTO_TABLE => Self::GotoTable(r.take()?),
            WRITE_METADATA => {
                r.skip(4)?;
                Self::WriteMetadata { value: r.take()?, mask: r.take()? }
            }
            WRITE_ACTIONS => {
                r.skip(4)?;
                Self::WriteActions(r.list()?)
            }
            APPLY_ACTIONS => {
                r.skip(4)?;
                Self::ApplyActions(r.list()?)
            }
            CLEAR_ACTIONS => Self::ClearActions,
            METER if r.version < Version::V1_5 => Self::Meter(r.take()?),
            _ => return Ok(None),
        }))
    }
}

impl Wire for Instruction {
    fn put(&self, w: &mut Writer) {
        let Some(kind) = self.kind() else {
            if let Self::Unknown(raw) = self {
                w.bytes(raw);
            }
            return;
        };
        let start = w.len();
        w.put(kind);
        w.put(0u16);
        match self {
            Self::GotoTable(table) => w.put(*table),
            Self::WriteMetadata { value, mask } => {
                w.zeros(4);
                w.put(*value);
                w.put(*mask);
            }
            Self::WriteActions(actions) | Self::ApplyActions(actions) => {
                w.zeros(4);
                w.list(actions);
            }
            Self::Meter(meter) => {
                if w.version >= Version::V1_5 {
                    let expected = "the action `Meter` in OpenFlow 1.5";
                    w.refuse(EncodeError::NotExpressible { what: "meter", expected });
                }
                w.put(*meter);
            }
            Self::ClearActions | Self::Unknown(_) => {}
        }
        w.align(start, 8);
        w.length_at("ofp_instruction", start + 2, start);
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut body = r.entry("ofp_instruction", 2, 4)?;
        let raw = body.peek();
        let kind: u16 = body.take()?;
        body.skip(2)?;
        let version = body.version;
        let Some(instruction) = Self::take_body(kind, &mut body)? else {
            return Ok(Self::Unknown(raw.into()));
        };
        // As with actions: what would be written differently is kept as it is.
        let mut again = Writer::new(version);
        instruction.put(&mut again);
        match again.finish() {
            Ok(bytes) if bytes == raw => Ok(instruction),
            _ => Ok(Self::Unknown(raw.into())),
        }
    }
}
