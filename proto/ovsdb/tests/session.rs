//! A session against a peer made of JSON: what is asked in which order, what falls back, what ends a connection.

use std::time::{Duration, Instant};

use ovsdb::{
    ErrorKind, Framer, Input, Limits, Operation, Output, ReplicaRequest, Session, SessionError,
    TransactError, Uuid,
};
use serde_json::{Value, json};

const ROW: &str = "36bef046-7da7-43a5-905a-c17899216fcb";
const TXN: &str = "11111111-2222-3333-4444-555555555555";

struct Peer {
    session: Session,
    now: Instant,
    framer: Framer,
    /// What was not a message to the peer.
    told: Vec<Output>,
}

impl Peer {
    fn new(limits: Limits) -> Self {
        let request = ReplicaRequest::new("D").table("T", ["name", "ids"]);
        let session = Session::new(request, limits);
        Self { session, now: Instant::now(), framer: Framer::default(), told: Vec::new() }
    }

    fn handle(&mut self, input: Input) {
        for output in self.session.handle(self.now, input) {
            match output {
                Output::Send(bytes) => self.framer.push(&bytes),
                other => self.told.push(other),
            }
        }
    }

    /// The next message the session sent, if it is this method; its id and parameters.
    fn expect(&mut self, method: &str) -> (Value, Value) {
        let message = self
            .framer
            .next_value()
            .expect("the session sends JSON")
            .expect("the session asked for something");
        assert_eq!(message["method"], method, "{message}");
        (message["id"].clone(), message["params"].clone())
    }

    fn silent(&mut self) {
        assert_eq!(self.framer.next_value(), Ok(None));
    }

    fn send(&mut self, message: &Value) {
        self.handle(Input::Received(message.to_string().into_bytes()));
    }

    fn reply(&mut self, id: &Value, result: Value) {
        self.send(&json!({"id": id, "result": result, "error": null}));
    }

    fn refuse(&mut self, id: &Value, error: &str) {
        self.send(&json!({"id": id, "result": null, "error": error}));
    }

    fn schema() -> Value {
        json!({"name": "D", "version": "1.0.0", "tables": {"T": {"columns": {
            "name": {"type": "string"},
            "ids": {"type": {"key": "integer", "min": 0, "max": "unlimited"}},
            "other": {"type": "integer"},
        }}}})
    }

    /// Up to the question for a monitor.
    fn connect(&mut self) {
        self.framer = Framer::default();
        self.handle(Input::Connected);
        let (id, params) = self.expect("set_db_change_aware");
        assert_eq!(params, json!([true]));
        self.refuse(&id, "unknown method");
        let (id, params) = self.expect("get_schema");
        assert_eq!(params, json!(["D"]));
        self.reply(&id, Self::schema());
    }

    /// Up to the replica with one row.
    fn sync(&mut self) -> Value {
        self.connect();
        let (id, params) = self.expect("monitor_cond_since");
        let monitor = params[1].clone();
        self.reply(&id, json!([false, TXN, {"T": {ROW: {"initial": {"name": "a"}}}}]));
        assert!(matches!(self.told.pop(), Some(Output::Synced { resumed: false, .. })));
        monitor
    }

    fn name(&self) -> Option<String> {
        self.session.replica().rows("T").next().and_then(|row| row.string("name")).map(str::to_owned)
    }

    fn closed(&mut self) -> SessionError {
        assert!(!self.session.is_synced());
        match self.told.pop() {
            Some(Output::Close(error)) => error,
            other => panic!("expected the session to close, got {other:?}"),
        }
    }
}

fn peer() -> Peer {
    Peer::new(Limits::default())
}

#[test]
fn replica_follows_updates() {
    let mut peer = peer();
    let monitor = peer.sync();
    assert_eq!(peer.name().as_deref(), Some("a"));
    let update =
        |row: Value| json!({"id": null, "method": "update3", "params": [monitor, TXN, {"T": {ROW: row}}]});
    peer.send(&update(json!({"modify": {"name": "b", "ids": ["set", [1, 2]]}})));
    let Some(Output::Changed(changes)) = peer.told.pop() else { panic!("a row changed") };
    assert_eq!(changes[0].old.as_ref().unwrap().string("name"), Some("a"));
    assert_eq!(changes[0].new.as_ref().unwrap().string("name"), Some("b"));
    peer.send(&update(json!({"delete": null})));
    assert_eq!(peer.name(), None);
    // Another monitor's updates are not ours.
    let other =
        json!({"id": null, "method": "update3", "params": ["x", TXN, {"X": {ROW: {"delete": null}}}]});
    peer.send(&other);
    assert!(peer.session.is_synced());
}

#[test]
fn a_known_transaction_resumes() {
    let mut peer = peer();
    peer.sync();
    peer.handle(Input::Disconnected);
    assert!(!peer.session.is_synced());
    assert_eq!(peer.name().as_deref(), Some("a"), "the last copy stays");

    peer.connect();
    let (id, params) = peer.expect("monitor_cond_since");
    assert_eq!(params[3], TXN);
    peer.reply(&id, json!([true, TXN, {"T": {ROW: {"modify": {"name": "b"}}}}]));
    let Some(Output::Synced { resumed: true, changes, .. }) = peer.told.pop() else { panic!("resumed") };
    assert_eq!(changes.len(), 1);
    assert_eq!(peer.name().as_deref(), Some("b"));
}

#[test]
fn an_unknown_transaction_gives_everything_again() {
    let mut peer = peer();
    peer.sync();
    peer.handle(Input::Disconnected);
    peer.connect();
    let (id, _) = peer.expect("monitor_cond_since");
    peer.reply(&id, json!([false, Uuid::nil().to_string(), {"T": {TXN: {"initial": {"name": "c"}}}}]));
    let Some(Output::Synced { resumed: false, changes, .. }) = peer.told.pop() else { panic!("synced") };
    assert_eq!(changes.len(), 2, "one row went, one came");
    assert_eq!(peer.name().as_deref(), Some("c"));
}

#[test]
fn falls_back_when_the_method_is_unknown() {
    let mut peer = peer();
    peer.connect();
    let (id, _) = peer.expect("monitor_cond_since");
    peer.refuse(&id, "unknown method");
    let (id, _) = peer.expect("monitor_cond");
    peer.refuse(&id, "unknown method");
    let (id, params) = peer.expect("monitor");
    peer.reply(&id, json!({"T": {ROW: {"new": {"name": "a", "ids": 3}}}}));
    assert_eq!(peer.name().as_deref(), Some("a"));
    let row = json!({"old": {"name": "a"}, "new": {"name": "b", "ids": 3}});
    peer.send(&json!({"id": null, "method": "update", "params": [params[1], {"T": {ROW: row}}]}));
    assert_eq!(peer.name().as_deref(), Some("b"));
    let row = json!({"old": {"name": "b", "ids": 3}});
    peer.send(&json!({"id": null, "method": "update", "params": [params[1], {"T": {ROW: row}}]}));
    assert_eq!(peer.name(), None);
}

#[test]
fn another_error_is_no_reason_to_fall_back() {
    let mut peer = peer();
    peer.connect();
    let (id, _) = peer.expect("monitor_cond_since");
    peer.refuse(&id, "permission error");
    peer.silent();
    let SessionError::Refused { method: "monitor_cond_since", error } = peer.closed() else {
        panic!("refused")
    };
    assert_eq!(error.kind, ErrorKind::PermissionError);
}

#[test]
fn a_canceled_monitor_starts_over() {
    let mut peer = peer();
    let monitor = peer.sync();
    peer.send(&json!({"id": null, "method": "monitor_canceled", "params": [monitor]}));
    let (id, _) = peer.expect("get_schema");
    // The schema changed: nothing can be resumed.
    let mut schema = Peer::schema();
    schema["tables"]["T"]["columns"]["name"]["type"] = json!({"key": "string", "min": 0, "max": 1});
    peer.reply(&id, schema);
    let (id, params) = peer.expect("monitor_cond_since");
    assert_ne!(params[1], monitor);
    assert_eq!(params[3], Uuid::nil().to_string());
    peer.reply(&id, json!([true, TXN, {"T": {ROW: {"initial": {"name": "z"}}}}]));
    assert_eq!(peer.name().as_deref(), Some("z"));
}

#[test]
fn a_missing_column_is_refused_or_skipped() {
    let schema =
        json!({"name": "D", "version": "1.0.0", "tables": {"T": {"columns": {"name": {"type": "string"}}}}});
    for skip in [false, true] {
        let mut peer = peer();
        if skip {
            let request =
                ReplicaRequest::new("D").table("T", ["name", "ids"]).table("U", ["x"]).skip_missing();
            peer.session = Session::new(request, Limits::default());
        }
        peer.handle(Input::Connected);
        peer.expect("set_db_change_aware");
        let (id, _) = peer.expect("get_schema");
        peer.reply(&id, schema.clone());
        if skip {
            let (_, params) = peer.expect("monitor_cond_since");
            assert_eq!(params[2], json!({"T": [{"columns": ["name"]}]}));
        } else {
            assert!(matches!(peer.closed(), SessionError::NoColumn { .. }));
        }
    }
}

#[test]
fn transactions_have_one_outcome_each() {
    let limits = Limits { in_flight_max: 3, ..Limits::default() };
    let mut peer = Peer::new(limits);
    let transact = |token| Input::Transact { token, operations: vec![Operation::Abort] };
    peer.handle(transact(1));
    assert!(matches!(
        peer.told.pop(),
        Some(Output::Transacted { token: 1, result: Err(TransactError::NotConnected) })
    ));
    peer.sync();
    for token in 2..=4 {
        peer.handle(transact(token));
    }
    peer.handle(transact(5));
    assert!(matches!(
        peer.told.pop(),
        Some(Output::Transacted { token: 5, result: Err(TransactError::TooMany { .. }) })
    ));
    let (second, _) = peer.expect("transact");
    let (third, _) = peer.expect("transact");
    peer.reply(&third, json!([{"error": "aborted", "details": "aborted by request"}]));
    let Some(Output::Transacted { token: 3, result: Err(error) }) = peer.told.pop() else {
        panic!("an outcome")
    };
    assert_eq!(error.op_error().unwrap().kind, ErrorKind::Aborted);
    peer.reply(&third, json!([{}]));
    assert!(peer.told.is_empty(), "a second reply is none");
    peer.refuse(&second, "canceled");
    let Some(Output::Transacted { token: 2, result: Err(TransactError::Refused { error }) }) =
        peer.told.pop()
    else {
        panic!("an outcome")
    };
    assert_eq!(error.kind, ErrorKind::Canceled);

    let (fourth, _) = peer.expect("transact");
    peer.handle(Input::Cancel { token: 4 });
    assert_eq!(peer.expect("cancel"), (Value::Null, json!([fourth])));
    peer.handle(Input::Disconnected);
    assert!(matches!(
        peer.told.pop(),
        Some(Output::Transacted { token: 4, result: Err(TransactError::Lost) })
    ));
}

#[test]
fn a_transaction_waits_for_the_replica() {
    let mut peer = peer();
    let transact = |token| Input::Transact { token, operations: vec![Operation::Abort] };
    peer.connect();
    let (id, _) = peer.expect("monitor_cond_since");
    for token in 1..=3 {
        peer.handle(transact(token));
    }
    peer.silent();
    peer.handle(Input::Cancel { token: 2 });
    assert!(matches!(
        peer.told.pop(),
        Some(Output::Transacted { token: 2, result: Err(TransactError::Refused { .. }) })
    ));
    peer.reply(&id, json!([false, TXN, {}]));
    peer.expect("transact");
    peer.expect("transact");
    peer.silent();
    peer.told.clear();

    // Not sent means not done.
    peer.connect();
    peer.handle(transact(4));
    peer.told.clear();
    peer.handle(Input::Disconnected);
    assert!(matches!(
        peer.told.as_slice(),
        [Output::Transacted { token: 4, result: Err(TransactError::NotConnected) }]
    ));
}

#[test]
fn echoes_both_ways_and_gives_up_on_silence() {
    let mut peer = peer();
    peer.sync();
    peer.send(&json!({"id": "echo", "method": "echo", "params": [1, "x"]}));
    assert_eq!(
        peer.framer.next_value().unwrap().unwrap(),
        json!({"id": "echo", "result": [1, "x"], "error": null})
    );
    peer.send(&json!({"id": 9, "method": "what", "params": []}));
    assert_eq!(peer.framer.next_value().unwrap().unwrap()["error"], "unknown method");

    let interval = Limits::default().probe_interval;
    for _ in 0..3 {
        peer.handle(Input::Timeout);
        peer.silent();
        peer.now = peer.session.poll_timeout().unwrap();
        peer.handle(Input::Timeout);
        let (id, _) = peer.expect("echo");
        peer.now += interval / 2;
        peer.reply(&id, json!([]));
    }
    peer.now += interval;
    peer.handle(Input::Timeout);
    peer.expect("echo");
    peer.now += interval - Duration::from_millis(1);
    peer.handle(Input::Timeout);
    assert!(peer.session.is_synced());
    peer.now += Duration::from_millis(1);
    peer.handle(Input::Timeout);
    assert_eq!(peer.closed(), SessionError::Inactive { after: interval });
    assert_eq!(peer.session.poll_timeout(), None);
}

#[test]
fn what_does_not_fit_ends_the_connection_and_the_copy() {
    for row in [json!({"insert": {}}), json!({"modify": {"name": 1}}), json!({"modify": {"other": 1}})] {
        let mut peer = peer();
        let monitor = peer.sync();
        peer.send(&json!({"id": null, "method": "update3", "params": [monitor, TXN, {"T": {ROW: row}}]}));
        assert!(matches!(peer.closed(), SessionError::Update(_)));
        peer.send(&json!({"id": 1, "method": "echo", "params": []}));
        peer.silent();
        peer.connect();
        let (_, params) = peer.expect("monitor_cond_since");
        assert_eq!(params[3], Uuid::nil().to_string(), "nothing can be resumed");
    }
}

#[test]
fn rows_are_bounded() {
    let mut peer = Peer::new(Limits { rows_max: 1, ..Limits::default() });
    let monitor = peer.sync();
    let rows = json!({"T": {TXN: {"insert": {}}}});
    peer.send(&json!({"id": null, "method": "update3", "params": [monitor, TXN, rows]}));
    assert_eq!(peer.closed(), SessionError::TooManyRows { rows_max: 1, got: 2 });
}

#[test]
fn a_truncated_or_garbled_reply_never_panics() {
    let mut bytes = Vec::new();
    for message in [
        json!({"id": 2, "result": Peer::schema(), "error": null}),
        json!({"id": 3, "result": [false, TXN, {"T": {ROW: {"initial": {"name": "a"}}}}], "error": null}),
        json!({"id": null, "method": "update3", "params": ["replica-1", TXN, {"T": {ROW: {"modify": {"ids": 4}}}}]}),
    ] {
        bytes.extend(message.to_string().into_bytes());
    }
    for cut in 0..bytes.len() {
        for change in [None, Some(b'"'), Some(b'}'), Some(b'['), Some(b'0'), Some(0xff)] {
            let mut peer = peer();
            peer.handle(Input::Connected);
            let mut bytes = bytes.clone();
            match change {
                None => bytes.truncate(cut),
                Some(byte) => bytes[cut] = byte,
            }
            peer.handle(Input::Received(bytes));
            peer.handle(Input::Disconnected);
        }
    }
}
