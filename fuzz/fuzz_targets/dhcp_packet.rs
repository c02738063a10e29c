//! Any frame: the DHCP server does not panic, and what it answers is for the one who asked.

#![no_main]

use libfuzzer_sys::fuzz_target;
use quantumnet_dataplane::punt::dhcp::Offer;
use quantumnet_model::nb::{DhcpOptions, LogicalSwitchPort};

fuzz_target!(|frame: &[u8]| {
    let pairs = [("server_id", "10.0.0.254"), ("server_mac", "0a:dd:00:00:00:01"), ("lease_time", "3600")];
    let options = pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    let given = DhcpOptions { cidr: "10.0.0.0/24".into(), options, ..DhcpOptions::default() };
    let offer = Offer::new(&LogicalSwitchPort::default(), ["0a:00:00:00:00:05 10.0.0.5"], &given)
        .expect("the options are right");
    if let Ok(answer) = offer.answer(frame) {
        assert_eq!(answer[..6], frame[6..12], "the answer goes to the one who asked");
    }
});
