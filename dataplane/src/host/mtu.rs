//! MTU of the network that tunnels cross, as the kernel knows it.

use std::net::IpAddr;

use netlink_packet_route::{address::AddressAttribute, link::LinkAttribute};
use tokio_stream::StreamExt;

/// MTU of the interface that has this address; `None` when none has it or the kernel does not answer.
pub async fn of_address(ip: IpAddr) -> Option<u32> {
    let (connection, handle, _) = rtnetlink::new_connection().ok()?;
    let task = tokio::spawn(connection);
    let mtu = read(&handle, ip).await;
    task.abort();
    mtu
}

async fn read(handle: &rtnetlink::Handle, ip: IpAddr) -> Option<u32> {
    let mut addresses = handle.address().get().set_address_filter(ip).execute();
    let mut index = None;
    while let Some(Ok(message)) = addresses.next().await {
        let is_it = |attribute: &AddressAttribute| matches!(attribute, AddressAttribute::Address(at) | AddressAttribute::Local(at) if *at == ip);
        if message.attributes.iter().any(is_it) {
            index = Some(message.header.index);
        }
    }
    let mut links = handle.link().get().match_index(index?).execute();
    let mut mtu = None;
    while let Some(Ok(message)) = links.next().await {
        let found = message
            .attributes
            .iter()
            .find_map(|attribute| if let LinkAttribute::Mtu(mtu) = attribute { Some(*mtu) } else { None });
        mtu = mtu.or(found);
    }
    mtu
}
