//! Gateways that this chassis may serve: which tunnels BFD watches, when it says that this chassis forwards, how one member
//! hands over to another, and what the controllers are told of it.
//!
//! # Invariants
//! - Others are told that this chassis forwards (by BFD: no `cpath_down`) only once its whole table is in the switch, and
//!   with it what follows from having been heard: when traffic comes back to a gateway that was away, the gateway is ready.
//! - A restart of the agent changes nothing of what BFD says: flows stay.
//! - While another member may serve, it is said only once all that watch this chassis hear it, or long enough after the first:
//!   they change to it in the same moment.
//! - Who has just begun to forward leaves a group to a member before it that is heard, though that does not forward yet: where all
//!   begin at once, only one serves.
//! - A group that another member has taken over is served a while longer: packets are on their way, and senders may still come.
//! - The physical network is told of a gateway's addresses once the senders have changed to it; this hypervisor's own bridge of
//!   it before.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use quantumnet_model::{
    Row,
    host::HostHandover,
    nb::NbGlobal,
    sb::{Chassis, HaChassisGroup},
};
use uuid::Uuid;

use crate::{
    agent::{Agent, Effect},
    compile::{FlowDelta, RowUpdate},
    controller,
    host::{SLOW_INTERVAL, Session, Watch},
    switch,
};

/// What the agent remembers of gateways.
#[derive(Debug)]
pub(super) struct Gateways {
    /// What BFD says: packets that are sent here are forwarded.
    forwards: bool,
    /// Since when somebody is heard, and the batch with what follows from it.
    heard: Option<(Instant, u64)>,
    /// No longer than that others are waited for.
    waits_until: Option<Instant>,
    /// The switch had the whole table when last looked at.
    filled: bool,
    /// Groups that another member has taken over, and until when they are served all the same.
    handovers: BTreeMap<Uuid, Instant>,
    active: BTreeSet<Uuid>,
    /// The controllers have something to hear of what is served.
    served: bool,
    /// Not before then is the physical network told of gateways' addresses.
    announce_at: Option<Instant>,
    /// Until then members that are heard may still begin to forward, as this one has.
    yields_until: Option<Instant>,
    /// Settings that can't be honoured.
    pub(super) problems: Vec<String>,
}

impl Default for Gateways {
    fn default() -> Self {
        Self {
            // Until the switch has been seen to lose its flows, or to hear nobody, all is as before.
            forwards: true,
            heard: None,
            waits_until: None,
            filled: false,
            handovers: BTreeMap::new(),
            active: BTreeSet::new(),
            served: false,
            announce_at: None,
            yields_until: None,
            problems: Vec::new(),
        }
    }
}

impl Agent {
    /// What BFD is to watch, and what it is to say.
    pub(super) fn watch(&mut self) -> Watch {
        let (mut settings, problems) = self
            .compiler
            .rows()
            .iter::<NbGlobal>()
            .next()
            .map(|(_, global)| settings(global))
            .unwrap_or_else(|| (base_settings(), Vec::new()));
        for problem in problems.iter().filter(|problem| !self.gateways.problems.contains(problem)) {
            tracing::warn!(%problem, "BFD");
        }
        self.gateways.problems = problems;
        settings.insert("cpath_down".to_owned(), (!self.gateways.forwards).to_string());
        Watch { chassis: self.compiler.watched_chassis(), settings }
    }

    /// Judges anew whether this chassis forwards.
    pub(super) fn judge_forwarding(&mut self, now: Instant, out: &mut Vec<Effect>) {
        let before = self.gateways.forwards;
        self.judge(now, out);
        if self.gateways.forwards != before {
            self.host_rows(now, out);
        }
    }

    fn judge(&mut self, now: Instant, out: &mut Vec<Effect>) {
        let filled = self.driver.is_filled();
        let lost = std::mem::replace(&mut self.gateways.filled, filled) && !filled;
        self.gateways.waits_until = None;
        if lost {
            (self.gateways.forwards, self.gateways.heard) = (false, None);
        }
        if !filled {
            return;
        }
        let watched = self.compiler.watched_chassis();
        if !self.sessions_with(&watched).any(Session::is_up) {
            (self.gateways.forwards, self.gateways.heard) = (watched.is_empty(), None);
            return;
        }
        if self.gateways.forwards {
            return;
        }
        let (since, tag) = *self.gateways.heard.get_or_insert((now, self.tag));
        let ready = self.waiting.front().is_none_or(|waiting| waiting.tag > tag);
        // Who is not heard within a packet's time of the first is not there to serve meanwhile.
        let forwarding = self.observed.tunnels.values().filter(|tunnel| tunnel.session.forwards);
        let forwarding = forwarding.map(|tunnel| tunnel.chassis).collect();
        let until = since
            + if self.compiler.others_can_serve(&forwarding) { SESSIONS_COME_UP } else { SLOW_INTERVAL };
        let awaited = now < until && !self.sessions_with(&watched).all(Session::is_settled);
        self.gateways.waits_until = awaited.then_some(until);
        if ready && !awaited {
            self.gateways.forwards = true;
            self.gateways.announce_at = Some(now + SENDERS_CHANGE);
            self.gateways.yields_until = Some(now + SESSIONS_COME_UP);
            // Not by what the senders' packets teach it: those of flows that are in use teach it late.
            for gateway in self.compiler.gateway_announcements() {
                self.switch(now, switch::Input::Packet(gateway.to_itself()), out);
            }
            self.ports_changed(now, out);
        }
    }

    fn sessions_with(&self, watched: &BTreeSet<Uuid>) -> impl Iterator<Item = &Session> {
        let tunnels = self.observed.tunnels.values().filter(|tunnel| watched.contains(&tunnel.chassis));
        tunnels.map(|tunnel| &tunnel.session)
    }

    /// Whether the other end of a session counts as alive.
    pub(super) fn counts_as_alive(&self, session: &Session) -> bool {
        let yields = !self.gateways.forwards || self.gateways.yields_until.is_some();
        session.forwards || yields && session.is_up()
    }

    /// Whether the physical network may be told of gateways' addresses.
    pub(super) fn may_announce_gateways(&self, now: Instant) -> bool {
        self.gateways.forwards && self.gateways.announce_at.is_none_or(|at| at <= now)
    }

    /// Adds to `delta` what groups need that another member has just taken over.
    pub(super) fn with_handovers(&mut self, now: Instant, mut delta: FlowDelta) -> FlowDelta {
        let active = self.compiler.active_groups();
        let before = std::mem::replace(&mut self.gateways.active, active);
        let lost = before.difference(&self.gateways.active);
        let lost: Vec<Uuid> = lost.copied().filter(|group| self.compiler.is_succeeded(*group)).collect();
        for group in lost {
            self.gateways.handovers.insert(group, now + HANDOVER);
        }
        let gone = |group: &Uuid| self.gateways.active.contains(group) || !self.compiler.is_succeeded(*group);
        let ended: Vec<Uuid> = self.gateways.handovers.keys().copied().filter(gone).collect();
        for group in ended {
            self.gateways.handovers.remove(&group);
        }
        let wanted: BTreeMap<Uuid, HostHandover> = self.handover_rows().collect();
        let rows = self.compiler.rows();
        let mut batch: Vec<RowUpdate> = rows
            .iter::<HostHandover>()
            .filter(|(group, _)| !wanted.contains_key(group))
            .map(|(group, _)| (HostHandover::TABLE, group, None))
            .collect();
        batch.extend(
            wanted
                .into_iter()
                .filter(|(group, _)| rows.get::<HostHandover>(*group).is_none())
                .map(|(group, row)| (HostHandover::TABLE, group, Some(Arc::new(row) as _))),
        );
        if !batch.is_empty() {
            delta.then(self.compiler.apply(batch));
        }
        delta
    }

    /// Rows of groups that are being handed over.
    pub(super) fn handover_rows(&self) -> impl Iterator<Item = (Uuid, HostHandover)> {
        self.gateways.handovers.keys().filter_map(|group| {
            let row = self.compiler.rows().get::<HaChassisGroup>(*group)?;
            Some((*group, HostHandover { name: row.name.clone() }))
        })
    }

    /// When something of this is due.
    pub(super) fn next_gateway(&self) -> Option<Instant> {
        let gateways = &self.gateways;
        gateways
            .handovers
            .values()
            .copied()
            .chain(gateways.announce_at)
            .chain(gateways.waits_until)
            .chain(gateways.yields_until)
            .min()
    }

    /// Ends what has lasted long enough.
    pub(super) fn gateway_timeout(&mut self, now: Instant, out: &mut Vec<Effect>) {
        let before = self.gateways.handovers.len();
        self.gateways.handovers.retain(|_, until| now < *until);
        let yielded = self.gateways.yields_until.is_some_and(|until| until <= now);
        if yielded {
            self.gateways.yields_until = None;
        }
        if yielded || self.gateways.handovers.len() != before {
            self.host_rows(now, out);
        }
        if self.gateways.announce_at.is_some_and(|at| at <= now) {
            self.gateways.announce_at = None;
            self.ports_changed(now, out);
        }
    }

    /// Tells the controllers which ports this chassis serves, if it does, did, or the store thinks so.
    pub(super) fn report_served(&mut self, now: Instant, out: &mut Vec<Effect>) {
        let ports = self.compiler.served_ports();
        let rows = self.compiler.rows();
        let name = self.config.as_ref().map(|config| config.chassis.as_str());
        let own = rows.iter::<Chassis>().find(|(_, chassis)| Some(&*chassis.name) == name);
        let held = own.map(|(own, _)| self.compiler.held_ports(own)).unwrap_or_default();
        self.gateways.served |= !ports.is_empty() || !held.is_empty();
        if self.gateways.served {
            self.stream(now, controller::Input::Serves(ports), out);
        }
    }

    // ---- for metrics -------------------------------------------------------------------------------------------------

    /// Ports that this chassis serves as the active member of their groups, by name.
    pub fn served_ports(&self) -> BTreeSet<String> {
        self.compiler.served_ports()
    }

    /// Watched tunnels by the name of their chassis: whether packets can be sent there, and how often that changed.
    pub fn sessions(&self) -> BTreeMap<String, (bool, u64)> {
        let watched = self.compiler.watched_chassis();
        let tunnels = self.observed.tunnels.values().filter(|tunnel| watched.contains(&tunnel.chassis));
        let mut sessions: BTreeMap<String, (bool, u64)> = BTreeMap::new();
        for tunnel in tunnels {
            let Some(chassis) = self.compiler.rows().get::<Chassis>(tunnel.chassis) else { continue };
            let entry = sessions.entry(chassis.name.to_string()).or_default();
            *entry = (entry.0 || tunnel.session.forwards, entry.1 + tunnel.session.flaps);
        }
        sessions
    }
}

fn base_settings() -> BTreeMap<String, String> {
    [("enable", "true"), ("check_tnl_key", "true")]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// Settings of BFD (ovn-nb(5), `NB_Global` options), and those that are none.
fn settings(global: &NbGlobal) -> (BTreeMap<String, String>, Vec<String>) {
    let (mut settings, mut problems) = (base_settings(), Vec::new());
    for (option, setting) in BFD_OPTIONS {
        let Some(text) = global.options.get(*option) else { continue };
        match text.trim().parse::<u32>() {
            Ok(number) => _ = settings.insert((*setting).to_owned(), number.to_string()),
            Err(_) => problems.push(format!("NB_Global options:{option}={text:?} is no number")),
        }
    }
    (settings, problems)
}

const BFD_OPTIONS: &[(&str, &str)] = &[
    ("bfd-min-rx", "min_rx"),
    ("bfd-min-tx", "min_tx"),
    ("bfd-decay-min-rx", "decay_min_rx"),
    ("bfd-mult", "mult"),
];
/// Three such packets, until both ends of a session are up (RFC 5880, section 6.2), and some.
const SESSIONS_COME_UP: Duration = Duration::from_secs(4);
/// Longer than all members and senders need to notice that another one has taken over, those included whose sessions come up late.
const HANDOVER: Duration = Duration::from_secs(5);
/// So long after BFD has said that this chassis forwards, its senders have noticed.
const SENDERS_CHANGE: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests {
    use quantumnet_model::column::Text;

    use super::*;

    #[test]
    fn settings_of_bfd() {
        let options = [("bfd-min-rx", "100"), ("bfd-mult", "x"), ("bfd-min-tx", " 50 ")];
        let options = options.into_iter().map(|(key, value)| (Text::from(key), Text::from(value))).collect();
        let (settings, problems) = settings(&NbGlobal { options, ..NbGlobal::default() });
        let settings: Vec<String> =
            settings.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(settings, ["check_tnl_key=true", "enable=true", "min_rx=100", "min_tx=50"]);
        assert_eq!(problems, [r#"NB_Global options:bfd-mult="x" is no number"#]);
    }
}
