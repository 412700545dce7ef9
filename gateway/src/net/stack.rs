//! One port of one worker: what comes in, where what goes out goes.
//!
//! Answers the stack makes itself (ARP, NDP, ICMP, RST) go back to the MAC address the frame came
//! from, without a route or a neighbour entry, and carry checksums made in software: they are few.

use std::net::IpAddr;

use smoltcp::wire::TcpRepr;

use super::arp::{self, Arp, Operation};
use super::ethernet::{self, Ethernet};
use super::icmp::{self, Icmp};
use super::icmp_error::{self, Refusal, Report};
use super::ip::{self, Addresses, IpPacket};
use super::local::{LocalAddresses, is_martian_v6};
use super::ndp::{self, Ndp};
use super::neighbour::{Evidence, NeighbourTable};
use super::route::RouteTable;
use super::site::Site;
use super::{
    FlowKey, Ip, MacAddr, PortStackConfig, StackError, TcpPacket, TokenBucket, TxSink, segment,
};
use crate::limits::{
    ECHO_REPLIES_PER_SECOND, ERRORS_PER_SECOND, ETHERNET_HEADER, MAX_IP_PACKET, MAX_NEIGHBOURS,
};
use crate::port::{RxMeta, TxMeta};
use crate::telemetry::{Counters, DropReason};
use crate::time::Instant;

/// What became of a received frame.
#[derive(Debug)]
pub enum Ingress<'f> {
    /// Answered or dropped; either is counted.
    Consumed,
    Tcp(TcpPacket<'f>),
    /// A neighbour made itself known here. It may have answered a question of another worker:
    /// pass it to [`PortStack::learn`] of the others.
    Neighbour {
        ip: IpAddr,
        mac: MacAddr,
    },
    /// A router reports that segments of this connection must fit `mtu` bytes (IP packet).
    PathMtu {
        key: FlowKey,
        /// Of the segment that the router quotes: a forger does not know it.
        seq: u32,
        mtu: usize,
    },
    /// A router or host reports that this connection's segments do not arrive. `hard`: they
    /// never will. Unauthenticated: established connections must survive it (RFC 5927).
    Unreachable {
        key: FlowKey,
        hard: bool,
    },
}

#[derive(Debug)]
pub struct PortStack {
    pub(super) site: Site,
    pub(super) neighbours: NeighbourTable,
    errors: TokenBucket,
    echoes: TokenBucket,
    /// The next own address to announce.
    pub(super) announcing: Option<usize>,
}

impl PortStack {
    /// # Errors
    /// See [`StackError`].
    pub fn new(config: PortStackConfig) -> Result<Self, StackError> {
        config.check()?;
        let PortStackConfig { mac, mtu, rx_checksum, addresses, vips, routes } = config;
        let table = RouteTable::new(&addresses, &routes);
        if let Some(route) = routes.iter().find(|r| !table.is_on_link(r.via.to_canonical())) {
            return Err(StackError::GatewayOffLink { to: route.to, via: route.via });
        }
        let local = LocalAddresses::new(mac, &addresses, &vips);
        Ok(Self {
            site: Site { mac, mtu, rx_checksum, local, routes: table },
            neighbours: NeighbourTable::new(MAX_NEIGHBOURS),
            errors: TokenBucket::per_second(ERRORS_PER_SECOND),
            echoes: TokenBucket::per_second(ECHO_REPLIES_PER_SECOND),
            announcing: None,
        })
    }

    pub fn mac(&self) -> MacAddr {
        self.site.mac
    }

    /// Largest IP packet, bytes.
    pub fn mtu(&self) -> usize {
        self.site.mtu
    }

    #[inline]
    pub fn is_local(&self, ip: IpAddr) -> bool {
        self.site.local.contains(ip.to_canonical().into())
    }

    /// Takes one received frame. Received frames and bytes are the caller's to count.
    #[inline]
    pub fn ingress<'f>(
        &mut self,
        now: Instant,
        frame: &'f [u8],
        meta: RxMeta,
        tx: &mut impl TxSink,
        c: &mut Counters,
    ) -> Ingress<'f> {
        match self.receive(now, frame, meta, tx, c) {
            Ok(ingress) => ingress,
            Err(reason) => {
                c.drop_frame(reason);
                Ingress::Consumed
            }
        }
    }

    fn receive<'f>(
        &mut self,
        now: Instant,
        frame: &'f [u8],
        meta: RxMeta,
        tx: &mut dyn TxSink,
        c: &mut Counters,
    ) -> Result<Ingress<'f>, DropReason> {
        let eth = Ethernet::parse(frame).ok_or(DropReason::FrameTooShort)?;
        // More than the MTU is fine: the device may have merged segments (LRO).
        if eth.payload.len() > MAX_IP_PACKET {
            return Err(DropReason::FrameTooLong);
        }
        if !eth.src.is_unicast() || eth.src == self.site.mac {
            return Err(DropReason::SourceMac);
        }
        let to_us = eth.dst == self.site.mac;
        let to_group = eth.dst.is_broadcast() || self.site.local.in_group(eth.dst);
        if !to_us && !to_group {
            return Err(DropReason::NotForUs);
        }
        match eth.ether_type {
            // IPv4 in a link-layer broadcast is for no single host (RFC 1122, section 3.3.6),
            // and we are in no IPv4 group.
            ethernet::IPV4 if !to_us => Err(DropReason::NotForUs),
            ethernet::IPV4 => {
                let packet = ip::parse_v4(eth.payload, self.site.trusts(meta.ip))?;
                self.ipv4(now, packet, eth.src, meta, tx, c)
            }
            ethernet::IPV6 => {
                let packet = ip::parse_v6(eth.payload)?;
                self.ipv6(now, packet, &eth, meta, tx, c)
            }
            ethernet::ARP => self.arp(now, Arp::parse(eth.payload)?, tx, c),
            tag if ethernet::VLAN_TAGS.contains(&tag) => Err(DropReason::VlanTagged),
            _ => Err(DropReason::EtherType),
        }
    }

    #[inline(always)]
    fn ipv4<'f>(
        &mut self,
        now: Instant,
        packet: IpPacket<'f>,
        src_mac: MacAddr,
        meta: RxMeta,
        tx: &mut dyn TxSink,
        c: &mut Counters,
    ) -> Result<Ingress<'f>, DropReason> {
        let Addresses::V4 { src, .. } = packet.addresses else {
            return Err(DropReason::IpVersion);
        };
        let local = &self.site.local;
        if local.is_martian_v4(src) || local.contains(packet.src) {
            return Err(DropReason::IpAddress);
        }
        if !local.contains(packet.dst) {
            return Err(DropReason::NotForUs);
        }
        match packet.protocol {
            ip::TCP => {
                segment::parse(&packet, src_mac, self.site.trusts(meta.l4)).map(Ingress::Tcp)
            }
            ip::ICMPV4 => self.icmp(now, packet, src_mac, false, tx, c),
            _ => self.refuse(now, &packet, src_mac, tx, c),
        }
    }

    #[inline]
    fn ipv6<'f>(
        &mut self,
        now: Instant,
        packet: IpPacket<'f>,
        eth: &Ethernet<'f>,
        meta: RxMeta,
        tx: &mut dyn TxSink,
        c: &mut Counters,
    ) -> Result<Ingress<'f>, DropReason> {
        let Addresses::V6 { src, dst } = packet.addresses else {
            return Err(DropReason::IpVersion);
        };
        let local = &self.site.local;
        let kind = packet.payload.first().copied().filter(|_| packet.protocol == ip::ICMPV6);
        let solicits = kind == Some(ndp::SOLICITATION);
        if is_martian_v6(src)
            || dst.to_ipv4_mapped().is_some()
            || (src.is_unspecified() && !solicits)
        {
            return Err(DropReason::IpAddress);
        }
        if local.contains(packet.src) {
            let claims = solicits || kind == Some(ndp::ADVERTISEMENT);
            return Err(match claims {
                true => DropReason::AddressConflict,
                false => DropReason::IpAddress,
            });
        }
        let to_group = dst.is_multicast();
        let for_us = match to_group {
            true => local.in_ipv6_group(dst) && packet.protocol == ip::ICMPV6,
            false => local.contains(packet.dst) && !eth.dst.is_multicast(),
        };
        if !for_us {
            return Err(DropReason::NotForUs);
        }
        match packet.protocol {
            ip::TCP => {
                segment::parse(&packet, eth.src, self.site.trusts(meta.l4)).map(Ingress::Tcp)
            }
            ip::ICMPV6 => self.icmp(now, packet, eth.src, to_group, tx, c),
            _ => self.refuse(now, &packet, eth.src, tx, c),
        }
    }

    fn arp(
        &mut self,
        now: Instant,
        arp: Arp,
        tx: &mut dyn TxSink,
        c: &mut Counters,
    ) -> Result<Ingress<'static>, DropReason> {
        let Site { mac, local, routes, .. } = &self.site;
        let sender = IpAddr::V4(arp.sender);
        if local.contains(sender.into()) {
            return Err(DropReason::AddressConflict);
        }
        if arp.sender_mac == *mac {
            return Err(DropReason::SourceMac);
        }
        let mac = *mac;
        let for_us = local.contains(arp.target.into());
        let host = !arp.sender.is_unspecified() && !local.is_broadcast(sender);
        let on_link = host && routes.is_on_link(sender);
        let answers = for_us && arp.operation == Operation::Reply;
        let evidence = if answers { Evidence::Answer } else { Evidence::Hint };
        // Whoever we know already may announce a new MAC address to everybody (RFC 826; this is
        // how a standby router takes over), but strangers do not get an entry by that.
        let learnt =
            on_link && self.neighbours.learn(now, sender.into(), arp.sender_mac, evidence, for_us);

        if for_us && arp.operation == Operation::Request {
            let reply = Arp {
                operation: Operation::Reply,
                sender_mac: mac,
                sender: arp.target,
                target_mac: arp.sender_mac,
                target: arp.sender,
            };
            let sent = tx.send(arp::FRAME_LEN, TxMeta::default(), &mut |buf| {
                reply.write(buf, arp.sender_mac);
            });
            c.arp_replies += u64::from(sent);
        } else if !learnt {
            return Err(match for_us {
                true => DropReason::ArpIgnored,
                false => DropReason::NotForUs,
            });
        }
        Ok(match learnt {
            true => Ingress::Neighbour { ip: sender, mac: arp.sender_mac },
            false => Ingress::Consumed,
        })
    }

    fn icmp<'f>(
        &mut self,
        now: Instant,
        packet: IpPacket<'f>,
        src_mac: MacAddr,
        to_group: bool,
        tx: &mut dyn TxSink,
        c: &mut Counters,
    ) -> Result<Ingress<'f>, DropReason> {
        match icmp::parse(&packet, to_group, &self.site.local)? {
            Icmp::Echo => {
                let len = icmp::echo_reply_frame_len(&packet);
                if len > ETHERNET_HEADER + self.site.mtu {
                    return Err(DropReason::IcmpIgnored);
                }
                if !self.echoes.take(now) {
                    return Err(DropReason::RateLimited);
                }
                let macs = (src_mac, self.site.mac);
                let sent = tx.send(len, TxMeta::default(), &mut |buf| {
                    icmp::write_echo_reply(buf, macs, &packet);
                });
                c.icmp_replies += u64::from(sent);
                Ok(Ingress::Consumed)
            }
            // A report that promises more than the link carries changes nothing.
            Icmp::Report(Report::PathMtu { mtu, .. }) if mtu >= self.site.mtu => {
                Err(DropReason::IcmpIgnored)
            }
            Icmp::Report(Report::PathMtu { key, seq, mtu }) => {
                Ok(Ingress::PathMtu { key, seq, mtu })
            }
            Icmp::Report(Report::Unreachable { key, hard }) => {
                Ok(Ingress::Unreachable { key, hard })
            }
            Icmp::Ndp(message) => self.ndp(now, message, src_mac, tx, c),
        }
    }

    fn ndp(
        &mut self,
        now: Instant,
        message: Ndp,
        src_mac: MacAddr,
        tx: &mut dyn TxSink,
        c: &mut Counters,
    ) -> Result<Ingress<'static>, DropReason> {
        let Site { mac, local, routes, .. } = &self.site;
        match message {
            Ndp::Solicitation { source_mac: Some(claimed), .. }
            | Ndp::Advertisement { target_mac: Some(claimed), .. }
                if claimed == *mac =>
            {
                Err(DropReason::SourceMac)
            }
            Ndp::Solicitation { src, target, source_mac } => {
                if !local.contains(target.into()) {
                    return Err(DropReason::NotForUs);
                }
                let asker = (!src.is_unspecified()).then(|| (source_mac.unwrap_or(src_mac), src));
                let sent = tx.send(ndp::FRAME_LEN, TxMeta::default(), &mut |buf| {
                    ndp::write_advertisement(buf, *mac, target, asker);
                });
                c.ndp_replies += u64::from(sent);
                let Some(source_mac) = source_mac.filter(|_| routes.is_on_link(src.into())) else {
                    return Ok(Ingress::Consumed);
                };
                let learnt =
                    self.neighbours.learn(now, src.into(), source_mac, Evidence::Hint, true);
                Ok(match learnt {
                    true => Ingress::Neighbour { ip: src.into(), mac: source_mac },
                    false => Ingress::Consumed,
                })
            }
            Ndp::Advertisement { target, solicited, overrides, target_mac } => {
                if local.contains(target.into()) {
                    return Err(DropReason::AddressConflict);
                }
                if !routes.is_on_link(target.into()) {
                    return Err(DropReason::NdpIgnored);
                }
                let ip = Ip::from(target);
                self.neighbours
                    .advertised(now, ip, target_mac, solicited, overrides)
                    .map(|mac| Ingress::Neighbour { ip: target.into(), mac })
                    .ok_or(DropReason::NdpIgnored)
            }
        }
    }

    /// Nothing here takes `packet`: tells its sender, within the rate limit.
    fn refuse<'f>(
        &mut self,
        now: Instant,
        packet: &IpPacket<'f>,
        src_mac: MacAddr,
        tx: &mut dyn TxSink,
        c: &mut Counters,
    ) -> Result<Ingress<'f>, DropReason> {
        let refusal = match packet.protocol {
            ip::UDP if packet.payload.len() < 8 => return Err(DropReason::IpMalformed),
            ip::UDP => Refusal::Port,
            _ => Refusal::Protocol,
        };
        if !self.errors.take(now) {
            return Err(DropReason::RateLimited);
        }
        let macs = (src_mac, self.site.mac);
        let len = icmp_error::refusal_frame_len(packet);
        let sent = tx.send(len, TxMeta::default(), &mut |buf| {
            icmp_error::write_refusal(buf, macs, packet, refusal);
        });
        c.icmp_replies += u64::from(sent);
        Ok(Ingress::Consumed)
    }

    /// Answers a segment that belongs to no connection with RST, within the rate limit. Why the
    /// segment itself was dropped is the caller's to count.
    pub fn reset(
        &mut self,
        now: Instant,
        packet: &TcpPacket<'_>,
        tx: &mut impl TxSink,
        c: &mut Counters,
    ) {
        // Two hosts that answer each other's RST would never stop.
        if packet.flags.rst {
            return;
        }
        if !self.errors.take(now) {
            return c.drop_frame(DropReason::RateLimited);
        }
        c.resets_sent += u64::from(self.answer(packet, &segment::reset_of(packet), tx));
    }

    /// Acknowledges a segment on behalf of a connection in TIME-WAIT (RFC 9293, section
    /// 3.10.7.4), within the rate limit.
    pub fn acknowledge(&mut self, now: Instant, packet: &TcpPacket<'_>, tx: &mut impl TxSink) {
        if self.errors.take(now) {
            self.answer(packet, &segment::ack_of(packet), tx);
        }
    }

    /// Sends `answer` back to where `packet` came from; `false` if it could not be sent. How many
    /// answers there may be is the caller's to say.
    pub fn answer(
        &self,
        packet: &TcpPacket<'_>,
        answer: &TcpRepr<'_>,
        tx: &mut impl TxSink,
    ) -> bool {
        let Some(addresses) = answer_addresses(packet) else { return false };
        let len = segment::answer_len(addresses, answer);
        tx.send(len, TxMeta::default(), &mut |buf| {
            segment::write_answer(buf, packet, addresses, self.site.mac, answer);
        })
    }
}

/// From the address the segment was sent to, back to its sender.
fn answer_addresses(packet: &TcpPacket<'_>) -> Option<Addresses> {
    match (packet.key.local.into(), packet.key.remote.into()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => Some(Addresses::V4 { src, dst }),
        (IpAddr::V6(src), IpAddr::V6(dst)) => Some(Addresses::V6 { src, dst }),
        _ => None,
    }
}
