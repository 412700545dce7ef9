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
mod tests {
    use super::*;

    const CLIENT: [u8; 4] = [192, 0, 2, 1];
    const SERVER: [u8; 4] = [192, 0, 2, 2];

    fn hello(random: [u8; 32], extensions: &[u16]) -> Vec<u8> {
        let mut list = Vec::new();
        for kind in extensions {
            list.extend(kind.to_be_bytes());
            list.extend([0, 2, 3, 4]);
        }
        let mut body = vec![3, 3];
        body.extend(random);
        body.extend([4, 1, 2, 3, 4, 0x13, 0x01, 0]);
        body.extend((list.len() as u16).to_be_bytes());
        body.extend(list);
        let mut record = vec![HANDSHAKE, 3, 3];
        record.extend((body.len() as u16 + 4).to_be_bytes());
        record.extend([SERVER_HELLO, 0]);
        record.extend((body.len() as u16).to_be_bytes());
        record.extend(body);
        record
    }

    fn segment(up: bool, port: u16, sequence: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([8, 0, 0x45, 0]);
        frame.extend((40 + payload.len() as u16).to_be_bytes());
        frame.extend([0, 0, 0, 0, 64, TCP, 0, 0]);
        let ends = [(CLIENT, port), (SERVER, 4443)];
        let [from, to] = if up { ends } else { [ends[1], ends[0]] };
        frame.extend(from.0);
        frame.extend(to.0);
        frame.extend(from.1.to_be_bytes());
        frame.extend(to.1.to_be_bytes());
        frame.extend(sequence.to_be_bytes());
        frame.extend([0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
        frame.extend(payload);
        // Padding of short frames is not payload.
        frame.resize(frame.len().max(60), 0xEE);
        frame
    }

    fn pcap(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut file = vec![0xD4, 0xC3, 0xB2, 0xA1, 2, 0, 4, 0];
        file.resize(20, 0);
        file.extend(ETHERNET.to_le_bytes());
        for frame in frames {
            file.extend([0; 8]);
            file.extend((frame.len() as u32).to_le_bytes());
            file.extend((frame.len() as u32).to_le_bytes());
            file.extend(frame);
        }
        file
    }

    #[test]
    fn handshakes_are_told_apart() {
        let full = hello([7; 32], &[43, 51]);
        let resumed = hello([7; 32], &[43, 41, 51]);
        let (first, second) = resumed.split_at(9);
        let frames = [
            // A full one; the sequence number wraps.
            segment(true, 1000, 5, SYN, &[]),
            segment(false, 1000, u32::MAX, SYN | ACK, &[]),
            segment(true, 1000, 6, ACK, &[22, 3, 1, 0, 1, 1]),
            segment(false, 1000, 0, ACK, &full),
            // A resumed one in two pieces, the first twice.
            segment(true, 1001, 5, SYN, &[]),
            segment(false, 1001, 99, SYN | ACK, &[]),
            segment(false, 1001, 99, SYN | ACK, &[]),
            segment(false, 1001, 100, ACK, first),
            segment(false, 1001, 100, ACK, first),
            segment(false, 1001, 109, ACK, second),
            // Not TLS; and on the same ports again, after a retry.
            segment(false, 1002, 0, SYN | ACK, &[]),
            segment(false, 1002, 1, ACK, b"SSH-2.0"),
            segment(false, 1002, 70, SYN | ACK, &[]),
            segment(false, 1002, 71, ACK, &[hello(RETRY, &[43]), full.clone()].concat()),
            // Was open before.
            segment(false, 1003, 1, ACK, &full),
            vec![0; 30],
        ];
        let wire = count(&pcap(&frames)).unwrap();
        let suites = BTreeSet::from([0x1301]);
        assert_eq!(wire, Wire { connections: 4, handshakes: 3, resumed: 1, suites });
    }

    #[test]
    fn cut_off_anywhere_is_no_panic() {
        let frames = [
            segment(false, 1, 0, SYN | ACK, &[]),
            segment(false, 1, 1, ACK, &hello([7; 32], &[41])),
        ];
        for frame in &frames {
            (0..frame.len())
                .for_each(|n| assert!(Segment::read(&frame[..n]).is_none_or(|_| n > 14)));
        }
        let file = pcap(&frames);
        assert_eq!(count(&file).unwrap().resumed, 1);
        for n in 24..file.len() {
            assert_eq!(count(&file[..n]).unwrap().resumed, 0);
        }
        assert!(count(&file[..23]).is_err());
        let record = hello([7; 32], &[41]);
        (0..record.len()).for_each(|n| assert_eq!(ServerHello::read(&record[..n]), None));
        let error = count(&[0; 24]).unwrap_err().to_string();
        assert!(error.contains("no capture of tcpdump's"), "{error}");
    }
}
