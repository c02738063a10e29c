//! ACLs: what agents can't make flows of is told.
//!
//! # Contract
//! - Reads `ACL` rows; writes nothing but problems. A row with one has no effect until it is mended.

use quantumnet_model::nb::Acl;

use crate::{
    lower::{Dirty, matches, problem},
    store::Txn,
};

pub(super) fn lower(txn: &mut Txn<'_>, dirty: &mut Dirty) {
    for touched in txn.touched_in::<Acl>() {
        let text = |row: Option<&Acl>| row.map(|row| row.r#match.clone());
        let (before, after) = (text(touched.before()), text(touched.after()));
        if before == after {
            continue;
        }
        dirty.work.rows += 1;
        let wrong = after.and_then(|text| matches::check_templated(&text).err());
        let wrong = wrong.map(|reason| format!("{reason}; the ACL has no effect"));
        problem::set::<Acl>(txn, touched.uuid, wrong.map(|wrong| ("match", wrong)).into_iter().collect());
    }
}
