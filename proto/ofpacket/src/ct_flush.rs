//! Forgetting connections (NXT_CT_FLUSH_ZONE and NXT_CT_FLUSH of Open vSwitch; the latter since 3.1).

use std::net::Ipv6Addr;

use crate::error::DecodeError;
use crate::group::Property;
use crate::property;
use crate::wire::{Reader, Wire, Writer};

/// Which connections to forget.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct CtFlush {
    /// IP protocol; 0 for any.
    pub ip_proto: u8,
    /// What the original direction looks like.
    pub original: Option<CtTuple>,
    /// What the reply direction looks like.
    pub reply: Option<CtTuple>,
    /// The zone; all without.
    pub zone: Option<u16>,
    /// Properties this crate does not know.
    pub unknown: Vec<Property>,
}

/// One direction of a connection; what is not given does not matter.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct CtTuple {
    /// Source address; IPv4 is mapped into IPv6.
    pub source: Option<Ipv6Addr>,
    /// Destination address; IPv4 is mapped into IPv6.
    pub destination: Option<Ipv6Addr>,
    /// Source port.
    pub source_port: Option<u16>,
    /// Destination port.
    pub destination_port: Option<u16>,
    /// ICMP identifier.
    pub icmp_id: Option<u16>,
    /// ICMP type.
    pub icmp_type: Option<u8>,
    /// ICMP code.
    pub icmp_code: Option<u8>,
    /// Properties this crate does not know.
    pub unknown: Vec<Property>,
}

const ORIGINAL: u16 = 0;
const REPLY: u16 = 1;
const ZONE: u16 = 2;

const SOURCE: u16 = 0;
const DESTINATION: u16 = 1;
const SOURCE_PORT: u16 = 2;
const DESTINATION_PORT: u16 = 3;
const ICMP_ID: u16 = 4;
const ICMP_TYPE: u16 = 5;
const ICMP_CODE: u16 = 6;

impl Wire for CtFlush {
    fn put(&self, w: &mut Writer) {
        w.put(self.ip_proto);
        w.zeros(7);
        self.original.iter().for_each(|tuple| property::put_nested(w, ORIGINAL, |w| tuple.put(w)));
        self.reply.iter().for_each(|tuple| property::put_nested(w, REPLY, |w| tuple.put(w)));
        self.zone.iter().for_each(|zone| property::put_u16(w, ZONE, *zone));
        put_unknown(w, &self.unknown);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut this = Self { ip_proto: r.take()?, ..Self::default() };
        r.skip(7)?;
        while !r.is_empty() {
            let (kind, mut value) = property::take(r, "nx_ct_flush")?;
            match kind {
                ORIGINAL => {
                    value.skip(4)?;
                    this.original = Some(value.take()?);
                }
                REPLY => {
                    value.skip(4)?;
                    this.reply = Some(value.take()?);
                }
                ZONE => this.zone = Some(value.take()?),
                kind => this.unknown.push(Property { kind, value: value.take()? }),
            }
        }
        Ok(this)
    }
}

impl Wire for CtTuple {
    fn put(&self, w: &mut Writer) {
        self.source.iter().for_each(|address| property::put(w, SOURCE, |w| w.put(*address)));
        self.destination.iter().for_each(|address| property::put(w, DESTINATION, |w| w.put(*address)));
        self.source_port.iter().for_each(|port| property::put_u16(w, SOURCE_PORT, *port));
        self.destination_port.iter().for_each(|port| property::put_u16(w, DESTINATION_PORT, *port));
        self.icmp_id.iter().for_each(|id| property::put_u16(w, ICMP_ID, *id));
        self.icmp_type.iter().for_each(|kind| property::put(w, ICMP_TYPE, |w| w.put(*kind)));
        self.icmp_code.iter().for_each(|code| property::put(w, ICMP_CODE, |w| w.put(*code)));
        put_unknown(w, &self.unknown);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut this = Self::default();
        while !r.is_empty() {
            let (kind, mut value) = property::take(r, "nx_ct_flush tuple")?;
            match kind {
                SOURCE => this.source = Some(value.take()?),
                DESTINATION => this.destination = Some(value.take()?),
                SOURCE_PORT => this.source_port = Some(value.take()?),
                DESTINATION_PORT => this.destination_port = Some(value.take()?),
                ICMP_ID => this.icmp_id = Some(value.take()?),
                ICMP_TYPE => this.icmp_type = Some(value.take()?),
                ICMP_CODE => this.icmp_code = Some(value.take()?),
                kind => this.unknown.push(Property { kind, value: value.take()? }),
            }
        }
        Ok(this)
    }
}

fn put_unknown(w: &mut Writer, unknown: &[Property]) {
    for Property { kind, value } in unknown {
        property::put(w, *kind, |w| w.bytes(value));
    }
}
