//! What hypervisors' switches have counted: asked for when a client asks, and summed.
//!
//! # Contract
//! - [`rules`]: packets that met ACLs. [`Drops`]: what was dropped since the last time. Both say whom they did not hear.
//! - Nothing is kept but what a client that follows drops has been told.
//!
//! # Invariants
//! - At most [`AT_ONCE`] agents are asked at a time, and none is waited for longer than [`WITHIN`].

mod drops;

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, stream};
use quantumnet_api::v1::{RuleCount, RuleCountsQuery};
use quantumnet_model::Uuid;

use crate::agents::{AgentRegistry, AskError, Asked, Queries};

pub(crate) use drops::{Drops, Seen};

/// What ACLs have counted on all hypervisors together.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Sum {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    /// Milliseconds since the epoch, or 0.
    pub(crate) last_ms: u64,
    /// Hypervisors that counted any.
    pub(crate) hypervisors: u32,
}

impl Sum {
    fn add(&mut self, count: &RuleCount) {
        self.packets = self.packets.saturating_add(count.packets);
        self.bytes = self.bytes.saturating_add(count.bytes);
        self.last_ms = self.last_ms.max(count.last_ms);
        self.hypervisors += 1;
    }
}

/// What these ACLs have counted, and which hypervisors are missing in that.
pub(crate) async fn rules(
    queries: &Queries,
    agents: &AgentRegistry,
    acls: &[Uuid],
) -> (BTreeMap<Uuid, Sum>, Vec<String>) {
    let mut sums: BTreeMap<Uuid, Sum> = BTreeMap::new();
    let mut missing = BTreeMap::new();
    // One that is not connected is named as missing.
    let chassis = agents.names();
    for part in acls.chunks(ACLS_MAX) {
        let query = RuleCountsQuery { acls: part.iter().map(|acl| acl.as_bytes().to_vec()).collect() };
        for (chassis, answer) in ask_all(queries, chassis.clone(), |_| query.clone()).await {
            match answer {
                Ok(answer) => {
                    for count in answer.counts {
                        // One that names no place of the query says nothing.
                        let acl = usize::try_from(count.acl).ok().and_then(|place| part.get(place));
                        if let Some(acl) = acl {
                            sums.entry(*acl).or_default().add(&count);
                        }
                    }
                }
                Err(error) => _ = missing.insert(chassis, error.to_string()),
            }
        }
    }
    (sums, missing.into_values().collect())
}

async fn ask_all<Q: Asked>(
    queries: &Queries,
    chassis: Vec<String>,
    question: impl Fn(&str) -> Q,
) -> Vec<(String, Result<Q::Answer, AskError>)> {
    let ask = |chassis: String| {
        let question = question(&chassis);
        async move {
            let answer = queries.ask(&chassis, question, WITHIN).await;
            (chassis, answer)
        }
    };
    stream::iter(chassis.into_iter().map(ask)).buffer_unordered(AT_ONCE).collect().await
}

const AT_ONCE: usize = 64;
const WITHIN: std::time::Duration = std::time::Duration::from_secs(3);
/// ACLs of one question: as many as one may have octets for.
const ACLS_MAX: usize = 3_000;
