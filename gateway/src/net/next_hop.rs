//! The way out: whom to send a packet to, and what is known about them.

use std::net::IpAddr;

use super::neighbour::{Evidence, Lookup};
use super::{MacAddr, NeighbourEvent, NeighbourId, PortStack, TxSink, ethernet};
use crate::limits::ETHERNET_HEADER;
use crate::telemetry::{Counters, DropReason};
use crate::time::Instant;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolve {
    /// Send to [`PortStack::mac_of`] the id.
    Ready(NeighbourId),
    /// Asked; a [`NeighbourEvent`] follows.
    Pending(NeighbourId),
    /// No route, or no host one could send to. Counted.
    NoRoute,
    /// Every entry of the neighbour table is in use. Counted.
    TableFull,
}

impl PortStack {
    /// The neighbour through which `dst` is reached, asking the link for it if need be.
    pub fn resolve(
        &mut self,
        now: Instant,
        dst: IpAddr,
        tx: &mut impl TxSink,
        c: &mut Counters,
    ) -> Resolve {
        let Some(hop) = self.site.next_hop(dst.to_canonical()) else {
            c.drop_frame(DropReason::NoRoute);
            return Resolve::NoRoute;
        };
        let (lookup, ask) = self.neighbours.resolve(now, hop.into());
        if let Some(ask) = ask {
            self.site.solicit(ask, tx);
        }
        match lookup {
            Lookup::Ready(id) => Resolve::Ready(id),
            Lookup::Pending(id) => Resolve::Pending(id),
            Lookup::Full => {
                c.drop_frame(DropReason::NeighbourTableFull);
                Resolve::TableFull
            }
        }
    }

    /// A valid SYN from `packet_src` came from `mac`: that is the way back to it, unless the
    /// next hop there is known already. Saves a resolution before the SYN-ACK.
    pub fn observe(&mut self, now: Instant, packet_src: IpAddr, mac: MacAddr) {
        if let Some(hop) = self.site.next_hop(packet_src.to_canonical())
            && mac.is_unicast()
        {
            self.neighbours.learn_if_unknown(now, hop.into(), mac);
        }
    }

    /// What an `Ingress::Neighbour` said, here or at another worker: it ends a probe of the same
    /// address, and is a hint otherwise.
    pub fn learn(
        &mut self,
        now: Instant,
        ip: IpAddr,
        mac: MacAddr,
        events: &mut Vec<NeighbourEvent>,
    ) {
        let ip = ip.to_canonical();
        if mac.is_unicast() && !self.is_local(ip) && self.site.routes.is_on_link(ip) {
            let evidence = match self.neighbours.is_probed_at(ip.into(), mac) {
                true => Evidence::Answer,
                false => Evidence::Hint,
            };
            self.neighbours.learn(now, ip.into(), mac, evidence, true);
            self.neighbours.drain_resolved(events);
        }
    }

    /// The MAC address behind `id`. `None`: not resolved yet, or the entry was given up and
    /// [`PortStack::resolve`] must be asked again.
    #[inline]
    pub fn mac_of(&self, id: NeighbourId) -> Option<MacAddr> {
        self.neighbours.mac_of(id)
    }

    /// The Ethernet header of an IP packet to `id`; `None` as for [`PortStack::mac_of`].
    #[inline]
    pub fn l2_header(&self, id: NeighbourId, v6: bool) -> Option<[u8; ETHERNET_HEADER]> {
        let ether_type = if v6 { ethernet::IPV6 } else { ethernet::IPV4 };
        self.mac_of(id).map(|mac| ethernet::header(mac, self.site.mac, ether_type))
    }

    /// Does what is due; call it when [`PortStack::next_deadline`] has come. Entries that
    /// neither answer nor are needed go away here.
    pub fn poll(&mut self, now: Instant, tx: &mut impl TxSink, events: &mut Vec<NeighbourEvent>) {
        self.continue_announcing(tx);
        let Self { site, neighbours, .. } = self;
        neighbours.poll(now, events, &mut |ask| {
            site.solicit(ask, tx);
        });
    }

    /// When [`PortStack::poll`] has something to do; the past if it has already.
    pub fn next_deadline(&self) -> Option<Instant> {
        match self.announcing {
            Some(_) => Some(Instant::ZERO),
            None => self.neighbours.next_deadline(),
        }
    }

    /// The address from which to connect to `dst`.
    pub fn source_for(&self, dst: IpAddr) -> Option<IpAddr> {
        let dst = dst.to_canonical();
        self.site.local.source_for(dst, self.site.next_hop(dst)?)
    }

    /// Tells the link where all own addresses are (RFC 5227, section 2.3; RFC 4861, section
    /// 7.2.6). What finds no room now is sent by [`PortStack::poll`].
    pub fn announce(&mut self, tx: &mut impl TxSink) {
        self.announcing = Some(0);
        self.continue_announcing(tx);
    }

    fn continue_announcing(&mut self, tx: &mut dyn TxSink) {
        while let Some(index) = self.announcing {
            let Some(ip) = self.site.local.announced(index) else {
                self.announcing = None;
                return;
            };
            if !self.site.announce(ip, tx) {
                return;
            }
            self.announcing = Some(index + 1);
        }
    }
}
