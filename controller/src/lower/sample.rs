//! `Sample` and `Sampling_App`: what asks for samples in vain is told.
//!
//! # Contract
//! - Reads both; writes nothing but problems. Agents make the samples (`ACL.sample_new`, `ACL.sample_est`).

use quantumnet_model::nb::{Sample, SamplingApp};

use crate::{
    lower::{
        Dirty,
        problem::{self, Problems},
    },
    store::Txn,
};

pub(super) fn lower(txn: &mut Txn<'_>, dirty: &mut Dirty) {
    for touched in txn.touched_in::<Sample>() {
        dirty.work.rows += 1;
        let unheard = touched.after::<Sample>().is_some_and(|row| row.collectors.is_empty());
        let problems: Problems =
            unheard.then(|| ("collectors", "empty; nothing is sampled".to_owned())).into_iter().collect();
        problem::set::<Sample>(txn, touched.uuid, problems);
    }
    for touched in txn.touched_in::<SamplingApp>() {
        dirty.work.rows += 1;
        let drops = touched.after::<SamplingApp>().is_some_and(|row| &*row.r#type == "drop");
        let message = "dropped packets are sampled only where an ACL with sample_new drops them, as acl-new";
        let problems: Problems = drops.then(|| ("type", message.to_owned())).into_iter().collect();
        problem::set::<SamplingApp>(txn, touched.uuid, problems);
    }
}
