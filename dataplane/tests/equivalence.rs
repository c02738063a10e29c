//! Incremental equals full, whatever the history; deltas are net and complete.

mod common;

use std::collections::BTreeMap;

use common::{
    Model,
    random::{Step, step},
};
use proptest::{collection::vec, prelude::*};
use quantumnet_dataplane::compile::{
    Compiler, FlowDelta, FlowKey, FlowValue, GroupSpec, MeterSpec, compile_full,
};

/// A model of a switch: what it holds after the deltas.
#[derive(Default)]
struct Switch {
    flows: BTreeMap<FlowKey, FlowValue>,
    meters: BTreeMap<u32, MeterSpec>,
    groups: BTreeMap<u32, GroupSpec>,
}

impl Switch {
    fn apply(&mut self, delta: FlowDelta) -> Result<(), TestCaseError> {
        for (number, spec) in delta.meters_put {
            prop_assert_ne!(self.meters.insert(number, spec), Some(spec), "meter {} did not change", number);
        }
        for flow in delta.put {
            let key = flow.key.as_ref().clone();
            prop_assert_ne!(
                self.flows.insert(key, flow.value.clone()),
                Some(flow.value),
                "{:?} did not change",
                flow.key
            );
        }
        for key in delta.delete {
            prop_assert!(self.flows.remove(key.as_ref()).is_some(), "{:?} was not there", key);
        }
        for (number, spec) in delta.groups_put {
            prop_assert_ne!(
                self.groups.insert(number, spec.clone()),
                Some(spec),
                "group {} did not change",
                number
            );
        }
        for number in delta.groups_delete {
            prop_assert!(self.groups.remove(&number).is_some(), "group {} was not there", number);
        }
        for number in delta.meters_delete {
            prop_assert!(self.meters.remove(&number).is_some(), "meter {} was not there", number);
        }
        Ok(())
    }
}

fn table(compiler: &Compiler) -> BTreeMap<FlowKey, FlowValue> {
    compiler.table().into_iter().map(|(key, value)| (key.as_ref().clone(), value)).collect()
}

fn history() -> impl Strategy<Value = (Vec<Step>, Vec<Vec<Step>>)> {
    (vec(step(), 0..60), vec(vec(step(), 1..6), 1..25))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn incremental_equals_full((start, batches) in history()) {
        let mut model = Model::hypervisor(3);
        let (mut compiler, mut switch) = (Compiler::new(), Switch::default());
        for batch in std::iter::once(&start).chain(&batches) {
            for step in batch {
                step.take(&mut model);
            }
            switch.apply(model.apply(&mut compiler))?;
            prop_assert_eq!(&switch.flows, &table(&compiler));
            prop_assert_eq!(&switch.meters, &compiler.meters());
            let full = compile_full(&model.rows);
            prop_assert_eq!(&switch.flows, &full.flows);
            prop_assert_eq!(&switch.meters, &full.meters);
            prop_assert_eq!(&switch.groups, &compiler.groups());
            prop_assert_eq!(&switch.groups, &full.groups);
            prop_assert!(compiler.recompute_check().is_empty());
        }
    }

    #[test]
    fn batches_may_be_split_or_merged((start, batches) in history()) {
        let (mut model, mut split) = (Model::hypervisor(3), Compiler::new());
        for step in start.iter().chain(batches.iter().flatten()) {
            step.take(&mut model);
            model.apply(&mut split);
        }
        let (mut model, mut merged) = (Model::hypervisor(3), Compiler::new());
        for step in start.iter().chain(batches.iter().flatten()) {
            step.take(&mut model);
        }
        model.apply(&mut merged);
        prop_assert_eq!(table(&split), table(&merged));
        prop_assert_eq!(split.meters(), merged.meters());
        prop_assert_eq!(split.wanted_tunnels(), merged.wanted_tunnels());
    }

    #[test]
    fn what_goes_leaves_nothing((start, batches) in history()) {
        let (mut model, mut compiler) = (Model::default(), Compiler::new());
        model.apply(&mut compiler);
        let empty = table(&compiler);
        for step in start.iter().chain(batches.iter().flatten()) {
            step.take(&mut model);
            model.apply(&mut compiler);
        }
        for table in quantumnet_model::tables::ids() {
            let uuids: Vec<_> = model.rows.table(table).keys().copied().collect();
            uuids.into_iter().for_each(|uuid| model.set(table, uuid, None));
        }
        model.apply(&mut compiler);
        prop_assert_eq!(table(&compiler), empty);
        prop_assert!(compiler.meters().is_empty());
        prop_assert!(compiler.groups().is_empty());
        prop_assert!(compiler.wanted_tunnels().is_empty());
    }
}
