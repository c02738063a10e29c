//! The first transaction of a store: its identity and the two projects that always are.

use quantumnet_model::{
    Uuid,
    intent::{Cluster, Project},
};

use crate::store::{Refusal, Txn};

/// Used when a request names no project.
pub const DEFAULT_PROJECT: &str = "default";

/// Owns what northbound clients made.
pub const SYSTEM_PROJECT: &str = "system";

/// Makes what is missing.
pub(crate) fn bootstrap(txn: &mut Txn<'_>) -> Result<(), Refusal> {
    if txn.iter::<Cluster>().next().is_none() {
        let (cluster_id, history_id) = (Uuid::new_v4(), Uuid::new_v4());
        let cluster = Cluster { cluster_id, history_id, last_claim: 0 };
        txn.insert(Uuid::new_v4(), cluster)?;
    }
    for (name, description) in [
        (DEFAULT_PROJECT, "Used when a request names no project"),
        (SYSTEM_PROJECT, "Owns what clients of the northbound database made"),
    ] {
        if txn.find::<Project>(&[("name", name.into())]).is_none() {
            let project = Project {
                name: name.into(),
                description: description.into(),
                created_at: txn.now_ms(),
                updated_at: txn.now_ms(),
                revision: i64::try_from(txn.next_revision()).unwrap_or(i64::MAX),
                ..Project::default()
            };
            txn.insert(Uuid::new_v4(), project)?;
        }
    }
    Ok(())
}
