//! The programs of Open vSwitch and OVN, unchanged.

use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::harness::{NB, Server, within};

#[tokio::test(flavor = "multi_thread")]
async fn ovsdb_client_lists_dumps_and_saves() {
    let server = Server::start().await;
    let (nb, sb) = (server.nb(), server.sb());
    assert_eq!(server.run("ovsdb-client", &["list-dbs", &nb]).await, "OVN_Northbound\n_Server\n");
    assert_eq!(server.run("ovsdb-client", &["list-dbs", &sb]).await, "OVN_Southbound\n_Server\n");
    for (remote, database) in [(&nb, NB), (&nb, "_Server"), (&sb, "OVN_Southbound")] {
        let schema = server.run("ovsdb-client", &["get-schema", remote, database]).await;
        assert_eq!(serde_json::from_str::<Value>(&schema).unwrap()["name"], database);
        server.run("ovsdb-client", &["dump", remote, database]).await;
    }
    assert_eq!(server.run("ovsdb-client", &["get-schema-version", &nb, NB]).await, "7.19.0\n");
    server.nbctl(&["ls-add", "s1", "--", "lsp-add", "s1", "p1"]).await;
    let dump = server.run("ovsdb-client", &["-f", "csv", "dump", &nb, NB, "Logical_Switch", "name"]).await;
    assert!(dump.contains("s1"), "{dump}");
    let backup = server.run("ovsdb-client", &["backup", &nb, NB]).await;
    assert!(backup.starts_with("OVSDB JSON ") && backup.contains("\"p1\""), "{backup}");
    server.run("ovsdb-client", &["wait", &nb, NB, "connected"]).await;
    let select =
        r#"["OVN_Northbound",{"op":"select","table":"Logical_Switch","where":[],"columns":["name"]}]"#;
    let rows = server.run("ovsdb-client", &["transact", &nb, select]).await;
    assert_eq!(rows, "[{\"rows\":[{\"name\":\"s1\"}]}]\n");
    server.controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ovsdb_client_monitors_and_locks() {
    let server = Server::start().await;
    let nb = server.nb();
    let monitor = ["-f", "csv", "monitor", &nb, NB, "Logical_Switch", "name"];
    let mut monitor = server.command("ovsdb-client").args(monitor).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(monitor.stdout.take().unwrap()).lines();
    server.nbctl(&["ls-add", "s1"]).await;
    server.nbctl(&["set", "Logical_Switch", "s1", "name=s2"]).await;
    server.nbctl(&["ls-del", "s2"]).await;
    let mut seen = Vec::new();
    while seen.last() != Some(&"delete".to_owned()) {
        let line = within(lines.next_line()).await.unwrap().expect("the monitor goes on");
        seen.extend(line.split(',').nth(1).filter(|word| *word != "action").map(str::to_owned));
    }
    assert!(seen.contains(&"insert".to_owned()) || seen.contains(&"initial".to_owned()), "{seen:?}");
    assert!(seen.contains(&"new".to_owned()), "{seen:?}");

    let lock = |method: &'static str| {
        let child = server.command("ovsdb-client").args([method, &nb, "l"]).stdout(Stdio::piped()).spawn();
        let mut child = child.unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        (child, lines)
    };
    let (_first, mut told_first) = lock("lock");
    assert_eq!(within(told_first.next_line()).await.unwrap().unwrap(), "{\"locked\":true}");
    let (_thief, mut told_thief) = lock("steal");
    assert_eq!(within(told_thief.next_line()).await.unwrap().unwrap(), "{\"locked\":true}");
    assert_eq!(within(told_first.next_line()).await.unwrap().unwrap(), "stolen");
    server.controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ovn_nbctl_works_once_and_as_a_daemon() {
    let server = Server::start().await;
    server.nbctl(&["init"]).await;
    server.nbctl(&["ls-add", "s1"]).await;
    assert!(!server.try_run("ovn-nbctl", &["ls-add", "s1"]).await.status.success(), "nbctl checks names");
    server.nbctl(&["--may-exist", "ls-add", "s1", "--", "lsp-add", "s1", "p1"]).await;
    server.nbctl(&["lsp-set-addresses", "p1", "02:00:00:00:00:01 10.0.0.1"]).await;
    assert!(server.nbctl(&["show"]).await.contains("addresses: [\"02:00:00:00:00:01 10.0.0.1\"]"));
    server.nbctl(&["--wait=sb", "sync"]).await;
    server.nbctl(&["acl-add", "s1", "to-lport", "1000", "ip", "allow"]).await;
    assert!(server.nbctl(&["acl-list", "s1"]).await.contains("to-lport  1000 (ip) allow"));

    let socket = server.nbctl(&["--detach", "--pidfile=nbctl.pid", "--log-file=/dev/null"]).await;
    let daemon = format!("--unixctl={}", server.directory.path().display());
    let ask = async |arguments: &[&str]| {
        let mut command = server.command("ovn-nbctl");
        let output = command.env("OVN_NB_DAEMON", socket.trim()).args(arguments).output();
        let output = within(output).await.unwrap();
        assert!(
            output.status.success(),
            "{daemon} {arguments:?} {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    for number in 2..6 {
        ask(&["ls-add", &format!("s{number}")]).await;
    }
    assert_eq!(ask(&["ls-list"]).await.lines().count(), 5);
    ask(&["set", "Logical_Switch", "s5", "other_config:a=b", "external_ids:c=d"]).await;
    assert_eq!(ask(&["get", "Logical_Switch", "s5", "other_config"]).await, "{a=b}\n");
    ask(&["ls-del", "s5"]).await;
    let pid = std::fs::read_to_string(server.directory.path().join("nbctl.pid")).unwrap();
    let stopped = server.run("ovs-appctl", &["-t", socket.trim(), "exit"]).await;
    assert!(stopped.is_empty(), "daemon {pid} stops: {stopped}");
    server.controller.stop().await;
}
