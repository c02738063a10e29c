//! Names, labels and descriptions as clients may write them.

use imbl::OrdMap;
use quantumnet_api::v1::ObjectMeta;
use quantumnet_model::{Uuid, column::Text, intent::Project};

use crate::{
    service::{
        error::invalid,
        object::{Object, named},
    },
    store::{Class, Refusal, Txn},
};

/// Characters of a name, at most.
const NAME_MAX: usize = 63;
/// Characters of a label's value, at most.
const VALUE_MAX: usize = 255;
/// Labels of one object, at most.
const LABELS_MAX: usize = 64;
/// Octets of a description, at most.
const DESCRIPTION_MAX: usize = 4_096;

/// What a client says of an object, checked as far as it can be without the state.
#[derive(Clone, Debug, Default)]
pub(super) struct Meta {
    pub(super) id: Option<Uuid>,
    pub(super) name: Text,
    pub(super) project: String,
    pub(super) description: Text,
    pub(super) labels: OrdMap<Text, Text>,
}

impl Meta {
    /// Checks the meta of an object to be made.
    pub(super) fn parse(meta: Option<ObjectMeta>) -> Result<Self, Refusal> {
        let meta = meta.unwrap_or_default();
        let id = match meta.id.as_str() {
            "" => None,
            text => match text.parse::<Uuid>() {
                Ok(id) if !id.is_nil() => Some(id),
                _ => return Err(invalid("meta.id", "ID_INVALID", format!("{text:?} is no UUID"))),
            },
        };
        name(&meta.name, "meta.name")?;
        description(&meta.description, "meta.description")?;
        Ok(Self {
            id,
            name: meta.name.as_str().into(),
            project: meta.project,
            description: meta.description.as_str().into(),
            labels: labels(&meta.labels, "meta.labels")?,
        })
    }

    /// Fills the stamp of a new row.
    pub(super) fn stamp<T: Object>(&self, txn: &Txn<'_>, row: &mut T) {
        let (now_ms, revision) = (txn.now_ms(), i64::try_from(txn.next_revision()).unwrap_or(i64::MAX));
        let stamp = row.stamp();
        *stamp.name = self.name.clone();
        *stamp.description = self.description.clone();
        *stamp.labels = self.labels.clone();
        *stamp.created_at = now_ms;
        *stamp.updated_at = now_ms;
        *stamp.revision = revision;
    }

    /// The id to use; refused when an object has it already.
    pub(super) fn free_id<T: Object>(&self, txn: &Txn<'_>) -> Result<Uuid, Refusal> {
        let id = self.id.unwrap_or_else(Uuid::new_v4);
        if txn.get::<T>(id).is_none() {
            return Ok(id);
        }
        let holder = named::<T>(txn.state(), id);
        let message = format!("id {id} is that of {holder} already; choose another or leave it empty");
        Err(Refusal::service(Class::AlreadyExists, "ID_IN_USE", message).at("meta.id").blocked_by([holder]))
    }
}

/// Refuses a name that another object of the kind has in the project.
pub(super) fn free_name<T: Object>(
    txn: &Txn<'_>,
    project: Option<Uuid>,
    name: &str,
    own: Uuid,
) -> Result<(), Refusal> {
    let holder = match project {
        None => txn.find::<T>(&[("name", name.into())]),
        Some(project) => txn.find::<T>(&[("project", project.into()), ("name", name.into())]),
    };
    let Some(holder) = holder.filter(|holder| *holder != own) else { return Ok(()) };
    let holder = named::<T>(txn.state(), holder);
    let place = project
        .and_then(|project| txn.get::<Project>(project))
        .map_or_else(String::new, |project| format!(" of project {}", project.name));
    let message = format!("the name {name:?} is that of {holder}{place}; choose another");
    Err(Refusal::service(Class::AlreadyExists, "NAME_IN_USE", message).at("meta.name").blocked_by([holder]))
}

/// Changes the columns of `meta.…` that the mask names.
pub(super) fn apply<T: Object>(
    txn: &Txn<'_>,
    uuid: Uuid,
    row: &mut T,
    meta: &ObjectMeta,
    covers: &dyn Fn(&str) -> bool,
) -> Result<(), Refusal> {
    if covers("meta.name") {
        name(&meta.name, "meta.name")?;
        free_name::<T>(txn, row.project(), &meta.name, uuid)?;
        *row.stamp().name = meta.name.as_str().into();
    }
    if covers("meta.description") {
        description(&meta.description, "meta.description")?;
        *row.stamp().description = meta.description.as_str().into();
    }
    if covers("meta.labels") {
        let labels = labels(&meta.labels, "meta.labels")?;
        // A tree of its own would not share with the present one and so be no equal of it at a glance.
        if *row.labels() != labels {
            *row.stamp().labels = labels;
        }
    }
    Ok(())
}

/// Paths of a mask, each of which must be known; none means all.
pub(super) fn mask(
    mask: Option<prost_types::FieldMask>,
    known: &'static [&'static str],
) -> Result<impl Fn(&str) -> bool, Refusal> {
    let paths = mask.map(|mask| mask.paths).unwrap_or_default();
    for path in &paths {
        let covers = |known: &&str| {
            *known == path || known.strip_prefix(path.as_str()).is_some_and(|rest| rest.starts_with('.'))
        };
        if !known.iter().any(covers) {
            let message = format!("{path:?} cannot be changed; what can is {}", known.join(", "));
            return Err(invalid("update_mask", "MASK_INVALID", message));
        }
    }
    Ok(move |path: &str| {
        let covers = |given: &String| {
            given == path || path.strip_prefix(given.as_str()).is_some_and(|rest| rest.starts_with('.'))
        };
        paths.is_empty() || paths.iter().any(covers)
    })
}

/// Refuses what is no name.
pub(super) fn name(name: &str, field: &str) -> Result<(), Refusal> {
    let bytes = name.as_bytes();
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if bytes.len() <= NAME_MAX && ends(bytes.first()) && ends(bytes.last()) && bytes.iter().all(inner) {
        return Ok(());
    }
    let shown: String = name.chars().take(NAME_MAX + 1).collect();
    let message = format!(
        "{shown:?} is no name: 1 to {NAME_MAX} of a-z A-Z 0-9 . _ - are allowed, beginning and ending with a letter or digit"
    );
    Err(invalid(field, "NAME_INVALID", message))
}

/// Refuses a text that is too long.
pub(super) fn description(text: &str, field: &str) -> Result<(), Refusal> {
    if text.len() <= DESCRIPTION_MAX && !text.contains('\0') {
        return Ok(());
    }
    let message =
        format!("a description has at most {DESCRIPTION_MAX} octets and no NUL, this one {}", text.len());
    Err(invalid(field, "DESCRIPTION_INVALID", message))
}

/// Checks labels.
pub(super) fn labels(
    labels: &std::collections::BTreeMap<String, String>,
    field: &str,
) -> Result<OrdMap<Text, Text>, Refusal> {
    if labels.len() > LABELS_MAX {
        let message = format!("an object has at most {LABELS_MAX} labels, this one {}", labels.len());
        return Err(invalid(field, "LABELS_INVALID", message));
    }
    for (key, value) in labels {
        name(key, field)?;
        if value.chars().count() > VALUE_MAX || value.contains('\0') {
            let message =
                format!("the value of label {key:?} is longer than {VALUE_MAX} characters or holds a NUL");
            return Err(invalid(field, "LABELS_INVALID", message));
        }
    }
    Ok(labels.iter().map(|(key, value)| (Text::from(key.as_str()), Text::from(value.as_str()))).collect())
}
