//! Which worker a connection's packets reach: the device's receive-side scaling, computed here,
//! so that source ports can be chosen to come home and misplaced frames can be handed over.

use dpdk_bindings::IpVersion;
use dpdk_bindings::rss::{self, RssKey, Toeplitz};

use super::FlowKey;
use crate::port::Rss;

/// Entries of the redirection table, unless a device has fewer.
const ENTRIES: u16 = 128;

/// The RSS configuration of a gateway's ports, ready to be computed with.
#[derive(Clone)]
pub struct Steering {
    rss: Rss,
    toeplitz: Toeplitz,
}

impl Steering {
    /// Over `workers` workers (at least one), for devices whose redirection tables have so many
    /// entries; 0 is one without.
    ///
    /// The key is symmetric: both ends of a tunnel see the same hash, so gateways with equally many
    /// workers give it the same one, and what is even at the importer is even at the exporter.
    pub fn new(workers: u16, tables: impl IntoIterator<Item = u16>) -> Self {
        let usable = |entries: &u16| entries.is_power_of_two() && *entries >= workers;
        // A larger table can repeat a smaller one.
        let entries = tables.into_iter().filter(usable).fold(ENTRIES, u16::min);
        Self::with_key(&RssKey::SYMMETRIC, rss::even_reta(entries, workers))
    }

    /// Over `workers` workers, where no device has a table.
    pub fn software(workers: u16) -> Self {
        Self::new(workers, [])
    }

    /// What a device does that has this key and this table, whose length is a power of two.
    pub fn with_key(key: &RssKey, reta: Vec<u16>) -> Self {
        let rss = Rss { key: key.as_bytes().to_vec(), reta };
        Self { rss, toeplitz: Toeplitz::new(key) }
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
    // Without 36 KiB of tables.
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
        let steering = Steering::with_key(&RssKey::MICROSOFT, vec![0]);
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
    fn both_directions_have_the_same_owner() {
        let steering = Steering::software(5);
        for (one, other) in [
            ("10.0.0.9:40000", "10.0.0.1:443"),
            ("[fd00::9]:40000", "[fd00::1]:443"),
            ("192.0.2.77:16384", "198.51.100.3:4443"),
        ] {
            assert_eq!(steering.hash(&key(one, other)), steering.hash(&key(other, one)));
        }
        // And that although clients differ in little else than their ports.
        let hashes: std::collections::HashSet<u32> = (1..=999)
            .map(|n| steering.hash(&key(&format!("10.0.0.9:{n}"), "10.0.0.1:443")))
            .collect();
        assert_eq!(hashes.len(), 999);
    }

    /// A device looks at as many low bits of the hash as its table has, and the gateway at as many
    /// as its own has.
    #[test]
    fn devices_with_tables_of_any_size_spread_as_we_compute() {
        for (workers, tables) in [
            (1, vec![64]),
            (2, vec![2, 512]),
            (3, vec![0, 64, 512]),
            (3, vec![512, 128]),
            (7, vec![2048]),
            (64, vec![64, 128]),
        ] {
            let steering = Steering::new(workers, tables.iter().copied());
            for entries in tables.into_iter().filter(|entries| *entries > 0) {
                let table = steering.rss().table(entries).expect("a table for this device");
                assert_eq!(table.len(), usize::from(entries));
                for hash in (0..4_096).map(|n: u32| n.wrapping_mul(0x9e37_79b9)) {
                    let queue = rss::queue_of(&table, hash).expect("a power of two");
                    assert_eq!(queue, steering.owner_of_hash(hash), "{workers} of {entries}");
                }
            }
        }
        // A table that is none, or in which some worker has no place.
        for (workers, entries) in [(3, 96), (3, 2), (65, 64)] {
            assert_eq!(Steering::new(workers, [entries]).rss().table(entries), None);
        }
    }
}
