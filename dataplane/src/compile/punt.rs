//! Packets for the agent: why they come, how many may come, and the user data that says so in a packet-in.
//!
//! User data is 20 bytes: format (1), reason (1), two zeros, uuid of a row (16), mostly the logical port. The keys of the
//! switch and of the port are in the packet-in's metadata and registers.
//!
//! # Invariants
//! - Each reason of each interface has a meter of its own: no guest can keep the agent from another. So has each
//!   ACL that logs. Where a switch or router has a `Copp`, its meters take the place of those, as in OVN: an operator's limit may
//!   be higher than ours as well as lower, and whoever names a meter shares it.
//! - A packet-in with other user data is refused, never guessed at.

use ofpacket::{Action, Controller, MeterId};
use thiserror::Error;
use uuid::Uuid;

use super::{flow::MeterSpec, meter, sink::Sink, view::View};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $number:literal, rate $rate:literal, burst $burst:literal;)*) => {
        /// Why a packet comes to the agent.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[repr(u8)]
        pub enum PuntReason { $($(#[$doc])* $name = $number,)* }

        impl PuntReason {
            /// All reasons.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Packets a second and at once that one port may cause.
            pub const fn rate(self) -> MeterSpec {
                match self { $(Self::$name => MeterSpec::packets($rate, $burst),)* }
            }
        }
    };
}

reasons! {
    /// A frame from a MAC that is not known behind its port; it is forwarded as well.
    LearnMac = 0, rate 100, burst 100;
    /// A DHCPv4 request of a port with options; what the agent does not answer goes on.
    Dhcpv4 = 1, rate 20, burst 20;
    /// A port that waited to show itself has done so; the frame is forwarded as well.
    Activated = 2, rate 5, burst 5;
    /// A frame in which a virtual port's parent says that it has the virtual address; it is forwarded as well.
    VirtualClaim = 3, rate 20, burst 20;
    /// A packet that a rule rejects, from the port: the port is told.
    RejectedFrom = 4, rate 100, burst 100;
    /// A packet that a rule rejects, for the port: its sender is told.
    RejectedTo = 5, rate 100, burst 100;
    /// A packet about which a rule wants a record.
    AclLog = 6, rate 200, burst 200;
    /// ARP or neighbour discovery by whose sender a router port learns a neighbour; it is looked at further.
    LearnNeighbour = 7, rate 100, burst 100;
    /// A packet whose next hop has no MAC yet: it waits until the agent has asked.
    ResolveNeighbour = 8, rate 200, burst 200;
    /// A packet to a neighbour that has not shown itself for long; it is sent as well.
    RefreshNeighbour = 9, rate 1, burst 1;
    /// A packet whose time to live is over: its sender is told.
    TimeExceeded = 10, rate 100, burst 100;
    /// A packet for a router's own address, where nothing is: its sender is told.
    RouterUnreachable = 11, rate 100, burst 100;
    /// A packet that is larger than the port it leaves by can take: its sender is told.
    TooLarge = 14, rate 100, burst 100;
    /// An ICMP error that passes a translation without memory: it goes on with the packet that it quotes translated.
    InnerAddress = 12, rate 100, burst 100;
    /// A neighbour solicitation for a router's address, where the switch can't answer.
    RouterSolicited = 13, rate 100, burst 100;
    /// A packet of the peer of a BFD session that the hypervisor runs for a router port.
    Bfd = 15, rate 1000, burst 1000;
}

/// What a `Copp` can limit of what comes to the agent (ovn-nb(5), `Copp.meters`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// Neighbours of routers, by ARP.
    Arp,
    /// Packets that wait for an answer to ARP.
    ArpResolve,
    /// Sessions of router ports with their peers.
    Bfd,
    /// Requests that get an address.
    Dhcpv4Opts,
    /// What a router tells senders by ICMP.
    Icmp4Error,
    /// By ICMPv6.
    Icmp6Error,
    /// Neighbours of routers by their advertisements, and advertisements of routers that the agent makes.
    NdNa,
    /// Neighbours of routers by their solicitations.
    NdNs,
    /// Packets that wait for an advertisement.
    NdNsResolve,
    /// What rules refuse.
    Reject,
    /// TCP to a router's own address.
    TcpReset,
}

impl Protocol {
    /// Its key in `Copp.meters`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Arp => "arp",
            Self::ArpResolve => "arp-resolve",
            Self::Bfd => "bfd",
            Self::Dhcpv4Opts => "dhcpv4-opts",
            Self::Icmp4Error => "icmp4-error",
            Self::Icmp6Error => "icmp6-error",
            Self::NdNa => "nd-na",
            Self::NdNs => "nd-ns",
            Self::NdNsResolve => "nd-ns-resolve",
            Self::Reject => "reject",
            Self::TcpReset => "tcp-reset",
        }
    }
}

/// Meters that an interface has: numbers from `Host_Interface.meter`, one for each reason, now or later.
pub const METERS_PER_INTERFACE: u32 = 16;

/// What user data says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Punt {
    /// Why.
    pub reason: PuntReason,
    /// The `Port_Binding`, of [`PuntReason::AclLog`] the `ACL`, of [`PuntReason::InnerAddress`] the `NAT`.
    pub row: Uuid,
}

/// Why user data is not ours.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum PuntError {
    /// Not 20 bytes.
    #[error("user data of {got} bytes, expected {LENGTH}")]
    Length {
        /// How many.
        got: usize,
    },
    /// Another format, or bytes that should be zero.
    #[error("user data of format {got}, expected {FORMAT}")]
    Format {
        /// The first byte.
        got: u8,
    },
    /// A reason nobody declared.
    #[error("unknown punt reason {got}")]
    Reason {
        /// Its number.
        got: u8,
    },
}

impl Punt {
    /// As user data.
    pub fn encode(&self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[0] = FORMAT;
        bytes[1] = self.reason as u8;
        bytes[4..].copy_from_slice(self.row.as_bytes());
        bytes
    }

    /// Back from user data.
    pub fn decode(bytes: &[u8]) -> Result<Self, PuntError> {
        let bytes: &[u8; LENGTH] = bytes.try_into().map_err(|_| PuntError::Length { got: bytes.len() })?;
        let [format, reason, zeros @ ..] = bytes;
        if *format != FORMAT || zeros[..2] != [0, 0] {
            return Err(PuntError::Format { got: *format });
        }
        let reason = PuntReason::ALL
            .iter()
            .find(|known| **known as u8 == *reason)
            .ok_or(PuntError::Reason { got: *reason })?;
        let row = Uuid::from_slice(&zeros[2..]).map_err(|_| PuntError::Length { got: bytes.len() })?;
        Ok(Self { reason: *reason, row })
    }

    /// The action, with the meter of the datapath's `Copp`, if it has one for the protocol, else with that of the interface whose
    /// meters start at `base`.
    pub(crate) fn metered(
        &self,
        view: &View<'_>,
        datapath: Uuid,
        protocol: Protocol,
        base: Option<u32>,
        out: &mut Sink,
    ) -> Action {
        Action::Controller2(self.limited(view, datapath, Some(protocol), base, out))
    }

    /// The same of any protocol or none, to be changed further.
    pub(crate) fn limited(
        &self,
        view: &View<'_>,
        datapath: Uuid,
        protocol: Option<Protocol>,
        base: Option<u32>,
        out: &mut Sink,
    ) -> Controller {
        let meter = meter::of_punt(view, datapath, self.reason, protocol, base, out);
        Controller {
            userdata: Some(Box::new(self.encode())),
            meter: meter.map(MeterId),
            ..Controller::default()
        }
    }

    /// Actions by which the packet waits until the agent lets it go on, at the beginning of a flow. Open vSwitch does not ask the
    /// meter of an action that pauses: the flow is metered instead.
    pub(crate) fn waiting(limited: Controller) -> impl Iterator<Item = Action> {
        let meter = limited.meter.map(Action::Meter);
        meter.into_iter().chain([Action::Controller2(Controller { pause: true, meter: None, ..limited })])
    }

    /// The action, metered when the interface has meters (`base` above 0). For reasons that no `Copp` limits.
    pub(crate) fn action(&self, base: Option<u32>) -> Action {
        Action::Controller2(Controller {
            userdata: Some(Box::new(self.encode())),
            meter: base.map(|base| MeterId(self.reason.meter(base))),
            ..Controller::default()
        })
    }
}

impl PuntReason {
    /// Its meter, of an interface whose meters start at `base`.
    pub const fn meter(self, base: u32) -> u32 {
        base + self as u32
    }
}

const FORMAT: u8 = 1;
const LENGTH: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_data_round_trip() {
        for reason in PuntReason::ALL {
            let punt = Punt { reason: *reason, row: Uuid::from_u128(0x1234 << 100) };
            assert_eq!(Punt::decode(&punt.encode()), Ok(punt));
            assert!((*reason as u32) < METERS_PER_INTERFACE);
        }
        assert_eq!(Punt::decode(&[1, 0]), Err(PuntError::Length { got: 2 }));
        assert_eq!(Punt::decode(&[9; LENGTH]), Err(PuntError::Format { got: 9 }));
        let mut bytes = Punt { reason: PuntReason::Dhcpv4, row: Uuid::nil() }.encode();
        bytes[1] = 99;
        assert_eq!(Punt::decode(&bytes), Err(PuntError::Reason { got: 99 }));
    }
}
