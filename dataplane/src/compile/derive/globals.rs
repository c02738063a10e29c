//! Facts about this hypervisor and about switches that many ports ask for.
//!
//! # Contract
//! - `own_chassis`: reads `Host_Self` and `Chassis` by name. `require_up`: reads `NB_Global`; as in OVN ports that are
//!   down are answered for unless `ignore_lsp_down` is false. `vlan_passthru`: reads `Logical_Switch`. `enabled_routers`:
//!   reads `Logical_Router`. `common_zone`: reads `NB_Global`. `copp`, `router_copp`: read `Logical_Switch` and `Logical_Router`.
//!
//! # Invariants
//! - Readers of these facts do not run when other columns of those rows change.

use ovsdb::value::Atom;
use quantumnet_model::{
    Row,
    host::HostSelf,
    nb::{LogicalRouter, LogicalSwitch, NbGlobal},
    sb::Chassis,
};
use uuid::Uuid;

use crate::compile::{
    index::By,
    owner::{Owner, Owners, Relation},
    sink::Sink,
    stage::Stage,
    view::View,
};

pub(in crate::compile) const OWN_CHASSIS: Stage = Stage {
    number: 1,
    name: "own_chassis",
    owners: Owners::Switch,
    tables: &[],
    relations: &[Relation::OwnChassis],
    emit: own_chassis,
};

pub(in crate::compile) const REQUIRE_UP: Stage = Stage {
    number: 2,
    name: "require_up",
    owners: Owners::Switch,
    tables: &[],
    relations: &[Relation::RequireUp],
    emit: require_up,
};

pub(in crate::compile) const VLAN_PASSTHRU: Stage = Stage {
    number: 3,
    name: "vlan_passthru",
    owners: Owners::Rows(LogicalSwitch::TABLE),
    tables: &[],
    relations: &[Relation::VlanPassthru],
    emit: vlan_passthru,
};

pub(in crate::compile) const ENABLED_ROUTERS: Stage = Stage {
    number: 48,
    name: "enabled_routers",
    owners: Owners::Rows(LogicalRouter::TABLE),
    tables: &[],
    relations: &[Relation::EnabledRouters, Relation::LearnsRarely, Relation::AsksRouters],
    emit: enabled_routers,
};

pub(in crate::compile) const COMMON_ZONE: Stage = Stage {
    number: 171,
    name: "common_zone",
    owners: Owners::Switch,
    tables: &[],
    relations: &[Relation::CommonZone],
    emit: common_zone,
};

pub(in crate::compile) const COPP: Stage = Stage {
    number: 83,
    name: "copp",
    owners: Owners::Rows(LogicalSwitch::TABLE),
    tables: &[],
    relations: &[Relation::Copp],
    emit: copp,
};

pub(in crate::compile) const ROUTER_COPP: Stage = Stage {
    number: 84,
    name: "router_copp",
    owners: Owners::Rows(LogicalRouter::TABLE),
    tables: &[],
    relations: &[Relation::Copp],
    emit: copp,
};

fn copp(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let of_switch = |uuid| view.row::<LogicalSwitch>(uuid).and_then(|row| row.copp);
    let of_router = |uuid| view.row::<LogicalRouter>(uuid).and_then(|row| row.copp);
    if let Some(copp) = of_switch(owner.row()).or_else(|| of_router(owner.row())) {
        out.fact(Relation::Copp, owner.row(), 0, copp.uuid());
    }
}

fn own_chassis(view: &View<'_>, _: Owner, out: &mut Sink) {
    let Some((_, host)) = view.find_one::<HostSelf>(By::HostSelf, &[]) else { return };
    let name = Atom::String(host.chassis.clone());
    if let Some((chassis, _)) = view.find_one::<Chassis>(By::ChassisName, &[name]) {
        out.fact(Relation::OwnChassis, Uuid::nil(), 0, chassis);
    }
}

fn require_up(view: &View<'_>, _: Owner, out: &mut Sink) {
    let Some((_, global)) = view.find_one::<NbGlobal>(By::NbGlobal, &[]) else { return };
    if global.options.get("ignore_lsp_down").is_some_and(|value| &**value == "false") {
        out.fact(Relation::RequireUp, Uuid::nil(), 0, Uuid::nil());
    }
}

fn common_zone(view: &View<'_>, _: Owner, out: &mut Sink) {
    let Some((_, global)) = view.find_one::<NbGlobal>(By::NbGlobal, &[]) else { return };
    if global.options.get("use_common_zone").is_some_and(|value| &**value == "true") {
        out.fact(Relation::CommonZone, Uuid::nil(), 0, Uuid::nil());
    }
}

fn vlan_passthru(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(switch) = view.row::<LogicalSwitch>(owner.row()) else { return };
    if switch.other_config.get("vlan-passthru").is_some_and(|value| &**value == "true") {
        out.fact(Relation::VlanPassthru, owner.row(), 0, Uuid::nil());
    }
}

fn enabled_routers(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let router = owner.row();
    let Some(row) = view.row::<LogicalRouter>(router).filter(|row| row.enabled != Some(false)) else {
        return;
    };
    out.fact(Relation::EnabledRouters, router, 0, Uuid::nil());
    let says = |option: &str, value: &str| row.options.get(option).is_some_and(|found| &**found == value);
    if says("always_learn_from_arp_request", "false") {
        out.fact(Relation::LearnsRarely, router, 0, Uuid::nil());
    }
    if says("dynamic_neigh_routers", "true") {
        out.fact(Relation::AsksRouters, router, 0, Uuid::nil());
    }
}
