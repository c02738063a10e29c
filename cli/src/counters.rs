//! What rules have counted, and who drops what: as tables, and as it comes.

use anyhow::Result;
use clap::Args;
use quantumnet_cli::client::Client;
use serde_json::{Value, json};

use crate::{
    kind::{Kind, cell},
    show::{self, Format},
};

/// Whose rules.
#[derive(Debug, Args)]
pub(crate) struct RulesCommand {
    /// Only those of this security group: name or id.
    #[arg(long)]
    group: Option<String>,
    /// Only those of this policy: name or id.
    #[arg(long)]
    policy: Option<String>,
    /// Project to look in; without group and policy, empty means all, and rules of the northbound database too.
    #[arg(short, long)]
    project: Option<String>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Which drops.
#[derive(Debug, Args)]
pub(crate) struct DropsCommand {
    /// Go on: tell what is dropped as it happens, and packets that ACLs log.
    #[arg(short, long)]
    follow: bool,
    /// Only by rules that apply to ports of this network, and at its ports: name or id.
    #[arg(long)]
    network: Option<String>,
    /// Only by rules that apply to this port, and at it: name or id.
    #[arg(long)]
    port: Option<String>,
    /// Only on this hypervisor.
    #[arg(long, default_value = "")]
    node: String,
    /// Project of network and port; without them, only what rules of this project drop.
    #[arg(short, long)]
    project: Option<String>,
    /// How to print; JSON is one object a line.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Shows what rules have counted.
pub(crate) async fn rules(client: &Client, command: RulesCommand) -> Result<String> {
    let RulesCommand { group, policy, project, output } = command;
    let named = group.is_some() || policy.is_some();
    let within = project.as_deref().unwrap_or("default");
    let mut body = json!({});
    if let Some(group) = group {
        body["group"] = reference("sg", &group, within)?;
    }
    if let Some(policy) = policy {
        body["policy"] = reference("policy", &policy, within)?;
    }
    if !named {
        body["project"] = project.unwrap_or_default().into();
    }
    let answer = client.call("CounterService", "ListRuleCounters", &body).await?;
    match output {
        Format::Table => Ok(rule_table(&answer)),
        Format::Json | Format::Yaml => show::print(std::slice::from_ref(&answer), output),
    }
}

/// What the rules of an object have counted, below its description; nothing for kinds that have none.
pub(crate) async fn described(client: &Client, kind: &Kind, object: &Value) -> Result<String> {
    let field = match kind.name {
        "SecurityGroup" => "group",
        "SecurityPolicy" => "policy",
        _ => return Ok(String::new()),
    };
    let body = json!({ field: { "id": cell(object, "/meta/id") } });
    let answer = client.call("CounterService", "ListRuleCounters", &body).await?;
    Ok(format!("\n{}", rule_table(&answer)))
}

fn reference(kind: &str, name: &str, project: &str) -> Result<Value> {
    Ok(Kind::find(kind).map_err(anyhow::Error::msg)?.reference(name, project))
}

fn rule_table(answer: &Value) -> String {
    let header = ["OWNER", "RULE", "DIRECTION", "ACTION", "PACKETS", "BYTES", "LAST HIT"];
    let rules = answer["rules"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rows = rules.iter().map(|rule| {
        let staged = if rule["staged"] == true { "would " } else { "" };
        vec![
            owner(&rule["rule"]),
            cell(rule, "/rule/part"),
            cell(rule, "/direction"),
            format!("{staged}{}", cell(rule, "/action")),
            number(rule, "/packets"),
            number(rule, "/bytes"),
            cell(rule, "/lastHit"),
        ]
    });
    let table = show::table(header.map(str::to_owned).to_vec(), rows.collect());
    format!("{table}{}", missing(answer))
}

/// `SecurityGroup web`.
fn owner(object: &Value) -> String {
    format!("{} {}", cell(object, "/kind"), cell(object, "/name"))
}

/// A count, which JSON leaves out where it is 0.
fn number(of: &Value, place: &str) -> String {
    match of.pointer(place) {
        None | Some(Value::Null) => "0".to_owned(),
        Some(_) => cell(of, place),
    }
}

fn missing(answer: &Value) -> String {
    let missing = answer["missing"].as_array().into_iter().flatten().filter_map(Value::as_str);
    missing.map(|reason| format!("! not counted: {reason}\n")).collect()
}

/// Shows what is dropped, until the connection ends if it is followed.
pub(crate) async fn drops(client: &Client, command: DropsCommand) -> Result<()> {
    let DropsCommand { follow, network, port, node, project, output } = command;
    let named = network.is_some() || port.is_some();
    let within = project.as_deref().unwrap_or("default");
    let mut body = json!({ "node": node, "once": !follow });
    if let Some(network) = network {
        body["network"] = reference("network", &network, within)?;
    }
    if let Some(port) = port {
        body["port"] = reference("port", &port, within)?;
    }
    if !named {
        body["project"] = project.unwrap_or_default().into();
    }
    let mut failed = None;
    let each = |answer: Value| {
        // What was dropped before somebody looked is of no interest to who follows.
        if follow && answer["baseline"] == true {
            return true;
        }
        match text(&answer, output) {
            Ok(text) => print!("{text}"),
            Err(error) => failed = Some(error),
        }
        failed.is_none()
    };
    client.stream("CounterService", "WatchDrops", &body, each).await?;
    failed.map_or(Ok(()), Err)
}

fn text(answer: &Value, output: Format) -> Result<String> {
    match output {
        Format::Table => Ok(drop_lines(answer)),
        Format::Json => Ok(format!("{answer}\n")),
        Format::Yaml => Ok(format!("---\n{}", serde_yaml_ng::to_string(answer)?)),
    }
}

fn drop_lines(answer: &Value) -> String {
    let mut text = String::new();
    let at = cell(answer, "/at");
    for drop in answer["drops"].as_array().into_iter().flatten() {
        let by = &drop["by"];
        let who = match (by["part"].as_str(), by["kind"].as_str()) {
            (_, None) => "-".to_owned(),
            (None | Some(""), _) => owner(by),
            (Some(part), _) => format!("rule {part} of {} ({})", owner(by), cell(drop, "/action")),
        };
        let (node, reason, table) = (cell(drop, "/node"), cell(drop, "/reason"), cell(drop, "/table"));
        let (packets, bytes) = (number(drop, "/packets"), number(drop, "/bytes"));
        text.push_str(&format!("{at}  {node}  {reason}  {table}  {packets} packets  {bytes} bytes  {who}\n"));
    }
    for record in answer["records"].as_array().into_iter().flatten() {
        let part = |name: &str| cell(record, &format!("/{name}"));
        let end = |address: &str, port: &str| match record[port].as_u64() {
            Some(number) => format!("{}:{number}", part(address)),
            None => part(address),
        };
        text.push_str(&format!(
            "{}  {}  log  {} {} {} port {}: {} {} -> {}\n",
            part("at"),
            part("node"),
            part("name"),
            part("verdict"),
            part("direction"),
            part("port"),
            part("protocol"),
            end("src", "srcPort"),
            end("dst", "dstPort"),
        ));
    }
    text.push_str(&missing(answer));
    text
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn rules_say_whose_they_are_and_what_they_counted() {
        let answer = json!({
            "rules": [
                { "rule": { "kind": "SecurityPolicy", "name": "web", "part": "isolate" },
                  "direction": "to-lport", "action": "drop", "staged": true, "packets": "3", "bytes": "294",
                  "lastHit": "2026-11-29T21:00:00Z" },
                { "rule": { "kind": "ACL", "name": "u2" }, "direction": "from-lport", "action": "allow" },
            ],
            "missing": ["the agent of hypervisor hv2 is not connected"],
        });
        expect![[r#"
            OWNER               RULE     DIRECTION   ACTION      PACKETS  BYTES  LAST HIT
            SecurityPolicy web  isolate  to-lport    would drop  3        294    2026-11-29T21:00:00Z
            ACL u2              -        from-lport  allow       0        0      -
            ! not counted: the agent of hypervisor hv2 is not connected
        "#]]
        .assert_eq(&rule_table(&answer));
    }

    #[test]
    fn drops_name_the_rule_or_the_reason() {
        let answer = json!({
            "at": "2026-11-29T21:00:00Z",
            "drops": [
                { "node": "hv1", "reason": "acl", "table": "ToPolicy", "action": "drop", "packets": "2", "bytes": "196",
                  "by": { "kind": "SecurityGroup", "name": "web", "part": "default-ingress" } },
                { "node": "hv1", "reason": "port_security", "table": "AdmitOut", "packets": "1",
                  "by": { "kind": "Port", "name": "vm1" } },
                { "node": "hv2", "reason": "no_flow", "table": "Forward", "packets": "7" },
            ],
            "records": [{ "at": "2026-11-29T20:59:59Z", "node": "hv1", "name": "no-dns", "verdict": "drop",
                "direction": "to-lport", "port": "vm1", "protocol": "udp", "src": "10.0.0.1", "dst": "10.0.0.2",
                "srcPort": 4000, "dstPort": 53 }],
        });
        expect![[r#"
            2026-11-29T21:00:00Z  hv1  acl  ToPolicy  2 packets  196 bytes  rule default-ingress of SecurityGroup web (drop)
            2026-11-29T21:00:00Z  hv1  port_security  AdmitOut  1 packets  0 bytes  Port vm1
            2026-11-29T21:00:00Z  hv2  no_flow  Forward  7 packets  0 bytes  -
            2026-11-29T20:59:59Z  hv1  log  no-dns drop to-lport port vm1: udp 10.0.0.1:4000 -> 10.0.0.2:53
        "#]]
        .assert_eq(&drop_lines(&answer));
    }
}
