//! What the controller acts on, by table, column and option: `qnctl features`, and what an import is told.

use anyhow::Result;
use clap::ValueEnum;
use quantumnet_cli::client::Client;
use serde_json::{Map, Value, json};

use crate::{
    kind::cell,
    show::{Format, print, table},
};

/// How far a feature is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum State {
    /// Acted on as OVN does.
    Works,
    /// Some of it.
    Partly,
    /// Kept and reported.
    NotYet,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Works => "WORKS",
            Self::Partly => "PARTLY",
            Self::NotYet => "NOT_YET",
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Works => "works",
            Self::Partly => "partly",
            Self::NotYet => "not yet",
        }
    }

    fn of(feature: &Value) -> Option<Self> {
        Self::value_variants().iter().copied().find(|state| feature["state"] == state.name())
    }
}

/// The controller's list.
#[derive(Debug)]
pub(crate) struct Features(Vec<Value>);

impl Features {
    /// Asks for it.
    pub(crate) async fn fetch(client: &Client) -> Result<Self> {
        let answer = client.call("ClusterService", "ListFeatures", &json!({})).await?;
        Ok(Self(answer["features"].as_array().cloned().unwrap_or_default()))
    }

    /// The list as text, all of it or one state.
    pub(crate) fn show(&self, state: Option<State>, format: Format) -> Result<String> {
        let chosen: Vec<Value> = self
            .0
            .iter()
            .filter(|feature| state.is_none_or(|state| State::of(feature) == Some(state)))
            .cloned()
            .collect();
        if format != Format::Table {
            return print(&chosen, format);
        }
        let row = |feature: &Value| {
            let state = State::of(feature).map_or("-", State::word).to_owned();
            let part = |name: &str| cell(feature, &format!("/{name}"));
            vec![
                part("database"),
                part("table"),
                part("column"),
                part("key"),
                state,
                part("area"),
                part("note"),
            ]
        };
        let header =
            ["DATABASE", "TABLE", "COLUMN", "KEY", "STATE", "AREA", "NOTE"].map(str::to_owned).to_vec();
        Ok(table(header, chosen.iter().map(row).collect()))
    }

    /// What a northbound row (columns in OVSDB's JSON) sets without its being acted on as OVN does.
    pub(crate) fn not_acted_on(&self, table: &str, columns: &Map<String, Value>) -> Vec<String> {
        let mut lines: Vec<String> = self.line(table, "", "").into_iter().collect();
        for (column, value) in columns.iter().filter(|(_, value)| !is_unset(value)) {
            lines.extend(self.line(table, column, ""));
            if value[0] == "map" {
                let pairs = value[1].as_array().into_iter().flatten();
                let keys = pairs.filter_map(|pair| pair[0].as_str());
                lines.extend(keys.filter_map(|key| self.line(table, column, key)));
            }
        }
        lines
    }

    fn line(&self, table: &str, column: &str, option: &str) -> Option<String> {
        let text = |feature: &Value, name: &str| feature[name].as_str().unwrap_or_default().to_owned();
        let feature = self.0.iter().find(|feature| {
            let place = [text(feature, "table"), text(feature, "column"), text(feature, "key")];
            feature["database"] == "OVN_Northbound" && place == [table, column, option]
        })?;
        let state = State::of(feature).filter(|state| *state != State::Works)?;
        let place = match (column, option) {
            ("", _) => "the table".to_owned(),
            (column, "") => column.to_owned(),
            (column, option) => format!("{column}:{option}"),
        };
        let note = text(feature, "note");
        let note = if note.is_empty() { note } else { format!(" ({note})") };
        let acted = if state == State::Partly { "acted on in part" } else { "kept, not acted on yet" };
        Some(format!("{place} is {acted}{note}"))
    }
}

/// An empty set or map, or what a scalar is when nobody set it.
pub(crate) fn is_unset(value: &Value) -> bool {
    match value {
        Value::Array(parts) => parts.get(1).and_then(Value::as_array).is_some_and(Vec::is_empty),
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Bool(set) => !set,
        Value::Null | Value::Object(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_row_sets_is_said() {
        let feature = |column: &str, option: &str, state: State| {
            json!({ "database": "OVN_Northbound", "table": "T", "column": column, "key": option,
                "state": state.name(), "note": "later" })
        };
        let features = Features(vec![
            feature("a", "", State::NotYet),
            feature("b", "", State::NotYet),
            feature("c", "", State::Works),
            feature("c", "x", State::Partly),
            feature("c", "y", State::NotYet),
        ]);
        let row = json!({ "a": "set", "b": ["set", []], "c": ["map", [["x", "1"], ["z", "2"]]] });
        assert_eq!(
            features.not_acted_on("T", row.as_object().unwrap()),
            ["a is kept, not acted on yet (later)", "c:x is acted on in part (later)"]
        );
        assert!(features.not_acted_on("U", row.as_object().unwrap()).is_empty());
    }
}
