//! Both sides on simulated ports and a virtual clock.

use std::sync::Arc;
use std::time::Duration;

use clgw::host::HostConfig;
use clgw::net::MacAddr;
use clgw::port::PortCaps;
use clgw::port::sim::{SimPool, SimPort};
use clgw::sim::{App, SocketIo};
use clgw::time::Instant;

use super::exchanges::{ExchangesPlan, Latencies};
use super::load::{Plan, Target};
use super::schedule::{Broken, Timing};
use super::side::{ClientResult, Sample, Side};
use super::tally::{Counts, Published};
use super::{Direction, StreamsPlan};

const FRAMES: usize = 8_192;
/// A turn of both sides takes this.
const TURN: Duration = Duration::from_micros(50);
const SECOND: Duration = Duration::from_secs(1);

struct Pair {
    now: Instant,
    client: Side<SimPort>,
    server: Side<SimPort>,
    pools: [SimPool; 2],
    published: Arc<Published>,
}

fn port(number: u8) -> (SimPort, SimPool, HostConfig) {
    let mac = MacAddr([2, 0, 0, 0, 0, number]);
    let caps =
        PortCaps { mac, mtu: 1500, tx_checksum: false, rx_checksum: false, tso: false, rss: None };
    let pool = SimPool::new(FRAMES, 1500);
    let address = format!("10.0.0.{number}/24").parse().unwrap();
    let config = HostConfig { addresses: vec![address], routes: vec![], buffer: 64 * 1024 };
    (SimPort::new(caps, pool.clone(), FRAMES, FRAMES), pool, config)
}

impl Pair {
    fn new(plan: Plan, to: &str) -> Self {
        let (client, client_pool, client_config) = port(1);
        let (server, server_pool, server_config) = port(2);
        let published = Arc::new(Published::default());
        let target = Target { to: to.parse().unwrap(), from: vec!["10.0.0.1".parse().unwrap()] };
        let with = Some(Arc::clone(&published));
        let client =
            Side::client(client, client_config, 1, (plan, target), Arc::default(), with).unwrap();
        let of_server = Arc::clone(&published);
        let server = Side::server(server, server_config, 2, &[8080], true, of_server).unwrap();
        let now = Instant::from_millis(1);
        Self { now, client, server, pools: [client_pool, server_pool], published }
    }

    /// A turn; the server only has one while `server` is true.
    fn turn(&mut self, server: bool) {
        self.client.turn(self.now);
        let (client, other) = (self.client.host_mut().io_mut(), self.server.host_mut().io_mut());
        while let Some(frame) = client.collect() {
            other.deliver(frame);
        }
        if server {
            self.server.turn(self.now);
            let from = self.server.host_mut().io_mut();
            let client = self.client.host_mut().io_mut();
            while let Some(frame) = from.collect() {
                client.deliver(frame);
            }
        }
        self.now += TURN;
    }

    /// Runs the load to its end; the server has no turns from `stall.0` on for `stall.1`.
    fn run(&mut self, stall: Option<(Duration, Duration)>) {
        let begin = self.now;
        while !self.client.is_over() {
            let since = self.now.since(begin);
            assert!(since < 30 * SECOND, "{:?}", self.client.counts());
            self.turn(stall.is_none_or(|(at, time)| since < at || since >= at + time));
        }
        // The last acknowledgements and resets.
        for _ in 0..10 {
            self.turn(true);
        }
    }

    /// Both sides' counts and what the client measured.
    fn finish(self) -> (Counts, Counts, ClientResult) {
        let counts = (self.client.counts(), self.server.counts());
        let result = self.client.finish().1.unwrap();
        drop(self.server);
        for pool in self.pools {
            assert_eq!(pool.available(), FRAMES, "frames were lost");
        }
        (counts.0, counts.1, result)
    }
}

fn timing(measure: u32) -> Timing {
    Timing { warm_up: SECOND / 2, measure: measure * SECOND }
}

fn streams(plan: StreamsPlan) -> (Counts, Counts, ClientResult) {
    let mut pair = Pair::new(Plan::Streams(plan), "10.0.0.2:8080");
    pair.run(None);
    pair.finish()
}

#[test]
fn streams_arrive_whole_in_both_directions() {
    for direction in [Direction::Upload, Direction::Download, Direction::Both] {
        let (up, down) = (direction != Direction::Download, direction != Direction::Upload);
        let (client, server, result) = streams(direction.streams(3, timing(2), true));
        assert_eq!((client.opened, client.ended, client.failed), (3, 3, 0), "{direction:?}");
        assert_eq!((server.opened, server.ended, server.failed), (3, 3, 0), "{direction:?}");
        assert_eq!(server.received > 0, up);
        assert_eq!(client.received > 0, down);
        // In order to the end: nothing that was sent is missing.
        assert_eq!(client.received, server.sent, "{direction:?}");
        assert!(server.received >= client.sent, "{direction:?}");
        let [first, second] = result.samples.try_into().unwrap();
        for Sample { seconds, client, server } in [first, second] {
            assert!((0.99..1.01).contains(&seconds), "{seconds}");
            assert!(client.received + server.unwrap().received > 1_000_000);
        }
    }
}

fn plan(churn: bool, connections: u64, rate: Option<f64>) -> ExchangesPlan {
    ExchangesPlan { churn, connections, rate, request: 700, response: 3_000, timing: timing(3) }
}

fn exchanges(
    plan: ExchangesPlan,
    stall: Option<(Duration, Duration)>,
) -> (Counts, Counts, Latencies) {
    let mut pair = Pair::new(Plan::Exchanges(plan), "10.0.0.2:8080");
    pair.run(stall);
    let (client, server, result) = pair.finish();
    (client, server, result.latencies.unwrap())
}

#[test]
fn every_connection_of_a_churn_carries_one_request() {
    let (client, server, latencies) = exchanges(plan(true, 20, None), None);
    assert!(client.opened > 10_000, "{client:?}");
    assert_eq!((client.ended, client.failed), (client.opened, 0));
    assert_eq!((server.ended, server.failed), (client.opened, 0));
    assert_eq!((client.exchanges, server.exchanges), (client.opened, client.opened));
    assert_eq!(client.received, client.opened * 3_000);
    assert_eq!(server.received, client.opened * 700);
    assert_eq!(latencies.unanswered, 0);
    assert!(latencies.histogram.len() > client.opened / 2);
}

#[test]
fn a_churn_at_a_rate_keeps_the_rate() {
    let (client, _, latencies) = exchanges(plan(true, 1_000, Some(800.0)), None);
    // Half a second of warm-up and three of measurement.
    assert!((2_799..=2_801).contains(&client.opened), "{client:?}");
    assert!((2_399..=2_401).contains(&latencies.histogram.len()), "{}", latencies.histogram.len());
    assert_eq!((client.ended, client.failed, latencies.unanswered), (client.opened, 0, 0));
}

#[test]
fn a_stall_is_seen_by_every_request_that_was_due_in_it() {
    let at = Duration::from_millis(1_500);
    let (client, _, latencies) = exchanges(plan(false, 8, Some(1_000.0)), Some((at, SECOND)));
    assert_eq!((client.failed, latencies.unanswered), (0, 0));
    let histogram = latencies.histogram;
    assert!((2_999..=3_001).contains(&histogram.len()), "{}", histogram.len());
    let millis = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e6;
    // A third of the requests were due in the stall and waited for a half of it on average,
    // though only 8 of them could be on their way.
    assert!(millis(0.5) < 20.0, "{}", millis(0.5));
    assert!((600.0..900.0).contains(&millis(0.9)), "{}", millis(0.9));
    assert!((950.0..1_300.0).contains(&millis(0.99)), "{}", millis(0.99));

    // A closed loop hides it: what was not sent was not measured.
    let (_, _, latencies) = exchanges(plan(false, 8, None), Some((at, SECOND)));
    let slow = latencies.histogram.count_between(100_000_000, u64::MAX);
    assert!(slow <= 8 && latencies.histogram.len() > 10_000, "{slow}");
}

#[test]
fn what_is_never_answered_is_counted_and_in_the_percentiles() {
    let at = Duration::from_millis(2_000);
    let (client, _, latencies) = exchanges(plan(false, 8, Some(1_000.0)), Some((at, 60 * SECOND)));
    assert!((1_400..1_600).contains(&latencies.unanswered), "{}", latencies.unanswered);
    assert!((2_999..=3_001).contains(&latencies.histogram.len()));
    assert!(latencies.histogram.max() > 3_000_000_000, "until the end of the run");
    assert_eq!(client.failed, 8, "connections that did not end");
}

#[test]
fn a_target_that_refuses_ends_the_load_at_once() {
    for plan in [
        Plan::Exchanges(plan(false, 5, None)),
        Plan::Streams(Direction::Upload.streams(5, timing(2), false)),
    ] {
        let mut pair = Pair::new(plan, "10.0.0.2:81");
        pair.run(None);
        assert!(pair.now < Instant::from_millis(1_000), "{:?}", pair.now);
        let (client, server, result) = pair.finish();
        assert_eq!((client.opened, client.failed, server.opened), (5, 5, 0));
        let broken = Broken::Incomplete { wanted: 5, established: 0, failed: 5 };
        assert_eq!(result.broken, Some(broken));
        assert_eq!(result.first_failure.as_deref(), Some("a connection was refused"));
    }
}

#[test]
fn requests_due_after_all_connections_failed_are_unanswered() {
    let at = Instant::from_millis(1_501);
    let requests = Plan::Exchanges(plan(false, 8, Some(1_000.0)));
    let uploads = Plan::Streams(Direction::Upload.streams(8, timing(3), false));
    for plan in [requests, uploads] {
        let mut pair = Pair::new(plan, "10.0.0.2:8080");
        while pair.now < at {
            pair.turn(true);
        }
        // The machine of the server starts anew: it knows none of the connections.
        let (port, pool, config) = port(2);
        let published = Arc::clone(&pair.published);
        pair.server = Side::server(port, config, 3, &[], true, published).unwrap();
        pair.pools[1] = pool;
        pair.run(None);
        let (client, _, result) = pair.finish();
        assert_eq!((client.opened, client.failed), (8, 8));
        let Some(Broken::Lost { wanted: 8, after }) = result.broken else {
            panic!("{:?}", result.broken)
        };
        assert!((Duration::from_millis(900)..2 * SECOND).contains(&after), "{after:?}");
        assert_eq!(result.samples.len(), 3, "the window stays as long as planned");
        let Some(latencies) = result.latencies else { continue };
        assert!((2_999..=3_001).contains(&latencies.histogram.len()));
        assert!((1_900..=2_010).contains(&latencies.unanswered), "{}", latencies.unanswered);
    }
}

#[test]
fn an_interrupted_load_keeps_what_it_has() {
    let mut pair = Pair::new(Plan::Exchanges(plan(false, 8, Some(100.0))), "10.0.0.2:8080");
    while pair.now < Instant::from_millis(2_101) {
        pair.turn(true);
    }
    pair.client.interrupt(pair.now);
    pair.run(None);
    assert!(pair.now < Instant::from_millis(2_200), "{:?}", pair.now);
    let (client, server, result) = pair.finish();
    // 0.5 s of warm-up, then 1.6 s.
    let latencies = result.latencies.unwrap();
    assert!((158..=162).contains(&latencies.histogram.len()), "{}", latencies.histogram.len());
    assert_eq!((client.ended, client.failed, server.failed), (8, 0, 0));
    assert_eq!(result.samples.len(), 2);
}

/// A client that speaks another protocol.
struct Stranger(bool);

impl App for Stranger {
    fn poll(&mut self, io: &mut SocketIo<'_>) {
        if io.may_send() && !std::mem::replace(&mut self.0, true) {
            io.send(|room| {
                room[..18].copy_from_slice(b"GET / HTTP/1.1\r\n\r\n");
                18
            });
        }
    }
}

#[test]
fn a_server_resets_strangers() {
    let mut pair = Pair::new(Plan::Exchanges(plan(false, 1, Some(10.0))), "10.0.0.2:8080");
    let to = "10.0.0.2:8080".parse().unwrap();
    pair.client.host_mut().connect(pair.now, None, to, Box::new(Stranger(false))).unwrap();
    pair.run(None);
    let (client, server, _) = pair.finish();
    assert_eq!((client.failed, server.failed, server.ended), (0, 1, 1));
}
