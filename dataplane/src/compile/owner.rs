//! Names of what is compiled and of what is read: owners, facts of derived relations, dependencies.
//!
//! # Invariants
//! - One call of a stage compiles exactly one owner.
//! - A relation's facts are made by stages that stand before all its readers in [`super::stage::STAGES`].

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
};

use quantumnet_model::TableId;
use uuid::Uuid;

/// A set of facts derived from rows. Facts are counted: one stays while any unit states it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Relation {
    /// nil → uuid of this hypervisor's `Chassis`.
    OwnChassis,
    /// switch or router → its `Copp`.
    Copp,
    /// nil → nil when `NB_Global.options:ignore_lsp_down` is false: ports that are down are not answered for.
    RequireUp,
    /// switch → nil when it lets VLAN tags pass.
    VlanPassthru,
    /// router → nil while it is enabled.
    EnabledRouters,
    /// switch → nil while it has a usable port here, or leads to a datapath that is here.
    LocalSwitches,
    /// switch → nil while packets can come onto it here from elsewhere than a router: from a guest, a physical network or
    /// another switch.
    Entrances,
    /// router → nil while it has a usable port here.
    LocalRouters,
    /// router → usable port here.
    RouterPorts,
    /// nil → router port, or port between switches, that is here and whose packets for the agent have meters.
    MeteredPorts,
    /// router → nil while it is on one chassis, or has a port with a gateway.
    Gateways,
    /// router → nil while it learns little from requests (`always_learn_from_arp_request` is false).
    LearnsRarely,
    /// router → nil while it asks other routers for their MACs (`dynamic_neigh_routers`).
    AsksRouters,
    /// (router and a network of its ports; see [`named`]) → port here that has it.
    Networks,
    /// (router, 4 or 6) → length of the prefix of one of them.
    NetworkLengths,
    /// (router and name of a route table; see [`named`]) → port here whose packets are routed by it.
    TablePorts,
    /// set of equal routes → usable one of them, of a router that is here.
    Routes,
    /// router → nil while it has policies that are here.
    Policies,
    /// router → chain of policies that something leads to, by the uuid that [`named`] gives it.
    PolicyChains,
    /// nil → what needs a group of the switch.
    WantedGroups,
    /// router → nil while it has address translations that work here.
    Translates,
    /// nil → nil while routers have one zone for both translations (`NB_Global.options:use_common_zone`).
    CommonZone,
    /// router → nil while it is one chassis' (`Logical_Router.options:chassis`).
    GatewayRouters,
    /// router → port of it that is a distributed gateway port.
    GatewayPorts,
    /// router here → `NAT` that is usable on it.
    Translations,
    /// gateway port or gateway router → outer address of its translations; see [`number`].
    ExternalAddresses,
    /// (gateway port or gateway router, outer address, 0), or (same, inner address, 1) → `NAT` that translates destinations from
    /// or to it; with 0 also sources to it. See [`pair`].
    AddressRules,
    /// gateway port or gateway router → `NAT` of sources that floating IPs among them can't leave out of account.
    OverlappingSources,
    /// gateway router → address that sources of translated destinations are forced to be.
    ForcedSources,
    /// nil → router here that needs zones.
    ZonedRouters,
    /// nil → router here that needs a zone for the ways of connections (`ecmp_symmetric_reply`).
    SymmetricRouters,
    /// switch → nil while something on it looks at the source address of what a router sends there.
    LooksAtSources,
    /// (switch, group) → port to a router or another switch that a group's packets cross.
    FloodPeers,
    /// switch → enabled port with a way in and out here.
    LocalPorts,
    /// switch → enabled port that is here and must show itself before its frames pass.
    WaitingPorts,
    /// switch → enabled external port that this hypervisor answers for.
    ExternalPorts,
    /// switch → enabled virtual port, wherever it is.
    VirtualPorts,
    /// switch → port of `LocalPorts` that another hypervisor has too, during a live migration.
    MovingPorts,
    /// switch → enabled port to a physical network that this hypervisor should have, if it has the network.
    PhysicalPorts,
    /// switch → port to a physical network that this hypervisor has: the way to ports of other hypervisors.
    Localnet,
    /// nil → port to a physical network that needs a patch port.
    WantedPatches,
    /// nil → interface here whose port is bound to this hypervisor.
    BoundInterfaces,
    /// nil → port of this hypervisor that the physical network is told of.
    Announced,
    /// switch → chassis, other than this one, that has an enabled port of it.
    RemoteChassis,
    /// switch → chassis, other than this one, that has an enabled port of it with unknown addresses.
    RemoteUnknown,
    /// (switch, group and chunk) → local port to which the group's packets go.
    FloodPorts,
    /// (switch, group) → chunks of `FloodPorts` that are not empty.
    FloodChunks,
    /// nil → port here whose connections are tracked in a zone of its own.
    ZonedPorts,
    /// port group → switch with a usable port here that has a member.
    GroupSwitches,
    /// (port group and switch) → key of a member; see [`pair`].
    GroupKeys,
    /// port group → place of a member here: keys of switch and port.
    GroupPlaces,
    /// (port group, places or switches) → how many there are, as far as that matters.
    GroupSize,
    /// switch or port group → what an ACL of it needs.
    AclNeeds,
    /// switch or port group → signature of a conjunction of an ACL of it.
    Conjunctions,
    /// nil → signature that needs a number.
    Numbered,
    /// signature → ACL that has it.
    Joined,
    /// (address set, width of addresses) → use by a conjunction.
    SetUses,
    /// (address set, width and prefix length) → addresses in it, as an integer.
    SetMembers,
    /// switch → nil while an ACL applies to it.
    Filtered,
    /// switch → nil while one of them needs connection tracking.
    Stateful,
    /// nil → nil while any switch is `Filtered`.
    AnyFiltered,
    /// nil → nil while any switch is `Stateful`.
    AnyStateful,
    /// switch → nil while one of them is asked after load balancing.
    FilteredAfter,
    /// (switch, direction) → tier of one of them.
    FilterTiers,
    /// (switch, direction) → nil while one of them rejects.
    Rejects,
    /// switch → QoS rule of it, where the switch has a usable port here.
    QosRules,
    /// (switch, direction) → nil while a QoS rule of that direction applies to it; see [`super::stage::qos`].
    Shaped,
    /// (switch, direction) → nil while a port of it is mirrored to a port; see [`super::stage::mirror`].
    Mirrored,
    /// (switch, direction) → local port that is.
    MirroredPorts,
    /// switch → `Port_Binding` by which copies leave it, wherever that is.
    MirrorPorts,
    /// switch → the same, where its target is here.
    MirrorTargets,
    /// switch → chassis, other than this one, where such a target is.
    RemoteMirrors,
    /// nil → local port that the switch itself mirrors.
    CopiedPorts,
    /// nil → local port with a queue on the way to a physical network.
    QueuedPorts,
    /// chassis → `Host_Tunnel` to reach it by.
    TunnelTo,
    /// nil → chassis that shares a switch with this one.
    TunnelPeers,
    /// nil → `Encap` that a tunnel is needed to.
    WantedTunnels,
    /// nil → chassis whose tunnel is watched by BFD.
    Watched,
    /// nil → chassis with a tunnel whose BFD session is up.
    Heard,
    /// nil → chassis with a tunnel whose BFD session is up, and that forwards.
    Alive,
    /// HA chassis group → nil while this hypervisor is its active member.
    Active,
    /// nil → HA chassis group of which this hypervisor is the active member.
    ActiveGroups,
    /// nil → port that a gateway announces addresses of (`nat_addresses`).
    AnnouncedNat,
    /// port binding → nil while it is resident here, as `is_chassis_resident` of OVN's matches has it.
    Resident,
}

/// One fact.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Fact {
    /// What it says.
    pub relation: Relation,
    /// Whom it is about.
    pub of: Uuid,
    /// A part of `of`, where the relation has parts; else 0.
    pub part: u32,
    /// The uuid that is related, or a number in that form.
    pub value: Uuid,
}

/// What flows and facts belong to.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Owner {
    /// The hypervisor as such. There is one.
    Switch,
    /// A row.
    Row(TableId, Uuid),
    /// A fact that holds.
    Fact(Fact),
}

/// Which owners a stage compiles.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Owners {
    /// [`Owner::Switch`].
    Switch,
    /// Each row of a table.
    Rows(TableId),
    /// Each fact of a relation.
    Facts(Relation),
}

/// Something a unit has read, so that it runs again when that changes.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Dep {
    /// A row, present or not.
    Row(TableId, Uuid),
    /// Which rows have a key of an index, by the key's hash: two keys of one hash only cost a needless run.
    Index(u8, u64),
    /// The facts of a relation about something.
    Facts(Relation, Uuid, u32),
}

impl Relation {
    /// Whether its values are uuids of rows; else they are numbers or nothing.
    pub fn relates_rows(self) -> bool {
        !matches!(
            self,
            Self::RequireUp
                | Self::VlanPassthru
                | Self::EnabledRouters
                | Self::LocalSwitches
                | Self::Entrances
                | Self::LocalRouters
                | Self::Gateways
                | Self::LearnsRarely
                | Self::AsksRouters
                | Self::NetworkLengths
                | Self::Policies
                | Self::Translates
                | Self::CommonZone
                | Self::GatewayRouters
                | Self::ExternalAddresses
                | Self::ForcedSources
                | Self::LooksAtSources
                | Self::Resident
                | Self::FloodChunks
                | Self::GroupKeys
                | Self::GroupPlaces
                | Self::GroupSize
                | Self::AclNeeds
                | Self::Conjunctions
                | Self::Numbered
                | Self::SetUses
                | Self::SetMembers
                | Self::AnyFiltered
                | Self::AnyStateful
                | Self::Filtered
                | Self::Stateful
                | Self::FilteredAfter
                | Self::FilterTiers
                | Self::Rejects
                | Self::Active
                | Self::Shaped
                | Self::Mirrored
        )
    }
}

/// One name for two rows, so that facts can be about both.
pub(crate) fn pair(a: Uuid, b: Uuid) -> Uuid {
    Uuid::from_u128(a.as_u128() ^ b.as_u128().rotate_left(1))
}

/// An address as the value of a fact.
pub(crate) fn number(ip: IpAddr) -> Uuid {
    match ip {
        IpAddr::V4(ip) => Uuid::from_u128(ip.to_ipv6_mapped().into()),
        IpAddr::V6(ip) => Uuid::from_u128(ip.into()),
    }
}

/// The address that a fact's value is.
pub(crate) fn address(number: Uuid) -> IpAddr {
    Ipv6Addr::from(number.as_u128()).to_canonical()
}

/// A uuid for what has a name within a row's object.
pub(crate) fn named(of: Uuid, name: &str) -> Uuid {
    Uuid::new_v5(&of, name.as_bytes())
}

impl Owner {
    /// The row that the owner leads back to: its own, or the one its fact names.
    pub fn row(self) -> Uuid {
        match self {
            Self::Switch => Uuid::nil(),
            Self::Row(_, uuid) => uuid,
            Self::Fact(fact) if fact.relation.relates_rows() => fact.value,
            Self::Fact(fact) => fact.of,
        }
    }

    /// The owner's fact.
    pub fn fact(self) -> Option<Fact> {
        if let Self::Fact(fact) = self { Some(fact) } else { None }
    }
}

impl fmt::Debug for Dep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Row(table, uuid) => write!(f, "{} {uuid}", quantumnet_model::tables::decl(*table).name),
            Self::Index(index, hash) => write!(f, "index {index} {hash:#x}"),
            Self::Facts(relation, of, part) => write!(f, "{relation:?} {of} {part}"),
        }
    }
}
