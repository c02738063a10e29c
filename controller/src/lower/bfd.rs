//! `BFD`: sessions of routers' gateways with next hops, Northbound -> Southbound, each with the same uuid.
//!
//! # Contract
//! - Reads the Northbound row and what refers to it; writes the Southbound one, its source port and discriminator, and
//!   `status` in both.
//! - Agents report states ([`report`]); that of a session which nothing refers to is `admin_down`, and `down` at first
//!   where something does.
//!
//! # Invariants
//! - No two sessions have the same source port.

use std::{collections::BTreeSet, net::IpAddr};

use quantumnet_model::{
    Uuid,
    column::Text,
    nb::{self, LogicalRouterPolicy, LogicalRouterPort, LogicalRouterStaticRoute},
    sb::{Bfd, Chassis, PortBinding},
};

use crate::{
    ipam::range::Run,
    lower::{
        Dirty, gateway, keys,
        problem::{self, Problems},
    },
    store::{State, Txn},
};

/// Source ports of RFC 5881, section 4.
const PORTS: Run = (49_152, 65_535);
const POOL: &str = "bfd";

const ADMIN_DOWN: &str = "admin_down";
const DOWN: &str = "down";

pub(super) fn lower(txn: &mut Txn<'_>, dirty: &mut Dirty) {
    let mut sessions: BTreeSet<Uuid> =
        txn.touched_in::<nb::Bfd>().iter().map(|touched| touched.uuid).collect();
    for touched in txn.touched_in::<LogicalRouterStaticRoute>() {
        let session = |row: Option<&LogicalRouterStaticRoute>| row.and_then(|row| row.bfd);
        let (before, after) = (session(touched.before()), session(touched.after()));
        if before != after {
            sessions.extend(before.into_iter().chain(after).map(|session| session.uuid()));
        }
    }
    for touched in txn.touched_in::<LogicalRouterPolicy>() {
        for row in [touched.before::<LogicalRouterPolicy>(), touched.after()].into_iter().flatten() {
            sessions.extend(row.bfd_sessions.iter().map(|session| session.uuid()));
        }
    }
    for touched in txn.touched_in::<LogicalRouterPort>() {
        for row in [touched.before::<LogicalRouterPort>(), touched.after()].into_iter().flatten() {
            sessions.extend(txn.lookup::<nb::Bfd>(&[("logical_port", (&*row.name).into())]));
        }
    }
    for uuid in sessions {
        dirty.work.rows += 1;
        let problems = one(txn, uuid);
        problem::set::<nb::Bfd>(txn, uuid, problems);
    }
}

fn one(txn: &mut Txn<'_>, uuid: Uuid) -> Problems {
    let mut problems = Problems::new();
    let present = txn.get::<Bfd>(uuid).cloned();
    let Some(row) = txn.get::<nb::Bfd>(uuid).cloned() else {
        if let Some(port) = present.and_then(|present| u128::try_from(present.src_port).ok()) {
            txn.delete::<Bfd>(uuid);
            keys::give_back(txn, POOL, port);
        }
        return problems;
    };
    if row.dst_ip.parse::<IpAddr>().is_err() {
        problems
            .push(("dst_ip", format!("dst_ip is {:?}, expected an IP address; no session runs", row.dst_ip)));
    }
    if txn.find::<LogicalRouterPort>(&[("name", (&*row.logical_port).into())]).is_none() {
        let message = format!("there is no router port {}; no session runs", row.logical_port);
        problems.push(("logical_port", message));
    }
    let src_port = match &present {
        Some(present) => present.src_port,
        None => match keys::take_first(txn, POOL, PORTS, &[PORTS]).map(i64::try_from) {
            Ok(Ok(port)) => port,
            _ => {
                problems.push(("_uuid", "no source port is left for the session; delete others".to_owned()));
                return problems;
            }
        },
    };
    let status = status(txn.state(), uuid, present.as_ref());
    let next = Bfd {
        src_port,
        disc: present.as_ref().map_or_else(|| discriminator(uuid), |present| present.disc),
        logical_port: row.logical_port.clone(),
        dst_ip: row.dst_ip.clone(),
        min_tx: row.min_tx.unwrap_or(1_000),
        min_rx: row.min_rx.unwrap_or(1_000),
        detect_mult: row.detect_mult.unwrap_or(5),
        status: status.clone(),
        ..present.clone().unwrap_or_default()
    };
    if present.as_ref() != Some(&next) {
        txn.put(uuid, next);
    }
    if row.status.as_ref() != Some(&status) {
        txn.update::<nb::Bfd>(uuid, |row| row.status = Some(status));
    }
    problems
}

/// The state of a session: as reported, while something refers to it.
fn status(state: &State, uuid: Uuid, present: Option<&Bfd>) -> Text {
    let is_used = state.referrers_through::<nb::Bfd, LogicalRouterStaticRoute>(uuid, "bfd").next().is_some()
        || state.referrers_through::<nb::Bfd, LogicalRouterPolicy>(uuid, "bfd_sessions").next().is_some();
    if !is_used {
        return ADMIN_DOWN.into();
    }
    let known = present.map(|present| present.status.clone());
    known.filter(|status| &**status != ADMIN_DOWN).unwrap_or_else(|| DOWN.into())
}

/// Not zero, and the same for the same row.
fn discriminator(uuid: Uuid) -> i64 {
    let bits = uuid.as_u128();
    let folded = (bits ^ (bits >> 32) ^ (bits >> 64) ^ (bits >> 96)) & 0xffff_ffff;
    i64::try_from(folded).expect("32 bits fit").max(1)
}

/// Stores the state of a session that a chassis runs: the one on which the port's gateway, or its router, is. To be
/// called in a request.
pub(crate) fn report(txn: &mut Txn<'_>, chassis: Uuid, session: Uuid, status: &str) {
    let Some(row) = txn.get::<Bfd>(session) else { return };
    let by_name = [("name", (&*row.logical_port).into())];
    let Some(port) = txn.find::<LogicalRouterPort>(&by_name) else { return };
    let redirect = gateway::redirect_of(port);
    let gateway =
        txn.get::<PortBinding>(redirect).and_then(|row| gateway::serving(txn.state(), redirect, row));
    let own = || txn.get::<PortBinding>(port).and_then(|row| row.chassis).map(|chassis| chassis.uuid());
    let runs_here = gateway.or_else(own) == Some(chassis);
    // It may have gone out of use since.
    if !runs_here || &*row.status == ADMIN_DOWN || &*row.status == status {
        return;
    }
    let name = txn.get::<Chassis>(chassis).map(|chassis| chassis.name.clone()).unwrap_or_default();
    let status = Text::from(status);
    txn.update::<nb::Bfd>(session, |row| row.status = Some(status.clone()));
    txn.update::<Bfd>(session, |row| {
        row.status = status;
        row.chassis_name = name;
    });
}
