//! One way to test a stage: rows in a few words, the stage's flows in the switch's words.

use std::{fmt::Write as _, sync::Arc};

use expect_test::Expect;
use quantumnet_model::{
    Row, Strong, TableId, Uuid,
    column::Text,
    host::{HostInterface, HostSelf, HostTunnel},
    nb::{DhcpOptions, LogicalSwitch, LogicalSwitchPort},
    sb::{Chassis, DatapathBinding, Encap, Fdb, PortBinding},
    tables,
};

use super::{Compiler, RowUpdate, stage::Stage};

/// A port of switch 7: OpenFlow port and key are its number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Port {
    pub(crate) number: u32,
    /// Bound to hypervisor 2, reached by OpenFlow port 1002.
    pub(crate) elsewhere: bool,
    pub(crate) disabled: bool,
    pub(crate) dhcp: bool,
    pub(crate) addresses: &'static [&'static str],
    pub(crate) security: &'static [&'static str],
}

/// The flows that `stage` makes in a network of these ports.
#[track_caller]
pub(crate) fn check(stage: &Stage, ports: &[Port], expect: Expect) {
    check_with(stage, ports, Vec::new(), expect);
}

/// As `check`, with further rows.
#[track_caller]
pub(crate) fn check_with(stage: &Stage, ports: &[Port], more: Vec<RowUpdate>, expect: Expect) {
    let mut rows = hypervisors();
    ports.iter().for_each(|port| rows.extend(port_rows(port)));
    let mut compiler = Compiler::new();
    compiler.apply(rows.into_iter().chain(more));
    let mut text = String::new();
    for (key, value) in compiler.table() {
        if value.cookie >> 32 == u64::from(stage.number) {
            let actions: Vec<String> = value.actions.iter().map(ToString::to_string).collect();
            let actions = if actions.is_empty() { "drop".to_owned() } else { actions.join(",") };
            let name = super::table::Table::from_number(key.table).map_or("?", |table| table.decl().name);
            writeln!(text, "{name} {} {} => {actions}", key.priority, key.matches)
                .expect("strings do not fail");
        }
    }
    expect.assert_eq(&text);
}

/// A row for `check_with`.
pub(crate) fn row<T: Row>(number: u32, row: T) -> RowUpdate {
    (T::TABLE, id(T::TABLE.0, number), Some(Arc::new(row)))
}

/// A learned MAC behind a port of switch 7.
pub(crate) fn learned(port: i64, mac: &str) -> RowUpdate {
    row(1, Fdb { mac: mac.into(), dp_key: 7, port_key: port, timestamp: 0 })
}

/// Switch 7 lets VLAN tags pass.
pub(crate) fn vlan_passthru() -> RowUpdate {
    let other_config = [(Text::from("vlan-passthru"), Text::from("true"))].into_iter().collect();
    (
        LogicalSwitch::TABLE,
        switch(),
        Some(Arc::new(LogicalSwitch { other_config, ..LogicalSwitch::default() })),
    )
}

/// By the table's name: its place in the list changes as tables are added.
fn id(table: u16, number: u32) -> Uuid {
    let name = tables::decl(TableId(table)).name;
    let kind = name.bytes().fold(0u32, |kind, byte| kind.wrapping_mul(31).wrapping_add(byte.into()));
    Uuid::from_u128(u128::from(number) << 96 | u128::from(kind))
}

/// Switch 7.
pub(crate) fn switch() -> Uuid {
    id(DatapathBinding::TABLE.0, 7)
}

fn hypervisors() -> Vec<RowUpdate> {
    let mut rows = vec![
        row(0, HostSelf { chassis: "hv1".into(), tunnel_option: 0, nd_extensions: true, sctp_ports: true }),
        row(
            7,
            DatapathBinding {
                tunnel_key: 7,
                r#type: Some("logical-switch".into()),
                ..DatapathBinding::default()
            },
        ),
        row(
            1,
            DhcpOptions {
                cidr: "10.0.0.0/24".into(),
                options: [
                    ("server_id", "10.0.0.254"),
                    ("server_mac", "0a:dd:00:00:00:01"),
                    ("lease_time", "3600"),
                ]
                .into_iter()
                .map(|(key, value)| (Text::from(key), Text::from(value)))
                .collect(),
                ..DhcpOptions::default()
            },
        ),
    ];
    for number in 1..=2 {
        let encap = id(Encap::TABLE.0, number);
        let encaps = std::iter::once(Strong::new(encap)).collect();
        rows.push(row(number, Chassis { name: format!("hv{number}").into(), encaps, ..Chassis::default() }));
        rows.push(row(
            number,
            Encap { r#type: "geneve".into(), ip: format!("192.0.2.{number}").into(), ..Encap::default() },
        ));
        if number == 2 {
            rows.push(row(
                number,
                HostTunnel {
                    chassis: id(Chassis::TABLE.0, number),
                    encap,
                    ofport: 1002,
                    ..HostTunnel::default()
                },
            ));
        }
    }
    rows
}

/// The chassis of a hypervisor.
pub(crate) fn chassis(number: u32) -> Uuid {
    id(Chassis::TABLE.0, number)
}

/// The binding of a port, and its northbound row.
pub(crate) fn port_uuid(number: u32) -> Uuid {
    id(PortBinding::TABLE.0, number)
}

fn port_rows(port: &Port) -> Vec<RowUpdate> {
    let uuid = id(PortBinding::TABLE.0, port.number);
    let name: Arc<str> = format!("p{}", port.number).into();
    let texts = |texts: &[&str]| texts.iter().map(|text| Arc::from(*text)).collect();
    let binding = PortBinding {
        logical_port: name.clone(),
        datapath: switch().into(),
        tunnel_key: port.number.into(),
        chassis: Some(id(Chassis::TABLE.0, if port.elsewhere { 2 } else { 1 }).into()),
        mac: texts(port.addresses),
        port_security: texts(port.security),
        ..PortBinding::default()
    };
    let logical = LogicalSwitchPort {
        name: name.clone(),
        enabled: port.disabled.then_some(false),
        dhcpv4_options: port.dhcp.then(|| id(DhcpOptions::TABLE.0, 1).into()),
        ..LogicalSwitchPort::default()
    };
    let interface =
        HostInterface { name: name.clone(), iface_id: name, ofport: port.number.into(), meter: 16 };
    let mut rows = vec![
        (LogicalSwitchPort::TABLE, uuid, Some(Arc::new(logical) as _)),
        (PortBinding::TABLE, uuid, Some(Arc::new(binding) as _)),
    ];
    if !port.elsewhere {
        rows.push(row(port.number, interface));
    }
    rows
}
