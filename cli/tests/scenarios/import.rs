//! An OVN installation's databases taken over: made by Debian's ovn-nbctl and ovn-northd.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::Duration,
};

use quantumnet_testbed::{Cmd, wait_until};
use serde_json::Value;

use crate::support::Net;

/// A real northbound and southbound database with northd between them, in the wires' namespace of a lab.
struct Ovn<'a> {
    net: &'a Net,
    folder: tempfile::TempDir,
}

const TABLES: [&str; 10] = [
    "Logical_Switch",
    "Logical_Switch_Port",
    "Logical_Router",
    "Logical_Router_Port",
    "Logical_Router_Static_Route",
    "ACL",
    "Address_Set",
    "Port_Group",
    "DHCP_Options",
    "Load_Balancer",
];

impl<'a> Ovn<'a> {
    fn up(net: &'a Net) -> Self {
        let ovn = Self { net, folder: tempfile::Builder::new().prefix("ovn").tempdir().unwrap() };
        for (database, remote) in
            [("nb", "--remote=ptcp:6641:10.254.255.254"), ("sb", "--remote=ptcp:6642:10.254.255.254")]
        {
            let file = ovn.path(&format!("{database}.db"));
            let schema = format!("/usr/share/ovn/ovn-{database}.ovsschema");
            Cmd::new(["ovsdb-tool", "create", &file, &schema]).check().unwrap();
            ovn.daemon(&[
                "ovsdb-server",
                &file,
                remote,
                &format!("--remote=punix:{}", ovn.path(&format!("{database}.sock"))),
                &format!("--unixctl={}", ovn.path(&format!("{database}.ctl"))),
            ]);
            let socket = ovn.path(&format!("{database}.sock"));
            wait_until(Duration::from_secs(10), &socket, || Path::new(&socket).exists()).unwrap();
        }
        ovn.nbctl("init");
        ovn.daemon(&[
            "ovn-northd",
            &format!("--ovnnb-db=unix:{}", ovn.path("nb.sock")),
            &format!("--ovnsb-db=unix:{}", ovn.path("sb.sock")),
            &format!("--unixctl={}", ovn.path("northd.ctl")),
        ]);
        ovn
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_string_lossy().into_owned()
    }

    /// In the background of the lab's namespace, which the lab empties when it goes.
    fn daemon(&self, argv: &[&str]) {
        let argv = argv.iter().copied().chain(["--detach", "--no-chdir", "-vsyslog:off", "-vconsole:off"]);
        let pidfile = format!(
            "--pidfile={}",
            self.path(&format!("{}.pid", fs::read_dir(self.folder.path()).unwrap().count()))
        );
        let argv: Vec<String> = argv.map(str::to_owned).chain([pidfile]).collect();
        let output = self.net.lab.exec("net", &argv).unwrap();
        assert!(output.ok(), "{argv:?}: {}", output.stderr);
    }

    fn nbctl(&self, commands: &str) {
        let socket = format!("--db=unix:{}", self.path("nb.sock"));
        let mut argv = vec!["ovn-nbctl".to_owned(), socket, "--timeout=20".to_owned()];
        argv.extend(commands.split_whitespace().map(str::to_owned));
        Cmd::new(argv).check().unwrap();
    }

    /// Every row as `table -> uuid -> column -> values`, each column as a list.
    fn rows(&self, database: &str, name: &str, table: &str) -> BTreeMap<String, BTreeMap<String, Value>> {
        let request = format!(r#"["{name}",{{"op":"select","table":"{table}","where":[]}}]"#);
        let socket = format!("unix:{}", self.path(&format!("{database}.sock")));
        let text = Cmd::new(["ovsdb-client", "transact", &socket, &request]).check().unwrap();
        let answer: Value = serde_json::from_str(&text).unwrap();
        let rows = answer[0]["rows"].as_array().unwrap().iter();
        rows.map(|row| {
            let uuid = row["_uuid"][1].as_str().unwrap().to_owned();
            let columns = row.as_object().unwrap().iter().filter(|(name, _)| !name.starts_with('_'));
            (uuid, columns.map(|(name, value)| (name.clone(), plain(value))).collect())
        })
        .collect()
    }
}

/// OVSDB's JSON as lists and objects.
fn plain(value: &Value) -> Value {
    let parts = value.as_array().map(Vec::as_slice);
    match parts {
        Some([tag, inner]) if tag == "uuid" => Value::Array(vec![inner.clone()]),
        Some([tag, inner]) if tag == "set" => {
            let atoms =
                inner.as_array().unwrap().iter().flat_map(|atom| plain(atom).as_array().unwrap().clone());
            sorted(atoms.collect())
        }
        Some([tag, inner]) if tag == "map" => {
            let pairs = inner.as_array().unwrap().iter();
            let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            pairs
                .map(|pair| (text(&pair[0]), plain(&pair[1])[0].clone()))
                .collect::<serde_json::Map<_, _>>()
                .into()
        }
        _ => Value::Array(vec![value.clone()]),
    }
}

/// What qnctl prints in the same form.
fn listed(value: &Value) -> Value {
    match value {
        Value::Null => Value::Array(Vec::new()),
        Value::Array(items) => sorted(items.clone()),
        Value::Object(_) => value.clone(),
        scalar => Value::Array(vec![scalar.clone()]),
    }
}

fn sorted(mut items: Vec<Value>) -> Value {
    items.sort_by_key(Value::to_string);
    Value::Array(items)
}

fn ours(net: &Net, table: &str) -> BTreeMap<String, BTreeMap<String, Value>> {
    let rows: Vec<Value> = serde_json::from_str(&net.qnctl(&["get", table, "-o", "json"])).unwrap();
    rows.iter()
        .map(|row| {
            let columns = row.as_object().unwrap().iter().filter(|(name, _)| !name.starts_with('_'));
            let columns = columns.map(|(name, value)| (name.clone(), listed(value))).collect();
            (row["_uuid"].as_str().unwrap().to_owned(), columns)
        })
        .collect()
}

/// Tunnel keys by what they are for.
fn keys(
    rows: &BTreeMap<String, BTreeMap<String, Value>>,
    name: impl Fn(&BTreeMap<String, Value>) -> Option<String>,
) -> BTreeSet<(String, String)> {
    rows.values().filter_map(|row| Some((name(row)?, row["tunnel_key"][0].to_string()))).collect()
}

#[test]
fn an_ovn_installation_is_taken_over_with_its_uuids_and_keys() {
    let net = Net::up("import", 0);
    let ovn = Ovn::up(&net);
    // Keys that nobody would choose: of switches and ports that went before.
    ovn.nbctl("ls-add gone -- lsp-add gone gone1");
    ovn.nbctl("--wait=sb sync");
    ovn.nbctl("ls-add one -- ls-add two -- lsp-add two z -- lsp-add two y");
    ovn.nbctl("--wait=sb sync");
    ovn.nbctl("ls-del gone -- lsp-del z");
    for commands in [
        "lsp-add one a -- lsp-set-addresses a 0a:00:00:00:00:01 -- lsp-set-port-security a 0a:00:00:00:00:01",
        "lsp-add one b -- set logical_switch_port b options:requested-chassis=hv1 external_ids:owner=me",
        "set logical_switch one other_config:mac_only=false",
        "lr-add r -- lrp-add r r-one 0a:00:00:00:00:fe 10.0.0.254/24",
        "lsp-add one one-r -- lsp-set-type one-r router -- lsp-set-options one-r router-port=r-one -- lsp-set-addresses one-r router",
        "lr-route-add r 0.0.0.0/0 10.0.0.253",
        "acl-add one to-lport 1000 ip4 drop",
        "create address_set name=servers addresses=10.0.0.1",
        "pg-add web a b",
        "lb-add lb 10.0.0.80:80 10.0.0.1:80 -- ls-lb-add one lb",
        "create dhcp_options cidr=10.0.0.0/24 options:server_id=10.0.0.254",
        "--wait=sb sync",
    ] {
        ovn.nbctl(commands);
    }
    for database in ["nb", "sb"] {
        let socket = format!("unix:{}", ovn.path(&format!("{database}.sock")));
        let saved = Cmd::new(["ovsdb-client", "backup", &socket]).check().unwrap();
        fs::write(ovn.path(&format!("{database}.backup")), saved).unwrap();
    }
    let (nb, sb) = (ovn.path("nb.backup"), ovn.path("sb.backup"));

    let tried = net.qnctl(&["import", "ovn-nb", &nb, "--sb", &sb, "--dry-run"]);
    assert!(tried.contains("nothing was changed"), "{tried}");
    assert!(ours(&net, "Logical_Switch").is_empty(), "a dry run left something");
    let said = net.qnctl(&["import", "ovn-nb", &nb, "--sb", &sb]);
    assert!(said.contains("2 Logical_Switch\n") && said.contains("Logical_Router"), "{said}");
    let again = net.qnctl_with(&["import", "ovn-nb", &nb, "--sb", &sb], "").unwrap_err();
    assert!(again.contains("not empty"), "{again}");

    compare(&net, &ovn);
    // The same from the files that the servers keep, over what is there; and from the servers themselves.
    net.qnctl(&["import", "ovn-nb", &ovn.path("nb.db"), "--sb", &ovn.path("sb.db"), "--replace"]);
    compare(&net, &ovn);
    let address = format!("unix:{}", net.lab.api_socket(1).display());
    let live = net.lab.exec(
        "net",
        [
            env!("CARGO_BIN_EXE_qnctl"),
            "--controller",
            &address,
            "import",
            "ovn-nb",
            "tcp:10.254.255.254:6641",
            "--sb",
            "tcp:10.254.255.254:6642",
            "--replace",
        ],
    );
    let live = live.unwrap();
    assert!(live.ok(), "{}", live.stderr);
    compare(&net, &ovn);
}

fn compare(net: &Net, ovn: &Ovn<'_>) {
    for table in TABLES {
        let (theirs, ours) = (ovn.rows("nb", "OVN_Northbound", table), ours(net, table));
        assert!(!theirs.is_empty(), "{table} is not tested");
        assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>(), "{table}");
        for (uuid, row) in theirs {
            for (column, value) in row {
                assert_eq!(ours[&uuid][&column], value, "{table} {uuid} {column}");
            }
        }
    }
    let switch =
        |row: &BTreeMap<String, Value>| row["external_ids"]["logical-switch"].as_str().map(str::to_owned);
    let theirs = ovn.rows("sb", "OVN_Southbound", "Datapath_Binding");
    assert_eq!(keys(&ours(net, "Datapath_Binding"), switch), keys(&theirs, switch));
    // Ports of routers are bound once there are routers.
    let names: BTreeSet<String> = ovn
        .rows("nb", "OVN_Northbound", "Logical_Switch_Port")
        .values()
        .filter_map(|row| row["name"][0].as_str().map(str::to_owned))
        .collect();
    let port = |row: &BTreeMap<String, Value>| {
        row["logical_port"][0].as_str().filter(|name| names.contains(*name)).map(str::to_owned)
    };
    let theirs = ovn.rows("sb", "OVN_Southbound", "Port_Binding");
    assert_eq!(keys(&ours(net, "Port_Binding"), port), keys(&theirs, port));
}
