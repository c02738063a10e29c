//! Actions (OpenFlow 1.3.5, section 7.2.5) with the extensions of Open vSwitch (`ovs-actions(7)`).
//!
//! # Invariants
//! - Decoding loses nothing: an action whose bytes this crate would write differently, be it
//!   unknown, newer or padded oddly, is kept whole as [`Action::Unknown`].
//! - OpenFlow 1.5 has no `load` and `move` of its own; there they are written as the set-field and
//!   copy-field they mean, and read back as that.

use crate::error::{DecodeError, EncodeError};
use crate::field::{Field, Form, Subfield};
use crate::header::Version;
use crate::match_::FieldValue;
use crate::message::VENDOR_ONF;
use crate::port::{GroupId, MeterId, Port, QueueId, TableId};
use crate::wire::{Reader, Wire, Writer};

mod ct;
mod learn;
mod output;
mod reported;
mod set;

pub use ct::{Conntrack, ConntrackFlags, ConntrackZone, Nat, NatFlags, NatRange};
pub use learn::{Learn, LearnFlags, LearnLimit, LearnSource, LearnSpec, LearnTarget};
pub use output::{
    Bundle, BundleAlgorithm, Controller, HashFields, Multipath, MultipathAlgorithm, Output, OutputReg,
    OutputTrunc, PacketInReason, Resubmit, Sample, SampleDirection,
};
pub use set::{
    CheckPacketLarger, Conjunction, CounterIds, Decap, Encap, FinTimeout, Note, RegLoad, RegMove, SetField,
};

/// Number of an action on the wire.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Id {
    OpenFlow(u16),
    Nicira(u16),
    Onf(u16),
}

/// Declares the actions: the variant, what it carries, and its number. The body is padded with
/// zeros to a multiple of eight bytes.
macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident $(($body:ty $(as $wire:path)?))? = $space:ident $number:literal;)*) => {
        /// What happens to a packet.
        #[derive(Clone, Debug, Eq, Hash, PartialEq)]
        #[non_exhaustive]
        pub enum Action {
            $($(#[$doc])* $name $(($body))?,)*
            /// An action this crate does not know, header and padding included.
            Unknown(Box<[u8]>),
        }

        impl Action {
            fn id(&self) -> Option<Id> {
                match self {
                    $(actions!(@pattern $name $(, $body, _body)?) => Some(Id::$space($number)),)*
                    Self::Unknown(_) => None,
                }
            }

            fn put_body(&self, w: &mut Writer) {
                match self {
                    $(actions!(@pattern $name $(, $body, body)?) => { $(actions!(@put w, body, $body $(, $wire)?);)? })*
                    Self::Unknown(raw) => w.bytes(raw),
                }
            }

            fn take_body(id: Id, r: &mut Reader<'_>) -> Result<Option<Self>, DecodeError> {
                Ok(Some(match id {
                    $(Id::$space($number) => actions!(@take r, $name $(, $body $(, $wire)?)?),)*
                    _ => return Ok(None),
                }))
            }
        }
    };
    (@pattern $name:ident) => { Self::$name };
    (@pattern $name:ident, $body:ty, $bind:ident) => { Self::$name($bind) };
    (@put $w:ident, $bind:ident, $body:ty) => { Wire::put($bind, $w) };
    (@put $w:ident, $bind:ident, $body:ty, $wire:path) => { Wire::put(&$wire($bind.clone()), $w) };
    (@take $r:ident, $name:ident) => { Self::$name };
    (@take $r:ident, $name:ident, $body:ty) => { Self::$name(<$body as Wire>::take($r)?) };
    (@take $r:ident, $name:ident, $body:ty, $wire:path) => {{ let $wire(body) = Wire::take($r)?; Self::$name(body) }};
}

actions! {
    /// Sends the packet out of a port.
    Output(Output) = OpenFlow 0;
    /// Pushes a VLAN tag of this Ethernet type.
    PushVlan(u16) = OpenFlow 17;
    /// Pops the outermost VLAN tag.
    PopVlan = OpenFlow 18;
    /// Sets the TTL of the outermost MPLS label.
    SetMplsTtl(u8) = OpenFlow 15;
    /// Decrements the TTL of the outermost MPLS label.
    DecMplsTtl = OpenFlow 16;
    /// Pushes an MPLS label of this Ethernet type.
    PushMpls(u16) = OpenFlow 19;
    /// Pops the outermost MPLS label; this Ethernet type follows.
    PopMpls(u16) = OpenFlow 20;
    /// Chooses the queue for later output.
    SetQueue(QueueId) = OpenFlow 21;
    /// Runs a group.
    Group(GroupId) = OpenFlow 22;
    /// Sets the IP TTL.
    SetNwTtl(u8) = OpenFlow 23;
    /// Decrements the IP TTL; an expired packet goes to the controller.
    DecNwTtl = OpenFlow 24;
    /// Sets a field, or with a mask some of its bits.
    SetField(SetField) = OpenFlow 25;
    /// Applies a meter; an action in OpenFlow 1.5, where 1.3 has an instruction.
    Meter(MeterId) = OpenFlow 29;
    /// Looks up another table, then goes on here.
    Resubmit(Resubmit) = Nicira 14;
    /// Like `Resubmit`, matching addresses and ports of the connection's original direction.
    ResubmitCt(Resubmit) = Nicira 44;
    /// Sets a tunnel key of 32 bits.
    SetTunnel(u32 as set::SkipTwo) = Nicira 2;
    /// Sets a tunnel key of 64 bits.
    SetTunnel64(u64 as set::SkipSix) = Nicira 9;
    /// Back to the queue the packet started with.
    PopQueue = Nicira 5;
    /// Copies bits from field to field.
    RegMove(RegMove) = Nicira 6;
    /// The same in the form of ONF, in which Open vSwitch reports what it was told over 1.5.
    CopyField(RegMove as set::OnfCopyField) = Onf 3200;
    /// Sets at most 64 bits of a field.
    RegLoad(RegLoad) = Nicira 7;
    /// Bytes without meaning to the switch.
    Note(Note) = Nicira 8;
    /// Hashes fields into a register.
    Multipath(Multipath) = Nicira 10;
    /// Outputs to one of several ports, chosen by hash or liveness.
    Bundle(Bundle) = Nicira 12;
    /// Loads one of several ports into a register, chosen by hash or liveness.
    BundleLoad(Bundle) = Nicira 13;
    /// Outputs to the port a field names.
    OutputReg(OutputReg as output::OutputRegShort) = Nicira 15;
    /// Like `OutputReg`, with room for experimenter fields.
    OutputReg2(OutputReg) = Nicira 32;
    /// Adds a flow made of this packet's fields.
    Learn(Learn as learn::LearnShort) = Nicira 16;
    /// Like `Learn`, with a limit on the number of flows.
    Learn2(Learn) = Nicira 45;
    /// Stops processing.
    Exit = Nicira 17;
    /// Shortens timeouts when a TCP connection ends.
    FinTimeout(FinTimeout) = Nicira 19;
    /// Sends the packet to a controller.
    Controller(Controller as output::ControllerShort) = Nicira 20;
    /// Like `Controller`, with user data, pause and meter.
    Controller2(Controller) = Nicira 37;
    /// Decrements the IP TTL; an expired packet goes to these controllers.
    DecTtlCounterIds(CounterIds) = Nicira 21;
    /// Pushes bits on the stack of the packet.
    StackPush(Subfield as set::Stack) = Nicira 27;
    /// Pops bits off the stack of the packet.
    StackPop(Subfield as set::Stack) = Nicira 28;
    /// Samples packets for IPFIX.
    Sample(Sample as output::SampleShort) = Nicira 29;
    /// Samples packets for IPFIX at a port.
    Sample2(Sample as output::SampleLong) = Nicira 38;
    /// Samples packets for IPFIX at a port, in one direction.
    Sample3(Sample) = Nicira 41;
    /// One dimension of a conjunctive match; see `CONJ_ID`.
    Conjunction(Conjunction) = Nicira 34;
    /// Connection tracking.
    Ct(Conntrack) = Nicira 35;
    /// Address translation; only within `Ct`.
    Nat(Nat) = Nicira 36;
    /// Outputs at most so many bytes of the packet.
    OutputTrunc(OutputTrunc) = Nicira 39;
    /// Runs actions on a copy of the packet.
    Clone(Vec<Action> as set::Nested) = Nicira 42;
    /// Forgets what connection tracking said.
    CtClear = Nicira 43;
    /// Adds a header in front.
    Encap(Encap) = Nicira 46;
    /// Removes the header in front.
    Decap(Decap) = Nicira 47;
    /// Decrements the TTL of the network service header.
    DecNshTtl = Nicira 48;
    /// Says in a bit whether the packet is larger than so many bytes.
    CheckPacketLarger(CheckPacketLarger) = Nicira 49;
    /// Removes a tunnel option.
    DeleteField(Field as set::Deleted) = Nicira 50;
}

impl Action {
    /// Sends the packet out of a port.
    pub fn output(port: Port) -> Self {
        Self::Output(Output { port, max_len: if port == Port::CONTROLLER { MAX_LEN_ALL } else { 0 } })
    }

    /// Looks up a table, with the ingress port as it is.
    pub fn resubmit(table: impl Into<TableId>) -> Self {
        Self::Resubmit(Resubmit { in_port: Port::IN_PORT, table: table.into() })
    }

    /// Runs a group.
    pub fn group(group: impl Into<GroupId>) -> Self {
        Self::Group(group.into())
    }

    /// Sets all of a field.
    pub fn set_field(field: Field, value: impl FieldValue) -> Self {
        Self::SetField(SetField::new(field, value))
    }

    /// Sets some bits of a field.
    pub fn set_masked(field: Field, value: impl FieldValue, mask: impl FieldValue) -> Self {
        Self::SetField(SetField::masked(field, value, mask))
    }

    /// Sets at most 64 bits.
    pub fn load(target: impl Into<Subfield>, value: u64) -> Self {
        Self::RegLoad(RegLoad { target: target.into(), value })
    }

    /// Copies bits; both sides are as wide as the source.
    pub fn copy(source: impl Into<Subfield>, target: impl Into<Subfield>) -> Self {
        Self::RegMove(RegMove { source: source.into(), target: target.into() })
    }

    /// Pushes bits on the stack.
    pub fn push(bits: impl Into<Subfield>) -> Self {
        Self::StackPush(bits.into())
    }

    /// Pops bits off the stack.
    pub fn pop(bits: impl Into<Subfield>) -> Self {
        Self::StackPop(bits.into())
    }

    /// One dimension of a conjunction; `clause` counts from 0.
    pub const fn conjunction(id: u32, clause: u8, clauses: u8) -> Self {
        Self::Conjunction(Conjunction { clause, clauses, id })
    }

    /// Sends the whole packet to the controller with user data, in the form packet-in2 reports.
    pub fn punt(userdata: &[u8]) -> Self {
        Self::Controller2(Controller { userdata: Some(userdata.into()), ..Controller::default() })
    }

    /// Like `punt`, and the packet waits until the controller resumes it.
    pub fn punt_and_pause(userdata: &[u8]) -> Self {
        Self::Controller2(Controller {
            userdata: Some(userdata.into()),
            pause: true,
            ..Controller::default()
        })
    }

    /// What stands on the wire in this version: 1.3 has no masked set-field, 1.5 no `load`.
    fn put_in_version(&self, w: &mut Writer) -> bool {
        let before_1_5 = w.version < Version::V1_5;
        match self {
            Self::SetField(set) if set.mask.is_some() && before_1_5 => {
                put_action(w, Id::Nicira(NXAST_REG_LOAD2), |w| set.put_entry(w, Form::Nxm));
            }
            Self::RegLoad(load) if !before_1_5 => match load.to_set_field() {
                Some(set) => put_action(w, Id::OpenFlow(OFPAT_SET_FIELD), |w| set.put(w)),
                None => {
                    w.refuse(EncodeError::NotExpressible { what: "load", expected: "bits within the field" })
                }
            },
            Self::RegMove(copy) | Self::CopyField(copy) if !before_1_5 => {
                put_action(w, Id::OpenFlow(OFPAT_COPY_FIELD), |w| copy.put_copy_field(w));
            }
            _ => return false,
        }
        true
    }

    fn take_in_version(id: Id, r: &mut Reader<'_>) -> Result<Option<Self>, DecodeError> {
        let before_1_5 = r.version < Version::V1_5;
        match id {
            Id::Nicira(NXAST_REG_LOAD2) if before_1_5 => {
                SetField::take_padded(r).map(|set| Some(Self::SetField(set)))
            }
            Id::OpenFlow(OFPAT_COPY_FIELD) if !before_1_5 => {
                RegMove::take_copy_field(r).map(|m| Some(Self::RegMove(m)))
            }
            _ => Self::take_body(id, r),
        }
    }
}

/// One action: number, length, body, zeros.
impl Wire for Action {
    fn put(&self, w: &mut Writer) {
        match self.id() {
            None => self.put_body(w),
            Some(_) if self.put_in_version(w) => {}
            Some(id) => put_action(w, id, |w| self.put_body(w)),
        }
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut body = r.entry("ofp_action", 2, 8)?;
        let raw = body.peek();
        let version = body.version;
        if raw.len() % 8 != 0 {
            return Err(body.wrong("an action length divisible by 8", raw.len() as u64));
        }
        let kind: u16 = body.take()?;
        body.skip(2)?;
        let id = match kind {
            OFPAT_EXPERIMENTER => {
                let vendor: u32 = body.take()?;
                match vendor {
                    VENDOR_NICIRA if raw.len() >= 16 => Id::Nicira(body.take()?),
                    VENDOR_ONF if raw.len() >= 16 => Id::Onf(body.take()?),
                    _ => return Ok(Self::Unknown(raw.into())),
                }
            }
            kind => Id::OpenFlow(kind),
        };
        let action = match Self::take_in_version(id, &mut body) {
            Ok(Some(action)) => action,
            Err(error @ DecodeError::Nesting { .. }) => return Err(error),
            Ok(None) | Err(_) => return Ok(Self::Unknown(raw.into())),
        };
        // The promise of this module: what would be written differently is kept as it is.
        let mut again = Writer::new(version);
        action.put(&mut again);
        match again.finish() {
            Ok(bytes) if bytes == raw => Ok(action),
            _ => Ok(Self::Unknown(raw.into())),
        }
    }
}

fn put_action(w: &mut Writer, id: Id, body: impl FnOnce(&mut Writer)) {
    let start = w.len();
    match id {
        Id::OpenFlow(kind) => {
            w.put(kind);
            w.put(0u16);
        }
        Id::Nicira(subtype) => {
            w.put(OFPAT_EXPERIMENTER);
            w.put(0u16);
            w.put(VENDOR_NICIRA);
            w.put(subtype);
        }
        Id::Onf(subtype) => {
            w.put(OFPAT_EXPERIMENTER);
            w.put(0u16);
            w.put(VENDOR_ONF);
            w.put(subtype);
        }
    }
    body(w);
    w.align(start, 8);
    w.length_at("ofp_action", start + 2, start);
}

/// Actions whose length in bytes stands before them.
pub(crate) fn put_actions(w: &mut Writer, length_at: usize, actions: &[Action]) {
    let start = w.len();
    w.list(actions);
    w.length_at("ofp_action list", length_at, start);
}

const OFPAT_SET_FIELD: u16 = 25;
const OFPAT_COPY_FIELD: u16 = 28;
const OFPAT_EXPERIMENTER: u16 = 0xffff;
const NXAST_REG_LOAD2: u16 = 33;
/// Vendor id of Nicira, under which Open vSwitch extends OpenFlow.
pub const VENDOR_NICIRA: u32 = 0x0000_2320;
/// Length with which a packet goes to the controller whole.
pub const MAX_LEN_ALL: u16 = 0xffff;
