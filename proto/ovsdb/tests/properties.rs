//! Laws that hold for every value: round trips, differences, framing, and that no bytes panic.

use std::collections::BTreeMap;

use ovsdb::{
    Atom, AtomicType, BaseType, ColumnSchema, ColumnType, DatabaseSchema, Datum, FrameLimits, Framer, Input,
    Limits, Max, Message, NoSymbols, Notification, OpResult, Operation, Real, RefType, ReplicaRequest,
    Request, Session, TableSchema, Uuid,
};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::Value;

fn atom(ty: AtomicType) -> BoxedStrategy<Atom> {
    match ty {
        // Few values, so that two sets have something in common.
        AtomicType::Integer => prop_oneof![(-3_i64..3), any::<i64>()].prop_map(Atom::Integer).boxed(),
        AtomicType::Real => any::<f64>()
            .prop_filter_map("reals are finite", |v| Real::new(v).ok())
            .prop_map(Atom::Real)
            .boxed(),
        AtomicType::Boolean => any::<bool>().prop_map(Atom::Boolean).boxed(),
        AtomicType::String => prop_oneof!["[a-c]{0,2}", "[^\0]{0,8}"].prop_map(Atom::from).boxed(),
        AtomicType::Uuid => (0_u128..4).prop_map(|v| Atom::Uuid(Uuid::from_u128(v))).boxed(),
    }
}

fn atomic() -> impl Strategy<Value = AtomicType> {
    prop_oneof![
        Just(AtomicType::Integer),
        Just(AtomicType::Real),
        Just(AtomicType::Boolean),
        Just(AtomicType::String),
        Just(AtomicType::Uuid)
    ]
}

fn base() -> impl Strategy<Value = BaseType> {
    atomic().prop_flat_map(|atomic| {
        let plain = Just(BaseType::new(atomic)).boxed();
        let constrained = match atomic {
            AtomicType::Integer => (any::<i64>(), any::<i64>())
                .prop_map(|(a, b)| BaseType::integer_range(a.min(b), a.max(b)))
                .boxed(),
            AtomicType::String => btree_set("[a-c]{0,2}", 1..4).prop_map(BaseType::one_of).boxed(),
            AtomicType::Uuid => prop_oneof![Just(RefType::Strong), Just(RefType::Weak)]
                .prop_map(|ref_type| BaseType::reference("T", ref_type))
                .boxed(),
            AtomicType::Real | AtomicType::Boolean => plain.clone(),
        };
        prop_oneof![plain, constrained]
    })
}

fn column_type() -> impl Strategy<Value = ColumnType> {
    let max = prop_oneof![(1_usize..5).prop_map(Max::Limited), Just(Max::Unlimited)];
    (base(), option::of(base()), 0_usize..2, max).prop_map(|(key, value, min, max)| ColumnType {
        key,
        value,
        min,
        max,
    })
}

/// A value of the right shape and types; constraints aside, as many elements as the type allows.
fn datum(ty: &ColumnType) -> BoxedStrategy<Datum> {
    let max = match ty.max {
        Max::Limited(max) => max,
        Max::Unlimited => 6,
    };
    let key = atom(ty.key.atomic);
    match &ty.value {
        // A set of booleans has at most two.
        None => vec(key, ty.min..=max).prop_map(Datum::set).boxed(),
        Some(value) => btree_map(key, atom(value.atomic), 0..=max).prop_map(Datum::map).boxed(),
    }
}

fn schema() -> impl Strategy<Value = DatabaseSchema> {
    let column = (column_type(), any::<bool>(), any::<bool>());
    let table = (btree_map("[a-z][a-z_]{0,4}", column, 1..4), option::of(1_u64..5), any::<bool>());
    (btree_map("[A-Z][a-z]{0,3}", table, 0..3), option::of("[0-9 ]{1,8}")).prop_map(|(tables, cksum)| {
        let mut tables: BTreeMap<String, TableSchema> = tables
            .into_iter()
            .map(|(name, (columns, max_rows, is_root))| {
                let indexes = vec![columns.keys().cloned().collect()];
                let columns = columns
                    .into_iter()
                    .map(|(name, (ty, ephemeral, mutable))| {
                        let weak = ty.bases().any(BaseType::is_weak_reference);
                        (name.clone(), ColumnSchema { name, ty, ephemeral, mutable: mutable || weak })
                    })
                    .collect();
                (name, TableSchema { columns, max_rows, is_root, indexes })
            })
            .collect();
        tables.entry("T".to_owned()).or_default();
        DatabaseSchema { name: "D".to_owned(), version: "1.2.3".to_owned(), cksum, tables }
    })
}

/// JSON close to what the protocol says, so that decoders get past the first look.
fn wire_json() -> impl Strategy<Value = Value> {
    let words = prop::sample::select(vec![
        "set",
        "map",
        "uuid",
        "named-uuid",
        "op",
        "insert",
        "select",
        "mutate",
        "wait",
        "table",
        "where",
        "row",
        "rows",
        "columns",
        "until",
        "==",
        "+=",
        "includes",
        "true",
        "initial",
        "modify",
        "delete",
        "new",
        "old",
        "count",
        "error",
        "tables",
        "type",
        "key",
        "value",
        "min",
        "max",
        "enum",
        "refTable",
        "36bef046-7da7-43a5-905a-c17899216fcb",
        "1.0.0",
        "unlimited",
        "string",
        "integer",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        words.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::from),
            btree_map(words.clone().prop_map(str::to_owned), inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Both frame the same bytes; `None` for the end by an error.
fn frames(bytes: &[u8], chunks: &[usize]) -> Vec<Option<Value>> {
    let mut framer = Framer::new(FrameLimits { depth_max: 127, ..FrameLimits::default() });
    let mut found = Vec::new();
    let mut rest = bytes;
    let mut chunks = chunks.iter().cycle();
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at((*chunks.next().expect("it goes round")).min(rest.len()));
        rest = after;
        framer.push(chunk);
        loop {
            match framer.next_value() {
                Ok(Some(value)) => found.push(Some(value)),
                Ok(None) => break,
                Err(_) => {
                    found.push(None);
                    return found;
                }
            }
        }
    }
    found
}

proptest! {
    #[test]
    fn datum_survives_json((ty, datum) in column_type().prop_flat_map(|ty| (Just(ty.clone()), datum(&ty)))) {
        let text = datum.to_json().to_string();
        let json: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(Datum::from_json(&json, &ty), Ok(datum.clone()));
        prop_assert_eq!(Datum::from_json_checked(&json, &ty, &mut NoSymbols).is_ok(), datum.check(&ty).is_ok());
    }

    #[test]
    fn default_is_default(ty in column_type()) {
        prop_assert!(Datum::default_for(&ty).is_default(&ty));
    }

    #[test]
    fn difference_leads_from_old_to_new(
        (ty, old, new) in column_type().prop_flat_map(|ty| (Just(ty.clone()), datum(&ty), datum(&ty)))
    ) {
        prop_assert_eq!(old.diff(&old, &ty), None);
        match old.diff(&new, &ty) {
            None => prop_assert_eq!(old, new),
            Some(diff) => {
                prop_assert!(diff.is_normal());
                let json = diff.to_json();
                let read = Datum::from_json(&json, &ty).unwrap();
                prop_assert_eq!(old.apply_diff(&read, &ty), Ok(new.clone()));
                if ty.is_composite() && !ty.is_map() {
                    prop_assert_eq!(new.apply_diff(&diff, &ty), Ok(old), "a set's difference undoes itself");
                }
            }
        }
    }

    #[test]
    fn schema_survives_json(schema in schema()) {
        let json = schema.to_json();
        prop_assert_eq!(DatabaseSchema::parse(&json.to_string()), Ok(schema));
    }

    #[test]
    fn framer_agrees_with_serde(
        values in vec(wire_json(), 0..6),
        chunks in vec(1_usize..20, 1..5),
        cut in any::<prop::sample::Index>(),
        space in "[ \n\t\r]{0,3}",
    ) {
        let mut bytes = Vec::new();
        // Only objects and arrays show where they end.
        for value in values.iter().filter(|v| v.is_object() || v.is_array()) {
            bytes.extend(value.to_string().into_bytes());
            bytes.extend(space.bytes());
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        let serde: Vec<Option<Value>> = serde_json::Deserializer::from_slice(&bytes)
            .into_iter::<Value>()
            .take_while(Result::is_ok)
            .map(Result::ok)
            .collect();
        prop_assert_eq!(frames(&bytes, &chunks), serde);
    }

    #[test]
    fn framer_does_not_care_about_chunks(bytes in "[\\[\\]{}\",:\\\\a1 é]{0,40}", chunks in vec(1_usize..5, 1..5)) {
        prop_assert_eq!(frames(bytes.as_bytes(), &chunks), frames(bytes.as_bytes(), &[1_000]));
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        frames(&bytes, &[7]);
        let mut session = Session::new(ReplicaRequest::new("D").whole_table("T"), Limits::default());
        let now = std::time::Instant::now();
        session.handle(now, Input::Connected);
        session.handle(now, Input::Received(bytes));
    }

    #[test]
    fn json_of_any_form_never_panics(json in wire_json(), ty in column_type(), method in prop::sample::select(METHODS)) {
        let _ = Datum::from_json(&json, &ty);
        let _ = DatabaseSchema::from_json(&json);
        let _ = Message::from_json(json.clone());
        let _ = OpResult::from_json(json.clone());
        if let Ok(operation) = Operation::from_json(json.clone()) {
            prop_assert_eq!(Operation::from_json(operation.to_json()), Ok(operation));
        }
        let params = vec!["D".into(), "id".into(), json];
        if let Ok(request) = Request::from_parts(method, params.clone()) {
            let Message::Request { method, params, .. } = request.clone().into_message(1) else {
                panic!("a request makes a request");
            };
            prop_assert_eq!(Request::from_parts(&method, params), Ok(request));
        }
        let _ = Notification::from_parts(method, params[1..].to_vec());
    }
}

const METHODS: &[&str] =
    &["transact", "monitor", "monitor_cond", "monitor_cond_change", "echo", "update", "update2", "convert"];
