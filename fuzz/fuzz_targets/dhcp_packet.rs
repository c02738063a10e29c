//! Any frame: the DHCP server does not panic, and what it answers is a whole frame.

#![no_main]

use libfuzzer_sys::fuzz_target;
use quantumnet_dataplane::punt::dhcp::Offer;
use quantumnet_model::{
    column::Text,
    nb::{DhcpOptions, LogicalSwitchPort},
};

fuzz_target!(|frame: &[u8]| {
    let pairs = [("server_id", "10.0.0.254"), ("server_mac", "0a:dd:00:00:00:01"), ("lease_time", "3600")];
    let options = pairs.into_iter().map(|(name, value)| (Text::from(name), Text::from(value))).collect();
    let given = DhcpOptions { cidr: "10.0.0.0/24".into(), options, ..DhcpOptions::default() };
    let offer = Offer::new(&LogicalSwitchPort::default(), ["0a:00:00:00:00:05 10.0.0.5"], &given)
        .expect("the options are right");
    if let Ok(answer) = offer.answer(frame) {
        assert!(answer.len() > ETHERNET_IPV4_UDP, "an answer has a DHCP message in it");
    }
});

const ETHERNET_IPV4_UDP: usize = 14 + 20 + 8;
