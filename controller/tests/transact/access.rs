//! What clients may write, and where: not a matter of ovsdb-server.

use quantumnet_controller::{
    ovsdb::transact::{Attempt, Request},
    store::{Context, State, Txn, evaluate},
};
use quantumnet_model::{
    Strong, Uuid, Weak,
    intent::{Project, VirtualNetwork},
    nb::LogicalSwitch,
    sb::{Chassis, ChassisInterface, ChassisPrivate, Connection, Encap, Fdb, SbGlobal},
};
use serde_json::{Value, json};

use crate::pair::{on, request};

fn with(fill: impl FnOnce(&mut Txn<'_>)) -> State {
    let context = Context { now_ms: 0, principal: "test".into() };
    let request = |txn: &mut Txn<'_>| {
        fill(txn);
        Ok(())
    };
    evaluate(&State::default(), &context, request, &|_| Ok(()))
        .unwrap_or_else(|refusal| panic!("{refusal}"))
        .state
}

fn results(state: &mut State, request: &Request) -> Vec<Value> {
    let Attempt::Done(results) = on(state, request) else { panic!("blocked") };
    results
}

#[test]
fn a_session_that_reads_only() {
    let mut state = with(|txn| txn.insert(Uuid::from_u128(1), LogicalSwitch::default()).unwrap());
    let read_only = |operation: Value| Request { read_only: true, ..request(&[operation]) };
    let select = json!({"op": "select", "table": "Logical_Switch", "where": []});
    assert_eq!(results(&mut state, &read_only(select))[0]["rows"].as_array().unwrap().len(), 1);
    for operation in [
        json!({"op": "insert", "table": "Logical_Switch", "row": {}}),
        json!({"op": "update", "table": "Logical_Switch", "where": [], "row": {}}),
        json!({"op": "mutate", "table": "Logical_Switch", "where": [], "mutations": []}),
        json!({"op": "delete", "table": "Logical_Switch", "where": []}),
        json!({"op": "commit", "durable": false}),
    ] {
        let name = operation["op"].as_str().unwrap().to_owned();
        let expected = json!({
            "error": "not allowed",
            "details": format!("{name} operation not allowed when database server is in read only mode"),
        });
        assert_eq!(results(&mut state, &read_only(operation)), [expected]);
    }
    assert_eq!(state.iter::<LogicalSwitch>().count(), 1);
}

#[test]
fn southbound_takes_what_neutron_writes() {
    let mut state = with(|txn| {
        let encap = Uuid::from_u128(3);
        txn.put(encap, Encap { r#type: "geneve".into(), ip: "192.0.2.1".into(), ..Default::default() });
        let encaps = std::iter::once(Strong::new(encap)).collect();
        txn.put(Uuid::from_u128(1), Chassis { name: "hv1".into(), encaps, ..Default::default() });
        txn.put(Uuid::from_u128(2), ChassisPrivate { name: "hv1".into(), ..Default::default() });
    });
    let southbound =
        |operation: Value| Request { database: "OVN_Southbound".into(), ..request(&[operation]) };
    for table in ["Chassis", "Chassis_Private"] {
        let row = json!({"external_ids": ["map", [["neutron:agent", "x"]]]});
        let update = json!({"op": "update", "table": table, "where": [], "row": row});
        assert_eq!(results(&mut state, &southbound(update)), [json!({"count": 1})]);
        let insert = json!(["external_ids", "insert", ["map", [["k", "v"]]]]);
        let mutate = json!({"op": "mutate", "table": table, "where": [], "mutations": [insert]});
        assert_eq!(results(&mut state, &southbound(mutate)), [json!({"count": 1})]);
    }
    assert_eq!(state.get::<Chassis>(Uuid::from_u128(1)).unwrap().external_ids.len(), 2);
    for (operation, named) in [
        (
            json!({"op": "update", "table": "Chassis", "where": [], "row": {"hostname": "x"}}),
            "column hostname in table Chassis",
        ),
        (
            json!({"op": "update", "table": "Port_Binding", "where": [], "row": {"external_ids": ["map", []]}}),
            "column external_ids in table Port_Binding",
        ),
        (
            json!({"op": "mutate", "table": "Chassis", "where": [], "mutations": [["nb_cfg", "+=", 1]]}),
            "column nb_cfg in table Chassis",
        ),
        (json!({"op": "insert", "table": "Encap", "row": {"type": "geneve"}}), "table Encap"),
        (json!({"op": "insert", "table": "Chassis", "row": {"name": "hv2"}}), "table Chassis"),
        (json!({"op": "delete", "table": "Port_Binding", "where": []}), "table Port_Binding"),
        (json!({"op": "insert", "table": "FDB", "row": {}}), "table FDB"),
        (
            json!({"op": "update", "table": "Connection", "where": [], "row": {"is_connected": true}}),
            "is_connected",
        ),
        (json!({"op": "update", "table": "SB_Global", "where": [], "row": {"nb_cfg": 1}}), "column nb_cfg"),
    ] {
        let answer = results(&mut state, &southbound(operation));
        assert_eq!(answer[0]["error"], "not allowed");
        assert!(answer[0]["details"].as_str().unwrap().contains(named), "{answer:?}");
    }
    // Tables of another database are not seen.
    let select = json!({"op": "select", "table": "Logical_Switch", "where": []});
    assert_eq!(results(&mut state, &southbound(select))[0]["error"], "syntax error");
}

/// As `ovn-sbctl chassis-del` and Neutron do; what of the chassis is in no table of OVN goes with it.
#[test]
fn southbound_rows_of_what_is_gone_are_deleted() {
    let (chassis, encap, mac) = (Uuid::from_u128(1), Uuid::from_u128(3), Uuid::from_u128(5));
    let mut state = with(|txn| {
        txn.put(encap, Encap { r#type: "geneve".into(), ip: "192.0.2.1".into(), ..Default::default() });
        let encaps = std::iter::once(Strong::new(encap)).collect();
        txn.put(chassis, Chassis { name: "hv1".into(), encaps, ..Default::default() });
        let private =
            ChassisPrivate { name: "hv1".into(), chassis: Some(Weak::new(chassis)), ..Default::default() };
        txn.put(Uuid::from_u128(2), private);
        let interface =
            ChassisInterface { chassis: Strong::new(chassis), iface_id: "p".into(), ..Default::default() };
        txn.put(Uuid::from_u128(4), interface);
        txn.put(mac, Fdb { mac: "02:00:00:00:00:01".into(), dp_key: 1, port_key: 1, timestamp: 0 });
    });
    let southbound =
        |operations: &[Value]| Request { database: "OVN_Southbound".into(), ..request(operations) };
    let delete = |table: &str, uuid: Uuid| json!({"op": "delete", "table": table, "where": [["_uuid", "==", ["uuid", uuid.to_string()]]]});
    // An endpoint alone is held by its chassis.
    let answer = results(&mut state, &southbound(&[delete("Encap", encap)]));
    assert_eq!(answer[1]["error"], "referential integrity violation");
    let both = [delete("Encap", encap), delete("Chassis", chassis)];
    assert_eq!(results(&mut state, &southbound(&both)), [json!({"count": 1}), json!({"count": 1})]);
    assert_eq!(state.iter::<Chassis>().count() + state.iter::<Encap>().count(), 0);
    assert_eq!(state.iter::<ChassisInterface>().count(), 0);
    assert_eq!(state.get::<ChassisPrivate>(Uuid::from_u128(2)).unwrap().chassis, None);
    let all = |table: &str| json!({"op": "delete", "table": table, "where": []});
    let rest = [all("Chassis_Private"), all("FDB"), all("MAC_Binding")];
    let expected = [json!({"count": 1}), json!({"count": 1}), json!({"count": 0})];
    assert_eq!(results(&mut state, &southbound(&rest)), expected);
    assert!(state.get::<Fdb>(mac).is_none());
}

#[test]
fn southbound_connections_are_set_as_northbound_ones() {
    let mut state = with(|txn| txn.put(Uuid::from_u128(1), SbGlobal::default()));
    let connect = [
        json!({"op": "insert", "table": "Connection", "uuid-name": "c", "row": {"target": "ptcp:6642"}}),
        json!({"op": "update", "table": "SB_Global", "where": [], "row": {"connections": ["named-uuid", "c"]}}),
    ];
    let request = Request { database: "OVN_Southbound".into(), ..request(&connect) };
    assert_eq!(results(&mut state, &request)[1], json!({"count": 1}));
    assert_eq!(state.iter::<Connection>().count(), 1);
}

#[test]
fn rows_of_intent_are_not_changed() {
    let id = Uuid::from_u128(7);
    let mut state = with(|txn| {
        txn.put(id, Project { name: "p".into(), ..Default::default() });
        txn.put(
            id,
            VirtualNetwork {
                project: id.into(),
                name: "web".into(),
                r#type: "overlay".into(),
                ..Default::default()
            },
        );
        txn.put(id, LogicalSwitch { name: "web".into(), ..Default::default() });
    });
    let update = json!({"op": "update", "table": "Logical_Switch", "where": [], "row": {"name": "x"}});
    let answer = results(&mut state, &request(&[update]));
    assert_eq!(answer[0], json!({"count": 1}));
    assert_eq!(answer[1]["error"], "permission error");
    let details = answer[1]["details"].as_str().unwrap();
    assert!(details.contains(&format!("belongs to Virtual_Network web ({id})")), "{details}");
    assert_eq!(&*state.get::<LogicalSwitch>(id).unwrap().name, "web", "nothing stays");
    let other = json!({"op": "insert", "table": "Logical_Switch", "row": {"name": "mine"}});
    assert_eq!(results(&mut state, &request(&[other])).len(), 1);
}

#[test]
fn an_unknown_database_is_named() {
    let request = Request { database: "QuantumNet".into(), ..request(&[json!({"op": "abort"})]) };
    assert_eq!(results(&mut State::default(), &request)[0]["error"], "unknown database");
}
