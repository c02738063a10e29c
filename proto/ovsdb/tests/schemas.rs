//! The schemas that Debian's OVN and Open vSwitch packages install are read, and written back.

use ovsdb::{Atom, DatabaseSchema, Max, RefType};
use serde_json::Value;

fn installed(path: &str) -> (DatabaseSchema, Value) {
    let text = std::fs::read_to_string(path)
        .unwrap_or_else(|error| panic!("{path}: {error}; install ovn-common and openvswitch-switch"));
    let schema = DatabaseSchema::parse(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
    (schema, serde_json::from_str(&text).expect("it was read just now"))
}

#[test]
fn installed_schemas_are_read_and_written_back() {
    for path in [
        "/usr/share/ovn/ovn-nb.ovsschema",
        "/usr/share/ovn/ovn-sb.ovsschema",
        "/usr/share/openvswitch/vswitch.ovsschema",
    ] {
        let (schema, json) = installed(path);
        let printed = schema.to_json();
        assert_eq!(DatabaseSchema::from_json(&printed), Ok(schema.clone()), "{path}");
        // What is not about a column's type is printed exactly as it was.
        assert_eq!(printed["cksum"], json["cksum"]);
        for (name, table) in json["tables"].as_object().unwrap() {
            let ours = &printed["tables"][name];
            for member in ["isRoot", "indexes", "maxRows"] {
                // `"isRoot": false` is the default and may be left out.
                let given =
                    Some(&table[member]).filter(|v| **v != Value::Bool(false)).unwrap_or(&Value::Null);
                assert_eq!(&ours[member], given, "{path}: {name}.{member}");
            }
            let names =
                |json: &Value| json["columns"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
            assert_eq!(names(ours), names(table));
        }
    }
}

#[test]
fn the_northbound_schema_means_what_it_says() {
    let (schema, _) = installed("/usr/share/ovn/ovn-nb.ovsschema");
    assert!(schema.is_root("Logical_Switch") && !schema.is_root("ACL"));
    let acl = schema.table("ACL").unwrap();
    let priority = &acl.columns["priority"].ty.key;
    assert_eq!((priority.min_integer, priority.max_integer), (Some(0), Some(32767)));
    let direction = acl.columns["direction"].ty.key.enumeration.as_deref();
    assert_eq!(direction, Some([Atom::from("from-lport"), Atom::from("to-lport")].as_slice()));
    let ports = &schema.table("Port_Group").unwrap().columns["ports"].ty;
    assert_eq!((ports.min, ports.max), (0, Max::Unlimited));
    assert_eq!(
        (ports.key.ref_table.as_deref(), ports.key.ref_type),
        (Some("Logical_Switch_Port"), RefType::Weak)
    );
    assert_eq!(schema.table("NB_Global").unwrap().max_rows, Some(1));
    assert!(schema.table("Connection").unwrap().columns["is_connected"].ephemeral);
}
