//! What Prometheus sees of the agent, each name behind `quantumnet_agent_`.
//!
//! | name | type | labels | what |
//! |---|---|---|---|
//! | `flows_desired` | gauge | `table` | flows that should be in the switch |
//! | `flows_installed`, `flows_outstanding` | gauge | | flows that are there as they should be, and that are not |
//! | `flows_refused` | gauge | | flows and meters that the switch does not take |
//! | `flow_mod_seconds` | histogram | | from writing a batch to its barrier |
//! | `bundles_total`, `flow_mods_total` | counter | | bundles committed, flows changed in them |
//! | `switch_errors_total`, `switch_checks_total` | counter | | messages refused; whole comparisons with the switch |
//! | `drift_total`, `full_recompute_total` | counter | | flows found otherwise than left or compiled; tables compiled anew for it: both stay 0 |
//! | `stream_errors_total` | counter | | streams given up for what came over them |
//! | `punts_total` | counter | `reason`, `outcome` | packets from the switch |
//! | `drops_total` | counter | `reason`, `table` | packets dropped: by rules (`acl`), for another reason, or since no flow of the table matched (`no_flow`) |
//! | `macs_learned_total` | counter | | MACs reported to the controllers |
//! | `neighbours_asked_total`, `neighbours_learned_total` | counter | | ARP and ND questions that router ports sent; neighbours reported to the controllers |
//! | `neighbours_answered_total` | counter | | ARP and ND questions of guests that the switch answered |
//! | `neighbour_packets_dropped_total` | counter | | packets that found no room to wait for a neighbour |
//! | `mac_bindings`, `fdb_entries` | gauge | | learned neighbours and MACs that this hypervisor has in its tables |
//! | `conntrack_connections`, `conntrack_connections_max` | gauge | | connections that the userspace datapath tracks, every 30 s; how many it can |
//! | `conntrack_zone_connections` | gauge | `zone`, `of` | those of a port's or router's zone, for the 256 with most, while there are at most 20,000 in all |
//! | `compiler_batches_total`, `compiler_units_run_total`, `compiler_flows_changed_total` | counter | | work of the compiler |
//! | `tunnels`, `tunnels_up`, `ports_bound`, `problems` | gauge | | of this hypervisor |
//! | `tunnel_forwards` | gauge | `chassis` | 1 or 0, of tunnels that BFD watches: packets can be sent there |
//! | `tunnel_flaps_total` | counter | `chassis` | times that such a tunnel's session came up or went down |
//! | `tunnel_mtu_bytes` | gauge | `chassis` | octets that the way to its endpoint carries, where the other end answers |
//! | `gateway_active` | gauge | `port` | 1: this hypervisor serves the gateway or external port |
//! | `bfd_sessions` | gauge | `state` | sessions of router ports |
//! | `bfd_flaps_total` | counter | | times that one of them came up or went down |
//! | `switch_tracks_sctp_ports` | gauge | | 1 or 0: what the switch was found to do |
//! | `rules_untracked` | gauge | | stateful rules about SCTP that judge each packet by itself, because it does not |
//! | `controller_connected`, `ovs_connected` | gauge | | 1 or 0 |
//! | `revision_applied` | gauge | | revision of the store that is in the switch |
//! | `snapshot_age_seconds` | gauge | | since the rows were last stored |
//!
//! # Invariants
//! - Values are read when they are asked for: a scrape costs, an idle agent does not.

use std::time::Instant;

use prometheus_client::{
    encoding::text,
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::Gauge,
        histogram::Histogram,
    },
    registry::{Registry, Unit},
};

use quantumnet_model::{
    Row,
    sb::{Fdb, MacBinding},
};

use crate::{agent::Agent, compile::table::Table};

type Labels = Vec<(&'static str, String)>;

/// Metrics that can't be read off the agent's state.
#[derive(Debug)]
pub struct Metrics {
    flow_mod_latency: Histogram,
    batches: u64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Nothing measured yet.
    pub fn new() -> Self {
        let bounds = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];
        Self { flow_mod_latency: Histogram::new(bounds), batches: 0 }
    }

    /// Notes how long the last batch took, once each.
    pub fn observe(&mut self, agent: &Agent) {
        let stats = agent.driver().stats();
        if stats.batches != self.batches {
            self.batches = stats.batches;
            stats.last_batch.iter().for_each(|took| self.flow_mod_latency.observe(took.as_secs_f64()));
        }
    }

    /// The page.
    pub fn page(&self, now: Instant, agent: &Agent) -> String {
        let mut registry = Registry::with_prefix("quantumnet_agent");
        let registry = &mut registry;
        let (driver, stats, counts) = (agent.driver(), agent.driver().stats(), agent.counts());

        let by_table = Family::<Labels, Gauge>::default();
        for (number, flows) in driver.desired_by_table() {
            let name = Table::from_number(number)
                .map_or_else(|| number.to_string(), |table| table.decl().name.to_owned());
            by_table.get_or_create(&vec![("table", name)]).set(saturating(flows));
        }
        registry.register("flows_desired", "Flows that should be in the switch, by table", by_table);
        let outstanding = driver.outstanding().min(driver.desired_flows());
        gauge(
            registry,
            "flows_installed",
            "Flows that are in the switch",
            driver.desired_flows() - outstanding,
        );
        gauge(
            registry,
            "flows_outstanding",
            "Flows that are not in the switch as they should be",
            driver.outstanding(),
        );
        gauge(registry, "flows_refused", "Flows and meters that the switch does not take", driver.refused());
        let latency = self.flow_mod_latency.clone();
        registry.register_with_unit(
            "flow_mod",
            "From writing a batch to its barrier",
            Unit::Seconds,
            latency,
        );

        let compiler = agent.compiler().counters();
        for (name, help, value) in [
            ("bundles", "Bundles committed", stats.bundles),
            ("flow_mods", "Flows changed in bundles", stats.flow_mods),
            ("switch_errors", "Messages that the switch refused", stats.errors),
            ("switch_checks", "Whole comparisons with the switch", stats.checks),
            (
                "drift",
                "Flows found otherwise than left or than compiled from scratch",
                stats.drift + counts.recompute_drift,
            ),
            (
                "full_recompute",
                "Times that the table was compiled anew because it had drifted",
                counts.full_recompute,
            ),
            ("stream_errors", "Streams given up for what came over them", counts.stream_errors),
            ("macs_learned", "MACs reported", counts.macs_learned),
            ("neighbours_asked", "Questions for neighbours of router ports", counts.neighbours_asked),
            ("neighbours_learned", "Neighbours reported", counts.neighbours_learned),
            ("neighbours_answered", "Questions that the switch answered", agent.tally().answered()),
            (
                "neighbour_packets_dropped",
                "Packets that found no room to wait for a neighbour",
                counts.neighbour_packets_dropped,
            ),
            ("compiler_batches", "Batches of rows compiled", compiler.batches),
            ("compiler_units_run", "Units compiled", compiler.units_run),
            ("compiler_flows_changed", "Flows changed by batches", compiler.flows_changed),
        ] {
            registry.register(name, help, ConstCounter::new(value));
        }

        let rows = agent.compiler().rows();
        gauge(registry, "mac_bindings", "Learned neighbours", rows.table(MacBinding::TABLE).len());
        gauge(registry, "fdb_entries", "Learned MACs", rows.table(Fdb::TABLE).len());

        if let Some(tracked) = agent.connections() {
            let number = |count| usize::try_from(count).unwrap_or(usize::MAX);
            gauge(registry, "conntrack_connections", "Connections tracked", number(tracked.all));
            gauge(registry, "conntrack_connections_max", "Connections at most", number(tracked.max));
            let by_zone = Family::<Labels, Gauge>::default();
            for (zone, name, count) in agent.zone_connections() {
                let labels = vec![("zone", zone.to_string()), ("of", name)];
                by_zone.get_or_create(&labels).set(saturating(number(count)));
            }
            registry.register("conntrack_zone_connections", "Connections tracked in a zone", by_zone);
        }

        let punts = Family::<Labels, Counter>::default();
        for ((reason, outcome), count) in &agent.punts().counts {
            let labels = vec![("reason", (*reason).to_owned()), ("outcome", (*outcome).to_owned())];
            punts.get_or_create(&labels).inc_by(*count);
        }
        registry.register("punts", "Packets from the switch, by reason and outcome", punts);

        let drops = Family::<Labels, Counter>::default();
        for (reason, table, packets) in agent.tally().drops() {
            let labels = vec![("reason", reason.to_owned()), ("table", table.to_owned())];
            drops.get_or_create(&labels).inc_by(packets);
        }
        registry.register("drops", "Packets dropped, by reason and table", drops);

        let (tunnels, tunnels_up) = agent.tunnels();
        gauge(registry, "tunnels", "Tunnel ports made", tunnels);
        gauge(registry, "tunnels_up", "Tunnel ports that the switch gave a number", tunnels_up);
        let (forwards, flaps) = (Family::<Labels, Gauge>::default(), Family::<Labels, Counter>::default());
        for (chassis, (alive, count)) in agent.sessions() {
            let labels = vec![("chassis", chassis)];
            forwards.get_or_create(&labels).set(alive.into());
            flaps.get_or_create(&labels).inc_by(count);
        }
        registry.register("tunnel_forwards", "Packets can be sent there, as BFD has it", forwards);
        registry.register("tunnel_flaps", "Times that a tunnel's session came up or went down", flaps);
        let mtus = Family::<Labels, Gauge>::default();
        for (chassis, mtu) in agent.path_mtus() {
            mtus.get_or_create(&vec![("chassis", chassis)]).set(mtu.into());
        }
        registry.register_with_unit("tunnel_mtu", "What the way to the endpoint carries", Unit::Bytes, mtus);
        let active = Family::<Labels, Gauge>::default();
        for port in agent.served_ports() {
            active.get_or_create(&vec![("port", port)]).set(1);
        }
        registry.register("gateway_active", "This hypervisor serves the gateway or external port", active);
        let sessions = Family::<Labels, Gauge>::default();
        for state in agent.bfd().states().into_values() {
            sessions.get_or_create(&vec![("state", state.name().to_owned())]).inc();
        }
        registry.register("bfd_sessions", "BFD sessions of router ports", sessions);
        let bfd_flaps = ConstCounter::new(agent.bfd().flaps);
        registry.register("bfd_flaps", "Times that such a session came up or went down", bfd_flaps);
        gauge(registry, "ports_bound", "Interfaces whose flows are in the switch", agent.ports_bound());
        gauge(registry, "problems", "Problems that the agent reports", agent.problems().len());
        gauge(
            registry,
            "controller_connected",
            "A controller answers",
            usize::from(agent.controller_connected()),
        );
        let (tracks, without) = agent.sctp();
        if let Some(tracks) = tracks {
            let help = "The switch tracks SCTP associations by their ports";
            gauge(registry, "switch_tracks_sctp_ports", help, tracks.into());
        }
        gauge(
            registry,
            "rules_untracked",
            "Stateful rules about SCTP that judge each packet by itself",
            without,
        );
        gauge(registry, "ovs_connected", "The bridge answers", usize::from(driver.is_up()));
        let revision = Gauge::<i64>::default();
        revision.set(agent.revision().and_then(|revision| i64::try_from(revision).ok()).unwrap_or_default());
        registry.register("revision_applied", "Revision of the store that is in the switch", revision);
        if let Some(stored) = agent.stored_at() {
            let age = Gauge::<f64, std::sync::atomic::AtomicU64>::default();
            age.set(now.saturating_duration_since(stored).as_secs_f64());
            registry.register_with_unit(
                "snapshot_age",
                "Since the rows were last stored",
                Unit::Seconds,
                age,
            );
        }
        let mut page = String::new();
        match text::encode(&mut page, registry) {
            Ok(()) => page,
            Err(error) => format!("# {error}\n# EOF\n"),
        }
    }
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: usize) {
    let gauge = Gauge::<i64>::default();
    gauge.set(saturating(value));
    registry.register(name, help, gauge);
}

fn saturating(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
