//! The beginning of a connection: settings, what the switch can do, and the slot of the Geneve option.

use ofpacket::{
    Action, AsyncConfig, FlowMod, FlowRemovedReason, Match, Message, MultipartRequest, PACKET_IN_FORMAT_NXT2,
    SwitchConfig, TlvMap, TlvTableCommand, TlvTableMod, TlvTableReply, field,
};

use super::{Abilities, Driver, Output, Phase, SwitchError, track::Question};

/// What was asked for, and what is known by now.
#[derive(Clone, Debug, Default)]
pub(super) struct Setup {
    pub(super) tlv_xid: u32,
    pub(super) tlv_mod_xid: u32,
    pub(super) barrier_xid: u32,
    pub(super) meters_xid: u32,
    pub(super) tunnel_option: Option<u16>,
    pub(super) meters: u32,
    pub(super) nd_xid: u32,
    pub(super) nd_refused: bool,
    pub(super) sctp: Question,
}

impl Driver {
    pub(super) fn begin_setup(&mut self, out: &mut Vec<Output>) {
        self.phase = Phase::Setup;
        let whole = SwitchConfig { flags: 0, miss_send_len: 0xffff };
        self.send(&Message::SetConfig(whole), out);
        self.send(&Message::SetPacketInFormat(PACKET_IN_FORMAT_NXT2), out);
        self.send(&Message::SetAsync(AsyncConfig::new(ASYNC_ACTION, 0, ASYNC_REMOVED)), out);
        self.setup.meters_xid = self.send(&Message::MultipartRequest(MultipartRequest::MeterFeatures), out);
        self.probe_nd_extensions(out);
        self.ask_sctp(out);
        self.setup.tlv_xid = self.send(&Message::TlvTableRequest, out);
    }

    /// A switch tells what its datapath cannot do only by refusing a flow, so one is tried where no packet comes.
    fn probe_nd_extensions(&mut self, out: &mut Vec<Output>) {
        let advertisement = Match::new().ipv6().ip_proto(58).with(field::ICMPV6_TYPE, 136u8);
        let write =
            vec![Action::set_field(field::ND_RESERVED, 0u32), Action::set_field(field::ND_OPTIONS_TYPE, 2u8)];
        let probe = FlowMod::add(PROBE_TABLE, 0, advertisement.clone(), write);
        self.setup.nd_xid = self.send(&Message::FlowMod(probe), out);
        self.send(&Message::FlowMod(FlowMod::delete_strict(PROBE_TABLE, 0, advertisement)), out);
    }

    /// Any change of flows makes the switch look at its datapath's; one is made where no packet comes.
    pub(super) fn revalidate(&mut self, out: &mut Vec<Output>) {
        let nothing = FlowMod::add(PROBE_TABLE, 0, Match::new(), Vec::new());
        self.send(&Message::FlowMod(nothing), out);
        self.send(&Message::FlowMod(FlowMod::delete_strict(PROBE_TABLE, 0, Match::new())), out);
    }

    pub(super) fn tunnel_option(
        &mut self,
        reply: &TlvTableReply,
        out: &mut Vec<Output>,
    ) -> Result<(), SwitchError> {
        let ours = |map: &&TlvMap| map.class == OPTION_CLASS && map.kind == OPTION_TYPE;
        let slot = match reply.maps.iter().find(ours) {
            Some(map) if map.length == OPTION_LENGTH => map.index,
            Some(_) => return Err(SwitchError::NoTunnelOption),
            None => {
                let free = |slot: &u16| reply.maps.iter().all(|map| map.index != *slot);
                let slot = (0..reply.max_fields).find(free).ok_or(SwitchError::NoTunnelOption)?;
                let map =
                    TlvMap { class: OPTION_CLASS, kind: OPTION_TYPE, length: OPTION_LENGTH, index: slot };
                let add = TlvTableMod { command: TlvTableCommand::ADD, maps: vec![map] };
                self.setup.tlv_mod_xid = self.send(&Message::TlvTableMod(add), out);
                slot
            }
        };
        self.setup.tunnel_option = Some(slot);
        self.setup.barrier_xid = self.send(&Message::BarrierRequest, out);
        Ok(())
    }

    pub(super) fn up(&mut self, out: &mut Vec<Output>) {
        let Some(tunnel_option) = self.setup.tunnel_option else { return };
        self.forget_sctp(out);
        self.phase = Phase::Waiting;
        out.push(Output::Up(Abilities {
            tunnel_option,
            meters: self.setup.meters,
            nd_extensions: !self.setup.nd_refused,
            sctp_ports: self.setup.sctp.answer(),
        }));
    }
}

/// Packets sent by an action, and none for other reasons.
const ASYNC_ACTION: u32 = 1 << 1;
/// Flows that are removed because we say so.
const ASYNC_REMOVED: u32 = 1 << FlowRemovedReason::DELETE.0;
/// A table that nothing leads to.
pub(super) const PROBE_TABLE: u8 = 253;
const OPTION_CLASS: u16 = 0x0102;
const OPTION_TYPE: u8 = 0x80;
const OPTION_LENGTH: u8 = 4;
