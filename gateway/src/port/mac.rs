//! Ethernet addresses.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// An IEEE 802 MAC address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    pub const BROADCAST: Self = Self([0xff; 6]);
    pub const ZERO: Self = Self([0; 6]);

    pub fn is_broadcast(self) -> bool {
        self == Self::BROADCAST
    }

    /// Any group address, broadcast included.
    pub fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// An address one host can have: neither a group address nor all zero.
    pub fn is_unicast(self) -> bool {
        !self.is_multicast() && self != Self::ZERO
    }

    /// The first six bytes of `bytes`.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        bytes.first_chunk().copied().map(Self)
    }

    /// The interface identifier RFC 4291, appendix A makes of the address (modified EUI-64).
    pub(crate) fn eui64(self) -> [u8; 8] {
        let [a, b, c, d, e, f] = self.0;
        [a ^ 2, b, c, 0xff, 0xfe, d, e, f]
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// The text is not six hexadecimal bytes.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is not a MAC address; write six hexadecimal bytes, as in 02:00:5e:10:00:01")]
pub struct ParseMacError(String);

impl FromStr for MacAddr {
    type Err = ParseMacError;

    /// Accepts `02:00:5e:10:00:01` and `02-00-5e-10-00-01`.
    fn from_str(text: &str) -> Result<Self, ParseMacError> {
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut mac = [0; 6];
        let mut parts = text.split(separator);
        for byte in &mut mac {
            let part = parts.next().unwrap_or_default();
            // from_str_radix would also take a sign.
            let hex = part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
            *byte = u8::from_str_radix(part, 16)
                .ok()
                .filter(|_| hex)
                .ok_or_else(|| ParseMacError(text.to_owned()))?;
        }
        match parts.next() {
            None => Ok(Self(mac)),
            Some(_) => Err(ParseMacError(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips_and_bad_text_is_refused() {
        let mac = MacAddr([2, 0, 0x5e, 0x10, 0, 0xab]);
        assert_eq!(mac.to_string(), "02:00:5e:10:00:ab");
        assert_eq!("02:00:5e:10:00:ab".parse(), Ok(mac));
        assert_eq!("02-00-5E-10-00-AB".parse(), Ok(mac));
        for bad in
            ["", "02:00:5e:10:00", "02:00:5e:10:00:ab:01", "02:00:5e:10:00:g1", "+2:0:0:0:0:0"]
        {
            assert_eq!(bad.parse::<MacAddr>(), Err(ParseMacError(bad.to_owned())), "{bad}");
        }
    }

    #[test]
    fn group_bit_and_zero_are_not_unicast() {
        assert!(MacAddr::BROADCAST.is_broadcast() && MacAddr::BROADCAST.is_multicast());
        assert!(MacAddr([0x33, 0x33, 0, 0, 0, 1]).is_multicast());
        assert!(!MacAddr([0x33, 0x33, 0, 0, 0, 1]).is_broadcast());
        assert!(!MacAddr::ZERO.is_unicast() && MacAddr([2, 0, 0, 0, 0, 1]).is_unicast());
    }

    #[test]
    fn eui64_inverts_the_universal_bit() {
        // The example of RFC 4291, appendix A with the values filled in.
        let mac = MacAddr([0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde]);
        assert_eq!(mac.eui64(), [0x36, 0x56, 0x78, 0xff, 0xfe, 0x9a, 0xbc, 0xde]);
    }
}
