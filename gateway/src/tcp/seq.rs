//! Sequence numbers: modulo 2^32 (RFC 9293, section 3.4). Comparing two that are further apart
//! than 2^31 has no meaning; windows are below 2^30 (RFC 7323, section 2.3).

use std::ops::{Add, AddAssign, Sub};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seq(pub u32);

impl Seq {
    pub fn lt(self, other: Self) -> bool {
        (self.0.wrapping_sub(other.0) as i32) < 0
    }

    pub fn le(self, other: Self) -> bool {
        self == other || self.lt(other)
    }

    pub fn gt(self, other: Self) -> bool {
        other.lt(self)
    }

    pub fn ge(self, other: Self) -> bool {
        other.le(self)
    }

    pub fn max(self, other: Self) -> Self {
        if self.lt(other) { other } else { self }
    }

    pub fn min(self, other: Self) -> Self {
        if other.lt(self) { other } else { self }
    }

    /// Bytes from `earlier` to here; 0 if it is not earlier.
    pub fn since(self, earlier: Self) -> u32 {
        if earlier.lt(self) { self.0.wrapping_sub(earlier.0) } else { 0 }
    }
}

impl Add<u32> for Seq {
    type Output = Self;
    fn add(self, n: u32) -> Self {
        Self(self.0.wrapping_add(n))
    }
}

impl Sub<u32> for Seq {
    type Output = Self;
    fn sub(self, n: u32) -> Self {
        Self(self.0.wrapping_sub(n))
    }
}

impl AddAssign<u32> for Seq {
    fn add_assign(&mut self, n: u32) {
        *self = *self + n;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_survives_the_wrap() {
        let (before, after) = (Seq(u32::MAX - 1), Seq(3));
        assert!(before.lt(after) && after.gt(before) && before.le(before) && after.ge(before));
        assert_eq!(after.since(before), 5);
        assert_eq!(before.since(after), 0);
        assert_eq!(before.max(after), after);
        assert_eq!(before.min(after), before);
        assert_eq!(before + 5, after);
        assert_eq!(after - 5, before);
    }
}
