//! Why packets pass or do not, as people read it: `trace`, `why`, `who-can-reach`.
//!
//! # Contract
//! - The controller says everything; here it is laid out. `-o json` and `-o yaml` give it as it came.

use anyhow::{Result, bail};
use clap::Args;
use quantumnet_cli::client::{CallError, Client};
use serde_json::{Value, json};

use crate::{
    kind::cell,
    show::{self, Format},
};

/// A packet's ends and what it is.
#[derive(Debug, Args)]
pub(crate) struct Packet {
    /// Port by name or id, its VM's name, or its address.
    source: String,
    /// The same, or any other address.
    destination: String,
    /// tcp/443, udp/53, sctp/2905, icmp, icmp/8/0, icmpv6 or ip/47.
    service: String,
    /// Project of ports that are named.
    #[arg(short, long, default_value = "default")]
    project: String,
    /// Port of the source: its connection is looked up in the switches; without one the packet begins a new connection.
    #[arg(long, default_value_t = 0)]
    source_port: u16,
    /// Over IPv6, where both ends have both families.
    #[arg(short = '6', long)]
    ipv6: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// `qnctl trace`.
#[derive(Debug, Args)]
pub(crate) struct Trace {
    #[command(flatten)]
    packet: Packet,
    /// Trace what answers it too.
    #[arg(long)]
    reply: bool,
    /// Show every table that was asked, with the flow that matched.
    #[arg(long)]
    all: bool,
}

/// `qnctl who-can-reach`.
#[derive(Debug, Args)]
pub(crate) struct WhoCanReach {
    /// Port by name or id, its VM's name, or its address.
    destination: String,
    /// tcp/443, udp/53, icmp …; without one, each service that a rule names, a ping, and what no rule names.
    #[arg(default_value = "")]
    service: String,
    /// Project of the port.
    #[arg(short, long, default_value = "default")]
    project: String,
    /// Only what is allowed.
    #[arg(long)]
    allowed: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

impl Packet {
    fn body(&self, reply: bool) -> Value {
        json!({
            "project": self.project, "source": self.source, "destination": self.destination, "service": self.service,
            "sourcePort": self.source_port, "family": if self.ipv6 { 6 } else { 0 }, "reply": reply,
        })
    }
}

/// Traces a packet.
pub(crate) async fn trace(client: &Client, args: &Trace) -> Result<()> {
    let answer = client.call(SERVICE, "GetTrace", &args.packet.body(args.reply)).await?;
    match args.packet.output {
        Format::Table => print!("{}", traced(&answer, args.all)),
        format => print!("{}", show::whole(&answer, format)?),
    }
    Ok(())
}

/// Says what decides about a packet.
pub(crate) async fn why(client: &Client, packet: &Packet) -> Result<()> {
    let traced = match client.call(SERVICE, "GetTrace", &packet.body(false)).await {
        Ok(answer) => Some(answer),
        // From outside nothing can be traced; the rules may still be asked.
        Err(CallError::Refused(refusal)) if refusal.error.reason == "SOURCE_OUTSIDE" => None,
        Err(error) => return Err(error.into()),
    };
    if let Some(answer) = traced.filter(|answer| {
        !answer["hops"].as_array().is_none_or(Vec::is_empty) && answer["verdict"]["kind"] != "UNDECIDED"
    }) {
        match packet.output {
            Format::Table => print!("{}", because(&answer)),
            format => print!("{}", show::whole(&answer, format)?),
        }
        return Ok(());
    }
    let address = packet.source.parse::<std::net::IpAddr>().ok();
    let outside = address.map(|address| address.to_string());
    let body = json!({
        "project": packet.project, "destination": packet.destination, "service": packet.service,
        "family": if packet.ipv6 { 6 } else { 0 }, "source": outside.as_deref().unwrap_or_default(),
    });
    let answer = client.call(SERVICE, "ListSources", &body).await?;
    let list = |name: &str| answer[name].as_array().cloned().unwrap_or_default();
    let named = |verdict: &Value| {
        let of = |place: &str| cell(verdict, place) == packet.source;
        of("/port/name") || of("/port/id") || of("/address")
    };
    let inside = list("sources").into_iter().find(|verdict| named(verdict));
    let verdict = match inside {
        Some(verdict) => verdict,
        None if outside.is_some() => {
            let mut judged = list("outside").into_iter();
            match judged.find(|verdict| Some(cell(verdict, "/address")) == outside) {
                Some(verdict) => verdict,
                None => bail!(
                    "nothing outside reaches {}: its network has no router and no physical network",
                    packet.destination
                ),
            }
        }
        None => bail!("{} is on no network from which {} can be reached", packet.source, packet.destination),
    };
    match packet.output {
        Format::Table => {
            let word = if verdict["allowed"] == true { "ALLOWED" } else { "DENIED" };
            println!(
                "{word} by the rules alone, which is all that could be asked: {}",
                cell(&verdict, "/reason")
            );
            for note in list("notes") {
                println!("note: {}", cell(&note, ""));
            }
        }
        format => print!("{}", show::whole(&verdict, format)?),
    }
    Ok(())
}

/// Lists who may reach a port.
pub(crate) async fn who_can_reach(client: &Client, args: &WhoCanReach) -> Result<()> {
    let body = json!({ "project": args.project, "destination": args.destination, "service": args.service, "family": 0 });
    let answer = client.call(SERVICE, "ListSources", &body).await?;
    match args.output {
        Format::Table => print!("{}", sources(&answer, args.allowed)),
        format => print!("{}", show::whole(&answer, format)?),
    }
    Ok(())
}

fn items<'a>(value: &'a Value, place: &str) -> &'a [Value] {
    value.pointer(place).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn traced(answer: &Value, all: bool) -> String {
    let mut text = format!("{}\n", cell(answer, "/packet"));
    way(answer, "/hops", all, &mut text);
    verdict(answer, "/verdict", &mut text);
    if !items(answer, "/replyHops").is_empty() {
        text += "\nthe answer to it\n";
        way(answer, "/replyHops", all, &mut text);
        verdict(answer, "/replyVerdict", &mut text);
    }
    notes(answer, &mut text);
    text
}

fn way(answer: &Value, place: &str, all: bool, text: &mut String) {
    for hop in items(answer, place) {
        *text += &format!("\n{}, from {}\n", cell(hop, "/chassis"), cell(hop, "/entered"));
        let steps = items(hop, "/steps");
        for (at, step) in steps.iter().enumerate() {
            let table = step["table"].as_str().unwrap_or_default();
            // Of several rounds in which rules are asked the last one counts.
            let again = || {
                let later = steps.iter().skip(at + 1);
                later.take_while(|later| later["pass"] == step["pass"]).any(|later| later["table"] == table)
            };
            let undecided = step["text"] == "no rule decides" && RULES.contains(&table);
            let shown = all || step["decides"] == true || SHOWN.contains(&table) && !(undecided && again());
            if shown {
                *text += &format!("  {table:<16} {}\n", cell(step, "/text"));
            }
            if all && !table.is_empty() {
                let flow = format!("{} priority {}", cell(step, "/match"), cell(step, "/priority"));
                *text += &format!(
                    "  {:<16}   {flow} cookie {} {}\n",
                    "",
                    cell(step, "/cookie"),
                    cell(step, "/stage")
                );
            }
        }
        for left in items(hop, "/left") {
            *text += &format!("  {:<16} {}\n", "->", cell(left, ""));
        }
    }
}

fn verdict(answer: &Value, place: &str, text: &mut String) {
    let Some(verdict) = answer.pointer(place) else { return };
    *text += &format!("\n{}: {}\n", cell(verdict, "/kind"), cell(verdict, "/summary"));
    rules(verdict, text);
    for advice in items(verdict, "/advice") {
        *text += &format!("  to change that: {}\n", cell(advice, ""));
    }
}

fn rules(verdict: &Value, text: &mut String) {
    for rule in items(verdict, "/allowedBy") {
        *text += &format!("  allowed by {}\n", object(rule));
    }
    if let Some(rule) = verdict.get("decidedBy").filter(|rule| rule.is_object()) {
        *text += &format!("  decided by {}\n", object(rule));
    }
}

/// `rule ssh of SecurityGroup web (project default, revision 7): what it says`.
fn object(object: &Value) -> String {
    let part = |place: &str| Some(cell(object, place)).filter(|text| text != "-" && text != "0");
    let mut text = match part("/part") {
        Some(rule) if cell(object, "/rowTable") == "ACL" => format!("rule {rule} of "),
        Some(rule) => format!("{rule} of "),
        None => String::new(),
    };
    text += &format!("{} {}", cell(object, "/kind"), cell(object, "/name"));
    let more: Vec<String> = [
        part("/project").map(|name| format!("project {name}")),
        part("/revision").map(|number| format!("revision {number}")),
    ]
    .into_iter()
    .flatten()
    .collect();
    if !more.is_empty() {
        text += &format!(" ({})", more.join(", "));
    }
    match part("/says") {
        Some(says) => format!("{text}: {says}"),
        None => text,
    }
}

fn because(answer: &Value) -> String {
    let mut text = String::new();
    verdict(answer, "/verdict", &mut text);
    let asked = items(answer, "/verdict/allowedBy").is_empty()
        && answer.pointer("/verdict/decidedBy").is_none_or(Value::is_null);
    if asked && cell(answer, "/verdict/kind") == "DELIVERED" {
        text += "  no rule decided about it: what no rule stops passes\n";
    }
    notes(answer, &mut text);
    text.trim_start().to_owned()
}

fn sources(answer: &Value, only_allowed: bool) -> String {
    let mut text = String::new();
    for (title, place) in [("SOURCE", "/sources"), ("OUTSIDE", "/outside")] {
        let rows: Vec<Vec<String>> = items(answer, place)
            .iter()
            .filter(|verdict| !only_allowed || verdict["allowed"] == true)
            .map(|verdict| {
                let word = if verdict["allowed"] == true { "allowed" } else { "denied" };
                let port = cell(verdict, "/port/name");
                vec![
                    port,
                    cell(verdict, "/address"),
                    cell(verdict, "/service"),
                    word.to_owned(),
                    cell(verdict, "/reason"),
                ]
            })
            .collect();
        if !rows.is_empty() {
            let header = [title, "ADDRESS", "SERVICE", "VERDICT", "WHY"].map(str::to_owned).to_vec();
            text += &show::table(header, rows);
            text += "\n";
        }
    }
    notes(answer, &mut text);
    text
}

fn notes(answer: &Value, text: &mut String) {
    for note in items(answer, "/notes") {
        *text += &format!("note: {}\n", cell(note, ""));
    }
}

const SERVICE: &str = "ExplainService";

/// Tables whose steps tell the way even where they decide nothing; the one without a name is a connection's state.
const SHOWN: [&str; 8] =
    ["", "Classify", "FromPolicy", "AfterPolicy", "ToPolicy", "Route", "TunnelOut", "Deliver"];

/// Tables in which rules are asked.
const RULES: [&str; 3] = ["FromPolicy", "AfterPolicy", "ToPolicy"];

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn answer() -> Value {
        let rule = json!({ "kind": "SecurityGroup", "name": "db", "project": "default", "part": "postgres", "revision": "7",
            "rowTable": "ACL", "says": "to-lport allow-related" });
        let step = |table: &str, text: &str, decides: bool| json!({ "table": table, "text": text, "decides": decides, "match": "ip", "priority": 5, "cookie": "0x1", "stage": "s" });
        json!({
            "packet": "tcp/5432 from 10.0.0.1 to 10.0.0.2",
            "hops": [{ "chassis": "hv1", "entered": "its port", "steps": [step("Classify", "in", false), step("Steer", "hidden", false)], "left": ["into the tunnel to hv2"] }],
            "verdict": { "kind": "DELIVERED", "summary": "delivered to Port db on hv2", "allowedBy": [rule], "advice": ["nothing"] },
            "notes": ["new"],
        })
    }

    #[test]
    fn traces() {
        expect![[r#"
            tcp/5432 from 10.0.0.1 to 10.0.0.2

            hv1, from its port
              Classify         in
              ->               into the tunnel to hv2

            DELIVERED: delivered to Port db on hv2
              allowed by rule postgres of SecurityGroup db (project default, revision 7): to-lport allow-related
              to change that: nothing
            note: new
        "#]]
        .assert_eq(&traced(&answer(), false));
        assert!(traced(&answer(), true).contains("hidden"));
    }

    #[test]
    fn reasons() {
        expect![[r#"
            DELIVERED: delivered to Port db on hv2
              allowed by rule postgres of SecurityGroup db (project default, revision 7): to-lport allow-related
              to change that: nothing
            note: new
        "#]]
        .assert_eq(&because(&answer()));
    }
}
