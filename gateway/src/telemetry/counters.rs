//! Counters of one worker: plain integers it owns, and the copy that others may read.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{CloseReason, DropReason};

macro_rules! counters {
    ($($(#[$doc:meta])* $field:ident),+ $(,)?) => {
        /// Owned by one worker, never shared.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$doc])* pub $field: u64,)+
            drops: [u64; DropReason::COUNT],
            closes: [u64; CloseReason::COUNT],
        }

        impl Default for Counters {
            fn default() -> Self {
                Self {
                    $($field: 0,)+
                    drops: [0; DropReason::COUNT],
                    closes: [0; CloseReason::COUNT],
                }
            }
        }

        const FIELDS: usize = [$(stringify!($field)),+].len();

        impl Counters {
            /// Names and values of the plain counters, in a fixed order.
            pub fn fields(&self) -> [(&'static str, u64); FIELDS] {
                [$((stringify!($field), self.$field)),+]
            }

            fn fields_mut(&mut self) -> [&mut u64; FIELDS] {
                [$(&mut self.$field),+]
            }
        }
    };
}

counters! {
    rx_frames,
    rx_bytes,
    tx_frames,
    tx_bytes,
    /// Frames handed to another worker because they belong to it.
    strays,
    arp_replies,
    ndp_replies,
    icmp_replies,
    resets_sent,
    /// SYNs answered with a cookie; connections opened by one; segments that acknowledged none while
    /// some were expected.
    syn_cookies_sent,
    syn_cookies_accepted,
    syn_cookies_bad,
    /// Connections whose path lost long packets without a word and carried shorter ones.
    pmtu_black_holes,
    /// Connections accepted from clients.
    clients_accepted,
    /// Connections established towards exported services.
    services_connected,
    /// Tunnels established as importer / as exporter.
    tunnels_opened,
    tunnels_accepted,
    /// OPENs that found an established idle tunnel.
    tunnels_reused,
    handshakes_full,
    handshakes_resumed,
    handshakes_failed,
    /// Application bytes sealed into tunnels / delivered from tunnels.
    bytes_to_peer,
    bytes_from_peer,
    policy_allowed,
    policy_denied,
    /// Decisions that a dry-run policy would have turned.
    policy_dry_run,
    /// Events that found the queue to the control thread full.
    events_lost,
    /// Loop iterations, and those that found work.
    loops,
    busy_loops,
    /// Nanoseconds since the gateway started its workers; of them, those spent in iterations that
    /// found work, and asleep.
    up_nanos,
    busy_nanos,
    asleep_nanos,
    /// Sleeps, and those that a frame ended.
    sleeps,
    sleeps_interrupted,
    /// Connections of all kinds that are open now.
    connections,
    /// Bytes of buffers that hold something now, and that are kept for connections to come.
    buffer_bytes,
    buffer_bytes_kept,
    /// How often a buffer was wanted and there was no memory for it.
    buffers_refused,
}

/// Where a worker's time went, percent. The rest it spent on looking for work.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shares {
    pub busy: f64,
    pub asleep: f64,
}

const SLOTS: usize = FIELDS + DropReason::COUNT + CloseReason::COUNT;

impl Counters {
    #[inline]
    pub fn drop_frame(&mut self, reason: DropReason) {
        self.drops[reason as usize] += 1;
    }

    pub fn add_drops(&mut self, reason: DropReason, n: u64) {
        self.drops[reason as usize] += n;
    }

    #[inline]
    pub fn close(&mut self, reason: CloseReason) {
        self.closes[reason as usize] += 1;
    }

    pub fn drops(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize]
    }

    pub fn closes(&self, reason: CloseReason) -> u64 {
        self.closes[reason as usize]
    }

    /// Reasons that occurred, with their counts.
    pub fn all_drops(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.iter().map(|r| (*r, self.drops(*r))).filter(|(_, n)| *n > 0)
    }

    pub fn all_closes(&self) -> impl Iterator<Item = (CloseReason, u64)> + '_ {
        CloseReason::ALL.iter().map(|r| (*r, self.closes(*r))).filter(|(_, n)| *n > 0)
    }

    /// All plain counters as one JSON object of numbers. Time in nanoseconds, sizes in bytes.
    pub fn to_json(&self) -> String {
        let fields = self.fields().map(|(name, value)| format!("\"{name}\":{value}"));
        format!("{{{}}}", fields.join(","))
    }

    /// Percent of the time since `before` that the worker had work, and that it slept; 0 where the
    /// two are of the same publication.
    pub fn shares_since(&self, before: &Self) -> Shares {
        let up = self.up_nanos.saturating_sub(before.up_nanos).max(1);
        // A sleep or a turn that had begun before is counted at its end.
        let percent = |time: u64| (time as f64 / up as f64 * 100.0).min(100.0);
        Shares {
            busy: percent(self.busy_nanos.saturating_sub(before.busy_nanos)),
            asleep: percent(self.asleep_nanos.saturating_sub(before.asleep_nanos)),
        }
    }

    /// Adds another worker's counters.
    pub fn add(&mut self, other: &Self) {
        for (mine, (_, theirs)) in self.fields_mut().into_iter().zip(other.fields()) {
            *mine += theirs;
        }
        for (mine, theirs) in self.drops.iter_mut().zip(other.drops) {
            *mine += theirs;
        }
        for (mine, theirs) in self.closes.iter_mut().zip(other.closes) {
            *mine += theirs;
        }
    }
}

/// The copy of a worker's counters that other threads read. Writing it takes no lock and
/// allocates nothing; a reader may see some counters a publication older than others.
#[derive(Debug)]
pub struct Published([AtomicU64; SLOTS]);

impl Default for Published {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; SLOTS])
    }
}

impl Published {
    pub fn store(&self, c: &Counters) {
        let values = c.fields().into_iter().map(|(_, v)| v).chain(c.drops).chain(c.closes);
        for (slot, value) in self.0.iter().zip(values) {
            slot.store(value, Ordering::Relaxed);
        }
    }

    pub fn load(&self) -> Counters {
        let mut c = Counters::default();
        let mut slots = self.0.iter().map(|s| s.load(Ordering::Relaxed));
        for field in c.fields_mut() {
            *field = slots.next().unwrap_or(0);
        }
        for slot in c.drops.iter_mut().chain(c.closes.iter_mut()) {
            *slot = slots.next().unwrap_or(0);
        }
        c
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_those_of_the_interval() {
        let at = |up_nanos, busy_nanos, asleep_nanos| Counters {
            up_nanos,
            busy_nanos,
            asleep_nanos,
            ..Counters::default()
        };
        let (first, second) = (at(1_000, 900, 0), at(3_000, 1_000, 1_500));
        assert_eq!(second.shares_since(&first), Shares { busy: 5.0, asleep: 75.0 });
        assert_eq!(first.shares_since(&Counters::default()), Shares { busy: 90.0, asleep: 0.0 });
        // No time has passed; a sleep of before the interval ends in it.
        assert_eq!(second.shares_since(&second), Shares { busy: 0.0, asleep: 0.0 });
        assert_eq!(at(3_100, 1_000, 1_900).shares_since(&second).asleep, 100.0);
    }

    #[test]
    fn a_published_copy_is_the_same() {
        let mut c = Counters { rx_frames: 3, connections: 9, ..Counters::default() };
        c.drop_frame(DropReason::TxQueueFull);
        c.close(CloseReason::NoRoute);
        c.close(CloseReason::Finished);
        let json: serde_json::Value = serde_json::from_str(&c.to_json()).unwrap();
        assert_eq!((json["rx_frames"].as_u64(), json["busy_nanos"].as_u64()), (Some(3), Some(0)));
        let published = Published::default();
        published.store(&c);
        assert_eq!(published.load(), c);
        let mut sum = published.load();
        sum.add(&c);
        assert_eq!(sum.rx_frames, 6);
        assert_eq!(sum.closes(CloseReason::Finished), 2);
        assert_eq!(sum.all_drops().collect::<Vec<_>>(), [(DropReason::TxQueueFull, 2)]);
    }
}
