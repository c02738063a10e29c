//! ACLs: what agents can't make flows of is told.
//!
//! # Contract
//! - Reads `ACL` rows; writes nothing but problems. A row with one has no effect until it is mended.

use quantumnet_model::{Uuid, nb::Acl};

use crate::{
    lower::{Dirty, matches, meter, problem},
    store::Txn,
};

pub(super) fn lower(txn: &mut Txn<'_>, dirty: &mut Dirty) {
    for touched in txn.touched_in::<Acl>() {
        let told = |row: Option<&Acl>| {
            row.map(|row| (row.r#match.clone(), row.log, row.meter.clone(), asks_no_connection(row)))
        };
        if told(touched.before()) == told(touched.after()) {
            continue;
        }
        dirty.work.rows += 1;
        tell(txn, touched.uuid);
    }
}

/// Says what is wrong with an ACL.
pub(super) fn tell(txn: &mut Txn<'_>, uuid: Uuid) {
    let mut problems = Vec::new();
    if let Some(acl) = txn.get::<Acl>(uuid) {
        let wrong = matches::check_templated(&acl.r#match).err();
        problems.extend(wrong.map(|reason| ("match", format!("{reason}; the ACL has no effect"))));
        if let Some(name) = acl.meter.as_ref().filter(|_| acl.log)
            && meter::named(txn.state(), name).is_none()
        {
            problems.push(("meter", format!("no meter is called {name:?}")));
        }
        if asks_no_connection(acl) {
            let message = format!(
                "packets that {:?} matches belong to no connection of its; see sample_new",
                acl.action
            );
            problems.push(("sample_est", message));
        }
    }
    problem::set::<Acl>(txn, uuid, problems);
}

/// Whether samples of its connections are asked of an ACL that has none.
fn asks_no_connection(acl: &Acl) -> bool {
    acl.sample_est.is_some() && matches!(&*acl.action, "allow-stateless" | "pass")
}
