//! What filters a port, and the VM that it belongs to, as clients may write them.

use imbl::{OrdMap, OrdSet};
use quantumnet_api::v1::{PortSpec, VirtualMachine};
use quantumnet_model::{
    Strong, Uuid,
    column::Text,
    intent::{Port, SecurityGroup},
};

use crate::{
    service::{
        error::invalid,
        meta,
        security_group::{name_of, named_in},
    },
    store::{Refusal, State},
};

/// Security groups of one port, at most.
const GROUPS_MAX: usize = 32;

/// Finds the groups that a spec names.
pub(super) fn groups(
    state: &State,
    row: &mut Port,
    spec: &PortSpec,
    covers: &dyn Fn(&str) -> bool,
) -> Result<(), Refusal> {
    if covers("spec.security_groups") {
        if spec.security_groups.len() > GROUPS_MAX {
            let message = format!(
                "a port has at most {GROUPS_MAX} security groups, this one {}",
                spec.security_groups.len()
            );
            return Err(invalid("spec.security_groups", "TOO_MANY_GROUPS", message));
        }
        let project = row.project.uuid();
        let one = |(place, text): (usize, &String)| {
            named_in(state, project, text, &format!("spec.security_groups[{place}]")).map(Strong::new)
        };
        let groups: OrdSet<Strong<SecurityGroup>> =
            spec.security_groups.iter().enumerate().map(one).collect::<Result<_, _>>()?;
        if groups != row.security_groups {
            row.security_groups = groups;
        }
    }
    if covers("spec.no_security_groups") {
        row.no_security_groups = spec.no_security_groups;
    }
    if row.no_security_groups && !row.security_groups.is_empty() {
        let message = "set `no_security_groups` or name security groups, not both";
        return Err(invalid("spec.no_security_groups", "GROUPS_CONTRADICT", message));
    }
    Ok(())
}

/// Checks and keeps what is said of the VM.
pub(super) fn vm(row: &mut Port, spec: &PortSpec) -> Result<(), Refusal> {
    let none = VirtualMachine::default();
    let vm = spec.vm.as_ref().unwrap_or(&none);
    if !vm.name.is_empty() {
        meta::name(&vm.name, "spec.vm.name")?;
    }
    let labels: OrdMap<Text, Text> = meta::labels(&vm.labels, "spec.vm.labels")?;
    row.vm = vm.name.as_str().into();
    if row.vm_labels != labels {
        row.vm_labels = labels;
    }
    Ok(())
}

/// The VM as clients are sent it.
pub(super) fn vm_message(row: &Port) -> Option<VirtualMachine> {
    if row.vm.is_empty() && row.vm_labels.is_empty() {
        return None;
    }
    let labels = row.vm_labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    Some(VirtualMachine { name: row.vm.to_string(), labels })
}

/// Names of groups, in their order.
pub(super) fn names(state: &State, groups: impl Iterator<Item = Uuid>) -> Vec<String> {
    let mut names: Vec<String> = groups.map(|group| name_of(state, group)).collect();
    names.sort_unstable();
    names
}
