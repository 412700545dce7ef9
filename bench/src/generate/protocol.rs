//! What a client of the generator says to its server: at the beginning of each connection, what
//! the connection is for. The server needs no settings of its own by that.

use std::sync::LazyLock;

/// Bytes in front of the payload of a connection.
pub const HEADER: usize = 16;
const MAGIC: [u8; 4] = *b"CLGW";
const STREAM: u8 = 1;
const EXCHANGES: u8 = 2;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Payload in one direction or both until the client ends its own.
    Stream { up: bool, down: bool },
    /// Requests of one size, each answered by a response of one size, until the client ends its
    /// direction. Bytes.
    Exchanges { request: u32, response: u32 },
}

impl Order {
    pub fn encode(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&MAGIC);
        match self {
            Self::Stream { up, down } => {
                bytes[4] = STREAM;
                bytes[5] = u8::from(up) | u8::from(down) << 1;
            }
            Self::Exchanges { request, response } => {
                bytes[4] = EXCHANGES;
                bytes[8..12].copy_from_slice(&request.to_be_bytes());
                bytes[12..].copy_from_slice(&response.to_be_bytes());
            }
        }
        bytes
    }

    /// `None` for what no generator sends.
    pub fn decode(bytes: [u8; HEADER]) -> Option<Self> {
        let [m0, m1, m2, m3, kind, flags, _, _, a, b, c, d, e, f, g, h] = bytes;
        if [m0, m1, m2, m3] != MAGIC {
            return None;
        }
        match kind {
            STREAM => Some(Self::Stream { up: flags & 1 != 0, down: flags & 2 != 0 }),
            EXCHANGES => Some(Self::Exchanges {
                request: u32::from_be_bytes([a, b, c, d]),
                response: u32::from_be_bytes([e, f, g, h]),
            })
            .filter(|o| {
                !matches!(
                    o,
                    Self::Exchanges { request: 0, .. } | Self::Exchanges { response: 0, .. }
                )
            }),
            _ => None,
        }
    }
}

/// After so many bytes the payload repeats itself. Prime to the sizes of segments and records, so
/// that no two of a connection's are alike for long.
const PERIOD: usize = 65_521;

/// The payload twice, so that any piece of up to a period is one run of bytes.
static PAYLOAD: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    let once: Vec<u8> = (0..PERIOD).map(|_| next()).collect();
    once.repeat(2)
});

/// Writes payload from the byte `offset` of its direction on.
pub fn fill(bytes: &mut [u8], offset: u64) {
    let mut at = (offset % PERIOD as u64) as usize;
    for piece in bytes.chunks_mut(PERIOD) {
        piece.copy_from_slice(&PAYLOAD[at..at + piece.len()]);
        at = (at + piece.len()) % PERIOD;
    }
}

/// Whether these are the bytes that [`fill`] wrote at this offset.
pub fn matches(bytes: &[u8], offset: u64) -> bool {
    let mut at = (offset % PERIOD as u64) as usize;
    bytes.chunks(PERIOD).all(|piece| {
        let same = piece == &PAYLOAD[at..at + piece.len()];
        at = (at + piece.len()) % PERIOD;
        same
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_as_they_were_written() {
        for order in [
            Order::Stream { up: true, down: false },
            Order::Stream { up: true, down: true },
            Order::Exchanges { request: 1, response: 70_000 },
        ] {
            assert_eq!(Order::decode(order.encode()), Some(order));
        }
        assert_eq!(Order::decode(*b"GET / HTTP/1.1\r\n"), None);
        assert_eq!(Order::decode(Order::Exchanges { request: 0, response: 1 }.encode()), None);
    }

    #[test]
    fn payload_is_checked_at_its_place() {
        let mut bytes = vec![0; 200_000];
        fill(&mut bytes, 12_345);
        assert!(matches(&bytes, 12_345));
        assert!(matches(&bytes[70_000..], 82_345));
        assert!(!matches(&bytes, 12_346), "elsewhere");
        bytes[150_000] ^= 1;
        assert!(!matches(&bytes, 12_345), "one bit");
    }
}
