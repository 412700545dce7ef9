//! What the two gateways of `memif` are configured with.
//!
//!     generator --- A --- B --- generator      each line is a pair of net_memif ports

use std::path::Path;

use crate::lab::SITES;
use crate::lab::runtime_dir::file_prefix;
use crate::objects::Objects;

pub const VIP: &str = "10.1.0.80:80";
pub const CLIENT: &str = "10.1.0.2/16";
pub const CLIENT_VIA: &str = "10.1.0.1";
pub const SERVER: &str = "10.2.0.2/16";
pub const SERVER_VIA: &str = "10.2.0.1";
pub const SERVER_PORT: u16 = 8080;

/// Slots of a ring, as a power of two. A full one makes its sender wait; a larger one leaves the
/// caches, since every slot has its own buffer.
const RING: u8 = 10;

/// A link and which end of it.
#[derive(Clone, Copy, Debug)]
pub struct End {
    pub link: &'static str,
    /// The end that makes the socket; it has to start first.
    pub listens: bool,
}

/// The generator starts first, then B, then A: so A is nowhere the end that copies, where the
/// driver can do without.
pub const CLIENT_END: End = End { link: "client", listens: true };
pub const SERVER_END: End = End { link: "server", listens: true };

/// EAL's file prefix of the generator in this process, and of both gateways that it starts.
pub fn file_prefixes(pid: u32) -> [String; 3] {
    let [a, b] = SITES;
    [format!("clgw-bench-{pid}"), file_prefix(pid, a), file_prefix(pid, b)]
}

#[derive(Clone, Copy, Debug)]
pub struct Links<'a> {
    pub dir: &'a Path,
    pub mtu: usize,
    /// Ends that do not listen lend their mbufs to the other end instead of copying. Takes
    /// hugepages in few files.
    pub zero_copy: bool,
    /// What gateway A's worker does without work.
    pub idle: &'a str,
}

impl Links<'_> {
    /// The device string of an end; `number` tells the devices of one process apart.
    pub fn device(&self, number: u8, end: End) -> String {
        let socket = self.dir.join(end.link);
        let role = if end.listens { "server" } else { "client" };
        let zero_copy = if self.zero_copy && !end.listens { ",zero-copy=yes" } else { "" };
        // Whole frames in one buffer: the gateways do not read chains.
        let bsize = (self.mtu + 128).next_multiple_of(64).max(2048);
        format!(
            "net_memif{number},role={role},id=0,socket={},socket-abstract=no,rsize={RING},\
             bsize={bsize}{zero_copy}",
            socket.display()
        )
    }

    /// `gateway.yaml` and the objects of site A (0) or B (1).
    pub fn gateway(&self, site: usize, cpu: u16, memory_mib: u32) -> (String, String) {
        let importer = site == 0;
        let (name, other) = (SITES[site], SITES[1 - site]);
        let (wan, other_wan) = match importer {
            true => ("192.0.2.1", "192.0.2.2"),
            false => ("192.0.2.2", "192.0.2.1"),
        };
        let (service, end) = match importer {
            true => (CLIENT_VIA, CLIENT_END),
            false => (SERVER_VIA, SERVER_END),
        };
        let service_device = self.device(0, End { listens: false, ..end });
        let wan_device = self.device(1, End { link: "wan", listens: !importer });
        let idle = if importer { self.idle } else { "sleep" };
        let hugepages = if self.zero_copy { "on" } else { "off" };
        let extra = if self.zero_copy { ", extra: [\"--single-file-segments\"]" } else { "" };
        let mtu = self.mtu;
        let file_prefix = &file_prefixes(std::process::id())[1 + site];
        let mut config = format!(
            "peer: {{ name: {name} }}\n\
             tls: {{ ca: ../cert.pem, cert: cert.pem, key: key.pem }}\n\
             objects: objects/\n\
             workers: {{ count: 1, cpus: [{cpu}], idle: {idle} }}\n\
             eal: {{ hugepages: {hugepages}, memory_mib: {memory_mib}, \
             file_prefix: {file_prefix}{extra} }}\n\
             ports:\n\
             - {{ name: service0, device: \"{service_device}\", side: service, mtu: {mtu}, \
             addresses: [{service}/16] }}\n\
             - {{ name: wan0, device: \"{wan_device}\", side: peer, mtu: {mtu}, \
             addresses: [{wan}/24] }}\n\
             drain: {{ deadline: 2s }}\n",
        );
        let mut objects = Objects::new(other, &[other_wan]);
        if importer {
            let (address, port) = VIP.split_once(':').unwrap_or((VIP, "80"));
            config.push_str(&format!("vips: [{{ import: bench/load, address: {address} }}]\n"));
            objects.import("load", port.parse().unwrap_or(80), other);
        } else {
            let host = SERVER.split('/').next().unwrap_or(SERVER);
            objects.export("load", host, SERVER_PORT);
        }
        (config, objects.into_text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_link_has_one_end_that_listens() {
        let links = Links { dir: Path::new("/run/x"), mtu: 9000, zero_copy: true, idle: "poll" };
        let all: String = [
            links.device(0, CLIENT_END),
            links.device(1, SERVER_END),
            links.gateway(0, 0, 256).0,
            links.gateway(1, 1, 256).0,
        ]
        .join("\n");
        for link in ["client", "wan", "server"] {
            for role in ["server", "client"] {
                let end = format!("role={role},id=0,socket=/run/x/{link},");
                assert_eq!(all.matches(&end).count(), 1, "{end}");
            }
        }
        assert_eq!(all.matches("bsize=9152").count(), 6);
        // What B does is not what is measured.
        for idle in ["idle: poll", "idle: sleep"] {
            assert_eq!(all.matches(idle).count(), 1, "{idle}");
        }
        // Only the ends that do not listen may lend their memory.
        assert_eq!(all.matches("zero-copy=yes").count(), 3);
    }
}
