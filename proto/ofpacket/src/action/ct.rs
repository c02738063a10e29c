//! Connection tracking and address translation (NXAST_CT, NXAST_NAT).

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::action::Action;
use crate::error::DecodeError;
use crate::field::{Field, Subfield};
use crate::port::TableId;
use crate::wire::{Reader, Wire, Writer, wire_flags};

wire_flags! {
    /// What `ct` does with the connection.
    pub flags ConntrackFlags(u16) {
        /// Keep the connection.
        COMMIT = 1, "commit";
        /// Replace a connection of the other direction.
        FORCE = 2, "force";
    }
    /// How `nat` translates.
    pub flags NatFlags(u16) {
        /// The source.
        SRC = 0x01, "src";
        /// The destination.
        DST = 0x02, "dst";
        /// The same mapping after a reboot.
        PERSISTENT = 0x04, "persistent";
        /// Ports by hash.
        HASH = 0x08, "hash";
        /// Ports at random.
        RANDOM = 0x10, "random";
    }
}

/// Sends the packet through the connection tracker.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Conntrack {
    /// What to do with the connection.
    pub flags: ConntrackFlags,
    /// The zone.
    pub zone: ConntrackZone,
    /// Table where the tracked packet goes on, in addition to what follows here.
    pub table: Option<TableId>,
    /// Port of the application protocol whose helper looks on; 0 for none.
    pub helper: u16,
    /// `Nat`, then what sets mark and label.
    pub actions: Vec<Action>,
}

/// Where the connection tracking zone comes from.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ConntrackZone {
    /// A number.
    Immediate(u16),
    /// 16 bits of a field.
    Field(Subfield),
}

impl Conntrack {
    /// Looks the connection up in a zone.
    pub fn new(zone: ConntrackZone) -> Self {
        Self { flags: ConntrackFlags::NONE, zone, table: None, helper: 0, actions: Vec::new() }
    }

    /// Looks the connection up in the zone that a field names.
    pub fn zone_from(field: impl Into<Subfield>) -> Self {
        Self::new(ConntrackZone::Field(field.into()))
    }

    /// Keeps the connection.
    pub fn commit(mut self) -> Self {
        self.flags |= ConntrackFlags::COMMIT;
        self
    }

    /// Replaces a connection of the other direction.
    pub fn force(mut self) -> Self {
        self.flags |= ConntrackFlags::FORCE;
        self
    }

    /// Sends the tracked packet to a table.
    pub fn table(mut self, table: impl Into<TableId>) -> Self {
        self.table = Some(table.into());
        self
    }

    /// Translates addresses; before any `exec`.
    pub fn nat(mut self, nat: Nat) -> Self {
        self.actions.insert(0, Action::Nat(nat));
        self
    }

    /// Sets mark or label of the connection.
    pub fn exec(mut self, action: Action) -> Self {
        self.actions.push(action);
        self
    }
}

impl From<Conntrack> for Action {
    fn from(ct: Conntrack) -> Self {
        Self::Ct(ct)
    }
}

impl Wire for Conntrack {
    fn put(&self, w: &mut Writer) {
        w.put(self.flags);
        match self.zone {
            ConntrackZone::Immediate(zone) => {
                w.put(0u32);
                w.put(zone);
            }
            ConntrackZone::Field(bits) => {
                bits.field.put_short(w);
                let packed = bits.packed(w);
                w.put(packed);
            }
        }
        w.put(self.table.unwrap_or(TableId::ALL));
        w.zeros(3);
        w.put(self.helper);
        w.list(&self.actions);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let flags = r.take()?;
        let zone = if r.peek().starts_with(&[0; 4]) {
            r.skip(4)?;
            ConntrackZone::Immediate(r.take()?)
        } else {
            let field = Field::take_short(r)?;
            ConntrackZone::Field(Subfield::unpacked(field, r.take()?))
        };
        let table: TableId = r.take()?;
        r.skip(3)?;
        Ok(Self {
            flags,
            zone,
            table: Some(table).filter(|table| *table != TableId::ALL),
            helper: r.take()?,
            actions: r.nested("ct", r.left())?.list()?,
        })
    }
}

/// Address translation within `Ct`. Without direction it applies what the connection has.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Nat {
    /// Direction and port choice.
    pub flags: NatFlags,
    /// Addresses to choose from.
    pub addresses: NatRange,
    /// Lowest and, unless equal, highest port.
    pub ports: Option<(u16, Option<u16>)>,
}

/// Addresses a translation chooses from.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum NatRange {
    /// The switch chooses.
    #[default]
    Any,
    /// From the first to, unless equal, the second.
    V4(Ipv4Addr, Option<Ipv4Addr>),
    /// From the first to, unless equal, the second.
    V6(Ipv6Addr, Option<Ipv6Addr>),
}

impl Nat {
    /// Applies the translation that the connection has.
    pub fn restore() -> Self {
        Self::default()
    }

    /// Translates the source.
    pub const fn source(addresses: NatRange) -> Self {
        Self { flags: NatFlags::SRC, addresses, ports: None }
    }

    /// Translates the destination.
    pub const fn destination(addresses: NatRange) -> Self {
        Self { flags: NatFlags::DST, addresses, ports: None }
    }

    /// Chooses from these ports.
    pub const fn ports(mut self, lowest: u16, highest: Option<u16>) -> Self {
        self.ports = Some((lowest, highest));
        self
    }

    /// Adds flags.
    pub const fn with(mut self, flags: NatFlags) -> Self {
        self.flags = self.flags.with(flags);
        self
    }
}

impl NatRange {
    /// One address.
    pub fn one(address: impl Into<std::net::IpAddr>) -> Self {
        match address.into() {
            std::net::IpAddr::V4(address) => Self::V4(address, None),
            std::net::IpAddr::V6(address) => Self::V6(address, None),
        }
    }
}

const RANGE_V4_MIN: u16 = 1;
const RANGE_V4_MAX: u16 = 2;
const RANGE_V6_MIN: u16 = 4;
const RANGE_V6_MAX: u16 = 8;
const RANGE_PORT_MIN: u16 = 16;
const RANGE_PORT_MAX: u16 = 32;

impl Wire for Nat {
    fn put(&self, w: &mut Writer) {
        w.zeros(2);
        w.put(self.flags);
        let present = match self.addresses {
            NatRange::Any => 0,
            NatRange::V4(_, None) => RANGE_V4_MIN,
            NatRange::V4(_, Some(_)) => RANGE_V4_MIN | RANGE_V4_MAX,
            NatRange::V6(_, None) => RANGE_V6_MIN,
            NatRange::V6(_, Some(_)) => RANGE_V6_MIN | RANGE_V6_MAX,
        } | match self.ports {
            None => 0,
            Some((_, None)) => RANGE_PORT_MIN,
            Some((_, Some(_))) => RANGE_PORT_MIN | RANGE_PORT_MAX,
        };
        w.put(present);
        match self.addresses {
            NatRange::Any => {}
            NatRange::V4(lowest, highest) => {
                w.put(lowest);
                highest.iter().for_each(|highest| w.put(*highest));
            }
            NatRange::V6(lowest, highest) => {
                w.put(lowest);
                highest.iter().for_each(|highest| w.put(*highest));
            }
        }
        if let Some((lowest, highest)) = self.ports {
            w.put(lowest);
            highest.iter().for_each(|highest| w.put(*highest));
        }
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        fn optional<T: Wire>(r: &mut Reader<'_>, wanted: bool) -> Result<Option<T>, DecodeError> {
            if wanted { r.take().map(Some) } else { Ok(None) }
        }
        r.skip(2)?;
        let flags = r.take()?;
        let present: u16 = r.take()?;
        let has = |bit| present & bit != 0;
        // Combinations without a meaning come out different when written, and so stay unknown.
        let addresses = if has(RANGE_V4_MIN) {
            NatRange::V4(r.take()?, optional(r, has(RANGE_V4_MAX))?)
        } else if has(RANGE_V6_MIN) {
            NatRange::V6(r.take()?, optional(r, has(RANGE_V6_MAX))?)
        } else {
            NatRange::Any
        };
        let ports = match optional(r, has(RANGE_PORT_MIN))? {
            Some(lowest) => Some((lowest, optional(r, has(RANGE_PORT_MAX))?)),
            None => None,
        };
        Ok(Self { flags, addresses, ports })
    }
}
