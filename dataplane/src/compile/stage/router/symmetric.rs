//! Replies that leave as their requests came (ovn-nb(5), `Logical_Router_Static_Route`, `ecmp_symmetric_reply`), and connections from
//! inside that keep the way that was chosen first. On gateway routers only, which see both directions.
//!
//! # Contract
//! - Owner: one static route in its set. Reads: it, its router's zone for this.
//! - Route. In: what comes by the route's port from its prefix is kept in the zone, with the port and the MAC that sent it. What
//!   goes to the prefix is looked up; where the zone knows the way, it leaves by that port to that MAC, whatever routes, policies
//!   and neighbours say.
//! - Output: a new connection to the prefix that leaves by the port is kept in the same way.
//!
//! # Invariants
//! - The zone is one of its own and has addresses as they are inside: what translations hold in theirs is not touched, and what
//!   they have looked up by then is not asked again.
//! - Without the option nothing is looked up.

use ofpacket::{Action, Conntrack, ConntrackZone, CtState, field};
use quantumnet_model::host::HostZone;
use uuid::Uuid;

use crate::compile::{
    derive::routes::{StaticRoute, Way},
    logical::go,
    owner::{Owner, Owners, Relation},
    register,
    sink::Sink,
    stage::{Stage, router::route},
    table::Table,
    view::View,
};

pub(in crate::compile) const STAGE: Stage = Stage {
    number: 175,
    name: "symmetric_reply",
    owners: Owners::Facts(Relation::Routes),
    tables: &[Table::Route, Table::Output],
    relations: &[Relation::SymmetricRouters],
    emit,
};

/// What of a packet's way is known, in [`register::WAY`].
const UNASKED: u8 = 0;
/// Looked up, and the route has its say where nothing was found.
const ASKED: u8 = 1;
/// Kept, or about to be.
const KEPT: u8 = 2;

fn emit(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(fact) = owner.fact() else { return };
    let Some(route) = route::member(view, fact.of, fact.value) else { return };
    let Some(way) = route.way.as_ref().filter(|_| is_symmetric(view, &route)) else { return };
    out.fact(Relation::SymmetricRouters, Uuid::nil(), 0, route.router);
    let zone = view.row::<HostZone>(route.router).and_then(|row| u16::try_from(row.zone).ok());
    let Some(zone) = zone else { return };

    let keep = |mac| {
        let port = Action::load(register::MARK_REPLY_PORT, way.port.key.into());
        [
            lookup(zone).commit().exec(port).exec(Action::copy(mac, register::LABEL_REPLY_MAC)).into(),
            Action::load(register::WAY, KEPT.into()),
        ]
    };
    let coming = route::behind(way.port.from(), &route).with_bits(register::WAY, UNASKED);
    let coming_in = [keep(field::ETH_SRC).to_vec(), vec![go(Table::Route)]].concat();
    out.flow(Table::Route, PRIORITY + 10, coming, coming_in);

    let look = [Action::load(register::WAY, ASKED.into()), lookup(zone).table(Table::Route.number()).into()];
    for going in
        route::narrowed(view, &route).into_iter().map(|matches| route::toward_prefix(matches, &route))
    {
        let fresh = going.clone().with_bits(register::WAY, UNASKED).ct_state(CtState::NONE, CtState::TRK);
        out.flow(Table::Route, PRIORITY - 10, fresh, look.clone());
        let known = going.with_bits(register::WAY, ASKED).with_bits(register::MARK_REPLY_PORT, way.port.key);
        out.flow(Table::Route, PRIORITY, known, back(way));
    }

    let new = route::toward_prefix(way.port.to(), &route)
        .with_bits(register::WAY, ASKED)
        .ct_state(CtState::TRK | CtState::NEW, CtState::NONE);
    let leaving = [keep(field::ETH_DST).to_vec(), vec![go(Table::Output)]].concat();
    out.flow(Table::Output, PRIORITY_OUTPUT, new, leaving);
}

/// Out by the port that is known, to the MAC that is.
fn back(way: &Way<'_>) -> Vec<Action> {
    vec![
        Action::DecNwTtl,
        Action::set_field(field::ETH_SRC, way.port.mac.0),
        Action::copy(register::LABEL_REPLY_MAC, field::ETH_DST),
        Action::load(register::OUT_PORT, way.port.key.into()),
        go(super::onward(&way.port)),
    ]
}

fn lookup(zone: u16) -> Conntrack {
    Conntrack::new(ConntrackZone::Immediate(zone))
}

fn is_symmetric(view: &View<'_>, route: &StaticRoute<'_>) -> bool {
    route.row.options.get("ecmp_symmetric_reply").is_some_and(|value| &**value == "true")
        && view.holds(Relation::GatewayRouters, route.router)
}

/// Above all prefixes, as in OVN.
const PRIORITY: u16 = 10_300;
/// Above what takes all that leaves by a port.
const PRIORITY_OUTPUT: u16 = 110;

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use quantumnet_model::nb::LogicalRouterStaticRoute;

    use super::*;
    use crate::compile::stage::router::translate::testing::{World, map};

    fn route(prefix: &str, nexthop: &str, options: &[(&str, &str)]) -> LogicalRouterStaticRoute {
        LogicalRouterStaticRoute {
            ip_prefix: prefix.into(),
            nexthop: nexthop.into(),
            options: map(options),
            ..LogicalRouterStaticRoute::default()
        }
    }

    #[test]
    fn the_way_of_a_connection_is_kept_and_taken_back() {
        let symmetric = [("ecmp_symmetric_reply", "true")];
        let world = World {
            pinned: true,
            routes: vec![
                route("0.0.0.0/0", "172.16.0.100", &symmetric),
                route("2001:db8::/32", "fd16::100", &symmetric),
                route("198.51.100.0/24", "172.16.0.100", &[]),
            ],
            ways: Some(13),
            ..World::default()
        };
        world.check(&[&STAGE], expect![[r#"
            Route 10290 ct_state=-trk,ip,reg8=0/0xffff0000,reg10=0/0x3000 => load:0x1->NXM_NX_REG10[12..13],ct(table=23,zone=13)
            Route 10290 ct_state=-trk,ipv6,reg8=0/0xffff0000,reg10=0/0x3000,ipv6_dst=2001:db8::/32 => load:0x1->NXM_NX_REG10[12..13],ct(table=23,zone=13)
            Route 10300 ct_mark=0x20000/0xffff0000,ip,reg8=0/0xffff0000,reg10=0x1000/0x3000 => dec_ttl,set_field:0a:ff:00:00:00:02->eth_src,move:NXM_NX_CT_LABEL[32..79]->NXM_OF_ETH_DST[],load:0x2->NXM_NX_REG15[],resubmit(,32)
            Route 10300 ct_mark=0x20000/0xffff0000,ipv6,reg8=0/0xffff0000,reg10=0x1000/0x3000,ipv6_dst=2001:db8::/32 => dec_ttl,set_field:0a:ff:00:00:00:02->eth_src,move:NXM_NX_CT_LABEL[32..79]->NXM_OF_ETH_DST[],load:0x2->NXM_NX_REG15[],resubmit(,32)
            Route 10310 ip,reg10=0/0x3000,reg14=0x2 => ct(commit,zone=13,exec(load:0x2->NXM_NX_CT_MARK[16..31],move:NXM_OF_ETH_SRC[]->NXM_NX_CT_LABEL[32..79])),load:0x2->NXM_NX_REG10[12..13],resubmit(,23)
            Route 10310 ipv6,reg10=0/0x3000,reg14=0x2,ipv6_src=2001:db8::/32 => ct(commit,zone=13,exec(load:0x2->NXM_NX_CT_MARK[16..31],move:NXM_OF_ETH_SRC[]->NXM_NX_CT_LABEL[32..79])),load:0x2->NXM_NX_REG10[12..13],resubmit(,23)
            Output 110 ct_state=+new+trk,ip,reg10=0x1000/0x3000,reg15=0x2 => ct(commit,zone=13,exec(load:0x2->NXM_NX_CT_MARK[16..31],move:NXM_OF_ETH_DST[]->NXM_NX_CT_LABEL[32..79])),load:0x2->NXM_NX_REG10[12..13],resubmit(,32)
            Output 110 ct_state=+new+trk,ipv6,reg10=0x1000/0x3000,reg15=0x2,ipv6_dst=2001:db8::/32 => ct(commit,zone=13,exec(load:0x2->NXM_NX_CT_MARK[16..31],move:NXM_OF_ETH_DST[]->NXM_NX_CT_LABEL[32..79])),load:0x2->NXM_NX_REG10[12..13],resubmit(,32)
        "#]]);
        // Without its zone, and on a router that is not one chassis', routes alone decide.
        World { ways: None, ..world.clone() }.check(&[&STAGE], expect![""]);
        World { pinned: false, ..world }.check(&[&STAGE], expect![""]);
    }
}
