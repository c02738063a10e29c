//! What the controllers say of their cluster: who leads.
//!
//! # Contract
//! - Asks over the controllers' own sockets, so that a member whose cables are pulled still answers for itself.
//! - Of the API it knows one method, `GetClusterStatus`, in its JSON form.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::{Error, Lab, Result, api, error::IoContext, spec::Daemon, wait::wait_ok};

/// One member's view of its cluster.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default, rename_all = "camelCase")]
pub struct Member {
    /// Its number.
    #[serde(deserialize_with = "number")]
    pub member_id: u64,
    /// Whom it follows, itself when it leads; 0 while it knows nobody.
    #[serde(deserialize_with = "number")]
    pub leader_id: u64,
    /// Its term.
    #[serde(deserialize_with = "number")]
    pub term: u64,
    /// Revision that it has applied.
    #[serde(deserialize_with = "number")]
    pub revision: u64,
}

impl Lab {
    /// What controller `n` says; an error that names it when it does not answer.
    pub fn member(&self, n: u16) -> Result<Member> {
        let asked =
            api::call(&self.api_socket(n), "ClusterService/GetClusterStatus", None, "{}", ANSWER_WITHIN);
        let answer = asked.doing(|| format!("ask controller{n} for its cluster"))?;
        let unreadable = |problem: String| Error::Output { program: "quantumnet-controller", problem };
        if answer.status != 200 {
            return Err(unreadable(format!("expected status 200, found {} {}", answer.status, answer.body)));
        }
        serde_json::from_str(&answer.body)
            .map_err(|error| unreadable(format!("{error} in {:?}", answer.body)))
    }

    /// The controller that leads by its own word; of two (one does not know yet that it was replaced) that of the
    /// later term. `None` while there is none, or none answers.
    pub fn leader(&self) -> Result<Option<u16>> {
        let members = (1..=self.spec()?.controllers).filter_map(|n| Some((n, self.member(n).ok()?)));
        let leaders = members.filter(|(n, member)| member.leader_id == u64::from(*n));
        Ok(leaders.max_by_key(|(_, member)| member.term).map(|(n, _)| n))
    }

    /// Waits for a controller that leads and is known as leader by every controller that runs and answers.
    pub fn wait_leader(&self, within: Duration) -> Result<u16> {
        let controllers = self.spec()?.controllers;
        wait_ok(within, "controllers to agree on a leader", || {
            let running = (1..=controllers).filter(|n| self.alive(Daemon::Controller(*n)).unwrap_or(false));
            let views: Vec<(u16, Member)> = running.filter_map(|n| Some((n, self.member(n).ok()?))).collect();
            let leader = views.first().map_or(0, |(_, view)| view.leader_id);
            let leads = views.iter().any(|(n, _)| u64::from(*n) == leader);
            if leads && views.iter().all(|(_, view)| view.leader_id == leader) {
                return u16::try_from(leader).map_err(|error| error.to_string());
            }
            Err(format!("{views:?}"))
        })
    }
}

/// Protobuf's JSON has 64-bit numbers as texts.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

const ANSWER_WITHIN: Duration = Duration::from_secs(2);
