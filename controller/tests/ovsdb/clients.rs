//! The programs of Open vSwitch and OVN, unchanged.

use std::process::{Output, Stdio};

use ovsdb::DatabaseSchema;
use quantumnet_model::{Database, nb, sb, tables};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::{
    harness::{NB, Server, within},
    real_ovsdb::RealServer,
};

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

/// Every command that reads, and one that must not write, beside a real ovsdb-server with the same schema and rows.
///
/// Not compared: rows of `_Server`, for this is a cluster's member and that is not, and with them the ids that
/// `monitor-cond-since` prints; the checksum in the schema of `_Server`, which is of ovsdb-server's own file; `convert`,
/// which is refused here.
#[tokio::test(flavor = "multi_thread")]
async fn ovsdb_client_says_what_it_says_of_ovsdb_server() {
    let server = Server::start().await;
    server
        .nbctl(&["ls-add", "s1", "--", "lsp-add", "s1", "p1", "--", "lsp-set-addresses", "p1", "unknown"])
        .await;
    server.nbctl(&["pg-add", "g1", "p1", "--", "set", "NB_Global", ".", "external_ids:k=v"]).await;
    let northbound = tables::schema(Database::Northbound, nb::VERSION);
    let southbound = tables::schema(Database::Southbound, sb::VERSION);
    let databases = [
        (server.nb(), NB, northbound, "NB_Global", "Logical_Switch"),
        (server.sb(), "OVN_Southbound", southbound, "SB_Global", "Port_Binding"),
    ];
    for (ours, database, declared, global, table) in databases {
        // A cluster's columns are never ephemeral; the client, which has them in its file, knows that.
        let file = server.directory.path().join("declared").display().to_string();
        std::fs::write(&file, declared.to_json().to_string()).unwrap();
        assert_eq!(server.run("ovsdb-client", &["needs-conversion", &ours, &file]).await, "no\n");
        let served = server.run("ovsdb-client", &["get-schema", &ours, database]).await;
        let schema = DatabaseSchema::parse(&served).unwrap();
        assert_eq!(schema.tables.len(), declared.tables.len());
        let real = RealServer::start(&schema);
        let backup = server.run("ovsdb-client", &["backup", &ours, database]).await;
        let theirs = format!("unix:{}", real.socket().display());
        restore(&server, &theirs, database, &backup).await;

        let file = server.directory.path().join("schema").display().to_string();
        std::fs::write(&file, schema.to_json().to_string()).unwrap();
        let other = server.directory.path().join("other").display().to_string();
        let mut json = schema.to_json();
        json["version"] = "99.0.0".into();
        std::fs::write(&other, json.to_string()).unwrap();
        let transaction = |operation: &str| format!("[\"{database}\",{operation}]");
        let select = transaction(&format!(
            r#"{{"op":"select","table":"{global}","where":[],"columns":["external_ids"]}}"#
        ));
        let update = transaction(&format!(
            r#"{{"op":"update","table":"{global}","where":[],"row":{{"external_ids":["map",[["a","b"]]]}}}}"#
        ));
        let (none, wrong) = (transaction(r#"{"op":"nosuch"}"#), r#"["nosuch",{"op":"abort"}]"#.to_owned());
        let commands: Vec<Vec<&str>> = vec![
            vec!["list-dbs"],
            vec!["list-tables", database],
            vec!["list-tables"],
            vec!["list-tables", "nosuch"],
            vec!["list-columns", database],
            vec!["list-columns", database, table],
            vec!["list-columns", database, "nosuch"],
            vec!["get-schema", database],
            vec!["get-schema", "nosuch"],
            vec!["get-schema-version", database],
            vec!["get-schema-cksum", database],
            vec!["get-schema-version", "_Server"],
            vec!["dump", database],
            vec!["dump", database, table],
            vec!["dump", database, global, "external_ids"],
            vec!["dump", database, "nosuch"],
            vec!["needs-conversion", &file],
            vec!["needs-conversion", &other],
            vec!["query", &select],
            vec!["query", &update],
            vec!["query", &none],
            vec!["transact", &select],
            vec!["transact", &none],
            vec!["transact", &wrong],
            vec!["wait", database, "added"],
            vec!["wait", database, "connected"],
            vec!["wait", "nosuch", "removed"],
            vec!["transact", &update],
            vec!["dump", database, global, "external_ids"],
        ];
        for command in commands {
            let (name, rest) = command.split_first().unwrap();
            let of = async |remote: &str| {
                let arguments: Vec<&str> = [*name, remote].into_iter().chain(rest.iter().copied()).collect();
                said(&server.try_run("ovsdb-client", &arguments).await, remote)
            };
            assert_eq!(of(&ours).await, of(&theirs).await, "{command:?}");
        }

        let condition = r#"[["external_ids","includes",["map",[["c","d"]]]]]"#;
        for monitor in [
            &["monitor", database, global, "external_ids"][..],
            &["monitor-cond", database, condition, global, "external_ids"],
        ] {
            let got = follow(&server, &ours, database, global, monitor).await;
            assert_eq!(got, follow(&server, &theirs, database, global, monitor).await, "{monitor:?}");
        }

        let convert = server.try_run("ovsdb-client", &["convert", &ours, &file]).await;
        let error = String::from_utf8(convert.stderr).unwrap();
        assert!(!convert.status.success() && error.contains("not allowed"), "{error}");
    }
    server.controller.stop().await;
}

/// Loads what was saved elsewhere.
async fn restore(server: &Server, remote: &str, database: &str, backup: &str) {
    // It seeks in what it reads.
    let path = server.directory.path().join("backup");
    std::fs::write(&path, backup).unwrap();
    let mut client = server.command("ovsdb-client");
    let client = client.args(["restore", remote, database]).stdin(std::fs::File::open(&path).unwrap());
    let restored = within(client.status()).await.unwrap();
    assert!(restored.success(), "ovsdb-server takes our backup");
}

/// What was printed: lines in order, without uuids and the remote's name.
fn said(output: &Output, remote: &str) -> (Option<i32>, Vec<String>, Vec<String>) {
    let lines = |octets: &[u8]| {
        let text = String::from_utf8_lossy(octets).replace(remote, "REMOTE");
        // A schema's members have no order.
        if let Ok(json @ Value::Object(_)) = serde_json::from_str::<Value>(&text) {
            return vec![json.to_string()];
        }
        let mut lines: Vec<String> = text.lines().map(without_uuids).collect();
        lines.sort();
        lines
    };
    (output.status.code(), lines(&output.stdout), lines(&output.stderr))
}

fn without_uuids(line: &str) -> String {
    // 2026-01-01T00:00:00Z|00001|module|WARN|text
    let line = line.split_once("Z|").map_or(line, |(_, rest)| rest);
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let words = line.split_inclusive(|c| !is_word(c)).map(|word| {
        let end = word.trim_end_matches(|c| !is_word(c)).len();
        let (word, rest) = word.split_at(end);
        if uuid::Uuid::try_parse(word).is_ok() { format!("<uuid>{rest}") } else { format!("{word}{rest}") }
    });
    words.collect()
}

/// What a monitor prints of two changes.
async fn follow(server: &Server, remote: &str, database: &str, table: &str, monitor: &[&str]) -> Vec<String> {
    let set = async |pairs: &str| {
        let row = format!(r#"{{"external_ids":["map",[{pairs}]]}}"#);
        let update = format!(r#"["{database}",{{"op":"update","table":"{table}","where":[],"row":{row}}}]"#);
        server.run("ovsdb-client", &["transact", remote, &update]).await;
    };
    // Rows that meet the condition where there is one.
    set(r#"["c","d"]"#).await;
    let mut command = server.command("ovsdb-client");
    let arguments = [&["-f", "csv", monitor[0], remote][..], &monitor[1..]].concat();
    let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut seen = Vec::new();
    let mut until = async |word: &str| {
        while !seen.last().is_some_and(|line: &String| line.contains(word)) {
            seen.push(without_uuids(&within(lines.next_line()).await.unwrap().expect("the monitor goes on")));
        }
        seen.clone()
    };
    until("initial").await;
    set(r#"["a","b"]"#).await;
    set(r#"["c","d"],["e","f"]"#).await;
    until("e=f").await
}
