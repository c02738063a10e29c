//! Logical routers (ovn-architecture(7), "Logical Routers and Logical Patch Ports"), one table a file.
//!
//! # Contract
//! - In: a packet that has crossed into a router by one of its ports. Out: the packet into the datapath of the peer of the
//!   port that it leaves by; or into a tunnel, to the gateway of that port.
//!
//! # Invariants
//! - A router works on the hypervisor that a packet comes from; a tunnel is crossed once, and after it nothing is routed.
//! - Only for what is for the router itself is anything beyond IP addresses and TTL looked at, so that no flow of the datapath
//!   is made per connection.
//! - No flow, no way: a router or port that is disabled has none.

pub(super) mod bfd;
pub(super) mod gateway;
pub(super) mod output;
pub(super) mod translate;
