//! What a port counted.

use std::ffi::c_char;

use crate::eal::text_of;
use crate::error::DpdkError;
use crate::port::Port;

/// Packet and byte counters since the port was opened, all queues together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PortStats {
    pub rx_packets: u64,
    pub tx_packets: u64,
    /// Some virtual devices do not count bytes and leave 0.
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    /// Dropped by the device because the receive queues were full: the worker was too slow.
    pub rx_missed: u64,
    pub rx_errors: u64,
    pub tx_errors: u64,
    /// Not received because the pool was empty.
    pub rx_no_mbuf: u64,
}

/// One extended counter; names differ between drivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XStat {
    pub name: String,
    pub value: u64,
}

/// State of the cable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    pub up: bool,
    pub full_duplex: bool,
    /// Mb/s; `None` when the driver does not know.
    pub speed_mbps: Option<u32>,
}

impl<S> Port<S> {
    /// # Errors
    /// The driver does not count.
    pub fn stats(&self) -> Result<PortStats, DpdkError> {
        let mut raw = dpdk_sys::clgw_stats::default();
        // SAFETY: the port is open as long as self exists, and the lock inside keeps control calls
        // apart; room for the answer.
        let code = self.control(|id| unsafe { dpdk_sys::clgw_port_stats(id, &mut raw) });
        self.checked("read statistics of port", code, "The driver keeps no statistics")?;
        Ok(PortStats {
            rx_packets: raw.rx_packets,
            tx_packets: raw.tx_packets,
            rx_bytes: raw.rx_bytes,
            tx_bytes: raw.tx_bytes,
            rx_missed: raw.rx_missed,
            rx_errors: raw.rx_errors,
            tx_errors: raw.tx_errors,
            rx_no_mbuf: raw.rx_no_mbuf,
        })
    }

    /// Snapshot of the driver's extended statistics.
    ///
    /// # Errors
    /// The driver failed to read them.
    pub fn xstats(&self) -> Result<Vec<XStat>, DpdkError> {
        let empty = dpdk_sys::clgw_xstat { name: [0 as c_char; dpdk_sys::CLGW_NAME_LEN], value: 0 };
        let hint = "Read them again; the device may have been resetting";
        // SAFETY: a null buffer of 0 entries asks for the count only.
        let count =
            self.control(|id| unsafe { dpdk_sys::clgw_port_xstats(id, std::ptr::null_mut(), 0) });
        let count = self.checked("count extended statistics of port", count, hint)?;
        let mut raw = vec![empty; count as usize];
        // SAFETY: the buffer holds as many entries as it is said to.
        let filled = self.control(|id| unsafe {
            dpdk_sys::clgw_port_xstats(id, raw.as_mut_ptr(), raw.len() as u32)
        });
        let filled = self.checked("read extended statistics of port", filled, hint)?;
        raw.truncate(filled as usize);
        Ok(raw.iter().map(|x| XStat { name: text_of(&x.name), value: x.value }).collect())
    }

    /// The state of the cable, without waiting for a negotiation.
    ///
    /// # Errors
    /// The driver cannot tell.
    pub fn link(&self) -> Result<Link, DpdkError> {
        let mut raw = dpdk_sys::clgw_link::default();
        // SAFETY: an open port; room for the answer.
        let code = self.control(|id| unsafe { dpdk_sys::clgw_port_link(id, &mut raw) });
        self.checked("read link of port", code, "The driver does not report a link")?;
        Ok(Link {
            up: raw.up != 0,
            full_duplex: raw.full_duplex != 0,
            speed_mbps: (raw.speed_mbps != u32::MAX).then_some(raw.speed_mbps),
        })
    }
}
