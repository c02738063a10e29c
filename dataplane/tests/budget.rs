//! Work for one change, in counters: the same in a large network as in a small one.

mod common;

use common::{Kind, Model, PortSpec, id, mac, plain};
use quantumnet_dataplane::compile::Compiler;
use quantumnet_model::sb::PortBinding;

/// 100 ports a switch, of which the first ten are here, the rest on nine others.
fn network(ports: u32) -> (Model, Compiler) {
    let mut model = rows(ports);
    let compiler = model.compiled();
    (model, compiler)
}

fn rows(ports: u32) -> Model {
    let mut model = Model::hypervisor(10);
    (1..=ports.div_ceil(100)).for_each(|switch| model.switch(switch));
    for number in 1..=ports {
        let place = (number - 1) % 100;
        let chassis = if place < 10 { 1 } else { 2 + place % 9 };
        model.port(&plain(number, 1 + (number - 1) / 100, chassis));
    }
    model
}

/// Units run and flows changed by what `change` does.
fn cost(model: &mut Model, compiler: &mut Compiler, change: impl FnOnce(&mut Model)) -> (u64, u64) {
    let before = compiler.counters();
    change(model);
    model.apply(compiler);
    let after = compiler.counters();
    (after.units_run - before.units_run, after.flows_changed - before.flows_changed)
}

fn costs(ports: u32) -> Vec<(&'static str, (u64, u64))> {
    let (mut model, mut compiler) = network(ports);
    let (model, compiler) = (&mut model, &mut compiler);
    let moved =
        |number| PortSpec { addresses: vec![format!("{} 10.9.9.9", mac(number))], ..plain(number, 1, 1) };
    let elsewhere = PortSpec { addresses: vec![format!("{} 10.9.9.8", mac(50))], ..plain(50, 1, 2 + 49 % 9) };
    vec![
        ("another address of a port here", cost(model, compiler, |model| model.port(&moved(3)))),
        ("another address of a port elsewhere", cost(model, compiler, |model| model.port(&elsewhere))),
        ("a port here goes", cost(model, compiler, |model| model.remove::<PortBinding>(id(Kind::Port, 4)))),
        ("a port here comes", cost(model, compiler, |model| model.port(&plain(4, 1, 1)))),
        ("a port elsewhere comes", cost(model, compiler, |model| model.port(&plain(ports + 1, 1, 3)))),
        ("a port moves here", cost(model, compiler, |model| model.port(&plain(60, 1, 1)))),
        ("a row that is the same", cost(model, compiler, |model| model.port(&plain(60, 1, 1)))),
    ]
}

#[test]
fn cost_does_not_follow_the_size_of_the_network() {
    let (small, large) = (costs(1_000), costs(10_000));
    assert_eq!(small, large);
    for (what, (units, flows)) in large {
        assert!(units <= 30 && flows <= 20, "{what}: {units} units, {flows} flows");
    }
}

#[test]
fn what_does_not_matter_costs_nothing() {
    let (mut model, mut compiler) = network(1_000);
    let (units, flows) = cost(&mut model, &mut compiler, |model| {
        let chassis = model.rows.get::<quantumnet_model::sb::Chassis>(id(Kind::Chassis, 3)).cloned();
        let mut chassis = chassis.expect("it is there");
        chassis.nb_cfg += 1;
        model.put(id(Kind::Chassis, 3), chassis);
    });
    assert!(units <= 2 && flows == 0, "{units} units, {flows} flows");
}
