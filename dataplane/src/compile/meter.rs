//! Meters: what a `Meter` row, a rate or a protocol's limit is in the switch.
//!
//! # Contract
//! - Numbers are the agent's (`Host_Meter`); here is only what they are for.
//!
//! # Invariants
//! - All bands drop (ovn-nb(5), `Meter_Band.action`), so that of several only the one of the lowest rate counts.
//! - A meter is shared by all who name it, unless it is fair: then each has one of its own with its rate.

use ovsdb::value::Atom;
use quantumnet_model::{
    Rows,
    host::HostMeter,
    nb::{Copp, Meter, MeterBand},
};
use uuid::Uuid;

use super::{
    flow::{MeterSpec, MeterUnit},
    index::By,
    owner::Relation,
    punt::{Protocol, PuntReason},
    sink::Sink,
    view::View,
};

/// The meter that a row has for itself; `None` where the switch has none for it.
pub(crate) fn number(view: &View<'_>, row: Uuid) -> Option<u32> {
    let number = view.row::<HostMeter>(row)?.number;
    u32::try_from(number).ok().filter(|number| (1..NUMBER_MAX).contains(number))
}

/// Wants the meter of that name for a row that names it. `None` where there is no such meter, or the switch has none for it.
pub(crate) fn named(view: &View<'_>, name: &str, user: Uuid, out: &mut Sink) -> Option<u32> {
    let (uuid, meter) = view.find_one::<Meter>(By::MeterName, &[Atom::String(name.into())])?;
    let bands = meter.bands.iter().filter_map(|band| view.row::<MeterBand>(band.uuid()));
    let spec = lowest(meter, bands)?;
    let number = number(view, if meter.fair == Some(true) { user } else { uuid })?;
    out.meter(number, spec);
    Some(number)
}

/// Wants the meter of packets that a datapath's port makes the agent handle: that of their protocol in the datapath's `Copp`,
/// if it has one, else the interface's own, whose meters start at `base`.
pub(crate) fn of_punt(
    view: &View<'_>,
    datapath: Uuid,
    reason: PuntReason,
    protocol: Option<Protocol>,
    base: Option<u32>,
    out: &mut Sink,
) -> Option<u32> {
    if let Some(protocol) = protocol
        && let Some(copp) = view.related_one(Relation::Copp, datapath)
        && let Some(name) = view.row::<Copp>(copp).and_then(|row| row.meters.get(protocol.name()))
        && let Some(number) = named(view, name, copp, out)
    {
        return Some(number);
    }
    let number = reason.meter(base?);
    out.meter(number, reason.rate());
    Some(number)
}

/// Who has a limit, and which, where a row names a meter: for those who count packets themselves.
pub(crate) fn limit(rows: &Rows, name: &str, user: Uuid) -> Option<(Uuid, MeterSpec)> {
    let (uuid, meter) = rows.iter::<Meter>().find(|(_, meter)| &*meter.name == name)?;
    let bands = meter.bands.iter().filter_map(|band| rows.get::<MeterBand>(band.uuid()));
    Some((if meter.fair == Some(true) { user } else { uuid }, lowest(meter, bands)?))
}

fn lowest<'a>(meter: &Meter, bands: impl Iterator<Item = &'a MeterBand>) -> Option<MeterSpec> {
    let number = |value: i64| u32::try_from(value).unwrap_or(u32::MAX);
    let unit = if &*meter.unit == "pktps" { MeterUnit::Packets } else { MeterUnit::Kilobits };
    bands
        .map(|band| MeterSpec { unit, rate: number(band.rate), burst: number(band.burst_size) })
        .min_by_key(|spec| (spec.rate, spec.burst))
}

/// Above it are numbers with meanings of their own (OpenFlow 1.3.5, `ofp_meter`).
const NUMBER_MAX: u32 = 0xffff_0000;
