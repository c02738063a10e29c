//! Learned MACs and neighbours that nobody has seen for long are forgotten (ovn-nb(5), `fdb_age_threshold` and
//! `mac_binding_age_threshold`).
//!
//! # Contract
//! - Reads `Logical_Switch.other_config:fdb_age_threshold` (seconds; absent or 0: never) and
//!   `NB_Global.options:fdb_removal_limit` (rows in one transaction; absent or 0: all). Deletes `FDB` rows; the same of
//!   routers, and `MAC_Binding` rows.
//!
//! # Invariants
//! - Only the member that leads deletes. Agents refresh the rows of MACs that are alive well before they are due.
//! - Nothing is proposed while nothing is due, and no pass is made while no switch asks for one.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use quantumnet_model::{
    Uuid,
    column::Text,
    nb::{LogicalSwitch, NbGlobal},
    sb::{DatapathBinding, Fdb, MacBinding},
};

use crate::{
    agents::neighbours,
    replica::{ProposeError, Replica},
    store::{Refusal, State, Txn},
};

/// Runs until the replica stops.
pub async fn age(replica: Replica) {
    let status = replica.status_changes();
    let applied = replica.applied();
    loop {
        tokio::time::sleep(PASS_EVERY).await;
        if status.borrow().stopped.is_some() {
            return;
        }
        if !status.borrow().writable {
            continue;
        }
        let state = applied.borrow().clone();
        if due(&state, now_ms()).is_empty() && due_neighbours(&state, now_ms()).is_empty() {
            continue;
        }
        match replica.propose("quantumnet-controller", forget).await {
            Ok(_) | Err(ProposeError::NotLeader { .. }) => {}
            Err(ProposeError::Stopped { .. }) => return,
            Err(error) => tracing::warn!(%error, "old MACs not forgotten; they will be"),
        }
    }
}

/// A request that forgets what is due.
pub fn forget(txn: &mut Txn<'_>) -> Result<(), Refusal> {
    for row in due(txn.state(), txn.now_ms()) {
        txn.delete::<Fdb>(row);
    }
    for row in due_neighbours(txn.state(), txn.now_ms()) {
        txn.delete::<MacBinding>(row);
    }
    Ok(())
}

/// How long a MAC of a switch lives unseen, in milliseconds; `None` for ever.
pub fn threshold(switch: &LogicalSwitch) -> Option<i64> {
    let text: &Text = switch.other_config.get("fdb_age_threshold")?;
    // OVN also takes a list of prefixes with thresholds of their own; that is for MAC bindings.
    let seconds = text.trim().parse::<u32>().ok().filter(|seconds| *seconds > 0)?;
    Some(i64::from(seconds) * 1_000)
}

fn due(state: &State, now_ms: i64) -> Vec<Uuid> {
    let threshold = |(uuid, switch): (Uuid, &LogicalSwitch)| {
        let lives = threshold(switch)?;
        state.get::<DatapathBinding>(uuid).map(|datapath| (datapath.tunnel_key, lives))
    };
    let thresholds: BTreeMap<i64, i64> = state.iter::<LogicalSwitch>().filter_map(threshold).collect();
    if thresholds.is_empty() {
        return Vec::new();
    }
    let limit = removal_limit(state, "fdb_removal_limit");
    let old = |(_, row): &(Uuid, &Fdb)| {
        thresholds.get(&row.dp_key).is_some_and(|lives| now_ms.saturating_sub(row.timestamp) >= *lives)
    };
    state.iter::<Fdb>().filter(old).map(|(uuid, _)| uuid).take(limit).collect()
}

fn due_neighbours(state: &State, now_ms: i64) -> Vec<Uuid> {
    neighbours::due(state, now_ms, removal_limit(state, "mac_binding_removal_limit"))
}

/// How many rows may go at once.
fn removal_limit(state: &State, key: &str) -> usize {
    let global = state.iter::<NbGlobal>().next();
    let limit = global.and_then(|(_, global)| global.options.get(key)?.trim().parse::<usize>().ok());
    limit.filter(|limit| *limit > 0).unwrap_or(usize::MAX)
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

/// A MAC may outlive its threshold by as much.
const PASS_EVERY: Duration = Duration::from_secs(2);
