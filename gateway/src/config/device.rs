//! The DPDK device behind a port.

use std::fmt;
use std::str::FromStr;

use super::values;

/// Bytes of an af_packet ring slot that are not the IP packet: the kernel's frame header and
/// address (TPACKET_V2: 52 + 16 bytes, aligned to 16 = 80) with the Ethernet header at its end.
const AF_PACKET_OVERHEAD: usize = 80;
/// Slot size when the device string names none (DPDK 22.11, `net_af_packet`).
const AF_PACKET_FRAME: usize = 2_048;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// Virtual device and its arguments: `net_af_packet0,iface=eth0`.
    Vdev(String),
    /// PCI address in full with optional arguments: `0000:01:10.0`.
    Pci(String),
}

impl Device {
    /// As given to EAL.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Vdev(text) | Self::Pci(text) => text,
        }
    }

    /// The name DPDK gives the port.
    pub fn name(&self) -> &str {
        self.as_str().split(',').next().unwrap_or_default()
    }

    /// Value of one device argument.
    pub fn argument(&self, name: &str) -> Option<&str> {
        self.as_str().split(',').skip(1).find_map(|part| {
            let (key, value) = part.split_once('=')?;
            (key == name).then_some(value)
        })
    }

    /// Largest MTU the device string allows, None where it sets no bound. An af_packet ring cuts
    /// longer frames without a word, so the bound must be kept by the configuration.
    pub fn max_mtu(&self) -> Option<usize> {
        if !self.name().starts_with("net_af_packet") {
            return None;
        }
        let frame = match self.argument("framesz") {
            Some(text) => text.parse().ok()?,
            None => AF_PACKET_FRAME,
        };
        Some(frame.saturating_sub(AF_PACKET_OVERHEAD))
    }
}

/// The text is no device; what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseDeviceError(String);

impl FromStr for Device {
    type Err = ParseDeviceError;

    /// As in gateway.yaml.
    fn from_str(text: &str) -> Result<Self, ParseDeviceError> {
        values::device(text)
            .map_err(|refusal| ParseDeviceError(format!("{}; {}", refusal.message, refusal.hint)))
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
