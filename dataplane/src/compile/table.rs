//! The OpenFlow tables in order: what each is for and what happens to a packet that no flow of it matches.
//!
//! Tables of later features are declared now and marked as planned, so that the paths of packets and their cost are
//! decided once. `docs/pipeline.md` is generated from here.
//!
//! # Invariants
//! - A packet that matches nothing in a table is dropped, always: bridges are made with `fail_mode=secure` and no
//!   table has a miss entry that forwards. Where passing on is the default, a flow says so.
//! - Flows resubmit forward only, except where `Table::Dhcp`, `Table::Neighbour` and the side tables behind
//!   `Deliver` return to the main path, where a verdict table asks its policy table for the next tier, and where a packet crosses into the datapath of a
//!   port's peer (`logical::across`).

/// Whether anything fills a table yet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Status {
    /// Filled by stages.
    Built,
    /// Reserved for a feature to come.
    Planned,
}

/// A declared table.
#[derive(Clone, Copy, Debug)]
pub struct TableDecl {
    /// Which.
    pub table: Table,
    /// Its name in documentation and dumps.
    pub name: &'static str,
    /// What its flows decide.
    pub purpose: &'static str,
    /// What a packet without match meets before the drop: the pass flow, if there is one.
    pub miss: &'static str,
    /// Whether it is filled.
    pub status: Status,
}

macro_rules! tables {
    ($($status:ident $name:ident = $number:literal, $purpose:literal, miss $miss:literal;)*) => {
        /// A table of the pipeline.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[repr(u8)]
        pub enum Table { $(#[doc = $purpose] $name = $number,)* }

        /// All tables, in order.
        pub const TABLES: &[TableDecl] = &[$(TableDecl {
            table: Table::$name, name: stringify!($name), purpose: $purpose, miss: $miss, status: Status::$status,
        },)*];
    };
}

tables! {
    Built Classify = 0, "Physical to logical: port to switch and port keys, tunnel header to keys.", miss "drop";
    Built Admit = 1, "Port security by MAC and IP; frames from group addresses.", miss "drop";
    Built AdmitNeighbour = 2, "Port security inside ARP and neighbour discovery.", miss "pass, by a flow";
    Built LearnMac = 3, "Source MACs on ports with unknown addresses: known ones pass, others are reported.", miss "drop";
    Built FromTrack = 4, "Switches with filters: connection lookup in the sender's zone; what is stateless goes around it.", miss "to Steer, by a flow";
    Built FromPolicy = 5, "from-lport rules: the matching one of highest priority, as conjunctions.", miss "to FromVerdict without a verdict, by a flow";
    Built FromVerdict = 6, "Commit, forbid, reject, next tier, default.", miss "drop";
    Planned BalanceTrack = 7, "Switches with load balancers: connection lookup with stored translation.", miss "drop";
    Planned Balance = 8, "New connections to a virtual address: choice of a backend.", miss "pass, by a flow";
    Planned Hairpin = 9, "Backends that reach themselves through the virtual address.", miss "pass, by a flow";
    Built AfterPolicy = 10, "from-lport rules that see a backend's address.", miss "to AfterVerdict without a verdict, by a flow";
    Built AfterVerdict = 11, "As FromVerdict, for those.", miss "drop";
    Built Steer = 12, "What is rare leaves the main path: ARP requests, neighbour solicitations, DHCP, groups.", miss "pass, by a flow";
    Built Neighbour = 13, "Who has an address that the switch knows: answered here.", miss "flood or forward, by flows";
    Built NeighbourReply = 14, "Turns the request into its answer, with the MAC that Neighbour found.", miss "drop";
    Built Dhcp = 15, "DHCPv4 requests of ports with options: to the agent.", miss "flood or forward, by flows";
    Planned Services = 16, "DNS, DHCPv6 and router solicitations: to the agent.", miss "flood or forward, by flows";
    Built Forward = 17, "Destination MAC to port: static, learned, unknown.", miss "drop";
    Built RouterAdmit = 18, "Router port by MAC: its own, or a group's.", miss "drop";
    Built RouterInput = 19, "Martians, time to live, what is for the router itself; ARP and ND leave the main path.", miss "pass, by a flow";
    Built RouterNeighbour = 20, "ARP and ND that reach a router port: learned, answered.", miss "drop";
    Built RouterTrack = 21, "Routers with translation: undo of source translation, in the SNAT zone; translation of destinations where an address decides.", miss "pass, by a flow";
    Built RouterTranslate = 22, "Translation of destinations where more has to be asked, in the DNAT zone.", miss "pass, by a flow";
    Built Route = 23, "Longest prefix to next hop and port.", miss "drop";
    Built RoutePolicy = 24, "Policies that override the route.", miss "pass, by a flow";
    Built NextHop = 25, "Next hop to MAC: known ports, then learned neighbours.", miss "to NextHopMissing, by a flow";
    Built NextHopMissing = 26, "Neighbours to be asked for by the agent.", miss "drop";
    Built RouterLarge = 27, "Packets above the MTU of a gateway port.", miss "pass, by a flow";
    Built RouterGateway = 28, "To the chassis that holds the gateway, unless it is this.", miss "pass, by a flow";
    Built Output = 32, "Port key to place: here, another hypervisor, or a group.", miss "drop";
    Built TunnelOut = 33, "Writes the keys into the tunnel header and sends.", miss "drop";
    Built Flood = 34, "Group to the chunks of its local ports.", miss "drop";
    Built FloodPorts = 35, "Chunk of at most 256 local ports to outputs.", miss "drop";
    Built Return = 36, "Answers go back by the port that asked, with its VLAN.", miss "out of the ingress port, by a flow";
    Built RouterUndo = 37, "Leaving a router with translation: undo of destination translation, and floating IPs, in the DNAT zone.", miss "pass, by a flow";
    Built RouterSource = 38, "Leaving a router with translation: source translation, in the SNAT zone.", miss "pass, by a flow";
    Built RouterOut = 39, "Leaving a router with translation: back in what is for its own external addresses, else across.", miss "drop";
    Built ToTrack = 40, "Switches with filters: connection lookup in the receiver's zone.", miss "drop";
    Built ToPolicy = 41, "to-lport rules: the matching one of highest priority, as conjunctions.", miss "to ToVerdict without a verdict, by a flow";
    Built ToVerdict = 42, "Commit, forbid, reject, next tier, default.", miss "drop";
    Built Shape = 43, "Switches with QoS: DSCP, marks and rates of what ports are sent.", miss "pass, by a flow";
    Built AdmitOut = 44, "Port security of what goes to a port: MAC and IP of unicast.", miss "drop";
    Built Deliver = 45, "Logical to physical: out of the port.", miss "drop";
    Built ShapeFrom = 46, "Switches with QoS: DSCP, marks and rates of what ports send; back to the main path.", miss "pass, by a flow";
    Built MirrorFrom = 47, "Switches with mirrors to ports: copies of what ports send; back to the main path.", miss "pass, by a flow";
    Built MirrorTo = 48, "Switches with mirrors to ports: copies of what ports are sent; back to the main path.", miss "pass, by a flow";
}

impl Table {
    /// Its number in the switch.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Its declaration.
    pub fn decl(self) -> &'static TableDecl {
        TABLES.iter().find(|decl| decl.table == self).expect("`tables!` declares each")
    }

    /// The table of that number.
    pub fn from_number(number: u8) -> Option<Self> {
        TABLES.iter().map(|decl| decl.table).find(|table| table.number() == number)
    }
}

/// Tables that one kind of packet meets, and how often it enters the datapath (once, and again after each
/// connection lookup).
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// The packet.
    pub name: &'static str,
    /// Tables on the hypervisor with most work, in order.
    pub tables: &'static [Table],
    /// Passes of an established connection's packet.
    pub passes: u8,
    /// Whether it can be taken yet.
    pub status: Status,
}

use Table::{
    Admit, AdmitNeighbour, AdmitOut, Balance, BalanceTrack, Classify, Deliver, Dhcp, Flood, FloodPorts,
    Forward, FromPolicy, FromTrack, FromVerdict, LearnMac, Neighbour, NeighbourReply, NextHop, Output,
    Return, Route, RoutePolicy, RouterAdmit, RouterGateway, RouterInput, RouterOut, RouterSource,
    RouterTrack, RouterUndo, Steer, ToPolicy, ToTrack, ToVerdict, TunnelOut,
};

/// The paths that the design is measured by.
pub const PATHS: &[Path] = &[
    Path {
        name: "switched, one hypervisor",
        tables: &[Classify, Admit, Steer, Forward, Output, AdmitOut, Deliver],
        passes: 1,
        status: Status::Built,
    },
    Path {
        name: "switched, sender",
        tables: &[Classify, Admit, Steer, Forward, TunnelOut],
        passes: 1,
        status: Status::Built,
    },
    Path {
        name: "switched, receiver",
        tables: &[Classify, Output, AdmitOut, Deliver],
        passes: 1,
        status: Status::Built,
    },
    Path {
        name: "first frame of an unknown MAC",
        tables: &[Classify, Admit, LearnMac, Steer, Forward, Output, Flood, FloodPorts],
        passes: 1,
        status: Status::Built,
    },
    Path {
        name: "broadcast",
        tables: &[Classify, Admit, AdmitNeighbour, Steer, Neighbour, Output, Flood, FloodPorts],
        passes: 1,
        status: Status::Built,
    },
    Path {
        name: "ARP or ND request, answered",
        tables: &[Classify, Admit, AdmitNeighbour, Steer, Neighbour, NeighbourReply, Return],
        passes: 1,
        status: Status::Built,
    },
    Path { name: "DHCP request", tables: &[Classify, Admit, Steer, Dhcp], passes: 1, status: Status::Built },
    Path {
        name: "filtered, one hypervisor",
        tables: &[
            Classify,
            Admit,
            FromTrack,
            FromPolicy,
            FromVerdict,
            Steer,
            Forward,
            Output,
            ToTrack,
            ToPolicy,
            ToVerdict,
            AdmitOut,
            Deliver,
        ],
        passes: 3,
        status: Status::Built,
    },
    Path {
        name: "filtered, receiver",
        tables: &[Classify, Output, ToTrack, ToPolicy, ToVerdict, AdmitOut, Deliver],
        passes: 2,
        status: Status::Built,
    },
    Path {
        name: "load balancer of a switch",
        tables: &[Classify, Admit, BalanceTrack, Balance, Steer, Forward, Output, AdmitOut, Deliver],
        passes: 2,
        status: Status::Planned,
    },
    Path {
        name: "routed, one hypervisor",
        tables: &[
            Classify,
            Admit,
            Steer,
            Forward,
            Output,
            RouterAdmit,
            RouterInput,
            Route,
            NextHop,
            Output,
            Steer,
            Forward,
            Output,
            Deliver,
        ],
        passes: 1,
        status: Status::Built,
    },
    Path {
        name: "routed by a policy, one hypervisor",
        tables: &[
            Classify,
            Admit,
            Steer,
            Forward,
            Output,
            RouterAdmit,
            RouterInput,
            Route,
            RoutePolicy,
            NextHop,
            Output,
            Steer,
            Forward,
            Output,
            Deliver,
        ],
        passes: 1,
        status: Status::Built,
    },
    Path {
        name: "source translation, at the gateway",
        tables: &[
            Classify,
            Output,
            Output,
            RouterUndo,
            RouterSource,
            RouterOut,
            Steer,
            Forward,
            Output,
            Deliver,
        ],
        passes: 1,
        status: Status::Built,
    },
    Path {
        name: "from a floating IP, at the port's hypervisor",
        tables: &[
            Classify,
            Admit,
            Steer,
            Forward,
            Output,
            RouterAdmit,
            RouterInput,
            RouterTrack,
            Route,
            NextHop,
            RouterGateway,
            Output,
            RouterUndo,
            RouterOut,
            Steer,
            Forward,
            Output,
            Deliver,
        ],
        passes: 1,
        status: Status::Built,
    },
    Path {
        name: "to a floating IP, at the port's hypervisor",
        tables: &[
            Classify,
            Steer,
            Forward,
            Output,
            RouterAdmit,
            RouterInput,
            RouterTrack,
            Route,
            NextHop,
            Output,
            RouterUndo,
            RouterSource,
            RouterOut,
            Steer,
            Forward,
            Output,
            Deliver,
        ],
        passes: 2,
        status: Status::Built,
    },
];

const _: () = {
    let mut at = 1;
    while at < TABLES.len() {
        assert!((TABLES[at - 1].table as u8) < TABLES[at].table as u8, "tables are declared in order");
        at += 1;
    }
};
