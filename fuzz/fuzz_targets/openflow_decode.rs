//! Any bytes: decoding does not panic, and what was decoded survives a round trip.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ofpacket::{Framer, Message};

fuzz_target!(|bytes: &[u8]| {
    let mut framer = Framer::new();
    framer.push(bytes);
    while let Ok(Some(frame)) = framer.next_message() {
        let Ok((header, message)) = Message::decode(frame) else { continue };
        // A canonical match can be longer than the one that was read, and other versions are not written.
        let Ok(again) = message.encode_as(header.version, header.xid) else { continue };
        let (header_again, message_again) = Message::decode(&again).expect("what was written can be read");
        assert_eq!((header_again.kind, header_again.xid), (header.kind, header.xid));
        assert_eq!(message_again, message, "a round trip changes nothing");
        assert_eq!(message_again.encode_as(header.version, header.xid).as_ref(), Ok(&again));
        match &message {
            Message::FlowMod(flow) => drop(flow.to_string()),
            Message::GroupMod(group) => drop(group.to_string()),
            message => drop(format!("{message:?}")),
        }
    }
});
