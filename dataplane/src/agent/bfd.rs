//! BFD sessions of router ports: which are to be here, their packets, and what the controllers are told of them.

use std::time::Instant;

use quantumnet_model::{
    Row, TableId,
    host::HostTunnel,
    nb::Bfd,
    sb::{HaChassis, HaChassisGroup, PortBinding},
};
use uuid::Uuid;

use crate::{
    agent::{Agent, Effect},
    controller,
    punt::bfd::{Sessions, State},
    switch,
};

impl Agent {
    /// Rows that decide which sessions are here may have changed.
    pub(super) fn bfd_changed(&mut self, now: Instant, out: &mut Vec<Effect>) {
        let wanted = self.compiler.bfd_sessions();
        self.bfd.set(now, wanted);
        self.bfd_states(now, out);
    }

    /// A packet for a session at a router port.
    pub(super) fn bfd_packet(&mut self, now: Instant, port: Uuid, frame: &[u8], out: &mut Vec<Effect>) {
        match self.bfd.receive(now, port, frame) {
            Ok(answer) => {
                answer.into_iter().for_each(|answer| self.switch(now, switch::Input::Packet(answer), out));
                // A state that has changed is told to the peer at once.
                self.bfd_due(now, out);
                self.bfd_states(now, out);
            }
            Err(why) => self.punts.refused("bfd", why),
        }
    }

    /// Sends what is due.
    pub(super) fn bfd_due(&mut self, now: Instant, out: &mut Vec<Effect>) {
        for packet in self.bfd.due(now) {
            self.switch(now, switch::Input::Packet(packet), out);
        }
    }

    pub(super) fn bfd_states(&mut self, now: Instant, out: &mut Vec<Effect>) {
        let states = self.bfd.states();
        let states =
            states.into_iter().map(|(row, state): (Uuid, State)| (row.to_string(), state.name().to_owned()));
        self.stream(now, controller::Input::Bfd(states.collect()), out);
    }

    /// BFD sessions of router ports.
    pub fn bfd(&self) -> &Sessions {
        &self.bfd
    }
}

/// Tables whose rows decide which sessions are here.
pub(super) const TABLES: [TableId; 5] =
    [Bfd::TABLE, PortBinding::TABLE, HaChassis::TABLE, HaChassisGroup::TABLE, HostTunnel::TABLE];
