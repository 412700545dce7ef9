//! Help for a worker with nothing to do: receive interrupts, reclaiming sent mbufs, exact sleeps.

use std::time::Duration;

use crate::error::DpdkError;
use crate::queue::{RxQueue, TxQueue};

/// Why [`RxQueue::wait`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// The device raised the queue's interrupt: poll now.
    Interrupt,
    /// The time is over, or a signal came.
    Timeout,
}

impl RxQueue {
    /// Sleeps until the queue's receive interrupt or the timeout. Poll once more after the call
    /// whatever it returns: a packet that arrived before the interrupt was armed raises none on some
    /// devices.
    ///
    /// # Errors
    /// The driver has no receive interrupts (no virtual device but virtio-user and vhost has, in
    /// DPDK 22.11), or the port was configured without `rx_interrupts`: sleep for short times then.
    pub fn wait(&mut self, timeout: Duration) -> Result<Wake, DpdkError> {
        const HINT: &str = "Configure the port with rx_interrupts and use a driver that has them, \
                            or the idle policy `sleep`";
        let subject = || format!("{} queue {}", self.port.name, self.queue);
        let (port, queue) = (self.port.id, self.queue);
        // SAFETY: this is the queue's only handle, and its port is started.
        let fd = unsafe { dpdk_sys::clgw_rx_intr_fd(port, queue) };
        if fd < 0 {
            return Err(DpdkError::from_code("find interrupt of", subject(), fd, HINT));
        }
        // SAFETY: as above.
        let armed = unsafe { dpdk_sys::clgw_rx_intr_arm(port, queue, 1) };
        if armed < 0 {
            return Err(DpdkError::from_code("arm interrupt of", subject(), armed, HINT));
        }
        let milliseconds = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the descriptor belongs to the started queue.
        let woke = unsafe { dpdk_sys::clgw_rx_intr_wait(fd, milliseconds) };
        // SAFETY: as for arming.
        unsafe { dpdk_sys::clgw_rx_intr_arm(port, queue, 0) };
        match woke {
            0 => Ok(Wake::Timeout),
            1.. => Ok(Wake::Interrupt),
            code => Err(DpdkError::from_code("wait for", subject(), code, HINT)),
        }
    }
}

impl TxQueue {
    /// Takes back up to `max` mbufs (0: all) that the device has sent already, and returns how many
    /// packets came back. Drivers reclaim by themselves only while sending, so an idle queue keeps
    /// its last ones.
    ///
    /// # Errors
    /// The driver cannot do it on demand; nothing to worry about then, but its queue length belongs
    /// into the size of the pool.
    pub fn reclaim(&mut self, max: u32) -> Result<u32, DpdkError> {
        // SAFETY: this is the queue's only handle, and its port is started.
        let code = unsafe { dpdk_sys::clgw_tx_done_cleanup(self.port.id, self.queue, max) };
        u32::try_from(code).map_err(|_| {
            DpdkError::from_code(
                "reclaim sent mbufs of",
                format!("{} queue {}", self.port.name, self.queue),
                code,
                "The driver reclaims only while sending; size the pool for full send queues",
            )
        })
    }
}

/// Lets the calling thread's sleeps end this exactly; the kernel's default adds up to 50 us.
///
/// # Errors
/// The kernel refused (never seen for values above 0).
pub fn set_timer_slack(slack: Duration) -> Result<(), DpdkError> {
    let nanoseconds = u64::try_from(slack.as_nanos()).unwrap_or(u64::MAX).max(1);
    // SAFETY: changes an attribute of this thread only.
    let code = unsafe { dpdk_sys::clgw_timer_slack(nanoseconds) };
    if code == 0 {
        return Ok(());
    }
    Err(DpdkError::from_code(
        "set timer slack to",
        format!("{nanoseconds} ns"),
        code,
        "Go without: sleeps are up to 50 us longer",
    ))
}

/// The CPU's cycle counter: the cheapest clock there is (about 9 ns with the call). Counts at
/// [`cycles_hz`] and is the same on all cores of a machine with an invariant TSC.
pub fn cycles() -> u64 {
    // SAFETY: reads a register.
    unsafe { dpdk_sys::clgw_cycles() }
}

/// Cycles in a second. 0 before EAL has started, which is what measures it.
pub fn cycles_hz() -> u64 {
    // SAFETY: reads a variable that EAL sets once while it starts.
    unsafe { dpdk_sys::clgw_cycles_hz() }
}
