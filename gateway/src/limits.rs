//! Every bound of the gateway, in one place, checked against each other at compile time.

use std::time::Duration;

// --- Frames and bursts ------------------------------------------------------------------------

/// Frames taken from a queue in one burst.
pub const RX_BURST: usize = 64;
/// Frames that wait for the device per port; above it connections are not polled for output.
pub const TX_QUEUE_FRAMES: usize = 1024;
/// Free TX frames kept at hand per port, so that a reply never has to be given up half-way.
pub const TX_STASH_FRAMES: usize = 64;
/// Largest IP packet that a device is given to cut into segments (TSO), bytes: two full TLS records, and
/// four segments of 9,000.
pub const TSO_PACKET: usize = 36 * 1024;
/// Frames for such packets per queue pair, at the most. Where all are with the device, segments leave one by
/// one.
pub const TSO_FRAMES: u32 = 256;
/// Largest IP packet we handle (IPv4 total length / IPv6 payload limit without jumbograms).
pub const MAX_IP_PACKET: usize = 65_535;
/// Smallest MTU we accept on a port: IPv6 requires 1280 (RFC 8200, section 5).
pub const MIN_MTU: usize = 1_280;
/// Largest MTU we accept on a port.
pub const MAX_MTU: usize = 9_216;
/// Ethernet header, bytes.
pub const ETHERNET_HEADER: usize = 14;

// --- Neighbours, routes, ICMP -------------------------------------------------------------------

pub const MAX_NEIGHBOURS: usize = 4_096;
pub const MAX_ROUTES: usize = 256;
pub const MAX_LOCAL_ADDRESSES: usize = 1_024;
/// Time between two solicitations of the same neighbour (RFC 4861 RETRANS_TIMER, 1 s).
pub const NEIGHBOUR_RETRY: Duration = Duration::from_millis(1_000);
/// Solicitations without an answer before a neighbour is unreachable (RFC 4861, 3).
pub const NEIGHBOUR_TRIES: u8 = 3;
/// A used entry older than this is probed again (RFC 4861 REACHABLE_TIME, 30 s).
pub const NEIGHBOUR_REACHABLE: Duration = Duration::from_secs(30);
/// An entry past [`NEIGHBOUR_REACHABLE`] that nobody used is looked at again after this, so that
/// use starts a probe soon (RFC 4861 DELAY_FIRST_PROBE_TIME, 5 s).
pub const NEIGHBOUR_STALE_CHECK: Duration = Duration::from_secs(5);
/// An unused entry is forgotten after this.
pub const NEIGHBOUR_IDLE: Duration = Duration::from_secs(600);
/// Entries looked at to find room in a full table: bounds the cost of one packet.
pub const NEIGHBOUR_EVICT_STEPS: usize = 64;
/// ICMP errors and RSTs for unknown flows per second and worker (RFC 4443, section 2.4 f).
pub const ERRORS_PER_SECOND: u32 = 1_000;
/// Echo replies per second and worker; apart from the errors, so that a ping flood does not
/// silence the RSTs.
pub const ECHO_REPLIES_PER_SECOND: u32 = 1_000;
/// Bytes of an ICMP error sent over IPv4, IP header included (RFC 1812, section 4.3.2.3).
pub const ICMPV4_ERROR_LEN: usize = 576;
/// IPv6 extension headers skipped in front of the transport header.
pub const MAX_IPV6_EXTENSIONS: usize = 4;
/// Path MTU below which an ICMPv4 report is not followed: a forged one would otherwise make
/// every segment tiny. 552 is what Linux uses (`net.ipv4.route.min_pmtu`).
pub const MIN_PATH_MTU_V4: usize = 552;

// --- Flows --------------------------------------------------------------------------------------

pub const MAX_FLOWS: usize = 1 << 20;
/// Passive connections that have not finished their TCP handshake, per worker; further SYNs are
/// answered with cookies.
pub const MAX_HALF_OPEN: usize = 4_096;
/// The same, from one source address.
pub const MAX_HALF_OPEN_PER_SOURCE: usize = 2_048;
/// Tunnels accepted by a worker that have not finished their TLS handshake; further ones are reset.
pub const MAX_TLS_PENDING: usize = 4_096;
/// The same, from one source address: a peer gateway needs room for `TUNNEL_MAX_CONNECTING` of each
/// of its workers.
pub const MAX_TLS_PENDING_PER_SOURCE: usize = 2_048;
/// Resolution of the timer wheel.
pub const TIMER_TICK: Duration = Duration::from_millis(1);
/// Slots of the timer wheel; a deadline further away goes round.
pub const TIMER_SLOTS: usize = 4_096;
/// Timers that fire in one turn of a worker without its having to make room for them.
pub const TIMERS_AT_ONCE: usize = 1_024;
/// First source port of outbound connections (RFC 6335, section 6, dynamic ports from 49152; the
/// gateway owns its addresses alone, so it takes the larger range Linux uses).
pub const EPHEMERAL_PORT_FIRST: u16 = 16_384;
pub const EPHEMERAL_PORT_LAST: u16 = 65_535;
/// Tries to find a free source port that RSS sends back to the worker that asks.
pub const EPHEMERAL_PORT_TRIES: usize = 512;

// --- TCP ----------------------------------------------------------------------------------------

/// A half-open connection dies after this.
pub const TCP_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A SYN cookie is good for this long at the least, and for twice as long at the most (RFC 4987,
/// section 3.6).
pub const SYN_COOKIE_LIFETIME: Duration = Duration::from_secs(30);
/// Unacknowledged data for this long ends the connection (RFC 9293, section 3.8.3: R2 >= 100 s).
pub const TCP_USER_TIMEOUT: Duration = Duration::from_secs(100);
pub const TCP_KEEPALIVE: Duration = Duration::from_secs(75);
/// Asked again after this, until the user time-out ends it.
pub const TCP_KEEPALIVE_REPEAT: Duration = Duration::from_secs(5);
/// IP packets, bytes, that are tried in turn where longer ones get lost (RFC 8899, section 5.1.2:
/// BASE_PLPMTU). Every IPv6 path carries 1,280 (RFC 8200, section 5).
pub const BLACK_HOLE_PACKETS_V4: [usize; 2] = [1_280, 576];
pub const BLACK_HOLE_PACKETS_V6: [usize; 1] = [1_280];
/// Until such a path is tried with longer ones again (RFC 8899, section 5.1.1: PMTU_RAISE_TIMER).
pub const PATH_MTU_RAISE: Duration = Duration::from_secs(600);
/// Gaps in what was received that a connection remembers; a segment that would make one more is
/// dropped, and comes again. A queue that overflows on the way loses every other segment of a round
/// trip.
pub const TCP_MAX_GAPS: usize = 512;
/// Segments of a connection on their way: 46 MB of the usual size.
pub const TCP_MAX_SEGMENTS: usize = 32_768;
/// Bytes of lists of segments and gaps, of either kind, that a worker keeps for connections to
/// come. While they are in use they are bounded by the buffers whose segments they note.
pub const TCP_SPARE_LISTS: usize = 8 * 1024 * 1024;
/// The least that all connections of a worker may hold, bytes. With less, what one use of memory is
/// left beside the others would not hold a TLS record.
pub const TCP_LEAST_MEMORY: usize = 512 * 1024;
/// Congestion controllers, of those that stand apart, that a worker keeps for connections to come.
pub const TCP_SPARE_CONTROLLERS: usize = 4_096;
/// A connection that had to wait for memory tries again after this.
pub const TCP_MEMORY_RETRY: Duration = Duration::from_millis(10);
/// Segments of one connection sent in one turn.
pub const OUTPUT_BURST: usize = 64;
/// TIME-WAIT (RFC 9293, section 3.6.1). 2 MSL is 4 minutes by the RFC; 60 s is what Linux uses.
pub const TIME_WAIT: Duration = Duration::from_secs(60);
/// An outbound connection does not take a tuple that waits for less than this, while there are
/// others: the other end may not have seen the old connection's end yet. As Linux does
/// (`tcp_tw_reuse`).
pub const TIME_WAIT_REUSE: Duration = Duration::from_secs(1);
/// Entries of the TIME-WAIT table; the oldest goes first.
pub const MAX_TIME_WAIT: usize = 65_536;
/// How long a connection may stay in the closing states before it is dropped.
pub const TCP_CLOSING_TIMEOUT: Duration = Duration::from_secs(30);

// --- TLS ----------------------------------------------------------------------------------------

/// Plaintext of one TLS record (RFC 8446, section 5.1).
pub const TLS_MAX_PLAINTEXT: usize = 16_384;
/// Record header.
pub const TLS_RECORD_HEADER: usize = 5;
/// Content type byte and AEAD tag behind the plaintext.
pub const TLS_RECORD_TRAILER: usize = 1 + 16;
/// Bytes of one sealed record at the most.
pub const TLS_MAX_RECORD: usize = TLS_RECORD_HEADER + TLS_MAX_PLAINTEXT + TLS_RECORD_TRAILER;
/// Bytes of handshake flights buffered per connection and direction.
pub const TLS_MAX_HANDSHAKE: usize = 64 * 1024;
/// Expanded keys of a worker, two for each tunnel that moves bytes: 2.3 MB where all are used. With
/// more than 2,048 busy tunnels some records pay for an expansion.
pub const TLS_EXPANDED_KEYS: usize = 4_096;
pub const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// KeyUpdates a peer may send per second before it is cut.
pub const TLS_KEY_UPDATES_PER_SECOND: u32 = 16;
/// Records without payload in a row before the peer is cut.
pub const TLS_MAX_EMPTY_RECORDS: u32 = 32;

// --- Tunnels ------------------------------------------------------------------------------------

/// Frame header of the native protocol.
pub const TUNNEL_HEADER: usize = 4;
/// Payload of one DATA frame: header and payload fill one record.
pub const TUNNEL_MAX_DATA: usize = TLS_MAX_PLAINTEXT - TUNNEL_HEADER;
/// Attributes in one OPEN.
pub const TUNNEL_MAX_ATTRIBUTES: usize = 256;
const _: () = assert!(TUNNEL_MAX_ATTRIBUTES <= clgw_policy::limits::MAX_SOURCE_ATTRIBUTES);
/// Length of one attribute key or value, bytes.
pub const TUNNEL_MAX_ATTRIBUTE_LEN: usize = 1_024;
/// Idle tunnels kept per peer gateway and worker.
pub const TUNNEL_MAX_IDLE: usize = 64;
/// Tunnels being established at the same time per peer gateway and worker.
pub const TUNNEL_MAX_CONNECTING: usize = 256;
/// An idle tunnel is pinged after this, and dropped if no PONG comes within the time-out.
pub const TUNNEL_PING_INTERVAL: Duration = Duration::from_secs(5);
pub const TUNNEL_PING_TIMEOUT: Duration = Duration::from_secs(3);
/// A connection to a service or peer gateway must be up within this.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// OPEN must be answered within this.
pub const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// A gateway that did not accept a tunnel is left alone for this, doubled up to the maximum.
pub const GATEWAY_BACKOFF_MIN: Duration = Duration::from_millis(200);
pub const GATEWAY_BACKOFF_MAX: Duration = Duration::from_secs(10);
/// Bytes of its last stream that a tunnel may still have to deliver when it takes the next one,
/// which waits behind them.
pub const TUNNEL_BACKLOG: usize = 64 * 1024;
/// Idle tunnels above the warm number are closed after this.
pub const TUNNEL_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Client bytes sent ahead of OPENED; kept until then, for the next source should this one fail.
pub const EARLY_DATA: usize = 16 * 1024;
/// A client waits this long for a tunnel. Gateways that cannot be reached are noticed sooner; this
/// is for many clients at once and few cores for their handshakes.
pub const TUNNEL_WAIT_TIMEOUT: Duration = Duration::from_secs(30);
/// Gateways of one peer that are tried for one connection.
pub const MAX_GATEWAYS_TRIED: usize = 8;
/// Client connections that wait for a tunnel, per worker.
pub const MAX_WAITING_FOR_TUNNEL: usize = 8_192;

/// How often a worker looks after its tunnel pools.
pub const POOL_TICK: Duration = Duration::from_millis(100);

// --- Relay --------------------------------------------------------------------------------------

/// Bytes moved for one connection before the next one has its turn.
pub const RELAY_BUDGET: usize = 256 * 1024;

// --- Control ------------------------------------------------------------------------------------

pub const MAX_WORKERS: usize = 64;
/// Handshakes queued to the helper threads.
pub const HANDSHAKE_QUEUE: usize = 1_024;
/// Messages from one worker to another that wait.
pub const INBOX_MESSAGES: usize = 4_096;
/// Events for the log that wait for the control thread.
pub const EVENT_QUEUE: usize = 4_096;
/// Workers publish their counters this often.
pub const COUNTER_PUBLISH: Duration = Duration::from_millis(20);
/// Default of `drain.deadline`.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(30);
/// Size of one configuration or object file.
pub const MAX_CONFIG_FILE: u64 = 16 * 1024 * 1024;

const _: () = {
    assert!(RX_BURST <= TX_STASH_FRAMES, "one reply per received frame must be possible");
    assert!(TX_STASH_FRAMES <= TX_QUEUE_FRAMES);
    assert!(MAX_MTU < TSO_PACKET && TSO_PACKET <= MAX_IP_PACKET);
    assert!(TUNNEL_HEADER + TUNNEL_MAX_DATA <= TLS_MAX_PLAINTEXT);
    assert!(TLS_MAX_RECORD == 16_406);
    assert!(TIMER_SLOTS.is_power_of_two());
    assert!(EPHEMERAL_PORT_FIRST < EPHEMERAL_PORT_LAST);
    assert!(MIN_MTU <= 1_500 && MAX_MTU <= MAX_IP_PACKET);
    assert!(MAX_HALF_OPEN <= MAX_FLOWS && MAX_TLS_PENDING <= MAX_FLOWS);
    assert!(ICMPV4_ERROR_LEN <= MIN_MTU && MIN_PATH_MTU_V4 <= MIN_MTU);
    assert!(NEIGHBOUR_EVICT_STEPS <= MAX_NEIGHBOURS);
    assert!(MAX_FLOWS <= u32::MAX as usize, "slots are numbered by u32");
};
