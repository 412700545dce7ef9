//! How a gateway process begins, drains and ends.
//!
//! [`Lifecycle`] says where the process is, [`Shutdown`] what it was asked to do, [`Drain`] how long
//! it may take, [`ExitCode`] how it ended. Signals reach [`Shutdown`] through a thread of their own
//! ([`listen`]); a worker only ever loads an atomic.

use std::io;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::{Handle, Signals};

use crate::time::{Duration, Instant};

/// Where the process is in its life. States only ever go forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum State {
    /// Ports, certificates and objects are being brought up; no connection is accepted.
    Starting = 0,
    Ready = 1,
    /// Open connections finish, new ones are refused.
    Draining = 2,
    Stopped = 3,
}

impl State {
    const ALL: [Self; 4] = [Self::Starting, Self::Ready, Self::Draining, Self::Stopped];

    /// The name in logs and on the admin interface.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The state of the process, shared by all its threads. Clones are handles on the same state.
#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    state: Arc<AtomicU8>,
}

impl Lifecycle {
    /// A process that is [`State::Starting`].
    pub fn new() -> Self {
        Self::default()
    }

    pub fn state(&self) -> State {
        State::ALL[usize::from(self.state.load(Ordering::Acquire)).min(State::ALL.len() - 1)]
    }

    /// Goes forward to `to` and says whether this call did it. False if the process is there
    /// already or further on, so that of several threads exactly one acts on the change.
    pub fn advance(&self, to: State) -> bool {
        self.state.fetch_max(to as u8, Ordering::AcqRel) < to as u8
    }
}

/// How urgently the process was asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    /// Not at all.
    None = 0,
    /// Once: let open connections finish until the deadline.
    Drain = 1,
    /// Again: cut what is open.
    Now = 2,
}

/// Requests from outside: to end, to reload, to log counters. Clones are handles on the same requests.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    shared: Arc<Requests>,
}

#[derive(Debug, Default)]
struct Requests {
    level: AtomicU8,
    reloads: AtomicU64,
    stats: AtomicU64,
    /// Counts requests, so that a waiter cannot miss one that came before it slept.
    changes: Mutex<u64>,
    changed: Condvar,
}

impl Shutdown {
    /// No request yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The most urgent request so far. One atomic load.
    pub fn level(&self) -> Level {
        match self.shared.level.load(Ordering::Acquire) {
            0 => Level::None,
            1 => Level::Drain,
            _ => Level::Now,
        }
    }

    /// Asks for `level` at least.
    pub fn request(&self, level: Level) {
        self.shared.level.fetch_max(level as u8, Ordering::AcqRel);
        self.wake();
    }

    /// One step more urgent: none, drain, now. What a further SIGTERM means.
    pub fn escalate(&self) -> Level {
        let next = match self.level() {
            Level::None => Level::Drain,
            Level::Drain | Level::Now => Level::Now,
        };
        self.request(next);
        next
    }

    /// Asks for the configuration to be read again.
    pub fn request_reload(&self) {
        self.shared.reloads.fetch_add(1, Ordering::AcqRel);
        self.wake();
    }

    /// Reloads asked for so far. A reader that remembers the number sees every request, and several
    /// that came together as one.
    pub fn reloads(&self) -> u64 {
        self.shared.reloads.load(Ordering::Acquire)
    }

    /// Asks for the counters to be logged.
    pub fn request_stats(&self) {
        self.shared.stats.fetch_add(1, Ordering::AcqRel);
        self.wake();
    }

    /// Logs of the counters asked for so far; to be read as [`Self::reloads`].
    pub fn stats(&self) -> u64 {
        self.shared.stats.load(Ordering::Acquire)
    }

    /// Requests of any kind so far, for [`Self::wait`].
    pub fn changes(&self) -> u64 {
        *self.shared.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps until there are more requests than `seen`, for `timeout` at most. Returns the number
    /// of requests now. For the control thread; workers only load [`Self::level`].
    pub fn wait(&self, seen: u64, timeout: Duration) -> u64 {
        let guard = self.shared.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let (guard, _) = self
            .shared
            .changed
            .wait_timeout_while(guard, timeout, |changes| *changes == seen)
            .unwrap_or_else(PoisonError::into_inner);
        *guard
    }

    fn wake(&self) {
        *self.shared.changes.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.shared.changed.notify_all();
    }
}

/// Time left for open connections once draining has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    until: Instant,
}

impl Drain {
    /// Draining began at `now` and may take `deadline`.
    pub fn begin(now: Instant, deadline: Duration) -> Self {
        Self { until: now + deadline }
    }

    /// Zero when the deadline has passed.
    pub fn remaining(&self, now: Instant) -> Duration {
        self.until.since(now)
    }

    pub fn expired(&self, now: Instant) -> bool {
        now >= self.until
    }
}

/// Delivers signals to a [`Shutdown`] until dropped.
#[derive(Debug)]
pub struct SignalListener {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

/// Makes SIGTERM and SIGINT drain (a second one ends at once), SIGHUP reload and SIGUSR1 log
/// the counters, in a thread named `signals`.
///
/// # Errors
/// The signal handlers or the thread could not be set up.
pub fn listen(shutdown: &Shutdown) -> io::Result<SignalListener> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1])?;
    let handle = signals.handle();
    let shutdown = shutdown.clone();
    let thread = std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            match signal {
                SIGHUP => {
                    tracing::info!("SIGHUP: reload requested");
                    shutdown.request_reload();
                }
                SIGUSR1 => shutdown.request_stats(),
                _ => {
                    let name = if signal == SIGINT { "SIGINT" } else { "SIGTERM" };
                    match shutdown.escalate() {
                        Level::Now => tracing::warn!("{name} again: cutting open connections"),
                        _ => tracing::info!("{name}: draining; a second one cuts open connections"),
                    }
                }
            }
        }
    })?;
    Ok(SignalListener { handle, thread: Some(thread) })
}

impl Drop for SignalListener {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            // A panic in the listener was printed by the panic hook; there is nothing to add.
            let _ = thread.join();
        }
    }
}

/// What the process tells its parent. The numbers are part of the interface and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ExitCode {
    /// Everything went well.
    Ok = 0,
    /// Something failed that worked at the start, or a file could not be written.
    Failure = 1,
    /// The command line is wrong.
    Usage = 2,
    /// gateway.yaml, the objects or the certificates are invalid.
    Configuration = 3,
    /// The machine lacks something: hugepages, a device, a capability, a free file prefix.
    Environment = 4,
    /// The drain deadline, or a second signal, cut connections that were still open.
    Cut = 5,
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_only_go_forward_and_one_caller_makes_each_change() {
        let life = Lifecycle::new();
        assert_eq!(life.state(), State::Starting);
        assert!(life.advance(State::Ready));
        assert!(!life.advance(State::Ready));
        assert!(life.clone().advance(State::Stopped));
        assert!(!life.advance(State::Draining));
        assert_eq!(life.state(), State::Stopped);
    }

    #[test]
    fn the_second_request_is_the_urgent_one() {
        let shutdown = Shutdown::new();
        assert_eq!(shutdown.level(), Level::None);
        assert_eq!(shutdown.escalate(), Level::Drain);
        assert_eq!(shutdown.escalate(), Level::Now);
        assert_eq!(shutdown.escalate(), Level::Now);
        shutdown.request(Level::Drain);
        assert_eq!(shutdown.level(), Level::Now);
    }

    #[test]
    fn a_request_before_the_wait_is_not_missed() {
        let shutdown = Shutdown::new();
        let seen = shutdown.changes();
        shutdown.request_reload();
        // Would sleep for an hour if the request had been lost.
        assert_ne!(shutdown.wait(seen, Duration::from_secs(3_600)), seen);
        assert_eq!(shutdown.reloads(), 1);
        let seen = shutdown.changes();
        assert_eq!(shutdown.wait(seen, Duration::from_millis(1)), seen);
    }

    #[test]
    fn another_thread_wakes_the_waiter() {
        let shutdown = Shutdown::new();
        let seen = shutdown.changes();
        let other = shutdown.clone();
        let thread = std::thread::spawn(move || other.request(Level::Drain));
        shutdown.wait(seen, Duration::from_secs(3_600));
        assert_eq!(shutdown.level(), Level::Drain);
        thread.join().unwrap();
    }

    #[test]
    fn the_deadline_counts_from_the_beginning_of_the_drain() {
        let start = Instant::from_millis(1_000);
        let drain = Drain::begin(start, Duration::from_millis(500));
        assert_eq!(drain.remaining(Instant::from_millis(1_200)), Duration::from_millis(300));
        assert!(!drain.expired(Instant::from_millis(1_499)));
        assert!(drain.expired(Instant::from_millis(1_500)));
        assert_eq!(drain.remaining(Instant::from_millis(9_000)), Duration::ZERO);
        assert!(Drain::begin(start, Duration::ZERO).expired(start));
    }

    /// One test for all signals: handlers belong to the process, and tests share it.
    #[test]
    fn signals_become_requests() {
        let shutdown = Shutdown::new();
        let listener = listen(&shutdown).unwrap();
        let raise = |signal| {
            let seen = shutdown.changes();
            signal_hook::low_level::raise(signal).unwrap();
            assert_ne!(shutdown.wait(seen, Duration::from_secs(60)), seen, "signal {signal}");
        };
        raise(SIGHUP);
        assert_eq!((shutdown.level(), shutdown.reloads()), (Level::None, 1));
        raise(SIGUSR1);
        assert_eq!((shutdown.level(), shutdown.stats()), (Level::None, 1));
        raise(SIGTERM);
        assert_eq!(shutdown.level(), Level::Drain);
        raise(SIGINT);
        assert_eq!(shutdown.level(), Level::Now);
        drop(listener);
    }
}
