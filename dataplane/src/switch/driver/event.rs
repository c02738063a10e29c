//! What happens to a driver, what it wants done, its limits and counters.

use std::{sync::Arc, time::Duration};

use ofpacket::{DecodeError, PacketIn2, PacketOut};
use thiserror::Error;

use crate::{
    compile::{FlowDelta, FlowKey},
    switch::readings::Count,
};

/// What happens to a driver.
#[derive(Debug)]
pub enum Input {
    /// There is a new connection.
    Connected,
    /// Bytes came.
    Received(Vec<u8>),
    /// The connection is gone.
    Disconnected,
    /// The desired table changed; `tag` comes back once it is in the switch.
    Delta {
        /// What changed.
        delta: FlowDelta,
        /// A number that grows.
        tag: u64,
    },
    /// The desired table is all there is to be: the switch may be made equal to it.
    Complete,
    /// Forget the connections of a zone before anything else is written.
    Forget {
        /// The zone.
        zone: u16,
    },
    /// Send a packet.
    Packet(PacketOut),
    /// A packet that the switch had handed over and that waits goes on.
    Resume(Box<PacketIn2>),
    /// Somebody wants to see drops as they come, or nobody does any more.
    Watch(bool),
    /// The switch is to look at the flows of its datapath again, for something else than flows has changed.
    Revalidate,
    /// It is [`super::Driver::poll_timeout`] or later.
    Timeout,
}

/// What a driver wants done.
#[derive(Debug)]
pub enum Output {
    /// Send these bytes.
    Send(Vec<u8>),
    /// The handshake is done.
    Up(Abilities),
    /// Everything up to this tag is in the switch.
    Applied(u64),
    /// A packet came.
    Packet(Box<PacketIn2>),
    /// Packets were counted.
    Counted(Vec<Count>),
    /// The switch did not take something.
    Failed(Failure),
    /// Close the connection and open another one.
    Close(SwitchError),
}

/// What a switch can do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Abilities {
    /// Slot of our Geneve option: `tun_metadataN`.
    pub tunnel_option: u16,
    /// How many meters it has.
    pub meters: u32,
    /// Neighbour solicitations can be turned into advertisements by flows. The kernel's datapath cannot.
    pub nd_extensions: bool,
    /// SCTP associations are tracked by their ports. Open vSwitch 3.1's own datapath knows their addresses only.
    pub sctp_ports: bool,
}

/// Something the switch did not take.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The flow, if it was one. It is left out until it changes, and tried again from time to time.
    pub flow: Option<Arc<FlowKey>>,
    /// Why.
    pub error: String,
}

/// Why a connection is given up.
#[derive(Clone, Debug, Error, Eq, PartialEq)]
#[non_exhaustive]
pub enum SwitchError {
    /// Bytes that are no messages.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// No common version.
    #[error("the bridge does not speak OpenFlow 1.3")]
    Version,
    /// No room for the Geneve option.
    #[error("the tunnel option table has no free slot")]
    NoTunnelOption,
    /// It holds the connection and does not answer.
    #[error("no answer for {} s", after.as_secs())]
    Silent {
        /// Since when.
        after: Duration,
    },
    /// The handshake failed.
    #[error("{what} refused: {error}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// The answer.
        error: String,
    },
}

/// Times and sizes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Time between comparisons of the whole table.
    pub check_interval: Duration,
    /// The first pause after a failed batch; doubles each time.
    pub retry_min: Duration,
    /// The longest pause.
    pub retry_max: Duration,
    /// Time until refused flows are tried again.
    pub refused_retry: Duration,
    /// Silence after which the switch is asked for a sign of life.
    pub probe_after: Duration,
    /// Time it has to give one, beside what the bundle under way may take.
    pub probe_deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            check_interval: Duration::from_secs(120),
            retry_min: Duration::from_millis(50),
            retry_max: Duration::from_secs(10),
            refused_retry: Duration::from_secs(60),
            probe_after: Duration::from_secs(5),
            probe_deadline: Duration::from_secs(10),
        }
    }
}

/// Counters since the start, and states.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Bundles that were committed.
    pub bundles: u64,
    /// Flows in them.
    pub flow_mods: u64,
    /// Messages that the switch refused.
    pub errors: u64,
    /// Whole comparisons.
    pub checks: u64,
    /// Flows found otherwise than left, in comparisons without a reason for it.
    pub drift: u64,
    /// How long the last batch took, from write to barrier.
    pub last_batch: Option<Duration>,
    /// How many batches have a `last_batch`.
    pub batches: u64,
}
