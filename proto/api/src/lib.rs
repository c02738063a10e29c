//! The `quantumnet.v1` API as generated from `proto/`, and its descriptor set.
//!
//! # Contract
//! - The `.proto` files are the documentation; nothing here is written by hand but this page: versions, and what both sides of a call
//!   must make of a message alike.
//! - Knows no server and no client: only messages and the service seams that tonic generates.

pub use generated::{peer, v1};

#[allow(
    missing_docs,
    unused_qualifications,
    unreachable_pub,
    clippy::all,
    clippy::or_fun_call,
    clippy::use_self
)] // generated
mod generated {
    /// Package `quantumnet.v1`.
    pub mod v1 {
        tonic::include_proto!("quantumnet.v1");
    }

    /// Package `quantumnet.peer.v1`: between the members of one cluster.
    pub mod peer {
        /// Version 1.
        pub mod v1 {
            tonic::include_proto!("quantumnet.peer.v1");
        }
    }
}

/// All files of the API with their imports, for reflection and for JSON transcoding.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));

/// Version of what members say among themselves.
pub const PEER_FORMAT: u32 = 1;

/// Version of the agent stream and of the row encoding in it.
pub const AGENT_FORMAT: u32 = 1;

impl v1::TracePacket {
    /// The packet that answers: from its receiver to its sender, with as many hops left.
    #[must_use]
    pub fn answer(&self) -> Self {
        let (src, dst) = match (self.protocol, self.src) {
            // ICMP (RFC 792) and ICMPv6 (RFC 4443, section 4) have type and code in the place of ports.
            (1, 8) => (0, self.dst),
            (58, 128) => (129, self.dst),
            (1 | 58, other) => (other, self.dst),
            _ => (self.dst, self.src),
        };
        Self {
            eth_src: self.eth_dst.clone(),
            eth_dst: self.eth_src.clone(),
            ip_src: self.ip_dst.clone(),
            ip_dst: self.ip_src.clone(),
            src,
            dst,
            syn: false,
            ..self.clone()
        }
    }
}
