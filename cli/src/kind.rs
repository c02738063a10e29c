//! The kinds of objects that qnctl knows, as data: names, services, columns. Adding one is adding a row.

use serde_json::{Value, json};

/// One kind of object of the API.
#[derive(Debug)]
pub(crate) struct Kind {
    /// As in a document's `kind`.
    pub(crate) name: &'static str,
    /// What people type.
    pub(crate) aliases: &'static [&'static str],
    /// Service of `quantumnet.v1`.
    pub(crate) service: &'static str,
    /// Stem of the methods `Create…`, `Get…`, `Update…`, `Delete…`, and in the plural `List…`.
    pub(crate) stem: &'static str,
    /// Field of the requests that holds the object or its reference.
    pub(crate) field: &'static str,
    /// Field of the list answer.
    pub(crate) list_field: &'static str,
    /// Header and place of each column of a table.
    pub(crate) columns: &'static [(&'static str, &'static str)],
    /// Can be created, changed and deleted by document.
    pub(crate) writable: bool,
    /// Objects of this kind belong to a project.
    pub(crate) in_project: bool,
    /// Order of creation; deletion goes the other way.
    pub(crate) rank: u8,
}

/// All of them.
pub(crate) const KINDS: &[Kind] = &[
    Kind {
        name: "Project",
        aliases: &["project", "projects"],
        service: "ProjectService",
        stem: "Project",
        field: "project",
        list_field: "projects",
        columns: &[("NAME", "/meta/name"), ("LABELS", "/meta/labels"), ("ID", "/meta/id")],
        writable: true,
        in_project: false,
        rank: 0,
    },
    Kind {
        name: "VirtualNetwork",
        aliases: &["virtualnetwork", "virtualnetworks", "network", "networks", "net"],
        service: "VirtualNetworkService",
        stem: "VirtualNetwork",
        field: "network",
        list_field: "networks",
        columns: &[
            ("NAME", "/meta/name"),
            ("SUBNETS", "/spec/subnets/*/cidr"),
            ("VNI", "/status/tunnelKey"),
            ("PORTS", "/status/portCount"),
            ("MTU", "/status/mtu"),
            ("ID", "/meta/id"),
        ],
        writable: true,
        in_project: true,
        rank: 2,
    },
    Kind {
        name: "SecurityGroup",
        aliases: &["securitygroup", "securitygroups", "sg", "sgs"],
        service: "SecurityGroupService",
        stem: "SecurityGroup",
        field: "group",
        list_field: "groups",
        columns: &[
            ("NAME", "/meta/name"),
            ("PORTS", "/status/portCount"),
            ("INGRESS", "/spec/defaultIngress"),
            ("EGRESS", "/spec/defaultEgress"),
            ("GROUP", "/status/portGroup"),
            ("ID", "/meta/id"),
        ],
        writable: true,
        in_project: true,
        rank: 1,
    },
    Kind {
        name: "SecurityPolicy",
        aliases: &["securitypolicy", "securitypolicies", "policy", "policies"],
        service: "SecurityPolicyService",
        stem: "SecurityPolicy",
        field: "policy",
        list_field: "policies",
        columns: &[
            ("NAME", "/meta/name"),
            ("ORDER", "/spec/order"),
            ("PRIORITY", "/spec/priority"),
            ("STAGED", "/spec/staged"),
            ("RULES", "/spec/rules/*/match"),
            ("ID", "/meta/id"),
        ],
        writable: true,
        in_project: true,
        rank: 1,
    },
    Kind {
        name: "Port",
        aliases: &["port", "ports"],
        service: "PortService",
        stem: "Port",
        field: "port",
        list_field: "ports",
        columns: &[
            ("NAME", "/meta/name"),
            ("MAC", "/status/mac"),
            ("ADDRESSES", "/status/addresses"),
            ("CHASSIS", "/status/chassis"),
            ("UP", "/status/up"),
            ("ID", "/meta/id"),
        ],
        writable: true,
        in_project: true,
        rank: 3,
    },
    Kind {
        name: "Router",
        aliases: &["router", "routers"],
        service: "RouterService",
        stem: "Router",
        field: "router",
        list_field: "routers",
        columns: &[
            ("NAME", "/meta/name"),
            ("EXTERNAL", "/status/externalAddress"),
            ("GATEWAY", "/status/gateway"),
            ("ROUTES", "/spec/routes/*/prefix"),
            ("ID", "/meta/id"),
        ],
        writable: true,
        in_project: true,
        rank: 3,
    },
    Kind {
        name: "FloatingIp",
        aliases: &["floatingip", "floatingips", "fip", "fips"],
        service: "FloatingIpService",
        stem: "FloatingIp",
        field: "floating_ip",
        list_field: "floatingIps",
        columns: &[
            ("NAME", "/meta/name"),
            ("ADDRESS", "/status/address"),
            ("FIXED", "/status/fixedAddress"),
            ("ID", "/meta/id"),
        ],
        writable: true,
        in_project: true,
        rank: 4,
    },
    Kind {
        name: "Node",
        aliases: &["node", "nodes", "hypervisor", "hypervisors", "chassis"],
        service: "NodeService",
        stem: "Node",
        field: "name",
        list_field: "nodes",
        columns: &[
            ("NAME", "/name"),
            ("HOSTNAME", "/hostname"),
            ("ENCAPS", "/encaps/*/ip"),
            ("CONNECTED", "/connected"),
            ("REVISION", "/appliedRevision"),
            ("PORTS", "/portCount"),
        ],
        writable: false,
        in_project: false,
        rank: 0,
    },
];

impl Kind {
    /// The kind that `word` names, in a document or on the command line.
    pub(crate) fn find(word: &str) -> Result<&'static Self, String> {
        let lower = word.to_ascii_lowercase();
        KINDS.iter().find(|kind| kind.aliases.contains(&lower.as_str())).ok_or_else(|| {
            let known: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
            format!("unknown kind {word:?}; known are {}", known.join(", "))
        })
    }

    /// The stem as of many.
    pub(crate) fn plural(&self) -> String {
        match self.stem.strip_suffix('y') {
            Some(stem) => format!("{stem}ies"),
            None => format!("{}s", self.stem),
        }
    }

    /// The reference that Get and Delete take: a uuid is an id, anything else a name in `project`.
    pub(crate) fn reference(&self, name: &str, project: &str) -> Value {
        if self.field == "name" {
            return json!(name);
        }
        if is_uuid(name) {
            json!({ "id": name })
        } else if self.in_project {
            json!({ "name": name, "project": project })
        } else {
            json!({ "name": name })
        }
    }
}

/// 8-4-4-4-12 hexadecimal digits.
pub(crate) fn is_uuid(text: &str) -> bool {
    let lengths = [8, 4, 4, 4, 12];
    let parts: Vec<&str> = text.split('-').collect();
    parts.len() == lengths.len()
        && parts
            .iter()
            .zip(lengths)
            .all(|(part, length)| part.len() == length && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// What a column shows of an object: `/a/b` a member, `/a/*/b` a member of each element.
pub(crate) fn cell(object: &Value, place: &str) -> String {
    if let Some((list, rest)) = place.split_once("/*") {
        let items = object.pointer(list).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        return items.iter().map(|item| cell(item, rest)).collect::<Vec<_>>().join(",");
    }
    match object.pointer(place) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) if text.is_empty() => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned))
            .collect::<Vec<_>>()
            .join(","),
        Some(Value::Object(pairs)) => {
            let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            pairs.iter().map(|(key, value)| format!("{key}={}", text(value))).collect::<Vec<_>>().join(",")
        }
        Some(other) => other.to_string(),
    }
}
