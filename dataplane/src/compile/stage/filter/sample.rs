//! Samples of what ACLs match (ovn-nb(5), `Sample`): collectors are told of packets, and by which rule.
//!
//! # Contract
//! - In: an ACL, its `Sample` rows, their collectors, the numbers of applications. Out: what is done besides, by the state of
//!   a packet's connection: [`Sampling::cases`]; and flows for what passes as part of a connection, without a rule being asked.
//! - Refuses to know whether a chassis has the collectors' set: for one that it has not, the switch does nothing.
//!
//! # Invariants
//! - The cases of a switch do not overlap, and together they are all packets: a rule says of each what it would say unsampled.
//! - The domain has the key of the switch, so that a sampled rule has flows for each of its switches. Others share theirs.
//! - What is established is sampled once on a hypervisor, however many rules let it pass. What is new is for each of them.
//! - A connection keeps the point under which its replies are sampled; each request writes it anew, since another rule
//!   may let the connection pass by now.

use ofpacket::{Action, CtState, Match, Port, Sample, SampleDirection};
use ovsdb::value::Atom;
use quantumnet_model::{
    Strong,
    nb::{self, Acl, SampleCollector, SamplingApp},
};

use super::{PRIORITY_STATE, Round, Verdict, scope::Scope, verdict};
use crate::compile::{
    index::By,
    logical::{go, on_switch},
    register,
    sink::Sink,
    view::View,
};

/// How an ACL's packets are sampled.
pub(super) struct Sampling {
    /// Those with which connections begin, and all that belong to none.
    new: Option<Tap>,
    /// Those of connections that the rule lets pass, or cuts.
    established: Option<Tap>,
    /// The rule asks for no connection, wherever it is.
    stateless: bool,
}

/// A stream of samples.
struct Tap {
    /// Number of the application; 0 if there is none.
    app: u32,
    point: u32,
    /// Probability and set of each.
    collectors: Vec<(u16, u32)>,
}

/// Packets in one state of their connection.
pub(super) struct Case {
    /// Which they are.
    pub(super) when: Match,
    /// What is done to them before what the rule says.
    pub(super) before: Vec<Action>,
}

impl Sampling {
    /// Of an ACL; `None` if nothing of it is sampled.
    pub(super) fn of(view: &View<'_>, acl: &Acl) -> Option<Self> {
        let stateless = &*acl.action == "allow-stateless";
        let new = Tap::of(view, acl, acl.sample_new.as_ref(), "acl-new");
        let connections = !stateless && Verdict::of(&acl.action) != Verdict::None;
        let established = acl.sample_est.as_ref().filter(|_| connections);
        let established = Tap::of(view, acl, established, "acl-est");
        (new.is_some() || established.is_some()).then_some(Self { new, established, stateless })
    }

    /// The point that connections keep.
    pub(super) fn kept_point(&self) -> Option<u32> {
        self.established.as_ref().map(|tap| tap.point)
    }

    /// What is sampled on a switch, by state, before the rule says `verdict`.
    pub(super) fn cases(&self, round: Round, switch: u32, tracks: bool, verdict: Verdict) -> Vec<Case> {
        let state = |set, clear| Match::new().ct_state(set, clear);
        let plain = |when| Case { when, before: Vec::new() };
        let new = self.new.as_ref().map(|tap| tap.actions(switch)).unwrap_or_default();
        if !tracks || self.stateless {
            return vec![Case { when: Match::new(), before: new }];
        }
        // What a port gets may have no connection that counts, as at routers' ports.
        let mut cases = if new.is_empty() || round == Round::To {
            vec![Case { when: state(CtState::NONE, CtState::EST), before: new }]
        } else {
            let begins = state(CtState::TRK | CtState::NEW, CtState::EST);
            vec![Case { when: begins, before: new }, plain(state(CtState::NONE, CtState::NEW | CtState::EST))]
        };
        let known = state(CtState::TRK | CtState::EST, CtState::NONE);
        let Some(tap) = &self.established else {
            cases.push(plain(known));
            return cases;
        };
        let keep = (verdict == Verdict::Allow).then(|| Action::load(register::COMMIT, 1));
        let once = known.clone().with_bits(register::PKT_SAMPLED, 0u8);
        let sample = keep.iter().cloned().chain(tap.actions(switch)).collect();
        cases.push(Case { when: once, before: sample });
        let again = known.with_bits(register::PKT_SAMPLED, 1u8);
        cases.push(Case { when: again, before: keep.into_iter().collect() });
        cases
    }

    /// Flows for replies, in the other direction, for what is related, in both, and for requests that no rule is asked about.
    /// `record` is what the rule wants to be told of replies.
    pub(super) fn answers(
        &self,
        view: &View<'_>,
        acl: &Acl,
        scope: &Scope,
        round: Round,
        record: Option<&Action>,
        out: &mut Sink,
    ) {
        let Some(tap) = self.established.as_ref().filter(|_| Verdict::of(&acl.action) == Verdict::Allow)
        else {
            return;
        };
        let back = if round == Round::To { Round::From } else { Round::To };
        let [replies, related] = verdict::answers(view);
        let mut flows = vec![(back, replies), (back, related.clone()), (round, related)];
        if super::persists(acl) {
            flows.push((round, verdict::persistent()));
        }
        for switch in scope.tracking(view) {
            let of_rule = on_switch(switch)
                .with_bits(register::CT_LABEL, tap.point)
                .with_bits(register::MARK_SAMPLED, 1u8)
                .with_bits(register::PKT_SAMPLED, 0u8);
            for (round_of, state) in &flows {
                let Some(matches) = both(&of_rule, state) else { continue };
                let told = record.filter(|_| *round_of == back).cloned();
                let settled = [super::says(Verdict::Settled), go(round_of.verdict())];
                let says: Vec<Action> = told.into_iter().chain(tap.actions(switch)).chain(settled).collect();
                // Above what is only told of.
                out.flow(round_of.policy(), PRIORITY_STATE + 2, matches, says);
            }
        }
    }
}

impl Tap {
    fn of(view: &View<'_>, acl: &Acl, sample: Option<&Strong<nb::Sample>>, app: &str) -> Option<Self> {
        let sample = view.row::<nb::Sample>(sample?.uuid())?;
        // A label replaces the point, as in OVN.
        let number = if acl.label > 0 { acl.label } else { sample.metadata };
        let collectors: Vec<(u16, u32)> = sample
            .collectors
            .iter()
            .filter_map(|collector| view.row::<SampleCollector>(collector.uuid()))
            .filter_map(|row| Some((u16::try_from(row.probability).ok()?, u32::try_from(row.set_id).ok()?)))
            .filter(|(probability, _)| *probability > 0)
            .collect();
        let found = view.find_one::<SamplingApp>(By::SamplingType, &[Atom::String(app.into())]);
        let app = found.and_then(|(_, row)| u32::try_from(row.id).ok()).unwrap_or(0);
        (!collectors.is_empty()).then_some(Self { app, point: u32::try_from(number).ok()?, collectors })
    }

    fn actions(&self, switch: u32) -> Vec<Action> {
        let sample = |&(probability, collector_set): &(u16, u32)| {
            Action::Sample(Sample {
                probability,
                collector_set,
                domain: self.app << DATAPATH_BITS | switch,
                point: self.point,
                port: Port::NONE,
                direction: SampleDirection::DEFAULT,
            })
        };
        let sampled = std::iter::once(Action::load(register::PKT_SAMPLED, 1));
        sampled.chain(self.collectors.iter().map(sample)).collect()
    }
}

/// All conditions of two matches; `None` if they contradict each other.
pub(super) fn both(one: &Match, other: &Match) -> Option<Match> {
    other.iter().try_fold(one.clone(), |both, entry| {
        let (value, mask) = other.get(entry.field)?;
        match both.get(entry.field) {
            Some((known, of)) if (known ^ value) & of & mask != 0 => None,
            _ => Some(both.with_masked(entry.field, value, mask)),
        }
    })
}

/// Width of a datapath's key in an observation domain.
const DATAPATH_BITS: u32 = 24;
