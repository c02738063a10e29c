//! Queues of ports whose traffic is shaped on its way to a physical network (ovn-nb(5), `Logical_Switch_Port` options
//! `qos_max_rate`, `qos_min_rate`, `qos_burst`).
//!
//! # Contract
//! - Owner: one local port with a queue, whose number the store gives (`Port_Binding.options:qdisc_queue_id`). Reads it and the ports to
//!   its physical network. Out: what goes from it to that network, or what goes there at all if it is the port to the
//!   network itself, in the queue.
//! - The queues themselves are the host's: see [`crate::host`].

use ofpacket::{Action, Port, QueueId};

use crate::compile::{
    logical::{self, Kind, SwitchPort},
    owner::{Owner, Owners, Relation},
    register,
    sink::Sink,
    stage::Stage,
    table::Table,
    view::View,
};

pub(super) const STAGE: Stage = Stage {
    number: 89,
    name: "queue",
    owners: Owners::Facts(Relation::QueuedPorts),
    tables: &[Table::Deliver],
    relations: &[],
    emit,
};

fn emit(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(port) = SwitchPort::read(view, owner.row()) else { return };
    let option = |key: &str| port.binding.options.get(key);
    let Some(queue) = option("qdisc_queue_id").and_then(|queue| queue.parse().ok()) else { return };
    let network = option("qos_physical_network");
    for localnet in view.related(Relation::Localnet, port.switch, 0) {
        let Some(localnet) = SwitchPort::read(view, localnet) else { continue };
        if network.is_none() || localnet.binding.options.get("network_name") != network {
            continue;
        }
        let Some(interface) = localnet.interface(view) else { continue };
        let (priority, matches) = match port.kind {
            Kind::Localnet if port.uuid == localnet.uuid => (101, localnet.to()),
            Kind::Localnet => continue,
            // Below what wears the chassis' MAC there.
            _ => (104, localnet.to().with(register::IN_PORT, port.key)),
        };
        let mut actions = vec![Action::SetQueue(QueueId(queue))];
        actions.extend(logical::output(&interface, Port(interface.ofport.into())));
        actions.push(Action::PopQueue);
        out.flow(Table::Deliver, priority, matches, actions);
    }
}
