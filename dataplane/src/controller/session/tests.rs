use super::*;
use quantumnet_api::v1::ReportStored;
use quantumnet_model::{change::ChangeKind, row::Row, sb::Chassis};
use uuid::Uuid;

fn received(message: controller_message::Message) -> Input {
    Input::Received(Box::new(ControllerMessage { message: Some(message) }))
}

fn hello(snapshot: bool) -> Input {
    received(controller_message::Message::Hello(ControllerHello {
        format: AGENT_FORMAT,
        cluster_id: "c".into(),
        history_id: "h".into(),
        snapshot,
    }))
}

fn rows(revision: u64, complete: bool) -> Input {
    let change = RowChange {
        table: Chassis::TABLE,
        uuid: Uuid::from_u128(revision.into()),
        kind: ChangeKind::Insert(vec![]),
    };
    received(controller_message::Message::Changes(RowChanges {
        rows: vec![change.encode().into()],
        revision,
        complete,
    }))
}

fn interfaces(ids: &[&str]) -> Input {
    let interface = |id: &&str| {
        ((*id).to_owned(), LocalInterface { iface_id: (*id).to_owned(), generation: 1, ..Default::default() })
    };
    Input::Interfaces(ids.iter().map(interface).collect())
}

fn sent(out: &[Output]) -> Vec<&agent_message::Message> {
    let message = |output: &'_ Output| matches!(output, Output::Send(_));
    out.iter()
        .filter(|output| message(output))
        .filter_map(|output| if let Output::Send(m) = output { m.message.as_ref() } else { None })
        .collect()
}

fn reports(out: &[Output]) -> Vec<&AgentReport> {
    sent(out)
        .into_iter()
        .filter_map(
            |message| {
                if let agent_message::Message::Report(report) = message { Some(report) } else { None }
            },
        )
        .collect()
}

#[test]
fn what_is_served_and_the_states_of_sessions_are_told_once_a_stream() {
    let mut session = Session::new("hv1", None, 0);
    session.handle(Input::Serves(["cr-a".to_owned()].into()));
    session.handle(Input::Bfd([("s".to_owned(), "up".to_owned())].into()));
    let neighbour =
        LearnedNeighbour { datapath_key: 1, port_key: 2, ip: "192.0.2.1".into(), mac: "02::".into() };
    session.handle(Input::Neighbours(vec![neighbour.clone()]));
    for _ in 0..2 {
        session.handle(Input::Connected);
        let out = session.handle(hello(true));
        let [report] = reports(&out)[..] else { panic!("{out:?}") };
        assert_eq!(report.serves.as_ref().unwrap().ports, ["cr-a"]);
        assert_eq!((report.bfd.len(), report.bfd[0].status.as_str()), (1, "up"));
        // Not stored, so it is repeated.
        assert_eq!(report.neighbours_learned, std::slice::from_ref(&neighbour));
    }
    let stored = ReportStored { sequence: session.sequence };
    let out = session.handle(received(controller_message::Message::ReportStored(stored)));
    assert!(reports(&out).is_empty(), "{out:?}");
    let out = session.handle(Input::Serves(BTreeSet::new()));
    let [report] = reports(&out)[..] else { panic!("{out:?}") };
    assert_eq!(report.serves, Some(ServedPorts { ports: Vec::new() }), "nothing any more");
    assert!(report.bfd.is_empty() && report.neighbours_learned.is_empty());
}

#[test]
fn rows_are_handed_on_when_complete() {
    let mut session = Session::new("hv1", None, 0);
    session.handle(Input::Connected);
    session.handle(hello(true));
    assert!(session.handle(rows(1, false)).is_empty());
    let out = session.handle(rows(2, true));
    let [Output::Rows(update)] = out.as_slice() else { panic!("{out:?}") };
    assert!(update.snapshot && update.changes.len() == 2 && update.resume.revision == 2);
    let out = session.handle(rows(3, true));
    assert!(matches!(out.as_slice(), [Output::Rows(update)] if !update.snapshot));
    let out = session.handle(Input::Applied(3));
    assert!(matches!(sent(&out)[..], [agent_message::Message::Applied(AgentApplied { revision: 3 })]));
    assert!(session.handle(Input::Applied(3)).is_empty());
}

#[test]
fn a_snapshot_amid_the_stream_starts_over() {
    let mut session = Session::new("hv1", None, 0);
    session.handle(Input::Connected);
    session.handle(hello(true));
    session.handle(rows(900, true));
    session.handle(Input::Applied(900));
    session.handle(rows(901, false));
    assert!(session.handle(hello(true)).is_empty(), "the stream goes on");
    assert!(session.handle(Input::Applied(901)).is_empty(), "of the history before");
    let out = session.handle(rows(5, true));
    assert!(matches!(out.as_slice(), [Output::Rows(update)] if update.snapshot && update.changes.len() == 1));
    let out = session.handle(Input::Applied(5));
    assert!(matches!(sent(&out)[..], [agent_message::Message::Applied(AgentApplied { revision: 5 })]));
    let out = session.handle(hello(false));
    assert!(matches!(out.as_slice(), [Output::Close(StreamError::Order { .. })]), "no reason to greet");
}

#[test]
fn a_report_is_repeated_until_stored() {
    let mut session = Session::new("hv1", None, 10);
    session.handle(interfaces(&["a"]));
    let out = session.handle(Input::Connected);
    assert!(matches!(sent(&out)[..], [agent_message::Message::Hello(hello)] if hello.interfaces.len() == 1));
    session.handle(hello(true));
    let mac = LearnedMac { mac: "0a:00:00:00:00:01".into(), datapath_key: 1, port_key: 1 };
    let out = session.handle(Input::Learned(vec![mac]));
    assert!(matches!(sent(&out)[..], [agent_message::Message::Report(report)] if report.sequence == 11));
    assert!(session.handle(interfaces(&["b"])).is_empty(), "one at a time");
    session.handle(Input::Disconnected);
    let out = session.handle(Input::Connected);
    assert!(
        matches!(sent(&out)[..], [agent_message::Message::Hello(hello)] if hello.interfaces[0].iface_id == "b")
    );
    let out = session.handle(hello(false));
    assert!(matches!(sent(&out)[..], [agent_message::Message::Report(report)]
        if report.macs_learned.len() == 1 && report.interfaces_added.is_empty()));
    let stored = received(controller_message::Message::ReportStored(ReportStored { sequence: 12 }));
    session.handle(stored);
    let out = session.handle(interfaces(&[]));
    assert!(matches!(sent(&out)[..], [agent_message::Message::Report(report)]
        if report.interfaces_removed == ["b"]));
}

#[test]
fn questions_are_answered_over_their_stream() {
    let mut session = Session::new("hv1", None, 0);
    let query = || received(controller_message::Message::Query(AgentQuery { id: 7, query: None }));
    session.handle(Input::Connected);
    assert!(matches!(session.handle(query())[..], [Output::Close(StreamError::Order { .. })]));
    session.handle(Input::Connected);
    session.handle(hello(true));
    let out = session.handle(query());
    let [Output::Asked(stream, AgentQuery { id: 7, .. })] = out[..] else { panic!("{out:?}") };
    let answer = || Box::new(AgentQueryAnswer { id: 7, answer: None });
    let out = session.handle(Input::Answered(stream, answer()));
    assert!(matches!(sent(&out)[..], [agent_message::Message::Answer(AgentQueryAnswer { id: 7, .. })]));
    session.handle(Input::Disconnected);
    assert!(session.handle(Input::Answered(stream, answer())).is_empty());
    session.handle(Input::Connected);
    session.handle(hello(true));
    assert!(session.handle(Input::Answered(stream, answer())).is_empty(), "nobody waits there");
}

#[test]
fn malformed_rows_drop_the_token() {
    let resume = Resume { cluster_id: "c".into(), history_id: "h".into(), revision: 5 };
    let mut session = Session::new("hv1", Some(resume), 0);
    let out = session.handle(Input::Connected);
    assert!(matches!(sent(&out)[..], [agent_message::Message::Hello(hello)] if hello.resume.is_some()));
    session.handle(hello(false));
    let bad = RowChanges { rows: vec![vec![1, 2, 3].into()], revision: 6, complete: true };
    let out = session.handle(received(controller_message::Message::Changes(bad)));
    assert!(matches!(out.as_slice(), [Output::Close(StreamError::Rows { revision: 6, .. })]));
    let out = session.handle(Input::Connected);
    assert!(matches!(sent(&out)[..], [agent_message::Message::Hello(hello)] if hello.resume.is_none()));
}
