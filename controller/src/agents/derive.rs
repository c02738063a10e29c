//! Writes the columns that follow from acknowledgements, in batches.

use std::{sync::Arc, time::Duration};

use quantumnet_model::{
    Weak,
    nb::NbGlobal,
    sb::{Chassis, ChassisPrivate, HaChassisGroup, PortBinding},
};

use crate::{
    agents::{Hub, pending::Due},
    replica::{ProposeError, Replica},
    store::{Refusal, Txn},
};

/// Runs until the replica stops. Members tell each other what is acknowledged, and only the leader writes: one that
/// begins to lead looks at everything again.
pub async fn derive(replica: Replica, hub: Arc<Hub>) {
    let mut status = replica.status_changes();
    loop {
        if !status.borrow_and_update().writable {
            if status.wait_for(|status| status.writable || status.stopped.is_some()).await.is_err()
                || status.borrow().stopped.is_some()
            {
                return;
            }
            hub.due_again();
            hub.wake.notify_one();
        }
        tokio::select! {
            () = hub.wake.notified() => {}
            changed = status.changed() => {
                if changed.is_err() {
                    return;
                }
                continue;
            }
        }
        let due = hub.due();
        if due == Due::default() {
            continue;
        }
        match replica.propose("quantumnet-controller", move |txn| write(txn, &due)).await {
            Ok(_) => {}
            Err(ProposeError::NotLeader { .. }) => hub.due_again(),
            Err(ProposeError::Stopped { .. }) => return,
            Err(error) => {
                tracing::warn!(%error, "derived columns not written; they will be");
                hub.due_again();
                tokio::time::sleep(RETRY_AFTER).await;
                hub.wake.notify_one();
            }
        }
        // What is acknowledged meanwhile goes together.
        tokio::time::sleep(BATCH_EVERY).await;
    }
}

fn write(txn: &mut Txn<'_>, due: &Due) -> Result<(), Refusal> {
    for (binding, chassis) in &due.up {
        // It may have moved meanwhile.
        if txn.get::<PortBinding>(*binding).is_some_and(|row| row.chassis == Some(Weak::new(*chassis))) {
            txn.update::<PortBinding>(*binding, |row| row.up = Some(true));
        }
    }
    let now_ms = txn.now_ms();
    let asked = txn.iter::<NbGlobal>().next().map_or(0, |(_, row)| row.nb_cfg);
    // What was reached in a count that has begun anew meanwhile says nothing about this one.
    for (private, nb_cfg) in due.nb_cfg.iter().filter(|(_, nb_cfg)| *nb_cfg <= asked) {
        if txn.get::<ChassisPrivate>(*private).is_some_and(|row| row.nb_cfg < *nb_cfg) {
            txn.update::<ChassisPrivate>(*private, |row| {
                row.nb_cfg = *nb_cfg;
                row.nb_cfg_timestamp = now_ms;
            });
        }
    }
    for (group, chassis) in &due.referring {
        let registered =
            chassis.iter().filter(|chassis| txn.get::<Chassis>(chassis.uuid()).is_some()).copied();
        let registered = registered.collect();
        txn.update::<HaChassisGroup>(*group, |row| row.ref_chassis = registered);
    }
    Ok(())
}

const BATCH_EVERY: Duration = Duration::from_millis(5);
const RETRY_AFTER: Duration = Duration::from_millis(500);
