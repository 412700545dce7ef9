//! Telling the CPU early what will be read.

/// Bytes of a cache line.
const LINE: usize = 64;

/// Begins to bring all lines of `what` into the nearest cache, and does not wait for them. A hint: it may do
/// nothing, as on other architectures than x86-64, and never faults.
#[inline]
pub fn prefetch<T>(what: &T) {
    #[cfg(target_arch = "x86_64")]
    for offset in (0..size_of::<T>()).step_by(LINE) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: within the object that the reference is of; nothing is read from it.
        unsafe {
            let line = std::ptr::from_ref(what).cast::<i8>().add(offset);
            _mm_prefetch::<_MM_HINT_T0>(line);
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (what, LINE);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_nothing() {
        let all = [7u8; 1_000];
        prefetch(&all);
        prefetch(&());
        assert_eq!(all, [7; 1_000]);
    }
}
