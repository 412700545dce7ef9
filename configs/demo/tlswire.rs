//! Proves from packet captures that a link carries TLS 1.3 on one port and nothing else.
//!
//!     rustc --edition 2024 -O tlswire.rs && ./tlswire 4443 FILE.pcap...
//!
//! Captures are pcap files (not pcapng) of Ethernet frames, whole frames, with both directions of
//! every connection from its first segment on; the directions may be in different files. Each TCP
//! stream is put together again and must be TLS records from its first byte to its last (RFC 8446,
//! section 5.1); each stream of a server must begin with a ServerHello that selects TLS 1.3
//! (section 4.2.1). ARP and ICMPv6, which hosts on a link cannot do without, are counted.
//!
//! No crates, so that the demo can build it in a second.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

const PCAP_HEADER: usize = 24;
const PACKET_HEADER: usize = 16;
const LINKTYPE_ETHERNET: u32 = 1;
/// TLSCiphertext.length (RFC 8446, section 5.2).
const MAX_RECORD: usize = 16_384 + 256;

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const SUPPORTED_VERSIONS: u16 = 43;
const TLS13: [u8; 2] = [3, 4];

/// What the captures hold, if it is nothing but TLS 1.3.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub frames: u64,
    pub arp: u64,
    pub icmpv6: u64,
    /// TCP streams, two a connection.
    pub streams: u64,
    /// Streams that began with a ServerHello of TLS 1.3.
    pub servers: u64,
    pub application_records: u64,
    pub application_bytes: u64,
    pub handshake_records: u64,
    /// Bytes behind a hole that the capture itself has: seen, but not looked at as records.
    pub unverified: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} frames: {} TCP streams of TLS, {} ServerHello all of TLS 1.3, {} application-data \
             records with {} bytes, {} handshake records in the clear, {} bytes not verified, \
             {} ARP, {} ICMPv6, nothing else",
            self.frames,
            self.streams,
            self.servers,
            self.application_records,
            self.application_bytes,
            self.handshake_records,
            self.unverified,
            self.arp,
            self.icmpv6
        )
    }
}

type StreamKey = (Vec<u8>, u16, Vec<u8>, u16);

/// Examines captures of one link; `port` is where tunnels are accepted.
///
/// # Errors
/// The first thing that is not TLS 1.3, with its file and frame number.
pub fn examine(captures: &[(&str, &[u8])], port: u16) -> Result<Report, String> {
    let mut report = Report::default();
    let mut streams: HashMap<StreamKey, Stream> = HashMap::new();
    for (name, capture) in captures {
        let mut n = 0;
        for_each_frame(capture, |frame| {
            n += 1;
            report.frames += 1;
            examine_frame(frame, port, &mut streams, &mut report)
                .map_err(|e| format!("{name}, frame {n}: {e}"))
        })
        .map_err(|e| if e.starts_with(name) { e } else { format!("{name}: {e}") })?;
    }
    for stream in streams.into_values() {
        report.unverified += stream.held();
    }
    Ok(report)
}

fn for_each_frame(
    capture: &[u8],
    mut each: impl FnMut(&[u8]) -> Result<(), String>,
) -> Result<(), String> {
    let word =
        |at: usize| capture.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    match word(0) {
        Some(0xa1b2_c3d4 | 0xa1b2_3c4d) => {}
        _ => return Err("not a little-endian pcap file".to_owned()),
    }
    if word(20) != Some(LINKTYPE_ETHERNET) {
        return Err("not a capture of Ethernet frames".to_owned());
    }
    let mut at = PCAP_HEADER;
    // A last packet that is cut short was being written when the capture ended.
    while let (Some(kept), Some(length)) = (word(at + 8), word(at + 12)) {
        if kept != length {
            return Err(format!("a frame of {length} bytes was cut to {kept}: capture with -s 0"));
        }
        at += PACKET_HEADER;
        let Some(frame) = capture.get(at..at + kept as usize) else { break };
        each(frame)?;
        at += kept as usize;
    }
    Ok(())
}

fn be16(bytes: &[u8], at: usize) -> Result<u16, String> {
    match bytes.get(at..at + 2) {
        Some(b) => Ok(u16::from_be_bytes([b[0], b[1]])),
        None => Err("frame too short".to_owned()),
    }
}

fn part(bytes: &[u8], from: usize, to: usize) -> Result<&[u8], String> {
    bytes.get(from..to).ok_or_else(|| "frame too short".to_owned())
}

fn examine_frame(
    frame: &[u8],
    port: u16,
    streams: &mut HashMap<StreamKey, Stream>,
    report: &mut Report,
) -> Result<(), String> {
    let ether_type = be16(frame, 12)?;
    let ip = &frame[14..];
    let (protocol, addresses, tcp) = match ether_type {
        0x0806 => {
            report.arp += 1;
            return Ok(());
        }
        0x0800 => {
            let header = usize::from(part(ip, 0, 1)?[0] & 15) * 4;
            let length = usize::from(be16(ip, 2)?);
            (part(ip, 9, 10)?[0], (part(ip, 12, 16)?, part(ip, 16, 20)?), part(ip, header, length)?)
        }
        0x86dd => {
            let length = usize::from(be16(ip, 4)?);
            let mut next = part(ip, 6, 7)?[0];
            let mut at = 40;
            // Hop-by-hop options stand in front of multicast listener reports.
            if next == 0 {
                next = part(ip, 40, 41)?[0];
                at += 8 + usize::from(part(ip, 41, 42)?[0]) * 8;
            }
            (next, (part(ip, 8, 24)?, part(ip, 24, 40)?), part(ip, at, 40 + length)?)
        }
        other => return Err(format!("EtherType 0x{other:04x} on the wire")),
    };
    match (ether_type, protocol) {
        (_, 6) => {}
        (0x86dd, 58) => {
            report.icmpv6 += 1;
            return Ok(());
        }
        (_, other) => return Err(format!("IP protocol {other} on the wire")),
    }
    let (from, to) = (be16(tcp, 0)?, be16(tcp, 2)?);
    if from != port && to != port {
        return Err(format!("TCP from port {from} to port {to}, neither is {port}"));
    }
    let word = |at| part(tcp, at, at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
    let seq = word(4)?;
    let flags = part(tcp, 13, 14)?[0];
    let payload = part(tcp, usize::from(part(tcp, 12, 13)?[0] >> 4) * 4, tcp.len())?;
    let key = (addresses.0.to_vec(), from, addresses.1.to_vec(), to);
    const SYN: u8 = 2;
    if flags & SYN != 0 {
        let fresh = Stream::new(seq.wrapping_add(1), from == port);
        match streams.get(&key) {
            // A repeated SYN.
            Some(old) if old.first == fresh.first => {}
            _ => {
                report.streams += 1;
                if let Some(old) = streams.insert(key.clone(), fresh) {
                    report.unverified += old.held();
                }
            }
        }
    }
    if payload.is_empty() {
        return Ok(());
    }
    let stream =
        streams.get_mut(&key).ok_or("the capture lacks the beginning of this connection")?;
    stream.segment(seq, payload, report)
}

/// One direction of one connection.
#[derive(Debug)]
struct Stream {
    /// Sequence number of the first byte.
    first: u32,
    server: bool,
    /// Bytes put together so far.
    offset: u64,
    /// Segments that came before their turn, by offset.
    early: BTreeMap<u64, Vec<u8>>,
    /// The beginning of a record that is not complete.
    partial: Vec<u8>,
    records: u64,
}

impl Stream {
    fn new(first: u32, server: bool) -> Self {
        Self { first, server, offset: 0, early: BTreeMap::new(), partial: Vec::new(), records: 0 }
    }

    fn held(&self) -> u64 {
        self.early.values().map(|s| s.len() as u64).sum()
    }

    fn segment(&mut self, seq: u32, payload: &[u8], report: &mut Report) -> Result<(), String> {
        let expected = self.first.wrapping_add(self.offset as u32);
        let ahead = i64::from(seq.wrapping_sub(expected) as i32);
        let Some(at) = self.offset.checked_add_signed(ahead) else { return Ok(()) };
        if at > self.offset {
            self.early.insert(at, payload.to_vec());
            return Ok(());
        }
        self.append(at, payload, report)?;
        while let Some(entry) = self.early.first_entry() {
            if *entry.key() > self.offset {
                break;
            }
            let (at, payload) = entry.remove_entry();
            self.append(at, &payload, report)?;
        }
        Ok(())
    }

    /// Takes what is new of bytes that begin at or before the end of what is there.
    fn append(&mut self, at: u64, payload: &[u8], report: &mut Report) -> Result<(), String> {
        let known = (self.offset - at) as usize;
        let Some(new) = payload.get(known..).filter(|new| !new.is_empty()) else { return Ok(()) };
        self.offset += new.len() as u64;
        self.partial.extend_from_slice(new);
        let mut done = 0;
        while let Some(header) = self.partial.get(done..done + 5) {
            let (kind, version) = (header[0], [header[1], header[2]]);
            let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
            if !(CHANGE_CIPHER_SPEC..=APPLICATION_DATA).contains(&kind)
                || !matches!(version, [3, 1 | 3])
                || length > MAX_RECORD
            {
                return Err(format!("bytes that are no TLS record: {header:02x?}"));
            }
            let Some(body) = self.partial.get(done + 5..done + 5 + length) else { break };
            check_record(self.server, self.records, kind, body, report)?;
            self.records += 1;
            done += 5 + length;
        }
        self.partial.drain(..done);
        Ok(())
    }
}

fn check_record(
    server: bool,
    number: u64,
    kind: u8,
    body: &[u8],
    report: &mut Report,
) -> Result<(), String> {
    match kind {
        APPLICATION_DATA if number > 0 => {
            report.application_records += 1;
            report.application_bytes += body.len() as u64;
            Ok(())
        }
        HANDSHAKE if number == 0 && server => {
            report.handshake_records += 1;
            report.servers += 1;
            server_hello(body)
        }
        HANDSHAKE if number == 0 && body.first() == Some(&CLIENT_HELLO) => {
            report.handshake_records += 1;
            Ok(())
        }
        // For middleboxes only (RFC 8446, appendix D.4).
        CHANGE_CIPHER_SPEC if body == [1] && number > 0 => Ok(()),
        // In the clear only before there are keys, which ends the connection.
        ALERT if body.len() == 2 => Ok(()),
        _ => Err(format!("record {number} of the stream is of type {kind} in the clear")),
    }
}

/// Checks that a ServerHello selects TLS 1.3 (RFC 8446, sections 4.1.3 and 4.2.1).
fn server_hello(body: &[u8]) -> Result<(), String> {
    let bad = || "a server's first record is no ServerHello of TLS 1.3".to_owned();
    if body.first() != Some(&SERVER_HELLO) {
        return Err(bad());
    }
    // Type, length, version, random; then the session id, the suite and the compression method.
    let session = usize::from(*body.get(38).ok_or_else(bad)?);
    let mut rest = body.get(39 + session + 3 + 2..).ok_or_else(bad)?;
    while let [k1, k2, l1, l2, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*l1, *l2]));
        let value = tail.get(..length).ok_or_else(bad)?;
        if u16::from_be_bytes([*k1, *k2]) == SUPPORTED_VERSIONS {
            return if value == TLS13 { Ok(()) } else { Err(bad()) };
        }
        rest = &tail[length..];
    }
    Err(bad())
}

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let parsed = match arguments.split_first() {
        Some((port, files)) if !files.is_empty() => port.parse().ok().map(|port| (port, files)),
        _ => None,
    };
    let Some((port, files)) = parsed else {
        eprintln!("usage: tlswire PORT FILE.pcap...");
        return 2.into();
    };
    let mut captures = Vec::new();
    for file in files {
        match std::fs::read(file) {
            Ok(bytes) => captures.push((file.as_str(), bytes)),
            Err(e) => {
                eprintln!("tlswire: {file}: {e}");
                return 2.into();
            }
        }
    }
    let captures: Vec<(&str, &[u8])> = captures.iter().map(|(n, b)| (*n, b.as_slice())).collect();
    match examine(&captures, port) {
        Ok(report) if report.servers == 0 || report.application_records == 0 => {
            eprintln!("tlswire: the captures hold no TLS connection with data: {report}");
            1.into()
        }
        Ok(report) => {
            println!("{report}");
            0.into()
        }
        Err(e) => {
            eprintln!("tlswire: {e}");
            1.into()
        }
    }
}
