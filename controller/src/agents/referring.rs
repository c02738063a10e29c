//! `HA_Chassis_Group.ref_chassis` of gateways: the chassis whose agents hold a router that the group serves, and so must
//! know which member is alive (ovn-semantics, section 12).
//!
//! # Contract
//! - Follows applied transactions; what is due is written by the member that leads, in a batch with other derived columns.

use std::collections::BTreeSet;

use imbl::OrdSet;
use quantumnet_model::{
    Uuid, Weak,
    sb::{Chassis, HaChassisGroup, PortBinding},
};

use crate::{
    lower::gateway,
    store::{
        State, Touched,
        scopes::{ScopeChanges, View},
    },
};

/// Groups whose column may have to be written.
#[derive(Debug, Default)]
pub(crate) struct Referring(BTreeSet<Uuid>);

impl Referring {
    /// Every group of a state.
    pub(crate) fn of(state: &State) -> Self {
        Self(state.iter::<HaChassisGroup>().map(|(uuid, _)| uuid).collect())
    }

    pub(crate) fn is_due(&self) -> bool {
        !self.0.is_empty()
    }

    pub(crate) fn follow(&mut self, state: &State, touched: &[Touched], changes: &ScopeChanges) {
        for row in touched {
            if row.after::<HaChassisGroup>().is_some() {
                self.0.insert(row.uuid);
            }
            let bindings = [row.before::<PortBinding>(), row.after()].into_iter().flatten();
            let gateways = bindings.filter(|binding| is_gateway(binding));
            self.0.extend(gateways.filter_map(|binding| binding.ha_chassis_group).map(|group| group.uuid()));
        }
        let datapaths: BTreeSet<Uuid> = changes.agents.iter().map(|(_, scope, _)| *scope).collect();
        for router in datapaths {
            self.0.extend(gateway::groups(state, router));
        }
    }

    /// Takes the columns that are to be written, by group.
    pub(crate) fn take_due(&mut self, state: &State, view: &View) -> Vec<(Uuid, OrdSet<Weak<Chassis>>)> {
        let mut due = Vec::new();
        for group in std::mem::take(&mut self.0) {
            let Some(row) = state.get::<HaChassisGroup>(group) else { continue };
            let ports = state.referrers_through::<HaChassisGroup, PortBinding>(group, "ha_chassis_group");
            let gateways =
                ports.filter_map(|port| state.get::<PortBinding>(port)).filter(|port| is_gateway(port));
            let routers: BTreeSet<Uuid> = gateways.map(|port| port.datapath.uuid()).collect();
            let holders = routers.into_iter().flat_map(|router| view.holders_of(router));
            let chassis: OrdSet<Weak<Chassis>> = holders.map(Weak::new).collect();
            if row.ref_chassis != chassis {
                due.push((group, chassis));
            }
        }
        due
    }
}

fn is_gateway(binding: &PortBinding) -> bool {
    &*binding.r#type == "chassisredirect"
}
