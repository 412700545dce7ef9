//! Captures made here, byte by byte.

use proptest::prelude::*;

use super::*;

const CLIENT: [u8; 4] = [192, 0, 2, 1];
/// Bytes in front of the payload of a segment without options.
const HEADERS: usize = 14 + 20 + 20;
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
    capture([0xD4, 0xC3, 0xB2, 0xA1], u32::to_le_bytes, ETHERNET, frames)
}

/// The bytes of one, in the order of the file.
type Number = fn(u32) -> [u8; 4];

fn capture(magic: [u8; 4], number: Number, link: u32, frames: &[Vec<u8>]) -> Vec<u8> {
    let mut file = magic.to_vec();
    // Version, time zone, accuracy, length of the longest frame: nobody reads them.
    file.resize(20, 0);
    file.extend(number(link));
    for frame in frames {
        let length = number(frame.len() as u32);
        file.extend([0; 8]);
        file.extend(length);
        file.extend(length);
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
    let frames =
        [segment(false, 1, 0, SYN | ACK, &[]), segment(false, 1, 1, ACK, &hello([7; 32], &[41]))];
    for frame in &frames {
        let total = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
        for n in 0..=frame.len() {
            // Headers of Ethernet, IP and TCP; padding behind the packet is no payload.
            let payload = Segment::read(&frame[..n]).map(|segment| segment.payload.len());
            assert_eq!(payload, (n >= HEADERS).then(|| n.min(14 + total) - HEADERS), "{n}");
        }
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

/// A connection with one handshake, which is a resumed one.
fn resumed() -> [Vec<u8>; 2] {
    [segment(false, 1, 0, SYN | ACK, &[]), segment(false, 1, 1, ACK, &hello([7; 32], &[41]))]
}

#[test]
fn files_of_either_byte_order_and_clock() {
    let expected = count(&pcap(&resumed())).unwrap();
    assert_eq!((expected.connections, expected.handshakes, expected.resumed), (1, 1, 1));
    let (big, little): (Number, Number) = (u32::to_be_bytes, u32::to_le_bytes);
    for (magic, number) in [
        ([0xA1, 0xB2, 0xC3, 0xD4], big),
        ([0xA1, 0xB2, 0x3C, 0x4D], big),
        ([0xD4, 0xC3, 0xB2, 0xA1], little),
        ([0x4D, 0x3C, 0xB2, 0xA1], little),
    ] {
        let file = capture(magic, number, ETHERNET, &resumed());
        assert_eq!(count(&file).unwrap(), expected, "{magic:x?}");
        // LINKTYPE_LINUX_SLL, of the interface "any".
        let error = count(&capture(magic, number, 113, &resumed())).unwrap_err().to_string();
        assert!(error.contains("of link type 113, not of Ethernet"), "{error}");
    }
}

#[test]
fn headers_of_other_lengths() {
    let payload = hello([7; 32], &[41]);
    let plain = segment(false, 1, 1, ACK, &payload);
    let read = |frame: &[u8]| Segment::read(frame).map(|s| (s.sequence, s.payload.to_vec()));
    assert_eq!(read(&plain), Some((1, payload.clone())));
    let mut options = plain.clone();
    options[14] = 0x46;
    options.splice(34..34, [1, 1, 1, 0]);
    options[17] += 4;
    assert_eq!(read(&options), Some((1, payload.clone())), "options of IP");
    let mut options = plain.clone();
    options[46] = 0x60;
    options.splice(54..54, [1, 1, 1, 0]);
    options[17] += 4;
    assert_eq!(read(&options), Some((1, payload.clone())), "options of TCP");
    let mut whole = plain.clone();
    whole[16..18].fill(0);
    assert_eq!(read(&whole), Some((1, payload)), "its length is for the device to write");
    for (at, value) in [(12, 0x86), (23, 17), (14, 0x4F)] {
        let mut other = segment(false, 1, 1, ACK, &[]);
        other[at] = value;
        assert_eq!(read(&other), None, "IPv6, UDP, a header longer than the packet: {at}");
    }
}

#[test]
fn what_comes_before_its_turn_is_no_handshake_but_no_other_one_either() {
    let full = hello([7; 32], &[43, 51]);
    let (first, second) = full.split_at(50);
    let mut frames = [
        segment(false, 1, 0, SYN | ACK, &[]),
        segment(false, 1, 51, ACK, second),
        segment(false, 1, 1, ACK, first),
    ];
    let of = |frames: &[Vec<u8>]| {
        let wire = count(&pcap(frames)).unwrap();
        (wire.connections, wire.handshakes)
    };
    // `e2e` refuses a capture with fewer handshakes than connections.
    assert_eq!(of(&frames), (1, 0));
    let again = segment(false, 1, 51, ACK, second);
    assert_eq!(of(&[&frames[..], &[again]].concat()), (1, 1), "a retransmission completes it");
    frames.swap(1, 2);
    assert_eq!(of(&frames), (1, 1));
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        at in any::<prop::sample::Index>(),
    ) {
        let _ = count(&bytes);
        let _ = Segment::read(&bytes);
        let _ = ServerHello::read(&bytes);
        // Behind what is valid, and over it.
        let mut frames = resumed().to_vec();
        frames.push(bytes.clone());
        prop_assert!(count(&pcap(&frames)).is_ok());
        let mut file = pcap(&resumed());
        let at = at.index(file.len());
        for (old, new) in file[at..].iter_mut().zip(&bytes) {
            *old = *new;
        }
        let _ = count(&file);
    }
}
