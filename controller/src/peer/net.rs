//! Connections between members, and how both ends of a call are named.

use std::{io, net::SocketAddr, time::Duration};

use quantumnet_api::PEER_FORMAT;
use quantumnet_consensus::ClusterId;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint, Error},
};

use crate::serve::Listener;

/// Waits for the other members' connections.
pub async fn listen(address: SocketAddr) -> io::Result<Listener> {
    Listener::tcp(address).await
}

/// A connection to another member.
pub(super) async fn connect(address: SocketAddr) -> Result<Channel, Error> {
    Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(CONNECT_WITHIN)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_WITHIN)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .connect()
        .await
}

/// Who calls whom, in which cluster.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) cluster: ClusterId,
    pub(super) from: u64,
    pub(super) to: u64,
}

impl Ends {
    /// A call with its ends named.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        let number = |number: u64| MetadataValue::<Ascii>::from(number);
        metadata.insert(FORMAT, number(PEER_FORMAT.into()));
        metadata.insert(CLUSTER, self.cluster.to_string().parse().expect("hexadecimal digits are ASCII"));
        metadata.insert(FROM, number(self.from));
        metadata.insert(TO, number(self.to));
        request
    }
}

/// Who calls this member, if it may: a voter of this cluster that means this very member.
pub(super) fn caller<T>(
    request: &Request<T>,
    cluster: ClusterId,
    me: u64,
    voters: &[u64],
) -> Result<u64, Status> {
    let text = |key: &'static str| {
        let value = request.metadata().get(key).and_then(|value| value.to_str().ok());
        value.ok_or_else(|| Status::invalid_argument(format!("{key} is missing: only members call here")))
    };
    let number = |key: &'static str| {
        let text = text(key)?;
        text.parse::<u64>()
            .map_err(|_| Status::invalid_argument(format!("{key} is {text:?}, expected a number")))
    };
    let format = number(FORMAT)?;
    if format != u64::from(PEER_FORMAT) {
        let message =
            format!("the caller speaks format {format}, this member {PEER_FORMAT}; upgrade the older one");
        return Err(Status::failed_precondition(message));
    }
    let (named, expected) = (text(CLUSTER)?, cluster.to_string());
    if named != expected {
        let message = format!(
            "the caller belongs to cluster {named}, this member to {expected}; all members need the same --peers at their first start"
        );
        return Err(Status::permission_denied(message));
    }
    let to = number(TO)?;
    if to != me {
        let message =
            format!("the caller means member {to}, this is member {me}; check the addresses of --peers");
        return Err(Status::permission_denied(message));
    }
    let from = number(FROM)?;
    if from == me || !voters.contains(&from) {
        let message = format!("member {from} is no other member of this cluster");
        return Err(Status::permission_denied(message));
    }
    Ok(from)
}

const FORMAT: &str = "x-quantumnet-peer-format";
const CLUSTER: &str = "x-quantumnet-cluster";
const FROM: &str = "x-quantumnet-from";
const TO: &str = "x-quantumnet-to";
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// A member whose host vanished is missed after these two.
const PING_EVERY: Duration = Duration::from_secs(1);
const PING_WITHIN: Duration = Duration::from_secs(2);
const WINDOW_BYTES: u32 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_members_that_mean_this_one_are_heard() {
        let cluster = ClusterId(7);
        let check = |request: &Request<()>| caller(request, cluster, 1, &[1, 2, 3]);
        let of = |cluster, from, to| Ends { cluster: ClusterId(cluster), from, to }.request(());
        assert_eq!(check(&of(7, 2, 1)).unwrap(), 2);
        for (request, text) in [
            (of(8, 2, 1), "belongs to cluster"),
            (of(7, 2, 3), "means member 3"),
            (of(7, 4, 1), "member 4 is no other member"),
            (of(7, 1, 1), "member 1 is no other member"),
            (Request::new(()), "is missing"),
        ] {
            let status = check(&request).unwrap_err();
            assert!(status.message().contains(text), "{status}");
        }
        let mut newer = of(7, 2, 1);
        newer.metadata_mut().insert(FORMAT, "99".parse().unwrap());
        assert!(check(&newer).unwrap_err().message().contains("format 99"));
        newer.metadata_mut().insert(FORMAT, "x".parse().unwrap());
        assert!(check(&newer).unwrap_err().message().contains("expected a number"));
    }
}
