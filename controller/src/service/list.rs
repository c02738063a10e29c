//! Lists: chosen by project and filter, in the order of ids, cut into pages.
//!
//! # Invariants
//! - A page token is the last id given, so that an object which stays is given exactly once over all pages,
//!   whatever comes and goes between them.

use std::ops::Bound;

use quantumnet_api::v1::ListOptions;
use quantumnet_model::{
    Row, Uuid,
    intent::{Port, Project, VirtualNetwork},
    sb::{Chassis, PortBinding},
};

use crate::{
    service::{
        authorize::Call,
        error::invalid,
        object::{Object, find, project_of},
    },
    store::{Refusal, State},
};

const PAGE_DEFAULT: usize = 500;
const PAGE_MAX: usize = 5_000;
/// Conditions of one filter, at most.
pub(super) const CONDITIONS_MAX: usize = 32;

/// One answer's worth of objects.
pub(super) struct Page<M> {
    pub(super) objects: Vec<M>,
    pub(super) next_page_token: String,
    pub(super) revision: u64,
}

/// A condition of a filter.
struct Condition {
    field: Field,
    equals: bool,
    value: String,
}

enum Field {
    Name,
    Label(String),
    Network(Uuid),
    Chassis,
}

/// Lists objects of projects.
pub(super) fn objects<T: Object>(
    state: &State,
    call: &Call,
    options: Option<ListOptions>,
) -> Result<Page<T::Message>, Refusal> {
    let options = options.unwrap_or_default();
    let project = match options.project.as_str() {
        "" => None,
        text if T::TABLE != Project::TABLE => Some(project_of(state, text, "options.project")?),
        _ => {
            return Err(invalid("options.project", "PROJECT_UNUSED", "projects do not nest; leave it empty"));
        }
    };
    let conditions = conditions::<T>(state, &options)?;
    let visible = |row: &T| row.project().is_none_or(|project| call.may(&project.to_string()).is_ok());
    let chosen = |uuid: Uuid| {
        let row = state.get::<T>(uuid)?;
        let all = visible(row) && conditions.iter().all(|condition| holds(condition, row, uuid, state));
        all.then_some((uuid, row))
    };
    let (after, size) = place(&options)?;
    let page = match project {
        // By reference, so that a small project among many costs its own objects.
        Some(project) => {
            let beyond = |uuid: &Uuid| after.is_none_or(|after| *uuid > after);
            let uuids = state.referrers_through::<Project, T>(project, "project");
            cut(uuids.filter(beyond).filter_map(chosen), size)
        }
        None => {
            let beyond = after.map_or(Bound::Unbounded, Bound::Excluded);
            let uuids = state.rows().table(T::TABLE).range((beyond, Bound::Unbounded)).map(|(uuid, _)| *uuid);
            cut(uuids.filter_map(chosen), size)
        }
    };
    Ok(Page {
        next_page_token: page.1.map(|last| last.to_string()).unwrap_or_default(),
        objects: page.0.into_iter().map(|(uuid, row)| row.message(uuid, state)).collect(),
        revision: state.revision(),
    })
}

/// Where the page begins and how long it is.
pub(super) fn place(options: &ListOptions) -> Result<(Option<Uuid>, usize), Refusal> {
    place_of(options.page_size, &options.page_token, "options.")
}

/// The same of a request that has the two fields under another path.
pub(super) fn place_of(size: u32, token: &str, path: &str) -> Result<(Option<Uuid>, usize), Refusal> {
    let size = match usize::try_from(size) {
        Ok(0) => PAGE_DEFAULT,
        Ok(size) if size <= PAGE_MAX => size,
        _ => {
            let message = format!("{size} is too large, at most {PAGE_MAX} objects fit a page");
            return Err(invalid(format!("{path}page_size"), "PAGE_SIZE_INVALID", message));
        }
    };
    let after = match token {
        "" => None,
        token => Some(token.parse().map_err(|_| {
            let message = format!("{token:?} is no token of a list; begin anew with an empty one");
            invalid(format!("{path}page_token"), "PAGE_TOKEN_INVALID", message)
        })?),
    };
    Ok((after, size))
}

/// The first `size` items, and the last of them if more follow.
pub(super) fn cut<T>(items: impl Iterator<Item = (Uuid, T)>, size: usize) -> (Vec<(Uuid, T)>, Option<Uuid>) {
    let mut items = items.peekable();
    let page: Vec<(Uuid, T)> = items.by_ref().take(size).collect();
    let last = page.last().map(|(uuid, _)| *uuid).filter(|_| items.peek().is_some());
    (page, last)
}

fn conditions<T: Object>(state: &State, options: &ListOptions) -> Result<Vec<Condition>, Refusal> {
    let wrong = |message: String| invalid("options.filter", "FILTER_INVALID", message);
    let parts: Vec<&str> = options.filter.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    if parts.len() > CONDITIONS_MAX {
        return Err(wrong(format!(
            "a filter has at most {CONDITIONS_MAX} conditions, this one {}",
            parts.len()
        )));
    }
    let is_port = T::TABLE == Port::TABLE;
    parts
        .into_iter()
        .map(|part| {
            let (name, equals, value) = match (part.split_once("!="), part.split_once('=')) {
                (Some((name, value)), _) => (name, false, value),
                (None, Some((name, value))) => (name, true, value),
                (None, None) => return Err(wrong(format!("{part:?} is no condition such as name=web-1"))),
            };
            let field = match name.trim() {
                "name" => Field::Name,
                "network" if is_port => Field::Network(network(state, options, value.trim())?),
                "chassis" if is_port => Field::Chassis,
                name => match name.strip_prefix("labels.") {
                    Some(key) if !key.is_empty() => Field::Label(key.to_owned()),
                    _ => {
                        let more = if is_port { ", network, chassis" } else { "" };
                        return Err(wrong(format!(
                            "unknown field {name:?}; known are name, labels.<key>{more}"
                        )));
                    }
                },
            };
            Ok(Condition { field, equals, value: value.trim().to_owned() })
        })
        .collect()
}

/// A network by id or by name.
fn network(state: &State, options: &ListOptions, text: &str) -> Result<Uuid, Refusal> {
    let (id, name) = if text.parse::<Uuid>().is_ok() { (text, "") } else { ("", text) };
    let reference = quantumnet_api::v1::ObjectRef {
        id: id.to_owned(),
        name: name.to_owned(),
        project: options.project.clone(),
    };
    find::<VirtualNetwork>(state, Some(&reference), "options.filter")
}

fn holds<T: Object>(condition: &Condition, row: &T, uuid: Uuid, state: &State) -> bool {
    let equal = match &condition.field {
        Field::Name => **row.name() == *condition.value,
        Field::Label(key) => row.labels().get(key.as_str()).is_some_and(|value| **value == *condition.value),
        Field::Network(network) => {
            state.get::<Port>(uuid).is_some_and(|port| port.network.uuid() == *network)
        }
        Field::Chassis => state
            .get::<PortBinding>(uuid)
            .and_then(|binding| state.get::<Chassis>(binding.chassis?.uuid()))
            .is_some_and(|chassis| {
                *chassis.name == *condition.value || *chassis.hostname == *condition.value
            }),
    };
    equal == condition.equals
}
