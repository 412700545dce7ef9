//! Which worker a connection's packets reach: the device's receive-side scaling, computed here,
//! so that source ports can be chosen to come home and misplaced frames can be handed over.

use dpdk_bindings::IpVersion;
use dpdk_bindings::rss::{self, RssKey, Toeplitz};
use thiserror::Error;

use super::FlowKey;
use crate::port::Rss;

/// Buckets of the redirection table of software steering.
const SOFTWARE_BUCKETS: u16 = 128;

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SteeringError {
    #[error("the RSS key has {0} bytes; set one of at least {len} bytes", len = rss::KEY_LEN)]
    Key(usize),
    #[error("the RSS redirection table has {0} entries; the device must report a power of two")]
    Table(usize),
}

/// A device's RSS configuration, ready to be computed with.
#[derive(Clone)]
pub struct Steering {
    rss: Rss,
    toeplitz: Toeplitz,
}

impl Steering {
    /// # Errors
    /// Key or redirection table unusable, see [`SteeringError`].
    pub fn new(rss: Rss) -> Result<Self, SteeringError> {
        let key = RssKey::new(&rss.key).map_err(|_| SteeringError::Key(rss.key.len()))?;
        if !rss.reta.len().is_power_of_two() {
            return Err(SteeringError::Table(rss.reta.len()));
        }
        Ok(Self { rss, toeplitz: Toeplitz::new(&key) })
    }

    /// Steering in software over `workers` workers (at least one), where the device has none.
    pub fn software(workers: u16) -> Self {
        let key = RssKey::MICROSOFT;
        let reta = rss::even_reta(SOFTWARE_BUCKETS, workers);
        let rss = Rss { key: key.as_bytes().to_vec(), reta };
        Self { rss, toeplitz: Toeplitz::new(&key) }
    }

    pub fn rss(&self) -> &Rss {
        &self.rss
    }

    /// The Toeplitz hash of a packet that comes in for `key`: over its source (our remote) and
    /// destination (our local) address and port, in this order.
    pub fn hash(&self, key: &FlowKey) -> u32 {
        let (src_port, dst_port) = (key.remote_port, key.local_port);
        match (key.remote.v4_octets(), key.local.v4_octets()) {
            (Some(src), Some(dst)) => {
                self.toeplitz.tcp_v4(src.into(), dst.into(), src_port, dst_port)
            }
            _ => self.toeplitz.tcp_v6(
                key.remote.octets().into(),
                key.local.octets().into(),
                src_port,
                dst_port,
            ),
        }
    }

    /// The worker that gets packets coming in for `key`.
    #[inline]
    pub fn owner(&self, key: &FlowKey) -> u16 {
        self.owner_of_hash(self.hash(key))
    }

    /// [`Steering::owner`] as a function of the local port, for the addresses and the remote port
    /// of `key`: two table look-ups a port, as the hash is linear.
    pub fn owner_by_local_port(&self, key: &FlowKey) -> impl Fn(u16) -> u16 {
        let without_port = self.hash(&FlowKey { local_port: 0, ..*key });
        let version = if key.is_v4() { IpVersion::V4 } else { IpVersion::V6 };
        move |port| self.owner_of_hash(without_port ^ self.toeplitz.port_part(version, port))
    }

    /// The same for a hash the device has computed.
    #[inline]
    pub fn owner_of_hash(&self, hash: u32) -> u16 {
        self.rss.reta[hash as usize & (self.rss.reta.len() - 1)]
    }
}

impl std::fmt::Debug for Steering {
    // Not the key: whoever has it can choose the worker it hits.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Steering").field("reta", &self.rss.reta).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(remote: &str, local: &str) -> FlowKey {
        FlowKey::new(local.parse().unwrap(), remote.parse().unwrap())
    }

    /// The published vectors: source, destination, hash with ports.
    #[test]
    fn agrees_with_the_published_vectors() {
        let steering = Steering::software(1);
        for (src, dst, hash) in [
            ("66.9.149.187:2794", "161.142.100.80:1766", 0x51cc_c178),
            ("199.92.111.2:14230", "65.69.140.83:4739", 0xc626_b0ea),
            ("24.19.198.95:12898", "12.22.207.184:38024", 0x5c2b_394a),
            ("38.27.205.30:48228", "209.142.163.6:2217", 0xafc7_327f),
            ("153.39.163.191:44251", "202.188.127.2:1303", 0x10e8_28a2),
            ("[3ffe:2501:200:1fff::7]:2794", "[3ffe:2501:200:3::1]:1766", 0x4020_7d3d),
            ("[3ffe:501:8::260:97ff:fe40:efab]:14230", "[ff02::1]:4739", 0xdde5_1bbf),
            (
                "[3ffe:1900:4545:3:200:f8ff:fe21:67cf]:44251",
                "[fe80::200:f8ff:fe21:67cf]:38024",
                0x02d1_feef,
            ),
        ] {
            assert_eq!(steering.hash(&key(src, dst)), hash, "{src} > {dst}");
        }
    }

    #[test]
    fn software_steering_uses_every_worker_and_only_those() {
        let steering = Steering::software(3);
        let mut seen = [0; 3];
        for port in 1..=999 {
            let k = key(&format!("10.0.0.9:{port}"), "10.0.0.1:443");
            seen[usize::from(steering.owner(&k))] += 1;
        }
        assert!(seen.iter().all(|n| *n > 200), "{seen:?}");
        assert_eq!(Steering::software(0).owner(&key("10.0.0.9:1", "10.0.0.1:2")), 0);
    }

    #[test]
    fn unusable_device_settings_are_refused() {
        let short = Rss { key: vec![0; 39], reta: vec![0] };
        assert_eq!(Steering::new(short).unwrap_err(), SteeringError::Key(39));
        for reta in [vec![], vec![0; 3]] {
            let bad = Rss { key: RssKey::MICROSOFT.as_bytes().to_vec(), reta: reta.clone() };
            assert_eq!(Steering::new(bad).unwrap_err(), SteeringError::Table(reta.len()));
        }
        let long = Rss { key: vec![7; 52], reta: vec![4; 64] };
        assert_eq!(Steering::new(long).unwrap().owner(&key("1.2.3.4:5", "6.7.8.9:1")), 4);
    }
}
