//! Meters (OpenFlow 1.3.5, sections 7.3.4.4 and 7.3.5.11 to 7.3.5.13).

use crate::error::DecodeError;
use crate::group::Counter;
use crate::port::MeterId;
use crate::wire::{Reader, Wire, Writer, wire_enum, wire_flags, wire_struct};

wire_enum! {
    /// What a meter-mod does.
    pub enum MeterModCommand(u16) {
        /// Adds a meter.
        ADD = 0, "add";
        /// Changes a meter.
        MODIFY = 1, "mod";
        /// Deletes a meter, or all.
        DELETE = 2, "del";
    }
}

wire_flags! {
    /// How a meter counts.
    pub flags MeterFlags(u16) {
        /// Rates are kilobits a second.
        KBPS = 1, "kbps";
        /// Rates are packets a second.
        PKTPS = 2, "pktps";
        /// Bands have a burst size.
        BURST = 4, "burst";
        /// Count packets and bytes.
        STATS = 8, "stats";
    }
}

/// What happens above a rate.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum MeterBand {
    /// Drops the packet.
    Drop {
        /// Rate above which the band applies.
        rate: u32,
        /// Burst that is let through, with `MeterFlags::BURST`.
        burst: u32,
    },
    /// Raises the drop precedence in the DSCP field.
    DscpRemark {
        /// Rate above which the band applies.
        rate: u32,
        /// Burst that is let through, with `MeterFlags::BURST`.
        burst: u32,
        /// How many steps.
        precedence: u8,
    },
    /// A band this crate does not know, header included.
    Unknown(Box<[u8]>),
}

const BAND_DROP: u16 = 1;
const BAND_DSCP_REMARK: u16 = 2;
const BAND_LEN: usize = 16;

impl Wire for MeterBand {
    fn put(&self, w: &mut Writer) {
        let start = w.len();
        let (kind, rate, burst, precedence) = match self {
            Self::Drop { rate, burst } => (BAND_DROP, rate, burst, 0),
            Self::DscpRemark { rate, burst, precedence } => (BAND_DSCP_REMARK, rate, burst, *precedence),
            Self::Unknown(raw) => return w.bytes(raw),
        };
        w.put(kind);
        w.put(0u16);
        w.put(*rate);
        w.put(*burst);
        w.put(precedence);
        w.zeros(3);
        w.length_at("ofp_meter_band", start + 2, start);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut r = r.entry("ofp_meter_band", 2, 4)?;
        let raw = r.peek();
        let kind: u16 = r.take()?;
        r.skip(2)?;
        Ok(match kind {
            BAND_DROP if raw.len() == BAND_LEN => Self::Drop { rate: r.take()?, burst: r.take()? },
            BAND_DSCP_REMARK if raw.len() == BAND_LEN => {
                Self::DscpRemark { rate: r.take()?, burst: r.take()?, precedence: r.take()? }
            }
            _ => Self::Unknown(raw.into()),
        })
    }
}

wire_struct! {
    /// A change to the meter table (`ofp_meter_mod`). It cannot be part of a bundle.
    pub struct MeterMod "ofp_meter_mod" {
        /// What to do.
        command: MeterModCommand,
        /// How it counts.
        flags: MeterFlags,
        /// The meter.
        meter: MeterId,
        /// What it does above which rates.
        bands: Vec<MeterBand>,
    }

    /// A meter as the switch reports it (`ofp_meter_config`).
    pub sized struct MeterConfig "ofp_meter_config" {
        /// How it counts.
        flags: MeterFlags,
        /// The meter.
        meter: MeterId,
        /// What it does above which rates.
        bands: Vec<MeterBand>,
    }

    /// What meters the switch can have (`ofp_meter_features`).
    pub struct MeterFeatures "ofp_meter_features" {
        /// How many.
        max_meters: u32,
        /// Types of band, one bit each.
        band_types: u32,
        /// Flags it knows.
        capabilities: u32,
        /// Bands of one meter.
        max_bands: u8,
        /// Colours.
        max_color: u8 => pad 2,
    }
}

/// Counters of a meter (`ofp_meter_stats`).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct MeterStats {
    /// The meter.
    pub meter: MeterId,
    /// Flows that use it.
    pub flows: u32,
    /// What came in.
    pub total: Counter,
    /// Seconds it has lived.
    pub duration_sec: u32,
    /// And nanoseconds.
    pub duration_nsec: u32,
    /// What each band applied to.
    pub bands: Vec<Counter>,
}

impl Wire for MeterStats {
    fn put(&self, w: &mut Writer) {
        let start = w.len();
        w.put(self.meter);
        w.zeros(8);
        w.put(self.flows);
        self.total.put(w);
        w.put(self.duration_sec);
        w.put(self.duration_nsec);
        w.list(&self.bands);
        w.length_at("ofp_meter_stats", start + 4, start);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut r = r.entry("ofp_meter_stats", 4, 40)?;
        let meter = r.take()?;
        r.skip(8)?;
        Ok(Self {
            meter,
            flows: r.take()?,
            total: r.take()?,
            duration_sec: r.take()?,
            duration_nsec: r.take()?,
            bands: r.list()?,
        })
    }
}

impl MeterMod {
    /// Adds a meter that drops above a rate of kilobits a second.
    pub fn add_kbps(meter: impl Into<MeterId>, rate: u32, burst: u32) -> Self {
        Self::add(meter.into(), MeterFlags::KBPS, rate, burst)
    }

    /// Adds a meter that drops above a rate of packets a second.
    pub fn add_pktps(meter: impl Into<MeterId>, rate: u32, burst: u32) -> Self {
        Self::add(meter.into(), MeterFlags::PKTPS, rate, burst)
    }

    /// Deletes a meter, or with `MeterId::ALL` all.
    pub fn delete(meter: impl Into<MeterId>) -> Self {
        let (command, flags) = (MeterModCommand::DELETE, MeterFlags::NONE);
        Self { command, flags, meter: meter.into(), bands: Vec::new() }
    }

    fn add(meter: MeterId, unit: MeterFlags, rate: u32, burst: u32) -> Self {
        let flags = unit | MeterFlags::STATS | if burst > 0 { MeterFlags::BURST } else { MeterFlags::NONE };
        let bands = vec![MeterBand::Drop { rate, burst }];
        Self { command: MeterModCommand::ADD, flags, meter, bands }
    }
}
