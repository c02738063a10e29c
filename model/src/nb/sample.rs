//! Samples of traffic: for what they are taken, and who gets them.

use imbl::{OrdMap, OrdSet};

use crate::{
    column::{Strong, Text},
    row::Scope,
    table,
};

table! {
    /// A receiver of sampled packets, with the share of packets it is sent.
    pub struct SampleCollector = Northbound "Sample_Collector" [root] {
        /// Number that tells collectors of one `set_id` apart.
        id: i64 => |c| c.with(|t| t.range(1, 255)),
        /// Name, for people.
        name: Text,
        /// Share of packets in 65535ths: 0 samples none, 65535 all.
        probability: i64 => |c| c.with(|t| t.range(0, 65535)),
        /// Id of the `Flow_Sample_Collector_Set` in each chassis' Open vSwitch.
        set_id: i64 => |c| c.with(|t| t.range(1, 4294967295)),
        /// Free for clients.
        external_ids: OrdMap<Text, Text>,
    }
    indexes [["id"]]
    scopes [Scope::Referrers { table: "Sample", column: "collectors" }]
}

table! {
    /// How a rule that refers to it is sampled.
    pub struct Sample = Northbound "Sample" {
        /// All of them get each sample, subject to their probability.
        collectors: OrdSet<Strong<SampleCollector>>,
        /// Observation point of the samples, which names the rule to the collector.
        metadata: i64 => |c| c.with(|t| t.range(1, 4294967295)),
    }
    indexes [["metadata"]]
    scopes [
        Scope::Referrers { table: "ACL", column: "sample_new" },
        Scope::Referrers { table: "ACL", column: "sample_est" },
    ]
}

table! {
    /// The number under which a kind of samples is exported.
    pub struct SamplingApp = Northbound "Sampling_App" [root] {
        /// What is sampled: dropped packets, or new or established connections that an ACL matches.
        r#type: Text => |c| c.with(|t| t.one_of(&["drop", "acl-new", "acl-est"])),
        /// The high 8 bits of the observation domain; the low 24 are the key of the datapath.
        id: i64 => |c| c.with(|t| t.range(1, 255)),
        /// Free for clients.
        external_ids: OrdMap<Text, Text>,
    }
    indexes [["type"]]
    scopes [Scope::Global]
}
