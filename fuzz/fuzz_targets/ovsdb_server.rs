//! Whatever an OVSDB client sends, in whatever chunks, and however its transactions end: a session replies or closes,
//! holds no more than its limits, and what it sends is JSON.
#![no_main]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use libfuzzer_sys::fuzz_target;
use ovsdb::FrameLimits;
use quantumnet_controller::{
    ovsdb::{
        Metrics,
        locks::Locks,
        session::{Effect, Input, Limits, Piece, Session, Store, World},
        transact::Outcome,
    },
    store::{Context, ResumeToken, State, Transaction, evaluate},
};
use quantumnet_model::{
    Database, Uuid,
    intent::Cluster,
    nb::{LogicalSwitch, NbGlobal},
};
use serde_json::{Value, json};

/// A store of two states that remembers nothing.
struct Two {
    states: [Arc<State>; 2],
    moved: bool,
}

impl Store for Two {
    fn state(&self) -> Arc<State> {
        self.states[usize::from(self.moved)].clone()
    }

    fn since(&self, _: &ResumeToken) -> (Arc<State>, Option<Vec<Arc<Transaction>>>) {
        (self.state(), None)
    }
}

fn states() -> [Arc<State>; 2] {
    let context = Context { now_ms: 0, principal: "fuzz".into() };
    let first = evaluate(
        &State::default(),
        &context,
        |txn| {
            let cluster = Cluster { cluster_id: Uuid::max(), history_id: Uuid::max(), last_claim: 0 };
            txn.insert(Uuid::from_u128(1), cluster)?;
            txn.insert(Uuid::from_u128(2), NbGlobal::default())?;
            txn.insert(Uuid::from_u128(3), LogicalSwitch { name: "a".into(), ..LogicalSwitch::default() })
        },
        &|_| Ok(()),
    );
    let first = first.expect("these rows fit").state;
    let second = evaluate(
        &first,
        &context,
        |txn| {
            txn.update::<LogicalSwitch>(Uuid::from_u128(3), |row| row.name = "b".into());
            txn.insert(Uuid::from_u128(4), LogicalSwitch::default())
        },
        &|_| Ok(()),
    );
    let second = second.expect("these rows fit").state;
    [Arc::new(first), Arc::new(second)]
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&chunk, stream)) = bytes.split_first() else { return };
    let chunk = usize::from(chunk).max(1);
    let frame = FrameLimits { message_bytes_max: 1 << 14, depth_max: 32, values_max: 1 << 12 };
    let limits = Limits { frame, transactions_max: 4, parked_max: 4, monitors_max: 8, ..Limits::default() };
    let (locks, metrics, server) = (Locks::default(), Metrics::default(), Arc::default());
    let mut store = Two { states: states(), moved: false };
    let mut now = Instant::now();
    let mut session = Session::new(now, Database::Northbound, Uuid::nil(), locks.join().0, limits);
    let mut sent = Vec::new();
    for (at, part) in stream.chunks(chunk).enumerate() {
        now += Duration::from_millis(700);
        store.moved = at % 3 == 1;
        let world = World { store: &store, server: &server, metrics: &metrics };
        let mut effects = session.handle(now, &world, Input::Received(part));
        effects.extend(session.handle(now, &world, Input::Timeout));
        let mut tickets = Vec::new();
        while let Some(effect) = (!effects.is_empty()).then(|| effects.remove(0)) {
            match effect {
                Effect::Send(Piece::Octets(octets)) => sent.extend_from_slice(&octets),
                Effect::Send(Piece::Dump(mut dump)) => while dump.write(64, &mut sent) {},
                Effect::Transact { ticket, .. } => tickets.push(ticket),
                Effect::Close(_) => return check(&sent),
            }
            if let Some(ticket) = tickets.pop() {
                let outcome = match ticket % 3 {
                    0 => Ok(Outcome::Done { results: vec![json!({})], revision: 1 }),
                    1 => Ok(Outcome::Blocked { revision: 2, timeout: Some(Duration::from_secs(1)) }),
                    _ => Ok(Outcome::Blocked { revision: 1, timeout: None }),
                };
                effects.extend(session.handle(now, &world, Input::Answered { ticket, outcome }));
                // A wait that is tried again for ever is no fault of the session.
                effects.truncate(64);
            }
        }
        assert!(session.held() <= frame.message_bytes_max * 16 + chunk);
    }
    check(&sent);
});

fn check(sent: &[u8]) {
    let messages = serde_json::Deserializer::from_slice(sent).into_iter::<Value>();
    messages.for_each(|message| assert!(message.expect("what is sent is JSON").is_object()));
}
