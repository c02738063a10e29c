//! `qnctl apply` and `qnctl delete -f`: makes the objects be as the documents say, showing the difference.
//!
//! # Contract
//! - A field that a document does not mention is left as it is.
//! - Nothing is sent before the difference to it was shown; `--dry-run` sends nothing that changes.
//! - Of two people applying at once the later is refused: updates name the revision they were made for.

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use quantumnet_cli::client::{CallError, Client};

use crate::document::Document;

/// What an apply did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Outcome {
    /// Objects made.
    pub(crate) created: usize,
    /// Objects changed.
    pub(crate) updated: usize,
    /// Objects that were right already.
    pub(crate) unchanged: usize,
    /// Largest revision answered; 0 when nothing changed.
    pub(crate) revision: u64,
}

/// One line of the difference.
#[derive(Debug, PartialEq)]
struct Difference {
    path: String,
    old: Option<Value>,
    new: Value,
}

/// Applies the documents in order.
pub(crate) async fn apply(client: &Client, documents: &[Document], dry_run: bool) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for document in documents {
        let title = format!("{} {}", document.kind.name, document.name());
        apply_one(client, document, dry_run, &title, &mut outcome).await.with_context(|| title.clone())?;
    }
    Ok(outcome)
}

async fn apply_one(
    client: &Client,
    document: &Document,
    dry_run: bool,
    title: &str,
    outcome: &mut Outcome,
) -> Result<()> {
    let kind = document.kind;
    let wanted = document.object();
    let Some(live) = find(client, document).await? else {
        println!("+ {title}");
        for line in differences(&Value::Null, &wanted) {
            println!("    {}: {}", line.path, line.new);
        }
        if !dry_run {
            let made = client
                .call(kind.service, &format!("Create{}", kind.stem), &json!({ kind.field: wanted }))
                .await?;
            outcome.revision = outcome.revision.max(revision(&made));
        }
        outcome.created += 1;
        return Ok(());
    };
    let lines = differences(&live, &wanted);
    if lines.is_empty() {
        println!("= {title}");
        outcome.unchanged += 1;
        return Ok(());
    }
    println!("~ {title}");
    for line in &lines {
        println!("    {}: {} -> {}", line.path, line.old.as_ref().unwrap_or(&Value::Null), line.new);
    }
    if !dry_run {
        let mut object = wanted;
        object["meta"]["id"] = live["meta"]["id"].clone();
        let body = json!({
            kind.field: object,
            "updateMask": lines.iter().map(|line| line.path.as_str()).collect::<Vec<_>>().join(","),
            "expectedRevision": live["meta"]["revision"],
        });
        let changed = client.call(kind.service, &format!("Update{}", kind.stem), &body).await?;
        outcome.revision = outcome.revision.max(revision(&changed));
    }
    outcome.updated += 1;
    Ok(())
}

/// Deletes what the documents name, last made first. What is gone already is said and passed over.
pub(crate) async fn delete(client: &Client, documents: &[Document], dry_run: bool) -> Result<()> {
    for document in documents.iter().rev() {
        let kind = document.kind;
        let title = format!("{} {}", kind.name, document.name());
        let Some(live) = find(client, document).await.with_context(|| title.clone())? else {
            println!("= {title} is not there");
            continue;
        };
        println!("- {title}");
        if !dry_run {
            let body = json!({ kind.field: { "id": live["meta"]["id"] } });
            client
                .call(kind.service, &format!("Delete{}", kind.stem), &body)
                .await
                .with_context(|| title.clone())?;
        }
    }
    Ok(())
}

async fn find(client: &Client, document: &Document) -> Result<Option<Value>> {
    let kind = document.kind;
    let project = document.meta.get("project").and_then(Value::as_str).unwrap_or_default();
    let name = document.meta.get("id").and_then(Value::as_str).unwrap_or_else(|| document.name());
    let body = json!({ kind.field: kind.reference(name, project) });
    match client.call(kind.service, &format!("Get{}", kind.stem), &body).await {
        Ok(object) => Ok(Some(object)),
        Err(CallError::Refused(refusal)) if refusal.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Revision of an object, which JSON carries as a string (protobuf's form of 64-bit integers).
pub(crate) fn revision(object: &Value) -> u64 {
    let value = &object["meta"]["revision"];
    value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok())).unwrap_or(0)
}

/// What differs between a live object and a wanted one, by update-mask path. `meta.project` and
/// `meta.id` say which object is meant and are no difference, and neither is the network of a port:
/// an answer gives it by id.
fn differences(live: &Value, wanted: &Value) -> Vec<Difference> {
    let mut lines = Vec::new();
    for part in ["meta", "spec"] {
        let empty = Map::new();
        let fields = wanted.get(part).and_then(Value::as_object).unwrap_or(&empty);
        for (field, new) in fields {
            let path = format!("{part}.{field}");
            let identity = matches!(path.as_str(), "meta.project" | "meta.id" | "spec.network");
            if identity && !live.is_null() {
                continue;
            }
            let old = live.get(part).and_then(|part| part.get(field));
            let replaced_whole = matches!(field.as_str(), "labels" | "vm");
            if !covers(old, new) || replaced_whole && !old.is_none_or(|old| no_more(old, new)) {
                lines.push(Difference { path, old: old.cloned(), new: new.clone() });
            }
        }
    }
    lines
}

/// Whether `live` already says what `wanted` says. An absent member is one of its default, as
/// protobuf's JSON omits those; a list must agree element by element.
fn covers(live: Option<&Value>, wanted: &Value) -> bool {
    match (live, wanted) {
        (Some(Value::Array(live)), Value::Array(wanted)) => {
            live.len() == wanted.len()
                && live
                    .iter()
                    .zip(wanted)
                    .all(|(live, wanted)| covers(Some(live), wanted) && no_more(live, wanted))
        }
        (Some(Value::Object(live)), Value::Object(wanted)) => {
            wanted.iter().all(|(key, value)| covers(live.get(key), value))
        }
        (None, wanted) => is_default(wanted),
        (Some(Value::String(live)), Value::Number(wanted)) => *live == wanted.to_string(),
        (Some(Value::Number(live)), Value::Number(wanted)) => live.as_f64() == wanted.as_f64(),
        (Some(live), wanted) => live == wanted,
    }
}

/// Labels, a VM and elements of a list are replaced whole, so members beyond the wanted ones do count, at any depth.
fn no_more(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            // An answer gives references by id and by name; a document by either.
            let no_more = |(key, live): (&String, &Value)| match wanted.get(key) {
                Some(wanted) => no_more(live, wanted),
                None => key == "id" || is_default(live),
            };
            live.iter().all(no_more)
        }
        _ => true,
    }
}

fn is_default(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(value) => value.as_f64() == Some(0.0),
        Value::String(value) => value.is_empty(),
        Value::Array(value) => value.is_empty(),
        Value::Object(value) => value.values().all(is_default),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(live: Value, wanted: Value) -> Vec<String> {
        differences(&live, &wanted).into_iter().map(|line| line.path).collect()
    }

    #[test]
    fn only_what_the_document_says_counts() {
        let live = json!({ "meta": { "name": "a", "labels": { "x": "1" }, "revision": "7" },
            "spec": { "mtu": 1400, "subnets": [{ "cidr": "10.0.0.0/24", "gateway": "10.0.0.1" }] } });
        assert!(paths(live.clone(), json!({ "meta": { "name": "a" }, "spec": { "mtu": 1400 } })).is_empty());
        assert_eq!(paths(live.clone(), json!({ "spec": { "mtu": 1300 } })), ["spec.mtu"]);
        // The list is replaced whole, so a gateway that is left out is one taken away.
        assert_eq!(
            paths(live.clone(), json!({ "spec": { "subnets": [{ "cidr": "10.0.0.0/24" }] } })),
            ["spec.subnets"]
        );
        assert!(paths(live, json!({ "spec": { "subnets": [{ "cidr": "10.0.0.0/24", "gateway": "10.0.0.1", "dhcp": {} }] } })).is_empty());
    }

    #[test]
    fn labels_are_replaced_whole() {
        let live = json!({ "meta": { "labels": { "x": "1", "y": "2" } } });
        assert_eq!(paths(live.clone(), json!({ "meta": { "labels": { "x": "1" } } })), ["meta.labels"]);
        assert!(paths(live, json!({ "meta": { "labels": { "x": "1", "y": "2" } } })).is_empty());
        let live = json!({ "spec": { "vm": { "name": "a", "labels": { "x": "1" } } } });
        assert_eq!(
            paths(live.clone(), json!({ "spec": { "vm": { "name": "a", "labels": {} } } })),
            ["spec.vm"]
        );
        assert_eq!(paths(live.clone(), json!({ "spec": { "vm": { "name": "a" } } })), ["spec.vm"]);
        assert!(paths(live.clone(), live).is_empty());
    }
}
