//! What the OVSDB servers count.

use ovsdb::MessageError;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::session::Reason;

/// Metrics of all OVSDB servers of one controller.
#[derive(Debug, Default)]
pub struct Metrics {
    sessions: Gauge,
    requests: Family<MethodLabels, Counter>,
    refused: Family<RefusedLabels, Counter>,
    received: Counter,
    sent: Counter,
    slow_clients: Counter,
}

/// Why a client was disconnected.
#[derive(Clone, Copy, Debug, EncodeLabelValue, Eq, Hash, PartialEq)]
pub(super) enum Refused {
    /// Octets that are no JSON, or nest too deep.
    Malformed,
    /// A message that is too long.
    TooLong,
    /// JSON that is no message, or a reply to nothing.
    Unexpected,
    /// More than one client may hold.
    TooMany,
    /// No sign of life.
    Silent,
    /// A transaction without a known outcome.
    Lost,
    /// Its database changed.
    DatabaseChanged,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct MethodLabels {
    method: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct RefusedLabels {
    kind: Refused,
}

impl Metrics {
    /// Makes them known.
    pub fn register(&self, to: &mut Registry) {
        to.register("ovsdb_sessions", "Open OVSDB sessions", self.sessions.clone());
        to.register("ovsdb_requests", "OVSDB requests, by method", self.requests.clone());
        let help = "OVSDB clients that were disconnected, by reason";
        to.register("ovsdb_disconnected", help, self.refused.clone());
        to.register_with_unit("ovsdb_received", "From OVSDB clients", Unit::Bytes, self.received.clone());
        to.register_with_unit("ovsdb_sent", "To OVSDB clients", Unit::Bytes, self.sent.clone());
        let help = "OVSDB clients that were disconnected because they did not read";
        to.register("ovsdb_slow_clients", help, self.slow_clients.clone());
    }

    pub(super) fn session_began(&self) {
        self.sessions.inc();
    }

    pub(super) fn session_ended(&self) {
        self.sessions.dec();
    }

    /// A request came. Methods that nobody knows count as one.
    pub(super) fn request(&self, method: &str) {
        let method = METHODS.into_iter().find(|known| *known == method).unwrap_or("unknown");
        self.requests.get_or_create(&MethodLabels { method }).inc();
    }

    pub(super) fn received(&self, octets: usize) {
        self.received.inc_by(octets as u64);
    }

    pub(super) fn sent(&self, octets: usize) {
        self.sent.inc_by(octets as u64);
    }

    pub(super) fn disconnected(&self, reason: &Reason) {
        let kind = match reason {
            Reason::Message(MessageError::Frame(ovsdb::FrameError::TooLong { .. })) => Refused::TooLong,
            Reason::Message(MessageError::Frame(_)) => Refused::Malformed,
            Reason::Message(_) | Reason::Unexpected => Refused::Unexpected,
            Reason::TooMany { .. } => Refused::TooMany,
            Reason::Silent { .. } => Refused::Silent,
            Reason::Lost { .. } => Refused::Lost,
            Reason::DatabaseChanged { .. } => Refused::DatabaseChanged,
            Reason::Slow => {
                self.slow_clients.inc();
                return;
            }
        };
        self.refused.get_or_create(&RefusedLabels { kind }).inc();
    }
}

const METHODS: [&str; 16] = [
    "cancel",
    "convert",
    "echo",
    "get_schema",
    "get_server_id",
    "list_dbs",
    "lock",
    "monitor",
    "monitor_cancel",
    "monitor_cond",
    "monitor_cond_change",
    "monitor_cond_since",
    "set_db_change_aware",
    "steal",
    "transact",
    "unlock",
];
