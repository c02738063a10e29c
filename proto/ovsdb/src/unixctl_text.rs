//! What some unixctl commands print, read: `coverage/show`, `dpctl/dump-flows`, `dpctl/dump-conntrack`.
//!
//! # Contract
//! The text is made for people and changes between versions. What is not known is kept as text or skipped; nothing
//! here fails.

use std::collections::BTreeMap;

/// Reads `coverage/show`: the total of each event counter.
pub fn coverage(text: &str) -> BTreeMap<String, u64> {
    let counter = |line: &str| {
        let (counter, total) = line.rsplit_once("total:")?;
        Some((counter.split_whitespace().next()?.to_owned(), total.trim().parse().ok()?))
    };
    text.lines().filter_map(counter).collect()
}

/// A flow in a datapath, one line of `dpctl/dump-flows`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DatapathFlow {
    /// The unique flow id, with `-m`.
    pub ufid: Option<String>,
    /// The fields of the match by name; of a name that occurs twice (an encapsulated header) the outer one.
    pub fields: Vec<(String, String)>,
    /// Packets so far.
    pub packets: u64,
    /// Bytes so far.
    pub bytes: u64,
    /// Seconds since it was used last; `None` for never.
    pub used_seconds: Option<f64>,
    /// The actions as they are printed.
    pub actions: String,
}

impl DatapathFlow {
    /// A field of the match.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }
}

/// Reads `dpctl/dump-flows`, with or without `-m`. Lines that are no flows are skipped.
pub fn datapath_flows(text: &str) -> Vec<DatapathFlow> {
    text.lines().filter_map(datapath_flow).collect()
}

fn datapath_flow(line: &str) -> Option<DatapathFlow> {
    let (line, actions) = line.split_once("actions:")?;
    let mut flow = DatapathFlow { actions: actions.trim().to_owned(), ..DatapathFlow::default() };
    for part in split(line) {
        if let Some((name, value)) = part.split_once(':').filter(|(name, _)| !name.contains('(')) {
            match name {
                "ufid" => flow.ufid = Some(value.to_owned()),
                "packets" => flow.packets = value.parse().unwrap_or_default(),
                "bytes" => flow.bytes = value.parse().unwrap_or_default(),
                "used" => flow.used_seconds = value.strip_suffix('s').unwrap_or(value).parse().ok(),
                // `dp:ovs`, `flags:S`, `offloaded:yes`, …
                _ => {}
            }
        } else if let Some((name, value)) = part.split_once('(') {
            flow.fields.push((name.to_owned(), value.strip_suffix(')').unwrap_or(value).to_owned()));
        }
    }
    Some(flow)
}

/// A tracked connection, one line of `dpctl/dump-conntrack`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Connection {
    /// `tcp`, `udp`, `icmp`, …
    pub protocol: String,
    /// The tuple of the first packet: `src`, `dst`, `sport`, `dport`, `id`, `type`, `code`.
    pub original: BTreeMap<String, String>,
    /// The tuple of an answer.
    pub reply: BTreeMap<String, String>,
    /// The zone; 0 if none is printed.
    pub zone: u16,
    /// The mark; 0 if none is printed.
    pub mark: u32,
    /// The labels; 0 if none are printed.
    pub labels: u128,
    /// The state of TCP.
    pub state: Option<String>,
    /// The rest, such as `timeout`, `id`, `status`.
    pub others: BTreeMap<String, String>,
}

/// Reads `dpctl/dump-conntrack`. Lines that are no connections are skipped.
pub fn connections(text: &str) -> Vec<Connection> {
    text.lines().filter_map(connection).collect()
}

fn connection(line: &str) -> Option<Connection> {
    let mut parts = split(line).into_iter();
    let protocol = parts.next()?.to_owned();
    if protocol.is_empty() || protocol.contains(['=', '(', ' ']) {
        return None;
    }
    let mut connection = Connection { protocol, ..Connection::default() };
    for part in parts {
        let Some((name, value)) = part.split_once('=') else { continue };
        let inner = value.strip_prefix('(').and_then(|value| value.strip_suffix(')'));
        let tuple = |inner: &str| {
            let pair = |pair: &str| pair.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()));
            split(inner).into_iter().filter_map(pair).collect::<BTreeMap<_, _>>()
        };
        match (name, inner) {
            ("orig", Some(inner)) => connection.original = tuple(inner),
            ("reply", Some(inner)) => connection.reply = tuple(inner),
            ("protoinfo", Some(inner)) => {
                let mut info = tuple(inner);
                // One state, or one of each direction.
                connection.state = info.remove("state").or_else(|| info.remove("state_orig"));
            }
            ("zone", _) => connection.zone = value.parse().unwrap_or_default(),
            ("mark", _) => {
                connection.mark = number(value).and_then(|v| v.try_into().ok()).unwrap_or_default()
            }
            ("labels", _) => connection.labels = number(value).unwrap_or_default(),
            _ => drop(connection.others.insert(name.to_owned(), value.to_owned())),
        }
    }
    (!connection.original.is_empty()).then_some(connection)
}

/// A decimal or `0x` number.
fn number(text: &str) -> Option<u128> {
    match text.strip_prefix("0x") {
        Some(hex) => u128::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// The parts between commas that are in no parentheses, as flows and connections are printed.
pub fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_usize, 0);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts.retain(|part| !part.is_empty());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn coverage_totals() {
        let text = "Event coverage, avg rate over last: 5 seconds, last minute, last hour,  hash=d4a8a9c3:\n\
            nln_changed                0.0/sec     0.000/sec        0.0000/sec   total: 0\n\
            txn_unchanged              0.0/sec     0.017/sec        0.0028/sec   total: 41\n\
            104 events never hit\n";
        let totals = coverage(text);
        assert_eq!(totals.get("txn_unchanged"), Some(&41));
        assert_eq!(totals.len(), 2);
    }

    #[test]
    fn flows_of_a_datapath() {
        let text = "flow-dump from the main thread:\n\
            ufid:6be2, recirc_id(0),in_port(2),eth(src=aa:bb:cc:dd:ee:01),eth_type(0x0800),ipv4(src=10.0.0.1,frag=no), packets:7, bytes:686, used:0.52s, dp:ovs, actions:ct(zone=3,nat),recirc(0x2)\n\
            recirc_id(0x2),in_port(3),eth_type(0x0806), packets:0, bytes:0, used:never, actions:drop\n";
        let flows = datapath_flows(text);
        assert_eq!(flows.len(), 2);
        assert_eq!(flows[0].ufid.as_deref(), Some("6be2"));
        assert_eq!(flows[0].field("ipv4"), Some("src=10.0.0.1,frag=no"));
        assert_eq!((flows[0].packets, flows[0].bytes, flows[0].used_seconds), (7, 686, Some(0.52)));
        assert_eq!(flows[0].actions, "ct(zone=3,nat),recirc(0x2)");
        assert_eq!((flows[1].used_seconds, flows[1].actions.as_str()), (None, "drop"));
    }

    #[test]
    fn tracked_connections() {
        let text = "tcp,orig=(src=10.1.1.1,dst=10.1.1.2,sport=33000,dport=80),reply=(src=10.1.1.2,dst=10.1.1.1,sport=80,dport=33000),zone=5,mark=1,labels=0x10000000000000000,protoinfo=(state=ESTABLISHED)\n\
            icmp,orig=(src=10.1.1.1,dst=10.1.1.2,id=9,type=8,code=0),reply=(src=10.1.1.2,dst=10.1.1.1,id=9,type=0,code=0),timeout=29\n\
            garbage\n";
        let found = connections(text);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].zone, found[0].mark, found[0].labels), (5, 1, 1 << 64));
        expect![[r#"Some("ESTABLISHED")"#]].assert_eq(&format!("{:?}", found[0].state));
        assert_eq!(found[1].original["type"], "8");
        assert_eq!(found[1].others["timeout"], "29");
    }
}
