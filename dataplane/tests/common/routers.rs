//! Random changes of routers: few of everything, so that rows meet, dangle and collide.

use proptest::prelude::*;
use quantumnet_model::{
    nb::{LogicalRouter, LogicalRouterPort, LogicalSwitchPort},
    sb::{DatapathBinding, PortBinding},
};

use super::{Kind, Model, RouterPortSpec, SWITCH_SIDE, id, random::edit, text};

/// One change of a router. Routers 4 and 5 have the uuids of no switch; 2 may become one.
#[derive(Clone, Debug)]
pub enum RouterStep {
    Router(u32, bool),
    DropRouter(u32, bool),
    Port(RouterPortSpec),
    DropPort(u32, u8),
    /// The switch's side is another kind of port.
    Side(u32, u8),
}

const NETWORKS: &[&str] = &["10.0.0.254/24", "10.1.0.254/24", "fd00::fe/64", "10.0.0.253/16", "nonsense"];

fn port() -> impl Strategy<Value = RouterPortSpec> {
    (
        0..3u32,
        prop_oneof![Just(2u32), Just(4), Just(5)],
        proptest::sample::subsequence(NETWORKS.to_vec(), 0..=3),
        proptest::option::of(0..3u32),
        proptest::option::weighted(0.3, 0..3u32),
        any::<bool>(),
        proptest::option::weighted(0.2, 1..3u32),
    )
        .prop_map(|(number, router, networks, switch, peer, disabled, chassis)| RouterPortSpec {
            number,
            router,
            networks: networks.into_iter().map(str::to_owned).collect(),
            switch,
            peer,
            disabled,
            chassis,
            ..RouterPortSpec::default()
        })
}

/// Any step.
pub fn step() -> impl Strategy<Value = RouterStep> {
    let router = || prop_oneof![Just(2u32), Just(4), Just(5)];
    prop_oneof![
        3 => (router(), any::<bool>()).prop_map(|(router, enabled)| RouterStep::Router(router, enabled)),
        1 => (router(), any::<bool>()).prop_map(|(router, both)| RouterStep::DropRouter(router, both)),
        8 => port().prop_map(RouterStep::Port),
        1 => (0..3u32, 0..4u8).prop_map(|(port, which)| RouterStep::DropPort(port, which)),
        1 => (0..3u32, 0..3u8).prop_map(|(port, kind)| RouterStep::Side(port, kind)),
    ]
}

impl RouterStep {
    /// Changes the rows.
    pub fn take(&self, model: &mut Model) {
        match self {
            Self::Router(router, enabled) => {
                model.router(*router);
                edit::<LogicalRouter>(model, id(Kind::Switch, *router), |row| {
                    row.enabled = (!enabled).then_some(false);
                });
            }
            Self::DropRouter(router, both) => {
                model.remove::<LogicalRouter>(id(Kind::Switch, *router));
                if *both {
                    model.remove::<DatapathBinding>(id(Kind::Switch, *router));
                }
            }
            Self::Port(spec) => model.router_port(spec),
            Self::DropPort(port, which) => {
                let (router, switch) = (id(Kind::RouterPort, *port), id(Kind::Port, port + SWITCH_SIDE));
                match which {
                    0 => model.remove::<LogicalRouterPort>(router),
                    1 => model.remove::<PortBinding>(router),
                    2 => model.remove::<LogicalSwitchPort>(switch),
                    _ => model.remove::<PortBinding>(switch),
                }
            }
            Self::Side(port, kind) => {
                let uuid = id(Kind::Port, port + SWITCH_SIDE);
                edit::<LogicalSwitchPort>(model, uuid, |row| {
                    row.r#type = text(if *kind == 0 { "router" } else { "switch" });
                    row.enabled = (*kind == 2).then_some(false);
                });
            }
        }
    }
}
