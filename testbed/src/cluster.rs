//! What the controllers say of their cluster: who leads.
//!
//! # Contract
//! - Asks over the controllers' own sockets, so that a member whose cables are pulled still answers for itself.
//! - Of the API it knows one method, `GetClusterStatus`, in its JSON form.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    time::Duration,
};

use serde::{Deserialize, Deserializer};

use crate::{
    Error, Lab, Result,
    spec::Daemon,
    wait::{wait_for, wait_ok},
};

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
        let socket = self.api_socket(n);
        let failed =
            |source: io::Error| Error::Io { action: format!("ask controller{n} for its cluster"), source };
        let answer = UnixStream::connect(&socket).and_then(ask).map_err(failed)?;
        let unreadable = |problem: String| Error::Output { program: "quantumnet-controller", problem };
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .ok_or_else(|| unreadable(format!("expected an answer of HTTP, found {answer:?}")))?;
        if !head.starts_with("HTTP/1.0 200 ") && !head.starts_with("HTTP/1.1 200 ") {
            return Err(unreadable(format!("expected status 200, found {head:?} {body:?}")));
        }
        serde_json::from_str(body).map_err(|error| unreadable(format!("{error} in {body:?}")))
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

    /// Waits for a leader other than `former`, among the controllers that are left.
    pub fn wait_next_leader(&self, former: u16, within: Duration) -> Result<u16> {
        let what = format!("a leader after controller{former}");
        wait_for(within, &what, || self.leader().ok().flatten().filter(|leader| *leader != former))
    }
}

fn ask(mut stream: UnixStream) -> io::Result<String> {
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.set_write_timeout(Some(ANSWER_WITHIN))?;
    stream.write_all(REQUEST.as_bytes())?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}

/// Protobuf's JSON has 64-bit numbers as texts.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

const REQUEST: &str = "POST /quantumnet.v1.ClusterService/GetClusterStatus HTTP/1.1\r\nhost: lab\r\n\
     content-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
const ANSWER_BYTES_MAX: u64 = 1 << 20;
