//! `ovn-nbctl` of an installed OVN against us and against a real ovsdb-server with ovn-northd: the same script, line
//! by line, must exit and print the same.
//!
//! What is masked: uuids and the times of log lines always, and of what `list NB_Global` prints the columns of
//! [`MASKED`]. Rows have no order on the wire, so records, or lines where there are no records, are sorted first.

use crate::system::{self, Mode, System};

/// Columns of `NB_Global` that may differ, and why.
const MASKED: [(&str, &str); 4] = [
    ("nb_cfg_timestamp", "a time"),
    ("sb_cfg_timestamp", "a time"),
    ("hv_cfg_timestamp", "a time"),
    ("options", "ovn-northd keeps its own version and random prefixes there"),
];

#[test]
fn one_command_after_the_other_prints_and_returns_what_ovn_does() {
    replay(Mode::OneShot);
}

#[test]
fn a_daemon_prints_and_returns_what_ovn_does() {
    replay(Mode::Daemon);
}

fn replay(mode: Mode) {
    let (mut real, mut ours) = (System::real(mode), System::quantumnet(mode));
    let mut differences = Vec::new();
    let script = include_str!("nbctl.txt").lines().enumerate();
    let commands = script.filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    let mut run = 0;
    for (number, line) in commands {
        run += 1;
        let (name, command) = variable(line);
        // A daemon goes on waiting when its client gives up, here and at OVN.
        if mode == Mode::Daemon && command.starts_with("--timeout") {
            continue;
        }
        let (expected, got) = (real.run(command), ours.run(command));
        if let Some(name) = name {
            real.remember(name, &expected.stdout);
            ours.remember(name, &got.stdout);
        }
        let global = command.contains("NB_Global");
        let (expected, got) = (normal(&expected, global), normal(&got, global));
        if expected != got {
            differences
                .push(format!("line {}: {line}\n--- OVN\n{expected}--- QuantumNet\n{got}", number + 1));
        }
    }
    assert!(run > 300, "the script is there");
    assert!(
        differences.is_empty(),
        "{} of {run} lines differ:\n\n{}",
        differences.len(),
        differences.join("\n")
    );
}

/// `name = command`, or just a command.
pub(crate) fn variable(line: &str) -> (Option<&str>, &str) {
    match line.split_once(" = ") {
        Some((name, command)) if name.chars().all(|c| c.is_ascii_alphanumeric()) => (Some(name), command),
        _ => (None, line),
    }
}

/// What a command printed and returned, without what may differ.
fn normal(ended: &system::Ended, global: bool) -> String {
    let text = |text: &str| -> String {
        let masked: Vec<String> = text.lines().map(|line| mask(line, global)).collect();
        let mut records: Vec<&[String]> = if masked.iter().any(String::is_empty) {
            masked.split(String::is_empty).collect()
        } else {
            masked.chunks(1).collect()
        };
        records.sort();
        records.concat().join("\n")
    };
    format!("status {}\n{}\n{}\n", ended.status, text(&ended.stdout), text(&ended.stderr))
}

fn mask(line: &str, global: bool) -> String {
    if let Some((column, _)) = line.split_once(':')
        && global
        && MASKED.iter().any(|(masked, _)| *masked == column.trim_end())
    {
        return format!("{column}: masked");
    }
    mask_line(line)
}

/// A line without its time, its number in the log, and uuids.
pub(crate) fn mask_line(line: &str) -> String {
    // 2026-01-01T00:00:00Z|00001|module|WARN|text
    let line = match line.splitn(3, '|').collect::<Vec<_>>()[..] {
        [time, number, text] if time.ends_with('Z') && number.parse::<u32>().is_ok() => text,
        _ => line,
    };
    // Of two rows with the same index, ovsdb-server names either one first.
    let line = line.split_once("First row, with UUID").map_or(line, |(before, _)| before);
    let mut out = String::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        match rest.get(..UUID_LENGTH) {
            Some(word) if uuid::Uuid::try_parse(word).is_ok() => {
                out.push_str("<uuid>");
                rest = &rest[UUID_LENGTH..];
            }
            _ => {
                out.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    out
}

const UUID_LENGTH: usize = 36;
