//! Whatever bytes an OVSDB peer sends, in whatever chunks: values and errors, no panic, and what is read prints back.
#![no_main]

use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use ovsdb::{
    BaseType, ColumnType, DatabaseSchema, Datum, FrameLimits, Framer, Input, Limits, Message, Notification,
    OpResult, Operation, RefType, ReplicaRequest, Request, Session,
};
use serde_json::Value;

fuzz_target!(|bytes: &[u8]| {
    let Some((&chunk, stream)) = bytes.split_first() else { return };
    let chunk = usize::from(chunk).max(1);
    let limits = FrameLimits { message_bytes_max: 1 << 16, depth_max: 32, values_max: 1 << 12 };

    let mut framer = Framer::new(limits);
    let mut whole = Framer::new(limits);
    whole.push(stream);
    let mut values = Vec::new();
    for part in stream.chunks(chunk) {
        framer.push(part);
        while let Ok(Some(value)) = framer.next_value() {
            assert_eq!(whole.next_value().as_ref(), Ok(&Some(value.clone())), "chunks must not matter");
            values.push(value);
        }
        assert!(framer.pending() <= limits.message_bytes_max + chunk);
    }
    values.into_iter().for_each(decode);

    let mut session = Session::new(
        ReplicaRequest::new("D").whole_table("T"),
        Limits { frame: limits, ..Limits::default() },
    );
    let now = Instant::now();
    session.handle(now, Input::Connected);
    for part in stream.chunks(chunk) {
        session.handle(now, Input::Received(part.to_vec()));
    }
    session.handle(now, Input::Disconnected);
});

fn decode(json: Value) {
    for base in [
        BaseType::INTEGER,
        BaseType::REAL,
        BaseType::BOOLEAN,
        BaseType::STRING,
        BaseType::reference("T", RefType::Weak),
    ] {
        for ty in [ColumnType::set(base.clone()), ColumnType::map(base.clone(), BaseType::STRING)] {
            if let Ok(datum) = Datum::from_json(&json, &ty) {
                assert!(datum.is_normal());
                assert_eq!(Datum::from_json(&datum.to_json(), &ty), Ok(datum));
            }
        }
    }
    if let Ok(schema) = DatabaseSchema::from_json(&json) {
        assert_eq!(DatabaseSchema::from_json(&schema.to_json()), Ok(schema));
    }
    if let Ok(operation) = Operation::from_json(json.clone()) {
        assert_eq!(Operation::from_json(operation.to_json()), Ok(operation));
    }
    if let Ok(result) = OpResult::from_json(json.clone()) {
        assert_eq!(OpResult::from_json(result.to_json()), Ok(result));
    }
    match Message::from_json(json) {
        Ok(Message::Request { method, params, .. }) => {
            if let Ok(request) = Request::from_parts(&method, params) {
                let Message::Request { method, params, .. } = request.clone().into_message(1) else { return };
                assert_eq!(Request::from_parts(&method, params), Ok(request));
            }
        }
        Ok(Message::Notification { method, params }) => {
            if let Ok(notification) = Notification::from_parts(&method, params) {
                let Message::Notification { method, params } = notification.clone().into_message() else {
                    return;
                };
                assert_eq!(Notification::from_parts(&method, params), Ok(notification));
            }
        }
        _ => {}
    }
}
