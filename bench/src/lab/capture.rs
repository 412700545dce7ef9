//! What went over the wire between the gateways, from a capture of tcpdump's: TCP connections,
//! TLS handshakes, resumed ones. A ServerHello of TLS 1.3 is in the clear and tells.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use super::{Line, PATIENCE, Place};

/// Bytes of each frame to capture: headers and a whole ServerHello.
const SNAP: &str = "2048";
/// tcpdump's buffer, KiB: no frame may be lost.
const BUFFER: &str = "32768";
/// The last frames are on their way to the file.
const SETTLE: Duration = Duration::from_millis(200);
/// Of what a server sends, the part that holds its ServerHello: a key share of ML-KEM has more than
/// 1,000 bytes, and there may be a second one behind a retry.
const PREFIX: usize = 1800;
const ETHERNET: u32 = 1;
const IPV4: u16 = 0x0800;
const TCP: u8 = 6;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const HANDSHAKE: u8 = 22;
const SERVER_HELLO: u8 = 2;
const PRE_SHARED_KEY: u16 = 41;
/// The random of a ServerHello that asks for another ClientHello (RFC 8446, section 4.1.3).
const RETRY: [u8; 32] = [
    0xCF, 0x21, 0xAD, 0x74, 0xE5, 0x9A, 0x61, 0x11, 0xBE, 0x1D, 0x8C, 0x02, 0x1E, 0x65, 0xB8, 0x91,
    0xC2, 0xA2, 0x11, 0x16, 0x7A, 0xBB, 0x8C, 0x5E, 0x07, 0x9E, 0x09, 0xE2, 0xC8, 0xA8, 0x33, 0x9C,
];

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wire {
    /// Connections that were opened, and answered.
    pub connections: usize,
    pub handshakes: usize,
    pub resumed: usize,
    /// Of all handshakes.
    pub suites: BTreeSet<u16>,
}

impl Line<'_> {
    /// Does something, and counts what it put on the wire between the sites.
    ///
    /// # Errors
    /// It fails, or frames escaped the capture.
    pub fn watch(&self, something: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Wire> {
        let file = self.net.dir().join("wire.pcap");
        let path = file.display().to_string();
        let command = [
            "tcpdump",
            "-i",
            "wan0",
            "--immediate-mode",
            "-U",
            "-Z",
            "root",
            "-B",
            BUFFER,
            "-s",
            SNAP,
            "-w",
            &path,
            "tcp",
        ];
        let name = "tcpdump";
        let mut capture = self.net.spawn(name, Place::B, self.lab.cpus.rest, &command)?;
        capture.wait_for("listening on", PATIENCE)?;
        something()?;
        self.net.pause(SETTLE)?;
        let log = self.net.dir().join(format!("{name}.log"));
        capture.stop()?;
        let log = fs::read_to_string(&log).with_context(|| log.display().to_string())?;
        ensure!(
            log.lines().any(|line| line == "0 packets dropped by kernel"),
            "the capture is not complete:\n{log}"
        );
        count(&fs::read(&file).with_context(|| path.clone())?)
    }
}

/// One end's address and port, and the other's.
type Direction = [(Ipv4Addr, u16); 2];

#[derive(Debug)]
struct Stream {
    /// Sequence number of the first byte.
    first: u32,
    bytes: Vec<u8>,
}

/// Counts what a capture file holds.
///
/// # Errors
/// It is no capture of Ethernet frames.
pub fn count(pcap: &[u8]) -> anyhow::Result<Wire> {
    let mut streams: BTreeMap<Direction, Stream> = BTreeMap::new();
    let mut wire = Wire::default();
    let mut finish = |stream: &Stream| {
        let Some(hello) = ServerHello::read(&stream.bytes) else { return };
        wire.handshakes += 1;
        wire.resumed += usize::from(hello.resumed);
        wire.suites.insert(hello.suite);
    };
    let mut connections = 0;
    for frame in frames(pcap)? {
        let Some(segment) = Segment::read(frame) else { continue };
        if segment.flags & (SYN | ACK) == SYN | ACK {
            let stream = Stream { first: segment.sequence.wrapping_add(1), bytes: Vec::new() };
            // The same ports again are another connection, unless it is a retransmission.
            match streams.insert(segment.direction, stream) {
                Some(old) if old.first == segment.sequence.wrapping_add(1) => {
                    streams.insert(segment.direction, old);
                }
                Some(old) => {
                    connections += 1;
                    finish(&old);
                }
                None => connections += 1,
            }
            continue;
        }
        let Some(stream) = streams.get_mut(&segment.direction) else { continue };
        let at = segment.sequence.wrapping_sub(stream.first) as usize;
        let have = stream.bytes.len();
        if at <= have && have < PREFIX {
            stream.bytes.extend(segment.payload.iter().skip(have - at).take(PREFIX - have));
        }
    }
    streams.values().for_each(finish);
    wire.connections = connections;
    Ok(wire)
}

fn frames(pcap: &[u8]) -> anyhow::Result<Vec<&[u8]>> {
    let (header, mut rest) = pcap.split_at_checked(24).context("no capture: it is too short")?;
    let big = match header[..4] {
        // Microseconds, nanoseconds.
        [0xA1, 0xB2, 0xC3, 0xD4] | [0xA1, 0xB2, 0x3C, 0x4D] => true,
        [0xD4, 0xC3, 0xB2, 0xA1] | [0x4D, 0x3C, 0xB2, 0xA1] => false,
        _ => bail!("no capture of tcpdump's: it begins with {:02x?}", &header[..4]),
    };
    let number = |bytes: &[u8]| {
        let bytes = bytes.first_chunk().copied().unwrap_or_default();
        if big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    };
    let link = number(&header[20..]);
    ensure!(link == ETHERNET, "the capture is of link type {link}, not of Ethernet");
    let mut frames = Vec::new();
    while let Some((header, behind)) = rest.split_at_checked(16) {
        // A frame that is cut off is the one being written when the capture ended.
        let Some((frame, behind)) = behind.split_at_checked(number(&header[8..]) as usize) else {
            break;
        };
        frames.push(frame);
        rest = behind;
    }
    Ok(frames)
}

#[derive(Debug)]
struct Segment<'a> {
    direction: Direction,
    sequence: u32,
    flags: u8,
    payload: &'a [u8],
}

impl<'a> Segment<'a> {
    /// `None`: not TCP over IPv4.
    fn read(frame: &'a [u8]) -> Option<Self> {
        let mut ethernet = Bytes(frame);
        ethernet.take(12)?;
        if ethernet.u16()? != IPV4 {
            return None;
        }
        let ip = ethernet.0;
        let header = usize::from(ip.first()? & 0x0F) * 4;
        let total = usize::from(Bytes(ip.get(2..)?).u16()?);
        let address = |at: usize| ip.get(at..)?.first_chunk::<4>().map(|a| Ipv4Addr::from(*a));
        let (from, to) = (address(12)?, address(16)?);
        if *ip.get(9)? != TCP {
            return None;
        }
        // Frames are padded and cut, and segments that a device will cut up may say 0.
        let end = if total == 0 { ip.len() } else { total.min(ip.len()) };
        let tcp = ip.get(header..end)?;
        let mut fields = Bytes(tcp);
        let (source, destination) = (fields.u16()?, fields.u16()?);
        let sequence = u32::from_be_bytes(*fields.take(4)?.first_chunk()?);
        fields.take(4)?;
        let header = usize::from(*fields.take(1)?.first()? >> 4) * 4;
        let flags = *fields.take(1)?.first()?;
        Some(Self {
            direction: [(from, source), (to, destination)],
            sequence,
            flags,
            payload: tcp.get(header..)?,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ServerHello {
    suite: u16,
    resumed: bool,
}

impl ServerHello {
    /// The one a server's bytes begin with; the second after one that asked for another
    /// ClientHello.
    fn read(stream: &[u8]) -> Option<Self> {
        let mut stream = Bytes(stream);
        loop {
            let kind = *stream.take(1)?.first()?;
            stream.take(2)?;
            let length = usize::from(stream.u16()?);
            let record = stream.take(length.min(stream.0.len()))?;
            if kind != HANDSHAKE {
                // ChangeCipherSpec, behind a retry.
                continue;
            }
            if let Some(hello) = Self::body(record)? {
                return Some(hello);
            }
        }
    }

    /// `Some(None)`: it asks for another ClientHello.
    fn body(record: &[u8]) -> Option<Option<Self>> {
        let mut fields = Bytes(record);
        if *fields.take(1)?.first()? != SERVER_HELLO {
            return None;
        }
        // Length, legacy version.
        fields.take(3 + 2)?;
        if fields.take(32)? == RETRY {
            return Some(None);
        }
        let session = usize::from(*fields.take(1)?.first()?);
        fields.take(session)?;
        let suite = fields.u16()?;
        // Compression.
        fields.take(1)?;
        let length = usize::from(fields.u16()?);
        let mut extensions = Bytes(fields.take(length)?);
        let mut resumed = false;
        while !extensions.0.is_empty() {
            resumed |= extensions.u16()? == PRE_SHARED_KEY;
            let length = usize::from(extensions.u16()?);
            extensions.take(length)?;
        }
        Some(Some(Self { suite, resumed }))
    }
}

/// What is left to read.
#[derive(Debug)]
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
    }
}

#[cfg(test)]
mod tests;
