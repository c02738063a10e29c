//! Objects as people and programs read them: tables, JSON, YAML, and a description of one.

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::Value;

use crate::kind::{Kind, cell};

/// How objects are printed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for people.
    #[default]
    Table,
    /// As the API gives them.
    Json,
    /// The same in YAML.
    Yaml,
}

/// Prints values as they are; a table is for those who know the columns.
pub(crate) fn print(values: &[Value], format: Format) -> Result<String> {
    match format {
        Format::Table | Format::Json => {
            Ok(serde_json::to_string_pretty(values).context("printing JSON")? + "\n")
        }
        Format::Yaml => serde_yaml_ng::to_string(values).context("printing YAML"),
    }
}

/// Prints a list of objects.
pub(crate) fn list(kind: &Kind, objects: &[Value], format: Format) -> Result<String> {
    match format {
        Format::Table => {
            let header = kind.columns.iter().map(|(name, _)| (*name).to_owned()).collect();
            let row = |object: &Value| kind.columns.iter().map(|(_, place)| cell(object, place)).collect();
            Ok(table(header, objects.iter().map(row).collect()))
        }
        Format::Json | Format::Yaml => print(objects, format),
    }
}

/// Prints an answer as the API gave it.
pub(crate) fn whole(answer: &Value, format: Format) -> Result<String> {
    match format {
        Format::Table | Format::Json => {
            Ok(serde_json::to_string_pretty(answer).context("printing JSON")? + "\n")
        }
        Format::Yaml => serde_yaml_ng::to_string(answer).context("printing YAML"),
    }
}

/// Prints one object.
pub(crate) fn one(kind: &Kind, object: &Value, format: Format) -> Result<String> {
    match format {
        Format::Table => list(kind, std::slice::from_ref(object), format),
        Format::Json => Ok(serde_json::to_string_pretty(object).context("printing JSON")? + "\n"),
        Format::Yaml => serde_yaml_ng::to_string(object).context("printing YAML"),
    }
}

/// Every member of an object on a line of its own, nested ones indented.
pub(crate) fn describe(object: &Value) -> String {
    let mut text = String::new();
    describe_into(object, 0, &mut text);
    text
}

fn describe_into(value: &Value, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::Object(inner) if !inner.is_empty() => {
                        text.push_str(&format!("{indent}{name}:\n"));
                        describe_into(member, depth + 1, text);
                    }
                    Value::Array(items) if items.iter().any(Value::is_object) => {
                        text.push_str(&format!("{indent}{name}:\n"));
                        describe_into(member, depth + 1, text);
                    }
                    plain => {
                        let label = format!("{name}:");
                        text.push_str(&format!("{indent}{label:<20} {}\n", cell(plain, "")));
                    }
                }
            }
        }
        Value::Array(items) => {
            for (place, item) in items.iter().enumerate() {
                text.push_str(&format!("{indent}[{place}]\n"));
                describe_into(item, depth + 1, text);
            }
        }
        plain => text.push_str(&format!("{indent}{}\n", cell(plain, ""))),
    }
}

/// Lays out rows under a header, columns as wide as their widest cell.
pub(crate) fn table(header: Vec<String>, rows: Vec<Vec<String>>) -> String {
    let mut widths: Vec<usize> = header.iter().map(|name| name.chars().count()).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &Vec<String>| {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width)).collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    };
    std::iter::once(&header).chain(&rows).map(line).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    fn check(text: String, expected: Expect) {
        expected.assert_eq(&text);
    }

    #[test]
    fn tables() {
        let kind = Kind::find("network").unwrap();
        let objects = [json!({ "meta": { "name": "blue", "id": "u" },
            "spec": { "subnets": [{ "cidr": "10.0.0.0/24" }, { "cidr": "fd00::/64" }] },
            "status": { "tunnelKey": 7, "portCount": "2" } })];
        check(
            list(kind, &objects, Format::Table).unwrap(),
            expect![[r#"
                NAME  SUBNETS                VNI  PORTS  MTU  ID
                blue  10.0.0.0/24,fd00::/64  7    2      -    u
            "#]],
        );
    }

    #[test]
    fn descriptions() {
        let object = json!({ "meta": { "name": "a", "labels": { "x": "1" } }, "spec": { "subnets": [{ "cidr": "c" }] } });
        check(
            describe(&object),
            expect![[r#"
                meta:
                  labels:
                    x:                   1
                  name:                a
                spec:
                  subnets:
                    [0]
                      cidr:                c
            "#]],
        );
    }
}
