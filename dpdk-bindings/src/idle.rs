//! Help for a worker with nothing to do: receive interrupts, reclaiming sent mbufs, exact sleeps.

use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use crate::error::DpdkError;
use crate::port::PortInner;
use crate::queue::{QueueToken, RxQueue, TxQueue};

/// Why [`RxInterrupts::wait`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// A device raised an interrupt: poll now.
    Interrupt,
    /// The time is over, or a signal came.
    Timeout,
}

/// The receive interrupts of the queues that one thread polls. To sleep until something comes:
/// [`RxQueue::arm`] each queue, poll each once more, [`wait`](Self::wait). What came before a queue
/// was armed raises no interrupt on most devices.
///
/// Ports of watched queues cannot be stopped.
#[derive(Debug)]
pub struct RxInterrupts {
    watched: Vec<Watched>,
    epoll: OwnedFd,
}

#[derive(Debug)]
struct Watched {
    // Before the port: the token must be back when the port goes.
    _token: Arc<QueueToken>,
    port: Arc<PortInner>,
    queue: u16,
}

impl RxInterrupts {
    /// Of no queue yet.
    ///
    /// # Errors
    /// The process has as many files open as it may.
    pub fn new() -> Result<Self, DpdkError> {
        // SAFETY: makes a file descriptor.
        let fd = unsafe { dpdk_sys::clgw_rx_intr_open() };
        if fd < 0 {
            let hint = "Raise the limit on open files (ulimit -n)";
            return Err(DpdkError::from_code("open", "epoll descriptor", fd, hint));
        }
        // SAFETY: just opened, and nobody else has it.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { watched: Vec::new(), epoll })
    }

    /// Adds a queue, and tries whether its interrupt can be armed.
    ///
    /// # Errors
    /// The driver has no receive interrupts (no virtual device but virtio-user and vhost has, in
    /// DPDK 22.11), or the port was configured without `rx_interrupts`.
    pub fn watch(&mut self, queue: &mut RxQueue) -> Result<(), DpdkError> {
        queue.arm()?;
        queue.disarm();
        let (port, number) = (Arc::clone(&queue.port), queue.queue);
        let epoll = self.epoll.as_raw_fd();
        // SAFETY: the port is started while its token exists, and the token is kept as long as the
        // descriptor knows the queue.
        let code = port.control(|id| unsafe { dpdk_sys::clgw_rx_intr_watch(epoll, id, number, 1) });
        if code < 0 {
            return Err(DpdkError::from_code("watch interrupt of", queue.subject(), code, NONE));
        }
        let token = Arc::clone(&queue.token);
        self.watched.push(Watched { _token: token, port, queue: number });
        Ok(())
    }

    /// Sleeps until an armed queue's interrupt or the timeout; with no queue watched, until the
    /// timeout. After an interrupt its queue may have to be armed again.
    pub fn wait(&mut self, timeout: Duration) -> Wake {
        let nanoseconds = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        // SAFETY: the descriptor is open, and the drivers' part of what it knows lives as long as
        // the ports, which `watched` keeps.
        match unsafe { dpdk_sys::clgw_rx_intr_wait(self.epoll.as_raw_fd(), nanoseconds) } {
            0 => Wake::Timeout,
            _ => Wake::Interrupt,
        }
    }
}

impl Drop for RxInterrupts {
    fn drop(&mut self) {
        let epoll = self.epoll.as_raw_fd();
        for Watched { port, queue, .. } in &self.watched {
            // SAFETY: as for adding it. Of a driver that fails, the kernel forgets the descriptor when
            // it is closed.
            port.control(|id| unsafe { dpdk_sys::clgw_rx_intr_watch(epoll, id, *queue, 0) });
        }
    }
}

const NONE: &str = "Configure the port with rx_interrupts and use a driver that has them, or the \
                    idle policy `sleep`";

impl RxQueue {
    /// Lets the device raise an interrupt for what comes from now on.
    ///
    /// # Errors
    /// As of [`RxInterrupts::watch`].
    pub fn arm(&mut self) -> Result<(), DpdkError> {
        match self.set_armed(true) {
            0.. => Ok(()),
            code => Err(DpdkError::from_code("arm interrupt of", self.subject(), code, NONE)),
        }
    }

    /// No interrupts while the queue is polled. Of a driver that fails, as some do that raised none
    /// meanwhile, an interrupt too many may come.
    pub fn disarm(&mut self) {
        self.set_armed(false);
    }

    fn set_armed(&mut self, on: bool) -> i32 {
        let queue = self.queue;
        // SAFETY: this is the queue's only handle, and its port is started. Queues of a port share a
        // register on some devices, so one at a time.
        self.port.control(|id| unsafe { dpdk_sys::clgw_rx_intr_arm(id, queue, on.into()) })
    }

    fn subject(&self) -> String {
        format!("{} queue {}", self.port.name, self.queue)
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
