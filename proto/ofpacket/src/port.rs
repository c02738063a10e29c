//! Port, table, group and buffer numbers, with the reserved ones (OpenFlow 1.3.5, section 7.2.1).
//!
//! Nicira structures carry the 16-bit port numbers of OpenFlow 1.0; [`Port`] is always the 32-bit
//! number, and the reserved range moves when it is narrowed.

use crate::error::{DecodeError, EncodeError};
use crate::wire::{Reader, Writer, wire_enum};

wire_enum! {
    /// Port number (`enum ofp_port_no`).
    pub enum Port(u32) {
        /// Not set yet, in `actset_output`.
        UNSET = 0xffff_fff7, "UNSET";
        /// The port the packet came in by; the only way to send a packet back.
        IN_PORT = 0xffff_fff8, "IN_PORT";
        /// Run the flow tables; packet-out only.
        TABLE = 0xffff_fff9, "TABLE";
        /// Forward as an ordinary switch would.
        NORMAL = 0xffff_fffa, "NORMAL";
        /// All ports that take part in flooding, but the ingress port.
        FLOOD = 0xffff_fffb, "FLOOD";
        /// All ports but the ingress port.
        ALL = 0xffff_fffc, "ALL";
        /// The controller.
        CONTROLLER = 0xffff_fffd, "CONTROLLER";
        /// The port named as the bridge.
        LOCAL = 0xffff_fffe, "LOCAL";
        /// No particular port; also what OpenFlow 1.0 called `NONE`.
        ANY = 0xffff_ffff, "ANY";
    }
    /// Group number (`enum ofp_group`).
    pub enum GroupId(u32) {
        /// Every group, for deletion and descriptions.
        ALL = 0xffff_fffc, "all";
        /// No particular group.
        ANY = 0xffff_ffff, "any";
    }
    /// Meter number (`enum ofp_meter`).
    pub enum MeterId(u32) {
        /// Meter for the slow path.
        SLOWPATH = 0xffff_fffd, "slowpath";
        /// Meter for packets to the controller.
        CONTROLLER = 0xffff_fffe, "controller";
        /// Every meter, for deletion and descriptions.
        ALL = 0xffff_ffff, "all";
    }
    /// Table number (`enum ofp_table`).
    pub enum TableId(u8) {
        /// Every table, for deletion and statistics.
        ALL = 0xff, "all";
    }
    /// Buffer number; Open vSwitch does not buffer.
    pub enum BufferId(u32) {
        /// The whole packet is in the message.
        NONE = 0xffff_ffff, "none";
    }
    /// Queue number.
    pub enum QueueId(u32) {
        /// Every queue.
        ALL = 0xffff_ffff, "all";
    }
}

impl Port {
    /// No port, as OpenFlow 1.0 names it.
    pub const NONE: Self = Self::ANY;
    /// First number that no real port has.
    pub const MAX: Self = Self(0xffff_ff00);

    /// The number in the 16 bits that Nicira structures have, if it fits.
    pub fn to_u16(self) -> Option<u16> {
        match self.0 {
            0..0xff00 => u16::try_from(self.0).ok(),
            reserved => u16::try_from(reserved & 0xffff).ok().filter(|_| reserved >= Self::MAX.0),
        }
    }

    /// The port that 16 bits mean.
    pub const fn from_u16(number: u16) -> Self {
        if number >= 0xff00 { Self(0xffff_0000 | number as u32) } else { Self(number as u32) }
    }

    pub(crate) fn put_u16(self, w: &mut Writer) {
        let number = self.to_u16().unwrap_or_else(|| {
            w.refuse(EncodeError::NotExpressible {
                what: "port",
                expected: "a number below 0xff00 or a reserved one",
            });
            0xffff
        });
        w.put(number);
    }

    pub(crate) fn take_u16(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.take().map(Self::from_u16)
    }
}

impl TableId {
    /// The next table, unless this is the last.
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self).filter(|table| *table != Self::ALL)
    }
}

macro_rules! ids_from_integers {
    ($($id:ident($repr:ty)),*) => {$(
        impl From<$repr> for $id {
            fn from(number: $repr) -> Self {
                Self(number)
            }
        }
    )*};
}
ids_from_integers!(Port(u32), GroupId(u32), MeterId(u32), TableId(u8), QueueId(u32));
