//! Records that are open while payload arrives, over TCP connections of their own.

use proptest::prelude::*;

use super::*;
use crate::tcp::tests::{PLENTY, SETTINGS, Side, call, exchange};
use crate::tcp::{BufferSide, TcpSettings};
use crate::time::Duration;
use crate::tls::tests::{awaiting_key_update, record_layers};

const KIB: usize = 1024;
/// Payload of a full segment.
const SEGMENT: usize = 1_448;

struct End {
    side: Side,
    tunnel: Tunnel,
    scratch: Scratch,
}

impl End {
    fn new(role: Role, records: RecordLayer, side: Side) -> Self {
        let tunnel = Tunnel::new(role, records, Vec::new());
        Self { side, tunnel, scratch: Scratch::default() }
    }

    fn arrived(&mut self, payload: &[u8]) -> usize {
        let Side { engine, conn, .. } = &mut self.side;
        self.tunnel.seal_arrived(conn, engine.memory(), &mut self.scratch, payload).unwrap()
    }

    fn flush(&mut self) {
        let Side { engine, conn, .. } = &mut self.side;
        assert!(self.tunnel.flush(conn, engine.memory(), &mut self.scratch).unwrap());
    }

    fn queued(&self) -> usize {
        self.side.conn.send_queue()
    }

    /// Payload of each DATA record that is there.
    fn take(&mut self) -> Vec<Vec<u8>> {
        let mut taken = Taken::default();
        let (conn, scratch) = (&mut self.side.conn, &mut self.scratch);
        self.tunnel.open_records(conn, scratch, Instant::ZERO, usize::MAX, &mut taken).unwrap();
        taken.0
    }
}

#[derive(Default)]
struct Taken(Vec<Vec<u8>>);

impl Upcalls for Taken {
    fn takes(&mut self, _: usize) -> bool {
        true
    }

    fn frame(&mut self, incoming: Incoming<'_>) -> Next {
        if let Incoming::Data(data) = incoming {
            self.0.push(data.to_vec());
        }
        Next::Continue
    }
}

/// Two gateways, and a stream that is past its beginning.
struct Pair {
    from: End,
    to: End,
    now: Instant,
}

impl Pair {
    fn new(ring: usize) -> Self {
        let (client, server) = record_layers();
        Self::on(client, server, ring)
    }

    fn on(client: RecordLayer, server: RecordLayer, ring: usize) -> Self {
        let now = Instant::from_millis(1);
        let settings = TcpSettings { send: ring, side: BufferSide::Peer, ..SETTINGS };
        let (mut c, mut s) = (Side::with(1, settings, PLENTY), Side::with(2, settings, PLENTY));
        call(&mut c, &mut s, now);
        exchange(&mut c, &mut s, now);
        let (from, to) = (End::new(Role::Importer, client, c), End::new(Role::Exporter, server, s));
        let mut pair = Self { from, to, now };
        let End { side: Side { engine, conn, .. }, tunnel, scratch } = &mut pair.from;
        let none = std::iter::empty();
        let sent = tunnel.send_open(conn, engine.memory(), scratch, "shop", "web", none).unwrap();
        assert_eq!(sent, OpenSent::Sent);
        tunnel.sizes.sealed(1 << 20);
        assert!(pair.deliver().is_empty());
        pair
    }

    /// Lets what is queued arrive and be acknowledged, as far as windows reach.
    fn deliver(&mut self) -> Vec<Vec<u8>> {
        exchange(&mut self.from.side, &mut self.to.side, self.now);
        self.now += Duration::from_millis(20);
        exchange(&mut self.from.side, &mut self.to.side, self.now);
        self.to.take()
    }

    /// Lets at most `most` segments arrive; what acknowledges them arrives too.
    fn deliver_some(&mut self, most: usize) {
        let Self { from: End { side: from, .. }, to: End { side: to, .. }, now } = self;
        from.output(*now);
        for _ in 0..most {
            let Some(segment) = from.line.segments.pop_front() else { break };
            to.input(*now, &segment);
        }
        to.output(*now);
        while let Some(segment) = to.line.segments.pop_front() {
            from.input(*now, &segment);
        }
    }
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| ((i / 5) ^ (i >> 8)) as u8).collect()
}

#[test]
fn what_arrives_before_a_flush_is_one_record() {
    let mut pair = Pair::new(64 * KIB);
    let data = bytes(3 * SEGMENT);
    for segment in data.chunks(SEGMENT) {
        assert_eq!(pair.from.arrived(segment), SEGMENT);
        assert_eq!(pair.from.queued(), 0);
    }
    pair.from.flush();
    assert_eq!(pair.from.queued(), DATA_OVERHEAD + data.len());
    assert_eq!(pair.deliver(), [data]);
}

#[test]
fn a_record_that_is_full_is_sealed_at_once() {
    let mut pair = Pair::new(64 * KIB);
    let data = bytes(14 * SEGMENT);
    for segment in data.chunks(SEGMENT) {
        assert_eq!(pair.from.arrived(segment), SEGMENT);
    }
    assert_eq!(pair.from.queued(), 11 * SEGMENT, "it ends with a segment");
    pair.from.flush();
    let records = pair.deliver();
    assert_eq!((records.len(), records.concat()), (2, data));
}

#[test]
fn the_beginning_of_a_stream_is_not_taken() {
    let mut pair = Pair::new(64 * KIB);
    pair.from.tunnel.sizes.restart();
    assert_eq!((pair.from.arrived(b"hello"), pair.from.queued()), (0, 0));
}

#[test]
fn no_more_is_taken_than_there_is_room_for() {
    let mut pair = Pair::new(32 * KIB);
    let data = bytes(40 * KIB);
    let taken = pair.from.arrived(&data);
    assert!((24 * KIB..32 * KIB).contains(&taken), "{taken}");
    assert_eq!(pair.from.arrived(&data[taken..]), 0);
    assert_eq!(pair.deliver().concat(), data[..taken]);
}

#[test]
fn an_open_record_stays_when_all_before_it_is_acknowledged() {
    let mut pair = Pair::new(64 * KIB);
    let data = bytes(9_000);
    pair.from.arrived(&data[..5_000]);
    pair.from.flush();
    pair.from.arrived(&data[5_000..7_000]);
    assert_eq!(pair.deliver(), [&data[..5_000]]);
    assert_eq!(pair.from.queued(), 0);
    pair.from.arrived(&data[7_000..]);
    pair.from.flush();
    assert_eq!(pair.deliver(), [&data[5_000..]]);
    pair.deliver();
    assert_eq!(pair.from.side.engine.memory().in_use(), 0);
}

/// Nobody makes it grow meanwhile; the record would stay all the same.
#[test]
fn an_open_record_moves_with_a_ring_that_grows() {
    let mut pair = Pair::new(64 * KIB);
    let data = bytes(5_000);
    pair.from.arrived(&data[..2_000]);
    let Side { engine, conn, .. } = &mut pair.from.side;
    let before = engine.memory().in_use();
    assert!(conn.reserve(engine.memory(), 60_000) && engine.memory().in_use() > before);
    pair.from.arrived(&data[2_000..]);
    pair.from.flush();
    assert_eq!(pair.deliver(), [data]);
}

#[test]
fn a_record_that_wraps_around_the_end_of_the_ring_arrives() {
    let mut pair = Pair::new(32 * KIB);
    let data = bytes(40 * KIB);
    let first = pair.from.arrived(&data);
    pair.deliver_some(10);
    assert!(pair.from.queued() > 0 && pair.from.side.conn.send_run() < MIN_BULK_RECORD);
    let end = first + MIN_BULK_RECORD;
    assert_eq!(pair.from.arrived(&data[first..end]), MIN_BULK_RECORD);
    pair.from.flush();
    let mut records = pair.deliver();
    records.extend(pair.deliver());
    assert_eq!(records.last().map(Vec::len), Some(MIN_BULK_RECORD));
    assert_eq!(records.concat(), data[..end]);
}

#[test]
fn what_is_said_afterwards_goes_behind_an_open_record() {
    for say in [Tunnel::finish, Tunnel::reset, Tunnel::close] {
        let mut pair = Pair::new(64 * KIB);
        pair.from.arrived(b"last bytes");
        say(&mut pair.from.tunnel);
        pair.from.flush();
        assert_eq!(pair.deliver(), [b"last bytes"]);
    }
}

#[test]
fn an_open_record_goes_before_the_key_update_that_a_returned_job_makes_due() {
    let (client, server, job) = awaiting_key_update();
    let mut pair = Pair::on(client, server, 64 * KIB);
    pair.from.arrived(b"old key");
    let End { side, tunnel, scratch } = &mut pair.from;
    tunnel.return_ticket_job(&mut side.conn, scratch, job.run()).unwrap();
    pair.from.arrived(b"new key");
    pair.from.flush();
    assert_eq!(pair.deliver(), [b"old key", b"new key"]);
}

#[test]
fn an_open_record_ends_with_its_connection() {
    let mut pair = Pair::new(64 * KIB);
    pair.from.arrived(b"lost");
    pair.from.side.conn.abort();
    assert_eq!(pair.from.arrived(b"lost, too"), 0);
    pair.from.flush();
    pair.from.side.output(pair.now);
    assert_eq!(pair.from.side.engine.memory().in_use(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn bytes_come_out_as_they_went_in(
        steps in proptest::collection::vec((0u8..7, 1usize..4_000), 1..150),
        ring in 32 * KIB..160 * KIB,
    ) {
        let mut pair = Pair::new(ring);
        let data = bytes(1 << 20);
        let (mut taken, mut came) = (0, Vec::new());
        for (what, n) in steps {
            match what {
                0..3 => taken += pair.from.arrived(&data[taken..taken + n]),
                3 => pair.from.flush(),
                4 => {
                    pair.from.tunnel.ping(n as u64);
                    pair.from.flush();
                }
                5 => pair.deliver_some(n % 16),
                _ => came.extend(pair.deliver().concat()),
            }
        }
        pair.from.flush();
        for _ in 0..100 {
            came.extend(pair.deliver().concat());
        }
        prop_assert!(came == data[..taken], "{} of {taken} bytes", came.len());
        prop_assert_eq!(pair.from.queued(), 0);
        prop_assert_eq!(pair.from.side.engine.memory().in_use(), 0);
    }
}
