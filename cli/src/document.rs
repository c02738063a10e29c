//! Documents that `qnctl apply` takes: one object each, several in a file, separated by `---`.
//!
//! ```yaml
//! kind: VirtualNetwork
//! metadata: { name: blue, project: default, labels: { tier: web } }
//! spec:
//!   subnets: [{ cidr: 10.0.1.0/24, gateway: 10.0.1.1 }]
//! ```
//! Field names are those of the API, in snake_case or camelCase; the controller refuses unknown ones.

use std::{fs, io::Read};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::kind::Kind;

/// One object as a file says it.
#[derive(Debug)]
pub(crate) struct Document {
    /// Its kind.
    pub(crate) kind: &'static Kind,
    /// `metadata`, keys in camelCase.
    pub(crate) meta: Map<String, Value>,
    /// `spec`, keys in camelCase; empty when there is none.
    pub(crate) spec: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    kind: String,
    #[serde(alias = "meta")]
    metadata: Map<String, Value>,
    #[serde(default)]
    spec: Map<String, Value>,
}

impl Document {
    /// `metadata.name`.
    pub(crate) fn name(&self) -> &str {
        self.meta.get("name").and_then(Value::as_str).unwrap_or_default()
    }

    /// The object as the API takes it.
    pub(crate) fn object(&self) -> Value {
        let mut object = Map::new();
        object.insert("meta".to_owned(), Value::Object(self.meta.clone()));
        if !self.spec.is_empty() {
            object.insert("spec".to_owned(), Value::Object(self.spec.clone()));
        }
        Value::Object(object)
    }
}

/// Reads the documents of a file, or of standard input for `-`, in order of creation.
pub(crate) fn read(path: &str, project: &str) -> Result<Vec<Document>> {
    let text = if path == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("reading standard input")?;
        text
    } else {
        fs::read_to_string(path).with_context(|| format!("reading {path}"))?
    };
    parse(&text, project).with_context(|| format!("in {path}"))
}

/// Parses documents; `project` is that of objects which name none.
pub(crate) fn parse(text: &str, project: &str) -> Result<Vec<Document>> {
    let mut documents = Vec::new();
    for (place, part) in serde_yaml_ng::Deserializer::from_str(text).enumerate() {
        let number = place + 1;
        let value = Value::deserialize(part).with_context(|| format!("document {number}"))?;
        if value.is_null() {
            continue;
        }
        let raw: Raw = serde_json::from_value(value).with_context(|| format!("document {number}"))?;
        let kind = Kind::find(&raw.kind)
            .map_err(anyhow::Error::msg)
            .with_context(|| format!("document {number}"))?;
        if !kind.writable {
            bail!("document {number}: a {} cannot be applied", kind.name);
        }
        let mut meta = camel_case_keys(raw.metadata, 1);
        if !meta.get("name").is_some_and(Value::is_string) {
            bail!("document {number}: metadata.name is missing");
        }
        if kind.in_project && !meta.contains_key("project") {
            meta.insert("project".to_owned(), project.into());
        }
        let mut spec = raw.spec;
        rules(&mut spec);
        let mut spec = camel_case_keys(spec, usize::MAX);
        shorthand(&mut spec, meta.get("project"));
        documents.push(Document { kind, meta, spec });
    }
    documents.sort_by_key(|document| document.kind.rank);
    Ok(documents)
}

/// In a list of rules, `"role=web -> role=db : 5432"` stands for `match: "role=web -> role=db : 5432"`, with or without the
/// quotes: to YAML it is a pair without them. Ports may be numbers.
fn rules(spec: &mut Map<String, Value>) {
    let Some(Value::Array(rules)) = spec.get_mut("rules") else { return };
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    for rule in rules {
        let short = match &*rule {
            Value::String(text) => Some(text.clone()),
            Value::Object(pair) => match pair.iter().next() {
                Some((key, value)) if pair.len() == 1 && key.contains("->") => {
                    Some(format!("{key} : {}", text(value)))
                }
                _ => None,
            },
            _ => None,
        };
        if let Some(short) = short {
            *rule = serde_json::json!({ "match": short });
        }
        if let Some(Value::Array(ports)) = rule.get_mut("ports") {
            ports.iter_mut().for_each(|port| *port = text(port).into());
        }
    }
}

/// `network: blue` stands for `network: { name: blue, project: … }`, as does any other reference, `external: outside` (also
/// in a network's `router`) for `external: { network: outside }`, `addresses: [10.0.1.5]` for `addresses: [{ ip: 10.0.1.5 }]`, and `vm: web-1` for
/// `vm: { name: web-1 }`. Security groups have no order: they are put into the one that answers have.
fn shorthand(spec: &mut Map<String, Value>, project: Option<&Value>) {
    for field in ["network", "port"] {
        if let Some(value) = spec.get_mut(field) {
            reference(value, project);
        }
    }
    if let Some(Value::Array(networks)) = spec.get_mut("networks") {
        networks.iter_mut().for_each(|network| reference(network, project));
    }
    if let Some(external) = spec.get_mut("external") {
        gateway(external, project);
    }
    if let Some(external) = spec.get_mut("router").and_then(|router| router.get_mut("external")) {
        gateway(external, project);
    }
    if let Some(vm @ Value::String(_)) = spec.get_mut("vm") {
        *vm = serde_json::json!({ "name": vm });
    }
    if let Some(Value::Array(groups)) = spec.get_mut("securityGroups") {
        groups.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
    }
    if let Some(Value::Array(addresses)) = spec.get_mut("addresses") {
        for address in addresses {
            if let Value::String(ip) = address {
                *address = serde_json::json!({ "ip": ip });
            }
        }
    }
}

/// How a router is connected to the outside.
fn gateway(external: &mut Value, project: Option<&Value>) {
    if external.is_string() {
        *external = serde_json::json!({ "network": external.take() });
    }
    if let Some(network) = external.get_mut("network") {
        reference(network, project);
    }
}

/// Makes a name or an id a reference, within the project unless it says another.
fn reference(value: &mut Value, project: Option<&Value>) {
    if let Value::String(name) = value {
        *value = if crate::kind::is_uuid(name) {
            serde_json::json!({ "id": name })
        } else {
            serde_json::json!({ "name": name, "project": project })
        };
    } else if let Value::Object(reference) = value
        && reference.contains_key("name")
        && !reference.contains_key("project")
        && let Some(project) = project
    {
        reference.insert("project".to_owned(), project.clone());
    }
}

/// snake_case to camelCase, for field names only: free maps below `labels` and `options` are left alone.
fn camel_case_keys(object: Map<String, Value>, depth: usize) -> Map<String, Value> {
    let convert = |(key, value): (String, Value)| {
        let free = matches!(key.as_str(), "labels" | "options");
        let value = if free || depth == 0 { value } else { camel_case_value(value, depth - 1) };
        (camel_case(&key), value)
    };
    object.into_iter().map(convert).collect()
}

fn camel_case_value(value: Value, depth: usize) -> Value {
    match value {
        Value::Object(object) => Value::Object(camel_case_keys(object, depth)),
        Value::Array(items) => items.into_iter().map(|item| camel_case_value(item, depth)).collect(),
        other => other,
    }
}

fn camel_case(key: &str) -> String {
    let mut words = key.split('_');
    let mut name = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        name.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        name.push_str(letters.as_str());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_in_order_of_creation() {
        let text = "
kind: Port
metadata: { name: web-1 }
spec: { network: blue, addresses: [10.0.1.5], port_security_disabled: true }
---
kind: network
metadata: { name: blue, project: red, labels: { a_b: c } }
spec: { subnets: [{ cidr: 10.0.1.0/24, dhcp: { lease_time: 60, options: { tftp_server: x } } }] }
";
        let documents = parse(text, "default").unwrap();
        let objects: Vec<String> = documents.iter().map(|document| document.object().to_string()).collect();
        assert_eq!(
            objects,
            [
                r#"{"meta":{"labels":{"a_b":"c"},"name":"blue","project":"red"},"spec":{"subnets":[{"cidr":"10.0.1.0/24","dhcp":{"leaseTime":60,"options":{"tftp_server":"x"}}}]}}"#,
                r#"{"meta":{"name":"web-1","project":"default"},"spec":{"addresses":[{"ip":"10.0.1.5"}],"network":{"name":"blue","project":"default"},"portSecurityDisabled":true}}"#,
            ]
        );
    }

    #[test]
    fn a_name_stands_for_a_reference() {
        let text = "
kind: Router
metadata: { name: edge, project: red }
spec: { networks: [web, { name: db }], external: { network: { name: outside, project: infra }, snat_disabled: true } }
---
kind: FloatingIp
metadata: { name: www, project: red }
spec: { network: { name: outside, project: infra }, port: web-1 }
";
        let objects: Vec<String> =
            parse(text, "default").unwrap().iter().map(|document| document.object().to_string()).collect();
        assert_eq!(
            objects,
            [
                r#"{"meta":{"name":"edge","project":"red"},"spec":{"external":{"network":{"name":"outside","project":"infra"},"snatDisabled":true},"networks":[{"name":"web","project":"red"},{"name":"db","project":"red"}]}}"#,
                r#"{"meta":{"name":"www","project":"red"},"spec":{"network":{"name":"outside","project":"infra"},"port":{"name":"web-1","project":"red"}}}"#,
            ]
        );
    }

    #[test]
    fn rules_may_be_written_short() {
        let text = "
kind: policy
metadata: { name: p }
spec:
  rules:
    - role=web_1 -> role=db : 5432
    - 'a -> b : tcp/80, udp/53'
    - a -> b
    - { match: c -> d, action: DROP }
---
kind: sg
metadata: { name: g }
spec: { rules: [{ ports: [22, 8000-8999], remote_prefix: 10.0.0.0/8 }] }
---
kind: port
metadata: { name: x }
spec: { vm: web-1, security_groups: [b, a] }
";
        let documents = parse(text, "default").unwrap();
        let specs: Vec<String> =
            documents.iter().map(|document| document.object()["spec"].to_string()).collect();
        assert_eq!(
            specs,
            [
                r#"{"rules":[{"match":"role=web_1 -> role=db : 5432"},{"match":"a -> b : tcp/80, udp/53"},{"match":"a -> b"},{"action":"DROP","match":"c -> d"}]}"#,
                r#"{"rules":[{"ports":["22","8000-8999"],"remotePrefix":"10.0.0.0/8"}]}"#,
                r#"{"securityGroups":["a","b"],"vm":{"name":"web-1"}}"#,
            ]
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |text: &str| format!("{:#}", parse(text, "default").unwrap_err());
        assert!(
            error("kind: Cow\nmetadata: {name: x}").contains("unknown kind \"Cow\"; known are Project, ")
        );
        assert!(error("kind: Port\nmetadata: {}").contains("metadata.name is missing"));
        assert!(error("kind: Node\nmetadata: {name: x}").contains("a Node cannot be applied"));
        assert!(error("kind: Port\nmetadata: {name: x}\nspecs: {}").contains("unknown field `specs`"));
    }
}
