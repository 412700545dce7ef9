//! How long the records of a stream are.
//!
//! A record can only be opened when all of it has arrived. A long one costs less for each byte, but
//! its first byte waits for its last one: on a line of 2 Mb/s that takes 65 ms for 16 KiB, and 6 ms
//! for a segment.

use std::time::Duration;

use super::DATA_OVERHEAD;
use crate::limits::{TLS_MAX_RECORD, TUNNEL_MAX_DATA};
use crate::time::Instant;

/// Bytes of a stream's beginning, each segment of which is a record: some round trips of slow start.
const START: usize = 64 * 1024;
/// After so long without anything to send a stream begins anew: now somebody waits for what comes.
const PAUSE: Duration = Duration::from_secs(1);
/// Records for shorter segments would be little but overhead.
const LEAST_SEGMENT: usize = 512;

const _: () = assert!(DATA_OVERHEAD + TUNNEL_MAX_DATA == TLS_MAX_RECORD);
const _: () = assert!(LEAST_SEGMENT / 4 > DATA_OVERHEAD);

/// Decides about the next record of one direction.
#[derive(Debug, Default)]
pub(super) struct RecordSizes {
    /// Bytes since the beginning, up to [`START`].
    sealed: u32,
    /// When there was something to send.
    last: Instant,
}

/// What a record may be made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outlook {
    /// Bytes there are to send, as far as is known.
    pub available: usize,
    /// Bytes of record that can be queued.
    pub room: usize,
    /// Payload of a full segment.
    pub segment: usize,
    /// Bytes that leave before the record, from the start of a segment on.
    pub unsent: usize,
}

impl RecordSizes {
    /// A stream begins.
    pub fn restart(&mut self) {
        self.sealed = 0;
    }

    /// There is something to send.
    pub fn resume(&mut self, now: Instant) {
        if now.since(self.last) >= PAUSE {
            self.restart();
        }
        self.last = now;
    }

    /// The beginning is over: a record is as long as it can be, however much there is.
    pub fn is_bulk(&self) -> bool {
        self.sealed as usize >= START
    }

    pub fn sealed(&mut self, payload: usize) {
        self.sealed = (self.sealed as usize + payload).min(START) as u32;
    }

    /// Payload of the next record, bytes. In the beginning a segment's, then as much as it can be;
    /// but where more follows, records end with segments, so that none waits for the first bytes of
    /// the next flight.
    pub fn payload(&self, outlook: Outlook) -> usize {
        let Outlook { available, room, segment, unsent } = outlook;
        let most = available.min(TUNNEL_MAX_DATA).min(room.saturating_sub(DATA_OVERHEAD));
        let segment = segment.max(LEAST_SEGMENT);
        // Of the segment in which the record begins.
        let taken = unsent % segment;
        if !self.is_bulk() {
            // A message that is no longer than a segment stays in one record.
            if most + DATA_OVERHEAD <= segment {
                return most;
            }
            let left = segment - taken;
            // With next to no room in this one, it ends with the next one.
            let length = if left < segment / 4 { left + segment } else { left };
            return most.min(length - DATA_OVERHEAD);
        }
        if most == available {
            return most;
        }
        let end = (taken + DATA_OVERHEAD + most) / segment * segment;
        let whole = end.saturating_sub(taken + DATA_OVERHEAD);
        // Long segments would cut too much off.
        if 4 * whole < 3 * most { most } else { whole }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SEGMENT: usize = 1_448;
    /// More than any record.
    const MUCH: Outlook =
        Outlook { available: 1 << 20, room: 1 << 20, segment: SEGMENT, unsent: 0 };

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    /// In bulk.
    fn bulk() -> RecordSizes {
        let mut sizes = RecordSizes::default();
        sizes.sealed(START);
        sizes
    }

    #[test]
    fn a_stream_begins_with_a_record_a_segment() {
        let mut sizes = RecordSizes::default();
        let mut bytes = 0;
        while bytes < START {
            let payload = sizes.payload(MUCH);
            assert_eq!(payload + DATA_OVERHEAD, SEGMENT, "after {bytes} bytes");
            sizes.sealed(payload);
            bytes += payload;
        }
        assert_eq!(sizes.payload(MUCH) + DATA_OVERHEAD, 11 * SEGMENT);
        sizes.restart();
        assert_eq!(sizes.payload(MUCH) + DATA_OVERHEAD, SEGMENT);
    }

    #[test]
    fn a_pause_makes_a_beginning() {
        let mut sizes = bulk();
        sizes.resume(at(10));
        assert_eq!(sizes.payload(MUCH) + DATA_OVERHEAD, SEGMENT, "nothing was sent before");
        sizes.sealed(START);
        sizes.resume(at(10) + (PAUSE - Duration::from_millis(1)));
        sizes.resume(at(11) + (PAUSE - Duration::from_millis(2)));
        assert_eq!(sizes.payload(MUCH) + DATA_OVERHEAD, 11 * SEGMENT);
        sizes.resume(at(12) + PAUSE);
        assert_eq!(sizes.payload(MUCH) + DATA_OVERHEAD, SEGMENT);
    }

    #[test]
    fn what_stands_before_a_record_is_part_of_its_first_segment() {
        for sizes in [RecordSizes::default(), bulk()] {
            for unsent in [100, SEGMENT, SEGMENT + 1, 5 * SEGMENT + 700] {
                let end = unsent + DATA_OVERHEAD + sizes.payload(Outlook { unsent, ..MUCH });
                assert_eq!(end % SEGMENT, 0, "behind {unsent} bytes");
            }
        }
        // Twenty bytes are no place for a record.
        let sizes = RecordSizes::default();
        let unsent = SEGMENT - 20;
        let payload = sizes.payload(Outlook { unsent, ..MUCH });
        assert_eq!(DATA_OVERHEAD + payload, 20 + SEGMENT);
    }

    #[test]
    fn the_last_bytes_are_not_kept_back_for_the_sake_of_segments() {
        for available in [1, 700, 5_000, TUNNEL_MAX_DATA] {
            assert_eq!(bulk().payload(Outlook { available, ..MUCH }), available);
        }
        let short = Outlook { available: 700, unsent: 1_000, ..MUCH };
        assert_eq!(RecordSizes::default().payload(short), 700);
    }

    #[test]
    fn long_segments_leave_records_full() {
        for (segment, payload) in [(8_948, TUNNEL_MAX_DATA), (65_483, TUNNEL_MAX_DATA)] {
            assert_eq!(bulk().payload(Outlook { segment, ..MUCH }), payload);
        }
        let first = RecordSizes::default().payload(Outlook { segment: 8_948, ..MUCH });
        assert_eq!(first + DATA_OVERHEAD, 8_948);
        let first = RecordSizes::default().payload(Outlook { segment: 65_483, ..MUCH });
        assert_eq!(first, TUNNEL_MAX_DATA);
    }

    proptest! {
        /// Whatever the path and the buffers are, something goes, and it fits.
        #[test]
        fn there_is_always_progress(
            sealed in 0..2 * START,
            available in 1usize..1 << 18,
            room in DATA_OVERHEAD + 1..1 << 18,
            segment in 0usize..70_000,
            unsent in 0usize..1 << 18,
        ) {
            let mut sizes = RecordSizes::default();
            sizes.sealed(sealed);
            let payload = sizes.payload(Outlook { available, room, segment, unsent });
            prop_assert!(payload > 0 && payload <= TUNNEL_MAX_DATA.min(available));
            prop_assert!(payload + DATA_OVERHEAD <= room);
            if sealed >= START {
                let most = available.min(TUNNEL_MAX_DATA).min(room - DATA_OVERHEAD);
                prop_assert!(4 * payload >= 3 * most, "{payload} of {most} bytes");
            }
        }
    }
}
