//! What ports do that the store or the physical network must hear of.
//!
//! # Invariants
//! - A port that waited is open here at once, and stays so until the store says it or the port is not here any more.
//! - A claim that the store holds already is not reported again.

use std::time::Instant;

use ovsdb::value::Atom;
use quantumnet_api::v1::VirtualClaim;
use quantumnet_model::sb::{Chassis, DatapathBinding, PortBinding};
use uuid::Uuid;

use crate::{
    agent::{Agent, Effect},
    compile::By,
    controller,
    punt::Claim,
};

impl Agent {
    /// Ports, or where they are, may have changed.
    pub(super) fn ports_changed(&mut self, now: Instant, out: &mut Vec<Effect>) {
        let gap = self.config.as_ref().and_then(|config| config.announce_gap);
        let mut announcements = self.compiler.announcements();
        if self.may_announce_gateways(now) {
            announcements.extend(self.compiler.gateway_announcements());
        }
        self.announcer.set(now, announcements, gap);
        let before = self.activated.len();
        let activated = std::mem::take(&mut self.activated);
        self.activated = activated.into_iter().filter(|port| self.waits(*port)).collect();
        if self.activated.len() != before {
            self.host_rows(now, out);
        }
    }

    /// Whether the port is here beside its holder and the store does not call it activated.
    fn waits(&self, port: Uuid) -> bool {
        let Some(binding) = self.compiler.rows().get::<PortBinding>(port) else { return false };
        let Some(name) = self.config.as_ref().map(|config| config.chassis.as_str()) else { return false };
        let is_own =
            |uuid| self.compiler.rows().get::<Chassis>(uuid).is_some_and(|chassis| &*chassis.name == name);
        let activated = binding.options.get("additional-chassis-activated").map_or("", |names| &**names);
        binding.additional_chassis.iter().any(|chassis| is_own(chassis.uuid()))
            && !activated.split(',').any(|other| other.trim() == name)
    }

    /// A port that waited has shown itself.
    pub(super) fn activate(&mut self, now: Instant, port: Uuid, out: &mut Vec<Effect>) {
        let binding = self.compiler.rows().get::<PortBinding>(port).filter(|_| self.waits(port));
        let Some(name) = binding.map(|binding| binding.logical_port.to_string()) else { return };
        if !self.activated.insert(port) {
            return;
        }
        tracing::info!(port = name, "the port has shown itself and is open here");
        self.host_rows(now, out);
        self.stream(now, controller::Input::Activated(name), out);
    }

    /// A parent says that it has a virtual port's address.
    pub(super) fn claim(&mut self, now: Instant, claim: Claim, out: &mut Vec<Effect>) {
        let key = [Atom::Integer(claim.datapath.into())];
        let Some(datapath) = self.compiler.find_uuid::<DatapathBinding>(By::SwitchKey, &key) else { return };
        let port = |key: u32| {
            let key = [Atom::Uuid(datapath), Atom::Integer(key.into())];
            self.compiler.find::<PortBinding>(By::PortKey, &key)
        };
        let (Some(virtual_port), Some(parent)) = (port(claim.port), port(claim.parent)) else { return };
        let known = virtual_port.virtual_parent.as_ref() == Some(&parent.logical_port)
            && virtual_port.chassis == parent.chassis;
        if known {
            return;
        }
        let claim =
            VirtualClaim { datapath_key: claim.datapath, port_key: claim.port, parent_key: claim.parent };
        self.stream(now, controller::Input::Claimed(claim), out);
    }
}
