//! What `ofproto/trace` prints, read (ovs-vswitchd(8)).
//!
//! # Contract
//! - In: the text; out: its passes, each with the tables that were looked up and what was done there.
//! - The text is made for people and changes between versions: a line that is not known is an action of its step, or nothing.
//!
//! # Invariants
//! - Nothing here fails or panics, and what is kept is a part of the text.

/// One entry of the packet into the datapath.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Pass {
    /// The number by which an earlier pass led to this one (`recirc(0x1)`); none for the first.
    pub recirculation: Option<u32>,
    /// The packet at its beginning.
    pub flow: String,
    /// What its addresses were before the switch took a new translation to be applied.
    pub untranslated: Option<String>,
    /// Lookups, in order.
    pub steps: Vec<Step>,
    /// The packet at its end.
    pub final_flow: String,
    /// What the datapath does.
    pub actions: String,
    /// Why the switch gave up, if it did.
    pub failure: Option<String>,
}

/// A lookup in a table.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Step {
    /// The bridge; the first of the trace unless the packet crossed to another.
    pub bridge: String,
    /// The table's number.
    pub table: u8,
    /// The flow that matched.
    pub matched: Option<Matched>,
    /// What was done, with what the switch remarks about it (`-> ...`).
    pub actions: Vec<String>,
}

/// A flow that matched.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Matched {
    /// As printed; empty matches everything.
    pub matches: String,
    /// Its priority.
    pub priority: u16,
    /// Its cookie.
    pub cookie: u64,
}

impl Pass {
    /// What the datapath does with connections, in order: each `ct(…)`, and the pass that it leads to, if it leads to one.
    pub fn conntrack(&self) -> Vec<(&str, Option<u32>)> {
        let mut found = Vec::new();
        let mut at = 0;
        while let Some(start) =
            self.actions.get(at..).and_then(|rest| rest.find("ct(")).map(|found| at + found)
        {
            let whole = &self.actions[start..];
            at = start + 3;
            // Not the end of another word.
            let before = start.checked_sub(1).and_then(|before| self.actions.as_bytes().get(before));
            if before.is_some_and(|before| before.is_ascii_alphanumeric() || *before == b'_') {
                continue;
            }
            let action = whole.get(..closing(whole)).unwrap_or(whole);
            let digits = whole.get(action.len()..).and_then(|rest| rest.strip_prefix(",recirc(0x"));
            let digits = digits.and_then(|rest| rest.split(')').next());
            found.push((action, digits.and_then(|digits| u32::from_str_radix(digits, 16).ok())));
        }
        found
    }

    /// Whether the datapath is entered again for another reason than a connection.
    pub fn is_resumed_otherwise(&self) -> bool {
        let after_lookups = self.conntrack().iter().filter(|(_, later)| later.is_some()).count();
        self.actions.matches("recirc(0x").count() > after_lookups
    }
}

/// Length of what ends with the parenthesis that closes the first one.
fn closing(text: &str) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    text.len()
}

/// Reads a trace.
pub fn passes(text: &str) -> Vec<Pass> {
    let mut reader = Reader::default();
    text.lines().for_each(|line| reader.line(line));
    reader.passes
}

#[derive(Default)]
struct Reader {
    passes: Vec<Pass>,
    /// Of the next pass, from its headline.
    recirculation: Option<u32>,
    untranslated: Option<String>,
    /// Steps that a line may belong to: indentation and place.
    open: Vec<(usize, usize)>,
    /// Bridges that the packet is in: the indentation of their steps, once known, and their names.
    bridges: Vec<(Option<usize>, String)>,
}

impl Reader {
    fn line(&mut self, line: &str) {
        let text = line.trim();
        if text.is_empty() || text.bytes().all(|byte| byte == b'-' || byte == b'=') {
            return;
        }
        if let Some(rest) = text.strip_prefix("recirc(0x") {
            let digits = rest.split(')').next().unwrap_or_default();
            self.recirculation = u32::from_str_radix(digits, 16).ok();
            self.untranslated = None;
        } else if let Some(flow) = text.strip_prefix("Initial flow: ") {
            self.untranslated = Some(flow.to_owned());
        } else if let Some(flow) = text.strip_prefix("Flow: ") {
            self.passes.push(Pass {
                recirculation: self.recirculation.take(),
                untranslated: self.untranslated.take(),
                flow: flow.to_owned(),
                ..Pass::default()
            });
            self.open.clear();
            self.bridges.clear();
        } else if let Some(pass) = self.passes.last_mut() {
            // Numbers of tables are aligned to the right, remarks moved by one.
            let indentation = (line.len() - line.trim_start().len()) / 4 * 4;
            if let Some(flow) = text.strip_prefix("Final flow: ") {
                pass.final_flow = if flow == "unchanged" { pass.flow.clone() } else { flow.to_owned() };
            } else if let Some(actions) = text.strip_prefix("Datapath actions: ") {
                pass.actions = actions.to_owned();
            } else if text.starts_with("Translation failed") {
                pass.failure = Some(text.to_owned());
            } else if text.starts_with("Megaflow: ") {
            } else if let Some(name) = bridge(text) {
                self.bridges.push((None, name.to_owned()));
            } else if let Some((table, rest)) = lookup(text) {
                if let Some((place @ None, _)) = self.bridges.last_mut() {
                    *place = Some(indentation);
                }
                self.bridges.retain(|(place, _)| place.is_none_or(|place| place <= indentation));
                self.open.retain(|(place, _)| *place < indentation);
                self.open.push((indentation, pass.steps.len()));
                pass.steps.push(Step {
                    bridge: self.bridges.last().map(|(_, name)| name.clone()).unwrap_or_default(),
                    table,
                    matched: matched(rest),
                    actions: Vec::new(),
                });
            } else {
                self.bridges.retain(|(place, _)| place.is_none_or(|place| place <= indentation));
                self.open.retain(|(place, _)| *place < indentation);
                if let Some(step) = self.open.last().and_then(|(_, at)| pass.steps.get_mut(*at)) {
                    step.actions.push(text.to_owned());
                }
            }
        }
    }
}

fn bridge(text: &str) -> Option<&str> {
    text.strip_prefix("bridge(\"")?.strip_suffix("\")")
}

/// `41. what matched`.
fn lookup(text: &str) -> Option<(u8, &str)> {
    let (number, rest) = text.split_once('.')?;
    Some((number.parse().ok()?, rest.trim_start()))
}

/// `match, priority 100, cookie 0x1`; nothing if nothing matched.
fn matched(text: &str) -> Option<Matched> {
    let (head, cookie) = match text.rsplit_once("cookie 0x") {
        Some((head, digits)) => (head.trim_end_matches([' ', ',']), u64::from_str_radix(digits, 16).ok()?),
        None => (text, 0),
    };
    let (matches, priority) = head.rsplit_once("priority ")?;
    let matches = matches.trim_end_matches([' ', ',']).to_owned();
    Some(Matched { matches, priority: priority.parse().ok()?, cookie })
}
