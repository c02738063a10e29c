//! MACs and neighbours that grow old are asked to show themselves, so that the store forgets only those that are gone.
//!
//! # Contract
//! - So it is with a `MAC_Binding` row of a router with `mac_binding_age_threshold`; then the next packet to the neighbour makes
//!   the agent ask for it, and its answer is reported.
//! - A `FDB` row of a switch with `fdb_age_threshold` that is half as old as it may become gets a `Host_Old_Mac` row: then
//!   the MAC's next frame is reported as if it were new. The row goes when the store has a new time.
//!
//! # Invariants
//! - Nothing is asked of the switch, and no frame is reported, but once in half a MAC's life.
//! - Cost follows the rows that changed.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use ovsdb::value::Atom;
use quantumnet_model::{
    Row, TableId,
    nb::{LogicalRouter, LogicalSwitch},
    sb::{DatapathBinding, Fdb, MacBinding},
    threshold::Thresholds,
};
use uuid::Uuid;

use crate::{
    agent::{Agent, Effect},
    compile::{By, RowUpdate},
};

impl Agent {
    /// Looks at the rows of a batch that has been applied. Tells whether some are not old any more.
    pub(super) fn grow_old(&mut self, now: Instant, batch: &[(TableId, Uuid)]) -> bool {
        let before = self.old_macs.len();
        self.schedule(now, batch);
        self.old_macs.len() != before
    }

    fn schedule(&mut self, now: Instant, batch: &[(TableId, Uuid)]) {
        for (_, router) in batch.iter().filter(|(table, _)| *table == LogicalRouter::TABLE) {
            self.grow_old_by(now, *router);
        }
        for (_, row) in batch.iter().filter(|(table, _)| *table == MacBinding::TABLE) {
            self.schedule_old(now, *row);
        }
        if batch.iter().any(|(table, _)| *table == LogicalSwitch::TABLE) {
            let rows: Vec<Uuid> = self.compiler.rows().iter::<Fdb>().map(|(uuid, _)| uuid).collect();
            rows.into_iter().for_each(|row| self.schedule_old(now, row));
            return;
        }
        for (_, row) in batch.iter().filter(|(table, _)| *table == Fdb::TABLE) {
            self.schedule_old(now, *row);
        }
    }

    /// A router's threshold may have changed, unlike its many other columns.
    fn grow_old_by(&mut self, now: Instant, router: Uuid) {
        let row = self.compiler.rows().get::<LogicalRouter>(router);
        let threshold = row.and_then(|row| row.options.get("mac_binding_age_threshold").cloned());
        let before = match &threshold {
            Some(threshold) => self.thresholds.insert(router, threshold.clone()),
            None => self.thresholds.remove(&router),
        };
        if before != threshold {
            let of_router =
                |(row, binding): (Uuid, &MacBinding)| (binding.datapath.uuid() == router).then_some(row);
            let rows: Vec<Uuid> = self.compiler.rows().iter::<MacBinding>().filter_map(of_router).collect();
            rows.into_iter().for_each(|row| self.schedule_old(now, row));
        }
    }

    fn schedule_old(&mut self, now: Instant, row: Uuid) {
        if let Some(at) = self.old_macs_at.remove(&row) {
            self.old_macs_due.remove(&(at, row));
        }
        self.old_macs.remove(&row);
        let Some(left) = self.half_life_left(row) else { return };
        let at = now + left;
        self.old_macs_at.insert(row, at);
        self.old_macs_due.insert((at, row));
    }

    /// How long until the row has half its life behind it; `None` if it lives for ever.
    fn half_life_left(&self, row: Uuid) -> Option<Duration> {
        let rows = self.compiler.rows();
        if let Some(binding) = rows.get::<MacBinding>(row) {
            let threshold = self.thresholds.get(&binding.datapath.uuid())?;
            let lives = Thresholds::parse(threshold).ok()?.lives(binding.ip.parse().ok()?)?;
            return self.left(u64::try_from(lives).ok()? / 2, binding.timestamp);
        }
        let fdb = rows.get::<Fdb>(row)?;
        let key = [Atom::Integer(fdb.dp_key)];
        let switch = self.compiler.find_uuid::<DatapathBinding>(By::SwitchKey, &key)?;
        let text = rows.get::<LogicalSwitch>(switch)?.other_config.get("fdb_age_threshold")?;
        let seconds = text.trim().parse::<u32>().ok().filter(|seconds| *seconds > 0)?;
        self.left(u64::from(seconds) * 500, fdb.timestamp)
    }

    /// What is left of half a life that began at `since`.
    fn left(&self, half: u64, since: i64) -> Option<Duration> {
        // A clock that differs from the store's asks early or late, by at most half a life.
        let age = u64::try_from(since).ok().map_or(0, |at| self.now_ms.saturating_sub(at));
        Some(Duration::from_millis(half.saturating_sub(age)))
    }

    /// When the next one is due.
    pub(super) fn next_old(&self) -> Option<Instant> {
        self.old_macs_due.first().map(|(at, _)| *at)
    }

    /// Those that are due are to show themselves.
    pub(super) fn ask_old(&mut self, now: Instant, out: &mut Vec<Effect>) {
        let mut asked = false;
        while let Some((at, row)) = self.old_macs_due.first().copied().filter(|(at, _)| *at <= now) {
            self.old_macs_due.remove(&(at, row));
            self.old_macs_at.remove(&row);
            asked |= self.old_macs.insert(row);
        }
        if asked {
            self.host_rows(now, out);
        }
    }

    /// Rows that changed, for [`Self::grow_old`].
    pub(super) fn aging_rows(batch: &[RowUpdate]) -> Vec<(TableId, Uuid)> {
        let ages = |table| {
            [Fdb::TABLE, MacBinding::TABLE, LogicalSwitch::TABLE, LogicalRouter::TABLE].contains(table)
        };
        let rows: BTreeSet<_> =
            batch.iter().filter(|(table, ..)| ages(table)).map(|(table, uuid, _)| (*table, *uuid)).collect();
        rows.into_iter().collect()
    }
}
