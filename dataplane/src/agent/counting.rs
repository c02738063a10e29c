//! What controllers ask of counts: of rules, and of drops while somebody follows them.
//!
//! # Invariants
//! - An answer is bounded: a query names the rules it is about, and of drops the first [`DROPS_MAX`] lines are told.
//! - Drops are read every second only as long as somebody asks for them.

use std::time::{Duration, Instant};

use quantumnet_api::v1::{
    DropCount, DropCountsAnswer, DropCountsQuery, LoggedPacket, RuleCount, RuleCountsAnswer, RuleCountsQuery,
};
use quantumnet_model::{Row, Rows, nb::Acl, sb::PortBinding};
use uuid::Uuid;

use crate::{
    agent::{
        Agent, Effect,
        tally::{Line, Total},
    },
    compile::{alike, table::Table},
    punt::acl_log::Record,
    switch,
};

impl Agent {
    /// How often packets met ACLs here.
    pub(super) fn rule_counts(&self, query: &RuleCountsQuery) -> RuleCountsAnswer {
        let count = |(acl, uuid): (u32, &Vec<u8>)| {
            let Total { packets, bytes, last_ms } = self.tally.rule(Uuid::from_slice(uuid).ok()?);
            (packets > 0).then_some(RuleCount { acl, packets, bytes, last_ms })
        };
        RuleCountsAnswer { counts: (0..).zip(&query.acls).filter_map(count).collect() }
    }

    /// What was dropped here since a point, and what ACLs logged.
    pub(super) fn drop_counts(
        &mut self,
        now: Instant,
        query: &DropCountsQuery,
        out: &mut Vec<Effect>,
    ) -> DropCountsAnswer {
        if self.watched_until.replace(now + WATCH).is_none() {
            self.switch(now, switch::Input::Watch(true), out);
        }
        let (lines, at) = self.tally.drops_since(query.since);
        let (cut, rows) = (lines.len() > DROPS_MAX, self.compiler.rows());
        let drops = lines.iter().take(DROPS_MAX).map(|(line, total)| told(rows, line, *total)).collect();
        let (records, records_at) = self.records.since(query.records_since);
        let records = records.map(|(at_ms, record)| logged(at_ms, record)).collect();
        DropCountsAnswer { process: self.start.now_ms, at, records_at, drops, records, cut }
    }
}

/// A line with the row that its cookie leads back to; of several that begin alike, one that stops packets.
fn told(rows: &Rows, line: &Line, total: Total) -> DropCount {
    let stops =
        |acl: &Uuid| rows.get::<Acl>(*acl).is_some_and(|row| matches!(&*row.action, "drop" | "reject"));
    let row = if line.is_rule() {
        alike(rows, Acl::TABLE, line.origin()).filter(stops).last().map(|row| (Acl::NAME, row))
    } else {
        alike(rows, PortBinding::TABLE, line.origin()).last().map(|row| (PortBinding::NAME, row))
    };
    let table = Table::from_number(line.table).map(|table| table.decl().name);
    DropCount {
        cookie: line.cookie,
        table: table.unwrap_or_default().to_owned(),
        reason: line.class.reason().unwrap_or_default().to_owned(),
        row_table: row.map(|(table, _)| table).unwrap_or_default().to_owned(),
        row: row.map(|(_, row)| row.as_bytes().to_vec()).unwrap_or_default(),
        packets: total.packets,
        bytes: total.bytes,
    }
}

fn logged(at_ms: u64, record: &Record) -> LoggedPacket {
    let Record { name, verdict, severity, direction, port, flow, .. } = record;
    let address = |address: Option<std::net::IpAddr>| address.map(|ip| ip.to_string()).unwrap_or_default();
    LoggedPacket {
        at_ms,
        name: name.clone(),
        verdict: (*verdict).to_owned(),
        severity: severity.clone(),
        direction: direction.clone(),
        port: port.clone(),
        protocol: flow.protocol.to_owned(),
        src: address(flow.source),
        dst: address(flow.destination),
        src_port: flow.source_port.map(u32::from),
        dst_port: flow.destination_port.map(u32::from),
    }
}

/// Lines of one answer: with long names they stay below what an answer may have.
const DROPS_MAX: usize = 8_192;
/// How long one question counts for watching.
const WATCH: Duration = Duration::from_secs(5);
