//! Members on directories that a former member may not have let go of yet.

use std::time::Duration;

use quantumnet_controller::replica::{self, Options, Replica, StartError};
use quantumnet_model::intent::Cluster;

/// Starts once a former member has let go of the directory, and waits until it is [`ready`].
pub(crate) async fn open(options: impl Fn() -> Options) -> Replica {
    let start = async {
        loop {
            match replica::start(options()) {
                Ok(replica) => return replica,
                Err(StartError::Log { source: quantumnet_consensus::LogError::Locked { .. }, .. }) => {
                    tokio::task::yield_now().await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    };
    let replica = tokio::time::timeout(DEADLINE, start).await.expect("the lock is let go");
    ready(&replica).await;
    replica
}

/// Waits until it leads and has applied everything in the log.
pub(crate) async fn ready(replica: &Replica) {
    let mut status = replica.status_changes();
    let leads = status.wait_for(|status| status.writable);
    tokio::time::timeout(DEADLINE, leads).await.expect("the member leads").unwrap();
    let mut applied = replica.applied();
    let made = applied.wait_for(|state| state.iter::<Cluster>().next().is_some());
    tokio::time::timeout(DEADLINE, made).await.expect("the store makes its identity").unwrap();
}

const DEADLINE: Duration = Duration::from_secs(60);
